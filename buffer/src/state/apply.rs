//! The fold: one record after another.

use forebay_order::{Fingerprint, Readiness};

use super::loan::DAMAGED;
use super::look_first::LookFirst;
use super::news::What;
use super::order::{Before, Content, Kept, Order, Parked, Worth};
use super::row::{Row, RowBody};
use super::{EARLIER_MAX, Late, Policy, State};
use crate::record::{Delivery, Record, Settled};
use crate::{Act, ExceptionCategory, OrderState};

impl State {
    /// Takes one durable record in. `kept` says where it is; records of unknown orders have no effect, for
    /// what they belong to is either retired, or carried forward by a record that comes later. `before` tells what the
    /// record at a place says; it is asked about the content another one takes the place of.
    pub(crate) fn apply(
        &mut self,
        record: &Record,
        kept: Kept,
        before: impl FnOnce(Kept) -> Option<Before>,
    ) {
        if let Some(delivery) = record.delivery() {
            self.last_accepted_ms = self.last_accepted_ms.max(delivery.accepted_at_ms);
        }
        self.hear(kept.record);
        match record {
            Record::Accept(delivery) | Record::Recorded(delivery) => self.accept(delivery, kept),
            Record::Stray(delivery) => self.stray(delivery, kept),
            Record::Replace { order, parked: false, delivery } => {
                let before = self.kept(*order).and_then(before);
                let content = Content::of(delivery, kept);
                self.replace(*order, &content, delivery.accepted_at_ms, before);
            }
            Record::Cancel { order, parked: false, delivery } => {
                let before = self.kept(*order).and_then(before);
                let content = Content::of(delivery, kept);
                self.cancel(*order, &content, delivery.accepted_at_ms, before);
            }
            Record::Replace { order, parked: true, delivery } => {
                let before = self.kept(*order).and_then(before);
                self.park(*order, false, delivery, kept, before);
            }
            Record::Cancel { order, parked: true, delivery } => {
                let before = self.kept(*order).and_then(before);
                self.park(*order, true, delivery, kept, before);
            }
            Record::Conflict { order, delivery } => {
                self.attach(*order, ExceptionCategory::Conflict, delivery, kept);
            }
            Record::Change { order, delivery } => {
                self.attach(*order, ExceptionCategory::ChangeAfterSummary, delivery, kept);
            }
            Record::Leased { orders } => self.leased(orders),
            Record::Submitting { orders } => self.submitting(orders),
            Record::Ticket { order, ticket, at_ms, not_before_ms } => {
                self.ticket(*order, ticket, *at_ms, *not_before_ms);
            }
            Record::Settle { entries } => entries.iter().for_each(|entry| self.settled(entry)),
            Record::Retry { order, not_before_ms, attempts, sent, .. } => {
                self.returned(*order, *not_before_ms, *attempts, *sent);
            }
            Record::Failed { order, at_ms, attempts, category, reason } => {
                let row = Row {
                    order: *order,
                    category: *category,
                    reason: reason.clone(),
                    raised_at_ms: *at_ms,
                    attempts: *attempts,
                    body: None,
                    anchor: kept.epoch(),
                    derived: false,
                };
                self.failed(kept.record, row);
            }
            Record::Act { exception, act, at_ms } => self.acted(*exception, *act, *at_ms),
            Record::Moved { order, snapshot, delivery } => {
                self.moved(*order, snapshot, delivery, kept);
            }
            Record::MovedRow { exception, row, delivery } => {
                self.moved_row(*exception, row, delivery.as_ref(), kept);
            }
            Record::Policy { name, value, at_ms } => {
                if let Some(look_first) = LookFirst::of(name, value) {
                    self.look_first = look_first;
                }
                let policy = Policy { value: value.clone(), at_ms: *at_ms, anchor: kept.epoch() };
                self.policies.insert(name.clone(), policy);
            }
            Record::Checkpoint { ended, .. } => self.counts.set_ended(ended),
        }
    }

