//! What the OMS refuses is held until it is clear whose fault it is: the order's, or that of a rule deployed in mid-sale.
//!
//! # What it promises
//! - A refused order becomes an exception once 100 further outcomes have come, 30 s have passed
//!   ([`DrainConfig::refusal_hold`](crate::DrainConfig::refusal_hold)), or the drain has been idle for 5 s: in an idle one nothing
//!   comes that could tell.
//! - Where at least 20 of the last 100 outcomes are refusals with one code, the brake goes on, and all that are held with that
//!   code are given back: none of them is an exception.
//! - What ends its time while the drain is kept back (a pause, a brake, the OMS's trouble), or is held when it stops, is given back
//!   too: then nobody can tell.
//! - A probe takes an order that was not refused lately, if one waits: the refused ones are the oldest, and would be all that is
//!   ever asked.
//! - At most as many leases are held as outcomes are looked at. One that is dropped (a crash) comes back as *sent before*.
//!
//! An outcome is a create, an order that was there, a ticket or a refusal, each the answer to a send, and a refusal that the OMS tells by
//! itself of an order it had taken. What may be tried again,
//! is unknown or is found by a look-up says nothing about refusals.
//!
//! Where fewer than 20 outcomes come in the time that the first refusal is held, the brake still goes on at the twentieth, but those
//! whose time was over are exceptions by then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forebay_buffer::{Buffer, Clock, ExceptionCategory, Lease, Verdict};
use tokio::sync::watch;

use super::{Worker, settle_exception, stopped};
use crate::governor::{Brake, Governor, Limiter};
use crate::metrics::{self, OrderOutcome};
use crate::oms::OrderManagement;

/// Outcomes that are looked at.
const WINDOW: u64 = 100;
/// So many refusals among them with one code put the brake on.
const MANY: usize = 20;
/// A drain that has been idle for so long brings no outcome that could tell.
const QUIET: Duration = Duration::from_secs(5);
/// How often it is looked for those whose time is over.
const LOOK: Duration = Duration::from_millis(250);
/// Characters of a code that are kept.
const CODE_MAX: usize = 64;
/// Orders refused lately that are remembered, so that probes pass them over.
const LATELY: usize = 256;

/// An order that the OMS refused.
pub(super) struct Refusal {
    pub(super) lease: Lease,
    /// The OMS's word for why.
    pub(super) code: String,
    pub(super) reason: String,
}

/// What one more outcome brings about.
#[derive(Default)]
pub(super) struct Effect {
    /// These were the orders' own fault.
    exceptions: Vec<Refusal>,
    /// The brake goes on, and these are given back.
    trip: Option<(Brake, Vec<Refusal>)>,
}

/// The refusals held, and the outcomes among which they came. Shared by the workers.
pub(crate) struct Refusals {
    hold: Duration,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Number of the last outcome, from 1, and when it came.
    last: u64,
    at: Duration,
    /// The last outcomes that were refusals.
    refused: VecDeque<(u64, Arc<str>)>,
    held: VecDeque<Held>,
    /// Identities of the orders refused last.
    lately: VecDeque<String>,
}

struct Held {
    refusal: Refusal,
    number: u64,
    since: Duration,
}

impl Refusals {
    pub(crate) fn new(hold: Duration) -> Self {
        Self { hold, inner: Mutex::default() }
    }

    /// How long a refused order is held.
    pub(super) fn hold(&self) -> Duration {
        self.hold
    }

    /// An order passed, or was taken.
    pub(super) fn passed(&self, now: Duration) -> Effect {
        Effect { exceptions: self.lock().next(now), trip: None }
    }

    /// The OMS told by itself that it refused an order it had taken. Nothing is held of it here (see [`super::hearing`]); but it counts, so
    /// that what is to come is not refused likewise.
    pub(super) fn told(&self, code: &str, governor: &Governor, now: Duration) {
        let code: String = code.chars().take(CODE_MAX).collect();
        if !governor.braked_for(&code) {
            take_effect(self.count(&code, None, now), governor);
        }
    }

    /// An order was refused, and is held.
    fn refused(&self, refusal: Refusal, now: Duration) -> Effect {
        let code = refusal.code.clone();
        self.count(&code, Some(refusal), now)
    }

    fn count(&self, code: &str, refusal: Option<Refusal>, now: Duration) -> Effect {
        let mut inner = self.lock();
        let exceptions = inner.next(now);
        let (number, code) = (inner.last, Arc::<str>::from(code));
        inner.refused.push_back((number, Arc::clone(&code)));
        inner.held.extend(refusal.map(|refusal| Held { refusal, number, since: now }));
        let same = inner.refused.iter().filter(|(_, refused)| *refused == code).count();
        if same < MANY {
            return Effect { exceptions, trip: None };
        }
        // They are no evidence for the time after the brake.
        inner.refused.retain(|(_, refused)| *refused != code);
        let of = usize::try_from(number.min(WINDOW)).unwrap_or(same);
        let brake = Brake::Rejected { code: code.to_string(), refused: same, of };
        let back = inner.take(|held| *held.refusal.code == *code);
        Effect { exceptions, trip: Some((brake, back)) }
    }

