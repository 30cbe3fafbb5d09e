//! The load beside the server: one sale over many starts, its ledger in this process, out of reach of
//! whatever happens to the server and its disk.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay_loadtest::{
    Answer, Books, Ledger, LedgerError, Mix, Sale, Shape, Target, play, reconcile,
};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::interrupt::Interrupt;
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// How long one request may take before its sender gives up on it.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last look at an already drained server may wait for it.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);

/// How often the load looks whether anything was acknowledged.
const LOOK: Duration = Duration::from_millis(10);

/// A sale that is played in segments, one for each life of the server.
#[derive(Debug)]
pub(super) struct Load {
    runtime: Handle,
    /// Another handle to the ledger, to look at it while a segment plays.
    view: Ledger,
    /// Away while a segment plays.
    ledger: Option<Ledger>,
    playing: Option<Playing>,
    /// Microseconds of the longest lull so far.
    longest_lull: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Playing {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(Ledger, std::result::Result<(), LedgerError>)>,
}

impl Load {
    /// A sale of this rate that lasts about this long; its answers are also written to a file.
    pub(super) fn new(
        runtime: &Handle,
        rate: f64,
        lasting: Duration,
        seed: u64,
        answers: &Path,
    ) -> Result<Self> {
        let mut orders = 1_u32;
        while f64::from(orders) < rate * lasting.as_secs_f64() {
            orders += 100;
        }
        let sale = Sale {
            orders,
            rate,
            seed,
            shape: Shape::Constant,
            source: "torture".to_owned(),
            timeout: TIMEOUT,
            ..Sale::default()
        };
        let mut ledger = Ledger::new(Mix::new(&sale));
        ledger.keep_in(answers).when("opening the ledger's file")?;
        let view = ledger.clone();
        Ok(Self {
            runtime: runtime.clone(),
            view,
            ledger: Some(ledger),
            playing: None,
            longest_lull: Arc::default(),
        })
    }

    /// Starts the next segment: what is still unanswered again, then what was not yet sent.
    pub(super) fn start(&mut self, target: Target) -> Result<()> {
        let Some(mut ledger) = self.ledger.take() else {
            return Err(Failure::Broken("the load is playing already".to_owned()));
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let (view, longest) = (self.view.clone(), Arc::clone(&self.longest_lull));
        let task = self.runtime.spawn(async move {
            let stopped = async {
                stopped.await.ok();
            };
            let watching = tokio::spawn(watch_lulls(view, longest));
            let played = play(&target, &mut ledger, stopped, |_| {}).await;
            watching.abort();
            (ledger, played)
        });
        self.playing = Some(Playing { stop, task });
        Ok(())
    }

    /// Deliveries acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.view.acknowledged()
    }

    /// The longest time without an acknowledgement in any segment since this was last asked.
    pub(super) fn take_longest_lull(&self) -> Duration {
        Duration::from_micros(self.longest_lull.swap(0, Ordering::Relaxed))
    }

    /// Deliveries whose last answer was to come again later, and that were not sent again.
    pub(super) fn given_up(&self) -> u64 {
        let later = |status| status == 429 || status >= 500;
        let entries = self.view.entries().into_iter();
        entries
            .filter(|entry| matches!(entry.answer, Answer::Refused { status } if later(status)))
            .count() as u64
    }

    /// Ends the segment; what is in flight stays unanswered and is sent again in the next.
    pub(super) fn stop(&mut self) -> Result<()> {
        let Some(Playing { stop, task }) = self.playing.take() else { return Ok(()) };
        // Nobody listens if the sale was all answered before.
        stop.send(()).ok();
        self.take_back(task)
    }

    /// Whether the segment, and so the whole sale, is over by itself.
    pub(super) fn is_over(&self) -> bool {
        self.playing.as_ref().is_none_or(|playing| playing.task.is_finished())
    }

    /// Asks the server at `target` for every order of the sale and makes the books. The load is over
    /// with that.
    pub(super) fn books(&mut self, target: Target, interrupt: &Interrupt) -> Result<Books> {
        let Some(ledger) = self.ledger.take() else {
            return Err(Failure::Broken("the load is still playing".to_owned()));
        };
        let task = self.runtime.spawn(async move {
            let books = reconcile(&ledger, &target, DRAINED_WITHIN, |_| {});
            books.await
        });
        while !task.is_finished() {
            interrupt.wait(Duration::from_millis(20))?;
        }
        self.runtime.block_on(task).when("waiting for the books")?.when("reconciling")
    }

    fn take_back(
        &mut self,
        task: JoinHandle<(Ledger, std::result::Result<(), LedgerError>)>,
    ) -> Result<()> {
        let (ledger, played) = self.runtime.block_on(task).when("waiting for the load")?;
        self.ledger = Some(ledger);
        played.when("playing the load")
    }
}

/// Keeps the longest time without an acknowledgement.
async fn watch_lulls(view: Ledger, longest: Arc<AtomicU64>) {
    let (mut acknowledged, mut since) = (view.acknowledged(), Stopwatch::start());
    loop {
        tokio::time::sleep(LOOK).await;
        let lull = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
        longest.fetch_max(lull, Ordering::Relaxed);
        let now = view.acknowledged();
        if now != acknowledged {
            (acknowledged, since) = (now, Stopwatch::start());
        }
    }
}
