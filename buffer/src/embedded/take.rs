//! From what waits to the open group: verdicts, loans, calls, deliveries.

use std::sync::Arc;

use super::group::{Group, Then};
use super::shared::{Append, Call, LOANS_MAX, Lent, Phase};
use super::writer::{GROUP_RECORDS_MAX, Waiter, Writer, answer};
use crate::record::Record;
use crate::state::{Kept, Outcome, State};
use crate::{AppendError, Durability};

/// Bytes of bodies and records one group takes at most; the last delivery may exceed it.
const GROUP_BYTES_MAX: usize = 2 << 20;
/// Settled orders that share one record at most.
const SETTLED_MAX: usize = 256;

impl Writer {
    pub(super) fn take_settlements(&mut self) {
        let now_ms = self.shared.clock.wall_ms();
        while self.lazy.len() < GROUP_RECORDS_MAX {
            let Some(settlement) = self.shared.settlements.pop() else { break };
            let (sequence, verdict) = (settlement.sequence, settlement.verdict);
            let record = self.state.verdict(sequence, settlement.loan, verdict, now_ms);
            self.touched.extend(record.is_some().then_some(sequence));
            match (record, self.lazy.last_mut()) {
                // Settled orders share one record.
                (Some(Record::Settle { entries: more }), Some(Record::Settle { entries }))
                    if entries.len() < SETTLED_MAX =>
                {
                    entries.extend(more);
                }
                (Some(record), _) => self.lazy.push(record),
                (None, _) => {}
            }
        }
    }

    pub(super) fn take_calls(&mut self, group: &mut Group) {
        while let Some(call) = self.shared.calls.pop() {
            self.shared.call_room.add_permits(1);
            match call {
                Call::Lease { limit, now, reply } => {
                    self.waiters.push_back(Waiter { limit, now, reply });
                }
                Call::Sending { loans, synced, reply } => {
                    let mut note = |&(sequence, loan)| self.state.sending(sequence, loan);
                    let noted: Vec<bool> = loans.iter().map(&mut note).collect();
                    let orders = loans.iter().zip(&noted).filter(|(_, noted)| **noted);
                    let orders = orders.map(|(loan, _)| loan.0).collect();
                    let record = Record::Submitting { orders };
                    if synced {
                        group.push(record, Then::Sent(reply, noted));
                    } else {
                        self.lazy.push(record);
                        reply.send(noted).ok();
                    }
                }
                Call::Act { exception, act, reply } => match self.state.check_act(exception, act) {
                    Ok(acting) if self.touched.insert(acting.order) => {
                        let at_ms = self.shared.clock.wall_ms();
                        let then = Then::Acted { exception, act, acting, reply };
                        group.push(Record::Act { exception, act, at_ms }, then);
                    }
                    // The open group touches that order: look again after it.
                    Ok(_) => self.reads.push(Call::Act { exception, act, reply }),
                    Err(error) => {
                        reply.send(Err(error)).ok();
                    }
                },
                Call::Close { reply } => self.closers.push(reply),
                read => self.reads.push(read),
            }
        }
    }

    /// Lends to those who wait. The loan is durable before the order is handed out, so that a start after a
    /// crash knows every order that may have been sent.
    pub(super) fn lend(&mut self, group: &mut Group) {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        if self.shared.phase() != Phase::Open {
            self.waiters.clear();
        }
        self.follow_clock();
        let now_ms = self.shared.clock.wall_ms();
        // Notes of loans that come to nothing must not use up what making room again needs.
        let full = self.full_now() || !self.journal.room_to_lend();
        while let Some(waiter) = self.waiters.front().filter(|_| !full) {
            let room = LOANS_MAX.saturating_sub(self.state.lent());
            let loans = self.state.lend(waiter.limit.min(room), now_ms);
            let Some(waiter) = (!loans.is_empty()).then(|| self.waiters.pop_front()).flatten()
            else {
                break;
            };
            let record = State::leased_record(&loans);
            let home = &self.shared;
            let lent = loans.into_iter().map(|loan| Lent::new(loan, Arc::clone(home))).collect();
            group.push(record, Then::Lent(waiter.reply, lent));
        }
        for n in (0..self.waiters.len()).rev() {
            if self.waiters.get(n).is_some_and(|waiter| waiter.now)
                && let Some(waiter) = self.waiters.remove(n)
            {
                waiter.reply.send(Vec::new()).ok();
            }
        }
    }

    pub(super) fn take_appends(&mut self, group: &mut Group) {
        let waiting = self.deferred.len();
        let mut room = GROUP_BYTES_MAX;
        for n in 0.. {
            if room == 0 || group.len() >= GROUP_RECORDS_MAX {
                break;
            }
            let next =
                if n < waiting { self.deferred.pop_front() } else { self.shared.intake.pop() };
            let Some(append) = next else { break };
            room = room.saturating_sub(append.envelope.body.len() + 256);
            self.judge(append, group);
        }
    }

    fn judge(&mut self, append: Append, group: &mut Group) {
        let Append { mut envelope, permit, reply } = append;
        let index = |hash| self.outcomes.find(hash).map(|outcome| outcome.state);
        self.state.hold_failed(&mut envelope, index);
        let hash = self.state.hash_of(&envelope);
        let found = self.state.find(hash);
        if self.touched_hashes.contains(&hash) || found.is_some_and(|o| self.touched.contains(&o)) {
            self.deferred.push_back(Append { envelope, permit, reply });
            return;
        }
        let outcome: Option<Outcome> = found.is_none().then(|| self.outcomes.find(hash)).flatten();
        let same = |kept: Kept| {
            let read = kept.location.map(|location| self.shared.reader.read(location));
            matches!(read, Some(Ok((_, record)))
                if record.delivery().is_some_and(|d| d.envelope.body == envelope.body))
        };
        let judged = self.state.judge(hash, &envelope, outcome.as_ref(), same);
        let accepted_at_ms = self.state.accepted_at(self.shared.clock.wall_ms());
        match judged.into_record(envelope, accepted_at_ms) {
            None => {
                let receipt =
                    self.state.receipt(&judged, None, outcome.as_ref(), Durability::Fsync);
                answer(reply, receipt);
            }
            Some(_) if !self.journal.room_for_orders() => reply.send(Err(AppendError::Full)),
            Some(record) => {
                self.touched_hashes.insert(hash);
                self.touched.extend(judged.order);
                group.push_order(record, Then::Accepted { judged, outcome, permit, reply });
            }
        }
    }
}
