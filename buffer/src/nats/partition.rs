//! One partition as this process holds it: while it is ours, all of its live orders, in the embedded buffer's scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::task::AbortHandle;

use super::page::Page;
use super::tenure::{EPOCH_AT, Lent, Tenure};
use crate::record::Record;
use crate::state::{Loan, State};
use crate::{OrderState, Verdict};

/// What the owner before would try again comes within so long: its wall clock may have been ahead of ours by any time.
const RETRY_MAX_MS: i64 = 60_000;

/// A share of the keys.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) number: u16,
    mine: Mutex<Option<Mine>>,
    /// Held while the owner's message is being replaced: each stands on the one before.
    pub(super) turn: tokio::sync::Mutex<()>,
    pending: AtomicU64,
    outstanding: AtomicU64,
}

/// A partition that is ours.
#[derive(Debug)]
pub(super) struct Mine {
    pub(super) epoch: u64,
    /// The sequence of our message.
    pub(super) row: u64,
    /// By the clock's elapsed time: past it another may have taken it over.
    pub(super) good_until: Duration,
    pub(super) state: State,
    /// What may have been sent, as the next message of ours says it.
    pub(super) lent: BTreeMap<u64, Lent>,
    /// Everything up to here must be read before it is complete; `None` once it was.
    loading_to: Option<u64>,
    /// How far the feed is.
    position: u64,
    /// How far it was in the last round, and for how many rounds it has not moved though there was something to read.
    unread: (u64, u32),
    /// What is known from elsewhere than the feed, which may bring something older.
    ahead: Ahead,
    /// The list has changed since our message was last replaced.
    pub(super) to_be_noted: bool,
    /// Keys of orders that were called off, or held, while they waited: their page still says that they wait, and is to be written
    /// anew, so that it is told, and expires where it may.
    pub(super) called_off: Vec<u128>,
    /// It is to be released as soon as nothing of it is lent.
    pub(super) leaving: bool,
    feed: AbortHandle,
}

/// How a loan ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// With something to be kept.
    Record(Box<Record>),
    /// As it began, with nothing sent: only that it is over is to be noted.
    Unsent,
    /// It was over before.
    Nothing,
}

impl Partition {
    pub(super) fn new(number: u16) -> Self {
        Self {
            number,
            mine: Mutex::new(None),
            turn: tokio::sync::Mutex::default(),
            pending: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
        }
    }

    /// Does something with it, if it is ours.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Mine) -> T) -> Option<T> {
        // What a panic left half done is one order's state; the servers have the truth.
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let done = mine.as_mut().map(act);
        let counts = |mine: &Mine| (mine.state.pending(), mine.state.outstanding());
        let (pending, outstanding) = mine.as_ref().map(counts).unwrap_or_default();
        self.pending.store(pending, Ordering::Relaxed);
        self.outstanding.store(outstanding, Ordering::Release);
        done
    }

    /// It is ours from now on.
    pub(super) fn gain(&self, mine: Mine) {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = Some(mine);
    }

    /// It is ours no more.
    pub(super) fn lose(&self) {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.pending.store(0, Ordering::Relaxed);
        self.outstanding.store(0, Ordering::Release);
        if let Some(mine) = mine {
            mine.feed.abort();
        }
    }

    /// Orders that wait here.
    pub(super) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// Orders that the OMS has under a ticket.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::Acquire)
    }
}

impl Mine {
    /// Ours by the message `row`, until `good_until`; no order of it is in `state` yet.
    pub(super) fn new(
        mut state: State,
        tenure: &Tenure,
        row: u64,
        good_until: Duration,
        feed: AbortHandle,
    ) -> Self {
        // No number of an earlier tenure's loans comes again.
        state.number_loans_from(tenure.epoch << EPOCH_AT);
        Self {
            epoch: tenure.epoch,
            row,
            good_until,
            state,
            lent: tenure.lent.iter().map(|lent| (lent.order, *lent)).collect(),
            loading_to: Some(row),
            position: 0,
            unread: (0, 0),
            ahead: Ahead::default(),
            to_be_noted: false,
            called_off: Vec::new(),
            leaving: false,
            feed,
        }
    }

    /// Whether all of it is known.
    pub(super) fn is_loaded(&self) -> bool {
        self.loading_to.is_none()
    }

    /// Whether it is certainly ours, so that what is lent of it is in our list and nowhere else.
    pub(super) fn is_certain(&self, elapsed: Duration) -> bool {
        elapsed < self.good_until
    }

