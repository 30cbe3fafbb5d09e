//! A process whose settings are not the fleet's, as one with an older configuration: refused with what to do where a promise
//! would break, and else without harm.

use std::time::Duration;

use async_nats::jetstream;
use forebay_buffer::nats::{Inspection, Nats, NatsConfig, OpenError};
use forebay_buffer::{Announcement, Answer, Buffer, OrderState, SystemClock};

use crate::nodes::{LEASE, PARTITIONS, config, open, state, summarised, until};
use crate::proxy::Proxy;
use crate::servers::Servers;
use crate::support::{SOON, answer, delivery, post};

/// One that drains, with a limit of its own.
fn limited(servers: &Servers, process: &str, limit: f64) -> NatsConfig {
    let limits = [("drain.ceiling_per_s".to_owned(), Some(limit))].into();
    let announcement = Announcement { process: process.to_owned(), limits };
    NatsConfig { announcement, ..config(servers, true) }
}

/// The limit that holds, as that process has it, and whether it says that they differ.
fn held(node: &Nats) -> (Option<f64>, bool) {
    let common = node.common();
    (common.smallest("drain.ceiling_per_s"), common.differs.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_limits_that_differ_the_smallest_holds_and_everyone_says_who_has_which() {
    let Some(servers) = Servers::start(1).await else { return };
    let door = open(config(&servers, false)).await;
    let before = open(limited(&servers, "web-1", 200.0)).await;
    assert_eq!(held(&before), (Some(200.0), false));
    // A larger one never holds before a smaller one is gone: whoever joins has looked first.
    let larger = open(limited(&servers, "web-2", 400.0)).await;
    assert_eq!(held(&larger), (Some(200.0), true));
    until("the other noticed", async || held(&before) == (Some(200.0), true)).await;
    let said = before.common().differs.clone().unwrap();
    assert!(said.contains("200 in web-1 and 400 in web-2"), "{said}");
    assert_eq!(larger.common().differs.as_ref(), Some(&said));
    until("a door says it", async || {
        let fleet = door.status().await.unwrap().fleet.unwrap();
        fleet.differs.as_ref() == Some(&said)
    })
    .await;
    // Whoever would join is told before.
    let config = limited(&servers, "this one", 300.0);
    let would = Inspection::of(&config).await.unwrap().differs.unwrap();
    assert!(would.contains("300 in this configuration"), "{would}");
    // A smaller one holds everywhere as soon as it is heard, and for as long as it is there.
    let smaller = open(limited(&servers, "web-3", 50.0)).await;
    let three = [&before, &larger, &smaller];
    until("it holds", async || three.iter().all(|node| held(node) == (Some(50.0), true))).await;
    smaller.close().await;
    before.close().await;
    let after = open(limited(&servers, "web-1", 400.0)).await;
    until("it is the same everywhere", async || {
        [&larger, &after].iter().all(|node| held(node) == (Some(400.0), false))
    })
    .await;
    let config = limited(&servers, "this one", 400.0);
    assert_eq!(Inspection::of(&config).await.unwrap().differs, None);
    for node in [larger, after, door] {
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_an_older_release_keeps_nobody_from_draining_and_is_said() {
    let Some(servers) = Servers::start(1).await else { return };
    let node = open(limited(&servers, "web-1", 200.0)).await;
    // What one of them says that it is there by.
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let older = "FOREBAY.node.0000000000000001";
    let context = jetstream::new(client);
    context.publish(older, "".into()).await.unwrap().await.unwrap();
    until("it is noticed", async || held(&node) == (Some(200.0), true)).await;
    let said = node.common().differs.clone().unwrap();
    assert!(said.contains("1 of the processes") && said.contains("upgrade"), "{said}");
    assert!(node.share() > 0.0 && node.health().is_ok());
    node.close().await;
}

async fn refused(config: NatsConfig) -> OpenError {
    Nats::open(config, std::sync::Arc::new(SystemClock)).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_keeps_the_partitions_it_was_begun_with() {
    let Some(servers) = Servers::start(1).await else { return };
    let one = open(config(&servers, true)).await;
    let older = open(NatsConfig { partitions: 3, ..config(&servers, true) }).await;
    let newer = open(NatsConfig { partitions: 64, ..config(&servers, false) }).await;
    for node in [&one, &older, &newer] {
        assert_eq!(node.owned().1, usize::from(PARTITIONS));
    }
    for n in 0..24 {
        let id = n.to_string();
        assert_eq!(answer(&newer, delivery(&id, 1, None)).await, Answer::Accepted);
        assert_eq!(answer(&older, delivery(&id, 1, None)).await, Answer::Duplicate, "the same key");
    }
    one.close().await;
    until("the other has all", async || older.share() == 1.0).await;
    let mut lent = 0;
    until("all are lent", async || {
        for lease in older.lease(50, Duration::ZERO).await.unwrap() {
            let id = lease.key.id.clone();
            lease.settle(summarised(&id));
            lent += 1;
        }
        lent >= 24
    })
    .await;
    for id in 0..24 {
        let id = id.to_string();
        until("it is settled", async || state(&newer, &id).await == OrderState::Summarised).await;
    }
    older.close().await;
    newer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_is_followed_after_its_own_lease_whatever_the_lease_of_the_other() {
    let Some(servers) = Servers::start(1).await else { return };
    for (own, others) in [(LEASE * 3, LEASE), (LEASE, LEASE * 3)] {
        let stream = format!("LEASE{}", own.as_secs());
        let of = |lease| NatsConfig { lease, stream: stream.clone(), ..config(&servers, true) };
        let proxy = Proxy::start(servers.port(0)).await;
        let owner = open(NatsConfig { servers: vec![proxy.address()], ..of(own) }).await;
        assert_eq!(owner.share(), 1.0);
        assert_eq!(answer(&owner, delivery("x", 1, None)).await, Answer::Accepted);
        proxy.hold(true);
        let other = open(of(others)).await;
        until("the other took all over", async || {
            assert!(owner.share() + other.share() <= 1.0, "never more than the whole");
            other.share() == 1.0
        })
        .await;
        let lease = other.lease(1, SOON).await.unwrap().remove(0);
        lease.settle(summarised("x"));
        until("it is settled", async || state(&other, "x").await == OrderState::Summarised).await;
        other.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_an_order_says_for_how_long_its_answer_is_kept() {
    let Some(servers) = Servers::start(1).await else { return };
    let dedup_horizon = Duration::from_secs(1);
    let owner = open(NatsConfig { dedup_horizon, ..config(&servers, true) }).await;
    let door = open(config(&servers, false)).await;
    post(&door, delivery("x", 1, None)).await;
    owner.lease(1, SOON).await.unwrap().remove(0).settle(summarised("x"));
    until("it is forgotten", async || {
        let order = door.order(&crate::nodes::key("x")).await.unwrap();
        order.is_none()
    })
    .await;
    assert_eq!(answer(&door, delivery("x", 1, None)).await, Answer::Accepted, "a key of its own");
    owner.close().await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_is_a_conflict_while_the_answer_is_kept_and_an_order_of_its_own_after_that() {
    let Some(servers) = Servers::start(1).await else { return };
    let settle = async |node: &Nats, id: &str, content: u8| {
        let lease = node.lease(1, SOON).await.unwrap().remove(0);
        assert_eq!((lease.key.id.as_str(), &lease.body), (id, &delivery(id, content, None).body));
        lease.settle(summarised(id));
        until("it is settled", async || state(node, id).await == OrderState::Summarised).await;
    };
    let node = open(config(&servers, true)).await;
    post(&node, delivery("kept", 1, None)).await;
    settle(&node, "kept", 1).await;
    assert_eq!(answer(&node, delivery("kept", 2, None)).await, Answer::Conflict);
    assert_eq!(node.exceptions(0, 10).await.unwrap().len(), 1);
    node.close().await;
    let dedup_horizon = Duration::from_secs(1);
    let node = open(NatsConfig { dedup_horizon, ..config(&servers, true) }).await;
    post(&node, delivery("short", 1, None)).await;
    node.lease(1, SOON).await.unwrap().remove(0).settle(summarised("short"));
    let key = crate::nodes::key("short");
    until("it is forgotten", async || node.order(&key).await.unwrap().is_none()).await;
    assert_eq!(answer(&node, delivery("short", 2, None)).await, Answer::Accepted);
    let lease = node.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!(lease.body, delivery("short", 2, None).body, "what was sent after the window");
    lease.settle(summarised("short"));
    until("it is forgotten, too", async || node.order(&key).await.unwrap().is_none()).await;
    assert_eq!(
        answer(&node, delivery("kept", 3, None)).await,
        Answer::Conflict,
        "a conflict is open"
    );
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_as_many_as_the_stream_has_and_never_fewer_than_promised() {
    let Some(servers) = Servers::start(3).await else { return };
    drop(open(config(&servers, false)).await);
    let less = open(NatsConfig { replicas: 1, ..config(&servers, false) }).await;
    let receipt = post(&less, delivery("x", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, sync not verified)");
    let more = refused(NatsConfig { replicas: 5, ..config(&servers, false) }).await;
    assert!(matches!(more, OpenError::Stream { .. }), "{more}");
    let said = more.to_string();
    assert!(said.contains("3 replicas") && said.contains("promise less"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_another_name_is_not_the_store_a_process_knew() {
    let Some(servers) = Servers::start(1).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let knowing = NatsConfig { seen: Some(dir.path().join("nats.seen")), ..config(&servers, true) };
    let node = open(knowing.clone()).await;
    assert_eq!(answer(&node, delivery("x", 1, None)).await, Answer::Accepted);
    node.close().await;
    let other = refused(NatsConfig { stream: "ORDERS".to_owned(), ..knowing.clone() }).await;
    assert!(matches!(other, OpenError::OtherStore { .. }), "{other}");
    let said = other.to_string();
    assert!(said.contains("ORDERS") && said.contains("nats.stream"), "{said}");
    let node = open(knowing).await;
    assert_eq!(answer(&node, delivery("x", 1, None)).await, Answer::Duplicate);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_with_somebody_else_s_messages_is_refused_and_left_as_it_is() {
    let Some(servers) = Servers::start(1).await else { return };
    // As ours in all but what stands there.
    drop(servers.table(|_| {}).await);
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let context = jetstream::new(client);
    let theirs = context.publish("FOREBAY.store", "theirs".into()).await.unwrap();
    let sequence = theirs.await.unwrap().sequence;
    let error = refused(config(&servers, true)).await;
    assert!(matches!(error, OpenError::Stream { .. }), "{error}");
    assert!(error.to_string().contains("name another stream"), "{error}");
    let stream = context.get_stream("FOREBAY").await.unwrap();
    assert_eq!(stream.cached_info().state.last_sequence, sequence);
}
