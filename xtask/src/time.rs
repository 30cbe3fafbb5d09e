//! The one place of this crate that reads a clock or lets time pass.

use std::time::{Duration, Instant, SystemTime};

/// Measures how long something takes and whether its deadline has passed.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// What is left of `limit`, zero when it has passed.
    pub fn left_of(&self, limit: Duration) -> Duration {
        limit.saturating_sub(self.elapsed())
    }
}

/// Microseconds since 1970, to be laid beside what another process wrote down.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads a clock")]
pub fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Asks `ready` again and again until it says yes or `limit` has passed; says which.
///
/// Only for facts the kernel announces by no event, such as a released loop device.
#[expect(clippy::disallowed_methods, reason = "the facts asked for here come with no event")]
pub fn poll_until(limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
    let watch = Stopwatch::start();
    loop {
        if ready() {
            return true;
        }
        if watch.left_of(limit).is_zero() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Lets time pass, for what takes its time by nature.
#[expect(clippy::disallowed_methods, reason = "a simulated disk takes as long as a real one")]
pub fn pass(duration: Duration) {
    std::thread::sleep(duration);
}
