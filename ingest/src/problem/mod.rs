//! Every refusal the door words: RFC 9457 problem documents. Nothing else makes one.
//!
//! The catalogue for people is `docs/problems.md`. A problem says what happened, where, and what to do,
//! and never repeats a value from the body.

mod kind;
mod wording;

use std::borrow::Cow;

use bytes::Bytes;
use forebay_order::Fingerprint;
use http::header::{ACCEPT_ENCODING, ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body_util::Full;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::answer::Response;

pub(crate) use kind::Kind;
pub(crate) use wording::short;

/// The longest `instance` that is repeated.
const INSTANCE_MAX: usize = 1024;

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
        let instance = short(self.instance, INSTANCE_MAX);
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
