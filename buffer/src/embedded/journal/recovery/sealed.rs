//! A full segment by the index at its end, without a walk along its groups.

use std::sync::Arc;

use super::super::files::{SlotFile, name};
use super::super::group::{
    COPIES_END, COPY, Described, Descriptor, GroupHeader, HEADER, Place, SEAL, descriptors,
};
use super::super::layout::{BLOCK, GROUPS_AT, size};
use super::super::seal::{ENTRY, FROM_END_MAX, Head, IndexEntry};
use super::super::types::OpenError;
use super::segment::{Records, decode};
use super::window::Window;
use crate::codec::kinds;

/// Bytes read at once to find the index, and to read one descriptor.
const PIECE: u64 = 1 << 20;
const SINGLE: u64 = 64 << 10;
/// So many descriptors are read one by one even in a small slot.
const SINGLES: u64 = 64;

/// The index of a full segment, and the records it does not tell all about.
#[derive(Debug)]
pub(super) struct Sealed {
    head: Head,
    entries: Vec<u8>,
    /// What the entries do not tell, read one by one.
    pub(super) singles: Records,
    /// Records the index names that cannot be read.
    pub(super) lost: u64,
    /// The segment's first group, and its last.
    pub(super) first: GroupHeader,
    pub(super) last: (u64, GroupHeader),
}

impl Sealed {
    /// Loads it; `None` where there is none that can be used, so that the segment must be walked.
    ///
    /// # Errors
    /// [`OpenError::Newer`] for a record that only a later release understands.
    pub(super) fn load(place: Place, file: &Arc<dyn SlotFile>) -> Result<Option<Self>, OpenError> {
        let mut window = Window::of_pieces(file, place.slot_bytes, PIECE);
        let found = find_end(&place, &mut window).and_then(|last| {
            let head = head_at(&place, &mut window, last)?;
            let entries = entries(&place, &mut window, head, last)?;
            let first = first(&place, &mut window)?;
            let (singles, lost) = (Records::default(), 0);
            let sealed = Self { head, entries, singles, lost, first, last };
            // Many small reads take longer than one long one.
            let singles = sealed.iter().filter(|entry| entry.plain.is_none()).count() as u64;
            (singles <= SINGLES.max(last.0 / SINGLE)).then_some(sealed)
        });
        let Some(mut sealed) = found else { return Ok(None) };
        sealed.read_singles(&place, file)?;
        Ok(Some(sealed))
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        self.entries.len() + self.singles.bytes()
    }

    /// Its entries, in order of place.
    pub(super) fn iter(&self) -> impl Iterator<Item = IndexEntry> {
        let base = self.head.base_seq;
        self.entries.chunks_exact(ENTRY).filter_map(move |entry| IndexEntry::parse(entry, base))
    }

    fn read_singles(&mut self, place: &Place, file: &Arc<dyn SlotFile>) -> Result<(), OpenError> {
        let mut window = Window::of_pieces(file, place.slot_bytes, SINGLE);
        let mut singles = Records::default();
        let mut lost = 0;
        for entry in self.iter().filter(|entry| entry.plain.is_none()) {
            let known = (kinds::ACCEPT..=kinds::CHECKPOINT).contains(&entry.kind);
            if !known && entry.skippable {
                continue;
            }
            let Some(described) = single(place, &mut window, &entry) else {
                lost += 1;
                continue;
            };
            let descriptor = described.descriptor;
            decode(place.slot, descriptor.kind, descriptor.flags, described.extensions)?;
            singles.push(0, &described);
        }
        if lost > 0 {
            tracing::debug!(slot = name(place.slot), lost, "records the index names do not verify");
        }
        (self.singles, self.lost) = (singles, lost);
        Ok(())
    }
}

