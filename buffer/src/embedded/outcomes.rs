//! The outcome index: answers duplicates of orders whose journal segment is gone. The only file that names sled.
//!
//! Losing it changes no effect: a late duplicate then drains again, and the OMS's identity and fingerprint
//! decide. So a damaged index is set aside as `outcomes.bad-<n>`, and an empty one takes its place.
//!
//! One sled tree per stretch of time, dropped whole when it is past the horizon; its filter goes with it. sled's own
//! flush does not survive a power cut on Linux (it never calls fsync), hence the `sync_data` on its file here.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_order::Fingerprint;

use super::filter::Filter;
use crate::OrderState;
use crate::state::Outcome;

/// Trees the horizon is cut into.
const STRETCHES: i64 = 8;
const CACHE_BYTES: u64 = 32 << 20;
/// Linux's numbers for "too many open files", which have no kind of their own.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const TREE_PREFIX: &str = "outcomes-1-";
/// First byte of an entry.
const ENTRY_FORMAT: u8 = 1;

/// The index, and its filters in memory.
pub(super) struct Outcomes {
    db: sled::Db,
    file: Arc<File>,
    stretch_ms: i64,
    horizon_ms: i64,
    stretches: BTreeMap<Span, Stretch>,
    generation: u64,
}

/// From when to when the outcomes of one tree settled, ms since 1970. It stands in the tree's name, for the horizon may
/// be another at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    end_ms: i64,
    start_ms: i64,
}

impl Span {
    fn of(settled_at_ms: i64, stretch_ms: i64) -> Self {
        let start_ms = settled_at_ms.div_euclid(stretch_ms).saturating_mul(stretch_ms);
        Self { start_ms, end_ms: start_ms.saturating_add(stretch_ms) }
    }

    fn tree_name(self) -> String {
        format!("{TREE_PREFIX}{}-{}", self.start_ms, self.end_ms)
    }

    fn parse(tree_name: &[u8]) -> Option<Self> {
        let spans = std::str::from_utf8(tree_name).ok()?.strip_prefix(TREE_PREFIX)?;
        let (start_ms, end_ms) = spans.split_once('-')?;
        Some(Self { start_ms: start_ms.parse().ok()?, end_ms: end_ms.parse().ok()? })
    }
}

/// Why the index was not opened.
enum Unopened {
    /// What is there makes no sense: it may be set aside.
    Damaged(String),
    /// The machine's trouble (no space, no file handles, no permission): what is there may be whole.
    Trouble(String),
}

