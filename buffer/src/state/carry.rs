//! Which orders and rows hang on which journal segment, and what must be written anew before it may go.

use std::collections::BTreeMap;

use forebay_order::Fingerprint;

use super::order::{Head, Kept, Order};
use super::row::Row;
use super::{Outcome, State};
use crate::OrderState;
use crate::control::Control;
use crate::record::{Delivery, Record, Snapshot};

/// No segment: what is kept by a backend without a journal hangs on none.
pub(super) const NOWHERE: u64 = 0;

/// Orders looked at in one go.
const LOOKED_AT: usize = 1_024;

/// One thing to be carried forward out of a segment.
#[derive(Clone, Debug)]
pub(crate) enum Carry {
    /// An order, with the content that waits for its loan to end, if any, and the rows that travel with it.
    Order {
        sequence: u64,
        kept: Kept,
        parked: Option<Kept>,
        with_body: bool,
        rows: Vec<(u64, Option<Kept>)>,
    },
    /// An exception row, with its own body, if it has one.
    Row { id: u64, kept: Option<Kept> },
}

/// An order whose outcome goes to the index, and all of it that its record does not say.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) hash: u128,
    pub(crate) sequence: u64,
    pub(crate) kept: Kept,
    state: OrderState,
    attempts: u8,
    newest: Option<u64>,
    earlier: Vec<Fingerprint>,
    /// When it was settled, and the OMS's id; `None` for what was only recorded.
    settled: Option<(i64, String)>,
    first_accepted_at_ms: Option<i64>,
}

impl Ended {
    /// The outcome, with what its record says.
    pub(crate) fn outcome(&self, head: &Head) -> Outcome {
        let settled = self.settled.clone();
        let (settled_at_ms, summary_id) =
            settled.unwrap_or_else(|| (head.accepted_at_ms, String::new()));
        Outcome {
            sequence: self.sequence,
            state: self.state,
            version: head.content.version,
            newest: self.newest,
            fingerprint: head.content.fingerprint,
            fingerprint_version: head.content.fingerprint_version,
            earlier: self.earlier.clone(),
            accepted_at_ms: self.first_accepted_at_ms.unwrap_or(head.first_accepted_at_ms),
            settled_at_ms,
            attempts: self.attempts,
            synthetic: head.content.synthetic,
            summary_id,
        }
    }
}

/// What hangs on each segment.
#[derive(Debug, Default)]
pub(super) struct Segments {
    by_epoch: BTreeMap<u64, Hanging>,
}

#[derive(Debug, Default)]
struct Hanging {
    /// The orders that were accepted in it lie between these sequences.
    accepted: Option<(u64, u64)>,
    /// Older ones that came to hang on it.
    moved: Vec<u64>,
    rows: Vec<u64>,
    live_bytes: u64,
}

impl Segments {
    pub(super) fn enter(&mut self, order: &Order) {
        self.add_bytes(order.anchor, order.live_bytes());
    }

    pub(super) fn leave(&mut self, order: &Order) {
        self.remove_bytes(order.anchor, order.live_bytes());
    }

    pub(super) fn add_bytes(&mut self, epoch: u64, bytes: u64) {
        if epoch == NOWHERE {
            return;
        }
        let hanging = self.by_epoch.entry(epoch).or_default();
        hanging.live_bytes = hanging.live_bytes.saturating_add(bytes);
    }

    pub(super) fn remove_bytes(&mut self, epoch: u64, bytes: u64) {
        if let Some(hanging) = self.by_epoch.get_mut(&epoch) {
            hanging.live_bytes = hanging.live_bytes.saturating_sub(bytes);
        }
    }

    /// An order came to hang on a segment: accepted there, or `moved` there.
    pub(super) fn list_order(&mut self, epoch: u64, sequence: u64, moved: bool) {
        if epoch == NOWHERE {
            return;
        }
        let hanging = self.by_epoch.entry(epoch).or_default();
        if moved {
            hanging.moved.push(sequence);
            return;
        }
        hanging.accepted = match hanging.accepted {
            Some((first, last)) => Some((first.min(sequence), last.max(sequence))),
            None => Some((sequence, sequence)),
        };
    }

