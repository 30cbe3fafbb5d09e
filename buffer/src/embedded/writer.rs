//! The one writer: takes everything that waits, makes one group of it, syncs once, and only then answers.
//!
//! Each turn: verdicts, loans, calls, deliveries -> records -> one append -> apply -> answers -> reads. Everything is judged
//! against durable state only. What touches an order that the open group already touches waits for the next
//! group, so a duplicate never runs ahead of its first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use tokio::sync::oneshot;

use super::EmbeddedConfig;
use super::answers::Reply;
use super::coming::Coming;
use super::feed::Feed;
use super::group::Group;
use super::journal::{Journal, ReadError, WriteError};
use super::lookup::{Carried, Lookup};
use super::outcomes::Outcomes;
use super::recovery::Recovered;
use super::retire::Retiring;
use super::shared::{Append, Appended, Call, Lent, Phase, Shared};
use super::take_in::Taking;
use crate::clock::SetBack;
use crate::metrics;
use crate::record::Record;
use crate::state::State;
use crate::{AppendError, Receipt};

/// Records one group takes at most.
pub(super) const GROUP_RECORDS_MAX: usize = 4_096;
/// What nobody waits for is written by itself after so long.
const LAZY_PAUSE: Duration = Duration::from_millis(50);
/// A group that grows is let grow so long at most, and looked at this often.
const WINDOW: Duration = Duration::from_millis(1);
const WINDOW_STEP: Duration = Duration::from_micros(200);
/// Answers that nobody came for are rung for again after so long.
const RING_PAUSE: Duration = Duration::from_millis(5);
/// A group that nothing after it proves is proven by an empty one after so long.
const PROVE_PAUSE: Duration = Duration::from_secs(1);
/// Delayed orders are looked at this often while a worker waits, for the wall clock may jump.
const DUE_PAUSE: Duration = Duration::from_millis(100);

/// With not even the reserve left, what nobody waits for is tried again, and orders are lent again, after so long.
pub(super) const FULL_PAUSE: Duration = Duration::from_secs(1);

/// A wall clock may be set forward by so much and still be believed.
const CLOCK_SLACK: Duration = Duration::from_secs(3_600);

/// A worker that waits for orders.
pub(super) struct Waiter {
    pub(super) limit: usize,
    /// Orders under a ticket, or the others.
    pub(super) ticketed: bool,
    /// Does not wait: hears of nothing, too.
    pub(super) now: bool,
    /// Whoever sets it first decides: the writer that lends, or the worker that waited long enough.
    pub(super) decided: Arc<AtomicBool>,
    pub(super) reply: oneshot::Sender<Vec<Lent>>,
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
    /// Tickets among them.
    pub(super) coming: Vec<Coming>,
    /// Orders the open group touches, and hashes of deliveries.
    pub(super) touched: HashSet<u64>,
    pub(super) touched_hashes: HashSet<u128>,
    pub(super) deferred: VecDeque<Append>,
    pub(super) lookup: Lookup,
    /// What became of orders, for those who read it; `None` where that is not kept.
    pub(super) feed: Option<Feed>,
    /// Deliveries that wait for what the disk knows of their key, by its hash, oldest first.
    pub(super) looking: HashMap<u128, VecDeque<Append>>,
    /// What retirement asked for, read.
    pub(super) carried: Option<Result<Vec<Carried>, ReadError>>,
    /// Acts whose order the open group touches.
    pub(super) acts: Vec<Call>,
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) reads: Vec<Call>,
    pub(super) closers: Vec<oneshot::Sender<()>>,
    /// Orders of another store, to be taken in once the open group is durable.
    pub(super) takings: Vec<Taking>,
    /// Answers lie at a desk that nobody had handed round when it was rung.
    unheard: bool,
    /// The last group held one record only.
    lone: bool,
    /// When the delivery of this turn that has waited longest was handed in.
    pub(super) oldest: Duration,
    pub(super) retiring: Option<Retiring>,
    pub(super) retire_after: Duration,
    /// The oldest segment, and since when it is the oldest here.
    pub(super) oldest_since: Option<(u64, Duration)>,
    pub(super) horizon_ms: i64,
    pub(super) replay_ms: i64,
    /// Wall clock and time passed when this process opened the buffer.
    pub(super) opened: (i64, Duration),
    pub(super) set_back: SetBack,
    /// Not even the reserve has room; [`Duration::ZERO`] once a segment retired.
    pub(super) full_until: Duration,
    /// Stands before every append, to hold or fail it.
    #[cfg(test)]
    pub(super) gate: Option<super::tests::Gate>,
}

