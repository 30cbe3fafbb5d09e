//! Proof that something is durable.

use std::borrow::Cow;
use std::fmt;

use forebay_order::Fingerprint;
use serde::Serialize;

use crate::OrderState;

/// What a delivery came to, made by a backend only, and only when it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    answer: Answer,
    sequence: u64,
    first: First,
    durability: Durability,
}

/// The order a delivery belongs to, as it stood when the delivery was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct First {
    /// Sequence of the order's first accepted delivery.
    pub sequence: u64,
    /// When that was accepted, ms since 1970.
    pub accepted_at_ms: i64,
    /// State after this delivery.
    pub state: OrderState,
    /// Fingerprint of the order's current content.
    pub fingerprint: Fingerprint,
    /// The OMS's id, once summarised.
    pub summary_id: Option<String>,
}

/// What one delivery came to. Each acknowledged delivery of a run counts in exactly one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The key's first delivery, and it waits for the drain.
    Accepted,
    /// The key's first delivery, and it is held.
    Held,
    /// The same content again (of the current or an earlier version).
    Duplicate,
    /// A newer version replaced the content (and released it, if it was held).
    Amended,
    /// A newer version or cancel was kept and takes effect if the attempt now under way does not create the summary.
    Parked,
    /// An older version than the known one; no effect.
    Stale,
    /// The order is cancelled and never reaches the OMS.
    Cancelled,
    /// A cancel for a key never seen: kept, and the order is held should it come.
    Tombstone,
    /// A newer version or cancel of an order already summarised: a process exception holds it.
    ChangeAfterSummary,
    /// Another content under the key and no version to tell which is newer: a process exception holds it.
    Conflict,
    /// Not an order; kept.
    Recorded,
    /// A process exception of its own (unreadable, or only an id).
    Exception,
}

impl Answer {
    /// The word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Held => "held",
            Self::Duplicate => "duplicate",
            Self::Amended => "amended",
            Self::Parked => "parked",
            Self::Stale => "stale",
            Self::Cancelled => "cancelled",
            Self::Tombstone => "tombstone",
            Self::ChangeAfterSummary => "change_after_summary",
            Self::Conflict => "conflict",
            Self::Recorded => "recorded",
            Self::Exception => "exception",
        }
    }
}

/// Where a receipt's order is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Synced to this machine's disk.
    Fsync,
    /// On a majority of several servers.
    Quorum {
        /// Servers that must have it.
        needed: usize,
        /// Servers that are to have it.
        of: usize,
        /// Whether each of them syncs it to its disk before it says so; `None` if that is not known.
        synced: Option<bool>,
    },
    /// Kept in memory only (the model backend; nothing a 2xx may stand on outside tests).
    Memory,
}

impl Durability {
    /// The words in answers.
    pub fn words(&self) -> Cow<'static, str> {
        match self {
            Self::Fsync => "fsync(this disk)".into(),
            Self::Memory => "memory".into(),
            Self::Quorum { needed, of, synced } => {
                let synced = match synced {
                    Some(true) => "synced",
                    Some(false) => "not synced",
                    None => "sync not verified",
                };
                format!("quorum({needed} of {of}, {synced})").into()
            }
        }
    }
}

impl Durability {
    /// What could be lost of what is durable in this way, and what to do about it; `None` where nothing but the loss of disks can.
    pub fn weakness(&self) -> Option<&'static str> {
        match self {
            Self::Fsync | Self::Quorum { synced: Some(true), .. } => None,
            Self::Quorum { synced: Some(false), .. } => Some(
                "a power cut of all servers at once loses what was acknowledged; run them with sync_interval: always",
            ),
            Self::Quorum { synced: None, .. } => Some(
                "a power cut of all servers at once may lose what was acknowledged; run them with sync_interval: always, and set \
                 nats.system_user so that they can be asked",
            ),
            Self::Memory => Some("it is gone with the process"),
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words())
    }
}

impl Receipt {
    /// Only a backend may say that something is durable.
    pub(crate) fn new(answer: Answer, sequence: u64, first: First, durability: Durability) -> Self {
        Self { answer, sequence, first, durability }
    }

    /// What the delivery came to.
    pub fn answer(&self) -> Answer {
        self.answer
    }

    /// Sequence of this delivery's own record; for a delivery that left none (duplicate, stale), the order's.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The order it belongs to; for a body without a key, the record itself.
    pub fn first(&self) -> &First {
        &self.first
    }

    /// Where it is durable.
    pub fn durability(&self) -> &Durability {
        &self.durability
    }
}
