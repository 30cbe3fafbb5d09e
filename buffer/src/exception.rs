//! Process exceptions: what could not become a summary by itself.

use forebay_order::OrderKey;
use serde::Serialize;

use crate::OrderState;

/// Why an exception exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum ExceptionCategory {
    /// A webhook's bytes do not parse.
    Unreadable = 1,
    /// Only an id came.
    FetchNeeded = 2,
    /// Another content under the key, no version to compare.
    Conflict = 3,
    /// A newer version or cancel came after the summary was created.
    ChangeAfterSummary = 4,
    /// The order cannot be mapped to a summary.
    Unmappable = 5,
    /// The OMS definitely refused it.
    Rejected = 6,
    /// The OMS has another content under this identity.
    IdentityTaken = 7,
    /// It was sent, and nobody can say whether the OMS took it.
    OutcomeUnknown = 8,
    /// Every attempt failed, or it killed the process.
    Poison = 9,
    /// Its bytes were damaged on disk.
    Damaged = 10,
}

impl ExceptionCategory {
    pub(crate) const ALL: [Self; 10] = [
        Self::Unreadable,
        Self::FetchNeeded,
        Self::Conflict,
        Self::ChangeAfterSummary,
        Self::Unmappable,
        Self::Rejected,
        Self::IdentityTaken,
        Self::OutcomeUnknown,
        Self::Poison,
        Self::Damaged,
    ];

    /// Whether its order waits for a person because of it.
    pub(crate) fn is_own(self) -> bool {
        !matches!(self, Self::Conflict | Self::ChangeAfterSummary)
    }

    /// The word for people and machines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::FetchNeeded => "fetch_needed",
            Self::Conflict => "conflict",
            Self::ChangeAfterSummary => "change_after_summary",
            Self::Unmappable => "unmappable",
            Self::Rejected => "rejected",
            Self::IdentityTaken => "identity_taken",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Poison => "poison",
            Self::Damaged => "damaged",
        }
    }

    /// The category of that number on disk.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|category| *category as u8 == code)
    }

    /// How bad it is if nobody looks: high where a sale is stuck or may be wrong in the OMS.
    pub fn severity(self) -> Severity {
        match self {
            Self::Conflict | Self::Unreadable | Self::FetchNeeded => Severity::Low,
            _ => Severity::High,
        }
    }
}

/// How bad it is if nobody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// A person should look some time.
    Low,
    /// A sale is stuck, or may be wrong in the OMS.
    High,
}

/// One open exception. It is a row of its own, attached to an order where there is one; a summarised
/// order can have one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExceptionRow {
    /// Its id: the sequence of the record that raised it.
    pub id: u64,
    /// The order's key; its id part is empty for a body that has none.
    #[serde(serialize_with = "crate::view::serialize_key")]
    pub key: OrderKey,
    /// Order number, a label.
    pub number: String,
    /// The order it is attached to, by the sequence of its first accepted delivery; `None` for a body without a key.
    pub order: Option<u64>,
    /// The order's state now.
    pub state: OrderState,
    /// Why.
    pub category: ExceptionCategory,
    /// How bad.
    pub severity: Severity,
    /// What happened and what to do; nothing personal.
    pub reason: String,
    /// When it was raised, ms since 1970.
    pub raised_at_ms: i64,
    /// Attempts the order had by then.
    pub attempts: u8,
    /// Whether the row has a body of its own ([`crate::Buffer::body`] by the row's id).
    pub has_body: bool,
}

/// What an operator can do to an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Act {
    /// Give the order a fresh start: pending again, attempts 0. Only for an order whose own state is exception.
    Retry = 1,
    /// Close the exception for good. An order whose own state is exception becomes discarded and is never created.
    Discard = 2,
}

/// The order or row after an act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActReceipt {
    /// The exception that was closed.
    pub id: u64,
    /// What was done.
    pub act: Act,
    /// State of the order it was attached to, now.
    pub state: OrderState,
}

/// Why an act was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// No open exception of that id.
    #[error("no open exception has that id; it may be closed already")]
    NotFound,
    /// The act makes no sense for this category.
    #[error("{0}")]
    NotPossible(&'static str),
    /// The buffer failed or is closing.
    #[error(transparent)]
    Buffer(#[from] crate::BufferError),
}
