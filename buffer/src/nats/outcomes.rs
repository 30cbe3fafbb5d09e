//! What became of orders: the stream itself, for its sequences are those of the records.
//!
//! Of an order only the newest page stands there. So a reader who is up to date hears of everything, and one that lags of where each order
//! is by now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::page::PageError;
use super::shared::{Shared, failed};
use super::told::Told;
use crate::{BufferError, FeedError, FeedEvent, FeedPage};

/// Messages read at once, and about how many bytes of them.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 4 << 20;
/// Nobody has waited for so long: nobody listens any more.
const DEAF_AFTER: Duration = Duration::from_secs(30);
/// What is listened to broke, and is begun anew after so long.
const AGAIN: Duration = Duration::from_millis(100);

/// Listens to the stream for all of this process who wait for something new.
#[derive(Debug, Default)]
pub(super) struct Ear {
    /// The newest page heard of.
    newest: watch::Sender<u64>,
    listens: AtomicBool,
}

impl Ear {
    /// Nobody is to wait any more.
    pub(super) fn close(&self) {
        self.newest.send_replace(u64::MAX);
    }
}

impl Shared {
    /// Events of records after a sequence; waits for the first.
    pub(super) async fn events(
        self: &Arc<Self>,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let until = Instant::now() + wait;
        self.is_there(after).await?;
        let mut position = after;
        loop {
            self.open()?;
            let page = self.events_from(after, &mut position, limit.max(1)).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !page.events.is_empty() || left.is_zero() {
                return Ok(page);
            }
            let mut newest = self.ear.newest.subscribe();
            self.listen(position);
            drop(timeout(left, newest.wait_for(|newest| *newest > position)).await);
        }
    }

    /// Whether the stream is as far as that.
    async fn is_there(&self, after: u64) -> Result<(), FeedError> {
        if after <= self.table.highest() {
            return Ok(());
        }
        let (_, _, newest) = self.table.size().await.map_err(failed)?;
        self.table.saw(newest);
        if after > newest { Err(FeedError::Ahead { newest }) } else { Ok(()) }
    }

    /// What can be read now; `position` is moved on to where it was read to.
    async fn events_from(
        &self,
        after: u64,
        position: &mut u64,
        limit: usize,
    ) -> Result<FeedPage, FeedError> {
        let mut events: Vec<FeedEvent> = Vec::new();
        loop {
            let filter = self.store.all_pages();
            let read = self.table.read_next(&filter, *position + 1, AT_ONCE, BYTES_AT_ONCE).await;
            let read = read.map_err(failed)?;
            if read.is_empty() {
                let next = events.last().map_or(*position, |event| event.sequence);
                return Ok(FeedPage { events, next });
            }
            for (subject, stored) in read {
                if events.len() >= limit {
                    return Ok(FeedPage::of(events, after));
                }
                *position = stored.sequence;
                if self.store.hash(&subject).is_none() {
                    continue;
                }
                match Told::of(self.store.hasher, &stored) {
                    Ok(told) => events.extend(told.after(after)),
                    Err(PageError::Damaged) => {
                        tracing::error!(subject, "the feed passes over a page that is damaged");
                    }
                    Err(error @ PageError::Newer(_)) => {
                        return Err(BufferError::Failed(error.to_string()).into());
                    }
                }
            }
        }
    }

    /// Begins to listen from that sequence on, if nobody does.
    fn listen(self: &Arc<Self>, from: u64) {
        if !self.ear.listens.swap(true, Ordering::AcqRel) {
            drop(self.tasks.spawn(Arc::clone(self).listens(from)));
        }
    }

    async fn listens(self: Arc<Self>, mut position: u64) {
        let mut wanted = Instant::now();
        while self.open().is_ok() {
            let feed = self.table.feed_of_heads(self.store.all_pages(), position + 1).await;
            if let Ok(mut feed) = feed {
                while let Ok(fed) = timeout(DEAF_AFTER, feed.next()).await {
                    let Some(Ok(fed)) = fed else { break };
                    position = fed.stored.sequence;
                    self.table.saw(position);
                    if self.store.hash(&fed.subject).is_some() {
                        self.ear.newest.send_replace(position);
                    }
                    if self.ear.newest.receiver_count() > 0 {
                        wanted = Instant::now();
                    }
                    if wanted.elapsed() > DEAF_AFTER {
                        break;
                    }
                }
            }
            if self.ear.newest.receiver_count() > 0 {
                wanted = Instant::now();
            } else if wanted.elapsed() > DEAF_AFTER {
                self.ear.listens.store(false, Ordering::Release);
                // Whoever came in between found that somebody listens.
                let came = self.ear.newest.receiver_count() > 0;
                if !came || self.ear.listens.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            sleep(AGAIN).await;
        }
    }
}
