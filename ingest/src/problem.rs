//! Every refusal the door words: RFC 9457 problem documents. Nothing else makes one.
//!
//! The catalogue for people is `docs/problems.md`. A problem says what happened, where, and what to do,
//! and never repeats a value from the body.

use std::borrow::Cow;

use bytes::Bytes;
use forebay_order::{Fingerprint, Unreadable, UnreadableKind};
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::answer::Response;

/// The longest `instance` that is repeated.
const INSTANCE_MAX: usize = 1024;

/// The kinds of problem, one catalogue entry each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unreadable,
    Conflict,
    NotAnOrder,
    FetchNeeded,
    UnknownChannel,
    TooLarge,
    UnsupportedMediaType,
    Overloaded,
    Quota,
    UnknownOutcome,
    Closing,
    NotFound,
    BadRequest,
    Timeout,
}

/// One refusal.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    kind: Kind,
    status: StatusCode,
    detail: Cow<'static, str>,
    retry_after: Option<u64>,
    /// The request's body was not read to its end, so the connection cannot go on.
    close: bool,
    more: More,
}

/// What only some problems have.
#[derive(Clone, Debug)]
enum More {
    Nothing,
    Place(Box<Place>),
    Conflict(Box<Conflict>),
    Quota(Box<QuotaState>),
    Allow(&'static str),
}

/// Where in the body the fault is.
#[derive(Clone, Debug, Serialize)]
struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    line: usize,
    column: usize,
    kind: &'static str,
    detail: String,
}

/// Two bodies under one key.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Conflict {
    /// Where the first is, as a path.
    #[serde(rename = "location")]
    pub(crate) location: String,
    /// Fingerprint of what was kept first.
    pub(crate) first_fingerprint: Fingerprint,
    /// Fingerprint of what came now.
    pub(crate) fingerprint: Fingerprint,
    /// JSON pointers (XML: paths) of the top-level members that differ; no values.
    pub(crate) differing: Vec<String>,
    /// The record that keeps the second body.
    pub(crate) sequence: u64,
}

/// A channel's quota, as its sender should see it.
#[derive(Clone, Debug)]
pub(crate) struct QuotaState {
    pub(crate) channel: String,
    pub(crate) burst: u32,
    pub(crate) per_s: u32,
}

