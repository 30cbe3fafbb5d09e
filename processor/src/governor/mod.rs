//! The governor: decides how much may go to the order management system (OMS) now.
//!
//! # What it promises
//! - In any `t` seconds no more than `ceiling * t + burst` orders are on their way to the OMS or done by
//!   it, whatever happens between: pauses, changed ceilings, waiters that give up, calls that hang, a
//!   suspended machine. (With calls so slow that those in flight alone are more than the burst, one batch
//!   more; see [`Limits::burst`].)
//! - At most [`Limits::in_flight`] calls are under way.
//! - It starts empty, and a resume climbs in ten equal steps over [`Limits::ramp`]: neither bursts.
//! - Who waits first is served first. Giving up a wait costs the others nothing.
//! - Only calls that reach the OMS spend: a [`Grant`] dropped unspent is given back.
//! - With [`Limits::outstanding`] no more orders are with the OMS under a ticket, or on their way to it. Look-ups go on.
//! - While a [`Brake`] is on, nothing is granted but its probes.
//!
//! Time is [`Clock::elapsed`], which neither jumps nor stops; waiting is by tokio's timer.

mod allowance;
mod brake;
mod bucket;
mod claim;
mod common;
#[cfg(test)]
mod fleet_model;
mod grant;
mod limits;
mod out;
mod probe;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use forebay_buffer::{Clock, Common};
use tokio::sync::{Notify, watch};

use allowance::Allowance;
use brake::Brakes;
use grant::Waiting;

pub use brake::Brake;
pub use grant::Grant;
pub use limits::{CEILING_MAX, CeilingError, Limiter, Limits, State};
pub use probe::Probe;

/// How often it is looked whether more orders may be outstanding, and whose the OMS is.
const FULL_LOOK: Duration = Duration::from_millis(50);

/// Hands out permission to send orders to the OMS. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Governor {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Arc<dyn Clock>,
    /// Whose turn it is: waiters queue here, first come first served, and only its holder looks at the bucket.
    turn: tokio::sync::Mutex<()>,
    /// Something changed that the holder of the turn may wait for.
    changed: Notify,
    paused: watch::Sender<bool>,
    brakes: Brakes,
    /// Counts the orders that are with the OMS under a ticket.
    outstanding: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    inner: Mutex<Allowance>,
}

enum Step {
    Granted(usize),
    Wait(Duration),
    Braked,
    /// No more orders may be outstanding.
    Full,
}

