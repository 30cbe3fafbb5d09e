//! What calls are kept to, by configuration and by what the OMS says of its own limits.
//!
//! A restart begins to count from nothing; an OMS that tells how much is used (`Sforce-Limit-Info`) stops the calls once that is all but
//! the reserve.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::options::CallLimits;
use crate::oms::{CallFailure, Scope};
use crate::outbound::retry_after;

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Calls are counted by so much time.
const STEP: Duration = Duration::from_secs(60);
/// Where the OMS says that the day's calls are used up, and not until when: asked again after this.
const ASK_AGAIN: Duration = Duration::from_secs(900);
/// Headers in which OMSs tell of their limits, and the longest words of one that are kept.
const TELLING: [&str; 10] = [
    "retry-after",
    "ratelimit",
    "ratelimit-policy",
    "ratelimit-limit",
    "ratelimit-remaining",
    "ratelimit-reset",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "sforce-limit-info",
];
const WORDS: usize = 200;

/// The calls of this process.
pub(super) struct Calls {
    limits: CallLimits,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// When the next one may begin.
    next: Option<Instant>,
    /// Calls in the last day, by the step they were in.
    counted: VecDeque<(Instant, u64)>,
    total: u64,
    /// Until when the OMS's own words keep calls back, and which limit it spoke of.
    told: Option<(Instant, Scope)>,
    /// The last words of each header that tells of a limit.
    words: BTreeMap<&'static str, String>,
}

impl Calls {
    pub(super) fn new(limits: CallLimits) -> Self {
        Self { limits, inner: Mutex::default() }
    }

    /// Waits for the turn of one call.
    ///
    /// # Errors
    /// [`CallFailure::Overloaded`] where that is longer than a moment: a quota is used up.
    pub(super) async fn turn(&self) -> Result<(), CallFailure> {
        let wait = self.take(Instant::now())?;
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn take(&self, now: Instant) -> Result<Duration, CallFailure> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((until, scope)) = inner.told {
            if now < until {
                return Err(CallFailure::Overloaded { after: Some(until - now), scope });
            }
            inner.told = None;
        }
        if let Some(most) = self.limits.calls_per_day {
            inner.forget(now);
            if inner.total >= unreserved(most, self.limits.reserve) {
                let oldest = inner.counted.front().map_or(now, |(step, _)| *step);
                let after = Some((oldest + DAY + STEP).saturating_duration_since(now));
                return Err(CallFailure::Overloaded { after, scope: Scope::Day });
            }
            inner.count(now);
        }
        let Some(per_s) = self.limits.calls_per_s.filter(|rate| *rate > 0.0) else {
            return Ok(Duration::ZERO);
        };
        let at = inner.next.map_or(now, |next| next.max(now));
        inner.next = Some(at + Duration::from_secs_f64(1.0 / per_s));
        Ok(at - now)
    }

    /// What the OMS last said of its limits, header by header.
    pub(super) fn words(&self) -> BTreeMap<&'static str, String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).words.clone()
    }

    /// Takes in what an answer says of the OMS's limits.
    pub(super) fn told(&self, status: StatusCode, headers: &HeaderMap) {
        let words = TELLING.into_iter().filter_map(|name| {
            let text = headers.get(name)?.to_str().ok()?;
            Some((name, text.chars().take(WORDS).collect()))
        });
        let words: Vec<(_, String)> = words.collect();
        if !words.is_empty() {
            self.inner.lock().unwrap_or_else(PoisonError::into_inner).words.extend(words);
        }
        // Some OMSs wait longer for whoever goes on, be it only to look up.
        let refused =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let refused = refused.then(|| retry_after(headers)).flatten();
        let day = usage(headers)
            .filter(|(used, most)| *used >= unreserved(*most, self.limits.reserve))
            .map(|_| (ASK_AGAIN, Scope::Day));
        let soon = refused.max(used_up(headers)).map(|wait| (wait, Scope::Second));
        let Some((wait, scope)) = soon.or(day) else { return };
        let until = Instant::now() + wait.min(DAY);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.told.is_none_or(|(before, _)| before < until) {
            inner.told = Some((until, scope));
        }
    }
}

impl Inner {
    fn forget(&mut self, now: Instant) {
        while let Some((step, calls)) = self.counted.front() {
            if now.saturating_duration_since(*step) < DAY + STEP {
                return;
            }
            self.total -= calls;
            self.counted.pop_front();
        }
    }

    fn count(&mut self, now: Instant) {
        self.total += 1;
        match self.counted.back_mut() {
            Some((step, calls)) if now.saturating_duration_since(*step) < STEP => *calls += 1,
            _ => self.counted.push_back((now, 1)),
        }
    }
}

/// What of a quota is ours.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the quota"
)]
fn unreserved(most: u64, reserve: f64) -> u64 {
    (most as f64 * (1.0 - reserve.clamp(0.0, 1.0))) as u64
}

