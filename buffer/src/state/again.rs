//! Orders that are in the OMS, to be sent once more: it was restored from a backup, and may have lost them.

use super::State;
use super::order::{Content, Head, Kept};
use crate::OrderState;
use crate::record::{Delivery, Record};

/// Orders looked at in one go.
const LOOKED_AT: usize = 4_096;
/// Above every sequence.
const LAST: u64 = u64::MAX;

/// Some orders that are in the OMS.
#[derive(Debug, Default)]
pub(crate) struct Summarised {
    /// Each with where its content is, and when it was settled, in ms since 1970.
    pub(crate) orders: Vec<(u64, Kept, i64)>,
    /// There may be more after this sequence.
    pub(crate) next: Option<u64>,
}

impl State {
    /// Summarised orders that are in memory, with a sequence above `after`, settled at `since_ms` or later; at most `limit`.
    pub(crate) fn summarised_since(&self, since_ms: i64, after: u64, limit: usize) -> Summarised {
        let mut found = Summarised::default();
        let sequences = self.slab.range(after.saturating_add(1), LAST);
        for (looked_at, sequence) in (1..).zip(sequences) {
            if let Some(order) = self.get(sequence).filter(|o| o.state == OrderState::Summarised)
                && let Some((at_ms, _)) = self.settled_as(&order)
                && at_ms >= since_ms
                && order.kept.bytes > 0
            {
                found.orders.push((sequence, order.kept, at_ms));
            }
            if looked_at == LOOKED_AT || found.orders.len() >= limit {
                found.next = Some(sequence);
                break;
            }
        }
        found
    }

    /// The record that makes a summarised order wait for the drain once more, which looks it up first; `delivery` is its content as
    /// kept. `None` where it is not summarised any more.
    pub(crate) fn again_record(
        &self,
        sequence: u64,
        head: &Head,
        delivery: Delivery,
    ) -> Option<Record> {
        self.get(sequence).filter(|order| order.state == OrderState::Summarised)?;
        let mut record = self.moved_record(sequence, head, delivery)?;
        if let Record::Moved { snapshot, .. } = &mut record {
            snapshot.state = OrderState::Submitted;
            snapshot.sent_before = true;
            snapshot.attempts = 0;
            snapshot.not_before_ms = None;
        }
        Some(record)
    }

    /// The fold of it.
    pub(super) fn again(&mut self, sequence: u64, delivery: &Delivery, kept: Kept) {
        let content = Content::of(delivery, kept);
        let stood = self.standing(sequence);
        // As with what is carried forward: after a start it hangs on where it is whole for certain.
        let anchor = if self.replaying { None } else { Some(kept.epoch()) };
        self.change(sequence, |order| {
            order.take(&content);
            order.hold = None;
            order.not_before = None;
            order.attempts = 0;
            order.sent_before = true;
            order.state = order.waiting_state();
            order.anchor = anchor.unwrap_or(order.anchor);
        });
        if let Some(epoch) = anchor {
            self.segments.list_order(epoch, sequence, true);
        }
        self.tell_standing(sequence, stood, delivery.accepted_at_ms);
    }

    /// When the last order was settled that hangs on that segment or an older one, in ms since 1970.
    pub(crate) fn settled_last(&self, epoch: u64) -> Option<i64> {
        self.endings.newest_up_to(epoch)
    }
}
