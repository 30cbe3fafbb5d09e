//! Which segments are live, and what each holds: from the youngest back to the oldest not retired.
//!
//! Touches nothing. Everything it decides comes from bytes that verify.

use std::ops::Range;

use super::super::codec::{self, Undecodable, kinds};
use super::super::files::name;
use super::super::group::{COPIES_END, COPY, GroupHeader, MUST_KNOW, SEAL};
use super::super::header::Store;
use super::super::layout::{GROUPS_AT, group_max};
use super::super::slots::Slot;
use super::super::types::{DamagedRecord, Location, OpenError};
use super::survey::{Candidate, Survey};
use super::walk::{Bodies, Salvaged, Step, Walker, salvage, untouched};
use crate::record::Record;

/// One live segment.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) candidate: Candidate,
    /// Its first and last valid groups.
    pub(super) first: Option<(u64, GroupHeader)>,
    pub(super) last: Option<(u64, GroupHeader)>,
    /// Every valid group repeats the segment before.
    pub(super) only_copies: bool,
    pub(super) records: u64,
    /// One past the highest sequence in its valid groups.
    next_seq: Option<u64>,
    /// Number of the first group after it.
    pub(super) next_group: Option<u64>,
    /// Ranges in which groups were, certainly, that no longer verify.
    pub(super) holes: Vec<Hole>,
    /// In the youngest segment: where a group may have been under way.
    pub(super) tail: Option<u64>,
}

impl Live {
    /// A segment just begun, still to be walked.
    pub(super) fn fresh(candidate: Candidate) -> Self {
        Self {
            candidate,
            first: None,
            last: None,
            only_copies: true,
            records: 0,
            next_seq: None,
            next_group: None,
            holes: Vec::new(),
            tail: None,
        }
    }
}

impl Live {
    /// Whether a start was cut short while it copied the segment before into this one. That segment still has it all, so
    /// this one is nothing yet.
    fn is_unfinished(&self) -> bool {
        let copied = self.last.is_some_and(|(_, header)| header.flags & COPIES_END != 0);
        self.candidate.opened
            && self.only_copies
            && !(copied && last_groups(self, true).iter().all(|record| record.body.is_some()))
    }
}

/// A range in which groups were, certainly, that no longer verify.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    pub(super) range: Range<u64>,
    /// Sequence of the first record in it and of the first after it, where known.
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
}

/// What is live, what is spare, what is wrong.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Oldest first.
    pub(super) segments: Vec<Live>,
    pub(super) spare: Vec<Slot>,
    pub(super) quarantined: u32,
    pub(super) retired_below: u64,
    pub(super) next_seq: u64,
    pub(super) damaged: Vec<DamagedRecord>,
    pub(super) lost: u64,
    pub(super) report: Vec<String>,
}

/// Where the segment after the one looked at begins.
#[derive(Clone, Copy, Debug)]
struct Successor {
    group_no: u64,
    first_seq: u64,
    /// It begins with copies of the segment before.
    prev_epoch: Option<u64>,
    epoch: u64,
}

pub(super) fn chain(survey: &mut Survey, store: &Store) -> Result<Chain, OpenError> {
    let mut chain = Chain { retired_below: survey.retired_below, next_seq: 1, ..Chain::default() };
    let mut after: Option<Successor> = None;
    let named = survey.candidates.iter().filter_map(|candidate| candidate.prev_epoch).max();
    let there: Vec<u64> = survey.candidates.iter().map(|it| it.place.epoch).collect();
    for candidate in std::mem::take(&mut survey.candidates) {
        let epoch = candidate.place.epoch;
        if epoch < chain.retired_below {
            if candidate.prev_epoch.is_some() {
                chain.spare.push(candidate.slot);
            } else {
                chain.quarantined += 1;
            }
            continue;
        }
        if let Some(next) = after {
            if next.prev_epoch.is_some_and(|prev| epoch > prev) {
                // Void: the segment after it repeats all it held, and says so.
                chain.spare.push(candidate.slot);
                continue;
            }
            chain.note_gap(&next, epoch);
        }
        chain.look(candidate, store, &mut after)?;
    }
    if let Some(next) = after {
        chain.note_gap(&next, 0);
    }
    chain.segments.reverse();
    chain.note_lost_end(named.filter(|epoch| !there.contains(epoch)));
    chain.drop_retired();
    for live in std::mem::take(&mut chain.segments) {
        chain.salvage_holes(&live)?;
        chain.segments.push(live);
    }
    chain.drop_retired();
    chain.drop_healed();
    chain.damaged.sort_by_key(|damaged| damaged.sequence);
    if chain.lost > 0 {
        chain.report.push(format!(
            "{} records cannot be found any more; their senders must be asked",
            chain.lost
        ));
    }
    Ok(chain)
}

impl Chain {
    fn drop_retired(&mut self) {
        let below = self.retired_below;
        for live in std::mem::take(&mut self.segments) {
            if live.candidate.place.epoch >= below {
                self.segments.push(live);
            } else if live.candidate.prev_epoch.is_some() {
                self.spare.push(live.candidate.slot);
            } else {
                self.quarantined += 1;
            }
        }
    }

