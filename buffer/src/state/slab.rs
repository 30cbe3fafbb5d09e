//! Where orders are kept in memory: slots of 40 bytes, in blocks by their sequence. A block is dense where most of its sequences are
//! orders that are still there, and a list where few are; nothing larger than one block is ever moved.

use std::collections::BTreeMap;

/// Sequences of one block: 40 KiB where it is dense, so that to begin one costs no pause.
const BLOCK: u64 = 1_024;
const BLOCK_LEN: usize = 1_024;
/// A list of more than so many becomes dense, and a dense block of fewer a list.
const DENSE: usize = 512;
const SPARSE: usize = 256;
/// Places a list gains when it is full.
const STEP: usize = 16;
/// Blocks in which sequences agree in all but their low 32 bits.
const AGREEING: u64 = (1 << 32) / BLOCK;

/// One order, packed. What does not fit stands in its detail; its sequence is where it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    /// 96 bits, low words first.
    hash: [u32; 3],
    pub(super) epoch: u32,
    pub(super) offset: u32,
    pub(super) accepted_at_s: u32,
    value: [u32; 2],
    pub(super) flags: u32,
    /// Bytes of the body in units of 64, rounded up.
    units: u16,
    pub(super) has_detail: bool,
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

/// All slots, by the sequences of their orders.
#[derive(Debug, Default)]
pub(super) struct Slab {
    blocks: BTreeMap<u64, Block>,
    /// What the sequences have above their low 32 bits, ascending, and how many blocks have it: hardly ever more than one.
    highs: Vec<(u64, usize)>,
}

#[derive(Debug)]
enum Block {
    /// By ascending sequence within the block.
    Sparse(Vec<(u16, Slot)>),
    Dense {
        slots: Box<[Option<Slot>]>,
        len: usize,
    },
}

impl Slab {
    pub(super) fn get(&self, sequence: u64) -> Option<&Slot> {
        self.blocks.get(&(sequence / BLOCK))?.get(within(sequence))
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Slot> {
        self.blocks.get_mut(&(sequence / BLOCK))?.get_mut(within(sequence))
    }

    /// Keeps the slot of an order that has none.
    pub(super) fn insert(&mut self, sequence: u64, slot: Slot) {
        let number = sequence / BLOCK;
        let block = self.blocks.entry(number).or_insert_with(|| {
            let high = number / AGREEING;
            match self.highs.binary_search_by_key(&high, |(high, _)| *high) {
                Ok(at) => self.highs.get_mut(at).into_iter().for_each(|(_, blocks)| *blocks += 1),
                Err(at) => self.highs.insert(at, (high, 1)),
            }
            Block::Sparse(Vec::new())
        });
        block.insert(within(sequence), slot);
    }

    /// Drops the slot of an order.
    pub(super) fn remove(&mut self, sequence: u64) {
        let number = sequence / BLOCK;
        let Some(block) = self.blocks.get_mut(&number) else { return };
        if block.remove(within(sequence)) > 0 {
            return;
        }
        self.blocks.remove(&number);
        let high = number / AGREEING;
        if let Ok(at) = self.highs.binary_search_by_key(&high, |(high, _)| *high) {
            let left = self.highs.get_mut(at).map_or(0, |(_, blocks)| {
                *blocks -= 1;
                *blocks
            });
            if left == 0 {
                self.highs.remove(at);
            }
        }
    }

    /// Sequences from `first` to `last` that have a slot, ascending.
    pub(super) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = u64> {
        let blocks = (first <= last).then(|| self.blocks.range(first / BLOCK..=last / BLOCK));
        let all = blocks.into_iter().flatten().flat_map(|(number, block)| {
            let base = number * BLOCK;
            let (list, slots): (&[(u16, Slot)], &[Option<Slot>]) = match block {
                Block::Sparse(list) => (list, &[]),
                Block::Dense { slots, .. } => (&[], slots),
            };
            let used = slots.iter().zip(0_u64..).filter(|(slot, _)| slot.is_some());
            let listed = list.iter().map(|(within, _)| u64::from(*within));
            listed.chain(used.map(|(_, within)| within)).map(move |within| base + within)
        });
        all.filter(move |sequence| (first..=last).contains(sequence))
    }

    /// Sequences with these low 32 bits that have a slot, ascending, with it. Only those that are taken are looked for.
    pub(super) fn with_low(&self, low: u32) -> impl Iterator<Item = (u64, &Slot)> {
        self.may_have_low(low).filter_map(|sequence| Some((sequence, self.get(sequence)?)))
    }

    /// Whether an order other than this one has the low 32 bits of its sequence.
    pub(super) fn has_another_like(&self, sequence: u64) -> bool {
        let low = word(u128::from(sequence));
        let mut others = self.may_have_low(low).filter(|other| *other != sequence);
        others.any(|other| self.get(other).is_some())
    }

    fn may_have_low(&self, low: u32) -> impl Iterator<Item = u64> {
        self.highs.iter().map(move |(high, _)| high << 32 | u64::from(low))
    }

    /// Bytes it takes, the map's nodes being half full.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let block = |block: &Block| match block {
            Block::Sparse(list) => list.capacity() * size_of::<(u16, Slot)>(),
            Block::Dense { slots, .. } => size_of_val(&**slots),
        };
        2 * self.blocks.len() * (size_of::<u64>() + size_of::<Block>())
            + self.blocks.values().map(block).sum::<usize>()
    }
}

