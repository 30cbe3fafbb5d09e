//! What a start that takes long says of itself.

use std::time::Duration;

use crate::Clock;

/// It says something this often.
const PAUSE: Duration = Duration::from_secs(5);

/// Says how far a start has come, when it takes long.
pub(super) struct Progress<'a> {
    clock: &'a dyn Clock,
    began: Duration,
    told: Duration,
}

impl<'a> Progress<'a> {
    pub(super) fn new(clock: &'a dyn Clock) -> Self {
        let now = clock.elapsed();
        Self { clock, began: now, told: now }
    }

    /// So many of all are done.
    pub(super) fn tell(&mut self, what: &str, done: usize, of: usize) {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.told) < PAUSE {
            return;
        }
        self.told = now;
        let seconds = now.saturating_sub(self.began).as_secs();
        tracing::info!(done, of, seconds, "recovering the journal: {what}");
    }
}
