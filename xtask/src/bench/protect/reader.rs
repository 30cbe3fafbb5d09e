//! A steady reader: one connection that looks orders up at a steady rate, as a shop's service desk does.

use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

use super::runtime;
use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, pass};

/// Look-ups a second.
const PER_S: u32 = 100;

/// One order with its shopper and its lines.
const LOOK_UP: &str = "SELECT o.id, o.order_number, o.grand_total_amount::text, a.name, i.line_number, i.product_code, i.quantity::text \
     FROM order_summary o LEFT JOIN account a ON a.id = o.account_id \
     LEFT JOIN order_item_summary i ON i.order_summary_id = o.id \
     WHERE o.external_reference_identifier = $1";

/// What whoever reads waited.
#[derive(Debug)]
pub(super) struct Seen(Histogram<u64>);

impl Seen {
    /// A percentile, in milliseconds.
    pub(super) fn latency_ms(&self, percentile: f64) -> f64 {
        self.0.value_at_percentile(percentile) as f64 / 1e3
    }

    /// Look-ups.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }
}

/// The reader.
pub(super) struct Reader {
    runtime: Runtime,
    client: Client,
    look_up: Statement,
    /// Of all orders that were there at first.
    identities: Vec<String>,
}

impl Reader {
    /// Knows the orders that are there.
    pub(super) fn connect(url: &str) -> Result<Self> {
        let runtime = runtime()?;
        let connecting = async {
            let (client, connection) =
                tokio_postgres::connect(url, NoTls).await.when("connecting")?;
            drop(tokio::spawn(connection));
            client.batch_execute("VACUUM ANALYZE").await.when("a vacuum")?;
            let all = "SELECT external_reference_identifier FROM order_summary";
            let rows = client.query(all, &[]).await.when("the orders")?;
            let identities = rows.iter().map(|row| row.get(0)).collect();
            let look_up = client.prepare(LOOK_UP).await.when("a statement")?;
            Ok((client, look_up, identities))
        };
        let (client, look_up, identities) = runtime.block_on(connecting)?;
        Ok(Self { runtime, client, look_up, identities })
    }

    /// Each round has a store of its own, and the database belongs to none of before.
    pub(super) fn forget_fleet(&self) -> Result<()> {
        let forget = self.client.batch_execute("DROP TABLE IF EXISTS forebay_drained_by");
        self.runtime.block_on(forget).when("forgetting whose it is")
    }

    /// Lets the server write what earlier rounds left, so that no other pays for them.
    pub(super) fn settle(&self) -> Result<()> {
        self.runtime.block_on(self.client.batch_execute("CHECKPOINT")).when("a checkpoint")
    }

    /// Looks random orders up. One that is due while another is under way has waited since then.
    pub(super) fn look_up(&self, lasting: Duration) -> Result<Seen> {
        let mut seen = Histogram::new_with_max(120_000_000, 3).when("a histogram")?;
        let watch = Stopwatch::start();
        for n in 0.. {
            let due = Duration::from_secs(1) * n / PER_S;
            if due >= lasting {
                break;
            }
            let late = watch.elapsed().saturating_sub(due);
            pass(due.saturating_sub(watch.elapsed()));
            let asked = Stopwatch::start();
            self.one()?;
            let us = (late + asked.elapsed()).as_micros();
            seen.saturating_record(u64::try_from(us).unwrap_or(u64::MAX));
        }
        Ok(Seen(seen))
    }

    fn one(&self) -> Result<()> {
        let Some(identity) = fastrand::choice(&self.identities) else { return Ok(()) };
        let asking = async { self.client.query(&self.look_up, &[identity]).await };
        let rows = self.runtime.block_on(asking).when("looking an order up")?;
        if rows.is_empty() {
            return Err(Failure::Missed("an order is gone".to_owned()));
        }
        Ok(())
    }
}
