//! The journal of the whole store, read by the bytes that `docs/format-1.md` names and not by the server. So it is known of
//! every damaged copy, whatever the server says, which records of an order are left, and of which at least the descriptor.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::super::orders::text;
use super::super::scene::Scene;
use crate::failure::{Failure, Result, While as _};

/// Where the groups of a slot begin, and what they are a multiple of.
const GROUPS_AT: usize = 8192;
const BLOCK: usize = 4096;
/// Bytes of a group's header and of a descriptor without extensions.
const HEADER: usize = 80;
const DESCRIPTOR: usize = 40;
/// Extensions that name other records.
const SUBJECT: u8 = 11;
const SETTLED: u8 = 16;

/// A record of a segment that is not retired.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) slot: String,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    descriptor: Range<usize>,
    body: Range<usize>,
    /// Sequences of the orders and exceptions that it is about, other than its own.
    subjects: Vec<u64>,
}

#[cfg(test)]
impl Record {
    /// One without bytes.
    pub(super) fn empty(sequence: u64, epoch: u64, slot: &str) -> Self {
        let (descriptor, body, slot) = (0..0, 0..0, slot.to_owned());
        Self { slot, epoch, sequence, descriptor, body, subjects: Vec::new() }
    }
}

/// What a damage leaves of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Whole,
    /// All but its body: it still tells its order's key.
    Descriptor,
    Nothing,
}

/// Every record, and the bytes around them.
#[derive(Debug)]
pub(super) struct Journal {
    slots: BTreeMap<String, Vec<u8>>,
    pub(super) records: Vec<Record>,
}

impl Journal {
    /// Reads the journal of a stopped store that is whole.
    pub(super) fn read(scene: &mut Scene<'_>, store: &Path) -> Result<Self> {
        let output = Command::new(&scene.setup().binary)
            .args(["buffer", "stats", "--json", "--data-dir"])
            .arg(store)
            .output()
            .when("running buffer stats")?;
        let stats: Value = serde_json::from_slice(&output.stdout).when("what buffer stats says")?;
        let mut journal = Self { slots: BTreeMap::new(), records: Vec::new() };
        for segment in stats.get("segments").and_then(Value::as_array).into_iter().flatten() {
            let (slot, epoch) = (text(segment, "slot"), segment.get("epoch"));
            let epoch = epoch.and_then(Value::as_u64).unwrap_or_default();
            let bytes = std::fs::read(slots(store).join(slot)).when("reading a slot")?;
            journal.records.extend(records(slot, epoch, &bytes));
            journal.slots.insert(slot.to_owned(), bytes);
        }
        if journal.records.is_empty() {
            return Err(Failure::Broken("no record was found in the whole store".to_owned()));
        }
        Ok(journal)
    }

    /// Numbers of the records of an order: the deliveries of these sequences, those with one of these bodies, and what became of it.
    pub(super) fn of(&self, sequences: &[u64], bodies: &[&str]) -> Vec<usize> {
        let mut names: BTreeSet<u64> = sequences.iter().copied().collect();
        let mut found = Vec::new();
        // By ascending sequence, so that an exception is known before what was done about it.
        let mut order: Vec<usize> = (0..self.records.len()).collect();
        order.sort_by_key(|at| self.records.get(*at).map(|record| record.sequence));
        for at in order {
            let Some(record) = self.records.get(at) else { continue };
            let body =
                self.slots.get(&record.slot).and_then(|bytes| bytes.get(record.body.clone()));
            let carries = body.is_some_and(|body| bodies.iter().any(|b| b.as_bytes() == body));
            let about = record.subjects.iter().any(|subject| names.contains(subject));
            if carries || about || names.contains(&record.sequence) {
                names.insert(record.sequence);
                found.push(at);
            }
        }
        found
    }

    /// What a damaged copy has left of each record.
    pub(super) fn left(&self, copy: &Path) -> Result<Vec<Left>> {
        let mut now = BTreeMap::new();
        for slot in self.slots.keys() {
            now.insert(slot, std::fs::read(slots(copy).join(slot)).when("reading a slot")?);
        }
        let same = |record: &Record, range: &Range<usize>| {
            let was = self.slots.get(&record.slot).and_then(|bytes| bytes.get(range.clone()));
            let is = now.get(&record.slot).and_then(|bytes| bytes.get(range.clone()));
            was.is_some() && was == is
        };
        let left = |record: &Record| match (
            same(record, &record.descriptor),
            same(record, &record.body),
        ) {
            (true, true) => Left::Whole,
            (true, false) => Left::Descriptor,
            (false, _) => Left::Nothing,
        };
        Ok(self.records.iter().map(left).collect())
    }
}

