//! A whole order as records, for a backend that keeps all of an order in one place: taken out of a state, and put into
//! another in the place of what was known of it.

use super::carry::NOWHERE;
use super::order::{Head, Kept, Order};
use super::{Loan, Outcome, State};
use crate::OrderState;
use crate::record::{Record, RowSnapshot, Settled};

/// A record, and the sequence under which it has its effect.
pub(crate) type Numbered = (u64, Record);

/// What only one process knows of an order, and no record of its place says.
#[derive(Clone, Copy, Debug)]
struct Private {
    on_loan: bool,
    sent_before: bool,
    deaths: u8,
}

impl State {
    /// The records that build an order anew: itself, what waits for its loan to end, its exception rows, how it was settled.
    /// `content` gives the record of a content; without `with_body` its bytes are left out, since it has ended or another
    /// content is about to take its place. `None` if one of them is not to be had.
    pub(crate) fn whole<'a>(
        &self,
        sequence: u64,
        with_body: bool,
        content: impl Fn(Kept) -> Option<&'a Record>,
    ) -> Option<Vec<Numbered>> {
        let order = self.get(sequence)?;
        let record = content(order.kept)?;
        let head = Head::of(record, order.kept)?;
        let mut delivery = record.delivery()?.clone();
        // A summarised one may have been kept whole to be sent again.
        if !with_body || (order.ended() && order.state != OrderState::Summarised) {
            delivery.envelope.body = bytes::Bytes::new();
        }
        let settled = self.settled_as(&order);
        let mut moved = self.moved_record(sequence, &head, delivery)?;
        if let (Record::Moved { snapshot, .. }, OrderState::Summarised) = (&mut moved, order.state)
        {
            // How it was settled stands in a record of its own.
            snapshot.state = OrderState::Submitted;
        }
        let mut records = vec![(sequence, moved)];
        if let Some((at_ms, summary_id)) = settled {
            let attempts = order.attempts;
            let entry = Settled { order: sequence, summary_id, existing: false, attempts, at_ms };
            records.push((sequence, Record::Settle { entries: vec![entry] }));
        }
        if let Some(parked) = self.parked(sequence) {
            let kept = parked.content.kept;
            let delivery = content(kept)?.delivery()?.clone();
            records.push((kept.record, self.parked_record(sequence, delivery)?));
        }
        for (id, row) in self.rows.of(sequence) {
            let delivery = match row.body {
                Some(body) => Some(content(body.kept)?.delivery()?.clone()),
                None => None,
            };
            records.push((id, self.moved_row_record(id, delivery)?));
        }
        Some(records)
    }

    /// Where all of an order is kept: its content, what waits for its loan to end, the bodies of its exception rows.
    pub(crate) fn all_kept(&self, sequence: u64) -> Vec<Kept> {
        let content = self.get(sequence).map(|order| order.kept).into_iter();
        let parked = self.parked(sequence).map(|parked| parked.content.kept);
        let rows = self.rows.of(sequence).filter_map(|(_, row)| row.body.map(|body| body.kept));
        content.chain(parked).chain(rows).collect()
    }

    /// Exception rows of orders of which only the outcome is left, each with where its body is.
    pub(crate) fn rows_without_order(&self) -> impl Iterator<Item = (u64, Kept)> {
        let rows = self.rows.after(0).filter(|(_, row)| self.get(row.order).is_none());
        rows.filter_map(|(id, row)| Some((id, row.body?.kept)))
    }

    /// Whether a record is an exception row that a replay rebuilds without its order.
    pub(crate) fn stands_by_itself(record: &Record) -> bool {
        matches!(record, Record::MovedRow { row, .. } if !row.category.is_own())
    }

    /// Whether a record is the exception row that its order waits for a person by, and is missing.
    pub(crate) fn lacks_row(&self, record: &Record) -> bool {
        let Record::MovedRow { row: RowSnapshot { order: Some(order), category, .. }, .. } = record
        else {
            return false;
        };
        category.is_own()
            && self.known_state(*order) == Some(OrderState::Exception)
            && !self.rows.of(*order).any(|(_, row)| row.category.is_own())
    }

    /// How an order ended, if nothing else of it is of interest, and the outcome is all that needs to be kept.
    pub(crate) fn outcome_of(&self, sequence: u64, head: &Head) -> Option<Outcome> {
        let order = self.get(sequence)?;
        let only = order.indexable() && self.rows.ids_of(sequence).is_empty();
        only.then(|| self.ended(sequence, &order).outcome(head))
    }

    /// Puts an order as `records` say it in the place of what was known of it; `ended_before`: how it had ended, and so was
    /// counted, where nothing else is known of it. Of one that needs nothing any more only the count is kept, and true is
    /// returned. `lent`: a loan of it is not over, so what is known of that stays, and a change waits for its end; a loan
    /// nothing is known of was another process's, which may have sent it.
    pub(crate) fn renew(
        &mut self,
        order: u64,
        records: &[Numbered],
        ended_before: Option<OrderState>,
        lent: bool,
    ) -> bool {
        let private = self.get(order).map(|order| Private {
            on_loan: order.on_loan,
            sent_before: order.sent_before,
            deaths: order.deaths,
        });
        match (private, ended_before) {
            (None, Some(ended)) => self.counts.uncount(ended),
            _ => self.take_out(order),
        }
        let endings = self.endings.mark(NOWHERE);
        self.apply_whole(records);
        if lent && self.get(order).is_some_and(|order| order.waits()) {
            let others = Private { on_loan: false, sent_before: true, deaths: 0 };
            self.change(order, |order| private.unwrap_or(others).give_back(order));
        }
        self.take_free_parked(order);
        let over = self.is_over(order);
        if over {
            self.late.remove(&order);
            self.forget(order);
            self.endings.back_to(NOWHERE, endings);
        }
        over
    }

    /// Applies the records of one order, one after another.
    pub(crate) fn apply_whole(&mut self, records: &[Numbered]) {
        for (sequence, record) in records {
            self.apply_among(*sequence, record, records);
        }
    }

    /// Applies a record that has its effect under that sequence; the contents it may take the place of are `among` these.
    pub(crate) fn apply_among(&mut self, sequence: u64, record: &Record, among: &[Numbered]) {
        let bytes = record.delivery().map_or(0, |delivery| delivery.envelope.body.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let kept = Kept { record: sequence, location: None, bytes };
        let before = |kept: Kept| Head::of(content_among(among, kept)?, kept);
        self.apply(record, kept, |kept| before(kept).map(|head| head.before()));
    }

    /// Lets a change take effect that waits for a loan nobody has, of an order that was never sent.
    pub(crate) fn take_free_parked(&mut self, sequence: u64) {
        let free = self
            .get(sequence)
            .is_some_and(|order| order.waits() && !order.sent_before && !order.on_loan);
        if free {
            self.take_parked(sequence);
        }
    }

    /// Whether a change waits for the order's loan to end.
    pub(crate) fn has_parked(&self, sequence: u64) -> bool {
        self.parked(sequence).is_some()
    }

    /// Whether an order is ready, delayed, or with the order management system.
    pub(crate) fn waits_or_lent(&self, sequence: u64) -> bool {
        self.get(sequence).is_some_and(|order| order.waits() || order.on_loan)
    }

    /// Whether only how an order ended is of interest.
    pub(crate) fn is_over(&self, sequence: u64) -> bool {
        self.get(sequence).is_some_and(|order| order.ended())
            && self.rows.ids_of(sequence).is_empty()
    }

    /// Whether a record of a loan's end leaves the order as it was before it.
    pub(crate) fn changes_nothing(&self, record: &Record) -> bool {
        let Record::Retry { order, not_before_ms: 0, attempts, sent: false, .. } = record else {
            return false;
        };
        self.get(*order).is_some_and(|order| order.attempts == *attempts && !order.sent_before)
    }

    /// Whether bytes of an order may have left.
    pub(crate) fn is_sent_before(&self, sequence: u64) -> bool {
        self.get(sequence).is_some_and(|order| order.sent_before)
    }

    /// Attempts of an order that counted.
    pub(crate) fn attempts(&self, sequence: u64) -> u8 {
        self.get(sequence).map_or(0, |order| order.attempts)
    }

    /// The state of an order in memory.
    pub(crate) fn known_state(&self, sequence: u64) -> Option<OrderState> {
        self.get(sequence).map(|order| order.state)
    }

    /// Why an order in memory is held, if it is.
    pub(crate) fn hold_of(&self, sequence: u64) -> Option<forebay_order::HoldReason> {
        self.get(sequence)?.hold
    }

    /// How an order ended of which nothing else is of interest.
    pub(crate) fn over_as(&self, sequence: u64) -> Option<OrderState> {
        self.is_over(sequence).then(|| self.known_state(sequence)).flatten()
    }

    /// The hash of an order in memory, or of the one an exception row belongs to.
    pub(crate) fn hash_at(&self, sequence: u64) -> Option<u128> {
        let order = self.rows.get(sequence).map_or(sequence, |row| row.order);
        self.get(order).map(|order| order.hash)
    }

    /// Open exceptions with `id > after`, oldest first, and the hash of their order.
    pub(crate) fn row_ids(&self, after: u64) -> impl Iterator<Item = (u64, u128)> {
        self.rows.after(after).filter_map(|(id, _)| Some((id, self.hash_at(id)?)))
    }

    /// About how many ready orders come before one.
    pub(crate) fn position(&self, sequence: u64) -> Option<u64> {
        self.queue.position(sequence)
    }

    /// About how many ready orders come before that sequence.
    pub(crate) fn ready_before(&self, sequence: u64) -> u64 {
        self.queue.ready_before(sequence)
    }

    /// Ready orders, oldest first.
    pub(crate) fn ready(&self) -> impl Iterator<Item = u64> {
        self.queue.ready()
    }

    /// Whether an order waits that is to be lent alone, and whether one is lent already.
    pub(crate) fn suspects(&self) -> (bool, bool) {
        (self.queue.suspect().is_some(), self.suspect_out())
    }

    /// A loan under way, as its order stands now; `None` if it is over, or the order is not to be sent any more.
    pub(crate) fn loan_again(&self, loan: &Loan) -> Option<Loan> {
        self.kept_on_loan(loan.sequence, loan.number)?;
        let order = self.get(loan.sequence).filter(|order| order.on_loan)?;
        Some(self.loan(loan.sequence, &order, loan.number))
    }

    /// Removes an order and its rows, as if they had never been.
    pub(crate) fn take_out(&mut self, sequence: u64) {
        for id in self.rows.ids_of(sequence).to_vec() {
            self.close_row(id);
        }
        self.late.remove(&sequence);
        if let Some(order) = self.get(sequence) {
            self.counts.leave(&order);
            self.forget(sequence);
        }
    }
}

impl Private {
    fn give_back(self, order: &mut Order) {
        order.on_loan = self.on_loan;
        order.sent_before |= self.sent_before;
        order.deaths = self.deaths;
        order.state = match (order.sent_before, self.on_loan) {
            (true, _) => OrderState::Submitted,
            (false, true) => OrderState::Leased,
            (false, false) => OrderState::Pending,
        };
    }
}

/// The record of a content among some.
pub(crate) fn content_among(records: &[Numbered], kept: Kept) -> Option<&Record> {
    let of_sequence = records.iter().filter(|(sequence, _)| *sequence == kept.record);
    of_sequence.map(|(_, record)| record).find(|record| record.delivery().is_some())
}
