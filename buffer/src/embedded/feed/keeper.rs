//! The slots, as the one thread sees them that writes to them.
//!
//! New slots are made until there are as many bytes as may be kept; then, or where the disk has no room, the oldest one begins a new
//! life, and what stood in it is given up. Slots are filled with zeros before they are used, so that to write to one needs no room.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::super::files::{Directory, PlainFile, no_room};
use super::super::journal::layout::size;
use super::frame::{Filling, SECTOR};
use super::shared::Shared;
use super::slot::{FRAMES_AT, Slot};
use crate::{Clock, FeedEvent, metrics};

/// Zeros written at once.
const ZEROS: u64 = 1 << 20;
/// A disk without room for a single slot is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the feed is kept, and how much of it.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) directory: Box<dyn Directory>,
    pub(super) secret: [u8; 16],
    /// Bytes of a slot, and of all of them at most.
    pub(super) slot_bytes: u64,
    pub(super) bytes_max: u64,
    /// Bytes of the disk that are left to orders, once there are two slots.
    pub(super) leaves: u64,
}

/// A file that no life is kept in.
#[derive(Debug)]
struct Spare {
    number: u32,
    bytes: u64,
}

/// Writes the feed.
pub(in crate::embedded) struct Keeper {
    home: Home,
    clock: Arc<dyn Clock>,
    pub(super) shared: Arc<Shared>,
    spare: Vec<Spare>,
    open: Option<Arc<Slot>>,
    /// Of the latest life.
    life: u64,
    /// Where the next frame goes; below `synced` everything is durable.
    at: u64,
    synced: u64,
    /// Everything is told up to here, and the slots say so up to there.
    told: u64,
    written: u64,
    /// There was no room for a single slot; by [`Clock::elapsed`].
    full_until: Duration,
}

impl Keeper {
    /// Takes up what is there. Gives back how far the feed is, if there is one, and what is not as it should be, in words.
    pub(super) fn open(
        home: Home,
        clock: Arc<dyn Clock>,
    ) -> io::Result<(Self, Option<u64>, Vec<String>)> {
        let mut notes = Vec::new();
        let (mut slots, mut spare) = (Vec::new(), Vec::new());
        for number in home.directory.names()?.iter().filter_map(|name| number_of(name)) {
            let file = home.directory.open_to_write(&name(number))?;
            match Slot::open(Arc::clone(&file), &home.secret, number)? {
                Some(slot) => slots.push(slot),
                // It was being made, or is damaged; whatever it was, a new one takes no more room.
                None => {
                    notes.extend(gone(&*file, number)?);
                    home.directory.remove(&name(number))?;
                }
            }
        }
        slots.sort_unstable_by_key(|slot| slot.life);
        // What comes after something that is missing is all that can be told without leaving anything out.
        let whole = slots.windows(2).rposition(|pair| {
            let [before, after] = pair else { return false };
            before.life + 1 != after.life
        });
        let missing = whole.map_or(0, |before| before + 1);
        if missing > 0 {
            notes.push(format!(
                "a part of the outcome feed is missing; {missing} slots before it are given up"
            ));
        }
        for slot in slots.drain(..missing) {
            spare.push(Spare { number: slot.number, bytes: slot.bytes });
        }
        let life = slots.last().map_or(0, |slot| slot.life);
        let shared = Arc::new(Shared::new(slots.into_iter().map(Arc::new).collect()));
        let mut keeper = Self {
            home,
            clock,
            shared,
            spare,
            open: None,
            life,
            at: 0,
            synced: 0,
            told: 0,
            written: 0,
            full_until: Duration::ZERO,
        };
        let told = match keeper.take_up(&mut notes) {
            Err(error) if no_room(&error) => {
                notes.push(format!(
                    "there is no room to go on with the outcome feed ({error}); it begins anew"
                ));
                keeper.give_up_all(0);
                None
            }
            told => told?,
        };
        Ok((keeper, told, notes))
    }

    /// Goes on in the youngest slot, behind what of it counts.
    fn take_up(&mut self, notes: &mut Vec<String>) -> io::Result<Option<u64>> {
        let slots = self.shared.slots();
        let Some(slot) = slots.last() else { return Ok(None) };
        let walked = slot.walk(true)?;
        if walked.holes > 0 {
            notes.push(format!(
                "{} in the outcome feed is damaged at {} places; what stood there is not told any more",
                name(slot.number),
                walked.holes
            ));
        }
        if let Some(torn) = walked.torn {
            slot.wipe(walked.end, torn)?;
        }
        let mut newest = walked.newest;
        for older in slots.iter().rev().skip(1) {
            if newest > 0 {
                break;
            }
            newest = older.walk(false)?.newest;
        }
        (self.at, self.told, self.written) = (walked.end, walked.told, walked.told);
        // What was found may still be on its way to the disk.
        slot.file.sync()?;
        self.at = self.at.next_multiple_of(SECTOR);
        self.synced = self.at;
        self.open = Some(Arc::clone(slot));
        self.shared.tell(self.told, newest);
        Ok(Some(self.told))
    }

