//! Loans: which orders are lent out by this process, and the verdicts that end them.

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::HashMap;

use super::State;
use super::order::{Kept, Order};
use super::pack::DEATHS_COUNTED;
use crate::control::Control;
use crate::record::{Record, Settled};
use crate::{Act, ActError, ExceptionCategory, OrderState, Verdict};

/// An order that was lent out in this many processes that died is set aside as poison.
const DEATHS_MAX: u8 = 3;

/// Said of an order whose bytes on disk do not verify.
pub(crate) const DAMAGED: &str =
    "its bytes on disk are damaged; have the sender send the same order again, which repairs this";

/// A persisted retry time is never taken as further away than this: a clock that was set back must not park
/// an order for years.
const BACKOFF_MAX_MS: i64 = 24 * 3_600 * 1_000;

/// Bytes of a reason that are kept.
pub(super) const REASON_MAX: usize = 512;
/// Bytes of an OMS's id of a summary that are kept, and the longest ticket that is taken.
pub(super) const ID_MAX: usize = 1_024;
const TICKET_TOO_LONG: &str = "the order management system took the order under a ticket of more than 1,024 bytes, which is not \
     kept; look for the order there, then retry or discard this";

/// One order as it is lent out.
#[derive(Clone, Debug)]
pub(crate) struct Loan {
    pub(crate) sequence: u64,
    pub(crate) number: u64,
    pub(crate) kept: Kept,
    /// When the order was first accepted, where its content's record does not say.
    pub(crate) accepted_at_ms: Option<i64>,
    pub(crate) attempts: u8,
    pub(crate) deaths: u8,
    pub(crate) sent_before: bool,
    pub(crate) look_first: bool,
    pub(crate) ticket: Option<String>,
    pub(crate) ticket_at_ms: Option<i64>,
}

impl Loan {
    /// The record that its order may have been sent, in a loan of another process.
    pub(crate) fn taken_over(&self) -> Record {
        let reason = "lent by an owner that ended".to_owned();
        let attempts = self.attempts;
        Record::Retry { order: self.sequence, not_before_ms: 0, attempts, sent: true, reason }
    }
}

/// The order an act on an exception is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acting {
    pub(crate) order: u64,
    /// Whether more than its outcome is kept.
    pub(crate) in_memory: bool,
}

#[derive(Clone, Copy, Debug)]
struct Out {
    number: u64,
    suspect: bool,
    sent_before: bool,
    /// `submitting` was called for this loan.
    sending: bool,
}

/// Loans under way.
#[derive(Debug, Default)]
pub(super) struct Loans {
    out: HashMap<u64, Out>,
    given: u64,
    /// Orders that records of an earlier process say were lent.
    pub(super) noted: BTreeSet<u64>,
}

impl State {
    /// Loans under way.
    pub(crate) fn lent(&self) -> usize {
        self.loans.out.len()
    }

    /// Lets delayed orders whose time has come join the ready ones.
    pub(crate) fn wake_due(&mut self, now_ms: i64) {
        while let Some(sequence) = self.queue.due(now_ms) {
            self.change(sequence, |order| order.not_before = None);
        }
    }

    /// The wall clock was set back: retries come no later for it. A time the sender asked for stands.
    pub(crate) fn clock_set_back(&mut self, by_ms: i64) {
        self.change_retries(|time_ms| time_ms.saturating_sub(by_ms));
    }

    /// When the next delayed order's time comes; of those under a ticket, or of the others.
    pub(crate) fn next_due_ms(&self, ticketed: bool) -> Option<i64> {
        self.queue.next_due_ms(ticketed)
    }

    /// Loans get numbers above this one.
    pub(crate) fn number_loans_from(&mut self, number: u64) {
        self.loans.given = number;
    }

    /// Lends up to `limit` orders, oldest first; a suspect comes alone, only one is out at a time, and none without `suspects`.
    pub(crate) fn lend(&mut self, limit: usize, suspects: bool, now_ms: i64) -> Vec<Loan> {
        self.wake_due(now_ms);
        let chosen = match self.queue.suspect() {
            Some(suspect) if suspects && !self.suspect_out() && limit > 0 => vec![suspect],
            _ => self.queue.ready().take(limit).collect(),
        };
        chosen.into_iter().filter_map(|sequence| self.lend_one(sequence)).collect()
    }

