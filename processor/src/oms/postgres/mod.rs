//! An order management system (OMS) in a PostgreSQL database: the tables of the SQLite one.
//!
//! # What it promises
//! - A call is one transaction, and its answer comes after the commit is synced: `synchronous_commit` is on for our
//!   connections, whatever it is for others. A bad order is [`Outcome::Invalid`], the others stand.
//! - One summary per identity for ever ([`Guarantee::UniqueId`]); the fingerprint stored beside it tells a repeat from another order
//!   under the same identity.
//! - The tables are made at the first call, whoever makes it. Any number of processes may use them.
//! - Trouble of the server is never an order's fault: one that is not there, only reads, fails over, is full or busy is
//!   [`CallFailure`], with [`CallFailure::Unknown`] only where the commit was not answered. What may be either's, as a statement that took
//!   too long, is [`CallFailure::GaveUp`].
//! - A server that stands still is given up after a while, with what it was told unknown.
//! - A connection on which a call came to nothing is not used again, nor are those that are idle: of several hosts another may be the
//!   one that writes by now.
//!
//! A call goes on when its caller goes away.
//!
//! ```text
//! mod.rs       what the drain sees        connect.rs   connections, TLS, tables
//! write.rs     one call, one transaction  read.rs      find and list
//! rows.rs      tables and their rows      columns.rs   many rows by one statement
//! fault.rs     what an error means    inspect.rs   what a server is like
//! ```

mod claim;
mod columns;
mod connect;
mod fault;
mod inspect;
mod read;
mod rows;
mod write;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use forebay_buffer::Clock;
use forebay_order::OrderSummary;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::refuse::IDENTITY_MAX;
use super::{CallFailure, Claim, Found, Guarantee, Identity, Listed, OrderManagement, Outcome};

pub use connect::OpenError;
pub use inspect::Inspection;

/// Orders in one call at most.
const BATCH_MAX: usize = 1_000;

/// Rows in one page of [`OrderManagement::list`] at most.
const LIST_MAX: usize = 10_000;

/// How the database is reached.
#[derive(Clone)]
pub struct PostgresOptions {
    /// As `postgres://user@host:5432/database?sslmode=require`; several hosts with commas, of which the one that writes is used.
    pub url: String,
    /// Of the user; never shown.
    pub password: Option<String>,
    /// Certificates to trust beside the system's, in one PEM file.
    pub roots: Option<PathBuf>,
    /// Marked as a test OMS; only such a one gets synthetic orders.
    pub test: bool,
    /// Connections at most.
    pub connections: usize,
    /// How long the server works on a statement, where nobody else says it. A call that is not answered within twice that is given up.
    pub answer_timeout: Duration,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .field("answer_timeout", &self.answer_timeout)
            .finish_non_exhaustive()
    }
}

/// An OMS in a PostgreSQL database.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    /// The tables are there.
    ready: OnceCell<()>,
    test: bool,
    /// How long a call is waited for.
    patience: Duration,
    clock: Arc<dyn Clock>,
}

impl Postgres {
    /// Connects to nothing yet: orders are taken in whether the database is there or not.
    ///
    /// # Errors
    /// [`OpenError`]: it can never be reached like this.
    pub fn open(options: &PostgresOptions, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let pool = connect::pool(options)?;
        let patience = options.answer_timeout.saturating_mul(2);
        let (ready, test) = (OnceCell::new(), options.test);
        Ok(Self { shared: Arc::new(Shared { pool, ready, test, patience, clock }) })
    }
}

impl Shared {
    /// A connection to tables that are there.
    async fn client(&self) -> Result<Object, CallFailure> {
        let mut client = self.in_time(connect::get(&self.pool), CallFailure::NotSent).await?;
        let migrated =
            async || self.in_time(connect::migrate(&mut client), CallFailure::NotSent).await;
        match self.ready.get_or_try_init(migrated).await {
            Ok(()) => Ok(client),
            Err(failure) => self.done(client, Err(failure)),
        }
    }

    /// What a call comes to, if that is known in time. A server that stands still keeps its connections, and its machine speaks for it, so
    /// that nothing else tells.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, CallFailure>>,
        late: fn(String) -> CallFailure,
    ) -> Result<T, CallFailure> {
        let answer = timeout(self.patience, call).await;
        answer.unwrap_or_else(|_| {
            Err(late(format!("the database did not answer within {:?}", self.patience)))
        })
    }

    /// What a call on that connection came to; it goes back if it is good for another.
    fn done<T>(&self, client: Object, answer: Result<T, CallFailure>) -> Result<T, CallFailure> {
        if matches!(answer, Err(CallFailure::NotSent(_) | CallFailure::Unknown(_))) {
            drop(Object::take(client));
            self.pool.retain(|_, _| false);
        }
        answer
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let mut client = self.client().await?;
        let committed_at_us = self.clock.wall_ms().saturating_mul(1_000);
        let call = write::submit(&mut client, batch, committed_at_us);
        let answer = self.in_time(call, CallFailure::Unknown).await;
        self.done(client, answer)
    }
}

impl OrderManagement for Postgres {
    fn guarantee(&self) -> Guarantee {
        Guarantee::UniqueId
    }

    fn is_test(&self) -> bool {
        self.shared.test
    }

    fn identity_max(&self) -> usize {
        IDENTITY_MAX
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let (shared, batch) = (Arc::clone(&self.shared), batch.to_vec());
        let done = tokio::spawn(async move { shared.submit(&batch).await }).await;
        done.unwrap_or_else(|_| Err(CallFailure::Unknown("its task ended".to_owned())))
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let client = self.shared.client().await?;
        let call = read::find(&client, identities);
        let answer = self.shared.in_time(call, CallFailure::NotSent).await;
        self.shared.done(client, answer)
    }

    async fn claim(&self, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
        let mut client = self.shared.client().await?;
        let call = claim::claim(&mut client, fleet, take, self.shared.clock.wall_ms());
        let answer = self.shared.in_time(call, CallFailure::Unknown).await;
        self.shared.done(client, answer)
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let mut client = self.shared.client().await?;
        let call = read::list(&mut client, after, limit.min(LIST_MAX));
        let answer = self.shared.in_time(call, CallFailure::NotSent).await;
        self.shared.done(client, answer.map(Some))
    }
}
