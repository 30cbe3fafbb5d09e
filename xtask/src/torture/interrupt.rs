//! A wish to stop (Ctrl-C, SIGTERM) as an event that every wait listens to, so that what was mounted
//! and started is taken apart in order.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Result, While as _};

/// Listens for a wish to stop; also holds the runtime that the load runs on.
#[derive(Debug)]
pub(super) struct Interrupt {
    runtime: Runtime,
    wishes: Receiver<()>,
    wished: Cell<bool>,
}

impl Interrupt {
    /// Starts listening. From here on the two signals no longer end the process by themselves.
    pub(super) fn listen() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .when("starting a runtime")?;
        let (sender, wishes) = sync_channel(1);
        let guard = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).when("listening for signals")?;
            let sender = sender.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    // A full queue holds a wish already.
                    sender.try_send(()).ok();
                }
            });
        }
        drop(guard);
        Ok(Self { runtime, wishes, wished: Cell::new(false) })
    }

    /// The runtime for the load.
    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Lets `duration` pass, unless somebody wishes to stop.
    pub(super) fn wait(&self, duration: Duration) -> Result<()> {
        if self.wished.get() {
            return Err(Failure::Interrupted);
        }
        match self.wishes.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                self.wished.set(true);
                Err(Failure::Interrupted)
            }
        }
    }
}
