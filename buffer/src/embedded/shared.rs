//! What the callers and the one writer share: bounded queues, and the state of the writer's life.

use std::cell::RefCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use forebay_order::OrderKey;
use tokio::sync::{Semaphore, oneshot};

use super::answers::{Awaited, Desk, Desks, Reply};
use super::coming::{Coming, Comings};
use super::feed;
use super::intake::Intake;
pub(super) use super::intake::Phase;
use super::journal::{Location, Reader};
use super::take_in::Taking;
use super::writer::Fatal;
use crate::lease::{Ended, LeaseHome};
use crate::record::Delivery;
use crate::state::{Head, Kept, Loan, Meter, RowHead, Sight, Summarised};
use crate::{
    Act, ActError, ActReceipt, Admission, AppendError, BufferError, Clock, Effect, Envelope,
    OrderView, Permit, Receipt, Status, Telling, Verdict,
};

/// Most orders lent out at once. Each has its place in the settle queue, so that a verdict always has room.
pub(super) const LOANS_MAX: usize = 16_384;

/// A turn of the writer that takes longer than this waits for a disk that hangs.
const STALL: Duration = Duration::from_secs(2);

/// Calls other than appends and verdicts that may wait for the writer; more wait outside.
const CALLS_MAX: usize = 1_024;

/// One delivery on its way to the writer.
pub(super) struct Append {
    pub(super) envelope: Envelope,
    pub(super) permit: Permit,
    pub(super) reply: Reply<Appended>,
    /// When, by [`Clock::elapsed`].
    pub(super) handed_in: Duration,
}

/// What a delivery came to.
pub(super) type Appended = Result<Receipt, AppendError>;

/// The end of one loan.
pub(super) struct Settlement {
    pub(super) loan: Ended,
    pub(super) verdict: Option<Verdict>,
    /// Held until its ticket is noted.
    pub(super) coming: Option<Coming>,
}

