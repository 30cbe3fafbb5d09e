//! Orders that an asynchronous OMS took under a ticket: looked up until they are there, or their time is over.
//!
//! # What it promises
//! - Nothing is sent here. A look-up is a call like any other to the OMS's limits, and takes none of the orders a second.
//! - One look-up at a time, of as many orders as fit one. It goes on where no more orders may be outstanding, and under the brake
//!   `rejected`; in a pause, the OMS's trouble and the brake `auth` nothing is asked.
//! - An order is looked up when half as much time has passed again as since it was taken, at least
//!   [`OrderManagement::visible_after`] or a second, at most a minute: so it is asked for some fifteen times in the first five minutes and
//!   then once a minute. That needs no count, and goes on after a restart where it was.
//! - Absent means "not yet" until [`DrainConfig::ticket_deadline`](crate::DrainConfig::ticket_deadline); then the order waits for
//!   a person, looked up once more before where that is possible.

use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, ExceptionCategory, Lease, Verdict};

use super::{Worker, stopped};
use crate::caught::caught;
use crate::governor::Grant;
use crate::metrics::{self, OrderOutcome};
use crate::oms::OrderManagement;

/// An order is looked up not sooner than this after it was taken,
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// and then at least so often.
const LOOKS: Duration = Duration::from_secs(60);
/// Characters of a ticket that people are told.
const TOLD: usize = 64;

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// Looks orders up until told to stop, or until the buffer closes or fails.
    pub(crate) async fn run_tickets(mut self) {
        loop {
            let mut stop = self.stop.clone();
            let leases = tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                leases = self.next_tickets() => leases,
            };
            match leases {
                Ok(leases) if leases.is_empty() => {}
                Ok(leases) => {
                    if caught(self.look_up_tickets(leases)).await.is_err() {
                        tracing::error!("a look-up panicked; its orders go back to the buffer");
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

    async fn next_tickets(&self) -> Result<Vec<Lease>, BufferError> {
        let shared = &self.shared;
        shared.governor.may_look_up().await;
        shared.buffer.lease_ticketed(shared.oms.find_batch().max(1), shared.lease_wait).await
    }

    async fn look_up_tickets(&mut self, leases: Vec<Lease>) {
        if !self.shared.oms.can_find() {
            return leases.into_iter().for_each(|lease| self.settle_not_there(lease));
        }
        let Some(grant) = self.grant_look_up().await else {
            return; // Dropped, they come back.
        };
        let identities: Vec<_> = leases.iter().map(|lease| lease.key.identity()).collect();
        match self.find(&identities, false).await {
            // That look-ups are answered does not say that sends are: it ends no waits.
            Ok(answers) => {
                for (lease, found) in leases.into_iter().zip(answers) {
                    match found {
                        Some(found) => self.settle_found(lease, found),
                        None => self.settle_not_there(lease),
                    }
                }
            }
            Err(failure) => {
                let after = self.failed_call(&failure).max(FIRST_LOOK);
                for lease in leases {
                    metrics::order(OrderOutcome::Unknown);
                    let ticket = lease.ticket.clone().unwrap_or_default();
                    lease.settle(Verdict::Submitted { ticket, after });
                }
            }
        }
        grant.spend();
    }

    /// Permission for one look-up; `None` where a pause or the stop came first.
    async fn grant_look_up(&self) -> Option<Grant> {
        let mut stop = self.stop.clone();
        let governor = &self.shared.governor;
        tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            () = governor.paused() => None,
            grant = governor.acquire_look_up() => grant,
        }
    }

    /// An order is not there, or nobody can be asked: it waits on, unless it has waited long enough.
    fn settle_not_there(&self, lease: Lease) {
        let deadline = self.shared.ticket_deadline;
        let given_ms = lease.ticket_at_ms.unwrap_or(lease.accepted_at_ms);
        let age_ms = self.shared.clock.wall_ms().saturating_sub(given_ms);
        let age = Duration::from_millis(u64::try_from(age_ms).unwrap_or_default());
        let ticket = lease.ticket.clone().unwrap_or_default();
        if age < deadline {
            let after = self.next_look(age);
            return lease.settle(Verdict::Submitted { ticket, after });
        }
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
