//! One live segment, and the walk that finds out what it holds.

use std::ops::Range;
use std::sync::Arc;

use super::super::files::name;
use super::super::group::{
    COPIES_END, COPY, Described, Descriptor, GroupHeader, HEADER, MUST_KNOW, SEAL, descriptors,
};
use super::super::layout::{GROUPS_AT, group_max};
use super::super::types::{Location, OpenError};
use super::chain::{Chain, Successor};
use super::sealed::Sealed;
use super::survey::Candidate;
use super::walk::{Bodies, Salvaged, Step, Walker};
use super::window::Window;
use crate::codec::{self, Undecodable, kinds};
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
    pub(super) next_seq: Option<u64>,
    /// Number of the first group after it.
    pub(super) next_group: Option<u64>,
    /// Ranges in which groups were, certainly, that no longer verify.
    pub(super) holes: Vec<Hole>,
    /// In the youngest segment: where a group may have been under way.
    pub(super) tail: Option<u64>,
    /// It was taken from the index at its end.
    pub(super) indexed: bool,
    /// What it holds, if there was memory for it.
    pub(super) contents: Option<Arc<Contents>>,
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
            indexed: false,
            contents: None,
        }
    }

    /// Whether a start was cut short while it copied the segment before into this one. That segment still has it all, so
    /// this one is nothing yet.
    pub(super) fn is_unfinished(&self) -> bool {
        let copied = self.last.is_some_and(|(_, header)| header.flags & COPIES_END != 0);
        self.candidate.opened
            && self.only_copies
            && !(copied && all_records(self).iter().all(|record| record.body.is_some()))
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

/// What a segment's groups hold, as far as it is kept in memory.
#[derive(Debug)]
pub(super) enum Contents {
    /// Walked from group to group.
    Walked(Records),
    /// Taken from the index at its end.
    Indexed(Sealed),
}

/// Descriptors with their extensions, in order of place.
#[derive(Debug, Default)]
pub(super) struct Records {
    items: Vec<Item>,
    extensions: Vec<u8>,
}

#[derive(Debug)]
struct Item {
    group_no: u64,
    offset: u64,
    descriptor: Descriptor,
    extensions: Range<usize>,
}

/// One of [`Records`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept<'a> {
    pub(super) group_no: u64,
    pub(super) offset: u64,
    pub(super) descriptor: Descriptor,
    pub(super) extensions: &'a [u8],
}

impl Records {
    pub(super) fn push(&mut self, group_no: u64, described: &Described<'_>) {
        let start = self.extensions.len();
        self.extensions.extend_from_slice(described.extensions);
        self.items.push(Item {
            group_no,
            offset: described.offset,
            descriptor: described.descriptor,
            extensions: start..self.extensions.len(),
        });
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.extensions.len() + self.items.len() * size_of::<Item>()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Kept<'_>> {
        self.items.iter().map(|item| Kept {
            group_no: item.group_no,
            offset: item.offset,
            descriptor: item.descriptor,
            extensions: self.extensions.get(item.extensions.clone()).unwrap_or_default(),
        })
    }
}

impl Contents {
    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Walked(records) => records.bytes(),
            Self::Indexed(sealed) => sealed.bytes(),
        }
    }
}

impl Chain {
    /// Takes a segment from the index at its end, where it was filled and `next` follows from it; `None`: it must be
    /// walked.
    pub(super) fn by_index(
        &mut self,
        candidate: &Candidate,
        next: &Successor,
    ) -> Result<Option<Live>, OpenError> {
        // A start does not seal the segment before.
        if !self.use_indexes || next.opened {
            return Ok(None);
        }
        let loaded = Sealed::load(candidate.place, &candidate.slot.file)?;
        let Some(sealed) = loaded.filter(|sealed| {
            let (_, last) = sealed.last;
            last.group_no.checked_add(1) == Some(next.group_no)
                && last.crc == next.prev_crc
                && sealed.first.flags & MUST_KNOW == 0
        }) else {
            return Ok(None);
        };
        let head = *sealed.head();
        self.retired_below = self.retired_below.max(head.retired_below);
        let next_seq = sealed.last.1.first_seq;
        self.next_seq = self.next_seq.max(next_seq);
        if sealed.lost > 0 {
            self.lost += sealed.lost;
            self.report.push(format!(
                "{}: {} records that its index names are damaged",
                name(candidate.slot.number),
                sealed.lost
            ));
        }
        let mut live = Live {
            first: Some((GROUPS_AT, sealed.first)),
            last: Some(sealed.last),
            only_copies: false,
            records: u64::from(head.records),
            next_seq: Some(next_seq),
            next_group: Some(next.group_no),
            indexed: true,
            ..Live::fresh(candidate.clone())
        };
        self.keep(&mut live, Contents::Indexed(sealed));
        Ok(Some(live))
    }

