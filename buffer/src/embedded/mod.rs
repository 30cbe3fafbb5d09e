//! The embedded backend: one machine, one data directory, one writer thread.
//!
//! ```text
//! DIR/journal/    the truth: every record, in slot files (docs/format-1.md)
//! DIR/outcomes/   the outcome index; may be lost without changing any effect
//! DIR/feed/       the outcome feed; lost, it begins anew, and its readers are told
//! ```
//! Callers hand in through bounded queues and wait at a desk (deliveries) or on a one-shot (the rest); the writer
//! makes groups. Bodies are read on the caller's side, and what the writer must know of a key that was seen before by
//! the lookup thread, never by the writer.

mod answers;
pub(crate) mod coming;
mod commit;
mod feed;
mod files;
mod group;
pub(crate) mod hand_over;
pub mod inspect;
mod intake;
pub(crate) mod journal;
mod look_first;
mod lookup;
mod measure;
mod outcomes;
#[cfg(test)]
mod protocol_model;
mod reads;
mod recovery;
mod retire;
mod shared;
mod sync;
mod take;
pub(crate) mod take_in;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use forebay_order::OrderKey;
use tokio::sync::oneshot;

use crate::metrics;
use crate::{
    Act, ActError, ActReceipt, Admission, AppendError, Buffer, BufferError, Clock, Durability,
    Effect, Envelope, ExceptionRow, FeedCursor, FeedError, FeedPage, Lease, OrderView, Pace,
    Permit, Receipt, Status, SummarisedPage, Telling,
};
use feed::Feed;
pub use journal::{Damage, DamageKind, SegmentSummary, WriteMode};
use lookup::Lookup;
#[doc(hidden)]
pub use measure::OutcomeIndex;
use shared::{Call, Phase, Shared};
use take_in::TakingIn;
use writer::{Fatal, Writer};

/// How an embedded buffer is kept.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Its directory; made if it is missing.
    pub dir: PathBuf,
    /// Bytes of one journal slot of a new store: a multiple of 4 KiB, from 32 KiB to 1 GiB. An order larger than a slot is
    /// refused as [`AppendError::Full`].
    pub slot_bytes: u64,
    /// Spare slots kept filled for a burst.
    pub burst_reserve: u32,
    /// Bytes of disk the journal may take; at least five slots.
    pub disk_max: u64,
    /// How groups of orders reach the disk.
    pub write_mode: WriteMode,
    /// Bytes of disk that the feed of what became of orders takes at most, at least two slots of 1 MiB; 0: none is kept.
    pub feed_bytes: u64,
    /// How long the first answer of an order is remembered.
    pub dedup_horizon: Duration,
    /// How long a summarised order is kept whole after it was settled, so that it can be sent again to an OMS that lost it. It takes
    /// the journal's disk and memory, and ends early where the disk budget is nearly used up.
    pub replay_window: Duration,
    /// Deliveries in flight at most.
    pub in_flight_orders: usize,
    /// Bytes in flight at most.
    pub in_flight_bytes: usize,
}

impl EmbeddedConfig {
    /// 64 MiB slots, 16 of them in reserve, 16 GiB of disk, 256 MiB of the feed, 30 days, 8,192 deliveries and 256 MiB in flight.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            slot_bytes: 64 << 20,
            burst_reserve: 16,
            disk_max: 16 << 30,
            write_mode: WriteMode::Auto,
            feed_bytes: 256 << 20,
            dedup_horizon: Duration::from_secs(30 * 86_400),
            replay_window: Duration::ZERO,
            in_flight_orders: 8_192,
            in_flight_bytes: 256 << 20,
        }
    }
}

/// Why an embedded buffer was not opened.
#[derive(Debug, thiserror::Error)]
#[error("the buffer in {} cannot be opened: {reason}", .dir.display())]
pub struct OpenError {
    dir: PathBuf,
    reason: String,
}