impl Kind {
    /// The last part of the problem's `type`, also the metric label.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Conflict => "conflict",
            Self::NotAnOrder => "not-an-order",
            Self::FetchNeeded => "fetch-needed",
            Self::UnknownChannel => "unknown-channel",
            Self::TooLarge => "too-large",
            Self::UnsupportedMediaType => "unsupported-media-type",
            Self::Overloaded => "overloaded",
            Self::Quota => "quota",
            Self::UnknownOutcome => "unknown-outcome",
            Self::Closing => "closing",
            Self::NotFound => "not-found",
            Self::BadRequest => "bad-request",
            Self::Timeout => "timeout",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Unreadable => "The body cannot be read",
            Self::Conflict => "Another order has this key",
            Self::NotAnOrder => "This is not an order",
            Self::FetchNeeded => "Only an id came",
            Self::UnknownChannel => "No such channel",
            Self::TooLarge => "Too large",
            Self::UnsupportedMediaType => "Content type or encoding not supported",
            Self::Overloaded => "Too busy to take orders safely",
            Self::Quota => "Over this channel's quota",
            Self::UnknownOutcome => "Whether the order was kept is unknown",
            Self::Closing => "Shutting down",
            Self::NotFound => "Not found",
            Self::BadRequest => "The request cannot be used",
            Self::Timeout => "The body came too slowly",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Unreadable | Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Conflict => StatusCode::CONFLICT,
            Self::NotAnOrder | Self::FetchNeeded => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UnknownChannel | Self::NotFound => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Quota => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::UnknownOutcome | Self::Closing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl Problem {
    fn new(kind: Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        let (status, detail) = (kind.status(), detail.into());
        Self { kind, status, detail, retry_after: None, close: false, more: More::Nothing }
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The connection ends with this answer.
    pub(crate) fn closing_connection(mut self) -> Self {
        self.close = true;
        self
    }

    /// The bytes do not parse, or hold more than they may.
    pub(crate) fn unreadable(fault: &Unreadable) -> Self {
        let kind = match fault.kind {
            UnreadableKind::TooLarge => Kind::TooLarge,
            _ => Kind::Unreadable,
        };
        let place = Place {
            pointer: fault.pointer.clone(),
            line: fault.line,
            column: fault.column,
            kind: fault.kind.word(),
            detail: fault.message.clone(),
        };
        let problem = Self::new(
            kind,
            format!("{fault}. Nothing was kept; correct the body and send it again."),
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
    pub(crate) fn overloaded(seconds: u64) -> Self {
        Self::new(
            Kind::Overloaded,
            "As much is between the door and the disk as may be. Nothing was kept; send the same again after Retry-After.",
        )
        .retry_after(seconds)
    }

    /// Too many connections.
    pub(crate) fn too_many_connections(seconds: u64) -> Self {
        Self::new(
            Kind::Overloaded,
            "As many connections are open as may be. Nothing was kept; keep connections open and share them, and send the same again after Retry-After.",
        )
        .retry_after(seconds)
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
    pub(crate) fn closing(seconds: u64) -> Self {
        Self::new(
            Kind::Closing,
            "Forebay is shutting down. Nothing was kept; send the same again after Retry-After.",
        )
        .retry_after(seconds)
    }

    /// A write or sync failed under the order.
    pub(crate) fn unknown_outcome(seconds: u64) -> Self {
        Self::new(
            Kind::UnknownOutcome,
            "Whether the order is durable is unknown, send the same again with the same key.",
        )
        .retry_after(seconds)
    }

    /// A fault of ours while a request was handled.
    pub(crate) fn internal(seconds: u64) -> Self {
        let problem = Self::new(
            Kind::UnknownOutcome,
            "A fault in Forebay ended this request. Whether the order is durable is unknown, send the same again with the same key.",
        );
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..problem }.retry_after(seconds)
    }

    /// The buffer cannot say what it knows of an order.
    pub(crate) fn cannot_look(seconds: u64) -> Self {
        Self::new(
            Kind::Overloaded,
            "What is known of the order cannot be read at the moment. Ask again after Retry-After.",
        )
        .retry_after(seconds)
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

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Where the first order of a conflicting key is.
    pub(crate) fn location(&self) -> Option<&str> {
        match &self.more {
            More::Conflict(conflict) => Some(&conflict.location),
            _ => None,
        }
    }

    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        self.retry_after
    }

    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The document, for the answer of a whole request or of one item in a batch.
    pub(crate) fn document<'a>(&'a self, instance: &'a str) -> Document<'a> {
        Document { problem: self, instance }
    }

    /// The answer to a request.
    pub(crate) fn respond(&self, instance: &str) -> Response {
        let body = serde_json::to_vec(&self.document(instance)).unwrap_or_default();
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.kind == Kind::UnsupportedMediaType {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, identity"));
        }
        match &self.more {
            More::Nothing | More::Place(_) => {}
            More::Allow(allow) => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            More::Conflict(conflict) => {
                if let Ok(location) = HeaderValue::from_str(&conflict.location) {
                    headers.insert(LOCATION, location);
                }
            }
            More::Quota(quota) => {
                let window = quota.burst.div_ceil(quota.per_s.max(1)).max(1);
                let policy = format!("{:?};q={};w={window}", quota.channel, quota.burst);
                let state = format!("{:?};r=0;t={}", quota.channel, self.retry_after.unwrap_or(1));
                for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
                    if let Ok(value) = HeaderValue::from_str(&value) {
                        headers.insert(name, value);
                    }
                }
            }
        }
        response
    }
}

/// A problem and the request it is the answer to.
pub(crate) struct Document<'a> {
    problem: &'a Problem,
    instance: &'a str,
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let problem = self.problem;
        let word = problem.kind.word();
        let instance = self.instance.get(..INSTANCE_MAX).unwrap_or(self.instance);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("https://forebay.dev/problems/{word}"))?;
        map.serialize_entry("title", problem.kind.title())?;
        map.serialize_entry("status", &problem.status.as_u16())?;
        map.serialize_entry("detail", problem.detail.as_ref())?;
        map.serialize_entry("instance", instance)?;
        if let Some(seconds) = problem.retry_after {
            map.serialize_entry("retry_after", &seconds)?;
        }
        match &problem.more {
            More::Place(place) => map.serialize_entry("errors", &[place.as_ref()])?,
            More::Conflict(conflict) => {
                map.serialize_entry("location", &conflict.location)?;
                map.serialize_entry("first_fingerprint", &conflict.first_fingerprint)?;
                map.serialize_entry("fingerprint", &conflict.fingerprint)?;
                map.serialize_entry("differing", &conflict.differing)?;
                map.serialize_entry("sequence", &conflict.sequence)?;
            }
            More::Nothing | More::Quota(_) | More::Allow(_) => {}
        }
        map.end()
    }
}
