//! What is known of one key: its page, folded by the same rules as the embedded buffer's state.

use std::time::Duration;

use bytes::Bytes;
use forebay_order::{OrderKey, Readiness};

use super::page::{Page, PageError};
use super::table::Stored;
use super::tenure::Lent;
use crate::digest::KeyHasher;
use crate::migrate::{Whole, fill_key, is_unknown};
use crate::record::{Delivery, Record};
use crate::state::{Head, Judged, Kept, Loan, Numbered, RowHead, State, content_among};
use crate::{
    Act, ActError, Durability, Effect, Envelope, ExceptionRow, OrderState, OrderView, Receipt,
    SummarisedOrder, Telling, Verdict,
};

/// One key's order, alone in a state of its own.
#[derive(Debug)]
pub(super) struct Known {
    state: State,
    records: Vec<Numbered>,
    /// The order; `None` while nothing stands under the key.
    pub(super) order: Option<u64>,
    /// The sequence of the message it was read from; 0 for none.
    pub(super) stored: u64,
    /// Its loans up to this one are over.
    loans_over: u64,
}

impl Known {
    /// A key under which nothing stands.
    pub(super) fn nothing(hasher: KeyHasher) -> Self {
        Self {
            state: State::hashing(hasher),
            records: Vec::new(),
            order: None,
            stored: 0,
            loans_over: 0,
        }
    }

    /// A key under which that message stands.
    ///
    /// # Errors
    /// [`PageError`].
    pub(super) fn of(hasher: KeyHasher, stored: &Stored) -> Result<Self, PageError> {
        let page = Page::decode(&stored.bytes, stored.sequence)?;
        let order = page.order().ok_or(PageError::Damaged)?;
        let mut known = Self::nothing(hasher);
        known.state.apply_whole(&page.records);
        known.records = page.records;
        known.loans_over = page.loans_over;
        // A body that waited to be fetched and was discarded leaves nothing behind: its key may come anew.
        known.order = known.state.known_state(order).map(|_| order);
        known.stored = stored.sequence;
        Ok(known)
    }

    /// The same where it is known by which key it is looked for, if its page does not say it.
    pub(super) fn named(mut self, key: &OrderKey) -> Self {
        let unknown = |(_, record): &Numbered| {
            record.delivery().is_some_and(|delivery| is_unknown(&delivery.envelope.key))
        };
        if self.records.iter().any(unknown) {
            fill_key(&mut self.records, key);
            self.state = State::hashing(self.state.hasher());
            self.state.apply_whole(&self.records);
        }
        self
    }

    /// All of it, for another store. `lent`: a loan that is not over, which nobody ends any more.
    pub(super) fn handed_over(
        mut self,
        hash: u128,
        lent: Option<&Lent>,
        now_ms: i64,
    ) -> Option<Whole> {
        let order = self.order?;
        let poison = lent.map(|lent| self.was_lent(lent, now_ms)).unwrap_or_default();
        self.free();
        let outcome = self.state.kept(order).and_then(|kept| self.head(kept));
        if let Some(outcome) = outcome.and_then(|head| self.state.outcome_of(order, &head)) {
            return Some(Whole::Outcome { hash, outcome });
        }
        let mut records = self.state.whole(order, true, |kept| self.record(kept))?;
        records.extend(poison.into_iter().map(|record| (0, record)));
        Some(Whole::Order { hash, records })
    }

    /// Its owner ended while it was lent, or gave it up; the records that set it aside, if it was so too often.
    fn was_lent(&mut self, lent: &Lent, now_ms: i64) -> Vec<Record> {
        let orders = match lent.deaths.checked_sub(1) {
            Some(deaths) => vec![(lent.order, deaths)],
            None => Vec::new(),
        };
        if orders.is_empty() && lent.sending {
            let (order, attempts) = (lent.order, self.state.attempts(lent.order));
            let reason = "lent by an owner that ended".to_owned();
            let (not_before_ms, sent) = (0, true);
            let record = Record::Retry { order, not_before_ms, attempts, sent, reason };
            self.fold(&record, self.stored);
        }
        self.fold(&Record::Leased { orders }, self.stored);
        self.state.replayed(now_ms, Duration::ZERO)
    }

    /// The order, or 0, which none is.
    fn sequence(&self) -> u64 {
        self.order.unwrap_or_default()
    }

    /// Whether its owner may have lent the order, so that a change must wait for what becomes of that.
    pub(super) fn waits(&self) -> bool {
        self.state.waits_or_lent(self.sequence())
    }

    /// It is with a worker, which may have begun to send it.
    pub(super) fn lent(&mut self, sending: bool) {
        let order = self.sequence();
        self.fold(&Record::Leased { orders: vec![(order, 0)] }, order);
        if sending {
            self.fold(&Record::Submitting { orders: vec![order] }, order);
        }
    }

