//! The conformance suite and the model on the backends of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Embedded, EmbeddedConfig, Memory};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::conformance::{self, suite};
use crate::feed::{self, feed_suite};
use crate::model::{Store, command, run};
use crate::support::*;

/// Tiny, so that segments retire and orders are carried forward all the time.
const SLOT: u64 = 32 << 10;

macro_rules! on_memory_and_disk {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let clock = Arc::new(HandClock::default());
                conformance::$name(memory(&clock), &clock).await;
            })*
        }

        mod on_disk {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let clock = Arc::new(HandClock::default());
                let replay_window = Duration::from_secs(86_400);
                let config = EmbeddedConfig { replay_window, ..config(dir.path(), 1 << 20) };
                conformance::$name(open(config, &clock), &clock).await;
            })*
        }
    };
}

suite!(on_memory_and_disk);

macro_rules! feed_of_memory_and_disk {
    ($($name:ident),* $(,)?) => {
        mod feed_of_memory {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let clock = Arc::new(HandClock::default());
                feed::$name(memory(&clock), &clock).await;
            })*
        }

        mod feed_of_disk {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let clock = Arc::new(HandClock::default());
                let replay_window = Duration::from_secs(86_400);
                let config = EmbeddedConfig { replay_window, ..config(dir.path(), SLOT) };
                feed::$name(open(config, &clock), &clock).await;
            })*
        }
    };
}

feed_suite!(feed_of_memory_and_disk);

struct OnDisk {
    // Let go first: the directory is removed with what follows.
    buffer: Option<Embedded>,
    dir: tempfile::TempDir,
    clock: Arc<HandClock>,
}

/// The clock is moved by minutes: some are kept whole for long enough, others not.
fn kept_whole_for_a_while(dir: &Path, clock: &Arc<HandClock>) -> Embedded {
    let replay_window = Duration::from_secs(90);
    open(EmbeddedConfig { replay_window, ..config(dir, SLOT) }, clock)
}

impl Store for OnDisk {
    type Buffer = Embedded;
    const FORGETS_BYTES: bool = true;
    const KEPT: bool = true;
    const ONE_LINE: bool = true;
    const TELLS_ALL: bool = true;

    fn buffer(&self) -> &Embedded {
        self.buffer.as_ref().unwrap()
    }

    async fn reopen(&mut self) {
        self.buffer = None;
        self.buffer = Some(kept_whole_for_a_while(self.dir.path(), &self.clock));
    }
}

struct InMemory(Memory);

impl Store for InMemory {
    type Buffer = Memory;
    const KEPT: bool = false;
    const ONE_LINE: bool = true;
    const TELLS_ALL: bool = true;

    fn buffer(&self) -> &Memory {
        &self.0
    }

    async fn reopen(&mut self) {}
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn memory_does_as_the_model_does(commands in vec(command(), 1..60)) {
        let clock = Arc::new(HandClock::default());
        block_on(run(InMemory(memory(&clock)), clock).all(commands));
    }

    #[test]
    fn the_disk_does_as_the_model_does(commands in vec(command(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let buffer = Some(kept_whole_for_a_while(dir.path(), &clock));
        let store = OnDisk { dir, clock: Arc::clone(&clock), buffer };
        block_on(run(store, clock).all(commands));
    }
}
