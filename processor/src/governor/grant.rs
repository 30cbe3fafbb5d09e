//! Permission for one call, from when it is given until the call is over.

use std::sync::Arc;

use super::Shared;

/// Permission for one call with so many orders. Spend it when the call reached the OMS; dropped unspent,
/// its tokens are given back. Either way the call counts as under way until then.
#[must_use = "a grant dropped at once is given back"]
pub struct Grant {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: usize,
}

impl Grant {
    /// Orders it is for.
    pub fn orders(&self) -> usize {
        self.orders
    }

    /// Gives back all but `orders` of it.
    pub fn keep(&mut self, orders: usize) {
        self.end(self.orders.saturating_sub(orders), false);
    }

    /// The call is over, and its orders reached the OMS.
    pub fn spend(mut self) {
        self.end(self.orders, true);
    }

    fn end(&mut self, orders: usize, spent: bool) {
        let now = self.shared.clock.elapsed();
        let mut inner = self.shared.lock();
        inner.orders = inner.orders.saturating_sub(orders);
        self.orders -= orders;
        if let Some(bucket) = &mut inner.bucket {
            match spent {
                true => bucket.spend(orders, now),
                false => bucket.give_back(orders, now),
            }
        }
        drop(inner);
        self.shared.changed.notify_one();
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.end(self.orders, false);
        let mut inner = self.shared.lock();
        inner.calls = inner.calls.saturating_sub(1);
        drop(inner);
        self.shared.changed.notify_one();
    }
}

/// Forgets what was waited for, also when the wait is given up.
pub(super) struct Waiting<'a>(pub(super) &'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting = None;
    }
}
