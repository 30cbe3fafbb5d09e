//! Orders that are refused as if for the credentials, while the OMS takes others: by a filter before it, or for a right that one record
//! asks for. Were each of them taken for the credentials' fault, it would put the brake on whenever it comes round, for ever.
//!
//! An order is found out by its turns: it was denied, another was sent and taken, and it was denied again. While credentials are refused,
//! or may look up and not create, none is taken, so nobody's turns grow then, however long that lasts.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From so many turns on a call is taken apart, so that whoever is denied alone is found.
pub(super) const APART: u8 = 2;
/// So many are an order's own.
pub(super) const OWN: u8 = 3;
/// Orders that are remembered.
const REMEMBERED: usize = 1_024;

/// Who was denied, and how often. Shared by the workers.
#[derive(Default)]
pub(crate) struct Denied(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Orders that were taken.
    passed: u64,
    orders: VecDeque<Turns>,
}

struct Turns {
    order: u64,
    /// How many had been taken when it was denied last.
    passed: u64,
    turns: u8,
}

impl Denied {
    /// The OMS took an order that it was sent.
    pub(super) fn passed(&self) {
        self.lock().passed += 1;
    }

    /// A call with these orders was refused for its credentials: the most turns one of them has now.
    pub(super) fn denied(&self, orders: impl Iterator<Item = u64>) -> u8 {
        let mut inner = self.lock();
        let passed = inner.passed;
        let mut most = 0;
        for order in orders {
            if let Some(known) = inner.orders.iter_mut().find(|known| known.order == order) {
                if known.passed < passed {
                    known.turns = known.turns.saturating_add(1);
                    known.passed = passed;
                }
                most = most.max(known.turns);
                continue;
            }
            if inner.orders.len() >= REMEMBERED {
                inner.orders.pop_front();
            }
            inner.orders.push_back(Turns { order, passed, turns: 0 });
        }
        most
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_grow_only_where_others_are_taken_between() {
        let denied = Denied::default();
        let again = |orders: &[u64]| denied.denied(orders.iter().copied());
        assert_eq!([again(&[1]), again(&[1]), again(&[1, 2])], [0, 0, 0], "nobody came through");
        denied.passed();
        assert_eq!([again(&[1]), again(&[1])], [1, 1], "once for each time");
        denied.passed();
        denied.passed();
        assert_eq!(again(&[3, 1]), 2, "the most of them");
        assert_eq!([again(&[3]), again(&[2])], [0, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let denied = Denied::default();
        denied.denied(0..5_000);
        assert_eq!(denied.lock().orders.len(), REMEMBERED);
    }
}
