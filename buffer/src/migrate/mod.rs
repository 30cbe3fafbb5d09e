//! From one store to another, while storefronts go on sending.
//!
//! The *old* store is closed to everybody first (a directory by its lock and a note, a stream by sealing it), so all of it is
//! what it is. Then one process serves on the *new* one, and hands everything over meanwhile. Before anything is done about a
//! key, what the old store has of it is taken in; so no delivery is ever judged without what came before.
//!
//! ```text
//! append, order:  find in the old store -> take in -> the new store
//! meanwhile:      hand over, all of it  -> take in;  at the end: the new store is whole
//! ```
//! To take in is to write where nothing stands, so it does not matter how often it is done, or by whom first. A process that dies in the
//! middle begins again. Both stores hash keys by the same secret, since of an order that ended long ago only
//! the hash is left; and no sequence of the new store is one of the old, since an order's sequence is its name.

mod front;
mod open;
mod outcome;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use forebay_order::OrderKey;
use tokio::sync::mpsc;

use crate::digest::KeyHasher;
use crate::record::Record;
use crate::state::{Numbered, Outcome};
use crate::{Buffer, BufferError, OrderState};

pub use crate::embedded::hand_over::Directory;
pub use crate::nats::hand_over::Sealed;
pub use front::Migrating;
pub use open::{MigrateError, embedded_to_nats, nats_to_embedded};
pub use progress::Migration;

/// All of one order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Whole {
    /// By the records that build it anew ([`crate::state::State::whole`]), each with its sequence in the old store; 0: the new one's.
    Order { hash: u128, records: Vec<Numbered> },
    /// By how it ended; its key may not be known any more.
    Outcome { hash: u128, outcome: Outcome },
}

impl Whole {
    /// Hash of its key.
    pub(crate) fn hash(&self) -> u128 {
        match self {
            Self::Order { hash, .. } | Self::Outcome { hash, .. } => *hash,
        }
    }

    /// About how much it takes.
    pub(crate) fn bytes(&self) -> usize {
        let Self::Order { records, .. } = self else { return 256 };
        let bodies = records.iter().filter_map(|(_, record)| record.delivery());
        bodies.map(|delivery| delivery.envelope.body.len() + 256).sum()
    }
}

/// A store that is closed, and hands its orders over.
pub(crate) trait HandsOver: Clone + Send + Sync + 'static {
    /// Makes the hashes its orders are known by.
    fn hasher(&self) -> KeyHasher;

    /// What it has of a key or content, by its hash.
    ///
    /// # Errors
    /// It cannot be read now.
    fn find(&self, hash: u128) -> impl Future<Output = Result<Option<Whole>, BufferError>> + Send;

    /// Hands all of it over; ends early once nobody takes any more. Of two of one hash the first counts.
    ///
    /// # Errors
    /// It cannot be read now.
    fn hand_over(
        &self,
        to: mpsc::Sender<Vec<Whole>>,
    ) -> impl Future<Output = Result<(), BufferError>> + Send;

    /// About how many there are.
    fn count(&self) -> u64;

    /// Hashes of the orders that the OMS has under a ticket, as far as they are known before all is read.
    fn outstanding(&self) -> Vec<u128>;
}

/// A store that takes the orders of another in.
pub(crate) trait TakesIn: Buffer {
    /// Makes these durable, but those of which something stands here already. `key` is that of the one there is, where it is known.
    /// Gives back how many cannot be kept here at all.
    ///
    /// # Errors
    /// Some of them are not durable now; to try again does no harm.
    fn take_in(
        &self,
        wholes: Vec<Whole>,
        key: Option<OrderKey>,
    ) -> impl Future<Output = Result<u64, BufferError>> + Send;

    /// Notes durably that nothing is left to be taken in.
    ///
    /// # Errors
    /// It is not noted now.
    fn is_whole(&self) -> impl Future<Output = Result<(), BufferError>> + Send;
}

/// Whether a key is that of an order of which only the hash is known.
pub(crate) fn is_unknown(key: &OrderKey) -> bool {
    key.channel.is_empty()
}

/// The key of an order of which only the hash is known; no channel has an empty name.
pub(crate) fn unknown_key() -> OrderKey {
    OrderKey::new(Arc::from(""), Arc::from(""), String::new())
}

/// An order that was accepted longer ago than outcomes are kept in the new store may have been taken in before, have ended there and be
/// forgotten: then it is looked up before it is sent.
pub(crate) fn look_first_if_old(records: &mut [Numbered], now_ms: i64, horizon: Duration) {
    let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX);
    for (_, record) in records {
        if let Record::Moved { snapshot, .. } = record
            && snapshot.state == OrderState::Pending
        {
            let age_ms = now_ms.saturating_sub(snapshot.first_accepted_at_ms);
            snapshot.sent_before |= age_ms >= horizon_ms;
        }
    }
}

/// Gives records whose key is not known the key they are looked for by.
pub(crate) fn fill_key(records: &mut [Numbered], key: &OrderKey) {
    for (_, record) in records {
        if let Some(delivery) = Record::delivery_mut(record)
            && is_unknown(&delivery.envelope.key)
        {
            delivery.envelope.key = key.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Outcome;

    #[test]
    fn what_may_be_forgotten_is_looked_up_and_what_cannot_be_is_not() {
        let sent = |state, accepted_at_ms| {
            let outcome = Outcome { accepted_at_ms, ..Outcome::forgotten(7) };
            let mut records = outcome.records(unknown_key());
            if let (_, Record::Moved { snapshot, .. }) = &mut records[0] {
                (snapshot.state, snapshot.sent_before) = (state, false);
            }
            look_first_if_old(&mut records, 100_000, Duration::from_secs(60));
            matches!(&records[0], (_, Record::Moved { snapshot, .. }) if snapshot.sent_before)
        };
        assert!(sent(OrderState::Pending, 40_000));
        assert!(!sent(OrderState::Pending, 40_001));
        assert!(!sent(OrderState::Held, 0), "who was never ready was never sent");
    }
}
