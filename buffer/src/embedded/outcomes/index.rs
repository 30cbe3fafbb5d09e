//! sled, as far as the index needs it: opened, opened again after a failure, never asked to write where the disk has
//! no room.
//!
//! sled's own flush does not survive a power cut on Linux (it never calls fsync), hence the `sync_data` on its file here.
//! After one failed write it answers nothing any more until it is opened anew.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const CACHE_BYTES: u64 = 32 << 20;
/// Linux's numbers for "too many open files", which have no kind of their own.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
/// Bytes the disk must have free for sled to be asked to write, beside so many times what it is given (it was measured
/// to write 4.3 times that).
const ROOM_LEFT: u64 = 2 << 20;
const ROOM_FACTOR: u64 = 6;
/// How long an earlier index of this process may take to let its lock go.
const LET_GO_LIMIT: Duration = Duration::from_secs(10);
/// Where it stands below which epoch all outcomes were stored, in the database's own tree.
const STORED_BELOW: &[u8] = b"stored_below";
const TREE_PREFIX: &str = "outcomes-1-";

/// From when to when the outcomes of one tree settled, ms since 1970. It stands in the tree's name, for the horizon may
/// be another at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) end_ms: i64,
    start_ms: i64,
}

impl Span {
    pub(super) fn of(settled_at_ms: i64, stretch_ms: i64) -> Self {
        let start_ms = settled_at_ms.div_euclid(stretch_ms).saturating_mul(stretch_ms);
        Self { start_ms, end_ms: start_ms.saturating_add(stretch_ms) }
    }

    pub(super) fn tree_name(self) -> String {
        format!("{TREE_PREFIX}{}-{}", self.start_ms, self.end_ms)
    }

    pub(super) fn parse(tree_name: &[u8]) -> Option<Self> {
        let spans = std::str::from_utf8(tree_name).ok()?.strip_prefix(TREE_PREFIX)?;
        let (start_ms, end_ms) = spans.split_once('-')?;
        Some(Self { start_ms: start_ms.parse().ok()?, end_ms: end_ms.parse().ok()? })
    }
}

