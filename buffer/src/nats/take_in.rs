//! A stream that takes the orders of a directory in: each is one page, created where nothing stands.

use std::time::Duration;

use forebay_order::OrderKey;
use futures_util::{StreamExt, stream};

use super::door::MESSAGE_RESERVE;
use super::known::Known;
use super::origin::Origin;
use super::page::Page;
use super::shared::{Shared, failed};
use super::store::Store;
use super::table::{Put, Table, TableError};
use super::{Nats, NatsConfig, OpenError};
use crate::BufferError;
use crate::migrate::{TakesIn, Whole, look_first_if_old, unknown_key};
use crate::record::Record;

/// Pages written at once: fewer than the doors', which go on meanwhile.
const AT_ONCE: usize = 64;

/// What a store that takes orders in goes on from.
#[derive(Clone, Debug)]
pub(crate) struct TakingIn {
    /// The secret of the store that is left, so that keys have the same hashes.
    pub(crate) secret: [u8; 16],
    /// The first sequence that is not one of its.
    pub(crate) next_sequence: u64,
    pub(crate) origin: Origin,
}

/// A stream that can take orders in, and nothing is written there yet.
pub(super) struct Ready {
    /// As it will be, if it is not there.
    pub(super) store: Store,
    origin: Origin,
    /// Of the message that says so already, or 0.
    row: u64,
}

const OWN: &str =
    "orders that come from a disk need a stream of their own: name another, or remove this one";

impl TakingIn {
    /// Looks whether a stream can take the orders in. Nothing is written.
    ///
    /// # Errors
    /// [`OpenError`]: it has orders of its own, or of another store, or is behind the disk.
    pub(super) async fn look(self, table: &Table, config: &NatsConfig) -> Result<Ready, OpenError> {
        let Self { secret, next_sequence, origin } = self;
        let stream = config.stream.as_str();
        let store = Store::read(table, stream).await?;
        let there = Origin::read(table, stream).await?;
        if there.is_none() && store.is_some() {
            return Err(fault(stream, "holds orders already", OWN));
        }
        if store.as_ref().is_some_and(|store| store.secret != secret) {
            return Err(fault(stream, "takes in the orders of another disk", OWN));
        }
        // A disk that is noted to be left stays as it is, so a stream that was begun for it is never behind: this one was left
        // before that, and the disk has taken orders since.
        if table.highest() + 1 < next_sequence {
            return Err(match (&there, &store) {
                (None, _) => fault(stream, "gives sequences that orders on the disk have", OWN),
                (Some(_), Some(store)) if store.has_pages(table).await? => fault(
                    stream,
                    OUTGROWN,
                    "serve from one of the two, and have what only the other has sent again",
                ),
                (Some(_), _) => fault(
                    stream,
                    OUTGROWN,
                    &format!(
                        "it holds no order yet: remove it (`nats stream rm {stream}`), or name another, and migrate again"
                    ),
                ),
            });
        }
        let (origin, row) = match there {
            Some((there, row)) => {
                let until_ms = there.look_first_until_ms.max(origin.look_first_until_ms);
                (Origin { look_first_until_ms: until_ms, ..there }, row)
            }
            None => (origin, 0),
        };
        let store = store.unwrap_or_else(|| Store::new(stream, secret, config.partitions));
        Ok(Ready { store, origin, row })
    }
}

const OUTGROWN: &str =
    "was begun for this disk, which has taken orders since: their sequences would be given again";

impl Ready {
    /// Says in the stream that it takes orders in.
    ///
    /// # Errors
    /// [`OpenError`]: it cannot be said, or another began meanwhile.
    pub(super) async fn begin(
        self,
        table: &Table,
        config: &NatsConfig,
    ) -> Result<(Store, Origin), OpenError> {
        let stream = config.stream.as_str();
        let secret = self.store.secret;
        let written = self.origin.write(table, stream, self.row).await;
        written.map_err(|reason| OpenError::Unavailable { stream: stream.to_owned(), reason })?;
        let store = Store::open(table, stream, config.partitions, Some(secret)).await?;
        if store.secret != secret {
            return Err(fault(stream, "takes in the orders of another disk", OWN));
        }
        Ok((store, self.origin))
    }
}

