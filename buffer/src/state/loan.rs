//! Loans: which orders are lent out by this process, and the verdicts that end them.

use hashbrown::HashMap;

use super::State;
use super::order::Kept;
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

/// How long an order waits before its ticket is asked after again.
const TICKET_PAUSE_MS: i64 = 5_000;

/// One order as it is lent out.
#[derive(Clone, Debug)]
pub(crate) struct Loan {
    pub(crate) sequence: u64,
    pub(crate) number: u64,
    pub(crate) kept: Kept,
    pub(crate) accepted_at_ms: i64,
    pub(crate) attempts: u8,
    pub(crate) deaths: u8,
    pub(crate) sent_before: bool,
    pub(crate) ticket: Option<String>,
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
}

impl State {
    /// Loans under way.
    pub(crate) fn lent(&self) -> usize {
        self.loans.out.len()
    }

    /// Lets delayed orders whose time has come join the ready ones.
    pub(crate) fn wake_due(&mut self, now_ms: i64) {
        while let Some(sequence) = self.queue.due(now_ms) {
            self.change(sequence, |order| order.not_before_ms = None);
        }
    }

    /// The wall clock was set back: retries come no later for it. A time the sender asked for stands.
    pub(crate) fn clock_set_back(&mut self, by_ms: i64) {
        for sequence in self.queue.delayed().collect::<Vec<_>>() {
            self.change(sequence, |order| {
                if order.not_before_ms != order.content.not_before_ms {
                    order.not_before_ms = order.not_before_ms.map(|at| at.saturating_sub(by_ms));
                }
            });
        }
    }

