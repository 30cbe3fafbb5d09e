//! The words of each refusal: what happened, and what to do.

use forebay_order::{Unreadable, UnreadableKind};
use http::StatusCode;

use super::{Conflict, Kind, More, Place, Problem, QuotaState};
use crate::pace;

/// The longest pointer that is told: its names are the sender's, and may be of any length.
const POINTER_MAX: usize = 256;

/// The beginning of a text, at most so many bytes.
pub(crate) fn short(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default()
}

impl Problem {
    /// The bytes do not parse, or hold more than they may.
    pub(crate) fn unreadable(fault: &Unreadable) -> Self {
        let kind = match fault.kind {
            UnreadableKind::TooLarge => Kind::TooLarge,
            _ => Kind::Unreadable,
        };
        let place = Place {
            pointer: fault.pointer.as_deref().map(|pointer| short(pointer, POINTER_MAX).to_owned()),
            line: fault.line,
            column: fault.column,
            kind: fault.kind.word(),
            detail: fault.message.clone(),
        };
        let problem = Self::new(
            kind,
            format!(
                "{} (line {}, column {}). Nothing was kept; correct the body and send it again.",
                fault.message, fault.line, fault.column
            ),
        );
        Self { more: More::Place(Box::new(place)), ..problem }
    }

    /// A gzip body that is none, ends early or has something behind its end.
    pub(crate) fn damaged_gzip() -> Self {
        Self::new(Kind::Unreadable, crate::envelope::DAMAGED_GZIP)
    }

    /// An id or source that cannot be part of a key.
    pub(crate) fn unusable_identity(reason: String) -> Self {
        Self::new(Kind::Unreadable, reason)
    }

    /// A source that the request should have named.
    pub(crate) fn unusable_source(reason: String) -> Self {
        Self::new(Kind::BadRequest, reason)
    }

    /// The same key, other content, no version to tell which is newer. The body was kept.
    pub(crate) fn conflict(conflict: Conflict) -> Self {
        let problem = Self::new(
            Kind::Conflict,
            "An order with this key and other content was accepted before, and nothing says which is newer. This body was kept beside it as a process exception for a person to decide; the first stands.",
        );
        Self { more: More::Conflict(Box::new(conflict)), ..problem }
    }

    /// A draft, test, refund, ping or other object.
    pub(crate) fn not_an_order(recorded_as: &'static str) -> Self {
        Self::new(
            Kind::NotAnOrder,
            format!(
                "The body is {recorded_as}, which never becomes an order summary. Nothing was kept; send placed orders only."
            ),
        )
    }

    /// An order that failed or was replaced where it was placed, and none of its key waits here.
    pub(crate) fn failed_order() -> Self {
        Self::new(
            Kind::NotAnOrder,
            "The body is an order that failed or was replaced where it was placed, which never becomes an order summary. It was kept as recorded; send placed orders only.",
        )
    }

    /// A body with nothing but an id.
    pub(crate) fn fetch_needed() -> Self {
        Self::new(
            Kind::FetchNeeded,
            "The body holds an id and no order. Nothing was kept; fetch the order where it was placed and send it whole.",
        )
    }

    /// A channel that is not configured.
    pub(crate) fn unknown_channel() -> Self {
        Self::new(
            Kind::UnknownChannel,
            "No channel of that name is configured. Check the path /v1/channels/{channel}/orders against the [channels] of the configuration.",
        )
    }

    /// No channel reads order-summary graphs.
    pub(crate) fn no_graphs_channel() -> Self {
        Self::new(
            Kind::UnknownChannel,
            "No channel of format salesforce is configured, so nothing reads order-summary graphs here.",
        )
    }

    /// A body over a limit of bytes; where it was seen.
    pub(crate) fn too_large(what: &str, limit: usize) -> Self {
        Self::new(
            Kind::TooLarge,
            format!(
                "{what} is larger than {limit} bytes. Nothing was kept; send it in smaller parts."
            ),
        )
    }

    /// An order that does not fit the journal's largest piece.
    pub(crate) fn too_large_to_keep() -> Self {
        Self::new(
            Kind::TooLarge,
            "An order of the body is larger than the journal can keep as one. Nothing was kept; send it smaller, or raise the size of the journal's slots.",
        )
    }

    /// A key under which as many conflicts are open as are kept.
    pub(crate) fn disputed() -> Self {
        Self::new(
            Kind::Conflict,
            "Other contents of this key wait for a person already, as many as are kept. This one was not kept; close their exceptions, then send it again.",
        )
    }

    /// An order whose masked runs would take more room than the order.
    pub(crate) fn too_many_masked(limit: usize) -> Self {
        Self::new(
            Kind::TooLarge,
            format!(
                "An order of the body holds more than {limit} runs of card data. Nothing was kept; leave them out at the source."
            ),
        )
    }

    /// A gzip body that unpacks to far more than its size.
    pub(crate) fn inflates_too_much() -> Self {
        Self::new(
            Kind::TooLarge,
            format!(
                "The gzip body unpacks to more than {} times its size. Nothing was kept; send it unpacked.",
                crate::inflate::RATIO_MAX
            ),
        )
    }

