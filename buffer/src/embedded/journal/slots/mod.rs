//! The pool of spare slots, and the thread that keeps it filled.
//!
//! The filler makes slots (zero-filled, synced, the directory too) up to the burst reserve, prepares the header of
//! the next segment ahead of time, and removes what a burst left over. Taking a slot never waits for zeros to be
//! written: with the pool empty a slot of reserved, unwritten space is made on the spot.

mod filler;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::files::{Aligned, Directory, SlotFile, WriteMode};
use super::header::{Header, Parsed, Store};
use super::layout::{BLOCK, size};
use super::types::Failed;
use crate::control::Control;

/// Spare slots that orders leave alone: two for settles and carry-forward, so that retirement works with the
/// disk full, and one to open the store with.
pub(super) const RESERVED: u32 = 3;

/// After so many pauses without a slot taken or given back the pool is at rest.
const REST_PAUSES: u32 = 6;

/// What a slot is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Orders.
    Growth,
    /// Settles, carry-forward, and what else makes room in the end.
    Upkeep,
    /// The fresh segment every start begins with, and the checkpoint that gives others back; may go over the budget
    /// if the disk has room.
    Opening,
}

impl Purpose {
    /// How many spare slots it must leave.
    fn leaves(self) -> u32 {
        match self {
            Self::Growth if Control::NoReserve.is_on() => 0,
            Self::Growth => RESERVED,
            Self::Upkeep => 1,
            Self::Opening => 0,
        }
    }
}

/// A slot file by its number.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    pub(super) file: Arc<dyn SlotFile>,
}

/// What is in use when the pool is made.
#[derive(Debug)]
pub(super) struct Census {
    /// Slot files there are, of every kind.
    pub(super) total: u32,
    /// Of these, slots set aside as unreadable or another store's.
    pub(super) quarantined: u32,
    /// The lowest number no slot has had.
    pub(super) next_number: u32,
    pub(super) spare: Vec<Slot>,
}

/// Why there is no slot.
#[derive(Debug)]
pub(super) enum NoSlot {
    Full(String),
    Failed(Failed),
}

/// The pool. Dropping it stops the filler.
#[derive(Debug)]
pub(super) struct Slots {
    shared: Arc<Shared>,
    filler: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    directory: Arc<dyn Directory>,
    store: Store,
    burst_reserve: u32,
    max: u32,
    /// Where no slot could be made, it is tried again after so long.
    retry_pause: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    ready: VecDeque<Slot>,
    total: u32,
    quarantined: u32,
    next_number: u32,
    /// The header to prepare the next slot with.
    want: Option<Header>,
    preparing: bool,
    /// A spare slot is being filled: counted in `total`, and not ready.
    filling: bool,
    prepared: Option<(Header, Slot)>,
    /// Making a slot failed (no space, say): not tried again until something changes.
    stalled: bool,
    /// For a while no slot was taken or came back.
    rests: bool,
    fault: Option<Failed>,
    stopped: bool,
}

