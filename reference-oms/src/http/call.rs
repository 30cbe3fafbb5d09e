//! One call: noted as it comes, let in or refused, done, noted as it leaves.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, StatusCode, header};

use super::answer::Answer;
use super::{orders, records, session, token};
use crate::faults::Faults;
use crate::latency;
use crate::ledger::Note;
use crate::oms::Oms;
use crate::order::{Kind, Refusal, Why};

/// Bytes of a request's body at most.
const BODY_MAX: usize = 16 << 20;

/// As Salesforce tells its quota.
const LIMIT_INFO: HeaderName = HeaderName::from_static("sforce-limit-info");

/// A call that has come.
pub(super) struct Call {
    pub(super) number: i64,
    pub(super) kind: Kind,
    pub(super) at_us: i64,
    pub(super) faults: Arc<Faults>,
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

/// Serves one call, whatever it wants.
pub(super) async fn serve(State(oms): State<Arc<Oms>>, request: Request) -> Response {
    let kind = oms.dialect.words().kind(request.method(), request.uri().path());
    let (under_way, at_once) = UnderWay::enter(&oms, kind);
    let (number, at_us, faults) = (oms.next_call(), oms.clock.now_us(), oms.faults());
    let early_us = kind.is_limited().then(|| oms.pressure().too_early_us(at_us)).flatten();
    oms.ledger.note(Note::Arrival { call: number, at_us, kind, at_once, early_us }).await;
    let (parts, body) = request.into_parts();
    let (body, is_whole) = match to_bytes(body, BODY_MAX).await {
        Ok(body) => (body, true),
        Err(_) => (Bytes::new(), false),
    };
    let bytes_in = body.len();
    let call = Call { number, kind, at_us, faults, parts, body };
    let admitted = if is_whole {
        admit(&oms, &call, at_once, early_us.is_some())
    } else {
        Err(too_large("the body is over 16 MiB, or did not come whole"))
    };
    let answer = match admitted {
        Ok(()) => {
            if let Some(latency) = call.faults.latency_ms {
                tokio::time::sleep(latency::draw(latency)).await;
            }
            done(&oms, &call).await
        }
        Err(refusal) => Answer::refused(&refusal, oms.dialect),
    };
    let answer = match call.faults.quota_per_day {
        Some(max) => {
            let used = oms.pressure().used(oms.clock.now_us());
            answer.header(LIMIT_INFO, format!("api-usage={used}/{max}"))
        }
        None => answer,
    };
    let note = Note::Answer {
        call: number,
        at_us: oms.clock.now_us(),
        status: answer.status_seen(),
        why: answer.why,
        cut: answer.cut,
        bytes_in,
        bytes_out: answer.bytes_out(),
    };
    oms.ledger.note(note).await;
    drop(under_way);
    answer.into_response()
}

async fn done(oms: &Oms, call: &Call) -> Answer {
    let done = match call.kind {
        Kind::Token => Ok(token::grant(oms, call).await),
        Kind::Session => Ok(session::begin(oms, call)),
        Kind::Create => orders::create(oms, call).await,
        Kind::Find => orders::find(oms, call).await,
        Kind::List => orders::list(oms, call).await,
        Kind::Read => records::read(oms, call).await,
        Kind::Write => records::write(oms, call).await,
        Kind::Other => {
            Err(refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "nothing here", Why::Absent))
        }
    };
    done.unwrap_or_else(|refusal| Answer::refused(&refusal, oms.dialect))
}

/// Whether a call is let in, in the order in which real ones look.
fn admit(oms: &Oms, call: &Call, at_once: u64, came_early: bool) -> Result<(), Refusal> {
    let faults = &call.faults;
    if faults.unavailable {
        let (code, message) = ("UNAVAILABLE", "down for maintenance");
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, code, message, Why::Unavailable));
    }
    if !call.kind.is_limited() {
        return Ok(());
    }
    let authorization = call.parts.headers.get(header::AUTHORIZATION);
    let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if !token.is_some_and(|token| oms.tokens().is_good(token.trim(), call.at_us)) {
        let message = "the token is missing, expired or revoked";
        return Err(refusal(StatusCode::UNAUTHORIZED, "INVALID_TOKEN", message, Why::Token));
    }
    let changes = matches!(call.kind, Kind::Create | Kind::Write);
    if changes && oms.dialect.words().wants_session() && !session::is_in_one(oms, call) {
        let message = "CSRF token validation failed";
        return Err(refusal(StatusCode::FORBIDDEN, "403", message, Why::Session));
    }
    if !oms.pressure().count(faults.quota_per_day, call.at_us) {
        let (code, message) = ("REQUEST_LIMIT_EXCEEDED", "the calls of the day are used up");
        return Err(refusal(StatusCode::FORBIDDEN, code, message, Why::Quota));
    }
    if let Some(overloaded) = &faults.overloaded
        && overloaded.every.is_none_or(|every| oms.counts.overloaded.hits(Some(every)))
    {
        return Err(Refusal {
            status: overloaded.status,
            code: overloaded.code.clone(),
            message: "too many calls".to_owned(),
            retry_after_s: oms.pressure().tell(overloaded, came_early, oms.clock.now_us()),
            why: Why::Overloaded,
        });
    }
    if faults.calls_at_once_max.is_some_and(|max| at_once > max.get()) {
        let (code, message) = ("SSS_REQUEST_LIMIT_EXCEEDED", "too many calls at once");
        return Err(refusal(StatusCode::BAD_REQUEST, code, message, Why::AtOnce));
    }
    Ok(())
}

pub(super) fn refusal(status: StatusCode, code: &str, message: &str, why: Why) -> Refusal {
    Refusal {
        status: status.as_u16(),
        code: code.to_owned(),
        message: message.to_owned(),
        retry_after_s: None,
        why,
    }
}

pub(super) fn malformed(message: &str) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "MALFORMED", message, Why::Malformed)
}

pub(super) fn too_large(message: &str) -> Refusal {
    refusal(StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE", message, Why::TooLarge)
}

/// A limited call under way, until this is dropped.
struct UnderWay(Arc<Oms>, bool);

impl UnderWay {
    /// Counts a call in, and says how many are under way with it.
    fn enter(oms: &Arc<Oms>, kind: Kind) -> (Self, u64) {
        let counts = kind.is_limited();
        let before = oms.under_way.fetch_add(u64::from(counts), Ordering::Relaxed);
        (Self(Arc::clone(oms), counts), before + u64::from(counts))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(u64::from(self.1), Ordering::Relaxed);
    }
}
