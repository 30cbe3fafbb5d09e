//! The one writer: takes everything that waits, makes one group of it, syncs once, and only then answers.
//!
//! Each turn: verdicts, loans, calls, deliveries -> records -> one append -> apply -> answers -> reads. Everything is judged
//! against durable state only. What touches an order that the open group already touches waits for the next
//! group, so a duplicate never runs ahead of its first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashSet;
use tokio::sync::oneshot;

use super::group::{Group, Then};
use super::journal::{Journal, Location, Placed, WriteError};
use super::outcomes::Outcomes;
use super::recovery::Recovered;
use super::retire::Retiring;
use super::shared::{Append, Call, LOANS_MAX, Lent, Phase, Seen, Shared};
use crate::record::Record;
use crate::state::{DAMAGED, Kept, Outcome, State};
use crate::{AppendError, Durability, ExceptionCategory, Verdict};

/// Bytes of bodies and records one group takes at most; the last delivery may exceed it.
const GROUP_BYTES_MAX: usize = 2 << 20;
/// Records one group takes at most.
const GROUP_RECORDS_MAX: usize = 4_096;
/// What nobody waits for is written by itself after so long.
const LAZY_PAUSE: Duration = Duration::from_millis(50);
/// A group that nothing after it proves is proven by an empty one after so long.
const PROVE_PAUSE: Duration = Duration::from_secs(1);
/// Delayed orders are looked at this often while a worker waits, for the wall clock may jump.
const DUE_PAUSE: Duration = Duration::from_millis(100);

/// A worker that waits for orders.
pub(super) struct Waiter {
    limit: usize,
    /// Does not wait: hears of nothing, too.
    now: bool,
    reply: oneshot::Sender<Vec<Lent>>,
}

/// Owned by its thread alone.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) state: State,
    pub(super) outcomes: Outcomes,
    /// What recovery found, for people.
    pub(super) recovery: Vec<String>,
    /// Records nobody waits for; they ride in the next group.
    pub(super) lazy: Vec<Record>,
    touched: HashSet<u64>,
    touched_hashes: HashSet<u128>,
    deferred: VecDeque<Append>,
    waiters: VecDeque<Waiter>,
    reads: Vec<Call>,
    closers: Vec<oneshot::Sender<()>>,
    pub(super) retiring: Option<Retiring>,
    pub(super) retire_after: Duration,
    /// The oldest segment, and since when it is the oldest here.
    pub(super) oldest_since: Option<(u64, Duration)>,
    pub(super) horizon_ms: i64,
    /// Stands before every append, to hold or fail it.
    #[cfg(test)]
    pub(super) gate: Option<super::tests::Gate>,
}