    /// A loan of it is over.
    pub(super) fn loan_is_over(&mut self, loan: u64) {
        self.loans_over = self.loans_over.max(loan);
    }

    /// Whether a loan is over.
    pub(super) fn is_over_by(&self, loan: u64) -> bool {
        self.loans_over >= loan
    }

    /// Whether the page does not say yet what the loan says: that bytes of the order may have left. Then all loans before this
    /// one end.
    pub(super) fn takes_over(&mut self, loan: &Loan) -> bool {
        let news = !self.state.is_sent_before(self.sequence());
        if news {
            self.loan_is_over(loan.number.saturating_sub(1));
        }
        news
    }

    /// Whether a loan is under way for all that its page says.
    pub(super) fn is_lent(&self, lent: &Lent) -> bool {
        lent.loan > self.loans_over
    }

    /// Nobody has it, so a change that waited has its effect; whether there was one.
    pub(super) fn free(&mut self) -> bool {
        let waited = self.state.has_parked(self.sequence());
        self.state.take_free_parked(self.sequence());
        waited && !self.state.has_parked(self.sequence())
    }

    /// Whether its page names a change that waits, or did.
    pub(super) fn names_what_waits(&self) -> bool {
        self.records.iter().any(|(_, record)| record.parked_behind().is_some())
    }

    /// What a delivery comes to.
    pub(super) fn judge(&self, envelope: &Envelope) -> Judged {
        let hash = self.state.hash_of(envelope);
        let kept = self.order.and_then(|order| self.state.kept(order));
        let head = kept.and_then(|kept| self.head(kept));
        let body = &envelope.body;
        let same = |kept: Kept| {
            let delivery = self.record(kept).and_then(Record::delivery);
            delivery.is_some_and(|delivery| delivery.envelope.body == *body)
        };
        self.state.judge(hash, envelope, head.as_ref(), None, same)
    }

    /// Makes a delivery that says its order failed at the source hold this order, if it is that one's.
    pub(super) fn hold_failed(&self, envelope: &mut Envelope) {
        self.state.hold_failed(envelope, None);
    }

    /// When a delivery that comes now is accepted.
    pub(super) fn accepted_at(&self, now_ms: i64) -> i64 {
        self.state.accepted_at(now_ms)
    }

    /// The page that adds a record; `None` if this one cannot be written out again.
    pub(super) fn page_with(&self, record: Record) -> Option<Page> {
        let replaces = matches!(
            record,
            Record::Replace { parked: false, .. }
                | Record::Cancel { parked: false, .. }
                | Record::Settle { .. }
        );
        self.page_adding(record, !replaces)
    }

    /// The same for the end of a loan; `keep_whole`: an order that is settled keeps its bytes, to be sent again if need be.
    pub(super) fn page_settling(&self, record: Record, keep_whole: bool) -> Option<Page> {
        match record {
            Record::Settle { .. } if keep_whole => self.page_adding(record, true),
            record => self.page_with(record),
        }
    }

    fn page_adding(&self, record: Record, with_body: bool) -> Option<Page> {
        let Some(order) = self.order else { return Some(Page::first(record)) };
        let records = self.state.whole(order, with_body, |kept| self.record(kept))?;
        let page =
            Page { records, ended_before: self.state.over_as(order), loans_over: self.loans_over };
        Some(page.with(record))
    }

    /// The page without anything new: what waited has had its effect.
    pub(super) fn page(&self) -> Option<Page> {
        let order = self.order?;
        let records = self.state.whole(order, true, |kept| self.record(kept))?;
        // Its owner has counted it as what it is.
        let ended_before = self.state.over_as(order);
        Some(Page { records, ended_before, loans_over: self.loans_over })
    }

    /// The order's content and when it was settled, in ms since 1970, if it is in the OMS and was kept whole.
    fn kept_whole(&self) -> Option<(Kept, &Delivery, i64)> {
        let found = self.state.summarised_since(i64::MIN, 0, 1).orders;
        let (_, kept, at_ms) = found.first().copied()?;
        Some((kept, self.record(kept)?.delivery()?, at_ms))
    }

    /// The key of an order that is in the OMS and was kept whole, and when it was settled.
    pub(super) fn summarised(&self) -> Option<SummarisedOrder> {
        let (_, delivery, settled_at_ms) = self.kept_whole()?;
        Some(SummarisedOrder { key: delivery.envelope.key.clone(), settled_at_ms })
    }

