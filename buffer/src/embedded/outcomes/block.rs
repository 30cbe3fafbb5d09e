//! Blocks of 4 KiB, each with a checksum of its own: what is read verifies, or is damaged by itself.

use super::super::journal::layout::{Part, Seed};
use super::entry::{Packer, Unpacker};
use crate::codec::Take;
use crate::state::Outcome;

pub(super) const BLOCK: usize = 4096;
/// Bytes of the checksum in front.
const CRC: usize = 4;
/// Bytes of anything a block holds.
pub(super) const CONTENT: usize = BLOCK - CRC;

/// Where block `n` of a file begins.
pub(super) fn offset(n: u64) -> u64 {
    n * BLOCK as u64
}

/// Appends block `n` of a file: the checksum, `content`, zeros.
pub(super) fn put(out: &mut Vec<u8>, seed: Seed, part: Part, n: u64, content: &[u8]) {
    let at = out.len();
    out.extend_from_slice(&[0; CRC]);
    out.extend_from_slice(content.get(..CONTENT.min(content.len())).unwrap_or_default());
    out.resize(at + BLOCK, 0);
    let crc = seed.crc(part, offset(n), out.get(at + CRC..).unwrap_or_default());
    if let Some(place) = out.get_mut(at..at + CRC) {
        place.copy_from_slice(&crc.to_le_bytes());
    }
}

/// What block `n` holds; `None` if it does not verify.
pub(super) fn content(block: &[u8], seed: Seed, part: Part, n: u64) -> Option<&[u8]> {
    let (crc, content) = block.get(..BLOCK)?.split_first_chunk()?;
    (u32::from_le_bytes(*crc) == seed.crc(part, offset(n), content)).then_some(content)
}

/// The outcomes of one block while they are gathered.
#[derive(Debug)]
pub(super) struct Gathered {
    packer: Packer,
    /// Their number, then themselves.
    content: Vec<u8>,
    count: u16,
}

impl Gathered {
    pub(super) fn new() -> Self {
        Self { packer: Packer::new(), content: vec![0; 2], count: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an outcome; false if it does not fit any more, and then only [`Gathered::take`] may come.
    pub(super) fn add(&mut self, hash: u128, outcome: &Outcome) -> bool {
        let len = self.content.len();
        self.packer.pack(&mut self.content, hash, outcome);
        if self.content.len() > CONTENT {
            self.content.truncate(len);
            return false;
        }
        self.count += 1;
        true
    }

    /// Appends them to `out` as block `n`, and begins anew.
    pub(super) fn take(&mut self, out: &mut Vec<u8>, seed: Seed, n: u64) {
        if let Some(count) = self.content.first_chunk_mut() {
            *count = self.count.to_le_bytes();
        }
        put(out, seed, Part::Entries, n, &self.content);
        *self = Self::new();
    }
}

/// Goes through the outcomes of one block.
#[derive(Debug)]
pub(super) struct Outcomes {
    /// Where in the block the next one stands.
    at: usize,
    left: u16,
    unpacker: Unpacker,
}

impl Outcomes {
    /// Those of block `n`; `None` if it does not verify.
    pub(super) fn of(block: &[u8], seed: Seed, n: u64) -> Option<Self> {
        let left = Take(content(block, seed, Part::Entries, n)?).u16()?;
        Some(Self { at: CRC + 2, left, unpacker: Unpacker::new() })
    }

    /// How many are to come.
    pub(super) fn left(&self) -> u16 {
        self.left
    }

    /// The hash of the next one in the same block; `None` after the last.
    ///
    /// # Errors
    /// The block verifies, and what stands in it is nothing this release wrote.
    pub(super) fn next(&mut self, block: &[u8]) -> Result<Option<u128>, Nonsense> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut take = Take(block.get(self.at..).unwrap_or_default());
        let hash = self.unpacker.unpack(&mut take).ok_or(Nonsense)?;
        self.at = block.len() - take.0.len();
        self.left -= 1;
        Ok(Some(hash))
    }

    /// The one that was read last.
    pub(super) fn outcome(&self) -> &Outcome {
        self.unpacker.outcome()
    }
}

/// No outcome stands where one should.
#[derive(Debug)]
pub(super) struct Nonsense;

#[cfg(test)]
mod tests {
    use super::super::tests::outcome;
    use super::*;

    #[test]
    fn a_block_verifies_only_whole_in_its_place_and_role() {
        let seed = Seed::of_run(&[7; 16], "0_1_1_1.run");
        let mut gathered = Gathered::new();
        let mut count: u64 = 0;
        while gathered.add(u128::from(count), &outcome(count, 5)) {
            count += 1;
        }
        let mut block = Vec::new();
        gathered.take(&mut block, seed, 3);
        assert_eq!(block.len(), BLOCK);
        let mut outcomes = Outcomes::of(&block, seed, 3).unwrap();
        assert_eq!(u64::from(outcomes.left()), count);
        for n in 0..count {
            assert_eq!(outcomes.next(&block).unwrap(), Some(u128::from(n)));
            assert_eq!(outcomes.outcome(), &outcome(n, 5));
        }
        assert_eq!(outcomes.next(&block).unwrap(), None);
        assert!(content(&block, seed, Part::Table, 3).is_none());
        assert!(content(&block, seed, Part::Entries, 4).is_none());
        assert!(content(&block[..4_000], seed, Part::Entries, 3).is_none());
        for at in 0..BLOCK {
            block[at] ^= 0x40;
            assert!(Outcomes::of(&block, seed, 3).is_none(), "byte {at}");
            block[at] ^= 0x40;
        }
    }
}
