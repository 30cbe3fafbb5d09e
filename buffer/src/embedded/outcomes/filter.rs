//! A Bloom filter of one run, in memory: says "certainly not here" for nearly every new key without a disk read.
//!
//! All bits of a key lie in one line of 64 bytes, so that asking costs one access to memory. A small run takes more bits
//! a key: together they hold little, and a new key must pass every one of them.

use super::super::journal::layout::size;
use crate::codec::len32;

const LINE_BITS: u64 = 512;
/// With seven bits set for each key about one new key in 250 is looked up in vain in a large run, one in 1,000 in a small.
const BITS_PER_KEY: u64 = 12;
const BITS_PER_KEY_SMALL: u64 = 16;
const SMALL: u64 = 1 << 22;
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
        Self::of(keys, if keys < SMALL { BITS_PER_KEY_SMALL } else { BITS_PER_KEY })
    }

    fn of(keys: u64, bits: u64) -> Self {
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

    /// Adds a key.
    pub(super) fn insert(&mut self, key: &Probe) {
        let place = key.place(self.lines.len());
        if let Some(Line(words)) = self.lines.get_mut(place) {
            words.iter_mut().zip(key.pattern).for_each(|(word, bits)| *word |= bits);
        }
    }

    /// False only if the key was never added.
    pub(super) fn may_hold(&self, key: &Probe) -> bool {
        let Some(Line(words)) = self.lines.get(key.place(self.lines.len())) else { return false };
        words.iter().zip(key.pattern).all(|(word, bits)| word & bits == bits)
    }

    /// The same by one word of the eight: brings the key's line from memory, and denies half of the keys never added.
    pub(super) fn glance(&self, key: &Probe) -> bool {
        let line = self.lines.get(key.place(self.lines.len()));
        let word = line.and_then(|Line(words)| words.get(key.first));
        word.is_some_and(|word| word & key.bits == key.bits)
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> u64 {
        (self.lines.len() * size_of::<Line>()) as u64
    }

    /// What it consists of, eight to a line.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        self.lines.iter().flat_map(|Line(words)| words).copied()
    }
}

/// A key as filters are asked for it, by a hash of 96 bits that nobody outside can steer.
#[derive(Debug)]
pub(super) struct Probe {
    upper: u32,
    /// Its bits in its line, by the lower 63 bits of its hash.
    pattern: [u64; 8],
    /// One of the words that has any, and those.
    first: usize,
    bits: u64,
}

impl Probe {
    pub(super) fn of(hash: u128) -> Self {
        let bit = |n: u32| size(u64::try_from(hash >> (9 * n) & 0x1ff).unwrap_or_default());
        let mut pattern = [0; 8];
        for bit in (0..PROBES).map(bit) {
            if let Some(word) = pattern.get_mut(bit / 64) {
                *word |= 1 << (bit % 64);
            }
        }
        let first = bit(0) / 64;
        let bits = pattern.get(first).copied().unwrap_or_default();
        Self { upper: upper(hash), pattern, first, bits }
    }

    /// Its line of so many, by the upper 32 bits of its hash: neighbours in a run are neighbours here.
    fn place(&self, lines: usize) -> usize {
        size((u64::from(self.upper) * lines as u64) >> 32)
    }
}

/// The upper bits of a hash.
pub(super) fn upper(hash: u128) -> u32 {
    u32::try_from(hash >> 64 & u128::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_denies_what_was_added_and_rarely_affirms_what_was_not() {
        let mut random = fastrand::Rng::with_seed(7);
        for (bits, wrong_max) in [(BITS_PER_KEY_SMALL, 250), (BITS_PER_KEY, 700)] {
            let mut filter = Filter::of(100_000, bits);
            let mut probe = || Probe::of(random.u128(..) >> 32);
            assert!(!filter.may_hold(&probe()));
            let added: Vec<_> = (0..100_000).map(|_| probe()).collect();
            added.iter().for_each(|key| filter.insert(key));
            assert!(added.iter().all(|key| filter.glance(key) && filter.may_hold(key)));
            let wrong = (0..100_000).filter(|_| filter.may_hold(&probe())).count();
            assert!(wrong < wrong_max, "{wrong} of 100000 new keys would be looked up in vain");
            let glanced = (0..100_000).filter(|_| filter.glance(&probe())).count();
            assert!(glanced < 60_000, "{glanced} of 100000 pass at a glance");
            let mut again = Filter::blank(filter.lines());
            (0..).zip(filter.words()).for_each(|(n, word)| again.set(n, word));
            assert_eq!(again, filter);
        }
    }
}
