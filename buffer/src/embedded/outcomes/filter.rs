//! A Bloom filter of one run, in memory: says "certainly not here" for nearly every new key without a disk read.
//!
//! All bits of a key lie in one line of 64 bytes, so that asking costs one access to memory. A small run takes more bits
//! a key: together they hold little, and a new key must pass every one of them.

use super::super::journal::layout::{len32, size};

const LINE_BITS: u64 = 512;
/// With seven bits set for each key about one new key in 250 is looked up in vain in a large run, one in 1,000 in a small.
const BITS_PER_KEY: u64 = 12;
const BITS_PER_KEY_SMALL: u64 = 16;
const SMALL: u64 = 1 << 20;
const PROBES: u32 = 7;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; 8]);

/// The filter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    lines: Vec<Line>,
}

impl Filter {
    /// An empty one for so many keys.
    pub(super) fn new(keys: u64) -> Self {
        let bits = if keys < SMALL { BITS_PER_KEY_SMALL } else { BITS_PER_KEY };
        Self { lines: vec![Line([0; 8]); size((keys * bits).div_ceil(LINE_BITS).max(1))] }
    }

    /// One of so many lines, to be given its [`Filter::words`] back.
    pub(super) fn blank(lines: u32) -> Self {
        Self { lines: vec![Line([0; 8]); size(u64::from(lines))] }
    }

    /// Gives word `n` back.
    pub(super) fn set(&mut self, n: usize, word: u64) {
        if let Some(place) = self.lines.get_mut(n / 8).and_then(|Line(words)| words.get_mut(n % 8))
        {
            *place = word;
        }
    }

    /// Lines it consists of.
    pub(super) fn lines(&self) -> u32 {
        len32(self.lines.len())
    }

    /// Adds a key, by a hash of 96 bits that nobody outside can steer.
    pub(super) fn insert(&mut self, hash: u128) {
        let place = self.place(hash);
        if let Some(Line(words)) = self.lines.get_mut(place) {
            for (word, bits) in words.iter_mut().zip(pattern(hash)) {
                *word |= bits;
            }
        }
    }

    /// False only if the key was never added.
    pub(super) fn may_hold(&self, hash: u128) -> bool {
        let Some(Line(words)) = self.lines.get(self.place(hash)) else { return false };
        words.iter().zip(pattern(hash)).all(|(word, bits)| word & bits == bits)
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        (self.lines.len() * size_of::<Line>()) as u64
    }

    /// What it consists of, eight to a line.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().flat_map(|Line(words)| words).copied()
    }

    /// The key's line, by the upper 32 bits of its hash: neighbours in a run are neighbours here.
    fn place(&self, hash: u128) -> usize {
        let upper = hash >> 64 & u128::from(u32::MAX);
        usize::try_from((upper * self.lines.len() as u128) >> 32).unwrap_or(usize::MAX)
    }
}

/// The bits of a key in its line, by the lower 63 bits of its hash.
fn pattern(hash: u128) -> [u64; 8] {
    let mut line = [0; 8];
    for probe in 0..PROBES {
        let bit = size(u64::try_from(hash >> (9 * probe) & 0x1ff).unwrap_or_default());
        if let Some(word) = line.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_denies_what_was_added_and_rarely_affirms_what_was_not() {
        let mut random = fastrand::Rng::with_seed(7);
        for (keys, wrong_max) in [(100_000, 250), (SMALL, 700)] {
            let mut filter = Filter::new(keys);
            assert!(!filter.may_hold(1));
            let added: Vec<u128> = (0..keys).map(|_| random.u128(..) >> 32).collect();
            added.iter().for_each(|hash| filter.insert(*hash));
            assert!(added.iter().all(|hash| filter.may_hold(*hash)));
            let wrong = (0..100_000).filter(|_| filter.may_hold(random.u128(..) >> 32)).count();
            assert!(wrong < wrong_max, "{wrong} of 100000 new keys would be looked up in vain");
            let mut again = Filter::blank(filter.lines());
            (0..).zip(filter.words()).for_each(|(n, word)| again.set(n, word));
            assert_eq!(again, filter);
        }
    }
}
