//! What was found, for the state machine and for people.

use std::sync::Arc;

use super::super::files::name;
use super::super::group::{COPY, Descriptor};
use super::super::layout::GROUPS_AT;
use super::super::types::{DamagedRecord, ReadError, Replayed, Restored, RestoredPlain};
use super::super::writer::OpenSegment;
use super::sealed::Sealed;
use super::segment::{Contents, Hole, Live, Records, decode, location, read_again};
use super::survey::Candidate;
use super::walk::salvage;

/// What recovery found.
#[derive(Debug)]
pub(crate) struct Recovered {
    segments: Vec<Live>,
    damaged: Vec<DamagedRecord>,
    report: Vec<String>,
}

impl Recovered {
    pub(super) fn new(
        mut segments: Vec<Live>,
        open: &OpenSegment,
        damaged: Vec<DamagedRecord>,
        report: Vec<String>,
    ) -> Self {
        let candidate = Candidate {
            place: open.place,
            slot: open.slot.clone(),
            prev_epoch: None,
            opened: true,
        };
        segments.push(Live::fresh(candidate));
        Self { segments, damaged, report }
    }

    /// Of a directory that is only looked at.
    pub(super) fn untouched(segments: Vec<Live>, damaged: Vec<DamagedRecord>) -> Self {
        Self { segments, damaged, report: Vec::new() }
    }

    /// Hands every record to `apply`, once each, by ascending sequence, bodies left on the disk. To be called before
    /// the first append.
    ///
    /// # Errors
    /// [`ReadError`] if what verified when the store was opened no longer does.
    pub(crate) fn replay(&mut self, mut apply: impl FnMut(Replayed)) -> Result<(), ReadError> {
        let mut given = Given { last_seq: 0, apply: &mut apply };
        for index in 0..self.segments.len() {
            let repeated = self.repeated_group(index);
            let Some(live) = self.segments.get_mut(index) else { break };
            // Let go of as it is replayed.
            let contents = match live.contents.take() {
                Some(contents) => contents,
                None => Arc::new(again(live)?),
            };
            match &*contents {
                Contents::Walked(records) => given.walked(live, records, repeated)?,
                Contents::Indexed(sealed) => given.indexed(live, sealed)?,
            }
        }
        Ok(())
    }

    /// Number of this segment's group whose copies the segment after it begins with. Not simply the last one
    /// that verifies: the one copied may have been damaged since, and the one before it was never copied.
    fn repeated_group(&self, index: usize) -> Option<u64> {
        let after = self.segments.get(index + 1..).unwrap_or_default();
        match after.iter().find_map(|live| live.first) {
            Some((offset, header)) if offset == GROUPS_AT && header.flags & COPY != 0 => {
                header.group_no.checked_sub(1)
            }
            Some(_) => None,
            // The fresh segment, which always does.
            None if after.is_empty() => None,
            None => self.segments.get(index)?.last.map(|(_, header)| header.group_no),
        }
    }

    /// Slot of a segment found.
    #[cfg(test)]
    pub(in super::super) fn slot_of(&self, epoch: u64) -> Option<u32> {
        let slot = |live: &Live| live.candidate.slot.number;
        self.segments.iter().find(|live| live.candidate.place.epoch == epoch).map(slot)
    }

    /// Records whose descriptor verifies and whose body does not, by ascending sequence. They are not replayed.
    pub(crate) fn damaged(&self) -> &[DamagedRecord] {
        &self.damaged
    }

    /// What was found wrong, for people; empty when all was clean. Names files and offsets, no order.
    pub(crate) fn report(&self) -> &[String] {
        &self.report
    }
}

/// What a segment holds, read again where it could not be kept.
fn again(live: &Live) -> Result<Contents, ReadError> {
    let read = read_again(live).map_err(|error| ReadError::Io(error.to_string()))?;
    read.ok_or_else(|| {
        let file = name(live.candidate.slot.number);
        ReadError::Io(format!("{file} reads differently than a moment ago"))
    })
}

/// What was given to the replay so far.
struct Given<'a> {
    last_seq: u64,
    apply: &'a mut dyn FnMut(Replayed),
}

impl Given<'_> {
    /// The records of a walked segment, those that are left in its holes where they stood.
    fn walked(
        &mut self,
        live: &Live,
        records: &Records,
        repeated: Option<u64>,
    ) -> Result<(), ReadError> {
        let mut holes = live.holes.iter().peekable();
        for record in records.iter() {
            while let Some(hole) = holes.next_if(|hole| hole.range.end <= record.offset) {
                self.hole(live, hole)?;
            }
            if repeated != Some(record.group_no) {
                self.whole(live, record.offset, record.descriptor, record.extensions)?;
            }
        }
        holes.try_for_each(|hole| self.hole(live, hole))
    }

    /// The records in a hole that are whole.
    fn hole(&mut self, live: &Live, hole: &Hole) -> Result<(), ReadError> {
        let (place, file) = (live.candidate.place, &live.candidate.slot.file);
        for salvaged in salvage(place, file, hole.range.clone()) {
            if salvaged.body.is_some() {
                self.whole(live, salvaged.offset, salvaged.descriptor, &salvaged.extensions)?;
            }
        }
        Ok(())
    }

    /// The records that an index names.
    fn indexed(&mut self, live: &Live, sealed: &Sealed) -> Result<(), ReadError> {
        let mut singles = sealed.singles.iter().peekable();
        for entry in sealed.iter() {
            let (sequence, offset) = (entry.sequence, u64::from(entry.offset));
            let Some(plain) = entry.plain else {
                // One that is not there is damaged, or may be passed over.
                if let Some(single) = singles.next_if(|single| single.offset == offset) {
                    self.whole(live, offset, single.descriptor, single.extensions)?;
                }
                continue;
            };
            if sequence > self.last_seq {
                self.last_seq = sequence;
                let (location, body_bytes) = (location(live, offset), entry.body_len);
                (self.apply)(Replayed::Plain(RestoredPlain {
                    sequence,
                    location,
                    body_bytes,
                    plain,
                }));
            }
        }
        Ok(())
    }

    fn whole(
        &mut self,
        live: &Live,
        offset: u64,
        descriptor: Descriptor,
        extensions: &[u8],
    ) -> Result<(), ReadError> {
        let sequence = descriptor.sequence;
        if sequence <= self.last_seq {
            return Ok(());
        }
        let slot = live.candidate.slot.number;
        let decoded = decode(slot, descriptor.kind, descriptor.flags, extensions);
        let Some(record) = decoded.map_err(|error| ReadError::Io(error.to_string()))? else {
            return Ok(());
        };
        self.last_seq = sequence;
        let (location, body_bytes) = (location(live, offset), descriptor.body_len);
        (self.apply)(Replayed::Whole(Restored { sequence, location, record, body_bytes }));
        Ok(())
    }
}
