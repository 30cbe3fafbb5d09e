//! The outcome index: answers duplicates of orders whose journal segment is gone. The only room that names sled.
//!
//! Losing it changes no effect: a late duplicate then drains again, and the OMS's identity and fingerprint decide, or, where
//! the OMS does not refuse a second create, a look at it first (`state::look_first`). So a damaged index is set aside as
//! `outcomes.bad-<n>`, and an empty one takes its place.
//!
//! One sled tree per stretch of time, dropped whole when it is past the horizon; its filter goes with it. Where the disk
//! has no room, nothing is stored and the segment stays; after a failure the next batch opens the index again.

mod entry;
mod index;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::filter::Filter;
use crate::state::Outcome;
use entry::{decode, encode};
use index::{Index, Span, Unopened, room_for, set_aside, words};

/// Trees the horizon is cut into.
const STRETCHES: i64 = 8;

/// The index, and its filters in memory.
pub(super) struct Outcomes {
    dir: PathBuf,
    /// `None` after a failure, until a batch has opened it again.
    index: Option<Index>,
    filters: BTreeMap<Span, Filter>,
    stretch_ms: i64,
    horizon_ms: i64,
    generation: u64,
    /// An outcome was not kept, or not found though it was.
    forgot: Arc<AtomicBool>,
}

/// Outcomes on their way into the index. It can be stored on any thread; nothing sees them there before
/// [`Outcomes::stored`].
pub(super) struct Batch {
    dir: PathBuf,
    index: Goes,
    stretch_ms: i64,
    entries: Vec<(Span, u128, Vec<u8>)>,
    stored_below: u64,
    forgot: Arc<AtomicBool>,
}

/// Where a batch goes.
enum Goes {
    Open(Index),
    /// To be opened again first, with these spans; then it is here, and whether it is another one.
    Closed(Vec<Span>, Mutex<Option<(Index, bool)>>),
}

/// A look at the index that can be made on any thread.
pub(super) struct Seek {
    hash: u128,
    trees: Vec<sled::Tree>,
    forgot: Arc<AtomicBool>,
}

impl Seek {
    /// The outcome, if it is there. Blocks on the disk. An entry that cannot be read is forgotten.
    pub(super) fn find(&self) -> Option<Outcome> {
        let get = |tree: &sled::Tree| {
            // sled may panic on a file it cannot make sense of.
            let got = catch_unwind(AssertUnwindSafe(|| tree.get(self.hash.to_be_bytes())));
            got.map_err(|_| "its file makes no sense".to_owned())?.map_err(words)
        };
        self.trees.iter().find_map(|tree| match get(tree) {
            Ok(bytes) => {
                let outcome = decode(&bytes?);
                self.forgot.fetch_or(outcome.is_none(), Ordering::AcqRel);
                outcome
            }
            Err(error) => {
                self.forgot.store(true, Ordering::Release);
                crate::metrics::outcomes_failed();
                tracing::warn!(%error, "the outcome index cannot be read");
                None
            }
        })
    }
}

impl fmt::Debug for Seek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seek").finish_non_exhaustive()
    }
}

