//! One life of one slot of the feed: a header, then frames.
//!
//! The header stands in the first sector: checksum, magic, form, oldest form whose reader understands it, number of the slot,
//! nonce and number of its life, the sequence up to which everything was told before.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::files::PlainFile;
use super::super::journal::layout::{Part, Seed, size};
use super::frame::{self, ALIGN, Found, Head, SECTOR};
use crate::FeedEvent;
use crate::codec::Take;

const MAGIC: [u8; 8] = *b"FBYFEED\0";
const FORM: u16 = 1;
/// Where the first frame stands.
pub(super) const FRAMES_AT: u64 = SECTOR;
/// Where frames begin is remembered once in so many bytes.
const MARK: u64 = 16 << 10;
/// Bytes read at once.
const PIECE: u64 = 128 << 10;

/// A slot in its present life.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// Lives are counted through, over all slots.
    pub(super) life: u64,
    /// Before its first frame, everything up to this sequence was told.
    pub(super) base: u64,
    pub(super) bytes: u64,
    pub(super) seed: Seed,
    pub(super) file: Arc<dyn PlainFile>,
    known: Mutex<Option<Known>>,
}

/// What was found of its frames.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Some of the frames: up to where everything was told before one, and where it begins.
    marks: Vec<(u64, u64)>,
    end: u64,
}

/// A slot, gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Walked {
    /// Where its last frame that counts ends, and up to which sequence it tells.
    pub(super) end: u64,
    pub(super) told: u64,
    /// Sequence of the last event, or 0.
    pub(super) newest: u64,
    /// Places where frames are damaged.
    pub(super) holes: u64,
    /// Where frames end that do not count, for what stood before them never reached the disk.
    pub(super) torn: Option<u64>,
}

impl Slot {
    /// Begins a new life of a slot's file, durable when it returns.
    pub(super) fn begin(
        file: Arc<dyn PlainFile>,
        secret: &[u8; 16],
        (number, life): (u32, u64),
        base: u64,
    ) -> io::Result<Self> {
        let nonce = fastrand::u64(..);
        let seed = Seed::of_feed(secret, number, nonce);
        let mut head = Vec::with_capacity(size(SECTOR));
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&FORM.to_le_bytes());
        head.extend_from_slice(&FORM.to_le_bytes());
        head.extend_from_slice(&number.to_le_bytes());
        for word in [nonce, life, base] {
            head.extend_from_slice(&word.to_le_bytes());
        }
        head.resize(size(SECTOR), 0);
        let crc = seed.crc(Part::FeedHead, 0, head.get(4..).unwrap_or_default());
        if let Some(place) = head.get_mut(..4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        file.write_at(0, &head)?;
        file.sync()?;
        let known = Mutex::new(Some(Known { marks: Vec::new(), end: FRAMES_AT }));
        let bytes = file.bytes()?;
        Ok(Self { number, life, base, bytes, seed, file, known })
    }

    /// The slot of that number as it stands; `None` if nothing that is known begins with its header.
    pub(super) fn open(
        file: Arc<dyn PlainFile>,
        secret: &[u8; 16],
        number: u32,
    ) -> io::Result<Option<Self>> {
        let mut head = vec![0; size(SECTOR)];
        file.read_at(0, &mut head)?;
        let bytes = file.bytes()?;
        let known = Mutex::new(None);
        Ok(parse(&head, secret, number).map(|(seed, life, base)| Self {
            number,
            life,
            base,
            bytes,
            seed,
            file,
            known,
        }))
    }

    fn known(&self) -> MutexGuard<'_, Option<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes through all of it. `tail`: nothing was begun after it, so its last frames may not have reached the disk; what does
    /// not verify in front of others counts as damaged only where it was synced for certain.
    pub(super) fn walk(&self, tail: bool) -> io::Result<Walked> {
        let mut all = vec![0; size(self.bytes)];
        self.file.read_at(0, &mut all)?;
        let frames = self.frames(&all);
        let synced = frames.iter().map(|(_, head)| u64::from(head.synced)).max();
        let synced = if tail { synced.unwrap_or_default() } else { u64::MAX };
        let mut walked =
            Walked { end: FRAMES_AT, told: self.base, newest: 0, holes: 0, torn: None };
        let mut known = Known::default();
        for (offset, head) in &frames {
            // After a sync the next one begins a sector.
            let end = walked.end.next_multiple_of(SECTOR);
            let follows = (*offset == walked.end || *offset == end) && head.before == walked.told;
            if !follows && end >= synced {
                walked.torn = frames.last().map(|(offset, head)| offset + head.padded());
                break;
            }
            walked.holes += u64::from(!follows);
            known.mark(head.before, *offset);
            walked.end = offset + head.padded();
            walked.told = head.told;
            walked.newest = walked.newest.max(head.newest);
        }
        known.end = walked.end;
        *self.known() = Some(known);
        Ok(walked)
    }

