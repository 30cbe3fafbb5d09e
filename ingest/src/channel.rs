//! A configured channel at work: its quota, and how its sender fares.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, RateLimiter};
use http::StatusCode;

use crate::config::{Caller, Channel, Quota};
use crate::metrics::{self, ChannelMetrics};
use crate::problem::{Problem, QuotaState};

/// One channel, shared by all accept threads.
pub(crate) struct Feed {
    pub(crate) channel: Channel,
    pub(crate) name: Arc<str>,
    pub(crate) metrics: ChannelMetrics,
    limiter: Option<(Quota, DefaultDirectRateLimiter)>,
    failures: AtomicU32,
}

impl Feed {
    pub(crate) fn new(channel: Channel) -> Self {
        let limiter = channel.quota.map(|quota| {
            let rate = governor::Quota::per_second(quota.per_s).allow_burst(quota.burst);
            (quota, RateLimiter::direct(rate))
        });
        let name: Arc<str> = Arc::from(channel.name.as_str());
        let metrics = ChannelMetrics::new(Arc::clone(&name));
        Self { channel, name, metrics, limiter, failures: AtomicU32::new(0) }
    }

    /// Spends `orders` of the sender's quota, all or none.
    ///
    /// # Errors
    /// 429 with the time until there is room again; 413 when there never will be.
    pub(crate) fn spend(&self, orders: usize) -> Result<(), Problem> {
        let Some((quota, limiter)) = &self.limiter else { return Ok(()) };
        let Some(n) = u32::try_from(orders).ok().and_then(NonZeroU32::new) else {
            return if orders == 0 { Ok(()) } else { Err(self.never(orders, quota)) };
        };
        match limiter.check_n(n) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(limiter.clock().now());
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                let state = QuotaState {
                    channel: self.channel.name.clone(),
                    burst: quota.burst.get(),
                    per_s: quota.per_s.get(),
                };
                Err(Problem::over_quota(state, seconds.max(1)))
            }
            Err(_) => Err(self.never(orders, quota)),
        }
    }

    fn never(&self, orders: usize, quota: &Quota) -> Problem {
        Problem::over_burst(orders, quota.burst.get())
    }

    /// Notes how a request was answered, for the count of failures in a row.
    ///
    /// Only a webhook's sender counts them, and switches itself off; a program is told by a 409 or 422.
    pub(crate) fn answered(&self, code: StatusCode) {
        if self.channel.caller == Caller::Api {
            return;
        }
        let before = self.failures.load(Ordering::Relaxed);
        if code.is_success() {
            if before != 0 {
                self.failures.store(0, Ordering::Relaxed);
                metrics::failures_in_a_row(&self.name, 0);
            }
        } else {
            let failures = before.saturating_add(1);
            self.failures.store(failures, Ordering::Relaxed);
            metrics::failures_in_a_row(&self.name, failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_order::Format;

    use super::*;
    use crate::problem::Kind;

    #[test]
    fn a_quota_lets_the_burst_through_and_then_says_when() {
        let n = |n| NonZeroU32::new(n).unwrap();
        let quota = Some(Quota { per_s: n(1), burst: n(3) });
        let feed = Feed::new(Channel { quota, ..Channel::of(Format::Shopify) });
        assert_eq!(feed.spend(4).unwrap_err().kind(), Kind::TooLarge);
        assert!(feed.spend(2).is_ok());
        assert!(feed.spend(1).is_ok());
        let refusal = feed.spend(1).unwrap_err();
        assert_eq!(refusal.kind(), Kind::Quota);
        let response = refusal.respond("/x");
        assert_eq!(response.headers()["retry-after"], "1");
        assert_eq!(response.headers()["ratelimit-policy"], "\"shopify\";q=3;w=3");
        assert_eq!(response.headers()["ratelimit"], "\"shopify\";r=0;t=1");
        assert!(Feed::new(Channel::of(Format::Shopify)).spend(usize::MAX).is_ok());
    }

    #[test]
    fn failures_are_counted_until_the_next_success() {
        let feed = Feed::new(Channel::of(Format::Shopify));
        let count = || feed.failures.load(Ordering::Relaxed);
        feed.answered(StatusCode::SERVICE_UNAVAILABLE);
        feed.answered(StatusCode::CONFLICT);
        assert_eq!(count(), 2);
        feed.answered(StatusCode::ACCEPTED);
        assert_eq!(count(), 0);
    }
}
