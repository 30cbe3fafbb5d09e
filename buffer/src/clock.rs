//! The one door to time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where this crate and its users get time from, so that tests can move it.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since 1970 by the wall clock, which may jump.
    fn wall_ms(&self) -> i64;

    /// Time since some fixed moment, never going back, counting while the machine sleeps.
    fn elapsed(&self) -> Duration;
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
