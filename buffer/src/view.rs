//! What people and metrics see of the buffer.

use std::collections::BTreeMap;

use forebay_order::{Fingerprint, HoldReason, OrderKey};
use rust_decimal::Decimal;
use serde::{Serialize, Serializer};

use crate::migrate::Migration;

/// Where an order is on its way. Only `Pending` counts as backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum OrderState {
    /// Waits for a newer version from the sender.
    Held = 1,
    /// Durable, ready, not yet in the OMS.
    Pending = 2,
    /// Lent to a worker.
    Leased = 3,
    /// Sent, outcome not yet known.
    Submitted = 4,
    /// In the OMS.
    Summarised = 5,
    /// Waits for a person.
    Exception = 6,
    /// Called off before it reached the OMS.
    Cancelled = 7,
    /// Given up by an operator; never created.
    Discarded = 8,
    /// Not an order.
    Recorded = 9,
}

impl OrderState {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Held,
        Self::Pending,
        Self::Leased,
        Self::Submitted,
        Self::Summarised,
        Self::Exception,
        Self::Cancelled,
        Self::Discarded,
        Self::Recorded,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::Submitted => "submitted",
            Self::Summarised => "summarised",
            Self::Exception => "exception",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
            Self::Recorded => "recorded",
        }
    }

    /// Whether nothing becomes of it any more.
    pub(crate) fn has_ended(self) -> bool {
        matches!(self, Self::Summarised | Self::Cancelled | Self::Discarded | Self::Recorded)
    }

    /// The four words a storefront shows its shopper-facing staff.
    pub fn shopper_word(self) -> &'static str {
        match self {
            Self::Held | Self::Pending | Self::Recorded => "received",
            Self::Leased | Self::Submitted => "processing",
            Self::Summarised => "confirmed",
            Self::Exception | Self::Cancelled | Self::Discarded => "needs attention",
        }
    }
}

/// What is known of one order.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderView {
    /// Its key.
    #[serde(serialize_with = "serialize_key")]
    pub key: OrderKey,
    /// Sequence of its first accepted delivery.
    pub sequence: u64,
    /// Its number; empty once only the outcome is kept.
    pub number: String,
    /// Where it is.
    pub state: OrderState,
    /// Why it is held, if it is.
    pub hold: Option<HoldReason>,
    /// First acceptance, ms since 1970.
    pub accepted_at_ms: i64,
    /// When it was settled, ms since 1970.
    pub settled_at_ms: Option<i64>,
    /// Source version of the current content.
    pub version: Option<u64>,
    /// Fingerprint of the current content.
    pub fingerprint: Fingerprint,
    /// Attempts that counted.
    pub attempts: u8,
    /// Next attempt not before, ms since 1970.
    pub not_before_ms: Option<i64>,
    /// The OMS's id, once summarised.
    pub summary_id: Option<String>,
    /// Orders before it in the drain, an estimate.
    pub position: Option<u64>,
    /// Ids of its open exceptions.
    pub exceptions: Vec<u64>,
    /// Whether the sender marked it synthetic.
    pub synthetic: bool,
}

/// Some of the orders that are in the OMS, and of which everything is still here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SummarisedPage {
    /// In no order that means anything.
    pub orders: Vec<SummarisedOrder>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct SummarisedOrder {
    /// Its key.
    pub key: OrderKey,
    /// When it was settled, ms since 1970.
    pub settled_at_ms: i64,
}

/// Counts and ages now.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// Orders per state, live ones (held, pending, leased, submitted, exception).
    pub live: BTreeMap<&'static str, u64>,
    /// Orders ended since the store was created, by state (summarised, cancelled, discarded, recorded).
    pub ended: BTreeMap<&'static str, u64>,
    /// Open exceptions by category.
    pub exceptions: BTreeMap<&'static str, u64>,
    /// Age of the oldest pending order since it was accepted, ms.
    pub oldest_pending_ms: Option<i64>,
    /// Pending orders that are not before their time.
    pub delayed: u64,
    /// Money waiting (pending, leased, submitted, held), by currency, as decimal text.
    pub money_waiting: BTreeMap<String, String>,
    /// Highest durable sequence.
    pub durable_sequence: u64,
    /// Where a receipt of this backend is durable.
    pub durability: String,
    /// How this backend writes to its disk: `direct` or `buffered`; empty without one.
    pub write_mode: &'static str,
    /// Bytes the journal wrote since it was opened: groups, headers, and the zeros of new slots.
    pub journal_bytes_written: u64,
    /// Bytes of deliveries made durable since then. What was written over this is what the journal costs.
    pub journal_payload_bytes: u64,
    /// Bytes of disk the journal's slots take.
    pub disk_bytes: u64,
    /// Bytes of disk it may take.
    pub disk_bytes_max: u64,
    /// Segments not yet retired.
    pub segments: u64,
    /// What is known of orders whose segment is gone.
    pub outcomes: OutcomeFigures,
    /// Acknowledged orders may have been forgotten (damage, or a lost outcome index): whatever is accepted until then, ms since
    /// 1970, is looked up in the OMS before it is first sent, unless that OMS refuses a second create.
    pub look_first_until_ms: Option<i64>,
    /// The processes that share the orders; nothing where there are no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Fleet>,
    /// How far the move from another store is; nothing where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// What recovery found when the store was opened, for people; empty when all was clean.
    pub recovery: Vec<String>,
}

impl Status {
    /// Adds the counts of another part of the orders.
    pub(crate) fn add(&mut self, part: Self) {
        for (state, count) in part.live {
            *self.live.entry(state).or_default() += count;
        }
        for (state, count) in part.ended {
            *self.ended.entry(state).or_default() += count;
        }
        for (category, count) in part.exceptions {
            *self.exceptions.entry(category).or_default() += count;
        }
        self.oldest_pending_ms = self.oldest_pending_ms.max(part.oldest_pending_ms);
        self.delayed += part.delayed;
        for (currency, sum) in part.money_waiting {
            let before = self.money_waiting.get(&currency);
            let sums = [before.unwrap_or(&String::new()), &sum].map(|sum| sum.parse::<Decimal>());
            let sum = match sums {
                [Ok(one), Ok(other)] => one.saturating_add(other).to_string(),
                _ => sum,
            };
            self.money_waiting.insert(currency, sum);
        }
    }
}

/// The processes that share the orders of one store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// Parts the keys are divided into.
    pub partitions: u64,
    /// Those this process owns.
    pub owned: u64,
    /// Those nobody spoke for just now: their orders are not in the counts, and nobody drains them at the moment.
    pub silent: u64,
    /// Processes that own some.
    pub nodes: u64,
    /// Where limits that all of them must have in common differ, or may: which process has which, and what to do.
    pub differs: Option<String>,
    /// How long what is known of an ended order is kept, in seconds.
    pub outcome_ttl_s: u64,
}

/// How much the outcome index holds and takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OutcomeFigures {
    /// Outcomes in it; one that was changed since may count twice for a while.
    pub outcomes: u64,
    /// Files they are in.
    pub runs: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Bytes of memory: the filters, and where blocks begin.
    pub memory_bytes: u64,
    /// Blocks of 4 KiB that were found damaged; what stood in them is not known any more.
    pub damaged_blocks: u64,
}

/// How much waits and how fast it drains.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Pending orders.
    pub pending: u64,
    /// Orders settled a second, averaged over the last seconds.
    pub drained_per_s: f64,
}

/// A key as its joined identity.
pub(crate) fn serialize_key<S: Serializer>(
    key: &OrderKey,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}
