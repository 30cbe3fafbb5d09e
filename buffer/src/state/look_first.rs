//! Looking up first: what was acknowledged may be forgotten, so nothing may be taken for new.
//!
//! Damage to the journal, or the loss of the outcome index, can make the buffer forget orders that are in the order
//! management system (OMS). Sent again by their storefronts they look new, and an OMS that does not refuse a second create would
//! take them twice. So a standing order, durable before anything is served, says until when whatever was accepted is looked up
//! before it is first sent: for one dedup horizon, as long as a repeat must be known again.

use super::State;
use super::order::Order;
use crate::control::Control;
use crate::record::Record;

/// Name of the standing order ([`Record::Policy`]).
const NAME: &str = "look_first";

/// It is asked for so much longer than needed, that not every new loss writes it anew.
const MORE_MS: i64 = 3_600_000;

/// The standing order; the default never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookFirst {
    /// What was accepted before this time is looked up first, ms since 1970.
    pub(crate) until_ms: i64,
    /// Digest of the damage to the journal and the outcome index that it stands for, 0 for none. A start that finds the same damage again has
    /// nothing to add.
    pub(crate) damage: u64,
}

impl LookFirst {
    pub(super) fn of(name: &str, value: &[u8]) -> Option<Self> {
        let (until, damage) = (name == NAME).then(|| value.split_first_chunk::<8>()).flatten()?;
        let damage = damage.first_chunk::<8>()?;
        let (until_ms, damage) = (i64::from_le_bytes(*until), u64::from_le_bytes(*damage));
        Some(Self { until_ms, damage })
    }

    fn record(self, now_ms: i64) -> Record {
        let value = [self.until_ms.to_le_bytes(), self.damage.to_le_bytes()].concat();
        Record::Policy { name: NAME.to_owned(), value, at_ms: now_ms }
    }
}

impl State {
    /// The standing order to look up first.
    pub(crate) fn look_first(&self) -> LookFirst {
        self.look_first
    }

    /// The record to be made durable because acknowledged orders may be forgotten from now on; `None` if what stands
    /// suffices.
    pub(crate) fn look_first_record(
        &self,
        now_ms: i64,
        horizon_ms: i64,
        damage: u64,
    ) -> Option<Record> {
        let stands = self.look_first;
        // A clock that is behind now must not end it too soon.
        let needed_ms = now_ms.max(self.last_accepted_ms).saturating_add(horizon_ms);
        if stands.until_ms >= needed_ms && stands.damage == damage {
            return None;
        }
        let until_ms = stands.until_ms.max(needed_ms.saturating_add(MORE_MS));
        Some(LookFirst { until_ms, damage }.record(now_ms))
    }

    /// The record by which orders are looked up first for as long as another store has them looked up; `None` if what stands
    /// suffices.
    pub(crate) fn look_first_until(&self, until_ms: i64, now_ms: i64) -> Option<Record> {
        let LookFirst { until_ms: stands_ms, damage } = self.look_first;
        (until_ms > stands_ms.max(now_ms)).then(|| LookFirst { until_ms, damage }.record(now_ms))
    }

    /// Whether an order may be one that was forgotten, and so may be in the OMS already.
    pub(super) fn looks_first(&self, order: &Order) -> bool {
        let accepted_at_ms = i64::from(order.accepted_at_s) * 1_000;
        accepted_at_ms < self.look_first.until_ms && !Control::NoLookUp.is_on()
    }
}
