//! What the file has: `find` and `list`.

use forebay_order::Fingerprint;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::oms::words::summary_id;
use crate::oms::{CallFailure, Found, Identity, Listed};

const FIND: &str = "SELECT id, fingerprint, fingerprint_version FROM order_summary \
                    WHERE external_reference_identifier = ?1";

const LIST: &str = "SELECT id, fingerprint, fingerprint_version, external_reference_identifier, \
                    committed_at_us, grand_total_amount, currency_iso_code \
                    FROM order_summary WHERE id > ?1 ORDER BY id LIMIT ?2";

pub(super) fn find(
    connection: &Connection,
    identities: &[Identity],
) -> Result<Vec<Option<Found>>, CallFailure> {
    let all = || -> rusqlite::Result<Vec<Option<Found>>> {
        // One read transaction: one moment's answer for the whole call.
        let transaction = connection.unchecked_transaction()?;
        let mut statement = transaction.prepare_cached(FIND)?;
        let mut answers = Vec::with_capacity(identities.len());
        for identity in identities {
            answers.push(statement.query_row([identity], found).optional()?);
        }
        Ok(answers)
    };
    all().map_err(|error| failure(&error))
}

pub(super) fn list(
    connection: &Connection,
    after: u64,
    limit: usize,
) -> Result<Vec<Listed>, CallFailure> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let all = || -> rusqlite::Result<Vec<Listed>> {
        let mut statement = connection.prepare_cached(LIST)?;
        let rows = statement.query_map((after, limit), |row| {
            let id: i64 = row.get(0)?;
            Ok(Listed {
                cursor: u64::try_from(id).unwrap_or_default(),
                summary_id: summary_id(id),
                fingerprint: fingerprint(row)?,
                identity: row.get(3)?,
                committed_at_us: row.get(4)?,
                grand_total: row.get(5)?,
                currency: row.get(6)?,
                creates: 1,
            })
        })?;
        rows.collect()
    };
    all().map_err(|error| failure(&error))
}

/// The row of one identity, by the writing connection within its transaction.
pub(super) fn existing(connection: &Connection, identity: &str) -> rusqlite::Result<Option<Found>> {
    connection.prepare_cached(FIND)?.query_row([identity], found).optional()
}

fn found(row: &Row<'_>) -> rusqlite::Result<Found> {
    Ok(Found { id: summary_id(row.get(0)?), fingerprint: fingerprint(row)? })
}

/// The fingerprint in columns 1 and 2; `None` for one made by another version's rule, which cannot be compared.
fn fingerprint(row: &Row<'_>) -> rusqlite::Result<Option<Fingerprint>> {
    let bytes: [u8; 16] = row.get(1)?;
    let version: u8 = row.get(2)?;
    Ok((version == Fingerprint::VERSION).then_some(Fingerprint(bytes)))
}

fn failure(error: &rusqlite::Error) -> CallFailure {
    CallFailure::NotSent(format!("reading its file failed: {error}"))
}
