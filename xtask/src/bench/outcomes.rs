//! The outcome index alone, as it grows: disk, memory, what the writer asks of it, look-ups, storing what a retired segment
//! leaves, merging, opening.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use forebay_buffer::embedded::OutcomeIndex;

use super::report::median;
use super::{Bench, Line, process, tell};
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// Outcomes of one batch: a slot's worth of 2 KB orders.
const SEGMENT: u64 = 30_000;
/// Between two settled orders: 5,000 a minute.
const EVERY_MS: u64 = 12;
/// Some moment of 2026.
const FIRST_MS: i64 = 1_790_000_000_000;
const HORIZON: Duration = Duration::from_secs(30 * 86_400);
const NEW_KEYS: u64 = 200_000;
const KNOWN_KEYS: u64 = 20_000;

/// Grows one index over all sizes.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut sizes = vec![("outcomes_2m", 2_000_000), ("outcomes_10m", 10_000_000)];
    if bench.plan.full {
        sizes.push(("outcomes_100m", 100_000_000));
    }
    let dir = bench.place.directory("outcomes")?;
    let empty = process::resident(std::process::id())?;
    let mut index = OutcomeIndex::open(&dir, HORIZON).when("the outcome index")?;
    let mut stored = 0;
    let mut lines = Vec::new();
    for (name, size) in sizes {
        let size = bench.size(size);
        let storing = store(&mut index, &mut stored, size)?;
        let asking = new(&index, size);
        let runs_behind = index.figures().runs;
        let watch = Stopwatch::start();
        index.wait_until_merged();
        let merging = watch.elapsed();
        let known = known(&index, size)?;
        let new = new(&index, size);
        let bytes = on_disk(&dir)?;
        let resident = process::resident(std::process::id())?.saturating_sub(empty);
        let figures = index.figures();
        drop(index);
        let watch = Stopwatch::start();
        index = OutcomeIndex::open(&dir, HORIZON).when("opening the outcome index again")?;
        let open = watch.elapsed();
        if !index.holds(0) {
            return Err(Failure::Missed("an outcome is gone after a reopen".to_owned()));
        }
        let each = |total: u64| total as f64 / size as f64;
        let line = Line::new(name, "bytes", &[each(bytes)])
            .with("ram_bytes", each(figures.memory_bytes))
            .with("resident_bytes_each", each(resident))
            .with("store_per_s", storing.per_second)
            .with("last_store_per_s", storing.last_per_second)
            .with("segment_ms", storing.segment_ms)
            .with("segment_max_ms", storing.segment_max_ms)
            .with("written_bytes", storing.written)
            .with("merge_behind_s", merging.as_secs_f64())
            .with("filter_us", new.filter_us)
            .with("filter_behind_us", asking.filter_us)
            .with("false_hits", new.false_hits)
            .with("new_key_us", new.all_us)
            .with("known_key_us", known)
            .with("open_s", open.as_secs_f64())
            .count("outcomes", size)
            .count("runs", figures.runs)
            .count("runs_behind", runs_behind)
            .count("disk_bytes", bytes)
            .count("resident_bytes", resident);
        // The next size may take minutes.
        tell(line.for_people());
        lines.push(line);
    }
    Ok(lines)
}

/// Gives a store whose server is stopped so many outcomes of earlier orders.
pub(super) fn fill(store_dir: &Path, outcomes: u64) -> Result<()> {
    let mut index = OutcomeIndex::open(store_dir, HORIZON).when("the outcome index")?;
    store(&mut index, &mut 0, outcomes)?;
    index.wait_until_merged();
    Ok(())
}

/// What storing up to a size came to.
struct Storing {
    per_second: f64,
    /// Of the last tenth.
    last_per_second: f64,
    segment_ms: f64,
    segment_max_ms: f64,
    /// Bytes that left for the disk, each.
    written: f64,
}

fn store(index: &mut OutcomeIndex, stored: &mut u64, size: u64) -> Result<Storing> {
    let pid = std::process::id();
    let written = process::written(pid)?;
    let (first, mut took) = (*stored, Vec::new());
    let mut told = Stopwatch::start();
    while *stored < size {
        let next = (*stored + SEGMENT).min(size);
        let batch = (*stored..next)
            .map(|n| (n, FIRST_MS.saturating_add_unsigned(n.saturating_mul(EVERY_MS))));
        let watch = Stopwatch::start();
        index.store(batch).when("storing outcomes")?;
        took.push(watch.elapsed().as_secs_f64());
        *stored = next;
        if told.elapsed() > Duration::from_secs(10) {
            let last = SEGMENT as f64 / took.last().unwrap_or(&f64::NAN);
            tell(format_args!("{next} outcomes, {last:.0}/s"));
            told = Stopwatch::start();
        }
    }
    let last = took.get(took.len() * 9 / 10..).unwrap_or_default();
    let per_second = |took: &[f64]| SEGMENT as f64 * took.len() as f64 / took.iter().sum::<f64>();
    Ok(Storing {
        per_second: per_second(&took),
        last_per_second: per_second(last),
        segment_ms: median(&took) * 1e3,
        segment_max_ms: took.iter().copied().fold(0.0, f64::max) * 1e3,
        written: process::written(pid)?.saturating_sub(written) as f64 / (size - first) as f64,
    })
}

/// Microseconds of a look-up of a key that is there.
fn known(index: &OutcomeIndex, size: u64) -> Result<f64> {
    let mut random = fastrand::Rng::with_seed(1);
    let watch = Stopwatch::start();
    for _ in 0..KNOWN_KEYS {
        if !index.holds(random.u64(..size)) {
            return Err(Failure::Missed("a stored outcome is not found".to_owned()));
        }
    }
    Ok(watch.elapsed().as_secs_f64() * 1e6 / KNOWN_KEYS as f64)
}

/// What keys never seen cost.
struct New {
    /// Microseconds the writer takes to ask the filters.
    filter_us: f64,
    /// The share of keys that the disk is read for all the same.
    false_hits: f64,
    /// Microseconds with those reads.
    all_us: f64,
}

fn new(index: &OutcomeIndex, size: u64) -> New {
    let keys = || size..size + NEW_KEYS;
    let each = |watch: &Stopwatch| watch.elapsed().as_secs_f64() * 1e6 / NEW_KEYS as f64;
    let watch = Stopwatch::start();
    let hits = keys().filter(|number| index.may_hold(*number)).count();
    let filter_us = each(&watch);
    let watch = Stopwatch::start();
    let found = keys().filter(|number| index.holds(*number)).count();
    let all_us = if found == 0 { each(&watch) } else { f64::NAN };
    New { filter_us, false_hits: hits as f64 / NEW_KEYS as f64, all_us }
}

/// Bytes a directory takes.
fn on_disk(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).when(dir.display())? {
        let path = entry.when(dir.display())?.path();
        let about = fs::metadata(&path).when(path.display())?;
        bytes += if about.is_dir() { on_disk(&path)? } else { about.blocks() * 512 };
    }
    Ok(bytes)
}
