//! A clock that tests move, deliveries, and backends.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forebay_buffer::{
    Answer, Buffer, Clock, Embedded, EmbeddedConfig, Envelope, Lease, Memory, Receipt, Verdict,
};
use forebay_order::{Fingerprint, HoldReason, OrderKey, Readiness};

pub(crate) const START_MS: i64 = 1_790_000_000_000;
/// Long enough for any wait that must end with something.
pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const NOW: Duration = Duration::ZERO;
pub(crate) const UNPAID: Readiness = Readiness::Held(HoldReason::Unpaid);

/// A clock that stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct HandClock(AtomicI64, AtomicI64);

impl HandClock {
    pub(crate) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the wall clock, while no time passes.
    pub(crate) fn set_wall(&self, by_ms: i64) {
        self.1.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn wall_ms(&self) -> i64 {
        START_MS + self.0.load(Ordering::SeqCst) + self.1.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.load(Ordering::SeqCst)).unwrap())
    }
}

/// A pending delivery of order `id`; its content is `content`, its version `version`.
pub(crate) fn delivery(id: &str, content: u8, version: Option<u64>) -> Envelope {
    let key = OrderKey::new("shopify", "demo", id);
    let body = format!("body {id} {content}").into_bytes().into();
    Envelope { version, format: 2, ..Envelope::new(key, Fingerprint([content; 16]), body) }
}

pub(crate) fn with(readiness: Readiness, envelope: Envelope) -> Envelope {
    Envelope { readiness, ..envelope }
}

pub(crate) async fn post<B: Buffer>(buffer: &B, envelope: Envelope) -> Receipt {
    let permit = buffer.admission().admit(envelope.body.len()).unwrap();
    buffer.append(envelope, permit).await.unwrap()
}

pub(crate) async fn answer<B: Buffer>(buffer: &B, envelope: Envelope) -> Answer {
    post(buffer, envelope).await.answer()
}

/// The one order that can be lent now.
pub(crate) async fn lend<B: Buffer>(buffer: &B) -> Lease {
    let mut leases = buffer.lease(10, SOON).await.unwrap();
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

pub(crate) async fn none_to_lend<B: Buffer>(buffer: &B) {
    let leases = buffer.lease(10, NOW).await.unwrap();
    assert!(leases.is_empty(), "{leases:?}");
}

pub(crate) fn memory(clock: &Arc<HandClock>) -> Memory {
    Memory::new(1_000, 64 << 20, Arc::clone(clock) as Arc<dyn Clock>)
}

/// Small slots, so that retirement comes soon.
pub(crate) fn config(dir: &Path, slot_bytes: u64) -> EmbeddedConfig {
    EmbeddedConfig {
        slot_bytes,
        burst_reserve: 2,
        disk_max: 256 * slot_bytes,
        in_flight_orders: 1_000,
        in_flight_bytes: 64 << 20,
        ..EmbeddedConfig::new(dir)
    }
}

pub(crate) fn embedded(dir: &Path, slot_bytes: u64, clock: &Arc<HandClock>) -> Embedded {
    open(config(dir, slot_bytes), clock)
}

pub(crate) fn open(config: EmbeddedConfig, clock: &Arc<HandClock>) -> Embedded {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    let on_failure = Box::new(|reason| panic!("the buffer failed: {reason}"));
    Embedded::open(config, clock, on_failure).unwrap()
}

/// A delivery with a body of that many bytes.
pub(crate) fn large(id: &str, bytes: usize) -> Envelope {
    Envelope { body: vec![b'x'; bytes].into(), ..delivery(id, 1, Some(1)) }
}

pub(crate) fn summarised(id: &str) -> Verdict {
    Verdict::Summarised { summary_id: id.to_owned(), existing: false }
}

/// Takes and summarises `n` orders of 1 KiB, twenty at a time, so that whole segments end.
pub(crate) async fn pass_through(buffer: &Embedded, prefix: &str, n: usize) {
    for chunk in 0..n.div_ceil(20) {
        let orders = (0..20).map(|i| large(&format!("{prefix}-{chunk}-{i}"), 1 << 10));
        let posts: Vec<_> = orders.map(|order| post(buffer, order)).collect();
        futures_util::future::join_all(posts).await;
        let mut left = 20;
        while left > 0 {
            let leases = buffer.lease(20, SOON).await.unwrap();
            assert!(!leases.is_empty(), "{left} never came");
            left -= leases.len();
            for lease in leases {
                let id = lease.key.id.clone();
                assert!(id.starts_with(prefix), "{id} is not to be lent");
                lease.settle(summarised(&id));
            }
        }
    }
}