    fn accept(&mut self, delivery: &Delivery, kept: Kept) {
        let hash = self.hash_of(&delivery.envelope);
        let order = Order::new(hash, &Content::of(delivery, kept), delivery.accepted_at_ms);
        self.insert(kept.record, &order, false);
        if order.state == OrderState::Cancelled {
            self.end(kept.record, delivery.accepted_at_ms);
        }
        self.tell_standing(kept.record, None, delivery.accepted_at_ms);
    }

    fn stray(&mut self, delivery: &Delivery, kept: Kept) {
        self.accept(delivery, kept);
        let category = match delivery.envelope.readiness {
            Readiness::FetchNeeded => ExceptionCategory::FetchNeeded,
            _ => ExceptionCategory::Unreadable,
        };
        let row = Row {
            order: kept.record,
            category,
            reason: delivery.envelope.reason.clone(),
            raised_at_ms: delivery.accepted_at_ms,
            attempts: 0,
            body: None,
            anchor: kept.epoch(),
            derived: false,
        };
        self.raise(kept.record, row);
    }

    fn replace(&mut self, order: u64, content: &Content, at_ms: i64, before: Option<Before>) {
        let stood = self.standing(order);
        self.close_own_rows(order);
        if self.get(order).is_none() {
            return;
        }
        if let Some(before) = before {
            self.remember(order, before.fingerprint);
        }
        self.forget_earlier(order, content.fingerprint);
        if let Some(detail) = self.detail_mut(order) {
            detail.ended_at_ms = None;
            // The new content's record does not say when the order came.
            let first = before.map(|before| before.first_accepted_at_ms);
            detail.accepted_at_ms = detail.accepted_at_ms.or(first);
        }
        self.change(order, |order| {
            order.attempts = 0;
            order.deaths = 0;
            order.take(content);
        });
        self.tell_standing(order, stood, at_ms);
    }

    fn cancel(&mut self, order: u64, content: &Content, at_ms: i64, before: Option<Before>) {
        if self.get(order).is_some() {
            self.replace(order, content, at_ms, before);
            self.end(order, at_ms);
        }
    }

    fn park(
        &mut self,
        order: u64,
        cancel: bool,
        delivery: &Delivery,
        kept: Kept,
        before: Option<Before>,
    ) {
        if self.get(order).is_none() {
            return;
        }
        let content = Content::of(delivery, kept);
        let parked = Parked { content, cancel, at_ms: delivery.accepted_at_ms };
        let old = self.detail_mut(order).and_then(|d| d.parked.replace(Box::new(parked)));
        if let Some(old) = old {
            self.segments.remove_bytes(old.content.kept.epoch(), u64::from(old.content.kept.bytes));
            self.remember(order, old.content.fingerprint);
        }
        self.segments.add_bytes(kept.epoch(), u64::from(kept.bytes));
        if let Some(before) = before {
            self.remember(order, before.fingerprint);
            if let Some(detail) = self.detail_mut(order) {
                let first = before.first_accepted_at_ms;
                detail.accepted_at_ms = detail.accepted_at_ms.or(Some(first));
            }
        }
        self.forget_earlier(order, content.fingerprint);
    }

    fn unpark(&mut self, order: u64) -> Option<Parked> {
        let parked = *self.detail_if(order)?.parked.take()?;
        let kept = parked.content.kept;
        self.segments.remove_bytes(kept.epoch(), u64::from(kept.bytes));
        Some(parked)
    }

    /// Lets what waited for the loan's end take effect.
    pub(super) fn take_parked(&mut self, order: u64) {
        let Some(Parked { content, cancel, at_ms }) = self.unpark(order) else { return };
        // What it takes the place of was remembered when it was parked.
        if cancel {
            self.cancel(order, &content, at_ms, None);
            return;
        }
        self.replace(order, &content, at_ms, None);
        if content.lost {
            let row = Row {
                order,
                category: ExceptionCategory::Damaged,
                reason: DAMAGED.to_owned(),
                raised_at_ms: at_ms,
                attempts: 0,
                body: None,
                anchor: content.kept.epoch(),
                derived: true,
            };
            self.raise(content.kept.record, row);
            self.change(order, |order| order.state = OrderState::Exception);
        }
    }