impl Slots {
    pub(super) fn new(
        directory: Arc<dyn Directory>,
        store: Store,
        burst_reserve: u32,
        disk_max: u64,
        retry_pause: Duration,
        census: Census,
    ) -> Self {
        let max = u32::try_from(disk_max / store.slot_bytes).unwrap_or(u32::MAX);
        let state = State {
            ready: census.spare.into(),
            total: census.total,
            quarantined: census.quarantined,
            next_number: census.next_number,
            want: None,
            preparing: false,
            filling: false,
            prepared: None,
            stalled: false,
            rests: false,
            fault: None,
            stopped: false,
        };
        let shared = Shared {
            directory,
            store,
            burst_reserve,
            max,
            retry_pause,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), filler: None }
    }

    /// Starts the filler.
    pub(super) fn start(&mut self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name("forebay-slots".to_owned());
        self.filler = Some(thread.spawn(move || shared.fill())?);
        Ok(())
    }

    /// A slot whose header is durable.
    pub(super) fn take(&self, header: Header, purpose: Purpose) -> Result<Slot, NoSlot> {
        let mut state = self.shared.lock();
        (state.want, state.rests) = (None, false);
        while state.preparing {
            state = self.shared.wait(state);
        }
        if let Some(fault) = state.fault.clone() {
            return Err(NoSlot::Failed(fault));
        }
        let fits = |(made, _): &(Header, Slot)| {
            (made.epoch, made.prev_epoch) == (header.epoch, header.prev_epoch)
        };
        if state.prepared.as_ref().is_some_and(fits) {
            // No other slot may bear the header of this epoch, so this one is taken, and another joins the reserve for it.
            if state.spare() <= purpose.leaves() {
                let left = self.shared.left(&state);
                drop(state);
                let another = self.shared.create_within(left, purpose)?;
                state = self.shared.lock();
                state.ready.push_back(another);
            }
            if let Some((_, slot)) = state.prepared.take() {
                self.shared.changed.notify_all();
                return Ok(slot);
            }
        }
        let unfit = state.prepared.take();
        state.ready.extend(unfit.map(|(_, slot)| slot));
        let ready = if state.spare() > purpose.leaves() { state.ready.pop_front() } else { None };
        let left = self.shared.left(&state);
        drop(state);
        let slot = ready.map_or_else(|| self.shared.create_within(left, purpose), Ok)?;
        self.shared.changed.notify_all();
        let header = Header { slot: slot.number, ..header };
        let written = put_header(&slot, &header);
        written.map_err(|error| NoSlot::Failed(failed("segment header", &error)))?;
        Ok(slot)
    }

    /// Has the next segment's header made ahead of time.
    pub(super) fn prepare(&self, header: Header) {
        self.shared.lock().want = Some(header);
        self.shared.changed.notify_all();
    }

    /// Takes slots back that were not used after all. No space came with them.
    pub(super) fn put_back(&self, slots: impl IntoIterator<Item = Slot>) {
        self.shared.lock().ready.extend(slots);
        self.shared.changed.notify_all();
    }

    /// Takes retired slots back.
    pub(super) fn give_back(&self, slots: impl IntoIterator<Item = Slot>) {
        let mut state = self.shared.lock();
        state.ready.extend(slots);
        (state.stalled, state.rests) = (false, false);
        self.shared.changed.notify_all();
    }

    /// Removes spare slots of the wrong size.
    pub(super) fn discard(&self, misfits: Vec<Slot>) {
        for slot in misfits {
            match self.shared.directory.remove(slot.number) {
                Ok(()) => self.shared.lock().total -= 1,
                Err(error) => {
                    tracing::warn!(slot = slot.number, %error, "a spare slot of the wrong size stays");
                }
            }
        }
    }

    /// Whether one more slot could be taken for settles and carry-forward, and `others` after it.
    pub(super) fn room_for_upkeep(&self, others: u32) -> bool {
        let state = self.shared.lock();
        let leaves = Purpose::Upkeep.leaves() + others;
        state.spare() > leaves || (self.shared.left(&state) > leaves && !state.stalled)
    }

    /// Whether one more slot could be taken for growth, going by the budget.
    pub(super) fn room_for_growth(&self) -> bool {
        let state = self.shared.lock();
        let leaves = Purpose::Growth.leaves();
        state.spare() > leaves || (self.shared.left(&state) > leaves && !state.stalled)
    }

    /// How slots are written.
    pub(super) fn write_mode(&self) -> WriteMode {
        self.shared.directory.write_mode()
    }

    /// Bytes written to slots, of every kind.
    pub(super) fn bytes_written(&self) -> u64 {
        self.shared.directory.bytes_written()
    }

    /// Slot files there are, spare ones among them, ones set aside.
    pub(super) fn counts(&self) -> (u32, u32, u32) {
        let state = self.shared.lock();
        (state.total, state.spare(), state.quarantined)
    }

    /// A failed write or sync of the filler, after which the journal must not go on.
    pub(super) fn fault(&self) -> Option<Failed> {
        self.shared.lock().fault.clone()
    }

    /// Does the filler's work on this thread, so that a test decides when.
    #[cfg(test)]
    pub(super) fn pump(&self) {
        let mut state = self.shared.lock();
        loop {
            let (after, worked) = self.shared.step(state);
            state = after;
            if !worked || state.fault.is_some() {
                return;
            }
        }
    }

    /// Waits until there are so many spare slots, or a deadline.
    #[cfg(test)]
    pub(super) fn wait_for_spare(&self, spare: impl std::ops::RangeBounds<u32>) -> bool {
        let lacks = |state: &mut State| state.preparing || !spare.contains(&state.spare());
        let waited = self.shared.changed.wait_timeout_while(
            self.shared.lock(),
            Duration::from_secs(60),
            lacks,
        );
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    #[cfg(test)]
    pub(super) fn wait_until_full(&self) {
        let mut state = self.shared.lock();
        // Without room for more slots it still prepares the next one.
        let prepares = |state: &State| {
            state.preparing || (state.want.is_some() && !(state.stalled && state.ready.is_empty()))
        };
        let grows = |state: &State| self.shared.lacking(state) || self.shared.abounding(state);
        while !state.stopped && (prepares(&state) || (!state.stalled && grows(&state))) {
            state = self.shared.wait(state);
        }
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(filler) = self.filler.take()
            && filler.join().is_err()
        {
            tracing::error!("the thread that fills spare slots had panicked");
        }
    }
}

