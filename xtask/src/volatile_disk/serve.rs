//! The file system of one file, `disk.img`, served from `/dev/fuse` by a thread of this process.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};

use super::sectors::{Mark, Refusal, Sectors};
use super::wire::{self, Call};
use crate::failure::{Result, While as _};

/// How long a sync takes. Without it hardly a cut would fall between a write and its sync.
const SYNC_TAKES: Duration = Duration::from_millis(1);

const IO_ERROR: i32 = 5;
const NOT_FOUND: i32 = 2;
const INVALID: i32 = 22;

/// The mounted file system. Dropping it unmounts and ends the thread.
#[derive(Debug)]
pub(super) struct Served {
    mountpoint: PathBuf,
    disk: Arc<Disk>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its owner share.
#[derive(Debug)]
struct Disk {
    device: File,
    sectors: Mutex<Sectors>,
    /// Writes and syncs that wait while the disk hangs, as they came; `None` while it does not.
    held: Mutex<Option<Vec<Vec<u8>>>>,
    watch: Mutex<Watch>,
}

/// What is to make the disk hang.
#[derive(Clone, Copy, Debug)]
enum Watch {
    Nothing,
    /// A write that bears the mark, and so many more writes and syncs.
    For(Mark, u32),
    /// The mark came; so many more.
    After(u32),
    /// It came, and the disk hangs since.
    Hit,
}

impl Served {
    /// Mounts at the empty directory `mountpoint` and serves a disk of `size` bytes.
    pub(super) fn mount(mountpoint: &Path, size: u64) -> Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.when("opening /dev/fuse")?;
        let options =
            format!("fd={},rootmode=40000,user_id=0,group_id=0\0", device.as_raw_fd()).into_bytes();
        let options = std::ffi::CString::from_vec_with_nul(options).when("mount options")?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        rustix::mount::mount(
            "forebay-volatile-disk",
            mountpoint,
            "fuse",
            flags,
            Some(options.as_c_str()),
        )
        .when("mounting the volatile disk")?;
        let sectors = Mutex::new(Sectors::new(size));
        let disk = Arc::new(Disk {
            device,
            sectors,
            held: Mutex::new(None),
            watch: Mutex::new(Watch::Nothing),
        });
        let shared = Arc::clone(&disk);
        let thread = std::thread::Builder::new()
            .name("volatile-disk".to_owned())
            .spawn(move || shared.serve())
            .when("starting the disk's thread")?;
        Ok(Self { mountpoint: mountpoint.to_owned(), disk, thread: Some(thread) })
    }

    /// The one file.
    pub(super) fn image(&self) -> PathBuf {
        self.mountpoint.join("disk.img")
    }

