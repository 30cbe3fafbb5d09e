//! Sets of sequences: ordered, never copied whole.

use std::collections::BTreeMap;

/// Sequences of one block.
const BLOCK: u64 = 1_024;
const BLOCK_LEN: usize = 1_024;
const WORDS: usize = BLOCK_LEN / 64;

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

/// Runs of neighbours and far ones, some of which agree in their low 32 bits, so that blocks become dense, sparse and empty.
#[cfg(test)]
pub(super) fn neighbours_and_far_ones() -> Vec<u64> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut all: Vec<u64> = (5_000..9_000).chain((5_900..6_000).map(|n| n + (1 << 32))).collect();
    all.extend((0..500).map(|_| random.u64(..1 << 40)));
    random.shuffle(&mut all);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_set_does_as_a_set_does() {
        let (mut set, mut model) = (Sequences::default(), BTreeSet::new());
        let all = neighbours_and_far_ones();
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
}
