//! What a burst does to whoever reads in the order database: none, the storefront's own inserts, and the same orders through Forebay, by
//! turns.
//!
//! They share the machine. The storefront, and Forebay where it goes through it, run only where the database and the reader leave it
//! idle, so that the figure is what reaches the database, and not what an order costs whoever takes it. Both bursts are offered the same kind of orders at the same rate on as many connections; a database that does
//! not keep up gets fewer (`direct_per_s`), for each connection waits for its answer.

mod behind;
mod burst;
mod reader;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Format, OrderKey, OrderSummary, ReadOptions};
use tokio::runtime::{Builder, Runtime};

use super::load::Orders;
use super::report::median;
use super::service::Setup;
use super::{Bench, Line, gates, tell};
use crate::failure::{Failure, Result, While as _};
use crate::postgres::PostgresServer;
use crate::time::{Stopwatch, pass};
use burst::{Burst, Way};
use reader::Reader;

/// What the order database is to be sent, in orders a second, which is the drain's default, and how many times that the storefront
/// sells: more than a database on two cores takes one by one, and a third of a core for the door and the load.
const CEILING_PER_S: f64 = 40.0;
/// A second of the ceiling in one transaction, as docs/oms.md advises for PostgreSQL.
const BATCH: u32 = 40;
const FOLD: f64 = 50.0;
/// The same in the short form, on the debug build.
const SHORT_FOLD: f64 = 2.0;
/// Orders in the tables before the first round.
const ORDERS: u64 = 50_000;
/// Spare slots: a round fits into them.
const RESERVE: u32 = 4;
/// How long a burst goes on before the reader counts, and how long that does.
const WARM: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);

/// Nothing but the bursts makes work for the server: neither a checkpoint nor a vacuum falls into a round.
const SETTINGS: [&str; 4] =
    ["shared_buffers=1GB", "max_wal_size=16GB", "checkpoint_timeout=1h", "autovacuum=off"];

/// What the rounds of one state came to.
#[derive(Debug, Default)]
struct Rounds {
    p50_ms: Vec<f64>,
    p99_ms: Vec<f64>,
    /// Orders a second that were answered.
    per_second: Vec<f64>,
}

/// Five rounds of each state.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let Some(server) = PostgresServer::start(&SETTINGS).when("starting PostgreSQL")? else {
        return Err(Failure::Skipped("there is no PostgreSQL to run".to_owned()));
    };
    let url = server.url("postgres");
    let mut orders = Orders::of_shoppers()?;
    burst::fill(&url, bench.size(ORDERS), &mut orders)?;
    let reader = Reader::connect(&url)?;
    let fold = if bench.plan.short { SHORT_FOLD } else { FOLD };
    let mut protect = Protect { bench, url, reader, orders, offered: CEILING_PER_S * fold };
    let (mut idle, mut direct, mut through) =
        (Rounds::default(), Rounds::default(), Rounds::default());
    let mut drained = Vec::new();
    for _ in 0..bench.pace().runs {
        protect.idle(&mut idle)?;
        protect.direct(&mut direct)?;
        drained.push(protect.through(&mut through)?);
    }
    let idle_p99 = median(&idle.p99_ms);
    let direct_p99 = median(&direct.p99_ms);
    let line = Line::new("protect", "ms", &through.p99_ms)
        .against("without a burst", &idle.p99_ms)
        .with("p50_ms", median(&through.p50_ms))
        .with("idle_p50_ms", median(&idle.p50_ms))
        .with("direct_p50_ms", median(&direct.p50_ms))
        .with("direct_p99_ms", direct_p99)
        .with("direct_ratio", direct_p99 / idle_p99)
        .with("batch", f64::from(BATCH))
        .with("offered_per_s", protect.offered)
        .with("burst_per_s", median(&through.per_second))
        .with("direct_per_s", median(&direct.per_second))
        .with("drained_per_s", median(&drained))
        .at_most("ratio", gates::PROTECT_RATIO_MAX)
        .at_least("burst_per_s", protect.offered * gates::PROTECT_SHARE_MIN)
        .at_least("drained_per_s", CEILING_PER_S * gates::PROTECT_SHARE_MIN);
    Ok(vec![line])
}