    pub(super) fn list_row(&mut self, epoch: u64, id: u64) {
        if epoch == NOWHERE {
            return;
        }
        self.by_epoch.entry(epoch).or_default().rows.push(id);
    }
}

impl State {
    /// Bytes that would have to be carried forward out of a segment now.
    pub(crate) fn live_bytes(&self, epoch: u64) -> u64 {
        self.segments.by_epoch.get(&epoch).map_or(0, |hanging| hanging.live_bytes)
    }

    /// The same for all segments.
    pub(crate) fn live_bytes_all(&self) -> u64 {
        self.segments.by_epoch.values().map(|hanging| hanging.live_bytes).sum()
    }

    /// Orders that may hang on `epoch` or an older one.
    fn hanging(&self, epoch: u64) -> impl Iterator<Item = u64> {
        self.segments.by_epoch.range(..=epoch).flat_map(|(_, hanging)| {
            let (first, last) = hanging.accepted.unwrap_or((1, 0));
            self.slab.range(first, last).chain(hanging.moved.iter().copied())
        })
    }

    /// The same as a list to be gone through from its end, oldest first.
    pub(crate) fn hanging_on(&self, epoch: u64) -> Vec<u64> {
        let mut orders: Vec<u64> = self.hanging(epoch).collect();
        orders.reverse();
        orders
    }

    /// What must be carried forward out of `epoch` (and every older one) now: goes through some of `orders`
    /// ([`State::hanging_on`]), and once they are through, the rows of their own. At most about `limit` things. Cancelled and
    /// discarded orders that ended before `horizon_ms` are dropped.
    pub(crate) fn carry_from(
        &mut self,
        epoch: u64,
        orders: &mut Vec<u64>,
        limit: usize,
        horizon_ms: i64,
    ) -> Vec<Carry> {
        let mut carry = Vec::new();
        for _ in 0..LOOKED_AT {
            if carry.len() >= limit {
                break;
            }
            let Some(sequence) = orders.pop() else { break };
            self.carry_order(epoch, sequence, horizon_ms, &mut carry);
        }
        if orders.is_empty() {
            let older = self.segments.by_epoch.range(..=epoch);
            let ids = older.flat_map(|(_, hanging)| hanging.rows.iter().copied());
            let rows = ids.filter_map(|id| {
                let row = self.rows.get(id).filter(|row| self.stays(row, epoch))?;
                Some(Carry::Row { id, kept: row.body.map(|body| body.kept) })
            });
            carry.extend(rows.take(limit.saturating_sub(carry.len())));
        }
        carry
    }

    fn carry_order(&mut self, epoch: u64, sequence: u64, horizon_ms: i64, carry: &mut Vec<Carry>) {
        let Some(order) = self.get(sequence).filter(|order| order.anchor <= epoch) else { return };
        let rows = self.rows.of(sequence).filter(|(_, row)| row.travels());
        let rows = rows.map(|(id, row)| (id, row.body.map(|body| body.kept)));
        let rows: Vec<_> = rows.collect();
        if order.indexable() {
            // The order goes to the index; rows that came of it get a record of their own first.
            carry.extend(rows.into_iter().map(|(id, kept)| Carry::Row { id, kept }));
            return;
        }
        let detail = self.detail(sequence);
        let ended_at = detail.and_then(|detail| detail.ended_at_ms);
        let over = order.ended() && ended_at.is_some_and(|at| at < horizon_ms);
        let over = over || (order.ended() && Control::ForgottenDiscards.is_on());
        if over && self.rows.ids_of(sequence).is_empty() {
            self.forget(sequence);
            return;
        }
        carry.push(Carry::Order {
            sequence,
            kept: order.kept,
            parked: self.parked(sequence).map(|parked| parked.content.kept),
            with_body: !order.ended(),
            rows,
        });
    }

