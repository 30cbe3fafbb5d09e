//! The index at the end of a full segment: 40 bytes a record, so that a start need not walk the groups.
//!
//! It stands in the bodies of the last groups of the segment, its parts, in the order of the records. What all of them must
//! agree on stands in an extension of each part's descriptor.

use std::ops::Range;

use super::group::{DESCRIPTOR, HEADER, descriptor_bytes};
use super::layout::{BLOCK, GROUP_MAX, group_max, size, to_blocks};
use crate::codec::kinds;
use crate::codec::{Take, len32, put_varint};
use crate::digest::{KeyHasher, PackedMoney, Plain};
use crate::record::Record;

/// Bytes of an entry.
pub(super) const ENTRY: usize = 40;
/// Extension of a seal's descriptor: the head of the index.
const TAG_HEAD: u8 = 31;
const HEAD: usize = 36;
/// Everything a start must know of the record stands in its entry.
const PLAIN: u8 = 1;
/// A reader that does not know the kind may pass over it.
const SKIPPABLE: u8 = 2;
/// Entries one part holds at most.
const PART_ENTRIES: usize = 32_768;

/// What the index of a segment says in every one of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Sequence from which the entries count theirs.
    pub(super) base_seq: u64,
    /// The highest epoch that a checkpoint in the segment names, or 0.
    pub(super) retired_below: u64,
    /// Records of the segment.
    pub(super) records: u32,
    /// Where the first part's group stands in the slot.
    pub(super) starts_at: u32,
    /// This part's number, from 0, and how many there are.
    pub(super) part: u32,
    pub(super) parts: u32,
}

impl Head {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(TAG_HEAD);
        put_varint(out, len32(HEAD));
        out.extend_from_slice(&self.base_seq.to_le_bytes());
        out.extend_from_slice(&self.retired_below.to_le_bytes());
        for word in [self.records, self.starts_at, self.part, self.parts, 0] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads it from a seal's extensions; `None` for a seal of an earlier release, or without an index.
    pub(super) fn parse(extensions: &[u8]) -> Option<Self> {
        let mut take = Take(extensions);
        if take.u8()? != TAG_HEAD || take.varint()? != len32(HEAD) {
            return None;
        }
        Some(Self {
            base_seq: take.u64()?,
            retired_below: take.u64()?,
            records: take.u32()?,
            starts_at: take.u32()?,
            part: take.u32()?,
            parts: take.u32()?,
        })
    }
}

/// What the index says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) sequence: u64,
    /// Of its descriptor.
    pub(super) offset: u32,
    pub(super) body_len: u32,
    pub(super) kind: u8,
    /// All a start must know of it; `None`: its descriptor must be read.
    pub(super) plain: Option<Plain>,
    /// Unknown kinds flagged so are passed over.
    pub(super) skippable: bool,
}

impl IndexEntry {
    fn encode(&self, base_seq: u64, out: &mut Vec<u8>) -> Option<()> {
        let delta = u32::try_from(self.sequence.checked_sub(base_seq)?).ok()?;
        for word in [delta, self.offset, self.body_len] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let flags = if self.plain.is_some() { PLAIN } else { 0 }
            | if self.skippable { SKIPPABLE } else { 0 };
        out.extend_from_slice(&[self.kind, flags, 0, 0]);
        let (hash, at_s, money) = self
            .plain
            .map_or((0, 0, 0), |plain| (plain.hash, plain.accepted_at_s, plain.money.bits()));
        out.extend_from_slice(hash.to_le_bytes().get(..12)?);
        out.extend_from_slice(&at_s.to_le_bytes());
        out.extend_from_slice(&money.to_le_bytes());
        Some(())
    }

    /// Reads one entry.
    pub(super) fn parse(bytes: &[u8], base_seq: u64) -> Option<Self> {
        let mut take = Take(bytes);
        let sequence = base_seq.checked_add(u64::from(take.u32()?))?;
        let (offset, body_len) = (take.u32()?, take.u32()?);
        let (kind, flags) = (take.u8()?, take.u8()?);
        take.u16()?;
        let mut hash = [0; 16];
        hash.get_mut(..12)?.copy_from_slice(take.bytes(12)?);
        let plain = Plain {
            hash: u128::from_le_bytes(hash),
            accepted_at_s: take.u32()?,
            money: PackedMoney::from_bits(take.u64()?),
        };
        let plain = (flags & PLAIN != 0 && kind == kinds::ACCEPT).then_some(plain);
        let skippable = flags & SKIPPABLE != 0;
        Some(Self { sequence, offset, body_len, kind, plain, skippable })
    }
}

