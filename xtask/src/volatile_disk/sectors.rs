//! What the disk remembers: stable sectors, and written ones that only a sync makes stable.

use std::collections::{BTreeMap, HashMap};

/// A sector, the unit that survives a power cut whole or not at all.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
const SECTORS_IN_PAGE: usize = PAGE / SECTOR;

type Page = Box<[u8; PAGE]>;

/// What one power cut met and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cut {
    /// Sectors written since the last sync.
    pub unsynced: u64,
    /// How many of those are gone.
    pub dropped: u64,
}

/// What a write bears at the start of one of its pages: four bytes, and the bits of one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The first four bytes.
    pub magic: [u8; 4],
    /// Where the other one is.
    pub at: usize,
    /// Which of its bits are looked at.
    pub mask: u8,
    /// What they are.
    pub bits: u8,
}

impl Mark {
    /// Whether a page of these bytes bears it.
    pub(super) fn is_in(self, bytes: &[u8]) -> bool {
        bytes.chunks(PAGE).any(|page| {
            page.starts_with(&self.magic)
                && page.get(self.at).is_some_and(|byte| byte & self.mask == self.bits)
        })
    }
}

/// How one request fails. Those after it succeed, which is the trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A write of which nothing is taken.
    Write,
    /// A write of which only the first half is taken.
    Short,
    /// A sync at which everything not yet synced is dropped.
    Sync,
}

/// Why the disk refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The power is off.
    NoPower,
    /// It was to fail.
    Failed,
    /// The request reaches beyond the end, or is not whole sectors.
    BadRange,
}

/// The disk. Memory grows with the pages ever written, at most to its size (twice that while unsynced).
#[derive(Debug)]
pub(super) struct Sectors {
    size: u64,
    stable: HashMap<u64, Page>,
    /// In order of page, so that one seed always drops the same sectors.
    volatile: BTreeMap<u64, Unsynced>,
    powered: bool,
    /// Sectors written while the power is off.
    late: u64,
    /// What is to fail, after so many more that succeed.
    armed: Option<(Fault, u32)>,
    /// Requests that failed because they were to.
    failed: u64,
}

#[derive(Debug)]
struct Unsynced {
    bytes: Page,
    /// One bit for each sector of the page that was written.
    written: u8,
}

