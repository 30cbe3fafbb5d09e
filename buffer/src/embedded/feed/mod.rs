//! The feed: what became of orders, in files of its own.
//!
//! The journal is the truth, but its segments retire, and memory keeps no keys. So what a group's records made of orders is handed to
//! a thread beside the writer once the group is durable and applied, and that thread writes it to *slots* of their own, the
//! oldest of which is given up when as much is kept as may be. Nothing of it need be durable at once: a start derives again from
//! the journal what comes after the last of it that is, under the same names; so a segment retires only once the feed is
//! durable beyond it. Nobody who reads is waited for.
//!
//! ```text
//! mod.rs      what the writer sees, and the thread      shared.rs  what those who read see
//! keeper.rs   the slots, written to, made, given up     slot.rs    one life of one slot
//! frame.rs    events written together                   entry.rs   one event's bytes
//! replay.rs   what a start derives again
//! ```
//! The bytes are described in `docs/feed-1.md`.

mod entry;
mod frame;
mod keeper;
mod replay;
mod shared;
mod slot;
#[cfg(test)]
pub(in crate::embedded) mod tests;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use hashbrown::HashMap;

use super::files::{RealDirectory, no_room};
use super::journal::{Location, Reader};
use super::shared::Shared as WritersShared;
use crate::feed::{FeedEvent, Named};
use crate::record::Record;
use crate::state::{News, State};
use crate::{Clock, metrics};
use keeper::Home;
pub(super) use keeper::Keeper;
pub(super) use replay::{Replay, fed_record};
pub(super) use shared::Shared;

/// Groups whose events may wait for the thread. A writer that finds no place waits for the disk, as it does for its own.
const QUEUE: usize = 64;
/// A slot is a sixteenth of what is kept, within these bounds; the smaller one holds what the largest record can tell.
const SLOTS: u64 = 16;
const SLOT_MIN: u64 = 1 << 20;
const SLOT_MAX: u64 = 4 << 20;

/// Takes up the feed in `dir`, of which so many bytes are kept, and so many of the disk left to orders; without any, removes it. Gives
/// back how far it is, if it was there, and what is not as it should be, in words.
///
/// # Errors
/// In words.
pub(super) fn open(
    dir: &Path,
    secret: [u8; 16],
    (bytes_max, leaves): (u64, u64),
    clock: &Arc<dyn Clock>,
) -> Result<TakenUp, String> {
    let explain = |error: io::Error| {
        format!("the outcome feed in {} cannot be opened: {error}", dir.display())
    };
    if bytes_max == 0 {
        return match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(explain(error)),
            _ => Ok((None, None, Vec::new())),
        };
    }
    let directory = match RealDirectory::make(dir) {
        Err(error) if no_room(&error) => {
            let note = format!("no outcome feed is kept until the next start: {}", explain(error));
            return Ok((None, None, vec![note]));
        }
        made => Box::new(made.map_err(explain)?),
    };
    let slot_bytes = (bytes_max / SLOTS).clamp(SLOT_MIN, SLOT_MAX) / SLOT_MIN * SLOT_MIN;
    let bytes_max = bytes_max.max(2 * slot_bytes);
    let home = Home { directory, secret, slot_bytes, bytes_max, leaves };
    let (keeper, told, notes) = Keeper::open(home, Arc::clone(clock)).map_err(explain)?;
    Ok((Some(keeper), told, notes))
}

/// The feed, how far it is, and what is not as it should be.
type TakenUp = (Option<Keeper>, Option<u64>, Vec<String>);

/// What is handed to the thread.
enum Telling {
    /// Events in order, with what their orders are known by where that is at hand, and up to where all is told with them.
    Events(Vec<(News, Option<Named>)>, u64),
    /// How far it is told is to be durable.
    Sync(u64),
    /// The power goes: what is not durable is lost.
    #[cfg(test)]
    Lose,
}

/// The feed, as the writer sees it. The thread ends with this.
pub(super) struct Feed {
    pub(super) shared: Arc<Shared>,
    to: Option<SyncSender<Telling>>,
    thread: Option<JoinHandle<()>>,
    failed: Arc<OnceLock<String>>,
    waiting: Vec<(News, Option<Named>)>,
    /// What orders are known by whose loans have ended.
    names: HashMap<u64, Named>,
    /// The process ends as the power goes.
    #[cfg(test)]
    pub(super) loses: bool,
}

