//! A slot file that breaks a promise, in control builds alone: the controls of the kills and of failing writes.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::files::{Aligned, SlotFile};
use crate::control::Control;

/// Writes gathered at most.
const HELD_MAX: usize = 4096;

/// A file behind which writes are gathered ([`Control::LateWrite`]) or their errors swallowed
/// ([`Control::NoFailedState`]).
#[derive(Debug)]
pub(super) struct BrokenFile<F> {
    file: F,
    held: Mutex<Vec<Held>>,
}

#[derive(Debug)]
struct Held {
    offset: u64,
    memory: Aligned,
    len: usize,
}

impl<F: SlotFile> BrokenFile<F> {
    pub(super) fn new(file: F) -> Self {
        Self { file, held: Mutex::default() }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without the lock, so that a device that hangs holds nobody up who only wants to gather.
    fn let_go(&self) -> io::Result<()> {
        let held = std::mem::take(&mut *self.held());
        let mut held = held.into_iter();
        held.try_for_each(|held| self.file.write_at(held.offset, held.memory.bytes(held.len)))
    }

    fn hold(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.held().len() >= HELD_MAX {
            self.let_go()?;
        }
        let mut memory = Aligned::default();
        memory.bytes_mut(bytes.len()).copy_from_slice(bytes);
        self.held().push(Held { offset, memory, len: bytes.len() });
        Ok(())
    }
}

fn swallow(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if Control::NoFailedState.is_on() => {
            tracing::warn!(%error, "CONTROL BUILD: an error counts as done");
            Ok(())
        }
        done => done,
    }
}

impl<F: SlotFile> SlotFile for BrokenFile<F> {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if Control::LateWrite.is_on() {
            return self.hold(offset, bytes);
        }
        swallow(self.file.write_at(offset, bytes))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_at(offset, into)?;
        // From memory, so that a device that hangs holds no reader up either.
        for held in self.held().iter() {
            let (start, end) = (offset.max(held.offset), held.offset + held.len as u64);
            let len = end.min(offset + into.len() as u64).saturating_sub(start);
            let at = |from: u64| {
                let at = usize::try_from(start - from).unwrap_or(usize::MAX);
                at..at.saturating_add(usize::try_from(len).unwrap_or_default())
            };
            if let (Some(to), Some(bytes)) =
                (into.get_mut(at(offset)), held.memory.bytes(held.len).get(at(held.offset)))
            {
                to.copy_from_slice(bytes);
            }
        }
        Ok(())
    }

    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.let_go()?;
        self.file.read_device_at(offset, into)
    }

    fn sync(&self) -> io::Result<()> {
        swallow(self.file.sync())
    }
}

impl<F> Drop for BrokenFile<F> {
    fn drop(&mut self) {
        let held = self.held.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !held.is_empty() {
            tracing::warn!(writes = held.len(), "CONTROL BUILD: writes never reached the file");
        }
    }
}
