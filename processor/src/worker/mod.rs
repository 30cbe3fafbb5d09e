//! One worker: leases a batch of pending orders, sends it under a grant, settles every lease.
//!
//! # Order of grant and lease
//! Lease first, then the grant. A worker that waits for orders holds no tokens, so nothing bursts when
//! they come and nobody starves meanwhile; a worker that waits for tokens holds the leases of one batch,
//! for about a fortieth of a second, and gives them back when a pause or a stop comes. The other way
//! round every idle worker would sit on a batch of tokens, and a pause would have to take them away again.
//!
//! # When an attempt counts
//! Only where another order came through the OMS since this batch began, or since the order failed the
//! last time: then the OMS works and the order is at fault. Otherwise the trouble may be the OMS's, and an
//! hour of it must not turn the backlog into exceptions; such an order is tried again, at most every
//! [`RetryPolicy::max`], until others come through or it does. A call whose outcome was unknown and of which a look-up found orders absent is sent
//! again in halves (down to single orders while others come through), so one bad order is isolated and
//! its neighbours pass. A call that the OMS gave up is sent in halves down to single orders whatever comes through: the OMS answers, and
//! a few orders that take too much of it each must not keep all others back.
//!
//! # While a brake is on
//! One worker at a time probes with one order (see [`crate::governor`]); the others lease nothing, and give back what
//! they have not sent.

mod answer;
mod denied;
mod evidence;
mod hearing;
mod prepare;
mod refusals;
#[cfg(test)]
mod tests;
mod tickets;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, Clock, ExceptionCategory, Lease, Verdict};
use forebay_order::OrderSummary;
use tokio::sync::watch;

use crate::caught::caught;
use crate::governor::{Governor, Grant, Probe};
use crate::metrics::{self, OrderOutcome};
use crate::oms::OrderManagement;
use crate::retry::RetryPolicy;

pub(crate) use denied::Denied;
pub(crate) use evidence::Evidence;
pub use hearing::{Hearing, Patience};
pub(crate) use prepare::Summarise;
pub(crate) use refusals::Refusals;

/// What the workers share.
pub(crate) struct Shared<B, O> {
    pub(crate) buffer: B,
    pub(crate) oms: Arc<O>,
    pub(crate) governor: Governor,
    pub(crate) clock: Arc<dyn Clock>,
    /// Wall clock and time passed at the start.
    pub(crate) began: (i64, Duration),
    pub(crate) retry: RetryPolicy,
    pub(crate) attempts_max: u8,
    pub(crate) remembered: Duration,
    pub(crate) ticket_deadline: Duration,
    pub(crate) lease_wait: Duration,
    pub(crate) summarise: Summarise,
    pub(crate) evidence: Evidence,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) denied: Denied,
}

impl<B, O> Shared<B, O> {
    /// The wall clock as it was at the start, and the time that has passed since: a clock that is set forward makes nothing old.
    fn steady_wall_ms(&self) -> i64 {
        let (wall_ms, at) = self.began;
        let passed = self.clock.elapsed().saturating_sub(at).as_millis();
        wall_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

pub(crate) struct Worker<B, O> {
    shared: Arc<Shared<B, O>>,
    rng: fastrand::Rng,
    stop: watch::Receiver<bool>,
    /// This batch is the probe of the brake that is on.
    probe: Option<Probe>,
}

/// An order ready to be sent.
struct Order {
    lease: Lease,
    summary: Arc<OrderSummary>,
    /// It may be in the OMS already: look it up before it is sent.
    ask: bool,
    /// [`Buffer::submitting`] was called for this loan.
    noted: bool,
}

impl Order {
    /// It was sent, nobody knows what became of it, and nobody can be asked.
    fn maybe_there(mut self) -> Self {
        self.lease.sent_before = true;
        self
    }

    /// The OMS was asked and has not got it.
    fn not_there(mut self) -> Self {
        self.lease.sent_before = false;
        self
    }
}

/// Orders that may go, their summaries, and those that changed.
type Noted = (Vec<Lease>, Vec<Arc<OrderSummary>>, Vec<Lease>);

/// An order that failed, and may be tried again.
struct Failed {
    lease: Lease,
    /// Not before this long, where the OMS said so.
    told: Option<Duration>,
    reason: String,
    /// It may be the order's fault.
    blamed: bool,
}

/// One batch under way.
struct Batch {
    began: Duration,
    /// Parts to send, in order.
    untried: VecDeque<Vec<Order>>,
    /// Parts whose call had an unknown outcome, of which a look-up found these orders absent.
    absent: Vec<Vec<Order>>,
    /// Single orders whose call the OMS gave up, and what it said.
    given_up: Vec<(Order, String)>,
    /// Single orders that definitely were not created.
    failed: Vec<Failed>,
    /// Set where nothing more of this batch may be sent now: how long its orders wait.
    halted: Option<Duration>,
}

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    pub(crate) fn new(shared: Arc<Shared<B, O>>, stop: watch::Receiver<bool>) -> Self {
        Self { shared, rng: fastrand::Rng::new(), stop, probe: None }
    }

    /// Works until told to stop, or until the buffer closes or fails.
    pub(crate) async fn run(mut self) {
        loop {
            self.probe = None; // Also one for which there was no order: the next may be another worker's.
            let mut stop = self.stop.clone();
            let (probe, leases) = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                next = self.next() => next,
            };
            self.probe = probe;
            match leases {
                Ok(leases) if leases.is_empty() => {}
                Ok(leases) => {
                    // Leases that unwind go back to the buffer; the worker stays.
                    if caught(self.batch(leases)).await.is_err() {
                        tracing::error!("the drain panicked; its batch goes back to the buffer");
                    }
                    metrics::governor(&self.shared.governor.state());
                }
                Err(BufferError::Closing) => return,
                Err(error) => {
                    tracing::error!(%error, "the drain stops: it cannot lease orders");
                    return;
                }
            }
        }
    }