    /// Lends up to `limit` orders that are under a ticket and to be looked up by now, longest due first.
    pub(crate) fn lend_ticketed(&mut self, limit: usize, now_ms: i64) -> Vec<Loan> {
        let chosen = self.to_look_up(now_ms).take(limit).map(|(_, sequence)| sequence);
        let chosen = chosen.collect::<Vec<_>>();
        chosen.into_iter().filter_map(|sequence| self.lend_one(sequence)).collect()
    }

    /// Orders that are under a ticket and to be looked up by now, longest due first, each with since when.
    pub(crate) fn to_look_up(&self, now_ms: i64) -> impl Iterator<Item = (i64, u64)> {
        self.queue.to_look_up(now_ms)
    }

    /// Whether an order is out that may have killed a process.
    pub(super) fn suspect_out(&self) -> bool {
        self.loans.out.values().any(|out| out.suspect)
    }

    fn lend_one(&mut self, sequence: u64) -> Option<Loan> {
        self.loans.given += 1;
        let order = self.get(sequence)?;
        let loan = self.loan(sequence, &order, self.loans.given);
        let out = Out {
            number: loan.number,
            suspect: loan.deaths > 0 && !order.ticketed,
            sent_before: loan.sent_before,
            sending: false,
        };
        self.loans.out.insert(sequence, out);
        self.change(sequence, |order| {
            order.on_loan = true;
            if order.state == OrderState::Pending {
                order.state = OrderState::Leased;
            }
        });
        Some(loan)
    }

    pub(super) fn loan(&self, sequence: u64, order: &Order, number: u64) -> Loan {
        let detail = self.detail(sequence);
        let ticket = detail.and_then(|detail| detail.ticket.as_deref());
        Loan {
            sequence,
            number,
            kept: order.kept,
            accepted_at_ms: detail.and_then(|detail| detail.accepted_at_ms),
            attempts: order.attempts,
            deaths: order.deaths,
            sent_before: order.sent_before,
            look_first: self.looks_first(order),
            ticket: ticket.map(|ticket| ticket.text.to_string()),
            ticket_at_ms: ticket.and_then(|ticket| ticket.at_ms),
        }
    }

    /// Takes a loan back of which nothing was noted and nobody heard.
    pub(crate) fn unlend(&mut self, loan: &Loan) {
        let out = self.loans.out.get(&loan.sequence);
        if out.is_none_or(|out| out.number != loan.number) {
            return;
        }
        self.loans.out.remove(&loan.sequence);
        self.change(loan.sequence, |order| {
            // A change that came meanwhile may have held it, or called it off.
            if order.on_loan {
                order.on_loan = false;
                order.state = order.waiting_state();
            }
        });
    }

    /// The record that notes a loan, durable before the order is handed out: whatever a later start finds noted may
    /// have reached the OMS.
    pub(crate) fn leased_record(loans: &[Loan]) -> Record {
        Record::Leased { orders: loans.iter().map(|loan| (loan.sequence, loan.deaths)).collect() }
    }

    /// Whether an order of that loan is still out, and where its content is now.
    pub(crate) fn kept_on_loan(&self, sequence: u64, number: u64) -> Option<Kept> {
        let out = self.loans.out.get(&sequence)?;
        (out.number == number).then(|| self.kept(sequence)).flatten()
    }

    /// Notes that bytes of a loan may leave for the OMS. False, and nothing is noted, where it is not out any
    /// more, or where a change waits for its end and nothing was sent under it.
    ///
    /// `maybe_there`: an earlier loan may have sent it, and nobody could ask whether that arrived; then it is sent as it was, for what the
    /// OMS says to that is what decides about the change. Else an order that was sent before is known not to have arrived (see
    /// [`crate::Buffer::submitting`]): with a change waiting it is as good as never sent, and the change takes effect when the loan ends.
    pub(crate) fn sending(&mut self, sequence: u64, number: u64, maybe_there: bool) -> bool {
        let changed = self.parked(sequence).is_some();
        // The OMS said by itself meanwhile what became of it.
        if self.get(sequence).is_none_or(|order| !order.on_loan) {
            return false;
        }
        let Some(out) = self.loans.out.get_mut(&sequence) else { return false };
        if out.number != number {
            return false;
        }
        if changed && !out.sending && !maybe_there {
            out.sent_before = false;
            return false;
        }
        out.sending = true;
        self.change(sequence, |order| {
            order.sent_before = true;
            order.state = OrderState::Submitted;
        });
        true
    }

