//! The judge: what this OMS saw, told from its ledger alone.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use crate::ledger::{self, LedgerError, NEVER_US};

/// A call that comes sooner than this after a wait was told may have been under way by then.
const GRACE_US: i64 = 100_000;

const SECOND_US: i64 = 1_000_000;

/// What the OMS saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Calls, with refused and cut ones; without `/judge` and `/control`.
    pub calls: i64,
    /// By `token`, `create`, `find`, `list`, `other`.
    pub calls_by_kind: BTreeMap<String, i64>,
    /// Answers by HTTP status; a cut call has none, unless it was cut in the middle of its answer.
    pub answers_by_status: BTreeMap<String, i64>,
    /// Calls refused as a whole, by what refused them.
    pub refused: BTreeMap<String, i64>,
    /// Of them those whose token was missing, expired or revoked.
    pub refused_for_token: i64,
    /// Calls cut on purpose, by `before_commit`, `after_commit`, `mid_answer`.
    pub cut: BTreeMap<String, i64>,
    /// Calls neither answered nor cut on purpose: under way, given up by the caller, or lost with a killed process.
    pub unanswered: i64,
    /// Orders in create calls, with repeats.
    pub orders_received: i64,
    /// Orders by what they were told: `created`, `existing`, `invalid`, `try_later`, `accepted`.
    pub orders_by_outcome: BTreeMap<String, i64>,
    /// Create calls that got the first answer under their key again.
    pub replayed: i64,
    /// Creates, with those accepted for later.
    pub creates: i64,
    /// Of these, refused later: they never exist.
    pub refused_later: i64,
    /// Identities created.
    pub distinct_identities: i64,
    /// Identities that exist more than once.
    pub doubles: i64,
    /// The most creates in any one second.
    pub peak_orders_per_s: i64,
    /// The most `create`, `find` and `list` calls in any one second.
    pub peak_calls_per_s: i64,
    /// The most of them under way at once.
    pub peak_calls_at_once: i64,
    /// Tokens issued.
    pub tokens_issued: i64,
    /// The most tokens issued in any one second.
    pub peak_tokens_per_s: i64,
    /// Calls that came while a `Retry-After` had not passed.
    pub came_too_early: i64,
    /// Of them those that came 100 ms or more after it was told, so were not under way by then.
    pub came_too_early_knowingly: i64,
    /// Bytes of requests' bodies.
    pub bytes_in: i64,
    /// Bytes of answers' bodies.
    pub bytes_out: i64,
    /// When the first call came, microseconds since 1970; 0 if none did.
    pub first_call_us: i64,
    /// When the last one came.
    pub last_call_us: i64,
}

/// Reads a ledger, beside a running OMS too: then the last calls may not be in it yet.
///
/// # Errors
/// [`LedgerError`] if there is none, or it cannot be read.
pub fn judge(db: &Path) -> Result<Judgement, LedgerError> {
    let from = ledger::look(db)?;
    read(&from).map_err(|error| LedgerError::Sqlite(db.to_owned(), error))
}