    /// The disk behind the file, between two requests.
    pub(super) fn sectors(&self) -> MutexGuard<'_, Sectors> {
        lock(&self.disk.sectors)
    }

    /// Lets every write and sync wait from now on, as a device that hangs does.
    pub(super) fn hold(&self) {
        lock(&self.disk.held).get_or_insert_default();
    }

    /// Hangs once a write that bears this mark, and `after` more writes and syncs, are performed.
    pub(super) fn hold_at(&self, mark: Mark, after: u32) {
        *lock(&self.disk.watch) = Watch::For(mark, after);
    }

    /// Whether it came, and the disk hangs since. With `end` nothing is watched for any more.
    pub(super) fn is_hit(&self, end: bool) -> bool {
        let mut watch = lock(&self.disk.watch);
        let hit = matches!(*watch, Watch::Hit);
        if end {
            *watch = Watch::Nothing;
        }
        hit
    }

    /// Performs what waited, in order, and goes on. Says how many requests that were.
    pub(super) fn let_go(&self) -> u64 {
        // A request that comes meanwhile waits for the lock, and so its turn.
        let mut held = lock(&self.disk.held);
        let waited = held.take().unwrap_or_default();
        for message in &waited {
            self.disk.answer(message);
        }
        waited.len() as u64
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let unmounted = rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH);
        let Some(thread) = self.thread.take() else { return };
        // While a loop device still holds the file the kernel keeps asking and the thread runs on:
        // then it ends with the process.
        if unmounted.is_ok()
            && crate::time::poll_until(Duration::from_secs(5), || thread.is_finished())
        {
            thread.join().ok();
        }
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// Answers requests until the mount is gone.
    fn serve(&self) {
        let mut buffer = vec![0; wire::WRITE_MAX as usize + 8192];
        loop {
            let length = match (&self.device).read(&mut buffer) {
                Ok(length) => length,
                // A request was taken back, or a signal came: ask again.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound) =>
                {
                    continue;
                }
                // The mount is gone.
                Err(_) => return,
            };
            let message = buffer.get(..length).unwrap_or_default();
            if self.waits(message) {
                continue;
            }
            if self.answer(message) {
                return;
            }
            self.look(message);
        }
    }

    /// Looks whether what was just performed is what the disk is to hang at.
    fn look(&self, message: &[u8]) {
        let mut watch = lock(&self.watch);
        if matches!(*watch, Watch::Nothing | Watch::Hit) {
            return;
        }
        let left = match (*watch, wire::parse(message).map(|request| request.call)) {
            (Watch::For(mark, after), Some(Call::Write { bytes, .. })) if mark.is_in(bytes) => {
                after
            }
            (Watch::After(left), Some(Call::Write { .. } | Call::Sync)) => left - 1,
            _ => return,
        };
        *watch = if left == 0 { Watch::Hit } else { Watch::After(left) };
        if left == 0 {
            lock(&self.held).get_or_insert_default();
        }
    }

    /// Puts a write or sync aside if the disk hangs.
    fn waits(&self, message: &[u8]) -> bool {
        let changes = wire::parse(message)
            .is_some_and(|request| matches!(request.call, Call::Write { .. } | Call::Sync));
        let mut held = lock(&self.held);
        match &mut *held {
            Some(waiting) if changes => {
                waiting.push(message.to_vec());
                true
            }
            _ => false,
        }
    }

    /// Performs one request and answers it; true if it was the last.
    fn answer(&self, message: &[u8]) -> bool {
        let Some(request) = wire::parse(message) else { return false };
        let last = request.call == Call::Destroy;
        if request.call == Call::Sync {
            crate::time::pass(SYNC_TAKES);
        }
        if let Some(result) = perform(request.call, &mut lock(&self.sectors)) {
            let result = result.as_deref().map_err(|errno| *errno);
            // The kernel refuses an answer to a request it took back; there is nobody to tell.
            (&self.device).write_all(&wire::answer(request.unique, result)).ok();
        }
        last
    }
}

/// What one call gets: a body or an errno; `None` where no answer may be given.
fn perform(call: Call<'_>, sectors: &mut Sectors) -> Option<std::result::Result<Vec<u8>, i32>> {
    Some(match call {
        Call::Init => Ok(wire::init()),
        Call::Lookup(name) if name == wire::IMAGE_NAME => Ok(wire::entry(sectors.size())),
        Call::Lookup(_) => Err(NOT_FOUND),
        Call::Attributes(node @ (wire::ROOT | wire::IMAGE)) => {
            Ok(wire::attributes(node, sectors.size()))
        }
        Call::Attributes(_) => Err(NOT_FOUND),
        Call::Open { directory } => Ok(wire::opened(directory)),
        Call::Read { offset, length } => sectors.read(offset, length as usize).map_err(errno),
        Call::Write { offset, bytes } => {
            sectors.write(offset, bytes).map(|()| wire::written(bytes)).map_err(errno)
        }
        Call::Sync => sectors.sync().map(|()| Vec::new()).map_err(errno),
        Call::Statistics => Ok(wire::statistics(sectors.size())),
        Call::Close | Call::EndOfDirectory | Call::Destroy => Ok(Vec::new()),
        Call::Unsupported(errno) => Err(errno),
        Call::Notice => return None,
    })
}

fn errno(refusal: Refusal) -> i32 {
    match refusal {
        Refusal::NoPower | Refusal::Failed => IO_ERROR,
        Refusal::BadRange => INVALID,
    }
}
