//! What is kept in memory of one order.

use forebay_order::{Fingerprint, HoldReason, Money, Readiness};

use crate::OrderState;
use crate::embedded::journal::Location;
use crate::record::Delivery;

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The record's sequence.
    pub(crate) record: u64,
    /// Its place in the journal; `None` in the memory backend.
    pub(crate) location: Option<Location>,
    /// Bytes of its body.
    pub(crate) bytes: u32,
}

impl Kept {
    /// The segment it is in; 0 in the memory backend.
    pub(crate) fn epoch(&self) -> u64 {
        self.location.map_or(0, Location::epoch)
    }
}

/// One content of an order: what must be known of it without reading it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) kept: Kept,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) fingerprint_version: u8,
    pub(crate) version: Option<u64>,
    pub(crate) readiness: Readiness,
    pub(crate) not_before_ms: Option<i64>,
    pub(crate) money: Option<Money>,
    pub(crate) synthetic: bool,
}

impl Content {
    pub(super) fn of(delivery: &Delivery, kept: Kept) -> Self {
        let envelope = &delivery.envelope;
        Self {
            kept,
            fingerprint: envelope.fingerprint,
            fingerprint_version: envelope.fingerprint_version,
            version: envelope.version,
            readiness: envelope.readiness,
            not_before_ms: envelope.not_before_ms,
            money: envelope.total,
            synthetic: envelope.synthetic,
        }
    }
}

/// One order, or one body that occupies no key (recorded, or an exception of its own).
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// Hash of its key, or of its content where it occupies no key.
    pub(crate) hash: u128,
    /// The segment from which a replay can rebuild it whole.
    pub(super) anchor: u64,
    pub(crate) content: Content,
    pub(crate) accepted_at_ms: i64,
    pub(crate) not_before_ms: Option<i64>,
    pub(crate) state: OrderState,
    pub(crate) hold: Option<HoldReason>,
    pub(crate) attempts: u8,
    /// How often the process died while it was lent out, since it last came back.
    pub(crate) deaths: u8,
    /// Bytes of it may have reached the OMS.
    pub(crate) sent_before: bool,
    /// The journal says it is lent out.
    pub(super) on_loan: bool,
}

impl Order {
    pub(super) fn new(hash: u128, content: Content, accepted_at_ms: i64) -> Self {
        let mut order = Self {
            hash,
            anchor: content.kept.epoch(),
            content,
            accepted_at_ms,
            not_before_ms: None,
            state: OrderState::Pending,
            hold: None,
            attempts: 0,
            deaths: 0,
            sent_before: false,
            on_loan: false,
        };
        order.take(content);
        order
    }

    /// Takes another content, and goes where that content's readiness says.
    pub(super) fn take(&mut self, content: Content) {
        self.content = content;
        self.not_before_ms = content.not_before_ms;
        self.hold = match content.readiness {
            Readiness::Held(reason) => Some(reason),
            _ => None,
        };
        self.state = match content.readiness {
            Readiness::Pending => self.waiting_state(),
            Readiness::Held(_) => OrderState::Held,
            Readiness::Cancelled => OrderState::Cancelled,
            Readiness::Recorded(_) => OrderState::Recorded,
            Readiness::Unreadable | Readiness::FetchNeeded => OrderState::Exception,
        };
    }

    /// Where it is while it waits for a loan: never plain pending once it may have been sent.
    pub(super) fn waiting_state(&self) -> OrderState {
        if self.sent_before { OrderState::Submitted } else { OrderState::Pending }
    }

    /// Whether it may be lent out now or later.
    pub(crate) fn waits(&self) -> bool {
        match self.state {
            OrderState::Pending => true,
            OrderState::Submitted => !self.on_loan,
            _ => false,
        }
    }

    /// Whether its outcome goes to the index when its segment retires. Cancelled and discarded orders are
    /// carried forward instead: losing the index must not bring one of them back.
    pub(crate) fn indexable(&self) -> bool {
        matches!(self.state, OrderState::Summarised | OrderState::Recorded)
    }

    /// Whether it needs nothing any more.
    pub(crate) fn ended(&self) -> bool {
        self.indexable() || matches!(self.state, OrderState::Cancelled | OrderState::Discarded)
    }

    /// Bytes a carry-forward of it would write.
    pub(super) fn live_bytes(&self) -> u64 {
        let body = if self.ended() { 0 } else { u64::from(self.content.kept.bytes) };
        if self.indexable() { 0 } else { body + RECORD_OVERHEAD }
    }
}

/// About what a record takes besides its body.
pub(super) const RECORD_OVERHEAD: u64 = 160;

/// A content that waits for a loan to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) content: Content,
    /// The sender called the order off.
    pub(crate) cancel: bool,
    pub(crate) at_ms: i64,
}

/// How an order ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    pub(crate) at_ms: i64,
    /// Empty unless summarised.
    pub(crate) summary_id: String,
}