    /// Records damaged in a copy whose original is whole are not damaged: the original is replayed.
    fn drop_healed(&mut self) {
        for pair in self.segments.windows(2) {
            let [before, live] = pair else { continue };
            let copies_gone = live.holes.first().is_some_and(|hole| hole.range.start == GROUPS_AT);
            if !live.candidate.opened || !copies_gone {
                continue;
            }
            for original in last_groups(before, false) {
                let (sequence, whole) = (original.descriptor.sequence, original.body.is_some());
                self.damaged.retain(|damaged| !(whole && damaged.sequence == sequence));
            }
        }
    }

    /// The header made ready for the segment to come names the one before it: it was there once, and it is the
    /// youngest.
    fn note_lost_end(&mut self, named: Option<u64>) {
        let youngest = self.segments.last().map_or(0, |live| live.candidate.place.epoch);
        let live = |epoch: &u64| *epoch > youngest && *epoch >= self.retired_below;
        if let Some(epoch) = named.filter(live) {
            self.report.push(format!(
                "the youngest segment, of epoch {epoch}, is missing; have the senders of the last orders send them again"
            ));
        }
    }

    /// An epoch that should be there and is not.
    fn note_gap(&mut self, next: &Successor, epoch: u64) {
        let Some(prev) = next.prev_epoch else { return };
        if prev > epoch && prev >= self.retired_below && prev != 0 {
            self.report.push(format!(
                "the segment of epoch {prev}, before epoch {}, is missing",
                next.epoch
            ));
        }
    }

    fn look(
        &mut self,
        candidate: Candidate,
        store: &Store,
        after: &mut Option<Successor>,
    ) -> Result<(), OpenError> {
        let mut live = self.walk(candidate, after.map(|next| next.group_no))?;
        let Some((first_at, first)) = live.first else {
            let candidate = live.candidate;
            let begun = !candidate.opened
                && !untouched(&store.secret, candidate.place, &candidate.slot.file);
            if begun {
                live.candidate = candidate;
                match after {
                    None => live.tail = Some(GROUPS_AT),
                    Some(next) => next.prev_epoch = live.candidate.prev_epoch,
                }
                self.segments.push(live);
            } else {
                self.spare.push(candidate.slot);
            }
            return Ok(());
        };
        if after.is_none() && live.is_unfinished() {
            self.spare.push(live.candidate.slot);
            return Ok(());
        }
        if let Some(next) = *after
            && let Some(tail) = live.tail.take()
        {
            let range = tail..store.slot_bytes;
            live.holes.push(Hole { range, from: live.next_seq, to: Some(next.first_seq) });
            for begun in &mut self.segments {
                let between = begun.first.is_none() && begun.candidate.place.epoch < next.epoch;
                if between && begun.holes.is_empty() {
                    let range = GROUPS_AT..store.slot_bytes;
                    begun.holes.push(Hole { range, from: None, to: None });
                }
            }
        }
        *after = Some(Successor {
            group_no: first.group_no,
            first_seq: first.first_seq,
            prev_epoch: live.candidate.prev_epoch,
            epoch: live.candidate.place.epoch,
        });
        if first_at != GROUPS_AT {
            self.report.push(format!(
                "{}: the first groups of epoch {} do not verify",
                name(live.candidate.slot.number),
                live.candidate.place.epoch
            ));
        }
        self.segments.push(live);
        Ok(())
    }

    fn walk(&mut self, candidate: Candidate, next_group: Option<u64>) -> Result<Live, OpenError> {
        let mut walker = Walker::new(candidate.place, &candidate.slot.file, next_group);
        let mut live = Live { next_group, ..Live::fresh(candidate) };
        let mut crc = None;
        loop {
            match walker.next() {
                Step::Group { offset, header } => {
                    if crc.is_some_and(|crc| crc != header.prev_crc) {
                        self.report.push(format!(
                            "{}: the group at offset {offset} does not follow from the one before",
                            name(live.candidate.slot.number)
                        ));
                    }
                    crc = Some(header.crc);
                    if let Some(hole) = live.holes.last_mut() {
                        hole.to.get_or_insert(header.first_seq);
                    }
                    self.take_in(&mut live, &mut walker, offset, header)?;
                }
                Step::Hole(range) => {
                    crc = None;
                    live.holes.push(Hole { range, from: live.next_seq, to: None });
                }
                Step::End { tail } => {
                    live.tail = tail;
                    if let Some(torn) = tail.and_then(|tail| walker.header(tail)) {
                        self.next_seq = self
                            .next_seq
                            .max(torn.first_seq.saturating_add(u64::from(torn.records)));
                        live.only_copies &= torn.flags & COPY != 0;
                    }
                    break;
                }
            }
        }
        if walker.unreadable() > 0 {
            self.report.push(format!(
                "{}: the device cannot read {} blocks",
                name(live.candidate.slot.number),
                walker.unreadable()
            ));
        }
        Ok(live)
    }

