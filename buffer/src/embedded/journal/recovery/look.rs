//! A look at a directory that changes nothing: every group walked, every body verified.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use forebay_order::OrderKey;

use super::super::files::{Aligned, Directory, RealDirectory, name};
use super::super::group::{Descriptor, SEAL};
use super::super::header::{Header, Parsed, Store};
use super::super::layout::{BLOCK, size};
use super::super::reader::{Live as LiveSegments, LiveSegment, Reader};
use super::super::types::{ReadError, Replayed, Restored};
use super::chain::{Chain, chain};
use super::progress::Progress;
use super::replay::Recovered;
use super::segment::{Hole, Live, decode, location, tail_range};
use super::survey::survey;
use super::walk::{Bodies, Salvaged, Step, Walker, salvage};
use crate::SystemClock;
use crate::codec::kinds;
use crate::record::Record;

/// What is wrong with one place of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DamageKind {
    /// The bytes of one delivery do not verify; its key is known.
    Body,
    /// Nothing tells what stood here any more; at most its sequences are known.
    Range,
    /// The index at the end of a full segment. Nothing is lost, a start takes longer.
    Seal,
    /// One of the two copies of a segment's header. Nothing is lost.
    Header,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong.
    pub kind: DamageKind,
    /// The segment.
    pub epoch: u64,
    /// Name of its file in the journal's directory.
    pub slot: String,
    /// Where in that file.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// True if it had certainly been acknowledged. False at the very end of the journal: nobody can tell an acknowledged
    /// group that was damaged since from one that was being written when the power went.
    pub proven: bool,
    /// Sequences of the records that cannot be read because of it, first and last; a receipt names its sequence.
    pub sequences: Option<(u64, u64)>,
    /// The order it belongs to, where that is known.
    pub key: Option<OrderKey>,
}

/// One segment as found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SegmentSummary {
    /// Its epoch; a higher one is younger.
    pub epoch: u64,
    /// Name of its file.
    pub slot: String,
    /// Bytes up to the end of its last group.
    pub bytes: u64,
    /// Groups that verify.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of deliveries in them.
    pub body_bytes: u64,
    /// It is full, and ends with an index.
    pub sealed: bool,
}

/// Everything one look has seen.
#[derive(Debug)]
pub(crate) struct Look {
    store: Option<Store>,
    pub(crate) slots: u64,
    pub(crate) spare: u64,
    pub(crate) set_aside: u64,
    pub(crate) segments: Vec<SegmentSummary>,
    pub(crate) damages: Vec<Damage>,
    pub(crate) notes: Vec<String>,
    /// The first sequence that no record of it has.
    pub(crate) next_sequence: u64,
    /// Every epoch below this one is retired.
    pub(crate) retired_below: u64,
    recovered: Recovered,
    /// Records at the very end that are not whole and count for nothing.
    unproven: HashSet<u64>,
    /// Records of a group that was under way that are whole.
    torn: Vec<Restored>,
    reader: Reader,
    /// Keeps the shared lock.
    _directory: Arc<dyn Directory>,
}

/// Why there was no look.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error("no journal")]
    Missing,
    #[error("in use")]
    InUse,
    #[error("{0}")]
    Unreadable(String),
}

/// Looks at the journal in `dir`; its shared lock is held until the look is dropped.
pub(crate) fn look(dir: &Path) -> Result<Look, LookError> {
    let unreadable = |error: &dyn std::fmt::Display| LookError::Unreadable(error.to_string());
    let opened = RealDirectory::look(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => LookError::Missing,
        _ => unreadable(&error),
    })?;
    let directory: Arc<dyn Directory> = Arc::new(opened.ok_or(LookError::InUse)?);
    look_on(directory).map_err(|error| unreadable(&error))
}

/// Looks at a journal on any ground.
pub(in super::super) fn look_on(
    directory: Arc<dyn Directory>,
) -> Result<Look, super::super::types::OpenError> {
    let mut found = survey(&*directory)?;
    let store = found.store;
    let chain = match &store {
        Some(store) => chain(&mut found, store, false, &mut Progress::new(&SystemClock))?,
        None => Chain::default(),
    };
    let live = Arc::new(LiveSegments::default());
    for segment in &chain.segments {
        let (place, slot) = (segment.candidate.place, segment.candidate.slot.clone());
        live.add(LiveSegment { place, slot });
    }
    let segments = chain.segments.clone();
    let mut look = Look {
        store,
        slots: u64::from(found.total),
        spare: (found.spare.len() + chain.spare.len()) as u64,
        set_aside: u64::from(found.quarantined + chain.quarantined),
        segments: Vec::with_capacity(segments.len()),
        damages: Vec::new(),
        notes: found.report.into_iter().chain(chain.report).collect(),
        next_sequence: chain.next_seq.max(1),
        retired_below: chain.retired_below,
        recovered: Recovered::untouched(chain.segments, chain.damaged),
        unproven: HashSet::new(),
        torn: Vec::new(),
        reader: Reader::new(live),
        _directory: directory,
    };
    let last = segments.iter().rposition(|live| live.last.is_some());
    for (index, live) in segments.iter().enumerate() {
        look.verify(live, last == Some(index))?;
    }
    look.torn.sort_by_key(|restored| restored.sequence);
    let torn = look.torn.last().map(|restored| restored.sequence);
    let highest = torn.max(look.unproven.iter().max().copied());
    look.next_sequence = look.next_sequence.max(highest.map_or(1, |highest| highest + 1));
    Ok(look)
}

