//! One order: as it is worked on, and what of it does not fit its slot.

use forebay_order::{Fingerprint, HoldReason, Money, Readiness};

use super::endings;
use crate::OrderState;
use crate::digest::{CurrencyCode, PackedMoney, Plain, units};
use crate::embedded::journal::Location;
use crate::record::{Delivery, LOST, Record};

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The record's sequence. Of an order's content in the journal only the place is remembered, and this is the order's.
    pub(crate) record: u64,
    /// Its place in the journal; `None` in a backend that has none.
    pub(crate) location: Option<Location>,
    /// Bytes of its body; of an order's content rounded up to 64.
    pub(crate) bytes: u32,
}

impl Kept {
    /// The segment it is in; 0, which is none, without a journal.
    pub(crate) fn epoch(&self) -> u64 {
        self.location.map_or(0, Location::epoch)
    }

    /// Whether both are the same record.
    pub(crate) fn same_place(&self, other: &Self) -> bool {
        match (self.location, other.location) {
            (Some(one), Some(another)) => one == another,
            _ => self.record == other.record,
        }
    }
}

/// One content of an order, as its record says.
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
    /// Its bytes were found damaged and are gone.
    pub(crate) lost: bool,
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
            lost: envelope.reason == LOST,
        }
    }
}

/// What the record of an order's current content says, and memory does not.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) content: Content,
    /// When that content was accepted (or, once ended and carried forward, when it ended), ms since 1970.
    pub(crate) accepted_at_ms: i64,
    /// When the order's first delivery was accepted, unless the content was amended (then memory knows).
    pub(crate) first_accepted_at_ms: i64,
    pub(crate) number: String,
    /// The bytes it goes with turned out damaged.
    pub(crate) body_lost: bool,
}

impl Head {
    /// The head a record is to an order; `None` for a record without a delivery.
    pub(crate) fn of(record: &Record, kept: Kept) -> Option<Self> {
        let delivery = record.delivery()?;
        let first_accepted_at_ms = match record {
            Record::Moved { snapshot, .. } => snapshot.first_accepted_at_ms,
            _ => delivery.accepted_at_ms,
        };
        Some(Self { first_accepted_at_ms, ..Self::of_delivery(delivery, kept) })
    }

    /// The head a delivery that was never moved is to its order.
    pub(crate) fn of_delivery(delivery: &Delivery, kept: Kept) -> Self {
        Self {
            content: Content::of(delivery, kept),
            accepted_at_ms: delivery.accepted_at_ms,
            first_accepted_at_ms: delivery.accepted_at_ms,
            number: delivery.envelope.number.clone(),
            body_lost: false,
        }
    }

    /// What a content that takes this one's place must remember.
    pub(crate) fn before(&self) -> Before {
        Before {
            fingerprint: self.content.fingerprint,
            first_accepted_at_ms: self.first_accepted_at_ms,
        }
    }
}

/// The content that another one takes the place of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) fingerprint: Fingerprint,
    /// As in [`Head`].
    pub(crate) first_accepted_at_ms: i64,
}

/// A time before which an order is not lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotBefore {
    /// Ms since 1970.
    pub(crate) at_ms: i64,
    /// The sender asked for it, so no clock changes it.
    pub(crate) asked: bool,
}

/// One order, or one body that occupies no key (recorded, or an exception of its own), unpacked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// Hash of its key, or of its content where it occupies no key.
    pub(crate) hash: u128,
    /// The segment from which a replay can rebuild it whole.
    pub(super) anchor: u64,
    /// Its current content.
    pub(crate) kept: Kept,
    pub(super) worth: Worth,
    /// When its first delivery was accepted, whole seconds since 1970; its record has the ms.
    pub(crate) accepted_at_s: u32,
    pub(crate) not_before: Option<NotBefore>,
    pub(crate) state: OrderState,
    pub(crate) hold: Option<HoldReason>,
    pub(crate) attempts: u8,
    /// How often the process died while it was lent out to be sent, since it last came back; 15 at most.
    pub(crate) deaths: u8,
    /// Bytes of it may have reached the OMS.
    pub(crate) sent_before: bool,
    /// The OMS has it under a ticket.
    pub(super) ticketed: bool,
    /// The journal says it is lent out.
    pub(super) on_loan: bool,
    /// The bytes of its content are lost.
    pub(super) lost: bool,
}

/// What a slot's eight bytes of value mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worth {
    Packed(PackedMoney),
    /// An amount too large to pack.
    Wide(CurrencyCode, i128),
    /// How it was summarised, among the endings.
    Ended(u64),
}

