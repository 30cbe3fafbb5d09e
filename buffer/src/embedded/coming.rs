//! How many tickets are about to be noted: their orders are outstanding already.

use std::sync::Arc;

use super::sync::{AtomicU64, Ordering};

/// Counts them.
#[derive(Default)]
pub(crate) struct Comings(Arc<AtomicU64>);

/// One of them, until it is dropped.
pub(crate) struct Coming(Arc<AtomicU64>);

impl Comings {
    pub(crate) fn begin(&self) -> Coming {
        self.0.fetch_add(1, Ordering::AcqRel);
        Coming(Arc::clone(&self.0))
    }

    /// How many there are. What was done before one of them was dropped is seen by whoever does not count it any more.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
