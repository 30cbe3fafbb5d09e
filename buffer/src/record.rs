//! Everything the journal can hold: the buffer's truth is the sequence of these records.
//!
//! State is what applying them in order gives; nothing else is remembered across a restart. A record has a
//! sequence (store-wide, +1 each); an order is named by the sequence of the record that first accepted it.

use crate::envelope::Envelope;
use crate::exception::{Act, ExceptionCategory};
use crate::view::OrderState;

/// One fact, durable once its group is synced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Record {
    /// A key's first accepted delivery. Readiness pending (kind *accept*), held (*hold*) or cancelled (*tombstone*).
    Accept(Delivery),
    /// A newer version of an order, or one that releases it (kinds *replace*, *release*). `parked`: it was
    /// lent out, so the content waits for the outcome.
    Replace { order: u64, parked: bool, delivery: Delivery },
    /// The sender called the order off.
    Cancel { order: u64, parked: bool, delivery: Delivery },
    /// Another content under the key, no version to compare: an exception row with its own body.
    Conflict { order: u64, delivery: Delivery },
    /// A newer version or cancel of a summarised (or discarded) order: an exception row with its own body.
    Change { order: u64, delivery: Delivery },
    /// Not an order.
    Recorded(Delivery),
    /// An unreadable body, or one with only an id: an exception row of its own.
    Stray(Delivery),
    /// Orders were lent; `attempt` is the count so far. Written lazily; after an unclean start these run alone.
    Leased { orders: Vec<(u64, u8)> },
    /// Bytes of these orders may leave for the OMS from now on.
    Submitting { orders: Vec<u64> },
    /// An asynchronous OMS took the order, at `at_ms` for the first time; it is looked up at `not_before_ms`.
    Ticket { order: u64, ticket: String, at_ms: Option<i64>, not_before_ms: Option<i64> },
    /// Orders that the OMS has.
    Settle { entries: Vec<Settled> },
    /// A worker's attempt failed; try again later.
    Retry { order: u64, not_before_ms: i64, attempts: u8, sent: bool, reason: String },
    /// The order itself became an exception row.
    Failed { order: u64, at_ms: i64, attempts: u8, category: ExceptionCategory, reason: String },
    /// An operator's act on an exception row.
    Act { exception: u64, act: Act, at_ms: i64 },
    /// A live order carried forward out of the oldest segment, whole; replaces every earlier copy of it.
    Moved { order: u64, snapshot: Snapshot, delivery: Delivery },
    /// A live exception row carried forward, with its own body if it has one.
    MovedRow { exception: u64, row: RowSnapshot, delivery: Option<Delivery> },
    /// An operator's standing order (pause, ceiling); opaque here, the newest of a name wins.
    Policy { name: String, value: Vec<u8>, at_ms: i64 },
    /// Everything below this epoch is retired: its outcomes are in the index, synced, and its slots may be reused.
    Checkpoint { retired_below: u64, ended: Vec<(u8, u64)> },
}

impl Record {
    /// The delivery it carries, if any.
    pub(crate) fn delivery(&self) -> Option<&Delivery> {
        match self {
            Self::Accept(delivery)
            | Self::Replace { delivery, .. }
            | Self::Cancel { delivery, .. }
            | Self::Conflict { delivery, .. }
            | Self::Change { delivery, .. }
            | Self::Recorded(delivery)
            | Self::Stray(delivery)
            | Self::Moved { delivery, .. } => Some(delivery),
            Self::MovedRow { delivery, .. } => delivery.as_ref(),
            Self::Leased { .. }
            | Self::Submitting { .. }
            | Self::Ticket { .. }
            | Self::Settle { .. }
            | Self::Retry { .. }
            | Self::Failed { .. }
            | Self::Act { .. }
            | Self::Policy { .. }
            | Self::Checkpoint { .. } => None,
        }
    }

    /// The order whose loan's end it waits for.
    pub(crate) fn parked_behind(&self) -> Option<u64> {
        match self {
            Self::Replace { order, parked: true, .. }
            | Self::Cancel { order, parked: true, .. } => Some(*order),
            _ => None,
        }
    }

    /// The delivery it carries, to put its bytes back.
    pub(crate) fn delivery_mut(&mut self) -> Option<&mut Delivery> {
        match self {
            Self::Accept(delivery)
            | Self::Replace { delivery, .. }
            | Self::Cancel { delivery, .. }
            | Self::Conflict { delivery, .. }
            | Self::Change { delivery, .. }
            | Self::Recorded(delivery)
            | Self::Stray(delivery)
            | Self::Moved { delivery, .. } => Some(delivery),
            Self::MovedRow { delivery, .. } => delivery.as_mut(),
            _ => None,
        }
    }
}

/// The reason in a delivery that was carried forward without its bytes, for those on the disk no longer verify. Such a
/// delivery is never lent, and its body is never shown as an empty one.
pub(crate) const LOST: &str = "its bytes were found damaged on the disk";

/// A delivery and when it was accepted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Delivery {
    /// What the door handed in.
    pub(crate) envelope: Envelope,
    /// Ms since 1970, never before its predecessor's.
    pub(crate) accepted_at_ms: i64,
}

/// One order the OMS has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The order.
    pub(crate) order: u64,
    /// The OMS's id of the summary.
    pub(crate) summary_id: String,
    /// It was there already.
    pub(crate) existing: bool,
    /// Attempts it took.
    pub(crate) attempts: u8,
    /// Ms since 1970.
    pub(crate) at_ms: i64,
}

/// An order's state that its current delivery does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) state: OrderState,
    pub(crate) first_accepted_at_ms: i64,
    pub(crate) attempts: u8,
    pub(crate) sent_before: bool,
    pub(crate) not_before_ms: Option<i64>,
    pub(crate) ticket: Option<String>,
    pub(crate) ticket_at_ms: Option<i64>,
    /// Fingerprints of earlier versions, whose repeats are duplicates.
    pub(crate) earlier: Vec<[u8; 16]>,
    /// Newest version of a change that came too late.
    pub(crate) newest: Option<u64>,
}

/// An exception row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowSnapshot {
    pub(crate) order: Option<u64>,
    pub(crate) category: ExceptionCategory,
    pub(crate) reason: String,
    pub(crate) raised_at_ms: i64,
    pub(crate) attempts: u8,
    /// Identity and number of the order, for rows whose order is gone from the journal.
    pub(crate) identity: String,
    pub(crate) number: String,
}