    /// When the next delayed order's time comes.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.queue.next_due_ms()
    }

    /// Lends up to `limit` orders, oldest first; a suspect comes alone, and only one is out at a time.
    pub(crate) fn lend(&mut self, limit: usize, now_ms: i64) -> Vec<Loan> {
        self.wake_due(now_ms);
        let suspect_out = self.loans.out.values().any(|out| out.suspect);
        let chosen = match self.queue.suspect() {
            Some(suspect) if !suspect_out && limit > 0 => vec![suspect],
            _ => self.queue.ready().take(limit).collect(),
        };
        chosen.into_iter().filter_map(|sequence| self.lend_one(sequence)).collect()
    }

    fn lend_one(&mut self, sequence: u64) -> Option<Loan> {
        self.loans.given += 1;
        let order = self.orders.get(&sequence)?;
        let loan = Loan {
            sequence,
            number: self.loans.given,
            kept: order.content.kept,
            accepted_at_ms: order.accepted_at_ms,
            attempts: order.attempts,
            deaths: order.deaths,
            sent_before: order.sent_before,
            ticket: self.tickets.get(&sequence).cloned(),
        };
        let out = Out {
            number: loan.number,
            suspect: loan.deaths > 0,
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

    /// Takes a loan back of which nothing was noted and nobody heard.
    pub(crate) fn unlend(&mut self, loan: &Loan) {
        self.loans.out.remove(&loan.sequence);
        self.change(loan.sequence, |order| {
            order.on_loan = false;
            order.state = order.waiting_state();
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
        (out.number == number).then(|| self.get(sequence).map(|order| order.content.kept)).flatten()
    }

    /// Notes that bytes of a loan may leave for the OMS. False, and nothing is noted, where it is not out any
    /// more, or where a change waits for its end and nothing of it was ever sent.
    pub(crate) fn sending(&mut self, sequence: u64, number: u64) -> bool {
        let maybe_sent = self.get(sequence).is_some_and(|order| order.sent_before);
        let changed = self.parked.contains_key(&sequence) && !maybe_sent;
        let Some(out) = self.loans.out.get_mut(&sequence) else { return false };
        if out.number != number || changed {
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
        let order = self.get(sequence)?;
        let attempts = order.attempts;
        let settled = order.state == OrderState::Summarised;
        match (current, &verdict) {
            (Some(_), _) => self.loans.out.remove(&sequence),
            (None, Some(Verdict::Summarised { .. })) if !settled => None,
            (None, _) => return None,
        };
        let (sent_before, sending) = current.map_or((true, true), |o| (o.sent_before, o.sending));
        Some(match verdict {
            Some(Verdict::Summarised { summary_id, existing }) => {
                let attempts = attempts.saturating_add(1);
                let entry =
                    Settled { order: sequence, summary_id, existing, attempts, at_ms: now_ms };
                Record::Settle { entries: vec![entry] }
            }
            Some(Verdict::Submitted { ticket }) => Record::Ticket { order: sequence, ticket },
            Some(Verdict::Retry { after, counts, sent, reason }) => {
                let after =
                    i64::try_from(after.as_millis()).unwrap_or(i64::MAX).min(BACKOFF_MAX_MS);
                // A worker that was allowed to send again knew that nothing had arrived before.
                let sent = sent || (sent_before && !sending);
                let attempts = attempts.saturating_add(u8::from(counts));
                let not_before_ms = if after > 0 { now_ms.saturating_add(after) } else { 0 };
                Record::Retry { order: sequence, not_before_ms, attempts, sent, reason }
            }
            Some(Verdict::Exception { category, reason }) => {
                let attempts = attempts.saturating_add(1);
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

    /// Delays, in this process only, the next look at an order whose ticket was just noted.
    pub(crate) fn pause_ticket(&mut self, sequence: u64, now_ms: i64) {
        self.change(sequence, |order| order.not_before_ms = Some(now_ms + TICKET_PAUSE_MS));
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
    pub(crate) fn replayed(&mut self, now_ms: i64) -> Vec<Record> {
        self.replaying = false;
        let lent = self.orders.iter().filter(|(_, order)| order.on_loan);
        let mut lent: Vec<u64> = lent.map(|(sequence, _)| *sequence).collect();
        lent.sort_unstable();
        let mut poison = Vec::new();
        for sequence in lent {
            self.change(sequence, |order| {
                order.on_loan = false;
                order.sent_before = true;
                order.state = OrderState::Submitted;
                order.not_before_ms = None;
                order.deaths = order.deaths.saturating_add(u8::from(!Control::NoDeaths.is_on()));
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
        let far: Vec<u64> = self.queue.delayed().collect();
        for sequence in far {
            self.change(sequence, |order| {
                // A time the sender asked for stands.
                if order.not_before_ms != order.content.not_before_ms {
                    let most = now_ms.saturating_add(BACKOFF_MAX_MS);
                    order.not_before_ms = order.not_before_ms.map(|time| time.min(most));
                }
            });
        }
        poison
    }

    /// For a record whose bytes are damaged: the record that sets its order aside, if the order still needs them.
    pub(crate) fn damaged(&self, record: &Record, sequence: u64, now_ms: i64) -> Option<Record> {
        let order = match record {
            Record::Accept(_) => sequence,
            Record::Replace { order, .. } | Record::Moved { order, .. } => *order,
            _ => return None,
        };
        let current = self.get(order).is_some_and(|order| order.content.kept.record == sequence);
        current.then(|| self.damaged_order(order, now_ms)).flatten()
    }

    /// Sets an order aside whose bytes are damaged, unless it ended or is set aside already.
    pub(crate) fn damaged_order(&self, sequence: u64, now_ms: i64) -> Option<Record> {
        let order = self.get(sequence)?;
        if order.ended() || order.state == OrderState::Exception {
            return None;
        }
        Some(Record::Failed {
            order: sequence,
            at_ms: now_ms,
            attempts: order.attempts,
            category: ExceptionCategory::Damaged,
            reason: DAMAGED.to_owned(),
        })
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
        Ok(Acting { order: row.order, in_memory: self.get(row.order).is_some() })
    }
}
