//! The drain's brakes: it stops by itself where going on would burn orders, and goes on by itself once a probe came through
//! (see [`super::probe`]).
//!
//! # What it promises
//! - While a brake is on nothing is granted but probes: one call of one order at a time, with waits that grow and have jitter
//!   (see [`Limits::probe`](super::Limits::probe)). A probe takes its token from the bucket as any other call.
//! - A call that was sent before the brake went on never releases it; only a probe does.
//! - A probe that an asynchronous OMS only took is out until its order's outcome is known (see [`super::out`]): till then no other is made.
//! - A release empties the bucket and climbs as [`Governor::resume`] does.
//! - A brake that goes on again soon after its release goes on waiting where it was: one that flaps does not hammer the OMS.
//! - An operator's pause wins: nothing is probed in it, and a release in it does not end it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::out::Out;
use super::{Governor, Limiter};
use crate::metrics;
use crate::retry::RetryPolicy;

/// A brake that was off for less goes on with waits as long as before.
const CALM: Duration = Duration::from_secs(60);

/// Why the drain stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// The OMS refuses the credentials.
    Auth,
    /// The OMS refuses order after order for one reason.
    Rejected {
        /// The OMS's code.
        code: String,
        /// So many orders were refused with it,
        refused: usize,
        /// of so many.
        of: usize,
    },
}

impl Brake {
    pub(super) fn limiter(&self) -> Limiter {
        match self {
            Self::Auth => Limiter::Auth,
            Self::Rejected { .. } => Limiter::Rejected,
        }
    }

    /// Whether both say the same, whatever the counts.
    fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rejected { code, .. }, Self::Rejected { code: other, .. }) => code == other,
            _ => self == other,
        }
    }

    /// What happened, and what to do.
    fn why(&self) -> String {
        match self {
            Self::Auth => "the OMS refuses the credentials; renew them, and the drain goes on by itself; no order was \
                           set aside, and no attempt was counted"
                .to_owned(),
            Self::Rejected { code, refused, of } => format!(
                "{refused} of the last {of} orders were refused with {code}; mend the rule in the OMS, or the data; \
                 nothing was set aside, and the drain goes on by itself once an order passes"
            ),
        }
    }
}

/// The brake that is on, if any, and the waits between its probes.
pub(super) struct Brakes {
    pub(super) slot: watch::Sender<Slot>,
    /// Whose the next probe is: whoever waits longest, so that one that had no order to ask with does not keep others from it.
    pub(super) turn: Arc<Semaphore>,
    waits: RetryPolicy,
}

#[derive(Default)]
pub(super) struct Slot {
    pub(super) on: Option<On>,
    /// Probes in a row that released nothing, and trips soon after a release.
    failures: u32,
    released: Option<Duration>,
    /// The probe under way was granted its call.
    called: bool,
    rng: fastrand::Rng,
}

pub(super) struct On {
    pub(super) brake: Brake,
    since: Duration,
    probe_at: Duration,
    /// Probes that came to nothing.
    probes: u64,
    /// The probe's order, once it is sent.
    pub(super) out: Option<Out>,
}

impl Slot {
    pub(super) fn out(&self) -> Option<&Out> {
        self.on.as_ref()?.out.as_ref()
    }
}

impl Brakes {
    pub(super) fn new(waits: RetryPolicy) -> Self {
        Self { slot: watch::Sender::new(Slot::default()), turn: Arc::new(Semaphore::new(1)), waits }
    }

    pub(super) fn on(&self) -> bool {
        self.slot.borrow().on.is_some()
    }

    /// Returns once none is on.
    pub(super) async fn off(&self) {
        drop(self.slot.subscribe().wait_for(|slot| slot.on.is_none()).await);
    }

    pub(super) fn limiter(&self) -> Option<Limiter> {
        self.slot.borrow().on.as_ref().map(|on| on.brake.limiter())
    }

    /// The brake in words.
    pub(super) fn why(&self, now: Duration) -> Option<String> {
        let slot = self.slot.borrow();
        let on = slot.on.as_ref()?;
        let seconds = now.saturating_sub(on.since).as_secs();
        Some(format!("{} (for {seconds} s, {} probes so far)", on.brake.why(), on.probes))
    }

    /// False where that brake was on already.
    fn put_on(&self, brake: &Brake, now: Duration) -> bool {
        self.slot.send_if_modified(|slot| {
            match &slot.on {
                Some(on) if on.brake.is_as(brake) => return false,
                Some(_) => {}
                None => {
                    let calm = slot.released.is_none_or(|at| now.saturating_sub(at) >= CALM);
                    slot.failures = if calm { 1 } else { slot.failures.saturating_add(1) };
                }
            }
            let probe_at = now.saturating_add(self.waits.wait(slot.failures, &mut slot.rng));
            let out = slot.on.take().and_then(|on| on.out);
            slot.on = Some(On { brake: brake.clone(), since: now, probe_at, probes: 0, out });
            true
        })
    }