    /// Where frames that verify begin.
    fn frames(&self, all: &[u8]) -> Vec<(u64, Head)> {
        let mut frames = Vec::new();
        let mut at = FRAMES_AT;
        while let Some(bytes) = all.get(size(at)..).filter(|bytes| !bytes.is_empty()) {
            match frame::at(self.seed, at, bytes, bytes.len() as u64) {
                Found::Frame(head, _) => {
                    frames.push((at, head));
                    at += head.padded();
                }
                Found::Longer(_) | Found::Nothing => at += ALIGN,
            }
        }
        frames
    }

    /// A frame was written there.
    pub(super) fn added(&self, head: &Head, offset: u64) {
        if let Some(known) = self.known().as_mut() {
            known.mark(head.before, offset);
            known.end = offset + head.padded();
        }
    }

    /// Nothing stands in it from here on that counts.
    pub(super) fn wipe(&self, from: u64, to: u64) -> io::Result<()> {
        self.file.write_at(from, &vec![0; size(to.saturating_sub(from))])?;
        self.file.sync()
    }

    /// Reads events of records after a sequence, until there are `limit`.
    pub(super) fn read(
        &self,
        after: u64,
        limit: usize,
        events: &mut Vec<FeedEvent>,
    ) -> io::Result<()> {
        if self.known().is_none() {
            self.walk(false)?;
        }
        let Some((mut at, end)) = self.known().as_ref().map(|known| known.place(after)) else {
            return Ok(());
        };
        let mut want = size(PIECE);
        let mut piece = Vec::new();
        while at < end {
            piece.resize(want.min(size(end - at)), 0);
            self.file.read_at(at, &mut piece)?;
            let (mut done, mut next) = (0, size(PIECE));
            while let Some(bytes) = piece.get(done..).filter(|bytes| !bytes.is_empty()) {
                let offset = at + done as u64;
                match frame::at(self.seed, offset, bytes, end - offset) {
                    Found::Frame(head, found) => {
                        if head.told > after && !take(head, found, after, limit, events) {
                            return Ok(());
                        }
                        done += size(head.padded());
                    }
                    Found::Longer(len) if len > bytes.len() => {
                        next = len.max(next);
                        break;
                    }
                    Found::Longer(_) | Found::Nothing => done += size(ALIGN),
                }
            }
            // What cannot be one begins no frame, however much of it is read.
            if done == 0 && next <= want {
                done = size(ALIGN);
            }
            at += done as u64;
            want = next;
        }
        Ok(())
    }
}

/// Takes a frame's events; false once there are enough.
fn take(head: Head, found: &[u8], after: u64, limit: usize, events: &mut Vec<FeedEvent>) -> bool {
    for event in frame::events(head, found).filter(|event| event.sequence > after) {
        let same = events.last().is_some_and(|last| last.sequence == event.sequence);
        if events.len() >= limit && !same {
            return false;
        }
        events.push(event);
    }
    true
}

fn parse(head: &[u8], secret: &[u8; 16], number: u32) -> Option<(Seed, u64, u64)> {
    let mut take = Take(head);
    let crc = take.u32()?;
    let magic: [u8; 8] = take.array()?;
    let (_, oldest) = (take.u16()?, take.u16()?);
    let own = take.u32()?;
    let (nonce, life, base) = (take.u64()?, take.u64()?, take.u64()?);
    let seed = Seed::of_feed(secret, number, nonce);
    let sound = crc == seed.crc(Part::FeedHead, 0, head.get(4..)?);
    (sound && magic == MAGIC && oldest <= FORM && own == number).then_some((seed, life, base))
}

impl Known {
    fn mark(&mut self, before: u64, offset: u64) {
        if self.marks.last().is_none_or(|(_, last)| offset >= last + MARK) {
            self.marks.push((before, offset));
        }
    }

    /// Where to look for what comes after a sequence, and where it ends.
    fn place(&self, after: u64) -> (u64, u64) {
        let n = self.marks.partition_point(|(before, _)| *before <= after);
        let mark = n.checked_sub(1).and_then(|n| self.marks.get(n));
        (mark.map_or(FRAMES_AT, |(_, offset)| *offset), self.end)
    }
}
