//! From a key's hash to its slot: five bytes an entry, in small buckets that are split and merged one at a time.
//!
//! Linear hashing. A bucket holds its entries in no order, so that one is removed without a trace, and nothing larger
//! than one bucket is ever moved: there is no moment at which the table grows.

/// Mean entries of a bucket above which one is split, and below which two are merged.
const FULL: usize = 48;
const THIN: usize = 20;
const BUCKETS_MIN: usize = 1;
/// Buckets one part of the directory holds.
const PART: usize = 1_024;
/// Places a bucket gains when it is full, and may have too many.
const STEP: usize = 8;

/// One byte of the hash, then the slot's number.
type Entry = [u8; 5];

/// The slots of all keys.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Vec<Vec<Vec<Entry>>>,
    buckets: usize,
    /// Buckets before the current round of splits.
    round: usize,
    len: usize,
}

impl Default for Keys {
    fn default() -> Self {
        let mut keys = Self { parts: Vec::new(), buckets: 0, round: BUCKETS_MIN, len: 0 };
        (0..BUCKETS_MIN).for_each(|_| keys.add_bucket(Vec::new()));
        keys
    }
}

impl Keys {
    /// The slot of that hash; `is` verifies a candidate.
    pub(super) fn find(&self, hash: u128, is: impl Fn(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let bucket = self.bucket(self.home(hash))?;
        let candidates = bucket.iter().filter(|[other, ..]| *other == tag).map(slot);
        candidates.into_iter().find(|slot| is(*slot))
    }

    /// Adds a slot that is not in it. `hash_of` gives the hash of any slot that is.
    pub(super) fn insert(&mut self, hash: u128, slot: u32, hash_of: impl Fn(u32) -> u128) {
        let home = self.home(hash);
        if let Some(bucket) = self.bucket_mut(home) {
            put(bucket, entry(hash, slot));
            self.len += 1;
        }
        if self.len > FULL * self.buckets {
            self.split(hash_of);
        }
    }

    /// Removes a slot.
    pub(super) fn remove(&mut self, hash: u128, slot: u32) {
        let home = self.home(hash);
        let wanted = entry(hash, slot);
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

    /// Splits the next bucket of the round.
    fn split(&mut self, hash_of: impl Fn(u32) -> u128) {
        let from = self.buckets - self.round;
        let Some(bucket) = self.bucket_mut(from) else { return };
        let old = std::mem::take(bucket);
        let bit = self.round;
        let goes = |entry: &Entry| low(hash_of(slot(entry))) & bit != 0;
        let moved = old.iter().filter(|entry| goes(entry)).count();
        let mut stay = Vec::with_capacity(old.len() - moved + STEP / 2);
        let mut go = Vec::with_capacity(moved + STEP / 2);
        for entry in old {
            if goes(&entry) { go.push(entry) } else { stay.push(entry) }
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
        let low = low(hash);
        let home = low & (2 * self.round - 1);
        if home < self.buckets { home } else { low & (self.round - 1) }
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

fn entry(hash: u128, slot: u32) -> Entry {
    let [a, b, c, d] = slot.to_le_bytes();
    [tag(hash), a, b, c, d]
}

fn slot(&[_, a, b, c, d]: &Entry) -> u32 {
    u32::from_le_bytes([a, b, c, d])
}

/// A byte the bucket's number does not say.
fn tag(hash: u128) -> u8 {
    let [_, _, _, _, _, _, _, tag, ..] = hash.to_le_bytes();
    tag
}

fn low(hash: u128) -> usize {
    let [a, b, c, d, ..] = hash.to_le_bytes();
    usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_is_found_and_what_goes_out_is_not() {
        let mut random = fastrand::Rng::with_seed(5);
        let hashes: Vec<u128> = (0..200_000).map(|_| random.u128(..)).collect();
        let hash_of = |slot: u32| hashes[slot as usize];
        let find = |keys: &Keys, n: usize| keys.find(hashes[n], |slot| hash_of(slot) == hashes[n]);
        let mut keys = Keys::default();
        for (slot, hash) in (0..).zip(&hashes) {
            assert_eq!(keys.find(*hash, |other| hash_of(other) == *hash), None);
            keys.insert(*hash, slot, hash_of);
        }
        for (slot, n) in (0_u32..).zip(0..hashes.len()) {
            assert_eq!(find(&keys, n), Some(slot));
        }
        for (slot, hash) in (0..).zip(&hashes).filter(|(slot, _)| slot % 3 != 0) {
            keys.remove(*hash, slot);
        }
        for (slot, n) in (0_u32..).zip(0..hashes.len()) {
            assert_eq!(find(&keys, n), (slot % 3 == 0).then_some(slot));
        }
        for (slot, hash) in (0..).zip(&hashes).filter(|(slot, _)| slot % 3 == 0) {
            keys.remove(*hash, slot);
        }
        assert_eq!((keys.len, keys.buckets), (0, BUCKETS_MIN), "merged as it was split");
        let room: usize = keys.parts.iter().flatten().map(Vec::capacity).sum();
        assert!(room <= BUCKETS_MIN * 3 * STEP, "{room} places are kept for nothing");
    }
}