    /// Keeps what a segment holds, so that it need not be read again, as far as there is memory for it.
    fn keep(&mut self, live: &mut Live, contents: Contents) {
        if let Some(left) = self.memory.checked_sub(contents.bytes()) {
            self.memory = left;
            live.contents = Some(Arc::new(contents));
        }
    }

    /// Walks along a segment; `next_group` is the number of the first group after it.
    pub(super) fn walk(
        &mut self,
        candidate: Candidate,
        next_group: Option<u64>,
    ) -> Result<Live, OpenError> {
        let mut walker = Walker::new(candidate.place, &candidate.slot.file, next_group);
        let mut live = Live { next_group, ..Live::fresh(candidate) };
        let mut records = Records::default();
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
                    self.take_in(&mut live, &mut records, &mut walker, offset, header)?;
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
        self.keep(&mut live, Contents::Walked(records));
        Ok(live)
    }

    fn take_in(
        &mut self,
        live: &mut Live,
        records: &mut Records,
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
            records.push(header.group_no, &described);
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

/// The records of a segment's last valid group, their bodies looked at.
pub(super) fn last_group(live: &Live) -> Vec<Salvaged> {
    let (place, file) = (live.candidate.place, &live.candidate.slot.file);
    let mut window = Window::new(file, place.slot_bytes);
    let mut bodies = Bodies::new(place, file);
    let Some((offset, header)) = live.last else { return Vec::new() };
    let front = window.get(offset, HEADER as u64 + u64::from(header.desc_bytes));
    let found = descriptors(&place, offset, &header, front).unwrap_or_default();
    found.iter().map(|described| with_body(described, &mut bodies)).collect()
}

/// The records of all valid groups of a segment, their bodies looked at.
pub(super) fn all_records(live: &Live) -> Vec<Salvaged> {
    let (place, file) = (live.candidate.place, &live.candidate.slot.file);
    let mut records = Vec::new();
    let mut walker = Walker::new(place, file, live.next_group);
    let mut bodies = Bodies::new(place, file);
    loop {
        match walker.next() {
            Step::Group { offset, header } => {
                let found = walker.descriptors(offset, &header).unwrap_or_default();
                records.extend(found.iter().map(|described| with_body(described, &mut bodies)));
            }
            Step::Hole(_) => {}
            Step::End { .. } => return records,
        }
    }
}

fn with_body(described: &Described<'_>, bodies: &mut Bodies) -> Salvaged {
    Salvaged {
        offset: described.offset,
        descriptor: described.descriptor,
        extensions: described.extensions.to_vec(),
        body: bodies.get(&described.descriptor),
    }
}

/// What a segment's groups hold, read once more; `None` if it reads differently than before.
pub(super) fn read_again(live: &Live) -> Result<Option<Contents>, OpenError> {
    let (place, file) = (live.candidate.place, &live.candidate.slot.file);
    if live.indexed {
        return Ok(Sealed::load(place, file)?.map(Contents::Indexed));
    }
    let mut records = Records::default();
    let mut walker = Walker::new(place, file, live.next_group);
    let mut holes = live.holes.iter();
    loop {
        match walker.next() {
            Step::Group { offset, header } if header.flags & SEAL == 0 => {
                for described in walker.descriptors(offset, &header).unwrap_or_default() {
                    records.push(header.group_no, &described);
                }
            }
            Step::Group { .. } => {}
            Step::Hole(range) if holes.next().is_some_and(|hole| hole.range == range) => {}
            Step::Hole(_) => return Ok(None),
            Step::End { .. } => return Ok(Some(Contents::Walked(records))),
        }
    }
}
