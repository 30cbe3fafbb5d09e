//! From what waits to the open group: verdicts, loans, calls, deliveries.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::group::{Group, Then};
use super::lookup::{Done, Found, Job, Place, Wanted};
use super::shared::{Append, Call, LOANS_MAX, Lent, Phase, Seen, SendAgain};
use super::writer::{GROUP_RECORDS_MAX, Waiter, Writer, answer};
use crate::lease::Ended;
use crate::record::Record;
use crate::state::{Kept, State};
use crate::{AppendError, BufferError, Durability, Effect, Telling};

/// Bytes of bodies and records one group takes at most; the last delivery may exceed it.
const GROUP_BYTES_MAX: usize = 2 << 20;
/// Bytes of bodies that are written anew in one group at most, unless one alone has more.
const AGAIN_BYTES_MAX: usize = 512 << 10;
/// Said of a repeat of an order whose bytes are damaged while a worker has it.
const LOST_ON_LOAN: &str = "the order's bytes on disk are damaged, and it is lent out just now";
/// Settled orders that share one record at most.
const SETTLED_MAX: usize = 256;

impl Writer {
    pub(super) fn take_settlements(&mut self) {
        let now_ms = self.shared.clock.wall_ms();
        while self.lazy.len() < GROUP_RECORDS_MAX {
            let Some(settlement) = self.shared.settlements.pop() else { break };
            let Ended { sequence, loan, named } = settlement.loan;
            let record = self.state.verdict(sequence, loan, settlement.verdict, now_ms);
            if let (Some(feed), Some(named)) = (&mut self.feed, named)
                && matches!(record, Some(Record::Settle { .. } | Record::Failed { .. }))
            {
                feed.name(sequence, named);
            }
            self.touched.extend(record.is_some().then_some(sequence));
            self.coming.extend(settlement.coming.filter(|_| record.is_some()));
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
        // Those that come while these are taken have their turn next.
        let room = self.shared.calls.capacity();
        let mut calls = std::mem::take(&mut self.acts);
        calls.extend(std::iter::from_fn(|| self.shared.next_call()).take(room));
        for call in calls {
            match call {
                Call::Lease { limit, ticketed, now, decided, reply } => {
                    self.waiters.push_back(Waiter { limit, ticketed, now, decided, reply });
                }
                Call::Sending { loans, synced, reply } => {
                    let mut note = |&(sequence, loan, maybe_there)| {
                        self.state.sending(sequence, loan, maybe_there)
                    };
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
                    Ok(_) => self.acts.push(Call::Act { exception, act, reply }),
                    Err(error) => {
                        reply.send(Err(error)).ok();
                    }
                },
                Call::SendAgain(again) => self.send_again(again, group),
                Call::Tell { telling, reply } => self.take_telling(telling, reply, group),
                Call::Close { reply } => self.closers.push(reply),
                Call::TakeIn(taking) => self.takings.push(*taking),
                read => self.reads.push(read),
            }
        }
    }

    /// Makes a summarised order wait for the drain once more.
    fn send_again(&mut self, again: Box<SendAgain>, group: &mut Group) {
        // Deliveries have their own share of a group.
        let room = AGAIN_BYTES_MAX.saturating_sub(group.first_bytes());
        if self.touched.contains(&again.sequence)
            || (group.first_bytes() > 0 && again.delivery.envelope.body.len() > room)
        {
            self.acts.push(Call::SendAgain(again));
            return;
        }
        let SendAgain { sequence, kept, head, delivery, reply } = *again;
        let there = self.state.kept(sequence).is_some_and(|now| now.same_place(&kept));
        let record = there.then(|| self.state.again_record(sequence, &head, delivery)).flatten();
        match record {
            None => {
                reply.send(Ok(false)).ok();
            }
            Some(_) if !self.journal.room_for_orders() => {
                Then::Again(reply).refuse(&AppendError::Full);
            }
            Some(record) => {
                self.touched.insert(sequence);
                group.push(record, Then::Again(reply));
            }
        }
    }

    /// Takes the OMS's own word of an order. Where the open group touches that order it is looked at again after it.
    fn take_telling(
        &mut self,
        telling: Telling,
        reply: oneshot::Sender<Result<Effect, BufferError>>,
        group: &mut Group,
    ) {
        let now_ms = self.shared.clock.wall_ms();
        let order = self.state.told_of(&telling);
        if order.is_ok_and(|order| self.touched.contains(&order)) {
            self.acts.push(Call::Tell { telling, reply });
            return;
        }
        let record = order.and_then(|order| self.state.judge_telling(order, &telling, now_ms));
        match record {
            Ok(record) => {
                self.touched.extend(order);
                group.push(record, Then::Told(reply));
            }
            Err(effect) => {
                reply.send(Ok(effect)).ok();
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
        for waiter in std::mem::take(&mut self.waiters) {
            let room = LOANS_MAX.saturating_sub(self.state.lent());
            let limit = if full { 0 } else { waiter.limit.min(room) };
            let loans = match waiter.ticketed {
                true => self.state.lend_ticketed(limit, now_ms),
                false => self.state.lend(limit, true, now_ms),
            };
            if loans.is_empty() {
                self.waiters.push_back(waiter);
                continue;
            }
            if waiter.decided.swap(true, Ordering::AcqRel) {
                // It has just stopped waiting.
                loans.iter().for_each(|loan| self.state.unlend(loan));
                continue;
            }
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

    /// Takes what the lookup thread brought, then what was put off, then what came, up to a group's room.
    pub(super) fn take_appends(&mut self, group: &mut Group) {
        let mut room = GROUP_BYTES_MAX;
        self.take_found(group, &mut room);
        let mut waiting = std::mem::take(&mut self.deferred);
        while room > 0 && group.len() < GROUP_RECORDS_MAX {
            let next = waiting.pop_front().or_else(|| self.shared.intake.pop());
            let Some(append) = next else { break };
            room = room.saturating_sub(size(&append));
            self.judge(append, group);
        }
        // What was put off again is older than what was not looked at.
        self.deferred.append(&mut waiting);
    }

    fn judge(&mut self, mut append: Append, group: &mut Group) {
        self.oldest = self.oldest.min(append.handed_in);
        if let Some(failed) = self.state.hash_of_failed(&append.envelope) {
            if let Some(waiting) = self.looking.get_mut(&failed) {
                waiting.push_back(append);
                return;
            }
            if self.is_touched(failed) {
                self.deferred.push_back(append);
                return;
            }
            if self.state.find(failed).is_none()
                && let Some(place) = self.place(failed)
            {
                self.look(failed, place, append);
                return;
            }
            self.state.hold_failed(&mut append.envelope, None);
        }
        let hash = self.state.hash_of(&append.envelope);
        self.judge_as(hash, append, group);
    }

    /// Judges a delivery of that hash, now or once it is known what is kept under it. Deliveries of one key never
    /// overtake each other: behind one that waits, the next waits too.
    fn judge_as(&mut self, hash: u128, append: Append, group: &mut Group) {
        if let Some(waiting) = self.looking.get_mut(&hash) {
            waiting.push_back(append);
        } else if self.is_touched(hash) {
            self.deferred.push_back(append);
        } else if let Some(place) = self.place(hash) {
            self.look(hash, place, append);
        } else {
            self.decide(hash, append, &Found::Outcome(None), group);
        }
    }

    /// Whether the open group touches what stands under a hash.
    fn is_touched(&self, hash: u128) -> bool {
        let found = self.state.find(hash);
        self.touched_hashes.contains(&hash) || found.is_some_and(|o| self.touched.contains(&o))
    }

    /// Where it stands what is known of a hash; `None` for a key never seen.
    fn place(&self, hash: u128) -> Option<Place> {
        if let Some(order) = self.state.find(hash) {
            let kept = self.state.kept(order)?;
            return Some(Place::Order { kept, parked: self.state.parked_at(order) });
        }
        let seek = self.outcomes.seek(hash)?;
        Some(Place::Index { seek, generation: self.outcomes.generation() })
    }

    fn look(&mut self, hash: u128, place: Place, append: Append) {
        let fingerprint_version = append.envelope.fingerprint_version;
        self.lookup.ask(Job::Key(Wanted { hash, place, fingerprint_version }));
        self.looking.entry(hash).or_default().push_back(append);
    }

    /// Judges what waited for the lookup thread.
    fn take_found(&mut self, group: &mut Group, room: &mut usize) {
        while *room > 0 && group.len() < GROUP_RECORDS_MAX {
            let Some(done) = self.lookup.next() else { break };
            match done {
                Done::Key(wanted, found) => {
                    let waiting = self.looking.get(&wanted.hash).into_iter().flatten();
                    *room = room.saturating_sub(waiting.map(size).sum());
                    self.found(&wanted, &found, group);
                }
                Done::View { key, outcome, reply } => {
                    let view = outcome.map(|outcome| self.state.outcome_view(&key, outcome));
                    reply.send(view.map(Seen::Ended)).ok();
                }
                Done::Carry(carried) => self.carried = Some(carried),
            }
        }
    }

    fn found(&mut self, wanted: &Wanted, found: &Found, group: &mut Group) {
        let hash = wanted.hash;
        let mut waiting = self.looking.remove(&hash).unwrap_or_default();
        if let Found::Unreadable(reason) = found {
            for append in waiting {
                let reason = format!("what is kept under the key cannot be read: {reason}");
                append.reply.send(Err(AppendError::Failed(reason)));
            }
            return;
        }
        if !matches!(found, Found::Moved) && self.still_so(wanted) {
            while let Some(mut append) = waiting.pop_front() {
                if self.is_touched(hash)
                    || append.envelope.fingerprint_version != wanted.fingerprint_version
                {
                    waiting.push_front(append);
                    break;
                }
                if self.state.hash_of_failed(&append.envelope) == Some(hash) {
                    let state = match found {
                        Found::Outcome(outcome) => outcome.as_ref().map(|outcome| outcome.state),
                        _ => None,
                    };
                    self.state.hold_failed(&mut append.envelope, state);
                }
                let own = self.state.hash_of(&append.envelope);
                if own == hash {
                    self.decide(hash, append, found, group);
                } else {
                    self.judge_as(own, append, group);
                }
            }
        }
        // They are older than whatever else of the key is put off.
        waiting.into_iter().rev().for_each(|append| self.deferred.push_front(append));
    }

    /// Whether what was looked up is still what stands under the hash.
    fn still_so(&self, wanted: &Wanted) -> bool {
        match (&wanted.place, self.state.find(wanted.hash)) {
            (Place::Order { kept, parked }, Some(order)) => {
                let same = |(one, _): &(Kept, u8), (other, _): &(Kept, u8)| one.same_place(other);
                self.state.kept(order).is_some_and(|now| now.same_place(kept))
                    && match (parked, &self.state.parked_at(order)) {
                        (Some(then), Some(now)) => same(then, now),
                        (then, now) => then.is_none() && now.is_none(),
                    }
            }
            (Place::Index { generation, .. }, None) => *generation == self.outcomes.generation(),
            _ => false,
        }
    }

    /// Judges a delivery beside what was found under its hash.
    fn decide(&mut self, hash: u128, append: Append, found: &Found, group: &mut Group) {
        let Append { envelope, permit, reply, .. } = append;
        let (head, body, outcome) = match found {
            Found::Order { head, body } => (head.as_deref(), body.as_ref(), None),
            Found::Outcome(outcome) => (None, None, outcome.as_deref()),
            Found::Moved | Found::Unreadable(_) => (None, None, None),
        };
        let same = |_: Kept| body.is_some_and(|body| *body == envelope.body);
        let judged = self.state.judge(hash, &envelope, head, outcome, same);
        if judged.refused() {
            drop(permit);
            reply.send(Err(AppendError::Disputed));
            return;
        }
        if judged.repeats_lost {
            // Its loan ends within moments, for its bytes cannot be read; then a repeat mends it.
            reply.send(Err(AppendError::Failed(LOST_ON_LOAN.to_owned())));
            return;
        }
        let accepted_at_ms = self.state.accepted_at(self.shared.clock.wall_ms());
        match judged.into_record(envelope, accepted_at_ms) {
            None => {
                let receipt = self.state.receipt(&judged, None, outcome, Durability::Fsync);
                answer(reply, receipt);
            }
            Some(_) if !self.journal.room_for_orders() => reply.send(Err(AppendError::Full)),
            Some(record) => {
                self.touched_hashes.insert(hash);
                self.touched.extend(judged.order);
                let outcome = outcome.cloned().map(Box::new);
                group.push_order(record, Then::Accepted { judged, outcome, permit, reply });
            }
        }
    }
}

/// About what a delivery takes of a group.
fn size(append: &Append) -> usize {
    append.envelope.body.len() + 256
}
