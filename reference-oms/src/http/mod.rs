//! The OMS's HTTP: calls that the ledger notes, and the doors of whoever runs the test, which it does not.

mod answer;
mod call;
mod control;
mod orders;
mod records;
mod session;
mod token;

use std::sync::Arc;

use axum::routing::get;
use axum::{Router, middleware};

use crate::oms::Oms;

pub(crate) use answer::Reset;
pub(crate) use control::Peer;

pub(crate) fn router(oms: Arc<Oms>) -> Router {
    let doors = Router::new()
        .route("/control", get(control::show).post(control::change))
        .route("/judge", get(control::judgement))
        .route("/bodies", get(control::bodies))
        .layer(middleware::from_fn(control::from_here));
    doors.fallback(call::serve).with_state(oms)
}
