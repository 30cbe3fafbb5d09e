//! Every metric of the operator's room, by name, in one place. Labels hold configured names and words of ours.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::webhooks::{EndpointState, EndpointStatus};

/// One request to a webhook's receiver, by what came of it.
pub(crate) fn request(endpoint: &str, outcome: &'static str) {
    let endpoint = endpoint.to_owned();
    counter!("forebay_webhook_requests_total", "endpoint" => endpoint, "outcome" => outcome)
        .increment(1);
}

/// How long it took.
pub(crate) fn took(endpoint: &str, took: Duration) {
    histogram!("forebay_webhook_request_duration_seconds", "endpoint" => endpoint.to_owned())
        .record(took);
}

/// Events that were taken.
pub(crate) fn taken(endpoint: &str, events: u64) {
    counter!("forebay_webhook_events_total", "endpoint" => endpoint.to_owned()).increment(events);
}

/// Events that were given up before the receiver had been told them.
pub(crate) fn missed(endpoint: &str) {
    counter!("forebay_webhook_missed_total", "endpoint" => endpoint.to_owned()).increment(1);
}

/// A cursor that could not be kept.
pub(crate) fn cursor_failed(endpoint: &str) {
    counter!("forebay_webhook_cursor_failures_total", "endpoint" => endpoint.to_owned())
        .increment(1);
}

/// How an endpoint stands. Times are seconds since 1970, 0 where there is none.
#[expect(clippy::cast_precision_loss, reason = "a time to the second")]
pub(crate) fn standing(status: &EndpointStatus) {
    let seconds = |ms: Option<i64>| ms.unwrap_or(0) as f64 / 1_000.0;
    let endpoint = || status.name.clone();
    gauge!("forebay_webhook_waiting_since_seconds", "endpoint" => endpoint())
        .set(seconds(status.waiting_since_ms));
    gauge!("forebay_webhook_failing_since_seconds", "endpoint" => endpoint())
        .set(seconds(status.failing_since_ms));
    let stopped = f64::from(u8::from(status.state == EndpointState::Stopped));
    gauge!("forebay_webhook_stopped", "endpoint" => endpoint()).set(stopped);
}
