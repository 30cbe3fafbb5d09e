//! What stands in the key table, message by message and in order.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_util::{Stream, StreamExt};

use super::table::{Stored, Table, TableError};

/// One pull of a feed: bytes it may bring, and how long it may take; a server that is silent for twice the heartbeat is
/// taken for gone.
const BATCH_BYTES: usize = 16 << 20;
const EXPIRES: Duration = Duration::from_secs(5);
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A feed nobody pulls from is dropped by the servers.
const FORGOTTEN: Duration = Duration::from_secs(30);

/// One message of a feed: its subject, and what stands there.
#[derive(Clone, Debug)]
pub(super) struct Fed {
    pub(super) subject: String,
    pub(super) stored: Stored,
}

impl Table {
    /// What stands under the subjects that fit the filter, from that sequence on, and then whatever comes, in order. Ends
    /// with an error as soon as anything may be missing; it is to be begun anew from there.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if the servers cannot do it now.
    pub(super) async fn feed(
        &self,
        filter: String,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Fed, TableError>> + use<>, TableError> {
        let (feed, _) = self.feed_with_left(filter, from).await?;
        Ok(feed.map(|fed| fed.map(|(fed, _)| fed)))
    }

    /// The same without what stands there: only where something does.
    ///
    /// # Errors
    /// As [`Table::feed`].
    pub(super) async fn feed_of_heads(
        &self,
        filter: String,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Fed, TableError>> + use<>, TableError> {
        let (feed, _) = self.consume(filter, from, true).await?;
        Ok(feed.map(|fed| fed.map(|(fed, _)| fed)))
    }

    /// The same, each with how many are left after it now, and how many there are.
    ///
    /// # Errors
    /// As [`Table::feed`].
    pub(super) async fn feed_with_left(
        &self,
        filter: String,
        from: u64,
    ) -> Result<(impl Stream<Item = Result<(Fed, u64), TableError>> + use<>, u64), TableError> {
        self.consume(filter, from, false).await
    }

    async fn consume(
        &self,
        filter: String,
        from: u64,
        headers_only: bool,
    ) -> Result<(impl Stream<Item = Result<(Fed, u64), TableError>> + use<>, u64), TableError> {
        let config = pull::Config {
            // With a name of its own, so that the right to make it can be given for this stream alone.
            name: Some(format!("feed-{:016x}", fastrand::u64(..))),
            filter_subject: filter,
            headers_only,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from.max(1) },
            ack_policy: AckPolicy::None,
            num_replicas: 1,
            memory_storage: true,
            inactive_threshold: FORGOTTEN,
            ..pull::Config::default()
        };
        let unknown = |error: &dyn std::error::Error| TableError::Unknown(error.to_string());
        let consumer = self.stream().create_consumer(config).await.map_err(|e| unknown(&e))?;
        let left = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_bytes_per_batch(BATCH_BYTES)
            .expires(EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages();
        let messages = messages.await.map_err(|error| unknown(&error))?;
        let feed = messages.enumerate().map(|(n, message)| {
            let message = message.map_err(|error| TableError::Unknown(error.to_string()))?;
            let info = message.info().map_err(|error| TableError::Unknown(error.to_string()))?;
            if info.consumer_sequence != n as u64 + 1 {
                return Err(TableError::Unknown("the feed left messages out".to_owned()));
            }
            let stored = Stored::new(info.stream_sequence, message.payload.clone());
            Ok((Fed { subject: message.subject.to_string(), stored }, info.pending))
        });
        Ok((feed, left))
    }
}
