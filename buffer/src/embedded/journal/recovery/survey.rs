//! First look at a data directory: which slots there are, and what their headers say. Touches nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::files::{Aligned, Directory, SlotFile, name};
use super::super::group::Place;
use super::super::header::{Header, OPENED, Parsed, Store};
use super::super::layout::{BLOCK, Seed, size};
use super::super::slots::Slot;
use super::super::types::OpenError;
use super::walk::{is_unused, probe};

/// A slot that holds a segment, by its header or by its groups.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) slot: Slot,
    /// `None` where the header is lost.
    pub(super) prev_epoch: Option<u64>,
    /// Begun by opening the store.
    pub(super) opened: bool,
}

/// What the headers say.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) store: Option<Store>,
    /// Youngest first.
    pub(super) candidates: Vec<Candidate>,
    pub(super) spare: Vec<Slot>,
    /// Slots to be left alone: unreadable, or of another store.
    pub(super) quarantined: u32,
    pub(super) total: u32,
    pub(super) next_number: u32,
    pub(super) max_epoch: u64,
    pub(super) retired_below: u64,
    pub(super) report: Vec<String>,
}

/// One slot file and the better of its headers.
struct Seen {
    slot: Slot,
    header: Option<Header>,
}

pub(super) fn survey(directory: &dyn Directory) -> Result<Survey, OpenError> {
    let numbers = directory.slots().map_err(|source| io("listing the slots", source))?;
    let mut seen = Vec::with_capacity(numbers.len());
    for number in &numbers {
        let open = directory.open(*number);
        let file = open.map_err(|source| io(&format!("opening {}", name(*number)), source))?;
        let header = read_headers(*number, &file)?;
        seen.push(Seen { slot: Slot { number: *number, file }, header });
    }
    let mut survey = Survey {
        store: ours(&seen),
        total: u32::try_from(numbers.len()).unwrap_or(u32::MAX),
        next_number: numbers.last().map_or(0, |last| last + 1),
        ..Survey::default()
    };
    for seen in seen {
        survey.sort_in(seen);
    }
    survey.candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.place.epoch));
    Ok(survey)
}

fn io(what: &str, source: std::io::Error) -> OpenError {
    OpenError::Io { what: what.to_owned(), source }
}

/// The better header of a slot: a valid one, the younger if both are.
fn read_headers(number: u32, file: &Arc<dyn SlotFile>) -> Result<Option<Header>, OpenError> {
    let mut memory = Aligned::default();
    let mut copies = Vec::with_capacity(2);
    for copy in 0..2 {
        let into = memory.bytes_mut(size(BLOCK));
        let read = file.read_device_at(copy * BLOCK, into);
        copies.push(if read.is_ok() { Header::parse(into) } else { Parsed::Invalid });
    }
    let unknown = copies.iter().find_map(|copy| match copy {
        Parsed::Unknown(found) => Some(found.clone()),
        _ => None,
    });
    let both_other = match copies.as_slice() {
        [Parsed::OtherMagic(one), Parsed::OtherMagic(two)] if one == two => Some(one.clone()),
        _ => None,
    };
    if let Some(found) = unknown.or(both_other) {
        return Err(OpenError::UnknownFormat { path: name(number), found });
    }
    let valid = copies.into_iter().filter_map(|copy| match copy {
        Parsed::Valid(header) => Some(header),
        _ => None,
    });
    Ok(valid.max_by_key(|header| header.epoch))
}

/// The store most slots belong to; of two equals, that of the lowest slot.
fn ours(seen: &[Seen]) -> Option<Store> {
    let mut votes: BTreeMap<[u8; 16], (usize, usize, Store)> = BTreeMap::new();
    for (order, header) in seen.iter().filter_map(|seen| seen.header).enumerate() {
        votes.entry(header.store.uuid).or_insert((0, order, header.store)).0 += 1;
    }
    let best =
        votes.into_values().max_by_key(|(count, order, _)| (*count, std::cmp::Reverse(*order)));
    best.map(|(_, _, store)| store)
}

impl Survey {
    fn sort_in(&mut self, seen: Seen) {
        let Seen { slot, header } = seen;
        let file_name = name(slot.number);
        let Some(store) = self.store else {
            self.quarantine_unless_unused(slot, 0);
            return;
        };
        match header {
            None => self.headless(store, slot),
            Some(header) if header.store.uuid != store.uuid => {
                self.quarantined += 1;
                self.report.push(format!(
                    "{file_name} belongs to another store and is left alone; move it out of the directory"
                ));
            }
            Some(header) if header.slot != slot.number => {
                self.quarantined += 1;
                self.report.push(format!(
                    "{file_name} holds slot {} and is left alone; stop the service and give it its name back",
                    name(header.slot)
                ));
            }
            Some(header) => {
                self.max_epoch = self.max_epoch.max(header.epoch);
                self.retired_below = self.retired_below.max(header.retired_below);
                if header.epoch == 0 {
                    self.spare.push(slot);
                } else {
                    if slot.file.bytes().is_ok_and(|bytes| bytes < store.slot_bytes) {
                        self.report.push(format!(
                            "{file_name} is shorter than a slot: its end is missing"
                        ));
                    }
                    self.candidates.push(Candidate {
                        place: place(&store, header.epoch, slot.number),
                        slot,
                        prev_epoch: Some(header.prev_epoch),
                        opened: header.flags & OPENED != 0,
                    });
                }
            }
        }
    }

    /// A slot without a header that verifies: its groups may still say what it is.
    fn headless(&mut self, store: Store, slot: Slot) {
        let unknown = place(&store, 0, slot.number);
        let Some(epoch) = probe(&store.secret, unknown, &slot.file) else {
            self.quarantine_unless_unused(slot, store.slot_bytes);
            return;
        };
        self.report.push(format!(
            "{} has lost both copies of its header; its groups say it is epoch {epoch}",
            name(slot.number)
        ));
        self.max_epoch = self.max_epoch.max(epoch);
        let place = place(&store, epoch, slot.number);
        self.candidates.push(Candidate { place, slot, prev_epoch: None, opened: false });
    }

    fn quarantine_unless_unused(&mut self, slot: Slot, slot_bytes: u64) {
        let bytes = slot.file.bytes().unwrap_or(u64::MAX);
        if is_unused(&slot.file, bytes.max(slot_bytes)) {
            self.spare.push(slot);
        } else {
            self.quarantined += 1;
            self.report.push(format!(
                "{} cannot be read and is set aside; it is never used again",
                name(slot.number)
            ));
        }
    }
}

pub(super) fn place(store: &Store, epoch: u64, slot: u32) -> Place {
    let seed = Seed::new(&store.secret, epoch, slot);
    Place { seed, epoch, slot, slot_bytes: store.slot_bytes }
}
