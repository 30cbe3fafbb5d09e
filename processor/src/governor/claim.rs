//! Whether the OMS is this fleet's to drain to ([`crate::claim`] asks it): nothing is granted unless it said so, and not for long.

use std::time::Duration;

use super::{FULL_LOOK, Governor};

/// For how long the OMS is known to be this fleet's.
pub(super) struct Claimed {
    /// Nothing is granted from then on, for it may be another's.
    until: Duration,
    /// Why it is not, for people.
    pub(super) why: Option<String>,
}

impl Default for Claimed {
    /// Of an OMS that nobody asks.
    fn default() -> Self {
        Self { until: Duration::MAX, why: None }
    }
}

impl Claimed {
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.until <= now
    }
}

impl Governor {
    /// Nothing is granted until the OMS has said whose it is.
    pub(crate) fn await_claim(&self) {
        self.shared.lock().claimed.until = Duration::ZERO;
    }

    /// Nothing is granted until the OMS is known to be this fleet's; why, for people.
    pub(crate) fn unclaimed(&self, why: String) {
        let mut inner = self.shared.lock();
        if inner.claimed.why.as_ref() != Some(&why) {
            tracing::warn!(%why, "the drain waits");
        }
        inner.claimed = Claimed { until: Duration::ZERO, why: Some(why) };
    }

    /// The OMS is this fleet's until then, by [`Clock::elapsed`].
    pub(crate) fn claimed_until(&self, until: Duration) {
        let mut inner = self.shared.lock();
        inner.claimed = Claimed { until, why: None };
        drop(inner);
        self.shared.changed.notify_one();
    }

    /// Whether the OMS is this fleet's now.
    pub(crate) fn is_claimed(&self) -> bool {
        let now = self.shared.clock.elapsed();
        !self.shared.lock().claimed.is_over(now)
    }

    /// Returns once the OMS is not known to be this fleet's; at once if it is not.
    pub(crate) async fn claim_over(&self) {
        while self.is_claimed() {
            let for_ever = self.shared.lock().claimed.until == Duration::MAX;
            super::sleep(if for_ever { Duration::MAX } else { FULL_LOOK }).await;
        }
    }

    /// Nobody can say whose the OMS is.
    pub(crate) fn claimed_for_ever(&self) {
        self.claimed_until(Duration::MAX);
    }

    /// The OMS did not say whose it is: what it said before holds for its time.
    pub(crate) fn claim_in_doubt(&self, reason: &str) {
        let now = self.shared.clock.elapsed();
        let mut inner = self.shared.lock();
        if inner.claimed.is_over(now) {
            inner.claimed.why =
                Some(format!("the OMS did not say whether another fleet drains to it: {reason}"));
        }
    }
}
