//! What calls are kept to, by configuration and by what the OMS says of its own limits.
//!
//! The configured limits are the account's: where several processes drain the same orders each keeps to its share of them. An OMS that
//! tells how much is used (`Sforce-Limit-Info`) stops the calls once that is all but the reserve.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_buffer::{Clock, Common};
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::day::Day;
use super::options::CallLimits;
use crate::oms::{CallFailure, Scope};
use crate::outbound::retry_after;

const DAY: Duration = Duration::from_secs(24 * 3_600);
const PER_S: &str = "oms.limits.calls_per_s";
const PER_DAY: &str = "oms.limits.calls_per_day";
/// Who has no share at the moment still asks whose the OMS is, with so much of the limits.
const LEAST_SHARE: f64 = 0.01;
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
    day: tokio::sync::Mutex<Day>,
    inner: Mutex<Inner>,
}

struct Inner {
    /// How much of the limits is this process's.
    share: f64,
    /// Of the limits of all processes the smallest, where there are others.
    calls_per_s: Option<f64>,
    calls_per_day: Option<u64>,
    /// When the next one may begin.
    next: Option<Instant>,
    /// Until when the OMS's own words keep calls back, and which limit it spoke of.
    told: Option<(Instant, Scope)>,
    /// The last words of each header that tells of a limit.
    words: BTreeMap<&'static str, String>,
}

impl CallLimits {
    /// Those that must be the same in all processes that drain the same orders, by their knobs.
    pub fn common(&self) -> BTreeMap<String, Option<f64>> {
        let per_day = self.calls_per_day.map(|calls| calls as f64);
        let all = [(PER_S, self.calls_per_s), (PER_DAY, per_day)];
        all.into_iter().map(|(knob, value)| (knob.to_owned(), value)).collect()
    }
}

impl Calls {
    /// With a file in which the day's calls are kept; without one a restart forgets them.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn open(
        limits: CallLimits,
        kept: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let CallLimits { calls_per_s, calls_per_day, .. } = limits;
        let kept = kept.filter(|_| calls_per_day.is_some());
        let day = tokio::sync::Mutex::new(Day::open(kept, clock)?);
        let inner = Inner {
            share: 1.0,
            calls_per_s,
            calls_per_day,
            next: None,
            told: None,
            words: BTreeMap::new(),
        };
        Ok(Self { limits, day, inner: Mutex::new(inner) })
    }

    /// Keeps to that share of the limits, and of each limit to the smallest of all processes'.
    pub(super) fn keep_to(&self, share: f64, common: &Common) {
        let per_day = self.limits.calls_per_day.map(|calls| calls as f64);
        let per_day = common.at_most(per_day, PER_DAY);
        let mut inner = self.inner();
        inner.share = share.clamp(LEAST_SHARE, 1.0);
        inner.calls_per_s = common.at_most(self.limits.calls_per_s, PER_S);
        inner.calls_per_day = per_day.map(|calls| part(calls, 1.0));
    }

    /// Waits for the turn of one call.
    ///
    /// # Errors
    /// [`CallFailure::Overloaded`] where that is longer than a moment: a quota is used up.
    pub(super) async fn turn(&self) -> Result<(), CallFailure> {
        self.told_to_wait()?;
        if let Some(most) = self.of_a_day() {
            let taken = self.day.lock().await.take(most).await;
            let full = |after| CallFailure::Overloaded { after: Some(after), scope: Scope::Day };
            taken.map_err(full)?;
        }
        let wait = self.place(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            // Another call may have been told so meanwhile.
            self.told_to_wait()?;
        }
        Ok(())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails while the OMS's own words keep calls back.
    fn told_to_wait(&self) -> Result<(), CallFailure> {
        let (now, mut inner) = (Instant::now(), self.inner());
        let Some((until, scope)) = inner.told else { return Ok(()) };
        if now < until {
            return Err(CallFailure::Overloaded { after: Some(until - now), scope });
        }
        inner.told = None;
        Ok(())
    }

    /// Calls that this process may make in any day; `None` for any number.
    fn of_a_day(&self) -> Option<u64> {
        let inner = self.inner();
        Some(part(unreserved(inner.calls_per_day?, self.limits.reserve) as f64, inner.share))
    }

    /// How long it is until this call's place among those of the second.
    fn place(&self, now: Instant) -> Duration {
        let mut inner = self.inner();
        let per_s = inner.calls_per_s.map(|calls| calls * inner.share);
        let Some(per_s) = per_s.filter(|rate| *rate > 0.0) else { return Duration::ZERO };
        let at = inner.next.map_or(now, |next| next.max(now));
        inner.next = Some(at + Duration::from_secs_f64(1.0 / per_s));
        at - now
    }

    /// What the OMS last said of its limits, header by header.
    pub(super) fn words(&self) -> BTreeMap<&'static str, String> {
        self.inner().words.clone()
    }

    /// Takes in what an answer says of the OMS's limits.
    pub(super) fn told(&self, status: StatusCode, headers: &HeaderMap) {
        let words = TELLING.into_iter().filter_map(|name| {
            let text = headers.get(name)?.to_str().ok()?;
            Some((name, text.chars().take(WORDS).collect()))
        });
        let words: Vec<(_, String)> = words.collect();
        if !words.is_empty() {
            self.inner().words.extend(words);
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
        let mut inner = self.inner();
        if inner.told.is_none_or(|(before, _)| before < until) {
            inner.told = Some((until, scope));
        }
    }
}