/// How long nothing is left to be used, by the `RateLimit` fields of the IETF's drafts: `RateLimit: "default";r=0;t=30`,
/// `RateLimit: limit=100, remaining=0, reset=30`, `RateLimit-Remaining` with `RateLimit-Reset` (also with `X-` before).
fn used_up(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let number = |text: &str| text.trim().parse::<u64>().ok();
    if let Some(field) = text("ratelimit") {
        let part = |names: [&str; 2]| {
            let parts = field.split([';', ',']).filter_map(|part| part.trim().split_once('='));
            let mut of_name = parts.filter(|(name, _)| names.contains(name));
            of_name.next().and_then(|(_, value)| number(value))
        };
        let (left, reset) = (part(["r", "remaining"])?, part(["t", "reset"])?);
        return (left == 0).then(|| Duration::from_secs(reset));
    }
    ["", "x-"].iter().find_map(|before| {
        let left = number(text(&format!("{before}ratelimit-remaining"))?)?;
        let reset = number(text(&format!("{before}ratelimit-reset"))?)?;
        // Some write the time of day instead; that is no wait.
        (left == 0 && reset <= DAY.as_secs()).then(|| Duration::from_secs(reset))
    })
}

/// Calls used in the last day, and the most: `Sforce-Limit-Info: api-usage=18/5000`.
fn usage(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get("sforce-limit-info")?.to_str().ok()?;
    let usage = text.split([',', ';']).find_map(|part| part.trim().strip_prefix("api-usage="))?;
    let (used, most) = usage.split_once('/')?;
    Some((used.trim().parse().ok()?, most.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_an_oms_says_of_its_limits_is_read() {
        for (fields, expected) in [
            (vec![("ratelimit", "\"default\";r=0;t=30")], Some(30)),
            (vec![("ratelimit", "limit=100, remaining=0, reset=12")], Some(12)),
            (vec![("ratelimit", "\"default\";r=1;t=30")], None),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "7")], Some(7)),
            (vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1764000000")], None),
            (vec![], None),
        ] {
            assert_eq!(used_up(&headers(&fields)), expected.map(Duration::from_secs), "{fields:?}");
        }
        assert_eq!(
            usage(&headers(&[("sforce-limit-info", "api-usage=18/5000")])),
            Some((18, 5_000))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_and_a_day_holds_no_more_than_its_quota_less_the_reserve() {
        let limits = CallLimits { calls_per_s: Some(10.0), calls_per_day: Some(100), reserve: 0.2 };
        let calls = Calls::new(limits);
        let began = Instant::now();
        for _ in 0..80 {
            calls.turn().await.unwrap();
        }
        assert_eq!(began.elapsed(), Duration::from_millis(7_900));
        let Err(CallFailure::Overloaded { after: Some(after), scope: Scope::Day }) =
            calls.turn().await
        else {
            panic!("the reserve is for others")
        };
        assert!(after > DAY - Duration::from_secs(10) && after <= DAY + STEP, "{after:?}");
        tokio::time::advance(after).await;
        calls.turn().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_told_with_a_refusal_holds_for_every_call() {
        let calls = Calls::new(CallLimits::default());
        let wait = headers(&[("retry-after", "3")]);
        calls.told(StatusCode::ACCEPTED, &wait);
        calls.turn().await.unwrap();
        calls.told(StatusCode::TOO_MANY_REQUESTS, &wait);
        assert!(matches!(calls.turn().await, Err(CallFailure::Overloaded { .. })));
        tokio::time::advance(Duration::from_secs(3)).await;
        calls.turn().await.unwrap();
    }

    #[test]
    fn what_an_oms_said_last_of_each_limit_is_kept() {
        let calls = Calls::new(CallLimits::default());
        assert!(calls.words().is_empty());
        let said = [("sforce-limit-info", "api-usage=1/9"), ("set-cookie", "secret")];
        calls.told(StatusCode::OK, &headers(&said));
        calls.told(StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "3")]));
        calls.told(StatusCode::OK, &headers(&[("sforce-limit-info", "api-usage=2/9")]));
        let words: Vec<_> = calls.words().into_iter().collect();
        let expected = [("retry-after", "3"), ("sforce-limit-info", "api-usage=2/9")];
        assert_eq!(words, expected.map(|(name, text)| (name, text.to_owned())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_that_others_used_up_stops_us_too() {
        let calls = Calls::new(CallLimits { reserve: 0.2, ..CallLimits::default() });
        calls.told(StatusCode::OK, &headers(&[("sforce-limit-info", "api-usage=79/100")]));
        calls.turn().await.unwrap();
        calls.told(StatusCode::OK, &headers(&[("sforce-limit-info", "api-usage=80/100")]));
        assert!(matches!(
            calls.turn().await,
            Err(CallFailure::Overloaded { scope: Scope::Day, .. })
        ));
        tokio::time::advance(ASK_AGAIN).await;
        calls.turn().await.unwrap();
    }
}