    async fn next(&self) -> (Option<Probe>, Result<Vec<Lease>, BufferError>) {
        let shared = &self.shared;
        let probe = shared.governor.open().await;
        let leases = match probe {
            None => {
                let limit = shared.governor.batch().min(shared.oms.batch_max()).max(1);
                shared.buffer.lease(limit, shared.lease_wait).await
            }
            Some(_) => {
                let limit = shared.refusals.to_choose_from();
                let leases = shared.buffer.lease(limit, shared.lease_wait).await;
                leases.map(|leases| shared.refusals.choose(leases))
            }
        };
        (probe, leases)
    }

    async fn batch(&mut self, leases: Vec<Lease>) {
        let mut batch = Batch {
            began: self.shared.clock.elapsed(),
            untried: VecDeque::new(),
            absent: Vec::new(),
            given_up: Vec::new(),
            failed: Vec::new(),
            halted: None,
        };
        let (orders, exhausted) = self.prepare(leases);
        batch.untried.push_back(orders);
        self.settle_exhausted(exhausted).await;
        let mut split = false;
        loop {
            while let Some(part) = batch.untried.pop_front() {
                if batch.halted.is_some() {
                    self.release(part, batch.halted);
                } else if !part.is_empty() {
                    self.attempt(part, &mut batch).await;
                }
            }
            let blame = self.shared.evidence.came_through_since(batch.began);
            let several = batch.absent.iter().any(|part| part.len() > 1);
            if batch.halted.is_some() || !several || (split && !blame) {
                return self.settle_failed(batch, blame);
            }
            split = true;
            let parts = std::mem::take(&mut batch.absent);
            let (several, single): (Vec<_>, Vec<_>) = parts.into_iter().partition(|p| p.len() > 1);
            batch.absent = single;
            batch.untried.extend(several.into_iter().flat_map(halves));
        }
    }

    /// Sends one part under a grant, and settles what has an outcome.
    async fn attempt(&mut self, mut part: Vec<Order>, batch: &mut Batch) {
        let Some(grant) = self.grant(part.len()).await else {
            batch.halted = Some(Duration::ZERO);
            return self.release(part, batch.halted);
        };
        // The ceiling may have been lowered since these were leased.
        let rest = part.split_off(grant.orders().min(part.len()));
        if !rest.is_empty() {
            batch.untried.push_front(rest);
        }
        // Under the grant too: what is found has reached the OMS before, and spends here for then.
        let (part, asked) = self.ask_first(part, batch).await;
        if part.is_empty() {
            return if asked { grant.spend() } else { drop(grant) };
        }
        let (leases, summaries, changed) = match self.note(part).await {
            Ok(noted) => noted,
            Err(error) => {
                tracing::error!(%error, "nothing is sent: the buffer cannot note it");
                batch.halted = Some(Duration::ZERO);
                return;
            }
        };
        let asked = self.settle_changed(changed).await || asked;
        if leases.is_empty() {
            return if asked { grant.spend() } else { drop(grant) };
        }
        let order = |(lease, summary)| Order { lease, summary, ask: false, noted: true };
        if !self.shared.governor.is_claimed() {
            // It may have become another fleet's while the buffer, or this process, stood still.
            drop(grant);
            batch.halted = Some(Duration::ZERO);
            let part = leases.into_iter().zip(summaries).map(order).collect();
            return self.release(part, batch.halted);
        }
        if let (Some(_), Some(summary)) = (&self.probe, summaries.first()) {
            self.shared.governor.probe_sent(summary.key.identity());
        }
        let answer = self.submit(&summaries).await;
        let part = leases.into_iter().zip(summaries).map(order).collect();
        self.settle_answer(part, answer, grant, batch).await;
    }