    /// The page on which such an order waits for the drain once more.
    pub(super) fn page_again(&self) -> Option<Page> {
        let order = self.order?;
        let (kept, delivery, _) = self.kept_whole()?;
        let again = self.state.again_record(order, &self.head(kept)?, delivery.clone())?;
        let rest = self.state.whole(order, false, |kept| self.record(kept))?.into_iter();
        let rest = rest
            .filter(|(_, record)| !matches!(record, Record::Moved { .. } | Record::Settle { .. }));
        let records = std::iter::once((order, again)).chain(rest).collect();
        let ended_before = self.state.over_as(order);
        Some(Page { records, ended_before, loans_over: self.loans_over })
    }

    /// A record was written under that sequence.
    pub(super) fn wrote(&mut self, sequence: u64, record: Record) {
        self.fold(&record, sequence);
        self.order = self.order.or(Some(sequence));
        self.stored = sequence;
        self.records.push((sequence, record));
    }

    fn fold(&mut self, record: &Record, sequence: u64) {
        self.state.apply_among(sequence, record, &self.records);
    }

    /// The receipt of a judged delivery; `written`: its record's sequence, and when it was accepted.
    pub(super) fn receipt(
        &self,
        judged: &Judged,
        written: Option<(u64, i64)>,
        durability: Durability,
    ) -> Option<Receipt> {
        self.state.receipt(judged, written, None, durability)
    }

    /// Whether nothing but how its order ended is of interest once a page is written, so that it may expire.
    pub(super) fn is_over_with(hasher: KeyHasher, page: &Page) -> bool {
        /// Stands for the sequence nobody knows yet; no message ever gets it.
        const NOT_YET: u64 = (1 << 48) - 1;
        if let [(_, Record::Accept(delivery))] = page.records.as_slice() {
            return delivery.envelope.readiness == Readiness::Cancelled;
        }
        let page = page.clone().stored_at(NOT_YET);
        let mut state = State::hashing(hasher);
        state.apply_whole(&page.records);
        page.order().is_some_and(|order| state.known_state(order).is_none() || state.is_over(order))
    }

    /// The order as people see it.
    pub(super) fn view(&self, key: &OrderKey) -> Option<OrderView> {
        let sight = self.state.view(key)?;
        let head = self.head(sight.kept);
        Some(sight.with(head.as_ref()))
    }

    /// Its open exceptions.
    pub(super) fn exceptions(&self) -> Vec<ExceptionRow> {
        let named = |mut head: RowHead| {
            let delivery =
                head.named_in.and_then(|kept| self.record(kept)).and_then(Record::delivery);
            if let Some(Delivery { envelope, .. }) = delivery {
                head.row.key = envelope.key.clone();
                head.row.number.clone_from(&envelope.number);
            }
            head.row
        };
        self.state.row_heads(0, usize::MAX).into_iter().map(named).collect()
    }

    /// The bytes kept under a sequence: the order's, or an exception row's.
    pub(super) fn body(&self, sequence: u64) -> Option<Bytes> {
        let kept = self.state.body_at(sequence)?;
        Some(self.record(kept)?.delivery()?.envelope.body.clone())
    }

    /// What is lent of it, and when its first delivery was accepted.
    pub(super) fn content(&self, loan: &Loan) -> Option<(Delivery, i64)> {
        let kept = self.state.kept(loan.sequence)?;
        let head = self.head(kept)?;
        let delivery = self.record(kept)?.delivery()?.clone();
        Some((delivery, loan.accepted_at_ms.unwrap_or(head.first_accepted_at_ms)))
    }

    /// Where the order is.
    pub(super) fn state(&self) -> Option<OrderState> {
        self.state.known_state(self.order?)
    }

    /// Whether an act on one of its exceptions is possible.
    ///
    /// # Errors
    /// [`ActError::NotFound`], [`ActError::NotPossible`].
    pub(super) fn check_act(&self, exception: u64, act: Act) -> Result<(), ActError> {
        self.state.check_act(exception, act).map(|_| ())
    }

    /// What the OMS's own word of it comes to.
    ///
    /// # Errors
    /// The effect where nothing is to be written.
    pub(super) fn judge_telling(&self, telling: &Telling, now_ms: i64) -> Result<Record, Effect> {
        self.state.judge_telling(self.sequence(), telling, now_ms)
    }

    /// The record of a verdict on a loan nobody remembers; only that its summary exists is still of interest.
    pub(super) fn late_verdict(&mut self, verdict: Option<Verdict>, now_ms: i64) -> Option<Record> {
        self.state.verdict(self.sequence(), 0, verdict, now_ms)
    }

    /// The page it was read from.
    pub(super) fn to_page(&self) -> Page {
        Page { records: self.records.clone(), ended_before: None, loans_over: self.loans_over }
    }

    fn record(&self, kept: Kept) -> Option<&Record> {
        content_among(&self.records, kept)
    }

    fn head(&self, kept: Kept) -> Option<Head> {
        Head::of(self.record(kept)?, kept)
    }
}
