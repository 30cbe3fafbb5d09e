//! What became of orders, in the order in which it became durable: for whoever sends confirmation mails, or keeps another
//! system up to date.

use forebay_order::{HoldReason, OrderKey};
use serde::Serialize;

use crate::view::serialize_key;
use crate::{BufferError, Envelope, ExceptionCategory};

/// Something that became of an order, durable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedEvent {
    /// Sequence of the record that says it; a reader goes on after it.
    pub sequence: u64,
    /// Which of that record's events it is, from 0. Sequence and part name it for ever.
    pub part: u32,
    /// What became of the order.
    pub kind: FeedKind,
    /// The order's key; its id is empty where a body has none, all of it where what was kept of the order is damaged.
    #[serde(serialize_with = "serialize_key")]
    pub key: OrderKey,
    /// Number people use.
    pub number: String,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// Sequence of the order's first accepted delivery; `None` for a body that occupies no key.
    pub order: Option<u64>,
    /// The OMS's id of the summary; only with [`FeedKind::Summarised`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_id: Option<String>,
    /// The OMS had it already; only with [`FeedKind::Summarised`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing: Option<bool>,
    /// The row that was raised; only with [`FeedKind::Exception`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exception: Option<FeedException>,
    /// Why it waits; only with [`FeedKind::Held`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldReason>,
    /// Whether the sender marked the order synthetic.
    pub synthetic: bool,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FeedKind {
    /// It waits for the drain: it came, was released, was repaired, or a person had it retried.
    Accepted = 1,
    /// It waits for a newer version from the sender.
    Held = 2,
    /// The OMS has it.
    Summarised = 3,
    /// A process exception was raised: it waits for a person, or a delivery beside it does.
    Exception = 4,
    /// The sender called it off before the OMS had it.
    Cancelled = 5,
    /// A person gave it up.
    Discarded = 6,
}

impl FeedKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Accepted,
        Self::Held,
        Self::Summarised,
        Self::Exception,
        Self::Cancelled,
        Self::Discarded,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Summarised => "summarised",
            Self::Exception => "exception",
            Self::Cancelled => "cancelled",
            Self::Discarded => "discarded",
        }
    }
}

/// A process exception as it was raised.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedException {
    /// Its row.
    pub id: u64,
    /// Why.
    pub category: ExceptionCategory,
    /// What happened and what to do; nothing personal.
    pub reason: String,
}

/// What people know an order by; nothing, where that cannot be read any more.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) key: OrderKey,
    pub(crate) number: String,
    pub(crate) synthetic: bool,
}

impl Named {
    pub(crate) fn of(envelope: &Envelope) -> Self {
        let Envelope { key, number, synthetic, .. } = envelope;
        Self { key: key.clone(), number: number.clone(), synthetic: *synthetic }
    }
}

impl Default for Named {
    fn default() -> Self {
        Self { key: OrderKey::new("", "", ""), number: String::new(), synthetic: false }
    }
}

/// Some of the feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedPage {
    /// By ascending sequence and part.
    pub events: Vec<FeedEvent>,
    /// What to ask after the next time.
    pub next: u64,
}

impl FeedPage {
    /// A page that was asked for after that sequence.
    pub(crate) fn of(events: Vec<FeedEvent>, after: u64) -> Self {
        let next = events.last().map_or(after, |event| event.sequence);
        Self { events, next }
    }
}

/// Why there are no events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// What came next is not kept any more.
    #[error(
        "what came after that is not kept any more; read what you missed from the orders themselves, and go on after {oldest}"
    )]
    Gone {
        /// The smallest sequence that can be asked after.
        oldest: u64,
    },
    /// So far no record is.
    #[error(
        "nothing is that far yet, the newest is {newest}: the orders are in another store than when that was read, or in an older \
         copy of it; begin again after 0"
    )]
    Ahead {
        /// The newest sequence there is.
        newest: u64,
    },
    /// No feed is kept.
    #[error("no feed is kept; set feed.keep to more than 0B")]
    NotKept,
    /// The buffer has failed or is closing.
    #[error(transparent)]
    Buffer(#[from] BufferError),
}