    /// Has the buffer note that these are being sent. Gives back apart those whose content changed, or that were called
    /// off, while they waited or were lent: these are not to be sent.
    async fn note(&self, part: Vec<Order>) -> Result<Noted, BufferError> {
        // Asked before every send, for the order may be another process's by now; noted once.
        let noted = part.iter().all(|order| order.noted);
        let (leases, summaries): (Vec<_>, Vec<_>) =
            part.into_iter().map(|order| (order.lease, order.summary)).unzip();
        let synced = !noted && !self.shared.oms.guarantee().refuses_second();
        let may_go = self.shared.buffer.submitting(&leases, synced).await?;
        let going = Vec::with_capacity(leases.len());
        let mut noted = (going, Vec::with_capacity(leases.len()), Vec::new());
        for ((lease, summary), may_go) in leases.into_iter().zip(summaries).zip(may_go) {
            if may_go {
                noted.0.push(lease);
                noted.1.push(summary);
            } else {
                noted.2.push(lease);
            }
        }
        Ok(noted)
    }

    /// Permission to send so many; `None` where a pause, a brake that this is not the probe of, or the stop came first, or no more
    /// orders may be outstanding.
    async fn grant(&self, orders: usize) -> Option<Grant> {
        let mut stop = self.stop.clone();
        let governor = &self.shared.governor;
        let acquire = async {
            match &self.probe {
                Some(probe) => probe.acquire().await,
                None => governor.acquire_unless_full(orders).await,
            }
        };
        let grant = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            () = governor.paused() => None,
            () = governor.claim_over() => None,
            () = governor.braked(), if self.probe.is_none() => None,
            grant = acquire => grant,
        };
        metrics::governor(&self.shared.governor.state());
        grant
    }

    /// Gives leases back for now. One not yet noted goes as if it had never been lent; of a noted one it
    /// is certain that nothing was created; one that was sent before stays so.
    fn release(&self, part: Vec<Order>, after: Option<Duration>) {
        let after = after.unwrap_or_default();
        for Order { lease, noted, .. } in part {
            let sent = lease.sent_before;
            if noted || sent || !after.is_zero() {
                let reason = "given back before it was sent".to_owned();
                lease.settle(Verdict::Retry { after, counts: false, sent, reason });
            }
        }
    }

    /// Settles what failed and can be tried again. `blame`: another order came through meanwhile, so the
    /// attempt counts.
    fn settle_failed(&mut self, batch: Batch, blame: bool) {
        let reason = "the call's outcome was unknown, and the order is not known to be in the OMS";
        let wait = match batch.halted {
            Some(wait) => wait,
            // Writes go nowhere though look-ups are answered: leave the OMS alone for a while.
            None if blame || batch.absent.is_empty() && batch.given_up.is_empty() => Duration::ZERO,
            None => self.trouble(None),
        };
        for (Order { lease, .. }, why) in batch.given_up {
            let reason = format!("too_much: the OMS gave up on it: {why}");
            let failed = Failed { lease, told: Some(wait), reason, blamed: true };
            self.settle_one_failed(failed, true, blame);
        }
        for part in batch.absent {
            let alone = part.len() == 1;
            for Order { lease, .. } in part {
                let reason = reason.to_owned();
                let failed = Failed { lease, told: Some(wait), reason, blamed: true };
                self.settle_one_failed(failed, alone, blame);
            }
        }
        for failed in batch.failed {
            self.settle_one_failed(failed, true, blame);
        }
    }

    fn settle_one_failed(&mut self, failed: Failed, alone: bool, blame: bool) {
        let Failed { lease, told, reason, blamed } = failed;
        let now = self.shared.clock.elapsed();
        let counts = blamed && alone && (self.shared.evidence.failed(lease.sequence, now) || blame);
        let attempts = lease.attempts.saturating_add(u8::from(counts));
        if counts && attempts >= self.shared.attempts_max {
            let reason = format!(
                "{attempts} attempts failed while other orders passed; the last: {reason}; \
                 look at the order and the OMS, then retry or discard it"
            );
            return self.exception(lease, ExceptionCategory::Poison, reason);
        }
        metrics::order(OrderOutcome::Retry);
        let failures = u32::from(attempts).max(1);
        let after = self.shared.retry.wait_at_least(told, failures, &mut self.rng);
        let sent = lease.sent_before;
        lease.settle(Verdict::Retry { after, counts, sent, reason });
    }

    fn exception(&self, lease: Lease, category: ExceptionCategory, reason: String) {
        settle_exception(lease, category, reason);
    }

    fn came_through(&self) {
        self.shared.evidence.came_through(self.shared.clock.elapsed());
    }
}

fn settle_exception(lease: Lease, category: ExceptionCategory, reason: String) {
    metrics::order(OrderOutcome::Exception);
    metrics::exception(category);
    lease.settle(Verdict::Exception { category, reason });
}

/// A part in two.
fn halves(mut part: Vec<Order>) -> [Vec<Order>; 2] {
    let second = part.split_off(part.len() / 2);
    [part, second]
}

/// Returns once told to stop, or once nobody is there to tell.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}
