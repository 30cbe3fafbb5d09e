//! What is noted of calls beside their creates. It is kept from a killed process, not from a power cut.

use rusqlite::{Transaction, params};

use crate::order::{Cut, Kind, Why};

/// One row that nobody waits for.
#[derive(Clone, Debug)]
pub(crate) enum Note {
    /// A call came.
    Arrival { call: i64, at_us: i64, kind: Kind, at_once: u64, early_us: Option<i64> },
    /// A call was answered, or cut.
    Answer {
        call: i64,
        at_us: i64,
        status: Option<u16>,
        why: Option<Why>,
        cut: Option<Cut>,
        bytes_in: usize,
        bytes_out: usize,
    },
    /// Orders came, and were thrown away with their call.
    Dropped { call: i64, at_us: i64, orders: usize },
    /// A token was issued.
    Token { call: i64, at_us: i64 },
    /// A record was written.
    Record { call: i64, name: String, body: String },
}

impl Note {
    pub(super) fn write(&self, to: &Transaction<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Arrival { call, at_us, kind, at_once, early_us } => to
                .prepare_cached("INSERT INTO calls VALUES (?, ?, ?, ?, ?)")?
                .execute(params![call, at_us, kind.word(), whole(*at_once), early_us]),
            Self::Answer { call, at_us, status, why, cut, bytes_in, bytes_out } => {
                let (why, cut) = (why.map(Why::word), cut.map(Cut::word));
                let (bytes_in, bytes_out) = (whole(*bytes_in), whole(*bytes_out));
                to.prepare_cached("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)")?
                    .execute(params![call, at_us, status, why, cut, bytes_in, bytes_out])
            }
            Self::Dropped { call, at_us, orders } => to
                .prepare_cached("INSERT INTO batches VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0)")?
                .execute(params![call, at_us, whole(*orders)]),
            Self::Record { call, name, body } => to
                .prepare_cached("INSERT INTO records VALUES (?, ?, ?)")?
                .execute(params![call, name, body]),
            Self::Token { call, at_us } => {
                to.prepare_cached("INSERT INTO tokens VALUES (?, ?)")?.execute(params![call, at_us])
            }
        }
        .map(drop)
    }
}

/// A count as SQLite keeps it.
pub(super) fn whole(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}
