//! Sets and maps of sequences: dense where orders are young, sparse where few are left, ordered, never copied whole.

use std::collections::BTreeMap;

/// Sequences of one block.
const BLOCK: u64 = 1_024;
const BLOCK_LEN: usize = 1_024;
const WORDS: usize = BLOCK_LEN / 64;
/// Above so many of a block an array is smaller than a list.
const DENSE: usize = 256;
const SPARSE: usize = 128;
const EMPTY: u32 = u32::MAX;

/// A set of sequences: a bit each, in blocks that are there while anything is in them.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    blocks: BTreeMap<u64, [u64; WORDS]>,
    len: u64,
}

impl Sequences {
    pub(super) fn insert(&mut self, sequence: u64) {
        let block = self.blocks.entry(sequence / BLOCK).or_default();
        let (word, bit) = place(sequence);
        if let Some(word) = block.get_mut(word) {
            self.len += u64::from(*word & bit == 0);
            *word |= bit;
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let number = sequence / BLOCK;
        let Some(block) = self.blocks.get_mut(&number) else { return };
        let (word, bit) = place(sequence);
        if let Some(word) = block.get_mut(word) {
            self.len -= u64::from(*word & bit != 0);
            *word &= !bit;
        }
        if block.iter().all(|word| *word == 0) {
            self.blocks.remove(&number);
        }
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        let (word, bit) = place(sequence);
        let block = self.blocks.get(&(sequence / BLOCK));
        block.and_then(|block| block.get(word)).is_some_and(|word| word & bit != 0)
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u64> {
        self.iter().next()
    }

    pub(super) fn last(&self) -> Option<u64> {
        let (number, block) = self.blocks.last_key_value()?;
        let (index, word) = block.iter().enumerate().rev().find(|(_, word)| **word != 0)?;
        Some(number * BLOCK + index as u64 * 64 + u64::from(63 - word.leading_zeros()))
    }

    /// All of them, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flat_map(|(number, block)| {
            let first = number * BLOCK;
            block.iter().zip(0_u64..).flat_map(move |(word, index)| {
                let mut left = *word;
                std::iter::from_fn(move || {
                    let bit = u64::from((left != 0).then(|| left.trailing_zeros())?);
                    left &= left - 1;
                    Some(first + index * 64 + bit)
                })
            })
        })
    }
}

fn place(sequence: u64) -> (usize, u64) {
    let within = sequence % BLOCK;
    (usize::try_from(within / 64).unwrap_or_default(), 1 << (within % 64))
}

/// From sequences to slots: about four bytes an entry where nearly every sequence is an order's, eight where few are.
#[derive(Debug, Default)]
pub(super) struct Slots {
    blocks: BTreeMap<u64, Block>,
}

#[derive(Debug)]
enum Block {
    /// By ascending sequence within the block.
    Sparse(Vec<(u16, u32)>),
    Dense {
        slots: Box<[u32]>,
        len: usize,
    },
}

impl Slots {
    pub(super) fn get(&self, sequence: u64) -> Option<u32> {
        let within = within(sequence);
        match self.blocks.get(&(sequence / BLOCK))? {
            Block::Sparse(list) => {
                let at = list.binary_search_by_key(&within, |(within, _)| *within).ok()?;
                list.get(at).map(|(_, slot)| *slot)
            }
            Block::Dense { slots, .. } => {
                slots.get(usize::from(within)).copied().filter(|slot| *slot != EMPTY)
            }
        }
    }

