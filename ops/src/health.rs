//! Liveness, readiness, metrics.
//!
//! Live: the process turns; it depends on nothing. Ready: an order could be made durable now. An OMS that
//! is down does not make Forebay unready: standing in for it is what Forebay is for.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use forebay_buffer::Buffer;
use forebay_processor::OrderManagement;
use http::StatusCode;

use crate::View;

/// `GET /livez`
pub(crate) async fn livez() -> &'static str {
    "ok\n"
}

/// `GET /readyz`, with `?verbose` for people; machines read the status only.
pub(crate) async fn readyz<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    RawQuery(query): RawQuery,
) -> Response {
    let health = view.buffer.health();
    let status = if health.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !query.is_some_and(|query| query.starts_with("verbose")) {
        return (status, if health.is_ok() { "ok\n" } else { "not ready\n" }).into_response();
    }
    let drain = (view.drain)();
    let durability = view.buffer.durability();
    let buffer = match (health, durability.weakness()) {
        (Ok(()), None) => format!("[+] buffer: accepts durably: {durability}\n"),
        (Ok(()), Some(weakness)) => format!("[!] buffer: {durability}: {weakness}\n"),
        (Err(reason), _) => format!("[-] buffer: {reason}\n"),
    };
    let (sign, why) = match drain.why {
        Some(why) => ("[!]", format!(": {why}")),
        None => ("[+]", String::new()),
    };
    let drain = format!("{sign} drain: {} (limited by: {}){why}\n", drain.mode, drain.limiter);
    let differs = view.buffer.common().differs.clone();
    let differs = differs.map_or_else(String::new, |differs| format!("[!] fleet: {differs}\n"));
    (status, buffer + &drain + &differs).into_response()
}

/// `GET /metrics`
pub(crate) async fn metrics<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
) -> String {
    view.metrics.render()
}
