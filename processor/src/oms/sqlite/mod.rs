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
//! One thread writes and one reads, each with its own connection and a short queue; callers wait for room,
//! and no async thread waits for the disk. A caller that goes away undoes nothing.

mod claim;
mod items;
mod open;
mod read;
mod rows;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Clock;
use forebay_order::OrderSummary;
use tokio::sync::oneshot;

use super::refuse::IDENTITY_MAX;
use super::thread::{self, CallThread};
use super::{CallFailure, Claim, Found, Guarantee, Identity, Listed, OrderManagement, Outcome};

pub use open::OpenError;

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

/// An OMS in one SQLite file. Dropping it waits until what was handed in is done and the file is closed.
pub struct Sqlite {
    writer: CallThread<Write>,
    reader: CallThread<Read>,
    test: bool,
}

enum Write {
    Submit {
        batch: Vec<Arc<OrderSummary>>,
        answer: oneshot::Sender<Result<Vec<Outcome>, CallFailure>>,
    },
    Claim {
        fleet: String,
        take: bool,
        answer: oneshot::Sender<Result<Claim, CallFailure>>,
    },
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
        let mut write_to = open::writer(path, &options)?;
        let read_from = open::reader(path, &options)?;
        let writer = CallThread::start("oms-writer", move |write: Write| match write {
            Write::Submit { batch, answer } => {
                // Nobody waits any more where the caller gave up; the orders are in all the same.
                drop(answer.send(write::submit(&mut write_to, &batch, &*clock)));
            }
            Write::Claim { fleet, take, answer } => {
                drop(answer.send(claim::claim(&mut write_to, &fleet, take, clock.wall_ms())));
            }
        });
        let reader = CallThread::start("oms-reader", move |read: Read| match read {
            Read::Find { identities, answer } => {
                drop(answer.send(read::find(&read_from, &identities)));
            }
            Read::List { after, limit, answer } => {
                drop(answer.send(read::list(&read_from, after, limit)));
            }
        });
        let (writer, reader) =
            (writer.map_err(OpenError::Thread)?, reader.map_err(OpenError::Thread)?);
        Ok(Self { writer, reader, test: options.test })
    }
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

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let submit = Write::Submit { batch: batch.to_vec(), answer };
        self.writer.hand_in(submit).await?;
        answered.await.map_err(|_| thread::ended_in_the_middle())?
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let find = Read::Find { identities: identities.to_vec(), answer };
        self.reader.hand_in(find).await?;
        answered.await.map_err(|_| thread::ended())?
    }

    async fn claim(&self, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let claim = Write::Claim { fleet: fleet.to_owned(), take, answer };
        self.writer.hand_in(claim).await?;
        answered.await.map_err(|_| thread::ended_in_the_middle())?
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let list = Read::List { after, limit: limit.min(LIST_MAX), answer };
        self.reader.hand_in(list).await?;
        answered.await.map_err(|_| thread::ended())?.map(Some)
    }
}
