//! Files with names beside the slots, for the outcome index: on the same disk, and gone with the same power.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::{Disk, Slot};
use crate::embedded::files::{Directory, PlainFile};

/// The files, by number, and which name is which: now, and after a cut.
#[derive(Debug, Default)]
pub(super) struct Named {
    files: BTreeMap<u64, Slot>,
    made: u64,
    now: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Bytes kept for later, and bytes a full disk has for it was kept.
    reserved: u64,
    room: u64,
}

impl Named {
    /// Power comes back: each change of a name survived with the given chance.
    pub(super) fn restart(&mut self, random: &mut fastrand::Rng, survives: f64) {
        self.files.values_mut().for_each(|file| file.restart(random, survives));
        let names: Vec<_> = self.now.keys().chain(self.durable.keys()).cloned().collect();
        for name in names {
            if random.f64() < survives {
                match self.now.get(&name) {
                    Some(file) => self.durable.insert(name, *file),
                    None => self.durable.remove(&name),
                };
            }
        }
        self.now.clone_from(&self.durable);
    }

    fn file(&self, name: &str) -> io::Result<u64> {
        self.now.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk {
    /// Changes a file's durable bytes behind the index's back.
    pub(in crate::embedded) fn damage_file(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let number = state.named.file(name).unwrap();
        let file = state.named.files.get_mut(&number).unwrap();
        change(&mut file.durable);
        file.cached.clone_from(&file.durable);
    }
}

impl Directory for Disk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().named.now.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        self.change(|state| {
            let named = &mut state.named;
            named.made += 1;
            named.files.insert(named.made, Slot::default());
            named.now.insert(name.to_owned(), named.made);
            Ok(())
        })?;
        Directory::open(self, name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        let number = self.0.lock().unwrap().named.file(name)?;
        Ok(Arc::new(NamedFile { disk: self.clone(), number }))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn PlainFile>> {
        Directory::open(self, name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|state| {
            let file = state.named.file(from)?;
            state.named.now.remove(from);
            state.named.now.insert(to.to_owned(), file);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|state| {
            state.named.file(name)?;
            state.named.now.remove(name);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|state| {
            if state.sync_fails() {
                return Err(io::Error::other("injected"));
            }
            state.named.durable.clone_from(&state.named.now);
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.0.lock().unwrap().full { 0 } else { 1 << 40 })
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        self.change(|state| {
            assert!(bytes <= state.named.reserved || !state.full);
            state.named.room += state.named.reserved.saturating_sub(bytes);
            state.named.reserved = bytes;
            Ok(())
        })
    }

    fn reserved(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().named.reserved)
    }
}

#[derive(Debug)]
struct NamedFile {
    disk: Disk,
    number: u64,
}

impl NamedFile {
    fn look<T>(&self, look: impl FnOnce(&Slot) -> T) -> T {
        look(&self.disk.0.lock().unwrap().named.files[&self.number])
    }
}

impl PlainFile for NamedFile {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.look(|file| file.cached.len() as u64))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.change(|state| {
            let file = state.named.files.get_mut(&self.number).unwrap();
            let offset = usize::try_from(offset).unwrap();
            if state.copies && state.full {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            if state.full {
                let grows = (offset + bytes.len()).saturating_sub(file.cached.len());
                let left = state.named.room.checked_sub(grows as u64);
                state.named.room = left.ok_or(io::ErrorKind::StorageFull)?;
            }
            file.cached.resize(file.cached.len().max(offset + bytes.len()), 0);
            file.write(offset, bytes);
            Ok(())
        })
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.look(|file| file.read(offset, into));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.change(|state| {
            let fails = state.sync_fails();
            let file = state.named.files.get_mut(&self.number).unwrap();
            if fails {
                file.unsynced.clear();
                return Err(io::Error::other("injected"));
            }
            file.sync();
            Ok(())
        })
    }
}
