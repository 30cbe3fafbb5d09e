//! How answers get from the writer to those who wait: many at a time.
//!
//! Waking a task of another thread costs a system call, waking one of the same thread next to nothing. So every
//! thread that hands deliveries in has one [`Desk`], and each waiting future a seat at it. After a group the
//! writer lays all answers on the desk and wakes *one* future; whichever future of the desk is polled or dropped
//! next hands everything round and wakes the others, on its own thread.
//!
//! Nobody depends on the one that was woken: dropped, it hands round too; kept and never polled, the writer
//! wakes another at its next [`Desk::ring`], and at the third hands round itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};

use super::sync::{Mutex, MutexGuard, Step, takes};

/// So many rings may wake one future each; the next wakes everybody who has an answer.
const PATIENCE: u32 = 2;

/// An answer, or `None` for a [`Reply`] that was dropped without one.
type Answer<T> = Option<T>;

/// The answers for the futures of one thread. Any thread may use it; it is only dearer.
pub(super) struct Desk<T> {
    /// Sent since the last ring.
    sent: Mutex<Vec<(usize, Answer<T>)>>,
    room: Mutex<Room<T>>,
}

struct Room<T> {
    seats: Vec<Seat<T>>,
    free: Vec<usize>,
    /// Rung for, and not yet handed round.
    laid: Vec<(usize, Answer<T>)>,
    /// Rings since something was laid on an empty desk.
    rings: u32,
}

enum Seat<T> {
    Free,
    /// With its future's waker, until that is woken by a ring.
    Waiting(Option<Waker>),
    /// The future is gone; its answer is thrown away.
    Left,
    Answered(Answer<T>),
}

/// Where the one answer to a delivery goes. Dropped without one, the other end hears a hang-up.
pub(super) struct Reply<T> {
    desk: Arc<Desk<T>>,
    /// `None` once it was answered.
    seat: Option<usize>,
}

/// Waits for the answer; `None` is a hang-up. Dropping it loses the answer, nothing else.
pub(super) struct Awaited<T> {
    desk: Arc<Desk<T>>,
    /// `None` once it has the answer.
    seat: Option<usize>,
}

impl<T> Desk<T> {
    pub(super) fn new() -> Self {
        let room = Room { seats: Vec::new(), free: Vec::new(), laid: Vec::new(), rings: 0 };
        Self { sent: Mutex::new(Vec::new()), room: Mutex::new(room) }
    }

    /// A seat: who will answer, and who will hear it.
    pub(super) fn seat(self: &Arc<Self>) -> (Reply<T>, Awaited<T>) {
        let seat = self.room().take_seat();
        let reply = Reply { desk: Arc::clone(self), seat: Some(seat) };
        (reply, Awaited { desk: Arc::clone(self), seat: Some(seat) })
    }

    /// Lays what was sent on the desk and wakes one future; true if answers lie there now that nobody handed
    /// round yet, so that it must be called again some time.
    pub(super) fn ring(&self) -> bool {
        let mut sent = lock(&self.sent);
        let mut room = self.room();
        let first = room.laid.len();
        if first == 0 {
            // The emptied list goes back to be filled again.
            std::mem::swap(&mut room.laid, &mut sent);
            room.rings = 0;
        } else {
            room.laid.append(&mut sent);
        }
        drop(sent);
        if room.laid.is_empty() {
            return false;
        }
        room.rings += 1;
        let wakers = if room.rings > PATIENCE {
            room.hand_round(None)
        } else {
            room.one_waker(first).into_iter().collect()
        };
        let left = !room.laid.is_empty();
        drop(room);
        wakers.into_iter().for_each(Waker::wake);
        left
    }

    /// Wakes everybody who has an answer.
    pub(super) fn ring_for_all(&self) {
        let mut sent = lock(&self.sent);
        let mut room = self.room();
        room.laid.append(&mut sent);
        drop(sent);
        let wakers = room.hand_round(None);
        drop(room);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn room(&self) -> MutexGuard<'_, Room<T>> {
        lock(&self.room)
    }
}

impl<T> Room<T> {
    fn take_seat(&mut self) -> usize {
        let seat = self.free.pop().unwrap_or(self.seats.len());
        match self.seats.get_mut(seat) {
            Some(place) => *place = Seat::Waiting(None),
            None => self.seats.push(Seat::Waiting(None)),
        }
        seat
    }

