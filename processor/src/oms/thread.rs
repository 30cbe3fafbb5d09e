//! A thread that serves the calls of an OMS, so that no async thread waits for a disk.

use std::io;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::CallFailure;

/// Calls that may wait for one thread; callers wait for room.
const QUEUE: usize = 16;

/// One thread and its bounded queue. Dropping it waits until what was handed in is done and the thread has
/// let its file go, so that the file may be opened again.
pub(super) struct CallThread<T> {
    calls: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> CallThread<T> {
    /// Starts a thread that serves one call after the other.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub(super) fn start(name: &str, mut serve: impl FnMut(T) + Send + 'static) -> io::Result<Self> {
        let (calls, mut served) = mpsc::channel(QUEUE);
        let work = move || {
            while let Some(call) = served.blocking_recv() {
                serve(call);
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self { calls: Some(calls), thread: Some(thread) })
    }

    /// Hands a call in, once there is room.
    ///
    /// # Errors
    /// [`CallFailure::NotSent`] where the thread has ended, which only its panic makes it do.
    pub(super) async fn hand_in(&self, call: T) -> Result<(), CallFailure> {
        match &self.calls {
            Some(calls) => calls.send(call).await.map_err(|_| ended()),
            None => Err(ended()),
        }
    }
}

/// Nothing can have happened: the thread is gone.
pub(super) fn ended() -> CallFailure {
    CallFailure::NotSent("its thread has ended; restart Forebay".to_owned())
}

/// The thread went away with a call that changes something.
pub(super) fn ended_in_the_middle() -> CallFailure {
    CallFailure::Unknown("its thread ended in the middle of it".to_owned())
}

impl<T> Drop for CallThread<T> {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(thread) = self.thread.take() {
            // A panic was heard of by its caller.
            drop(thread.join());
        }
    }
}