    /// Adds one that is not in it.
    pub(super) fn insert(&mut self, sequence: u64, slot: u32) {
        let within = within(sequence);
        let block = self.blocks.entry(sequence / BLOCK);
        let block = block.or_insert_with(|| Block::Sparse(Vec::new()));
        match block {
            Block::Sparse(list) => {
                let at = list.partition_point(|(other, _)| *other < within);
                list.insert(at, (within, slot));
                if list.len() > DENSE {
                    *block = dense(list);
                }
            }
            Block::Dense { slots, len } => {
                if let Some(place) = slots.get_mut(usize::from(within)) {
                    *len += usize::from(*place == EMPTY);
                    *place = slot;
                }
            }
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let (number, within) = (sequence / BLOCK, within(sequence));
        let Some(block) = self.blocks.get_mut(&number) else { return };
        let left = match block {
            Block::Sparse(list) => {
                list.retain(|(other, _)| *other != within);
                list.len()
            }
            Block::Dense { slots, len } => {
                if let Some(place) = slots.get_mut(usize::from(within)) {
                    *len -= usize::from(*place != EMPTY);
                    *place = EMPTY;
                }
                let left = *len;
                if left < SPARSE {
                    *block = sparse(slots, left);
                }
                left
            }
        };
        if left == 0 {
            self.blocks.remove(&number);
        }
    }

    /// Sequences from `first` to `last` that have a slot, ascending.
    pub(super) fn range(&self, first: u64, last: u64) -> impl Iterator<Item = u64> {
        let blocks = (first <= last).then(|| self.blocks.range(first / BLOCK..=last / BLOCK));
        let all = blocks.into_iter().flatten().flat_map(|(number, block)| {
            let base = number * BLOCK;
            let (list, slots): (&[(u16, u32)], &[u32]) = match block {
                Block::Sparse(list) => (list, &[]),
                Block::Dense { slots, .. } => (&[], slots),
            };
            let used = slots.iter().zip(0_u64..).filter(|(slot, _)| **slot != EMPTY);
            let listed = list.iter().map(|(within, _)| u64::from(*within));
            listed.chain(used.map(|(_, within)| within)).map(move |within| base + within)
        });
        all.filter(move |sequence| (first..=last).contains(sequence))
    }
}

/// Bytes the blocks of a map take, the map's nodes being half full.
#[cfg(test)]
fn blocks_bytes<T>(blocks: &BTreeMap<u64, T>) -> usize {
    2 * blocks.len() * (size_of::<u64>() + size_of::<T>())
}

#[cfg(test)]
impl Sequences {
    pub(super) fn bytes(&self) -> usize {
        blocks_bytes(&self.blocks)
    }
}

#[cfg(test)]
impl Slots {
    pub(super) fn bytes(&self) -> usize {
        let block = |block: &Block| match block {
            Block::Sparse(list) => list.capacity() * size_of::<(u16, u32)>(),
            Block::Dense { slots, .. } => size_of_val::<[u32]>(slots),
        };
        blocks_bytes(&self.blocks) + self.blocks.values().map(block).sum::<usize>()
    }
}

fn within(sequence: u64) -> u16 {
    u16::try_from(sequence % BLOCK).unwrap_or_default()
}

fn dense(list: &[(u16, u32)]) -> Block {
    let mut slots = vec![EMPTY; BLOCK_LEN].into_boxed_slice();
    for (within, slot) in list {
        if let Some(place) = slots.get_mut(usize::from(*within)) {
            *place = *slot;
        }
    }
    Block::Dense { slots, len: list.len() }
}

fn sparse(slots: &[u32], len: usize) -> Block {
    let mut list = Vec::with_capacity(len);
    list.extend((0..).zip(slots.iter().copied()).filter(|(_, slot)| *slot != EMPTY));
    Block::Sparse(list)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Runs of neighbours and far ones, so that blocks become dense, sparse and empty.
    fn sequences() -> Vec<u64> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut all: Vec<u64> = (5_000..9_000).collect();
        all.extend((0..500).map(|_| random.u64(..1 << 40)));
        random.shuffle(&mut all);
        all
    }

    #[test]
    fn a_set_does_as_a_set_does() {
        let (mut set, mut model) = (Sequences::default(), BTreeSet::new());
        let all = sequences();
        let same = |set: &Sequences, model: &BTreeSet<u64>| {
            assert_eq!(set.len(), model.len() as u64);
            assert_eq!((set.first(), set.last()), (model.first().copied(), model.last().copied()));
            assert!(set.iter().eq(model.iter().copied()));
        };
        for sequence in &all {
            set.insert(*sequence);
            set.insert(*sequence);
            model.insert(*sequence);
        }
        same(&set, &model);
        for (n, sequence) in all.iter().enumerate() {
            assert!(set.contains(*sequence));
            set.remove(*sequence);
            set.remove(*sequence);
            model.remove(sequence);
            assert!(!set.contains(*sequence));
            if n % 500 == 0 {
                same(&set, &model);
            }
        }
        assert!(set.blocks.is_empty());
    }

    #[test]
    fn a_map_does_as_a_map_does() {
        let (mut slots, mut model) = (Slots::default(), BTreeMap::new());
        let all = sequences();
        for (slot, sequence) in (0..).zip(&all) {
            slots.insert(*sequence, slot);
            model.insert(*sequence, slot);
        }
        for (n, sequence) in all.iter().enumerate() {
            assert_eq!(slots.get(*sequence), model.get(sequence).copied());
            if n % 500 == 0 {
                for (first, last) in [(0, u64::MAX), (5_100, 8_700), (7, 6), (5_500, 5_500)] {
                    let expected = model.keys().filter(|key| (first..=last).contains(*key));
                    assert!(slots.range(first, last).eq(expected.copied()), "{first} to {last}");
                }
            }
            slots.remove(*sequence);
            model.remove(sequence);
            assert_eq!(slots.get(*sequence), None);
        }
        assert!(slots.blocks.is_empty());
    }
}