/// A buffer on this machine's disk. Its receipts say `fsync(this disk)`: the disk's own death loses what is
/// pending on it.
///
/// After a failed write or sync nothing is taken any more: everybody who waits gets
/// [`AppendError::Failed`], [`Buffer::health`] says why, and the hook given to [`Embedded::open`] is called once; the process
/// should end, for only a new one may look at the disk again. When the last handle is dropped without
/// [`Buffer::close`], what was handed in is finished, and the next start treats it like a crash.
#[derive(Clone)]
pub struct Embedded {
    handle: Arc<Handle>,
}

struct Handle {
    dir: PathBuf,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the buffer in a directory, or makes one, and recovers what it holds. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`] in words: the directory is in use, of a later format, or cannot be read or written.
    pub fn open(
        config: EmbeddedConfig,
        clock: Arc<dyn Clock>,
        on_failure: Box<dyn FnOnce(String) + Send>,
    ) -> Result<Self, OpenError> {
        let started = Self::start(&config, clock, None, on_failure, |_| {});
        started.map_err(|reason| OpenError { dir: config.dir, reason })
    }

    /// Recovers and starts the writer; `before` may look at it first.
    fn start(
        config: &EmbeddedConfig,
        clock: Arc<dyn Clock>,
        taking_in: Option<&TakingIn>,
        on_failure: Box<dyn FnOnce(String) + Send>,
        before: impl FnOnce(&mut Writer),
    ) -> Result<Self, String> {
        let mut recovered = recovery::recover(config, &clock, taking_in)?;
        let admission = Admission::new(config.in_flight_orders, config.in_flight_bytes);
        let reader = recovered.journal.reader();
        let keeper = recovered.feed.take();
        let feed = keeper.as_ref().map(|keeper| keeper.shared());
        let shared = Arc::new(Shared::new(admission, config.in_flight_orders, clock, reader, feed));
        shared.pending.store(recovered.state.pending(), Ordering::Relaxed);
        shared.outstanding.store(recovered.state.outstanding(), Ordering::Release);
        let lookup = Lookup::start(&shared)?;
        let feed = keeper.map(|keeper| Feed::start(keeper, &shared)).transpose()?;
        let beside = (lookup, feed);
        let mut writer = Writer::new(Arc::clone(&shared), recovered, beside, config);
        before(&mut writer);
        let thread = thread::Builder::new()
            .name("forebay-writer".to_owned())
            .spawn(move || write(writer, on_failure))
            .map_err(|error| format!("no thread for the writer: {error}"))?;
        shared.intake.written_by(thread.thread().clone());
        let dir = config.dir.clone();
        let handle = Handle { dir, shared, thread: Mutex::new(Some(thread)) };
        Ok(Self { handle: Arc::new(handle) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Orders under a ticket, or the others.
    async fn lease_of(
        &self,
        limit: usize,
        wait: Duration,
        ticketed: bool,
    ) -> Result<Vec<Lease>, BufferError> {
        let (reply, mut answer) = oneshot::channel();
        let now = wait.is_zero();
        let decided = Arc::new(AtomicBool::new(false));
        let call = Call::Lease { limit, ticketed, now, decided: Arc::clone(&decided), reply };
        self.shared().call(call).await?;
        let lent = if now {
            answer.await.map_err(|_| self.shared().gone())?
        } else {
            match tokio::time::timeout(wait, &mut answer).await {
                Ok(lent) => lent.map_err(|_| self.shared().gone())?,
                Err(_) if !decided.swap(true, Ordering::AcqRel) => Vec::new(),
                // The loan is being noted, which a slow disk draws out. To give it back would begin all over.
                Err(_) => answer.await.map_err(|_| self.shared().gone())?,
            }
        };
        self.leases(lent).await
    }

    /// The writer knows of those orders alone that are in memory.
    async fn take_telling(&self, telling: Telling) -> Result<Effect, BufferError> {
        let told = telling.clone();
        let effect = self.ask(|reply| Call::Tell { telling: told, reply }).await??;
        let Some(key) = telling.key.as_ref().filter(|_| effect == Effect::UnknownOrder) else {
            return Ok(effect);
        };
        let ended = self.view(key).await?;
        Ok(ended.map_or(effect, |ended| telling.beside(&ended)))
    }

    async fn ask<T>(
        &self,
        call: impl FnOnce(oneshot::Sender<T>) -> Call,
    ) -> Result<T, BufferError> {
        let (reply, answer) = oneshot::channel();
        self.shared().call(call(reply)).await?;
        answer.await.map_err(|_| self.shared().gone())
    }
}

/// The writer's thread, from the first turn to the last.
fn write(mut writer: Writer, on_failure: Box<dyn FnOnce(String) + Send>) {
    let shared = Arc::clone(&writer.shared);
    let ended = catch_unwind(AssertUnwindSafe(|| writer.run()))
        .unwrap_or_else(|_| Err(shared.fail("the writer panicked".to_owned())));
    // What was answered before the end is still heard.
    shared.desks.ring_for_all();
    // The files are let go before anybody hears that it is over.
    writer.settle_retiring();
    drop(writer);
    match ended {
        Ok(closers) => {
            shared.enter(Phase::Closed);
            shared.empty();
            for closer in closers {
                closer.send(()).ok();
            }
        }
        Err(Fatal(reason)) => {
            shared.empty();
            tracing::error!(%reason, "the buffer failed");
            on_failure(reason);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.enter(Phase::Abandoned);
        self.shared.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread catches its own panics, so there is nothing to hear.
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().fmt(f)
    }
}

impl Buffer for Embedded {
    fn admission(&self) -> &Admission {
        &self.shared().admission
    }

    /// Hands the delivery in at once, not at the first poll.
    fn append(
        &self,
        envelope: Envelope,
        permit: Permit,
    ) -> impl Future<Output = Result<Receipt, AppendError>> {
        let handed_in = self.shared().append(envelope, permit);
        async move {
            let answer = handed_in.map_err(append_error)?;
            answer.await.unwrap_or_else(|| Err(append_error(self.shared().gone())))
        }
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        self.lease_of(limit, wait, false).await
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        self.lease_of(limit, wait, true).await
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        let effect = self.take_telling(telling).await?;
        metrics::told(effect);
        Ok(effect)
    }

    fn outstanding(&self) -> u64 {
        self.shared().outstanding()
    }

    async fn submitting(&self, leases: &[Lease], synced: bool) -> Result<Vec<bool>, BufferError> {
        let loans =
            leases.iter().map(|lease| (lease.sequence, lease.loan, lease.sent_before)).collect();
        self.ask(|reply| Call::Sending { loans, synced, reply }).await
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        self.view(key).await
    }

    async fn body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        self.read_body(sequence).await
    }

    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        self.rows(after, limit).await
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        self.ask(|reply| Call::Act { exception, act, reply }).await?
    }

    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        self.summarised(since_ms, from, limit).await
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        self.again(key).await
    }

    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let shared = self.shared();
        shared.check()?;
        let feed = shared.feed.as_ref().ok_or(FeedError::NotKept)?;
        feed.page(after, limit, wait, || shared.gone()).await
    }

    async fn status(&self) -> Result<Status, BufferError> {
        self.ask(|reply| Call::Status { reply }).await
    }

    fn durability(&self) -> Durability {
        Durability::Fsync
    }

    fn health(&self) -> Result<(), String> {
        let shared = self.shared();
        shared.check().map_err(|error| error.to_string())?;
        if let Some(stalled) = shared.stalled() {
            return Err(format!("the disk has not answered for {} s", stalled.as_secs()));
        }
        if shared.full.load(Ordering::Acquire) {
            return Err(AppendError::Full.to_string());
        }
        Ok(())
    }

    fn pace(&self) -> Pace {
        let shared = self.shared();
        Pace {
            pending: shared.pending.load(Ordering::Relaxed),
            drained_per_s: shared.meter.per_second(shared.clock.elapsed()),
        }
    }

    async fn close(&self) {
        let shared = self.shared();
        shared.enter(Phase::Closing);
        while shared.phase() == Phase::Closing {
            let (reply, closed) = oneshot::channel();
            shared.hand_in(Call::Close { reply }).await;
            // A hang-up means it was closed already, or failed.
            closed.await.ok();
        }
    }
}

fn append_error(error: BufferError) -> AppendError {
    match error {
        BufferError::Failed(reason) => AppendError::Failed(reason),
        BufferError::Closing => AppendError::Closing,
    }
}
