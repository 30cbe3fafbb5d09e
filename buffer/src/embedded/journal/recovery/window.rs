//! A look at a slot's bytes as they are on the device.

use std::sync::Arc;

use super::super::files::{Aligned, SlotFile};
use super::super::layout::{BLOCK, size, to_blocks};

/// Bytes read at once unless told otherwise.
const READ: u64 = 256 << 10;

/// Reads a slot in large aligned pieces. A block the device cannot read counts as zeros, which never verify.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn SlotFile>,
    end: u64,
    at: u64,
    len: u64,
    memory: Aligned,
    unreadable: u64,
    piece: u64,
}

impl Window {
    pub(super) fn new(file: &Arc<dyn SlotFile>, slot_bytes: u64) -> Self {
        Self::of_pieces(file, slot_bytes, READ)
    }

    /// One that reads at least `piece` bytes at once.
    pub(super) fn of_pieces(file: &Arc<dyn SlotFile>, slot_bytes: u64, piece: u64) -> Self {
        let (file, memory) = (Arc::clone(file), Aligned::default());
        Self { file, end: slot_bytes, at: 0, len: 0, memory, unreadable: 0, piece }
    }

    /// The `len` bytes at `offset`; fewer at the end of the slot.
    pub(super) fn get(&mut self, offset: u64, len: u64) -> &[u8] {
        let until = offset.saturating_add(len).min(self.end);
        if offset < self.at || until > self.at + self.len {
            self.load(offset, until);
        }
        let from = size(offset.saturating_sub(self.at));
        let to = size(until.saturating_sub(self.at));
        self.memory.bytes(size(self.len)).get(from..to).unwrap_or_default()
    }

    /// Blocks the device could not read so far.
    pub(super) fn unreadable(&self) -> u64 {
        self.unreadable
    }

    fn load(&mut self, offset: u64, until: u64) {
        self.at = offset.min(self.end) / BLOCK * BLOCK;
        self.len = to_blocks(until.saturating_sub(self.at)).max(self.piece).min(self.end - self.at);
        let into = self.memory.bytes_mut(size(self.len));
        if self.file.read_device_at(self.at, into).is_ok() {
            return;
        }
        for (block, into) in into.chunks_mut(size(BLOCK)).enumerate() {
            if self.file.read_device_at(self.at + block as u64 * BLOCK, into).is_err() {
                into.fill(0);
                self.unreadable += 1;
            }
        }
    }
}
