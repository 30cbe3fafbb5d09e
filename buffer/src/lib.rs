//! The durable buffer between the storefront's door and the drain.
//!
//! # What it promises
//! - A [`Receipt`] exists only after what it speaks of is durable, where its [`Durability`] says.
//! - One order per [`OrderKey`], for ever within the dedup horizon; what a second delivery under a
//!   key means is decided by one table, in `rules`.
//! - An order is lent to at most one worker at a time. A [`Lease`] is settled exactly once; a dropped
//!   one comes back, as *sent before* if bytes may have left for the OMS.
//! - Nothing here parses an order.
//!
//! # The straight line
//! ```text
//! append(Envelope, Permit) -> group -> sync -> Receipt
//! lease(limit, wait) -> [Lease] -> submitting -> (the OMS) -> Lease::settle(Verdict)
//! ```

#![cfg_attr(
    test,
    expect(clippy::duplicate_mod, reason = "the model compiles the protocol over another façade")
)]

pub mod admission;
pub mod clock;
mod codec;
pub mod common;
pub mod control;
pub mod cursor;
mod digest;
pub mod embedded;
pub mod envelope;
pub mod exception;
pub mod feed;
pub mod lease;
pub mod memory;
mod metrics;
pub mod migrate;
pub mod nats;
pub mod receipt;
mod record;
mod rules;
mod state;
pub mod step;
pub mod telling;
mod underway;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

pub use admission::{Admission, Overloaded, Permit};
pub use clock::{Clock, SystemClock};
pub use common::{Announcement, Common};
pub use cursor::{CursorError, FeedCursor};
pub use embedded::inspect::{DamagedRun, InspectError, Inspection, KeptOrder, LostOrder, inspect};
pub use embedded::{
    Damage, DamageKind, Embedded, EmbeddedConfig, OpenError, SegmentSummary, WriteMode,
};
pub use envelope::Envelope;
pub use exception::{Act, ActError, ActReceipt, ExceptionCategory, ExceptionRow, Severity};
pub use feed::{FeedError, FeedEvent, FeedException, FeedKind, FeedPage};
pub use lease::{Lease, Verdict};
pub use memory::Memory;
pub use receipt::{Answer, Durability, Receipt};
pub use telling::{Effect, Telling, Word};
pub use view::{
    Fleet, OrderState, OrderView, OutcomeFigures, Pace, Status, SummarisedOrder, SummarisedPage,
};

use forebay_order::OrderKey;

