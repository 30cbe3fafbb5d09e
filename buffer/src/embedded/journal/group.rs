//! A group: what one sync makes durable. A header, the descriptors of its records, then their bodies.

use super::files::Aligned;
use super::layout::{BLOCK, GROUP_MAX, Part, Seed, size, to_blocks};
use crate::codec::kinds;
use crate::codec::{Take, len32};
use crate::control::Control;

const MAGIC: &[u8; 4] = b"FBG1";
/// Bytes of a group's header.
pub(super) const HEADER: usize = 80;
const HEADER_CRC_AT: usize = 76;
/// Bytes of a descriptor before its extensions.
pub(super) const DESCRIPTOR: usize = 40;
/// The group repeats records of the segment before, which nothing had proven.
pub(super) const COPY: u32 = 1;
/// The group ends its segment.
pub(super) const SEAL: u32 = 2;

/// The last of a segment's groups of copies: with it, all that had to be copied is there.
pub(super) const COPIES_END: u32 = 4;

/// Flags from here on mean something a reader must know.
pub(super) const MUST_KNOW: u32 = 0xffff_0000;

/// Where a group stands, and the seed of its checksums.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) seed: Seed,
    pub(super) epoch: u64,
    pub(super) slot: u32,
    pub(super) slot_bytes: u64,
}

/// A group's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) group_no: u64,
    /// Sequence of the first record; of the next one to come for a group without records.
    pub(super) first_seq: u64,
    /// Everything up to this sequence was durable before this group.
    pub(super) durable_seq: u64,
    pub(super) wall_ms: i64,
    pub(super) records: u32,
    pub(super) desc_bytes: u32,
    pub(super) blocks: u32,
    pub(super) flags: u32,
    /// Checksum of the header of the group before, 0 for a store's first.
    pub(super) prev_crc: u32,
    pub(super) desc_crc: u32,
    /// Checksum of this header.
    pub(super) crc: u32,
}

impl GroupHeader {
    /// Bytes of the whole group.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Reads the header at `offset`; `None` if it does not verify there.
    pub(super) fn parse(place: &Place, offset: u64, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..HEADER)?;
        let mut take = Take(bytes);
        if take.bytes(4)? != MAGIC || take.u32()? != place.seed.mark(Part::Group, offset) {
            return None;
        }
        let (covered, crc) = bytes.split_at_checked(HEADER_CRC_AT)?;
        let crc = Take(crc).u32()?;
        let epoch = take.u64()?;
        let header = Self {
            group_no: take.u64()?,
            first_seq: take.u64()?,
            durable_seq: take.u64()?,
            wall_ms: take.i64()?,
            records: take.u32()?,
            desc_bytes: take.u32()?,
            blocks: take.u32()?,
            flags: take.u32()?,
            prev_crc: take.u32()?,
            desc_crc: {
                if take.u32()? != place.slot {
                    return None;
                }
                take.u32()?
            },
            crc,
        };
        let sound = epoch == place.epoch
            && crc == place.seed.crc(Part::Group, offset, covered)
            && header.blocks > 0
            && header.bytes() <= GROUP_MAX
            && offset.saturating_add(header.bytes()) <= place.slot_bytes
            && size(u64::from(header.desc_bytes)).saturating_add(HEADER) <= size(header.bytes());
        sound.then_some(header)
    }

    /// The epoch a group header says it is of, unverified; to find out what an unreadable slot holds.
    pub(super) fn stated_epoch(bytes: &[u8]) -> Option<u64> {
        let mut take = Take(bytes);
        if take.bytes(4)? != MAGIC {
            return None;
        }
        take.u32()?;
        take.u64()
    }

    fn encode(&self, place: &Place, offset: u64) -> ([u8; HEADER], u32) {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&place.seed.mark(Part::Group, offset).to_le_bytes());
        for word in [place.epoch, self.group_no, self.first_seq, self.durable_seq] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.wall_ms.to_le_bytes());
        for word in [
            self.records,
            self.desc_bytes,
            self.blocks,
            self.flags,
            self.prev_crc,
            place.slot,
            self.desc_crc,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = place.seed.crc(Part::Group, offset, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        let mut header = [0; HEADER];
        for (to, from) in header.iter_mut().zip(out) {
            *to = from;
        }
        (header, crc)
    }
}