    /// The brake that was taken off, and how long it was on.
    fn take_off(&self, now: Duration, which: impl Fn(&Brake) -> bool) -> Option<(Brake, Duration)> {
        let mut taken = None;
        self.slot.send_if_modified(|slot| {
            if slot.on.as_ref().is_none_or(|on| !which(&on.brake)) {
                return false;
            }
            taken = slot.on.take().map(|on| (on.brake, now.saturating_sub(on.since)));
            slot.released = Some(now);
            true
        });
        taken
    }

    /// How long until the next probe may be made; `None` where no brake is on.
    pub(super) fn until_probe(&self, now: Duration) -> Option<Duration> {
        let slot = self.slot.borrow();
        let on = slot.on.as_ref()?;
        let out_until = on.out.as_ref().and_then(Out::until);
        Some(out_until.map_or(on.probe_at, |until| until.max(on.probe_at)).saturating_sub(now))
    }

    pub(super) fn probe_called(&self) {
        self.slot.send_if_modified(|slot| {
            slot.called = true;
            false
        });
    }

    pub(super) fn probe_over(&self, now: Duration) {
        self.slot.send_modify(|slot| {
            if let Some(on) = &mut slot.on {
                on.out.take_if(|out| out.until().is_none());
            }
            if !std::mem::take(&mut slot.called) {
                return; // Nobody was asked: there was no order to ask with.
            }
            if let Some(on) = &mut slot.on {
                slot.failures = slot.failures.saturating_add(1);
                on.probes += 1;
                on.probe_at = now.saturating_add(self.waits.wait(slot.failures, &mut slot.rng));
            }
        });
    }

    /// Longer than the wait for the next probe, and not the same for all.
    fn longer(&self) -> Duration {
        let mut wait = Duration::ZERO;
        self.slot.send_if_modified(|slot| {
            // The probe under way has failed, though it is not over yet.
            let failures = slot.failures.saturating_add(u32::from(slot.called));
            let most = self.waits.most(failures);
            wait = self.waits.wait_at_least(Some(most), failures, &mut slot.rng);
            false
        });
        wait
    }
}

impl Governor {
    /// Stops the drain but for probes. Calls already granted finish.
    pub fn brake(&self, brake: Brake) {
        let now = self.shared.clock.elapsed();
        if !self.shared.brakes.put_on(&brake, now) {
            return;
        }
        let limiter = brake.limiter();
        metrics::brake(Some(limiter));
        tracing::error!(limiter = limiter.word(), "the drain has stopped: {}", brake.why());
        self.shared.changed.notify_one();
    }

    /// A probe's order came through the OMS: whatever brake is on is released.
    pub(crate) fn probe_passed(&self) {
        self.release(|_| true);
    }

    /// A probe was not refused for its credentials.
    pub(crate) fn probe_authenticated(&self) {
        self.release(|brake| *brake == Brake::Auth);
    }

    fn release(&self, which: impl Fn(&Brake) -> bool) {
        let now = self.shared.clock.elapsed();
        // Locked before: who finds the brake off must not find the bucket full.
        let mut inner = self.shared.lock();
        let Some((brake, lasted)) = self.shared.brakes.take_off(now, which) else { return };
        // In an operator's pause the bucket is empty, and climbs when that ends.
        if !*self.shared.paused.borrow() {
            let ramp = inner.limits.ramp;
            if let Some(bucket) = &mut inner.bucket {
                bucket.pause(now);
                bucket.resume(ramp, now);
            }
        }
        drop(inner);
        metrics::brake(None);
        tracing::info!(
            limiter = brake.limiter().word(),
            after_s = lasted.as_secs(),
            "the drain goes on: a probe came through"
        );
        self.shared.changed.notify_one();
    }

    /// Whether a brake is on because of this code.
    pub(crate) fn braked_for(&self, code: &str) -> bool {
        let slot = self.shared.brakes.slot.borrow();
        let on = slot.on.as_ref().map(|on| &on.brake);
        matches!(on, Some(Brake::Rejected { code: braked, .. }) if braked == code)
    }

    /// Returns once a brake is on; at once if one is.
    pub async fn braked(&self) {
        drop(self.shared.brakes.slot.subscribe().wait_for(|slot| slot.on.is_some()).await);
    }

    /// Whether anything but the ceiling keeps calls back now.
    pub(crate) fn kept_back(&self) -> bool {
        self.must_wait() || self.shared.brakes.on() || self.shared.is_full()
    }

