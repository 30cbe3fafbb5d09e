//! A disk in memory whose unsynced writes may be lost, sector by sector, and whose calls may fail.
//!
//! Buffered, a write is two calls, one into the page cache and a sync; a sync that fails drops its pages but leaves them
//! readable. Direct, it is one: durable when it returned, and where it fails or is cut off any of its sectors may
//! have reached the disk.

mod named;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::super::files::{Directory, SlotFile, WriteMode};
use named::Named;

const SECTOR: usize = 512;

/// What survives and what is only in the page cache.
#[derive(Clone, Debug, Default)]
struct Slot {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Whether the name survives.
    named: bool,
    /// Writes since the last sync: offset and length.
    unsynced: Vec<(usize, usize)>,
}

impl Slot {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.unsynced.push((offset, bytes.len()));
    }

    fn sync(&mut self) {
        self.durable.resize(self.cached.len(), 0);
        for (at, len) in std::mem::take(&mut self.unsynced) {
            self.durable[at..at + len].copy_from_slice(&self.cached[at..at + len]);
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let offset = usize::try_from(offset).unwrap().min(self.cached.len());
        let there = (self.cached.len() - offset).min(into.len());
        into[..there].copy_from_slice(&self.cached[offset..offset + there]);
        into[there..].fill(0);
    }

    /// What survives of it when the power went.
    fn restart(&mut self, random: &mut fastrand::Rng, survives: f64) {
        for (offset, len) in std::mem::take(&mut self.unsynced) {
            if self.durable.len() < self.cached.len() {
                self.durable.resize(self.cached.len(), 0);
            }
            for start in (offset..offset + len).step_by(SECTOR) {
                let sector = start..(start + SECTOR).min(offset + len);
                if random.f64() < survives {
                    self.durable[sector.clone()].copy_from_slice(&self.cached[sector]);
                }
            }
        }
        self.cached.clone_from(&self.durable);
    }
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<u32, Slot>,
    /// Removed, and not yet durably so.
    removed: BTreeMap<u32, Slot>,
    /// Calls that change the disk, until the power goes.
    calls_left: Option<u64>,
    /// The sync of that count from now fails; what it should have made durable is dropped or kept.
    failing_sync: Option<u64>,
    syncs: u64,
    calls: u64,
    down: bool,
    direct: bool,
    written: u64,
    /// No slot can be made, and no file can grow.
    full: bool,
    copies: bool,
    /// Files beside the slots.
    named: Named,
}

/// The disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(in crate::embedded) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// An empty disk that is written in that mode.
    pub(in crate::embedded) fn of(mode: WriteMode) -> Self {
        let disk = Self::default();
        disk.set_mode(mode);
        disk
    }

    pub(super) fn set_mode(&self, mode: WriteMode) {
        self.0.lock().unwrap().direct = mode == WriteMode::Direct;
    }

    /// After so many more changing calls every call fails, as if the power had gone.
    pub(in crate::embedded) fn cut_after(&self, calls: u64) {
        self.0.lock().unwrap().calls_left = Some(calls);
    }

    /// The n-th sync from now (0: the next) fails, once.
    pub(in crate::embedded) fn fail_sync(&self, n: u64) {
        self.0.lock().unwrap().failing_sync = Some(n);
    }

    /// Nothing fails any more.
    pub(in crate::embedded) fn calm(&self) {
        self.0.lock().unwrap().failing_sync = None;
    }

    /// A disk that holds these slots.
    pub(super) fn holding(slots: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let slot = |bytes: Vec<u8>| Slot {
            cached: bytes.clone(),
            durable: bytes,
            named: true,
            unsynced: Vec::new(),
        };
        let slots = (0..).zip(slots.into_iter().map(slot)).collect();
        Disk(Arc::new(Mutex::new(State { slots, ..State::default() })))
    }

    /// From now on there is, or is not, space for another slot.
    pub(in crate::embedded) fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }

    /// From now on nothing is written in place: where there is no space, no write to a file beside the slots succeeds.
    pub(in crate::embedded) fn set_copies(&self) {
        self.0.lock().unwrap().copies = true;
    }

    pub(super) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    pub(in crate::embedded) fn is_down(&self) -> bool {
        self.0.lock().unwrap().down
    }

    /// Power comes back: each sector of an unsynced write survived with the given chance, each name likewise.
    pub(in crate::embedded) fn restart(&self, random: &mut fastrand::Rng, survives: f64) {
        let mut state = self.0.lock().unwrap();
        let removed = std::mem::take(&mut state.removed);
        for (number, slot) in removed {
            if random.f64() >= survives {
                state.slots.entry(number).or_insert(slot);
            }
        }
        state.slots.retain(|_, slot| slot.named || random.f64() < survives);
        for slot in state.slots.values_mut() {
            slot.restart(random, survives);
            slot.named = true;
        }
        state.named.restart(random, survives);
        state.calls_left = None;
        state.failing_sync = None;
        state.down = false;
    }

    /// Changes durable bytes behind the journal's back.
    pub(super) fn damage(&self, slot: u32, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.0.lock().unwrap();
        let slot = state.slots.get_mut(&slot).unwrap();
        change(&mut slot.durable);
        slot.cached.clone_from(&slot.durable);
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.0.lock().unwrap().slots.keys().copied().collect()
    }

    pub(super) fn bytes_of(&self, slot: u32) -> Vec<u8> {
        self.0.lock().unwrap().slots[&slot].durable.clone()
    }

    /// All of it, to start from again.
    pub(super) fn image(&self) -> Disk {
        let state = self.0.lock().unwrap();
        let (slots, direct) = (state.slots.clone(), state.direct);
        Disk(Arc::new(Mutex::new(State { slots, direct, ..State::default() })))
    }

    fn change<T>(&self, call: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.pass()?;
        call(&mut state)
    }
}

