//! Several processes on one store, as tests open them: each is a handle of its own, with its own connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Buffer, Clock, Lease, OrderState, SystemClock, Verdict};
use forebay_order::OrderKey;
use tokio::time::{Instant, sleep};

use crate::servers::{DEADLINE, Servers};

pub(crate) const LEASE: Duration = Duration::from_secs(2);
pub(crate) const PARTITIONS: u16 = 8;

pub(crate) fn config(servers: &Servers, drains: bool) -> NatsConfig {
    NatsConfig { partitions: PARTITIONS, lease: LEASE, drains, ..servers.config() }
}

pub(crate) async fn open(config: NatsConfig) -> Nats {
    open_at(config, Arc::new(SystemClock)).await
}

/// The same, by another clock.
pub(crate) async fn open_at(config: NatsConfig, clock: Arc<dyn Clock>) -> Nats {
    Nats::open(config, clock).await.unwrap()
}

/// Waits until something is so; fails if it does not become so.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is().await {
        assert!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Two that drain, each with half of the partitions.
pub(crate) async fn two(servers: &Servers) -> [Nats; 2] {
    let both = [open(config(servers, true)).await, open(config(servers, true)).await];
    have_their_share(&both).await;
    both
}

/// Waits until each of two has half of the partitions.
pub(crate) async fn have_their_share(both: &[Nats; 2]) {
    let half = usize::from(PARTITIONS / 2);
    until("both have their share", async || both.iter().all(|node| node.owned().0 == half)).await;
}

pub(crate) fn key(id: &str) -> OrderKey {
    OrderKey::new("shopify", "demo", id)
}

pub(crate) fn summarised(id: &str) -> Verdict {
    Verdict::Summarised { summary_id: id.to_owned(), existing: false }
}

pub(crate) async fn state(node: &Nats, id: &str) -> OrderState {
    node.order(&key(id)).await.unwrap().unwrap().state
}

/// Leases of either, by the order's id.
pub(crate) async fn lend_all(nodes: &[Nats; 2], count: usize) -> [BTreeMap<String, Lease>; 2] {
    let mut leases = [BTreeMap::new(), BTreeMap::new()];
    until("all orders are lent", async || {
        for (node, leases) in nodes.iter().zip(&mut leases) {
            for lease in node.lease(50, Duration::ZERO).await.unwrap() {
                let again = leases.insert(lease.key.id.clone(), lease);
                assert!(again.is_none(), "lent twice");
            }
        }
        leases.iter().map(BTreeMap::len).sum::<usize>() >= count
    })
    .await;
    assert!(leases[0].keys().all(|id| !leases[1].contains_key(id)), "lent by both");
    leases
}
