//! When writes leave for the servers: together, where many come.
//!
//! What reaches a server at once it replicates and syncs at once; the same writes one by one cost it half as much again. So while
//! writes come thick, they leave at most so often. One that comes alone never waits.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Between two departures.
const PAUSE: Duration = Duration::from_millis(3);

/// The newest departure, past or to come.
#[derive(Debug, Default)]
pub(super) struct Departures(Mutex<Option<Instant>>);

impl Departures {
    /// Waits for the next departure, if one has just been.
    pub(super) async fn next(&self) {
        if let Some(departure) = self.book(Instant::now()) {
            sleep_until(departure).await;
        }
    }

    /// When somebody who comes now leaves; `None` for at once.
    fn book(&self, now: Instant) -> Option<Instant> {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let departure = match *newest {
            Some(newest) if newest > now => newest,
            Some(newest) if newest + PAUSE > now => newest + PAUSE,
            _ => now,
        };
        *newest = Some(departure);
        (departure > now).then_some(departure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_alone_leaves_at_once_and_many_leave_together() {
        let (departures, start) = (Departures::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(departures.book(at(0)), None);
        assert_eq!([1, 2].map(|ms| departures.book(at(ms))), [Some(at(3)); 2]);
        assert_eq!([3, 4].map(|ms| departures.book(at(ms))), [Some(at(6)); 2]);
        assert_eq!(departures.book(at(9)), None, "nobody left for long enough");
        assert_eq!(departures.book(at(10)), Some(at(12)));
    }
}
