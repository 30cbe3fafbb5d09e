//! The key table on three servers that sync before they acknowledge, against bare publishes to the same stream, by turns.

mod baseline;
mod cycles;
mod door;

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::nats::{NatsConfig, Put, Table};
use futures_util::future::try_join_all;
use tokio::runtime::Runtime;

use super::report::median;
use super::{Bench, Line, process, tell};
use crate::cargo::Workspace;
use crate::cluster::Cluster;
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;
use baseline::Bare;

/// Orders under way at once, and bytes of one.
const IN_FLIGHT: usize = 256;
const ORDER_BYTES: usize = 2_048;
/// What is left of an order once it is settled, and how long.
const OUTCOME_BYTES: usize = 128;
const OUTCOME_TTL: Duration = Duration::from_secs(3_600);
/// Partitions that are measured beside the usual number.
const FEW_PARTITIONS: [u16; 3] = [1, 2, 4];
/// Subjects of which the servers' memory is taken.
const SUBJECTS: u64 = 1_000_000;

/// Both ways to the same stream.
struct Sides {
    runtime: Runtime,
    pids: Vec<u32>,
    table: Table,
    bare: Bare,
    next: Cell<u64>,
}

/// What one round came to; CPU, and bytes that all servers wrote, are of one order.
struct Round {
    per_second: f64,
    servers_us: f64,
    servers_bytes: f64,
    client_us: f64,
}

/// One of a round's figures.
type Figure = fn(&Round) -> f64;

/// One order's way, one of the two sides'.
#[derive(Clone, Copy, Debug)]
enum Way {
    TableCreate,
    BareCreate,
    TableCycle,
    BareCycle,
}

/// Runs both sides.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let workspace = Workspace::find()?;
    let cluster =
        |name: &str| Cluster::for_now(bench.place.directory(name)?.join("cluster"), &workspace);
    let servers = cluster("nats")?;
    let config = by_way_of_one(servers.nats()?);
    let sides = Sides::open(&config, servers.pids())?;
    let mut lines = Vec::new();
    for (name, own, bare) in [
        ("nats_create", Way::TableCreate, Way::BareCreate),
        ("nats_cycle", Way::TableCycle, Way::BareCycle),
    ] {
        let (mut rounds, mut baseline) = (Vec::new(), Vec::new());
        for _ in 0..bench.pace().runs {
            baseline.push(sides.round(bench, bare)?);
            rounds.push(sides.round(bench, own)?);
        }
        let line = Line::new(name, "orders/s", &of(&rounds, |round| round.per_second))
            .against("bare publishes", &of(&baseline, |round| round.per_second))
            .count("in_flight", IN_FLIGHT as u64);
        lines.push(with_cost(with_cost(line, "", &rounds), "bare_", &baseline));
    }
    lines.extend(door::run(bench, &servers, &config, &sides)?);
    drop((sides, servers));
    // Without the orders that were only accepted; a store's number of partitions is for good.
    let few: &[u16] = if bench.plan.full { &FEW_PARTITIONS } else { &[] };
    for partitions in [config.partitions].iter().chain(few) {
        let servers = cluster(&format!("nats-cycles-{partitions}"))?;
        let config = by_way_of_one(servers.nats()?);
        let sides = Sides::open(&config, servers.pids())?;
        lines.push(cycles::run(bench, &sides, &config, *partitions)?);
    }
    if bench.plan.full {
        // Servers that have done nothing yet, for what they once needed they keep.
        let servers = cluster("nats-subjects")?;
        lines.push(Sides::open(&servers.nats()?, servers.pids())?.subjects()?);
    }
    Ok(lines)
}

/// Whether a client is at the stream's leader or a hop away decides a fifth of its rate, so all sides are at the same server.
fn by_way_of_one(mut config: NatsConfig) -> NatsConfig {
    config.servers.truncate(1);
    config
}

impl Sides {
    fn open(config: &NatsConfig, pids: Vec<u32>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.when("starting a runtime")?;
        let table = runtime.block_on(Table::open(config)).when("the table")?;
        let bare = runtime.block_on(Bare::connect(config))?;
        Ok(Self { runtime, pids, table, bare, next: Cell::new(0) })
    }

    fn round(&self, bench: &Bench, way: Way) -> Result<Round> {
        let watch = Stopwatch::start();
        let lasting = bench.pace().measured;
        self.measured(&format!("{way:?}"), || {
            self.drive(ORDER_BYTES, |_| watch.elapsed() < lasting, way)
        })
    }

