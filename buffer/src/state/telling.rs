//! What the OMS's own word of an order comes to.
//!
//! | the order is | created | invalid |
//! |---|---|---|
//! | under a ticket | summarised | exception `rejected`, unless another ticket is told; *refused*: pending again, unless that counts and attempts did before |
//! | with a worker, or may have been sent | summarised | not submitted: whoever sent it learns its outcome |
//! | an exception `outcome_unknown` | summarised | exception `rejected`, unless another ticket is told |
//! | an exception `rejected` | summarised | known |
//! | summarised | known; under another id nothing changes | not submitted |
//! | anything else | not submitted: it was never sent | not submitted |
//!
//! That the summary exists counts whatever the order is by now, as a stale lease's `Summarised` does. That it does not is of
//! interest only where nothing of the order is on its way: under a ticket nothing is sent.

use super::State;
use super::loan::{ID_MAX, REASON_MAX, cut, not_before};
use super::order::Order;
use crate::record::{Record, Settled};
use crate::telling::{Effect, Telling, Word};
use crate::{ExceptionCategory, OrderState};

impl State {
    /// The order a telling is about.
    ///
    /// # Errors
    /// The effect where it is about none in memory, or it does not say which.
    pub(crate) fn told_of(&self, telling: &Telling) -> Result<u64, Effect> {
        if let Some(key) = &telling.key {
            return self.find(self.hash_of_key(key)).ok_or(Effect::UnknownOrder);
        }
        let mut orders = self.under_ticket(telling.ticket.as_deref().unwrap_or_default());
        match (orders.next(), orders.next()) {
            (Some(order), None) => Ok(order),
            (Some(_), Some(_)) => Err(Effect::Ambiguous),
            (None, _) => Err(Effect::UnknownOrder),
        }
    }

    /// The record that a telling comes to.
    ///
    /// # Errors
    /// The effect where nothing is to be written.
    pub(crate) fn judge_telling(
        &self,
        sequence: u64,
        telling: &Telling,
        now_ms: i64,
    ) -> Result<Record, Effect> {
        let order = self.get(sequence).ok_or(Effect::UnknownOrder)?;
        if order.state == OrderState::Summarised {
            let known_id = self.settled_as(&order).map(|(_, id)| id).unwrap_or_default();
            return Err(telling.after_summary(&known_id));
        }
        let attempts = order.attempts.saturating_add(1);
        match &telling.word {
            Word::Created { summary_id } => {
                let was_sent = order.sent_before || order.on_loan;
                if !was_sent && self.own_category(sequence) != Some(ExceptionCategory::Rejected) {
                    return Err(Effect::NotSubmitted);
                }
                let summary_id = cut(summary_id.clone(), ID_MAX);
                let (existing, at_ms) = (false, now_ms);
                let entry = Settled { order: sequence, summary_id, existing, attempts, at_ms };
                Ok(Record::Settle { entries: vec![entry] })
            }
            Word::Refused { reason, after, counts }
                if order.is_outstanding() && (!counts || order.attempts == 0) =>
            {
                self.may_be_refused(sequence, &order, telling.ticket.as_deref())?;
                Ok(Record::Retry {
                    order: sequence,
                    not_before_ms: not_before(now_ms, *after),
                    attempts: if *counts { attempts } else { order.attempts },
                    sent: false,
                    reason: cut(reason.clone(), REASON_MAX),
                })
            }
            Word::Invalid { reason } | Word::Refused { reason, .. } => {
                self.may_be_refused(sequence, &order, telling.ticket.as_deref())?;
                Ok(Record::Failed {
                    order: sequence,
                    at_ms: now_ms,
                    attempts,
                    category: ExceptionCategory::Rejected,
                    reason: cut(reason.clone(), REASON_MAX),
                })
            }
        }
    }

    /// Whether the OMS's word that an order does not exist is of interest.
    fn may_be_refused(
        &self,
        sequence: u64,
        order: &Order,
        told: Option<&str>,
    ) -> Result<(), Effect> {
        match (order.state, self.own_category(sequence)) {
            (OrderState::Exception, Some(ExceptionCategory::Rejected)) => {
                return Err(Effect::Known);
            }
            (OrderState::Exception, Some(ExceptionCategory::OutcomeUnknown)) => {}
            _ if order.is_outstanding() => {}
            _ => return Err(Effect::NotSubmitted),
        }
        match (self.ticket_of(sequence), told) {
            (Some(ticket), Some(told)) if *ticket.text != *told => Err(Effect::OtherTicket),
            _ => Ok(()),
        }
    }

    /// Why an order waits for a person, if it does.
    fn own_category(&self, sequence: u64) -> Option<ExceptionCategory> {
        self.rows.of(sequence).find(|(_, row)| row.is_own()).map(|(_, row)| row.category)
    }
}