    /// How long an order that a brake gives back waits: longer than the next probe, which so takes another one.
    pub(crate) fn longer_than_the_next_probe(&self) -> Duration {
        self.shared.brakes.longer()
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::Clock;
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::Limits;

    #[derive(Debug)]
    struct TokioClock(Instant);

    impl Clock for TokioClock {
        fn wall_ms(&self) -> i64 {
            0
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn governor() -> Governor {
        let limits = Limits { ceiling_per_s: Some(1_000.0), ..Limits::default() };
        Governor::new(limits, Arc::new(TokioClock(Instant::now()))).unwrap()
    }

    fn rejected(code: &str) -> Brake {
        Brake::Rejected { code: code.to_owned(), refused: 20, of: 100 }
    }

    /// Orders granted in a second.
    async fn granted(governor: &Governor) -> usize {
        let (mut granted, until) = (0, Instant::now() + SECOND);
        while let Ok(grant) = tokio::time::timeout_at(until, governor.acquire(25)).await {
            granted += grant.orders();
            grant.spend();
        }
        granted
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_granted_but_one_probe_of_one_order_at_a_time() {
        let governor = governor();
        assert!(governor.open().await.is_none());
        let waits = tokio::spawn({
            let governor = governor.clone();
            async move { governor.acquire(25).await.orders() }
        });
        governor.brake(Brake::Auth);
        assert_eq!(granted(&governor).await, 0);
        let probe = governor.open().await.expect("a probe, for a brake is on");
        assert!(timeout(SECOND * 100, governor.open()).await.is_err(), "and no second beside it");
        let grant = probe.acquire().await.unwrap();
        assert_eq!(grant.orders(), 1, "past those who wait");
        grant.spend();
        drop(probe);
        assert!(governor.open().await.is_some(), "and another after it");
        assert!(!waits.is_finished());
        governor.probe_passed();
        assert!(waits.await.unwrap() > 0, "who waited is served");
    }

    #[tokio::test(start_paused = true)]
    async fn the_waits_between_probes_grow_and_one_without_an_order_costs_none() {
        let governor = governor();
        governor.brake(Brake::Auth);
        let mut waits = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            let probe = governor.open().await.unwrap();
            waits.push(began.elapsed());
            probe.acquire().await.unwrap().spend();
        }
        let mean =
            |waits: &[Duration]| waits.iter().sum::<Duration>().as_secs_f64() / waits.len() as f64;
        assert!(waits[0] <= SECOND + SECOND / 100, "{:?}", waits[0]);
        assert!(waits.iter().all(|wait| *wait <= SECOND * 31), "{waits:?}");
        let (first, last) = (mean(&waits[..3]), mean(&waits[20..]));
        assert!(first < 4.0 && (12.0..18.0).contains(&last), "{first} {last}");
        drop(governor.open().await.unwrap());
        let began = Instant::now();
        for _ in 0..100 {
            drop(governor.open().await.unwrap());
        }
        assert!(began.elapsed() < SECOND, "there was nothing to ask with");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_begins_while_a_probe_is_waited_for_holds_it_back() {
        let governor = governor();
        governor.brake(Brake::Auth);
        let open = tokio::spawn({
            let governor = governor.clone();
            async move { governor.open().await.is_some() }
        });
        tokio::task::yield_now().await;
        governor.pause();
        sleep(SECOND * 100).await;
        assert!(!open.is_finished(), "an order would be lent in the pause");
        governor.resume();
        assert!(open.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_climbs_from_an_empty_bucket_and_a_pause_outlasts_it() {
        let governor = governor();
        governor.brake(rejected("A"));
        sleep(SECOND * 60).await;
        governor.probe_passed();
        let first = granted(&governor).await;
        assert!((100..=160).contains(&first), "{first}: a tenth and two tenths of the ceiling");
        sleep(SECOND * 10).await;
        governor.brake(Brake::Auth);
        governor.pause();
        assert_eq!(governor.state().limiter, Limiter::Paused);
        assert!(timeout(SECOND * 100, governor.open()).await.is_err(), "no probe in a pause");
        governor.probe_authenticated();
        assert_eq!(granted(&governor).await, 0);
        governor.resume();
        let first = granted(&governor).await;
        assert!((100..=160).contains(&first), "{first}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_brake_is_released_by_what_disproves_it_and_the_last_word_stands() {
        let governor = governor();
        let limiter = || governor.state().limiter;
        governor.brake(rejected("A"));
        governor.probe_authenticated();
        assert_eq!(limiter(), Limiter::Rejected, "the credentials were never in doubt");
        assert!(governor.braked_for("A") && !governor.braked_for("B"));
        let why = governor.state().why.unwrap();
        assert!(why.starts_with("20 of the last 100 orders were refused with A;"), "{why}");
        governor.brake(rejected("B"));
        assert!(governor.braked_for("B"));
        governor.brake(Brake::Auth);
        assert_eq!(limiter(), Limiter::Auth);
        governor.probe_authenticated();
        assert_eq!((limiter(), governor.state().why), (Limiter::Idle, None));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_flaps_waits_on_and_one_after_a_calm_begins_anew() {
        let governor = governor();
        let failures = || governor.shared.brakes.slot.borrow().failures;
        for trip in 1..=8 {
            governor.brake(rejected("A"));
            assert_eq!(failures(), trip);
            let longer = governor.longer_than_the_next_probe();
            let most = RetryPolicy { base: SECOND, max: SECOND * 30 }.most(trip);
            assert!((most..=most * 2).contains(&longer), "{longer:?}");
            governor.probe_passed();
            sleep(SECOND * 10).await;
        }
        sleep(CALM).await;
        governor.brake(rejected("A"));
        assert_eq!(failures(), 1);
    }
}