impl Look {
    /// Hands every record that counts to `apply`, once each, by ascending sequence, as a start would.
    ///
    /// # Errors
    /// [`ReadError`] if what verified a moment ago no longer does.
    pub(crate) fn replay(&mut self, mut apply: impl FnMut(Restored)) -> Result<(), ReadError> {
        let mut highest = 0;
        let unproven = &self.unproven;
        self.recovered.replay(|replayed| {
            // Nothing is taken from an index here.
            let Replayed::Whole(restored) = replayed else { return };
            highest = highest.max(restored.sequence);
            if !unproven.contains(&restored.sequence) {
                apply(restored);
            }
        })?;
        let torn = self.torn.iter().filter(|restored| restored.sequence > highest);
        torn.cloned().for_each(apply);
        Ok(())
    }

    /// Records that were acknowledged and whose bytes are damaged, with the rest of what they say; by ascending sequence.
    pub(crate) fn damaged_records(&self) -> &[super::super::types::DamagedRecord] {
        self.recovered.damaged()
    }

    /// The store's identity; `None` if there is nothing in it yet.
    pub(crate) fn store_id(&self) -> Option<[u8; 16]> {
        self.store.map(|store| store.uuid)
    }

    /// The store's secret.
    pub(crate) fn store_secret(&self) -> [u8; 16] {
        self.store.map_or([0; 16], |store| store.secret)
    }

    /// Bytes of one slot; 0 if there is none yet.
    pub(crate) fn slot_bytes(&self) -> u64 {
        self.store.map_or(0, |store| store.slot_bytes)
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.reader
    }

    fn verify(&mut self, live: &Live, last: bool) -> Result<(), super::super::types::OpenError> {
        let (place, file) = (live.candidate.place, &live.candidate.slot.file);
        let slot = live.candidate.slot.number;
        let mut summary = SegmentSummary {
            epoch: place.epoch,
            slot: name(slot),
            bytes: live.last.map_or(0, |(offset, header)| offset + header.bytes()),
            groups: 0,
            records: 0,
            body_bytes: 0,
            sealed: live.last.is_some_and(|(_, header)| header.flags & SEAL != 0),
        };
        if live.last.is_some() {
            self.verify_headers(live);
        }
        let mut walker = Walker::new(place, file, live.next_group);
        let mut bodies = Bodies::new(place, file);
        loop {
            let (offset, header) = match walker.next() {
                Step::Group { offset, header } => (offset, header),
                Step::Hole(_) => continue,
                Step::End { .. } => break,
            };
            summary.groups += 1;
            let at_end = last && live.last.is_some_and(|(at, _)| at == offset);
            for described in walker.descriptors(offset, &header).unwrap_or_default() {
                let descriptor = described.descriptor;
                let seal = descriptor.kind == kinds::SEAL;
                summary.records += u64::from(!seal);
                summary.body_bytes += if seal { 0 } else { u64::from(descriptor.body_len) };
                if bodies.verify(&descriptor) {
                    continue;
                }
                if seal {
                    self.damages.push(of_body(live, &descriptor, DamageKind::Seal, None, true));
                    continue;
                }
                let record = decode(slot, descriptor.kind, descriptor.flags, described.extensions)?;
                self.body(live, &descriptor, record.as_ref(), !at_end);
            }
        }
        for hole in &live.holes {
            self.hole(live, hole)?;
        }
        if let Some(range) = tail_range(live) {
            let found = salvage(place, file, range.clone());
            let torn = walker.header(range.start);
            let sequences = torn.map(|torn| (torn.first_seq, u64::from(torn.records)));
            self.tail(live, range.start, &found, sequences)?;
        }
        self.segments.push(summary);
        Ok(())
    }

