//! The seam to the file system: a directory of numbered slot files, and what can be done to one.
//!
//! Small on purpose, so that a file system that crashes, tears and fails can stand behind it in tests.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::layout::{BLOCK, size};
use crate::control::Control;
use crate::metrics;

/// How groups of orders reach the disk. Both are equally durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Direct where the file system can, else buffered.
    #[default]
    Auto,
    /// One write past the page cache that returns when the device has it (`O_DIRECT | O_DSYNC`).
    Direct,
    /// A write into the page cache, then a sync.
    Buffered,
}

impl WriteMode {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
        }
    }
}

/// A directory of slot files.
pub(super) trait Directory: Debug + Send + Sync {
    /// Numbers of the slot files there are, ascending.
    fn slots(&self) -> io::Result<Vec<u32>>;

    /// Makes a slot of `bytes` bytes that reads as zeros and whose space is reserved. Not yet durable.
    fn create(&self, slot: u32, bytes: u64) -> io::Result<Arc<dyn SlotFile>>;

    /// Opens a slot that is there.
    fn open(&self, slot: u32) -> io::Result<Arc<dyn SlotFile>>;

    /// Removes a slot. Not yet durable.
    fn remove(&self, slot: u32) -> io::Result<()>;

    /// Makes creations and removals durable.
    fn sync(&self) -> io::Result<()>;

    /// How slots are written: never [`WriteMode::Auto`].
    fn write_mode(&self) -> WriteMode;

    /// Bytes written to slots since it was opened: groups, headers, zeros.
    fn bytes_written(&self) -> u64;
}

/// One slot file, open for reading and writing.
pub(super) trait SlotFile: Debug + Send + Sync {
    fn bytes(&self) -> io::Result<u64>;

    /// Writes all of `bytes`; they are durable when it returns. Offset, length and address are multiples of a block. After
    /// an error nothing is known about what it wrote, and nothing may be written any more.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `into`; past the end of the file with zeros.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Like `read_at`, but from the device rather than the page cache where the file system can, so that pages which
    /// never reached the disk are not taken for durable. Offset, length and address are multiples of a block.
    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Makes durable what another process may have written and not synced. After an error it must not be
    /// called again.
    fn sync(&self) -> io::Result<()>;
}

/// Bytes at an address that is a multiple of a block.
#[derive(Debug, Default)]
pub(super) struct Aligned {
    memory: Vec<u8>,
}

impl Aligned {
    /// `len` of them; what they hold is of no meaning.
    pub(super) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        let block = size(BLOCK);
        if self.memory.len() < len + block {
            self.memory.resize(len + block, 0);
        }
        let skip = self.memory.as_ptr().align_offset(block).min(block);
        self.memory.get_mut(skip..skip + len).unwrap_or_default()
    }

    /// The first `len`, as last filled.
    pub(super) fn bytes(&self, len: usize) -> &[u8] {
        let block = size(BLOCK);
        let skip = self.memory.as_ptr().align_offset(block).min(block);
        self.memory.get(skip..skip + len).unwrap_or_default()
    }
}

/// A real directory, locked for this process.
#[derive(Debug)]
pub(super) struct RealDirectory {
    path: PathBuf,
    /// The directory itself, open to lock and sync it. The lock goes with it.
    handle: File,
    /// Slots are written past the page cache.
    direct: bool,
    /// Nothing may be changed.
    read_only: bool,
    written: Arc<AtomicU64>,
}

