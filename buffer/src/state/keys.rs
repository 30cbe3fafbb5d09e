//! From a key's hash to its order: five bytes an entry, in small buckets that are split and merged one at a time.
//!
//! Linear hashing. A bucket holds its entries in no order, so that one is removed without a trace, and nothing larger
//! than one bucket is ever moved: there is no moment at which the table grows.

use std::collections::BTreeMap;

use super::slab::{Slab, Slot};

/// Mean entries of a bucket above which one is split, and below which two are merged.
const FULL: usize = 48;
const THIN: usize = 20;
const BUCKETS_MIN: usize = 1;
/// Buckets one part of the directory holds.
const PART: usize = 1_024;
/// Places a bucket gains when it is full, and may have too many.
const STEP: usize = 8;

/// One byte of the hash, then the low 32 bits of the sequence.
type Entry = [u8; 5];

/// The orders of all keys, by sequence.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Vec<Vec<Vec<Entry>>>,
    buckets: usize,
    /// Buckets before the current round of splits.
    round: usize,
    len: usize,
    /// Orders that came while another was there whose sequence has the same low 32 bits, as one that has waited for a person while four
    /// billion came. They have no entry, as long as they are there; their hashes, while their keys are theirs.
    far: BTreeMap<u64, Option<u128>>,
}

impl Default for Keys {
    fn default() -> Self {
        let (parts, far) = (Vec::new(), BTreeMap::new());
        let mut keys = Self { parts, buckets: 0, round: BUCKETS_MIN, len: 0, far };
        (0..BUCKETS_MIN).for_each(|_| keys.add_bucket(Vec::new()));
        keys
    }
}

impl Keys {
    /// The order of that hash.
    pub(super) fn find(&self, hash: u128, slab: &Slab) -> Option<u64> {
        let tag = tag(hash);
        let bucket = self.bucket(self.home(hash))?;
        let mut candidates = bucket.iter().filter(|[other, ..]| *other == tag).map(low_of);
        let is = |(_, slot): &(u64, &Slot)| slot.hash() == hash;
        let near = candidates.find_map(|low| self.near(low, slab).filter(is));
        let far = || self.far.iter().find(|(_, other)| **other == Some(hash));
        near.map(|(sequence, _)| sequence).or_else(|| far().map(|(sequence, _)| *sequence))
    }

    /// Adds an order that has a slot and no key yet.
    pub(super) fn insert(&mut self, hash: u128, sequence: u64, slab: &Slab) {
        if slab.has_another_like(sequence) {
            self.far.insert(sequence, Some(hash));
            return;
        }
        let home = self.home(hash);
        if let Some(bucket) = self.bucket_mut(home) {
            put(bucket, entry(hash, low_bits(sequence)));
            self.len += 1;
        }
        if self.len > FULL * self.buckets {
            self.split(slab);
        }
    }

    /// The key is another order's from now on.
    pub(super) fn remove(&mut self, hash: u128, sequence: u64) {
        if let Some(own) = self.far.get_mut(&sequence) {
            *own = None;
            return;
        }
        let home = self.home(hash);
        let wanted = entry(hash, low_bits(sequence));
        let Some(bucket) = self.bucket_mut(home) else { return };
        let Some(at) = bucket.iter().position(|entry| *entry == wanted) else { return };
        bucket.swap_remove(at);
        if bucket.capacity() - bucket.len() > 2 * STEP {
            bucket.shrink_to(bucket.len() + STEP);
        }
        self.len -= 1;
        if self.len < THIN * self.buckets && self.buckets > BUCKETS_MIN {
            self.merge();
        }
    }

    /// The order is there no more.
    pub(super) fn forget(&mut self, hash: u128, sequence: u64) {
        self.remove(hash, sequence);
        self.far.remove(&sequence);
    }