    fn take_in(
        &mut self,
        live: &mut Live,
        walker: &mut Walker,
        offset: u64,
        header: GroupHeader,
    ) -> Result<(), OpenError> {
        let slot = live.candidate.slot.number;
        if header.flags & MUST_KNOW != 0 {
            let what = format!("group flags {:#010x}", header.flags);
            return Err(OpenError::Newer { path: name(slot), what });
        }
        for described in walker.descriptors(offset, &header).unwrap_or_default() {
            let descriptor = described.descriptor;
            if descriptor.kind == kinds::SEAL {
                continue;
            }
            live.records += 1;
            let next_seq = descriptor.sequence.saturating_add(1);
            live.next_seq = live.next_seq.max(Some(next_seq));
            let record = decode(slot, descriptor.kind, descriptor.flags, described.extensions)?;
            if let Some(Record::Checkpoint { retired_below, .. }) = record {
                self.retired_below = self.retired_below.max(retired_below);
            }
        }
        let promised = header.durable_seq.saturating_add(1).max(header.first_seq);
        live.next_seq = live.next_seq.max(Some(promised));
        self.next_seq = self.next_seq.max(live.next_seq.unwrap_or_default());
        if header.flags & SEAL == 0 {
            live.only_copies &= header.flags & COPY != 0;
        }
        live.first.get_or_insert((offset, header));
        live.last = Some((offset, header));
        Ok(())
    }

    /// Reports what stands in a segment's holes, and how much is gone.
    fn salvage_holes(&mut self, live: &Live) -> Result<(), OpenError> {
        let slot = live.candidate.slot.number;
        for hole in &live.holes {
            let file = &live.candidate.slot.file;
            let found = salvage(live.candidate.place, file, hole.range.clone());
            if let (Some(from), Some(to)) = (hole.from, hole.to) {
                self.lost += to.saturating_sub(from).saturating_sub(found.len() as u64);
            }
            self.report.push(format!(
                "{}: bytes {} to {} are damaged; {} records in them are still readable",
                name(slot),
                hole.range.start,
                hole.range.end,
                found.iter().filter(|record| record.body.is_some()).count()
            ));
            for record in &found {
                let next_seq = record.descriptor.sequence.saturating_add(1);
                self.next_seq = self.next_seq.max(next_seq);
                self.note_damaged(live, record, true)?;
            }
        }
        Ok(())
    }

    /// Lists a record whose body does not verify.
    pub(super) fn note_damaged(
        &mut self,
        live: &Live,
        salvaged: &Salvaged,
        proven: bool,
    ) -> Result<(), OpenError> {
        let descriptor = salvaged.descriptor;
        let slot = live.candidate.slot.number;
        let record = decode(slot, descriptor.kind, descriptor.flags, &salvaged.extensions)?;
        if salvaged.body.is_some() {
            if let Some(Record::Checkpoint { retired_below, .. }) = record {
                self.retired_below = self.retired_below.max(retired_below);
            }
            return Ok(());
        }
        if let Some(record) = record {
            let location = location(live, salvaged.offset);
            let sequence = descriptor.sequence;
            self.damaged.push(DamagedRecord { sequence, location, record, proven });
        }
        Ok(())
    }
}

pub(super) fn location(live: &Live, offset: u64) -> Location {
    Location::new(
        u32::try_from(live.candidate.place.epoch).unwrap_or(u32::MAX),
        u32::try_from(offset).unwrap_or(u32::MAX),
    )
}

/// Decodes a record whose checksum holds; what it cannot understand, a later release wrote.
pub(super) fn decode(
    slot: u32,
    kind: u8,
    flags: u8,
    extensions: &[u8],
) -> Result<Option<Record>, OpenError> {
    codec::record(kind, flags, extensions, bytes::Bytes::new())
        .map_err(|Undecodable(what)| OpenError::Newer { path: name(slot), what })
}

/// How far a group that was under way can reach.
pub(super) fn tail_range(live: &Live) -> Option<Range<u64>> {
    let slot_bytes = live.candidate.place.slot_bytes;
    live.tail.map(|tail| tail..(tail + group_max(slot_bytes)).min(slot_bytes))
}

/// The records of a segment's last valid group (of all, with `all`), their bodies looked at.
pub(super) fn last_groups(live: &Live, all: bool) -> Vec<Salvaged> {
    let mut records = Vec::new();
    let mut walker = Walker::new(live.candidate.place, &live.candidate.slot.file, live.next_group);
    let mut bodies = Bodies::new(live.candidate.place, &live.candidate.slot.file);
    loop {
        match walker.next() {
            Step::Group { offset, header } => {
                if !all && live.last.is_some_and(|(last, _)| last != offset) {
                    continue;
                }
                for described in walker.descriptors(offset, &header).unwrap_or_default() {
                    records.push(Salvaged {
                        offset: described.offset,
                        descriptor: described.descriptor,
                        extensions: described.extensions.to_vec(),
                        body: bodies.get(&described.descriptor),
                    });
                }
            }
            Step::Hole(_) => {}
            Step::End { .. } => return records,
        }
    }
}