    /// What waited came too late: it becomes an exception row, under the sequence of its own record.
    fn parked_too_late(&mut self, order: u64) {
        let Some(Parked { content, cancel, at_ms }) = self.unpark(order) else { return };
        self.note_change(order, content.fingerprint, content.version);
        let body = RowBody {
            kept: content.kept,
            fingerprint: content.fingerprint,
            version: content.version,
            cancel,
        };
        let mut row = row_with_body(order, ExceptionCategory::ChangeAfterSummary, body, at_ms);
        row.derived = true;
        self.raise(content.kept.record, row);
    }

    fn attach(&mut self, order: u64, category: ExceptionCategory, delivery: &Delivery, kept: Kept) {
        let envelope = &delivery.envelope;
        let body = RowBody {
            kept,
            fingerprint: envelope.fingerprint,
            version: envelope.version,
            cancel: envelope.readiness == Readiness::Cancelled,
        };
        if category == ExceptionCategory::ChangeAfterSummary {
            // Kept twice: the outcome may be on its way to the index already.
            self.note_late(order, self.hash_of(envelope), &body);
            if self.get(order).is_some() {
                self.note_change(order, body.fingerprint, body.version);
            }
        }
        self.raise(kept.record, row_with_body(order, category, body, delivery.accepted_at_ms));
    }

    fn note_late(&mut self, order: u64, hash: u128, body: &RowBody) {
        let anchor = body.kept.epoch();
        let late = self.late.entry(order).or_insert(Late { hash, anchor, ..Late::default() });
        if late.fingerprints.len() < EARLIER_MAX && !late.fingerprints.contains(&body.fingerprint) {
            late.fingerprints.push(body.fingerprint);
        }
        late.newest = late.newest.max(body.version);
    }

    fn note_change(&mut self, order: u64, fingerprint: Fingerprint, version: Option<u64>) {
        self.remember(order, fingerprint);
        if let (Some(version), Some(detail)) = (version, self.detail_mut(order)) {
            detail.newest = detail.newest.max(Some(version));
        }
    }

    fn leased(&mut self, orders: &[(u64, u8)]) {
        if !self.replaying {
            return;
        }
        for (sequence, deaths) in orders {
            self.loans.noted.insert(*sequence);
            self.change(*sequence, |order| {
                if order.on_loan && *deaths <= order.deaths {
                    // The note of this very loan, written anew when the order was carried forward.
                } else if order.on_loan {
                    // Lent again with no end of the loan before: the process had died in between, which was counted.
                    order.deaths = *deaths;
                    order.sent_before = true;
                    order.state = OrderState::Submitted;
                } else if order.waits() {
                    order.on_loan = true;
                    order.deaths = *deaths;
                    if order.state == OrderState::Pending {
                        order.state = OrderState::Leased;
                    }
                }
            });
        }
    }

    fn submitting(&mut self, orders: &[u64]) {
        if !self.replaying {
            return;
        }
        for sequence in orders {
            self.change(*sequence, |order| {
                if order.on_loan {
                    order.sent_before = true;
                    order.state = OrderState::Submitted;
                }
            });
        }
    }

    fn ticket(&mut self, order: u64, ticket: &str, at_ms: Option<i64>, not_before_ms: Option<i64>) {
        self.give_ticket(order, ticket, at_ms);
        self.change(order, |order| {
            order.on_loan = false;
            order.deaths = 0;
            order.sent_before = true;
            order.state = OrderState::Submitted;
            order.delay(not_before_ms);
        });
    }

