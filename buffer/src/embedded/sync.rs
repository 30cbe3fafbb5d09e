//! What the intake and the desks are built of. Their model (`protocol_model`) compiles the same two files over the checker's
//! types instead of these.

pub(super) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
pub(super) use std::sync::{Mutex, MutexGuard};
pub(super) use std::thread::{Thread, park_timeout};

pub(super) use crossbeam_queue::ArrayQueue as Queue;

/// A step of the protocol that the model can take out, to show that it would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A waiting future that is dropped hands round what lies at its desk.
    DropHandsRound,
    /// A delivery wakes a writer that sleeps.
    PushWakes,
    /// A delivery that finds the writer gone is dropped, and hangs up.
    PushAfterTheEndHangsUp,
}

/// Whether a step is taken; here, always.
pub(super) const fn takes(_: Step) -> bool {
    true
}
