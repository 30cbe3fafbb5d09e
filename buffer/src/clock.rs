//! The one door to time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where this crate and its users get time from, so that tests can move it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 by the wall clock, which may jump.
    fn wall_ms(&self) -> i64;

    /// Time since some fixed moment, never going back, counting while the machine sleeps.
    fn elapsed(&self) -> Duration;
}

/// A wall clock that goes back by more than this was set.
const SET_BACK_MS: i64 = 1_000;

/// Tells a wall clock that was set back from time that passes.
#[derive(Debug)]
pub(crate) struct SetBack {
    /// By how much the wall clock was ahead of the time that passed.
    ahead_ms: i64,
}

impl SetBack {
    /// From when the clock said this.
    pub(crate) fn since(wall_ms: i64, elapsed: Duration) -> Self {
        let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        Self { ahead_ms: wall_ms.saturating_sub(elapsed_ms) }
    }

    /// By how much it was set back since this was last asked, if it was.
    pub(crate) fn by_ms(&mut self, clock: &dyn Clock) -> Option<i64> {
        let now = Self::since(clock.wall_ms(), clock.elapsed());
        let back_ms = self.ahead_ms.saturating_sub(now.ahead_ms);
        *self = now;
        (back_ms > SET_BACK_MS).then_some(back_ms)
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn wall_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}
