//! Every metric of the door, by name, in one place. Labels hold channel names, words and status codes
//! only, never anything a sender wrote.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use metrics::{SharedString, counter, gauge, histogram};

fn label(channel: &Arc<str>) -> SharedString {
    SharedString::from_shared(Arc::clone(channel))
}

/// One answered request.
pub(crate) fn request(channel: &Arc<str>, outcome: &'static str, code: StatusCode, took: Duration) {
    let code = code_label(code);
    counter!("forebay_ingest_requests_total",
        "channel" => label(channel), "outcome" => outcome, "code" => code)
    .increment(1);
    histogram!("forebay_ingest_ack_duration_seconds", "channel" => label(channel)).record(took);
}

/// One item of a request, by its outcome or the word of its problem.
pub(crate) fn order(channel: &Arc<str>, outcome: &'static str) {
    counter!("forebay_ingest_orders_total", "channel" => label(channel), "outcome" => outcome)
        .increment(1);
}

/// Runs of card data masked before the first write.
pub(crate) fn masked(channel: &Arc<str>, spans: usize) {
    let spans = u64::try_from(spans).unwrap_or(u64::MAX);
    counter!("forebay_ingest_masked_total", "channel" => label(channel)).increment(spans);
}

/// A request or connection turned away before it was read, by the reason.
pub(crate) fn refused(reason: &'static str) {
    counter!("forebay_ingest_refused_total", "reason" => reason).increment(1);
}

/// Connections open now.
pub(crate) fn connections(open: usize) {
    gauge!("forebay_ingest_connections").set(u32::try_from(open).unwrap_or(u32::MAX));
}

/// Answers other than 2xx in a row that a channel's sender got; a webhook sender unsubscribes after some.
pub(crate) fn failures_in_a_row(channel: &Arc<str>, failures: u32) {
    gauge!("forebay_ingest_sender_failures_in_a_row", "channel" => label(channel)).set(failures);
}

/// The status code as a label without an allocation for the ones we answer.
fn code_label(code: StatusCode) -> &'static str {
    match code.as_u16() {
        200 => "200",
        202 => "202",
        400 => "400",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}
