//! What callers may see.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::order::{Found, Listed};

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
           (SELECT count(*) FROM creates AS again WHERE again.identity = one.identity), \
           seq = (SELECT min(seq) FROM creates AS first WHERE first.identity = one.identity) \
         FROM creates AS one WHERE seq > ? ORDER BY seq",
    )?;
    let mut rows = statement.query([after])?;
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