    /// What those who read it share.
    pub(in crate::embedded) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Gives up all that is there, and begins after that sequence.
    pub(in crate::embedded) fn begin_after(&mut self, sequence: u64) -> io::Result<()> {
        self.give_up_all(sequence);
        self.shared.begin_after(sequence);
        self.next_slot()?;
        Ok(())
    }

    /// Tells events, in order; with them, what all records up to that sequence made of orders is told. Whoever reads may see them
    /// at once: they are derived again from the journal where they do not reach the disk.
    pub(in crate::embedded) fn tell(
        &mut self,
        events: impl IntoIterator<Item = FeedEvent>,
        told: u64,
    ) -> io::Result<()> {
        let mut filling = Filling::after(self.written);
        let (mut newest, mut count) = (0, 0);
        for event in events {
            if filling.is_full_for(event.sequence) {
                let full = std::mem::replace(&mut filling, Filling::after(newest));
                self.write(full, newest)?;
            }
            filling.add(&event);
            newest = event.sequence;
            count += 1;
        }
        if !filling.is_empty() {
            self.write(filling, told)?;
        }
        self.told = self.told.max(told);
        self.shared.tell(self.told, newest);
        metrics::feed_events(count);
        Ok(())
    }

    /// Makes durable how far everything is told.
    pub(in crate::embedded) fn sync(&mut self) -> io::Result<()> {
        if self.told > self.written {
            self.write(Filling::after(self.written), self.told)?;
        }
        self.flush()?;
        self.shared.synced(self.told);
        Ok(())
    }

    /// Makes durable what was written. Where there is no room for that, as file systems say that write nothing in place, nobody knows
    /// what of it is, so all is given up.
    fn flush(&mut self) -> io::Result<()> {
        match self.flush_open() {
            Err(error) if no_room(&error) => {
                let told = self.told;
                self.give_up_all(self.written);
                // What comes next follows what was written; no event stands in between.
                self.told = told;
                Ok(())
            }
            flushed => flushed,
        }
    }

    fn flush_open(&mut self) -> io::Result<()> {
        let Some(slot) = self.open.as_ref().filter(|_| self.at > self.synced) else {
            return Ok(());
        };
        // The rest of the last sector, so that it is never written to again.
        let end = self.at.next_multiple_of(SECTOR);
        if end > self.at && end <= slot.bytes {
            slot.file.write_at(self.at, &vec![0; size(end - self.at)])?;
        }
        slot.file.sync()?;
        self.at = end;
        self.synced = end;
        Ok(())
    }

    fn write(&mut self, filling: Filling, told: u64) -> io::Result<()> {
        let bytes = filling.padded();
        if self.open.as_ref().is_none_or(|slot| self.at + bytes > slot.bytes) {
            self.flush()?;
            if !self.next_slot()? {
                self.give_up_all(told);
                return Ok(());
            }
        }
        let Some(slot) = self.open.clone().filter(|slot| self.at + bytes <= slot.bytes) else {
            tracing::error!(
                bytes,
                "a record made of more orders something than a slot of the outcome feed can hold"
            );
            self.give_up_all(told);
            return Ok(());
        };
        let (head, frame) = filling.close(slot.seed, self.at, told, self.synced);
        loop {
            match slot.file.write_at(self.at, &frame) {
                // Where the file system writes nothing in place, room is made by removing the oldest.
                Err(error) if no_room(&error) => {
                    if !self.remove_oldest(&slot)? {
                        self.give_up_all(told);
                        return Ok(());
                    }
                }
                written => break written?,
            }
        }
        slot.added(&head, self.at);
        self.at += frame.len() as u64;
        self.written = told;
        Ok(())
    }

    /// Begins another slot; false if there is no room for a single one. All that was written is durable before.
    fn next_slot(&mut self) -> io::Result<bool> {
        if self.open.is_none() && self.clock.elapsed() < self.full_until {
            return Ok(false);
        }
        let Some((number, file)) = self.next_file()? else {
            self.full_until = self.clock.elapsed() + AGAIN;
            return Ok(false);
        };
        self.life += 1;
        let begun = Slot::begin(file, &self.home.secret, (number, self.life), self.written);
        let slot = match begun {
            Err(error) if no_room(&error) => {
                self.home.directory.remove(&name(number))?;
                self.full_until = self.clock.elapsed() + AGAIN;
                return Ok(false);
            }
            begun => Arc::new(begun?),
        };
        self.shared.add(Arc::clone(&slot));
        self.open = Some(slot);
        (self.at, self.synced) = (FRAMES_AT, FRAMES_AT);
        metrics::feed_disk(self.bytes());
        Ok(true)
    }

