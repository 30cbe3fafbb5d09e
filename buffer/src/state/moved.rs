//! The fold of what was carried forward.

use forebay_order::{Fingerprint, Readiness};

use super::State;
use super::order::{Content, Kept, NotBefore, Order};
use super::row::{Row, RowBody};
use crate::OrderState;
use crate::record::{Delivery, RowSnapshot, Snapshot};

impl State {
    pub(super) fn moved(
        &mut self,
        order: u64,
        snapshot: &Snapshot,
        delivery: &Delivery,
        kept: Kept,
    ) {
        let Some(known) = self.get(order) else {
            self.rebuild(order, snapshot, delivery, kept);
            return;
        };
        if known.indexable() {
            if known.state == OrderState::Summarised && snapshot.state == OrderState::Submitted {
                self.again(order, delivery, kept);
            }
            return;
        }
        // What goes with a move (rows, a parked content, the note of a loan) may stand in a later group, and the
        // process may have died in between. So after a start the order hangs on where it is whole for certain.
        let anchor = if self.replaying { None } else { Some(kept.epoch()) };
        let lost = Content::of(delivery, kept).lost;
        self.change(order, |order| {
            order.kept = kept;
            order.lost = lost;
            order.anchor = anchor.unwrap_or(order.anchor);
        });
        if let Some(epoch) = anchor {
            self.segments.list_order(epoch, order, true);
        }
    }

    fn rebuild(&mut self, sequence: u64, snapshot: &Snapshot, delivery: &Delivery, kept: Kept) {
        let hash = self.hash_of(&delivery.envelope);
        let content = Content::of(delivery, kept);
        let mut order = Order::new(hash, &content, snapshot.first_accepted_at_ms);
        order.attempts = snapshot.attempts;
        order.sent_before = snapshot.sent_before;
        let asked = snapshot.not_before_ms == content.not_before_ms;
        order.not_before = snapshot.not_before_ms.map(|at_ms| NotBefore { at_ms, asked });
        // A loan is over with the process that gave it; one under way is noted anew after the move.
        order.state = match snapshot.state {
            OrderState::Leased | OrderState::Submitted => order.waiting_state(),
            state => state,
        };
        self.insert(sequence, &order, true);
        if order.ended() {
            self.end(sequence, delivery.accepted_at_ms);
        }
        if let Some(ticket) = &snapshot.ticket {
            self.give_ticket(sequence, ticket, snapshot.ticket_at_ms);
        }
        if !snapshot.earlier.is_empty()
            && let Some(detail) = self.detail_mut(sequence)
        {
            detail.earlier = snapshot.earlier.iter().copied().map(Fingerprint).collect();
        }
        if snapshot.newest.is_some()
            && let Some(detail) = self.detail_mut(sequence)
        {
            detail.newest = snapshot.newest;
        }
    }

    pub(super) fn moved_row(
        &mut self,
        id: u64,
        row: &RowSnapshot,
        delivery: Option<&Delivery>,
        kept: Kept,
    ) {
        let body = delivery.map(|delivery| RowBody {
            kept,
            fingerprint: delivery.envelope.fingerprint,
            version: delivery.envelope.version,
            cancel: delivery.envelope.readiness == Readiness::Cancelled,
        });
        let row = Row {
            order: row.order.unwrap_or(id),
            category: row.category,
            reason: row.reason.clone(),
            raised_at_ms: row.raised_at_ms,
            attempts: row.attempts,
            body,
            anchor: kept.epoch(),
            derived: false,
        };
        self.add_row(id, row);
    }
}
