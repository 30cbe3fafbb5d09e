//! Sizes and checksums that every part of the format shares.

/// Everything starts at a multiple of this.
pub(in crate::embedded) const BLOCK: u64 = 4096;
/// Where the first group of a segment stands, after the two copies of the header.
pub(in crate::embedded) const GROUPS_AT: u64 = 2 * BLOCK;
/// The largest group.
pub(in crate::embedded) const GROUP_MAX: u64 = 4 << 20;
/// The smallest slot: two headers, some groups, a seal.
pub(in crate::embedded) const SLOT_MIN: u64 = 8 * BLOCK;
/// The largest slot.
pub(in crate::embedded) const SLOT_MAX: u64 = 1 << 30;

/// The largest group a slot of that size takes, leaving room for the headers and a seal of one block.
pub(in crate::embedded) fn group_max(slot_bytes: u64) -> u64 {
    GROUP_MAX.min(slot_bytes.saturating_sub(GROUPS_AT + BLOCK))
}

/// Rounds up to whole blocks.
pub(in crate::embedded) fn to_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

/// What a checksum covers; the same bytes at the same place in another role do not verify.
#[derive(Clone, Copy)]
pub(in crate::embedded) enum Part {
    Group = 1,
    Descriptors = 2,
    Descriptor = 3,
    Body = 4,
    /// Of a run of the outcome index, as the two below.
    Entries = 5,
    Table = 6,
    Footer = 7,
    /// Of a slot of the feed, as the one below.
    FeedHead = 8,
    Frame = 9,
}

/// Seeds the checksums of one segment, of one run of the outcome index, or of one life of a slot of the feed. It is derived from the store's secret and
/// from which one it is, and mixed with the offset, so that bytes of an earlier life of the slot, of another slot or run,
/// of another offset, or made by somebody who does not know the secret do not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::embedded) struct Seed(u64);

impl Seed {
    pub(in crate::embedded) fn new(secret: &[u8; 16], epoch: u64, slot: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("forebay journal format 1 checksum seed");
        Self::of(hasher.update(secret).update(&epoch.to_le_bytes()).update(&slot.to_le_bytes()))
    }

    /// For the run of that name.
    pub(in crate::embedded) fn of_run(secret: &[u8; 16], name: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("forebay outcome run 1 checksum seed");
        Self::of(hasher.update(secret).update(name.as_bytes()))
    }

    /// For the life of that number of a slot of the feed.
    pub(in crate::embedded) fn of_feed(secret: &[u8; 16], slot: u32, life: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("forebay feed 1 checksum seed");
        Self::of(hasher.update(secret).update(&slot.to_le_bytes()).update(&life.to_le_bytes()))
    }

    fn of(hasher: &blake3::Hasher) -> Self {
        let mut eight = [0; 8];
        hasher.finalize_xof().fill(&mut eight);
        Self(u64::from_le_bytes(eight))
    }

    fn mix(self, part: Part, offset: u64) -> u64 {
        let mut z = self.0 ^ ((offset << 3) | part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The 32 bits that stand in front of a group or descriptor at `offset`.
    pub(in crate::embedded) fn mark(self, part: Part, offset: u64) -> u32 {
        low(self.mix(part, offset))
    }

    /// Checksum of `bytes` at `offset`.
    pub(in crate::embedded) fn crc(self, part: Part, offset: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(low(self.mix(part, offset) >> 32), bytes)
    }
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// A size in memory. Targets have at least 32 bits.
pub(in crate::embedded) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_differs_by_secret_epoch_slot_offset_and_part() {
        let seed = Seed::new(&[1; 16], 5, 2);
        let base = seed.crc(Part::Body, 4096, b"order");
        assert_eq!(base, Seed::new(&[1; 16], 5, 2).crc(Part::Body, 4096, b"order"));
        assert_ne!(base, Seed::new(&[2; 16], 5, 2).crc(Part::Body, 4096, b"order"));
        assert_ne!(base, Seed::new(&[1; 16], 6, 2).crc(Part::Body, 4096, b"order"));
        assert_ne!(base, Seed::new(&[1; 16], 5, 3).crc(Part::Body, 4096, b"order"));
        assert_ne!(base, seed.crc(Part::Body, 8192, b"order"));
        assert_ne!(base, seed.crc(Part::Descriptor, 4096, b"order"));
        let run = Seed::of_run(&[1; 16], "0_1_1_1.run").crc(Part::Entries, 4096, b"order");
        assert_ne!(run, Seed::of_run(&[1; 16], "0_1_1_2.run").crc(Part::Entries, 4096, b"order"));
        assert_ne!(run, Seed::of_run(&[2; 16], "0_1_1_1.run").crc(Part::Entries, 4096, b"order"));
    }
}
