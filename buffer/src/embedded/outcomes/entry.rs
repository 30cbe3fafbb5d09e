//! The bytes of one outcome. Each is written against the one before it in its block, so that neighbours share what they
//! have in common; the first of a block against nothing.
//!
//! ```text
//! u8      bytes of the hash it shares (bits 0-3), flags (bits 4-7)
//! ...     the rest of the hash's 12 bytes, highest first
//! u8      rule of the fingerprint;  16 bytes fingerprint
//! signed  sequence, less the one before;  accepted-at, likewise;  settled-at, less accepted-at
//! signed  if flagged: version, less the last one stated
//! u8 ...  if flagged: attempts, number of earlier fingerprints, these, the newest version (plus 1; 0 for none)
//! u8 ...  bytes of the summary's id it shares, then the rest of the id with its length in front
//! ```
//! *signed* is a number of 64 bits, zigzag, seven bits a byte.

use forebay_order::Fingerprint;

use crate::OrderState;
use crate::codec::{Take, put_text, put_varint64};
use crate::state::Outcome;

/// Bytes of a hash; keys are known by 96 bits.
const HASH: usize = 12;
const HASH_BITS: u32 = 96;

const RECORDED: u8 = 1 << 4;
const SYNTHETIC: u8 = 1 << 5;
const VERSION: u8 = 1 << 6;
const MORE: u8 = 1 << 7;

/// Earlier fingerprints that are kept, and bytes of a summary's id: with all of them an entry still fits a block.
const EARLIER_MAX: usize = 128;
const ID_MAX: usize = 1_024;

/// The outcome before: what the next one is written against, or was read against.
#[derive(Debug)]
struct Before {
    hash: [u8; HASH],
    sequence: u64,
    accepted_at_ms: i64,
    version: u64,
    id: String,
}

impl Before {
    fn nothing() -> Self {
        Self { hash: [0; HASH], sequence: 0, accepted_at_ms: 0, version: 0, id: String::new() }
    }
}

/// Writes the outcomes of one block.
#[derive(Debug)]
pub(super) struct Packer(Before);

impl Packer {
    pub(super) fn new() -> Self {
        Self(Before::nothing())
    }

    /// Appends an outcome. It takes less than a block.
    pub(super) fn pack(&mut self, out: &mut Vec<u8>, hash: u128, outcome: &Outcome) {
        let before = &mut self.0;
        let hash = bytes_of(hash);
        let more = outcome.attempts > 0 || outcome.newest.is_some() || !outcome.earlier.is_empty();
        let shared = shared(&before.hash, &hash);
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        out.push(
            len8(shared)
                | flag(outcome.state == OrderState::Recorded, RECORDED)
                | flag(outcome.synthetic, SYNTHETIC)
                | flag(outcome.version.is_some(), VERSION)
                | flag(more, MORE),
        );
        out.extend_from_slice(hash.get(shared..).unwrap_or_default());
        out.push(outcome.fingerprint_version);
        out.extend_from_slice(&outcome.fingerprint.0);
        put_signed(out, outcome.sequence.wrapping_sub(before.sequence).cast_signed());
        put_signed(out, outcome.accepted_at_ms.wrapping_sub(before.accepted_at_ms));
        put_signed(out, outcome.settled_at_ms.wrapping_sub(outcome.accepted_at_ms));
        if let Some(version) = outcome.version {
            put_signed(out, version.wrapping_sub(before.version).cast_signed());
            before.version = version;
        }
        if more {
            let earlier = outcome.earlier.get(..outcome.earlier.len().min(EARLIER_MAX));
            let earlier = earlier.unwrap_or_default();
            out.push(outcome.attempts);
            out.push(len8(earlier.len()));
            earlier.iter().for_each(|fingerprint| out.extend_from_slice(&fingerprint.0));
            put_varint64(out, outcome.newest.map_or(0, |newest| newest.saturating_add(1)));
        }
        let id = &outcome.summary_id;
        let id = id.get(..id.floor_char_boundary(ID_MAX)).unwrap_or_default();
        let shared = shared_text(&before.id, id);
        out.push(len8(shared));
        put_text(out, id.get(shared..).unwrap_or_default());
        before.id.clear();
        before.id.push_str(id);
        before.hash = hash;
        before.sequence = outcome.sequence;
        before.accepted_at_ms = outcome.accepted_at_ms;
    }
}

