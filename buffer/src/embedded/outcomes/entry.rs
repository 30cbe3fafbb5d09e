//! The bytes of one entry of the index.

use forebay_order::Fingerprint;

use crate::OrderState;
use crate::state::Outcome;

/// First byte of an entry.
const ENTRY_FORMAT: u8 = 1;

/// Format byte, state, rule of the fingerprint, attempts, flags; then 8 bytes each of sequence, version, newest version,
/// accepted-at, settled-at; the fingerprint; a count and the earlier ones; the rest is the summary's id.
pub(super) fn encode(outcome: &Outcome) -> Vec<u8> {
    let flags = u8::from(outcome.version.is_some())
        | u8::from(outcome.synthetic) << 1
        | u8::from(outcome.newest.is_some()) << 2;
    let earlier = outcome.earlier.get(..outcome.earlier.len().min(255)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(64 + 16 * earlier.len() + outcome.summary_id.len());
    bytes.push(ENTRY_FORMAT);
    bytes.push(outcome.state as u8);
    bytes.push(outcome.fingerprint_version);
    bytes.push(outcome.attempts);
    bytes.push(flags);
    bytes.extend(outcome.sequence.to_le_bytes());
    bytes.extend(outcome.version.unwrap_or_default().to_le_bytes());
    bytes.extend(outcome.newest.unwrap_or_default().to_le_bytes());
    bytes.extend(outcome.accepted_at_ms.to_le_bytes());
    bytes.extend(outcome.settled_at_ms.to_le_bytes());
    bytes.extend(outcome.fingerprint.0);
    bytes.push(u8::try_from(earlier.len()).unwrap_or(u8::MAX));
    earlier.iter().for_each(|fingerprint| bytes.extend(fingerprint.0));
    bytes.extend(outcome.summary_id.as_bytes());
    bytes
}

/// Reads what [`encode`] wrote; `None` for anything else.
pub(super) fn decode(bytes: &[u8]) -> Option<Outcome> {
    let mut rest = bytes;
    let [format, state, fingerprint_version, attempts, flags] = take(&mut rest)?;
    if format != ENTRY_FORMAT {
        return None;
    }
    let state = match state {
        code if code == OrderState::Summarised as u8 => OrderState::Summarised,
        code if code == OrderState::Recorded as u8 => OrderState::Recorded,
        _ => return None,
    };
    let sequence = u64::from_le_bytes(take(&mut rest)?);
    let version = u64::from_le_bytes(take(&mut rest)?);
    let newest = u64::from_le_bytes(take(&mut rest)?);
    let accepted_at_ms = i64::from_le_bytes(take(&mut rest)?);
    let settled_at_ms = i64::from_le_bytes(take(&mut rest)?);
    let fingerprint = Fingerprint(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    let mut earlier = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        earlier.push(Fingerprint(take(&mut rest)?));
    }
    Some(Outcome {
        sequence,
        state,
        version: (flags & 1 != 0).then_some(version),
        newest: (flags & 4 != 0).then_some(newest),
        fingerprint,
        fingerprint_version,
        earlier,
        accepted_at_ms,
        settled_at_ms,
        attempts,
        synthetic: flags & 2 != 0,
        summary_id: String::from_utf8(rest.to_vec()).ok()?,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}
