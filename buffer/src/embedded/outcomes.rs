//! The outcome index: answers duplicates of orders whose journal segment is gone.
//!
//! Losing it changes no effect: a late duplicate then drains again, and the OMS's identity and fingerprint decide, or, where
//! the OMS does not refuse a second create, a look at it first (`state::look_first`). So what of it is damaged is set aside or
//! passed over, and said.
//!
//! It consists of *runs* ([`run`]): files sorted by the keys' hashes that never change. A retired segment leaves one; a
//! thread merges small ones into larger ones ([`merge`], [`keeper`]) and removes those of a stretch of time that is past
//! the horizon. The writer asks filters in memory, and never reads the disk.
//!
//! ```text
//! outcomes.rs          what the writer sees
//! outcomes/entry.rs    one outcome's bytes      block.rs   4 KiB of them, with a checksum
//!          run.rs      a run, to be asked       write.rs   a run being written
//!          scan.rs     a run, gone through      filter.rs  a run's filter
//!          merge.rs    several runs to one      keeper.rs  the list of runs and its thread
//!          archive.rs  the index of a store that nobody writes to
//!          reach.rs    how far back everything is there
//! ```
//! The bytes are described in `docs/outcome-index-1.md`.

mod archive;
mod block;
mod entry;
mod filter;
mod keeper;
mod merge;
mod reach;
mod run;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::files::{RealDirectory, no_room};
use crate::metrics;
use crate::state::Outcome;
use crate::view::OutcomeFigures;
pub(super) use archive::Archive;
use keeper::{Found, Keeper, Shared, find, set_aside};
use run::{Home, Run, RunId, Span};

/// Stretches the horizon is cut into.
const STRETCHES: i64 = 8;
/// What a run takes of the disk at most, and more for each usual outcome in it.
const RUN_BYTES: u64 = 64 << 10;
const ENTRY_BYTES: u64 = 128;
/// What becomes of repeats whose outcome is not known any more.
const THEN: &str =
    "repeats of orders summarised long ago are drained again, and the OMS tells that it has them";

/// The index.
#[derive(Debug)]
pub(super) struct Outcomes {
    keeper: Keeper,
    stretch_ms: i64,
    horizon_ms: i64,
    /// How long outcomes are remembered, and how long they were before.
    horizon: Duration,
    remembered: Option<Duration>,
    /// Of the last batch.
    number: u64,
    /// See [`Outcomes::stored_below`].
    stored_below: u64,
    generation: u64,
}

/// Outcomes on their way into the index. It can be filled and stored on any thread.
pub(super) struct Batch {
    shared: Arc<Shared>,
    number: u64,
    stretch_ms: i64,
    entries: Vec<(Span, u128, Outcome)>,
    /// From how far the index reached to how far it reaches with this.
    reach: (u64, u64),
}

/// A batch that is durable; nothing sees it before [`Outcomes::stored`].
pub(super) struct Stored {
    runs: Vec<Arc<Run>>,
    stored_below: u64,
}

/// A look at the index that can be made on any thread.
pub(super) struct Seek {
    hash: u128,
    runs: Vec<Arc<Run>>,
    shared: Arc<Shared>,
}

impl Seek {
    /// The outcome, if it is there. Blocks on the disk. One that cannot be read is forgotten.
    pub(super) fn find(&self) -> Option<Outcome> {
        self.runs.iter().find_map(|run| {
            run.find(self.hash).unwrap_or_else(|error| {
                self.shared.forgot();
                metrics::outcomes_failed();
                tracing::warn!(%error, "the outcome index cannot be read");
                None
            })
        })
    }
}

impl fmt::Debug for Seek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seek").finish_non_exhaustive()
    }
}

impl Outcomes {
    /// Opens or creates the index in `dir`, which keeps `reserve` bytes of disk for when it is full; what is not as it should
    /// be is told in words.
    ///
    /// # Errors
    /// In words: no index can be made there at all.
    pub(super) fn open(
        dir: &Path,
        secret: [u8; 16],
        reserve: u64,
        horizon: Duration,
    ) -> Result<(Self, Vec<String>), String> {
        let closed = |error: io::Error| {
            let dir = dir.display();
            format!("the outcome index in {dir} cannot be opened, and is not damaged: {error}")
        };
        let mut notes = Vec::from_iter(clear_away(dir).map_err(closed)?);
        let directory = Box::new(RealDirectory::make(dir).map_err(closed)?);
        let (mut outcomes, more) =
            Self::open_on(Home { directory, secret, reserve }, horizon).map_err(closed)?;
        outcomes.keeper.start().map_err(closed)?;
        notes.extend(more);
        Ok((outcomes, notes))
    }

