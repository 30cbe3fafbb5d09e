//! What is under way for each key in this process, so that what must come after it can wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::watch;

/// The last thing under way for each key, by its hash.
#[derive(Debug, Default)]
pub(crate) struct Underway(Mutex<HashMap<u128, Waiter>>);

/// Waits for one thing to be over: its sender is gone then.
#[derive(Clone, Debug)]
pub(crate) struct Waiter(watch::Receiver<()>);

/// One thing under way; over once it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    of: Arc<Underway>,
    hash: u128,
    own: Waiter,
    _over: watch::Sender<()>,
}

impl Underway {
    fn last(&self) -> MutexGuard<'_, HashMap<u128, Waiter>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins something for a key, behind what was begun before and is not over.
    pub(crate) fn begin(self: &Arc<Self>, hash: u128) -> (Option<Waiter>, Turn) {
        let (over, own) = watch::channel(());
        let own = Waiter(own);
        let before = self.last().insert(hash, own.clone());
        (before, Turn { of: Arc::clone(self), hash, own, _over: over })
    }

    /// What is under way for a key now.
    pub(crate) fn of(&self, hash: u128) -> Option<Waiter> {
        self.last().get(&hash).cloned()
    }

    /// All that is under way now.
    pub(crate) fn all(&self) -> Vec<Waiter> {
        self.last().values().cloned().collect()
    }
}

impl Waiter {
    pub(crate) async fn over(mut self) {
        // Nothing is ever sent, so this ends with the sender.
        self.0.changed().await.ok();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut last = self.of.last();
        if last.get(&self.hash).is_some_and(|waiter| waiter.0.same_channel(&self.own.0)) {
            last.remove(&self.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_of_a_key_waits_for_the_one_before_and_nothing_is_left() {
        let underway = Arc::new(Underway::default());
        let (before, first) = underway.begin(1);
        assert!(before.is_none());
        assert!(underway.begin(2).0.is_none(), "another key");
        let (before, second) = underway.begin(1);
        let mut waits = Box::pin(before.unwrap().over());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        drop(first);
        waits.await;
        assert_eq!(underway.all().len(), 1, "the second is under way");
        drop(second);
        assert!(underway.of(1).is_none() && underway.all().is_empty());
    }
}
