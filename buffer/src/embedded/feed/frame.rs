//! Frames: events that were written together, with a checksum, found again by itself.

use super::super::journal::layout::{Part, Seed, size};
use super::entry;
use crate::FeedEvent;
use crate::codec::Take;

/// A frame begins at a multiple of this.
pub(super) const ALIGN: u64 = 64;
/// What was synced is never written to again, by the sector.
pub(super) const SECTOR: u64 = 512;
/// Bytes in front of a frame's events.
const HEAD: usize = 40;
/// A frame is closed once it is so long; one record's events are never torn apart.
const FULL: usize = 32 << 10;

/// What stands in front of a frame's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of the frame, without padding.
    bytes: u32,
    /// With it, what the records up to this sequence made of orders is told.
    pub(super) told: u64,
    /// What the frame before it, or the slot's header, says of that.
    pub(super) before: u64,
    /// What stands below this offset of the slot was synced before.
    pub(super) synced: u32,
    events: u32,
    /// Sequence of its last event, or 0.
    pub(super) newest: u64,
}

impl Head {
    /// Bytes up to where the next frame may begin.
    pub(super) fn padded(&self) -> u64 {
        u64::from(self.bytes).next_multiple_of(ALIGN)
    }
}

/// What stands at a place.
pub(super) enum Found<'a> {
    Frame(Head, &'a [u8]),
    /// It may be one of that many bytes, which are not all there.
    Longer(usize),
    Nothing,
}

/// The frame at `offset`, if one stands in front of `bytes`.
pub(super) fn at(seed: Seed, offset: u64, bytes: &[u8], room: u64) -> Found<'_> {
    let Some(head) = parse(bytes) else {
        return if bytes.len() < HEAD && (bytes.len() as u64) < room {
            Found::Longer(HEAD)
        } else {
            Found::Nothing
        };
    };
    let len = size(head.bytes.into());
    if len < HEAD || u64::from(head.bytes) > room {
        return Found::Nothing;
    }
    let Some(frame) = bytes.get(..len) else { return Found::Longer(len) };
    let Some((crc, rest)) = frame.split_first_chunk() else { return Found::Nothing };
    if u32::from_le_bytes(*crc) != seed.crc(Part::Frame, offset, rest) {
        return Found::Nothing;
    }
    Found::Frame(head, frame.get(HEAD..).unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let mut take = Take(bytes.get(4..HEAD)?);
    let bytes = take.u32()?;
    let (told, before, newest) = (take.u64()?, take.u64()?, take.u64()?);
    Some(Head { bytes, told, before, newest, synced: take.u32()?, events: take.u32()? })
}

/// The events of a frame; those that a later release wrote and this one does not know are left out with all behind them.
pub(super) fn events(head: Head, events: &[u8]) -> impl Iterator<Item = FeedEvent> {
    let mut take = Take(events);
    (0..head.events).map_while(move |_| entry::take(&mut take, head.before))
}

/// A frame that is being filled.
#[derive(Debug)]
pub(super) struct Filling {
    bytes: Vec<u8>,
    before: u64,
    newest: u64,
    events: u32,
}

impl Filling {
    /// An empty one behind one with which everything up to `before` is told.
    pub(super) fn after(before: u64) -> Self {
        Self { bytes: vec![0; HEAD], before, newest: 0, events: 0 }
    }

    pub(super) fn add(&mut self, event: &FeedEvent) {
        entry::put(&mut self.bytes, self.before, event);
        self.newest = event.sequence;
        self.events += 1;
    }

    /// Whether an event of that sequence belongs into another one.
    pub(super) fn is_full_for(&self, sequence: u64) -> bool {
        self.bytes.len() >= FULL && sequence != self.newest
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Bytes it takes.
    pub(super) fn padded(&self) -> u64 {
        (self.bytes.len() as u64).next_multiple_of(ALIGN)
    }

    /// The frame for that place, where everything below `synced` was synced.
    pub(super) fn close(
        mut self,
        seed: Seed,
        offset: u64,
        told: u64,
        synced: u64,
    ) -> (Head, Vec<u8>) {
        let head = Head {
            bytes: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            told,
            before: self.before,
            synced: u32::try_from(synced).unwrap_or(u32::MAX),
            events: self.events,
            newest: self.newest,
        };
        let mut front = Vec::with_capacity(HEAD);
        front.extend_from_slice(&[0; 4]);
        front.extend_from_slice(&head.bytes.to_le_bytes());
        for word in [head.told, head.before, head.newest] {
            front.extend_from_slice(&word.to_le_bytes());
        }
        front.extend_from_slice(&head.synced.to_le_bytes());
        front.extend_from_slice(&head.events.to_le_bytes());
        if let Some(place) = self.bytes.get_mut(..HEAD) {
            place.copy_from_slice(&front);
        }
        let crc = seed.crc(Part::Frame, offset, self.bytes.get(4..).unwrap_or_default());
        if let Some(place) = self.bytes.get_mut(..4) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
        self.bytes.resize(size(self.padded()), 0);
        (head, self.bytes)
    }
}
