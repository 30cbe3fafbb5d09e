//! The bounded queue to the one writer, and where the writer is in its life.
//!
//! A delivery that was taken in is either popped by the writer or dropped by whoever finds the writer gone; its
//! reply is answered or hangs up with it. So nobody waits for ever, however the end and the last deliveries meet.

use std::sync::OnceLock;
use std::time::Duration;

use super::sync::{AtomicU8, Ordering, Queue, Step, Thread, park_timeout, takes};

/// Where the writer is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    Open = 0,
    /// Takes nothing new, finishes what was handed in.
    Closing = 1,
    Closed = 2,
    Failed = 3,
    /// Every handle is gone; nobody waits for anything.
    Abandoned = 4,
}

/// The writer works, or is about to look at the queue.
const AWAKE: u8 = 0;
/// It sleeps until somebody wakes it.
const ASLEEP: u8 = 1;

/// Deliveries on their way to the writer.
pub(super) struct Intake<T> {
    queue: Queue<T>,
    phase: AtomicU8,
    rest: AtomicU8,
    writer: OnceLock<Thread>,
}

impl<T> Intake<T> {
    pub(super) fn new(places: usize) -> Self {
        Self {
            queue: Queue::new(places.max(1)),
            phase: AtomicU8::new(Phase::Open as u8),
            rest: AtomicU8::new(AWAKE),
            writer: OnceLock::new(),
        }
    }

    /// Names the thread that is to be woken.
    pub(super) fn written_by(&self, writer: Thread) {
        // Set once, by the one who starts it.
        self.writer.set(writer).ok();
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::SeqCst) {
            0 => Phase::Open,
            1 => Phase::Closing,
            2 => Phase::Closed,
            3 => Phase::Failed,
            _ => Phase::Abandoned,
        }
    }

    /// Goes on in life; never back, and failed stays failed.
    pub(super) fn enter(&self, phase: Phase) {
        let later =
            |now: u8| (now < phase as u8 && now != Phase::Failed as u8).then_some(phase as u8);
        // An error means it is there already or beyond.
        self.phase.fetch_update(Ordering::SeqCst, Ordering::SeqCst, later).ok();
    }

    /// Whether a writer will still look at what is handed in.
    pub(super) fn has_writer(&self) -> bool {
        matches!(self.phase(), Phase::Open | Phase::Closing)
    }

    /// Hands in, and wakes the writer if it sleeps. Without a writer, everything that waits is dropped.
    ///
    /// # Errors
    /// What was to be handed in, when there is no place.
    pub(super) fn push(&self, delivery: T) -> Result<(), T> {
        let pushed = self.queue.push(delivery);
        if !self.has_writer() {
            if takes(Step::PushAfterTheEndHangsUp) {
                self.empty();
            }
        } else if takes(Step::PushWakes) && self.rest.swap(AWAKE, Ordering::AcqRel) == ASLEEP {
            self.wake();
        }
        pushed
    }

    pub(super) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Drops what nobody will take any more.
    pub(super) fn empty(&self) {
        while self.queue.pop().is_some() {}
    }

    /// Wakes the writer, or keeps it from its next rest.
    pub(super) fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// The writer sleeps until a delivery, [`Intake::wake`], or the end of the pause; not at all if something waits.
    pub(super) fn rest(&self, pause: Duration) {
        if self.lie_down() {
            park_timeout(pause);
        }
        self.get_up();
    }

    /// From here on a delivery wakes the writer; whether nothing came before.
    pub(super) fn lie_down(&self) -> bool {
        // Both sides swap the one value, so either this sees what was pushed or the push sees this asleep.
        self.rest.swap(ASLEEP, Ordering::AcqRel);
        self.queue.is_empty()
    }

    pub(super) fn get_up(&self) {
        self.rest.swap(AWAKE, Ordering::AcqRel);
    }

    /// The writer lets deliveries gather for so long; they do not wake it, [`Intake::wake`] does.
    pub(super) fn gather(&self, pause: Duration) {
        park_timeout(pause);
    }
}
