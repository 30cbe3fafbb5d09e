//! A run: the outcomes of one stretch of time from some batches, sorted by hash, in a file that never changes.
//!
//! ```text
//! blocks of entries            one look-up reads one of them
//! blocks of a table            the fence, then the filter; read when the run is opened, and kept in memory
//! the footer, a block          how many there are of each
//! ```
//! The name says which batches' outcomes are in it, and the name and the store's secret seed every checksum. So a run
//! needs no list beside it: whatever verifies under its name is what the name says. A table or footer that does not verify
//! is made again from the entries that do.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::files::{Directory, PlainFile};
use super::super::journal::layout::{Part, Seed, size};
use super::block::{self, BLOCK, Outcomes};
use super::filter::{Filter, Probe, upper};
use super::scan::{Blocks, Cursor};
use crate::codec::Take;
use crate::state::Outcome;

const MAGIC: &[u8; 8] = b"FBYRUN1\0";
const FORMAT: u16 = 1;
/// The oldest reader that understands what this release writes.
const MIN_READER: u16 = 1;
/// Words of a table in one block.
pub(super) const WORDS: usize = block::CONTENT / 8;

/// Where runs are, and what their checksums stand on.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) directory: Box<dyn Directory>,
    pub(super) secret: [u8; 16],
    /// Bytes of disk that are kept for the outcomes of segments that must retire before a full disk has room again.
    pub(super) reserve: u64,
}

impl Home {
    /// Removes what nobody needs any more. Where that fails it stays until the next start, and changes nothing.
    pub(super) fn remove(&self, name: &str) {
        match self.directory.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(name, %error, "a file of the outcome index cannot be removed");
            }
            _ => {}
        }
    }

    /// Fills the reserve up, where that leaves as much again to others.
    pub(super) fn fill_reserve(&self) {
        let fill = || {
            let lacks = self.reserve.saturating_sub(self.directory.reserved()?);
            if lacks > 0 && self.directory.free_bytes()? / 2 > lacks {
                self.directory.reserve(self.reserve)?;
            }
            Ok(())
        };
        if let Err::<(), io::Error>(error) = fill() {
            tracing::warn!(%error, "no disk can be kept for the outcome index");
        }
    }

    /// Gives so many bytes of the reserve up; false if there are none left.
    pub(super) fn give_room(&self, bytes: u64) -> io::Result<bool> {
        let reserved = self.directory.reserved()?;
        self.directory.reserve(reserved.saturating_sub(bytes))?;
        Ok(reserved > 0)
    }
}

/// From when to when outcomes of a run settled, ms since 1970. It stands in the run's name, for the horizon may be another
/// at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) end_ms: i64,
    start_ms: i64,
}

impl Span {
    pub(super) fn of(settled_at_ms: i64, stretch_ms: i64) -> Self {
        let start_ms = settled_at_ms.div_euclid(stretch_ms).saturating_mul(stretch_ms);
        Self { start_ms, end_ms: start_ms.saturating_add(stretch_ms) }
    }
}

/// Which run: its stretch, and the first and last number of the batches whose outcomes are in it. They sort from the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RunId {
    pub(super) span: Span,
    pub(super) first: u64,
    pub(super) last: u64,
}

impl RunId {
    pub(super) fn name(self) -> String {
        let Span { start_ms, end_ms } = self.span;
        format!("{start_ms}_{end_ms}_{}_{}.run", self.first, self.last)
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".run")?.split('_');
        let start_ms = parts.next()?.parse().ok()?;
        let end_ms = parts.next()?.parse().ok()?;
        let (first, last) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let id = Self { span: Span { end_ms, start_ms }, first, last };
        (id.name() == name).then_some(id)
    }

    /// Whether all that is in the other is in this one too.
    pub(super) fn covers(self, other: Self) -> bool {
        self != other
            && self.span == other.span
            && self.first <= other.first
            && other.last <= self.last
    }
}

/// A run that can be read, from any thread.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    /// Outcomes in it.
    pub(super) entries: u64,
    /// Bytes on the disk.
    pub(super) disk_bytes: u64,
    pub(super) file: Arc<dyn PlainFile>,
    pub(super) seed: Seed,
    /// Upper bits of the first hash of each block of entries.
    pub(super) fence: Vec<u32>,
    pub(super) filter: Filter,
    /// Blocks that were found not to verify.
    damaged: Mutex<BTreeSet<u64>>,
    /// Not one block verified when it was opened.
    pub(super) is_lost: bool,
}

