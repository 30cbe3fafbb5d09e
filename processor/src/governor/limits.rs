//! What a governor keeps to, and what is seen of it.

use std::time::Duration;

use serde::Serialize;

use crate::retry::RetryPolicy;

/// The highest ceiling, in orders/s.
pub const CEILING_MAX: f64 = 1e6;

/// What a governor keeps to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Orders a second; `None` for no governor (`--no-governor`), for tests that must show what it is good for.
    pub ceiling_per_s: Option<f64>,
    /// Orders above the ceiling that any span of time may see; they count until their call is over.
    /// `None`: 0.075 s of the ceiling. Never less than one batch.
    ///
    /// Not 0.1 s: an OMS's own commits in one second are then within 1.075 of the ceiling even after a
    /// stall, where 0.1 s would leave no margin to 1.1.
    pub burst: Option<usize>,
    /// Orders in one call. `None`: a fortieth of the ceiling, at least 1, at most 256.
    pub batch: Option<usize>,
    /// Calls under way at once. Default 2: one that the OMS works on, one that waits for it.
    pub in_flight: usize,
    /// Orders with the OMS under a ticket, their outcome not known, at most; with those that are on their way to it. Default: no limit.
    pub outstanding: Option<u64>,
    /// How long the climb to the ceiling takes after a resume. Default 5 s.
    pub ramp: Duration,
    /// Waits between the probes while a brake is on. Default up to 1 s for the first, up to 30 s for any.
    pub probe: RetryPolicy,
}

impl Default for Limits {
    /// No ceiling, 2 calls in flight, no limit of what is outstanding, a ramp of 5 s.
    fn default() -> Self {
        let ramp = Duration::from_secs(5);
        let probe = RetryPolicy { base: Duration::from_secs(1), max: Duration::from_secs(30) };
        Self {
            ceiling_per_s: None,
            burst: None,
            batch: None,
            in_flight: 2,
            outstanding: None,
            ramp,
            probe,
        }
    }
}

/// A ceiling that is none.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "{0} is no ceiling; give orders per second above 0 and at most 1000000, and pause to stop the drain"
)]
pub struct CeilingError(pub f64);

/// What holds the drain back now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limiter {
    /// The ceiling.
    Rate,
    /// The limit of calls under way.
    InFlight,
    /// The OMS is in trouble, and is left alone for a while.
    Oms,
    /// As many orders are with the OMS under a ticket as may be.
    Outstanding,
    /// The OMS refuses the credentials, and is only probed.
    Auth,
    /// The OMS refuses order after order with one code, and is only probed.
    Rejected,
    /// The OMS is another fleet's, or nobody knows yet whose it is.
    Claim,
    /// An operator's pause.
    Paused,
    /// All of the ceiling is other processes' now.
    Share,
    /// There is nothing to drain.
    Idle,
    /// Nothing.
    None,
}

impl Limiter {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::InFlight => "in_flight",
            Self::Oms => "oms",
            Self::Outstanding => "outstanding",
            Self::Auth => "auth",
            Self::Rejected => "rejected",
            Self::Claim => "claim",
            Self::Paused => "paused",
            Self::Share => "share",
            Self::Idle => "idle",
            Self::None => "none",
        }
    }
}

/// A governor at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// Orders a second of all processes together, the smallest ceiling of theirs; `None` without a ceiling.
    pub ceiling_per_s: Option<f64>,
    /// How much of it is this process's, from 0 to 1.
    pub share: f64,
    /// The burst in orders; `None` without a ceiling.
    pub burst: Option<f64>,
    /// Orders in one call at most.
    pub batch: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Orders in them.
    pub in_flight_orders: usize,
    /// Orders with the OMS under a ticket, their outcome not known.
    pub outstanding: u64,
    /// This process's share of how many may be; `None` without a limit.
    pub outstanding_max: Option<u64>,
    /// What holds the drain back.
    pub limiter: Limiter,
    /// Where a brake is on: what happened, and what to do.
    pub why: Option<String>,
}