    /// Ends a loan (`None`: dropped): the record of it. A stale loan's verdict is ignored unless it is `Summarised`.
    pub(crate) fn verdict(
        &mut self,
        sequence: u64,
        number: u64,
        verdict: Option<Verdict>,
        now_ms: i64,
    ) -> Option<Record> {
        let current = self.loans.out.get(&sequence).filter(|out| out.number == number).copied();
        if current.is_some() {
            self.loans.out.remove(&sequence);
        }
        let order = self.get(sequence)?;
        // A loan is over, too, once the OMS said by itself what became of the order.
        let current = current.filter(|_| order.on_loan);
        let attempts = order.attempts;
        let settled = order.state == OrderState::Summarised;
        match (current, &verdict) {
            (Some(_), _) => {}
            (None, Some(Verdict::Summarised { .. })) if !settled => {}
            (None, _) => return None,
        }
        let (sent_before, sending) = current.map_or((true, true), |o| (o.sent_before, o.sending));
        Some(match verdict {
            Some(Verdict::Summarised { summary_id, existing }) => {
                let attempts = attempts.saturating_add(1);
                let summary_id = cut(summary_id, ID_MAX);
                let entry =
                    Settled { order: sequence, summary_id, existing, attempts, at_ms: now_ms };
                Record::Settle { entries: vec![entry] }
            }
            Some(Verdict::Submitted { ticket, after }) if ticket.len() <= ID_MAX => {
                // Looked up in vain, it is under the ticket it had.
                let had = self.ticket_of(sequence).filter(|had| *had.text == *ticket);
                let at_ms = had.map_or(Some(now_ms), |had| had.at_ms);
                let not_before_ms = Some(not_before(now_ms, after));
                Record::Ticket { order: sequence, ticket, at_ms, not_before_ms }
            }
            Some(Verdict::Submitted { .. }) => Record::Failed {
                order: sequence,
                at_ms: now_ms,
                attempts,
                category: ExceptionCategory::OutcomeUnknown,
                reason: TICKET_TOO_LONG.to_owned(),
            },
            Some(Verdict::Retry { after, counts, sent, reason }) => {
                // A worker that was allowed to send again knew that nothing had arrived before.
                let sent = sent || (sent_before && !sending);
                let attempts = attempts.saturating_add(u8::from(counts));
                let not_before_ms =
                    if after.as_millis() == 0 { 0 } else { not_before(now_ms, after) };
                let reason = cut(reason, REASON_MAX);
                Record::Retry { order: sequence, not_before_ms, attempts, sent, reason }
            }
            Some(Verdict::Exception { category, reason }) => {
                let attempts = attempts.saturating_add(1);
                let reason = cut(reason, REASON_MAX);
                Record::Failed { order: sequence, at_ms: now_ms, attempts, category, reason }
            }
            None => Record::Retry {
                order: sequence,
                not_before_ms: 0,
                attempts,
                sent: sent_before || sending,
                reason: "returned".to_owned(),
            },
        })
    }

    /// Ends every loan, for an orderly close.
    pub(crate) fn end_loans(&mut self, now_ms: i64) -> Vec<Record> {
        let out: Vec<_> = self.loans.out.iter().map(|(order, out)| (*order, out.number)).collect();
        let ended = out.into_iter().filter_map(|(order, n)| self.verdict(order, n, None, now_ms));
        ended.collect()
    }

    /// All records of earlier processes are applied. An order still lent out by then was lent when the process
    /// died: it may have been sent, and may be what killed it. Returns the records that set repeat
    /// offenders aside, to be appended and applied.
    ///
    /// They are left alone for `lent_wait`: where whoever lent them may live on, a call of it may be under way.
    pub(crate) fn replayed(&mut self, now_ms: i64, lent_wait: Duration) -> Vec<Record> {
        let wait_ms = (!lent_wait.is_zero()).then(|| not_before(now_ms, lent_wait));
        self.replaying = false;
        let lent = std::mem::take(&mut self.loans.noted).into_iter();
        let lent: Vec<u64> =
            lent.filter(|order| self.get(*order).is_some_and(|order| order.on_loan)).collect();
        let mut poison = Vec::new();
        for sequence in lent {
            self.change(sequence, |order| {
                order.on_loan = false;
                order.sent_before = !Control::ForgottenLoans.is_on();
                order.state = order.waiting_state();
                order.delay(wait_ms);
                // Nothing is sent of one under a ticket, so it was not what killed the process.
                let more = u8::from(!order.ticketed && !Control::NoDeaths.is_on());
                order.deaths = order.deaths.saturating_add(more).min(DEATHS_COUNTED);
            });
            let Some(order) = self.get(sequence).filter(|order| order.deaths >= DEATHS_MAX) else {
                continue;
            };
            poison.push(Record::Failed {
                order: sequence,
                at_ms: now_ms,
                attempts: order.attempts,
                category: ExceptionCategory::Poison,
                reason: format!(
                    "the process died {} times while this order was lent out; look at the order and the log, then retry or discard it",
                    order.deaths
                ),
            });
        }
        self.retry_by(now_ms.saturating_add(BACKOFF_MAX_MS));
        poison
    }

