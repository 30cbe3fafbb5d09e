//! What a sender is told about what was kept.

use std::cell::RefCell;

use bytes::Bytes;
use forebay_buffer::{Answer, Permit, Receipt};
use forebay_order::{Fingerprint, OrderKey};
use http::header::{CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::Full;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::config::Caller;
use crate::problem::{Document, Problem};

/// An answer to a request.
pub(crate) type Response = http::Response<Full<Bytes>>;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What one item came to.
#[derive(Clone, Debug)]
pub(crate) enum ItemAnswer {
    /// It is durable, and the sender is told so.
    Kept(Box<Kept>),
    /// It is durable beside the first of its key, and the sender is told 409.
    Conflict(Box<Problem>),
    /// Nothing of it was kept, or nobody knows.
    Refused(Box<Problem>),
}

/// A receipt, worded.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Kept {
    #[serde(skip)]
    code: StatusCode,
    #[serde(skip)]
    replayed: bool,
    outcome: &'static str,
    channel: std::sync::Arc<str>,
    source: std::sync::Arc<str>,
    id: String,
    number: String,
    state: &'static str,
    status: &'static str,
    sequence: u64,
    accepted_at: String,
    durability: std::borrow::Cow<'static, str>,
    fingerprint: Fingerprint,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
}

/// Where an order can be looked up.
pub(crate) fn location(key: &OrderKey) -> String {
    format!("/v1/orders/{}", key.path())
}

/// RFC 3339 with milliseconds, in UTC; empty for a time out of range.
pub(crate) fn timestamp(ms: i64) -> String {
    thread_local! {
        /// The last second that was worded, up to its point: orders come many a second.
        static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
    }
    let (second, ms) = (ms.div_euclid(1_000), ms.rem_euclid(1_000));
    SECOND.with_borrow_mut(|(known, text)| {
        if *known != second {
            let time = jiff::Timestamp::from_second(second);
            *text = time.map(|time| time.strftime("%FT%T").to_string()).unwrap_or_default();
            *known = second;
        }
        if text.is_empty() { String::new() } else { format!("{text}.{ms:03}Z") }
    })
}

/// The status a receipt's answer has for a caller.
fn code(caller: Caller, answer: Answer) -> StatusCode {
    match (caller, answer) {
        (Caller::Webhook, _) => StatusCode::OK,
        (Caller::Api, Answer::Duplicate | Answer::Amended | Answer::Stale) => StatusCode::OK,
        (Caller::Api, Answer::Cancelled | Answer::Recorded) => StatusCode::OK,
        (Caller::Api, Answer::Conflict) => StatusCode::CONFLICT,
        (
            Caller::Api,
            Answer::Accepted
            | Answer::Held
            | Answer::Tombstone
            | Answer::Parked
            | Answer::ChangeAfterSummary
            | Answer::Exception,
        ) => StatusCode::ACCEPTED,
    }
}

impl Kept {
    /// Words a receipt. `key`, `number` and `fingerprint` are the delivery's own; `keyed` says whether it
    /// occupies its key, so that it can be looked up.
    pub(crate) fn new(
        caller: Caller,
        receipt: &Receipt,
        key: OrderKey,
        number: String,
        fingerprint: Fingerprint,
        keyed: bool,
    ) -> Self {
        let (answer, first) = (receipt.answer(), receipt.first());
        let outcome = match (caller, answer) {
            (Caller::Webhook, Answer::Conflict) => "conflict_recorded",
            _ => answer.word(),
        };
        Self {
            code: code(caller, answer),
            replayed: answer == Answer::Duplicate,
            outcome,
            state: first.state.word(),
            status: first.state.shopper_word(),
            sequence: receipt.sequence(),
            accepted_at: timestamp(first.accepted_at_ms),
            durability: receipt.durability().words(),
            fingerprint,
            location: keyed.then(|| location(&key)),
            channel: key.channel,
            source: key.source,
            id: key.id,
            number,
        }
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }
}

impl ItemAnswer {
    pub(crate) fn refused(problem: Problem) -> Self {
        Self::Refused(Box::new(problem))
    }

    /// Whether what it stands for is durable.
    pub(crate) fn is_durable(&self) -> bool {
        matches!(self, Self::Kept(_) | Self::Conflict(_))
    }

    pub(crate) fn code(&self) -> StatusCode {
        match self {
            Self::Kept(kept) => kept.code,
            Self::Conflict(problem) | Self::Refused(problem) => problem.status(),
        }
    }

    /// When to come back with it, if it was refused for now.
    pub(crate) fn retry_seconds(&self) -> Option<u64> {
        match self {
            Self::Refused(problem) => problem.retry_seconds(),
            Self::Kept(_) | Self::Conflict(_) => None,
        }
    }

