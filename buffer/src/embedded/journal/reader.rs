//! Reading records back, from any thread.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::files::Aligned;
use super::group::{DESCRIPTOR, Descriptor, Place};
use super::layout::{BLOCK, size, to_blocks};
use super::slots::Slot;
use super::types::{Location, ReadError};
use crate::codec;
use crate::record::Record;

/// The segments that can be read, by epoch.
#[derive(Debug, Default)]
pub(super) struct Live {
    segments: RwLock<BTreeMap<u64, LiveSegment>>,
}

#[derive(Clone, Debug)]
pub(super) struct LiveSegment {
    pub(super) place: Place,
    pub(super) slot: Slot,
}

impl Live {
    pub(super) fn add(&self, segment: LiveSegment) {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        segments.insert(segment.place.epoch, segment);
    }

    /// Takes out every segment below `epoch`.
    pub(super) fn split_below(&self, epoch: u64) -> Vec<Slot> {
        let mut segments = self.segments.write().unwrap_or_else(PoisonError::into_inner);
        let keep = segments.split_off(&epoch);
        let gone = std::mem::replace(&mut *segments, keep);
        gone.into_values().map(|segment| segment.slot).collect()
    }

    fn get(&self, epoch: u64) -> Option<LiveSegment> {
        self.segments.read().unwrap_or_else(PoisonError::into_inner).get(&epoch).cloned()
    }
}

/// Reads records by their location. Cloning shares it; reads of one reader run side by side.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    live: Arc<Live>,
}

/// Most descriptors are shorter than this.
const FIRST_READ: usize = 512;

impl Reader {
    pub(super) fn new(live: Arc<Live>) -> Self {
        Self { live }
    }

    /// The record at `location` with its body, and its sequence. Blocks on the disk.
    ///
    /// # Errors
    /// [`ReadError::Recycled`] if its segment was retired, before or while it was read; [`ReadError::Damaged`]
    /// if what stands there does not verify.
    pub(crate) fn read(&self, location: Location) -> Result<(u64, Record), ReadError> {
        self.load(location, true)
    }

    /// Like [`Reader::read`], but leaves the body on the disk, unverified.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub(crate) fn head(&self, location: Location) -> Result<(u64, Record), ReadError> {
        self.load(location, false)
    }

    fn load(&self, location: Location, with_body: bool) -> Result<(u64, Record), ReadError> {
        let epoch = location.epoch();
        let segment = self.live.get(epoch).ok_or(ReadError::Recycled(epoch))?;
        let mut loaded = segment.load(location.offset(), with_body, false);
        if matches!(loaded, Ok(None)) {
            // Not every file system keeps its cache and direct writes in step.
            loaded = segment.load(location.offset(), with_body, true);
        }
        match loaded {
            Ok(Some(found)) => Ok(found),
            // The slot may have begun a new life between the two looks.
            _ if self.live.get(epoch).is_none() => Err(ReadError::Recycled(epoch)),
            Ok(None) => Err(ReadError::Damaged { epoch, offset: location.offset() }),
            Err(error) => {
                let (slot, offset) = (segment.slot.number, location.offset());
                Err(ReadError::Io(format!("{slot:05}.seg at offset {offset}: {error}")))
            }
        }
    }
}

impl LiveSegment {
    fn load(
        &self,
        offset: u64,
        with_body: bool,
        from_device: bool,
    ) -> std::io::Result<Option<(u64, Record)>> {
        let read =
            |at, len| if from_device { self.uncached(at, len) } else { self.cached(at, len) };
        let mut head = read(offset, FIRST_READ)?;
        let Some(len) = Descriptor::peek(&self.place, offset, &head) else { return Ok(None) };
        let len = size(u64::from(len)).max(DESCRIPTOR);
        if len > head.len() {
            head = read(offset, len)?;
        }
        let Some((descriptor, extensions)) = Descriptor::parse(&self.place, offset, &head) else {
            return Ok(None);
        };
        let mut body = Bytes::new();
        if with_body {
            let bytes = read(u64::from(descriptor.body_at), size(u64::from(descriptor.body_len)))?;
            if !descriptor.verifies(&self.place, &bytes) {
                return Ok(None);
            }
            body = Bytes::from(bytes);
        }
        let record = codec::record(descriptor.kind, descriptor.flags, extensions, body);
        Ok(record.ok().flatten().map(|record| (descriptor.sequence, record)))
    }

    fn cached(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.slot.file.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    fn uncached(&self, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let start = offset / BLOCK * BLOCK;
        let end = to_blocks(offset.saturating_add(len as u64)).min(self.place.slot_bytes);
        let mut memory = Aligned::default();
        let blocks = memory.bytes_mut(size(end.saturating_sub(start)));
        self.slot.file.read_device_at(start, blocks)?;
        let mut bytes = blocks.get(size(offset - start)..).unwrap_or_default().to_vec();
        bytes.resize(len, 0);
        Ok(bytes)
    }
}
