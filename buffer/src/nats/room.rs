//! How much of the stream orders may still take. The rest of it is a reserve for what becomes of the orders that are there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::control::Control;

const RESERVE_MIN: u64 = 64 << 20;
/// What the servers keep beside a message's own bytes, at most: its subject, its headers, a checksum.
const BESIDE: u64 = 256;

/// What is left, as of the last look at the stream. In between, what this process puts in is counted: within a second it can be
/// more than the reserve. What other doors put in meanwhile comes out of that.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes that this process began to put in, ever.
    taken: AtomicU64,
    /// Those of which it is known what became of them. The others may be in what is found at a look, or not.
    answered: AtomicU64,
    /// How far that may go.
    taken_max: AtomicU64,
    full: AtomicBool,
}

impl Default for Room {
    fn default() -> Self {
        Self { taken: 0.into(), answered: 0.into(), taken_max: u64::MAX.into(), full: false.into() }
    }
}

impl Room {
    /// To be called before the stream is looked at, for [`Room::found`].
    pub(super) fn look(&self) -> u64 {
        self.answered.load(Ordering::Acquire)
    }

    /// The stream had so many bytes, and so many it may have (0: it has no limit).
    pub(super) fn found(&self, looked: u64, bytes: u64, limit: u64) {
        let left = match limit {
            0 => u64::MAX,
            _ => limit.saturating_sub(reserve(limit)).saturating_sub(bytes),
        };
        self.taken_max.store(looked.saturating_add(left), Ordering::Release);
        self.tell(left == 0);
    }

    /// Takes room for an order's message, if there is some. To be kept until the servers have answered.
    pub(super) fn take(&self, bytes: usize) -> Option<Taken<'_>> {
        let bytes = (bytes as u64).saturating_add(BESIDE);
        let taken = self.taken.fetch_add(bytes, Ordering::AcqRel).saturating_add(bytes);
        let max = self.taken_max.load(Ordering::Acquire);
        // However it ends, it is answered.
        let room = Taken { room: self, bytes };
        if taken <= max {
            return Some(room);
        }
        // Until the next look, also to smaller ones.
        self.tell(true);
        None
    }

    /// Whether there was no room for another order.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    fn tell(&self, full: bool) {
        if full != self.full.swap(full, Ordering::AcqRel) {
            tracing::warn!(full, "room for orders on the stream (nats.bytes_max)");
        }
    }
}

/// Room for a message that is on its way.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.room.answered.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Bytes of a stream that are kept for what becomes of its orders: lists of what is lent, exceptions, parked changes.
fn reserve(limit: u64) -> u64 {
    match Control::NoReserve.is_on() {
        true => 0,
        false => (limit / 50).max(RESERVE_MIN).min(limit / 4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_between_two_looks_is_counted_and_the_reserve_stays() {
        let room = Room::default();
        let take = |bytes| room.take(bytes).is_some();
        assert!(take(1 << 40), "nobody has looked");
        let (limit, order) = (8 << 20, 64 << 10);
        room.found(room.look(), 0, limit);
        let taken = (0_u64..1_000).take_while(|_| take(order)).count() as u64;
        assert_eq!(taken, (6 << 20) / (order as u64 + BESIDE), "a quarter of it is kept");
        assert!(room.is_full() && !take(0), "until the next look");
        room.found(room.look(), 5 << 20, limit);
        assert!(!room.is_full() && take(order));
        room.found(room.look(), 6 << 20, limit);
        assert!(room.is_full() && !take(0));
        room.found(room.look(), 6 << 20, 0);
        assert!(!room.is_full() && take(1 << 40), "it has no limit");
    }

    #[test]
    fn what_is_on_its_way_at_a_look_may_not_be_in_what_is_found() {
        let (room, limit, left) = (Room::default(), 8 << 20, 256 << 10);
        let on_its_way = room.take(left);
        room.found(room.look(), (6 << 20) - (left as u64), limit);
        assert!(room.take(0).is_none(), "it takes all that is left");
        drop(on_its_way);
        room.found(room.look(), (6 << 20) - (left as u64), limit);
        assert!(room.take(left / 2).is_some(), "it did not come to that");
    }

    #[test]
    fn the_reserve_is_a_fiftieth_and_64_mib_at_least_and_a_quarter_at_most() {
        let mib = |limit: u64| reserve(limit << 20) >> 20;
        assert_eq!([mib(16 << 10), mib(1 << 10), mib(64)], [327, 64, 16]);
    }
}
