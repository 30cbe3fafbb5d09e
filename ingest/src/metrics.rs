//! Every metric of the door, by name, in one place. Labels hold channel names, words and status codes
//! only, never anything a sender wrote.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use http::StatusCode;
use metrics::{Counter, Histogram, SharedString, counter, gauge, histogram};

fn label(channel: &Arc<str>) -> SharedString {
    SharedString::from_shared(Arc::clone(channel))
}

/// What is counted of every order of one channel. Each counter is looked up once, at its first use: finding it by its
/// labels costs more than counting.
pub(crate) struct ChannelMetrics {
    channel: Arc<str>,
    requests: Known<(&'static str, &'static str), Counter>,
    orders: Known<&'static str, Counter>,
    ack: OnceLock<Histogram>,
}

impl ChannelMetrics {
    pub(crate) fn new(channel: Arc<str>) -> Self {
        let (requests, orders) = (Known::default(), Known::default());
        Self { channel, requests, orders, ack: OnceLock::new() }
    }

    /// One answered request.
    pub(crate) fn request(&self, outcome: &'static str, code: StatusCode, took: Duration) {
        let code = code_label(code);
        let counter = || {
            counter!("forebay_ingest_requests_total",
                "channel" => label(&self.channel), "outcome" => outcome, "code" => code)
        };
        self.requests.with((outcome, code), counter, |counter| counter.increment(1));
        let histogram =
            || histogram!("forebay_ingest_ack_duration_seconds", "channel" => label(&self.channel));
        self.ack.get_or_init(histogram).record(took);
    }

    /// One item of a request, by its outcome or the word of its problem.
    pub(crate) fn order(&self, outcome: &'static str) {
        let counter = || {
            counter!("forebay_ingest_orders_total",
                "channel" => label(&self.channel), "outcome" => outcome)
        };
        self.orders.with(outcome, counter, |counter| counter.increment(1));
    }
}

/// A handful of handles by their labels, which are words of ours and so few.
struct Known<L, H>(RwLock<Vec<(L, H)>>);

impl<L, H> Default for Known<L, H> {
    fn default() -> Self {
        Self(RwLock::new(Vec::new()))
    }
}

impl<L: PartialEq, H> Known<L, H> {
    fn with(&self, labels: L, make: impl FnOnce() -> H, used: impl FnOnce(&H)) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, handle)) = known.iter().find(|(other, _)| *other == labels) {
            return used(handle);
        }
        drop(known);
        let handle = make();
        used(&handle);
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((labels, handle));
    }
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