/// Reads the outcomes of one block, one after another into the same place.
#[derive(Debug)]
pub(super) struct Unpacker {
    before: Before,
    outcome: Outcome,
}

impl Unpacker {
    pub(super) fn new() -> Self {
        let outcome = Outcome {
            sequence: 0,
            state: OrderState::Summarised,
            version: None,
            newest: None,
            fingerprint: Fingerprint([0; 16]),
            fingerprint_version: 0,
            earlier: Vec::new(),
            accepted_at_ms: 0,
            settled_at_ms: 0,
            attempts: 0,
            synthetic: false,
            summary_id: String::new(),
        };
        Self { before: Before::nothing(), outcome }
    }

    /// Takes the next outcome off the front of the bytes; `None` if they are none that a [`Packer`] wrote.
    pub(super) fn unpack(&mut self, take: &mut Take<'_>) -> Option<u128> {
        let (before, outcome) = (&mut self.before, &mut self.outcome);
        let head = take.u8()?;
        let shared = usize::from(head & 0xf);
        let rest = take.bytes(HASH.checked_sub(shared)?)?;
        before.hash.get_mut(shared..)?.copy_from_slice(rest);
        outcome.state =
            if head & RECORDED != 0 { OrderState::Recorded } else { OrderState::Summarised };
        outcome.synthetic = head & SYNTHETIC != 0;
        outcome.fingerprint_version = take.u8()?;
        outcome.fingerprint = Fingerprint(take.array()?);
        before.sequence = before.sequence.wrapping_add_signed(signed(take)?);
        before.accepted_at_ms = before.accepted_at_ms.wrapping_add(signed(take)?);
        outcome.settled_at_ms = before.accepted_at_ms.wrapping_add(signed(take)?);
        (outcome.sequence, outcome.accepted_at_ms) = (before.sequence, before.accepted_at_ms);
        outcome.version = None;
        if head & VERSION != 0 {
            before.version = before.version.wrapping_add_signed(signed(take)?);
            outcome.version = Some(before.version);
        }
        outcome.attempts = 0;
        outcome.newest = None;
        outcome.earlier.clear();
        if head & MORE != 0 {
            outcome.attempts = take.u8()?;
            for _ in 0..take.u8()? {
                outcome.earlier.push(Fingerprint(take.array()?));
            }
            outcome.newest = take.varint64()?.checked_sub(1);
        }
        let shared = usize::from(take.u8()?);
        if shared > before.id.len() || !before.id.is_char_boundary(shared) {
            return None;
        }
        before.id.truncate(shared);
        before.id.push_str(take.text()?);
        outcome.summary_id.clone_from(&before.id);
        Some(before.hash.iter().fold(0, |hash, byte| hash << 8 | u128::from(*byte)))
    }

    /// The outcome that was read last.
    pub(super) fn outcome(&self) -> &Outcome {
        &self.outcome
    }
}

/// The hash's 96 bits, highest byte first, so that hashes and their bytes sort alike.
fn bytes_of(hash: u128) -> [u8; HASH] {
    let bytes = (hash << (128 - HASH_BITS)).to_be_bytes();
    bytes.first_chunk().copied().unwrap_or_default()
}

fn shared(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(one, other)| one == other).count()
}

/// Bytes two texts begin with alike, whole characters, at most 255.
fn shared_text(one: &str, other: &str) -> usize {
    other.floor_char_boundary(shared(one.as_bytes(), other.as_bytes()).min(255))
}

