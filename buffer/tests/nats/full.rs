//! The stream's limit: one that is declared has one, for which there is room, and once it is reached what becomes of the orders still
//! finds its place.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::Config;
use forebay_buffer::nats::{Inspection, Nats, NatsConfig, OpenError};
use forebay_buffer::{AppendError, Buffer, ExceptionCategory, SystemClock, Verdict};
use tokio::task::JoinSet;

use crate::nodes::{config, open, summarised, until};
use crate::servers::Servers;
use crate::support::delivery;

/// Of this a quarter is kept free.
const SMALL: u64 = 8 << 20;
const ORDER: usize = 64 << 10;

async fn refused(config: NatsConfig) -> OpenError {
    Nats::open(config, std::sync::Arc::new(SystemClock)).await.unwrap_err()
}

async fn append(node: &Nats, n: usize) -> Result<(), AppendError> {
    let permit = node.admission().admit(ORDER).unwrap();
    let mut order = delivery(&n.to_string(), 1, None);
    order.body = vec![b'x'; ORDER].into();
    node.append(order, permit).await.map(drop)
}

/// Whether one of each eight of them cannot go to the OMS; all others are summarised. Gives how many were settled.
async fn settle_all(node: &Nats) -> usize {
    let mut settled = 0;
    for lease in node.lease(50, Duration::from_millis(100)).await.unwrap() {
        let id = lease.key.id.clone();
        settled += 1;
        lease.settle(match settled % 8 {
            0 => Verdict::Exception {
                category: ExceptionCategory::Rejected,
                reason: "no such article".to_owned(),
            },
            _ => summarised(&id),
        });
    }
    settled
}

/// Many at once, faster than anybody looks how full the stream is.
async fn fills_and_settles(servers: &Servers) {
    let stream = "SMALL".to_owned();
    let config = NatsConfig { stream, bytes_max: SMALL, partitions: 2, ..servers.config() };
    let node = open(config).await;
    let (mut taken, mut next) = (0, 0);
    let bytes = async || node.status().await.unwrap().disk_bytes;
    // What is on its way at a look may count twice, so it is full for a moment before it really is.
    until("it is full", async || {
        let mut posts = JoinSet::new();
        for n in next..next + 64 {
            let node = node.clone();
            posts.spawn(async move { append(&node, n).await });
        }
        next += 64;
        for post in posts.join_all().await {
            match post {
                Ok(()) => taken += 1,
                Err(error) => assert_eq!(error, AppendError::Full),
            }
        }
        node.health().is_err() && bytes().await + ORDER as u64 + 1_024 > SMALL * 3 / 4
    })
    .await;
    assert!(node.health().unwrap_err().contains("disk budget"));
    assert_eq!(append(&node, 9_999).await, Err(AppendError::Full));
    assert!((taken as u64) > SMALL / 2 / ORDER as u64, "{taken}");
    let status = node.status().await.unwrap();
    assert_eq!(status.disk_bytes_max, SMALL);
    assert!(status.disk_bytes <= SMALL * 3 / 4 + (64 << 10), "{}", status.disk_bytes);
    let mut settled = 0;
    until("all is settled", async || {
        settled += settle_all(&node).await;
        settled >= taken
    })
    .await;
    let ended = async || node.status().await.unwrap().ended["summarised"];
    let most = u64::try_from(taken * 7 / 8).unwrap();
    until("all of it is written", async || ended().await >= most).await;
    until("there is room again", async || append(&node, 9_999).await.is_ok()).await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_takes_no_order_and_still_settles() {
    let Some(servers) = Servers::start(1).await else { return };
    fills_and_settles(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_of_three_copies_takes_no_order_and_still_settles() {
    let Some(servers) = Servers::start(3).await else { return };
    fills_and_settles(&servers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_limit_is_not_declared_and_one_that_is_there_goes_on() {
    let Some(servers) = Servers::start(1).await else { return };
    let without = NatsConfig { bytes_max: 0, ..config(&servers, true) };
    let named = NatsConfig { stream: "OTHER".to_owned(), ..without.clone() };
    for error in [refused(named.clone()).await, Inspection::of(&named).await.unwrap_err()] {
        assert!(matches!(error, OpenError::NoLimit { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("OTHER") && said.contains("Set nats.bytes_max"), "{said}");
    }
    // As an earlier release left it.
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let context = jetstream::new(client);
    let found =
        || async { context.get_stream("FOREBAY").await.unwrap().cached_info().config.clone() };
    drop(servers.table(|_| {}).await);
    context.update_stream(Config { max_bytes: -1, ..found().await }).await.unwrap();
    for config in [without.clone(), config(&servers, true)] {
        assert_eq!(Inspection::of(&config).await.unwrap().stream.unwrap().bytes_max, None);
        let node = open(config).await;
        append(&node, 1).await.unwrap();
        node.close().await;
    }
    assert_eq!(found().await.max_bytes, -1, "it stands");
    // It is given one while it is served.
    let node = open(without).await;
    append(&node, 2).await.unwrap();
    context.update_stream(Config { max_bytes: 256 << 10, ..found().await }).await.unwrap();
    until("it is full", async || append(&node, 3).await == Err(AppendError::Full)).await;
    assert!(node.health().is_err());
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_for_which_the_servers_have_no_room_is_refused() {
    for count in [1, 3] {
        let Some(servers) = Servers::start(count).await else { return };
        let stream = "LARGE".to_owned();
        let error = refused(NatsConfig { stream, bytes_max: 1 << 50, ..servers.config() }).await;
        assert!(matches!(error, OpenError::NoRoom { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("LARGE") && said.contains("lower nats.bytes_max"), "{said}");
    }
}