/// The index of the open segment, as it grows.
#[derive(Debug)]
pub(super) struct Index {
    hasher: KeyHasher,
    entries: Vec<u8>,
    records: usize,
    base_seq: u64,
    retired_below: u64,
    /// A record could not be entered.
    broken: bool,
}

impl Index {
    /// An empty one for a store with that secret.
    pub(super) fn new(secret: &[u8; 16]) -> Self {
        Self {
            hasher: KeyHasher::new(secret),
            entries: Vec::new(),
            records: 0,
            base_seq: 0,
            retired_below: 0,
            broken: false,
        }
    }

    /// Empties it for the next segment.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        (self.records, self.base_seq, self.retired_below) = (0, 0, 0);
        self.broken = false;
    }

    /// Enters the next record of the segment; `None`: of a kind this release does not know.
    pub(super) fn push(&mut self, mut entry: IndexEntry, record: Option<&Record>) {
        if self.records == 0 {
            self.base_seq = entry.sequence;
        }
        self.records += 1;
        if let Some(record) = record {
            entry.plain = Plain::of(record, &self.hasher);
            if let Record::Checkpoint { retired_below, .. } = record {
                self.retired_below = self.retired_below.max(*retired_below);
            }
        }
        if self.broken || self.records * ENTRY > INDEX_MAX {
            self.broken = true;
            self.entries = Vec::new();
        } else if entry.encode(self.base_seq, &mut self.entries).is_none() {
            self.broken = true;
        }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// The parts of the seal if all of them take at most `room` bytes, each as its extensions and its part of
    /// [`Index::entries`]; else the one seal without an index.
    pub(super) fn parts(
        &self,
        at: u64,
        room: u64,
        slot_bytes: u64,
    ) -> Vec<(Vec<u8>, Range<usize>)> {
        let bytes = sealed_bytes(self.records, slot_bytes);
        if self.broken || self.records == 0 || bytes > room {
            return vec![(Vec::new(), 0..0)];
        }
        let each = part_entries(slot_bytes);
        let parts = self.records.div_ceil(each);
        let head = |part| Head {
            base_seq: self.base_seq,
            retired_below: self.retired_below,
            records: len32(self.records),
            starts_at: u32::try_from(at).unwrap_or(u32::MAX),
            part: len32(part),
            parts: len32(parts),
        };
        let one = |part: usize| {
            let mut extensions = Vec::with_capacity(HEAD + 2);
            head(part).encode(&mut extensions);
            let end = ((part + 1) * each).min(self.records);
            (extensions, part * each * ENTRY..end * ENTRY)
        };
        (0..parts).map(one).collect()
    }

    pub(super) fn entries(&self, part: Range<usize>) -> &[u8] {
        self.entries.get(part).unwrap_or_default()
    }
}

/// Bytes of the largest index; a segment of more records is walked.
const INDEX_MAX: usize = 32 << 20;

/// Entries one part of a seal holds in a slot of that size.
fn part_entries(slot_bytes: u64) -> usize {
    let room = size(group_max(slot_bytes)).saturating_sub(PART_FRONT);
    (room / ENTRY).clamp(1, PART_ENTRIES)
}

/// Bytes of a part before its entries.
const PART_FRONT: usize = HEADER + (DESCRIPTOR + HEAD + 2).next_multiple_of(8);

/// Bytes of a seal for so many records, all its parts.
fn sealed_bytes(records: usize, slot_bytes: u64) -> u64 {
    let each = part_entries(slot_bytes);
    let bytes =
        |entries: usize| to_blocks((HEADER + descriptor_bytes(HEAD + 2) + entries * ENTRY) as u64);
    let (whole, rest) = (records / each, records % each);
    whole as u64 * bytes(each) + if rest > 0 || whole == 0 { bytes(rest) } else { 0 }
}

/// What to keep free for the seal of a segment of so many records: room for its index, unless that is out of all proportion.
pub(super) fn room(records: usize, slot_bytes: u64) -> u64 {
    let whole = sealed_bytes(records, slot_bytes);
    let indexed = records * ENTRY <= INDEX_MAX && whole <= slot_bytes / 3;
    if indexed { whole } else { BLOCK }
}

/// How far from the end of a slot the last part of its seal can begin: behind it there was no room for one more group.
pub(super) const FROM_END_MAX: u64 = 3 * GROUP_MAX;
