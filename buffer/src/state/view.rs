//! What people see of the state.

use forebay_order::{Fingerprint, OrderKey};

use super::loan::Acting;
use super::order::{Head, Kept};
use super::row::Row;
use super::{Outcome, State};
use crate::{ExceptionCategory, ExceptionRow, OrderState, OrderView, Status};

/// An exception row without the key and number, which stand in the record at `named_in`.
#[derive(Clone, Debug)]
pub(crate) struct RowHead {
    pub(crate) row: ExceptionRow,
    pub(crate) named_in: Option<Kept>,
}

/// An order as memory shows it; its record's head says the rest.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    view: OrderView,
    /// Where that head is.
    pub(crate) kept: Kept,
    exact: bool,
}

impl Sight {
    /// The order.
    pub(crate) fn sequence(&self) -> u64 {
        self.view.sequence
    }

    /// The whole view. Without the head (its record is damaged) the order is shown all the same, with no number, version
    /// or fingerprint, and the times to the second.
    pub(crate) fn with(self, head: Option<&Head>) -> OrderView {
        let mut view = self.view;
        let Some(head) = head else { return view };
        view.number.clone_from(&head.number);
        view.version = head.content.version;
        view.fingerprint = head.content.fingerprint;
        view.synthetic = head.content.synthetic;
        if !self.exact {
            view.accepted_at_ms = head.first_accepted_at_ms;
        }
        if view.state == OrderState::Recorded {
            view.settled_at_ms = Some(head.accepted_at_ms);
        }
        view
    }
}

impl State {
    /// What memory knows of an order.
    pub(crate) fn view(&self, key: &OrderKey) -> Option<Sight> {
        let sequence = self.find(self.hash_of_key(key))?;
        let order = self.get(sequence)?;
        let detail = self.detail(sequence);
        let exact = detail.and_then(|detail| detail.accepted_at_ms);
        let settled = self.settled_as(&order);
        let ended_at_ms = detail.and_then(|detail| detail.ended_at_ms).filter(|_| order.ended());
        let view = OrderView {
            key: key.clone(),
            sequence,
            number: String::new(),
            state: order.state,
            hold: order.hold,
            accepted_at_ms: exact.unwrap_or(i64::from(order.accepted_at_s) * 1_000),
            settled_at_ms: settled.as_ref().map(|(at_ms, _)| *at_ms).or(ended_at_ms),
            version: None,
            fingerprint: Fingerprint([0; 16]),
            attempts: order.attempts,
            not_before_ms: order.not_before.map(|time| time.at_ms),
            summary_id: settled.map(|(_, id)| id).filter(|id| !id.is_empty()),
            position: self.queue.position(sequence),
            exceptions: self.rows.ids_of(sequence).to_vec(),
            synthetic: false,
        };
        Some(Sight { view, kept: order.kept, exact: exact.is_some() })
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
            let gone = order.ended() && order.kept.bytes == 0;
            return (!gone).then_some(order.kept);
        }
        let row = self.rows.get(sequence)?;
        row.body.map(|body| body.kept).or_else(|| self.kept(row.order))
    }

    /// Whether an open exception has that id.
    pub(crate) fn has_row(&self, id: u64) -> bool {
        self.rows.get(id).is_some()
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
        let named_in = row.body.map(|body| body.kept).or_else(|| self.kept(row.order));
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
                .map(|order| now_ms.saturating_sub(i64::from(order.accepted_at_s) * 1_000).max(0)),
            delayed: self.queue.delayed_len(),
            money_waiting: self.counts.money(),
            look_first_until_ms: Some(self.look_first().until_ms).filter(|until| *until >= now_ms),
            ..Status::default()
        }
    }
}
