//! What was found, for the state machine and for people.

use super::super::files::name;
use super::super::group::{COPY, SEAL};
use super::super::layout::GROUPS_AT;
use super::super::types::{DamagedRecord, ReadError, Restored};
use super::super::writer::OpenSegment;
use super::chain::{Live, decode, location};
use super::survey::Candidate;
use super::walk::{Salvaged, Step, Walker, salvage};

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
    /// the first append. Reads the descriptors of all live segments.
    ///
    /// # Errors
    /// [`ReadError`] if what verified when the store was opened no longer does.
    pub(crate) fn replay(&mut self, mut apply: impl FnMut(Restored)) -> Result<(), ReadError> {
        let mut last_seq = 0;
        let mut give = |live: &Live, salvaged: &Salvaged| {
            let descriptor = salvaged.descriptor;
            if descriptor.sequence <= last_seq {
                return Ok(());
            }
            let slot = live.candidate.slot.number;
            let decoded = decode(slot, descriptor.kind, descriptor.flags, &salvaged.extensions);
            let Some(record) = decoded.map_err(|error| ReadError::Io(error.to_string()))? else {
                return Ok(());
            };
            last_seq = descriptor.sequence;
            let location = location(live, salvaged.offset);
            let body_bytes = descriptor.body_len;
            apply(Restored { sequence: descriptor.sequence, location, record, body_bytes });
            Ok(())
        };
        for (index, live) in self.segments.iter().enumerate() {
            let repeated = self.repeated_group(index);
            walk(live, repeated, &mut give)?;
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

fn walk(
    live: &Live,
    repeated: Option<u64>,
    give: &mut impl FnMut(&Live, &Salvaged) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let (place, file) = (live.candidate.place, &live.candidate.slot.file);
    let mut walker = Walker::new(place, file, live.next_group);
    let mut holes = live.holes.iter();
    loop {
        match walker.next() {
            Step::Group { offset, header } => {
                if repeated == Some(header.group_no) || header.flags & SEAL != 0 {
                    continue;
                }
                for described in walker.descriptors(offset, &header).unwrap_or_default() {
                    let salvaged = Salvaged {
                        offset: described.offset,
                        descriptor: described.descriptor,
                        extensions: described.extensions.to_vec(),
                        body: None,
                    };
                    give(live, &salvaged)?;
                }
            }
            Step::Hole(range) => {
                if holes.next().is_none_or(|hole| hole.range != range) {
                    return Err(ReadError::Io(format!(
                        "{} reads differently than a moment ago",
                        name(live.candidate.slot.number)
                    )));
                }
                give_whole(live, range, give)?;
            }
            Step::End { .. } => break,
        }
    }
    for hole in holes {
        give_whole(live, hole.range.clone(), give)?;
    }
    Ok(())
}

/// Gives the records in a hole that are whole.
fn give_whole(
    live: &Live,
    range: std::ops::Range<u64>,
    give: &mut impl FnMut(&Live, &Salvaged) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    for salvaged in salvage(live.candidate.place, &live.candidate.slot.file, range) {
        if salvaged.body.is_some() {
            give(live, &salvaged)?;
        }
    }
    Ok(())
}