/// A descriptor's fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) sequence: u64,
    pub(super) kind: u8,
    pub(super) flags: u8,
    /// Bytes of the descriptor with its extensions and padding.
    pub(super) len: u32,
    /// Where the body stands in the slot.
    pub(super) body_at: u32,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
}

impl Descriptor {
    /// The length of the descriptor at `offset`, if its mark is right; not yet verified.
    pub(super) fn peek(place: &Place, offset: u64, bytes: &[u8]) -> Option<u32> {
        let mut take = Take(bytes);
        if take.u32()? != place.seed.mark(Part::Descriptor, offset) {
            return None;
        }
        take.bytes(16)?;
        let len = take.u32()?;
        let fits = size(u64::from(len)) >= DESCRIPTOR
            && len.is_multiple_of(8)
            && u64::from(len) <= GROUP_MAX
            && offset.saturating_add(u64::from(len)) <= place.slot_bytes;
        fits.then_some(len)
    }

    /// Reads and verifies the descriptor at `offset`, and its extensions.
    pub(super) fn parse<'a>(
        place: &Place,
        offset: u64,
        bytes: &'a [u8],
    ) -> Option<(Self, &'a [u8])> {
        let len = Self::peek(place, offset, bytes)?;
        let bytes = bytes.get(..size(u64::from(len)))?;
        let mut take = Take(bytes.get(4..)?);
        if take.u32()? != place.seed.crc(Part::Descriptor, offset, bytes.get(8..)?) {
            return None;
        }
        let sequence = take.u64()?;
        let (kind, flags) = (take.u8()?, take.u8()?);
        take.bytes(6)?;
        let (body_at, body_len, body_crc) = (take.u32()?, take.u32()?, take.u32()?);
        let end = u64::from(body_at).saturating_add(u64::from(body_len));
        if end > place.slot_bytes {
            return None;
        }
        let descriptor = Self { sequence, kind, flags, len, body_at, body_len, body_crc };
        Some((descriptor, bytes.get(DESCRIPTOR..)?))
    }

    /// Whether `body` is the body that was written.
    pub(super) fn verifies(&self, place: &Place, body: &[u8]) -> bool {
        body.len() == size(u64::from(self.body_len))
            && (place.seed.crc(Part::Body, u64::from(self.body_at), body) == self.body_crc
                || Control::NoChecksum.is_on())
    }
}

/// Bytes of a descriptor with that many bytes of extensions.
pub(super) fn descriptor_bytes(extensions: usize) -> usize {
    (DESCRIPTOR + extensions).next_multiple_of(8)
}

/// One record, to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) sequence: u64,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) extensions: &'a [u8],
    pub(super) body: &'a [u8],
}

/// What a group's header says besides what follows from its records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heading {
    pub(super) group_no: u64,
    pub(super) first_seq: u64,
    pub(super) durable_seq: u64,
    pub(super) wall_ms: i64,
    pub(super) flags: u32,
    pub(super) prev_crc: u32,
}