/// The descriptor an entry names.
fn single<'a>(place: &Place, window: &'a mut Window, entry: &IndexEntry) -> Option<Described<'a>> {
    let offset = u64::from(entry.offset);
    let len = Descriptor::peek(place, offset, window.get(offset, HEADER as u64))?;
    let bytes = window.get(offset, u64::from(len));
    let (descriptor, extensions) = Descriptor::parse(place, offset, bytes)?;
    let same = descriptor.sequence == entry.sequence && descriptor.kind == entry.kind;
    same.then_some(Described { offset, descriptor, extensions })
}

/// The first group of the segment. One of copies must be whole: where it is not, the originals are still there.
fn first(place: &Place, window: &mut Window) -> Option<GroupHeader> {
    let first = GroupHeader::parse(place, GROUPS_AT, window.get(GROUPS_AT, BLOCK))?;
    if first.flags & COPY == 0 {
        return Some(first);
    }
    let front = window.get(GROUPS_AT, HEADER as u64 + u64::from(first.desc_bytes));
    let whole = descriptors(place, GROUPS_AT, &first, front).is_some();
    (whole && first.flags & COPIES_END != 0).then_some(first)
}

/// The last group of the slot, if it is a seal's.
fn find_end(place: &Place, window: &mut Window) -> Option<(u64, GroupHeader)> {
    let lowest = place.slot_bytes.saturating_sub(FROM_END_MAX).max(GROUPS_AT);
    let mut end = place.slot_bytes;
    while end > lowest {
        let start = end.saturating_sub(PIECE).max(lowest);
        let piece = window.get(start, end - start);
        let blocks = piece.chunks(size(BLOCK)).enumerate().rev();
        let offsets = blocks.map(|(block, bytes)| (start + block as u64 * BLOCK, bytes));
        let mut groups = offsets.filter_map(|(offset, bytes)| {
            GroupHeader::parse(place, offset, bytes).map(|header| (offset, header))
        });
        if let Some(last) = groups.next() {
            return (last.1.flags & SEAL != 0).then_some(last);
        }
        end = start;
    }
    None
}

/// The head of the index, from its last part.
fn head_at(
    place: &Place,
    window: &mut Window,
    (offset, header): (u64, GroupHeader),
) -> Option<Head> {
    let front = window.get(offset, HEADER as u64 + u64::from(header.desc_bytes));
    let [seal] = descriptors(place, offset, &header, front)?.try_into().ok()?;
    let head = Head::parse(seal.extensions)?;
    let whole = seal.descriptor.kind == kinds::SEAL && head.part.checked_add(1)? == head.parts;
    whole.then_some(head)
}

/// The entries of all parts, each of them verified and following from the one before.
fn entries(
    place: &Place,
    window: &mut Window,
    head: Head,
    (last_at, last): (u64, GroupHeader),
) -> Option<Vec<u8>> {
    let mut entries = Vec::new();
    let mut at = u64::from(head.starts_at);
    let mut before: Option<GroupHeader> = None;
    for part in 0..head.parts {
        let header = GroupHeader::parse(place, at, window.get(at, BLOCK))?;
        let follows = before.is_none_or(|before| {
            header.prev_crc == before.crc && before.group_no.checked_add(1) == Some(header.group_no)
        });
        let bytes = window.get(at, header.bytes());
        let [seal] = descriptors(place, at, &header, bytes)?.try_into().ok()?;
        let agrees = Head::parse(seal.extensions)? == Head { part, ..head };
        let body_at = u64::from(seal.descriptor.body_at).checked_sub(at)?;
        let body = bytes.get(size(body_at)..)?.get(..size(u64::from(seal.descriptor.body_len)))?;
        let sound = follows && agrees && header.flags & SEAL != 0;
        if !sound || !seal.descriptor.verifies(place, body) || at > last_at {
            return None;
        }
        entries.extend_from_slice(body);
        at += header.bytes();
        before = Some(header);
    }
    let complete = before == Some(last)
        && entries.len() == size(u64::from(head.records)).checked_mul(ENTRY)?
        && entries
            .chunks_exact(ENTRY)
            .all(|entry| IndexEntry::parse(entry, head.base_seq).is_some());
    complete.then_some(entries)
}
