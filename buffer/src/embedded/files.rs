//! The seam to the file system of what stands beside the journal, the outcome index and the feed: a directory of named files, and
//! what can be done to one. Like the journal's, so that the same crashing, tearing, failing file system can stand behind all in tests.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::journal::files::{fill, sync};

/// A directory of named files.
pub(in crate::embedded) trait Directory: Debug + Send + Sync {
    /// Names of the files there are.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file, in place of one that has the name. Not yet durable.
    fn create(&self, name: &str) -> io::Result<Arc<dyn PlainFile>>;

    /// Opens a file for reading.
    fn open(&self, name: &str) -> io::Result<Arc<dyn PlainFile>>;

    /// Opens a file for reading and writing.
    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn PlainFile>>;

    /// Gives a file another name. Not yet durable.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; whoever has it open may read on. Not yet durable.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, new names and removals durable.
    fn sync(&self) -> io::Result<()>;

    /// Bytes the file system has free.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Keeps so many bytes of the disk for later: more than before, if there is room, or fewer.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Bytes kept.
    fn reserved(&self) -> io::Result<u64>;
}

/// One file.
pub(in crate::embedded) trait PlainFile: Debug + Send + Sync {
    fn bytes(&self) -> io::Result<u64>;

    /// Writes all of `bytes`. Not yet durable.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Fills `into`; past the end of the file with zeros.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Makes what was written durable. After an error nothing is known of it, and the file is given up.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory, in the care of whoever has the journal's lock.
#[derive(Debug)]
pub(in crate::embedded) struct RealDirectory {
    path: PathBuf,
}

impl RealDirectory {
    /// The directory, made durably if it is missing, readable by this user only.
    pub(in crate::embedded) fn make(path: &Path) -> io::Result<Self> {
        let directory = Self { path: path.to_owned() };
        directory.make_again()?;
        directory.names()?;
        Ok(directory)
    }

    /// A directory that is there, to be read only.
    pub(in crate::embedded) fn look(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn make_again(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
                sync_directory(parent.unwrap_or(Path::new(".")))
            }
        }
    }
}

impl Directory for RealDirectory {
    fn names(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().into_string()));
        names.filter_map(|name: io::Result<_>| name.map(Result::ok).transpose()).collect()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        let path = self.path.join(name);
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = match how.open(&path) {
            // Somebody deleted the directory while it was in use; it begins anew.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_again()?;
                how.open(&path)?
            }
            opened => opened.map_err(named("making", name))?,
        };
        Ok(RealFile::of(file, name))
    }

    /// Whoever opens many looks at the system's number of the error, so it stays as it is.
    fn open(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        Ok(RealFile::of(File::open(self.path.join(name))?, name))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        let file = OpenOptions::new().read(true).write(true).open(self.path.join(name));
        Ok(RealFile::of(file.map_err(named("opening", name))?, name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to)).map_err(named("renaming", from))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name)).map_err(named("removing", name))
    }

    fn sync(&self) -> io::Result<()> {
        sync_directory(&self.path).map_err(named("syncing the names in", "its directory"))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let space = rustix::fs::statvfs(&self.path)?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(false).mode(0o600);
        let file = how.open(self.path.join(RESERVE))?;
        if bytes > file.metadata()?.len() {
            match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
                // Such a file system keeps nothing for anybody.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            file.set_len(bytes)?;
        }
        // What was given up is free only then.
        sync(|| file.sync_all())
    }

    fn reserved(&self) -> io::Result<u64> {
        match fs::metadata(self.path.join(RESERVE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            about => Ok(about?.len()),
        }
    }
}

/// Whether the file system, or a quota on it, has no room for something. Nothing is wrong with the disk then.
pub(in crate::embedded) fn no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Says of an error what was being done to which file.
fn named(act: &str, name: &str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{act} {name}: {error}"))
}

/// The file whose blocks are the reserve.
const RESERVE: &str = "reserve";

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = File::open(path)?;
    sync(|| directory.sync_all())
}

#[derive(Debug)]
struct RealFile {
    file: File,
    name: String,
}

impl RealFile {
    fn of(file: File, name: &str) -> Arc<dyn PlainFile> {
        Arc::new(Self { file, name: name.to_owned() })
    }
}

impl PlainFile for RealFile {
    fn bytes(&self) -> io::Result<u64> {
        let about = self.file.metadata().map_err(named("looking at", &self.name))?;
        Ok(about.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(named("writing", &self.name))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        fill(&self.file, offset, into).map_err(named("reading", &self.name))
    }

    fn sync(&self) -> io::Result<()> {
        sync(|| self.file.sync_all()).map_err(named("syncing", &self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_done_to_which_file() {
        let dir = tempfile::tempdir().unwrap();
        let directory = RealDirectory::make(dir.path()).unwrap();
        directory.create("1.feed").unwrap();
        let to_read = directory.open("1.feed").unwrap();
        for (error, expected) in [
            (to_read.write_at(0, b"x").unwrap_err(), "writing 1.feed: "),
            (directory.remove("2.feed").unwrap_err(), "removing 2.feed: "),
            (directory.open_to_write("3.feed").map(drop).unwrap_err(), "opening 3.feed: "),
        ] {
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        assert_eq!(directory.remove("2.feed").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
