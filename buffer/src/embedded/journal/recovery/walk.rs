//! Along a segment from group to group, past what does not verify.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::super::files::SlotFile;
use super::super::group::{self, Described, Descriptor, GroupHeader, HEADER, Place, descriptors};
use super::super::layout::{BLOCK, GROUPS_AT, Part, Seed};
use super::window::Window;

/// What stands next in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Group {
        offset: u64,
        header: GroupHeader,
    },
    /// Nothing here verifies, but a later group of the segment does: damage.
    Hole(Range<u64>),
    /// The end. `tail`: where something that does not verify may stand; `None` if the end is a clean one.
    End {
        tail: Option<u64>,
    },
}

/// Walks one segment.
#[derive(Debug)]
pub(super) struct Walker {
    place: Place,
    window: Window,
    at: u64,
    last: Option<GroupHeader>,
    /// Number of the first group after this segment, where there is one.
    next_group: Option<u64>,
}

impl Walker {
    pub(super) fn new(place: Place, file: &Arc<dyn SlotFile>, next_group: Option<u64>) -> Self {
        let window = Window::of_pieces(file, place.slot_bytes, 1 << 20);
        Self { place, window, at: GROUPS_AT, last: None, next_group }
    }

    pub(super) fn next(&mut self) -> Step {
        if let Some(header) = self.valid(self.at) {
            let offset = self.at;
            self.at += header.bytes();
            self.last = Some(header);
            return Step::Group { offset, header };
        }
        let sealed = self.last.is_some_and(|last| last.flags & group::SEAL != 0);
        let complete = match (self.last, self.next_group) {
            (Some(last), Some(next)) => last.group_no.saturating_add(1) == next,
            _ => false,
        };
        if sealed || complete || self.at >= self.place.slot_bytes {
            return Step::End { tail: None };
        }
        let mut later = self.at + BLOCK;
        while later < self.place.slot_bytes {
            if self.valid(later).is_some() {
                let hole = self.at..later;
                self.at = later;
                return Step::Hole(hole);
            }
            later += BLOCK;
        }
        Step::End { tail: Some(self.at) }
    }

    /// The group at `offset`, if all but its bodies verifies and its number is between its neighbours'.
    fn valid(&mut self, offset: u64) -> Option<GroupHeader> {
        let header = GroupHeader::parse(&self.place, offset, self.window.get(offset, BLOCK))?;
        // A group as young as the next segment's first one was given up when that segment was begun: it came to the
        // disk later.
        let fits = self.last.is_none_or(|last| header.group_no > last.group_no)
            && self.next_group.is_none_or(|next| header.group_no < next);
        (fits && self.descriptors(offset, &header).is_some()).then_some(header)
    }

    /// The descriptors of the group at `offset`.
    pub(super) fn descriptors(
        &mut self,
        offset: u64,
        header: &GroupHeader,
    ) -> Option<Vec<Described<'_>>> {
        let front = self.window.get(offset, HEADER as u64 + u64::from(header.desc_bytes));
        descriptors(&self.place, offset, header, front)
    }

    /// The header at `offset` even if its descriptors do not verify.
    pub(super) fn header(&mut self, offset: u64) -> Option<GroupHeader> {
        GroupHeader::parse(&self.place, offset, self.window.get(offset, BLOCK))
    }

    pub(super) fn unreadable(&self) -> u64 {
        self.window.unreadable()
    }
}

/// One record found by itself, without trusting the group around it.
#[derive(Clone, Debug)]
pub(super) struct Salvaged {
    pub(super) offset: u64,
    pub(super) descriptor: Descriptor,
    pub(super) extensions: Vec<u8>,
    /// `None`: the descriptor verifies and the body does not.
    pub(super) body: Option<Bytes>,
}

/// Reads the bodies of a segment's records, by their descriptors.
#[derive(Debug)]
pub(super) struct Bodies {
    place: Place,
    window: Window,
}

impl Bodies {
    pub(super) fn new(place: Place, file: &Arc<dyn SlotFile>) -> Self {
        Self { place, window: Window::new(file, place.slot_bytes) }
    }

    /// Whether the body verifies.
    pub(super) fn verify(&mut self, descriptor: &Descriptor) -> bool {
        let (at, len) = (u64::from(descriptor.body_at), u64::from(descriptor.body_len));
        let place = self.place;
        descriptor.verifies(&place, self.window.get(at, len))
    }

