//! One order as the buffer knows it, and what the OMS has.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use forebay_buffer::{Buffer, OrderView};
use forebay_order::OrderKey;
use forebay_processor::OrderManagement;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::View;
use crate::answer::{Answer, Problem, ok};

/// Query of [`get`].
#[derive(Deserialize)]
pub(crate) struct GetQuery {
    /// `1`: with the kept bytes.
    body: Option<u8>,
}

#[derive(Serialize)]
struct WithBody {
    #[serde(flatten)]
    order: OrderView,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// `GET /v1/orders/{channel}/{source}/{id}`
pub(crate) async fn get<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Path((channel, source, id)): Path<(String, String, String)>,
    Query(query): Query<GetQuery>,
) -> Answer {
    let key = OrderKey::new(channel, source, id);
    let Some(order) = view.buffer.order(&key).await? else {
        return Err(Problem::not_found("no order has this channel, source and id"));
    };
    let body = match query.body {
        Some(1) => text(view.buffer.body(order.sequence).await?),
        _ => None,
    };
    ok(WithBody { order, body })
}

/// Kept bytes as text; what is not UTF-8 shows as U+FFFD (the kept bytes themselves are untouched).
pub(crate) fn text(bytes: Option<bytes::Bytes>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Query of the paged lists.
#[derive(Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    pub(crate) after: u64,
    pub(crate) limit: Option<usize>,
}

impl Page {
    /// The page's size: as asked, at most 1,000.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }
}

/// `GET /v1/oms/orders?after=&limit=`: what the OMS has, in the order it was committed.
pub(crate) async fn in_oms<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Query(page): Query<Page>,
) -> Answer {
    let limit = page.limit();
    let Some(orders) = view.oms.list(page.after, limit).await? else {
        let detail = "this OMS cannot list what it has";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "not-listable", detail));
    };
    let next = if orders.len() == limit { orders.last().map(|order| order.cursor) } else { None };
    ok(serde_json::json!({ "orders": orders, "next": next }))
}
