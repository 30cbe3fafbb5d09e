//! Goes through a run from its first block to its last.

use std::io;
use std::sync::Arc;

use super::super::files::PlainFile;
use super::super::journal::layout::size;
use super::block::{self, BLOCK, Outcomes};
use super::run::Run;
use crate::state::Outcome;

/// Blocks that are read together.
const TOGETHER: u64 = 64;

/// Reads blocks one after another, many at once.
#[derive(Debug)]
pub(super) struct Blocks {
    together: Vec<u8>,
    /// Number of the block at the front of those.
    first: u64,
    next: u64,
    end: u64,
}

impl Blocks {
    /// The blocks from `first` to before `end`.
    pub(super) fn new(first: u64, end: u64) -> Self {
        Self { together: Vec::new(), first, next: first, end }
    }

    /// Goes on to the next block; its number.
    pub(super) fn next(&mut self, file: &dyn PlainFile) -> io::Result<Option<u64>> {
        if self.next == self.end {
            return Ok(None);
        }
        if self.next == self.first + (self.together.len() / BLOCK) as u64 {
            let count = TOGETHER.min(self.end - self.next);
            self.together.resize(size(count) * BLOCK, 0);
            file.read_at(block::offset(self.next), &mut self.together)?;
            self.first = self.next;
        }
        self.next += 1;
        Ok(Some(self.next - 1))
    }

    /// The block that was gone on to.
    pub(super) fn block(&self) -> &[u8] {
        let at = size(self.next.saturating_sub(1 + self.first)) * BLOCK;
        self.together.get(at..at + BLOCK).unwrap_or_default()
    }
}

/// Goes through the outcomes of a run by their hashes. Damaged blocks are passed over, and noted.
#[derive(Debug)]
pub(super) struct Cursor {
    run: Arc<Run>,
    blocks: Blocks,
    outcomes: Option<Outcomes>,
}

impl Cursor {
    pub(super) fn new(run: Arc<Run>) -> Self {
        let blocks = Blocks::new(0, run.fence.len() as u64);
        Self { run, blocks, outcomes: None }
    }

    /// The hash of the next outcome; `None` at the end.
    ///
    /// # Errors
    /// The disk cannot be read now.
    pub(super) fn next(&mut self) -> io::Result<Option<u128>> {
        loop {
            match self.outcomes.as_mut().map(|outcomes| outcomes.next(self.blocks.block())) {
                Some(Ok(Some(hash))) => return Ok(Some(hash)),
                Some(Err(_)) => self.run.note_damaged(self.blocks.next - 1),
                Some(Ok(None)) | None => {}
            }
            let Some(n) = self.blocks.next(&*self.run.file)? else { return Ok(None) };
            self.outcomes = Outcomes::of(self.blocks.block(), self.run.seed, n);
            if self.outcomes.is_none() {
                self.run.note_damaged(n);
            }
        }
    }

    /// The outcome that was gone on to.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.outcomes.as_ref().map(Outcomes::outcome)
    }
}