    /// No retry comes later than this. A time the sender asked for stands.
    pub(crate) fn retry_by(&mut self, at_ms: i64) {
        self.change_retries(|time_ms| time_ms.min(at_ms));
    }

    fn change_retries(&mut self, change: impl Fn(i64) -> i64) {
        for sequence in self.queue.delayed().collect::<Vec<_>>() {
            self.change(sequence, |order| {
                if let Some(time) = order.not_before.as_mut().filter(|time| !time.asked) {
                    time.at_ms = change(time.at_ms);
                }
            });
        }
    }

    /// For a record whose bytes are damaged: the record that sets its order aside, if the order still needs them.
    pub(crate) fn damaged(&self, record: &Record, kept: Kept, now_ms: i64) -> Option<Record> {
        let order = match record {
            Record::Accept(_) => kept.record,
            Record::Replace { order, .. } | Record::Moved { order, .. } => *order,
            _ => return None,
        };
        let current = self.kept(order).is_some_and(|current| current.same_place(&kept));
        current.then(|| self.damaged_order(order, now_ms)).flatten()
    }

    /// Sets an order aside whose bytes are damaged, unless it needs them no more, is known as damaged, or is no order
    /// to be sent anyway. An order that is lent out must not be set aside: its loan ends as it ends.
    pub(crate) fn damaged_order(&self, sequence: u64, now_ms: i64) -> Option<Record> {
        let order = self.get(sequence)?;
        let set_aside =
            |row: &super::Row| row.is_stray() || row.category == ExceptionCategory::Damaged;
        let mut own = self.rows.of(sequence).map(|(_, row)| row).filter(|row| row.is_own());
        let was = own.next();
        if order.ended() || order.on_loan || was.is_some_and(set_aside) {
            return None;
        }
        let reason = match was {
            Some(row) => format!("{DAMAGED}; before that: {}", row.reason),
            None => DAMAGED.to_owned(),
        };
        Some(Record::Failed {
            order: sequence,
            at_ms: now_ms,
            attempts: order.attempts,
            category: ExceptionCategory::Damaged,
            reason: cut(reason, REASON_MAX),
        })
    }

    /// Whether an order is lent out now.
    pub(crate) fn is_lent(&self, sequence: u64) -> bool {
        self.loans.out.contains_key(&sequence)
    }

    /// Whether an act on an exception is possible, and the order it is about.
    ///
    /// # Errors
    /// [`ActError::NotFound`], [`ActError::NotPossible`].
    pub(crate) fn check_act(&self, exception: u64, act: Act) -> Result<Acting, ActError> {
        let row = self.rows.get(exception).ok_or(ActError::NotFound)?;
        if act == Act::Retry {
            if row.is_stray() {
                return Err(ActError::NotPossible(
                    "there is no order to retry; have the sender send it again, or discard this",
                ));
            }
            if !row.is_own() {
                return Err(ActError::NotPossible(
                    "the order itself is not stopped by this; settle the difference, then discard this",
                ));
            }
            if row.category == ExceptionCategory::Damaged {
                return Err(ActError::NotPossible(
                    "its bytes are damaged; have the sender send the same order again, or discard this",
                ));
            }
        }
        if row.is_own() && self.is_lent(row.order) {
            return Err(ActError::NotPossible(
                "the order is lent out to a worker; try again when that attempt has ended",
            ));
        }
        Ok(Acting { order: row.order, in_memory: self.get(row.order).is_some() })
    }
}

/// So long from now, at most a day.
pub(super) fn not_before(now_ms: i64, after: Duration) -> i64 {
    let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_add(after_ms.min(BACKOFF_MAX_MS))
}

/// A text cut to so many bytes, at a character.
pub(super) fn cut(mut text: String, bytes_max: usize) -> String {
    let end = (0..=bytes_max.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or_default());
    text
}