fn fault(stream: &str, fault: &str, mend: &str) -> OpenError {
    let (stream, fault, mend) = (stream.to_owned(), fault.to_owned(), mend.to_owned());
    OpenError::Stream { stream, fault, mend }
}

/// What became of one order.
enum Taken {
    In,
    /// It can never be.
    TooLarge,
}

impl Shared {
    async fn take_one_in(
        &self,
        whole: Whole,
        key: Option<&OrderKey>,
    ) -> Result<Taken, BufferError> {
        let (hash, records) = match whole {
            Whole::Order { hash, records } => (hash, records),
            Whole::Outcome { hash, outcome } => {
                (hash, outcome.records(key.cloned().unwrap_or_else(unknown_key)))
            }
        };
        let mut page = Page { records, ended_before: None, loans_over: 0 };
        let over = Known::is_over_with(self.store.hasher, &page);
        let now_ms = self.clock.wall_ms();
        let Some(ttl) =
            self.left_of_horizon(&page, now_ms).filter(|left| !over || *left > Duration::ZERO)
        else {
            return Ok(Taken::In);
        };
        look_first_if_old(&mut page.records, now_ms, self.config.dedup_horizon);
        let message = page.encode();
        if message.len() > self.table.message_max().saturating_sub(MESSAGE_RESERVE / 2) {
            let order = page.order().unwrap_or_default();
            let (bytes, max) = (message.len(), self.table.message_max());
            tracing::error!(
                order,
                bytes,
                max,
                "an order with its exceptions is larger than a message may be: raise the servers' max_payload"
            );
            return Ok(Taken::TooLarge);
        }
        let put =
            self.table.replace(&self.store.subject(hash), 0, message, over.then_some(ttl)).await;
        self.answered(put.as_ref().err());
        match put {
            Ok(Put::Done(sequence)) => self.take(hash, sequence, &page.stored_at(sequence)),
            // It was taken in before, and may have come further since.
            Ok(Put::Overtaken(_)) => {}
            Err(error @ TableError::Full(_)) => return Err(BufferError::Failed(error.to_string())),
            Err(error) => return Err(failed(error)),
        }
        Ok(Taken::In)
    }

    /// How long an order is still remembered, if it has ended; whole seconds. `None` for one that is forgotten by now.
    fn left_of_horizon(&self, page: &Page, now_ms: i64) -> Option<Duration> {
        let ended_at_ms = page.records.iter().filter_map(|(_, record)| match record {
            Record::Settle { entries } => entries.iter().map(|entry| entry.at_ms).max(),
            Record::Moved { delivery, .. } => Some(delivery.accepted_at_ms),
            _ => None,
        });
        let age_ms = now_ms.saturating_sub(ended_at_ms.max()?);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        let left = self.config.dedup_horizon.saturating_sub(age);
        Some(Duration::from_secs(left.as_secs()))
    }
}

impl Nats {
    /// Whether it had nothing left to take in when it was opened.
    pub(crate) fn is_whole_already(&self) -> bool {
        self.shared().origin.as_ref().is_none_or(|origin| origin.whole)
    }
}

impl TakesIn for Nats {
    async fn take_in(&self, wholes: Vec<Whole>, key: Option<OrderKey>) -> Result<u64, BufferError> {
        let (shared, key) = (self.shared(), key.as_ref());
        let taken = wholes.into_iter().map(|whole| shared.take_one_in(whole, key));
        let mut taken = stream::iter(taken).buffer_unordered(AT_ONCE);
        let (mut left, mut failed) = (0, None);
        while let Some(taken) = taken.next().await {
            match taken {
                Ok(Taken::In) => {}
                Ok(Taken::TooLarge) => left += 1,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(left), Err)
    }

    async fn is_whole(&self) -> Result<(), BufferError> {
        let shared = self.shared();
        let stream = &shared.config.stream;
        let read = Origin::read(&shared.table, stream).await;
        let read = read.map_err(|error| BufferError::Failed(error.to_string()))?;
        let Some((origin, row)) = read.filter(|(origin, _)| !origin.whole) else { return Ok(()) };
        let whole = Origin { whole: true, ..origin };
        let written = whole.write(&shared.table, stream, row).await;
        written.map(drop).map_err(BufferError::Failed)
    }
}
