//! The index at the end of a full segment: 40 bytes a record, so that a later reader need not walk the groups.

use forebay_order::OrderKey;

use super::group::{DESCRIPTOR, HEADER};
use super::layout::{BLOCK, GROUP_MAX, size, to_blocks};
use crate::record::Record;

const ENTRY: usize = 40;

/// What one record has in the index.
#[derive(Clone, Copy, Debug)]
pub(super) struct Indexed {
    pub(super) sequence: u64,
    pub(super) offset: u32,
    pub(super) kind: u8,
    pub(super) body_len: u32,
}

/// The index of the open segment, as it grows.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: Vec<u8>,
    records: usize,
}

impl Index {
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.records = 0;
    }

    pub(super) fn push(&mut self, indexed: Indexed, secret: &[u8; 16], record: Option<&Record>) {
        self.records += 1;
        if self.records * ENTRY > size(GROUP_MAX) {
            return;
        }
        let delivery = record.and_then(Record::delivery);
        let (hash, fingerprint, lane) = delivery.map_or(([0; 8], [0; 8], 0), |delivery| {
            let envelope = &delivery.envelope;
            let mut front = [0; 8];
            for (to, from) in front.iter_mut().zip(envelope.fingerprint.0) {
                *to = from;
            }
            (key_hash(secret, &envelope.key), front, envelope.lane)
        });
        self.entries.extend_from_slice(&indexed.sequence.to_le_bytes());
        self.entries.extend_from_slice(&hash);
        self.entries.extend_from_slice(&fingerprint);
        self.entries.extend_from_slice(&indexed.offset.to_le_bytes());
        self.entries.extend_from_slice(&indexed.body_len.to_le_bytes());
        self.entries.extend_from_slice(&[indexed.kind, lane, 0, 0, 0, 0, 0, 0]);
    }

    /// The entries, if a seal with them takes at most `room` bytes; else the seal goes without.
    pub(super) fn fitting(&self, room: u64) -> &[u8] {
        if sealed_bytes(self.records) <= room { &self.entries } else { &[] }
    }

    pub(super) fn records(&self) -> usize {
        self.records
    }
}

/// Bytes of a seal for so many records, entries and all.
fn sealed_bytes(records: usize) -> u64 {
    to_blocks((HEADER + DESCRIPTOR + records * ENTRY) as u64)
}

/// What to keep free for the seal of a segment of so many records: room for its index where that fits a group.
pub(super) fn room(records: usize, group_max: u64) -> u64 {
    let whole = sealed_bytes(records);
    if whole <= group_max / 4 { whole } else { BLOCK }
}

/// Keyed hash of an order's key.
fn key_hash(secret: &[u8; 16], key: &OrderKey) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(secret);
    for part in [key.channel.as_bytes(), key.source.as_bytes(), key.id.as_bytes()] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    hash
}