impl Outcomes {
    /// Opens or creates the index in `dir`; what went wrong with an older one is told in words.
    ///
    /// # Errors
    /// In words: no index can be made there at all.
    pub(super) fn open(dir: &Path, horizon: Duration) -> Result<(Self, Vec<String>), String> {
        let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX / 2);
        match Self::try_open(dir, horizon_ms) {
            Ok(outcomes) => Ok((outcomes, Vec::new())),
            Err(Unopened::Trouble(reason)) => Err(format!(
                "the outcome index in {} cannot be opened, and is not damaged: {reason}",
                dir.display()
            )),
            Err(Unopened::Damaged(reason)) => {
                let aside = set_aside(dir).map_err(|error| {
                    format!("the outcome index cannot be opened ({reason}) or set aside: {error}")
                })?;
                let outcomes = Self::try_open(dir, horizon_ms).map_err(|again| match again {
                    Unopened::Damaged(reason) | Unopened::Trouble(reason) => reason,
                })?;
                let note = format!(
                    "the outcome index was damaged ({reason}) and is set aside as {}; an empty one takes its place",
                    aside.display()
                );
                Ok((outcomes, vec![note]))
            }
        }
    }

    fn try_open(dir: &Path, horizon_ms: i64) -> Result<Self, Unopened> {
        let index = Index::open(dir, |_| true)?;
        let filters = catch_unwind(AssertUnwindSafe(|| filters_of(&index)));
        let filters = filters
            .unwrap_or_else(|_| Err(Unopened::Damaged("its file makes no sense".to_owned())))?;
        Ok(Self {
            dir: dir.to_owned(),
            index: Some(index),
            filters,
            stretch_ms: (horizon_ms / STRETCHES).max(60_000),
            horizon_ms,
            generation: 0,
            forgot: Arc::default(),
        })
    }

    /// Where the outcome of that hash may be. `None` says that it is nowhere: a key never seen costs no disk read (one
    /// in a hundred excepted).
    pub(super) fn seek(&self, hash: u128) -> Option<Seek> {
        let filters = self.filters.iter().rev();
        let mut hits = filters.filter(|(_, filter)| filter.may_hold(hash)).peekable();
        let Some(index) = &self.index else {
            self.forgot.fetch_or(hits.peek().is_some(), Ordering::AcqRel);
            return None;
        };
        let trees: Vec<_> = hits.filter_map(|(span, _)| index.trees.get(span).cloned()).collect();
        let forgot = Arc::clone(&self.forgot);
        (!trees.is_empty()).then_some(Seek { hash, trees, forgot })
    }

    /// Another number whenever what is found may be another.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The outcomes of all segments below this epoch were stored here. Less than what the journal has retired: this is not
    /// the index that was there, or not all of it.
    pub(super) fn stored_below(&self) -> u64 {
        self.index.as_ref().map_or(0, |index| index.stored_below)
    }

    /// Whether, since this was last asked, an outcome was forgotten, so that its key is taken for a new one.
    pub(super) fn has_forgotten(&self) -> bool {
        self.forgot.swap(false, Ordering::AcqRel)
    }

    /// An outcome was forgotten.
    pub(super) fn forgot(&self) {
        self.forgot.store(true, Ordering::Release);
    }

    /// An empty batch, to be filled and stored on any thread. With it the outcomes of all segments below that epoch are
    /// stored.
    pub(super) fn batch(&mut self, stored_below: u64) -> Batch {
        if let Some(failed) = self.index.take_if(|index| index.has_failed()) {
            self.generation += 1;
            failed.close();
        }
        let index = match &self.index {
            Some(index) => Goes::Open(index.clone()),
            None => Goes::Closed(self.filters.keys().copied().collect(), Mutex::default()),
        };
        let (dir, stretch_ms) = (self.dir.clone(), self.stretch_ms);
        let forgot = Arc::clone(&self.forgot);
        Batch { dir, index, stretch_ms, entries: Vec::new(), stored_below, forgot }
    }

    /// Lets a stored batch be found from now on.
    ///
    /// # Errors
    /// In words; then the outcomes are not in the index.
    pub(super) fn stored(&mut self, batch: &Batch) -> Result<(), String> {
        self.generation += 1;
        if let Some((index, another)) = batch.opened() {
            if another {
                self.forgot();
                self.filters.clear();
            }
            self.index = Some(index);
        }
        let index = self.index.as_mut().ok_or("the index is closed")?;
        index.stored_below = batch.stored_below;
        for (span, hash, _) in &batch.entries {
            index.know(*span)?;
            self.filters.entry(*span).or_default().insert(*hash);
        }
        Ok(())
    }

    /// Notes that the outcomes of all segments below that epoch are stored, as far as they ever will be.
    ///
    /// # Errors
    /// In words.
    pub(super) fn store_nothing(&mut self, stored_below: u64) -> Result<(), String> {
        let batch = self.batch(stored_below);
        batch.store()?;
        self.stored(&batch)
    }

    /// Drops what settled longer than the horizon ago.
    pub(super) fn expire(&mut self, now_ms: i64) {
        self.generation += 1;
        let horizon = now_ms.saturating_sub(self.horizon_ms);
        while let Some(entry) = self.filters.first_entry() {
            if entry.key().end_ms > horizon {
                break;
            }
            let (span, _) = entry.remove_entry();
            // What is dropped while it is closed goes when it is opened again.
            if let Some(index) = &mut self.index {
                index.drop_span(span);
            }
        }
    }
}

