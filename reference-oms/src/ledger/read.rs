//! What callers may see.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::create::NEVER_US;
use crate::order::{Found, Listed, Told};

/// The orders of these identities that have existed since `visible_us`; of doubles the first.
pub(super) fn find(
    from: &Connection,
    identities: &[String],
    visible_us: i64,
) -> rusqlite::Result<Vec<Found>> {
    let mut statement = from.prepare_cached(
        "SELECT identity, id, fingerprint FROM creates WHERE identity = ? AND exists_us <= ? ORDER BY seq LIMIT 1",
    )?;
    let mut found = Vec::new();
    for identity in identities {
        let row = statement.query_row(params![identity, visible_us], |row| {
            Ok(Found { identity: row.get(0)?, id: row.get(1)?, fingerprint: row.get(2)? })
        });
        found.extend(row.optional()?);
    }
    Ok(found)
}

/// The orders after a cursor, up to the first that does not exist yet: so none comes up behind a cursor.
pub(super) fn list(
    from: &Connection,
    after: i64,
    limit: usize,
    now_us: i64,
) -> rusqlite::Result<Vec<Listed>> {
    let mut statement = from.prepare_cached(
        "SELECT seq, identity, id, fingerprint, exists_us, grand_total, currency, \
           (SELECT count(*) FROM creates AS again WHERE again.identity = one.identity AND again.exists_us <> ?2), \
           seq = (SELECT min(seq) FROM creates AS first WHERE first.identity = one.identity AND first.exists_us <> ?2) \
         FROM creates AS one WHERE seq > ?1 AND exists_us <> ?2 ORDER BY seq",
    )?;
    let mut rows = statement.query([after, NEVER_US])?;
    let mut page = Vec::new();
    while let (true, Some(row)) = (page.len() < limit, rows.next()?) {
        let (order, is_first) = (listed(row)?, row.get(8)?);
        if order.committed_at_us > now_us {
            break;
        }
        if is_first {
            page.push(order);
        }
    }
    Ok(page)
}

/// A record as it was written last.
pub(super) fn record(from: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    let mut statement =
        from.prepare_cached("SELECT body FROM records WHERE name = ? ORDER BY call DESC LIMIT 1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}

/// What became, by now, of orders that were only taken. One that is refused is known to be so at once.
pub(super) fn told(
    from: &Connection,
    (after_us, after_seq): (i64, i64),
    limit: usize,
    now_us: i64,
) -> rusqlite::Result<Vec<Told>> {
    let mut statement = from.prepare_cached(
        "SELECT seq, due_us, identity, ticket, id, exists_us FROM \
           (SELECT *, CASE exists_us WHEN ?1 THEN at_us ELSE exists_us END AS due_us FROM creates WHERE ticket IS NOT NULL) \
         WHERE due_us <= ?2 AND (due_us, seq) > (?3, ?4) ORDER BY due_us, seq LIMIT ?5",
    )?;
    let limit = super::note::whole(limit);
    let told =
        statement.query_map(params![NEVER_US, now_us, after_us, after_seq, limit], |row| {
            let exists = row.get::<_, i64>(5)? != NEVER_US;
            Ok(Told {
                seq: row.get(0)?,
                due_us: row.get(1)?,
                identity: row.get(2)?,
                ticket: row.get(3)?,
                id: if exists { Some(row.get(4)?) } else { None },
            })
        })?;
    told.collect()
}

fn listed(row: &Row<'_>) -> rusqlite::Result<Listed> {
    Ok(Listed {
        cursor: row.get(0)?,
        found: Found { identity: row.get(1)?, id: row.get(2)?, fingerprint: row.get(3)? },
        committed_at_us: row.get(4)?,
        grand_total: row.get(5)?,
        currency: row.get(6)?,
        creates: row.get(7)?,
    })
}