    fn settled(&mut self, entry: &Settled) {
        self.close_own_rows(entry.order);
        let known = self.get(entry.order);
        if known.as_ref().is_none_or(|order| order.state == OrderState::Summarised) {
            return;
        }
        self.take_ticket(entry.order);
        let anchor = known.map_or(0, |order| order.anchor);
        let ending = self.endings.add(anchor, entry.at_ms, &entry.summary_id);
        self.change(entry.order, |order| {
            order.on_loan = false;
            order.deaths = 0;
            order.attempts = entry.attempts;
            order.not_before = None;
            order.hold = None;
            order.state = OrderState::Summarised;
            order.worth = Worth::Ended(ending);
        });
        let (summary_id, existing) = (entry.summary_id.clone(), entry.existing);
        self.tell(What::Summarised { summary_id, existing }, entry.order, true, entry.at_ms);
        self.parked_too_late(entry.order);
    }

    fn returned(&mut self, order: u64, not_before_ms: i64, attempts: u8, sent: bool) {
        if !sent {
            self.take_ticket(order);
        }
        self.change(order, |order| {
            order.on_loan = false;
            order.deaths = 0;
            order.attempts = attempts;
            order.sent_before = sent;
            order.delay((not_before_ms > 0).then_some(not_before_ms));
            order.state = order.waiting_state();
        });
        if !sent {
            self.take_parked(order);
        }
    }

    fn failed(&mut self, id: u64, row: Row) {
        let (order, attempts) = (row.order, row.attempts);
        if self.get(order).is_none() {
            return;
        }
        // The OMS's own word. That it cannot be mapped now says nothing about an earlier attempt.
        let never_there = row.category == ExceptionCategory::Rejected;
        if never_there {
            self.take_ticket(order);
        }
        self.close_own_rows(order);
        self.raise(id, row);
        let mut sent = false;
        self.change(order, |order| {
            order.on_loan = false;
            order.deaths = 0;
            order.attempts = attempts;
            order.not_before = None;
            order.sent_before &= !never_there;
            order.state = OrderState::Exception;
            sent = order.sent_before;
        });
        if !sent {
            self.take_parked(order);
        }
    }

    fn acted(&mut self, exception: u64, act: Act, at_ms: i64) {
        let Some(row) = self.close_row(exception) else { return };
        if !row.is_own() {
            return;
        }
        let order = row.order;
        match act {
            Act::Retry => {
                // Once it is looked up and absent it may be sent again: a person said so.
                self.take_ticket(order);
                self.change(order, |order| {
                    order.attempts = 0;
                    order.not_before = None;
                    order.state = order.waiting_state();
                });
                self.tell(What::Accepted, order, true, at_ms);
            }
            Act::Discard if row.category == ExceptionCategory::FetchNeeded => {
                self.change(order, |order| order.state = OrderState::Discarded);
                self.tell(What::Discarded, order, false, at_ms);
                self.forget(order);
            }
            Act::Discard => {
                if let Some(parked) = self.unpark(order) {
                    self.remember(order, parked.content.fingerprint);
                }
                self.change(order, |order| order.state = OrderState::Discarded);
                self.tell(What::Discarded, order, !row.is_stray(), at_ms);
                self.end(order, at_ms);
            }
        }
    }

    /// Notes when an order was cancelled or discarded.
    pub(super) fn end(&mut self, order: u64, at_ms: i64) {
        if let Some(detail) = self.detail_mut(order) {
            detail.ended_at_ms = Some(at_ms);
        }
    }
}

fn row_with_body(order: u64, category: ExceptionCategory, body: RowBody, at_ms: i64) -> Row {
    let reason = match (category, body.cancel) {
        (ExceptionCategory::Conflict, _) => {
            "another content came under this key, and nothing says which is newer; compare the two and correct the order at the source"
        }
        (_, true) => {
            "the sender called the order off after its summary was created; cancel it in the order management system"
        }
        (_, false) => {
            "a newer version came after the summary was created; change the order in the order management system"
        }
    };
    Row {
        order,
        category,
        reason: reason.to_owned(),
        raised_at_ms: at_ms,
        attempts: 0,
        body: Some(body),
        anchor: body.kept.epoch(),
        derived: false,
    }
}
