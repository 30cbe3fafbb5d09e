//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter: after the n-th failure in a row any wait between nothing and
/// `min(max, base * 2^(n-1))` is as likely as any other, so that what failed together does not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The longest wait after the first failure. Default 200 ms.
    pub base: Duration,
    /// The longest wait after any. Default 30 s.
    pub max: Duration,
}

/// The longest that an OMS's own word ("come back in ...") is taken for.
const TOLD_MAX: Duration = Duration::from_secs(24 * 3600);

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { base: Duration::from_millis(200), max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The wait after so many failures in a row (0 counts as 1).
    pub fn wait(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        let most = u64::try_from(self.most(failures).as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(rng.u64(0..=most))
    }

    /// The longest that wait can be.
    pub fn most(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }

    /// The wait where the OMS said when to come back: never sooner than it said (for up to a day).
    pub fn wait_at_least(
        &self,
        told: Option<Duration>,
        failures: u32,
        rng: &mut fastrand::Rng,
    ) -> Duration {
        told.unwrap_or_default().min(TOLD_MAX).saturating_add(self.wait(failures, rng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_spread_over_the_whole_range_and_keep_to_the_maximum() {
        let policy = RetryPolicy { base: Duration::from_millis(100), max: Duration::from_secs(5) };
        let mut rng = fastrand::Rng::with_seed(7);
        for (failures, most_ms) in
            [(0, 100), (1, 100), (2, 200), (6, 3_200), (7, 5_000), (u32::MAX, 5_000)]
        {
            let most = Duration::from_millis(most_ms);
            let waits: Vec<_> = (0..1_000).map(|_| policy.wait(failures, &mut rng)).collect();
            assert!(waits.iter().all(|wait| *wait <= most));
            assert!(waits.iter().any(|wait| *wait < most / 10), "full jitter starts at nothing");
            assert!(waits.iter().any(|wait| *wait > most / 10 * 9), "and goes up to the most");
        }
    }

    #[test]
    fn the_oms_is_never_asked_sooner_than_it_said() {
        let policy = RetryPolicy::default();
        let mut rng = fastrand::Rng::with_seed(7);
        let told = Duration::from_secs(90);
        for failures in 0..100 {
            let wait = policy.wait_at_least(Some(told), failures, &mut rng);
            assert!(wait >= told && wait <= told + policy.max);
        }
        let absurd = policy.wait_at_least(Some(Duration::MAX), 1, &mut rng);
        assert!(absurd <= TOLD_MAX + policy.max);
    }
}
