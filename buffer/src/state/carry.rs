//! Which orders and rows hang on which journal segment, and what must be written anew before it may go.

use std::collections::BTreeMap;

use super::order::{Kept, Order};
use super::{Outcome, State};
use crate::control::Control;
use crate::record::{Delivery, Record, Snapshot};

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

/// What hangs on each segment.
#[derive(Debug, Default)]
pub(super) struct Segments {
    by_epoch: BTreeMap<u64, Hanging>,
}

#[derive(Debug, Default)]
struct Hanging {
    orders: Vec<u64>,
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
        let hanging = self.by_epoch.entry(epoch).or_default();
        hanging.live_bytes = hanging.live_bytes.saturating_add(bytes);
    }

    pub(super) fn remove_bytes(&mut self, epoch: u64, bytes: u64) {
        if let Some(hanging) = self.by_epoch.get_mut(&epoch) {
            hanging.live_bytes = hanging.live_bytes.saturating_sub(bytes);
        }
    }

    pub(super) fn list_order(&mut self, epoch: u64, sequence: u64) {
        self.by_epoch.entry(epoch).or_default().orders.push(sequence);
    }

    pub(super) fn list_row(&mut self, epoch: u64, id: u64) {
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

    /// What must be carried forward out of `epoch` (and every older one) now, at most about `limit` things; none
    /// when it holds only outcomes. Cancelled and discarded orders that ended before `horizon_ms` are dropped.
    pub(crate) fn carry_from(&mut self, epoch: u64, limit: usize, horizon_ms: i64) -> Vec<Carry> {
        let mut carry = Vec::new();
        let (mut orders, mut rows) = (Vec::new(), Vec::new());
        for hanging in self.segments.by_epoch.range(..=epoch).map(|(_, hanging)| hanging) {
            orders.extend(hanging.orders.iter().copied());
            rows.extend(hanging.rows.iter().copied());
        }
        for sequence in orders {
            if carry.len() >= limit {
                break;
            }
            let Some(order) = self.get(sequence).filter(|order| order.anchor <= epoch) else {
                continue;
            };
            let rows = self.rows.of(sequence).filter(|(_, row)| row.travels());
            let rows = rows.map(|(id, row)| (id, row.body.map(|body| body.kept)));
            let rows: Vec<_> = rows.collect();
            if order.indexable() {
                // The order goes to the index; rows that came of it get a record of their own first.
                carry.extend(rows.into_iter().map(|(id, kept)| Carry::Row { id, kept }));
                continue;
            }
            let ended_at = self.endings.get(&sequence).map(|ending| ending.at_ms);
            let past = order.ended() && ended_at.is_some_and(|at| at < horizon_ms);
            let past = past || (order.ended() && Control::ForgottenDiscards.is_on());
            if past && self.rows.ids_of(sequence).is_empty() {
                self.forget(sequence);
                continue;
            }
            carry.push(Carry::Order {
                sequence,
                kept: order.content.kept,
                parked: self.parked.get(&sequence).map(|parked| parked.content.kept),
                with_body: !order.ended(),
                rows,
            });
        }
        for id in rows {
            if carry.len() >= limit {
                break;
            }
            let row = self.rows.get(id).filter(|row| row.anchor <= epoch && !row.travels());
            if let Some(row) = row {
                carry.push(Carry::Row { id, kept: row.body.map(|body| body.kept) });
            }
        }
        carry
    }

    /// The record that carries an order forward; `delivery` is its current content as kept.
    pub(crate) fn moved_record(&self, sequence: u64, mut delivery: Delivery) -> Option<Record> {
        let order = self.get(sequence)?;
        // What the order is known by now, where it differs from what the delivery said.
        delivery.envelope.version = order.content.version;
        if let Some(ending) = self.endings.get(&sequence).filter(|_| order.ended()) {
            // When it ended, for the horizon; when it was accepted stands in the snapshot.
            delivery.accepted_at_ms = ending.at_ms;
        }
        let earlier = self.earlier.get(&sequence);
        let snapshot = Snapshot {
            state: order.state,
            first_accepted_at_ms: order.accepted_at_ms,
            attempts: order.attempts,
            sent_before: order.sent_before,
            not_before_ms: order.not_before_ms,
            ticket: self.tickets.get(&sequence).cloned(),
            earlier: earlier.into_iter().flatten().map(|fingerprint| fingerprint.0).collect(),
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
        let parked = self.parked.get(&sequence)?;
        Some(if parked.cancel {
            Record::Cancel { order: sequence, parked: true, delivery }
        } else {
            Record::Replace { order: sequence, parked: true, delivery }
        })
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

    /// Outcomes that go to the index when everything up to `epoch` retires, by hash.
    pub(crate) fn outcomes_of(&self, epoch: u64) -> Vec<(u128, Outcome)> {
        let hanging = self.segments.by_epoch.range(..=epoch);
        let orders = hanging.flat_map(|(_, hanging)| hanging.orders.iter());
        let mut outcomes = Vec::new();
        for sequence in orders {
            let order = self.get(*sequence);
            let Some(order) = order.filter(|order| order.anchor <= epoch && order.indexable())
            else {
                continue;
            };
            let ending = self.endings.get(sequence).cloned().unwrap_or_default();
            let newest = self.newest.get(sequence).copied();
            outcomes.push((
                order.hash,
                Outcome {
                    sequence: *sequence,
                    state: order.state,
                    version: order.content.version,
                    newest,
                    fingerprint: order.content.fingerprint,
                    fingerprint_version: order.content.fingerprint_version,
                    earlier: self.earlier.get(sequence).cloned().unwrap_or_default(),
                    accepted_at_ms: order.accepted_at_ms,
                    settled_at_ms: ending.at_ms,
                    attempts: order.attempts,
                    synthetic: order.content.synthetic,
                    summary_id: ending.summary_id,
                },
            ));
        }
        outcomes
    }

    /// What changes in segments up to `epoch` add to outcomes the index has; `find` looks there.
    pub(crate) fn late_outcomes_of(
        &self,
        epoch: u64,
        find: impl Fn(u128) -> Option<Outcome>,
    ) -> Vec<(u128, Outcome)> {
        let late = self.late.iter().filter(|(_, late)| late.anchor <= epoch);
        let merged = late.filter_map(|(order, late)| {
            let mut outcome = find(late.hash).filter(|outcome| outcome.sequence == *order)?;
            outcome.newest = outcome.newest.max(late.newest);
            let new = late.fingerprints.iter().filter(|new| !outcome.earlier.contains(new));
            outcome.earlier.extend(new.copied().collect::<Vec<_>>());
            Some((late.hash, outcome))
        });
        merged.collect()
    }

    /// Ended orders by state since the store was created, for the checkpoint.
    pub(crate) fn ended_codes(&self) -> Vec<(u8, u64)> {
        self.counts.ended_codes()
    }

    /// Everything up to `epoch` is retired: its outcomes live in the index from now on.
    pub(crate) fn retired(&mut self, epoch: u64) {
        let younger = self.segments.by_epoch.split_off(&epoch.saturating_add(1));
        let retired = std::mem::replace(&mut self.segments.by_epoch, younger);
        self.late.retain(|_, late| late.anchor > epoch);
        for sequence in retired.into_values().flat_map(|hanging| hanging.orders) {
            let gone =
                self.get(sequence).is_some_and(|order| order.anchor <= epoch && order.indexable());
            if gone {
                self.forget(sequence);
            }
        }
    }
}