    /// More items than the sender's quota lets through at once, ever.
    pub(crate) fn over_burst(items: usize, burst: u32) -> Self {
        Self::new(
            Kind::TooLarge,
            format!(
                "The body holds {items} orders and this channel's quota lets at most {burst} through at once. Nothing was kept; send fewer orders in one body."
            ),
        )
    }

    /// A content type the channel's format is not.
    pub(crate) fn unsupported_type(wanted: &str) -> Self {
        Self::new(
            Kind::UnsupportedMediaType,
            format!("This channel reads {wanted} in UTF-8. Send that Content-Type, or none."),
        )
    }

    /// A content coding other than one gzip.
    pub(crate) fn unknown_coding() -> Self {
        Self::new(
            Kind::UnsupportedMediaType,
            "Content-Encoding can be gzip, once, or nothing. Send the body in one of these.",
        )
    }

    /// The in-flight budget is used up.
    pub(crate) fn overloaded() -> Self {
        Self::new(
            Kind::Overloaded,
            "As much is between the door and the disk as may be. Nothing was kept; send the same again after Retry-After.",
        )
        .retry_after(pace::soon())
    }

    /// Too many connections.
    pub(crate) fn too_many_connections() -> Self {
        Self::new(
            Kind::Overloaded,
            "As many connections are open as may be. Nothing was kept; keep connections open and share them, and send the same again after Retry-After.",
        )
        .retry_after(pace::soon())
        .closing_connection()
    }

    /// The buffer's disk budget is used up.
    pub(crate) fn disk_full(seconds: u64) -> Self {
        Self::new(
            Kind::Overloaded,
            "The disk that orders are kept on is full. Nothing was kept; send the same again after Retry-After.",
        )
        .retry_after(seconds)
    }

    /// The process is ending.
    pub(crate) fn closing() -> Self {
        Self::new(
            Kind::Closing,
            "Forebay is shutting down. Nothing was kept; send the same again after Retry-After.",
        )
        .retry_after(pace::soon())
    }

    /// A write or sync failed under the order.
    pub(crate) fn unknown_outcome() -> Self {
        Self::new(
            Kind::UnknownOutcome,
            "Whether the order is durable is unknown, send the same again with the same key.",
        )
        .retry_after(pace::soon())
    }

    /// A fault of ours while a request was handled.
    pub(crate) fn internal() -> Self {
        let problem = Self::new(
            Kind::UnknownOutcome,
            "A fault in Forebay ended this request. Whether the order is durable is unknown, send the same again with the same key.",
        );
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..problem }.retry_after(pace::soon())
    }

    /// The buffer cannot say what it knows of an order.
    pub(crate) fn cannot_look() -> Self {
        Self::new(
            Kind::Overloaded,
            "What is known of the order cannot be read at the moment. Ask again after Retry-After.",
        )
        .retry_after(pace::soon())
    }

    /// The sender's own quota is used up; exactly when there is room again.
    pub(crate) fn over_quota(state: QuotaState, seconds: u64) -> Self {
        let problem = Self::new(
            Kind::Quota,
            format!(
                "This channel takes {} orders a second and {} at once. Nothing was kept; send the same again after Retry-After.",
                state.per_s, state.burst
            ),
        );
        Self { more: More::Quota(Box::new(state)), ..problem }.retry_after(seconds)
    }

    /// An order nobody accepted.
    pub(crate) fn no_such_order() -> Self {
        Self::new(
            Kind::NotFound,
            "No order of that channel, source and id was accepted, or it was longer ago than answers are kept. Each part of the path is percent-encoded on its own ('#' is %23, '/' is %2F).",
        )
    }

    /// A request with an `Origin` header: a page in a browser sent it.
    pub(crate) fn from_a_browser() -> Self {
        Self::new(
            Kind::CrossOrigin,
            "The request has an Origin header, so a page in a browser sent it. Nothing was kept; channels have no credentials yet, so send orders from a server, without that header.",
        )
    }

    /// A path the door does not have.
    pub(crate) fn no_such_path() -> Self {
        Self::new(
            Kind::NotFound,
            "This door has POST /v1/channels/{channel}/orders, GET /v1/orders/{channel}/{source}/{id} and POST /services/data/{version}/commerce/order-summaries.",
        )
    }

    /// A method the path does not have.
    pub(crate) fn wrong_method(allow: &'static str) -> Self {
        let problem = Self::new(Kind::BadRequest, format!("This path takes {allow} only."));
        let status = StatusCode::METHOD_NOT_ALLOWED;
        Self { status, more: More::Allow(allow), ..problem }
    }

    /// A path part that is not percent-encoded UTF-8.
    pub(crate) fn bad_path() -> Self {
        Self::new(
            Kind::BadRequest,
            "A part of the path is not percent-encoded UTF-8. Encode channel, source and id each on its own.",
        )
    }

    /// The body ended before its announced end, or its chunks are malformed.
    pub(crate) fn broken_body() -> Self {
        Self::new(
            Kind::BadRequest,
            "The body ended before its announced length, or its chunked framing is broken. Nothing was kept; send the same again.",
        )
        .closing_connection()
    }

    /// The body did not come in time.
    pub(crate) fn too_slow() -> Self {
        Self::new(
            Kind::Timeout,
            "The body did not arrive in the time a body of its size has. Nothing was kept; send the same again.",
        )
        .closing_connection()
    }
}