impl State {
    fn spare(&self) -> u32 {
        u32::try_from(self.ready.len()).unwrap_or(u32::MAX) + u32::from(self.prepared.is_some())
    }

    /// Slots of segments that are not retired, and one that is being prepared.
    fn in_use(&self) -> u32 {
        self.total.saturating_sub(self.spare() + self.quarantined)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, but after a while of rest there may be slots too many, and where no slot could be made it is tried again
    /// then: others may have freed space.
    fn wait_a_while<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let pause = match (state.stalled, state.rests) {
            (true, _) => self.retry_pause,
            (false, false) => self.retry_pause.saturating_mul(REST_PAUSES),
            (false, true) => return self.wait(state),
        };
        let waited = self.changed.wait_timeout(state, pause);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            state.rests |= !state.stalled;
            state.stalled = false;
        }
        state
    }

    /// Slots the budget has left: spare ones, and those that could still be made.
    fn left(&self, state: &State) -> u32 {
        let being_filled = u32::from(state.filling);
        (state.spare() + being_filled).saturating_add(self.max.saturating_sub(state.total))
    }

    /// A new slot where so many are left. What could still be made within the budget belongs to the reserve too.
    fn create_within(&self, left: u32, purpose: Purpose) -> Result<Slot, NoSlot> {
        if purpose != Purpose::Opening && left <= purpose.leaves() {
            let reason = format!("{left} of the disk budget's slots are left, and reserved");
            return Err(NoSlot::Full(reason));
        }
        self.create(purpose == Purpose::Opening)
    }

    /// A new slot of reserved, unwritten space, its place in the directory durable.
    fn create(&self, over_budget: bool) -> Result<Slot, NoSlot> {
        let mut state = self.lock();
        if state.total >= self.max && !over_budget {
            let reason = format!("all {} slots of the disk budget are in use", self.max);
            return Err(NoSlot::Full(reason));
        }
        let number = state.next_number;
        state.next_number += 1;
        state.total += 1;
        drop(state);
        match self.directory.create(number, self.store.slot_bytes) {
            Ok(file) => match self.directory.sync() {
                Ok(()) => Ok(Slot { number, file }),
                Err(error) => Err(NoSlot::Failed(failed("directory sync", &error))),
            },
            Err(error) => {
                self.lock().total -= 1;
                Err(sort_out("making a slot", &error))
            }
        }
    }
}

/// Writes both copies of a header and makes them durable, one after the other, a copy that is no good
/// first: at no moment are both torn.
fn put_header(slot: &Slot, header: &Header) -> io::Result<()> {
    let mut memory = Aligned::default();
    let mut sound = |at| {
        let into = memory.bytes_mut(size(BLOCK));
        let read = slot.file.read_device_at(at, into);
        read.is_ok() && matches!(Header::parse(into), Parsed::Valid(_))
    };
    let order = if sound(0) && !sound(BLOCK) { [BLOCK, 0] } else { [0, BLOCK] };
    let block = memory.bytes_mut(size(BLOCK));
    block.copy_from_slice(&header.encode());
    order.into_iter().try_for_each(|at| slot.file.write_at(at, block))
}

/// No space is a refusal; anything else is a disk that cannot be trusted.
fn sort_out(what: &'static str, error: &io::Error) -> NoSlot {
    use io::ErrorKind::{Interrupted, QuotaExceeded, StorageFull, WriteZero};
    if matches!(error.kind(), Interrupted | QuotaExceeded | StorageFull | WriteZero) {
        NoSlot::Full(format!("{what}: {error}"))
    } else {
        NoSlot::Failed(failed(what, error))
    }
}

pub(super) fn failed(what: &'static str, error: &io::Error) -> Failed {
    Failed { what, reason: error.to_string() }
}