/// Why a look-up came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("block {1} of {0} is damaged")]
    Damaged(String, u64),
    #[error("{0} cannot be read: {1}")]
    Io(String, io::Error),
}

impl Run {
    /// A whole one: its file, how much is in it, its table.
    pub(super) fn new(
        id: RunId,
        (file, seed): (Arc<dyn PlainFile>, Seed),
        (entries, disk_bytes): (u64, u64),
        (fence, filter): Table,
    ) -> Self {
        let damaged = Mutex::default();
        Self { id, entries, disk_bytes, file, seed, fence, filter, damaged, is_lost: false }
    }

    /// Opens a run. Its entries are read only if its table or footer does not verify; blocks that do not are noted.
    ///
    /// # Errors
    /// It cannot be read, or is of a later format.
    pub(super) fn open(home: &Home, id: RunId) -> io::Result<Self> {
        let name = id.name();
        let file = home.directory.open(&name)?;
        let seed = Seed::of_run(&home.secret, &name);
        let disk_bytes = file.bytes()?;
        let blocks = disk_bytes / BLOCK as u64;
        let footer = Footer::read(&*file, seed, blocks)?;
        let bad = match &footer {
            None => blocks,
            Some(footer) => match read_table(&*file, seed, footer)? {
                Ok(table) => {
                    return Ok(Self::new(id, (file, seed), (footer.entries, disk_bytes), table));
                }
                Err(bad) => bad,
            },
        };
        let entries_end = footer.map_or(blocks, |footer| u64::from(footer.blocks));
        let (entries, table, damaged) = salvage(&*file, seed, entries_end)?;
        let run = Self::new(id, (file, seed), (entries, disk_bytes), table);
        run.damaged().extend(damaged.into_iter().chain([bad]));
        Ok(Self { is_lost: entries == 0, ..run })
    }

    /// The outcome of that hash, if it is here. Reads one block.
    ///
    /// # Errors
    /// [`Unread`]
    pub(super) fn find(&self, hash: u128) -> Result<Option<Outcome>, Unread> {
        let upper = upper(hash);
        let mut place = self.fence.partition_point(|first| *first <= upper);
        while let Some(n) = place.checked_sub(1) {
            if let Some(outcome) = self.find_in(n as u64, hash)? {
                return Ok(Some(outcome));
            }
            // Where a block begins with the very same bits, the one before may end with them.
            if self.fence.get(n) != Some(&upper) {
                break;
            }
            place = n;
        }
        Ok(None)
    }

    fn find_in(&self, n: u64, hash: u128) -> Result<Option<Outcome>, Unread> {
        let mut block = vec![0; BLOCK];
        let read = self.file.read_at(block::offset(n), &mut block);
        read.map_err(|error| Unread::Io(self.id.name(), error))?;
        let damaged = || {
            self.note_damaged(n);
            Unread::Damaged(self.id.name(), n)
        };
        let mut outcomes = Outcomes::of(&block, self.seed, n).ok_or_else(damaged)?;
        while let Some(next) = outcomes.next(&block).map_err(|_| damaged())? {
            if next >= hash {
                return Ok((next == hash).then(|| outcomes.outcome().clone()));
            }
        }
        Ok(None)
    }

    /// Reads all of it, so that every damaged block is noted.
    ///
    /// # Errors
    /// The disk cannot be read now.
    pub(super) fn verify(self: &Arc<Self>) -> io::Result<()> {
        let mut cursor = Cursor::new(Arc::clone(self));
        while cursor.next()?.is_some() {}
        Ok(())
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.filter.bytes() + size_of_val(self.fence.as_slice()) as u64
    }

    /// How many blocks were found not to verify.
    pub(super) fn damaged_blocks(&self) -> u64 {
        self.damaged().len() as u64
    }

