//! PostgreSQL, with a server of its own.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::SystemClock;
use forebay_order::OrderSummary;
use forebay_processor::oms::postgres::{Postgres, PostgresOptions};
use futures_util::future::try_join_all;
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Statement};

use super::super::{Bench, Line, tell};
use super::{AT_ONCE, BATCH, a_line, batch, create, line, own_round};
use crate::failure::{Failure, Result, While as _};
use crate::postgres::PostgresServer;
use crate::time::Stopwatch;

pub(super) fn run(bench: &Bench) -> Result<Vec<Line>> {
    let started = PostgresServer::start(&["shared_buffers=512MB", "max_wal_size=8GB"]);
    let Some(server) = started.when("starting PostgreSQL")? else {
        return Err(Failure::Skipped("there is no PostgreSQL to run".to_owned()));
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.when("a runtime")?.block_on(both(bench, &server))
}

async fn both(bench: &Bench, server: &PostgresServer) -> Result<Vec<Line>> {
    for name in ["own", "bare"] {
        let (client, connection) =
            tokio_postgres::connect(&server.url("postgres"), NoTls).await.when("connecting")?;
        let driving = tokio::spawn(connection);
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.when("a database")?;
        drop(client);
        driving.await.when("the connection")?.when("the connection")?;
    }
    let (oms, beside) = (open(&server.url("own"), AT_ONCE)?, open(&server.url("bare"), AT_ONCE)?);
    let mut next = 0;
    // It makes the tables of the other, too.
    create(&beside, &batch(&mut next)?).await?;
    create(&oms, &batch(&mut next)?).await?;
    let connecting = (0..AT_ONCE).map(|_| Bare::connect(server.url("bare")));
    let bare = try_join_all(connecting).await?;
    let (mut own_rounds, mut bare_rounds) = (Vec::new(), Vec::new());
    for _ in 0..bench.pace().runs {
        bare_rounds.push(bare_round(&bare, &mut next, bench.pace().measured).await?);
        own_rounds.push(own_round("oms_postgres", &oms, &mut next, bench.pace().measured).await?);
    }
    let lines = a_line(&oms, &mut next, bench.pace().runs).await?;
    Ok(vec![line("oms_postgres", &own_rounds, &bare_rounds, lines)])
}

/// The target as the server has it, with that many connections.
pub(in crate::bench) fn open(url: &str, connections: usize) -> Result<Postgres> {
    let options = PostgresOptions {
        url: url.to_owned(),
        password: None,
        roots: None,
        test: true,
        connections,
        answer_timeout: Duration::from_secs(30),
    };
    Postgres::open(&options, Arc::new(SystemClock)).when("the PostgreSQL target")
}

/// The same rows by hand.
async fn bare_round(bare: &[Bare], next: &mut u64, lasting: Duration) -> Result<f64> {
    let watch = Stopwatch::start();
    let mut count = 0;
    while !watch.left_of(lasting).is_zero() {
        let batches = bare.iter().map(|_| batch(next)).collect::<Result<Vec<_>>>()?;
        let inserting = bare.iter().zip(&batches);
        try_join_all(inserting.map(|(bare, batch)| bare.insert(batch))).await?;
        count += bare.len() * BATCH;
    }
    let per_second = count as f64 / watch.elapsed().as_secs_f64();
    tell(format_args!("by hand: {per_second:.0}/s"));
    Ok(per_second)
}

/// One connection with the statements of a hand-written insert: a shopper, an order and its lines, nothing looked up, no order known
/// before, lines joined on what the orders' insert tells.
struct Bare {
    client: Client,
    accounts: Statement,
    orders: Statement,
    items: Statement,
}

const ACCOUNTS: &str = "INSERT INTO account (email_normalised, is_person_account, name, person_email) \
     SELECT * FROM unnest($1::text[], $2::boolean[], $3::text[], $4::text[]) \
     ON CONFLICT (email_normalised) DO NOTHING RETURNING id";

/// Columns that are the same in all of these orders are constants.
const ORDERS: &str = "INSERT INTO order_summary (external_reference_identifier, fingerprint, fingerprint_version, \
     order_number, order_life_cycle_type, currency_iso_code, tax_locale_type, ordered_date_text, ordered_date_ms, account_id, \
     shopper_email_normalised, billing_email_address, shopper_name, has_billing, total_product_amount, total_delivery_amount, \
     total_fee_amount, total_line_adjustment_amount, total_adj_dist_amount, total_amount, total_tax_amount, grand_total_amount, \
     stated_grand_total, difference, oddities, committed_at_us) \
     SELECT identity, fingerprint, 1, number, 'MANAGED', 'EUR', 'Gross', date, ms, account, email, email, 'Shopper', false, \
     total, 0, 0, 0, 0, total, 0, total, total, 0, '[]', 0 \
     FROM unnest($1::text[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::text[], $8::numeric[]) \
     AS rows(identity, fingerprint, number, date, ms, account, email, total) \
     ON CONFLICT (external_reference_identifier) DO NOTHING RETURNING id";

const ITEMS: &str = "INSERT INTO order_item_summary (order_summary_id, line_number, type, product_code, name, quantity, \
     unit_price, total_line_amount) \
     SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::numeric[], \
     $8::numeric[])";

impl Bare {
    async fn connect(url: String) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.when("connecting")?;
        drop(tokio::spawn(connection));
        Ok(Self {
            accounts: client.prepare(ACCOUNTS).await.when("a statement")?,
            orders: client.prepare(ORDERS).await.when("a statement")?,
            items: client.prepare(ITEMS).await.when("a statement")?,
            client,
        })
    }

    async fn insert(&self, batch: &[Arc<OrderSummary>]) -> Result<()> {
        let failed = "inserting by hand";
        self.client.batch_execute("BEGIN").await.when(failed)?;
        let emails: Vec<_> = batch.iter().map(|o| o.shopper.email.as_deref()).collect();
        let (yes, names) = (vec![true; batch.len()], vec![Some("Shopper"); batch.len()]);
        let rows = self.client.query(&self.accounts, &[&emails, &yes, &names, &emails]).await;
        let accounts: Vec<i64> = rows.when(failed)?.iter().map(|row| row.get(0)).collect();
        let identities: Vec<_> = batch.iter().map(|o| o.key.identity()).collect();
        let fingerprints: Vec<&[u8]> = batch.iter().map(|o| o.fingerprint.0.as_slice()).collect();
        let numbers: Vec<_> = batch.iter().map(|o| o.order_number.as_str()).collect();
        let dates: Vec<_> = batch.iter().map(|o| o.ordered_date_text.as_str()).collect();
        let times: Vec<_> = batch.iter().map(|o| o.ordered_date_ms).collect();
        let totals: Vec<Decimal> = batch.iter().map(|o| o.totals.grand_total).collect();
        let orders: [&(dyn ToSql + Sync); 8] =
            [&identities, &fingerprints, &numbers, &dates, &times, &accounts, &emails, &totals];
        let orders = self.client.query(&self.orders, &orders).await;
        let orders: Vec<i64> = orders.when(failed)?.iter().map(|row| row.get(0)).collect();
        let lines =
            || orders.iter().zip(batch).flat_map(|(id, o)| o.lines.iter().map(move |l| (id, l)));
        let ids: Vec<_> = lines().map(|(id, _)| *id).collect();
        let at: Vec<_> =
            lines().map(|(_, l)| i32::try_from(l.number).unwrap_or_default()).collect();
        let kinds = vec!["product"; ids.len()];
        let codes: Vec<_> = lines().map(|(_, l)| l.product_code.as_str()).collect();
        let names: Vec<_> = lines().map(|(_, l)| l.name.as_str()).collect();
        let quantities: Vec<Decimal> = lines().map(|(_, l)| l.quantity).collect();
        let prices: Vec<Decimal> = lines().map(|(_, l)| l.unit_price).collect();
        let amounts: Vec<Decimal> = lines().map(|(_, l)| l.line_amount).collect();
        let items: [&(dyn ToSql + Sync); 8] =
            [&ids, &at, &kinds, &codes, &names, &quantities, &prices, &amounts];
        let inserted = self.client.execute(&self.items, &items).await.when(failed)?;
        self.client.batch_execute("COMMIT").await.when(failed)?;
        if orders.len() == batch.len() && inserted == ids.len() as u64 {
            return Ok(());
        }
        Err(Failure::Broken("not every row was inserted by hand".to_owned()))
    }
}
