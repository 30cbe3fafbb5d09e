//! Writes a run: under a temporary name, synced, renamed, the directory synced. Only then there is one.

use std::io;
use std::sync::Arc;

use super::super::files::PlainFile;
use super::super::journal::layout::{Part, Seed};
use super::block::{self, BLOCK, Gathered};
use super::filter::{Filter, Probe, upper};
use super::run::{Footer, Home, Run, RunId, WORDS};
use crate::codec::len32;
use crate::state::Outcome;

/// Bytes that are handed to the file system together.
const TOGETHER: usize = 64 * BLOCK;

/// So many bytes at most wait to be synced, for what a large run leaves in the page cache holds up everybody's syncs.
const UNSYNCED_MAX: u64 = 8 << 20;

/// The suffix of a run that is not one yet.
pub(super) const TEMPORARY: &str = ".tmp";

/// Makes a run of at most so many outcomes. `fill` adds them by ascending hash, and may give up by saying false. Whatever goes
/// wrong, nothing is left of it but perhaps a file of a temporary name, which the next start removes.
///
/// # Errors
/// The first of the file system.
pub(super) fn run(
    home: &Home,
    id: RunId,
    entries_max: u64,
    fill: impl FnOnce(&mut Writer) -> io::Result<bool>,
) -> io::Result<Option<Run>> {
    let name = id.name();
    let temporary = format!("{name}{TEMPORARY}");
    let made = (|| {
        let file = home.directory.create(&temporary)?;
        let mut writer = Writer::new(file, Seed::of_run(&home.secret, &name), entries_max);
        if !fill(&mut writer)? {
            return Ok(None);
        }
        let run = writer.finish(id)?;
        home.directory.rename(&temporary, &name)?;
        home.directory.sync()?;
        Ok(Some(run))
    })();
    if !matches!(made, Ok(Some(_))) {
        give_up(home, id);
    }
    made
}

/// Removes what was written of a run that nobody will take in, whichever name it got to.
pub(super) fn give_up(home: &Home, id: RunId) {
    home.remove(&format!("{}{TEMPORARY}", id.name()));
    home.remove(&id.name());
}

/// A run while it is written.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<dyn PlainFile>,
    seed: Seed,
    /// Whole blocks on their way to the file, and what it has.
    waiting: Vec<u8>,
    written: u64,
    synced: u64,
    gathered: Gathered,
    entries: u64,
    fence: Vec<u32>,
    filter: Filter,
}

impl Writer {
    fn new(file: Arc<dyn PlainFile>, seed: Seed, entries_max: u64) -> Self {
        Self {
            file,
            seed,
            waiting: Vec::with_capacity(TOGETHER + BLOCK),
            written: 0,
            synced: 0,
            gathered: Gathered::new(),
            entries: 0,
            fence: Vec::new(),
            filter: Filter::new(entries_max),
        }
    }

    /// Adds an outcome, of a higher hash than the one before.
    pub(super) fn add(&mut self, hash: u128, outcome: &Outcome) -> io::Result<()> {
        if self.gathered.is_empty() || !self.gathered.add(hash, outcome) {
            self.end_block()?;
            self.fence.push(upper(hash));
            self.gathered.add(hash, outcome);
        }
        self.filter.insert(&Probe::of(hash));
        self.entries += 1;
        Ok(())
    }

    /// Bytes the file has so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    fn end_block(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        self.gathered.take(&mut self.waiting, self.seed, self.fence.len() as u64 - 1);
        self.write(TOGETHER)
    }

    /// Hands what waits to the file, once it is that much.
    fn write(&mut self, least: usize) -> io::Result<()> {
        if self.waiting.len() >= least {
            self.file.write_at(self.written, &self.waiting)?;
            self.written += self.waiting.len() as u64;
            self.waiting.clear();
        }
        if self.written - self.synced >= UNSYNCED_MAX {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    fn finish(mut self, id: RunId) -> io::Result<Run> {
        self.end_block()?;
        let blocks = len32(self.fence.len());
        let two = |pair: &[u32]| {
            let half = |at: usize| u64::from(pair.get(at).copied().unwrap_or_default());
            half(0) | half(1) << 32
        };
        let fence: Vec<u64> = self.fence.chunks(2).map(two).collect();
        let mut n = u64::from(blocks);
        let mut content = Vec::with_capacity(block::CONTENT);
        let filter = std::mem::replace(&mut self.filter, Filter::blank(0));
        let mut words = fence.into_iter().chain(filter.words()).peekable();
        while words.peek().is_some() {
            content.clear();
            words.by_ref().take(WORDS).for_each(|word| content.extend(word.to_le_bytes()));
            block::put(&mut self.waiting, self.seed, Part::Table, n, &content);
            n += 1;
            self.write(TOGETHER)?;
        }
        let footer = Footer { entries: self.entries, blocks, lines: filter.lines() };
        block::put(&mut self.waiting, self.seed, Part::Footer, n, &footer.encode());
        self.write(0)?;
        self.file.sync()?;
        drop(words);
        let sizes = (self.entries, self.written);
        Ok(Run::new(id, (self.file, self.seed), sizes, (self.fence, filter)))
    }
}