    /// Notes a block that does not verify.
    pub(super) fn note_damaged(&self, n: u64) {
        self.damaged().insert(n);
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    pub(super) entries: u64,
    pub(super) blocks: u32,
    pub(super) lines: u32,
}

impl Footer {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&MIN_READER.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.entries.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.lines.to_le_bytes());
        out
    }

    /// The one at the end of so many blocks; `None` if what stands there does not verify.
    fn read(file: &dyn PlainFile, seed: Seed, blocks: u64) -> io::Result<Option<Self>> {
        let Some(n) = blocks.checked_sub(1) else { return Ok(None) };
        let mut block = vec![0; BLOCK];
        file.read_at(block::offset(n), &mut block)?;
        let Some(content) = block::content(&block, seed, Part::Footer, n) else { return Ok(None) };
        let mut take = Take(content);
        let known = take.bytes(MAGIC.len()) == Some(MAGIC) && take.u16().is_some();
        if !known || take.u16().is_none_or(|min_reader| min_reader > FORMAT) {
            let later = "it is of a format this release does not know";
            return Err(io::Error::new(io::ErrorKind::Unsupported, later));
        }
        let mut read = || {
            take.bytes(4)?;
            Some(Self { entries: take.u64()?, blocks: take.u32()?, lines: take.u32()? })
        };
        Ok(read().filter(|footer| footer.table_blocks() + u64::from(footer.blocks) == n))
    }

    /// Words of the fence, two blocks each.
    fn fence_words(self) -> usize {
        size(u64::from(self.blocks).div_ceil(2))
    }

    fn table_blocks(self) -> u64 {
        (self.fence_words() as u64 + 8 * u64::from(self.lines)).div_ceil(WORDS as u64)
    }
}

/// The fence and the filter.
pub(super) type Table = (Vec<u32>, Filter);

/// The table, or the block of it that does not verify.
fn read_table(file: &dyn PlainFile, seed: Seed, footer: &Footer) -> io::Result<Result<Table, u64>> {
    let (mut fence, mut filter) = (Vec::new(), Filter::blank(footer.lines));
    let (fence_words, blocks) = (footer.fence_words(), u64::from(footer.blocks));
    let mut at = 0;
    let mut table = Blocks::new(blocks, blocks + footer.table_blocks());
    while let Some(n) = table.next(file)? {
        let Some(content) = block::content(table.block(), seed, Part::Table, n) else {
            return Ok(Err(n));
        };
        let mut take = Take(content);
        for word in (0..WORDS).map_while(|_| take.u64()) {
            if at < fence_words {
                let halves = [word, word >> 32].map(|half| half & u64::from(u32::MAX));
                fence.extend(halves.into_iter().filter_map(|half| u32::try_from(half).ok()));
            } else {
                filter.set(at - fence_words, word);
            }
            at += 1;
        }
    }
    fence.truncate(size(blocks));
    Ok(Ok((fence, filter)))
}

/// Makes the table again from the entries that verify: their number, the table, the blocks that do not.
fn salvage(
    file: &dyn PlainFile,
    seed: Seed,
    blocks: u64,
) -> io::Result<(u64, Table, BTreeSet<u64>)> {
    let (mut entries, mut fence, mut damaged) = (0, Vec::new(), BTreeSet::new());
    let mut counting = Blocks::new(0, blocks);
    while let Some(n) = counting.next(file)? {
        let outcomes = Outcomes::of(counting.block(), seed, n);
        let first = outcomes.and_then(|mut outcomes| {
            entries += u64::from(outcomes.left());
            outcomes.next(counting.block()).ok().flatten()
        });
        if first.is_none() {
            damaged.insert(n);
        }
        let before = fence.last().copied().unwrap_or_default();
        fence.push(first.map_or(before, upper));
    }
    // The end is a table and a footer that do not verify, as far as it is there.
    let whole = (0..blocks).rev().find(|n| !damaged.contains(n)).map_or(0, |n| n + 1);
    if whole > 0 {
        fence.truncate(size(whole));
        damaged.retain(|n| *n < whole);
    }
    let mut filter = Filter::new(entries);
    let mut adding = Blocks::new(0, whole);
    while let Some(n) = adding.next(file)? {
        let Some(mut outcomes) = Outcomes::of(adding.block(), seed, n) else { continue };
        while let Ok(Some(hash)) = outcomes.next(adding.block()) {
            filter.insert(&Probe::of(hash));
        }
    }
    Ok((entries, (fence, filter), damaged))
}
