//! From an order to its slot and back.

use forebay_order::HoldReason;

use super::order::{Detail, Kept, NotBefore, Order, Worth};
use super::slab::Slot;
use crate::OrderState;
use crate::digest::PackedMoney;
use crate::embedded::journal::Location;

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
    /// It has a time before which it is not lent.
    pub(super) const DELAYED: u32 = 1 << 13;
    /// Its content is not in a journal: the place is the record's sequence.
    const ELSEWHERE: u32 = 1 << 14;
    const TICKETED: u32 = 1 << 15;
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
            | flag(order.ticketed, Self::TICKETED)
            | flag(order.lost, Self::LOST)
            | flag(matches!(order.worth, Worth::Wide(..)), Self::WIDE)
            | flag(order.not_before.is_some(), Self::DELAYED)
            | flag(order.kept.location.is_none(), Self::ELSEWHERE)
            | u32::from(order.attempts) << Self::ATTEMPTS_AT
            | u32::from(order.deaths.min(DEATHS_COUNTED)) << Self::DEATHS_AT
    }
}

/// Unpacks the order of that sequence; of what stands elsewhere, `detail` and `not_before` are given.
pub(super) fn unpack(
    sequence: u64,
    slot: &Slot,
    detail: Option<&Detail>,
    not_before: Option<NotBefore>,
) -> Order {
    let flags = Flags::of(slot);
    let state = flags.state();
    let elsewhere = flags.has(Flags::ELSEWHERE);
    let location = (!elsewhere).then(|| Location::new(slot.epoch, slot.offset));
    let record = u64::from(slot.epoch) << 32 | u64::from(slot.offset);
    let kept =
        Kept { record: if elsewhere { record } else { sequence }, location, bytes: slot.bytes() };
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
        ticketed: flags.has(Flags::TICKETED),
        on_loan: flags.has(Flags::ON_LOAN),
        lost: flags.has(Flags::LOST),
    }
}

/// Packs an order into a slot; its anchor, a wide amount and its time go elsewhere.
pub(super) fn pack(order: &Order, has_detail: bool) -> Slot {
    let mut slot = Slot::default();
    slot.has_detail = has_detail;
    slot.set_hash(order.hash);
    slot.set_bytes(order.kept.bytes);
    match order.kept.location {
        Some(location) => {
            slot.epoch = u32::try_from(location.epoch()).unwrap_or(u32::MAX);
            slot.offset = u32::try_from(location.offset()).unwrap_or(u32::MAX);
        }
        None => {
            let record = order.kept.record;
            slot.epoch = u32::try_from(record >> 32).unwrap_or(u32::MAX);
            slot.offset = u32::try_from(record & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        }
    }
    slot.accepted_at_s = order.accepted_at_s;
    slot.set_value(match order.worth {
        Worth::Packed(packed) => packed.bits(),
        Worth::Wide(..) => 0,
        Worth::Ended(reference) => reference,
    });
    slot.flags = Flags::pack(order);
    slot
}

#[cfg(test)]
mod tests {
    use forebay_order::{Fingerprint, Money, Readiness};

    use super::super::order::Content;
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
            ticketed: true,
            on_loan: true,
            anchor: 2,
            ..plain.clone()
        };
        let ended =
            Order { state: OrderState::Summarised, worth: Worth::Ended(1 << 32), ..plain.clone() };
        for order in [plain, full, ended] {
            let slot = pack(&order, true);
            let detail = Detail { anchor: Some(order.anchor), ..Detail::default() };
            assert_eq!(unpack(9, &slot, Some(&detail), order.not_before), order);
        }
    }
}
