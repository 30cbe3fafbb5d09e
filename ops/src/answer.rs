//! Answers of the operator's door: JSON, or an RFC 9457 problem.

use axum::Json;
use axum::response::{IntoResponse, Response};
use forebay_buffer::BufferError;
use forebay_processor::CallFailure;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::json;

/// Why an operator's request has no answer; becomes a problem document.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    word: &'static str,
    detail: String,
    /// A member of its own kind.
    member: Option<(&'static str, u64)>,
}

/// What every handler returns.
pub(crate) type Answer = Result<Response, Problem>;

/// `value` as 200.
pub(crate) fn ok(value: impl Serialize) -> Answer {
    Ok(Json(value).into_response())
}

impl Problem {
    pub(crate) fn new(status: StatusCode, word: &'static str, detail: impl Into<String>) -> Self {
        Self { status, word, detail: detail.into(), member: None }
    }

    /// The same with a member that only this kind of problem has.
    pub(crate) fn with(self, name: &'static str, value: u64) -> Self {
        Self { member: Some((name, value)), ..self }
    }

    pub(crate) fn not_found(detail: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }
}

impl From<BufferError> for Problem {
    fn from(error: BufferError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
    }
}

impl From<CallFailure> for Problem {
    fn from(failure: CallFailure) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "oms", failure.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("https://forebay.dev/problems/{}", self.word),
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let (Some((name, value)), Some(members)) = (self.member, body.as_object_mut()) {
            members.insert(name.to_owned(), value.into());
        }
        let mut response = (self.status, Json(body)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