fn slots(store: &Path) -> std::path::PathBuf {
    store.join("buffer/journal")
}

/// The records of a segment, group by group.
fn records(slot: &str, epoch: u64, bytes: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut at = GROUPS_AT;
    while bytes.get(at..at + 4) == Some(b"FBG1") && long(bytes, at + 8) == Some(epoch) {
        let mut descriptor = at + HEADER;
        for _ in 0..word(bytes, at + 48).unwrap_or_default() {
            let end = descriptor + word(bytes, descriptor + 20).unwrap_or_default();
            let Some(extensions) = bytes.get(descriptor + DESCRIPTOR..end) else { break };
            let body = word(bytes, descriptor + 24).unwrap_or_default();
            records.push(Record {
                slot: slot.to_owned(),
                epoch,
                sequence: long(bytes, descriptor + 8).unwrap_or_default(),
                descriptor: descriptor..end,
                body: body..body + word(bytes, descriptor + 28).unwrap_or_default(),
                subjects: subjects(extensions),
            });
            descriptor = end;
        }
        at += word(bytes, at + 56).unwrap_or_default().max(1) * BLOCK;
    }
    records
}

/// The sequences that extensions name.
fn subjects(mut extensions: &[u8]) -> Vec<u64> {
    let mut subjects = Vec::new();
    while let Some((tag, rest)) = extensions.split_first().filter(|(tag, _)| **tag != 0) {
        let Some((len, rest)) = length(rest) else { break };
        let Some((value, rest)) = rest.split_at_checked(len) else { break };
        match *tag {
            SUBJECT => subjects.extend(long(value, 0)),
            SETTLED => subjects.extend(settled(value)),
            _ => {}
        }
        extensions = rest;
    }
    subjects
}

/// The orders of a settle: each its sequence, the time, two bytes, and a text.
fn settled(mut value: &[u8]) -> Vec<u64> {
    let mut orders = Vec::new();
    while let Some(order) = long(value, 0) {
        orders.push(order);
        let Some((len, rest)) = value.get(18..).and_then(length) else { break };
        value = rest.get(len..).unwrap_or_default();
    }
    orders
}

/// A length of seven bits a byte, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut len = 0;
    for (at, byte) in bytes.iter().enumerate().take(4) {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((len, bytes.get(at + 1..)?));
        }
    }
    None
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> Vec<Record> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../buffer/fixtures/format-1");
        let slots = ["00000.seg", "00001.seg", "00002.seg"];
        let of = |slot: &str| {
            let bytes = std::fs::read(fixtures.join(slot)).unwrap();
            records(slot, long(&bytes, 48).unwrap(), &bytes)
        };
        slots.into_iter().flat_map(of).collect()
    }

    #[test]
    fn every_record_of_a_store_is_found_and_what_it_is_about() {
        let records = fixture();
        let sequences: BTreeSet<u64> = records.iter().map(|record| record.sequence).collect();
        let last = *sequences.last().unwrap();
        assert_eq!(sequences.range(1..).count() as u64, last, "{sequences:?}");
        let about: BTreeSet<u64> = records.iter().flat_map(|r| r.subjects.clone()).collect();
        assert!(!about.is_empty() && about.is_subset(&sequences), "{about:?}");
    }

    #[test]
    fn what_a_copy_has_left_of_a_record_is_told_by_its_bytes() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(slots(store.path())).unwrap();
        let record = |at: usize| Record {
            slot: "00000.seg".to_owned(),
            epoch: 1,
            sequence: at as u64,
            descriptor: at..at + 4,
            body: at + 4..at + 8,
            subjects: Vec::new(),
        };
        let slots_of = [("00000.seg".to_owned(), (0..24).collect())].into();
        let journal = Journal { slots: slots_of, records: [0, 8, 16].map(record).to_vec() };
        let copy: Vec<u8> = (0..22).map(|byte| if byte == 2 { 0 } else { byte }).collect();
        std::fs::write(slots(store.path()).join("00000.seg"), copy).unwrap();
        let left = journal.left(store.path()).unwrap();
        assert_eq!(left, [Left::Nothing, Left::Whole, Left::Descriptor]);
    }
}
