//! SQLite, in a file of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::SystemClock;
use forebay_order::OrderSummary;
use forebay_processor::oms::sqlite::{Sqlite, SqliteOptions};
use rusqlite::{Connection, params};

use super::super::{Bench, Line, tell};
use super::{BATCH, a_line, batch, line, own_round};
use crate::failure::{Result, While as _};
use crate::time::Stopwatch;

pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let place = bench.place.directory("oms")?;
    let open = |name: &str| {
        let path = place.join(name);
        let opened = Sqlite::open(&path, SqliteOptions::default(), Arc::new(SystemClock));
        opened.when("the SQLite target")
    };
    let oms = open("own.sqlite")?;
    // It makes the tables.
    drop(open("bare.sqlite")?);
    let mut bare = connect(&place.join("bare.sqlite")).when("opening the file")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.when("a runtime")?;
    let mut next = 0;
    let (mut own_rounds, mut bare_rounds) = (Vec::new(), Vec::new());
    for _ in 0..bench.pace().runs {
        bare_rounds.push(bare_round(&mut bare, &mut next, bench.pace().measured)?);
        own_rounds.push(runtime.block_on(own_round(
            "oms_sqlite",
            &oms,
            &mut next,
            bench.pace().measured,
        ))?);
    }
    let lines = runtime.block_on(a_line(&oms, &mut next, bench.pace().runs))?;
    Ok(vec![line("oms_sqlite", &own_rounds, &bare_rounds, lines)])
}

fn bare_round(connection: &mut Connection, next: &mut u64, lasting: Duration) -> Result<f64> {
    let watch = Stopwatch::start();
    let mut count = 0;
    while !watch.left_of(lasting).is_zero() {
        insert(connection, &batch(next)?).when("inserting by hand")?;
        count += BATCH;
    }
    let per_second = count as f64 / watch.elapsed().as_secs_f64();
    tell(format_args!("by hand: {per_second:.0}/s"));
    Ok(per_second)
}

/// As durable as the target.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

const ACCOUNT: &str = "INSERT INTO account (email_normalised, is_person_account, name, person_email) \
                       VALUES (?1, 1, 'Shopper', ?1)";

/// Columns that are the same in all of these orders are constants.
const ORDER: &str = "INSERT INTO order_summary (external_reference_identifier, fingerprint, fingerprint_version, \
    order_number, order_life_cycle_type, currency_iso_code, tax_locale_type, ordered_date_text, ordered_date_ms, account_id, \
    shopper_email_normalised, billing_email_address, shopper_name, has_billing, total_product_amount, total_delivery_amount, \
    total_fee_amount, total_line_adjustment_amount, total_adj_dist_amount, total_amount, total_tax_amount, grand_total_amount, \
    stated_grand_total, difference, oddities, committed_at_us) \
    VALUES (?1, ?2, 1, ?3, 'MANAGED', 'EUR', 'Gross', ?4, ?5, ?6, ?7, ?7, 'Shopper', 0, ?8, '0', '0', '0', '0', ?8, '0', ?8, ?8, \
    '0', '[]', 0)";

const ITEM: &str = "INSERT INTO order_item_summary (order_summary_id, line_number, type, product_code, name, quantity, \
                    unit_price, total_line_amount) VALUES (?1, ?2, 'product', ?3, ?4, ?5, ?6, ?7)";

/// A shopper, an order and its lines each, in one transaction.
fn insert(connection: &mut Connection, batch: &[Arc<OrderSummary>]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for order in batch {
        transaction.prepare_cached(ACCOUNT)?.execute([&order.shopper.email])?;
        let account = transaction.last_insert_rowid();
        transaction.prepare_cached(ORDER)?.execute(params![
            order.key.identity(),
            order.fingerprint.0,
            order.order_number,
            order.ordered_date_text,
            order.ordered_date_ms,
            account,
            order.shopper.email,
            order.totals.grand_total.to_string(),
        ])?;
        let id = transaction.last_insert_rowid();
        for line in &order.lines {
            transaction.prepare_cached(ITEM)?.execute(params![
                id,
                line.number,
                line.product_code,
                line.name,
                line.quantity.to_string(),
                line.unit_price.to_string(),
                line.line_amount.to_string(),
            ])?;
        }
    }
    transaction.commit()
}
