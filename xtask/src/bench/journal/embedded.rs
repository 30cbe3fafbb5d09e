//! The embedded buffer through its public seam, driven in a closed loop.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{Buffer, Embedded, EmbeddedConfig, Envelope, SystemClock, Verdict};
use forebay_order::{Fingerprint, Format, OrderKey};
use futures_util::future::{try_join, try_join_all};
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::ORDER_BYTES;
use crate::failure::{Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;

/// Orders that may wait for the drain, so that segments come back as fast as they are filled.
const BACKLOG_MAX: u64 = 20_000;
/// Orders of one lease.
const LEASE: usize = 512;

/// An open buffer and the next order's number.
pub(super) struct Store {
    buffer: Embedded,
    runtime: Runtime,
    body: Bytes,
    next: Cell<u64>,
}

/// What appending came to.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) orders: u64,
    latency_us: Histogram<u64>,
}

impl Appended {
    pub(super) fn latency_ms(&self, percentile: f64) -> f64 {
        self.latency_us.value_at_percentile(percentile) as f64 / 1e3
    }
}

impl Store {
    /// Opens a buffer with so many spare slots.
    pub(super) fn open(dir: PathBuf, reserve: u32) -> Result<Self> {
        let config = EmbeddedConfig {
            burst_reserve: reserve,
            disk_max: 64 << 30,
            ..EmbeddedConfig::new(dir)
        };
        let failed =
            Box::new(|reason: String| complain(format_args!("the buffer failed: {reason}")));
        let buffer = Embedded::open(config, Arc::new(SystemClock), failed).when("the buffer")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.when("starting a runtime")?;
        Ok(Self { buffer, runtime, body: vec![b'x'; ORDER_BYTES].into(), next: Cell::new(0) })
    }

    /// Appends with so many in flight until the time has passed.
    pub(super) fn append_for(&self, lasting: Duration, in_flight: usize) -> Result<Appended> {
        let watch = Stopwatch::start();
        self.append(in_flight, || watch.elapsed() < lasting)
    }

    fn append(&self, in_flight: usize, more: impl Fn() -> bool) -> Result<Appended> {
        let latency_us = RefCell::new(Histogram::new_with_max(60_000_000, 3).when("a histogram")?);
        let (clock, first) = (Stopwatch::start(), self.next.get());
        let one = async || {
            while more() {
                let sent = clock.elapsed();
                self.append_one().await?;
                let us = clock.elapsed().saturating_sub(sent).as_micros();
                latency_us.borrow_mut().saturating_record(u64::try_from(us).unwrap_or(u64::MAX));
            }
            Ok(())
        };
        self.runtime.block_on(try_join_all((0..in_flight).map(|_| one())))?;
        Ok(Appended { orders: self.next.get() - first, latency_us: latency_us.into_inner() })
    }

    /// Appends so many with a bounded backlog, while two workers settle what they are lent, until all are settled.
    pub(super) fn append_and_drain(&self, orders: u64, in_flight: usize) -> Result<u64> {
        let last = self.next.get() + orders;
        let (appended, settled) = (Cell::new(self.next.get()), Cell::new(self.next.get()));
        let room = Notify::new();
        let append = async || {
            while self.next.get() < last {
                if appended.get().saturating_sub(settled.get()) >= BACKLOG_MAX {
                    room.notified().await;
                    continue;
                }
                self.append_one().await?;
                appended.set(appended.get() + 1);
            }
            Ok(())
        };
        let drain = async || {
            while settled.get() < last {
                let leases = self.buffer.lease(LEASE, Duration::from_millis(50)).await;
                for lease in leases.when("a lease")? {
                    let summary_id = format!("0sO{:015}", lease.sequence);
                    lease.settle(Verdict::Summarised { summary_id, existing: false });
                    settled.set(settled.get() + 1);
                }
                room.notify_waiters();
            }
            Ok(())
        };
        self.runtime.block_on(async {
            let appending = try_join_all((0..in_flight).map(|_| append()));
            try_join(appending, try_join(drain(), drain())).await
        })?;
        Ok(orders)
    }

    async fn append_one(&self) -> Result<()> {
        let n = self.next.get();
        self.next.set(n + 1);
        let envelope = envelope(&self.body, n);
        let permit = self.buffer.admission().admit(ORDER_BYTES).when("a permit")?;
        self.buffer.append(envelope, permit).await.when("an append")?;
        Ok(())
    }

    /// Bytes the journal says it has written, where it counts them.
    pub(super) fn journal_written(&self) -> Result<Option<u64>> {
        let status = self.runtime.block_on(self.buffer.status()).when("the buffer's status")?;
        let status = serde_json::to_value(status).when("the buffer's status")?;
        Ok(status.get("journal_bytes_written").and_then(serde_json::Value::as_u64))
    }

    /// Finishes and lets the directory go.
    pub(super) fn close(self) {
        self.runtime.block_on(self.buffer.close());
    }
}

/// What the door hands in for the `n`-th order.
fn envelope(body: &Bytes, n: u64) -> Envelope {
    let mut fingerprint = [0; 16];
    if let Some(head) = fingerprint.get_mut(..8) {
        head.copy_from_slice(&n.to_le_bytes());
    }
    let key = OrderKey::new("forebay", "demo", format!("018f9c2e-0000-7b3a-9d11-{n:012x}"));
    Envelope {
        number: format!("F-{n:06}"),
        version: Some(1),
        format: Format::Forebay as u8,
        ..Envelope::new(key, Fingerprint(fingerprint), body.clone())
    }
}