    fn verify_headers(&mut self, live: &Live) {
        let (place, slot) = (live.candidate.place, &live.candidate.slot);
        let mut memory = Aligned::default();
        for offset in [0, BLOCK] {
            let into = memory.bytes_mut(size(BLOCK));
            let read = slot.file.read_device_at(offset, into);
            let sound = matches!(Header::parse(into), Parsed::Valid(h) if h.epoch == place.epoch);
            if read.is_err() || !sound {
                let (kind, epoch) = (DamageKind::Header, place.epoch);
                let slot = name(slot.number);
                let (proven, sequences, key) = (true, None, None);
                self.damages.push(Damage {
                    kind,
                    epoch,
                    slot,
                    offset,
                    bytes: BLOCK,
                    proven,
                    sequences,
                    key,
                });
            }
        }
    }

    /// A record whose body does not verify.
    fn body(
        &mut self,
        live: &Live,
        descriptor: &Descriptor,
        record: Option<&Record>,
        proven: bool,
    ) {
        let key = record.and_then(Record::delivery).map(|delivery| delivery.envelope.key.clone());
        self.damages.push(of_body(live, descriptor, DamageKind::Body, key, proven));
        if !proven {
            self.unproven.insert(descriptor.sequence);
        }
    }

    /// A range in which groups were, certainly.
    fn hole(&mut self, live: &Live, hole: &Hole) -> Result<(), super::super::types::OpenError> {
        let (place, slot) = (live.candidate.place, &live.candidate.slot);
        let found = salvage(place, &slot.file, hole.range.clone());
        for salvaged in found.iter().filter(|salvaged| salvaged.body.is_none()) {
            let descriptor = salvaged.descriptor;
            let extensions = &salvaged.extensions;
            let record = decode(slot.number, descriptor.kind, descriptor.flags, extensions)?;
            self.body(live, &descriptor, record.as_ref(), true);
        }
        let expected = match (hole.from, hole.to) {
            (Some(from), Some(to)) => Some(from..to),
            _ => None,
        };
        self.range(live, hole.range.clone(), &found, expected, true);
        Ok(())
    }

    /// What may have been under way when the process ended.
    fn tail(
        &mut self,
        live: &Live,
        offset: u64,
        found: &[Salvaged],
        sequences: Option<(u64, u64)>,
    ) -> Result<(), super::super::types::OpenError> {
        let slot = live.candidate.slot.number;
        for salvaged in found {
            let descriptor = salvaged.descriptor;
            let record = decode(slot, descriptor.kind, descriptor.flags, &salvaged.extensions)?;
            match (record, &salvaged.body) {
                (Some(record), Some(_)) => self.torn.push(Restored {
                    sequence: descriptor.sequence,
                    location: location(live, salvaged.offset),
                    record,
                    body_bytes: descriptor.body_len,
                }),
                (record, None) => self.body(live, &descriptor, record.as_ref(), false),
                (None, Some(_)) => {}
            }
        }
        let expected = sequences.map(|(first, records)| first..first.saturating_add(records));
        if expected.is_some() || !found.is_empty() {
            let end = found
                .last()
                .map_or(offset + BLOCK, |last| last.offset + u64::from(last.descriptor.len));
            self.range(live, offset..end, found, expected, false);
        }
        Ok(())
    }

    /// A range that does not verify, once for each run of sequences that are gone with it.
    fn range(
        &mut self,
        live: &Live,
        range: std::ops::Range<u64>,
        found: &[Salvaged],
        expected: Option<std::ops::Range<u64>>,
        proven: bool,
    ) {
        let mut there: Vec<u64> = found.iter().map(|found| found.descriptor.sequence).collect();
        there.sort_unstable();
        let mut gone = Vec::new();
        if let Some(expected) = expected {
            let mut next = expected.start;
            for sequence in there.into_iter().filter(|there| expected.contains(there)) {
                gone.extend((next < sequence).then(|| Some((next, sequence - 1))));
                next = sequence + 1;
            }
            gone.extend((next < expected.end).then(|| Some((next, expected.end - 1))));
        }
        if gone.is_empty() {
            gone.push(None);
        }
        for sequences in gone {
            self.damages.push(Damage {
                kind: DamageKind::Range,
                epoch: live.candidate.place.epoch,
                slot: name(live.candidate.slot.number),
                offset: range.start,
                bytes: range.end - range.start,
                proven,
                sequences,
                key: None,
            });
        }
    }
}

fn of_body(
    live: &Live,
    descriptor: &Descriptor,
    kind: DamageKind,
    key: Option<OrderKey>,
    proven: bool,
) -> Damage {
    let sequence = descriptor.sequence;
    Damage {
        kind,
        epoch: live.candidate.place.epoch,
        slot: name(live.candidate.slot.number),
        offset: u64::from(descriptor.body_at),
        bytes: u64::from(descriptor.body_len),
        proven,
        sequences: (kind != DamageKind::Seal).then_some((sequence, sequence)),
        key,
    }
}