/// What of a quota is ours.
fn unreserved(most: u64, reserve: f64) -> u64 {
    part(most as f64, 1.0 - reserve.clamp(0.0, 1.0))
}

/// A part of calls, in whole ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and calls are not negative"
)]
fn part(calls: f64, share: f64) -> u64 {
    (calls * share) as u64
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

    fn calls(limits: CallLimits) -> Calls {
        Calls::open(limits, None, Arc::new(forebay_buffer::SystemClock)).unwrap()
    }

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

    /// How many calls there may be now, and why no more.
    async fn until_full(calls: &Calls) -> (u64, CallFailure) {
        let mut made = 0;
        loop {
            match calls.turn().await {
                Ok(()) => made += 1,
                Err(failure) => return (made, failure),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_spread_and_a_day_holds_no_more_than_its_quota_less_the_reserve() {
        let limits = CallLimits { calls_per_s: Some(10.0), calls_per_day: Some(100), reserve: 0.2 };
        let calls = calls(limits);
        let began = Instant::now();
        let (made, full) = until_full(&calls).await;
        assert_eq!(
            (made, began.elapsed()),
            (80, Duration::from_millis(7_900)),
            "the reserve is for others"
        );
        assert!(matches!(full, CallFailure::Overloaded { after: Some(_), scope: Scope::Day }));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_for_their_place_hear_that_none_is_to_come() {
        let limits = CallLimits { calls_per_s: Some(1.0), ..CallLimits::default() };
        let calls = Arc::new(calls(limits));
        calls.turn().await.unwrap();
        let waiting: Vec<_> = (0..7)
            .map(|_| {
                let calls = Arc::clone(&calls);
                tokio::spawn(async move { calls.turn().await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(100)).await;
        calls.told(StatusCode::TOO_MANY_REQUESTS, &headers(&[("retry-after", "60")]));
        for call in waiting {
            let turn = call.await.unwrap();
            assert!(matches!(turn, Err(CallFailure::Overloaded { .. })), "{turn:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn processes_that_share_an_account_share_its_calls() {
        let limits = CallLimits { calls_per_s: Some(10.0), calls_per_day: Some(100), reserve: 0.2 };
        let (mut all, mut slowest) = (0, Duration::ZERO);
        for share in [0.5, 0.25, 0.125, 0.125] {
            let calls = calls(limits);
            calls.keep_to(share, &Common::default());
            let began = Instant::now();
            let (made, _) = until_full(&calls).await;
            (all, slowest) = (all + made, slowest.max(began.elapsed()));
            assert!(began.elapsed() >= Duration::from_millis((made - 1) * 100).div_f64(share));
        }
        assert_eq!((all, slowest.as_millis()), (80, 7_800));
        // Where another process has smaller limits they hold here too.
        let other = CallLimits { calls_per_s: None, calls_per_day: Some(50), reserve: 0.0 };
        let announced = [limits, other].map(|limits| forebay_buffer::Announcement {
            limits: limits.common(),
            ..Default::default()
        });
        let common = Common::of(announced.iter().map(Some));
        assert!(common.differs.as_ref().unwrap().contains(PER_DAY), "{common:?}");
        let calls = calls(limits);
        calls.keep_to(0.5, &common);
        assert_eq!(until_full(&calls).await.0, 20);
        // One without a share asks whose the OMS is, and no more.
        calls.keep_to(0.0, &Common::default());
        assert_eq!(until_full(&calls).await.0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_told_with_a_refusal_holds_for_every_call() {
        let calls = calls(CallLimits::default());
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
        let calls = calls(CallLimits::default());
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
        let calls = calls(CallLimits { reserve: 0.2, ..CallLimits::default() });
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
