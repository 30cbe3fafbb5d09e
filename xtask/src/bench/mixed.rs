//! Accepting beside a drain against accepting alone: two servers by turns, the other one frozen meanwhile.

use super::accept::{Side, accounted, fill};
use super::load::Orders;
use super::report::median;
use super::service::Setup;
use super::{Bench, Line, gates, tell};
use crate::failure::Result;
use crate::time::Stopwatch;

const CONNECTIONS: usize = 256;
/// Orders pending in each before the first round.
const KEYS: u64 = 1_000_000;

/// Runs both sides.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let alone = Setup { oms: "ledger", ..bench.accepting("alone")? };
    let ceiling = Some(gates::MIXED_DRAIN_PER_S);
    let beside = Setup { ceiling, oms: "ledger", ..bench.accepting("beside")? };
    let alone = alone.start()?;
    let mut alone_orders = fill(&alone, bench.size(KEYS), Orders::single()?)?.orders;
    alone.freeze()?;
    let beside = beside.start()?;
    let mut beside_orders = fill(&beside, bench.size(KEYS), Orders::single()?)?.orders;
    let (mut plain, mut mixed, mut drained) = (Side::default(), Side::default(), Vec::new());
    let pace = bench.pace();
    let mut pending = u64::MAX;
    for _ in 0..pace.runs {
        beside.freeze()?;
        alone.thaw()?;
        alone.quiet()?;
        plain.round("alone", &alone, &pace, CONNECTIONS, &mut alone_orders)?;
        alone.freeze()?;
        beside.thaw()?;
        let (before, watch) = (beside.status()?, Stopwatch::start());
        pending = pending.min(before.pending());
        mixed.round("beside a drain", &beside, &pace, CONNECTIONS, &mut beside_orders)?;
        let after = beside.status()?.summarised().saturating_sub(before.summarised());
        drained.push(after as f64 / watch.elapsed().as_secs_f64());
        tell(format_args!("drained meanwhile: {:.0}/s", drained.last().unwrap_or(&0.0)));
    }
    alone.thaw()?;
    accounted(&alone, &alone_orders)?;
    accounted(&beside, &beside_orders)?;
    let line = mixed
        .line("mixed")
        .against("accepting alone", &plain.per_second)
        .with("cpu_ratio", median(&plain.server_us) / median(&mixed.server_us))
        .with("alone_p99_ms", median(&plain.p99_ms))
        .with("drained_per_s", median(&drained))
        .count("keys_pending", pending)
        .at_least("ratio", gates::MIXED_RATIO_MIN)
        .at_most("p99_ms", gates::MIXED_P99_MS_MAX)
        .at_least("drained_per_s", gates::MIXED_DRAIN_PER_S * gates::MIXED_DRAIN_SHARE_MIN);
    Ok(vec![line])
}
