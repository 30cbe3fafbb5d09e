//! What the OMS says of an order by itself, while nobody asks it; and what that came to.

use std::time::Duration;

use forebay_order::OrderKey;

use crate::OrderView;

/// The OMS's word of one order, named by its key, by its ticket, or by both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// The order's key.
    pub key: Option<OrderKey>,
    /// The ticket it was taken under.
    pub ticket: Option<String>,
    /// What became of it.
    pub word: Word,
}

/// What became of an order, in the OMS's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its summary exists, durably.
    Created {
        /// The OMS's id of it.
        summary_id: String,
    },
    /// It was definitely refused, and does not exist.
    Invalid {
        /// What happened and what to do; nothing personal.
        reason: String,
    },
    /// The same, but it is not clear yet whose fault that is: what was taken under a ticket is sent again.
    Refused {
        /// What happened and what to do; nothing personal.
        reason: String,
        /// Not before this long.
        after: Duration,
        /// Whether it counts as an attempt. One that does is the last: an order of which attempts counted before is as invalid.
        counts: bool,
    },
}

/// What a telling came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The order is what was told, durably.
    Done,
    /// It had been before.
    Known,
    /// No order has that key, or is under that ticket.
    UnknownOrder,
    /// Several orders are under that ticket: say which by its identity.
    Ambiguous,
    /// The order was not sent, or is not under a ticket: nothing is open that this could close.
    NotSubmitted,
    /// The order is under another ticket by now, and what became of the one told is of no interest.
    OtherTicket,
    /// The order is summarised under another id.
    OtherSummary,
}

impl Effect {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Known => "already_known",
            Self::UnknownOrder => "unknown_order",
            Self::Ambiguous => "ambiguous",
            Self::NotSubmitted => "not_submitted",
            Self::OtherTicket => "other_ticket",
            Self::OtherSummary => "other_summary",
        }
    }
}

impl Telling {
    /// What it comes to beside an order that is summarised under that id.
    pub(crate) fn after_summary(&self, known_id: &str) -> Effect {
        match &self.word {
            Word::Created { summary_id } if summary_id == known_id => Effect::Known,
            Word::Created { .. } => Effect::OtherSummary,
            Word::Invalid { .. } | Word::Refused { .. } => Effect::NotSubmitted,
        }
    }

    /// What it comes to beside an order of which only the outcome is left.
    pub(crate) fn beside(&self, ended: &OrderView) -> Effect {
        ended.summary_id.as_deref().map_or(Effect::NotSubmitted, |id| self.after_summary(id))
    }
}