impl Block {
    fn get(&self, within: u16) -> Option<&Slot> {
        match self {
            Self::Sparse(list) => list.get(position(list, within).ok()?).map(|(_, slot)| slot),
            Self::Dense { slots, .. } => slots.get(usize::from(within))?.as_ref(),
        }
    }

    fn get_mut(&mut self, within: u16) -> Option<&mut Slot> {
        match self {
            Self::Sparse(list) => {
                let at = position(list, within).ok()?;
                list.get_mut(at).map(|(_, slot)| slot)
            }
            Self::Dense { slots, .. } => slots.get_mut(usize::from(within))?.as_mut(),
        }
    }

    fn insert(&mut self, within: u16, slot: Slot) {
        match self {
            Self::Sparse(list) => {
                if list.len() == list.capacity() {
                    list.reserve_exact(STEP);
                }
                if let Err(at) = position(list, within) {
                    list.insert(at, (within, slot));
                }
                if list.len() > DENSE {
                    *self = dense(list);
                }
            }
            Self::Dense { slots, len } => {
                if let Some(place) = slots.get_mut(usize::from(within)) {
                    *len += usize::from(place.replace(slot).is_none());
                }
            }
        }
    }

    /// How many are left.
    fn remove(&mut self, within: u16) -> usize {
        match self {
            Self::Sparse(list) => {
                if let Ok(at) = position(list, within) {
                    list.remove(at);
                }
                list.len()
            }
            Self::Dense { slots, len } => {
                let place = slots.get_mut(usize::from(within));
                *len -= usize::from(place.is_some_and(|place| place.take().is_some()));
                let left = *len;
                if left < SPARSE {
                    *self = sparse(slots, left);
                }
                left
            }
        }
    }
}

fn position(list: &[(u16, Slot)], within: u16) -> Result<usize, usize> {
    // The newest come and the oldest go first.
    match (list.first(), list.last()) {
        (Some((first, _)), _) if *first == within => Ok(0),
        (_, Some((last, _))) if *last < within => Err(list.len()),
        _ => list.binary_search_by_key(&within, |(within, _)| *within),
    }
}

fn within(sequence: u64) -> u16 {
    u16::try_from(sequence % BLOCK).unwrap_or_default()
}

fn dense(list: &[(u16, Slot)]) -> Block {
    let mut slots = vec![None; BLOCK_LEN].into_boxed_slice();
    for (within, slot) in list {
        if let Some(place) = slots.get_mut(usize::from(*within)) {
            *place = Some(*slot);
        }
    }
    Block::Dense { slots, len: list.len() }
}

fn sparse(slots: &[Option<Slot>], len: usize) -> Block {
    let mut list = Vec::with_capacity(len);
    list.extend((0..).zip(slots).filter_map(|(within, slot)| Some((within, (*slot)?))));
    Block::Sparse(list)
}

#[cfg(test)]
mod tests {
    use super::super::sequences::neighbours_and_far_ones;
    use super::*;

    #[test]
    fn a_slot_gives_back_what_it_was_given_in_40_bytes_also_where_there_may_be_none() {
        assert_eq!((size_of::<Slot>(), size_of::<Option<Slot>>()), (40, 40));
        let mut slot = Slot::default();
        let hash = 0x0123_4567_89ab_cdef_0011_2233_u128;
        slot.set_hash(hash);
        slot.set_value(0x8877_6655_4433_2211);
        assert_eq!(slot.hash(), hash);
        assert_eq!(slot.value(), 0x8877_6655_4433_2211);
        for (bytes, rounded) in [(0, 0), (1, 64), (64, 64), (65, 128), (4 << 20, (4 << 20) - 64)] {
            slot.set_bytes(bytes);
            assert_eq!(slot.bytes(), rounded);
        }
    }

    #[test]
    fn a_slab_does_as_a_map_does() {
        let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
        let all = neighbours_and_far_ones();
        for (n, sequence) in (0..).zip(&all) {
            slab.insert(*sequence, Slot { offset: n, ..Slot::default() });
            model.insert(*sequence, n);
        }
        for (n, sequence) in all.iter().enumerate() {
            let found = slab.get(*sequence).map(|slot| slot.offset);
            assert_eq!(found, model.get(sequence).copied());
            if n % 500 == 0 {
                for (first, last) in [(0, u64::MAX), (5_100, 8_700), (7, 6), (5_500, 5_500)] {
                    let expected = model.keys().filter(|key| (first..=last).contains(*key));
                    assert!(slab.range(first, last).eq(expected.copied()), "{first} to {last}");
                }
                let low = u32::try_from(sequence % (1 << 32)).unwrap();
                let expected = model.keys().filter(|key| *key % (1 << 32) == sequence % (1 << 32));
                let found = slab.with_low(low).map(|(sequence, _)| sequence);
                assert!(found.eq(expected.copied()), "{low}");
            }
            if let Some(slot) = slab.get_mut(*sequence) {
                slot.offset = u32::MAX;
            }
            assert!(slab.get(*sequence).is_none_or(|slot| slot.offset == u32::MAX));
            slab.remove(*sequence);
            model.remove(sequence);
            assert!(slab.get(*sequence).is_none());
        }
        assert!(slab.blocks.is_empty() && slab.highs.is_empty());
    }
}
