//! Where orders are kept in memory: slots of 44 bytes, in chunks that are allocated whole and freed when empty. Only the
//! first chunk of all grows as it fills, so that a state of one order costs little.

use std::collections::BTreeSet;

/// Slots of one chunk: 352 KiB, so that to begin one costs no pause.
const CHUNK: u32 = 8_192;
/// A chunk with so many free slots takes new orders again.
const ROOMY: u32 = CHUNK / 4;
/// Slots that the very first chunk begins with; by doubling it comes to a whole one.
const FIRST: usize = 2;
const NO_SLOT: u32 = u32::MAX;

/// One order, packed. What does not fit stands in its detail.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// 96 bits, low words first.
    hash: [u32; 3],
    pub(super) epoch: u32,
    pub(super) offset: u32,
    /// Of a free slot: the next free one.
    sequence_low: u32,
    sequence_high: u16,
    /// Bytes of the body in units of 64, rounded up.
    units: u16,
    pub(super) accepted_at_s: u32,
    value: [u32; 2],
    pub(super) flags: u32,
}

/// What body sizes are rounded up to; a body of more than 4 MiB does not fit a group.
const UNIT: u32 = 64;

impl Slot {
    pub(super) fn hash(&self) -> u128 {
        let [low, middle, high] = self.hash.map(u128::from);
        low | middle << 32 | high << 64
    }

    pub(super) fn set_hash(&mut self, hash: u128) {
        self.hash = [word(hash), word(hash >> 32), word(hash >> 64)];
    }

    pub(super) fn sequence(&self) -> u64 {
        u64::from(self.sequence_low) | u64::from(self.sequence_high) << 32
    }

    /// Sequences have 48 bits: at a million a second they last nine years, at a peak's 20,000 four hundred.
    pub(super) fn set_sequence(&mut self, sequence: u64) {
        self.sequence_low = word(u128::from(sequence));
        self.sequence_high = u16::try_from(sequence >> 32).unwrap_or(u16::MAX);
    }

    pub(super) fn bytes(&self) -> u32 {
        u32::from(self.units) * UNIT
    }

    pub(super) fn set_bytes(&mut self, bytes: u32) {
        self.units = u16::try_from(bytes.div_ceil(UNIT)).unwrap_or(u16::MAX);
    }

    /// Packed money while it may still be drained, a reference to its ending afterwards.
    pub(super) fn value(&self) -> u64 {
        let [low, high] = self.value.map(u64::from);
        low | high << 32
    }

    pub(super) fn set_value(&mut self, value: u64) {
        self.value = [word(u128::from(value)), word(u128::from(value >> 32))];
    }
}

/// The lowest 32 bits.
fn word(bits: u128) -> u32 {
    u32::try_from(bits & u128::from(u32::MAX)).unwrap_or_default()
}

/// All slots, by their number.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Vec<Option<Chunk>>,
    /// The chunk new orders go to.
    open: Option<u32>,
    /// Others that have room for many.
    roomy: BTreeSet<u32>,
    /// Numbers of chunks that were freed.
    vacant: Vec<u32>,
}

#[derive(Debug)]
struct Chunk {
    slots: Vec<Slot>,
    free: u32,
    live: u32,
}

