//! Accepting against the same HTTP stack that does nothing.

use std::time::Duration;

use super::load::{Drive, Driven, Orders, Until, drive};
use super::report::median;
use super::service::{Service, Setup, hello};
use super::{Bench, Line, Pace, gates, outcomes, tell, wrk};
use crate::failure::{Failure, Result};

/// Connections, each with one request under way.
const CONNECTIONS: usize = 256;
/// Orders of a batch.
const BATCH: usize = 100;
/// Connections that send batches: enough that the server never waits.
const BATCH_CONNECTIONS: usize = 16;
/// Connections that fill a store by batches: few, so that a silence is a pause of the server, not a queue of batches that are
/// read one after the other and answered together.
const FILL_CONNECTIONS: usize = 4;
/// Spare slots: a round of batches fits into them.
const BATCH_RESERVE: u32 = 32;
/// Orders that are pending before accepting is measured.
const KEYS: u64 = 1_000_000;
const KEYS_FULL: u64 = 10_000_000;
/// Outcomes of earlier orders beside those.
const OUTCOMES_FULL: u64 = 100_000_000;

/// What one side's rounds came to.
#[derive(Debug, Default)]
pub(super) struct Side {
    /// Orders (or requests) a second.
    pub(super) per_second: Vec<f64>,
    /// Server CPU of one, in microseconds.
    pub(super) server_us: Vec<f64>,
    /// The load's CPU of one.
    pub(super) own_us: Vec<f64>,
    pub(super) p50_ms: Vec<f64>,
    pub(super) p99_ms: Vec<f64>,
    pub(super) p999_ms: Vec<f64>,
}

impl Side {
    /// Drives one round at a server.
    pub(super) fn round(
        &mut self,
        name: &str,
        server: &Service,
        pace: &Pace,
        connections: usize,
        orders: &mut Orders,
    ) -> Result<Driven> {
        let until = pace.until(orders.per_request());
        let at = Drive { at: server.orders, pid: server.pid(), connections, until };
        let driven = drive(&at, orders)?;
        let each = orders.per_request() as f64;
        let per_second = driven.per_second() * each;
        tell(format_args!(
            "{name}: {per_second:.0}/s, server {:.2} us, load {:.2} us, p50 {:.2} p99 {:.2} p99.9 {:.2} ms",
            driven.server_us() / each,
            driven.own_us() / each,
            driven.latency_ms(50.0),
            driven.latency_ms(99.0),
            driven.latency_ms(99.9),
        ));
        self.per_second.push(per_second);
        self.server_us.push(driven.server_us() / each);
        self.own_us.push(driven.own_us() / each);
        self.p50_ms.push(driven.latency_ms(50.0));
        self.p99_ms.push(driven.latency_ms(99.0));
        self.p999_ms.push(driven.latency_ms(99.9));
        Ok(driven)
    }

    /// A line of this side's rates.
    pub(super) fn line(&self, name: &str) -> Line {
        Line::new(name, "orders/s", &self.per_second)
            .with("p50_ms", median(&self.p50_ms))
            .with("p99_ms", median(&self.p99_ms))
            .with("p999_ms", median(&self.p999_ms))
            .with("server_us", median(&self.server_us))
            .with("load_us", median(&self.own_us))
    }
}

/// Rounds of both sides by turns.
pub(super) fn by_turns(
    pace: &Pace,
    forebay: (&str, &Service, usize, &mut Orders),
    hello: &Service,
) -> Result<(Side, Side)> {
    let (name, server, connections, orders) = forebay;
    let (mut own, mut ceiling) = (Side::default(), Side::default());
    let mut single = Orders::single()?;
    for _ in 0..pace.runs {
        ceiling.round("hello", hello, pace, CONNECTIONS, &mut single)?;
        server.quiet()?;
        own.round(name, server, pace, connections, orders)?;
        server.quiet()?;
    }
    Ok((own, ceiling))
}