/// Lays a group out in `out` for writing at `offset`; returns its header, which says how many of `out`'s bytes it takes.
/// `placed` is told the offset of every descriptor. The caller has checked that it fits.
pub(super) fn assemble<'a>(
    out: &mut Aligned,
    place: &Place,
    offset: u64,
    heading: Heading,
    entries: impl Iterator<Item = Entry<'a>> + Clone,
    mut placed: impl FnMut(u32),
) -> GroupHeader {
    let (mut front_bytes, mut body_bytes) = (HEADER, 0);
    for entry in entries.clone() {
        front_bytes += descriptor_bytes(entry.extensions.len());
        body_bytes += entry.body.len();
    }
    let bytes = to_blocks((front_bytes + body_bytes) as u64);
    let (front, bodies) = out.bytes_mut(size(bytes)).split_at_mut(front_bytes);
    let mut front = Pen { bytes: front, at: HEADER };
    let mut bodies = Pen { bytes: bodies, at: 0 };
    let mut records = 0;
    for entry in entries {
        let at = offset + front.at as u64;
        let body_at = offset + (front_bytes + bodies.at) as u64;
        placed(low(at));
        put_descriptor(&mut front, place, at, &entry, body_at);
        bodies.put(entry.body);
        records += 1;
    }
    bodies.zeros(bodies.bytes.len().saturating_sub(bodies.at));
    let descriptors = front.since(HEADER);
    let desc_crc = place.seed.crc(Part::Descriptors, offset + HEADER as u64, descriptors);
    let mut header = GroupHeader {
        group_no: heading.group_no,
        first_seq: heading.first_seq,
        durable_seq: heading.durable_seq,
        wall_ms: heading.wall_ms,
        records,
        desc_bytes: len32(front_bytes - HEADER),
        blocks: low(bytes / BLOCK),
        flags: heading.flags,
        prev_crc: heading.prev_crc,
        desc_crc,
        crc: 0,
    };
    let (encoded, crc) = header.encode(place, offset);
    header.crc = crc;
    front.at = 0;
    front.put(&encoded);
    header
}

fn put_descriptor(out: &mut Pen<'_>, place: &Place, at: u64, entry: &Entry<'_>, body_at: u64) {
    let start = out.at;
    let len = descriptor_bytes(entry.extensions.len());
    let body_crc = place.seed.crc(Part::Body, body_at, entry.body);
    out.put(&place.seed.mark(Part::Descriptor, at).to_le_bytes());
    out.zeros(4);
    out.put(&entry.sequence.to_le_bytes());
    out.put(&[entry.kind, entry.flags, 0, 0]);
    out.put(&len32(len).to_le_bytes());
    out.put(&low(body_at).to_le_bytes());
    out.put(&len32(entry.body.len()).to_le_bytes());
    out.put(&body_crc.to_le_bytes());
    out.zeros(4);
    out.put(entry.extensions);
    out.zeros(len - DESCRIPTOR - entry.extensions.len());
    let crc = place.seed.crc(Part::Descriptor, at, out.since(start + 8));
    out.at = start + 4;
    out.put(&crc.to_le_bytes());
    out.at = start + len;
}

/// Writes one part after another into bytes that were sized for all of them.
struct Pen<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Pen<'_> {
    fn put(&mut self, part: &[u8]) {
        if let Some(into) = self.bytes.get_mut(self.at..self.at + part.len()) {
            into.copy_from_slice(part);
        }
        self.at += part.len();
    }

    fn zeros(&mut self, len: usize) {
        if let Some(into) = self.bytes.get_mut(self.at..self.at + len) {
            into.fill(0);
        }
        self.at += len;
    }

    fn since(&self, start: usize) -> &[u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }
}

/// Offsets and counts of blocks fit: a slot has at most 1 GiB.
fn low(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Whether a record of that kind is an order's growth, which the reserve for settles must not be used for.
pub(super) fn is_growth(kind: u8) -> bool {
    (kinds::ACCEPT..=kinds::STRAY).contains(&kind)
}

/// One verified descriptor of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'a> {
    pub(super) offset: u64,
    pub(super) descriptor: Descriptor,
    pub(super) extensions: &'a [u8],
}

/// Splits a group's descriptors, given the bytes of the group's front at `offset`; `None` if anything about
/// them does not verify.
pub(super) fn descriptors<'a>(
    place: &Place,
    offset: u64,
    header: &GroupHeader,
    front: &'a [u8],
) -> Option<Vec<Described<'a>>> {
    let end = HEADER + size(u64::from(header.desc_bytes));
    let bytes = front.get(HEADER..end)?;
    if place.seed.crc(Part::Descriptors, offset + HEADER as u64, bytes) != header.desc_crc {
        return None;
    }
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let from = offset + (HEADER + at) as u64;
        let (descriptor, extensions) = Descriptor::parse(place, from, bytes.get(at..)?)?;
        all.push(Described { offset: from, descriptor, extensions });
        at += size(u64::from(descriptor.len));
    }
    (all.len() == size(u64::from(header.records))).then_some(all)
}