    /// The same, without a thread.
    fn open_on(home: Home, horizon: Duration) -> io::Result<(Self, Vec<String>)> {
        let mut found = find(&home)?;
        let mut notes: Vec<_> = found.runs.iter().filter_map(|run| partly_damaged(run)).collect();
        let (number, stored_below) = (found.highest, found.stored_below);
        let remembered = found.remembered;
        let keeper = Keeper::of(home, &mut found)?;
        notes.extend(left_out(&found));
        let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX / 2);
        let stretch_ms = (horizon_ms / STRETCHES).max(60_000);
        let outcomes = Self {
            keeper,
            stretch_ms,
            horizon_ms,
            horizon,
            remembered,
            number,
            stored_below,
            generation: 0,
        };
        Ok((outcomes, notes))
    }

    /// Where the outcome of that hash may be. `None` says that it is nowhere: of the keys never seen all but a few in a
    /// hundred cost no disk read.
    pub(super) fn seek(&self, hash: u128) -> Option<Seek> {
        let shared = &self.keeper.shared;
        let runs = shared.seek(hash);
        (!runs.is_empty()).then(|| Seek { hash, runs, shared: Arc::clone(shared) })
    }

    /// Another number whenever what is found may be another.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The outcomes of all segments below this epoch were stored here. Less than what the journal has retired: this is not
    /// the index that was there, or not all of it.
    pub(super) fn stored_below(&self) -> u64 {
        self.stored_below
    }

    /// How long outcomes are remembered.
    pub(super) fn horizon(&self) -> Duration {
        self.horizon
    }

    /// By how much longer outcomes are remembered now than before: what was placed that much earlier may be forgotten already.
    pub(super) fn remembers_longer(&self) -> Option<Duration> {
        let longer = self.horizon.checked_sub(self.remembered?)?;
        (!longer.is_zero()).then_some(longer)
    }

    /// Notes durably for how long outcomes are remembered from now on.
    ///
    /// # Errors
    /// Of the file system.
    pub(super) fn note_horizon(&self) -> io::Result<()> {
        reach::remember(&self.keeper.shared.home, self.horizon)
    }

    /// Whether, since this was last asked, an outcome was forgotten, so that its key is taken for a new one.
    pub(super) fn has_forgotten(&self) -> bool {
        self.keeper.shared.forgotten.swap(false, Ordering::AcqRel)
    }

    /// An outcome was forgotten.
    pub(super) fn forgot(&self) {
        self.keeper.shared.forgot();
    }

    /// An empty batch, to be filled and stored on any thread before the next one is begun. With it the outcomes of all segments
    /// below that epoch are stored.
    pub(super) fn batch(&mut self, stored_below: u64) -> Batch {
        self.number += 1;
        let (shared, stretch_ms) = (Arc::clone(&self.keeper.shared), self.stretch_ms);
        let reach = (self.stored_below, stored_below);
        Batch { shared, number: self.number, stretch_ms, entries: Vec::new(), reach }
    }

    /// Notes that the outcomes of all segments below that epoch are stored, as far as they ever will be.
    ///
    /// # Errors
    /// In words.
    pub(super) fn store_nothing(&mut self, stored_below: u64) -> Result<(), String> {
        let stored = self.batch(stored_below).store()?;
        self.stored(stored);
        Ok(())
    }

    /// Lets a stored batch be found from now on.
    pub(super) fn stored(&mut self, stored: Stored) {
        self.generation += 1;
        self.stored_below = stored.stored_below;
        self.keeper.shared.add(stored.runs);
        let figures = self.figures();
        metrics::outcomes(figures.outcomes, figures.runs, figures.disk_bytes, figures.memory_bytes);
    }

    /// Drops what settled longer than the horizon ago.
    pub(super) fn expire(&mut self, now_ms: i64) {
        self.generation += 1;
        self.keeper.shared.drop_until(now_ms.saturating_sub(self.horizon_ms));
    }

    /// How much there is.
    pub(super) fn figures(&self) -> OutcomeFigures {
        let mut figures = OutcomeFigures::default();
        self.keeper.shared.each(|run| {
            figures.outcomes += run.entries;
            figures.runs += 1;
            figures.disk_bytes += run.disk_bytes;
            figures.memory_bytes += run.memory_bytes();
            figures.damaged_blocks += run.damaged_blocks();
        });
        figures
    }

    /// Waits until nothing is left to be merged or removed.
    pub(super) fn wait_until_idle(&self) {
        self.keeper.shared.wait_until_idle();
    }
}

impl Batch {
    /// Adds an outcome.
    pub(super) fn add(&mut self, hash: u128, outcome: &Outcome) {
        let span = Span::of(outcome.settled_at_ms, self.stretch_ms);
        self.entries.push((span, hash, outcome.clone()));
    }

    /// Leaves an outcome out that cannot be told any more.
    pub(super) fn leave_out(&self) {
        self.shared.forgot();
    }