    /// Orders to lease so that one is among them that was not refused lately, if such a one waits.
    pub(super) fn to_choose_from(&self) -> usize {
        self.lock().lately.len() + 1
    }

    /// The lease to probe with: the oldest that was not refused lately, or just the oldest. The others go back as if they had
    /// never been lent.
    pub(super) fn choose(&self, mut leases: Vec<Lease>) -> Vec<Lease> {
        let inner = self.lock();
        let fresh = leases.iter().position(|lease| !inner.lately.contains(&lease.key.identity()));
        drop(inner);
        leases.truncate(fresh.map_or(1, |at| at + 1));
        leases.drain(..leases.len().saturating_sub(1));
        leases
    }

    /// The next probes pass it over, if others wait.
    pub(super) fn remember(&self, identity: String) {
        let mut inner = self.lock();
        inner.lately.retain(|refused| *refused != identity);
        inner.lately.push_back(identity);
        if inner.lately.len() > LATELY {
            inner.lately.pop_front();
        }
    }

    /// Takes out those whose time is over.
    fn due(&self, now: Duration, idle: bool) -> Vec<Refusal> {
        let mut inner = self.lock();
        let quiet = idle && now.saturating_sub(inner.at) >= QUIET;
        inner.take(|held| quiet || now.saturating_sub(held.since) >= self.hold)
    }