    /// The body, if it verifies.
    pub(super) fn get(&mut self, descriptor: &Descriptor) -> Option<Bytes> {
        let (at, len) = (u64::from(descriptor.body_at), u64::from(descriptor.body_len));
        let bytes = self.window.get(at, len);
        descriptor.verifies(&self.place, bytes).then(|| Bytes::copy_from_slice(bytes))
    }
}

/// Every record in `range` that verifies by itself: descriptors are looked for at every multiple of 8, whatever
/// stands between them.
pub(super) fn salvage(place: Place, file: &Arc<dyn SlotFile>, range: Range<u64>) -> Vec<Salvaged> {
    const PIECE: u64 = 64 << 10;
    let mut scan = Window::new(file, place.slot_bytes);
    let mut detail = Window::new(file, place.slot_bytes);
    let mut bodies = Bodies::new(place, file);
    let mut found: Vec<Salvaged> = Vec::new();
    let mut at = range.start;
    let mut past = range.start;
    while at < range.end.min(place.slot_bytes) {
        let piece = scan.get(at, PIECE.min(range.end - at));
        for (word, bytes) in piece.chunks_exact(8).enumerate() {
            let offset = at + word as u64 * 8;
            let mark = place.seed.mark(Part::Descriptor, offset).to_le_bytes();
            if offset < past || !bytes.starts_with(&mark) {
                continue;
            }
            let head = detail.get(offset, group::DESCRIPTOR as u64);
            let Some(len) = Descriptor::peek(&place, offset, head) else { continue };
            let whole = detail.get(offset, u64::from(len));
            let Some((descriptor, extensions)) = Descriptor::parse(&place, offset, whole) else {
                continue;
            };
            let body = bodies.get(&descriptor);
            found.push(Salvaged { offset, descriptor, extensions: extensions.to_vec(), body });
            past = offset + u64::from(len);
        }
        at += PIECE;
    }
    found
}

/// Whether a slot never held anything: zeros but for the first copy of a header, which is written before the second.
pub(super) fn is_unused(file: &Arc<dyn SlotFile>, slot_bytes: u64) -> bool {
    let mut window = Window::new(file, slot_bytes);
    let mut at = BLOCK;
    while at < slot_bytes {
        let piece = window.get(at, 64 << 10);
        if piece.iter().any(|byte| *byte != 0) || window.unreadable() > 0 {
            return false;
        }
        at += 64 << 10;
    }
    true
}

/// The youngest epoch of which the slot holds a group that verifies; for a slot whose headers are lost.
pub(super) fn probe(secret: &[u8; 16], place: Place, file: &Arc<dyn SlotFile>) -> Option<u64> {
    let mut window = Window::new(file, place.slot_bytes);
    let mut youngest = None;
    let mut at = GROUPS_AT;
    while at < place.slot_bytes {
        let bytes = window.get(at, BLOCK);
        if let Some(epoch) = GroupHeader::stated_epoch(bytes)
            && youngest.is_none_or(|known| epoch > known)
        {
            let seed = Seed::new(secret, epoch, place.slot);
            let place = Place { seed, epoch, ..place };
            if GroupHeader::parse(&place, at, bytes).is_some() {
                youngest = Some(epoch);
            }
        }
        at += BLOCK;
    }
    youngest
}

/// Whether the slot's first group is of this or an earlier life, or nothing at all: then nothing was begun in
/// the epoch its header names.
pub(super) fn untouched(secret: &[u8; 16], place: Place, file: &Arc<dyn SlotFile>) -> bool {
    let mut window = Window::new(file, place.slot_bytes);
    let first = window.get(GROUPS_AT, BLOCK);
    if first.iter().all(|byte| *byte == 0) && window.unreadable() == 0 {
        return true;
    }
    let first = window.get(GROUPS_AT, BLOCK);
    let Some(epoch) = GroupHeader::stated_epoch(first) else { return false };
    let seed = Seed::new(secret, epoch, place.slot);
    let earlier = Place { seed, epoch, ..place };
    epoch < place.epoch && GroupHeader::parse(&earlier, GROUPS_AT, first).is_some()
}