impl Sectors {
    /// An empty disk of `size` bytes, reading as zeros, with the power on.
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            stable: HashMap::new(),
            volatile: BTreeMap::new(),
            powered: true,
            late: 0,
            armed: None,
            failed: 0,
        }
    }

    /// Lets one request of its kind fail, after `after` more that succeed.
    pub(super) fn arm(&mut self, fault: Fault, after: u32) {
        self.armed = Some((fault, after));
    }

    /// How many requests failed because they were to.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether a request of one of these kinds is to fail now, and how.
    fn fails(&mut self, kinds: &[Fault]) -> Option<Fault> {
        let (fault, after) = self.armed.filter(|(fault, _)| kinds.contains(fault))?;
        self.armed = after.checked_sub(1).map(|after| (fault, after));
        let now = self.armed.is_none();
        self.failed += u64::from(now);
        now.then_some(fault)
    }

    /// Its size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads what was last written, synced or not; short at the end of the disk.
    ///
    /// # Errors
    /// [`Refusal::NoPower`] while the power is off.
    pub(super) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Refusal> {
        if !self.powered {
            return Err(Refusal::NoPower);
        }
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(left);
        let mut out = Vec::with_capacity(length);
        let mut at = offset;
        while out.len() < length {
            let (page, within) = place(at);
            let take = (PAGE - within).min(length - out.len());
            let bytes = self
                .volatile
                .get(&page)
                .map(|unsynced| &unsynced.bytes)
                .or_else(|| self.stable.get(&page))
                .and_then(|bytes| bytes.get(within..within + take));
            match bytes {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
        Ok(out)
    }

    /// Takes whole sectors, volatile until [`sync`](Self::sync). Without power they are dropped and
    /// the writer is none the wiser, as with a machine that is already dead.
    ///
    /// # Errors
    /// [`Refusal::BadRange`] for a part of a sector or bytes beyond the end; [`Refusal::Failed`] if it was to
    /// fail.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Refusal> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Refusal::BadRange)?;
        let sector = SECTOR as u64;
        if end > self.size || !offset.is_multiple_of(sector) || !end.is_multiple_of(sector) {
            return Err(Refusal::BadRange);
        }
        if !self.powered {
            self.late += bytes.len() as u64 / sector;
            return Ok(());
        }
        let failed = self.fails(&[Fault::Write, Fault::Short]);
        let mut rest = match failed {
            None => bytes,
            Some(Fault::Short) => {
                let half = bytes.len() / 2;
                bytes.get(..half - half % SECTOR).unwrap_or_default()
            }
            Some(Fault::Write | Fault::Sync) => &[],
        };
        let mut at = offset;
        while !rest.is_empty() {
            let (page, within) = place(at);
            let (part, after) = rest.split_at((PAGE - within).min(rest.len()));
            let stable = &self.stable;
            let unsynced = self.volatile.entry(page).or_insert_with(|| Unsynced {
                bytes: stable.get(&page).cloned().unwrap_or_else(|| Box::new([0; PAGE])),
                written: 0,
            });
            if let Some(target) = unsynced.bytes.get_mut(within..within + part.len()) {
                target.copy_from_slice(part);
            }
            for index in within / SECTOR..(within + part.len()) / SECTOR {
                unsynced.written |= 1 << index;
            }
            rest = after;
            at += part.len() as u64;
        }
        failed.map_or(Ok(()), |_| Err(Refusal::Failed))
    }

    /// Makes everything written so far stable.
    ///
    /// # Errors
    /// [`Refusal::NoPower`] while the power is off: nobody may take it for durable. [`Refusal::Failed`] if it was to
    /// fail; what was not yet synced is gone then.
    pub(super) fn sync(&mut self) -> Result<(), Refusal> {
        if !self.powered {
            return Err(Refusal::NoPower);
        }
        if self.fails(&[Fault::Sync]).is_some() {
            self.volatile.clear();
            return Err(Refusal::Failed);
        }
        for (page, unsynced) in std::mem::take(&mut self.volatile) {
            self.stable.insert(page, unsynced.bytes);
        }
        Ok(())
    }

    /// Cuts the power: each unsynced sector survives with probability `survival`, the rest is gone.
    pub(super) fn cut(&mut self, survival: f64, random: &mut fastrand::Rng) -> Cut {
        self.powered = false;
        let mut cut = Cut::default();
        for (page, unsynced) in std::mem::take(&mut self.volatile) {
            let stable = self.stable.entry(page).or_insert_with(|| Box::new([0; PAGE]));
            let sectors = stable.chunks_exact_mut(SECTOR).zip(unsynced.bytes.chunks_exact(SECTOR));
            for (index, (old, new)) in sectors.enumerate().take(SECTORS_IN_PAGE) {
                if unsynced.written & (1 << index) == 0 {
                    continue;
                }
                cut.unsynced += 1;
                if random.f64() < survival {
                    old.copy_from_slice(new);
                } else {
                    cut.dropped += 1;
                }
            }
        }
        cut
    }

    /// Gives the power back; what is stable is what the disk holds. Says how many sectors came too
    /// late: they were in the dead machine's memory.
    pub(super) fn power_on(&mut self) -> u64 {
        self.powered = true;
        std::mem::take(&mut self.late)
    }
}

