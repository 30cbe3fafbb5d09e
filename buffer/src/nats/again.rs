//! Orders that are in the OMS, to be sent once more: their pages are read from the stream, and written anew as waiting.

use std::pin::pin;

use forebay_order::OrderKey;
use futures_util::StreamExt;

use super::shared::{SETTLED_WAIT, Shared, failed};
use super::table::{Put, TableError};
use crate::{AppendError, BufferError, SummarisedPage};

/// Pages looked at in one go.
const LOOKED_AT: usize = 4_096;

impl Shared {
    /// Summarised orders that were kept whole, from that message of the stream on.
    pub(super) async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        self.open()?;
        self.all_settled(SETTLED_WAIT).await;
        let feed = self.table.feed_with_left(self.store.all_pages(), from.saturating_add(1)).await;
        let (feed, mut left) = feed.map_err(failed)?;
        let (mut feed, mut page) = (pin!(feed), SummarisedPage::default());
        for looked_at in 1.. {
            if left == 0 {
                page.next = None;
                break;
            }
            let ended = || TableError::Unknown("the feed ended before everything came".to_owned());
            let fed;
            (fed, left) = feed.next().await.ok_or_else(ended).flatten().map_err(failed)?;
            page.next = Some(fed.stored.sequence);
            // One that cannot be read is of a later release, or damaged: whoever looks at its key is told.
            let known = self.known(Some(&fed.stored)).ok();
            let order = known.and_then(|known| known.summarised());
            page.orders.extend(order.filter(|order| order.settled_at_ms >= since_ms));
            if looked_at == LOOKED_AT || page.orders.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// Makes a summarised order wait once more.
    pub(super) async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        self.open()?;
        if self.room.is_full() {
            return Err(BufferError::Failed(AppendError::Full.to_string()));
        }
        let hash = self.store.hasher.of_key(key);
        loop {
            let known = self.look(hash).await?.known;
            let Some(page) = known.page_again() else { return Ok(false) };
            let put = self.write(hash, known.stored, page.clone()).await.map_err(failed)?;
            if let Put::Done(sequence) = put {
                self.take(hash, sequence, &page);
                return Ok(true);
            }
        }
    }
}
