//! How long the device takes to make something durable, and whether that can be true.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_buffer::{Clock as _, SystemClock};

use super::super::check::Check;

const BLOCK: usize = 4 << 10;
const LARGE: usize = 1 << 20;
const SMALL_WRITES: usize = 200;
const LARGE_WRITES: usize = 20;
/// The file that is written over and over.
const FILE_BYTES: usize = 8 << 20;
/// A round ends after so long, however few writes it made.
const ROUND_MAX: Duration = Duration::from_secs(10);
/// No device brings a sync to something that survives a power cut faster than this.
const TOO_FAST: Duration = Duration::from_micros(20);
/// Above these, senders feel the disk.
const SLOW_MEDIAN: Duration = Duration::from_millis(5);
const SLOW_P99: Duration = Duration::from_millis(50);

/// How long writes took until they were durable.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Latency {
    median: Duration,
    p99: Duration,
    writes: usize,
}

impl Latency {
    fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        let writes = took.len();
        let at = |part: usize| took.get((writes * part / 100).min(writes.saturating_sub(1)));
        Some(Self { median: *at(50)?, p99: *at(99)?, writes })
    }
}

/// Measures both ways of writing in `place`.
pub(super) fn syncs(place: &Path) -> Vec<Check> {
    let files = match Files::make(place) {
        Ok(files) => files,
        Err(error) => {
            let finding = format!("{} cannot be written: {error}", place.display());
            let advice = match error.kind() {
                io::ErrorKind::StorageFull => "free some disk space",
                _ => "give this user the directory, on a file system mounted for writing",
            };
            return vec![Check::fail("sync", finding, advice)];
        }
    };
    let mut checks = Vec::new();
    let direct = files.direct.as_ref().map(|file| rounds(file, false));
    match direct {
        Some(Ok(direct)) => checks.extend(judge(["direct, 4 KiB", "direct, 1 MiB"], direct)),
        Some(Err(_)) | None => checks.push(Check::warn(
            "direct I/O",
            "this file system has none, so the page cache stands between Forebay and the disk",
            "put data_dir on ext4 or XFS on a local disk",
        )),
    }
    match rounds(&files.buffered, true) {
        Ok(buffered) => checks.extend(judge(["fdatasync, 4 KiB", "fdatasync, 1 MiB"], buffered)),
        Err(error) => checks.push(Check::fail(
            "fdatasync",
            format!("a write or a sync failed: {error}"),
            "do not trust this disk with orders; look at the kernel's log",
        )),
    }
    checks
}

/// What the small and the large writes of one way say.
fn judge(names: [&'static str; 2], [small, large]: [Option<Latency>; 2]) -> Vec<Check> {
    let [small_name, large_name] = names;
    let mut checks = Vec::new();
    if let Some(small) = small {
        let text = words(small);
        checks.push(if small.median < TOO_FAST {
            Check::warn(
                small_name,
                format!("{text}: no disk is that fast, so a sync returns before anything is durable"),
                "this is memory, or a cache that lies; a 2xx would not survive a power cut. Use a disk that honours flushes, or one whose cache outlives the power",
            )
        } else if small.median > SLOW_MEDIAN || small.p99 > SLOW_P99 {
            Check::warn(
                small_name,
                format!("{text}: every answer waits for one of these"),
                "a faster disk, or one with less beside it",
            )
        } else {
            Check::ok(small_name, format!("{text}: every answer waits for one of these"))
        });
    }
    if let Some(large) = large {
        checks.push(Check::ok(large_name, format!("{}: a full group at the peak", words(large))));
    }
    checks
}

fn words(latency: Latency) -> String {
    let Latency { median, p99, writes } = latency;
    format!("median {} us, p99 {} us of {writes}", median.as_micros(), p99.as_micros())
}

/// Small writes, then large ones.
fn rounds(file: &File, sync: bool) -> io::Result<[Option<Latency>; 2]> {
    Ok([round(file, BLOCK, SMALL_WRITES, sync)?, round(file, LARGE, LARGE_WRITES, sync)?])
}

fn round(file: &File, bytes: usize, writes: usize, sync: bool) -> io::Result<Option<Latency>> {
    let memory = vec![0xf5; bytes + BLOCK];
    let skip = memory.as_ptr().align_offset(BLOCK).min(BLOCK);
    let bytes_to_write = memory.get(skip..skip + bytes).unwrap_or_default();
    let clock = SystemClock;
    let began = clock.elapsed();
    let mut took = Vec::with_capacity(writes);
    for offset in (0..FILE_BYTES).step_by(bytes).cycle().take(writes) {
        let start = clock.elapsed();
        file.write_all_at(bytes_to_write, offset as u64)?;
        if sync {
            file.sync_data()?;
        }
        let end = clock.elapsed();
        took.push(end.saturating_sub(start));
        if end.saturating_sub(began) > ROUND_MAX {
            break;
        }
    }
    Ok(Latency::of(took))
}

/// One file without a name, open both ways.
struct Files {
    buffered: File,
    /// `None` where the file system has no direct I/O.
    direct: Option<File>,
}

impl Files {
    fn make(place: &Path) -> io::Result<Self> {
        let named = Named(place.join(format!(".forebay-doctor-{}", std::process::id())));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        let buffered = options.open(&named.0)?;
        let direct = named.direct();
        drop(named);
        buffered.write_all_at(&vec![0; FILE_BYTES], 0)?;
        buffered.sync_all()?;
        Ok(Self { buffered, direct })
    }
}

/// A file that loses its name when this is dropped.
struct Named(PathBuf);

impl Named {
    fn direct(&self) -> Option<File> {
        use rustix::fs::OFlags;
        let flags = i32::try_from((OFlags::DIRECT | OFlags::DSYNC).bits()).ok()?;
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(&self.0).ok()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        // One that stays is 8 MiB of zeros that nobody reads.
        std::fs::remove_file(&self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn latency(median: u64, p99: u64) -> Option<Latency> {
        let micros = Duration::from_micros;
        Some(Latency { median: micros(median), p99: micros(p99), writes: 200 })
    }

    #[test]
    fn median_and_p99_are_of_the_sorted_times() {
        let took = (1..=200).rev().map(Duration::from_micros).collect();
        assert_eq!(Latency::of(took), latency(101, 199));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn a_sync_faster_than_any_disk_is_warned_of_and_so_is_a_slow_one() {
        for (small, level) in [
            (latency(104, 227), Level::Ok),
            (latency(3, 40), Level::Warn),
            (latency(8_000, 9_000), Level::Warn),
            (latency(300, 90_000), Level::Warn),
        ] {
            let checks = judge(["small", "large"], [small, latency(300, 500)]);
            assert_eq!(checks[0].level, level, "{checks:?}");
            assert_eq!(checks[1].level, Level::Ok);
        }
    }

    #[test]
    fn the_file_it_measures_on_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::make(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let [small, large] = rounds(&files.buffered, true).unwrap();
        assert_eq!((small.unwrap().writes, large.unwrap().writes), (SMALL_WRITES, LARGE_WRITES));
    }
}
