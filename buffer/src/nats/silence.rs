//! Since when no write has been answered, though some were made.
//!
//! A server that has lost its peers ends no connection, answers pings, and says what it last knew of the stream. Only writes
//! tell: no leader acknowledges them. So whoever is connected to it must leave it by itself.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The beginning of the first write of those that are unanswered.
#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    /// A write that began then was not answered.
    pub(super) fn begins(&self, then: Instant) {
        self.since(|since| *since = Some(since.map_or(then, |since| since.min(then))));
    }

    /// A write was answered, or another server is asked from now on.
    pub(super) fn ends(&self) {
        self.since(|since| *since = None);
    }

    /// How long it has lasted.
    pub(super) fn lasts(&self) -> Duration {
        self.since(|since| since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    fn since<T>(&self, with: impl FnOnce(&mut Option<Instant>) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_lasts_from_the_first_unanswered_write_until_one_is_answered() {
        let (silence, now) = (Silence::default(), Instant::now());
        assert_eq!(silence.lasts(), Duration::ZERO);
        let ago = |s| now.checked_sub(Duration::from_secs(s)).unwrap();
        [ago(2), ago(3), ago(1)].into_iter().for_each(|then| silence.begins(then));
        assert!((3..10).contains(&silence.lasts().as_secs()), "{:?}", silence.lasts());
        silence.ends();
        assert_eq!(silence.lasts(), Duration::ZERO);
    }
}
