//! The OMS's answers, and the verdict each of them is.
//!
//! | answer | verdict |
//! |---|---|
//! | created | summarised |
//! | existing, same content | summarised, existing |
//! | existing, the OMS cannot tell the content | summarised, existing, counted apart. The identity is ours (channel, source, the sender's id) and the buffer keeps another content from it; an exception for each order that a crash redelivers would hide the true ones |
//! | existing, other content | exception `identity_taken` |
//! | accepted | submitted; looked up from time to time (`tickets.rs`), and never sent again while it has its ticket |
//! | invalid | held until it is clear whose fault it is (`refusals.rs`): exception `rejected`, or the brake and retried, not counted |
//! | retry | retry, not before the OMS said |
//! | not done | the same, not counted; where it is all of a call, the call is overloaded |
//! | unknown, of one order or of the call | looked up: found is as existing; absent may be sent again; no answer is retried later, and looked up first then. An OMS that cannot be asked is sent it again if it refuses a second create, else exception `outcome_unknown` |
//! | not sent, overloaded | all retried, never counted; the drain leaves the OMS alone with growing waits |
//! | unauthenticated | all retried, never counted; the brake. An order that is denied time and again while others come through (`denied.rs`) is as invalid |
//! | refused as a whole | sent again in halves; a single one is as invalid |
//! | gave up | sent again in halves; a single one is retried, and counted where others come through |

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::step::Step;
use forebay_buffer::{Buffer, ExceptionCategory, Lease, Verdict};
use forebay_order::OrderSummary;

use super::denied::{APART, OWN};
use super::{Batch, Failed, Order, Worker, halves};
use crate::caught::caught;
use crate::governor::{Brake, Grant};
use crate::metrics::{self, OrderOutcome};
use crate::oms::{CallFailure, Found, Guarantee, Identity, OrderManagement, Outcome, Scope};

