//! What became of orders, in the order in which it became durable: for whoever sends confirmation mails, or keeps another
//! system up to date.

use forebay_order::{HoldReason, OrderKey};
use serde::Serialize;

use crate::view::serialize_key;
use crate::{BufferError, Envelope, ExceptionCategory, FeedCursor};

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
    pub next: FeedCursor,
    /// What was asked after.
    asked: FeedCursor,
    /// No record above this one had come when it was read.
    newest: u64,
}

impl FeedPage {
    /// What stands behind `asked` in a feed whose records stay as they are; nothing else does up to `to`.
    pub fn of(mut events: Vec<FeedEvent>, asked: &FeedCursor, to: u64) -> Self {
        events.retain(|event| !asked.is_behind(event.sequence, event.part));
        let next = if to > asked.sequence() { asked.read_to(to, 0, to) } else { asked.clone() };
        Self { events, next, asked: asked.clone(), newest: 0 }
    }

    /// The same of a feed whose records are replaced; `newest`: none above had come.
    pub(crate) fn of_replaced(
        events: Vec<FeedEvent>,
        asked: &FeedCursor,
        next: FeedCursor,
        newest: u64,
    ) -> Self {
        Self { events, next, asked: asked.clone(), newest }
    }

    /// The cursor of who has been told the events up to this one, by its place in the page; of a place behind them all, [`next`](Self::next).
    pub fn behind(&self, event: usize) -> FeedCursor {
        let Some(told) = self.events.get(event) else { return self.next.clone() };
        let sequence = told.sequence;
        let more = self.events.get(event + 1).is_some_and(|next| next.sequence == sequence);
        match more {
            true => self.asked.read_to(sequence.saturating_sub(1), told.part + 1, self.newest),
            false => self.asked.read_to(sequence, 0, self.newest),
        }
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
