//! From the start of the server to its ready line, with a store that was killed full.

use std::time::Duration;

use super::accept::fill;
use super::load::Orders;
use super::process::resident;
use super::service::Setup;
use super::{Bench, Line, gates, tell};
use crate::failure::{Failure, Result};

/// Starts by turns: an empty store, the full one.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut sizes = vec![("recovery_1m", 1_000_000, gates::RECOVERY_1M_MAX)];
    if bench.plan.full {
        sizes.push(("recovery_10m", 10_000_000, gates::RECOVERY_10M_MAX));
    }
    let (full, empty) = (bench.accepting("full")?, bench.accepting("empty")?);
    let mut orders = Orders::single()?;
    let mut lines = Vec::new();
    for (name, size, limit) in sizes {
        let server = full.start()?;
        orders = fill(&server, bench.size(size), orders)?.orders;
        // Killed with its work done, as in a power cut; not stopped in order.
        drop(server);
        lines.push(measure(bench, name, &full, &empty, (orders.made(), limit))?);
    }
    Ok(lines)
}

fn measure(
    bench: &Bench,
    name: &str,
    full: &Setup,
    empty: &Setup,
    (orders, limit): (u64, Duration),
) -> Result<Line> {
    let (mut took, mut baseline, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..bench.pace().runs {
        let server = empty.start()?;
        baseline.push(server.started_in.as_secs_f64());
        drop(server);
        let server = full.start()?;
        let there = server.status()?.orders();
        if there != orders {
            let why = format!("{orders} orders were accepted, and after a start there are {there}");
            return Err(Failure::Missed(why));
        }
        bytes = resident(server.pid())?;
        took.push(server.started_in.as_secs_f64());
        tell(format_args!("{name}: ready in {:.3} s", server.started_in.as_secs_f64()));
    }
    Ok(Line::new(name, "s", &took)
        .against("an empty store", &baseline)
        .count("keys_pending", orders)
        .count("resident_bytes", bytes)
        .at_most("value", limit.as_secs_f64()))
}
