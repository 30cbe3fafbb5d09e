//! What a call is, what it brings, and what becomes of each order; before any dialect words it.

use serde::{Deserialize, Serialize};

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A token.
    Token,
    /// A session, for a dialect that has them.
    Session,
    /// Orders created.
    Create,
    /// Orders looked up by identity.
    Find,
    /// Orders in the order they were committed.
    List,
    /// A record of the caller's own, read,
    Read,
    /// and written.
    Write,
    /// Something there is not.
    Other,
}

impl Kind {
    /// Its word in the ledger.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Session => "session",
            Self::Create => "create",
            Self::Find => "find",
            Self::List => "list",
            Self::Read => "read",
            Self::Write => "write",
            Self::Other => "other",
        }
    }

    /// Whether limits count it: tokens come from another server in most OMSs.
    pub(crate) fn is_limited(self) -> bool {
        !matches!(self, Self::Token | Self::Other)
    }
}

/// One order that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) identity: String,
    /// What the caller calls it within its call.
    pub(crate) name: String,
    pub(crate) fingerprint: String,
    /// As it was written, without quotes; empty where there is none.
    pub(crate) grand_total: String,
    /// Empty where there is none.
    pub(crate) currency: String,
}

/// What became of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Created { id: String },
    Existing { id: String, fingerprint: String },
    Invalid { code: String, message: String },
    TryLater { after_s: u64 },
    Accepted { ticket: String },
}

/// An order that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) identity: String,
    pub(crate) id: String,
    pub(crate) fingerprint: String,
}

/// An order in a page of all; of doubles the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) cursor: i64,
    pub(crate) found: Found,
    pub(crate) committed_at_us: i64,
    pub(crate) grand_total: String,
    pub(crate) currency: String,
    /// How many times it was created.
    pub(crate) creates: i64,
}

/// What became of an order that was only taken at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) seq: i64,
    /// From when on that is known.
    pub(crate) due_us: i64,
    pub(crate) identity: String,
    pub(crate) ticket: String,
    /// `None`: it was refused.
    pub(crate) id: Option<String>,
}

/// Why a call was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) why: Why,
}

/// What refused it, for the judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Unavailable,
    Token,
    /// No session, or one that is over.
    Session,
    Credentials,
    Quota,
    Overloaded,
    AtOnce,
    Malformed,
    TooLarge,
    KeyReused,
    Absent,
    /// The ledger could not be written or read; no fault on purpose.
    Broken,
}

impl Why {
    /// Its word in the ledger.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Token => "token",
            Self::Session => "session",
            Self::Credentials => "credentials",
            Self::Quota => "quota",
            Self::Overloaded => "overloaded",
            Self::AtOnce => "calls_at_once",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::KeyReused => "key_reused",
            Self::Absent => "absent",
            Self::Broken => "broken",
        }
    }
}

/// How an answer is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    BeforeCommit,
    AfterCommit,
    MidAnswer,
}

impl Cut {
    /// Its word in the ledger.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before_commit",
            Self::AfterCommit => "after_commit",
            Self::MidAnswer => "mid_answer",
        }
    }
}