impl From<sled::Error> for Unopened {
    fn from(error: sled::Error) -> Self {
        match error {
            sled::Error::Io(error) => Self::from(error),
            error => Self::Damaged(error.to_string()),
        }
    }
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let kind = error.kind();
        let no_room = matches!(kind, Kind::StorageFull | Kind::QuotaExceeded | Kind::OutOfMemory);
        let forbidden = matches!(kind, Kind::PermissionDenied | Kind::ReadOnlyFilesystem);
        let no_handles = matches!(error.raw_os_error(), Some(ENFILE | EMFILE));
        if no_room || forbidden || no_handles {
            Self::Trouble(error.to_string())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

struct Stretch {
    tree: sled::Tree,
    filter: Filter,
}

/// Outcomes on their way into the index. It can be stored on any thread; nothing sees them there before
/// [`Outcomes::stored`].
pub(super) struct Batch {
    db: sled::Db,
    file: Arc<File>,
    stretch_ms: i64,
    entries: Vec<(Span, u128, Vec<u8>)>,
}

/// A look at the index that can be made on any thread.
pub(super) struct Seek {
    hash: u128,
    trees: Vec<sled::Tree>,
}

impl Seek {
    /// The outcome, if it is there. Blocks on the disk.
    pub(super) fn find(&self) -> Option<Outcome> {
        self.trees.iter().find_map(|tree| match tree.get(self.hash.to_be_bytes()) {
            Ok(bytes) => decode(&bytes?),
            Err(error) => {
                // Losing the index changes no effect, so neither does one entry.
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
                    "the outcome index was damaged ({reason}) and is set aside as {}; repeats of orders summarised long ago are drained again, and the OMS tells that it has them",
                    aside.display()
                );
                Ok((outcomes, vec![note]))
            }
        }
    }

    fn try_open(dir: &Path, horizon_ms: i64) -> Result<Self, Unopened> {
        // sled may panic on a file it cannot make sense of.
        catch_unwind(AssertUnwindSafe(|| Self::open_or_create(dir, horizon_ms)))
            .unwrap_or_else(|_| Err(Unopened::Damaged("its file makes no sense".to_owned())))
    }

    fn open_or_create(dir: &Path, horizon_ms: i64) -> Result<Self, Unopened> {
        wait_until_let_go(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let db = config.open()?;
        let file = File::open(dir.join("db"))?;
        let mut outcomes = Self {
            db,
            file: Arc::new(file),
            stretch_ms: (horizon_ms / STRETCHES).max(60_000),
            horizon_ms,
            stretches: BTreeMap::new(),
            generation: 0,
        };
        for name in outcomes.db.tree_names() {
            let Some(span) = Span::parse(&name) else { continue };
            let tree = outcomes.db.open_tree(&name)?;
            let mut filter = Filter::default();
            for entry in &tree {
                let (key, _) = entry?;
                let hash = key.as_ref().try_into();
                let hash = hash.map_err(|_| Unopened::Damaged("a key of another size".to_owned()));
                filter.insert(u128::from_be_bytes(hash?));
            }
            outcomes.stretches.insert(span, Stretch { tree, filter });
        }
        sync_creation(dir)?;
        Ok(outcomes)
    }

    /// Where the outcome of that hash may be. `None` says that it is nowhere: a key never seen costs no disk read (one
    /// in a hundred excepted).
    pub(super) fn seek(&self, hash: u128) -> Option<Seek> {
        let stretches = self.stretches.values().rev();
        let hits = stretches.filter(|stretch| stretch.filter.may_hold(hash));
        let trees: Vec<_> = hits.map(|stretch| stretch.tree.clone()).collect();
        (!trees.is_empty()).then_some(Seek { hash, trees })
    }

    /// Another number whenever what is found may be another.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// An empty batch, to be filled and stored on any thread.
    pub(super) fn batch(&self) -> Batch {
        Batch {
            db: self.db.clone(),
            file: Arc::clone(&self.file),
            stretch_ms: self.stretch_ms,
            entries: Vec::new(),
        }
    }

    /// Lets a stored batch be found from now on.
    ///
    /// # Errors
    /// In words; then the outcomes are not in the index.
    pub(super) fn stored(&mut self, batch: &Batch) -> Result<(), String> {
        self.generation += 1;
        for (span, hash, _) in &batch.entries {
            if !self.stretches.contains_key(span) {
                let tree = self.db.open_tree(span.tree_name()).map_err(words)?;
                self.stretches.insert(*span, Stretch { tree, filter: Filter::default() });
            }
            if let Some(stretch) = self.stretches.get_mut(span) {
                stretch.filter.insert(*hash);
            }
        }
        Ok(())
    }

    /// Drops what settled longer than the horizon ago.
    pub(super) fn expire(&mut self, now_ms: i64) {
        self.generation += 1;
        let horizon = now_ms.saturating_sub(self.horizon_ms);
        while let Some(entry) = self.stretches.first_entry() {
            if entry.key().end_ms > horizon {
                break;
            }
            let (span, stretch) = entry.remove_entry();
            drop(stretch);
            if let Err(error) = self.db.drop_tree(span.tree_name()) {
                tracing::warn!(%error, "an old part of the outcome index cannot be dropped");
            }
        }
    }
}

impl Batch {
    /// Adds an outcome.
    pub(super) fn add(&mut self, hash: u128, outcome: &Outcome) {
        let span = Span::of(outcome.settled_at_ms, self.stretch_ms);
        self.entries.push((span, hash, encode(outcome)));
    }

    /// Writes the outcomes and syncs them.
    ///
    /// # Errors
    /// In words; then nothing may be taken as stored.
    pub(super) fn store(&self) -> Result<(), String> {
        let mut by_tree: BTreeMap<Span, sled::Batch> = BTreeMap::new();
        for (span, hash, bytes) in &self.entries {
            let batch = by_tree.entry(*span).or_default();
            batch.insert(&hash.to_be_bytes(), bytes.as_slice());
        }
        for (span, batch) in by_tree {
            let tree = self.db.open_tree(span.tree_name()).map_err(words)?;
            tree.apply_batch(batch).map_err(words)?;
        }
        self.db.flush().map_err(words)?;
        self.file.sync_data().map_err(words)
    }
}

fn words(error: impl fmt::Display) -> String {
    error.to_string()
}

/// An earlier index of this process lets its lock go on threads of sled's own, a moment after it was dropped; no other
/// process can have it, for the journal is locked.
fn wait_until_let_go(dir: &Path) -> std::io::Result<()> {
    match File::open(dir.join("db")) {
        Ok(file) => file.lock().and_then(|()| file.unlock()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Syncs what sled made and never syncs itself: its settings file and the directories.
fn sync_creation(dir: &Path) -> std::io::Result<()> {
    File::open(dir.join("db"))?.sync_all()?;
    let conf = dir.join("conf");
    if conf.exists() {
        File::open(conf)?.sync_all()?;
    }
    File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let free = |n: &u32| !bad_name(dir, *n).exists();
    let aside = bad_name(dir, (1..10_000).find(free).unwrap_or(10_000));
    fs::rename(dir, &aside)?;
    Ok(aside)
}

fn bad_name(dir: &Path, n: u32) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!(".bad-{n}"));
    dir.with_file_name(name)
}

/// Format byte, state, rule of the fingerprint, attempts, flags; then 8 bytes each of sequence, version, newest version,
/// accepted-at, settled-at; the fingerprint; a count and the earlier ones; the rest is the summary's id.
fn encode(outcome: &Outcome) -> Vec<u8> {
    let flags = u8::from(outcome.version.is_some())
        | u8::from(outcome.synthetic) << 1
        | u8::from(outcome.newest.is_some()) << 2;
    let earlier = outcome.earlier.get(..outcome.earlier.len().min(255)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(64 + 16 * earlier.len() + outcome.summary_id.len());
    bytes.push(ENTRY_FORMAT);
    bytes.push(outcome.state as u8);
    bytes.push(outcome.fingerprint_version);
    bytes.push(outcome.attempts);
    bytes.push(flags);
    bytes.extend(outcome.sequence.to_le_bytes());
    bytes.extend(outcome.version.unwrap_or_default().to_le_bytes());
    bytes.extend(outcome.newest.unwrap_or_default().to_le_bytes());
    bytes.extend(outcome.accepted_at_ms.to_le_bytes());
    bytes.extend(outcome.settled_at_ms.to_le_bytes());
    bytes.extend(outcome.fingerprint.0);
    bytes.push(u8::try_from(earlier.len()).unwrap_or(u8::MAX));
    earlier.iter().for_each(|fingerprint| bytes.extend(fingerprint.0));
    bytes.extend(outcome.summary_id.as_bytes());
    bytes
}

/// Reads what [`encode`] wrote; `None` for anything else.
fn decode(bytes: &[u8]) -> Option<Outcome> {
    let mut rest = bytes;
    let [format, state, fingerprint_version, attempts, flags] = take(&mut rest)?;
    if format != ENTRY_FORMAT {
        return None;
    }
    let state = match state {
        code if code == OrderState::Summarised as u8 => OrderState::Summarised,
        code if code == OrderState::Recorded as u8 => OrderState::Recorded,
        _ => return None,
    };
    let sequence = u64::from_le_bytes(take(&mut rest)?);
    let version = u64::from_le_bytes(take(&mut rest)?);
    let newest = u64::from_le_bytes(take(&mut rest)?);
    let accepted_at_ms = i64::from_le_bytes(take(&mut rest)?);
    let settled_at_ms = i64::from_le_bytes(take(&mut rest)?);
    let fingerprint = Fingerprint(take(&mut rest)?);
    let [count] = take(&mut rest)?;
    let mut earlier = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        earlier.push(Fingerprint(take(&mut rest)?));
    }
    Some(Outcome {
        sequence,
        state,
        version: (flags & 1 != 0).then_some(version),
        newest: (flags & 4 != 0).then_some(newest),
        fingerprint,
        fingerprint_version,
        earlier,
        accepted_at_ms,
        settled_at_ms,
        attempts,
        synthetic: flags & 2 != 0,
        summary_id: String::from_utf8(rest.to_vec()).ok()?,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut batch = outcomes.batch();
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