fn read(from: &Connection) -> rusqlite::Result<Judgement> {
    // One view of the file for all that follows.
    let from = from.unchecked_transaction()?;
    let one = |sql: &str| from.query_row(sql, [], |row| row.get::<_, i64>(0));
    let refused = by(&from, "SELECT why, count(*) FROM answers WHERE why IS NOT NULL GROUP BY 1")?;
    let outcome = |column: &str| one(&format!("SELECT coalesce(sum({column}), 0) FROM batches"));
    let mut orders_by_outcome = BTreeMap::new();
    for (word, column) in [
        ("created", "created"),
        ("existing", "existing"),
        ("invalid", "invalid"),
        ("try_later", "later"),
        ("accepted", "accepted"),
    ] {
        orders_by_outcome.insert(word.to_owned(), outcome(column)?);
    }
    const LIMITED: &str = "kind IN ('create', 'find', 'list')";
    Ok(Judgement {
        calls: one("SELECT count(*) FROM calls")?,
        calls_by_kind: by(&from, "SELECT kind, count(*) FROM calls GROUP BY 1")?,
        answers_by_status: by(
            &from,
            "SELECT CAST(status AS TEXT), count(*) FROM answers WHERE status IS NOT NULL GROUP BY 1",
        )?,
        refused_for_token: refused.get("token").copied().unwrap_or(0),
        refused,
        cut: by(&from, "SELECT cut, count(*) FROM answers WHERE cut IS NOT NULL GROUP BY 1")?,
        unanswered: one(
            "SELECT count(*) FROM calls LEFT JOIN answers USING (call) WHERE answers.call IS NULL",
        )?,
        orders_received: outcome("orders")?,
        orders_by_outcome,
        replayed: outcome("replayed")?,
        creates: one("SELECT count(*) FROM creates")?,
        refused_later: one(&format!("SELECT count(*) FROM creates WHERE exists_us = {NEVER_US}"))?,
        distinct_identities: one("SELECT count(DISTINCT identity) FROM creates")?,
        doubles: one(&format!(
            "SELECT count(*) FROM \
             (SELECT 1 FROM creates WHERE exists_us <> {NEVER_US} GROUP BY identity HAVING count(*) > 1)"
        ))?,
        peak_orders_per_s: peak(&from, "SELECT at_us FROM creates ORDER BY at_us")?,
        peak_calls_per_s: peak(
            &from,
            &format!("SELECT at_us FROM calls WHERE {LIMITED} ORDER BY at_us"),
        )?,
        peak_calls_at_once: one("SELECT coalesce(max(at_once), 0) FROM calls")?,
        tokens_issued: one("SELECT count(*) FROM tokens")?,
        peak_tokens_per_s: peak(&from, "SELECT at_us FROM tokens ORDER BY at_us")?,
        came_too_early: one("SELECT count(early_us) FROM calls")?,
        came_too_early_knowingly: one(&format!(
            "SELECT count(*) FROM calls WHERE early_us >= {GRACE_US}"
        ))?,
        bytes_in: one("SELECT coalesce(sum(bytes_in), 0) FROM answers")?,
        bytes_out: one("SELECT coalesce(sum(bytes_out), 0) FROM answers")?,
        first_call_us: one("SELECT coalesce(min(at_us), 0) FROM calls")?,
        last_call_us: one("SELECT coalesce(max(at_us), 0) FROM calls")?,
    })
}

/// Limited calls since then that the day's quota counted.
pub(crate) fn counted_since(db: &Path, since_us: i64) -> Result<i64, LedgerError> {
    let counted = ledger::look(db)?.query_row(
        "SELECT count(*) FROM calls LEFT JOIN answers USING (call) \
         WHERE calls.at_us >= ? AND kind IN ('create', 'find', 'list') \
           AND coalesce(why, '') NOT IN ('unavailable', 'token', 'quota')",
        [since_us],
        |row| row.get(0),
    );
    counted.map_err(|error| LedgerError::Sqlite(db.to_owned(), error))
}

fn by(from: &Connection, sql: &str) -> rusqlite::Result<BTreeMap<String, i64>> {
    let mut statement = from.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

fn peak(from: &Connection, sql: &str) -> rusqlite::Result<i64> {
    let mut statement = from.prepare(sql)?;
    let mut peak = Peak::default();
    for at_us in statement.query_map([], |row| row.get(0))? {
        peak.count(at_us?);
    }
    Ok(i64::try_from(peak.most).unwrap_or(i64::MAX))
}

/// The most events in any window of one second, its end left out; they come in order of time.
#[derive(Default)]
struct Peak {
    window: VecDeque<i64>,
    most: usize,
}

impl Peak {
    fn count(&mut self, at_us: i64) {
        while self.window.front().is_some_and(|first| at_us - first >= SECOND_US) {
            self.window.pop_front();
        }
        self.window.push_back(at_us);
        self.most = self.most.max(self.window.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(events: impl IntoIterator<Item = i64>) -> usize {
        let mut peak = Peak::default();
        events.into_iter().for_each(|at_us| peak.count(at_us));
        peak.most
    }

    #[test]
    fn the_peak_window_slides_and_is_one_second() {
        assert_eq!(most([]), 0);
        assert_eq!(most([0, 999_999]), 2);
        assert_eq!(most([0, 1_000_000]), 1);
        // Ten at the end of one calendar second and ten at the start of the next are twenty in one.
        let burst = (0..10).map(|n| 900_000 + n).chain((0..10).map(|n| 1_100_000 + n));
        assert_eq!(most(burst), 20);
        assert_eq!(most((0..100).map(|n| n * 100_000)), 10);
    }
}
