//! The one that writes: groups into the open segment, and from a full segment on to the next.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::files::Aligned;
use super::group::{self, Entry, GroupHeader, HEADER, Heading, Place, assemble, descriptor_bytes};
use super::header::{Header, Store};
use super::layout::{GROUPS_AT, Seed, group_max, size, to_blocks};
use super::reader::{Live, LiveSegment};
use super::seal::{self, Index, IndexEntry};
use super::slots::{NoSlot, Purpose, Slot, Slots, failed};
use super::types::{Failed, Location, Placed, Segment, WriteError};
use crate::codec;
use crate::codec::len32;
use crate::record::Record;
use crate::{Clock, metrics};

/// What an order's record may gain when it is carried forward: its earlier fingerprints, a ticket, a reason. It
/// is kept free from the beginning, for a record that cannot be carried would keep its segment for ever.
const CARRY_ROOM: u64 = 4096;

/// Everything that writing needs. A failed write or sync drops it.
pub(super) struct Writer {
    pub(super) slots: Slots,
    pub(super) live: Arc<Live>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Store,
    pub(super) open: OpenSegment,
    /// Oldest first; the last is the open one.
    pub(super) segments: VecDeque<Segment>,
    pub(super) chain: Chain,
    /// Highest `retired_below` of a durable checkpoint.
    pub(super) checkpointed: u64,
    pub(super) retired_below: u64,
    /// Bytes of deliveries appended, those carried forward left out.
    pub(super) payload: u64,
    pub(super) scratch: Scratch,
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) place: Place,
    pub(super) slot: Slot,
    /// Where the next group goes.
    pub(super) at: u64,
    pub(super) index: Index,
}

/// What ties each group to the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    pub(super) next_group: u64,
    pub(super) next_seq: u64,
    pub(super) durable_seq: u64,
    pub(super) prev_crc: u32,
    /// The last group holds records that no later group proves.
    pub(super) unproven: bool,
}

/// Memory kept from one append to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    extensions: Vec<u8>,
    items: Vec<Item>,
    planned: Vec<Planned>,
    pub(super) group: Aligned,
    offsets: Vec<u32>,
}

/// One record, its extensions written.
#[derive(Clone, Debug)]
struct Item {
    kind: u8,
    extensions: Range<usize>,
    /// Bytes of descriptor and body.
    bytes: u64,
}

/// One group to be written.
#[derive(Clone, Debug)]
struct Planned {
    items: Range<usize>,
    bytes: u64,
    /// Goes to a new segment.
    turns: bool,
}

impl Writer {
    /// See [`super::Journal::room_to_carry`].
    pub(super) fn room_to_carry(&self, bytes: u64) -> bool {
        let left = self.store.slot_bytes.saturating_sub(self.open.at);
        self.slots.room_for_upkeep(0) || bytes.saturating_mul(2) <= left
    }

    /// See [`super::Journal::room_to_lend`].
    pub(super) fn room_to_lend(&self) -> bool {
        let left = self.store.slot_bytes.saturating_sub(self.open.at);
        self.slots.room_for_upkeep(1) || left.saturating_mul(4) >= self.store.slot_bytes
    }

    /// Makes `records` durable, in order. With `carried` they repeat what older segments hold.
    pub(super) fn append(
        &mut self,
        records: &[Record],
        carried: bool,
    ) -> Result<Vec<Placed>, WriteError> {
        if let Some(fault) = self.slots.fault() {
            return Err(fault.into());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.append_with(records, carried, &mut scratch);
        self.scratch = scratch;
        done
    }

    fn append_with(
        &mut self,
        records: &[Record],
        carried: bool,
        scratch: &mut Scratch,
    ) -> Result<Vec<Placed>, WriteError> {
        let checkpoint = self.checkpoint_of(records)?;
        scratch.encode(records);
        scratch.plan(records, carried, &self.open, self.store.slot_bytes)?;
        let growth = !carried && scratch.items.iter().any(|item| group::is_growth(item.kind));
        let purpose = match growth {
            true => Purpose::Growth,
            // It gives at least one slot back at once; what stands beside it is small.
            false if checkpoint > 0 => Purpose::Opening,
            false => Purpose::Upkeep,
        };
        let mut fresh = self.take_slots(scratch, purpose)?;
        let mut placed = Vec::with_capacity(records.len());
        for planned in 0..scratch.planned.len() {
            let Some(planned) = scratch.planned.get(planned).cloned() else { break };
            if planned.turns {
                let Some((header, slot)) = fresh.pop_front() else {
                    return Err(Failed { what: "next segment", reason: "no slot".into() }.into());
                };
                self.turn(header, slot, &mut scratch.group)?;
            }
            self.write_group(records, &planned.items, scratch, &mut placed)?;
        }
        self.checkpointed = self.checkpointed.max(checkpoint);
        if !carried {
            let payload = records.iter().map(|record| codec::body(record).len() as u64).sum();
            metrics::payload(payload);
            self.payload += payload;
        }
        Ok(placed)
    }

    /// An empty group, which proves the one before.
    pub(super) fn prove(&mut self) -> Result<(), WriteError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.prove_with(&mut scratch);
        self.scratch = scratch;
        done
    }

