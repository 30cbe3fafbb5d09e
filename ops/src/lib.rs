//! The operator's door: health, metrics, status, orders, what became of them, process exceptions, and what the OMS has; and
//! webhooks, which tell others what became of orders.
//!
//! Its own listener, loopback only until operators have credentials. It never touches a storefront's
//! request, and a storefront's flood never starves it of its port.

mod answer;
mod claim;
mod exceptions;
mod health;
mod metrics;
mod orders;
mod outcomes;
mod replay;
mod serve;
mod status;
mod told;
pub mod webhooks;

pub use serve::{Ops, OpsError};
pub use status::{DoorStatus, DrainStatus};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, Clock};
use forebay_processor::{Hearing, OrderManagement};
use metrics_exporter_prometheus::PrometheusHandle;

/// What the operator's door looks at.
pub struct View<B, O> {
    /// The buffer.
    pub buffer: B,
    /// The OMS, for reconciliation.
    pub oms: Arc<O>,
    /// Its kind in the configuration's word.
    pub oms_kind: &'static str,
    /// The store's name, by which the OMS knows whose orders are drained to it ([webhooks::store_name]).
    pub fleet: String,
    /// How the drain stands.
    pub drain: Box<dyn Fn() -> DrainStatus + Send + Sync>,
    /// How the webhooks stand.
    pub webhooks: webhooks::Board,
    /// The secrets that whoever tells outcomes signs with; none: nobody has to.
    pub outcomes_secret_file: Option<PathBuf>,
    /// Takes what the OMS tells by itself.
    pub hearing: Hearing,
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// [`Clock::elapsed`] when the service started.
    pub started: Duration,
    /// Version of the binary.
    pub version: &'static str,
}

impl<B: Buffer, O: OrderManagement> std::fmt::Debug for View<B, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("oms_kind", &self.oms_kind).finish_non_exhaustive()
    }
}
