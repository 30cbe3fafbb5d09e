//! The conformance suite on a real server, and on three with three copies of everything.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Buffer, Clock};

use crate::feed::{self, feed_suite};
use crate::servers::Servers;
use crate::suite::{self, suite};
use crate::support::HandClock;
use crate::tickets;

/// A buffer on a stream of its own.
async fn open(servers: &Servers, stream: &str, clock: &Arc<HandClock>) -> Nats {
    open_in(4, servers, stream, clock).await
}

/// The same, its keys divided into so many parts.
async fn open_in(partitions: u16, servers: &Servers, stream: &str, clock: &Arc<HandClock>) -> Nats {
    let config = NatsConfig {
        stream: stream.to_owned(),
        partitions,
        replay_window: Duration::from_secs(86_400),
        in_flight_orders: 1_000,
        // The tests move the clock by minutes, which is no reason to lose a partition.
        lease: Duration::from_secs(3_600),
        ..servers.config()
    };
    Nats::open(config, Arc::clone(clock) as Arc<dyn Clock>).await.unwrap()
}

/// All of them in one test, so that they share a server; each says its name before it begins.
macro_rules! on_nats {
    ($($name:ident),* $(,)?) => {
        async fn all_on(count: usize) {
            let Some(servers) = Servers::start(count).await else { return };
            $({
                println!("{}", stringify!($name));
                let clock = Arc::new(HandClock::default());
                let buffer = open(&servers, stringify!($name), &clock).await;
                suite::$name(buffer.clone(), &clock).await;
                buffer.close().await;
            })*
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn conformance() {
            all_on(1).await;
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn conformance_on_three_servers() {
            all_on(3).await;
        }
    };
}

suite!(on_nats);

macro_rules! feed_of_nats {
    ($($name:ident),* $(,)?) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_feed() {
            let Some(servers) = Servers::start(1).await else { return };
            $({
                println!("{}", stringify!($name));
                let clock = Arc::new(HandClock::default());
                let buffer = open(&servers, stringify!($name), &clock).await;
                feed::$name(buffer.clone(), &clock).await;
                buffer.close().await;
            })*
        }
    };
}

feed_suite!(feed_of_nats);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_that_the_oms_refused_are_known_to_whoever_comes_next() {
    let Some(servers) = Servers::start(1).await else { return };
    let clock = Arc::new(HandClock::default());
    // Of several, the second would leave half to the first until its lease is over.
    let before = open_in(1, &servers, "REFUSED", &clock).await;
    tickets::refuse_before_a_start(&before).await;
    before.close().await;
    let after = open_in(1, &servers, "REFUSED", &clock).await;
    tickets::refused_before_the_start(&after, &clock).await;
    after.close().await;
}
