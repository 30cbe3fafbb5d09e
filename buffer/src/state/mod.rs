//! What the records come to: the buffer's state, in memory, pure. No I/O and no clock; time comes in.
//!
//! State is the fold of the durable records ([`State::apply`]), plus what only this process knows: the
//! loans ([`State::lend`], [`State::verdict`]). Both backends stand on it. A backend asks what a command comes to
//! ([`State::judge`], [`State::check_act`], ...), makes the resulting record durable, and only then applies it; so
//! whatever is read here is durable.
//!
//! An order is named by the sequence of the record that first accepted it. A body that occupies no key
//! (recorded, unreadable, only an id) is kept as an order too, under the hash of its content.

mod apply;
mod carry;
mod count;
mod judge;
mod loan;
mod order;
mod outcome;
mod pace;
mod queue;
mod row;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;

use forebay_order::{Fingerprint, HoldReason, OrderKey, Readiness, RecordedAs};
use hashbrown::{HashMap, HashTable};

pub(crate) use carry::Carry;
pub(crate) use judge::Judged;
pub(crate) use loan::{Acting, DAMAGED, Loan};
pub(crate) use order::Kept;
pub(crate) use outcome::Outcome;
pub(crate) use pace::Meter;
pub(crate) use view::RowHead;

use crate::digest::KeyHasher;
use crate::{Envelope, OrderState, rules};
use carry::Segments;
use count::Counts;
use loan::Loans;
use order::{Ending, Order, Parked};
use queue::Queue;
use row::{Row, Rows};

/// Fingerprints of earlier versions remembered per order; a repeat of an even older one is stale by its
/// version, or a conflict.
const EARLIER_MAX: usize = 64;

/// The fold of the records, and the loans.
#[derive(Debug)]
pub(crate) struct State {
    hasher: KeyHasher,
    orders: HashMap<u64, Order>,
    keys: HashTable<(u128, u64)>,
    earlier: HashMap<u64, Vec<Fingerprint>>,
    parked: HashMap<u64, Parked>,
    tickets: HashMap<u64, String>,
    endings: HashMap<u64, Ending>,
    /// Newest version of a change that came too late.
    newest: HashMap<u64, u64>,
    /// Changes of orders of which only the outcome is kept, on their way to it.
    late: HashMap<u64, Late>,
    rows: Rows,
    queue: Queue,
    loans: Loans,
    counts: Counts,
    segments: Segments,
    policies: BTreeMap<String, Policy>,
    last_accepted_ms: i64,
    /// True while records of an earlier process are applied: only then do loans come from records.
    replaying: bool,
}

/// What changes that came too late add to an outcome.
#[derive(Clone, Debug, Default)]
struct Late {
    hash: u128,
    fingerprints: Vec<Fingerprint>,
    newest: Option<u64>,
    anchor: u64,
}

#[derive(Clone, Debug)]
struct Policy {
    value: Vec<u8>,
    at_ms: i64,
    anchor: u64,
}

