//! The journal: every [`Record`](crate::record::Record), in order, durable. The truth of the embedded buffer.
//!
//! # What it promises
//! - [`Journal::append`] returns only after every record is on the disk, in a *group*: one direct, synchronous write,
//!   or a buffered one and an `fdatasync`. After any failed or short one it is poisoned for good and says so; it never
//!   tries again.
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
//! journal.durable_sequence()              // the i-th record of the next append gets this + 1 + i
//! journal.append(&[record, ...])?         // -> Vec<Placed { sequence, location }>, all durable
//! journal.reader().read(location)?        // Clone + Send + Sync: the whole record with its body, verified
//! journal.prove()?                        // on idle: an empty group that proves the last one
//! journal.segments()                      // oldest first: epoch, bytes, records
//! journal.retire(below_epoch)?            // after a durable Record::Checkpoint { retired_below: below_epoch, .. }
//! ```
//! A record's location moves when it is carried forward by [`Journal::carry`]; count live records per
//! [`Location::epoch`]. Appending an order's record (accept, replace, ...) can be refused as
//! [`WriteError::Full`]; settles and carry-forward have two slots of their own and still go in, so do not mix an
//! order's record with them in one append when the disk budget is nearly used up.
//!
//! The bytes are described in `docs/format-1.md`.

#[cfg(forebay_control)]
mod broken;
pub(super) mod files;
mod group;
mod header;
pub(super) mod layout;
mod reader;
mod recovery;
mod seal;
mod slots;
#[cfg(test)]
pub(super) mod tests;
mod types;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use files::WriteMode;
pub(crate) use reader::Reader;
pub use recovery::{Damage, DamageKind, SegmentSummary};
pub(crate) use recovery::{Look, LookError, Recovered, look};
pub(crate) use types::{
    DamagedRecord, DiskUse, Failed, GoesOn, Location, OpenError, Options, Placed, ReadError,
    Replayed, Restored, Segment, WriteError, hint,
};

use crate::metrics;
use crate::record::Record;
use reader::Live;
use writer::Writer;

/// The journal, open for writing by this process alone.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Gone for good after a failed write or sync: nothing is left that could write.
    writer: Result<Writer, Failed>,
    live: Arc<Live>,
    disk_max: u64,
}

impl Journal {
    /// Opens the journal in `dir` (made if need be, readable by this user only) after recovering it. When
    /// this returns, everything that [`Recovered`] replays is durable. Blocks for as long as reading all
    /// descriptors takes.
    ///
    /// # Errors
    /// [`OpenError`]. For `Locked`, `UnknownFormat`, `Newer`, `NoDirect` and `Options` nothing was touched. `NoRoom` and `Io` may
    /// have begun a fresh segment, which the next start takes for what it is.
    pub(crate) fn open(dir: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        let (writer, recovered) = recovery::open(dir, &options)?;
        Ok((Self::of(writer, &options), recovered))
    }

    fn of(writer: Writer, options: &Options) -> Self {
        let live = Arc::clone(&writer.live);
        Self { writer: Ok(writer), live, disk_max: options.disk_max }
    }

