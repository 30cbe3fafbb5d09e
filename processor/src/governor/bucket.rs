//! The token bucket, pure: time is handed in, nothing waits here.

use std::time::Duration;

/// One order, in the bucket's units. A rate of `r` orders/s is `r * NANO` units a second.
pub(super) const NANO: u64 = 1_000_000_000;

/// Steps of the ramp after a resume: a tenth of the ceiling, two tenths, ... the ceiling.
const RAMP_STEPS: u32 = 10;

/// Tokens for orders, filled at the ceiling.
///
/// What lies in the bucket (`level`) and what is on its way to the OMS (`held`) stay within the burst
/// together, so a token counts against the burst until the call it went out with is over. Hence the OMS
/// sees, by its own clock, in any `t` seconds no more than `ceiling * t + burst`, however its latency
/// jumps about. One exception keeps a slow OMS from throttling itself: one batch may always gather, so
/// with `k` calls in flight the bound is `max(burst, (k + 1) batches)` instead of the burst.
///
/// All quantities are whole nano-orders, and the remainder of each division is carried on, so nothing
/// drifts.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Units a second.
    rate: u64,
    /// The burst, in units.
    burst: u64,
    /// The batch, in units.
    batch: u64,
    level: u64,
    held: u64,
    /// What the last division left, in units times nanoseconds over a second.
    rest: u64,
    /// Up to when tokens were counted.
    counted: Duration,
    paused: bool,
    ramp: Option<Ramp>,
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    began: Duration,
    step: Duration,
}

impl Bucket {
    /// An empty bucket, with so many orders on their way to the OMS already.
    pub(super) fn new(rate: u64, burst: u64, batch: u64, held: usize, now: Duration) -> Self {
        let (level, held, rest) = (0, units(held), 0);
        Self { rate, burst, batch, level, held, rest, counted: now, paused: false, ramp: None }
    }

    /// Another ceiling from `now` on. What was gathered stays, as far as the new burst has room for it.
    pub(super) fn set(&mut self, rate: u64, burst: u64, batch: u64, now: Duration) {
        self.count(now);
        (self.rate, self.burst, self.batch) = (rate, burst, batch);
        self.level = self.level.min(self.room());
    }

    /// No tokens from `now` on, and none that were gathered before.
    pub(super) fn pause(&mut self, now: Duration) {
        self.count(now);
        self.paused = true;
        self.level = 0;
        self.rest = 0;
    }

    /// Tokens again, from an empty bucket, in ten equal steps over `ramp` up to the ceiling.
    pub(super) fn resume(&mut self, ramp: Duration, now: Duration) {
        self.count(now);
        if std::mem::take(&mut self.paused) {
            self.ramp = Some(Ramp { began: now, step: ramp / RAMP_STEPS });
        }
    }

    /// Takes up to `orders` (at least one, at most a batch) together, or says how long until they are there.
    pub(super) fn take(&mut self, orders: usize, now: Duration) -> Result<usize, Duration> {
        self.count(now);
        let most = usize::try_from(self.batch / NANO).unwrap_or(usize::MAX).max(1);
        let orders = orders.clamp(1, most);
        let need = units(orders);
        if need <= self.level {
            self.level -= need;
            self.held += need;
            return Ok(orders);
        }
        Err(self.wait(need - self.level))
    }

    /// The call is over and reached the OMS: its tokens are gone.
    pub(super) fn spend(&mut self, orders: usize, now: Duration) {
        self.count(now);
        self.held = self.held.saturating_sub(units(orders));
    }

    /// The orders did not reach the OMS: their tokens come back.
    pub(super) fn give_back(&mut self, orders: usize, now: Duration) {
        self.count(now);
        let back = units(orders).min(self.held);
        self.held -= back;
        if !self.paused {
            self.level = self.level.saturating_add(back).min(self.room());
        }
    }

    /// What lies in the bucket, in units.
    #[cfg(test)]
    pub(super) fn level(&self) -> u64 {
        self.level
    }

    /// The most that may lie in the bucket now.
    fn room(&self) -> u64 {
        self.burst.saturating_sub(self.held).max(self.batch)
    }

    /// Fills up to `now`; a clock that went back fills nothing.
    fn count(&mut self, now: Duration) {
        while self.counted < now {
            let (rate, until) = self.rate_now();
            let until = until.map_or(now, |until| until.min(now));
            let span = until.saturating_sub(self.counted).as_nanos();
            let gained = span * u128::from(rate) + u128::from(self.rest);
            let level = u128::from(self.level) + gained / u128::from(NANO);
            let room = self.room();
            if level < u128::from(room) {
                self.level = u64::try_from(level).unwrap_or(room);
                self.rest = u64::try_from(gained % u128::from(NANO)).unwrap_or_default();
            } else {
                self.level = room;
                self.rest = 0;
            }
            self.counted = until;
        }
    }

    /// The rate at `counted`, and until when it holds.
    fn rate_now(&mut self) -> (u64, Option<Duration>) {
        if self.paused {
            return (0, None);
        }
        let Some(ramp) = self.ramp else { return (self.rate, None) };
        let into = self.counted.saturating_sub(ramp.began).as_nanos();
        let done = into.checked_div(ramp.step.as_nanos()).unwrap_or(u128::MAX);
        match u32::try_from(done) {
            Ok(done) if done < RAMP_STEPS => {
                let rate = self.rate / u64::from(RAMP_STEPS) * u64::from(done + 1);
                (rate.max(1), Some(ramp.began + ramp.step * (done + 1)))
            }
            _ => {
                self.ramp = None;
                (self.rate, None)
            }
        }
    }

    /// How long until `missing` units more are there at the present rate, at most until it changes.
    fn wait(&mut self, missing: u64) -> Duration {
        let (rate, until) = self.rate_now();
        if rate == 0 {
            return Duration::MAX;
        }
        let nanos = (u128::from(missing) * u128::from(NANO)).div_ceil(u128::from(rate));
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        match until {
            Some(until) => wait.min(until.saturating_sub(self.counted)),
            None => wait,
        }
    }
}

/// So many orders in units.
fn units(orders: usize) -> u64 {
    u64::try_from(orders).unwrap_or(u64::MAX).saturating_mul(NANO)
}
