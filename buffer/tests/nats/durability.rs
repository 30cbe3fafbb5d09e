//! What is said of durability, and when a store is not the one it was.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::DiscardPolicy;
use forebay_buffer::nats::{Inspection, Login, Nats, NatsConfig, OpenError};
use forebay_buffer::{Answer, AppendError, Buffer, Envelope, Receipt, SystemClock};

use crate::nodes::until;
use crate::servers::Servers;
use crate::support::{delivery, post};

async fn open(config: NatsConfig) -> Result<Nats, OpenError> {
    Nats::open(config, Arc::new(SystemClock)).await
}

async fn append(buffer: &Nats, envelope: Envelope) -> Result<Receipt, AppendError> {
    let permit = buffer.admission().admit(envelope.body.len()).unwrap();
    buffer.append(envelope, permit).await
}

fn asking(servers: &Servers) -> NatsConfig {
    let sys = || "sys".to_owned();
    let system = Some(Login::User { name: sys(), password: sys() });
    NatsConfig { system, partitions: 2, ..servers.config() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_on_how_many_servers_an_order_is_and_whether_they_sync() {
    let Some(servers) = Servers::start(3).await else { return };
    let buffer = open(asking(&servers)).await.unwrap();
    let receipt = post(&buffer, delivery("1", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, synced)");
    assert_eq!(buffer.status().await.unwrap().durability, "quorum(2 of 3, synced)");
    let unasked = open(servers.config()).await.unwrap();
    let receipt = post(&unasked, delivery("2", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, sync not verified)");
    let stranger = Login::User { name: "sys".to_owned(), password: "wrong".to_owned() };
    let refused = open(NatsConfig { system: Some(stranger), ..servers.config() }).await;
    assert!(refused.unwrap_err().to_string().contains("check the user"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_examined_before_the_first_start_and_nothing_is_declared() {
    let Some(servers) = Servers::start(3).await else { return };
    let new = || NatsConfig { stream: "NEW".to_owned(), ..asking(&servers) };
    for _ in 0..2 {
        let found = Inspection::of(&new()).await.unwrap();
        assert_eq!(found, Inspection { stream: None, synced: Some(true), differs: None });
    }
    let buffer = open(new()).await.unwrap();
    post(&buffer, delivery("1", 1, None)).await;
    let found = Inspection::of(&NatsConfig { system: None, ..new() }).await.unwrap();
    let stream = found.stream.unwrap();
    assert_eq!((stream.replication.replicas, found.synced), (3, None));
    assert!(stream.keys > 1 && stream.bytes > 0, "{stream:?}");
    let other = NatsConfig { replicas: 5, ..new() };
    assert!(Inspection::of(&other).await.unwrap_err().to_string().contains("3 replicas"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_do_not_sync_are_refused_where_that_is_required() {
    let Some(servers) = Servers::start_synced(1, false).await else { return };
    let refused = open(asking(&servers)).await.unwrap_err();
    assert!(matches!(refused, OpenError::NotSynced { .. }), "{refused}");
    assert!(refused.to_string().contains("sync_interval: always"), "{refused}");
    let buffer = open(NatsConfig { require_fsync: false, ..asking(&servers) }).await.unwrap();
    let receipt = post(&buffer, delivery("1", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(1 of 1, not synced)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_without_syncing_is_noticed() {
    let Some(mut servers) = Servers::start(1).await else { return };
    let strict = open(asking(&servers)).await.unwrap();
    let lenient = open(NatsConfig { require_fsync: false, ..asking(&servers) }).await.unwrap();
    post(&strict, delivery("1", 1, None)).await;
    let first = post(&lenient, delivery("2", 1, None)).await;
    assert_eq!(first.durability().to_string(), "quorum(1 of 1, synced)");
    servers.kill(0);
    servers.set_synced(false);
    servers.run(0);
    let not_synced = |why: String| why.contains("sync_interval: always");
    until("it is red", async || strict.health().is_err_and(not_synced)).await;
    let refused = append(&strict, delivery("1", 1, None)).await.unwrap_err();
    assert!(refused.to_string().contains("before it has synced"), "also what is there: {refused}");
    append(&strict, delivery("3", 1, None)).await.unwrap_err();
    until("it is said", async || lenient.durability().weakness().is_some()).await;
    let third = post(&lenient, delivery("3", 1, None)).await;
    assert_eq!(third.durability().to_string(), "quorum(1 of 1, not synced)");
    assert_eq!(third.answer(), Answer::Accepted, "what was refused was not kept");
    lenient.health().unwrap();
    servers.kill(0);
    servers.set_synced(true);
    servers.run(0);
    until("it is well again", async || strict.health().is_ok()).await;
    let fourth = post(&strict, delivery("4", 1, None)).await;
    assert_eq!(fourth.durability().to_string(), "quorum(1 of 1, synced)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_that_comes_back_without_syncing_is_noticed() {
    let Some(mut servers) = Servers::start(3).await else { return };
    let strict = open(asking(&servers)).await.unwrap();
    post(&strict, delivery("1", 1, None)).await;
    let not_synced = |why: String| why.contains("sync_interval: always");
    servers.kill(2);
    servers.set_synced(false);
    servers.run(2);
    until("it is red", async || strict.health().is_err_and(not_synced)).await;
    append(&strict, delivery("2", 1, None)).await.unwrap_err();
    servers.kill(2);
    servers.set_synced(true);
    servers.run(2);
    until("it is well again", async || strict.health().is_ok()).await;
    let second = post(&strict, delivery("2", 1, None)).await;
    assert_eq!(second.durability().to_string(), "quorum(2 of 3, synced)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_larger_cluster_those_that_have_the_orders_must_be_heard_to_sync() {
    let Some(mut servers) = Servers::start(4).await else { return };
    let buffer = open(asking(&servers)).await.unwrap();
    let receipt = post(&buffer, delivery("1", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, synced)");
    let table = servers.table(|_| {}).await;
    let leader = Servers::called(&table.replication().await.unwrap().leader.unwrap());
    servers.kill(leader);
    until("another leads", async || {
        let now = table.replication().await;
        now.is_ok_and(|now| now.leader.is_some_and(|name| Servers::called(&name) != leader))
    })
    .await;
    // Three of four answer that they sync, and one of these has no order.
    let other = open(asking(&servers)).await.unwrap();
    let receipt = post(&other, delivery("2", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, sync not verified)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_changed_while_it_is_served_is_noticed() {
    let Some(servers) = Servers::start(3).await else { return };
    let buffer = open(asking(&servers)).await.unwrap();
    let modest = open(NatsConfig { replicas: 1, ..asking(&servers) }).await.unwrap();
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let context = jetstream::new(client);
    let good = context.get_stream("FOREBAY").await.unwrap().cached_info().config.clone();
    let is = async |change: &dyn Fn(&mut jetstream::stream::Config), said: &str| {
        let mut config = good.clone();
        change(&mut config);
        until(said, async || context.update_stream(config.clone()).await.is_ok()).await;
        until(said, async || buffer.health().is_err_and(|why| why.contains(said))).await;
    };
    let is_good = async || {
        until("it is good", async || context.update_stream(good.clone()).await.is_ok()).await;
        until("it is well again", async || buffer.health().is_ok()).await;
    };

    is(&|config| config.num_replicas = 1, "has 1 replicas, and the configuration promises 3").await;
    let receipt = post(&buffer, delivery("1", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(1 of 1, synced)");
    assert_eq!(buffer.status().await.unwrap().durability, "quorum(1 of 1, synced)");
    until("who promises no more heard of it", async || {
        modest.durability().to_string() == "quorum(1 of 1, synced)"
    })
    .await;
    modest.health().unwrap();
    is_good().await;
    let receipt = post(&buffer, delivery("2", 1, None)).await;
    assert_eq!(receipt.durability().to_string(), "quorum(2 of 3, synced)");
    is(&|config| config.discard = DiscardPolicy::Old, "throws the oldest order away").await;
    is_good().await;
    let day = Duration::from_secs(86_400);
    is(&|config| config.max_age = day, "forgets orders by their number or age").await;
    is_good().await;
    assert_eq!(post(&buffer, delivery("1", 1, None)).await.answer(), Answer::Duplicate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_not_the_one_it_was_is_told_at_the_start() {
    let Some(servers) = Servers::start(1).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nats.seen");
    let knowing = || NatsConfig { seen: Some(path.clone()), partitions: 2, ..servers.config() };
    let buffer = open(knowing()).await.unwrap();
    post(&buffer, delivery("1", 1, None)).await;
    buffer.close().await;
    open(knowing()).await.unwrap().close().await;

    let text = std::fs::read_to_string(&path).unwrap();
    let (id, sequence) = text.split_once("\nsequence ").unwrap();
    let sequence: u64 = sequence.trim().parse().unwrap();
    std::fs::write(&path, format!("{id}\nsequence {}\n", sequence + 1_000)).unwrap();
    let behind = open(knowing()).await.unwrap_err();
    assert!(matches!(behind, OpenError::WentBack { .. }), "{behind}");

    std::fs::write(&path, &text).unwrap();
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    jetstream::new(client).delete_stream("FOREBAY").await.unwrap();
    let other = open(knowing()).await.unwrap_err();
    assert!(matches!(other, OpenError::OtherStore { .. }), "{other}");
    assert!(other.to_string().contains("nats.seen"), "{other}");

    std::fs::write(&path, "nonsense").unwrap();
    let unusable = open(knowing()).await.unwrap_err();
    assert!(matches!(unusable, OpenError::Seen { .. }), "{unusable}");
    std::fs::remove_file(&path).unwrap();
    open(knowing()).await.unwrap();
}