/// The code of an order that was refused as a whole call: the OMS gave none.
const REFUSED: &str = "refused";
/// The code of one that was refused as credentials are, while others came through.
const DENIED: &str = "denied";

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// One call. A panic or an answer of another length is an unknown outcome.
    pub(super) async fn submit(
        &self,
        summaries: &[Arc<OrderSummary>],
    ) -> Result<Vec<Outcome>, CallFailure> {
        let began = self.shared.clock.elapsed();
        let answer = match caught(self.shared.oms.submit(summaries)).await {
            Ok(Ok(outcomes)) if outcomes.len() != summaries.len() => {
                let (got, sent) = (outcomes.len(), summaries.len());
                Err(CallFailure::Unknown(format!("{got} outcomes for {sent} orders")))
            }
            Ok(answer) => answer,
            Err(panicked) => Err(CallFailure::Unknown(format!("its client failed: {panicked}"))),
        };
        Step::Answered.reached(|| answer.is_ok());
        self.measure("submit", began, answer.as_ref().err());
        answer
    }

    /// One look-up, once what was sent before must be visible. Never an answer of another length.
    /// `sent`: one of them may have been sent, and so may come to be found yet.
    pub(super) async fn find(
        &self,
        identities: &[Identity],
        sent: bool,
    ) -> Result<Vec<Option<Found>>, CallFailure> {
        let visible_after = self.shared.oms.visible_after();
        if sent && !visible_after.is_zero() {
            tokio::time::sleep(visible_after).await;
        }
        let began = self.shared.clock.elapsed();
        let answer = match caught(self.shared.oms.find(identities)).await {
            Ok(Ok(found)) if found.len() != identities.len() => {
                let (got, asked) = (found.len(), identities.len());
                Err(CallFailure::Unknown(format!("{got} answers for {asked} identities")))
            }
            Ok(answer) => answer,
            Err(panicked) => Err(CallFailure::Unknown(format!("its client failed: {panicked}"))),
        };
        self.measure("find", began, answer.as_ref().err());
        if matches!(answer, Err(CallFailure::Unauthenticated)) {
            self.shared.governor.brake(Brake::Auth);
        }
        answer
    }

    fn measure(&self, kind: &'static str, began: Duration, failure: Option<&CallFailure>) {
        let took = self.shared.clock.elapsed().saturating_sub(began);
        let answer = match failure {
            None => "answered",
            Some(CallFailure::NotSent(_)) => "not_sent",
            Some(CallFailure::Overloaded { .. }) => "overloaded",
            Some(CallFailure::Unauthenticated) => "unauthenticated",
            Some(CallFailure::Refused(_)) => "refused",
            Some(CallFailure::GaveUp(_)) => "gave_up",
            Some(CallFailure::Unknown(_)) => "unknown",
        };
        metrics::call(kind, answer, took);
        match failure {
            None | Some(CallFailure::Refused(_) | CallFailure::GaveUp(_))
                if self.probe.is_some() =>
            {
                self.shared.governor.probe_authenticated();
            }
            // The others say nothing about credentials.
            _ => {}
        }
        if let Some(failure) = failure {
            tracing::warn!(%failure, kind, "a call to the OMS failed");
        }
    }

    pub(super) async fn settle_answer(
        &mut self,
        part: Vec<Order>,
        answer: Result<Vec<Outcome>, CallFailure>,
        grant: Grant,
        batch: &mut Batch,
    ) {
        match answer.and_then(or_overloaded) {
            Ok(outcomes) => {
                self.shared.governor.answered();
                let unknown = self.settle_outcomes(part, outcomes, batch);
                self.look_up(unknown, batch).await;
                grant.spend();
            }
            Err(CallFailure::Refused(reason)) => {
                self.shared.governor.answered();
                grant.spend();
                self.split_refused(part, &reason, batch);
            }
            Err(CallFailure::GaveUp(why)) => {
                grant.spend();
                split_given_up(part, why, batch);
            }
            Err(CallFailure::Unknown(_)) => {
                self.look_up(part, batch).await;
                grant.spend();
            }
            Err(failure @ CallFailure::NotSent(_)) => {
                // Nothing reached the OMS: the tokens go back.
                drop(grant);
                self.halt(part, &failure, batch);
            }
            Err(CallFailure::Unauthenticated) => {
                grant.spend();
                self.denied(part, batch);
            }
            Err(failure) => {
                grant.spend();
                self.halt(part, &failure, batch);
            }
        }
    }

    /// The credentials were refused: those of all, unless these are denied time and again while others come through.
    fn denied(&mut self, mut part: Vec<Order>, batch: &mut Batch) {
        let turns = self.shared.denied.denied(part.iter().map(|order| order.lease.sequence));
        if turns >= APART && part.len() > 1 {
            // Whoever is not denied by itself comes through.
            batch.untried.extend(halves(part));
        } else if turns >= OWN
            && let Some(Order { lease, .. }) = part.pop()
        {
            let reason = "the OMS refused it as it refuses credentials, while it took others; look at what it, or a filter before \
                          it, does not like about it, then retry or discard this";
            self.refused(lease, DENIED, reason.to_owned());
        } else {
            self.shared.governor.brake(Brake::Auth);
            self.halt(part, &CallFailure::Unauthenticated, batch);
        }
    }

    /// Settles what has an outcome; returns the orders whose outcome is unknown.
    fn settle_outcomes(
        &self,
        part: Vec<Order>,
        outcomes: Vec<Outcome>,
        batch: &mut Batch,
    ) -> Vec<Order> {
        let mut unknown = Vec::new();
        for (order, outcome) in part.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Created { id } => {
                    self.passed();
                    self.came_through();
                    metrics::order(OrderOutcome::Created);
                    order.lease.settle(Verdict::Summarised { summary_id: id, existing: false });
                }
                Outcome::Existing { id, same } => {
                    self.passed();
                    self.settle_existing(order.lease, id, same);
                }
                Outcome::Accepted { ticket } => {
                    self.taken(&ticket);
                    self.came_through();
                    metrics::order(OrderOutcome::Accepted);
                    let after = self.next_look(Duration::ZERO);
                    order.lease.settle(Verdict::Submitted { ticket, after });
                }
                Outcome::Invalid { code, reason } => {
                    let reason = format!("the OMS refused it, {code}: {reason}");
                    self.refused(order.lease, &code, reason);
                }
                Outcome::Retry { after } => {
                    let reason = "the OMS asks to try again later".to_owned();
                    let told = Some(after);
                    batch.failed.push(Failed { lease: order.lease, told, reason, blamed: true });
                }
                Outcome::NotDone { after } => {
                    let reason = "the OMS did not get to it".to_owned();
                    let told = Some(after.max(self.shared.retry.base));
                    batch.failed.push(Failed { lease: order.lease, told, reason, blamed: false });
                }
                Outcome::Unknown => unknown.push(order),
            }
        }
        unknown
    }

    fn settle_existing(&self, lease: Lease, id: String, same: Option<bool>) {
        if same == Some(false) {
            let reason = format!(
                "the OMS has {id} under this identity with another content; compare the two, \
                 change the one in the OMS if need be, then discard this exception"
            );
            return self.exception(lease, ExceptionCategory::IdentityTaken, reason);
        }
        self.came_through();
        metrics::order(match same {
            Some(_) => OrderOutcome::Existing,
            None => OrderOutcome::ExistingUnverified,
        });
        lease.settle(Verdict::Summarised { summary_id: id, existing: true });
    }

    pub(super) fn settle_found(&self, lease: Lease, found: Found) {
        let same = found.fingerprint.map(|fingerprint| fingerprint == lease.fingerprint);
        self.settle_existing(lease, found.id, same);
    }

    /// Looks orders up that may or may not be in the OMS. Absent ones go to the batch.
    async fn look_up(&mut self, part: Vec<Order>, batch: &mut Batch) {
        if part.is_empty() {
            return;
        }
        let absent = match (self.shared.oms.can_find(), self.shared.oms.guarantee()) {
            (true, _) => self.found_or_absent(part, batch).await,
            // A second create has no effect, so nobody has to be asked.
            (false, guarantee) if guarantee.refuses_second() => {
                part.into_iter().map(Order::maybe_there).collect()
            }
            (false, _) => {
                return part.into_iter().for_each(|order| self.settle_unasked(order.lease));
            }
        };
        for _ in &absent {
            metrics::order(OrderOutcome::Absent);
        }
        if !absent.is_empty() {
            batch.absent.push(absent);
        }
    }

    /// An order that may be in an OMS that cannot be asked waits for a person.
    pub(super) fn settle_unasked(&self, lease: Lease) {
        let reason = "it was sent, what became of it was not told, and the OMS cannot be asked (oms.find); look for it there: if it is \
             there, discard this; if not, tell so (POST /v1/oms/outcomes, invalid), then retry what that comes to";
        self.exception(lease, ExceptionCategory::OutcomeUnknown, reason.to_owned());
    }

    /// Settles the orders that are in the OMS, and returns the absent ones. Where the OMS does not answer
    /// all go back, to be looked up first the next time, and the batch is halted.
    async fn found_or_absent(&mut self, part: Vec<Order>, batch: &mut Batch) -> Vec<Order> {
        let identities: Vec<_> = part.iter().map(|order| order.lease.key.identity()).collect();
        let sent = part.iter().any(|order| order.noted || order.lease.sent_before);
        let mut absent = Vec::new();
        let before = part.iter().any(|order| order.lease.sent_before);
        Step::LookUp.reached(|| before);
        match self.find(&identities, sent).await {
            Ok(answers) => {
                Step::Found.reached(|| before && answers.iter().any(Option::is_some));
                for (order, found) in part.into_iter().zip(answers) {
                    match found {
                        Some(found) => self.settle_found(order.lease, found),
                        None => absent.push(order.not_there()),
                    }
                }
            }
            Err(failure) => {
                let leases = part.into_iter().map(|order| order.lease).collect();
                batch.halted = Some(self.settle_unanswered(leases, &failure));
            }
        }
        absent
    }

    /// Returns how long they wait.
    fn settle_unanswered(&mut self, leases: Vec<Lease>, failure: &CallFailure) -> Duration {
        let after = self.failed_call(failure);
        for lease in leases {
            metrics::order(OrderOutcome::Unknown);
            let reason = format!("its outcome is unknown, and looking it up failed: {failure}");
            lease.settle(Verdict::Retry { after, counts: false, sent: true, reason });
        }
        after
    }

    /// Looks up the orders that may be in the OMS before any is sent. Returns those to send, none if the
    /// look-up halted the batch, and whether a look-up was made.
    pub(super) async fn ask_first(
        &mut self,
        part: Vec<Order>,
        batch: &mut Batch,
    ) -> (Vec<Order>, bool) {
        let (ask, mut send): (Vec<_>, Vec<_>) = part.into_iter().partition(|order| order.ask);
        if ask.is_empty() {
            return (send, false);
        }
        let absent = self.found_or_absent(ask, batch).await;
        send.extend(absent.into_iter().map(|order| Order { ask: false, ..order }));
        if batch.halted.is_some() {
            self.release(std::mem::take(&mut send), batch.halted);
        }
        (send, true)
    }

    /// Orders that had all their attempts but may be in the OMS: found is found, absent is poison.
    pub(super) async fn settle_exhausted(&mut self, leases: Vec<Lease>) {
        if leases.is_empty() {
            return;
        }
        let Some(grant) = self.grant(1).await else {
            return; // Dropped, they come back as sent before.
        };
        self.settle_unsent(leases, Self::poison).await;
        grant.spend();
    }

    /// Gives back orders that changed before they were sent, so that the change takes effect. One that may be forgotten, and
    /// was not asked for since the OMS refuses a second create, is asked for now: where the OMS has it, the change must not
    /// pass for one of an order that never was there. True if a look-up was made.
    pub(super) async fn settle_changed(&mut self, changed: Vec<Lease>) -> bool {
        let oms = &self.shared.oms;
        let asks_late = oms.guarantee() == Guarantee::UniqueId && oms.can_find();
        let (ask, certain): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|lease| asks_late && lease.look_first && !lease.sent_before);
        let unsent = |lease: Lease| {
            let reason = "it changed before it was sent".to_owned();
            let sent = lease.sent_before;
            lease.settle(Verdict::Retry { after: Duration::ZERO, counts: false, sent, reason });
        };
        certain.into_iter().for_each(unsent);
        let asks = !ask.is_empty();
        if asks {
            self.settle_unsent(ask, |_, lease| unsent(lease)).await;
        }
        asks
    }

    /// Looks up orders of which none is to be sent now, and settles them; `absent` does so with those that are not in the
    /// OMS.
    async fn settle_unsent(&mut self, leases: Vec<Lease>, absent: impl Fn(&Self, Lease)) {
        let identities: Vec<_> = leases.iter().map(|lease| lease.key.identity()).collect();
        let sent = leases.iter().any(|lease| lease.sent_before);
        match self.find(&identities, sent).await {
            Ok(answers) => {
                for (lease, found) in leases.into_iter().zip(answers) {
                    match found {
                        Some(found) => self.settle_found(lease, found),
                        None => absent(self, lease),
                    }
                }
            }
            Err(failure) => {
                self.settle_unanswered(leases, &failure);
            }
        }
    }

    /// Definitely refused as a whole: one of them may be why, so each half is tried on its own.
    fn split_refused(&self, mut part: Vec<Order>, reason: &str, batch: &mut Batch) {
        if part.len() > 1 {
            for half in halves(part).into_iter().rev() {
                batch.untried.push_front(half);
            }
        } else if let Some(Order { lease, .. }) = part.pop() {
            let reason = format!("the OMS refused it: {reason}");
            self.refused(lease, REFUSED, reason);
        }
    }

    /// The OMS is in trouble and did nothing: these wait, and so does the rest of the batch.
    fn halt(&mut self, part: Vec<Order>, failure: &CallFailure, batch: &mut Batch) {
        let after = self.failed_call(failure);
        batch.halted = Some(after);
        for Order { lease, .. } in part {
            metrics::order(OrderOutcome::Retry);
            if matches!(failure, CallFailure::Unauthenticated) {
                // It may be refused for what it holds: the next probe takes another.
                self.shared.refusals.remember(lease.key.identity());
            }
            let (sent, reason) = (lease.sent_before, failure.to_string());
            lease.settle(Verdict::Retry { after, counts: false, sent, reason });
        }
    }

    /// How long the orders of a call that failed wait. Refused credentials have put the brake on, which is wait enough.
    pub(super) fn failed_call(&mut self, failure: &CallFailure) -> Duration {
        match failure {
            CallFailure::Unauthenticated => Duration::ZERO,
            CallFailure::Overloaded { after, .. } => self.trouble(*after),
            _ => self.trouble(None),
        }
    }

    /// One more whole call failed: the drain leaves the OMS alone for a while. Returns how long.
    pub(super) fn trouble(&mut self, told: Option<Duration>) -> Duration {
        let failures = self.shared.governor.failed();
        let wait = self.shared.retry.wait_at_least(told, failures, &mut self.rng);
        self.shared.governor.back_off(wait);
        wait
    }
}

/// Definitely nothing was done of it: each half is tried on its own, after all others, so that what can pass does first.
fn split_given_up(mut part: Vec<Order>, why: String, batch: &mut Batch) {
    if part.len() > 1 {
        batch.untried.extend(halves(part));
    } else if let Some(order) = part.pop() {
        batch.given_up.push((order, why));
    }
}

/// Where the OMS got to none of a call's orders it is the call that failed.
fn or_overloaded(outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, CallFailure> {
    let waits = outcomes.iter().map(|outcome| match outcome {
        Outcome::NotDone { after } => Some(*after),
        _ => None,
    });
    match waits.collect::<Option<Vec<_>>>().and_then(|waits| waits.into_iter().max()) {
        Some(after) => Err(CallFailure::Overloaded { after: Some(after), scope: Scope::Second }),
        None => Ok(outcomes),
    }
}
