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
//! - At most as many leases are held as outcomes are looked at. One that is dropped (a crash) comes back as *sent before*.
//!
//! An outcome is a create, an order that was there, a ticket or a refusal, each the answer to a send. What may be tried again,
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
/// Bytes of a code that are kept.
const CODE_MAX: usize = 64;

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

    /// An order passed.
    fn passed(&self, now: Duration) -> Effect {
        Effect { exceptions: self.lock().next(now), trip: None }
    }

    /// An order was refused, and is held.
    fn refused(&self, refusal: Refusal, now: Duration) -> Effect {
        let mut inner = self.lock();
        let exceptions = inner.next(now);
        let (number, code) = (inner.last, Arc::<str>::from(refusal.code.as_str()));
        inner.refused.push_back((number, Arc::clone(&code)));
        inner.held.push_back(Held { refusal, number, since: now });
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
        self.take(|held| out(held.number))
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
        let governor = &self.shared.governor;
        if governor.braked_for(&refusal.code) {
            return give_back(refusal, governor.longer_than_the_next_probe());
        }
        let now = self.shared.clock.elapsed();
        self.take_effect(self.shared.refusals.refused(refusal, now));
    }

    /// The OMS took an order that it was sent, or had it.
    pub(super) fn passed(&self) {
        self.take_effect(self.shared.refusals.passed(self.shared.clock.elapsed()));
        if self.probe.is_some() {
            self.shared.governor.probe_passed();
        }
    }

    fn take_effect(&self, effect: Effect) {
        effect.exceptions.into_iter().for_each(settle);
        if let Some((brake, back)) = effect.trip {
            let governor = &self.shared.governor;
            governor.brake(brake);
            for refusal in back {
                give_back(refusal, governor.longer_than_the_next_probe());
            }
        }
    }
}

fn settle(Refusal { lease, reason, .. }: Refusal) {
    settle_exception(lease, ExceptionCategory::Rejected, reason);
}

/// Gives an order back that is certain not to have been created.
fn give_back(Refusal { lease, reason, .. }: Refusal, after: Duration) {
    metrics::order(OrderOutcome::Retry);
    lease.settle(Verdict::Retry { after, counts: false, sent: false, reason });
}