impl Worth {
    fn of(money: Option<Money>) -> Self {
        match (PackedMoney::of(money), money) {
            (Some(packed), _) => Self::Packed(packed),
            (None, Some(money)) => Self::Wide(CurrencyCode::of(money), units(money)),
            (None, None) => Self::Packed(PackedMoney::NONE),
        }
    }
}

impl Order {
    pub(super) fn new(hash: u128, content: &Content, accepted_at_ms: i64) -> Self {
        let mut order = Self {
            hash,
            anchor: content.kept.epoch(),
            kept: content.kept,
            worth: Worth::of(None),
            accepted_at_s: seconds(accepted_at_ms),
            not_before: None,
            state: OrderState::Pending,
            hold: None,
            attempts: 0,
            deaths: 0,
            sent_before: false,
            ticketed: false,
            on_loan: false,
            lost: false,
        };
        order.take(content);
        order
    }

    /// An order that simply waits.
    pub(super) fn plain(kept: Kept, plain: &Plain) -> Self {
        Self {
            hash: plain.hash,
            anchor: kept.epoch(),
            kept,
            worth: Worth::Packed(plain.money),
            accepted_at_s: plain.accepted_at_s,
            not_before: None,
            state: OrderState::Pending,
            hold: None,
            attempts: 0,
            deaths: 0,
            sent_before: false,
            ticketed: false,
            on_loan: false,
            lost: false,
        }
    }

    /// Takes another content, and goes where that content's readiness says.
    pub(super) fn take(&mut self, content: &Content) {
        self.kept = content.kept;
        self.worth = Worth::of(content.money);
        self.lost = content.lost;
        self.not_before = content.not_before_ms.map(|at_ms| NotBefore { at_ms, asked: true });
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

    /// Not before a time that the sender did not ask for.
    pub(super) fn delay(&mut self, at_ms: Option<i64>) {
        self.not_before = at_ms.map(|at_ms| NotBefore { at_ms, asked: false });
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

    /// Whether it is with the OMS under a ticket, and its outcome is not known.
    pub(crate) fn is_outstanding(&self) -> bool {
        self.ticketed && self.state == OrderState::Submitted
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

    /// Money that waits with it.
    pub(super) fn money(&self) -> Option<(CurrencyCode, i128)> {
        match self.worth {
            Worth::Packed(packed) => packed.parts().map(|(code, units)| (code, units.into())),
            Worth::Wide(code, units) => Some((code, units)),
            Worth::Ended(_) => None,
        }
    }

    /// Its reference among the endings.
    pub(super) fn ending(&self) -> u64 {
        match self.worth {
            Worth::Ended(reference) => reference,
            _ => endings::NONE,
        }
    }

    /// Bytes a carry-forward of it would write.
    pub(super) fn live_bytes(&self) -> u64 {
        let body = if self.ended() { 0 } else { u64::from(self.kept.bytes) };
        if self.indexable() { 0 } else { body + RECORD_OVERHEAD }
    }
}

/// About what a record takes besides its body.
pub(super) const RECORD_OVERHEAD: u64 = 160;

/// Whole seconds since 1970; times out of range become the nearest.
fn seconds(ms: i64) -> u32 {
    u32::try_from(ms.div_euclid(1_000).max(0)).unwrap_or(u32::MAX)
}

/// What of an order is out of the ordinary.
#[derive(Debug, Default)]
pub(super) struct Detail {
    /// The segment it hangs on, where its content is in another.
    pub(super) anchor: Option<u64>,
    /// When its first delivery was accepted, where the current content's record does not say.
    pub(super) accepted_at_ms: Option<i64>,
    /// Fingerprints of earlier versions, and of changes that came too late.
    pub(super) earlier: Vec<Fingerprint>,
    pub(super) parked: Option<Box<Parked>>,
    pub(super) ticket: Option<Box<Ticket>>,
    /// Newest version of a change that came too late.
    pub(super) newest: Option<u64>,
    /// When it was cancelled or discarded.
    pub(super) ended_at_ms: Option<i64>,
    pub(super) wide: Option<Box<(CurrencyCode, i128)>>,
}

/// The ticket under which an asynchronous OMS has an order.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(super) text: Box<str>,
    /// When it was given first, if that was noted.
    pub(super) at_ms: Option<i64>,
}

/// A content that waits for a loan to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) content: Content,
    /// The sender called the order off.
    pub(crate) cancel: bool,
    pub(crate) at_ms: i64,
}