    /// Whether orders of it may be lent.
    pub(super) fn may_lend(&self, elapsed: Duration) -> bool {
        self.is_loaded() && !self.leaving && self.is_certain(elapsed)
    }

    /// Our message as it should be now.
    pub(super) fn tenure(&mut self, node: u64, lease_ms: u32, released: bool) -> Tenure {
        self.to_be_noted = false;
        let lent = self.lent.values().copied().collect();
        Tenure { epoch: self.epoch, node, lease_ms, released, lent }
    }

    /// A round has passed: for how many in a row the feed has brought nothing, though our own message comes by it each round.
    pub(super) fn unread_rounds(&mut self) -> u32 {
        let (before, rounds) = self.unread;
        let stands = self.position == before && self.position < self.row;
        self.unread = (self.position, if stands { rounds + 1 } else { 0 });
        self.unread.1
    }

    /// Takes in a page that this process wrote or read.
    pub(super) fn take(&mut self, hash: u128, sequence: u64, page: &Page) {
        if sequence > self.position && self.ahead.note(hash, sequence) {
            self.put(hash, page);
        }
    }

    /// Takes in what the feed brings; a `page` of `None` says only how far it is.
    pub(super) fn follow(&mut self, sequence: u64, page: Option<(u128, &Page)>) {
        self.position = self.position.max(sequence);
        if let Some((hash, page)) = page.filter(|(hash, _)| self.ahead.is_news(*hash, sequence)) {
            self.put(hash, page);
        }
        self.ahead.reached(self.position);
    }

    fn put(&mut self, hash: u128, page: &Page) {
        let Some(order) = page.order() else { return };
        if let Some(other) = self.state.find(hash).filter(|other| *other != order) {
            // Its key had expired, and came anew.
            self.state.take_out(other);
        }
        // While it is read for the first time, nothing was counted before.
        let ended_before = page.ended_before.filter(|_| self.is_loaded());
        if let Some(lent) = self.lent.get(&order).filter(|lent| lent.loan <= page.loans_over) {
            self.ended(order, lent.loan);
        }
        let lent = self.lent.contains_key(&order);
        let over = self.state.renew(order, &page.records, ended_before, lent);
        let waited = page.records.iter().any(|(_, record)| record.parked_behind().is_some());
        if waited && (over || self.is_off(order)) {
            self.called_off.push(hash);
        }
    }

    /// Whether the feed has brought everything that stood here when it became ours; true once only. Orders that the owner
    /// before had lent may have been sent, and may be what ended it: the records set repeat offenders aside. They wait for as long as a call of it may be under way.
    pub(super) fn completes(&mut self, now_ms: i64, lent_wait: Duration) -> Option<Vec<Record>> {
        self.loading_to.filter(|to| self.position >= *to)?;
        self.loading_to = None;
        self.lent.retain(|order, _| self.state.waits_or_lent(*order));
        // The message that took it over counts one death more, and so does what follows.
        let died = self.lent.values().filter(|lent| lent.deaths > 0);
        let orders = died.map(|lent| (lent.order, lent.deaths - 1));
        let leased = Record::Leased { orders: orders.collect() };
        self.state.apply_among(0, &leased, &[]);
        self.state.retry_by(now_ms.saturating_add(RETRY_MAX_MS));
        Some(self.state.replayed(now_ms, lent_wait))
    }

    /// Lends these, to be noted before they are handed out.
    pub(super) fn lend(&mut self, limit: usize, suspects: bool, now_ms: i64) -> Vec<(u128, Loan)> {
        let loans = self.state.lend(limit, suspects, now_ms);
        self.list(loans)
    }

    /// The same of orders under a ticket that are to be looked up by now.
    pub(super) fn lend_ticketed(&mut self, limit: usize, now_ms: i64) -> Vec<(u128, Loan)> {
        let loans = self.state.lend_ticketed(limit, now_ms);
        self.list(loans)
    }

    fn list(&mut self, loans: Vec<Loan>) -> Vec<(u128, Loan)> {
        let note = |loan: Loan| {
            let hash = self.state.hash_at(loan.sequence).unwrap_or_default();
            let (order, deaths) = (loan.sequence, loan.deaths);
            let lent = Lent { order, loan: loan.number, hash, deaths, sending: false };
            self.lent.insert(loan.sequence, lent);
            (hash, loan)
        };
        loans.into_iter().map(note).collect()
    }

