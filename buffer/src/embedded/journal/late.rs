//! The control of the kills: a slot file that gathers writes in memory, as a forgotten flush would. A process that
//! is killed then loses what it had answered for.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::SlotFile;

/// Writes gathered at most.
const HELD_MAX: usize = 32;

type Held = Vec<(u64, Vec<u8>)>;

#[derive(Debug)]
pub(super) struct LateFile {
    file: Arc<dyn SlotFile>,
    held: Mutex<Held>,
}

impl LateFile {
    pub(super) fn new(file: Arc<dyn SlotFile>) -> Self {
        Self { file, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self) -> io::Result<()> {
        let mut held = self.held();
        held.drain(..).try_for_each(|(offset, bytes)| self.file.write_at(offset, &bytes))
    }
}

impl SlotFile for LateFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.held().len() >= HELD_MAX {
            self.let_go()?;
        }
        self.held().push((offset, bytes.to_vec()));
        Ok(())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset + into.len() as u64;
        let wanted = |(at, bytes): &(u64, Vec<u8>)| *at < end && offset < at + bytes.len() as u64;
        if self.held().iter().any(wanted) {
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