impl RealDirectory {
    /// Opens the directory, making it durably if need be (readable by this user only), and locks it. `Ok(None)`: another process
    /// has the lock.
    pub(super) fn lock(path: &Path) -> io::Result<Option<Self>> {
        use std::os::unix::fs::DirBuilderExt;
        let missing: Vec<_> = path.ancestors().take_while(|part| !part.exists()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for made in missing {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = File::open(parent.unwrap_or(Path::new(".")))?;
            sync(|| parent.sync_all())?;
        }
        let handle = File::open(path)?;
        match handle.try_lock() {
            Ok(()) => Ok(Some(Self::of(path, handle, false))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Opens a directory that is there for reading alone, under a lock that others who read may share. `Ok(None)`: a
    /// process that writes has it.
    pub(super) fn look(path: &Path) -> io::Result<Option<Self>> {
        let handle = File::open(path)?;
        match handle.try_lock_shared() {
            Ok(()) => Ok(Some(Self::of(path, handle, true))),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn of(path: &Path, handle: File, read_only: bool) -> Self {
        let path = path.to_owned();
        Self { path, handle, direct: false, read_only, written: Arc::default() }
    }

    /// Settles how slots are written; false if `wanted` is not to be had here. A directory that holds slots is not
    /// touched.
    pub(super) fn choose(&mut self, wanted: WriteMode) -> io::Result<bool> {
        self.direct = match wanted {
            WriteMode::Buffered => false,
            WriteMode::Auto | WriteMode::Direct => self.can_direct()?,
        };
        Ok(self.direct || wanted != WriteMode::Direct)
    }

    /// Whether the file system and its device take direct reads and writes of our blocks.
    fn can_direct(&self) -> io::Result<bool> {
        let trial = match self.slots()?.first() {
            Some(slot) => self.try_direct_read(*slot),
            None => self.try_direct_write(),
        };
        match trial {
            Ok(()) => Ok(true),
            Err(error) if refuses_direct(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn try_direct_read(&self, slot: u32) -> io::Result<()> {
        let opened = direct(&self.path_of(slot), OpenOptions::new().read(true).write(true));
        let file = opened
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", name(slot))))?;
        let mut memory = Aligned::default();
        match fill(&file, 0, memory.bytes_mut(size(BLOCK))) {
            Err(error) if refuses_direct(&error) => Err(error),
            // What the device cannot read is judged later.
            _ => Ok(()),
        }
    }

    fn try_direct_write(&self) -> io::Result<()> {
        let path = self.path.join("direct.trial");
        let file = direct(&path, OpenOptions::new().write(true).create(true).mode(0o600));
        let written = file.and_then(|file| {
            let mut memory = Aligned::default();
            let block = memory.bytes_mut(size(BLOCK));
            block.fill(0);
            write_direct(&file, 0, block)
        });
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => written.and(Err(error)),
            _ => written,
        }
    }

    fn slot(&self, file: File, path: PathBuf) -> io::Result<Arc<dyn SlotFile>> {
        let file = RealFile::new(file, path, self)?;
        // A control build breaks what it is told to there.
        #[cfg(forebay_control)]
        let file = super::broken::BrokenFile::new(file);
        Ok(Arc::new(file))
    }

    fn path_of(&self, slot: u32) -> PathBuf {
        self.path.join(name(slot))
    }
}

/// The name of a slot file.
pub(super) fn name(slot: u32) -> String {
    format!("{slot:05}.seg")
}

impl Directory for RealDirectory {
    fn slots(&self) -> io::Result<Vec<u32>> {
        let mut slots = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let file_name = entry?.file_name();
            let number = file_name.to_str().and_then(|text| text.strip_suffix(".seg"));
            let Some(slot) = number.and_then(|text| text.parse::<u32>().ok()) else { continue };
            if file_name.to_str() == Some(&name(slot)) {
                slots.push(slot);
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    fn create(&self, slot: u32, bytes: u64) -> io::Result<Arc<dyn SlotFile>> {
        let path = self.path_of(slot);
        let made =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = made.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => gone(&self.path),
            _ => error,
        })?;
        let reserved = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        let sized = match reserved {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(bytes),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sized {
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        self.slot(file, path)
    }

    fn open(&self, slot: u32) -> io::Result<Arc<dyn SlotFile>> {
        let path = self.path_of(slot);
        let file = OpenOptions::new().read(true).write(!self.read_only).open(&path)?;
        self.slot(file, path)
    }

    fn remove(&self, slot: u32) -> io::Result<()> {
        std::fs::remove_file(self.path_of(slot))
    }

    fn sync(&self) -> io::Result<()> {
        sync(|| self.handle.sync_all())
    }

    fn write_mode(&self) -> WriteMode {
        if self.direct { WriteMode::Direct } else { WriteMode::Buffered }
    }

    fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct RealFile {
    /// Through the page cache.
    file: File,
    path: PathBuf,
    /// It had a name when it was opened.
    named: bool,
    /// Past it, for writing.
    direct: Option<File>,
    /// Past it, for reading alone; `None` where the file system has none.
    direct_read: OnceLock<Option<File>>,
    written: Arc<AtomicU64>,
}

impl RealFile {
    fn new(file: File, path: PathBuf, directory: &RealDirectory) -> io::Result<Self> {
        let open = || direct(&path, OpenOptions::new().read(true).write(true));
        let direct = directory.direct.then(open).transpose()?;
        let written = Arc::clone(&directory.written);
        // Some file systems do not count names.
        let named = file.metadata()?.nlink() > 0;
        Ok(Self { file, path, named, direct, direct_read: OnceLock::new(), written })
    }

    fn for_direct_reads(&self) -> Option<&File> {
        let open = || direct(&self.path, OpenOptions::new().read(true)).ok();
        self.direct.as_ref().or_else(|| self.direct_read.get_or_init(open).as_ref())
    }
}

impl SlotFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match &self.direct {
            Some(direct) => write_direct(direct, offset, bytes)?,
            None => {
                self.file.write_all_at(bytes, offset)?;
                self.sync()?;
            }
        }
        // What is written to a file that has no name any more is gone with this process.
        if self.named && self.file.metadata()?.nlink() == 0 {
            return Err(gone(&self.path));
        }
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        metrics::written(bytes.len() as u64);
        Ok(())
    }

    /// Through the page cache, for its read-ahead. A direct write leaves no older page of its range in the cache once it
    /// has returned (Linux drops them before and after), and a record's place is known only then.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        fill(&self.file, offset, into)
    }

    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let Some(direct) = self.for_direct_reads() else { return self.read_at(offset, into) };
        match fill(direct, offset, into) {
            // Blocks of this device are larger, or the file ends within one.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.read_at(offset, into),
            done => done,
        }
    }

    fn sync(&self) -> io::Result<()> {
        sync(|| self.file.sync_data())
    }
}

/// Opens a file past the page cache, each write durable when it returns. The negative control of the power-cut tests
/// leaves the durability out here, and must lose orders.
fn direct(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    use rustix::fs::OFlags;
    let durable = if Control::NoSync.is_on() { OFlags::empty() } else { OFlags::DSYNC };
    let flags = i32::try_from((OFlags::DIRECT | durable).bits()).map_err(io::Error::other)?;
    how.custom_flags(flags).open(path)
}

/// The errors of a file system or device that takes no direct access to our blocks.
fn refuses_direct(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported)
}

/// One write, whole or failed: after a short one the rest is not tried, for a device that does not take it all is not to
/// be trusted with the rest.
fn write_direct(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let written = file.write_at(bytes, offset)?;
    if written == bytes.len() {
        return Ok(());
    }
    let short = format!("only {written} of {} bytes were written", bytes.len());
    Err(io::Error::new(io::ErrorKind::WriteZero, short))
}

/// Somebody took away what the journal stands on.
fn gone(path: &Path) -> io::Error {
    let reason = format!("{} was removed while in use", path.display());
    io::Error::new(io::ErrorKind::NotFound, reason)
}

/// The one place that syncs. The negative controls of the power cuts and of a disk that hangs leave this out too.
pub(in crate::embedded) fn sync(call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let left_out = Control::NoSync.is_on() || Control::LateWrite.is_on();
    if left_out { Ok(()) } else { call() }
}

/// Reads until `into` is full; past the end of the file there are zeros.
pub(in crate::embedded) fn fill(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => {
                rest.fill(0);
                return Ok(());
            }
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