impl Feed {
    /// Starts the thread.
    ///
    /// # Errors
    /// In words.
    pub(super) fn start(keeper: Keeper, writers: &Arc<WritersShared>) -> Result<Self, String> {
        let (to, tellings) = sync_channel(QUEUE);
        let failed = Arc::new(OnceLock::new());
        let shared = Arc::clone(&keeper.shared);
        let (theirs, writers) = (Arc::clone(&failed), Arc::clone(writers));
        let thread = thread::Builder::new()
            .name("forebay-feed".to_owned())
            .spawn(move || run(keeper, &tellings, &writers, &theirs))
            .map_err(|error| format!("no thread for the outcome feed: {error}"))?;
        let (waiting, names) = (Vec::new(), HashMap::new());
        Ok(Self {
            shared,
            to: Some(to),
            thread: Some(thread),
            failed,
            waiting,
            names,
            #[cfg(test)]
            loses: false,
        })
    }

    /// Why nothing is told any more, if so.
    pub(super) fn failed(&self) -> Option<&String> {
        self.failed.get()
    }

    /// An order whose loan has ended is known by this.
    pub(super) fn name(&mut self, order: u64, named: Named) {
        self.names.insert(order, named);
    }

    /// Every loan that has ended is told.
    pub(super) fn forget_names(&mut self) {
        self.names.clear();
    }

    /// Notes what a record at that place, just applied, made of orders.
    pub(super) fn note(&mut self, state: &mut State, at: Location, record: &Record) {
        for news in state.take_news() {
            let own = record.delivery().filter(|_| news.named_in.location == Some(at));
            let named = own.map(|delivery| Named::of(&delivery.envelope));
            let named = named.or_else(|| self.names.remove(&news.order?));
            self.waiting.push((news, named));
        }
    }

    /// Hands over what was noted; with it everything up to `told` is told.
    pub(super) fn tell(&mut self, told: u64) {
        if !self.waiting.is_empty() {
            let events = std::mem::take(&mut self.waiting);
            self.send(Telling::Events(events, told));
        }
    }

    /// Asks that it is durable how far it is told; see [`Shared::is_synced`].
    pub(super) fn sync(&mut self, told: u64) {
        self.tell(told);
        self.send(Telling::Sync(told));
    }

    fn send(&self, telling: Telling) {
        // Where nobody takes it, the thread has failed, and said why.
        self.to.as_ref().map(|to| to.send(telling));
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        #[cfg(test)]
        if self.loses {
            self.send(Telling::Lose);
        }
        self.to = None;
        if let Some(thread) = self.thread.take() {
            // It catches its own panics, so there is nothing to hear.
            thread.join().ok();
        }
    }
}

fn run(
    mut keeper: Keeper,
    tellings: &Receiver<Telling>,
    writers: &WritersShared,
    failed: &OnceLock<String>,
) {
    let worked = catch_unwind(AssertUnwindSafe(|| work(&mut keeper, tellings, writers)));
    let failure = match worked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the outcome feed cannot be written: {error}")),
        Err(_) => Some("the thread of the outcome feed panicked".to_owned()),
    };
    if let Some(reason) = failure {
        metrics::feed_failed();
        failed.set(reason).ok();
    }
    keeper.shared.over();
    writers.wake();
}

fn work(
    keeper: &mut Keeper,
    tellings: &Receiver<Telling>,
    writers: &WritersShared,
) -> io::Result<()> {
    while let Ok(telling) = tellings.recv() {
        match telling {
            Telling::Events(news, told) => {
                let events =
                    news.into_iter().map(|(news, named)| event(news, named, &writers.reader));
                keeper.tell(events, told)?;
            }
            Telling::Sync(told) => {
                keeper.tell([], told)?;
                keeper.sync()?;
                writers.wake();
            }
            #[cfg(test)]
            Telling::Lose => return keeper.lose_unsynced(),
        }
    }
    keeper.sync()
}

/// The event; what its order is known by is read where it is not at hand.
fn event(news: News, named: Option<Named>, reader: &Reader) -> FeedEvent {
    let named = named.unwrap_or_else(|| {
        let location = news.named_in.location;
        let read = location.map(|location| reader.head(location));
        match read {
            Some(Ok((_, record))) => record.delivery().map(|delivery| Named::of(&delivery.envelope)),
            Some(Err(error)) => {
                tracing::error!(%error, order = news.order, "the outcome feed tells of an order without its key");
                None
            }
            None => None,
        }
        .unwrap_or_default()
    });
    news.event(named)
}
