//! What the server says of itself, asked again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::client::{CallError, Connection};

/// How long `/v1/status` may take before it counts as silent.
const STATUS_WITHIN: Duration = Duration::from_secs(1);

/// The part of `/v1/status` a sale is watched by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) pending: u64,
    pub(crate) leased: u64,
    pub(crate) submitted: u64,
    pub(crate) summarised: u64,
    pub(crate) oldest_ms: Option<i64>,
    pub(crate) ceiling_per_s: Option<f64>,
}

impl Seen {
    /// Orders on their way to the OMS.
    pub(crate) fn under_way(&self) -> u64 {
        self.pending + self.leased + self.submitted
    }
}

#[derive(Deserialize)]
struct Status {
    buffer: Buffer,
    #[serde(default)]
    drain: Drain,
}

#[derive(Deserialize)]
struct Buffer {
    live: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
    oldest_pending_ms: Option<i64>,
}

#[derive(Default, Deserialize)]
struct Drain {
    ceiling_per_s: Option<f64>,
}

/// The ops listener, watched over one connection.
pub(crate) struct Watch(Connection);

impl Watch {
    pub(crate) fn new(ops: SocketAddr) -> Self {
        Self(Connection::new(ops))
    }

    /// Asks once.
    pub(crate) async fn look(&mut self) -> Result<Seen, CallError> {
        let status: Option<Status> = self.0.get("/v1/status", STATUS_WITHIN).await?;
        let Some(Status { buffer, drain }) = status else { return Ok(Seen::default()) };
        let live = |state: &str| buffer.live.get(state).copied().unwrap_or(0);
        Ok(Seen {
            pending: live("pending"),
            leased: live("leased"),
            submitted: live("submitted"),
            summarised: buffer.ended.get("summarised").copied().unwrap_or(0),
            oldest_ms: buffer.oldest_pending_ms,
            ceiling_per_s: drain.ceiling_per_s,
        })
    }
}
