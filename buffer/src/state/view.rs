//! What people see of the state.

use forebay_order::OrderKey;

use super::loan::Acting;
use super::order::Kept;
use super::row::Row;
use super::{Outcome, State};
use crate::{ExceptionCategory, ExceptionRow, OrderState, OrderView, Status};

/// An exception row without the key and number, which stand in the record at `named_in`.
#[derive(Clone, Debug)]
pub(crate) struct RowHead {
    pub(crate) row: ExceptionRow,
    pub(crate) named_in: Option<Kept>,
}

impl State {
    /// The view of an order; its number (empty here) stands in the record that is named beside.
    pub(crate) fn view(&self, key: &OrderKey) -> Option<(OrderView, Kept)> {
        let sequence = self.find(self.hash_of_key(key))?;
        let order = self.get(sequence)?;
        let ending = self.endings.get(&sequence);
        let view = OrderView {
            key: key.clone(),
            sequence,
            number: String::new(),
            state: order.state,
            hold: order.hold,
            accepted_at_ms: order.accepted_at_ms,
            settled_at_ms: ending.map(|ending| ending.at_ms),
            version: order.content.version,
            fingerprint: order.content.fingerprint,
            attempts: order.attempts,
            not_before_ms: order.not_before_ms,
            summary_id: ending.map(|e| e.summary_id.clone()).filter(|id| !id.is_empty()),
            position: self.queue.position(sequence),
            exceptions: self.rows.ids_of(sequence).to_vec(),
            synthetic: order.content.synthetic,
        };
        Some((view, order.content.kept))
    }

    /// The view of an order of which only the outcome is left.
    pub(crate) fn outcome_view(&self, key: &OrderKey, outcome: Outcome) -> OrderView {
        OrderView {
            key: key.clone(),
            sequence: outcome.sequence,
            number: String::new(),
            state: outcome.state,
            hold: None,
            accepted_at_ms: outcome.accepted_at_ms,
            settled_at_ms: Some(outcome.settled_at_ms),
            version: outcome.version,
            fingerprint: outcome.fingerprint,
            attempts: outcome.attempts,
            not_before_ms: None,
            summary_id: Some(outcome.summary_id).filter(|id| !id.is_empty()),
            position: None,
            exceptions: self.rows.ids_of(outcome.sequence).to_vec(),
            synthetic: outcome.synthetic,
        }
    }

    /// Where the bytes kept under a sequence are: an order's current content, a row's own body, or the
    /// content of the order a row is about.
    pub(crate) fn body_at(&self, sequence: u64) -> Option<Kept> {
        if let Some(order) = self.get(sequence) {
            // An ended order is carried forward without its bytes.
            let gone = order.ended() && order.content.kept.bytes == 0;
            return (!gone).then_some(order.content.kept);
        }
        let row = self.rows.get(sequence)?;
        row.body.map(|body| body.kept).or_else(|| Some(self.get(row.order)?.content.kept))
    }

    /// Open exceptions with `id > after`.
    pub(crate) fn row_heads(&self, after: u64, limit: usize) -> Vec<RowHead> {
        self.rows.after(after).take(limit).map(|(id, row)| self.row_head(id, row)).collect()
    }

    /// State of a known order; one that is no longer in memory is summarised.
    pub(crate) fn state_of(&self, order: u64) -> OrderState {
        self.get(order).map_or(OrderState::Summarised, |order| order.state)
    }

    /// State of an order after an act on one of its exceptions. One that is gone from memory only now was
    /// a body that waited to be fetched.
    pub(crate) fn state_after(&self, acting: Acting) -> OrderState {
        match self.get(acting.order) {
            None if acting.in_memory => OrderState::Discarded,
            _ => self.state_of(acting.order),
        }
    }

    fn row_head(&self, id: u64, row: &Row) -> RowHead {
        let named_in =
            row.body.map(|body| body.kept).or_else(|| Some(self.get(row.order)?.content.kept));
        let row = ExceptionRow {
            id,
            key: OrderKey::new("", "", ""),
            number: String::new(),
            order: (!row.is_stray()).then_some(row.order),
            state: self.state_of(row.order),
            category: row.category,
            severity: row.category.severity(),
            reason: row.reason.clone(),
            raised_at_ms: row.raised_at_ms,
            attempts: row.attempts,
            has_body: row.body.is_some() || row.is_stray(),
        };
        RowHead { row, named_in }
    }

    /// Pending orders: the backlog.
    pub(crate) fn pending(&self) -> u64 {
        self.counts.of(OrderState::Pending)
    }

    /// Counts and ages; what only a backend knows (disk, durability) stays at its default.
    pub(crate) fn status(&self, now_ms: i64) -> Status {
        let mut exceptions = std::collections::BTreeMap::new();
        for row in self.rows.all() {
            *exceptions.entry(ExceptionCategory::word(row.category)).or_default() += 1;
        }
        let oldest = self.queue.oldest().and_then(|sequence| self.get(sequence));
        Status {
            live: self.counts.live(),
            ended: self.counts.ended(),
            exceptions,
            oldest_pending_ms: oldest
                .map(|order| now_ms.saturating_sub(order.accepted_at_ms).max(0)),
            delayed: self.queue.delayed_len(),
            money_waiting: self.counts.money(),
            ..Status::default()
        }
    }
}