    /// The one order with an entry of these low bits: whichever came while it was there is far.
    fn near<'a>(&self, low: u32, slab: &'a Slab) -> Option<(u64, &'a Slot)> {
        slab.with_low(low).find(|(sequence, _)| !self.far.contains_key(sequence))
    }

    /// Splits the next bucket of the round.
    fn split(&mut self, slab: &Slab) {
        let from = self.buckets - self.round;
        let Some(bucket) = self.bucket_mut(from) else { return };
        let old = std::mem::take(bucket);
        let bit = self.round;
        let goes = |entry: &Entry| {
            let near = self.near(low_of(entry), slab);
            near.is_some_and(|(_, slot)| address(slot.hash()) & bit != 0)
        };
        let goes: Vec<bool> = old.iter().map(goes).collect();
        let moved = goes.iter().filter(|goes| **goes).count();
        let mut stay = Vec::with_capacity(old.len() - moved + STEP / 2);
        let mut go = Vec::with_capacity(moved + STEP / 2);
        for (entry, goes) in old.into_iter().zip(goes) {
            if goes { go.push(entry) } else { stay.push(entry) }
        }
        if let Some(bucket) = self.bucket_mut(from) {
            *bucket = stay;
        }
        self.add_bucket(go);
        if self.buckets == 2 * self.round {
            self.round = self.buckets;
        }
    }

    /// Undoes the last split.
    fn merge(&mut self) {
        if self.buckets == self.round {
            self.round /= 2;
        }
        let Some(last) = self.parts.last_mut().and_then(Vec::pop) else { return };
        if self.parts.last().is_some_and(Vec::is_empty) {
            self.parts.pop();
        }
        self.buckets -= 1;
        let into = self.buckets - self.round;
        if let Some(bucket) = self.bucket_mut(into) {
            bucket.reserve_exact(last.len());
            bucket.extend(last);
        }
    }

    /// Bytes it takes, with what an allocation costs.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let entries = |bucket: &Vec<Entry>| bucket.capacity() * size_of::<Entry>();
        let allocated = |bytes: usize| (bytes + 8).next_multiple_of(16).max(32);
        let buckets = self.parts.iter().flatten();
        buckets.map(|bucket| allocated(entries(bucket))).sum::<usize>()
            + self.parts.len() * PART * size_of::<Vec<Entry>>()
    }

    fn home(&self, hash: u128) -> usize {
        let address = address(hash);
        let home = address & (2 * self.round - 1);
        if home < self.buckets { home } else { address & (self.round - 1) }
    }

    fn bucket(&self, number: usize) -> Option<&Vec<Entry>> {
        self.parts.get(number / PART)?.get(number % PART)
    }

    fn bucket_mut(&mut self, number: usize) -> Option<&mut Vec<Entry>> {
        self.parts.get_mut(number / PART)?.get_mut(number % PART)
    }

    fn add_bucket(&mut self, bucket: Vec<Entry>) {
        if self.buckets.is_multiple_of(PART) {
            // The first part of all grows as it fills, so that a table of one key costs little.
            let size = if self.buckets == 0 { BUCKETS_MIN } else { PART };
            self.parts.push(Vec::with_capacity(size));
        }
        if let Some(part) = self.parts.last_mut() {
            part.push(bucket);
        }
        self.buckets += 1;
    }
}

fn put(bucket: &mut Vec<Entry>, entry: Entry) {
    if bucket.len() == bucket.capacity() {
        bucket.reserve_exact(STEP);
    }
    bucket.push(entry);
}

fn entry(hash: u128, low: u32) -> Entry {
    let [a, b, c, d] = low.to_le_bytes();
    [tag(hash), a, b, c, d]
}

fn low_of(&[_, a, b, c, d]: &Entry) -> u32 {
    u32::from_le_bytes([a, b, c, d])
}

fn low_bits(sequence: u64) -> u32 {
    u32::try_from(sequence & u64::from(u32::MAX)).unwrap_or_default()
}

