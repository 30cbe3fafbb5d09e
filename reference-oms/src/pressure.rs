//! Limits that need a memory: waits that callers were told, and the calls of the day.

use crate::clock::secs_us;
use crate::faults::Overloaded;

const DAY_US: i64 = 86_400_000_000;

/// The longest a growing `Retry-After` gets, in seconds.
const GROWN_MAX_S: u64 = 3_600;

/// Waits and the day's calls.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// The wait that stands, or stood last: when it was told first, and when it is over.
    told_us: i64,
    until_us: i64,
    /// How often the wait has doubled.
    doublings: u32,
    day: i64,
    used: u64,
}

impl Pressure {
    /// `used` calls were counted today before.
    pub(crate) fn new(now_us: i64, used: u64) -> Self {
        Self { told_us: 0, until_us: 0, doublings: 0, day: now_us.div_euclid(DAY_US), used }
    }

    /// When the day of `now_us` began (UTC).
    pub(crate) fn day_began_us(now_us: i64) -> i64 {
        now_us.div_euclid(DAY_US) * DAY_US
    }

    /// If a wait stands, how long ago it was told.
    pub(crate) fn too_early_us(&self, now_us: i64) -> Option<i64> {
        (now_us < self.until_us).then(|| now_us - self.told_us)
    }

    /// The wait to tell a call that came too early or not, and that it is told.
    pub(crate) fn tell(
        &mut self,
        overloaded: &Overloaded,
        came_early: bool,
        now_us: i64,
    ) -> Option<u64> {
        let base = overloaded.retry_after_s?;
        self.doublings = match (overloaded.growing, came_early) {
            (true, true) => self.doublings.saturating_add(1),
            _ => 0,
        };
        let grown = 1_u64.checked_shl(self.doublings).and_then(|factor| base.checked_mul(factor));
        let after_s = match self.doublings {
            0 => base,
            _ => grown.unwrap_or(GROWN_MAX_S).min(GROWN_MAX_S.max(base)),
        };
        if now_us >= self.until_us {
            self.told_us = now_us;
        }
        self.until_us = self.until_us.max(now_us.saturating_add(secs_us(after_s)));
        Some(after_s)
    }

    /// Counts a call of the day, unless `max` are there.
    pub(crate) fn count(&mut self, max: Option<u64>, now_us: i64) -> bool {
        let used = self.used(now_us);
        let allowed = max.is_none_or(|max| used < max);
        self.used = used + u64::from(allowed);
        allowed
    }

    /// Calls counted today.
    pub(crate) fn used(&mut self, now_us: i64) -> u64 {
        let day = now_us.div_euclid(DAY_US);
        if day != self.day {
            (self.day, self.used) = (day, 0);
        }
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overloaded(growing: bool) -> Overloaded {
        Overloaded {
            status: 429,
            code: "X".to_owned(),
            retry_after_s: Some(2),
            growing,
            every: None,
        }
    }

    #[test]
    fn a_wait_grows_with_each_call_that_does_not_wait() {
        let mut pressure = Pressure::new(0, 0);
        assert_eq!(pressure.too_early_us(0), None);
        assert_eq!(pressure.tell(&overloaded(true), false, 0), Some(2));
        assert_eq!(pressure.too_early_us(500_000), Some(500_000));
        assert_eq!(pressure.tell(&overloaded(true), true, 500_000), Some(4));
        assert_eq!(pressure.tell(&overloaded(true), true, 600_000), Some(8));
        assert_eq!(pressure.too_early_us(8_599_999), Some(8_599_999));
        assert_eq!(pressure.too_early_us(8_600_000), None);
        assert_eq!(pressure.tell(&overloaded(true), false, 8_600_000), Some(2));
    }

    #[test]
    fn a_growing_wait_ends_at_an_hour() {
        let mut pressure = Pressure::new(0, 0);
        let told: Vec<_> =
            (0..80).filter_map(|_| pressure.tell(&overloaded(true), true, 0)).collect();
        assert_eq!(told.iter().max(), Some(&GROWN_MAX_S));
        assert_eq!(told.last(), Some(&GROWN_MAX_S));
    }

    #[test]
    fn a_steady_wait_does_not_grow() {
        let mut pressure = Pressure::new(0, 0);
        assert_eq!(pressure.tell(&overloaded(false), false, 0), Some(2));
        assert_eq!(pressure.tell(&overloaded(false), true, 1), Some(2));
    }

    #[test]
    fn a_quota_is_for_a_day() {
        let mut pressure = Pressure::new(0, 1);
        assert!(pressure.count(Some(2), 5));
        assert!(!pressure.count(Some(2), 6));
        assert_eq!(pressure.used(6), 2);
        assert!(pressure.count(Some(2), DAY_US));
        assert_eq!(pressure.used(DAY_US), 1);
    }
}