fn filters_of(index: &Index) -> Result<BTreeMap<Span, Filter>, Unopened> {
    let mut filters = BTreeMap::new();
    for (span, tree) in &index.trees {
        let mut filter = Filter::default();
        for entry in tree {
            let (key, _) = entry?;
            let hash = key.as_ref().try_into();
            let hash = hash.map_err(|_| Unopened::Damaged("a key of another size".to_owned()));
            filter.insert(u128::from_be_bytes(hash?));
        }
        filters.insert(*span, filter);
    }
    Ok(filters)
}

impl Batch {
    /// Adds an outcome.
    pub(super) fn add(&mut self, hash: u128, outcome: &Outcome) {
        let span = Span::of(outcome.settled_at_ms, self.stretch_ms);
        self.entries.push((span, hash, encode(outcome)));
    }

    /// Leaves an outcome out that cannot be told any more.
    pub(super) fn leave_out(&self) {
        self.forgot.store(true, Ordering::Release);
    }

    /// Writes the outcomes and syncs them.
    ///
    /// # Errors
    /// In words; then nothing may be taken as stored.
    pub(super) fn store(&self) -> Result<(), String> {
        let bytes: usize = self.entries.iter().map(|(_, _, bytes)| 16 + bytes.len()).sum();
        room_for(&self.dir, bytes as u64)?;
        match &self.index {
            Goes::Open(index) => index.store(&self.entries, self.stored_below),
            Goes::Closed(spans, place) => {
                let (index, another) = Index::open_again(&self.dir, spans)?;
                tracing::info!("the outcome index is open again");
                index.store(&self.entries, self.stored_below)?;
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some((index, another));
                Ok(())
            }
        }
    }