/// The buffer is over: a write or sync failed, in words.
#[derive(Debug)]
pub(super) struct Fatal(pub(super) String);

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        recovered: Recovered,
        (lookup, feed): (Lookup, Option<Feed>),
        config: &EmbeddedConfig,
    ) -> Self {
        let Recovered { journal, state, outcomes, report, .. } = recovered;
        let opened = (shared.clock.wall_ms(), shared.clock.elapsed());
        Self {
            shared,
            journal,
            state,
            outcomes,
            recovery: report,
            lazy: Vec::new(),
            coming: Vec::new(),
            touched: HashSet::new(),
            touched_hashes: HashSet::new(),
            deferred: VecDeque::new(),
            lookup,
            feed,
            looking: HashMap::new(),
            carried: None,
            acts: Vec::new(),
            waiters: VecDeque::new(),
            reads: Vec::new(),
            closers: Vec::new(),
            takings: Vec::new(),
            unheard: false,
            lone: true,
            oldest: Duration::MAX,
            retiring: None,
            retire_after: Duration::ZERO,
            oldest_since: None,
            horizon_ms: ms(config.dedup_horizon),
            replay_ms: ms(config.replay_window),
            opened,
            set_back: SetBack::since(opened.0, opened.1),
            full_until: Duration::ZERO,
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
            self.gather();
            self.shared.busy(true);
            let worked = self.turn(idle)?;
            self.shared.busy(false);
            self.shared.pending.store(self.state.pending(), Ordering::Relaxed);
            metrics::orders(self.state.pending(), self.state.lent() as u64);
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
            if self.unheard {
                // The next turn rings again.
                self.shared.intake.rest(RING_PAUSE);
                continue;
            }
            if idle {
                self.prove()?;
            }
            self.shared.intake.rest(self.pause());
            idle = true;
        }
    }

    /// Lets a group grow: until it stops growing, or is [`WINDOW`] old. After a lone delivery, one with nobody else
    /// on his way waits for nobody.
    fn gather(&self) {
        let mut waiting = self.shared.intake.len();
        let lone = self.lone && waiting == 1 && self.shared.admission.in_flight().0 <= 1;
        if waiting == 0 || lone {
            return;
        }
        let until = self.shared.clock.elapsed() + WINDOW;
        while waiting < GROUP_RECORDS_MAX {
            self.shared.intake.gather(WINDOW_STEP);
            let now = self.shared.intake.len();
            if now == waiting || self.shared.clock.elapsed() >= until {
                return;
            }
            waiting = now;
        }
    }

    fn nothing_waits(&self) -> bool {
        self.shared.intake.is_empty()
            && self.shared.calls.is_empty()
            && self.deferred.is_empty()
            && self.lookup.idle()
            && self.acts.is_empty()
    }

    fn more(&self) -> bool {
        !self.deferred.is_empty()
            || !self.acts.is_empty()
            || self.lookup.answered()
            || !self.shared.intake.is_empty()
            || !self.shared.calls.is_empty()
            || (!self.shared.settlements.is_empty() && self.lazy.len() < GROUP_RECORDS_MAX)
            || self.retiring.as_ref().is_some_and(|out| out.wants_a_turn(self.feed.as_ref()))
    }

    /// The wall clock, for what is to be forgotten: believed only as far as time has passed since the start, for a
    /// clock that jumps years ahead must not make the buffer forget which orders were called off or summarised.
    pub(super) fn sober_wall_ms(&self) -> i64 {
        let (wall_ms, at) = self.opened;
        let passed = self.shared.clock.elapsed().saturating_sub(at) + CLOCK_SLACK;
        let passed = i64::try_from(passed.as_millis()).unwrap_or(i64::MAX);
        self.shared.clock.wall_ms().min(wall_ms.saturating_add(passed))
    }

    /// Lets what waits until some time follow a wall clock that was set back.
    pub(super) fn follow_clock(&mut self) {
        if let Some(back_ms) = self.set_back.by_ms(&*self.shared.clock) {
            tracing::warn!(back_ms, "the wall clock was set back");
            self.state.clock_set_back(back_ms);
        }
    }

    /// Whether not even the reserve had room a moment ago.
    pub(super) fn full_now(&self) -> bool {
        self.shared.clock.elapsed() < self.full_until
    }

    fn pause(&self) -> Duration {
        let mut pause = PROVE_PAUSE;
        if !self.lazy.is_empty() {
            pause = pause.min(LAZY_PAUSE);
        }
        let due = self.waiters.iter().map(|waiter| self.state.next_due_ms(waiter.ticketed));
        if let Some(due) = due.flatten().min() {
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
        if let Some(reason) = self.feed.as_ref().and_then(Feed::failed) {
            return Err(self.shared.fail(reason.clone()));
        }
        let mut group = Group::default();
        self.take_settlements();
        self.take_calls(&mut group);
        self.lend(&mut group);
        self.oldest = Duration::MAX;
        self.take_appends(&mut group);
        if group.len() > 0 {
            self.lone = group.len() == 1;
        }
        let due = !self.lazy.is_empty()
            && !self.full_now()
            && (idle
                || !self.reads.is_empty()
                || !self.deferred.is_empty()
                || !self.acts.is_empty()
                || self.lazy.len() >= GROUP_RECORDS_MAX / 4);
        let worked = group.urgent() || due || !self.reads.is_empty() || !self.takings.is_empty();
        let orders = group.orders();
        self.note_forgotten()?;
        if group.urgent() || due {
            self.commit(group)?;
        } else if self.full_now() {
            self.refuse_put_off();
        }
        if orders > 0 {
            let waited = self.shared.clock.elapsed().saturating_sub(self.oldest);
            metrics::deliveries(u32::try_from(orders).unwrap_or(u32::MAX), waited);
        }
        // Whoever hears of a refusal finds the buffer full.
        self.say_whether_full();
        self.unheard = self.shared.desks.ring();
        for read in std::mem::take(&mut self.reads) {
            self.serve(read);
        }
        for taking in std::mem::take(&mut self.takings) {
            self.take_in(taking)?;
        }
        let retired = self.retire()?;
        self.tell();
        if retired {
            self.say_whether_full();
        }
        Ok(worked || retired)
    }

    fn say_whether_full(&self) {
        self.shared.full.store(!self.journal.room_for_orders(), Ordering::Release);
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
}

/// A time that is added to one since 1970.
fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).map_or(i64::MAX / 2, |ms| ms.min(i64::MAX / 2))
}

pub(super) fn answer(reply: Reply<Appended>, receipt: Option<Receipt>) {
    if let Some(receipt) = &receipt {
        metrics::answered(receipt.answer());
    }
    let failed = || AppendError::Failed("the order it belongs to is not in memory".to_owned());
    reply.send(receipt.ok_or_else(failed));
}