    /// Puts every answer that lies here before its future. Those to be woken are returned, to be woken without
    /// the lock; the future in `own` is awake.
    fn hand_round(&mut self, own: Option<usize>) -> Vec<Waker> {
        let mut wakers = Vec::new();
        let mut laid = std::mem::take(&mut self.laid);
        for (seat, answer) in laid.drain(..) {
            wakers.extend(self.answer(seat, answer).filter(|_| own != Some(seat)));
        }
        self.laid = laid;
        wakers
    }

    /// Puts an answer before its future; its waker, if it waits with one.
    fn answer(&mut self, seat: usize, answer: Answer<T>) -> Option<Waker> {
        let place = self.seats.get_mut(seat)?;
        match place {
            Seat::Waiting(waker) => {
                let waker = waker.take();
                *place = Seat::Answered(answer);
                waker
            }
            Seat::Left => {
                self.vacate(seat);
                None
            }
            // Nobody is answered twice.
            Seat::Free | Seat::Answered(_) => None,
        }
    }

    fn vacate(&mut self, seat: usize) {
        if let Some(place) = self.seats.get_mut(seat) {
            *place = Seat::Free;
            self.free.push(seat);
        }
    }

    /// The waker of one future whose answer lies here, of the newest answers if there is one.
    fn one_waker(&mut self, newest: usize) -> Option<Waker> {
        let (old, new) = self.laid.split_at(newest);
        new.iter().chain(old).find_map(|(seat, _)| match self.seats.get_mut(*seat) {
            Some(Seat::Waiting(waker)) => waker.take(),
            _ => None,
        })
    }

    /// The answer of a seat, which is given up with it; otherwise the waker is kept.
    fn poll(&mut self, seat: usize, cx: &mut Context<'_>) -> Poll<Answer<T>> {
        match self.seats.get_mut(seat) {
            Some(Seat::Answered(answer)) => {
                let answer = answer.take();
                self.vacate(seat);
                Poll::Ready(answer)
            }
            Some(Seat::Waiting(waker)) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Some(Seat::Left | Seat::Free) | None => Poll::Ready(None),
        }
    }

    fn leave(&mut self, seat: usize) {
        match self.seats.get_mut(seat) {
            Some(place @ Seat::Waiting(_)) => *place = Seat::Left,
            Some(Seat::Answered(_)) => self.vacate(seat),
            Some(Seat::Left | Seat::Free) | None => {}
        }
    }
}

impl<T> Reply<T> {
    /// Sends the answer. It arrives at the next [`Desk::ring`].
    pub(super) fn send(mut self, answer: T) {
        if let Some(seat) = self.seat.take() {
            lock(&self.desk.sent).push((seat, Some(answer)));
        }
    }
}

impl<T> Drop for Reply<T> {
    /// A hang-up is heard at once, for nobody may be there to ring.
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            let waker = self.desk.room().answer(seat, None);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> Future for Awaited<T> {
    type Output = Answer<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer<T>> {
        let Some(seat) = self.seat else { return Poll::Ready(None) };
        let mut room = self.desk.room();
        let wakers = room.hand_round(Some(seat));
        let poll = room.poll(seat, cx);
        drop(room);
        wakers.into_iter().for_each(Waker::wake);
        if poll.is_ready() {
            self.seat = None;
        }
        poll
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let mut room = self.desk.room();
        room.leave(seat);
        let wakers = if takes(Step::DropHandsRound) { room.hand_round(None) } else { Vec::new() };
        drop(room);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// All desks of one buffer.
pub(super) struct Desks<T> {
    desks: Mutex<Vec<Arc<Desk<T>>>>,
}

impl<T> Desks<T> {
    pub(super) fn new() -> Self {
        Self { desks: Mutex::new(Vec::new()) }
    }

    /// One more desk, kept as long as somebody else has it.
    pub(super) fn open(&self) -> Arc<Desk<T>> {
        let desk = Arc::new(Desk::new());
        lock(&self.desks).push(Arc::clone(&desk));
        desk
    }

    /// Rings at every desk; as [`Desk::ring`].
    pub(super) fn ring(&self) -> bool {
        let mut left = false;
        lock(&self.desks).retain(|desk| {
            left |= desk.ring();
            Arc::strong_count(desk) > 1
        });
        left
    }

    /// Wakes everybody who has an answer, for it will not be rung again.
    pub(super) fn ring_for_all(&self) {
        lock(&self.desks).iter().for_each(|desk| desk.ring_for_all());
    }
}

impl<T> fmt::Debug for Desk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
