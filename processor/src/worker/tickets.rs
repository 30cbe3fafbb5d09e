//! Orders that an asynchronous OMS took under a ticket: looked up until they are there, or their time is over.
//!
//! # What it promises
//! - Nothing is sent here. A look-up is a call like any other to the OMS's limits, and takes none of the orders a second.
//! - One look-up at a time, of as many orders as fit one. It goes on where no more orders may be outstanding, and under the brake
//!   `rejected`; in a pause, the OMS's trouble and the brake `auth` nothing is asked.
//! - While the credentials are refused its look-ups are probes: where no more orders may be sent, nobody else can find out that they
//!   are good again.
//! - A look-up that is refused or not answered is followed by smaller ones, so that an order that cannot be asked for keeps up no others
//!   for long.
//! - An order is looked up when half as much time has passed again as since it was taken, at least
//!   [`OrderManagement::visible_after`] or a second, at most a minute: so it is asked for some fifteen times in the first five minutes and
//!   then once a minute. That needs no count, and goes on after a restart where it was.
//! - Absent means "not yet" until [`DrainConfig::ticket_deadline`](crate::DrainConfig::ticket_deadline); then the order waits for
//!   a person, looked up once more before where that is possible.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, ExceptionCategory, Lease, Verdict};

use super::{Worker, stopped};
use crate::caught::caught;
use crate::governor::Grant;
use crate::metrics::{self, OrderOutcome};
use crate::oms::{CallFailure, OrderManagement};

/// An order is looked up not sooner than this after it was taken,
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// and then at least so often.
const LOOKS: Duration = Duration::from_secs(60);
/// Characters of a ticket that people are told.
const TOLD: usize = 64;

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// Looks orders up until told to stop, or until the buffer closes or fails.
    pub(crate) async fn run_tickets(mut self) {
        let most = self.shared.oms.find_batch().max(1);
        let mut limit = most;
        loop {
            self.probe = None;
            let mut stop = self.stop.clone();
            let leases = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                leases = self.next_tickets(limit) => leases,
            };
            match leases {
                Ok(leases) if leases.is_empty() => {
                    if self.probe.take().is_some() {
                        // Whoever has an order to send is to have the next one.
                        tokio::select! {
                            () = stopped(&mut stop) => return,
                            () = tokio::time::sleep(FIRST_LOOK) => {}
                        }
                    }
                }
                Ok(leases) => {
                    match caught(self.look_up_tickets(leases)).await {
                        Ok(answered) if answered => limit = limit.saturating_mul(2).min(most),
                        Ok(_) => limit = (limit / 2).max(1),
                        Err(_) => {
                            tracing::error!("a look-up panicked; its orders go back to the buffer");
                        }
                    }
                    metrics::governor(&self.shared.governor.state());
                }
                Err(BufferError::Closing) => return,
                Err(error) => {
                    tracing::error!(%error, "tickets are looked up no more: the buffer lends none");
                    return;
                }
            }
        }
    }

    async fn next_tickets(&mut self, limit: usize) -> Result<Vec<Lease>, BufferError> {
        let shared = Arc::clone(&self.shared);
        self.probe = shared.governor.may_look_up().await;
        // A probe is one order, and keeps others from being one: it waits for nothing.
        let (limit, wait) = match self.probe {
            Some(_) => (1, Duration::ZERO),
            None => (limit, shared.lease_wait),
        };
        shared.buffer.lease_ticketed(limit, wait).await
    }

    /// Whether they were answered, or nobody was asked.
    async fn look_up_tickets(&mut self, leases: Vec<Lease>) -> bool {
        if !self.shared.oms.can_find() {
            leases.into_iter().for_each(|lease| self.settle_not_there(lease));
            return true;
        }
        let Some(grant) = self.grant_look_up().await else {
            return true; // Dropped, they come back.
        };
        let mut answered = true;
        let identities: Vec<_> = leases.iter().map(|lease| lease.key.identity()).collect();
        match self.find(&identities, false).await {
            // That look-ups are answered does not say that sends are: it ends no waits.
            Ok(answers) => {
                for (lease, found) in leases.into_iter().zip(answers) {
                    match found {
                        Some(found) => {
                            let is_ours = found.fingerprint.is_none_or(|f| f == lease.fingerprint);
                            self.found_taken(&lease, is_ours);
                            self.settle_found(lease, found);
                        }
                        None => self.settle_not_there(lease),
                    }
                }
            }
            Err(failure) => {
                answered = matches!(
                    failure,
                    CallFailure::Overloaded { .. } | CallFailure::Unauthenticated
                );
                let after = self.failed_call(&failure).max(FIRST_LOOK);
                for lease in leases {
                    metrics::order(OrderOutcome::Unknown);
                    let ticket = lease.ticket.clone().unwrap_or_default();
                    lease.settle(Verdict::Submitted { ticket, after });
                }
            }
        }
        grant.spend();
        answered
    }

    /// Permission for one look-up; `None` where a pause or the stop came first.
    async fn grant_look_up(&self) -> Option<Grant> {
        let mut stop = self.stop.clone();
        let governor = &self.shared.governor;
        let acquire = async {
            match &self.probe {
                Some(probe) => probe.acquire_look_up().await,
                None => governor.acquire_look_up().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            () = governor.paused() => None,
            () = governor.claim_over() => None,
            grant = acquire => grant,
        }
    }

    /// An order is not there, or nobody can be asked: it waits on, unless it has waited long enough.
    fn settle_not_there(&self, lease: Lease) {
        let deadline = self.shared.ticket_deadline;
        let given_ms = lease.ticket_at_ms.unwrap_or(lease.accepted_at_ms);
        let age_ms = self.shared.steady_wall_ms().saturating_sub(given_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        let ticket = lease.ticket.clone().unwrap_or_default();
        if age < deadline {
            let after = self.next_look(age);
            return lease.settle(Verdict::Submitted { ticket, after });
        }
        self.overdue(&lease);
        let told: String = ticket.chars().take(TOLD).collect();
        let asked = match self.shared.oms.can_find() {
            true => "a last look-up did not find it",
            false => "the OMS cannot be asked (oms.find)",
        };
        let reason = format!(
            "the OMS took it under ticket {told}, and after {} s had not told what became of it (oms.ticket_deadline); {asked}, but it \
             may come to it yet: look for it there, then discard this, or retry it if it is absent",
            age.as_secs()
        );
        self.exception(lease, ExceptionCategory::OutcomeUnknown, reason);
    }

    /// How long until an order is to be looked up that was taken so long ago; never past its deadline.
    pub(super) fn next_look(&self, age: Duration) -> Duration {
        let oms = &self.shared.oms;
        let left = self.shared.ticket_deadline.saturating_sub(age);
        if !oms.can_find() {
            return left;
        }
        let first = oms.visible_after().max(FIRST_LOOK);
        (age / 2).clamp(first, first.max(LOOKS)).min(left)
    }
}
