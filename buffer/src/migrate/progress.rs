//! How far a migration is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::metrics;

/// How far a migration is, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// The kind of the store that is left.
    pub from: &'static str,
    /// The kind of the store that is served from.
    pub to: &'static str,
    /// Orders and outcomes that were handed over by this process.
    pub handed_over: u64,
    /// About how many there are.
    pub of: u64,
    /// Nothing is left: any process may serve from the new store now.
    pub done: bool,
    /// Why it does not go on now, if so.
    pub trouble: Option<String>,
}

/// How far a migration is, to be asked at any time.
#[derive(Debug)]
pub(super) struct Progress {
    from_to: (&'static str, &'static str),
    of: u64,
    handed_over: AtomicU64,
    trouble: Mutex<Option<String>>,
    done: AtomicBool,
}

impl Progress {
    pub(super) fn new(from_to: (&'static str, &'static str), of: u64, done: bool) -> Self {
        Self {
            from_to,
            of,
            handed_over: AtomicU64::new(0),
            trouble: Mutex::default(),
            done: done.into(),
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }

    /// How far it is now.
    pub(super) fn now(&self) -> Migration {
        let handed_over = self.handed_over.load(Ordering::Relaxed);
        let (from, to) = self.from_to;
        Migration {
            from,
            to,
            handed_over,
            of: self.of.max(handed_over),
            done: self.is_done(),
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// It begins, from the first order.
    pub(super) fn begins(&self) {
        self.handed_over.store(0, Ordering::Relaxed);
    }

    /// So many more were handed over.
    pub(super) fn add(&self, count: u64) {
        let handed_over = self.handed_over.fetch_add(count, Ordering::Relaxed) + count;
        metrics::migrated(handed_over, self.of);
    }

    /// It ended: with nothing left, or in trouble.
    pub(super) fn ended(&self, trouble: Option<String>) {
        let (from, to) = self.from_to;
        match &trouble {
            Some(reason) => tracing::warn!(from, to, %reason, "migration: beginning again"),
            None => {
                let orders = self.handed_over.load(Ordering::Relaxed);
                tracing::info!(from, to, orders, "migration: everything is handed over");
            }
        }
        self.done.store(trouble.is_none(), Ordering::Release);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}
