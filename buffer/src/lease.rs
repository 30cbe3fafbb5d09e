//! A worker's loan of a pending order, and the verdict that ends it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Fingerprint, OrderKey};

use crate::ExceptionCategory;
use crate::feed::Named;
use crate::record::Delivery;
use crate::state::Loan;

/// One pending order on loan. Settle it with [`Lease::settle`]; dropped unsettled, the order comes back,
/// as *sent before* if [`crate::Buffer::submitting`] was called for it.
#[derive(Debug)]
pub struct Lease {
    /// The order, by the sequence of its first accepted delivery.
    pub sequence: u64,
    /// Which loan of it this is; a stale loan's verdict is ignored unless it is `Summarised`.
    pub loan: u64,
    /// Its key.
    pub key: OrderKey,
    /// Its number, a label.
    pub number: String,
    /// [`forebay_order::Format`] by its number.
    pub format: u8,
    /// Fingerprint of the content lent.
    pub fingerprint: Fingerprint,
    /// When it was first accepted, ms since 1970.
    pub accepted_at_ms: i64,
    /// Attempts before this one that counted.
    pub attempts: u8,
    /// It may have reached the OMS before: ask by `find` before any send, and take this back once it was not found. Where nobody can
    /// be asked it stands.
    pub sent_before: bool,
    /// An order of its key may have been forgotten (damage, or a lost index): an OMS that does not refuse a second create must
    /// be asked by `find` before any send.
    pub look_first: bool,
    /// The ticket under which an asynchronous OMS has it; only of [`crate::Buffer::lease_ticketed`].
    pub ticket: Option<String>,
    /// When that ticket was given, ms since 1970; `None` where a release before this one noted it.
    pub ticket_at_ms: Option<i64>,
    /// Sent by a load test or demo.
    pub synthetic: bool,
    /// The content.
    pub body: Bytes,
    /// Where the verdict goes; taken by the first of settle and drop.
    pub(crate) home: Option<Arc<dyn LeaseHome>>,
}

/// The backend a lease goes back to.
pub(crate) trait LeaseHome: Send + Sync + std::fmt::Debug {
    /// Takes the verdict, or `None` for a dropped lease. Never blocks, never fails: room is reserved when lending.
    fn settle(&self, ended: Ended, verdict: Option<Verdict>);
}

/// A loan that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The order.
    pub(crate) sequence: u64,
    /// Which loan of it.
    pub(crate) loan: u64,
    /// What the order is known by, where that was read.
    pub(crate) named: Option<Named>,
}

impl Ended {
    /// A loan of an order whose record was not read.
    pub(crate) fn unnamed(sequence: u64, loan: u64) -> Self {
        Self { sequence, loan, named: None }
    }
}

/// How a loan ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The OMS has the summary, with this content, durably.
    Summarised {
        /// The OMS's id of it.
        summary_id: String,
        /// It had been there already (an earlier attempt, or before the index was lost).
        existing: bool,
    },
    /// An asynchronous OMS took it; the outcome comes later under this ticket.
    Submitted {
        /// The OMS's ticket.
        ticket: String,
        /// How long until it is to be looked up.
        after: Duration,
    },
    /// Not done; try again after a while.
    Retry {
        /// How long to wait at least.
        after: Duration,
        /// Whether this counts as an attempt of the order (OMS trouble never does).
        counts: bool,
        /// Whether bytes may have reached the OMS, so that the next attempt must ask first.
        sent: bool,
        /// What happened; nothing personal.
        reason: String,
    },
    /// It cannot become a summary by itself.
    Exception {
        /// Why.
        category: ExceptionCategory,
        /// What happened and what to do; nothing personal.
        reason: String,
    },
}

impl Lease {
    /// The lease of a loan, with the content lent.
    pub(crate) fn new(
        loan: Loan,
        accepted_at_ms: i64,
        delivery: Delivery,
        home: Arc<dyn LeaseHome>,
    ) -> Self {
        let envelope = delivery.envelope;
        Self {
            sequence: loan.sequence,
            loan: loan.number,
            key: envelope.key,
            number: envelope.number,
            format: envelope.format,
            fingerprint: envelope.fingerprint,
            accepted_at_ms,
            attempts: loan.attempts,
            sent_before: loan.sent_before,
            look_first: loan.look_first,
            ticket: loan.ticket,
            ticket_at_ms: loan.ticket_at_ms,
            synthetic: envelope.synthetic,
            body: envelope.body,
            home: Some(home),
        }
    }

    /// Ends the loan. Does not wait: the verdict becomes durable with a later group, and until then the
    /// order counts as lent. A `Summarised` that is lost costs one more look at the OMS, no second summary.
    pub fn settle(mut self, verdict: Verdict) {
        if let Some(home) = self.home.take() {
            let number = std::mem::take(&mut self.number);
            let named = Named { key: self.key.clone(), number, synthetic: self.synthetic };
            let ended = Ended { sequence: self.sequence, loan: self.loan, named: Some(named) };
            home.settle(ended, Some(verdict));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.settle(Ended::unnamed(self.sequence, self.loan), None);
        }
    }
}
