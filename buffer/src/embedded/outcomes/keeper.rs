//! Keeps the runs: the list of them, and the thread that merges and removes them behind the writer's back.
//!
//! There is no list on the disk. A run stands for what its name says from the moment it has that name durably; the runs it was
//! merged from are then covered by it, and whether they are removed before the power goes or by the next start
//! makes no difference.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::filter::Probe;
use super::merge::{self, UnderWay};
use super::reach;
use super::run::{Home, Run, RunId};
use super::write::TEMPORARY;
use crate::{Clock as _, SystemClock, metrics};

/// Bytes a second that merging writes at most.
const RATE: u64 = 64 << 20;
/// Bytes the disk must have free for a merge, beside twice what is merged: orders come first.
const ROOM_LEFT: u64 = 2 << 20;
/// Filters that a key is asked of together.
const GLANCES: usize = 16;
/// After trouble, merging is tried again after this long.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// The suffix of a run that was set aside.
const BAD: &str = ".bad";

/// The runs, and their thread, which ends with this.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) home: Home,
    /// An outcome was not kept, or not found though it was.
    pub(super) forgotten: AtomicBool,
    list: Mutex<List>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct List {
    /// From the oldest to the newest, by stretch.
    runs: Vec<Arc<Run>>,
    /// To be removed.
    gone: Vec<Arc<Run>>,
    /// Something changed that the thread has not looked at, and it is at work.
    changed: bool,
    busy: bool,
    over: bool,
}

/// What a start found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) runs: Vec<Arc<Run>>,
    /// Covered by others: a merge was cut short.
    covered: Vec<Arc<Run>>,
    temporary: Vec<String>,
    /// Names of those not one block of which verifies.
    pub(super) lost: Vec<String>,
    /// Names of those that cannot be read, and why.
    pub(super) unread: Vec<(String, io::Error)>,
    /// The highest number of a batch.
    pub(super) highest: u64,
    /// The outcomes of all segments below this epoch were stored.
    pub(super) stored_below: u64,
    /// The shortest time for which outcomes were remembered, as far as it was noted.
    pub(super) remembered: Option<Duration>,
}

/// Opens every run there is. Changes nothing.
///
/// # Errors
/// The directory cannot be read, or the machine has no more room for open files: what is there may be whole.
pub(super) fn find(home: &Home) -> io::Result<Found> {
    let mut found = Found::default();
    let mut names = home.directory.names()?;
    names.sort_unstable();
    for name in names {
        if name.ends_with(TEMPORARY) {
            found.temporary.push(name);
            continue;
        }
        if let Some(epoch) = reach::parse(&name) {
            found.stored_below = found.stored_below.max(epoch);
        }
        if let Some(horizon) = reach::parse_horizon(&name) {
            found.remembered = Some(found.remembered.map_or(horizon, |other| other.min(horizon)));
        }
        let Some(id) = RunId::parse(&name) else { continue };
        found.highest = found.highest.max(id.last);
        match Run::open(home, id) {
            Ok(run) if run.is_lost => found.lost.push(name),
            Ok(run) => found.runs.push(Arc::new(run)),
            Err(error) if is_trouble(&error) => return Err(error),
            Err(error) => found.unread.push((name, error)),
        }
    }
    found.runs.sort_unstable_by_key(|run| run.id);
    let ids: Vec<_> = found.runs.iter().map(|run| run.id).collect();
    let (covered, runs) = std::mem::take(&mut found.runs)
        .into_iter()
        .partition(|run| ids.iter().any(|id| id.covers(run.id)));
    (found.covered, found.runs) = (covered, runs);
    Ok(found)
}