    /// Whether an order is still as it was when it was to be carried forward.
    pub(crate) fn is_as(&self, carry: &Carry) -> bool {
        let Carry::Order { sequence, kept, parked, with_body, rows } = carry else { return false };
        let Some(order) = self.get(*sequence) else { return false };
        let now = self.parked(*sequence).map(|parked| parked.content.kept);
        let parked_same = match (parked, now) {
            (Some(then), Some(now)) => then.same_place(&now),
            (then, now) => then.is_none() && now.is_none(),
        };
        let travelling = self.rows.of(*sequence).filter(|(_, row)| row.travels());
        order.kept.same_place(kept)
            && parked_same
            && *with_body != order.ended()
            && !order.indexable()
            && travelling.map(|(id, _)| id).eq(rows.iter().map(|(id, _)| *id))
    }

    /// Whether a row is still there, and its body where it was.
    pub(crate) fn row_is_at(&self, id: u64, kept: Option<Kept>) -> bool {
        let Some(row) = self.rows.get(id) else { return false };
        match (row.body, kept) {
            (Some(body), Some(kept)) => body.kept.same_place(&kept),
            (body, kept) => body.is_none() && kept.is_none(),
        }
    }

    /// Whether a row hangs on `epoch` or an older one by itself: also one that came of its order's records there, once the order was
    /// written anew to be sent again and left it behind.
    fn stays(&self, row: &Row, epoch: u64) -> bool {
        let with_order = || self.get(row.order).is_some_and(|order| order.anchor <= epoch);
        row.anchor <= epoch && !(row.travels() && with_order())
    }

    /// Whether anything hangs on `epoch` or an older one.
    pub(crate) fn hangs(&self, epoch: u64) -> bool {
        let older = self.segments.by_epoch.range(..=epoch);
        let mut rows = older.flat_map(|(_, hanging)| hanging.rows.iter());
        let mut orders = self.hanging(epoch);
        rows.any(|id| self.rows.get(*id).is_some_and(|row| self.stays(row, epoch)))
            || orders.any(|order| self.get(order).is_some_and(|order| order.anchor <= epoch))
    }

    /// The record that carries an order forward; `delivery` is its current content as kept.
    pub(crate) fn moved_record(
        &self,
        sequence: u64,
        head: &Head,
        mut delivery: Delivery,
    ) -> Option<Record> {
        let order = self.get(sequence)?;
        let detail = self.detail(sequence);
        if let Some(ended_at_ms) = detail.and_then(|d| d.ended_at_ms).filter(|_| order.ended()) {
            // When it ended, for the horizon; when it was accepted stands in the snapshot.
            delivery.accepted_at_ms = ended_at_ms;
        }
        let exact = detail.and_then(|detail| detail.accepted_at_ms);
        let ticket = detail.and_then(|detail| detail.ticket.as_deref());
        let snapshot = Snapshot {
            state: order.state,
            first_accepted_at_ms: exact.unwrap_or(head.first_accepted_at_ms),
            attempts: order.attempts,
            sent_before: order.sent_before,
            not_before_ms: order.not_before.map(|time| time.at_ms),
            ticket: ticket.map(|ticket| ticket.text.to_string()),
            ticket_at_ms: ticket.and_then(|ticket| ticket.at_ms),
            earlier: detail.iter().flat_map(|d| &d.earlier).map(|f| f.0).collect(),
            newest: detail.and_then(|detail| detail.newest),
        };
        Some(Record::Moved { order: sequence, snapshot, delivery })
    }

    /// For an order that is lent out, or was when an earlier process died: the note of it, to follow its move.
    pub(crate) fn leased_again(&self, sequence: u64) -> Option<Record> {
        let order = self.get(sequence)?;
        let deaths = match (order.on_loan, order.deaths) {
            (true, deaths) => deaths,
            (false, 0) => return None,
            (false, deaths) => deaths - 1,
        };
        Some(Record::Leased { orders: vec![(sequence, deaths)] })
    }