    /// The word for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Kept(kept) => kept.outcome,
            Self::Conflict(problem) | Self::Refused(problem) => problem.kind().word(),
        }
    }

    /// The answer to a request of this one item.
    pub(crate) fn respond(&self, instance: &str) -> Response {
        match self {
            Self::Conflict(problem) | Self::Refused(problem) => problem.respond(instance),
            Self::Kept(kept) => {
                let mut response = json(kept.code, kept.as_ref());
                let headers = response.headers_mut();
                let location = kept.location.as_deref().map(HeaderValue::from_str);
                if let Some(Ok(location)) = location {
                    headers.insert(LOCATION, location);
                }
                if kept.replayed {
                    headers.insert(REPLAYED, HeaderValue::from_static("true"));
                }
                response
            }
        }
    }
}

/// What the answer to one order takes, about.
const ANSWER_BYTES: usize = 512;

/// An answer whose body is `value` as JSON.
pub(crate) fn json(code: StatusCode, value: &impl Serialize) -> Response {
    let mut body = Vec::with_capacity(ANSWER_BYTES);
    if serde_json::to_writer(&mut body, value).is_err() {
        body.clear();
    }
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer with what has paid for its bytes, which is given back when the last of them is sent or dropped:
/// many senders of long lists who do not read their answers cannot fill the memory.
pub(crate) fn paid(response: Response, permit: Option<Permit>) -> Response {
    let Some(permit) = permit else { return response };
    let (head, body) = response.into_parts();
    let owner = PaidBytes { bytes: body.into_inner().unwrap_or_default(), _permit: permit };
    Response::from_parts(head, Full::new(Bytes::from_owner(owner)))
}

struct PaidBytes {
    bytes: Bytes,
    _permit: Permit,
}

impl AsRef<[u8]> for PaidBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The status of a batch: a success if anything in it is durable, else that of its first item.
pub(crate) fn batch_code(caller: Caller, items: &[ItemAnswer]) -> StatusCode {
    if items.iter().any(ItemAnswer::is_durable) {
        return match caller {
            Caller::Api => StatusCode::ACCEPTED,
            Caller::Webhook => StatusCode::OK,
        };
    }
    items.first().map_or(StatusCode::BAD_REQUEST, ItemAnswer::code)
}

/// The answer to a request of several items, one entry each in the order they came.
pub(crate) fn batch(caller: Caller, items: &[ItemAnswer], instance: &str) -> Response {
    let mut response = json(batch_code(caller, items), &Batch { items, instance });
    // A sender that reads headers only still learns when to come back.
    if let Some(seconds) = items.iter().find_map(ItemAnswer::retry_seconds) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

struct Batch<'a> {
    items: &'a [ItemAnswer],
    instance: &'a str,
}

impl Serialize for Batch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let durable = self.items.iter().filter(|item| item.is_durable()).count();
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("items", &Entries(self))?;
        map.serialize_entry("durable", &durable)?;
        map.serialize_entry("refused", &(self.items.len() - durable))?;
        map.end()
    }
}

struct Entries<'a>(&'a Batch<'a>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.items.len()))?;
        for (index, item) in self.0.items.iter().enumerate() {
            let code = item.code().as_u16();
            match item {
                ItemAnswer::Kept(kept) => {
                    seq.serialize_element(&KeptEntry { index, code, kept })?
                }
                ItemAnswer::Conflict(problem) | ItemAnswer::Refused(problem) => {
                    let problem = problem.document(self.0.instance);
                    seq.serialize_element(&ProblemEntry { index, code, problem })?;
                }
            }
        }
        seq.end()
    }
}

#[derive(Serialize)]
struct KeptEntry<'a> {
    index: usize,
    code: u16,
    #[serde(flatten)]
    kept: &'a Kept,
}

#[derive(Serialize)]
struct ProblemEntry<'a> {
    index: usize,
    code: u16,
    problem: Document<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_zone() {
        assert_eq!(timestamp(1_795_619_045_120), "2026-11-25T15:04:05.120Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(timestamp(i64::MAX), "");
        assert_eq!(timestamp(i64::MAX), "");
        assert_eq!(timestamp(1_007), "1970-01-01T00:00:01.007Z");
    }

    #[test]
    fn every_answer_has_its_status_for_each_caller() {
        let ok = [
            Answer::Duplicate,
            Answer::Amended,
            Answer::Stale,
            Answer::Cancelled,
            Answer::Recorded,
        ];
        let accepted = [
            Answer::Accepted,
            Answer::Held,
            Answer::Tombstone,
            Answer::Parked,
            Answer::ChangeAfterSummary,
            Answer::Exception,
        ];
        for answer in ok.into_iter().chain(accepted).chain([Answer::Conflict]) {
            assert_eq!(code(Caller::Webhook, answer), StatusCode::OK);
        }
        assert!(ok.into_iter().all(|answer| code(Caller::Api, answer) == StatusCode::OK));
        assert!(
            accepted.into_iter().all(|answer| code(Caller::Api, answer) == StatusCode::ACCEPTED)
        );
        assert_eq!(code(Caller::Api, Answer::Conflict), StatusCode::CONFLICT);
    }
}
