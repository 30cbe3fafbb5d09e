//! How many calls were used in the last day, in a file that a crash cannot make forget any.
//!
//! ```text
//! 16 bytes of magic; then one slot of 16 for each ten minutes of a day and a little more, by turns:
//! which ten minutes since 1970 u32, calls u32, CRC-32C of both u32, nothing u32; little-endian
//! ```
//! Calls are entered before they are used, a block at once, so that the file is written once for many: what is left of a block at the
//! end of the process counts as used. The first block is one call and each next one twice as large, up to a thousandth of the
//! day's, so that a process that is started again and again wastes no more than it uses. A slot is written in its place: that
//! needs no room on a full disk, where orders must be drained to make some.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Clock;

const MAGIC: [u8; SLOT] = *b"forebay calls 1\n";
const SLOT: usize = 16;
/// What calls are counted by.
const STEP_MS: i64 = 600_000;
/// Steps in a day; a call counts until the end of the step it was in, a day later.
const DAY: u32 = 144;
const SLOTS: u32 = DAY + 2;
/// Of a day's calls, the most that are entered at once.
const BLOCK: u64 = 1_000;

/// The calls of the last day.
pub(super) struct Day {
    clock: Arc<dyn Clock>,
    file: Option<Kept>,
    /// By the step they were in; those that were entered and not used yet are among them.
    steps: BTreeMap<u32, u32>,
    /// Entered and not used yet, and in which step.
    left: u64,
    entered: u32,
    /// How many are entered next.
    block: u64,
}

#[derive(Clone)]
struct Kept {
    path: PathBuf,
    file: Arc<File>,
}

impl Kept {
    fn write(&self, changed: &[(u32, u32)]) -> Result<(), String> {
        let write = || {
            for (step, calls) in changed {
                let at = SLOT as u64 * (u64::from(step % SLOTS) + 1);
                self.file.write_all_at(&encode(*step, *calls), at)?;
            }
            self.file.sync_data()
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", self.path.display()))
    }
}

impl Day {
    /// Goes on with what the file says; begins one where there is none. Without a file a restart forgets.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub(super) fn open(path: Option<&Path>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let mut day =
            Self { clock, file: None, steps: BTreeMap::new(), left: 0, entered: 0, block: 1 };
        let Some(path) = path else { return Ok(day) };
        let said = |reason: &dyn std::fmt::Display| {
            format!("the calls of the last day are kept in {}: {reason}", path.display())
        };
        let opened = File::options().read(true).write(true).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                begin(path).map_err(|error| said(&error))?
            }
            Err(error) => return Err(said(&error)),
        };
        if file.try_lock().is_err() {
            return Err(said(&"another process has it; give each its own data_dir"));
        }
        let mut bytes = [0; SLOT * (SLOTS as usize + 1)];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| said(&format!("{error}; remove it to count from nothing")))?;
        let (slots, _) = bytes.as_chunks::<SLOT>();
        let Some((&MAGIC, slots)) = slots.split_first() else {
            return Err(said(&"it is something else; remove it to count from nothing"));
        };
        for slot in slots.iter().filter(|slot| slot.iter().any(|byte| *byte != 0)) {
            let (step, calls) = decode(slot)
                .ok_or_else(|| said(&"it is damaged; remove it to count from nothing"))?;
            day.add(step, calls);
        }
        day.file = Some(Kept { path: path.to_owned(), file: Arc::new(file) });
        Ok(day)
    }

    /// Uses one call of at most `most` in any day.
    ///
    /// # Errors
    /// How long until there may be one, if all are used.
    pub(super) async fn take(&mut self, most: u64) -> Result<(), Duration> {
        let now_ms = self.clock.wall_ms();
        let now = u32::try_from(now_ms / STEP_MS).unwrap_or_default();
        if self.left == 0 || self.entered != now {
            self.enter(most, now, now_ms).await?;
        }
        self.left -= 1;
        Ok(())
    }

    /// Enters a block of calls, durably. What is left of an earlier step's is given back: it would count for too short a time.
    async fn enter(&mut self, most: u64, now: u32, now_ms: i64) -> Result<(), Duration> {
        let mut changed = Vec::new();
        let left = u32::try_from(std::mem::take(&mut self.left)).unwrap_or_default();
        if let Some(calls) = self.steps.get_mut(&self.entered).filter(|_| left > 0) {
            *calls = calls.saturating_sub(left);
            changed.push((self.entered, *calls));
        }
        self.forget(now);
        let used: u64 = self.steps.values().map(|calls| u64::from(*calls)).sum();
        let block = self.block.min(most.saturating_sub(used));
        if block > 0 {
            changed.push((now, self.add(now, u32::try_from(block).unwrap_or(u32::MAX))));
        }
        if let Some(kept) = self.file.clone().filter(|_| !changed.is_empty()) {
            // A disk in trouble is no reason to leave the orders where they are.
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kept.write(&changed)).await
            {
                tracing::warn!(
                    %error,
                    "the calls of the last day cannot be kept; a restart would forget some"
                );
            }
        }
        if block == 0 {
            let oldest = self.steps.iter().find(|(_, calls)| **calls > 0);
            let oldest = oldest.map_or(now, |(step, _)| *step);
            let until_ms = (i64::from(oldest) + i64::from(DAY) + 1) * STEP_MS;
            return Err(Duration::from_millis(
                u64::try_from(until_ms - now_ms).unwrap_or_default(),
            ));
        }
        (self.left, self.entered) = (block, now);
        self.block = (self.block * 2).min(most / BLOCK).max(1);
        Ok(())
    }

    /// What was used in that step, with these.
    fn add(&mut self, step: u32, calls: u32) -> u32 {
        let all = self.steps.entry(step).or_default();
        *all = all.saturating_add(calls);
        *all
    }

    /// Forgets what is a day old. What is of a time to come, by a clock that was set back, is of now.
    fn forget(&mut self, now: u32) {
        self.steps.retain(|step, _| step.saturating_add(DAY) >= now);
        let ahead = self.steps.split_off(&now.saturating_add(1));
        for calls in ahead.into_values() {
            self.add(now, calls);
        }
    }
}