impl Governor {
    /// A governor that keeps to `limits`; a ceiling's bucket starts empty.
    ///
    /// # Errors
    /// [`CeilingError`] for a ceiling that is none.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, CeilingError> {
        let allowance = Allowance::new(limits, clock.elapsed())?;
        let shared = Shared {
            clock,
            turn: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            paused: watch::Sender::new(false),
            brakes: Brakes::new(limits.probe),
            outstanding: OnceLock::new(),
            inner: Mutex::new(allowance),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Waits for permission to send up to `orders` in one call, first come first served; the grant may be
    /// for fewer (never for none), where a batch is smaller. Waits through a pause.
    ///
    /// Dropping the future gives up the wait and costs nothing.
    pub async fn acquire(&self, orders: usize) -> Grant {
        loop {
            if let Some(grant) = self.acquire_unless_full(orders).await {
                return grant;
            }
            sleep(FULL_LOOK).await;
        }
    }

    /// The same; `None` where no more orders may be outstanding, which may last.
    pub async fn acquire_unless_full(&self, orders: usize) -> Option<Grant> {
        self.acquire_past(orders.max(1), false).await
    }

    /// Waits for permission for a call that sends no order: it needs a call's place, and no token.
    pub(crate) async fn acquire_look_up(&self) -> Option<Grant> {
        self.acquire_past(0, true).await
    }

    /// Counts by this from now on how many orders are with the OMS under a ticket. It must not block; the first one stays.
    pub fn count_outstanding(&self, count: impl Fn() -> u64 + Send + Sync + 'static) {
        self.shared.outstanding.set(Box::new(count)).ok();
    }

    /// The same; a probe also while a brake is on, which others wait out without keeping the turn.
    async fn acquire_past(&self, orders: usize, probe: bool) -> Option<Grant> {
        loop {
            if !probe {
                self.shared.brakes.off().await;
            }
            let _turn = self.shared.turn.lock().await;
            let waiting = Waiting(&self.shared);
            loop {
                match self.shared.step(orders, probe) {
                    Step::Granted(orders) => {
                        drop(waiting);
                        return Some(Grant { shared: Arc::clone(&self.shared), orders });
                    }
                    Step::Braked => break,
                    Step::Full => return None,
                    Step::Wait(wait) => {
                        tokio::select! {
                            () = self.shared.changed.notified() => {}
                            () = sleep(wait) => {}
                        }
                    }
                }
            }
        }
    }

    /// Orders in one call at most, now.
    pub fn batch(&self) -> usize {
        let batch = self.shared.lock().batch;
        batch.min(self.shared.room().unwrap_or(usize::MAX))
    }

    /// Changes the ceiling at once. What was gathered stays, within the new burst; nothing bursts.
    ///
    /// # Errors
    /// [`CeilingError`] for a ceiling that is none; then nothing changed.
    pub fn set_ceiling(&self, ceiling_per_s: f64) -> Result<(), CeilingError> {
        let now = self.shared.clock.elapsed();
        let changed = self.shared.lock().set_ceiling(ceiling_per_s, now);
        self.shared.changed.notify_one();
        changed
    }

    /// Keeps to that share of the limits from now on, from 0 (nothing is granted) to 1: the rest is that of other processes that
    /// send to the same OMS. Of ceiling, burst, batch and calls in flight alike, though one call, of one order, is always allowed. What
    /// was gathered stays, within the new burst; a share that comes after none begins empty.
    pub fn set_share(&self, share: f64) {
        let common = Arc::clone(&self.shared.lock().common);
        self.keep_to(share, &common);
    }

    /// The same, and of each limit to the smallest of all these processes.
    pub fn keep_to(&self, share: f64, common: &Arc<Common>) {
        let now = self.shared.clock.elapsed();
        if self.shared.lock().keep_to(share, common, now) {
            self.shared.changed.notify_one();
        }
    }

    /// Grants nothing more until [`Governor::resume`]. Calls already granted finish.
    pub fn pause(&self) {
        let now = self.shared.clock.elapsed();
        let mut inner = self.shared.lock();
        if let Some(bucket) = &mut inner.bucket {
            bucket.pause(now);
        }
        self.shared.paused.send_replace(true);
    }

    /// Ends a pause: from an empty bucket, climbing over [`Limits::ramp`].
    pub fn resume(&self) {
        let now = self.shared.clock.elapsed();
        let mut inner = self.shared.lock();
        let ramp = inner.limits.ramp;
        if let Some(bucket) = &mut inner.bucket {
            bucket.resume(ramp, now);
        }
        self.shared.paused.send_replace(false);
        drop(inner);
        self.shared.changed.notify_one();
    }

    /// Returns once a pause is on; at once if one is.
    pub async fn paused(&self) {
        let mut paused = self.shared.paused.subscribe();
        // The sender lives in `shared`, so this cannot fail.
        drop(paused.wait_for(|paused| *paused).await);
    }

    /// Leaves the OMS alone for `wait` from now, because a whole call failed.
    pub fn back_off(&self, wait: Duration) {
        let until = self.shared.clock.elapsed().saturating_add(wait);
        let mut inner = self.shared.lock();
        inner.not_before = inner.not_before.max(until);
    }

    /// One more whole call failed: how many in a row by now.
    pub fn failed(&self) -> u32 {
        let mut inner = self.shared.lock();
        inner.failures = inner.failures.saturating_add(1);
        inner.failures
    }

    /// A call was answered: the OMS is well.
    pub fn answered(&self) {
        self.shared.lock().failures = 0;
    }

    /// The governor now.
    pub fn state(&self) -> State {
        let now = self.shared.clock.elapsed();
        let paused = *self.shared.paused.borrow();
        let (braked, why) = (self.shared.brakes.limiter(), self.shared.brakes.why(now));
        let (outstanding, is_full) = (self.shared.outstanding(), self.shared.is_full());
        let inner = self.shared.lock();
        let limiter = if paused {
            Limiter::Paused
        } else if inner.claimed.is_over(now) {
            Limiter::Claim
        } else if let Some(braked) = braked {
            braked
        } else if now < inner.not_before {
            Limiter::Oms
        } else if is_full {
            Limiter::Outstanding
        } else if let Some(waiting) = inner.waiting {
            waiting
        } else if inner.calls >= inner.in_flight() {
            Limiter::InFlight
        } else if inner.calls == 0 {
            Limiter::Idle
        } else {
            Limiter::None
        };
        State {
            ceiling_per_s: inner.limits.ceiling_per_s,
            share: inner.share,
            burst: inner.burst(),
            batch: inner.batch,
            in_flight: inner.calls,
            in_flight_orders: inner.orders,
            why: inner.claimed.why.clone().filter(|_| limiter == Limiter::Claim).or(why),
            outstanding,
            outstanding_max: inner.outstanding_max(),
            limiter,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Allowance> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders with the OMS under a ticket.
    fn outstanding(&self) -> u64 {
        self.outstanding.get().map_or(0, |count| count())
    }

    /// How many more orders may be sent for what may be outstanding; `None` without a limit. Those in flight are counted first: one
    /// that ends meanwhile counts twice then, and none is missed.
    fn room(&self) -> Option<usize> {
        let inner = self.lock();
        let (most, in_flight) = (inner.outstanding_max()?, inner.orders);
        drop(inner);
        let left = usize::try_from(most.saturating_sub(self.outstanding())).unwrap_or(usize::MAX);
        Some(left.saturating_sub(in_flight))
    }

    /// Whether there is no room for a call that is worth it: for a batch, or a tenth of what may be outstanding.
    fn is_full(&self) -> bool {
        let inner = self.lock();
        let tenth = inner.outstanding_max().map(|most| most / 10);
        let tenth = tenth.and_then(|tenth| usize::try_from(tenth).ok()).unwrap_or(usize::MAX);
        let enough = inner.batch.min(tenth).max(1);
        drop(inner);
        self.room().is_some_and(|room| room < enough)
    }

    fn step(&self, orders: usize, probe: bool) -> Step {
        let now = self.clock.elapsed();
        if !probe && self.brakes.on() {
            return Step::Braked;
        }
        let room = self.room().filter(|_| orders > 0);
        let mut inner = self.lock();
        inner.waiting = None;
        if *self.paused.borrow() {
            return Step::Wait(Duration::MAX);
        }
        let left = inner.not_before.saturating_sub(now);
        if !left.is_zero() {
            return Step::Wait(left);
        }
        if inner.claimed.is_over(now) {
            inner.waiting = Some(Limiter::Claim);
            return Step::Wait(Duration::MAX);
        }
        if inner.share <= 0.0 {
            inner.waiting = Some(Limiter::Share);
            return Step::Wait(Duration::MAX);
        }
        if inner.calls >= inner.in_flight() {
            inner.waiting = Some(Limiter::InFlight);
            return Step::Wait(Duration::MAX);
        }
        if room == Some(0) {
            return Step::Full;
        }
        let orders = orders.min(inner.batch).min(room.unwrap_or(usize::MAX));
        let taken = match &mut inner.bucket {
            Some(bucket) if orders > 0 => bucket.take(orders, now),
            _ => Ok(orders),
        };
        match taken {
            Ok(orders) => {
                inner.calls += 1;
                inner.orders += orders;
                Step::Granted(orders)
            }
            Err(wait) => {
                inner.waiting = Some(Limiter::Rate);
                Step::Wait(wait)
            }
        }
    }
}

/// Sleeps; [`Duration::MAX`] is for ever.
async fn sleep(wait: Duration) {
    match wait {
        Duration::MAX => std::future::pending().await,
        wait => tokio::time::sleep(wait).await,
    }
}
