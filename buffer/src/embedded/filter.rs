//! A Bloom filter that grows: says "certainly not here" for nearly every new key without a disk read.

/// Bits per key; with seven probes about one new key in a hundred is looked up in vain.
const BITS_PER_KEY: u64 = 10;
const PROBES: u64 = 7;
const FIRST_LAYER_KEYS: u64 = 1 << 14;

/// Layers, each made for twice the keys of the one before.
#[derive(Debug, Default)]
pub(super) struct Filter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    words: Vec<u64>,
    bits: u64,
    keys: u64,
    keys_max: u64,
}

impl Filter {
    /// Adds a key, by a hash that nobody outside can steer.
    pub(super) fn insert(&mut self, hash: u128) {
        if self.layers.last().is_none_or(|layer| layer.keys >= layer.keys_max) {
            let shift = u32::try_from(self.layers.len()).unwrap_or(u32::MAX).min(20);
            self.layers.push(Layer::new(FIRST_LAYER_KEYS << shift));
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.insert(hash);
        }
    }

    /// False only if the key was never added.
    pub(super) fn may_hold(&self, hash: u128) -> bool {
        self.layers.iter().any(|layer| layer.may_hold(hash))
    }
}

impl Layer {
    fn new(keys_max: u64) -> Self {
        let words = (keys_max * BITS_PER_KEY).div_ceil(64);
        let len = usize::try_from(words).unwrap_or(usize::MAX);
        Self { words: vec![0; len], bits: words * 64, keys: 0, keys_max }
    }

    fn insert(&mut self, hash: u128) {
        self.keys += 1;
        for bit in probes(hash, self.bits) {
            if let Some(word) = self.words.get_mut(index(bit)) {
                *word |= 1 << (bit % 64);
            }
        }
    }

    fn may_hold(&self, hash: u128) -> bool {
        probes(hash, self.bits)
            .all(|bit| self.words.get(index(bit)).is_some_and(|word| word & (1 << (bit % 64)) != 0))
    }
}

fn index(bit: u64) -> usize {
    usize::try_from(bit / 64).unwrap_or(usize::MAX)
}

fn probes(hash: u128, bits: u64) -> impl Iterator<Item = u64> {
    let low = hash & u128::from(u64::MAX);
    let (low, high) = (u64::try_from(low).unwrap_or(0), u64::try_from(hash >> 64).unwrap_or(0));
    (0..PROBES).map(move |n| low.wrapping_add(n.wrapping_mul(high | 1)) % bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_denies_what_was_added_and_rarely_affirms_what_was_not() {
        let mut random = fastrand::Rng::with_seed(7);
        let added: Vec<u128> = (0..100_000).map(|_| random.u128(..)).collect();
        let mut filter = Filter::default();
        assert!(!filter.may_hold(1));
        added.iter().for_each(|hash| filter.insert(*hash));
        assert!(added.iter().all(|hash| filter.may_hold(*hash)));
        let wrong = (0..100_000).filter(|_| filter.may_hold(random.u128(..))).count();
        assert!(wrong < 5_000, "{wrong} of 100000 new keys would be looked up in vain");
    }
}