impl State {
    /// An empty state. The store's secret keys the hashes, so that nobody outside can make two keys collide.
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self {
            hasher: KeyHasher::new(secret),
            orders: HashMap::new(),
            keys: HashTable::new(),
            earlier: HashMap::new(),
            parked: HashMap::new(),
            tickets: HashMap::new(),
            endings: HashMap::new(),
            newest: HashMap::new(),
            late: HashMap::new(),
            rows: Rows::default(),
            queue: Queue::default(),
            loans: Loans::default(),
            counts: Counts::default(),
            segments: Segments::default(),
            policies: BTreeMap::new(),
            last_accepted_ms: i64::MIN,
            replaying: true,
        }
    }

    /// The hash an order's key is known by.
    pub(crate) fn hash_of_key(&self, key: &OrderKey) -> u128 {
        self.hasher.of_key(key)
    }

    /// The hash a delivery is known by: of its key, or of its content where it occupies no key.
    pub(crate) fn hash_of(&self, envelope: &Envelope) -> u128 {
        self.hasher.of(envelope)
    }

    /// Makes a delivery that says its order failed at the source hold that order, if there is one. `outcome`
    /// looks a key's hash up in the index.
    pub(crate) fn hold_failed(
        &self,
        envelope: &mut Envelope,
        outcome: impl FnOnce(u128) -> Option<OrderState>,
    ) {
        if envelope.readiness != Readiness::Recorded(RecordedAs::Failed) {
            return;
        }
        let hash = self.hash_of_key(&envelope.key);
        let in_memory = self.find(hash).and_then(|sequence| self.get(sequence));
        let known = in_memory.map(|order| order.state).or_else(|| outcome(hash));
        if known.is_some_and(|state| rules::failed_at_source(envelope.readiness, state)) {
            envelope.readiness = Readiness::Held(HoldReason::FailedAtSource);
        }
    }

    /// The order of that hash, if it is in memory.
    pub(crate) fn find(&self, hash: u128) -> Option<u64> {
        let entry = self.keys.find(table_hash(hash), |(other, _)| *other == hash);
        entry.map(|(_, sequence)| *sequence)
    }

    /// When a delivery that comes now is accepted: never before its predecessor.
    pub(crate) fn accepted_at(&self, now_ms: i64) -> i64 {
        now_ms.max(self.last_accepted_ms)
    }

    fn get(&self, sequence: u64) -> Option<&Order> {
        self.orders.get(&sequence)
    }

    /// Changes one order and everything that is counted or queued by it.
    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut Order)) {
        let Some(order) = self.orders.get_mut(&sequence) else { return };
        self.queue.leave(sequence, order);
        self.counts.leave(order);
        self.segments.leave(order);
        change(order);
        self.queue.enter(sequence, order);
        self.counts.enter(order);
        self.segments.enter(order);
    }

    fn insert(&mut self, sequence: u64, order: Order) {
        if self.orders.contains_key(&sequence) {
            return;
        }
        let hash = order.hash;
        if let Ok(occupied) = self.keys.find_entry(table_hash(hash), |(other, _)| *other == hash) {
            occupied.remove();
        }
        self.keys.insert_unique(table_hash(hash), (hash, sequence), |(hash, _)| table_hash(*hash));
        self.queue.enter(sequence, &order);
        self.counts.enter(&order);
        self.segments.enter(&order);
        self.segments.list_order(order.anchor, sequence);
        self.orders.insert(sequence, order);
    }

    /// Drops an order from memory; its count among the ended stays.
    fn forget(&mut self, sequence: u64) {
        let Some(order) = self.orders.remove(&sequence) else { return };
        self.queue.leave(sequence, &order);
        self.segments.leave(&order);
        let hash = order.hash;
        let entry = self.keys.find_entry(table_hash(hash), |entry| *entry == (hash, sequence));
        if let Ok(occupied) = entry {
            occupied.remove();
        }
        self.earlier.remove(&sequence);
        self.parked.remove(&sequence);
        self.tickets.remove(&sequence);
        self.endings.remove(&sequence);
        self.newest.remove(&sequence);
    }

    fn add_row(&mut self, id: u64, row: Row) {
        let (anchor, bytes) = (row.anchor, row.live_bytes());
        if let Some(old) = self.rows.insert(id, row) {
            self.segments.remove_bytes(old.anchor, old.live_bytes());
        }
        self.segments.add_bytes(anchor, bytes);
        self.segments.list_row(anchor, id);
    }

    fn close_row(&mut self, id: u64) -> Option<Row> {
        let row = self.rows.remove(id)?;
        self.segments.remove_bytes(row.anchor, row.live_bytes());
        Some(row)
    }

    fn close_own_rows(&mut self, order: u64) {
        let own = self.rows.of(order).filter(|(_, row)| row.is_own()).map(|(id, _)| id);
        for id in own.collect::<Vec<_>>() {
            self.close_row(id);
        }
    }

    fn remember(&mut self, order: u64, fingerprint: Fingerprint) {
        let earlier = self.earlier.entry(order).or_default();
        if !earlier.contains(&fingerprint) {
            if earlier.len() >= EARLIER_MAX {
                earlier.remove(0);
            }
            earlier.push(fingerprint);
        }
    }

    fn forget_earlier(&mut self, order: u64, fingerprint: Fingerprint) {
        if let Some(earlier) = self.earlier.get_mut(&order) {
            earlier.retain(|other| *other != fingerprint);
        }
    }
}

/// The half of a hash that the table goes by.
fn table_hash(hash: u128) -> u64 {
    let [low @ .., _, _, _, _, _, _, _, _] = hash.to_le_bytes();
    u64::from_le_bytes(low)
}
