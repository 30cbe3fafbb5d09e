//! The seam to the file system: a directory of numbered slot files, and what can be done to one.
//!
//! Small on purpose, so that a file system that crashes, tears and fails can stand behind it in tests.

use std::fmt::Debug;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::layout::{BLOCK, size};
use crate::control::Control;

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
}

/// One slot file, open for reading and writing.
pub(super) trait SlotFile: Debug + Send + Sync {
    fn bytes(&self) -> io::Result<u64>;

    /// Writes all of `bytes`. Not yet durable.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `into`; past the end of the file with zeros.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Like `read_at`, but from the device rather than the page cache where the file system can, so that pages which
    /// never reached the disk are not taken for durable. Offset, length and address are multiples of a block.
    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Makes what was written durable. After an error nothing about the writes since the last sync is known,
    /// and it must not be called again.
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
            Ok(()) => Ok(Some(Self { path: path.to_owned(), handle })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
        }
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
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
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
        Ok(real(file, &path))
    }

    fn open(&self, slot: u32) -> io::Result<Arc<dyn SlotFile>> {
        let path = self.path_of(slot);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(real(file, &path))
    }

    fn remove(&self, slot: u32) -> io::Result<()> {
        std::fs::remove_file(self.path_of(slot))
    }

    fn sync(&self) -> io::Result<()> {
        sync(|| self.handle.sync_all())
    }
}

fn real(file: File, path: &Path) -> Arc<dyn SlotFile> {
    let file = Arc::new(RealFile::new(file, path));
    #[cfg(forebay_control)]
    if Control::LateWrite.is_on() {
        return Arc::new(super::late::LateFile::new(file));
    }
    file
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
    /// Open for direct reads; `None` where the file system has none.
    direct: OnceLock<Option<File>>,
}

impl RealFile {
    fn new(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned(), direct: OnceLock::new() }
    }

    fn direct(&self) -> Option<&File> {
        let open = || {
            let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).ok()?;
            OpenOptions::new().read(true).custom_flags(direct).open(&self.path).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }
}

impl SlotFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        fill(&self.file, offset, into)
    }

    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let Some(direct) = self.direct() else { return self.read_at(offset, into) };
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

/// The one place that syncs. The negative control of the power-cut tests leaves it out, and must lose orders.
fn sync(call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if Control::NoSync.is_on() { Ok(()) } else { call() }
}

fn fill(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
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
