//! What a format's status, payment, test and draft fields mean for the drain.

use std::fmt;

use serde::Serialize;

/// Whether an item may go to the order management system (OMS), must wait, or never goes.
///
/// Each format's file has the table that maps its own fields to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case", tag = "readiness", content = "why")]
pub enum Readiness {
    /// A placed sale: it becomes an order summary.
    Pending,
    /// A placed sale that must wait for a newer version from the sender.
    Held(HoldReason),
    /// The sale was called off at the source.
    Cancelled,
    /// Not an order: kept, never drained, and it never occupies an order's key.
    Recorded(RecordedAs),
    /// Only an id came; the order itself must be fetched from the sender. A process exception.
    FetchNeeded,
    /// The bytes do not parse (webhook profile only: the sender would not send others). A process exception.
    Unreadable,
}

/// Why an order waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum HoldReason {
    /// The source says it is not paid yet.
    Unpaid = 1,
    /// The source itself put it on hold.
    OnHold = 2,
    /// The source created it but has not confirmed (placed) it.
    Unconfirmed = 3,
    /// A cancel for this key came before the order did, or the order had been cancelled and came back.
    CancelledBefore = 4,
    /// It waited here when the source said that it failed there, or was replaced by another order.
    FailedAtSource = 5,
}

/// What a recorded body is, since it is no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RecordedAs {
    /// A test notification or test order.
    Test = 1,
    /// A draft or auto-draft.
    Draft = 2,
    /// A checkout or cart not completed.
    Checkout = 3,
    /// A refund object.
    Refund = 4,
    /// An order that failed, or was replaced by another, at the source.
    Failed = 5,
    /// A ping or other message of the sender about itself.
    Ping = 6,
    /// Some other object that is no order (a schema, a list of something else).
    Other = 7,
}

impl Readiness {
    /// The one word for it in answers and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Held(_) => "held",
            Self::Cancelled => "cancelled",
            Self::Recorded(_) => "recorded",
            Self::FetchNeeded => "fetch_needed",
            Self::Unreadable => "unreadable",
        }
    }

    /// Two bytes for the disk: the variant and its reason (0 where there is none).
    pub fn code(self) -> [u8; 2] {
        match self {
            Self::Pending => [1, 0],
            Self::Held(reason) => [2, reason as u8],
            Self::Cancelled => [3, 0],
            Self::Recorded(kind) => [4, kind as u8],
            Self::FetchNeeded => [5, 0],
            Self::Unreadable => [6, 0],
        }
    }

    /// Reads what [`Readiness::code`] wrote; `None` for a code of a later version.
    pub fn from_code(code: [u8; 2]) -> Option<Self> {
        Some(match code {
            [1, 0] => Self::Pending,
            [2, reason] => Self::Held(HoldReason::from_code(reason)?),
            [3, 0] => Self::Cancelled,
            [4, kind] => Self::Recorded(RecordedAs::from_code(kind)?),
            [5, 0] => Self::FetchNeeded,
            [6, 0] => Self::Unreadable,
            _ => return None,
        })
    }
}

impl HoldReason {
    fn from_code(code: u8) -> Option<Self> {
        [Self::Unpaid, Self::OnHold, Self::Unconfirmed, Self::CancelledBefore, Self::FailedAtSource]
            .into_iter()
            .find(|r| *r as u8 == code)
    }
}

impl RecordedAs {
    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Test,
            Self::Draft,
            Self::Checkout,
            Self::Refund,
            Self::Failed,
            Self::Ping,
            Self::Other,
        ]
        .into_iter()
        .find(|k| *k as u8 == code)
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        let all = [
            Readiness::Pending,
            Readiness::Held(HoldReason::Unpaid),
            Readiness::Held(HoldReason::CancelledBefore),
            Readiness::Cancelled,
            Readiness::Recorded(RecordedAs::Test),
            Readiness::Recorded(RecordedAs::Other),
            Readiness::FetchNeeded,
            Readiness::Unreadable,
        ];
        for readiness in all {
            assert_eq!(Readiness::from_code(readiness.code()), Some(readiness));
        }
        assert_eq!(Readiness::from_code([2, 99]), None);
    }
}
