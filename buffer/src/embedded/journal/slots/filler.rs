//! The filler: the thread that keeps the pool as it should be.

use std::io;
use std::sync::MutexGuard;

use super::super::files::Aligned;
use super::super::header::Header;
use super::super::layout::{BLOCK, size};
use super::{NoSlot, RESERVED, Shared, Slot, State, failed, put_header, sort_out};
use crate::metrics;

const CHUNK: u64 = 1 << 20;

/// Slots beside the wanted spare ones that a store without a backlog uses: the open segment and the one before it.
const IN_USE_AT_REST: u32 = 2;

impl Shared {
    /// Spare slots that are wanted.
    fn target(&self) -> u32 {
        self.burst_reserve.max(RESERVED)
    }

    /// Too few spare slots. With as many slots in all as are kept at rest, one less than wanted is enough: the next segment that
    /// retires brings it back, and making one only to remove it then would write everything twice.
    pub(super) fn lacking(&self, state: &State) -> bool {
        let (target, spare) = (self.target(), state.spare());
        let comes_back = state.in_use() + spare >= target + IN_USE_AT_REST;
        let enough = if comes_back { (target - 1).max(RESERVED) } else { target };
        spare < enough && state.total < self.max
    }

    /// More spare slots than are worth keeping: while they come and go two more than wanted, at rest none.
    pub(super) fn abounding(&self, state: &State) -> bool {
        let (target, spare) = (self.target(), state.spare());
        let at_rest = state.rests && state.in_use() + spare > target + IN_USE_AT_REST;
        spare > target + 2 || (at_rest && spare > target)
    }

    /// The filler's loop.
    pub(super) fn fill(&self) {
        let mut state = self.lock();
        while !state.stopped && state.fault.is_none() {
            self.report(&state);
            let (after, worked) = self.step(state);
            state = after;
            if worked {
                self.changed.notify_all();
            } else {
                state = self.wait_a_while(state);
            }
        }
        self.changed.notify_all();
    }

    /// One thing that needs doing, the most urgent first; false if there is none.
    pub(super) fn step<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> (MutexGuard<'a, State>, bool) {
        if state.want.is_some() && state.prepared.is_none() && !state.ready.is_empty() {
            state = self.prepare(state);
        } else if self.abounding(&state) {
            state = self.remove_one(state);
        } else if !state.stalled && self.lacking(&state) {
            drop(state);
            let made = self.create_filled();
            state = self.lock();
            match made {
                Ok(slot) => {
                    state.filling = false;
                    state.ready.push_back(slot);
                }
                Err(NoSlot::Full(reason)) => {
                    if !state.stopped {
                        tracing::warn!(reason, "no further spare slot can be made");
                    }
                    state.stalled = true;
                }
                Err(NoSlot::Failed(fault)) => state.fault = Some(fault),
            }
        } else {
            return (state, false);
        }
        (state, true)
    }

    fn prepare<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (Some(header), Some(slot)) = (state.want.take(), state.ready.pop_front()) else {
            return state;
        };
        state.preparing = true;
        drop(state);
        let header = Header { slot: slot.number, ..header };
        let written = put_header(&slot, &header);
        state = self.lock();
        state.preparing = false;
        match written {
            Ok(()) => state.prepared = Some((header, slot)),
            Err(error) => state.fault = Some(failed("next segment's header", &error)),
        }
        state
    }

    fn remove_one<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(slot) = state.ready.pop_back() else { return state };
        drop(state);
        let removed = self.directory.remove(slot.number).and_then(|()| self.directory.sync());
        state = self.lock();
        state.total -= 1;
        if let Err(error) = removed {
            tracing::warn!(slot = slot.number, %error, "a spare slot cannot be removed");
        }
        state
    }

    /// A new slot, every block written and durable, with a header that says it is spare.
    fn create_filled(&self) -> Result<Slot, NoSlot> {
        let slot = self.create(false)?;
        self.lock().filling = true;
        let spare = Header {
            store: self.store,
            flags: 0,
            epoch: 0,
            slot: slot.number,
            prev_epoch: 0,
            retired_below: 0,
            wall_ms: 0,
        };
        match self.write_zeros(&slot).and_then(|()| put_header(&slot, &spare)) {
            Ok(()) => Ok(slot),
            Err(error) => {
                let removed = self.directory.remove(slot.number);
                let mut state = self.lock();
                state.filling = false;
                if let Err(error) = removed {
                    tracing::warn!(slot = slot.number, %error, "a half-filled slot stays");
                } else {
                    state.total -= 1;
                }
                drop(state);
                Err(sort_out("filling a slot", &error))
            }
        }
    }

    fn write_zeros(&self, slot: &Slot) -> io::Result<()> {
        let mut memory = Aligned::default();
        let zeros = memory.bytes_mut(size(CHUNK.min(self.store.slot_bytes)));
        zeros.fill(0);
        let mut at = 2 * BLOCK;
        while at < self.store.slot_bytes {
            if self.lock().stopped {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "the journal is closing"));
            }
            let left = size(self.store.slot_bytes - at);
            let chunk = zeros.get(..left.min(zeros.len())).unwrap_or_default();
            // In small portions, so that an order's write never waits behind a whole slot of zeros.
            slot.file.write_at(at, chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    fn report(&self, state: &State) {
        let live = state.total.saturating_sub(state.spare()).saturating_sub(state.quarantined);
        metrics::disk(
            u64::from(state.total) * self.store.slot_bytes,
            u64::from(live),
            u64::from(state.spare()),
            u64::from(state.quarantined),
        );
    }
}