impl State {
    /// Counts a call that changes the disk, unless the power is gone.
    fn pass(&mut self) -> io::Result<()> {
        self.down |= self.calls_left == Some(0);
        if self.down {
            return Err(io::Error::other("the power is gone"));
        }
        if let Some(left) = &mut self.calls_left {
            *left -= 1;
        }
        self.calls += 1;
        Ok(())
    }

    fn slot(&mut self, slot: u32) -> io::Result<&mut Slot> {
        self.slots.get_mut(&slot).ok_or_else(DiskFile::gone)
    }

    fn write_direct(&mut self, slot: u32, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let up = !self.down;
        let passed = self.pass();
        if up && self.down {
            // The power goes while it is under way.
            self.slot(slot)?.write(offset, bytes);
        }
        passed?;
        let fails = self.sync_fails();
        let mut random = fastrand::Rng::with_seed(self.calls);
        for (n, sector) in bytes.chunks(SECTOR).enumerate() {
            if !fails || random.bool() {
                let at = offset + n * SECTOR;
                let slot = self.slot(slot)?;
                slot.durable[at..at + sector.len()].copy_from_slice(sector);
                slot.cached[at..at + sector.len()].copy_from_slice(sector);
            }
        }
        if fails { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    fn write_buffered(&mut self, slot: u32, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.pass()?;
        self.slot(slot)?.write(offset, bytes);
        Ok(())
    }

    fn sync_slot(&mut self, slot: u32) -> io::Result<()> {
        self.pass()?;
        let fails = self.sync_fails();
        let slot = self.slot(slot)?;
        if fails {
            // The pages are marked clean and never reach the disk.
            slot.unsynced.clear();
            return Err(io::Error::other("injected"));
        }
        slot.sync();
        Ok(())
    }

    fn sync_fails(&mut self) -> bool {
        self.syncs += 1;
        match &mut self.failing_sync {
            Some(0) => {
                self.failing_sync = None;
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }
}

impl Directory for Disk {
    fn slots(&self) -> io::Result<Vec<u32>> {
        Ok(self.numbers())
    }

    fn create(&self, slot: u32, bytes: u64) -> io::Result<Arc<dyn SlotFile>> {
        self.change(|state| {
            if state.full {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let bytes = usize::try_from(bytes).unwrap();
            let made = Slot {
                cached: vec![0; bytes],
                durable: vec![0; bytes],
                named: false,
                unsynced: Vec::new(),
            };
            assert!(state.slots.insert(slot, made).is_none(), "slot {slot} is there already");
            Ok(())
        })?;
        self.open(slot)
    }

    fn open(&self, slot: u32) -> io::Result<Arc<dyn SlotFile>> {
        Ok(Arc::new(DiskFile { disk: self.clone(), slot }))
    }

    fn remove(&self, slot: u32) -> io::Result<()> {
        self.change(|state| {
            let gone = state.slots.remove(&slot).unwrap();
            if gone.named {
                state.removed.insert(slot, gone);
            }
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.change(|state| {
            if state.sync_fails() {
                return Err(io::Error::other("injected"));
            }
            state.slots.values_mut().for_each(|slot| slot.named = true);
            state.removed.clear();
            Ok(())
        })
    }

    fn write_mode(&self) -> WriteMode {
        if self.0.lock().unwrap().direct { WriteMode::Direct } else { WriteMode::Buffered }
    }

    fn bytes_written(&self) -> u64 {
        self.0.lock().unwrap().written
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    slot: u32,
}

impl DiskFile {
    fn gone() -> io::Error {
        io::Error::other("no such slot")
    }
}

impl SlotFile for DiskFile {
    fn bytes(&self) -> io::Result<u64> {
        let state = self.disk.0.lock().unwrap();
        Ok(state.slots.get(&self.slot).ok_or_else(Self::gone)?.cached.len() as u64)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(offset % 4096, 0);
        assert_eq!(bytes.len() % 4096, 0);
        assert_eq!(bytes.as_ptr().align_offset(4096), 0);
        let mut state = self.disk.0.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        state.written += bytes.len() as u64;
        if state.direct {
            return state.write_direct(self.slot, offset, bytes);
        }
        state.write_buffered(self.slot, offset, bytes)?;
        state.sync_slot(self.slot)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock().unwrap();
        state.slots.get(&self.slot).ok_or_else(Self::gone)?.read(offset, into);
        Ok(())
    }

    fn read_device_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        assert_eq!(offset % 4096, 0);
        assert_eq!(into.len() % 4096, 0);
        assert_eq!(into.as_ptr().align_offset(4096), 0);
        let state = self.disk.0.lock().unwrap();
        let slot = state.slots.get(&self.slot).ok_or_else(Self::gone)?;
        // Dirty pages are written back first; pages a failed sync dropped are not dirty.
        let offset = usize::try_from(offset).unwrap().min(slot.durable.len());
        let there = (slot.durable.len() - offset).min(into.len());
        into[..there].copy_from_slice(&slot.durable[offset..offset + there]);
        into[there..].fill(0);
        for (at, len) in &slot.unsynced {
            let (from, to) = ((*at).max(offset), (at + len).min(offset + there));
            if from < to {
                into[from - offset..to - offset].copy_from_slice(&slot.cached[from..to]);
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.0.lock().unwrap().sync_slot(self.slot)
    }
}