    /// Ends a loan.
    pub(super) fn verdict(
        &mut self,
        order: u64,
        loan: u64,
        verdict: Option<Verdict>,
        now_ms: i64,
    ) -> End {
        let Some(record) = self.state.verdict(order, loan, verdict, now_ms) else {
            self.ended(order, loan);
            return End::Nothing;
        };
        if !self.state.changes_nothing(&record) {
            return End::Record(Box::new(record));
        }
        let hash = self.state.hash_at(order);
        self.state.apply_among(0, &record, &[]);
        self.ended(order, loan);
        self.called_off.extend(hash.filter(|_| self.state.is_over(order) || self.is_off(order)));
        End::Unsent
    }

    /// Called off, or held. It may not be over by that: something beside it may wait for a person.
    fn is_off(&self, order: u64) -> bool {
        matches!(self.state.known_state(order), Some(OrderState::Held | OrderState::Cancelled))
    }

    /// A loan has ended, and its order's page says so, or it needs not.
    pub(super) fn ended(&mut self, order: u64, loan: u64) {
        if self.lent.get(&order).is_some_and(|lent| lent.loan == loan) {
            self.lent.remove(&order);
            self.to_be_noted = true;
        }
    }

    /// Takes a loan back that nobody had.
    pub(super) fn unlend(&mut self, loan: &Loan) {
        self.state.unlend(loan);
        if !loan.sent_before || !self.state.waits_or_lent(loan.sequence) {
            self.ended(loan.sequence, loan.number);
        }
    }
}

/// What is known of keys beyond the feed's position.
#[derive(Debug, Default)]
struct Ahead {
    by_hash: HashMap<u128, u64>,
    by_sequence: BTreeSet<(u64, u128)>,
}

impl Ahead {
    /// Notes that a key is known as of `sequence`; false if something as new was known.
    fn note(&mut self, hash: u128, sequence: u64) -> bool {
        let known = self.by_hash.get(&hash).copied();
        if known.is_some_and(|known| known >= sequence) {
            return false;
        }
        if let Some(known) = known {
            self.by_sequence.remove(&(known, hash));
        }
        self.by_hash.insert(hash, sequence);
        self.by_sequence.insert((sequence, hash));
        true
    }

    fn is_news(&self, hash: u128, sequence: u64) -> bool {
        self.by_hash.get(&hash).is_none_or(|known| *known < sequence)
    }

    /// The feed is there now.
    fn reached(&mut self, position: u64) {
        while let Some((sequence, hash)) = self.by_sequence.first().copied() {
            if sequence > position {
                break;
            }
            self.by_sequence.pop_first();
            self.by_hash.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_order::{Fingerprint, OrderKey, Readiness};

    use super::*;
    use crate::Envelope;
    use crate::record::Delivery;

    /// Something else was written beside it before its owner heard of it.
    #[tokio::test]
    async fn what_was_called_off_is_to_be_told_whatever_its_page_says_besides() {
        let feed = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let state = State::new(b"secret");
        let mut mine = Mine::new(state, &Tenure::default(), 5, Duration::ZERO, feed);
        let delivery = |readiness, content| {
            let key = OrderKey::new("shopify", "demo", "1");
            let envelope = Envelope::new(key, Fingerprint([content; 16]), vec![content].into());
            Delivery { envelope: Envelope { readiness, ..envelope }, accepted_at_ms: 1_000 }
        };
        let accept = Record::Accept(delivery(Readiness::Pending, 1));
        let off = delivery(Readiness::Cancelled, 2);
        let cancel = Record::Cancel { order: 10, parked: true, delivery: off };
        let beside = delivery(Readiness::Pending, 3);
        let conflict = Record::Conflict { order: 10, delivery: beside };
        let records = vec![(10, accept), (20, cancel), (30, conflict)];
        mine.take(7, 30, &Page { records, ended_before: None, loans_over: 0 });
        assert_eq!(mine.called_off, [7]);
    }

    #[tokio::test]
    async fn a_feed_that_brings_nothing_is_noticed_and_a_slow_one_is_not() {
        let feed = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let state = State::new(b"secret");
        let mut mine = Mine::new(state, &Tenure::default(), 100, Duration::ZERO, feed);
        // Reading what was there takes rounds, and moves on in each.
        for position in [10, 20, 30] {
            mine.follow(position, None);
            assert_eq!(mine.unread_rounds(), 0);
        }
        assert_eq!([mine.unread_rounds(), mine.unread_rounds()], [1, 2]);
        mine.follow(100, None);
        assert_eq!([mine.unread_rounds(), mine.unread_rounds()], [0, 0], "nothing is left to read");
        mine.row = 101;
        assert_eq!([mine.unread_rounds(), mine.unread_rounds()], [1, 2]);
    }
}
