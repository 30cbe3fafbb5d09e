//! Orders that wait for a loan, in their order of service.

use std::collections::BTreeSet;

use super::order::Order;
use super::sequences::Sequences;

/// Oldest eligible first. An order that was lent out when the process died waits apart, so that it comes alone.
#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: Sequences,
    /// By time, then age.
    delayed: BTreeSet<(i64, u64)>,
    /// The delayed ones by age, for the age of the oldest.
    delayed_by_age: Sequences,
    /// By deaths, then age: the likely innocent first.
    suspects: BTreeSet<(u8, u64)>,
    /// Those the OMS has under a ticket, by when they are to be looked up, then age. Nothing of them is sent, so they neither stand in
    /// the way of others nor wait for them.
    ticketed: BTreeSet<(i64, u64)>,
}

impl Queue {
    /// Takes an order in, if it waits at all.
    pub(super) fn enter(&mut self, sequence: u64, order: &Order) {
        if !order.waits() {
            return;
        }
        if order.ticketed {
            self.ticketed.insert((look_at(order), sequence));
            return;
        }
        match (order.deaths, order.not_before) {
            (0, None) => self.ready.insert(sequence),
            (_, Some(time)) => {
                self.delayed.insert((time.at_ms, sequence));
                self.delayed_by_age.insert(sequence);
            }
            (deaths, None) => {
                self.suspects.insert((deaths, sequence));
            }
        }
    }

    /// Undoes [`Queue::enter`]; `order` is as it was then.
    pub(super) fn leave(&mut self, sequence: u64, order: &Order) {
        if !order.waits() {
            return;
        }
        if order.ticketed {
            self.ticketed.remove(&(look_at(order), sequence));
            return;
        }
        match (order.deaths, order.not_before) {
            (0, None) => self.ready.remove(sequence),
            (_, Some(time)) => {
                self.delayed.remove(&(time.at_ms, sequence));
                self.delayed_by_age.remove(sequence);
            }
            (deaths, None) => {
                self.suspects.remove(&(deaths, sequence));
            }
        }
    }

    /// A delayed order whose time has come.
    pub(super) fn due(&self, now_ms: i64) -> Option<u64> {
        self.delayed.first().filter(|(time, _)| *time <= now_ms).map(|(_, sequence)| *sequence)
    }

    /// When the next delayed order's time comes; of those under a ticket, or of the others.
    pub(super) fn next_due_ms(&self, ticketed: bool) -> Option<i64> {
        let orders = if ticketed { &self.ticketed } else { &self.delayed };
        orders.first().map(|(time, _)| *time)
    }

    /// Orders under a ticket that are to be looked up by now, longest due first.
    pub(super) fn to_look_up(&self, now_ms: i64) -> impl Iterator<Item = (i64, u64)> {
        self.ticketed.range(..=(now_ms, u64::MAX)).copied()
    }

    /// The suspect to try next.
    pub(super) fn suspect(&self) -> Option<u64> {
        self.suspects.first().map(|(_, sequence)| *sequence)
    }

    /// The oldest ready ones.
    pub(super) fn ready(&self) -> impl Iterator<Item = u64> {
        self.ready.iter()
    }

    /// Orders with a time before which they are not lent.
    pub(super) fn delayed(&self) -> impl Iterator<Item = u64> {
        self.delayed.iter().chain(&self.ticketed).map(|(_, sequence)| *sequence)
    }

    /// How many are delayed.
    pub(super) fn delayed_len(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// The oldest of all that wait to be sent.
    pub(super) fn oldest(&self) -> Option<u64> {
        let suspect = self.suspects.iter().map(|(_, sequence)| *sequence).min();
        let firsts = [self.ready.first(), self.delayed_by_age.first(), suspect];
        firsts.into_iter().flatten().min()
    }

    /// About how many ready orders come before this one, if it is ready.
    pub(super) fn position(&self, sequence: u64) -> Option<u64> {
        self.ready.contains(sequence).then(|| self.ready_before(sequence))
    }

    /// About how many ready orders come before that sequence, by where it stands between the oldest and the youngest.
    pub(super) fn ready_before(&self, sequence: u64) -> u64 {
        let (Some(first), Some(last)) = (self.ready.first(), self.ready.last()) else { return 0 };
        if sequence > last {
            return self.ready.len();
        }
        let before = u128::from(sequence.saturating_sub(first));
        let others = u128::from(self.ready.len().saturating_sub(1));
        u64::try_from(before * others / u128::from((last - first).max(1))).unwrap_or(u64::MAX)
    }

    /// Bytes the ready ones take.
    #[cfg(test)]
    pub(super) fn ready_bytes(&self) -> usize {
        self.ready.bytes()
    }
}

/// When an order under a ticket is to be looked up.
fn look_at(order: &Order) -> i64 {
    order.not_before.map_or(i64::MIN, |time| time.at_ms)
}
