//! Which segments are live, and what each holds: from the youngest back to the oldest not retired.
//!
//! Touches nothing. Everything it decides comes from bytes that verify.

use super::super::files::name;
use super::super::group::GroupHeader;
use super::super::header::Store;
use super::super::layout::GROUPS_AT;
use super::super::slots::Slot;
use super::super::types::{DamagedRecord, OpenError};
use super::progress::Progress;
use super::segment::{Hole, Live, decode, last_group, location};
use super::survey::{Candidate, Survey};
use super::walk::{Salvaged, probe, salvage, untouched};
use crate::record::Record;

/// Bytes of memory that what was read may take until it is replayed.
const KEEP_MAX: usize = 64 << 20;

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
    /// Full segments are taken from the index at their end, and not walked.
    pub(super) use_indexes: bool,
    /// Bytes that what is read may still take, to be replayed without being read again.
    pub(super) memory: usize,
}

/// Where the segment after the one looked at begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Successor {
    pub(super) group_no: u64,
    /// CRC field of the group before its first.
    pub(super) prev_crc: u32,
    first_seq: u64,
    /// It begins with copies of the segment before.
    prev_epoch: Option<u64>,
    epoch: u64,
    /// Begun by a start.
    pub(super) opened: bool,
}

/// Reads what the survey found. Without `use_indexes` every segment is walked.
pub(super) fn chain(
    survey: &mut Survey,
    store: &Store,
    use_indexes: bool,
    progress: &mut Progress<'_>,
) -> Result<Chain, OpenError> {
    let mut chain = Chain {
        retired_below: survey.retired_below,
        next_seq: 1,
        use_indexes,
        memory: KEEP_MAX,
        ..Chain::default()
    };
    let mut after: Option<Successor> = None;
    let named = survey.candidates.iter().filter_map(|candidate| candidate.prev_epoch).max();
    let there: Vec<u64> = survey.candidates.iter().map(|it| it.place.epoch).collect();
    let candidates = std::mem::take(&mut survey.candidates);
    let candidates = without_idle_twins(candidates, store, &mut chain.spare);
    let total = candidates.len();
    for (done, candidate) in candidates.into_iter().enumerate() {
        progress.tell("segments read", done, total);
        let epoch = candidate.place.epoch;
        if epoch < chain.retired_below {
            if candidate.prev_epoch.is_some() {
                chain.spare.push(candidate.slot);
            } else {
                chain.quarantined += 1;
            }
            continue;
        }
        if after.is_some_and(|next| next.prev_epoch.is_some_and(|prev| epoch > prev)) {
            // Void: the segment after it repeats all it held, and says so.
            chain.spare.push(candidate.slot);
            continue;
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

/// Of two slots that name one epoch, one was only made ready for it: it holds no group of it, and is spare. Else it could be
/// taken for the segment, and the other for void.
fn without_idle_twins(
    candidates: Vec<Candidate>,
    store: &Store,
    spare: &mut Vec<Slot>,
) -> Vec<Candidate> {
    let is_written = |candidate: &Candidate| {
        let Candidate { place, slot, .. } = candidate;
        probe(&store.secret, *place, &slot.file) == Some(place.epoch)
    };
    let mut kept = Vec::with_capacity(candidates.len());
    for twins in candidates.chunk_by(|one, other| one.place.epoch == other.place.epoch) {
        let written: Vec<bool> = match twins {
            [_] => vec![true],
            twins => twins.iter().map(is_written).collect(),
        };
        let none = !written.contains(&true);
        for (candidate, written) in twins.iter().zip(written) {
            if written || none {
                kept.push(candidate.clone());
            } else {
                spare.push(candidate.slot.clone());
            }
        }
    }
    kept
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
            for original in last_group(before) {
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

    /// An epoch that should be there and is not. Where the groups go on without a break nothing of it is missing: its header was
    /// made, and a slot made ready after it holds what an earlier life left there.
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
        let indexed = match after {
            Some(next) => self.by_index(&candidate, next)?,
            None => None,
        };
        let mut live = match indexed {
            Some(live) => live,
            None => self.walk(candidate, after.map(|next| next.group_no))?,
        };
        let Some((first_at, first)) = live.first else {
            let candidate = live.candidate;
            let begun = !candidate.opened
                && !untouched(&store.secret, candidate.place, &candidate.slot.file);
            if begun {
                live.candidate = candidate;
                match after {
                    None => live.tail = Some(GROUPS_AT),
                    Some(next) if next.prev_epoch == Some(live.candidate.place.epoch) => {
                        next.prev_epoch = live.candidate.prev_epoch;
                    }
                    // The one it names is missing, and this one is not it.
                    Some(_) => {}
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
        if let Some(next) = *after {
            let goes_on = |last: &GroupHeader| {
                (last.group_no.saturating_add(1), last.crc) == (next.group_no, next.prev_crc)
            };
            let whole = live.tail.is_none() && live.last.as_ref().is_some_and(|(_, l)| goes_on(l));
            if !whole {
                self.note_break(&mut live, &next, store.slot_bytes);
            }
        }
        *after = Some(Successor {
            group_no: first.group_no,
            prev_crc: first.prev_crc,
            first_seq: first.first_seq,
            opened: live.candidate.opened,
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

    /// Groups are missing between a segment and the next that holds any: at its own end, in segments that were begun after it, or in
    /// one that is not there.
    fn note_break(&mut self, live: &mut Live, next: &Successor, slot_bytes: u64) {
        self.note_gap(next, live.candidate.place.epoch);
        let mut bounds = (live.next_seq, Some(next.first_seq));
        if let Some(tail) = live.tail.take() {
            let (from, to) = std::mem::take(&mut bounds);
            live.holes.push(Hole { range: tail..slot_bytes, from, to });
        }
        for begun in &mut self.segments {
            let between = begun.first.is_none() && begun.candidate.place.epoch < next.epoch;
            if between && begun.holes.is_empty() {
                let (from, to) = std::mem::take(&mut bounds);
                begun.holes.push(Hole { range: GROUPS_AT..slot_bytes, from, to });
            }
        }
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
