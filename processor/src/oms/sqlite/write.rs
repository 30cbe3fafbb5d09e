//! One call as one transaction.

use forebay_buffer::Clock;
use forebay_order::OrderSummary;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::read;
use super::rows;
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
    batch: &[OrderSummary],
    clock: &dyn Clock,
) -> Result<Vec<Outcome>, CallFailure> {
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| not_done(&error))?;
    let committed_at_us = clock.wall_ms().saturating_mul(1_000);
    let mut outcomes = Vec::with_capacity(batch.len());
    for summary in batch {
        match create(&transaction, summary, committed_at_us) {
            Ok(outcome) => outcomes.push(outcome),
            Err(Fault::Order { code, reason }) => {
                outcomes.push(Outcome::Invalid { code: code.to_owned(), reason });
            }
            // The transaction is rolled back as it is dropped.
            Err(Fault::File(error)) => return Err(not_done(&error)),
        }
    }
    transaction
        .commit()
        .map_err(|error| CallFailure::Unknown(format!("committing to its file failed: {error}")))?;
    Ok(outcomes)
}

/// One order within its savepoint.
fn create(
    connection: &Connection,
    summary: &OrderSummary,
    committed_at_us: i64,
) -> Result<Outcome, Fault> {
    let identity = summary.key.identity();
    if let Some(found) = read::existing(connection, &identity)? {
        let same = found.fingerprint.map(|fingerprint| fingerprint == summary.fingerprint);
        return Ok(Outcome::Existing { id: found.id, same });
    }
    refuse(&identity, summary).map_or(Ok(()), |refused| {
        Err(Fault::Order { code: refused.code, reason: refused.reason })
    })?;
    connection.prepare_cached("SAVEPOINT one_order")?.execute(())?;
    let inserted = match rows::insert(connection, &identity, summary, committed_at_us) {
        Ok(id) => Ok(Outcome::Created { id: summary_id(id) }),
        Err(error) => match Fault::from(error) {
            // The whole transaction goes, and may be gone already.
            file @ Fault::File(_) => return Err(file),
            order @ Fault::Order { .. } => {
                connection.prepare_cached("ROLLBACK TO one_order")?.execute(())?;
                Err(order)
            }
        },
    };
    connection.prepare_cached("RELEASE one_order")?.execute(())?;
    inserted
}

/// Before the commit: nothing was done.
fn not_done(error: &rusqlite::Error) -> CallFailure {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            CallFailure::Overloaded { after: None, scope: Scope::Concurrency }
        }
        _ => CallFailure::NotSent(format!("writing to its file failed: {error}")),
    }
}