impl Slab {
    pub(super) fn get(&self, id: u32) -> Option<&Slot> {
        let chunk = self.chunks.get(place(id / CHUNK))?.as_ref()?;
        chunk.slots.get(place(id % CHUNK))
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Slot> {
        let chunk = self.chunks.get_mut(place(id / CHUNK))?.as_mut()?;
        chunk.slots.get_mut(place(id % CHUNK))
    }

    /// Keeps a slot; its number stays the same until it is removed. `None` beyond four billion orders.
    pub(super) fn insert(&mut self, slot: Slot) -> Option<u32> {
        let number = match self.open.filter(|open| self.room(*open) > 0) {
            Some(open) => open,
            None => self.begin()?,
        };
        self.open = Some(number);
        let chunk = self.chunks.get_mut(place(number))?.as_mut()?;
        chunk.live += 1;
        let index = chunk.free;
        let index = match chunk.slots.get_mut(place(index)) {
            Some(free) => {
                chunk.free = free.sequence_low;
                *free = slot;
                index
            }
            None => {
                chunk.slots.push(slot);
                u32::try_from(chunk.slots.len() - 1).ok()?
            }
        };
        Some(number * CHUNK + index)
    }

    /// Frees a slot that is in use.
    pub(super) fn remove(&mut self, id: u32) {
        let number = id / CHUNK;
        let Some(place_of) = self.chunks.get_mut(place(number)) else { return };
        let Some(chunk) = place_of else { return };
        let free = chunk.free;
        let Some(slot) = chunk.slots.get_mut(place(id % CHUNK)) else { return };
        *slot = Slot { sequence_low: free, ..Slot::default() };
        chunk.free = id % CHUNK;
        chunk.live -= 1;
        if self.open == Some(number) {
            return;
        }
        if chunk.live == 0 {
            *place_of = None;
            self.vacant.push(number);
            self.roomy.remove(&number);
        } else if CHUNK - chunk.live >= ROOMY {
            self.roomy.insert(number);
        }
    }

    fn room(&self, number: u32) -> u32 {
        let chunk = self.chunks.get(place(number)).and_then(Option::as_ref);
        chunk.map_or(0, |chunk| CHUNK - chunk.live)
    }

    /// A chunk with room for new orders.
    fn begin(&mut self) -> Option<u32> {
        if let Some(number) = self.roomy.pop_first() {
            return Some(number);
        }
        let size = if self.chunks.is_empty() { FIRST } else { place(CHUNK) };
        let slots = Vec::with_capacity(size);
        let chunk = Some(Chunk { slots, free: NO_SLOT, live: 0 });
        if let Some(number) = self.vacant.pop() {
            *self.chunks.get_mut(place(number))? = chunk;
            return Some(number);
        }
        let number = u32::try_from(self.chunks.len()).ok().filter(|n| *n < u32::MAX / CHUNK)?;
        self.chunks.push(chunk);
        Some(number)
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Option<Chunk>>()
            + self.chunks() * place(CHUNK) * size_of::<Slot>()
    }

    /// Chunks that take memory now.
    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.chunks.iter().flatten().count()
    }
}

fn place(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_gives_back_what_it_was_given_in_44_bytes() {
        assert_eq!(size_of::<Slot>(), 44);
        let mut slot = Slot::default();
        let hash = 0x0123_4567_89ab_cdef_0011_2233_u128;
        slot.set_hash(hash);
        slot.set_sequence(0xfedc_ba98_7654);
        slot.set_value(0x8877_6655_4433_2211);
        assert_eq!((slot.hash(), slot.sequence()), (hash, 0xfedc_ba98_7654));
        assert_eq!(slot.value(), 0x8877_6655_4433_2211);
        for (bytes, rounded) in [(0, 0), (1, 64), (64, 64), (65, 128), (4 << 20, (4 << 20) - 64)] {
            slot.set_bytes(bytes);
            assert_eq!(slot.bytes(), rounded);
        }
    }

    #[test]
    fn chunks_are_freed_and_their_room_is_used_again() {
        let mut slab = Slab::default();
        let put = |slab: &mut Slab, n: u32| {
            let mut slot = Slot::default();
            slot.set_sequence(u64::from(n));
            slab.insert(slot).unwrap()
        };
        let ids: Vec<u32> = (0..3 * CHUNK).map(|n| put(&mut slab, n)).collect();
        assert_eq!(slab.chunks(), 3);
        for (n, id) in ids.iter().enumerate() {
            assert_eq!(slab.get(*id).unwrap().sequence(), n as u64);
        }
        ids[..place(CHUNK)].iter().for_each(|id| slab.remove(*id));
        assert_eq!(slab.chunks(), 2, "an empty chunk is freed");
        ids[place(CHUNK)..place(CHUNK + ROOMY)].iter().for_each(|id| slab.remove(*id));
        let again: Vec<u32> = (0..ROOMY).map(|n| put(&mut slab, n)).collect();
        assert_eq!(slab.chunks(), 2, "free slots are used before a chunk is begun");
        put(&mut slab, 0);
        assert_eq!(slab.chunks(), 3);
        for (n, id) in again.iter().enumerate() {
            assert_eq!(slab.get(*id).unwrap().sequence(), n as u64);
        }
        assert_eq!(slab.get(ids[place(2 * CHUNK)]).unwrap().sequence(), u64::from(2 * CHUNK));
    }
}
