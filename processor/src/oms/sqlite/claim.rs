//! Whose orders are drained to this file.

use rusqlite::{Connection, TransactionBehavior};

use super::write::not_done;
use crate::oms::{CallFailure, Claim};

/// Made here and not with the other tables, for there are files without it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS forebay_drained_by (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    fleet TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    -- From another.
    taken INTEGER NOT NULL
) STRICT";

const ENTER: &str = "INSERT INTO forebay_drained_by VALUES (1, ?1, ?2, 0) ON CONFLICT DO NOTHING";
const TAKE: &str =
    "UPDATE forebay_drained_by SET fleet = ?1, since_ms = ?2, taken = 1 WHERE fleet <> ?1";
const WHOSE: &str = "SELECT fleet, since_ms, taken FROM forebay_drained_by";

pub(super) fn claim(
    connection: &mut Connection,
    fleet: &str,
    take: bool,
    now_ms: i64,
) -> Result<Claim, CallFailure> {
    let whose = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute(TABLE, ())?;
        transaction.execute(ENTER, (fleet, now_ms))?;
        if take {
            transaction.execute(TAKE, (fleet, now_ms))?;
        }
        let claim = transaction.query_row(WHOSE, (), |row| {
            Ok(Claim::of(fleet, row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
        transaction.commit()?;
        Ok(claim)
    };
    whose(connection).map_err(|error: rusqlite::Error| not_done(&error))
}
