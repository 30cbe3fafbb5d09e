//! The segment header: which store, which life of the slot, what came before. Block 0 and block 1 hold the same.

use super::layout::{BLOCK, SLOT_MAX, SLOT_MIN};
use crate::codec::Take;

const MAGIC: &[u8; 8] = b"FBYSEG1\0";
const FORMAT: u16 = 1;
/// The oldest reader that understands what this release writes.
const MIN_READER: u16 = 1;
/// Flags above this bit mean something a reader must know; below it, something it may ignore.
const MUST_KNOW: u32 = 0xffff_0000;
/// The segment was begun by opening the store, not by filling the one before.
pub(super) const OPENED: u32 = 1;
const CRC_AT: usize = 4092;

/// One store: every slot's header carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Store {
    pub(super) uuid: [u8; 16],
    pub(super) secret: [u8; 16],
    pub(super) slot_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) store: Store,
    pub(super) flags: u32,
    /// 0: a spare slot that never held a segment.
    pub(super) epoch: u64,
    pub(super) slot: u32,
    /// The epoch that holds the groups before this segment's first. Epochs between the two are void once this
    /// segment has a group. 0: none.
    pub(super) prev_epoch: u64,
    /// Every epoch below this was retired when the header was written.
    pub(super) retired_below: u64,
    pub(super) wall_ms: i64,
}

/// What stands in one header block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    Valid(Header),
    /// Of a format or with a flag this release does not know; the checksum holds.
    Unknown(String),
    /// Another format's magic, and whether the rest is sound cannot be told.
    OtherMagic(String),
    /// Not one byte set.
    Zero,
    Invalid,
}

impl Header {
    /// The header's one block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CRC_AT + 4);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&MIN_READER.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.store.uuid);
        out.extend_from_slice(&self.store.secret);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.slot.to_le_bytes());
        out.extend_from_slice(&4096u32.to_le_bytes());
        out.extend_from_slice(&self.prev_epoch.to_le_bytes());
        out.extend_from_slice(&self.retired_below.to_le_bytes());
        out.extend_from_slice(&self.wall_ms.to_le_bytes());
        out.extend_from_slice(&self.store.slot_bytes.to_le_bytes());
        out.resize(CRC_AT, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads one header block.
    pub(super) fn parse(block: &[u8]) -> Parsed {
        if block.iter().all(|byte| *byte == 0) {
            return Parsed::Zero;
        }
        let sound = (|| {
            let (covered, crc) = block.split_at_checked(CRC_AT)?;
            (Take(crc).u32()? == crc32c::crc32c(covered)).then_some(())
        })();
        let Some(magic) = block.get(..8) else { return Parsed::Invalid };
        if magic != MAGIC && magic.starts_with(b"FBYSEG") {
            let found = format!("magic {:?}", String::from_utf8_lossy(magic));
            return if sound.is_some() {
                Parsed::Unknown(found)
            } else {
                Parsed::OtherMagic(found)
            };
        }
        if magic != MAGIC || sound.is_none() {
            return Parsed::Invalid;
        }
        Self::fields(block).unwrap_or(Parsed::Invalid)
    }

    fn fields(block: &[u8]) -> Option<Parsed> {
        let mut take = Take(block.get(8..CRC_AT)?);
        let (format, min_reader, flags) = (take.u16()?, take.u16()?, take.u32()?);
        if min_reader > FORMAT || flags & MUST_KNOW != 0 {
            let found = format!("format {format}, readable from {min_reader}, flags {flags:#010x}");
            return Some(Parsed::Unknown(found));
        }
        let (uuid, secret) = (take.array()?, take.array()?);
        let (epoch, slot, block_bytes) = (take.u64()?, take.u32()?, take.u32()?);
        let (prev_epoch, retired_below, wall_ms) = (take.u64()?, take.u64()?, take.i64()?);
        let slot_bytes = take.u64()?;
        if u64::from(block_bytes) != BLOCK || !valid_slot_bytes(slot_bytes) {
            return Some(Parsed::Unknown(format!(
                "blocks of {block_bytes} and slots of {slot_bytes} bytes"
            )));
        }
        let store = Store { uuid, secret, slot_bytes };
        Some(Parsed::Valid(Self { store, flags, epoch, slot, prev_epoch, retired_below, wall_ms }))
    }
}

/// Whether a slot may have that size.
pub(super) fn valid_slot_bytes(bytes: u64) -> bool {
    (SLOT_MIN..=SLOT_MAX).contains(&bytes) && bytes.is_multiple_of(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        let store = Store { uuid: [7; 16], secret: [9; 16], slot_bytes: 1 << 20 };
        Header {
            store,
            flags: OPENED,
            epoch: 5,
            slot: 3,
            prev_epoch: 4,
            retired_below: 2,
            wall_ms: -1,
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        let block = header().encode();
        assert_eq!(block.len(), 4096);
        assert_eq!(Header::parse(&block), Parsed::Valid(header()));
        assert_eq!(Header::parse(&[0; 4096]), Parsed::Zero);
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let block = header().encode();
        for at in 0..block.len() {
            let mut bad = block.clone();
            bad[at] ^= 0x10;
            assert!(!matches!(Header::parse(&bad), Parsed::Valid(_)), "byte {at}");
        }
    }

    #[test]
    fn a_later_format_is_told_from_a_broken_header() {
        let mut later = header().encode();
        later[10] = 2;
        let crc = crc32c::crc32c(&later[..CRC_AT]).to_le_bytes();
        later[CRC_AT..].copy_from_slice(&crc);
        assert!(matches!(Header::parse(&later), Parsed::Unknown(_)));
        later[6] = b'2';
        assert!(matches!(Header::parse(&later), Parsed::OtherMagic(_)));
    }
}
