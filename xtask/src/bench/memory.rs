//! Memory of a pending order, what growing costs, and the disk that is given back.

use std::time::Duration;

use super::accept::{accounted, fill};
use super::load::Orders;
use super::place::MemoryPlace;
use super::process::resident;
use super::service::{SLOT_BYTES, Service, Setup};
use super::{Bench, Line, gates, tell};
use crate::failure::{Failure, Result};
use crate::time::{Stopwatch, poll_until};

/// Orders from which on memory is also counted: the door's and the writer's own buffers are there then.
const WARM: u64 = 2_000;
/// Orders of the store whose growth is watched, and what it takes with its spare slots.
const GROWN: u64 = 1_000_000;
const GROWN_BYTES: u64 = 6 << 30;

/// How long a drain may stand still.
const STILL: Duration = Duration::from_secs(60);
/// How long slots may take to come back after it.
const GIVEN_BACK: Duration = Duration::from_secs(60);

/// Grows one store from nothing over all sizes, then drains it; and grows one in memory.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut sizes = vec![("memory_1m", 1_000_000), ("memory_3m", 3_000_000)];
    if bench.plan.full {
        sizes.push(("memory_10m", 10_000_000));
    }
    let setup = Setup { oms: "ledger", ..bench.accepting("memory")? };
    let server = setup.start()?;
    server.quiet()?;
    let empty = resident(server.pid())?;
    let mut orders = fill(&server, bench.size(WARM), Orders::single()?)?.orders;
    server.quiet()?;
    let warm = (server.status()?.pending(), resident(server.pid())?);
    let (mut silence, mut before) = (Duration::ZERO, warm);
    let mut lines = Vec::new();
    for (name, size) in sizes {
        let filled = fill(&server, bench.size(size), orders)?;
        orders = filled.orders;
        silence = silence.max(filled.silence);
        server.quiet()?;
        let now = (server.status()?.pending(), resident(server.pid())?);
        let (each, added) = (bytes_each((0, empty), now), bytes_each(before, now));
        tell(format_args!("{name}: {each:.1} bytes an order, longest silence {silence:?}"));
        let line = Line::new(name, "bytes", &[each])
            .with("added_bytes", added)
            .with("after_first_batches_bytes", bytes_each(warm, now))
            .with("silence_ms", silence.as_secs_f64() * 1e3)
            .count("resident_bytes", now.1)
            .count("resident_bytes_empty", empty)
            .count("keys_pending", now.0)
            .at_most("value", gates::MEMORY_BYTES_MAX);
        lines.push(line);
        before = now;
    }
    accounted(&server, &orders)?;
    server.stop()?;
    let reserve = u64::from(setup.reserve);
    let within = if bench.plan.short { Duration::ZERO } else { GIVEN_BACK };
    let disk = drained(&Setup { ceiling: None, ..setup }.start()?, reserve, within)?;
    let beside = (disk / SLOT_BYTES).saturating_sub(reserve);
    lines.push(
        Line::new("memory_disk_after_drain", "bytes", &[disk as f64])
            .count("slots_beside_reserve", beside)
            .at_most("slots_beside_reserve", gates::SLOTS_LEFT_MAX as f64),
    );
    lines.extend(growth(bench)?);
    Ok(lines)
}

/// Bytes an order between two counts of orders with the memory then.
fn bytes_each(before: (u64, u64), now: (u64, u64)) -> f64 {
    now.1.saturating_sub(before.1) as f64 / now.0.saturating_sub(before.0).max(1) as f64
}

/// What growing itself costs: the longest time without an answer while a store in memory fills, where no device pauses.
fn growth(bench: &Bench) -> Result<Option<Line>> {
    let Some(place) = MemoryPlace::make(GROWN_BYTES)? else {
        tell("memory_growth: skipped, there is no file system in memory with 6 GiB free");
        return Ok(None);
    };
    let setup = Setup { dir: place.root.clone(), oms: "ledger", ..bench.accepting("growth")? };
    let server = setup.start()?;
    server.quiet()?;
    let filled = fill(&server, bench.size(GROWN), Orders::single()?)?;
    accounted(&server, &filled.orders)?;
    server.stop()?;
    let line = Line::new("memory_growth", "ms", &[filled.silence.as_secs_f64() * 1e3]);
    Ok(Some(line.at_most("value", gates::MEMORY_STALL_MS_MAX)))
}

/// Waits until nothing is pending and no more slots come back; the bytes of those that stay.
fn drained(server: &Service, reserve: u64, within: Duration) -> Result<u64> {
    let (mut left, mut since) = (u64::MAX, Stopwatch::start());
    let start = Stopwatch::start();
    while left > 0 {
        let now = server.status()?.unsettled();
        if now < left {
            (left, since) = (now, Stopwatch::start());
        }
        if since.left_of(STILL).is_zero() {
            return Err(Failure::Broken(format!("the drain stands still with {left} orders left")));
        }
        poll_until(Duration::from_millis(200), || false);
    }
    tell(format_args!("drained in {:.1} s", start.elapsed().as_secs_f64()));
    let wanted = (reserve + gates::SLOTS_LEFT_MAX) * SLOT_BYTES;
    let mut disk = Ok(u64::MAX);
    poll_until(within, || {
        disk = server.status().map(|status| status.disk_bytes());
        poll_until(Duration::from_millis(200), || false);
        disk.as_ref().map_or(true, |disk| *disk <= wanted)
    });
    disk
}