/// The buffer is over: a write or sync failed, in words.
#[derive(Debug)]
pub(super) struct Fatal(pub(super) String);

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, recovered: Recovered, horizon: Duration) -> Self {
        let Recovered { journal, state, outcomes, report } = recovered;
        Self {
            shared,
            journal,
            state,
            outcomes,
            recovery: report,
            lazy: Vec::new(),
            touched: HashSet::new(),
            touched_hashes: HashSet::new(),
            deferred: VecDeque::new(),
            waiters: VecDeque::new(),
            reads: Vec::new(),
            closers: Vec::new(),
            retiring: None,
            retire_after: Duration::ZERO,
            oldest_since: None,
            horizon_ms: i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX / 2),
            #[cfg(test)]
            gate: None,
        }
    }

    /// Works until the buffer is closed or abandoned; gives back those who wait for the close.
    ///
    /// # Errors
    /// [`Fatal`] after a failed write or sync. Everybody who waits hears a hang-up, and finds the reason in
    /// [`Shared::gone`].
    pub(super) fn run(&mut self) -> Result<Vec<oneshot::Sender<()>>, Fatal> {
        let mut idle = false;
        loop {
            let worked = self.turn(idle)?;
            self.shared.pending.store(self.state.pending(), Ordering::Relaxed);
            self.shared.full.store(!self.journal.room_for_orders(), Ordering::Relaxed);
            match self.shared.phase() {
                Phase::Abandoned if self.nothing_waits() => return Ok(Vec::new()),
                Phase::Closing if self.nothing_waits() && !self.closers.is_empty() => {
                    return self.finish();
                }
                _ => {}
            }
            if worked || self.more() {
                idle = false;
                continue;
            }
            if idle {
                self.prove()?;
            }
            std::thread::park_timeout(self.pause());
            idle = true;
        }
    }

    fn nothing_waits(&self) -> bool {
        self.shared.intake.is_empty() && self.shared.calls.is_empty() && self.deferred.is_empty()
    }

    fn more(&self) -> bool {
        !self.deferred.is_empty()
            || !self.shared.intake.is_empty()
            || !self.shared.calls.is_empty()
            || !self.shared.settlements.is_empty()
            || self.retiring.as_ref().is_some_and(Retiring::wants_a_turn)
    }

    fn pause(&self) -> Duration {
        let mut pause = PROVE_PAUSE;
        if !self.lazy.is_empty() {
            pause = pause.min(LAZY_PAUSE);
        }
        if !self.waiters.is_empty()
            && let Some(due) = self.state.next_due_ms()
        {
            let left = due.saturating_sub(self.shared.clock.wall_ms()).max(1);
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(1));
            pause = pause.min(left).min(DUE_PAUSE);
        }
        pause
    }

    fn prove(&mut self) -> Result<(), Fatal> {
        if self.lazy.is_empty() && self.journal.unproven() {
            match self.journal.prove() {
                Ok(_) | Err(WriteError::Full) => {}
                Err(error) => return Err(self.shared.fail(error.to_string())),
            }
        }
        Ok(())
    }

    /// One turn; `idle`: nothing had come for a while, so what nobody waits for is due too.
    fn turn(&mut self, idle: bool) -> Result<bool, Fatal> {
        let mut group = Group::default();
        self.take_settlements();
        self.take_calls(&mut group);
        self.lend(&mut group);
        self.take_appends(&mut group);
        let due = !self.lazy.is_empty()
            && (idle
                || !self.reads.is_empty()
                || !self.deferred.is_empty()
                || self.lazy.len() >= GROUP_RECORDS_MAX / 4);
        let worked = group.urgent() || due || !self.reads.is_empty();
        if group.urgent() || due {
            self.commit(group)?;
        }
        for read in std::mem::take(&mut self.reads) {
            self.serve(read);
        }
        let retired = self.retire()?;
        Ok(worked || retired)
    }

    fn take_settlements(&mut self) {
        let now_ms = self.shared.clock.wall_ms();
        while self.lazy.len() < GROUP_RECORDS_MAX {
            let Some(settlement) = self.shared.settlements.pop() else { break };
            let (sequence, verdict) = (settlement.sequence, settlement.verdict);
            let record = self.state.verdict(sequence, settlement.loan, verdict, now_ms);
            self.touched.extend(record.is_some().then_some(sequence));
            match (record, self.lazy.last_mut()) {
                // Settled orders share one record.
                (Some(Record::Settle { entries: more }), Some(Record::Settle { entries }))
                    if entries.len() < 256 =>
                {
                    entries.extend(more);
                }
                (Some(record), _) => self.lazy.push(record),
                (None, _) => {}
            }
        }
    }

    fn take_calls(&mut self, group: &mut Group) {
        while let Some(call) = self.shared.calls.pop() {
            self.shared.call_room.add_permits(1);
            match call {
                Call::Lease { limit, now, reply } => {
                    self.waiters.push_back(Waiter { limit, now, reply });
                }
                Call::Sending { loans, synced, reply } => {
                    let mut sent =
                        |(sequence, loan): &(u64, u64)| self.state.sending(*sequence, *loan);
                    let orders = loans.iter().filter(|loan| sent(loan)).map(|loan| loan.0);
                    let record = Record::Submitting { orders: orders.collect() };
                    if synced {
                        group.push(record, Then::Sent(reply));
                    } else {
                        self.lazy.push(record);
                        reply.send(()).ok();
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
    fn lend(&mut self, group: &mut Group) {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        if self.shared.phase() != Phase::Open {
            self.waiters.clear();
        }
        let now_ms = self.shared.clock.wall_ms();
        while let Some(waiter) = self.waiters.front() {
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

    fn take_appends(&mut self, group: &mut Group) {
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
        let Append { envelope, permit, reply } = append;
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
            Some(_) if !self.journal.room_for_orders() => {
                reply.send(Err(AppendError::Full)).ok();
            }
            Some(record) => {
                self.touched_hashes.insert(hash);
                self.touched.extend(judged.order);
                group.push_order(record, Then::Accepted { judged, outcome, permit, reply });
            }
        }
    }

    /// One append, one sync; then everything is applied and everybody answered.
    fn commit(&mut self, group: Group) -> Result<(), Fatal> {
        let lazy = std::mem::take(&mut self.lazy);
        let (records, thens) = group.into_records(lazy);
        let appended = self.append_all(records, thens)?;
        self.touched_hashes.clear();
        if self.lazy.is_empty() {
            self.touched.clear();
        }
        for (placed, record, then) in appended {
            self.apply(placed, &record);
            self.answer(placed.sequence, then);
        }
        Ok(())
    }

    /// Appends what there is room for; whatever is refused is answered here.
    fn append_all(
        &mut self,
        mut records: Vec<Record>,
        mut thens: Vec<Then>,
    ) -> Result<Vec<(Placed, Record, Then)>, Fatal> {
        loop {
            match self.append(&records) {
                Ok(placed) => {
                    let records = records.into_iter().zip(thens);
                    return Ok(placed
                        .into_iter()
                        .zip(records)
                        .map(|(p, (r, t))| (p, r, t))
                        .collect());
                }
                Err(WriteError::TooLarge { index, .. }) if index < records.len() => {
                    records.remove(index);
                    thens.remove(index).refuse();
                }
                Err(WriteError::Full) if thens.iter().any(Then::is_order) => {
                    let (mut kept, mut kept_thens) = (Vec::new(), Vec::new());
                    for (record, then) in records.into_iter().zip(thens) {
                        if then.is_order() {
                            then.refuse();
                        } else {
                            kept.push(record);
                            kept_thens.push(then);
                        }
                    }
                    (records, thens) = (kept, kept_thens);
                }
                Err(WriteError::Full) => {
                    self.no_room_at_all(records, thens);
                    return Ok(Vec::new());
                }
                Err(error) => return Err(self.shared.fail(error.to_string())),
            }
            if records.is_empty() {
                return Ok(Vec::new());
            }
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<Vec<Placed>, WriteError> {
        #[cfg(test)]
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        self.journal.append(records)
    }

    /// Not even the reserve has room: what nobody waits for waits on, the rest hears so.
    fn no_room_at_all(&mut self, records: Vec<Record>, thens: Vec<Then>) {
        for (record, then) in records.into_iter().zip(thens) {
            match then {
                Then::Nothing => self.lazy.push(record),
                then => then.refuse(),
            }
        }
        for append in self.deferred.drain(..) {
            append.reply.send(Err(AppendError::Full)).ok();
        }
    }

    pub(super) fn apply(&mut self, placed: Placed, record: &Record) {
        let bytes = record.delivery().map_or(0, |delivery| delivery.envelope.body.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let location: Option<Location> = Some(placed.location);
        self.state.apply(record, Kept { record: placed.sequence, location, bytes });
        match record {
            Record::Settle { entries } => {
                self.shared.meter.add(self.shared.clock.elapsed(), entries.len() as u64);
            }
            Record::Ticket { order, .. } => {
                self.state.pause_ticket(*order, self.shared.clock.wall_ms());
            }
            _ => {}
        }
    }

    fn answer(&mut self, sequence: u64, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Sent(reply) => {
                reply.send(()).ok();
            }
            Then::Lent(reply, lent) => {
                // Nobody there any more: dropping the loans gives the orders back.
                reply.send(lent).ok();
            }
            Then::Acted { exception, act, acting, reply } => {
                let state = self.state.state_after(acting);
                reply.send(Ok(crate::ActReceipt { id: exception, act, state })).ok();
            }
            Then::Accepted { judged, outcome, permit, reply } => {
                let durability = Durability::Fsync;
                let receipt =
                    self.state.receipt(&judged, Some(sequence), outcome.as_ref(), durability);
                answer(reply, receipt);
                drop(permit);
            }
        }
    }

    fn serve(&mut self, read: Call) {
        match read {
            Call::Where { sequence, loan, reply } => {
                reply.send(self.state.kept_on_loan(sequence, loan)).ok();
            }
            Call::Order { key, reply } => {
                let seen = match self.state.view(&key) {
                    Some((view, kept)) => Some(Seen::Live(view, kept)),
                    None => {
                        let outcome = self.outcomes.find(self.state.hash_of_key(&key));
                        outcome.map(|outcome| Seen::Ended(self.state.outcome_view(&key, outcome)))
                    }
                };
                reply.send(seen).ok();
            }
            Call::BodyAt { sequence, reply } => {
                reply.send(self.state.body_at(sequence)).ok();
            }
            Call::Rows { after, limit, reply } => {
                reply.send(self.state.row_heads(after, limit)).ok();
            }
            Call::Status { reply } => {
                let mut status = self.state.status(self.shared.clock.wall_ms());
                let disk = self.journal.disk_use();
                status.durable_sequence = self.journal.durable_sequence();
                status.durability = Durability::Fsync.to_string();
                (status.disk_bytes, status.disk_bytes_max) = (disk.bytes, disk.bytes_max);
                status.segments = disk.segments;
                status.recovery = self.recovery.clone();
                reply.send(status).ok();
            }
            // Put back by the open group; its order is free now. The queue has room: it was just taken from there.
            call => self.again(call),
        }
    }

    fn again(&mut self, call: Call) {
        if let Ok(place) = self.shared.call_room.try_acquire()
            && self.shared.calls.push(call).is_ok()
        {
            place.forget();
        }
    }

    fn finish(&mut self) -> Result<Vec<oneshot::Sender<()>>, Fatal> {
        self.take_settlements();
        let ended = self.state.end_loans(self.shared.clock.wall_ms());
        self.lazy.extend(ended);
        if !self.lazy.is_empty() {
            self.commit(Group::default())?;
        }
        self.prove()?;
        Ok(std::mem::take(&mut self.closers))
    }

    /// A lent order whose bytes turn out damaged, found by its reader, ends as this verdict.
    pub(super) fn damaged_verdict() -> Verdict {
        Verdict::Exception { category: ExceptionCategory::Damaged, reason: DAMAGED.to_owned() }
    }
}

fn answer(
    reply: oneshot::Sender<Result<crate::Receipt, AppendError>>,
    receipt: Option<crate::Receipt>,
) {
    let failed = || AppendError::Failed("the order it belongs to is not in memory".to_owned());
    reply.send(receipt.ok_or_else(failed)).ok();
}