/// Everything else that is asked of the writer.
pub(super) enum Call {
    /// Orders for a worker; `now`: whatever there is, even nothing.
    Lease {
        limit: usize,
        /// Orders under a ticket, or the others.
        ticketed: bool,
        now: bool,
        decided: Arc<AtomicBool>,
        reply: oneshot::Sender<Vec<Lent>>,
    },
    /// Where the content of a loan is now.
    Where {
        sequence: u64,
        loan: u64,
        reply: oneshot::Sender<Option<Kept>>,
    },
    /// Loans whose bytes may leave for the OMS.
    Sending {
        /// Each with whether an earlier one may have sent it, and nobody could ask.
        loans: Vec<(u64, u64, bool)>,
        synced: bool,
        /// Which of them were noted.
        reply: oneshot::Sender<Vec<bool>>,
    },
    Order {
        key: OrderKey,
        reply: oneshot::Sender<Option<Seen>>,
    },
    BodyAt {
        sequence: u64,
        reply: oneshot::Sender<Option<Kept>>,
    },
    Rows {
        after: u64,
        limit: usize,
        reply: oneshot::Sender<Vec<RowHead>>,
    },
    Act {
        exception: u64,
        act: Act,
        reply: oneshot::Sender<Result<ActReceipt, ActError>>,
    },
    Tell {
        telling: Telling,
        reply: oneshot::Sender<Result<Effect, BufferError>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    SummarisedSince {
        since_ms: i64,
        after: u64,
        limit: usize,
        reply: oneshot::Sender<Summarised>,
    },
    SendAgain(Box<SendAgain>),
    /// Orders of another store.
    TakeIn(Box<Taking>),
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// A summarised order to be sent once more, as read.
pub(super) struct SendAgain {
    pub(super) sequence: u64,
    /// Where it was read.
    pub(super) kept: Kept,
    pub(super) head: Head,
    pub(super) delivery: Delivery,
    /// Whether it is done; not so where it is not summarised any more, or somewhere else.
    pub(super) reply: oneshot::Sender<Result<bool, BufferError>>,
}

/// What the writer knows of an order.
pub(super) enum Seen {
    /// The rest stands in its record.
    Live(Sight),
    /// Only the outcome is left.
    Ended(OrderView),
}

/// A loan on its way to the worker. Dropped before it became a lease, the order comes back.
pub(super) struct Lent {
    loan: Option<Loan>,
    home: Arc<Shared>,
}

impl Lent {
    pub(super) fn new(loan: Loan, home: Arc<Shared>) -> Self {
        Self { loan: Some(loan), home }
    }

    /// The order, and the number of the loan.
    pub(super) fn name(&self) -> Option<(u64, u64)> {
        self.loan.as_ref().map(|loan| (loan.sequence, loan.number))
    }

    /// Where its content is.
    pub(super) fn location(&self) -> Option<Location> {
        self.loan.as_ref().and_then(|loan| loan.kept.location)
    }

    /// Its content was carried forward.
    pub(super) fn moved_to(&mut self, kept: Kept) {
        if let Some(loan) = &mut self.loan {
            loan.kept = kept;
        }
    }

    /// The loan, and who takes it back from now on.
    pub(super) fn take(mut self) -> Option<(Loan, Arc<Shared>)> {
        Some((self.loan.take()?, Arc::clone(&self.home)))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(loan) = self.loan.take() {
            self.home.settle(Ended::unnamed(loan.sequence, loan.number), None);
        }
    }
}

thread_local! {
    /// This thread's desk at each buffer it has handed a delivery to, by the buffer's number.
    static DESKS: RefCell<Vec<(u64, Arc<Desk<Appended>>)>> = const { RefCell::new(Vec::new()) };
}

/// Tells the buffers of one process apart.
static BUFFERS: AtomicU64 = AtomicU64::new(0);

/// Shared by all handles, leases and the writer.
pub(super) struct Shared {
    number: u64,
    pub(super) admission: Admission,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reader: Reader,
    pub(super) meter: Meter,
    /// What became of orders, for those who read it; `None` where that is not kept.
    pub(super) feed: Option<Arc<feed::Shared>>,
    pub(super) pending: AtomicU64,
    /// Orders under a ticket that are noted, and the tickets that are about to be.
    pub(super) outstanding: AtomicU64,
    coming: Comings,
    pub(super) intake: Intake<Append>,
    pub(super) desks: Desks<Appended>,
    pub(super) settlements: ArrayQueue<Settlement>,
    pub(super) calls: ArrayQueue<Call>,
    pub(super) call_room: Semaphore,
    pub(super) failure: OnceLock<String>,
    /// The journal has no room for orders now.
    pub(super) full: AtomicBool,
    /// When the writer began what it is doing, in milliseconds of the clock; 0 while it waits for work.
    busy_since_ms: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        admission: Admission,
        orders_max: usize,
        clock: Arc<dyn Clock>,
        reader: Reader,
        feed: Option<Arc<feed::Shared>>,
    ) -> Self {
        Self {
            number: BUFFERS.fetch_add(1, Ordering::Relaxed),
            admission,
            clock,
            reader,
            meter: Meter::default(),
            feed,
            pending: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            coming: Comings::default(),
            intake: Intake::new(orders_max),
            desks: Desks::new(),
            settlements: ArrayQueue::new(LOANS_MAX),
            calls: ArrayQueue::new(CALLS_MAX),
            call_room: Semaphore::new(CALLS_MAX),
            failure: OnceLock::new(),
            full: AtomicBool::new(false),
            busy_since_ms: AtomicU64::new(0),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        self.intake.phase()
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.intake.enter(phase);
    }

    /// The writer begins a turn, or has ended one.
    pub(super) fn busy(&self, busy: bool) {
        let since = if busy { self.elapsed_ms().max(1) } else { 0 };
        self.busy_since_ms.store(since, Ordering::Relaxed);
    }

    /// For how long the writer has been at one turn, if that is longer than any disk should take.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let since = Some(self.busy_since_ms.load(Ordering::Relaxed)).filter(|since| *since > 0)?;
        let busy = Duration::from_millis(self.elapsed_ms().saturating_sub(since));
        (busy >= STALL).then_some(busy)
    }

    /// Orders with the OMS under a ticket. Looked at in this order none is missed while it is being noted.
    pub(super) fn outstanding(&self) -> u64 {
        let coming = self.coming.count();
        coming + self.outstanding.load(Ordering::Acquire)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn wake(&self) {
        self.intake.wake();
    }

    /// Hands a delivery in to an open buffer. What is awaited hears nothing but a hang-up if the writer is gone.
    ///
    /// # Errors
    /// As [`Shared::check`].
    pub(super) fn append(
        &self,
        envelope: Envelope,
        permit: Permit,
    ) -> Result<Awaited<Appended>, BufferError> {
        self.check()?;
        let handed_in = self.clock.elapsed();
        let (reply, awaited) = self.desk().seat();
        if let Err(append) = self.intake.push(Append { envelope, permit, reply, handed_in }) {
            // The queue has a place for every permit there is.
            append.reply.send(Err(AppendError::Full));
            self.wake();
        }
        Ok(awaited)
    }

    /// The calling thread's desk at this buffer.
    fn desk(&self) -> Arc<Desk<Appended>> {
        let known = DESKS.try_with(|desks| {
            let mut desks = desks.borrow_mut();
            let known = desks.iter().find(|(number, _)| *number == self.number);
            if let Some((_, desk)) = known {
                return Arc::clone(desk);
            }
            // Those of buffers that are gone.
            desks.retain(|(_, desk)| Arc::strong_count(desk) > 1);
            let desk = self.desks.open();
            desks.push((self.number, Arc::clone(&desk)));
            desk
        });
        // A thread that is ending gets one for this delivery alone.
        known.unwrap_or_else(|_| self.desks.open())
    }

    /// Hands a call in to an open buffer, waiting for a place.
    ///
    /// # Errors
    /// As [`Shared::check`].
    pub(super) async fn call(&self, call: Call) -> Result<(), BufferError> {
        self.check()?;
        self.hand_in(call).await;
        Ok(())
    }

    /// Hands a call in whatever the phase; nobody answers it once the writer is gone.
    pub(super) async fn hand_in(&self, call: Call) {
        let Ok(place) = self.call_room.acquire().await else { return };
        if self.calls.push(call).is_ok() {
            // The writer gives the place back when it has taken the call out.
            place.forget();
        }
        self.after_push();
    }

    /// The next call, whose place is free again.
    pub(super) fn next_call(&self) -> Option<Call> {
        let call = self.calls.pop()?;
        self.call_room.add_permits(1);
        Some(call)
    }

    /// Says once and for all why nothing is taken any more, before anybody can notice it otherwise.
    pub(super) fn fail(&self, reason: String) -> Fatal {
        // The first reason stands.
        self.failure.set(reason.clone()).ok();
        self.enter(Phase::Failed);
        Fatal(reason)
    }

    fn after_push(&self) {
        if self.intake.has_writer() {
            self.wake();
        } else {
            self.empty();
        }
    }

    /// Drops what nobody will take any more; its senders hear a hang-up.
    pub(super) fn empty(&self) {
        self.intake.empty();
        while self.calls.pop().is_some() {
            self.call_room.add_permits(1);
        }
        while self.settlements.pop().is_some() {}
    }

    /// Whether the buffer takes anything at all.
    ///
    /// # Errors
    /// [`BufferError`] if it failed or is closing.
    pub(super) fn check(&self) -> Result<(), BufferError> {
        match self.phase() {
            Phase::Open => Ok(()),
            _ => Err(self.gone()),
        }
    }

    /// Why the writer did not answer.
    pub(super) fn gone(&self) -> BufferError {
        match (self.failure.get(), self.phase()) {
            (Some(reason), _) => BufferError::Failed(reason.clone()),
            (None, Phase::Closing | Phase::Closed) => BufferError::Closing,
            (None, _) => BufferError::Failed("the writer ended before it answered".to_owned()),
        }
    }
}

impl LeaseHome for Shared {
    fn settle(&self, loan: Ended, verdict: Option<Verdict>) {
        let sequence = loan.sequence;
        // There is room: no more than LOANS_MAX loans are out, and each is settled once. Without room the order
        // would stay lent until the next start, never lost.
        let is_taken = matches!(verdict, Some(Verdict::Submitted { .. }));
        let coming = is_taken.then(|| self.coming.begin());
        if self.settlements.push(Settlement { loan, verdict, coming }).is_err() {
            tracing::error!(sequence, "no room for a verdict");
        }
        if self.intake.has_writer() {
            self.wake();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("phase", &self.phase()).finish_non_exhaustive()
    }
}