/// A file that says nothing yet, there for good.
fn begin(path: &Path) -> std::io::Result<File> {
    let fresh = path.with_extension("new");
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&fresh)?;
    let mut bytes = vec![0; SLOT * (SLOTS as usize + 1)];
    bytes.splice(..SLOT, MAGIC);
    file.write_all_at(&bytes, 0)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(file)
}

fn encode(step: u32, calls: u32) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let words = [step.to_le_bytes(), calls.to_le_bytes()].concat();
    let crc = crc32c::crc32c(&words).to_le_bytes();
    slot.iter_mut().zip(words.into_iter().chain(crc)).for_each(|(to, byte)| *to = byte);
    slot
}

fn decode(slot: &[u8; SLOT]) -> Option<(u32, u32)> {
    let (words, _) = slot.as_chunks::<4>();
    let [step, calls, crc, _] = words else { return None };
    let sound = crc32c::crc32c(slot.get(..8)?) == u32::from_le_bytes(*crc);
    sound.then(|| (u32::from_le_bytes(*step), u32::from_le_bytes(*calls)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const HOUR_MS: i64 = 3_600_000;
    const MOST: u64 = 5_000;

    #[derive(Default)]
    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn wall_ms(&self) -> i64 {
            1_790_000_000_000 + self.0.load(Ordering::Relaxed)
        }

        fn elapsed(&self) -> Duration {
            unreachable!("a day is by the wall clock")
        }
    }

    struct Room {
        dir: tempfile::TempDir,
        wall: Arc<Wall>,
    }

    impl Room {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), wall: Arc::default() }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("oms.calls")
        }

        fn open(&self) -> Day {
            Day::open(Some(&self.path()), Arc::clone(&self.wall) as _).unwrap()
        }
    }

    /// Takes what there is.
    async fn take_all(day: &mut Day) -> u64 {
        let mut taken = 0;
        while day.take(MOST).await.is_ok() {
            taken += 1;
        }
        taken
    }

    #[tokio::test]
    async fn a_crash_forgets_no_call_and_costs_a_block_at_most() {
        let room = Room::new();
        let mut taken = 0;
        for _ in 0..3 {
            let mut day = room.open();
            for _ in 0..1_000 {
                day.take(MOST).await.unwrap();
                taken += 1;
            }
        }
        taken += take_all(&mut room.open()).await;
        assert!((MOST - 3 * MOST / BLOCK..=MOST).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn who_is_started_again_and_again_wastes_no_more_than_he_uses() {
        let room = Room::new();
        let mut taken = 0;
        for _ in 0..100 {
            let mut day = room.open();
            for _ in 0..4 {
                day.take(MOST).await.unwrap();
                taken += 1;
            }
        }
        taken += take_all(&mut room.open()).await;
        assert!((MOST - 400..=MOST).contains(&taken), "{taken}");
    }

    #[tokio::test]
    async fn calls_count_for_a_day_and_a_step_whatever_the_clock_did() {
        let room = Room::new();
        let pass = |ms| room.wall.0.fetch_add(ms, Ordering::Relaxed);
        let mut day = room.open();
        for _ in 0..100 {
            day.take(MOST).await.unwrap();
        }
        pass(12 * HOUR_MS);
        take_all(&mut day).await;
        let Err(after) = day.take(MOST).await else { panic!("all are used") };
        let twelve = Duration::from_secs(12 * 3_600);
        assert!(after > twelve && after <= twelve + Duration::from_secs(600), "{after:?}");
        drop(day);
        pass(i64::try_from(after.as_millis()).unwrap());
        let mut day = room.open();
        assert!((95..=105).contains(&take_all(&mut day).await), "the first hundred are a day old");
        drop(day);
        // A clock that is set back by a year makes nobody wait for a year, and forgets nothing.
        pass(-365 * 24 * HOUR_MS);
        let mut day = room.open();
        assert_eq!(take_all(&mut day).await, 0);
        pass(25 * HOUR_MS);
        assert_eq!(take_all(&mut day).await, MOST);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_believed_or_is_anothers_is_refused() {
        let room = Room::new();
        let refused = || {
            let opened = Day::open(Some(&room.path()), Arc::clone(&room.wall) as _);
            opened.err().unwrap()
        };
        let mut day = room.open();
        day.take(MOST).await.unwrap();
        assert!(refused().contains("another process"), "{}", refused());
        drop(day);
        let mut bytes = std::fs::read(room.path()).unwrap();
        let used = bytes[SLOT..].iter().position(|byte| *byte != 0).unwrap();
        bytes[SLOT + used] ^= 1;
        std::fs::write(room.path(), &bytes).unwrap();
        assert!(refused().contains("damaged") && refused().contains("remove it"), "{}", refused());
        std::fs::write(room.path(), b"orders").unwrap();
        assert!(refused().contains("remove it"), "{}", refused());
    }
}
