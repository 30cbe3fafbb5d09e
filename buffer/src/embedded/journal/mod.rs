//! The journal: every [`Record`](crate::record::Record), in order, durable. The truth of the embedded buffer.
//!
//! # What it promises
//! - [`Journal::append`] returns only after every record is on the disk (`fdatasync`), in a *group*; after any
//!   failed write or sync it is poisoned for good and says so; it never tries again.
//! - [`Journal::open`] never appends to, truncates or trusts what it found at the end: it copies the last
//!   group, which nothing after it proves, into a fresh segment, syncs, and only then serves.
//! - What does not verify is never returned as a record, and never makes its slot a spare one.
//!   It is listed in [`Recovered`], and the start goes on.
//! - Segments are retired strictly oldest first, and only below a durable checkpoint.
//!
//! # How to use it
//! ```text
//! let (mut journal, mut recovered) = Journal::open(dir, options)?;   // OpenError: nothing was touched, or no room
//! recovered.replay(|restored| ...)?;      // every record once, by ascending sequence; bodies stay on disk
//! journal.next_sequence()                 // sequence of the first record of the next append; the i-th gets +i
//! journal.append(&[record, ...])?         // -> Vec<Placed { sequence, location }>, all durable
//! journal.reader().read(location)?        // Clone + Send + Sync: the whole record with its body, verified
//! journal.prove()?                        // on idle: an empty group that proves the last one
//! journal.segments()                      // oldest first: epoch, bytes, records
//! journal.retire(below_epoch)?            // after a durable Record::Checkpoint { retired_below: below_epoch, .. }
//! ```
//! A record's location moves when it is appended again as `Moved`; count live records per
//! [`Location::epoch`]. Appending an order's record (accept, replace, ...) can be refused as
//! [`WriteError::Full`]; settles and carry-forward have two slots of their own and still go in, so do not mix the two
//! kinds in one append when the disk budget is nearly used up.
//!
//! The bytes are described in `docs/format-1.md`.
#![allow(dead_code, unused_imports, reason = "the writer thread and state machine come next")]

mod types;

pub(crate) use types::{
    DamagedRecord, DiskUse, Failed, Location, OpenError, Options, Placed, ReadError, Restored,
    Segment, WriteError,
};

// The rest of the interface, to be filled in:
//
// impl Journal {
//     pub(crate) fn open(dir: &Path, options: Options) -> Result<(Journal, Recovered), OpenError>;
//     pub(crate) fn append(&mut self, records: &[Record]) -> Result<Vec<Placed>, WriteError>;
//     pub(crate) fn prove(&mut self) -> Result<bool, WriteError>;   // true if a group was written
//     pub(crate) fn unproven(&self) -> bool;                        // the last group holds records
//     pub(crate) fn next_sequence(&self) -> u64;
//     pub(crate) fn durable_sequence(&self) -> u64;
//     pub(crate) fn epoch(&self) -> u64;                            // of the open segment
//     pub(crate) fn segments(&self) -> Vec<Segment>;
//     pub(crate) fn retire(&mut self, below_epoch: u64) -> Result<(), WriteError>;
//     pub(crate) fn disk_use(&self) -> DiskUse;
//     pub(crate) fn room_for_orders(&self) -> bool;                 // cheap; false: shed at the door
//     pub(crate) fn store_id(&self) -> [u8; 16];
//     pub(crate) fn store_secret(&self) -> [u8; 32];                // for keyed hashes of keys
//     pub(crate) fn reader(&self) -> Reader;
//     pub(crate) fn failed(&self) -> Option<&Failed>;
// }
// impl Reader { // Clone + Send + Sync
//     pub(crate) fn read(&self, location: Location) -> Result<(u64 /* sequence */, Record), ReadError>;
//     pub(crate) fn head(&self, location: Location) -> Result<(u64, Record), ReadError>; // without the body
// }
// impl Recovered {
//     pub(crate) fn replay(&mut self, apply: impl FnMut(Restored)) -> Result<(), ReadError>;
//     pub(crate) fn damaged(&self) -> &[DamagedRecord];
//     pub(crate) fn report(&self) -> &[String];    // for people; empty when all was clean
// }
