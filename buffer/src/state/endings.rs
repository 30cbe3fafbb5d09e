//! How summarised orders ended, until their segment retires: packed end to end, and freed with the segment.

use std::collections::BTreeMap;

/// Bytes of one chunk; an entry that is longer has one of its own. An epoch's first is small, and each that follows twice
/// the one before, up to that.
const CHUNK: usize = 64 << 10;
const FIRST_CHUNK: usize = 64;

/// A reference to an ending; 0 is none.
pub(super) const NONE: u64 = 0;

/// A place in the endings of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark((usize, usize));

/// The endings, by the segment their order hangs on.
#[derive(Debug, Default)]
pub(super) struct Endings {
    by_epoch: BTreeMap<u64, Epoch>,
}

#[derive(Debug, Default)]
struct Epoch {
    chunks: Vec<Vec<u8>>,
    /// When the last of them was settled.
    newest_ms: i64,
}

impl Endings {
    /// Keeps when an order was settled and the OMS's id of its summary. The reference is good for that epoch only.
    pub(super) fn add(&mut self, epoch: u64, at_ms: i64, summary_id: &str) -> u64 {
        let Epoch { chunks, newest_ms } = self.by_epoch.entry(epoch).or_default();
        *newest_ms = at_ms.max(*newest_ms);
        let len = u16::try_from(summary_id.len()).unwrap_or(u16::MAX);
        let id = summary_id.as_bytes().get(..usize::from(len)).unwrap_or_default();
        let size = size_of::<i64>() + size_of::<u16>() + id.len();
        if chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < size) {
            let usual = FIRST_CHUNK << chunks.len().min(16);
            chunks.push(Vec::with_capacity(usual.min(CHUNK).max(size)));
        }
        let number = chunks.len();
        let Some(chunk) = chunks.last_mut() else { return NONE };
        let at = chunk.len();
        chunk.extend_from_slice(&at_ms.to_le_bytes());
        chunk.extend_from_slice(&len.to_le_bytes());
        chunk.extend_from_slice(id);
        // Numbers start at 1, so no reference is 0.
        (number as u64) << 32 | at as u64
    }

    /// When an order was settled, and the OMS's id.
    pub(super) fn get(&self, epoch: u64, reference: u64) -> Option<(i64, String)> {
        let number = usize::try_from(reference >> 32).ok()?.checked_sub(1)?;
        let at = usize::try_from(reference & u64::from(u32::MAX)).ok()?;
        let bytes = self.by_epoch.get(&epoch)?.chunks.get(number)?.get(at..)?;
        let (at_ms, rest) = bytes.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        let id = rest.get(..usize::from(u16::from_le_bytes(*len)))?;
        Some((i64::from_le_bytes(*at_ms), String::from_utf8_lossy(id).into_owned()))
    }

    /// Where the endings of an epoch end now.
    pub(super) fn mark(&self, epoch: u64) -> Mark {
        let chunks = self.by_epoch.get(&epoch).map(|epoch| &epoch.chunks);
        let last = chunks.and_then(|chunks| Some((chunks.len(), chunks.last()?.len())));
        Mark(last.unwrap_or_default())
    }

    /// Drops what was added since.
    pub(super) fn back_to(&mut self, epoch: u64, Mark((count, len)): Mark) {
        if let Some(Epoch { chunks, .. }) = self.by_epoch.get_mut(&epoch) {
            chunks.truncate(count);
            if let Some(last) = chunks.last_mut() {
                last.truncate(len);
            }
        }
    }

    /// When the last order was settled whose ending is in that segment or an older one.
    pub(super) fn newest_up_to(&self, epoch: u64) -> Option<i64> {
        self.by_epoch.range(..=epoch).map(|(_, epoch)| epoch.newest_ms).max()
    }

    /// Frees those of every segment up to `epoch`.
    pub(super) fn retire(&mut self, epoch: u64) {
        self.by_epoch = self.by_epoch.split_off(&epoch.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_kept_until_their_segment_goes() {
        let mut endings = Endings::default();
        let long = "x".repeat(CHUNK - 20);
        let ids = ["1Os-1", "", &long, "1Os-2"];
        let kept: Vec<u64> = (1..).zip(ids).map(|(at, id)| endings.add(7, at, id)).collect();
        let other = endings.add(8, 9, "other");
        for ((at, id), reference) in (1..).zip(ids).zip(&kept) {
            assert_eq!(endings.get(7, *reference), Some((at, id.to_owned())));
        }
        assert_eq!(endings.get(7, NONE), None);
        let mark = endings.mark(7);
        let dropped = endings.add(7, 5, &long);
        endings.back_to(7, mark);
        assert_eq!(endings.get(7, dropped), None);
        assert_eq!(endings.get(7, kept[3]), Some((4, "1Os-2".to_owned())));
        endings.retire(7);
        assert_eq!(endings.get(7, kept[0]), None);
        assert_eq!(endings.get(8, other), Some((9, "other".to_owned())));
    }
}
