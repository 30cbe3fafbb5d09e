//! Sizes, checksums and the primitive encodings that every part of the format shares.

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
}

/// Seeds the checksums of one segment, or of one run of the outcome index. It is derived from the store's secret and
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

/// A length for the disk. Every length is checked against the size of a group, which is far below, before it is written.
pub(in crate::embedded) fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A size in memory. Targets have at least 32 bits.
pub(in crate::embedded) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Appends a variable-length number: seven bits a byte, the lowest first, the high bit set on all but the last.
pub(in crate::embedded) fn put_varint(out: &mut Vec<u8>, value: u32) {
    put_varint64(out, u64::from(value));
}

/// The same for 64 bits.
pub(in crate::embedded) fn put_varint64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = (value & 0x7f | 0x80).to_le_bytes();
        out.push(low);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

/// Reads little-endian values off the front of some bytes; `None` once they end.
#[derive(Clone, Copy, Debug)]
pub(in crate::embedded) struct Take<'a>(pub(in crate::embedded) &'a [u8]);

impl<'a> Take<'a> {
    pub(in crate::embedded) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    pub(in crate::embedded) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(in crate::embedded) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(in crate::embedded) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::embedded) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::embedded) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::embedded) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(in crate::embedded) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(in crate::embedded) fn varint(&mut self) -> Option<u32> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    pub(in crate::embedded) fn varint64(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Text with its length in front.
    pub(in crate::embedded) fn text(&mut self) -> Option<&'a str> {
        let len = self.varint()?;
        std::str::from_utf8(self.bytes(usize::try_from(len).ok()?)?).ok()
    }

    /// All that is left, as text.
    pub(in crate::embedded) fn rest_text(self) -> Option<String> {
        std::str::from_utf8(self.0).ok().map(str::to_owned)
    }

    pub(in crate::embedded) fn is_empty(self) -> bool {
        self.0.is_empty()
    }
}

/// Appends text with its length in front.
pub(in crate::embedded) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, len32(text.len()));
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_read_back() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Take(&out).varint(), Some(value));
        }
        for value in [0, 0x7f, 0x80, u64::from(u32::MAX), 1 << 62, u64::MAX] {
            let mut out = Vec::new();
            put_varint64(&mut out, value);
            assert_eq!(Take(&out).varint64(), Some(value));
        }
        assert_eq!(Take(&[0xff; 10]).varint64(), None, "more than 64 bits");
        assert_eq!(Take(&[0xff; 5]).varint(), None, "more than 32 bits");
        assert_eq!(Take(&[0x80]).varint(), None, "cut short");
    }

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