/// A byte the bucket's number does not say.
fn tag(hash: u128) -> u8 {
    let [_, _, _, _, _, _, _, tag, ..] = hash.to_le_bytes();
    tag
}

fn address(hash: u128) -> usize {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(hash: u128) -> Slot {
        let mut slot = Slot::default();
        slot.set_hash(hash);
        slot
    }

    #[test]
    fn what_goes_in_is_found_and_what_goes_out_is_not() {
        let mut random = fastrand::Rng::with_seed(5);
        let hashes: Vec<u128> = (0..200_000).map(|_| random.u128(..) >> 32).collect();
        let (mut keys, mut slab) = (Keys::default(), Slab::default());
        for (sequence, hash) in (0..).zip(&hashes) {
            assert_eq!(keys.find(*hash, &slab), None);
            slab.insert(sequence, slot(*hash));
            keys.insert(*hash, sequence, &slab);
        }
        for (sequence, hash) in (0..).zip(&hashes) {
            assert_eq!(keys.find(*hash, &slab), Some(sequence));
        }
        let all = || (0_u64..).zip(&hashes);
        for (sequence, hash) in all().filter(|(n, _)| n % 3 != 0) {
            keys.forget(*hash, sequence);
            slab.remove(sequence);
        }
        for (sequence, hash) in all() {
            let there = (sequence % 3 == 0).then_some(sequence);
            assert_eq!(keys.find(*hash, &slab), there);
        }
        for (sequence, hash) in all().filter(|(n, _)| n % 3 == 0) {
            keys.forget(*hash, sequence);
            slab.remove(sequence);
        }
        assert_eq!((keys.len, keys.buckets), (0, BUCKETS_MIN), "merged as it was split");
        let room: usize = keys.parts.iter().flatten().map(Vec::capacity).sum();
        assert!(room <= BUCKETS_MIN * 3 * STEP, "{room} places are kept for nothing");
    }

    /// Hashes that agree in all that an entry and its bucket say of them, at sequences that agree in what an entry says, too.
    #[test]
    fn orders_whose_entries_would_be_the_same_are_told_apart_through_splits_and_merges() {
        let mut random = fastrand::Rng::with_seed(7);
        let alike = |n: u64| u128::from(n % 20) | (u128::from(n) << 64);
        let sequence_of = |n: u64| ((n % 5) << 32) | ((n / 5) % 40);
        let (mut keys, mut slab) = (Keys::default(), Slab::default());
        let mut model = BTreeMap::new();
        for n in 0..20_000 {
            // Others fill and empty the table, so that its buckets are split and merged.
            let (hash, sequence) = match random.bool() {
                true => (alike(random.u64(..200)), sequence_of(random.u64(..200))),
                false => (random.u128(..) >> 32, (1 << 20) + random.u64(..4_000)),
            };
            let held: Option<u128> = slab.get(sequence).map(Slot::hash);
            if let Some(held) = held {
                keys.forget(held, sequence);
                slab.remove(sequence);
                // Its key may be another's already.
                if model.get(&held) == Some(&sequence) {
                    model.remove(&held);
                }
            } else {
                if let Some(earlier) = keys.find(hash, &slab) {
                    keys.remove(hash, earlier);
                }
                slab.insert(sequence, slot(hash));
                keys.insert(hash, sequence, &slab);
                model.insert(hash, sequence);
            }
            if n % 100 == 0 {
                for (hash, sequence) in &model {
                    assert_eq!(keys.find(*hash, &slab), Some(*sequence), "{hash:x}");
                }
            }
        }
        assert!(!keys.far.is_empty());
        let held: Vec<_> = slab.range(0, u64::MAX).collect();
        for sequence in held {
            keys.forget(slab.get(sequence).unwrap().hash(), sequence);
            slab.remove(sequence);
        }
        assert_eq!((keys.len, keys.buckets, keys.far.len()), (0, BUCKETS_MIN, 0));
    }
}