struct Protect<'a> {
    bench: &'a Bench,
    url: String,
    reader: Reader,
    orders: Orders,
    /// Orders a second.
    offered: f64,
}

impl Protect<'_> {
    fn measured(&self) -> Duration {
        if self.bench.plan.short { self.bench.pace().measured } else { MEASURED }
    }

    fn warm(&self) -> Duration {
        if self.bench.plan.short { Duration::ZERO } else { WARM }
    }

    fn idle(&self, rounds: &mut Rounds) -> Result<()> {
        self.reader.settle()?;
        let seen = self.reader.look_up(self.measured())?;
        rounds.add("without a burst", &seen, 0.0);
        Ok(())
    }

    fn direct(&mut self, rounds: &mut Rounds) -> Result<()> {
        self.reader.settle()?;
        let burst = Burst::begin(Way::Direct(self.url.clone()), self.offered, &self.orders);
        burst.begun();
        pass(self.warm());
        let (before, watch) = (burst.answered(), Stopwatch::start());
        let seen = self.reader.look_up(self.measured())?;
        let answered = burst.answered().saturating_sub(before);
        let per_second = answered as f64 / watch.elapsed().as_secs_f64();
        self.orders = burst.end()?.orders;
        rounds.add("inserted directly", &seen, per_second);
        Ok(())
    }

    /// Gives the orders a second that reached the database.
    fn through(&mut self, rounds: &mut Rounds) -> Result<f64> {
        let setup = Setup {
            ceiling: Some(CEILING_PER_S),
            batch: Some(BATCH),
            oms: "postgres",
            oms_url: Some(self.url.clone()),
            reserve: self.bench.slots(RESERVE),
            ..self.bench.accepting("protect")?
        };
        self.reader.forget_fleet()?;
        let server = setup.start()?;
        behind::process(server.pid())?;
        server.quiet()?;
        self.reader.settle()?;
        let burst = Burst::begin(Way::Door(server.orders), self.offered, &self.orders);
        burst.begun();
        pass(self.warm());
        let (before, watch) = (burst.answered(), Stopwatch::start());
        let drained_before = server.status()?.summarised();
        let seen = self.reader.look_up(self.measured())?;
        let answered = burst.answered().saturating_sub(before);
        let drained = server.status()?.summarised().saturating_sub(drained_before);
        let seconds = watch.elapsed().as_secs_f64();
        let ended = burst.end()?;
        self.orders = ended.orders;
        rounds.add("through Forebay", &seen, answered as f64 / seconds);
        tell(format_args!("drained meanwhile: {:.0}/s", drained as f64 / seconds));
        let there = server.status()?.orders();
        if there != ended.answered {
            let answered = ended.answered;
            return Err(Failure::Broken(format!(
                "{answered} orders were accepted, and the server knows of {there}"
            )));
        }
        Ok(drained as f64 / seconds)
    }
}

impl Rounds {
    fn add(&mut self, name: &str, seen: &reader::Seen, per_second: f64) {
        let (p50, p99) = (seen.latency_ms(50.0), seen.latency_ms(99.0));
        tell(format_args!(
            "{name}: {per_second:.0} orders/s, p50 {p50:.2} p99 {p99:.2} max {:.2} ms of {} look-ups",
            seen.latency_ms(100.0),
            seen.count(),
        ));
        self.p50_ms.push(p50);
        self.p99_ms.push(p99);
        self.per_second.push(per_second);
    }
}

/// The summary of a body, as the drain makes it.
fn summary(body: &[u8]) -> Result<Arc<OrderSummary>> {
    let body = Bytes::copy_from_slice(body);
    let mut items = forebay_order::read(Format::Forebay, &body, &ReadOptions::default())
        .when("reading an order")?;
    let item = items.pop().ok_or_else(|| Failure::Broken("a body without an order".to_owned()))?;
    let item = item.when("reading an order")?;
    let key = OrderKey::new("forebay", "demo", item.id.unwrap_or_default());
    forebay_order::summary::summarise(Format::Forebay, key, item.fingerprint, &item.bytes)
        .map(Arc::new)
        .when("an order summary")
}

fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().when("a runtime")
}
