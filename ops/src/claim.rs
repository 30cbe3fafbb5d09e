//! Whose orders are drained to the OMS.

use std::sync::Arc;

use axum::extract::{Query, State};
use forebay_buffer::Buffer;
use forebay_processor::{Claim, OrderManagement};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::View;
use crate::answer::{Answer, Problem, ok};

/// Query of [`claim`].
#[derive(Deserialize)]
pub(crate) struct ClaimQuery {
    /// From another fleet, if need be.
    #[serde(default)]
    take: bool,
}

/// `POST /v1/oms/claim?take=`: says that this fleet drains to the OMS, unless another does.
pub(crate) async fn claim<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    Query(query): Query<ClaimQuery>,
) -> Answer {
    match view.oms.claim(&view.fleet, query.take).await? {
        Claim::Ours { taken_ms } => {
            ok(json!({ "fleet": view.fleet, "claim": "ours", "taken_ms": taken_ms }))
        }
        Claim::Theirs { fleet, since_ms } => {
            let claim = json!({ "fleet": view.fleet, "claim": "theirs", "theirs": fleet, "since_ms": since_ms });
            ok(claim)
        }
        Claim::Untold => {
            let detail = "this OMS does not keep whose orders are drained to it; see to it that no other fleet's are, or configure where it is to ([oms.claim])";
            Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "not-claimable", detail))
        }
    }
}