/// Why the index was not opened.
pub(super) enum Unopened {
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
        let busy = kind == Kind::TimedOut;
        let forbidden = matches!(kind, Kind::PermissionDenied | Kind::ReadOnlyFilesystem);
        let no_handles = matches!(error.raw_os_error(), Some(ENFILE | EMFILE));
        if no_room || busy || forbidden || no_handles {
            Self::Trouble(error.to_string())
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

/// sled, open.
#[derive(Clone)]
pub(super) struct Index {
    db: sled::Db,
    file: Arc<File>,
    pub(super) trees: BTreeMap<Span, sled::Tree>,
    /// The outcomes of all segments below this epoch were stored.
    pub(super) stored_below: u64,
    /// A write failed, and nothing of it works any more.
    failed: Arc<AtomicBool>,
}

impl Index {
    /// Opens or creates it in `dir`, with the trees of the spans that `wants`; others are dropped.
    pub(super) fn open(dir: &Path, wants: impl Fn(Span) -> bool) -> Result<Self, Unopened> {
        // sled may panic on a file it cannot make sense of.
        let index = catch_unwind(AssertUnwindSafe(|| Self::open_or_create(dir, wants)));
        index.unwrap_or_else(|_| Err(Unopened::Damaged("its file makes no sense".to_owned())))
    }

    fn open_or_create(dir: &Path, wants: impl Fn(Span) -> bool) -> Result<Self, Unopened> {
        wait_until_let_go(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput);
        let db = config.open()?;
        let file = Arc::new(File::open(dir.join("db"))?);
        let mut trees = BTreeMap::new();
        for name in db.tree_names() {
            let Some(span) = Span::parse(&name) else { continue };
            if wants(span) {
                trees.insert(span, db.open_tree(&name)?);
            } else {
                db.drop_tree(&name)?;
            }
        }
        let stored_below = db.get(STORED_BELOW)?;
        let stored_below = stored_below.and_then(|bytes| bytes.as_ref().try_into().ok());
        let stored_below = stored_below.map_or(0, u64::from_be_bytes);
        sync_creation(dir)?;
        Ok(Self { db, file, trees, stored_below, failed: Arc::default() })
    }

    /// Opens it again after a failure. A damaged one is set aside; then it is another one, and true is said.
    ///
    /// # Errors
    /// In words: not now.
    pub(super) fn open_again(dir: &Path, spans: &[Span]) -> Result<(Self, bool), String> {
        match Self::open(dir, |span| spans.contains(&span)) {
            Ok(index) => Ok((index, false)),
            Err(Unopened::Trouble(reason)) => Err(reason),
            Err(Unopened::Damaged(reason)) => {
                let aside = set_aside(dir).map_err(words)?;
                let aside = aside.display();
                tracing::warn!(reason, %aside, "the outcome index was damaged and starts anew");
                let index = Self::open(dir, |_| true).map_err(|again| match again {
                    Unopened::Damaged(reason) | Unopened::Trouble(reason) => reason,
                })?;
                Ok((index, true))
            }
        }
    }

    /// Whether it must be closed and opened again.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// Makes the tree of a span known.
    pub(super) fn know(&mut self, span: Span) -> Result<(), String> {
        if !self.trees.contains_key(&span) {
            let tree = self.db.open_tree(span.tree_name()).map_err(words)?;
            self.trees.insert(span, tree);
        }
        Ok(())
    }

    /// Drops the tree of a span.
    pub(super) fn drop_span(&mut self, span: Span) {
        drop(self.trees.remove(&span));
        if let Err(error) = self.db.drop_tree(span.tree_name()) {
            tracing::warn!(%error, "an old part of the outcome index cannot be dropped");
        }
    }

    /// Writes entries, then below which epoch all outcomes are stored, and syncs them.
    ///
    /// # Errors
    /// In words; then nothing may be taken as stored, and it has failed.
    pub(super) fn store(
        &self,
        entries: &[(Span, u128, Vec<u8>)],
        stored_below: u64,
    ) -> Result<(), String> {
        // It stands also if sled panics.
        self.failed.store(true, Ordering::SeqCst);
        let mut by_tree: BTreeMap<Span, sled::Batch> = BTreeMap::new();
        for (span, hash, bytes) in entries {
            let batch = by_tree.entry(*span).or_default();
            batch.insert(&hash.to_be_bytes(), bytes.as_slice());
        }
        for (span, batch) in by_tree {
            let tree = self.db.open_tree(span.tree_name()).map_err(words)?;
            tree.apply_batch(batch).map_err(words)?;
        }
        // Last, for sled keeps what comes before whatever it keeps.
        self.db.insert(STORED_BELOW, &stored_below.to_be_bytes()).map_err(words)?;
        self.db.flush().map_err(words)?;
        self.file.sync_data().map_err(words)?;
        self.failed.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Lets a failed one go. sled may panic where it cannot write what it still has.
    pub(super) fn close(self) {
        if catch_unwind(AssertUnwindSafe(|| drop(self))).is_err() {
            tracing::warn!("the failed outcome index could not be closed in order");
        }
    }
}

/// Whether the file system has room for so many bytes of entries.
///
/// # Errors
/// In words: it has not.
pub(super) fn room_for(dir: &Path, bytes: u64) -> Result<(), String> {
    let needed = ROOM_LEFT.saturating_add(ROOM_FACTOR.saturating_mul(bytes));
    let space = rustix::fs::statvfs(dir).map_err(words)?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= needed {
        return Ok(());
    }
    Err(format!("the disk has {free} bytes free, and storing outcomes may take {needed}"))
}

pub(super) fn words(error: impl fmt::Display) -> String {
    error.to_string()
}

/// An earlier index of this process lets its lock go on threads of sled's own, a moment after it was dropped; no other
/// process can have it, for the journal is locked.
pub(super) fn wait_until_let_go(dir: &Path) -> io::Result<()> {
    let file = match File::open(dir.join("db")) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // A lock comes with no deadline; another thread waits for it, and this one for that thread.
    let (got, gets) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("forebay-outcomes".to_owned()).spawn(move || {
        // Nobody there any more: it took too long.
        got.send(file.lock().and_then(|()| file.unlock())).ok();
    })?;
    gets.recv_timeout(LET_GO_LIMIT).unwrap_or_else(|_| {
        let busy = "an earlier index of this process does not let it go";
        Err(io::Error::new(io::ErrorKind::TimedOut, busy))
    })
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

pub(super) fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
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
