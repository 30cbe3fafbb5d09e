//! What those who read the feed share with the one thread that writes it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::slot::Slot;
use crate::{BufferError, FeedCursor, FeedError, FeedEvent, FeedPage};

/// How far the feed is.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// What the records up to this sequence made of orders is told.
    to: u64,
    /// Sequence of the newest event.
    newest: u64,
    /// Nothing more is told in this process.
    over: bool,
}

#[derive(Debug)]
pub(in crate::embedded) struct Shared {
    /// Oldest first.
    slots: RwLock<Vec<Arc<Slot>>>,
    told: watch::Sender<Told>,
    /// How far it is told durably.
    synced: AtomicU64,
    /// The highest durable sequence of the journal.
    reached: AtomicU64,
}

impl Shared {
    pub(super) fn new(slots: Vec<Arc<Slot>>) -> Self {
        Self {
            slots: RwLock::new(slots),
            told: watch::Sender::default(),
            synced: AtomicU64::new(0),
            reached: AtomicU64::new(0),
        }
    }

    pub(super) fn slots(&self) -> Vec<Arc<Slot>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, slot: Arc<Slot>) {
        self.slots.write().unwrap_or_else(PoisonError::into_inner).push(slot);
    }

    /// Takes the oldest slot out.
    pub(super) fn give_up_oldest(&self) -> Option<Arc<Slot>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        (!slots.is_empty()).then(|| slots.remove(0))
    }

    /// It is told up to here; `newest` is the sequence of the last new event, or 0.
    pub(super) fn tell(&self, to: u64, newest: u64) {
        self.told.send_modify(|told| {
            told.to = to;
            told.newest = told.newest.max(newest);
        });
    }

    /// It begins anew after that sequence.
    pub(super) fn begin_after(&self, to: u64) {
        self.told.send_replace(Told { to, ..Told::default() });
    }

    /// It is durably told up to here.
    pub(super) fn synced(&self, to: u64) {
        self.synced.store(to, Ordering::Release);
    }

    /// Whether it is durably told up to there.
    pub(in crate::embedded) fn is_synced(&self, to: u64) -> bool {
        self.synced.load(Ordering::Acquire) >= to
    }

    /// The journal is durable up to here.
    pub(in crate::embedded) fn reached(&self, to: u64) {
        self.reached.store(to, Ordering::Release);
    }

    /// Nothing more is told.
    pub(super) fn over(&self) {
        self.told.send_modify(|told| told.over = true);
    }

    /// Events of records after a sequence; waits for the first. `gone` says why nothing more is told, if that is so.
    pub(in crate::embedded) async fn page(
        self: &Arc<Self>,
        asked: &FeedCursor,
        limit: usize,
        wait: Duration,
        gone: impl Fn() -> BufferError,
    ) -> Result<FeedPage, FeedError> {
        let after = asked.sequence();
        let newest = self.reached.load(Ordering::Acquire);
        if after > newest {
            return Err(FeedError::Ahead { newest });
        }
        self.is_kept(after)?;
        let mut told = self.told.subscribe();
        let there = told.wait_for(|told| told.newest > after || told.over);
        let there = timeout(wait, async { there.await.map(|told| *told).ok() });
        let Ok(Some(told)) = there.await else { return Ok(FeedPage::of(Vec::new(), asked, after)) };
        if told.newest <= after {
            return Err(gone().into());
        }
        let (shared, limit) = (Arc::clone(self), limit.max(1));
        let read = tokio::task::spawn_blocking(move || shared.read(after, limit));
        let read = read.await.map_err(|error| BufferError::Failed(error.to_string()))?;
        let events = read?;
        // Where what should be there is damaged, it is passed over.
        let next = events.last().map_or(told.newest, |event| event.sequence);
        Ok(FeedPage::of(events, asked, next))
    }

    /// Whether what comes after a sequence is kept, or else the oldest of which that is so.
    fn is_kept(&self, after: u64) -> Result<(), FeedError> {
        let told = self.told.borrow().to;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let oldest = slots.first().map_or(told, |slot| slot.base);
        if after < oldest { Err(FeedError::Gone { oldest }) } else { Ok(()) }
    }

    /// Blocks on the disk.
    fn read(&self, after: u64, limit: usize) -> Result<Vec<FeedEvent>, FeedError> {
        loop {
            self.is_kept(after)?;
            let slots = self.slots();
            let first = slots.partition_point(|slot| slot.base <= after).saturating_sub(1);
            let mut events = Vec::new();
            for slot in slots.get(first..).unwrap_or_default() {
                if events.len() >= limit {
                    break;
                }
                slot.read(after, limit, &mut events).map_err(unreadable)?;
            }
            // What is given up while it is read may read as nothing.
            let still = self.slots();
            let first_still = still.first().map_or(u64::MAX, |slot| slot.life);
            if slots.get(first).is_none_or(|slot| slot.life >= first_still) {
                return Ok(events);
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be mapped with")]
fn unreadable(error: io::Error) -> FeedError {
    BufferError::Failed(format!("the outcome feed cannot be read: {error}")).into()
}