    /// The index that it opened.
    fn opened(&self) -> Option<(Index, bool)> {
        match &self.index {
            Goes::Open(_) => None,
            Goes::Closed(_, place) => place.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use forebay_order::Fingerprint;

    use super::*;
    use crate::OrderState;

    const DAY: Duration = Duration::from_secs(86_400);

    fn outcome(sequence: u64, settled_at_ms: i64) -> Outcome {
        Outcome {
            sequence,
            state: OrderState::Summarised,
            version: Some(7),
            newest: None,
            fingerprint: Fingerprint([3; 16]),
            fingerprint_version: 1,
            earlier: vec![Fingerprint([4; 16]), Fingerprint([5; 16])],
            accepted_at_ms: settled_at_ms - 5,
            settled_at_ms,
            attempts: 2,
            synthetic: true,
            summary_id: "1Os-7".to_owned(),
        }
    }

    fn find(outcomes: &Outcomes, hash: u128) -> Option<Outcome> {
        outcomes.seek(hash).and_then(|seek| seek.find())
    }

    fn put(outcomes: &mut Outcomes, hash: u128, outcome: Outcome) {
        let mut batch = outcomes.batch(1);
        batch.add(hash, &outcome);
        batch.store().unwrap();
        outcomes.stored(&batch).unwrap();
    }

    #[test]
    fn entries_read_back_and_anything_else_is_refused() {
        let outcome = outcome(9, 1_000);
        let bytes = encode(&outcome);
        assert_eq!(decode(&bytes), Some(outcome));
        for len in 0..62 {
            assert_eq!(decode(&bytes[..len]), None);
        }
        assert_eq!(decode(&[9; 80]), None);
    }

    #[test]
    fn outcomes_survive_a_reopen_and_end_with_the_horizon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        let day_ms = 86_400_000;
        {
            let (mut outcomes, notes) = Outcomes::open(&path, DAY).unwrap();
            assert_eq!(notes, Vec::<String>::new());
            put(&mut outcomes, 1, outcome(1, 0));
            put(&mut outcomes, 2, outcome(2, day_ms));
            assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)));
            assert_eq!(find(&outcomes, 3), None);
        }
        let (outcomes, notes) = Outcomes::open(&path, 3 * DAY).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)), "whatever the horizon is now");
        drop(outcomes);
        let (mut outcomes, notes) = Outcomes::open(&path, DAY).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)));
        outcomes.expire(day_ms + day_ms / 2);
        assert_eq!(find(&outcomes, 1), None);
        assert_eq!(find(&outcomes, 2), Some(outcome(2, day_ms)));
    }

    #[test]
    fn a_failed_index_is_opened_again_by_the_next_batch() {
        let dir = tempfile::tempdir().unwrap();
        let (mut outcomes, _) = Outcomes::open(&dir.path().join("outcomes"), DAY).unwrap();
        put(&mut outcomes, 1, outcome(1, 0));
        outcomes.index.as_ref().unwrap().fail();
        let mut batch = outcomes.batch(1);
        batch.add(2, &outcome(2, 0));
        assert!(outcomes.index.is_none(), "it is closed");
        assert_eq!(find(&outcomes, 1), None, "and knows nothing");
        batch.store().unwrap();
        outcomes.stored(&batch).unwrap();
        assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)), "what it held is there again");
        assert_eq!(find(&outcomes, 2), Some(outcome(2, 0)));
        drop(batch);
        put(&mut outcomes, 3, outcome(3, 0));
        assert_eq!(find(&outcomes, 3), Some(outcome(3, 0)));
    }

    #[test]
    fn a_failed_index_whose_file_makes_no_sense_starts_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        let (mut outcomes, _) = Outcomes::open(&path, DAY).unwrap();
        put(&mut outcomes, 1, outcome(1, 0));
        outcomes.index.as_ref().unwrap().fail();
        let mut batch = outcomes.batch(1);
        batch.add(2, &outcome(2, 0));
        index::wait_until_let_go(&path).unwrap();
        fs::write(path.join("conf"), b"no settings").unwrap();
        fs::write(path.join("db"), vec![0xa5; 4096]).unwrap();
        batch.store().unwrap();
        outcomes.stored(&batch).unwrap();
        assert_eq!(find(&outcomes, 1), None);
        assert_eq!(find(&outcomes, 2), Some(outcome(2, 0)));
        assert!(dir.path().join("outcomes.bad-1").exists());
    }

    #[test]
    fn where_the_disk_has_no_room_sled_is_not_asked_to_write() {
        let dir = tempfile::tempdir().unwrap();
        room_for(dir.path(), 4096).unwrap();
        let refused = room_for(dir.path(), u64::MAX).unwrap_err();
        assert!(refused.contains("bytes free"), "{refused}");
    }

    #[test]
    fn an_index_that_was_just_dropped_is_not_taken_for_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        for n in 0..30 {
            let (mut outcomes, notes) = Outcomes::open(&path, DAY).unwrap();
            assert_eq!(notes, Vec::<String>::new());
            assert_eq!(find(&outcomes, n), None);
            put(&mut outcomes, n, outcome(1, 0));
        }
    }

    #[test]
    fn a_damaged_index_is_set_aside_and_an_empty_one_takes_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("outcomes");
        for n in 1..3 {
            let (mut outcomes, _) = Outcomes::open(&path, DAY).unwrap();
            put(&mut outcomes, 1, outcome(1, 0));
            drop(outcomes);
            fs::write(path.join("conf"), b"no settings").unwrap();
            fs::write(path.join("db"), vec![0xa5; 4096]).unwrap();
            let (outcomes, notes) = Outcomes::open(&path, DAY).unwrap();
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert_eq!(find(&outcomes, 1), None);
            assert!(dir.path().join(format!("outcomes.bad-{n}")).exists());
        }
    }
}