    fn prove_with(&mut self, scratch: &mut Scratch) -> Result<(), WriteError> {
        scratch.encode(&[]);
        scratch.plan_empty(&self.open, self.store.slot_bytes);
        let mut fresh = self.take_slots(scratch, Purpose::Upkeep)?;
        if let Some((header, slot)) = fresh.pop_front() {
            self.turn(header, slot, &mut scratch.group)?;
        }
        self.write_group(&[], &(0..0), scratch, &mut Vec::new())
    }

    fn checkpoint_of(&self, records: &[Record]) -> Result<u64, WriteError> {
        let mut highest = 0;
        for record in records {
            if let Record::Checkpoint { retired_below, .. } = record {
                if *retired_below > self.open.place.epoch {
                    return Err(WriteError::NotRetirable(*retired_below));
                }
                highest = highest.max(*retired_below);
            }
        }
        Ok(highest)
    }

    /// The slots the plan needs, their headers durable; all or none.
    fn take_slots(
        &self,
        scratch: &Scratch,
        purpose: Purpose,
    ) -> Result<VecDeque<(Header, Slot)>, WriteError> {
        let turns = scratch.planned.iter().filter(|planned| planned.turns).count();
        let mut fresh = VecDeque::with_capacity(turns);
        let mut prev_epoch = self.open.place.epoch;
        for _ in 0..turns {
            let header = self.next_header(prev_epoch);
            prev_epoch = header.epoch;
            match self.slots.take(header, purpose) {
                Ok(slot) => fresh.push_back((Header { slot: slot.number, ..header }, slot)),
                Err(NoSlot::Full(reason)) => {
                    tracing::warn!(reason, "no slot for the next segment");
                    self.slots.put_back(fresh.into_iter().map(|(_, slot)| slot));
                    return Err(WriteError::Full);
                }
                Err(NoSlot::Failed(fault)) => return Err(fault.into()),
            }
        }
        Ok(fresh)
    }

    fn next_header(&self, prev_epoch: u64) -> Header {
        Header {
            store: self.store,
            flags: 0,
            epoch: prev_epoch + 1,
            slot: 0,
            prev_epoch,
            retired_below: self.retired_below,
            wall_ms: self.clock.wall_ms(),
        }
    }

    /// Has the slot after the open one prepared.
    pub(super) fn prepare_next(&self) {
        self.slots.prepare(self.next_header(self.open.place.epoch));
    }

    /// Seals the open segment, durably, and opens the next one.
    fn turn(&mut self, header: Header, slot: Slot, group: &mut Aligned) -> Result<(), Failed> {
        let mut index = std::mem::replace(&mut self.open.index, Index::new(&self.store.secret));
        let (at, slot_bytes) = (self.open.at, self.store.slot_bytes);
        for (extensions, entries) in index.parts(at, slot_bytes.saturating_sub(at), slot_bytes) {
            let seal = Entry {
                sequence: 0,
                kind: codec::kinds::SEAL,
                flags: 0,
                extensions: &extensions,
                body: index.entries(entries),
            };
            let heading = self.heading(group::SEAL);
            let (place, at) = (self.open.place, self.open.at);
            let sealed = assemble(group, &place, at, heading, std::iter::once(seal), |_| {});
            self.put(&sealed, group)?;
        }
        index.clear();
        let seed = Seed::new(&self.store.secret, header.epoch, header.slot);
        let place = Place { seed, epoch: header.epoch, slot: header.slot, slot_bytes };
        self.live.add(LiveSegment { place, slot: slot.clone() });
        self.open = OpenSegment { place, slot, at: GROUPS_AT, index };
        self.segments.push_back(Segment { epoch: header.epoch, bytes: GROUPS_AT, records: 0 });
        self.prepare_next();
        Ok(())
    }

    fn heading(&self, flags: u32) -> Heading {
        Heading {
            group_no: self.chain.next_group,
            first_seq: self.chain.next_seq,
            durable_seq: self.chain.durable_seq,
            wall_ms: self.clock.wall_ms(),
            flags,
            prev_crc: self.chain.prev_crc,
        }
    }

