//! A file that takes up the rest of a file system, to be removed again.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::failure::{Failure, Result, While as _};

/// The file. Dropping it gives the space back.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Ballast {
    /// An empty one in a directory of the file system.
    pub(super) fn lay(directory: &Path) -> Result<Self> {
        let path = directory.join("ballast");
        let file = File::create(&path).when("making the ballast")?;
        Ok(Self { path, file, bytes: 0 })
    }

    /// Takes up all but about `free` bytes; with 0, every block that is to be had. Says what is left.
    pub(super) fn leave(&mut self, free: u64) -> Result<u64> {
        loop {
            let left = free_bytes(&self.path)?;
            let mut step = left.saturating_sub(free);
            if step < 4096 {
                return Ok(left);
            }
            // The tables that name the blocks need some too, so a last step may be too large.
            loop {
                match fallocate(&self.file, FallocateFlags::empty(), self.bytes, step) {
                    Ok(()) => break,
                    Err(Errno::NOSPC) if step >= 8192 => step /= 2,
                    Err(Errno::NOSPC) => return free_bytes(&self.path),
                    Err(error) => return Err(Failure::broken("growing the ballast", error)),
                }
            }
            self.bytes += step;
        }
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}

/// Bytes that root may still use of the file system a path is on.
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let space = statvfs(path).when("asking for free space")?;
    Ok(space.f_bfree * space.f_frsize)
}
