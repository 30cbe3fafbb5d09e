//! One call as one transaction.

use std::sync::Arc;

use forebay_buffer::Clock;
use forebay_buffer::step::Step;
use forebay_order::OrderSummary;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::read;
use super::rows::Inserts;
use crate::oms::refuse::refuse;
use crate::oms::words::summary_id;
use crate::oms::{CallFailure, Outcome, Scope};

/// Why one order was not inserted.
enum Fault {
    /// The order's own: the others stand.
    Order { code: &'static str, reason: String },
    /// The file's: nothing of the call stands.
    File(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => {
                Self::Order { code: "constraint", reason: format!("the tables refuse it: {error}") }
            }
            Some(ErrorCode::TooBig) => {
                let reason = "a text of it is longer than the file can store".to_owned();
                Self::Order { code: "too_big", reason }
            }
            _ => Self::File(error),
        }
    }
}

/// Creates the batch's summaries.
///
/// # Errors
/// [`CallFailure::Overloaded`] where another process locks the file and [`CallFailure::NotSent`] for other
/// trouble before the commit, both with nothing done; [`CallFailure::Unknown`] where the commit failed.
pub(super) fn submit(
    connection: &mut Connection,
    batch: &[Arc<OrderSummary>],
    clock: &dyn Clock,
) -> Result<Vec<Outcome>, CallFailure> {
    let committed_at_us = clock.wall_ms().saturating_mul(1_000);
    let together = transaction(connection, |transaction| {
        let mut inserts = Inserts::prepare(transaction)?;
        let mut create =
            |summary: &Arc<_>| create(transaction, &mut inserts, summary, committed_at_us);
        batch.iter().map(&mut create).collect()
    });
    match together? {
        Ok(outcomes) => Ok(outcomes),
        // A savepoint for each order costs more than to begin again where one of a batch is bad.
        Err(_) => {
            let apart = transaction(connection, |transaction| {
                let mut inserts = Inserts::prepare(transaction)?;
                let mut create = |summary: &Arc<_>| {
                    create_apart(transaction, &mut inserts, summary, committed_at_us)
                };
                batch.iter().map(&mut create).collect()
            });
            apart?.map_err(CallFailure::NotSent)
        }
    }
}

/// Does something in one transaction. An order's fault, in words, undoes all of it, and is given back.
fn transaction(
    connection: &mut Connection,
    each: impl FnOnce(&Connection) -> Result<Vec<Outcome>, Fault>,
) -> Result<Result<Vec<Outcome>, String>, CallFailure> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| not_done(&error))?;
    // The transaction is rolled back as it is dropped.
    let outcomes = match each(&transaction) {
        Ok(outcomes) => outcomes,
        Err(Fault::Order { reason, .. }) => return Ok(Err(reason)),
        Err(Fault::File(error)) => return Err(not_done(&error)),
    };
    transaction
        .commit()
        .map_err(|error| CallFailure::Unknown(format!("committing to its file failed: {error}")))?;
    Step::Committed.reached(|| true);
    Ok(Ok(outcomes))
}

/// One order. What the tables refuse of it may have left rows.
fn create(
    connection: &Connection,
    inserts: &mut Inserts<'_>,
    summary: &OrderSummary,
    committed_at_us: i64,
) -> Result<Outcome, Fault> {
    let identity = summary.key.identity();
    if let Some(refused) = refuse(&identity, summary) {
        return Ok(Outcome::Invalid { code: refused.code.to_owned(), reason: refused.reason });
    }
    if let Some(id) = inserts.insert(&identity, summary, committed_at_us)? {
        return Ok(Outcome::Created { id: summary_id(id) });
    }
    let Some(found) = read::existing(connection, &identity)? else {
        return Err(Fault::File(rusqlite::Error::QueryReturnedNoRows));
    };
    let same = found.fingerprint.map(|fingerprint| fingerprint == summary.fingerprint);
    Ok(Outcome::Existing { id: found.id, same })
}

/// One order within its savepoint: what the tables refuse leaves no row.
fn create_apart(
    connection: &Connection,
    inserts: &mut Inserts<'_>,
    summary: &OrderSummary,
    committed_at_us: i64,
) -> Result<Outcome, Fault> {
    connection.prepare_cached("SAVEPOINT one_order")?.execute(())?;
    let created = match create(connection, inserts, summary, committed_at_us) {
        // The whole transaction goes, and may be gone already.
        Err(file @ Fault::File(_)) => return Err(file),
        Err(Fault::Order { code, reason }) => {
            connection.prepare_cached("ROLLBACK TO one_order")?.execute(())?;
            Outcome::Invalid { code: code.to_owned(), reason }
        }
        Ok(outcome) => outcome,
    };
    connection.prepare_cached("RELEASE one_order")?.execute(())?;
    Ok(created)
}

/// Before the commit: nothing was done.
pub(super) fn not_done(error: &rusqlite::Error) -> CallFailure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            CallFailure::Overloaded { after: None, scope: Scope::Concurrency }
        }
        _ => CallFailure::NotSent(format!("writing to its file failed: {error}")),
    }
}
