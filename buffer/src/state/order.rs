//! One order: as it is worked on, and what of it does not fit its slot.

use forebay_order::{Fingerprint, HoldReason, Money, Readiness};

use super::endings;
use super::slab::Slot;
use crate::OrderState;
use crate::digest::{CurrencyCode, PackedMoney, Plain, units};
use crate::embedded::journal::Location;
use crate::record::{Delivery, LOST, Record};

/// Where a record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The record's sequence. Of an order's content in the journal only the place is remembered, and this is the order's.
    pub(crate) record: u64,
    /// Its place in the journal; `None` in the memory backend.
    pub(crate) location: Option<Location>,
    /// Bytes of its body; of an order's content rounded up to 64.
    pub(crate) bytes: u32,
}

impl Kept {
    /// The segment it is in; 0 in the memory backend.
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
    /// How often the process died while it was lent out, since it last came back; 15 at most.
    pub(crate) deaths: u8,
    /// Bytes of it may have reached the OMS.
    pub(crate) sent_before: bool,
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

const HOLDS: [HoldReason; 5] = [
    HoldReason::Unpaid,
    HoldReason::OnHold,
    HoldReason::Unconfirmed,
    HoldReason::CancelledBefore,
    HoldReason::FailedAtSource,
];

/// Deaths are counted up to this.
pub(super) const DEATHS_COUNTED: u8 = 15;

/// What a slot's flags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    const SENT_BEFORE: u32 = 1 << 8;
    const ON_LOAN: u32 = 1 << 9;
    const LOST: u32 = 1 << 10;
    const WIDE: u32 = 1 << 11;
    /// Something of the order stands in a detail.
    pub(super) const DETAIL: u32 = 1 << 12;
    /// It has a time before which it is not lent.
    pub(super) const DELAYED: u32 = 1 << 13;
    const ATTEMPTS_AT: u32 = 16;
    const DEATHS_AT: u32 = 24;

    pub(super) fn of(slot: &Slot) -> Self {
        Self(slot.flags)
    }

    pub(super) fn has(self, flag: u32) -> bool {
        self.0 & flag != 0
    }

    fn state(self) -> OrderState {
        match self.0 & 0xf {
            1 => OrderState::Held,
            2 => OrderState::Pending,
            3 => OrderState::Leased,
            4 => OrderState::Submitted,
            5 => OrderState::Summarised,
            6 => OrderState::Exception,
            7 => OrderState::Cancelled,
            8 => OrderState::Discarded,
            _ => OrderState::Recorded,
        }
    }

    fn hold(self) -> Option<HoldReason> {
        let code = self.0 >> 4 & 0xf;
        HOLDS.into_iter().find(|reason| *reason as u32 == code)
    }

    fn byte(self, at: u32) -> u8 {
        u8::try_from(self.0 >> at & 0xff).unwrap_or_default()
    }

    fn pack(order: &Order) -> u32 {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        order.state as u32
            | order.hold.map_or(0, |reason| (reason as u32) << 4)
            | flag(order.sent_before, Self::SENT_BEFORE)
            | flag(order.on_loan, Self::ON_LOAN)
            | flag(order.lost, Self::LOST)
            | flag(matches!(order.worth, Worth::Wide(..)), Self::WIDE)
            | flag(order.not_before.is_some(), Self::DELAYED)
            | u32::from(order.attempts) << Self::ATTEMPTS_AT
            | u32::from(order.deaths.min(DEATHS_COUNTED)) << Self::DEATHS_AT
    }
}

