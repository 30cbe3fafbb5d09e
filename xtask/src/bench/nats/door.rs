//! Orders through the HTTP door onto the cluster, against bare creates on the same stream, by turns.

use super::super::accept::Side;
use super::super::load::Orders;
use super::super::service::{OnNats, Setup};
use super::super::{Bench, Line, gates};
use super::{Round, Sides, Way, of, with_cost};
use forebay_buffer::nats::NatsConfig;

use crate::cluster::Cluster;
use crate::failure::{Failure, Result};

/// Connections, each with one request under way.
const CONNECTIONS: usize = 256;
const BATCH: usize = 100;
const BATCH_CONNECTIONS: usize = 8;

/// Single orders, then batches.
pub(super) fn run(
    bench: &Bench,
    cluster: &Cluster,
    config: &NatsConfig,
    sides: &Sides,
) -> Result<Vec<Line>> {
    let knobs = cluster.knobs(&config.servers);
    let nats = |role| Some(OnNats { role, knobs: knobs.clone() });
    let setup = Setup { nats: nats("ingest"), ..bench.accepting("nats-door")? };
    let server = setup.start()?;
    let mut single = Orders::single()?;
    let (mut own, mut bare) = (Side::default(), Vec::new());
    let mut batch = None;
    for _ in 0..bench.pace().runs {
        bare.push(sides.round(bench, Way::BareCreate)?);
        own.round("nats_accept", &server, &bench.pace(), CONNECTIONS, &mut single)?;
    }
    let accept = line("nats_accept", &own, &bare, gates::NATS_ACCEPT_RATIO_MIN);
    let (mut own, mut bare) = (Side::default(), Vec::new());
    for _ in 0..bench.pace().runs {
        bare.push(sides.round(bench, Way::BareCreate)?);
        let orders = match batch.take() {
            Some(orders) => orders,
            None => Orders::batch(BATCH)?.after(&single),
        };
        let orders = batch.insert(orders);
        own.round("nats_batch", &server, &bench.pace(), BATCH_CONNECTIONS, orders)?;
    }
    let batches = line("nats_batch", &own, &bare, gates::NATS_BATCH_RATIO_MIN);
    server.stop()?;
    // Every order that was answered is there, as whoever drains them finds it.
    let worker = Setup { nats: nats("process"), ..bench.accepting("nats-worker")? }.start()?;
    let sent = batch.as_ref().map_or(0, Orders::made);
    let there = worker.status()?.orders();
    worker.stop()?;
    match sent == there {
        true => Ok(vec![accept, batches.count("orders_per_request", BATCH as u64)]),
        false => Err(Failure::Broken(format!(
            "{sent} orders were accepted, and the drain knows of {there}"
        ))),
    }
}

fn line(name: &str, own: &Side, bare: &[Round], ratio_min: f64) -> Line {
    let line = own.line(name).against("bare creates", &of(bare, |round| round.per_second));
    with_cost(line, "bare_", bare).at_least("ratio", ratio_min)
}