    /// Makes `records` durable, in order: one group and one sync, or one of each for every 4 MiB. They get the
    /// sequences after [`Journal::durable_sequence`]. Blocks on the disk.
    ///
    /// # Errors
    /// [`WriteError`]; `Full`, `TooLarge` and `NotRetirable` wrote nothing, `Failed` ends the journal.
    pub(crate) fn append(&mut self, records: &[Record]) -> Result<Vec<Placed>, WriteError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|writer| writer.append(records, false))
    }

    /// Like [`Journal::append`], for records that carry older ones forward: all of them may use the reserve, orders'
    /// contents too, for they make room in the end.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn carry(&mut self, records: &[Record]) -> Result<Vec<Placed>, WriteError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.write(|writer| writer.append(records, true))
    }

    /// Writes an empty group if the last one holds records, to prove it: damage to it is from then on told from
    /// a group that was being written when the power went. For an idle writer, after a second. True if it
    /// wrote.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub(crate) fn prove(&mut self) -> Result<bool, WriteError> {
        if !self.unproven() {
            return Ok(false);
        }
        self.write(Writer::prove).map(|()| true)
    }

    /// Whether the last group holds records and no later group proves it.
    pub(crate) fn unproven(&self) -> bool {
        self.writer.as_ref().is_ok_and(|writer| writer.chain.unproven)
    }

    /// Sequence of the first record of the next append. Starts at 1; never used twice, but not every one is used.
    #[cfg(test)]
    pub(crate) fn next_sequence(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.chain.next_seq)
    }

    /// The highest durable sequence.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.chain.durable_seq)
    }

    /// Epoch of the open segment, which cannot be retired.
    pub(crate) fn epoch(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.open.place.epoch)
    }

    /// Segments not yet retired, oldest first; the last is the open one.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        self.writer.as_ref().map_or(Vec::new(), |writer| writer.segments.iter().copied().collect())
    }

    /// Gives the slots of all segments below `below_epoch` back. A durable [`Record::Checkpoint`] must name that
    /// epoch or a later one, and none may be live in them; reads of what they held fail as recycled from now on.
    ///
    /// # Errors
    /// [`WriteError::NotRetirable`] without such a checkpoint, or for the open segment.
    pub(crate) fn retire(&mut self, below_epoch: u64) -> Result<(), WriteError> {
        self.write(|writer| writer.retire(below_epoch))
    }

    /// Every epoch below this one is retired; 0 before the first is.
    pub(crate) fn retired_below(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.retired_below)
    }

    /// Bytes of a slot.
    pub(crate) fn slot_bytes(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.store.slot_bytes)
    }

    /// Disk taken, and by what.
    pub(crate) fn disk_use(&self) -> DiskUse {
        let Ok(writer) = &self.writer else {
            return DiskUse { bytes_max: self.disk_max, ..DiskUse::default() };
        };
        let (total, spare, quarantined) = writer.slots.counts();
        DiskUse {
            bytes: u64::from(total) * writer.store.slot_bytes,
            bytes_max: self.disk_max,
            segments: writer.segments.len() as u64,
            spare: u64::from(spare),
            quarantined: u64::from(quarantined),
            written: writer.slots.bytes_written(),
            payload: writer.payload,
        }
    }

    /// Whether an order may still need a new segment without touching the reserve. When false, refuse at the door
    /// before an append is refused as [`WriteError::Full`].
    pub(crate) fn room_for_orders(&self) -> bool {
        self.writer.as_ref().is_ok_and(|writer| writer.slots.room_for_growth())
    }

    /// Whether so many bytes of carried records surely fit: into a slot that is left, or else into half of what the
    /// open segment has left. Where they do not, to begin with them would fill what settles need.
    pub(crate) fn room_to_carry(&self, bytes: u64) -> bool {
        self.writer.as_ref().is_ok_and(|writer| writer.room_to_carry(bytes))
    }

    /// Whether the notes of a loan may still be written without touching what carry-forward and settles need to
    /// make room again.
    pub(crate) fn room_to_lend(&self) -> bool {
        self.writer.as_ref().is_ok_and(|writer| writer.room_to_lend())
    }

    /// The store's identity, made when it was created and copied with the directory.
    #[cfg(test)]
    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.writer.as_ref().map_or([0; 16], |writer| writer.store.uuid)
    }

    /// The store's secret, for keyed hashes that mean nothing outside this store.
    pub(crate) fn store_secret(&self) -> [u8; 16] {
        self.writer.as_ref().map_or([0; 16], |writer| writer.store.secret)
    }

    /// How groups reach the disk: never [`WriteMode::Auto`].
    pub(crate) fn write_mode(&self) -> WriteMode {
        self.writer.as_ref().map_or(WriteMode::Auto, |writer| writer.slots.write_mode())
    }

    /// A reader; it works on after the journal failed.
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.live))
    }

    /// Why the journal takes nothing more, if so.
    #[cfg(test)]
    pub(crate) fn failed(&self) -> Option<&Failed> {
        self.writer.as_ref().err()
    }

    /// Opens a journal on a test's ground.
    #[cfg(test)]
    fn open_on(
        ground: recovery::Ground,
        options: &Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let (writer, recovered) = recovery::open_on(ground, Path::new("disk"), options)?;
        Ok((Self::of(writer, options), recovered))
    }

    /// Slot of the open segment.
    #[cfg(test)]
    fn slot_of_open(&self) -> u32 {
        self.writer.as_ref().map_or(u32::MAX, |writer| writer.open.slot.number)
    }

    /// Does the filler's work now.
    #[cfg(test)]
    pub(super) fn pump(&self) {
        if let Ok(writer) = &self.writer {
            writer.slots.pump();
        }
    }

    /// Waits until the pool of spare slots is as full as it gets.
    #[cfg(test)]
    fn wait_until_idle(&self) {
        if let Ok(writer) = &self.writer {
            writer.slots.wait_until_full();
        }
    }

    /// Waits until there are so many spare slots; false if they do not come.
    #[cfg(test)]
    fn wait_for_spare(&self, spare: impl std::ops::RangeBounds<u32>) -> bool {
        self.writer.as_ref().is_ok_and(|writer| writer.slots.wait_for_spare(spare))
    }

    /// Runs one call of the writer; if it fails at a write or sync, that was the last one.
    fn write<T>(
        &mut self,
        call: impl FnOnce(&mut Writer) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let writer = match &mut self.writer {
            Ok(writer) => writer,
            Err(failed) => return Err(failed.clone().into()),
        };
        let done = call(writer);
        if let Err(WriteError::Failed(failed)) = &done {
            metrics::journal_failed();
            self.writer = Err(failed.clone());
        }
        done
    }
}