/// Whether an error is the machine's rather than of what is on the disk.
pub(super) fn is_trouble(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(
        error.kind(),
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::OutOfMemory
            | Kind::PermissionDenied
            | Kind::ReadOnlyFilesystem
    ) || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

impl Keeper {
    /// Keeps what was found; a lost run is set aside, under the name that is given back for each.
    ///
    /// # Errors
    /// One cannot be set aside.
    pub(super) fn of(home: Home, found: &mut Found) -> io::Result<Self> {
        for name in &mut found.lost {
            let aside = format!("{name}{BAD}");
            home.directory.rename(name, &aside)?;
            *name = aside;
        }
        found.temporary.iter().for_each(|name| home.remove(name));
        let list = List {
            runs: std::mem::take(&mut found.runs),
            gone: std::mem::take(&mut found.covered),
            changed: true,
            ..List::default()
        };
        let (list, forgotten) = (Mutex::new(list), AtomicBool::new(false));
        let shared = Shared { home, forgotten, list, changed: Condvar::new() };
        Ok(Self { shared: Arc::new(shared), thread: None })
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// There can be none.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("forebay-merge".to_owned());
        self.thread = Some(thread.spawn(move || shared.work())?);
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.list().over = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A merge that is under way is given up; a panic of it was its last word.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An outcome was forgotten.
    pub(super) fn forgot(&self) {
        self.forgotten.store(true, Ordering::Release);
    }

    /// The runs that may hold a hash, the likeliest to have its newest outcome first.
    pub(super) fn seek(&self, hash: u128) -> Vec<Arc<Run>> {
        let (list, key) = (self.list(), Probe::of(hash));
        let mut found = Vec::new();
        for runs in list.runs.rchunks(GLANCES) {
            // A glance at each before more of any, so that memory brings their lines side by side.
            let mut may_hold = [false; GLANCES];
            for (may_hold, run) in may_hold.iter_mut().zip(runs) {
                *may_hold = run.filter.glance(&key);
            }
            let passed = runs.iter().zip(may_hold).rev().filter(|(_, may_hold)| *may_hold);
            let passed = passed.filter(|(run, _)| run.filter.may_hold(&key));
            found.extend(passed.map(|(run, _)| Arc::clone(run)));
        }
        found
    }

    /// Takes runs of a new batch in.
    pub(super) fn add(&self, runs: Vec<Arc<Run>>) {
        let mut list = self.list();
        list.runs.extend(runs);
        list.runs.sort_unstable_by_key(|run| run.id);
        list.changed = true;
        self.changed.notify_all();
    }

    /// Lets every run go whose stretch ended by then.
    pub(super) fn drop_until(&self, end_ms: i64) {
        let mut list = self.list();
        let (gone, kept) = std::mem::take(&mut list.runs)
            .into_iter()
            .partition::<Vec<_>, _>(|run| run.id.span.end_ms <= end_ms);
        list.runs = kept;
        list.gone.extend(gone);
        list.changed = true;
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> Vec<Arc<Run>> {
        self.list().runs.clone()
    }

    /// Asks something of each run.
    pub(super) fn each(&self, mut ask: impl FnMut(&Run)) {
        self.list().runs.iter().for_each(|run| ask(run));
    }

    /// Waits until nothing is to be merged or removed.
    pub(super) fn wait_until_idle(&self) {
        let idle = self.changed.wait_while(self.list(), |list| list.changed || list.busy);
        drop(idle.unwrap_or_else(PoisonError::into_inner));
    }

    /// The thread's loop.
    fn work(&self) {
        while self.wait_for_work() {
            match self.step() {
                Ok(worked) => self.list().changed |= worked,
                Err(error) => {
                    metrics::outcomes_failed();
                    tracing::warn!(%error, "runs of the outcome index cannot be merged now");
                    self.pause(RETRY_PAUSE);
                    self.list().changed = true;
                }
            }
        }
    }

    /// Waits until something changed; false if it is all over.
    fn wait_for_work(&self) -> bool {
        let mut list = self.list();
        list.busy = false;
        self.changed.notify_all();
        let waited = self.changed.wait_while(list, |list| !list.changed && !list.over);
        let mut list = waited.unwrap_or_else(PoisonError::into_inner);
        list.changed = false;
        list.busy = !list.over;
        list.busy
    }

    /// Removes what is to be removed and merges some runs; false if there was nothing to do.
    ///
    /// # Errors
    /// Nothing can be merged now.
    pub(super) fn step(&self) -> io::Result<bool> {
        let removed = self.remove_gone();
        self.home.fill_reserve();
        Ok(self.merge_some(&mut Vec::new(), &Cell::new(Duration::ZERO))? || removed)
    }

    fn remove_gone(&self) -> bool {
        let gone = std::mem::take(&mut self.list().gone);
        gone.iter().for_each(|run| self.home.remove(&run.id.name()));
        !gone.is_empty()
    }

    /// Merges some runs, and meanwhile much smaller ones beside them. `due` is when the next bytes may be written.
    fn merge_some(&self, under_way: &mut Vec<UnderWay>, due: &Cell<Duration>) -> io::Result<bool> {
        let Some(runs) = merge::choose(&self.list().runs, under_way) else { return Ok(false) };
        let bytes: u64 = runs.iter().map(|run| run.disk_bytes).sum();
        let (free, needed) = (self.home.directory.free_bytes()?, ROOM_LEFT + 2 * bytes);
        if free < needed {
            let words = format!("the disk has {free} bytes free, and {needed} are needed");
            return Err(io::Error::new(io::ErrorKind::StorageFull, words));
        }
        under_way.extend(UnderWay::of(&runs));
        let merged = merge::merge(&self.home, &runs, |written| {
            while self.merge_some(under_way, due)? {
                self.remove_gone();
            }
            let (now, takes) = (SystemClock.elapsed(), written.saturating_mul(1_000_000) / RATE);
            due.set(due.get().max(now) + Duration::from_micros(takes));
            Ok(self.pause(due.get().saturating_sub(now)))
        });
        under_way.pop();
        // Given up: it is all over.
        let Some(merged) = merged? else { return Ok(false) };
        if runs.iter().any(|run| run.damaged_blocks() > 0) {
            // The merged run does not tell any more that something is missing.
            self.forgot();
        }
        self.replace(&runs, merged);
        Ok(true)
    }

    /// Puts a merged run in the place of the runs that are in it.
    pub(super) fn replace(&self, runs: &[Arc<Run>], merged: Run) {
        let mut list = self.list();
        let is_in = |run: &Arc<Run>| runs.iter().any(|one| one.id == run.id);
        let (inputs, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut list.runs).into_iter().partition(is_in);
        list.runs = others;
        if inputs.len() == runs.len() {
            list.gone.extend(inputs);
            list.runs.push(Arc::new(merged));
            list.runs.sort_unstable_by_key(|run| run.id);
        } else {
            // Their time came meanwhile.
            list.gone.extend(inputs);
            list.gone.push(Arc::new(merged));
        }
    }

    /// Waits for a while; false if it is all over.
    fn pause(&self, pause: Duration) -> bool {
        let list = self.list();
        if pause.is_zero() {
            return !list.over;
        }
        let waited = self.changed.wait_timeout_while(list, pause, |list| !list.over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.over
    }
}

/// Sets a whole directory aside; its new name.
///
/// # Errors
/// It cannot be.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let free = |n: &u32| !bad_name(dir, *n).exists();
    let aside = bad_name(dir, (1..10_000).find(free).unwrap_or(10_000));
    std::fs::rename(dir, &aside)?;
    Ok(aside)
}

fn bad_name(dir: &Path, n: u32) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(format!("{BAD}-{n}"));
    dir.with_file_name(name)
}