    /// Makes the outcomes durable, a run for each stretch of time.
    ///
    /// # Errors
    /// In words; then nothing may be taken as stored.
    pub(super) fn store(mut self) -> Result<Stored, String> {
        // Of two of one hash, the one added later.
        self.entries.reverse();
        self.entries.sort_by_key(|(span, hash, _)| (*span, *hash));
        self.entries.dedup_by_key(|(span, hash, _)| (*span, *hash));
        let mut runs = Vec::new();
        match self.store_all(&mut runs) {
            Ok(()) => Ok(Stored { runs, stored_below: self.reach.1 }),
            Err(error) => {
                // They are written again with the rest.
                runs.iter().for_each(|run| write::give_up(&self.shared.home, run.id));
                Err(error.to_string())
            }
        }
    }

    fn store_all(&self, runs: &mut Vec<Arc<Run>>) -> io::Result<()> {
        for stretch in self.entries.chunk_by(|(one, ..), (other, ..)| one == other) {
            let run = self.also_in_reserve(stretch.len(), || self.store_one(stretch))?;
            runs.extend(run.map(Arc::new));
        }
        let (from, to) = self.reach;
        let extended = self.also_in_reserve(0, || reach::extend(&self.shared.home, from, to))?;
        if !extended {
            // Another index than the one that was open: what was in it is forgotten with the process.
            self.shared.forgot();
        }
        Ok(())
    }

    /// Does it again with room from the reserve, if there is none for so many outcomes otherwise.
    fn also_in_reserve<T>(
        &self,
        outcomes: usize,
        store: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let bytes = RUN_BYTES + ENTRY_BYTES.saturating_mul(outcomes as u64);
        match store() {
            Err(error) if no_room(&error) => {
                if self.shared.home.give_room(bytes)? {
                    store()
                } else {
                    Err(error)
                }
            }
            stored => stored,
        }
    }

    fn store_one(&self, stretch: &[(Span, u128, Outcome)]) -> io::Result<Option<Run>> {
        let Some((span, ..)) = stretch.first() else { return Ok(None) };
        let id = RunId { span: *span, first: self.number, last: self.number };
        write::run(&self.shared.home, id, stretch.len() as u64, |writer| {
            stretch.iter().try_for_each(|(_, hash, outcome)| writer.add(*hash, outcome))?;
            Ok(true)
        })
    }
}

/// Sets aside what is no directory of runs: of an earlier form, or no directory at all.
fn clear_away(dir: &Path) -> io::Result<Option<String>> {
    let what = match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(_) if dir.join("db").exists() && dir.join("conf").exists() => {
            "was of the form before runs"
        }
        Ok(_) if !dir.is_dir() => "was no directory",
        Ok(_) => return Ok(None),
    };
    let aside = set_aside(dir)?;
    Ok(Some(format!("the outcome index {what} and is set aside as {}; {THEN}", aside.display())))
}

fn partly_damaged(run: &Run) -> Option<String> {
    let blocks = run.damaged_blocks();
    (blocks > 0).then(|| {
        let name = run.id.name();
        format!("{blocks} blocks of {name} in the outcome index are damaged; {THEN}")
    })
}

/// What is said of runs that are not kept.
fn left_out(found: &Found) -> impl Iterator<Item = String> {
    let lost = found.lost.iter();
    let lost = lost.map(|name| format!("a damaged run of the outcome index is {name} now; {THEN}"));
    let unread = found.unread.iter().map(|(name, error)| {
        format!("{name} in the outcome index cannot be read and is left out ({error}); {THEN}")
    });
    lost.chain(unread)
}

/// There is no directory; a start makes one.
fn is_nowhere(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// One run, looked at offline.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) outcomes: u64,
    /// Blocks that do not verify; `None` if it cannot be read at all.
    pub(super) damaged_blocks: Option<u64>,
}

/// Reads every run in `dir` whole, and changes nothing.
///
/// # Errors
/// The directory cannot be read.
pub(super) fn look(dir: &Path, secret: [u8; 16]) -> io::Result<Vec<Looked>> {
    let home = Home { directory: Box::new(RealDirectory::look(dir)), secret, reserve: 0 };
    let found = match find(&home) {
        Err(error) if is_nowhere(&error) => return Ok(Vec::new()),
        found => found?,
    };
    let gone = found.lost.into_iter().chain(found.unread.into_iter().map(|(name, _)| name));
    let gone = gone.map(|name| Looked { name, bytes: 0, outcomes: 0, damaged_blocks: None });
    let kept = found.runs.into_iter().map(|run| {
        let read = run.verify().is_ok();
        Looked {
            name: run.id.name(),
            bytes: run.disk_bytes,
            outcomes: run.entries,
            damaged_blocks: read.then(|| run.damaged_blocks()),
        }
    });
    Ok(kept.chain(gone).collect())
}