    fn write_group(
        &mut self,
        records: &[Record],
        items: &Range<usize>,
        scratch: &mut Scratch,
        placed: &mut Vec<Placed>,
    ) -> Result<(), WriteError> {
        let Scratch { extensions, items: all, group, offsets, .. } = scratch;
        let records = records.get(items.clone()).unwrap_or_default();
        let items = all.get(items.clone()).unwrap_or_default();
        let first = self.chain.next_seq;
        let entries =
            records.iter().zip(items).zip(first..).map(|((record, item), sequence)| Entry {
                sequence,
                kind: item.kind,
                flags: 0,
                extensions: extensions.get(item.extensions.clone()).unwrap_or_default(),
                body: codec::body(record),
            });
        offsets.clear();
        let (place, at) = (self.open.place, self.open.at);
        let heading = self.heading(0);
        let header = assemble(group, &place, at, heading, entries, |offset| offsets.push(offset));
        self.put(&header, group)?;
        self.chain.next_seq += records.len() as u64;
        self.chain.durable_seq = self.chain.next_seq - 1;
        self.chain.unproven = !records.is_empty();
        let epoch = u32::try_from(place.epoch).unwrap_or(u32::MAX);
        for ((record, item), (offset, sequence)) in
            records.iter().zip(items).zip(offsets.iter().zip(first..))
        {
            placed.push(Placed { sequence, location: Location::new(epoch, *offset) });
            let entry = IndexEntry {
                sequence,
                offset: *offset,
                body_len: len32(codec::body(record).len()),
                kind: item.kind,
                plain: None,
                skippable: false,
            };
            self.open.index.push(entry, Some(record));
        }
        Ok(())
    }

    /// Writes one group and makes it durable. An error here is the end of the journal.
    pub(super) fn put(&mut self, header: &GroupHeader, group: &Aligned) -> Result<(), Failed> {
        let bytes = group.bytes(size(header.bytes()));
        let began = self.clock.elapsed();
        let written = self.open.slot.file.write_at(self.open.at, bytes);
        written.map_err(|error| failed("group write", &error))?;
        metrics::fsync(self.clock.elapsed().saturating_sub(began));
        metrics::group(header.records);
        self.open.at += header.bytes();
        self.chain.next_group += 1;
        self.chain.prev_crc = header.crc;
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes = self.open.at;
            if header.flags & group::SEAL == 0 {
                segment.records += u64::from(header.records);
            }
        }
        Ok(())
    }

    /// Gives the slots of every segment below `below` back.
    pub(super) fn retire(&mut self, below: u64) -> Result<(), WriteError> {
        if below > self.checkpointed || below > self.open.place.epoch {
            return Err(WriteError::NotRetirable(below));
        }
        self.retired_below = self.retired_below.max(below);
        while self.segments.front().is_some_and(|segment| segment.epoch < below) {
            self.segments.pop_front();
        }
        self.slots.give_back(self.live.split_below(below));
        Ok(())
    }
}

impl Scratch {
    fn encode(&mut self, records: &[Record]) {
        self.extensions.clear();
        self.items.clear();
        for record in records {
            let start = self.extensions.len();
            codec::extensions(record, &mut self.extensions);
            let extensions = start..self.extensions.len();
            let bytes = descriptor_bytes(extensions.len()) + codec::body(record).len();
            self.items.push(Item { kind: codec::kind(record), extensions, bytes: bytes as u64 });
        }
    }

    /// Shares the records out over groups and says where a new segment is needed.
    fn plan(
        &mut self,
        records: &[Record],
        carried: bool,
        open: &OpenSegment,
        slot_bytes: u64,
    ) -> Result<(), WriteError> {
        self.planned.clear();
        let max = group_max(slot_bytes);
        let mut group = HEADER as u64;
        let mut start = 0;
        let close = |planned: &mut Vec<Planned>, items: Range<usize>, bytes: u64| {
            planned.push(Planned { items, bytes: to_blocks(bytes), turns: false });
        };
        for (index, item) in self.items.iter().enumerate() {
            let alone = HEADER as u64 + item.bytes;
            let grows = if carried || !group::is_growth(item.kind) { 0 } else { CARRY_ROOM };
            if alone + grows > max {
                return Err(WriteError::TooLarge { index, bytes: alone, max: max - grows });
            }
            if group + item.bytes > max {
                close(&mut self.planned, start..index, group);
                (start, group) = (index, HEADER as u64);
            }
            group += item.bytes;
        }
        if start < records.len() {
            close(&mut self.planned, start..records.len(), group);
        }
        self.place(open, slot_bytes);
        Ok(())
    }

    fn plan_empty(&mut self, open: &OpenSegment, slot_bytes: u64) {
        self.planned.clear();
        self.planned.push(Planned { items: 0..0, bytes: to_blocks(HEADER as u64), turns: false });
        self.place(open, slot_bytes);
    }

    fn place(&mut self, open: &OpenSegment, slot_bytes: u64) {
        let (mut at, mut indexed) = (open.at, open.index.records());
        for planned in &mut self.planned {
            let after = indexed + planned.items.len();
            if at + planned.bytes + seal::room(after, slot_bytes) > slot_bytes {
                planned.turns = true;
                (at, indexed) = (GROUPS_AT, 0);
            }
            at += planned.bytes;
            indexed += planned.items.len();
        }
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("open", &self.open.place.epoch)
            .field("at", &size(self.open.at))
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}