fn len8(len: usize) -> u8 {
    u8::try_from(len).unwrap_or(u8::MAX)
}

fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

fn signed(take: &mut Take<'_>) -> Option<i64> {
    let value = take.varint64()?;
    Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    fn unpack(bytes: &[u8], count: usize) -> Option<Vec<(u128, Outcome)>> {
        let (mut unpacker, mut take) = (Unpacker::new(), Take(bytes));
        (0..count)
            .map(|_| Some((unpacker.unpack(&mut take)?, unpacker.outcome().clone())))
            .collect()
    }

    /// Outcomes of every kind, one behind the other.
    fn kinds() -> Vec<(u128, Outcome)> {
        let plain = outcome(1_000_000, 1_790_000_000_000);
        let kinds = [
            plain.clone(),
            Outcome { version: Some(1_789_999_000_123), ..plain.clone() },
            Outcome { version: Some(u64::MAX), newest: Some(3), ..plain.clone() },
            Outcome { version: Some(0), attempts: 9, synthetic: true, ..plain.clone() },
            Outcome { state: OrderState::Recorded, summary_id: String::new(), ..plain.clone() },
            Outcome { summary_id: "1Os-é1".to_owned(), ..plain.clone() },
            Outcome { summary_id: "1Os-è2".to_owned(), ..plain.clone() },
            Outcome { sequence: u64::MAX, accepted_at_ms: i64::MIN, ..plain.clone() },
            Outcome { sequence: 0, settled_at_ms: i64::MAX, fingerprint_version: 7, ..plain },
        ];
        (0..).map(|n: u128| n << 70 | 0xabc).zip(kinds).collect()
    }

    #[test]
    fn outcomes_read_back_whatever_stands_before_them() {
        let (mut packer, mut bytes) = (Packer::new(), Vec::new());
        let kinds = kinds();
        kinds.iter().for_each(|(hash, outcome)| packer.pack(&mut bytes, *hash, outcome));
        assert_eq!(unpack(&bytes, kinds.len()), Some(kinds.clone()));
        for len in 0..bytes.len() {
            assert_eq!(unpack(&bytes[..len], kinds.len()), None, "cut at {len}");
        }
    }

    #[test]
    fn whatever_an_outcome_holds_it_fits_a_block() {
        let huge = Outcome {
            earlier: (0..=255).map(|n| Fingerprint([n; 16])).collect(),
            newest: Some(u64::MAX - 1),
            version: Some(u64::MAX),
            summary_id: "é".repeat(4_000),
            ..outcome(u64::MAX, i64::MIN)
        };
        let mut bytes = Vec::new();
        Packer::new().pack(&mut bytes, u128::MAX >> 32, &huge);
        assert!(bytes.len() + 2 <= super::super::block::CONTENT, "{}", bytes.len());
        let (hash, read) = unpack(&bytes, 1).unwrap().remove(0);
        assert_eq!((hash, read.newest), (u128::MAX >> 32, huge.newest));
        assert_eq!(read.earlier, huge.earlier[..EARLIER_MAX]);
        assert_eq!(read.summary_id, "é".repeat(ID_MAX / 2));
    }

    #[test]
    fn a_usual_outcome_takes_about_fifty_bytes() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut hashes: Vec<u128> = (0..1_000).map(|_| random.u128(..) >> 32).collect();
        hashes.sort_unstable();
        let (mut packer, mut bytes) = (Packer::new(), Vec::new());
        for hash in hashes {
            let n = random.u64(..10_000_000);
            let usual = Outcome {
                version: Some(1),
                summary_id: format!("0sO{n:015}"),
                ..outcome(n, 1_790_000_000_000 + n.cast_signed() * 12)
            };
            packer.pack(&mut bytes, hash, &usual);
        }
        assert!(bytes.len() < 55 * 1_000, "{} bytes for a thousand", bytes.len());
    }
}