    /// The record that carries an exception row forward.
    pub(crate) fn moved_row_record(&self, id: u64, delivery: Option<Delivery>) -> Option<Record> {
        let row = self.rows.get(id)?.snapshot();
        Some(Record::MovedRow { exception: id, row, delivery })
    }

    /// What waits for a loan to end, written anew.
    pub(crate) fn parked_record(&self, sequence: u64, delivery: Delivery) -> Option<Record> {
        let parked = self.parked(sequence)?;
        Some(if parked.cancel {
            Record::Cancel { order: sequence, parked: true, delivery }
        } else {
            Record::Replace { order: sequence, parked: true, delivery }
        })
    }

    /// What the newest standing order of a name says.
    pub(crate) fn policy(&self, name: &str) -> Option<&[u8]> {
        self.policies.get(name).map(|policy| policy.value.as_slice())
    }

    /// Standing orders whose record is in `epoch` or older, written anew.
    pub(crate) fn policies_to_carry(&self, epoch: u64) -> Vec<Record> {
        let old = self.policies.iter().filter(|(_, policy)| policy.anchor <= epoch);
        old.map(|(name, policy)| Record::Policy {
            name: name.clone(),
            value: policy.value.clone(),
            at_ms: policy.at_ms,
        })
        .collect()
    }

    /// Those among some orders whose outcome goes to the index when everything up to `epoch` retires.
    pub(crate) fn ended_among(
        &self,
        epoch: u64,
        orders: impl Iterator<Item = u64>,
    ) -> impl Iterator<Item = Ended> {
        orders.filter_map(move |sequence| {
            let order = self.get(sequence)?;
            (order.anchor <= epoch && order.indexable()).then(|| self.ended(sequence, &order))
        })
    }

    pub(super) fn ended(&self, sequence: u64, order: &Order) -> Ended {
        let detail = self.detail(sequence);
        Ended {
            hash: order.hash,
            sequence,
            kept: order.kept,
            state: order.state,
            attempts: order.attempts,
            newest: detail.and_then(|detail| detail.newest),
            earlier: detail.map(|detail| detail.earlier.clone()).unwrap_or_default(),
            settled: self.settled_as(order),
            first_accepted_at_ms: detail.and_then(|detail| detail.accepted_at_ms),
        }
    }

    /// When an order was settled, and the OMS's id; `None` unless it is summarised.
    pub(super) fn settled_as(&self, order: &Order) -> Option<(i64, String)> {
        self.endings.get(order.anchor, order.ending())
    }

    /// What changes in segments up to `epoch` add to outcomes the index has, by hash and order.
    pub(crate) fn late_of(&self, epoch: u64) -> Vec<(u64, super::Late)> {
        let late = self.late.iter().filter(|(_, late)| late.anchor <= epoch);
        late.map(|(order, late)| (*order, late.clone())).collect()
    }

    /// Ended orders by state since the store was created, for the checkpoint.
    pub(crate) fn ended_codes(&self) -> Vec<(u8, u64)> {
        self.counts.ended_codes()
    }

    /// Drops an order whose outcome is in the index, durable; the journal may still hold it.
    pub(crate) fn indexed(&mut self, sequence: u64) {
        if self.get(sequence).is_some_and(|order| order.indexable()) {
            self.forget(sequence);
        }
    }

    /// Everything up to `epoch` is retired: its outcomes live in the index from now on.
    pub(crate) fn retired(&mut self, epoch: u64) {
        let younger = self.segments.by_epoch.split_off(&epoch.saturating_add(1));
        self.segments.by_epoch = younger;
        self.late.retain(|_, late| late.anchor > epoch);
        self.endings.retire(epoch);
    }
}
