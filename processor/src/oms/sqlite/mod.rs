//! The embedded order management system (OMS): one SQLite file.
//!
//! # What it promises
//! - A call is one transaction, and its answer comes after the commit is synced (WAL, `synchronous=FULL`).
//!   Each order of it has a savepoint: a bad one is [`Outcome::Invalid`], the others stand.
//! - One summary per identity for ever ([`Guarantee::UniqueId`]); the fingerprint stored beside it tells a
//!   repeat from another order under the same identity.
//! - Every field of an [`OrderSummary`] is kept, text and decimals as they are. The schema stands in
//!   `schema.sql`, named after the Salesforce objects.
//! - A shopper's account is found or created by normalised e-mail; an order without e-mail has none.
//! - Trouble of the file (busy, full, I/O) is never an order's fault: [`CallFailure`], with
//!   [`CallFailure::Unknown`] only where the commit itself failed.
//!
//! One thread writes and one reads, each with its own connection and a queue of [`QUEUE`] calls; callers
//! wait for room, and no async thread waits for the disk. A caller that goes away undoes nothing.

mod open;
mod read;
mod rows;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Clock;
use forebay_order::OrderSummary;
use tokio::sync::{mpsc, oneshot};

use super::{CallFailure, Found, Guarantee, Identity, Listed, OrderManagement, Outcome};

pub use open::OpenError;

/// Calls that may wait for each of the two threads.
pub const QUEUE: usize = 16;

/// The longest identity, in bytes.
const IDENTITY_MAX: usize = 255;

/// Orders in one call at most.
const BATCH_MAX: usize = 1_000;

/// Rows in one page of [`OrderManagement::list`] at most.
const LIST_MAX: usize = 10_000;

/// How the file is opened.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// Marked as a test OMS; only such a one gets synthetic orders.
    pub test: bool,
    /// How long to wait for another process that locks the file. Default 5 s.
    pub busy_timeout: Duration,
    /// Pages (of 4 KiB) the file may have; an order beyond is refused as "full". Default: SQLite's own limit.
    pub pages_max: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { test: false, busy_timeout: Duration::from_secs(5), pages_max: None }
    }
}

/// An OMS in one SQLite file. Dropping it lets the two threads finish what was handed in, and end.
pub struct Sqlite {
    writer: mpsc::Sender<Submit>,
    reader: mpsc::Sender<Read>,
    test: bool,
}

struct Submit {
    batch: Vec<OrderSummary>,
    answer: oneshot::Sender<Result<Vec<Outcome>, CallFailure>>,
}

enum Read {
    Find {
        identities: Vec<Identity>,
        answer: oneshot::Sender<Result<Vec<Option<Found>>, CallFailure>>,
    },
    List {
        after: u64,
        limit: usize,
        answer: oneshot::Sender<Result<Vec<Listed>, CallFailure>>,
    },
}

impl Sqlite {
    /// Opens the file, or creates it with its tables. What was committed before is there.
    ///
    /// Blocks for the disk: call it before serving.
    ///
    /// # Errors
    /// [`OpenError`], with nothing changed.
    pub fn open(
        path: &Path,
        options: SqliteOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let write_to = open::writer(path, &options)?;
        let read_from = open::reader(path, &options)?;
        let (writer, submits) = mpsc::channel(QUEUE);
        let (reader, reads) = mpsc::channel(QUEUE);
        spawn("oms-writer", move || serve_submits(write_to, submits, &*clock))?;
        spawn("oms-reader", move || serve_reads(&read_from, reads))?;
        Ok(Self { writer, reader, test: options.test })
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(drop)
        .map_err(OpenError::Thread)
}

fn serve_submits(
    mut connection: rusqlite::Connection,
    mut submits: mpsc::Receiver<Submit>,
    clock: &dyn Clock,
) {
    while let Some(Submit { batch, answer }) = submits.blocking_recv() {
        let outcomes = write::submit(&mut connection, &batch, clock);
        // Nobody waits any more where the caller gave up; the orders are in all the same.
        drop(answer.send(outcomes));
    }
}

fn serve_reads(connection: &rusqlite::Connection, mut reads: mpsc::Receiver<Read>) {
    while let Some(read) = reads.blocking_recv() {
        match read {
            Read::Find { identities, answer } => {
                drop(answer.send(read::find(connection, &identities)));
            }
            Read::List { after, limit, answer } => {
                drop(answer.send(read::list(connection, after, limit)));
            }
        }
    }
}

/// Nothing can have happened: the thread is gone.
fn stopped() -> CallFailure {
    CallFailure::NotSent("its thread has ended; restart Forebay".to_owned())
}

impl OrderManagement for Sqlite {
    fn guarantee(&self) -> Guarantee {
        Guarantee::UniqueId
    }

    fn is_test(&self) -> bool {
        self.test
    }

    fn identity_max(&self) -> usize {
        IDENTITY_MAX
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    async fn submit(&self, batch: &[OrderSummary]) -> Result<Vec<Outcome>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let submit = Submit { batch: batch.to_vec(), answer };
        self.writer.send(submit).await.map_err(|_| stopped())?;
        let ended = || CallFailure::Unknown("its thread ended in the middle of it".to_owned());
        answered.await.map_err(|_| ended())?
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let find = Read::Find { identities: identities.to_vec(), answer };
        self.reader.send(find).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let list = Read::List { after, limit: limit.min(LIST_MAX), answer };
        self.reader.send(list).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?.map(Some)
    }
}