/// A backend that keeps orders until they are settled.
///
/// Cloning gives another handle to the same buffer. All futures may be dropped at any time: dropping an
/// [`append`](Buffer::append) loses the answer, never the order.
pub trait Buffer: Clone + Send + Sync + 'static {
    /// The share-out of the in-flight budget; an `append` needs one of its permits.
    fn admission(&self) -> &Admission;

    /// Makes one delivery durable, or finds out what it means beside an earlier one, and answers only
    /// when both the delivery and whatever it was judged against are durable. It is handed in by the call itself, not by the
    /// first poll, and those of one key are judged in the order in which they were handed in here.
    ///
    /// # Errors
    /// [`AppendError::Full`], [`AppendError::TooLarge`], [`AppendError::Disputed`] and [`AppendError::Closing`] mean
    /// nothing was kept;
    /// [`AppendError::Failed`] means unknown: the sender must send the same again.
    fn append(
        &self,
        envelope: Envelope,
        permit: Permit,
    ) -> impl Future<Output = Result<Receipt, AppendError>>;

    /// Lends up to `limit` pending orders, none of them under a ticket, oldest eligible first, waiting up to `wait` for the first.
    /// Empty when the wait ended, or while notes of loans would take the last room on the disk. An order that may have killed the process before comes alone.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed or is closing.
    fn lease(
        &self,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Lease>, BufferError>> + Send;

    /// Lends up to `limit` orders that the OMS has under a ticket and that are to be looked up by now, longest due first,
    /// waiting up to `wait` for the first. They are not to be sent: their verdict is `Submitted` again, under the same ticket,
    /// unless their outcome is known or waited for no longer.
    ///
    /// # Errors
    /// As [`Buffer::lease`].
    fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Lease>, BufferError>> + Send;

    /// Takes the OMS's own word of an order; answers when what it comes to is durable. Nobody needs a lease for it: one under way
    /// is over by it, and its verdict is ignored like any stale lease's.
    ///
    /// # Errors
    /// [`BufferError`]: whether it was kept is unknown, and it may be told again.
    fn tell(&self, telling: Telling) -> impl Future<Output = Result<Effect, BufferError>> + Send;

    /// Orders with the OMS under a ticket, their outcome not known; with those whose ticket is about to be noted. Where others
    /// share the orders, this process's part of them (see [`Buffer::share`]). Never blocks.
    fn outstanding(&self) -> u64;

    /// Notes, before the first byte leaves for the OMS, that these orders are being sent. With `synced`
    /// (an OMS that does not refuse a second create) returns only when the note is durable. After it, a
    /// lease that is dropped comes back as *sent before*.
    ///
    /// Says of each lease whether it may be sent. One may not, and is not noted, where a newer version or a
    /// cancel came while it was lent and no earlier loan may have sent it ([`Lease::sent_before`], which whoever has asked
    /// the OMS in vain takes back): give it back unsent, so that the change takes effect.
    ///
    /// # Errors
    /// [`BufferError`]; then nothing may be sent.
    fn submitting(
        &self,
        leases: &[Lease],
        synced: bool,
    ) -> impl Future<Output = Result<Vec<bool>, BufferError>> + Send;

    /// What is known of an order, durable facts only; `None` if the key was never accepted (or was, but
    /// longer than the dedup horizon ago).
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed.
    fn order(
        &self,
        key: &OrderKey,
    ) -> impl Future<Output = Result<Option<OrderView>, BufferError>> + Send;

    /// The bytes kept under a sequence (an order's current content, or an exception row's own body);
    /// `None` once they are gone.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed or the bytes are damaged.
    fn body(
        &self,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<bytes::Bytes>, BufferError>> + Send;

    /// Open process exceptions with `id > after`, at most `limit`, oldest first.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed.
    fn exceptions(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<ExceptionRow>, BufferError>> + Send;

    /// Retries or discards one open exception; answers when that is durable.
    ///
    /// # Errors
    /// [`ActError`] says why not.
    fn act(
        &self,
        exception: u64,
        act: Act,
    ) -> impl Future<Output = Result<ActReceipt, ActError>> + Send;

    /// Orders that are in the OMS, settled at `since_ms` (ms since 1970) or later, and of which the bytes are still kept (see the
    /// backend's `replay_window`); at most `limit`, from where the page before left off, 0 for the start. An empty page need not
    /// be the last one.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed.
    fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> impl Future<Output = Result<SummarisedPage, BufferError>> + Send;

    /// Makes an order wait for the drain once more that was in the OMS, and may not be any more: it comes as *sent before*, so it is
    /// looked up first. False where it is not summarised, or its bytes are gone. Durable when it is answered.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed, or has no room.
    fn send_again(&self, key: &OrderKey) -> impl Future<Output = Result<bool, BufferError>> + Send;

    /// What became of orders, behind `after` (sequence 0: from the beginning): about `limit` events, a record's never torn apart,
    /// waiting up to `wait` for the first. What was told is told again, the same, to whoever asks from an earlier place on; nobody
    /// who reads holds anything up.
    ///
    /// # Errors
    /// [`FeedError`]
    fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<FeedPage, FeedError>> + Send;

    /// Counts and ages for people and metrics.
    ///
    /// # Errors
    /// [`BufferError`] when the buffer has failed.
    fn status(&self) -> impl Future<Output = Result<Status, BufferError>> + Send;

    /// Whether it can durably accept right now; the reason if not. Never blocks.
    fn health(&self) -> Result<(), String>;

    /// Where an order is that is accepted now. Never blocks.
    fn durability(&self) -> Durability;

    /// How much waits and how fast it drains, for `Retry-After` and estimates. Never blocks.
    fn pace(&self) -> Pace;

    /// How much of the drain's limits this process may use now, from 0 to 1. Never blocks. The rest is that of other processes
    /// that drain the same orders; there are none where the orders are this process's alone.
    fn share(&self) -> f64 {
        1.0
    }

    /// What the limits of all processes that drain the same orders come to. Never blocks. Nothing where the orders are this
    /// process's alone.
    fn common(&self) -> Arc<Common> {
        Arc::default()
    }

    /// Finishes what was handed in, makes it durable, and stops. Later calls fail with `Closing`.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Why an append has no receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk budget is used up; nothing was kept.
    #[error("the buffer's disk budget is used up")]
    Full,
    /// The delivery is larger than the store can hold as one (a group of 4 MiB, or a slot); nothing was kept.
    #[error("the order is larger than the buffer can keep")]
    TooLarge,
    /// The key has 16 open conflicts, as many as are kept, and this content is another one; nothing was kept.
    #[error(
        "16 other contents of this key wait for a person already; close their exceptions first"
    )]
    Disputed,
    /// The buffer is shutting down; nothing was kept.
    #[error("the buffer is shutting down")]
    Closing,
    /// A write or a sync failed: whether the delivery is durable is unknown.
    #[error("the buffer failed: {0}; whether the order is durable is unknown, send the same again")]
    Failed(String),
}

/// Why another call of the buffer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// A write, sync or read failed.
    #[error("the buffer failed: {0}")]
    Failed(String),
    /// The buffer is shutting down.
    #[error("the buffer is shutting down")]
    Closing,
}
