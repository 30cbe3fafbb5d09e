//! What the records come to: the buffer's state, in memory, pure. No I/O and no clock; time comes in.
//!
//! State is the fold of the durable records ([`State::apply`]), plus what only this process knows: the
//! loans ([`State::lend`], [`State::verdict`]). Both backends stand on it. A backend asks what a command comes to
//! ([`State::judge`], [`State::check_act`], ...), makes the resulting record durable, and only then applies it; so
//! whatever is read here is durable.
//!
//! An order is named by the sequence of the record that first accepted it. A body that occupies no key
//! (recorded, unreadable, only an id) is kept as an order too, under the hash of its content.
//!
//! An order that simply waits takes about 47 bytes (as its tests count them): a slot of 40 ([`slab`]),
//! and about 6.5 in the table of keys ([`keys`]). What its record on the disk
//! says (fingerprint, version, exact times) is not kept; a backend reads the record's [`Head`] when the key is hit. What
//! is out of the ordinary stands in ordered maps beside. Nothing here is ever copied to grow.

mod again;
mod apply;
mod carry;
mod count;
mod endings;
mod judge;
mod keys;
mod loan;
mod look_first;
mod moved;
mod news;
mod order;
mod outcome;
mod pace;
mod pack;
mod queue;
mod row;
mod sequences;
mod slab;
mod telling;
#[cfg(test)]
mod tests;
mod ticket;
mod view;
mod whole;

use std::collections::BTreeMap;

use forebay_order::{Fingerprint, HoldReason, OrderKey, Readiness, RecordedAs};

pub(crate) use again::Summarised;
pub(crate) use carry::{Carry, Ended};
pub(crate) use judge::Judged;
pub(crate) use loan::{Acting, DAMAGED, Loan};
pub(crate) use news::News;
pub(crate) use order::{Before, Head, Kept};
pub(crate) use outcome::Outcome;
pub(crate) use pace::Meter;
pub(crate) use view::{RowHead, Sight};
pub(crate) use whole::{Numbered, content_among};

use crate::digest::{KeyHasher, Plain};
use crate::record::Record;
use crate::{Envelope, OrderState, rules};
use carry::Segments;
use count::Counts;
use endings::Endings;
use keys::Keys;
use loan::Loans;
use look_first::LookFirst;
use news::Heard;
use order::{Detail, NotBefore, Order};
use pack::Flags;
use queue::Queue;
use row::{Row, Rows};
use slab::Slab;
use ticket::Tickets;

/// Fingerprints of earlier versions remembered per order; a repeat of an even older one is stale by its
/// version, or a conflict.
const EARLIER_MAX: usize = 64;

/// An acceptance time further ahead of now than this is not followed: it came from a clock that was wrong.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// The fold of the records, and the loans.
#[derive(Debug)]
pub(crate) struct State {
    hasher: KeyHasher,
    slab: Slab,
    keys: Keys,
    details: BTreeMap<u64, Detail>,
    not_before: BTreeMap<u64, NotBefore>,
    endings: Endings,
    tickets: Tickets,
    /// Changes of orders of which only the outcome is kept, on their way to it.
    late: BTreeMap<u64, Late>,
    rows: Rows,
    queue: Queue,
    loans: Loans,
    counts: Counts,
    segments: Segments,
    policies: BTreeMap<String, Policy>,
    look_first: LookFirst,
    last_accepted_ms: i64,
    /// What records made of orders, if anybody listens.
    heard: Option<Heard>,
    /// True while records of an earlier process are applied: only then do loans come from records.
    replaying: bool,
}

/// What changes that came too late add to an outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late {
    pub(crate) hash: u128,
    fingerprints: Vec<Fingerprint>,
    newest: Option<u64>,
    anchor: u64,
}