/// The page of a byte and its place within.
fn place(offset: u64) -> (u64, usize) {
    let page = PAGE as u64;
    (offset / page, usize::try_from(offset % page).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> Sectors {
        Sectors::new(1 << 20)
    }

    #[test]
    fn a_cut_drops_what_was_not_synced_and_keeps_what_was() {
        let mut disk = disk();
        disk.write(0, &[1; SECTOR]).unwrap();
        disk.sync().unwrap();
        disk.write(0, &[2; SECTOR]).unwrap();
        disk.write(8192, &[3; 2 * SECTOR]).unwrap();
        assert_eq!(disk.read(0, 1).unwrap(), [2]);
        let cut = disk.cut(0.0, &mut fastrand::Rng::with_seed(1));
        assert_eq!(cut, Cut { unsynced: 3, dropped: 3 });
        disk.power_on();
        assert_eq!(disk.read(0, SECTOR).unwrap(), [1; SECTOR]);
        assert_eq!(disk.read(8192, SECTOR).unwrap(), [0; SECTOR]);
    }

    #[test]
    fn each_sector_survives_or_not_on_its_own() {
        let mut disk = disk();
        disk.write(0, &vec![7; 1 << 20]).unwrap();
        let cut = disk.cut(0.5, &mut fastrand::Rng::with_seed(7));
        assert_eq!(cut.unsynced, 2048);
        assert!((900..1150).contains(&cut.dropped), "{cut:?}");
        disk.power_on();
        let bytes = disk.read(0, 1 << 20).unwrap();
        let gone = bytes.chunks(SECTOR).filter(|sector| sector.iter().all(|byte| *byte == 0));
        let whole = bytes.chunks(SECTOR).filter(|sector| sector.iter().all(|byte| *byte == 7));
        let (gone, whole) = (gone.count() as u64, whole.count() as u64);
        assert_eq!((gone, whole), (cut.dropped, cut.unsynced - cut.dropped));
    }

    #[test]
    fn without_power_writes_vanish_and_nothing_is_called_durable() {
        let mut disk = disk();
        disk.cut(1.0, &mut fastrand::Rng::with_seed(1));
        assert_eq!(disk.write(0, &[1; SECTOR]), Ok(()));
        assert_eq!(disk.sync(), Err(Refusal::NoPower));
        assert_eq!(disk.read(0, 1), Err(Refusal::NoPower));
        assert_eq!(disk.power_on(), 1);
        assert_eq!(disk.power_on(), 0);
        assert_eq!(disk.read(0, SECTOR).unwrap(), [0; SECTOR]);
    }

    #[test]
    fn the_nth_sync_fails_once_and_drops_what_was_not_synced() {
        let mut disk = disk();
        disk.write(0, &[1; SECTOR]).unwrap();
        disk.arm(Fault::Sync, 1);
        assert_eq!(disk.sync(), Ok(()));
        disk.write(0, &[2; SECTOR]).unwrap();
        assert_eq!(disk.failed(), 0);
        assert_eq!(disk.sync(), Err(Refusal::Failed));
        assert_eq!((disk.failed(), disk.read(0, SECTOR).unwrap()), (1, vec![1; SECTOR]));
        assert_eq!(disk.sync(), Ok(()), "the next one succeeds");
    }

    #[test]
    fn a_write_fails_whole_or_after_its_first_half() {
        let mut disk = disk();
        disk.arm(Fault::Write, 0);
        assert_eq!(disk.write(0, &[1; SECTOR]), Err(Refusal::Failed));
        disk.arm(Fault::Short, 0);
        assert_eq!(disk.sync(), Ok(()), "no write");
        assert_eq!(disk.write(0, &[2; 3 * SECTOR]), Err(Refusal::Failed));
        let bytes = disk.read(0, 3 * SECTOR).unwrap();
        assert_eq!(bytes.iter().filter(|byte| **byte == 2).count(), SECTOR);
        assert_eq!((disk.failed(), disk.write(0, &[3; SECTOR])), (2, Ok(())));
    }

    #[test]
    fn parts_of_sectors_and_bytes_beyond_the_end_are_refused() {
        let mut disk = disk();
        assert_eq!(disk.write(1, &[1; SECTOR]), Err(Refusal::BadRange));
        assert_eq!(disk.write(0, &[1; 100]), Err(Refusal::BadRange));
        assert_eq!(disk.write(1 << 20, &[1; SECTOR]), Err(Refusal::BadRange));
        assert_eq!(disk.write(u64::MAX, &[1; SECTOR]), Err(Refusal::BadRange));
        assert_eq!(disk.read((1 << 20) - 10, 100).unwrap().len(), 10);
    }
}
