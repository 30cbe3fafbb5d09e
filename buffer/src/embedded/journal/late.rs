//! The control of the kills: a slot file that keeps each write in memory until the next one. A process that is
//! killed then loses what it had answered for.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{Aligned, SlotFile};

#[derive(Debug)]
pub(super) struct LateFile {
    file: Arc<dyn SlotFile>,
    held: Mutex<Option<Held>>,
}

/// One write.
#[derive(Debug)]
struct Held {
    offset: u64,
    len: usize,
    memory: Aligned,
}

impl LateFile {
    pub(super) fn new(file: Arc<dyn SlotFile>) -> Self {
        Self { file, held: Mutex::new(None) }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self) -> io::Result<()> {
        match self.held().take() {
            Some(held) => self.file.write_at(held.offset, held.memory.bytes(held.len)),
            None => Ok(()),
        }
    }
}

impl SlotFile for LateFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.let_go()?;
        let (len, mut memory) = (bytes.len(), Aligned::default());
        memory.bytes_mut(len).copy_from_slice(bytes);
        *self.held() = Some(Held { offset, len, memory });
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset + into.len() as u64;
        let wanted = self
            .held()
            .as_ref()
            .is_some_and(|held| held.offset < end && offset < held.offset + held.len as u64);
        if wanted {
            self.let_go()?;
        }
        self.file.read_at(offset, into)
    }

    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.let_go()?;
        self.file.read_device_at(offset, into)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl Drop for LateFile {
    fn drop(&mut self) {
        if let Err(error) = self.let_go() {
            tracing::warn!(%error, "a late write failed");
        }
    }
}