    /// A file for another life: one that is free, a new one, or the oldest, which is given up.
    fn next_file(&mut self) -> io::Result<Option<(u32, Arc<dyn PlainFile>)>> {
        while let Some(spare) = self.spare.pop() {
            if spare.bytes == self.home.slot_bytes
                && self.bytes() + spare.bytes <= self.home.bytes_max
            {
                let file = self.home.directory.open_to_write(&name(spare.number))?;
                return Ok(Some((spare.number, file)));
            }
            self.home.directory.remove(&name(spare.number))?;
        }
        if self.may_grow()? {
            match self.make() {
                Err(error) if no_room(&error) => {
                    tracing::warn!(
                        %error,
                        "no room for another slot of the outcome feed; the oldest is given up"
                    );
                }
                made => return made.map(Some),
            }
        }
        while let Some(oldest) = self.shared.give_up_oldest() {
            if self.bytes() + oldest.bytes <= self.home.bytes_max {
                return Ok(Some((oldest.number, Arc::clone(&oldest.file))));
            }
            // Fewer bytes are to be kept than before.
            self.home.directory.remove(&name(oldest.number))?;
        }
        Ok(None)
    }

    /// Whether another slot may be made. What the journal gives up on a full disk is not the feed's to take.
    fn may_grow(&self) -> io::Result<bool> {
        let Home { slot_bytes, bytes_max, leaves, directory, .. } = &self.home;
        let left =
            if self.shared.slots().len() < 2 { *slot_bytes } else { *slot_bytes.max(leaves) };
        Ok(self.bytes() + slot_bytes <= *bytes_max && directory.free_bytes()? >= slot_bytes + left)
    }

    /// Makes a slot, filled with zeros, durable with its name.
    fn make(&self) -> io::Result<(u32, Arc<dyn PlainFile>)> {
        let directory = &self.home.directory;
        let there = directory.names()?;
        let taken = |number: &u32| there.contains(&name(*number));
        let number = (1..u32::MAX).find(|number| !taken(number)).unwrap_or(u32::MAX);
        let file = directory.create(&name(number))?;
        let fill = || {
            let zeros = vec![0; size(ZEROS.min(self.home.slot_bytes))];
            for at in (0..self.home.slot_bytes).step_by(zeros.len()) {
                let len = size(self.home.slot_bytes - at).min(zeros.len());
                file.write_at(at, zeros.get(..len).unwrap_or_default())?;
            }
            file.sync()?;
            directory.sync()
        };
        if let Err(error) = fill() {
            directory.remove(&name(number))?;
            return Err(error);
        }
        Ok((number, file))
    }

    /// Gives the oldest slot back to the disk, unless it is that one.
    fn remove_oldest(&mut self, but: &Slot) -> io::Result<bool> {
        let slots = self.shared.slots();
        if slots.first().is_none_or(|oldest| oldest.number == but.number) {
            return Ok(false);
        }
        let Some(oldest) = self.shared.give_up_oldest() else { return Ok(false) };
        tracing::warn!(
            file = name(oldest.number),
            after = oldest.base,
            "no room to write the outcome feed; its oldest slot is removed"
        );
        self.home.directory.remove(&name(oldest.number))?;
        Ok(true)
    }

    /// What was not synced is gone, as if the power had been.
    #[cfg(test)]
    pub(super) fn lose_unsynced(&mut self) -> io::Result<()> {
        let slot = self.open.as_ref().filter(|_| self.at > self.synced);
        slot.map_or(Ok(()), |slot| slot.wipe(self.synced, self.at))
    }

    /// Nothing is kept of what was told up to here.
    fn give_up_all(&mut self, told: u64) {
        if self.open.take().is_some() {
            tracing::warn!(told, "nothing is kept of the outcome feed up to that sequence");
        }
        (self.at, self.synced) = (0, 0);
        (self.told, self.written) = (told, told);
        // A life is missing then, so that no start takes what is given up for what comes before.
        self.life += 1;
        while let Some(slot) = self.shared.give_up_oldest() {
            self.spare.push(Spare { number: slot.number, bytes: slot.bytes });
        }
    }

    /// Bytes of the slots in use.
    fn bytes(&self) -> u64 {
        self.shared.slots().iter().map(|slot| slot.bytes).sum()
    }
}

/// What is said of a file that no slot stands in, unless it was only being made.
fn gone(file: &dyn PlainFile, number: u32) -> io::Result<Option<String>> {
    let mut head = vec![0; size(SECTOR)];
    file.read_at(0, &mut head)?;
    let damaged = head.iter().any(|byte| *byte != 0);
    Ok(damaged.then(|| {
        format!(
            "{} in the outcome feed is damaged and removed; what stood there alone is not told any more",
            name(number)
        )
    }))
}

fn name(number: u32) -> String {
    format!("{number}.feed")
}

/// The number in a file's name.
fn number_of(file: &str) -> Option<u32> {
    let number = file.strip_suffix(".feed")?.parse().ok()?;
    (name(number) == file).then_some(number)
}