impl Late {
    /// Adds them to the outcome.
    pub(crate) fn merge(&self, outcome: &mut Outcome) {
        outcome.newest = outcome.newest.max(self.newest);
        let new = self.fingerprints.iter().filter(|new| !outcome.earlier.contains(new));
        let new: Vec<_> = new.copied().collect();
        outcome.earlier.extend(new);
    }
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
        Self::hashing(KeyHasher::new(secret))
    }

    /// The same with the hasher of that secret, for a backend that makes many.
    pub(crate) fn hashing(hasher: KeyHasher) -> Self {
        Self {
            hasher,
            slab: Slab::default(),
            keys: Keys::default(),
            details: BTreeMap::new(),
            not_before: BTreeMap::new(),
            endings: Endings::default(),
            tickets: Tickets::default(),
            late: BTreeMap::new(),
            rows: Rows::default(),
            queue: Queue::default(),
            loans: Loans::default(),
            counts: Counts::default(),
            segments: Segments::default(),
            policies: BTreeMap::new(),
            look_first: LookFirst::default(),
            last_accepted_ms: i64::MIN,
            heard: None,
            replaying: true,
        }
    }

    /// Makes the hashes.
    pub(crate) fn hasher(&self) -> KeyHasher {
        self.hasher
    }

    /// The hash an order's key is known by.
    pub(crate) fn hash_of_key(&self, key: &OrderKey) -> u128 {
        self.hasher.of_key(key)
    }

    /// The hash a delivery is known by: of its key, or of its content where it occupies no key.
    pub(crate) fn hash_of(&self, envelope: &Envelope) -> u128 {
        self.hasher.of(envelope)
    }

    /// For a delivery that says its order failed at the source: the hash of the order it may concern.
    pub(crate) fn hash_of_failed(&self, envelope: &Envelope) -> Option<u128> {
        let failed = envelope.readiness == Readiness::Recorded(RecordedAs::Failed);
        failed.then(|| self.hash_of_key(&envelope.key))
    }

    /// Makes a delivery that says its order failed at the source hold that order, if there is one. `outcome` is what the
    /// index knows of [`State::hash_of_failed`], where memory knows nothing.
    pub(crate) fn hold_failed(&self, envelope: &mut Envelope, outcome: Option<OrderState>) {
        let Some(hash) = self.hash_of_failed(envelope) else { return };
        let in_memory = self.find(hash).and_then(|sequence| self.get(sequence));
        let known = in_memory.map(|order| order.state).or(outcome);
        if known.is_some_and(|state| rules::failed_at_source(envelope.readiness, state)) {
            envelope.readiness = Readiness::Held(HoldReason::FailedAtSource);
        }
    }

    /// The order of that hash, if it is in memory.
    pub(crate) fn find(&self, hash: u128) -> Option<u64> {
        self.keys.find(hash, &self.slab)
    }

    /// When a delivery that comes now is accepted: never before its predecessor, unless that is more than an hour ahead. Then
    /// the clock was wrong, and its error must not stamp every later order.
    pub(crate) fn accepted_at(&self, now_ms: i64) -> i64 {
        let last_ms = self.last_accepted_ms;
        let believed = last_ms <= now_ms.saturating_add(AHEAD_MAX_MS);
        if believed { now_ms.max(last_ms) } else { now_ms }
    }

    /// Where the current content of an order is kept.
    pub(crate) fn kept(&self, sequence: u64) -> Option<Kept> {
        self.get(sequence).map(|order| order.kept)
    }

    fn get(&self, sequence: u64) -> Option<Order> {
        let slot = self.slab.get(sequence)?;
        let detail = slot.has_detail.then(|| self.details.get(&sequence)).flatten();
        let delayed = Flags::of(slot).has(Flags::DELAYED);
        let not_before = delayed.then(|| self.not_before.get(&sequence).copied()).flatten();
        Some(pack::unpack(sequence, slot, detail, not_before))
    }

    fn detail(&self, sequence: u64) -> Option<&Detail> {
        let slot = self.slab.get(sequence)?;
        slot.has_detail.then(|| self.details.get(&sequence)).flatten()
    }

    /// The detail of an order in memory, made if need be.
    fn detail_mut(&mut self, sequence: u64) -> Option<&mut Detail> {
        self.slab.get_mut(sequence)?.has_detail = true;
        Some(self.details.entry(sequence).or_default())
    }

    /// The detail of an order, if it has one.
    fn detail_if(&mut self, sequence: u64) -> Option<&mut Detail> {
        self.details.get_mut(&sequence)
    }

    /// Changes one order and everything that is counted or queued by it.
    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut Order)) {
        let Some(before) = self.get(sequence) else { return };
        let mut order = before.clone();
        change(&mut order);
        if order == before {
            return;
        }
        self.queue.leave(sequence, &before);
        self.counts.leave(&before);
        self.segments.leave(&before);
        if before.not_before.is_some() {
            self.not_before.remove(&sequence);
        }
        self.put(sequence, &order);
        self.queue.enter(sequence, &order);
        self.counts.enter(&order);
        self.segments.enter(&order);
    }

    /// Packs an order that has a slot.
    fn put(&mut self, sequence: u64, order: &Order) {
        let anchor = (order.anchor != order.kept.epoch()).then_some(order.anchor);
        let wide = match order.worth {
            order::Worth::Wide(code, units) => Some(Box::new((code, units))),
            _ => None,
        };
        let mut has_detail = self.detail(sequence).is_some();
        if has_detail || anchor.is_some() || wide.is_some() {
            has_detail = true;
            let detail = self.details.entry(sequence).or_default();
            (detail.anchor, detail.wide) = (anchor, wide);
        }
        if let Some(time) = order.not_before {
            self.not_before.insert(sequence, time);
        }
        if let Some(slot) = self.slab.get_mut(sequence) {
            *slot = pack::pack(order, has_detail);
        }
    }

    /// Takes in an order that is not in memory; `moved`: it was carried forward out of the segment it was accepted in.
    fn insert(&mut self, sequence: u64, order: &Order, moved: bool) {
        if self.slab.get(sequence).is_some() {
            return;
        }
        // A later order of the key takes the earlier one's place in the table.
        if let Some(earlier) = self.find(order.hash) {
            self.keys.remove(order.hash, earlier);
        }
        self.slab.insert(sequence, pack::pack(order, false));
        self.keys.insert(order.hash, sequence, &self.slab);
        if order.not_before.is_some()
            || order.anchor != order.kept.epoch()
            || matches!(order.worth, order::Worth::Wide(..))
        {
            self.put(sequence, order);
        }
        self.queue.enter(sequence, order);
        self.counts.enter(order);
        self.segments.enter(order);
        self.segments.list_order(order.anchor, sequence, moved);
    }

    /// What the journal's index would say of a record.
    pub(crate) fn plain(&self, record: &Record) -> Option<Plain> {
        Plain::of(record, &self.hasher)
    }

    /// Takes in the record of a new order from the journal's index, where [`Plain`] says all that memory needs.
    pub(crate) fn apply_indexed(&mut self, sequence: u64, kept: Kept, plain: &Plain) {
        let accepted_at_ms = i64::from(plain.accepted_at_s) * 1_000;
        self.last_accepted_ms = self.last_accepted_ms.max(accepted_at_ms);
        self.hear(sequence);
        self.insert(sequence, &Order::plain(kept, plain), false);
        self.tell_standing(sequence, None, accepted_at_ms);
    }

    /// Drops an order from memory; its count among the ended stays.
    fn forget(&mut self, sequence: u64) {
        let Some(order) = self.get(sequence) else { return };
        self.untie_ticket(sequence);
        self.queue.leave(sequence, &order);
        self.segments.leave(&order);
        self.keys.forget(order.hash, sequence);
        if self.slab.get(sequence).is_some_and(|slot| slot.has_detail) {
            self.details.remove(&sequence);
        }
        if order.not_before.is_some() {
            self.not_before.remove(&sequence);
        }
        self.slab.remove(sequence);
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
        let Some(detail) = self.detail_mut(order) else { return };
        if !detail.earlier.contains(&fingerprint) {
            if detail.earlier.len() >= EARLIER_MAX {
                detail.earlier.remove(0);
            }
            detail.earlier.push(fingerprint);
        }
    }

    fn forget_earlier(&mut self, order: u64, fingerprint: Fingerprint) {
        if let Some(detail) = self.detail_if(order) {
            detail.earlier.retain(|other| *other != fingerprint);
        }
    }

    fn parked(&self, order: u64) -> Option<&order::Parked> {
        self.detail(order)?.parked.as_deref()
    }
}