    /// Settles those whose time is over, until the stop.
    pub(crate) async fn keep(
        self: Arc<Self>,
        governor: Governor,
        clock: Arc<dyn Clock>,
        mut stop: watch::Receiver<bool>,
    ) {
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                let back = governor.kept_back();
                let idle = back || governor.state().limiter == Limiter::Idle;
                for refusal in self.due(clock.elapsed(), idle) {
                    match back {
                        true => give_back(refusal, governor.longer_than_the_next_probe()),
                        false => settle(refusal),
                    }
                }
            }
        };
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = look => {}
        }
    }

    /// Gives all back, for nobody holds them any longer.
    pub(crate) fn end(&self) {
        for refusal in self.lock().take(|_| true) {
            give_back(refusal, Duration::ZERO);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// One more outcome: those held that it pushes out.
    fn next(&mut self, now: Duration) -> Vec<Refusal> {
        self.last += 1;
        self.at = now;
        let last = self.last;
        let out = |number: u64| number + WINDOW <= last;
        while self.refused.front().is_some_and(|(number, _)| out(*number)) {
            self.refused.pop_front();
        }
        let mut pushed_out = Vec::new();
        while self.held.front().is_some_and(|held| out(held.number)) {
            pushed_out.extend(self.held.pop_front().map(|held| held.refusal));
        }
        pushed_out
    }

    fn take(&mut self, which: impl Fn(&Held) -> bool) -> Vec<Refusal> {
        let held = std::mem::take(&mut self.held);
        let (out, stay): (VecDeque<_>, _) = held.into_iter().partition(which);
        self.held = stay;
        out.into_iter().map(|held| held.refusal).collect()
    }
}

impl<B: Buffer, O: OrderManagement> Worker<B, O> {
    /// The OMS refused an order. It waits for what becomes of others; while the brake is on for that, it goes back.
    pub(super) fn refused(&self, lease: Lease, code: &str, reason: String) {
        let code = code.chars().take(CODE_MAX).collect();
        let refusal = Refusal { lease, code, reason };
        self.shared.refusals.remember(refusal.lease.key.identity());
        let governor = &self.shared.governor;
        if governor.braked_for(&refusal.code) {
            return give_back(refusal, governor.longer_than_the_next_probe());
        }
        let now = self.shared.clock.elapsed();
        take_effect(self.shared.refusals.refused(refusal, now), governor);
    }

    /// The OMS took an order that it was sent, or had it.
    pub(super) fn passed(&self) {
        let now = self.shared.clock.elapsed();
        self.shared.denied.passed();
        take_effect(self.shared.refusals.passed(now), &self.shared.governor);
        if self.probe.is_some() {
            self.shared.governor.probe_passed();
        }
    }
}

pub(super) fn take_effect(effect: Effect, governor: &Governor) {
    effect.exceptions.into_iter().for_each(settle);
    if let Some((brake, back)) = effect.trip {
        governor.brake(brake);
        for refusal in back {
            give_back(refusal, governor.longer_than_the_next_probe());
        }
    }
}

fn settle(Refusal { lease, reason, .. }: Refusal) {
    settle_exception(lease, ExceptionCategory::Rejected, reason);
}

/// Gives an order back of which this call created nothing.
fn give_back(Refusal { lease, reason, .. }: Refusal, after: Duration) {
    metrics::order(OrderOutcome::Retry);
    let sent = lease.sent_before;
    lease.settle(Verdict::Retry { after, counts: false, sent, reason });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forebay_buffer::{Envelope, Memory, SystemClock};
    use forebay_order::{Fingerprint, OrderKey};

    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    async fn leases(count: usize) -> Vec<Lease> {
        let buffer = Memory::new(10_000, 1 << 20, Arc::new(SystemClock));
        for n in 0..count {
            let permit = buffer.admission().admit(1).unwrap();
            let key = OrderKey::new("c", "s", n.to_string());
            let envelope = Envelope::new(key, Fingerprint([1; 16]), Bytes::from_static(b"x"));
            buffer.append(envelope, permit).await.unwrap();
        }
        buffer.lease(count, Duration::ZERO).await.unwrap()
    }

    fn refusal(lease: Lease, code: &str) -> Refusal {
        Refusal { lease, code: code.to_owned(), reason: String::new() }
    }

    fn sequences(refusals: &[Refusal]) -> Vec<u64> {
        refusals.iter().map(|refusal| refusal.lease.sequence).collect()
    }

    #[tokio::test]
    async fn the_twentieth_of_one_code_within_a_hundred_trips_and_all_of_that_code_come_back() {
        let mut leases = leases(40).await.into_iter();
        let refusals = Refusals::new(HOLD);
        // Every fifth of a hundred; a few of another code between.
        let mut trips = Vec::new();
        for n in 0..100 {
            let effect = match n % 5 {
                0 => refusals.refused(refusal(leases.next().unwrap(), "A"), at(n)),
                1 if n < 50 => refusals.refused(refusal(leases.next().unwrap(), "B"), at(n)),
                _ => refusals.passed(at(n)),
            };
            assert!(effect.exceptions.is_empty());
            trips.extend(effect.trip);
        }
        let (brake, back) = trips.pop().unwrap();
        assert_eq!(brake, Brake::Rejected { code: "A".to_owned(), refused: 20, of: 96 });
        assert_eq!((back.len(), trips.len()), (20, 0));
        assert!(back.iter().all(|refusal| refusal.code == "A"));
        let next = refusals.refused(refusal(leases.next().unwrap(), "A"), at(100));
        assert!(next.trip.is_none(), "after a trip it counts anew");
        assert_eq!(refusals.due(HOLD + at(100), false).len(), 11, "the others are held on");
    }

    #[tokio::test]
    async fn one_less_than_a_fifth_never_trips_and_each_is_an_exception_once_a_hundred_passed_it() {
        let mut leases = leases(1_000).await.into_iter();
        let refusals = Refusals::new(HOLD);
        let (mut sent, mut exceptions) = (Vec::new(), Vec::new());
        for n in 0..5_000 {
            // 19 in a row of each hundred.
            let effect = match n % 100 < 19 {
                true => {
                    let lease = leases.next().unwrap();
                    sent.push(lease.sequence);
                    refusals.refused(refusal(lease, "A"), at(n))
                }
                false => refusals.passed(at(n)),
            };
            assert!(effect.trip.is_none(), "{n}");
            exceptions.extend(sequences(&effect.exceptions));
            let held = refusals.lock().held.len();
            assert!(held <= 19, "{held}");
            assert_eq!(exceptions.len() + held, sent.len());
        }
        assert_eq!(exceptions, sent[..sent.len() - 19], "each once, in their order");
    }

    #[tokio::test]
    async fn the_hold_ends_with_its_time_or_in_quiet() {
        let mut leases = leases(3).await.into_iter();
        let refusals = Refusals::new(HOLD);
        let mut refuse = |ms| refusals.refused(refusal(leases.next().unwrap(), "A"), at(ms));
        drop(refuse(0));
        assert!(refusals.due(at(4_999), true).is_empty());
        assert!(refusals.due(at(5_000), false).is_empty(), "others are under way");
        drop(refuse(5_000));
        assert!(refusals.due(at(9_000), true).is_empty(), "one came a while ago");
        assert_eq!(refusals.due(at(30_000), false).len(), 1);
        assert_eq!(refusals.due(at(30_000), true).len(), 1);
        drop(refuse(40_000));
        drop(refusals.passed(at(44_000)));
        assert!(refusals.due(at(45_000), true).is_empty());
        assert_eq!(refusals.due(at(49_000), true).len(), 1);
    }

    #[tokio::test]
    async fn a_probe_is_the_oldest_that_was_not_refused_lately() {
        let refusals = Refusals::new(HOLD);
        let all = leases(600).await;
        let chosen = |leases: Vec<Lease>| {
            let chosen = refusals.choose(leases);
            assert!(chosen.len() <= 1);
            chosen.first().map(|lease| lease.key.identity())
        };
        let identities: Vec<_> = all.iter().map(|lease| lease.key.identity()).collect();
        drop(all);
        assert_eq!(refusals.to_choose_from(), 1);
        for identity in &identities[..3] {
            refusals.remember(identity.clone());
            refusals.remember(identity.clone());
        }
        assert_eq!(refusals.to_choose_from(), 4);
        assert_eq!(chosen(leases(4).await), Some(identities[3].clone()));
        assert_eq!(chosen(leases(3).await), Some(identities[0].clone()), "all were refused");
        assert_eq!(chosen(Vec::new()), None);
        identities.iter().for_each(|identity| refusals.remember(identity.clone()));
        assert_eq!(refusals.to_choose_from(), LATELY + 1, "memory is bounded");
        assert_eq!(chosen(leases(600).await), Some(identities[0].clone()));
    }
}
