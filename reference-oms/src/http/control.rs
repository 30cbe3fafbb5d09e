//! `/control`, `/judge` and `/bodies`: for whoever runs the test, so for this machine only, and not for pages in a browser on it.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::judge::judge;
use crate::oms::Oms;

/// Who is at the other end, in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Lets only this machine pass.
pub(super) async fn from_here(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let is_here = peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
    if !is_here || request.headers().contains_key(header::ORIGIN) {
        let message = "only for programs on the machine this OMS runs on";
        return problem(StatusCode::FORBIDDEN, "NOT_FROM_HERE", message);
    }
    next.run(request).await
}

pub(super) async fn show(State(oms): State<Arc<Oms>>) -> Response {
    Json(oms.faults().as_ref()).into_response()
}

pub(super) async fn change(State(oms): State<Arc<Oms>>, body: Bytes) -> Response {
    let change = serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string());
    match change.and_then(|change| oms.change(change)) {
        Ok(faults) => Json(faults.as_ref()).into_response(),
        Err(message) => problem(StatusCode::BAD_REQUEST, "MALFORMED", &message),
    }
}

pub(super) async fn judgement(State(oms): State<Arc<Oms>>) -> Response {
    if let Err(message) = oms.ledger.flush().await {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &message);
    }
    let db = oms.ledger.path().to_owned();
    let judged = tokio::task::spawn_blocking(move || judge(&db)).await;
    match judged.map_err(|error| error.to_string()) {
        Ok(Ok(judgement)) => Json(judgement).into_response(),
        Ok(Err(error)) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &error.to_string())
        }
        Err(message) => problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &message),
    }
}

/// What the last create calls that could be read brought, the oldest first.
pub(super) async fn bodies(State(oms): State<Arc<Oms>>) -> Response {
    let bodies = oms.bodies();
    let bodies =
        bodies.iter().map(|body| serde_json::from_slice::<Value>(body).unwrap_or_default());
    Json(bodies.collect::<Vec<_>>()).into_response()
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "code": code, "message": message }))).into_response()
}
