//! How each endpoint stands, for people and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use serde::Serialize;

use super::receiver::Refusal;
use crate::metrics;

/// How one endpoint stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// The host it is at.
    pub host: String,
    /// Whether it takes what it is sent.
    pub state: EndpointState,
    /// Everything up to this sequence was taken.
    pub after: u64,
    /// Events taken since the start.
    pub taken: u64,
    /// When the oldest event that it was not told yet happened, ms since 1970; none where it is up to date. While the feed cannot be read:
    /// since when there may be one.
    pub waiting_since_ms: Option<i64>,
    /// Since when it takes nothing, ms since 1970.
    pub failing_since_ms: Option<i64>,
    /// Attempts in a row that failed.
    pub failures: u32,
    /// What came of the last one.
    pub error: Option<String>,
    /// How often events were given up before it had been told them.
    pub missed: u64,
}

/// Whether an endpoint takes what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// It does, or nothing was to be sent yet.
    Ok,
    /// It does not, and is tried again.
    Failing,
    /// It is sent nothing more until a restart.
    Stopped,
}

/// What is known of all endpoints.
#[derive(Clone, Debug, Default)]
pub struct Board(Vec<Report>);

impl Board {
    /// How each stands now.
    pub fn status(&self) -> Vec<EndpointStatus> {
        self.0.iter().map(|report| report.lock().clone()).collect()
    }

    pub(super) fn add(&mut self, name: &str, host: String, after: u64) -> Report {
        let status = EndpointStatus {
            name: name.to_owned(),
            host,
            state: EndpointState::Ok,
            after,
            taken: 0,
            waiting_since_ms: None,
            failing_since_ms: None,
            failures: 0,
            error: None,
            missed: 0,
        };
        let report = Report(Arc::new(Mutex::new(status)));
        report.gauges();
        self.0.push(report.clone());
        report
    }
}

/// Where one endpoint says how it stands.
#[derive(Clone, Debug)]
pub(super) struct Report(Arc<Mutex<EndpointStatus>>);

impl Report {
    fn lock(&self) -> MutexGuard<'_, EndpointStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut EndpointStatus)) {
        change(&mut self.lock());
        self.gauges();
    }

    fn gauges(&self) {
        metrics::standing(&self.lock());
    }

    /// What happened then, or later, is to be sent.
    pub(super) fn waits(&self, at_ms: i64) {
        self.change(|status| status.waiting_since_ms = Some(at_ms));
    }

    /// So many events were taken.
    pub(super) fn took(&self, events: usize, status: StatusCode) {
        metrics::request(&self.lock().name, "taken");
        let events = u64::try_from(events).unwrap_or(u64::MAX);
        metrics::taken(&self.lock().name, events);
        self.change(|standing| {
            if let Some(since_ms) = standing.failing_since_ms {
                tracing::info!(endpoint = standing.name, %status, since_ms, "the webhook's receiver takes events again");
            }
            standing.taken += events;
            (standing.state, standing.failures) = (EndpointState::Ok, 0);
            (standing.failing_since_ms, standing.error) = (None, None);
        });
    }

    /// Nothing before this is to be sent any more.
    pub(super) fn moved(&self, after: u64) {
        self.change(|status| status.after = after);
    }

    /// Nobody knows what is to be sent; if nothing waited before, something may since then.
    pub(super) fn waits_if_not(&self, since_ms: i64) {
        self.change(|status| {
            status.waiting_since_ms.get_or_insert(since_ms);
        });
    }

    /// Nothing is to be sent, so nothing fails.
    pub(super) fn up_to_date(&self) {
        self.change(|status| {
            status.waiting_since_ms = None;
            (status.state, status.failures) = (EndpointState::Ok, 0);
            (status.failing_since_ms, status.error) = (None, None);
        });
    }

    /// Nothing can be sent for now, which is not the receiver's fault.
    pub(super) fn failing(&self, why: &str, now_ms: i64) {
        self.change(|status| {
            status.state = EndpointState::Failing;
            status.failing_since_ms.get_or_insert(now_ms);
            status.error = Some(why.to_owned());
        });
    }

    /// An attempt came to nothing; how many did in a row.
    pub(super) fn refused(&self, refusal: &Refusal, now_ms: i64) -> u32 {
        metrics::request(&self.lock().name, refusal.word());
        self.change(|status| {
            status.state = EndpointState::Failing;
            status.failures = status.failures.saturating_add(1);
            status.failing_since_ms.get_or_insert(now_ms);
            status.error = Some(refusal.to_string());
        });
        self.lock().failures
    }

    /// Nothing more is sent.
    pub(super) fn stopped(&self, why: &str, now_ms: i64) {
        self.change(|status| {
            status.state = EndpointState::Stopped;
            status.failing_since_ms.get_or_insert(now_ms);
            status.error = Some(why.to_owned());
        });
    }

    /// Events were given up before it had been told them.
    pub(super) fn missed(&self) {
        metrics::missed(&self.lock().name);
        self.change(|status| status.missed += 1);
    }
}
