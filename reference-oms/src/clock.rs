//! The one place of this crate that reads a clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The wall clock of the start, and from then on what has passed: it never goes back while the process lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started_us: i64,
    started: Instant,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "an independent judge has no clock of Forebay's")]
    pub(crate) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_us: micros(since), started: Instant::now() }
    }

    /// Microseconds since 1970.
    pub(crate) fn now_us(&self) -> i64 {
        self.started_us.saturating_add(micros(self.started.elapsed()))
    }
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A whole number of milliseconds as microseconds.
pub(crate) fn millis_us(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX).saturating_mul(1_000)
}

/// A whole number of seconds as microseconds.
pub(crate) fn secs_us(secs: u64) -> i64 {
    millis_us(secs.saturating_mul(1_000))
}
