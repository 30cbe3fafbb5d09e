//! Answers, whole or cut.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use hyper::body::Frame;

use crate::dialect::{Dialect, Said};
use crate::order::{Cut, Refusal, Why};

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) why: Option<Why>,
    pub(super) cut: Option<Cut>,
    headers: Vec<(HeaderName, String)>,
}

impl Answer {
    pub(super) fn ok(body: Vec<u8>) -> Self {
        Self { status: 200, body, why: None, cut: None, headers: Vec::new() }
    }

    pub(super) fn said(said: Said) -> Self {
        let mut answer = Self::ok(said.body);
        answer.status = said.status;
        answer.headers.extend(said.header);
        answer
    }

    /// A call refused as a whole.
    pub(super) fn refused(refusal: &Refusal, dialect: Dialect) -> Self {
        let mut answer = Self::said(dialect.words().refusal(refusal));
        answer.why = Some(refusal.why);
        if let Some(after) = refusal.retry_after_s {
            answer = answer.header(header::RETRY_AFTER, after.to_string());
        }
        if answer.status == 401 {
            answer = answer.header(header::WWW_AUTHENTICATE, "Bearer".to_owned());
        }
        answer
    }

    pub(super) fn header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn cut(mut self, cut: Option<Cut>) -> Self {
        self.cut = cut;
        self
    }

    /// The status a caller gets to see, if any.
    pub(super) fn status_seen(&self) -> Option<u16> {
        match self.cut {
            Some(Cut::BeforeCommit | Cut::AfterCommit) => None,
            Some(Cut::MidAnswer) | None => Some(self.status),
        }
    }

    /// The bytes of the body that are sent.
    pub(super) fn bytes_out(&self) -> usize {
        match self.cut {
            Some(Cut::BeforeCommit | Cut::AfterCommit) => 0,
            Some(Cut::MidAnswer) => self.body.len() / 2,
            None => self.body.len(),
        }
    }

    pub(super) fn into_response(self) -> Response {
        let sent = self.bytes_out();
        let whole = self.body.len();
        let mut response = match self.cut {
            None => Response::new(Body::from(self.body)),
            Some(Cut::MidAnswer) => {
                let half = Bytes::from(self.body).slice(..sent);
                Response::new(Body::new(Half { half: Some(half), flushed: false }))
            }
            Some(Cut::BeforeCommit | Cut::AfterCommit) => {
                let mut response = Response::new(Body::empty());
                response.extensions_mut().insert(Reset);
                response
            }
        };
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(whole));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.append(name, value);
            }
        }
        response
    }
}

/// In the extensions of a response, and then a connection's error: reset the connection instead of answering.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reset;

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is reset on purpose")
    }
}

impl std::error::Error for Reset {}

impl From<Infallible> for Reset {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A connection's error where half of a body has been sent.
#[derive(Debug)]
struct HalfSent;

impl fmt::Display for HalfSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer is cut on purpose")
    }
}

impl std::error::Error for HalfSent {}

/// Half of a body, and then the connection's end.
struct Half {
    half: Option<Bytes>,
    flushed: bool,
}

impl HttpBody for Half {
    type Data = Bytes;
    type Error = HalfSent;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HalfSent>>> {
        if let Some(half) = self.half.take() {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if !self.flushed {
            // The connection writes out what it has whenever a body has nothing at the moment.
            self.flushed = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(HalfSent)))
    }
}
