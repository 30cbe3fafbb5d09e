//! A process among the others: that it is there, its limits, and what all of them together come to.
//!
//! ```text
//! round: our message stored -> who is there, from the leader -> the messages of those that are new -> good for nine tenths of a lease
//! ```
//! A process counts on what it heard for as long as on its partitions, from before its own message was stored; after that it has no
//! share. So whoever drains has announced its limits to whoever looks, and has looked at those of the others, less than a lease
//! ago. What a process announces never changes while it runs.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use hashbrown::HashMap;

use super::shared::Shared;
use super::store::Store;
use super::table::{Put, Table, TableError};
use crate::common::{Announcement, Common};
use crate::metrics;

/// A process that left is among the nodes for so long: the shortest time after which the servers forget a message.
const LEFT: Duration = Duration::from_secs(1);

/// What was heard of the processes that drain.
#[derive(Debug, Default)]
pub(super) struct Announced {
    all: All,
    common: Arc<Common>,
    /// By our clock.
    good_until: Duration,
}

/// What each process announces, by its subject; `None` of those that announce nothing.
pub(super) type All = HashMap<String, Option<Announcement>>;

impl Table {
    /// What those that drain announce, as of sequence `since` or later. What is known of them is not read again.
    ///
    /// # Errors
    /// [`TableError`].
    pub(super) async fn announced(
        &self,
        stream: &str,
        since: u64,
        mut known: All,
    ) -> Result<All, TableError> {
        let nodes = self.subjects_since(&Store::nodes(stream), since).await?;
        known.retain(|node, _| nodes.contains(node));
        let new = nodes.iter().filter(|node| !known.contains_key(*node));
        let read = join_all(new.map(async |node| (node, self.read(node).await))).await;
        for (node, stored) in read {
            // One that is gone by now has no partition any more.
            if let Some(stored) = stored? {
                known.insert(node.clone(), Announcement::decode(&stored.bytes));
            }
        }
        Ok(known)
    }
}

impl Shared {
    /// Says that this process is there, and hears who is: how many. `None` where either is not known to have been done.
    pub(super) async fn announce(&self) -> Option<usize> {
        let begun = self.clock.elapsed();
        let mut row = self.node_row.lock().await;
        // Once it has left nobody is to count on it again.
        self.open().ok()?;
        let ttl = self.config.lease + self.round();
        self.announce_for(&mut row, Duration::from_secs(ttl.as_secs() + 1)).await?;
        let stored = *row;
        drop(row);
        let known = self.announced().all.clone();
        let all = self.table.announced(&self.config.stream, stored, known).await.ok()?;
        let nodes = all.len();
        let common = Common::of(all.values().map(Option::as_ref));
        let mut announced = self.announced();
        if announced.common.differs != common.differs {
            match &common.differs {
                Some(differs) => tracing::warn!("{differs}"),
                None => tracing::info!("the limits of all processes are the same now"),
            }
        }
        metrics::differs(common.differs.is_some());
        let good_until = begun + self.good_for();
        *announced = Announced { all, common: Arc::new(common), good_until };
        Some(nodes)
    }

    /// Says that this process is not there any more, so that the others' shares are as large as they must be.
    pub(super) async fn leave(&self) {
        if self.config.drains {
            self.announce_for(&mut *self.node_row.lock().await, LEFT).await;
        }
    }

    /// Replaces our message among the nodes', which stands at `row`.
    async fn announce_for(&self, row: &mut u64, ttl: Duration) -> Option<()> {
        let subject = self.store.node(self.node);
        let message = bytes::Bytes::from(self.config.announcement.encode());
        // Where ours has expired nothing stands there: once more.
        for _ in 0..2 {
            let put = self.table.replace(&subject, *row, message.clone(), Some(ttl)).await;
            self.answered(put.as_ref().err());
            match put.ok()? {
                Put::Done(stored) => {
                    *row = stored;
                    return Some(());
                }
                Put::Overtaken(other) => *row = other.map_or(0, |other| other.sequence),
            }
        }
        None
    }

    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the limits of all processes come to, as far as it was heard.
    pub(super) fn common(&self) -> Arc<Common> {
        Arc::clone(&self.announced().common)
    }

    /// Whether that was heard lately enough to be counted on.
    pub(super) fn is_common_known(&self) -> bool {
        self.clock.elapsed() < self.announced().good_until
    }
}
