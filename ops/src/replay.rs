//! After the OMS was restored from a backup: what it lacks is sent again.

use std::sync::Arc;

use axum::extract::{Query, State};
use forebay_buffer::Buffer;
use forebay_processor::OrderManagement;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::View;
use crate::answer::{Answer, Problem, ok};

/// Orders looked up for one answer at most. They are one call to the OMS, for a few one after the other would not be answered in time.
const LOOKED_UP: usize = 50;

/// Query of [`replay`].
#[derive(Deserialize)]
pub(crate) struct ReplayQuery {
    /// Orders settled since, ms since 1970.
    since_ms: i64,
    /// `next` of the answer before.
    #[serde(default)]
    from: u64,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Serialize)]
struct Replayed {
    /// Orders the OMS was asked for.
    looked_up: usize,
    /// Those it has not.
    absent: usize,
    /// Those that wait for the drain once more.
    again: usize,
    /// Where to go on; null at the end.
    next: Option<u64>,
}

/// `POST /v1/oms/replay?since_ms=&from=&dry_run=`: asks the OMS for some of the orders that were settled since, and makes those it lacks
/// wait for the drain, which looks each up once more before it is sent.
pub(crate) async fn replay<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Query(query): Query<ReplayQuery>,
) -> Answer {
    if !view.oms.can_find() {
        let detail =
            "this OMS cannot be asked what it has (oms.find), so nobody knows what it lacks";
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "not-findable", detail));
    }
    let limit = LOOKED_UP.min(view.oms.find_batch()).max(1);
    let page = view.buffer.summarised_since(query.since_ms, query.from, limit).await?;
    let mut replayed = Replayed { next: page.next, ..Replayed::default() };
    if page.orders.is_empty() {
        return ok(replayed);
    }
    let identities: Vec<_> = page.orders.iter().map(|order| order.key.identity()).collect();
    let found = view.oms.find(&identities).await?;
    replayed.looked_up = identities.len();
    for (order, found) in page.orders.iter().zip(found) {
        if found.is_some() {
            continue;
        }
        replayed.absent += 1;
        if !query.dry_run {
            replayed.again += usize::from(view.buffer.send_again(&order.key).await?);
        }
    }
    ok(replayed)
}