    /// What doing some orders came to; `done` says how many.
    fn measured(&self, name: &str, done: impl FnOnce() -> Result<u64>) -> Result<Round> {
        let own = std::process::id();
        let (servers, client) = (self.servers_cpu()?, process::cpu(own)?);
        let written = self.servers_written()?;
        let watch = Stopwatch::start();
        let orders = done()?.max(1) as f64;
        let per_second = orders / watch.elapsed().as_secs_f64();
        let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / orders;
        let servers_us = each(self.servers_cpu()?.saturating_sub(servers));
        let client_us = each(process::cpu(own)?.saturating_sub(client));
        let servers_bytes = self.servers_written()?.saturating_sub(written) as f64 / orders;
        tell(format_args!(
            "{name}: {per_second:.0}/s, servers {servers_us:.0} us, client {client_us:.0} us"
        ));
        Ok(Round { per_second, servers_us, servers_bytes, client_us })
    }

    /// Does orders while `more` of them are wanted; how many were done.
    fn drive(&self, bytes: usize, more: impl Fn(u64) -> bool, way: Way) -> Result<u64> {
        let body = Bytes::from(vec![b'x'; bytes]);
        let first = self.next.get();
        let one = async || {
            while more(self.next.get() - first) {
                let number = self.next.replace(self.next.get() + 1);
                self.order(format!("FOREBAY.o.{number}"), body.clone(), way).await?;
            }
            Ok::<(), Failure>(())
        };
        self.runtime.block_on(try_join_all((0..IN_FLIGHT).map(|_| one())))?;
        Ok(self.next.get() - first)
    }

    async fn order(&self, subject: String, body: Bytes, way: Way) -> Result<()> {
        let outcome = body.slice(..OUTCOME_BYTES.min(body.len()));
        match way {
            Way::TableCreate | Way::TableCycle => {
                let sequence = stored(self.table.create(&subject, body).await.when("a create")?)?;
                if matches!(way, Way::TableCycle) {
                    let settled =
                        self.table.replace(&subject, sequence, outcome, Some(OUTCOME_TTL));
                    stored(settled.await.when("a replace")?)?;
                }
            }
            Way::BareCreate | Way::BareCycle => {
                let sequence = self.bare.publish(subject.clone(), body, 0).await?;
                if matches!(way, Way::BareCycle) {
                    self.bare.publish(subject, outcome, sequence).await?;
                }
            }
        }
        Ok(())
    }

    /// Memory of the servers for each subject that is there.
    fn subjects(&self) -> Result<Line> {
        let (before, first) = (self.resident()?, self.next.get());
        self.drive(OUTCOME_BYTES, |done| done < SUBJECTS, Way::TableCreate)?;
        let count = self.next.get() - first;
        let grown = self.resident()?.saturating_sub(before) as f64;
        let each = grown / self.pids.len().max(1) as f64 / count as f64;
        Ok(Line::new("nats_subjects_1m", "bytes a server", &[each]).count("subjects", count))
    }

    fn servers_cpu(&self) -> Result<Duration> {
        self.pids.iter().map(|pid| process::cpu(*pid)).sum()
    }

    fn servers_written(&self) -> Result<u64> {
        self.pids.iter().map(|pid| process::written(*pid)).sum()
    }

    fn resident(&self) -> Result<u64> {
        self.pids.iter().map(|pid| process::resident(*pid)).sum()
    }
}

fn of(rounds: &[Round], figure: Figure) -> Vec<f64> {
    rounds.iter().map(figure).collect()
}

/// Adds what a side's orders cost the servers and their client.
fn with_cost(mut line: Line, side: &str, rounds: &[Round]) -> Line {
    let figures: [(&str, Figure); 3] = [
        ("servers_us", |round| round.servers_us),
        ("servers_bytes", |round| round.servers_bytes),
        ("client_us", |round| round.client_us),
    ];
    for (name, figure) in figures {
        line = line.with(&format!("{side}{name}"), median(&of(rounds, figure)));
    }
    line
}

fn stored(put: Put) -> Result<u64> {
    match put {
        Put::Done(sequence) => Ok(sequence),
        Put::Overtaken(_) => Err(Failure::Broken("a key of one's own was taken".to_owned())),
    }
}
