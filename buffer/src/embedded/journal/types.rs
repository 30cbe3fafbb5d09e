//! What goes in and out of the journal.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::WriteMode;
use crate::Clock;
use crate::digest::Plain;
use crate::record::Record;

/// How a journal is kept.
#[derive(Clone)]
pub(crate) struct Options {
    /// Bytes of one slot file of a new store: a multiple of 4 KiB, from 32 KiB to 1 GiB. A store that exists
    /// keeps the size it was made with.
    pub(crate) slot_bytes: u64,
    /// Spare slots kept filled for a burst.
    pub(crate) burst_reserve: u32,
    /// Bytes of disk all slots together may take; at least five slots.
    pub(crate) disk_max: u64,
    /// How groups reach the disk.
    pub(crate) write_mode: WriteMode,
    /// Where wall time and sync durations come from.
    pub(crate) clock: Arc<dyn Clock>,
    /// What a new store goes on from, if it is not the first of its orders.
    pub(crate) goes_on: Option<GoesOn>,
}

/// Another store, of which a new one takes the orders over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoesOn {
    /// Its secret, so that keys have the same hashes.
    pub(crate) secret: [u8; 16],
    /// The first sequence that is not one of its.
    pub(crate) next_sequence: u64,
}

impl Options {
    /// 64 MiB slots, 16 spare ones, 16 GiB in all.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let write_mode = WriteMode::Auto;
        Self {
            slot_bytes: 64 << 20,
            burst_reserve: 16,
            disk_max: 16 << 30,
            write_mode,
            clock,
            goes_on: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("slot_bytes", &self.slot_bytes)
            .field("burst_reserve", &self.burst_reserve)
            .field("disk_max", &self.disk_max)
            .field("write_mode", &self.write_mode)
            .finish_non_exhaustive()
    }
}

/// Where a record stands: the segment by its epoch, and the record's descriptor in it. Eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Location {
    epoch: u32,
    offset: u32,
}

impl Location {
    pub(crate) fn new(epoch: u32, offset: u32) -> Self {
        Self { epoch, offset }
    }

    /// The segment's epoch; live records are counted per epoch to know when a segment may retire.
    pub(crate) fn epoch(self) -> u64 {
        u64::from(self.epoch)
    }

    /// Byte offset of the descriptor in the segment's slot.
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.offset)
    }
}

/// One appended record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Its sequence, store-wide.
    pub(crate) sequence: u64,
    /// Where it is.
    pub(crate) location: Location,
}

/// One record found when the store was opened. An order's bytes stay on disk: `body` is empty here, and
/// [`super::Reader::read`] gives the whole.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Restored {
    pub(crate) sequence: u64,
    pub(crate) location: Location,
    pub(crate) record: Record,
    /// Bytes of the body on disk.
    pub(crate) body_bytes: u32,
}

/// An order found in the index of a full segment, which tells all that memory needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RestoredPlain {
    pub(crate) sequence: u64,
    pub(crate) location: Location,
    /// Bytes of the body on disk.
    pub(crate) body_bytes: u32,
    pub(crate) plain: Plain,
}

/// One record of those a start replays.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "handed over one at a time, never stored")]
pub(crate) enum Replayed {
    /// Its descriptor was read.
    Whole(Restored),
    /// Only its entry in the index was.
    Plain(RestoredPlain),
}

impl Replayed {
    /// Its sequence, where it is, and the bytes of its body.
    pub(crate) fn place(&self) -> (u64, Location, u32) {
        match self {
            Self::Whole(restored) => (restored.sequence, restored.location, restored.body_bytes),
            Self::Plain(plain) => (plain.sequence, plain.location, plain.body_bytes),
        }
    }
}

/// A record whose descriptor verifies and whose body does not: its key is known, its bytes are not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DamagedRecord {
    pub(crate) sequence: u64,
    pub(crate) location: Location,
    /// Everything but the body.
    pub(crate) record: Record,
    /// True if it had certainly been acknowledged; false at the very end of the journal, where it may be
    /// a group that was being written when the power went.
    pub(crate) proven: bool,
}

/// A segment not yet retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Its epoch; a higher one is younger.
    pub(crate) epoch: u64,
    /// Bytes of it in use.
    pub(crate) bytes: u64,
    /// Records in it.
    pub(crate) records: u64,
}

/// Bytes of disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DiskUse {
    /// Taken by slot files, spare ones included.
    pub(crate) bytes: u64,
    /// What they may take.
    pub(crate) bytes_max: u64,
    /// Segments not yet retired, with the open one.
    pub(crate) segments: u64,
    /// Spare slots ready.
    pub(crate) spare: u64,
    /// Slots set aside because what is in them cannot be read.
    pub(crate) quarantined: u64,
    /// Bytes written since the journal was opened: groups, headers, zeros.
    pub(crate) written: u64,
    /// Bytes of deliveries among them, those carried forward not counted again.
    pub(crate) payload: u64,
}

/// Why a data directory was not opened. Unless it says otherwise, nothing in it was touched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{} is in use by another process; stop that one first", .0.display())]
    Locked(PathBuf),
    #[error(
        "{path} is of a format this release does not know ({found}); open it with the release that wrote it"
    )]
    UnknownFormat { path: String, found: String },
    #[error(
        "{path} holds something only a later release understands ({what}); open it with that release"
    )]
    Newer { path: String, what: String },
    #[error(
        "the file system of {} takes no direct writes; set buffer.write_mode to \"auto\" or \"buffered\"", .0.display()
    )]
    NoDirect(PathBuf),
    #[error("{0}")]
    Options(String),
    #[error("no slot for the new segment in {}: {reason}; free some disk space or raise disk_max", .dir.display())]
    NoRoom { dir: PathBuf, reason: String },
    #[error("{what} failed: {source}{}", hint(.source))]
    Io { what: String, source: io::Error },
}

/// What to do about an error of the file system, where that is known.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; give the service's user the directory and everything in it, or set data_dir to one it owns"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount the file system for writing, or set data_dir to another one"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space on that disk"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "; check data_dir, and that the disk it is on is mounted"
        }
        _ => "",
    }
}

/// Why records were not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WriteError {
    /// No slot left for it within the disk budget. Nothing was written.
    #[error("the journal's disk budget is used up")]
    Full,
    /// The record of that index does not fit a group. Nothing was written.
    #[error("record {index} takes {bytes} bytes, and a group holds at most {max}")]
    TooLarge { index: usize, bytes: u64, max: u64 },
    /// A checkpoint or retirement that would bury the open segment, or that no durable checkpoint covers.
    /// Nothing was written.
    #[error("epochs below {0} may not be retired")]
    NotRetirable(u64),
    /// A write or a sync failed, now or earlier: what was handed in now may or may not be durable, and nothing
    /// will be written any more.
    #[error(transparent)]
    Failed(#[from] Failed),
}

/// The journal is poisoned: a write or sync failed, and it takes nothing more in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal failed at {what}: {reason}")]
pub(crate) struct Failed {
    /// The step.
    pub(crate) what: &'static str,
    /// The system's words.
    pub(crate) reason: String,
}

/// Why a record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReadError {
    /// The segment was retired meanwhile; ask for the record's newer location, or answer from its outcome.
    #[error("the segment of epoch {0} is retired")]
    Recycled(u64),
    /// What stands there does not verify.
    #[error("the record at epoch {epoch}, offset {offset} is damaged")]
    Damaged { epoch: u64, offset: u64 },
    /// The disk said no.
    #[error("reading failed: {0}")]
    Io(String),
}
