//! `GET /v1/status`: how the service stands, in one document.

use std::sync::Arc;

use axum::extract::State;
use forebay_buffer::{Buffer, Pace, Status};
use forebay_processor::OrderManagement;
use serde::Serialize;

use crate::View;
use crate::answer::{Answer, ok};
use crate::webhooks::EndpointStatus;

/// How the drain stands.
#[derive(Clone, Debug, Serialize)]
pub struct DrainStatus {
    /// `on`, `paused`, or `off` where this process only takes orders in.
    pub mode: &'static str,
    /// Orders a second, of all processes that drain the same orders together, the smallest ceiling of theirs; `None` without a governor.
    pub ceiling_per_s: Option<f64>,
    /// How much of it is this process's, from 0 to 1.
    pub share: f64,
    /// Orders above the ceiling that any span of time may see; `None` without a governor.
    pub burst: Option<f64>,
    /// Orders in one call at most.
    pub batch: usize,
    /// Calls under way.
    pub in_flight: usize,
    /// Orders with the OMS under a ticket, their outcome not known, of this process's partitions.
    pub outstanding: u64,
    /// How many of them there may be; `None` without a limit.
    pub outstanding_max: Option<u64>,
    /// What limits it now, one word.
    pub limiter: &'static str,
    /// Where the drain has stopped by itself: what happened, and what to do.
    pub why: Option<String>,
}

impl DrainStatus {
    /// Of a process that drains nothing.
    pub const OFF: Self = Self {
        mode: "off",
        ceiling_per_s: None,
        share: 0.0,
        burst: None,
        batch: 0,
        in_flight: 0,
        outstanding: 0,
        outstanding_max: None,
        limiter: "off",
        why: None,
    };
}

/// What the storefront's door holds now.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DoorStatus {
    /// Orders between the door and the disk.
    pub in_flight_orders: usize,
    /// Their bytes.
    pub in_flight_bytes: usize,
}

#[derive(Serialize)]
struct Document {
    version: &'static str,
    pid: u32,
    uptime_s: u64,
    buffer: Status,
    pace: PaceStatus,
    drain: DrainStatus,
    oms: OmsStatus,
    door: DoorStatus,
    webhooks: Vec<EndpointStatus>,
}

#[derive(Serialize)]
struct PaceStatus {
    pending: u64,
    drained_per_s: f64,
}

#[derive(Serialize)]
struct OmsStatus {
    kind: &'static str,
    guarantee: &'static str,
    test: bool,
}

/// `GET /v1/status`
pub(crate) async fn get<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
) -> Answer {
    let Pace { pending, drained_per_s } = view.buffer.pace();
    let (in_flight_orders, in_flight_bytes) = view.buffer.admission().in_flight();
    ok(Document {
        version: view.version,
        pid: std::process::id(),
        uptime_s: view.clock.elapsed().saturating_sub(view.started).as_secs(),
        buffer: view.buffer.status().await?,
        pace: PaceStatus { pending, drained_per_s },
        drain: (view.drain)(),
        oms: OmsStatus {
            kind: view.oms_kind,
            guarantee: view.oms.guarantee().words(),
            test: view.oms.is_test(),
        },
        door: DoorStatus { in_flight_orders, in_flight_bytes },
        webhooks: view.webhooks.status(),
    })
}
