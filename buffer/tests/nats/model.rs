//! Random commands against the model, on a real server; a crash ends all tasks of the process at once.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Buffer, Clock};
use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::commands::{Store, command, run};
use crate::servers::{DEADLINE, Servers};
use crate::support::HandClock;

/// Of the cases proptest is set to (256, or PROPTEST_CASES), so many to one of these; and on three servers.
const FEWER: u32 = 20;
const FEWER_ON_THREE: u32 = 80;
const LEASE: Duration = Duration::from_millis(300);

struct OnNats {
    config: NatsConfig,
    clock: Arc<HandClock>,
    /// What the process runs on.
    process: Option<(Runtime, Nats)>,
}

impl Drop for OnNats {
    fn drop(&mut self) {
        self.die();
    }
}

impl OnNats {
    /// All of its tasks end where they are.
    fn die(&mut self) {
        if let Some((process, _)) = self.process.take() {
            process.shutdown_background();
        }
    }

    async fn open(&mut self) {
        let process = tokio::runtime::Builder::new_multi_thread();
        let process = { process }.worker_threads(1).enable_all().build().unwrap();
        let (config, clock) = (self.config.clone(), Arc::clone(&self.clock) as Arc<dyn Clock>);
        let buffer = process.spawn(Nats::open(config, clock)).await.unwrap().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while buffer.owned().0 == 0 {
            // Only for whoever waits for the end of a lease; the wall clock stands.
            let ms = i64::try_from(LEASE.as_millis()).unwrap();
            self.clock.advance(ms);
            self.clock.set_wall(-ms);
            assert!(Instant::now() < deadline, "the partitions are not taken over");
            sleep(LEASE / 10).await;
        }
        self.process = Some((process, buffer));
        self.jumped().await;
    }
}

impl Store for OnNats {
    type Buffer = Nats;
    const KEPT: bool = true;
    const ONE_LINE: bool = false;
    // Of what moved on meanwhile only the present state is told.
    const TELLS_ALL: bool = false;

    fn buffer(&self) -> &Nats {
        &self.process.as_ref().unwrap().1
    }

    /// What was leased may be leased no more, until that is renewed.
    async fn jumped(&self) {
        let deadline = Instant::now() + DEADLINE;
        while self.buffer().share() < 1.0 {
            assert!(Instant::now() < deadline, "the partition is not held");
            sleep(LEASE / 10).await;
        }
    }

    async fn reopen(&mut self) {
        self.die();
        self.open().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_does_as_the_model_does() {
    does_as_the_model(1, FEWER).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_on_three_servers_does_as_the_model_does() {
    does_as_the_model(3, FEWER_ON_THREE).await;
}

async fn does_as_the_model(count: usize, fewer: u32) {
    let Some(servers) = Servers::start(count).await else { return };
    let config = Config::default();
    let cases = config.cases / fewer;
    let mut runner = TestRunner::new(config);
    for case in 0..cases {
        let commands = vec(command(), 1..40).new_tree(&mut runner).unwrap().current();
        println!("{case}: {commands:?}");
        let stream = format!("MODEL-{case}");
        // One partition, for the order across several is not exact.
        let replay_window = Duration::from_secs(86_400);
        let config =
            NatsConfig { stream, partitions: 1, lease: LEASE, replay_window, ..servers.config() };
        let clock = Arc::new(HandClock::default());
        let mut store = OnNats { config, clock: Arc::clone(&clock), process: None };
        store.open().await;
        run(store, clock).all(commands).await;
    }
}