/// One order a request, validated, its key checked among a million, durable.
pub(super) fn accept(bench: &Bench) -> Result<Vec<Line>> {
    let (setup, hello) = (bench.accepting("accept")?, hello()?);
    let server = setup.start()?;
    let mut orders = fill(&server, bench.size(KEYS), Orders::single()?)?.orders;
    let mut lines = vec![measure(bench, "accept", &server, &hello, &mut orders)?];
    accounted(&server, &orders)?;
    server.stop()?;
    if bench.plan.full {
        outcomes::fill(&setup.store(), OUTCOMES_FULL)?;
        let server = setup.start()?;
        orders = fill(&server, KEYS_FULL, orders)?.orders;
        let line = measure(bench, "accept_10m", &server, &hello, &mut orders)?;
        let first = lines.first().and_then(|line| line.figure("server_us"));
        let growth = line.figure("server_us").zip(first).map_or(f64::NAN, |(now, then)| now / then);
        let line = line.count("outcomes", OUTCOMES_FULL).with("cpu_growth", growth);
        lines.push(line.at_most("cpu_growth", gates::ACCEPT_FULL_CPU_MAX));
        accounted(&server, &orders)?;
        server.stop()?;
    }
    Ok(lines)
}

fn measure(
    bench: &Bench,
    name: &str,
    server: &Service,
    hello: &Service,
    orders: &mut Orders,
) -> Result<Line> {
    let pending = server.status()?.pending();
    let own = (name, server, CONNECTIONS, orders);
    let (own, ceiling) = by_turns(&bench.pace(), own, hello)?;
    let line = own.line(name).against("hello", &ceiling.per_second);
    let lasting = bench.pace().measured;
    let wrk = wrk::per_second(&bench.place.directory("wrk")?, hello, CONNECTIONS, lasting)?;
    let line = match wrk {
        Some(rate) => line.with("hello_by_wrk", rate),
        None => line.note("hello_by_wrk", "wrk is not installed"),
    };
    Ok(line
        .with("cpu_ratio", median(&ceiling.server_us) / median(&own.server_us))
        .with("hello_us", median(&ceiling.server_us))
        .count("keys_pending", pending)
        .at_least("cpu_ratio", gates::ACCEPT_CPU_RATIO_MIN)
        .at_least("ratio", gates::ACCEPT_RATIO_MIN)
        .at_most("p99_ms", gates::ACCEPT_P99_MS_MAX))
}

/// A hundred orders a request. Every round has a store of its own, for it writes gigabytes.
pub(super) fn batch(bench: &Bench) -> Result<Vec<Line>> {
    let hello = hello()?;
    let (mut own, mut ceiling) = (Side::default(), Side::default());
    let pace = Pace { measured: bench.pace().measured * 2 / 3, ..bench.pace() };
    let mut single = Orders::single()?;
    for _ in 0..pace.runs {
        ceiling.round("hello", &hello, &pace, CONNECTIONS, &mut single)?;
        let reserve = bench.slots(BATCH_RESERVE);
        let server = Setup { reserve, ..bench.accepting("batch")? }.start()?;
        server.quiet()?;
        let mut orders = Orders::batch(BATCH)?;
        own.round("batch", &server, &pace, BATCH_CONNECTIONS, &mut orders)?;
        accounted(&server, &orders)?;
    }
    let line = own
        .line("batch")
        .against("hello", &ceiling.per_second)
        .with("cpu_ratio", median(&ceiling.server_us) / median(&own.server_us))
        .count("orders_per_request", BATCH as u64)
        .at_least("value", gates::BATCH_PER_S_MIN)
        .at_least("ratio", gates::BATCH_RATIO_MIN);
    Ok(vec![line])
}

/// What filling a store came to.
#[derive(Debug)]
pub(super) struct Filled {
    /// The feed that goes on after it.
    pub(super) orders: Orders,
    /// The longest time without an answer.
    pub(super) silence: Duration,
}

/// Fills a store until it holds so many orders.
pub(super) fn fill(server: &Service, orders: u64, after: Orders) -> Result<Filled> {
    let mut batch = Orders::batch(BATCH)?.after(&after);
    let more = orders.saturating_sub(after.made()) / batch.per_request();
    let until = Until::Answered(more);
    let to = Drive { at: server.orders, pid: server.pid(), connections: FILL_CONNECTIONS, until };
    let mut silence = Duration::ZERO;
    if more > 0 {
        let driven = drive(&to, &mut batch)?;
        silence = driven.silence;
        let per_second = driven.per_second() * batch.per_request() as f64;
        tell(format_args!("filled to {} orders, {per_second:.0}/s", batch.made()));
    }
    Ok(Filled { orders: after.after(&batch), silence })
}

/// Every order that was answered is there; anything else would be no accepting.
pub(super) fn accounted(server: &Service, orders: &Orders) -> Result<()> {
    let (sent, there) = (orders.made(), server.status()?.orders());
    if sent == there {
        return Ok(());
    }
    Err(Failure::Broken(format!("{sent} orders were accepted, and the server knows of {there}")))
}