/// Unpacks an order; of what stands elsewhere, `detail` and `not_before` are given.
pub(super) fn unpack(slot: &Slot, detail: Option<&Detail>, not_before: Option<NotBefore>) -> Order {
    let flags = Flags::of(slot);
    let state = flags.state();
    let location = (slot.epoch != 0).then(|| Location::new(slot.epoch, slot.offset));
    let kept = Kept {
        record: if location.is_some() { slot.sequence() } else { u64::from(slot.offset) },
        location,
        bytes: slot.bytes(),
    };
    let wide = detail.and_then(|detail| detail.wide.as_deref()).filter(|_| flags.has(Flags::WIDE));
    let worth = match wide {
        _ if state == OrderState::Summarised => Worth::Ended(slot.value()),
        Some((code, units)) => Worth::Wide(*code, *units),
        None => Worth::Packed(PackedMoney::from_bits(slot.value())),
    };
    Order {
        hash: slot.hash(),
        anchor: detail.and_then(|detail| detail.anchor).unwrap_or(kept.epoch()),
        kept,
        worth,
        accepted_at_s: slot.accepted_at_s,
        not_before,
        state,
        hold: flags.hold(),
        attempts: flags.byte(Flags::ATTEMPTS_AT),
        deaths: flags.byte(Flags::DEATHS_AT),
        sent_before: flags.has(Flags::SENT_BEFORE),
        on_loan: flags.has(Flags::ON_LOAN),
        lost: flags.has(Flags::LOST),
    }
}

/// Packs an order into a slot of that sequence; its anchor, a wide amount and its time go elsewhere.
pub(super) fn pack(sequence: u64, order: &Order, has_detail: bool) -> Slot {
    let mut slot = Slot::default();
    slot.set_hash(order.hash);
    slot.set_sequence(sequence);
    slot.set_bytes(order.kept.bytes);
    match order.kept.location {
        Some(location) => {
            slot.epoch = u32::try_from(location.epoch()).unwrap_or(u32::MAX);
            slot.offset = u32::try_from(location.offset()).unwrap_or(u32::MAX);
        }
        // Only tests keep orders nowhere, and few.
        None => slot.offset = u32::try_from(order.kept.record).unwrap_or(u32::MAX),
    }
    slot.accepted_at_s = order.accepted_at_s;
    slot.set_value(match order.worth {
        Worth::Packed(packed) => packed.bits(),
        Worth::Wide(..) => 0,
        Worth::Ended(reference) => reference,
    });
    slot.flags = Flags::pack(order) | if has_detail { Flags::DETAIL } else { 0 };
    slot
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
    pub(super) ticket: Option<Box<str>>,
    /// Newest version of a change that came too late.
    pub(super) newest: Option<u64>,
    /// When it was cancelled or discarded.
    pub(super) ended_at_ms: Option<i64>,
    pub(super) wide: Option<Box<(CurrencyCode, i128)>>,
}

/// A content that waits for a loan to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) content: Content,
    /// The sender called the order off.
    pub(crate) cancel: bool,
    pub(crate) at_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_comes_out_of_its_slot_as_it_went_in() {
        let kept = Kept { record: 9, location: Some(Location::new(3, 8_192)), bytes: 128 };
        let content = Content {
            kept,
            fingerprint: Fingerprint([1; 16]),
            fingerprint_version: 1,
            version: None,
            readiness: Readiness::Held(HoldReason::FailedAtSource),
            not_before_ms: Some(7),
            money: Some(Money { amount: 1.into(), currency: "EUR".parse().unwrap() }),
            synthetic: false,
            lost: true,
        };
        let plain = Order::new(5, &content, 1_790_000_000_999);
        let full = Order {
            state: OrderState::Exception,
            attempts: 255,
            deaths: DEATHS_COUNTED,
            sent_before: true,
            on_loan: true,
            anchor: 2,
            ..plain.clone()
        };
        let ended =
            Order { state: OrderState::Summarised, worth: Worth::Ended(1 << 32), ..plain.clone() };
        for order in [plain, full, ended] {
            let slot = pack(9, &order, true);
            let detail = Detail { anchor: Some(order.anchor), ..Detail::default() };
            assert_eq!(unpack(&slot, Some(&detail), order.not_before), order);
        }
    }
}
