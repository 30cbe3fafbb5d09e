//! Memory of a pending order, what growing costs, and the disk that is given back.

use std::time::Duration;

use super::accept::{accounted, fill};
use super::load::Orders;
use super::process::resident;
use super::service::{SLOT_BYTES, Service, Setup};
use super::{Bench, Line, gates, tell};
use crate::failure::{Failure, Result};
use crate::time::{Stopwatch, poll_until};

/// How long a drain may stand still.
const STILL: Duration = Duration::from_secs(60);
/// How long slots may take to come back after it.
const GIVEN_BACK: Duration = Duration::from_secs(60);

/// Grows one store from nothing over all sizes, then drains it.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut sizes = vec![("memory_1m", 1_000_000), ("memory_3m", 3_000_000)];
    if bench.plan.full {
        sizes.push(("memory_10m", 10_000_000));
    }
    let setup = Setup { oms: "ledger", ..bench.accepting("memory")? };
    let server = setup.start()?;
    server.quiet()?;
    let empty = resident(server.pid())?;
    let (mut orders, mut stall, mut before) = (Orders::single()?, Duration::ZERO, (0, empty));
    let mut lines = Vec::new();
    for (name, size) in sizes {
        let filled = fill(&server, bench.size(size), orders)?;
        orders = filled.orders;
        stall = stall.max(filled.silence);
        server.quiet()?;
        let (count, bytes) = (server.status()?.pending(), resident(server.pid())?);
        let each = bytes.saturating_sub(empty) as f64 / count.max(1) as f64;
        let (count_before, bytes_before) = before;
        let added = count.saturating_sub(count_before).max(1) as f64;
        tell(format_args!("{name}: {each:.1} bytes an order, longest silence {stall:?}"));
        let line = Line::new(name, "bytes", &[each])
            .with("added_bytes", bytes.saturating_sub(bytes_before) as f64 / added)
            .with("stall_ms", stall.as_secs_f64() * 1e3)
            .count("resident_bytes", bytes)
            .count("resident_bytes_empty", empty)
            .count("keys_pending", count)
            .at_most("value", gates::MEMORY_BYTES_MAX)
            .at_most("stall_ms", gates::MEMORY_STALL_MS_MAX);
        lines.push(line);
        before = (count, bytes);
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
    Ok(lines)
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
