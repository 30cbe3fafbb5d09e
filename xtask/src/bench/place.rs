//! Where a bench keeps its files: beside the build, on a real disk, and nothing of it stays.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs, statvfs};

use crate::failure::{Failure, Result, While as _};

/// `f_type` of tmpfs and of ramfs.
const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];

/// Where Linux mounts a file system in memory.
const MEMORY: &str = "/dev/shm";

/// A directory in memory, where no device pauses. Dropping it deletes everything in it.
#[derive(Debug)]
pub(super) struct MemoryPlace {
    pub(super) root: PathBuf,
}

impl MemoryPlace {
    /// Makes it, after deleting what a killed run left there; `None` where there is no such file system with so many bytes
    /// free. Only one bench at a time runs ([`Place::make`]).
    pub(super) fn make(bytes: u64) -> Result<Option<Self>> {
        let in_memory = statfs(MEMORY).is_ok_and(|found| IN_MEMORY.contains(&found.f_type));
        if !in_memory {
            return Ok(None);
        }
        let place = Self { root: Path::new(MEMORY).join("forebay-bench") };
        fs::create_dir_all(&place.root).when(place.root.display())?;
        empty(&place.root)?;
        Ok((free(&place.root)? >= bytes).then_some(place))
    }
}

impl Drop for MemoryPlace {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted by the next run.
        fs::remove_dir_all(&self.root).ok();
    }
}

fn free(root: &Path) -> Result<u64> {
    let space = statvfs(root).when("the file system")?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// A directory of one run. Dropping it deletes everything in it.
#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    // Held as long as the place; two benches at once would measure each other.
    _lock: File,
}

impl Place {
    /// Makes the place below the build's directory, after deleting what a killed run left there.
    ///
    /// # Errors
    /// [`Failure::Skipped`] if that is memory and no disk, or has not so many bytes free;
    /// [`Failure::Broken`] if another bench runs there.
    pub(super) fn make(target: &Path, bytes: u64) -> Result<Self> {
        let root = target.join("bench");
        fs::create_dir_all(&root).when(root.display())?;
        let kind = statfs(&root).when("the file system")?.f_type;
        if IN_MEMORY.contains(&kind) {
            return Err(Failure::Skipped(format!("{} is in memory, no disk", root.display())));
        }
        let lock = File::create(target.join("bench.lock")).when("the lock")?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .when("another bench runs here; wait for it")?;
        empty(&root)?;
        let free = free(&root)?;
        if free < bytes {
            let (free, bytes) = (free >> 30, bytes >> 30);
            return Err(Failure::Skipped(format!("needs {bytes} GiB of disk, {free} are free")));
        }
        Ok(Self { root, _lock: lock })
    }

    /// A fresh directory in it.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).when(path.display())?;
        }
        fs::create_dir(&path).when(path.display())?;
        Ok(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What cannot be deleted now is deleted by the next run.
        empty(&self.root).ok();
    }
}

fn empty(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root).when(root.display())? {
        let path = entry.when(root.display())?.path();
        fs::remove_dir_all(&path).when(path.display())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_deleted_and_a_second_run_refused() {
        let target = tempfile::tempdir().unwrap();
        fs::create_dir_all(target.path().join("bench/left")).unwrap();
        let place = match Place::make(target.path(), 1) {
            Ok(place) => place,
            Err(Failure::Skipped(why)) => return crate::say::say(format_args!("skipped: {why}")),
            Err(failure) => panic!("{failure}"),
        };
        assert!(!target.path().join("bench/left").exists());
        assert!(Place::make(target.path(), 1).is_err());
        let directory = place.directory("a").unwrap();
        drop(place);
        assert!(!directory.exists());
        assert!(matches!(Place::make(target.path(), u64::MAX), Err(Failure::Skipped(_))));
    }
}
