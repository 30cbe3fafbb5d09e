//! Wall clocks that differ by minutes: who owns what does not depend on them, and no order waits for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Answer, Buffer, Clock, OrderState, SystemClock, Verdict};

use crate::nodes::{
    PARTITIONS, config, have_their_share, key, lend_all, open_at, state, summarised, until,
};
use crate::proxy::Proxy;
use crate::servers::Servers;
use crate::support::{NOW, SOON, answer, delivery, none_to_lend, post};

const MINUTE_MS: i64 = 60_000;
/// How far a clock is from the other: more than leases, and than what is waited for.
const FAR_MS: i64 = 7 * MINUTE_MS;

/// The machine's clocks, the wall clock set wrong by so many milliseconds.
struct Wrong(AtomicI64);

impl Wrong {
    fn by(ms: i64) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(ms)))
    }

    fn set(&self, ms: i64) {
        self.0.store(ms, Ordering::SeqCst);
    }
}

impl Clock for Wrong {
    fn wall_ms(&self) -> i64 {
        SystemClock.wall_ms() + self.0.load(Ordering::SeqCst)
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }
}

async fn open(config: NatsConfig, clock: &Arc<Wrong>) -> Nats {
    open_at(config, Arc::clone(clock) as Arc<dyn Clock>).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_whose_clocks_differ_by_minutes_share_and_follow_each_other() {
    let Some(servers) = Servers::start(1).await else { return };
    let clocks = [Wrong::by(FAR_MS), Wrong::by(-FAR_MS)];
    let proxy = Proxy::start(servers.port(0)).await;
    let through = NatsConfig { servers: vec![proxy.address()], ..config(&servers, true) };
    let nodes = [open(through, &clocks[0]).await, open(config(&servers, true), &clocks[1]).await];
    have_their_share(&nodes).await;
    let mut accepted_at_ms = Vec::new();
    for n in 0..60 {
        let (id, door) = (n.to_string(), n % 2);
        let (before, receipt) =
            (clocks[door].wall_ms(), post(&nodes[door], delivery(&id, 1, None)).await);
        assert_eq!(receipt.answer(), Answer::Accepted);
        let at_ms = receipt.first().accepted_at_ms;
        assert!((before..=clocks[door].wall_ms()).contains(&at_ms), "by the clock of its door");
        accepted_at_ms.push(at_ms);
        let again = post(&nodes[1 - door], delivery(&id, 1, None)).await;
        assert_eq!(again.answer(), Answer::Duplicate);
        assert_eq!(again.first().accepted_at_ms, at_ms, "whoever is asked");
    }
    let [ahead, behind] = lend_all(&nodes, 60).await;
    assert!(ahead.len() > 5 && behind.len() > 5, "{} {}", ahead.len(), behind.len());
    for (id, lease) in behind.into_iter().chain(ahead) {
        let n: usize = id.parse().unwrap();
        assert_eq!(lease.accepted_at_ms, accepted_at_ms[n]);
        // Some are left with an owner that is cut off.
        if n >= 20 {
            lease.settle(summarised(&id));
        }
    }
    for id in 20..60 {
        let id = id.to_string();
        until("it is settled", async || state(&nodes[1], &id).await == OrderState::Summarised)
            .await;
    }

    proxy.hold(true);
    let [one, other] = nodes;
    until("the other took all over", async || {
        assert!(one.share() + other.share() <= 1.0, "never more than the whole");
        other.share() == 1.0
    })
    .await;
    assert_eq!(one.share(), 0.0);
    let mut followed = Vec::new();
    until("what was left is lent again", async || {
        for lease in other.lease(50, NOW).await.unwrap() {
            let id = lease.key.id.clone();
            lease.settle(summarised(&id));
            followed.push(id);
        }
        followed.len() >= 20
    })
    .await;
    followed.sort_by_key(|id| id.parse::<usize>().unwrap());
    assert_eq!(followed, (0..20).map(|id| id.to_string()).collect::<Vec<_>>());
    proxy.hold(false);
    have_their_share(&[one.clone(), other.clone()]).await;
    for id in 0..60 {
        let id = id.to_string();
        until("it is settled", async || state(&one, &id).await == OrderState::Summarised).await;
    }
    none_to_lend(&one).await;
    none_to_lend(&other).await;
    let status = one.status().await.unwrap();
    assert_eq!((status.ended["summarised"], status.fleet.unwrap().silent), (60, 0));
    one.close().await;
    until("it left all", async || other.owned().0 == usize::from(PARTITIONS)).await;
    other.close().await;
}

/// Lends the one order, and has it tried again after a moment.
async fn fail_once(node: &Nats, id: &str) {
    let lease = node.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!(lease.key.id, id);
    let (after, reason) = (Duration::from_millis(1), "busy".to_owned());
    lease.settle(Verdict::Retry { after, counts: true, sent: false, reason });
    let attempts = async || node.order(&key(id)).await.unwrap().unwrap().attempts;
    until("it is to be tried again", async || attempts().await == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_whose_clock_is_ahead_would_try_again_comes_within_a_minute_of_its_successor()
{
    let Some(servers) = Servers::start(1).await else { return };
    let (ahead, right) = (Wrong::by(FAR_MS), Wrong::by(0));
    let one = open(config(&servers, true), &ahead).await;
    assert_eq!(answer(&one, delivery("x", 1, None)).await, Answer::Accepted);
    fail_once(&one, "x").await;
    one.close().await;
    let other = open(config(&servers, true), &right).await;
    until("it took all over", async || other.share() == 1.0).await;
    let view = other.order(&key("x")).await.unwrap().unwrap();
    assert!(view.not_before_ms.unwrap() > right.wall_ms() + FAR_MS - MINUTE_MS);
    none_to_lend(&other).await;
    right.set(MINUTE_MS);
    let lease = other.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!(lease.attempts, 1);
    lease.settle(summarised("x"));
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_holds_nothing_up() {
    let Some(servers) = Servers::start(1).await else { return };
    let clock = Wrong::by(FAR_MS);
    let node = open(config(&servers, true), &clock).await;
    assert_eq!(answer(&node, delivery("x", 1, None)).await, Answer::Accepted);
    fail_once(&node, "x").await;
    clock.set(0);
    let lease = node.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!((lease.key.id.as_str(), lease.attempts), ("x", 1));
    lease.settle(summarised("x"));
    until("it is settled", async || state(&node, "x").await == OrderState::Summarised).await;
    node.close().await;
}
