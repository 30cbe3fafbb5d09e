//! The targets that are tables, against the best insert of the same rows that is written by hand: by turns, in databases of their own.

pub(super) mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use forebay_order::summary::{
    LifeCycle, Line as OrderLine, LineKind, Shopper, Stated, TaxLocale, Totals,
};
use forebay_order::{Fingerprint, OrderKey, OrderSummary};
use forebay_processor::{OrderManagement, Outcome};
use futures_util::future::try_join_all;

use super::report::median;
use super::{Bench, Line, gates, tell};
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// Orders of one call, calls at once, and lines of one order.
const BATCH: usize = 500;
const AT_ONCE: usize = 2;
const LINES: u32 = 3;
/// Lines of an order that has many.
const MANY: u32 = 2_000;

/// Both targets.
pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let mut lines = postgres::run(bench)?;
    lines.extend(sqlite::run(bench)?);
    Ok(lines)
}

/// The n-th order: a shopper of its own, and so many lines.
fn order(n: u64, lines: u32) -> Result<Arc<OrderSummary>> {
    let currency = "EUR".parse().when("a currency")?;
    let amount = rust_decimal::Decimal::new(1_250, 2);
    let line = |number: u32| OrderLine {
        number,
        kind: LineKind::Product,
        delivery_group: None,
        product_code: format!("SKU-{number}"),
        name: "A mug that keeps warm".to_owned(),
        quantity: 1.into(),
        unit_price: amount,
        line_amount: amount,
        adjustments: Vec::new(),
        taxes: Vec::new(),
    };
    let total = amount * rust_decimal::Decimal::from(lines);
    let mut fingerprint = [0; 16];
    for (to, from) in fingerprint.iter_mut().zip(n.to_le_bytes()) {
        *to = from;
    }
    Ok(Arc::new(OrderSummary {
        key: OrderKey::new("forebay", "bench", n.to_string()),
        fingerprint: Fingerprint(fingerprint),
        order_number: format!("#{n}"),
        ordered_date_text: "2026-11-27T09:00:00Z".to_owned(),
        ordered_date_ms: Some(1_795_770_000_000),
        life_cycle: LifeCycle::Managed,
        currency,
        tax_locale: TaxLocale::Gross,
        shopper: Shopper {
            email_normalised: Some(format!("shopper-{n}@example.com")),
            email: Some(format!("shopper-{n}@example.com")),
            name: Some("Shopper".to_owned()),
            ..Shopper::default()
        },
        billing: None,
        delivery_groups: Vec::new(),
        adjustment_groups: Vec::new(),
        lines: (1..=lines).map(line).collect(),
        payments: Vec::new(),
        stated: Stated { grand_total: Some(total), ..Stated::default() },
        difference: rust_decimal::Decimal::ZERO,
        oddities: Vec::new(),
        totals: Totals {
            product: total,
            total_amount: total,
            grand_total: total,
            ..Totals::default()
        },
    }))
}

/// The next batch of orders, from `next` on.
fn batch(next: &mut u64) -> Result<Vec<Arc<OrderSummary>>> {
    let from = *next;
    *next += BATCH as u64;
    (from..*next).map(|n| order(n, LINES)).collect()
}

/// Hands a batch in; all of it must be created.
async fn create(oms: &impl OrderManagement, batch: &[Arc<OrderSummary>]) -> Result<()> {
    let outcomes = oms.submit(batch).await.when("creating summaries")?;
    let created = |outcome: &Outcome| matches!(outcome, Outcome::Created { .. });
    if outcomes.len() == batch.len() && outcomes.iter().all(created) {
        return Ok(());
    }
    Err(Failure::Missed("an order was not created".to_owned()))
}

/// Orders a second through a target.
async fn own_round(
    name: &str,
    oms: &impl OrderManagement,
    next: &mut u64,
    lasting: Duration,
) -> Result<f64> {
    let watch = Stopwatch::start();
    let mut count = 0;
    while !watch.left_of(lasting).is_zero() {
        let batches = (0..AT_ONCE).map(|_| batch(next)).collect::<Result<Vec<_>>>()?;
        try_join_all(batches.iter().map(|batch| create(oms, batch))).await?;
        count += AT_ONCE * BATCH;
    }
    let per_second = count as f64 / watch.elapsed().as_secs_f64();
    tell(format_args!("{name}: {per_second:.0}/s"));
    Ok(per_second)
}

/// Seconds a line of an order with many and of usual ones, in turns.
async fn a_line(oms: &impl OrderManagement, next: &mut u64, runs: usize) -> Result<(f64, f64)> {
    let (mut many, mut usual) = (Vec::new(), Vec::new());
    for _ in 0..runs.max(3) {
        let batch = batch(next)?;
        let watch = Stopwatch::start();
        create(oms, &batch).await?;
        usual.push(watch.elapsed().as_secs_f64() / (BATCH as f64 * f64::from(LINES)));
        let one = [order(*next, MANY)?];
        *next += 1;
        let watch = Stopwatch::start();
        create(oms, &one).await?;
        many.push(watch.elapsed().as_secs_f64() / f64::from(MANY));
    }
    Ok((median(&many), median(&usual)))
}

/// The figure of a target.
fn line(name: &str, own: &[f64], bare: &[f64], (many, usual): (f64, f64)) -> Line {
    Line::new(name, "orders/s", own)
        .against("the same rows by hand", bare)
        .count("orders_per_call", BATCH as u64)
        .with("line_us", usual * 1e6)
        .with("line_of_many_us", many * 1e6)
        .at_least("ratio", gates::OMS_RATIO_MIN)
        .with("line_of_many_ratio", many / usual)
        .at_most("line_of_many_ratio", gates::OMS_LINE_RATIO_MAX)
}
