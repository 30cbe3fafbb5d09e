//! The drain's metrics: every name, once.

use std::time::Duration;

use forebay_buffer::ExceptionCategory;
use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::governor::{Limiter, State};

const ORDERS: &str = "forebay_drain_orders_total";
const CALLS: &str = "forebay_drain_calls_total";
const CALL_SECONDS: &str = "forebay_drain_call_duration_seconds";
const CEILING: &str = "forebay_drain_ceiling";
const IN_FLIGHT: &str = "forebay_drain_in_flight";
const OUTSTANDING: &str = "forebay_drain_outstanding";
const BRAKED: &str = "forebay_drain_braked";
const EXCEPTIONS: &str = "forebay_exceptions_total";
const PANICS: &str = "forebay_drain_panics_total";

/// What became of one order of one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OrderOutcome {
    Created,
    /// It had been there, with the same content.
    Existing,
    /// It had been there, and the OMS cannot tell whether with the same content.
    ExistingUnverified,
    Accepted,
    Retry,
    /// An unknown outcome that a look-up settled as absent.
    Absent,
    /// An unknown outcome that could not be looked up yet.
    Unknown,
    Exception,
}

impl OrderOutcome {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Existing => "existing",
            Self::ExistingUnverified => "existing_unverified",
            Self::Accepted => "accepted",
            Self::Retry => "retry",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
            Self::Exception => "exception",
        }
    }
}

/// Describes every metric to the recorder; once, at start.
pub(crate) fn describe() {
    describe_counter!(ORDERS, "Orders by what became of one attempt");
    describe_counter!(CALLS, "Calls to the OMS by kind and answer");
    describe_histogram!(CALL_SECONDS, Unit::Seconds, "Time from a call's start to its answer");
    describe_gauge!(CEILING, "Orders a second the drain may send; 0 without a ceiling");
    describe_gauge!(IN_FLIGHT, "Calls under way");
    describe_gauge!(OUTSTANDING, "Orders with the OMS under a ticket, their outcome not known");
    describe_gauge!(BRAKED, "1 while the drain has stopped by itself, by limiter word");
    brake(None);
    describe_counter!(EXCEPTIONS, "Process exceptions raised by the drain");
    describe_counter!(PANICS, "Panics caught by the drain");
}

pub(crate) fn order(outcome: OrderOutcome) {
    counter!(ORDERS, "outcome" => outcome.word()).increment(1);
}

pub(crate) fn call(kind: &'static str, answer: &'static str, took: Duration) {
    counter!(CALLS, "kind" => kind, "answer" => answer).increment(1);
    histogram!(CALL_SECONDS, "kind" => kind).record(took.as_secs_f64());
}

pub(crate) fn exception(category: ExceptionCategory) {
    counter!(EXCEPTIONS, "category" => category.word()).increment(1);
}

pub(crate) fn panic() {
    counter!(PANICS).increment(1);
}

pub(crate) fn governor(state: &State) {
    gauge!(CEILING).set(state.ceiling_per_s.unwrap_or_default());
    gauge!(IN_FLIGHT).set(u32::try_from(state.in_flight).unwrap_or(u32::MAX));
    gauge!(OUTSTANDING).set(u32::try_from(state.outstanding).unwrap_or(u32::MAX));
}

/// The brake that is on now, if any.
pub(crate) fn brake(on: Option<Limiter>) {
    for limiter in [Limiter::Auth, Limiter::Rejected] {
        gauge!(BRAKED, "limiter" => limiter.word()).set(f64::from(u8::from(on == Some(limiter))));
    }
}
