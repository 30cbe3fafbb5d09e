//! Whose turn it is where a fault hits every n-th.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::faults::Faults;

/// Counts what one fault may hit.
#[derive(Debug, Default)]
pub(crate) struct Nth(AtomicU64);

impl Nth {
    /// Counts one, and says whether it is the n-th.
    pub(crate) fn hits(&self, every: Option<NonZeroU64>) -> bool {
        every.is_some_and(|every| {
            (self.0.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every.get())
        })
    }
}

/// A count for each fault.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) drop_before_commit: Nth,
    pub(crate) drop_after_commit: Nth,
    pub(crate) drop_mid_answer: Nth,
    pub(crate) try_later: Nth,
    pub(crate) overloaded: Nth,
}

impl Counts {
    /// What has changed is counted from the start.
    pub(crate) fn restart_changed(&self, old: &Faults, new: &Faults) {
        let restart = |count: &Nth, changed: bool| {
            if changed {
                count.0.store(0, Ordering::Relaxed);
            }
        };
        restart(
            &self.drop_before_commit,
            old.drop_before_commit_every != new.drop_before_commit_every,
        );
        restart(
            &self.drop_after_commit,
            old.drop_after_commit_every != new.drop_after_commit_every,
        );
        restart(&self.drop_mid_answer, old.drop_mid_answer_every != new.drop_mid_answer_every);
        restart(&self.try_later, old.try_later_every != new.try_later_every);
        restart(&self.overloaded, old.overloaded != new.overloaded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_third_is_hit_and_a_changed_fault_counts_anew() {
        let counts = Counts::default();
        let three = Faults { try_later_every: NonZeroU64::new(3), ..Faults::default() };
        let hits = |faults: &Faults, many: usize| {
            (0..many).map(|_| counts.try_later.hits(faults.try_later_every)).collect::<Vec<_>>()
        };
        assert_eq!(hits(&three, 7), [false, false, true, false, false, true, false]);
        counts.restart_changed(&three, &three);
        assert_eq!(hits(&three, 2), [false, true]);
        let two = Faults { try_later_every: NonZeroU64::new(2), ..Faults::default() };
        counts.restart_changed(&three, &two);
        assert_eq!(hits(&two, 3), [false, true, false]);
        assert_eq!(hits(&Faults::default(), 3), [false; 3]);
    }
}
