//! What became of orders: the stream itself, for its sequences are those of the records.
//!
//! Of an order only the newest page stands there. So a reader who is up to date hears of everything, and one that lags of where each order
//! is by now. Whether he came by where the page before stood while it stood is what his cursor says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::many::Came;
use super::page::PageError;
use super::shared::{Shared, failed};
use super::table::Stored;
use super::told::Told;
use crate::{BufferError, FeedCursor, FeedError, FeedEvent, FeedPage};

/// Messages read at once, and about how many bytes of them.
const AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 4 << 20;
/// Nobody has waited for so long: nobody listens any more.
const DEAF_AFTER: Duration = Duration::from_secs(30);
/// What was heard of is looked for again after so long, then twice as long, up to the most.
const LOOKS_AGAIN: Duration = Duration::from_millis(2);
const LOOKS_AGAIN_MAX: Duration = Duration::from_secs(1);
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
    /// Events behind a cursor; waits for the first.
    pub(super) async fn events(
        self: &Arc<Self>,
        asked: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let until = Instant::now() + wait;
        self.is_there(asked.sequence()).await?;
        let (mut asked, mut pause) = (asked.clone(), LOOKS_AGAIN);
        loop {
            self.open()?;
            let page = self.events_from(&asked, limit.max(1)).await?;
            let left = until.saturating_duration_since(Instant::now());
            if !page.events.is_empty() || left.is_zero() {
                return Ok(page);
            }
            asked = page.next;
            let position = asked.sequence();
            let mut newest = self.ear.newest.subscribe();
            self.listen(position);
            // What was heard of and does not stand there has expired; or the copy that was asked lags behind.
            let heard = *newest.borrow_and_update();
            let wait = if heard > position { left.min(pause) } else { left };
            drop(timeout(wait, newest.wait_for(|newest| *newest > heard.max(position))).await);
            pause = (pause * 2).min(LOOKS_AGAIN_MAX);
        }
    }

    /// Whether the stream is as far as that.
    async fn is_there(&self, after: u64) -> Result<(), FeedError> {
        if after <= self.table.highest() {
            return Ok(());
        }
        let newest = self.newest().await?;
        if after > newest { Err(FeedError::Ahead { newest }) } else { Ok(()) }
    }

    /// How far the stream is.
    async fn newest(&self) -> Result<u64, FeedError> {
        let info = self.table.info_of_led().await.map_err(failed)?;
        self.table.saw(info.state.last_sequence);
        Ok(self.table.highest())
    }

    /// What can be read now, from pages read at once until they tell something.
    async fn events_from(&self, asked: &FeedCursor, limit: usize) -> Result<FeedPage, FeedError> {
        let mut asked = asked.clone();
        loop {
            let (filter, from) = (self.store.all_pages(), asked.sequence() + 1);
            let came = self.table.read_next(&filter, from, AT_ONCE, BYTES_AT_ONCE).await;
            let Came { messages, all } = came.map_err(failed)?;
            let Some((_, last)) = messages.last() else {
                return Ok(FeedPage::of_replaced(Vec::new(), &asked, asked.clone(), 0));
            };
            // How far the copy was that they were read from, or farther.
            let newest = if all { last.sequence } else { self.newest().await? };
            let (mut events, mut position) = (Vec::new(), asked.sequence());
            for (subject, stored) in &messages {
                if events.len() >= limit {
                    break;
                }
                position = stored.sequence;
                if self.store.hash(subject).is_some() {
                    events.extend(self.told(subject, stored, &asked)?);
                }
            }
            let next = asked.read_to(position, 0, newest);
            if !events.is_empty() {
                return Ok(FeedPage::of_replaced(events, &asked, next, newest));
            }
            asked = next;
        }
    }

    /// What a page tells who is there.
    fn told(
        &self,
        subject: &str,
        stored: &Stored,
        cursor: &FeedCursor,
    ) -> Result<Vec<FeedEvent>, BufferError> {
        match Told::of(self.store.hasher, stored) {
            Ok(told) => Ok(told.after(cursor).collect()),
            Err(PageError::Damaged) => {
                tracing::error!(subject, "the feed passes over a page that is damaged");
                Ok(Vec::new())
            }
            Err(error @ PageError::Newer(_)) => Err(BufferError::Failed(error.to_string())),
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
