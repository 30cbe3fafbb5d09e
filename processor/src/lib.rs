//! The governed drain: leases pending orders from the buffer and creates order summaries in the order
//! management system (OMS), never faster than its ceiling.
//!
//! # What it promises
//! - The OMS sees no more than the [`Governor`] grants.
//! - One order, one summary: an outcome that is unknown is looked up, never blindly sent again.
//! - A bad order stops nobody. It becomes a process exception; the OMS's own trouble never makes one.
//! - Credentials that ran out, or a rule of the OMS that refuses order after order, stop the drain ([`Brake`]) and make no
//!   exceptions. It goes on by itself.
//!
//! # The straight line
//! ```text
//! Buffer::lease -> summarise -> Governor::acquire -> (find, if sent before) -> Buffer::submitting
//!               -> OrderManagement::submit -> Verdict -> Lease::settle
//! Buffer::lease_ticketed -> find -> Verdict -> Lease::settle
//! ```

mod caught;
mod claim;
pub mod governor;
mod metrics;
pub mod oms;
pub mod outbound;
pub mod retry;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, Clock};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use governor::{Brake, CeilingError, Governor, Grant, Limiter, Limits};
pub use oms::{
    CallFailure, Claim, ClaimPace, Found, Guarantee, Identity, Listed, Oms, OrderManagement,
    Outcome, Scope,
};
pub use retry::RetryPolicy;

use worker::{Denied, Evidence, Refusals, Shared, Summarise, Worker};
pub use worker::{Hearing, Patience};

/// How the drain works.
#[derive(Clone, Debug)]
pub struct DrainConfig {
    /// What may go to the OMS. One worker per call in flight.
    pub limits: Limits,
    /// Waits between attempts.
    pub retry: RetryPolicy,
    /// Attempts that count before an order becomes an exception. Default 5.
    pub attempts_max: u8,
    /// How long the buffer remembers an order that has ended. An order that was placed longer ago, or nobody knows when, may be
    /// a repeat of a forgotten one, and an OMS that does not refuse a second create is asked before it is sent.
    /// Default 30 days.
    pub remembered: Duration,
    /// How long an order may be with the OMS under a ticket before it waits for a person. Default 1 h: an OMS that is 2,000
    /// orders behind, and does but one in two seconds, is through with them by then.
    pub ticket_deadline: Duration,
    /// How long one look for pending orders waits. Default 1 s; a pending order ends it at once.
    pub lease_wait: Duration,
    /// How long an order that the OMS refused waits at most before it is an exception, for the refusal of others may show
    /// that it is not the order's fault. Default 30 s.
    pub refusal_hold: Duration,
    /// The name of the store that is drained: no other's orders may be drained to the same OMS. Default: none, and no OMS is asked.
    pub fleet: Option<String>,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            retry: RetryPolicy::default(),
            attempts_max: 5,
            remembered: Duration::from_secs(30 * 86_400),
            ticket_deadline: Duration::from_secs(3_600),
            lease_wait: Duration::from_secs(1),
            refusal_hold: Duration::from_secs(30),
            fleet: None,
        }
    }
}

/// The share of the ceiling that is this process's is looked at so often. An owner stops being one long before another
/// begins.
const SHARE_PAUSE: Duration = Duration::from_millis(100);

/// Has the governor, and the OMS's own limits, keep to this process's share.
async fn keep_share<B: Buffer, O: OrderManagement>(
    (buffer, oms, governor): (B, Arc<O>, Governor),
    mut stop: watch::Receiver<bool>,
) {
    let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
    let keep = async {
        loop {
            keep_to(&buffer, &*oms, &governor);
            metrics::governor(&governor.state());
            tokio::time::sleep(SHARE_PAUSE).await;
        }
    };
    tokio::select! {
        () = stopped => {}
        () = keep => {}
    }
}

fn keep_to(buffer: &impl Buffer, oms: &impl OrderManagement, governor: &Governor) {
    let (share, common) = (buffer.share(), buffer.common());
    governor.keep_to(share, &common);
    oms.keep_to(share, &common);
}

/// The drain at work. Dropping it cuts its calls off, whose orders then come back as *sent before*;
/// [`Drain::stop`] lets them finish.
pub struct Drain {
    governor: Governor,
    refusals: Arc<Refusals>,
    clock: Arc<dyn Clock>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Drain {
    /// Starts the workers on the current tokio runtime.
    ///
    /// # Errors
    /// [`CeilingError`] for a ceiling that is none.
    pub fn start<B: Buffer, O: OrderManagement>(
        config: DrainConfig,
        buffer: B,
        oms: Arc<O>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CeilingError> {
        Self::start_with(config, buffer, oms, clock, forebay_order::summarise)
    }

    fn start_with<B: Buffer, O: OrderManagement>(
        config: DrainConfig,
        buffer: B,
        oms: Arc<O>,
        clock: Arc<dyn Clock>,
        summarise: Summarise,
    ) -> Result<Self, CeilingError> {
        metrics::describe();
        let governor = Governor::new(config.limits, Arc::clone(&clock))?;
        let refusals = Arc::new(Refusals::new(config.refusal_hold));
        let shared = Arc::new(Shared {
            buffer,
            oms,
            governor: governor.clone(),
            began: (clock.wall_ms(), clock.elapsed()),
            clock: Arc::clone(&clock),
            retry: config.retry,
            attempts_max: config.attempts_max.max(1),
            remembered: config.remembered,
            ticket_deadline: config.ticket_deadline,
            lease_wait: config.lease_wait,
            summarise,
            evidence: Evidence::default(),
            refusals: Arc::clone(&refusals),
            denied: Denied::default(),
        });
        let stop = watch::Sender::new(false);
        let mut workers = JoinSet::new();
        keep_to(&shared.buffer, &*shared.oms, &governor);
        let outstanding = shared.buffer.clone();
        governor.count_outstanding(move || outstanding.outstanding());
        let kept = (shared.buffer.clone(), Arc::clone(&shared.oms), governor.clone());
        workers.spawn(keep_share(kept, stop.subscribe()));
        if let Some(fleet) = config.fleet {
            governor.await_claim();
            let (oms, clock) = (Arc::clone(&shared.oms), Arc::clone(&clock));
            workers.spawn(claim::keep(oms, fleet, governor.clone(), clock, stop.subscribe()));
        }
        let keeping = Arc::clone(&refusals);
        workers.spawn(keeping.keep(governor.clone(), Arc::clone(&clock), stop.subscribe()));
        workers.spawn(Worker::new(Arc::clone(&shared), stop.subscribe()).run_tickets());
        for _ in 0..config.limits.in_flight.max(1) {
            workers.spawn(Worker::new(Arc::clone(&shared), stop.subscribe()).run());
        }
        Ok(Self { governor, refusals, clock, stop, workers })
    }

    /// The governor: ceiling, pause, resume, state.
    pub fn governor(&self) -> &Governor {
        &self.governor
    }

    /// Takes what the OMS tells by itself of orders that it had taken: it counts for the brake as the answer to a send does.
    pub fn hearing(&self) -> Hearing {
        Hearing::of(self.governor.clone(), Arc::clone(&self.refusals), Arc::clone(&self.clock))
    }

    /// Leases nothing more, lets calls under way finish for at most `grace`, gives every other lease back,
    /// and returns. A call cut off at the end of the grace time comes back as *sent before*.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        let all = async { while self.workers.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            tracing::warn!("calls to the OMS are cut off at the end of the grace time");
            self.workers.shutdown().await;
        }
        self.refusals.end();
    }
}
