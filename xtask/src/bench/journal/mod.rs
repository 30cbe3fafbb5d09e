//! The embedded buffer without HTTP against sled with the same promise: each in this process, by turns.

mod baseline;
mod embedded;

use std::time::Duration;

use super::report::median;
use super::{Bench, Line, gates, process, tell};
use crate::failure::Result;
use crate::time::Stopwatch;
use baseline::SledLog;
use embedded::Store;

/// Orders under way at once.
const IN_FLIGHT: usize = 256;
/// Bytes of an order.
const ORDER_BYTES: usize = 2_048;
/// Orders that fill some slots before recycling is measured, and that are measured then.
const RECYCLED_WARM: u64 = 300_000;
const RECYCLED: u64 = 300_000;

/// What was done in some time, by this process.
#[derive(Clone, Copy, Debug)]
struct Work {
    orders: u64,
    within: Duration,
    cpu: Duration,
    /// Bytes that left for the disk.
    written: u64,
}

impl Work {
    /// Measures `work`, which says how many orders it made durable.
    fn measure(work: impl FnOnce() -> Result<u64>) -> Result<Self> {
        let pid = std::process::id();
        let (watch, cpu, written) =
            (Stopwatch::start(), process::cpu(pid)?, process::written(pid)?);
        let orders = work()?;
        Ok(Self {
            orders,
            within: watch.elapsed(),
            cpu: process::cpu(pid)?.saturating_sub(cpu),
            written: process::written(pid)?.saturating_sub(written),
        })
    }

    fn per_second(&self) -> f64 {
        self.orders as f64 / self.within.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.orders.max(1) as f64
    }

    /// Bytes written over the orders' own.
    fn bytes_ratio(&self) -> f64 {
        self.written as f64 / (self.orders.max(1) as f64 * ORDER_BYTES as f64)
    }
}

/// Runs both sides, then what only concerns the bytes.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let pid = std::process::id();
    let pace = bench.pace();
    let lasting = pace.measured * 2 / 3;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    let (mut own_cpu, mut other_cpu, mut other_bytes) = (Vec::new(), Vec::new(), Vec::new());
    let (mut p99_ms, mut p50_ms) = (Vec::new(), Vec::new());
    for _ in 0..pace.runs {
        let mut log = SledLog::open(&bench.place.directory("sled")?)?;
        log.append_for(pace.warm, IN_FLIGHT)?;
        let work = Work::measure(|| log.append_for(lasting, IN_FLIGHT))?;
        drop(log);
        tell(format_args!("sled: {:.0}/s, {:.2} us", work.per_second(), work.cpu_us()));
        other.push(work.per_second());
        other_cpu.push(work.cpu_us());
        other_bytes.push(work.bytes_ratio());

        // Its slots are filled, as a server's are before a sale.
        let store = Store::open(bench.place.directory("journal")?, bench.slots(24))?;
        process::quiet(pid)?;
        store.append_for(pace.warm, IN_FLIGHT)?;
        process::quiet(pid)?;
        let mut latency = None;
        let work = Work::measure(|| {
            let appended = store.append_for(lasting, IN_FLIGHT)?;
            latency = Some((appended.latency_ms(50.0), appended.latency_ms(99.0)));
            Ok(appended.orders)
        })?;
        store.close();
        tell(format_args!("journal: {:.0}/s, {:.2} us", work.per_second(), work.cpu_us()));
        own.push(work.per_second());
        own_cpu.push(work.cpu_us());
        let (p50, p99) = latency.unwrap_or((f64::NAN, f64::NAN));
        p50_ms.push(p50);
        p99_ms.push(p99);
    }
    let bytes = Bytes::measure(bench)?;
    let line = Line::new("journal", "orders/s", &own)
        .against("sled 0.34.7 apply_batch + flush + sync_data", &other)
        .with("cpu_us", median(&own_cpu))
        .with("baseline_cpu_us", median(&other_cpu))
        .with("cpu_ratio", median(&other_cpu) / median(&own_cpu))
        .with("p50_ms", median(&p50_ms))
        .with("p99_ms", median(&p99_ms))
        .with("bytes_ratio", bytes.recycled)
        .with("process_bytes_ratio", bytes.recycled_process)
        .with("growth_bytes_ratio", bytes.growth)
        .with("one_in_flight_bytes_ratio", bytes.one)
        .with("one_in_flight_per_s", bytes.one_per_second)
        .with("baseline_bytes_ratio", median(&other_bytes))
        .count("in_flight", IN_FLIGHT as u64)
        .count("baseline_group", IN_FLIGHT as u64)
        .at_least("ratio", gates::JOURNAL_RATIO_MIN)
        .at_most("bytes_ratio", gates::JOURNAL_BYTES_RATIO_MAX);
    Ok(vec![line])
}

/// Bytes written over the orders' bytes.
#[derive(Debug)]
struct Bytes {
    /// By the journal (or the whole process, if it does not count), beside a drain, on slots that have served before.
    recycled: f64,
    /// By the whole process then: with the outcome index.
    recycled_process: f64,
    /// By the whole process while the store grows: with slots filled ahead.
    growth: f64,
    /// By the whole process with one order in flight.
    one: f64,
    one_per_second: f64,
}

impl Bytes {
    fn measure(bench: &Bench) -> Result<Self> {
        let (pid, pace) = (std::process::id(), bench.pace());
        let store = Store::open(bench.place.directory("growth")?, bench.slots(4))?;
        process::quiet(pid)?;
        // First, for it ends within the first slot: filling another one would count a thousandfold.
        let one = Work::measure(|| Ok(store.append_for(pace.measured / 2, 1)?.orders))?;
        let growth = Work::measure(|| {
            let appended = store.append_for(pace.measured, IN_FLIGHT)?;
            process::quiet(pid)?;
            Ok(appended.orders)
        })?;
        store.close();
        let store = Store::open(bench.place.directory("recycled")?, bench.slots(4))?;
        store.append_and_drain(bench.size(RECYCLED_WARM), IN_FLIGHT)?;
        let before = store.journal_written()?;
        let recycled = Work::measure(|| store.append_and_drain(bench.size(RECYCLED), IN_FLIGHT))?;
        let after = store.journal_written()?;
        let written = after.zip(before).map_or(recycled.written, |(after, before)| after - before);
        store.close();
        tell(format_args!("beside a drain on recycled slots: {:.0}/s", recycled.per_second()));
        Ok(Self {
            recycled: Work { written, ..recycled }.bytes_ratio(),
            recycled_process: recycled.bytes_ratio(),
            growth: growth.bytes_ratio(),
            one: one.bytes_ratio(),
            one_per_second: one.per_second(),
        })
    }
}
