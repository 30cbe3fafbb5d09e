//! What tells an order's fault from the OMS's.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Orders whose last failure is remembered; beyond, the oldest is forgotten, whose next failure then may
/// count one less.
const REMEMBERED: usize = 1_024;

/// When orders came through the OMS, and when some failed last. Shared by the workers.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    came_through: Option<Duration>,
    /// By the order's sequence.
    failed: HashMap<u64, Duration>,
}

impl Evidence {
    /// An order came through: the OMS works.
    pub(super) fn came_through(&self, now: Duration) {
        let mut inner = self.lock();
        inner.came_through = inner.came_through.max(Some(now));
    }

    /// Whether one came through at or after that time.
    pub(super) fn came_through_since(&self, since: Duration) -> bool {
        self.lock().came_through >= Some(since)
    }

    /// An order failed; whether another came through since it failed the last time.
    pub(super) fn failed(&self, order: u64, now: Duration) -> bool {
        let mut inner = self.lock();
        let before = inner.failed.insert(order, now);
        if inner.failed.len() > REMEMBERED {
            let oldest = inner.failed.iter().min_by_key(|(_, at)| **at).map(|(order, _)| *order);
            oldest.map(|order| inner.failed.remove(&order));
        }
        before.is_some_and(|before| inner.came_through >= Some(before))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn without_one_that_came_through_nobody_is_to_blame() {
        let evidence = Evidence::default();
        assert!(!evidence.came_through_since(Duration::ZERO));
        assert!((0..100).all(|ms| !evidence.failed(7, at(ms))));
    }

    #[test]
    fn one_that_came_through_between_two_failures_blames_the_second() {
        let evidence = Evidence::default();
        assert!(!evidence.failed(7, at(1)));
        evidence.came_through(at(2));
        assert!(evidence.failed(7, at(3)));
        assert!(!evidence.failed(7, at(4)), "and no third");
        assert!(!evidence.failed(8, at(5)), "and no other order");
        assert!(evidence.came_through_since(at(2)));
        assert!(!evidence.came_through_since(at(3)));
    }

    #[test]
    fn memory_is_bounded() {
        let evidence = Evidence::default();
        for order in 0..5_000 {
            evidence.failed(order, at(order));
        }
        assert_eq!(evidence.lock().failed.len(), REMEMBERED);
        evidence.came_through(at(5_000));
        assert!(evidence.failed(4_999, at(5_001)), "the newest are remembered");
        assert!(!evidence.failed(0, at(5_002)));
    }
}
