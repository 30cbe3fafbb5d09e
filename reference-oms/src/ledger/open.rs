//! Opening the ledger's file: who holds it, pragmas, schema.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

const SCHEMA_VERSION: i64 = 2;

const TABLES: [&str; 7] =
    ["calls", "answers", "batches", "creates", "tokens", "first_answers", "records"];

/// How long one connection waits for another.
const BUSY: Duration = Duration::from_secs(5);

/// Why the ledger was not opened.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// SQLite's own trouble.
    #[error("the ledger {0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
    /// The file beside it that says who holds it.
    #[error("the ledger's lock {0}: {1}")]
    Lock(PathBuf, std::io::Error),
    /// Another process has it.
    #[error("the ledger {0} is in use by another process")]
    InUse(PathBuf),
    /// Another program's, or a later release's.
    #[error("{0} is not a ledger of this release; give another --db")]
    Foreign(PathBuf),
    /// No thread could be started.
    #[error("no thread for the ledger: {0}")]
    Thread(std::io::Error),
}

/// Takes the file for this process, for as long as what is given back lives.
pub(super) fn hold(path: &Path) -> Result<File, LedgerError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options().create(true).truncate(false).write(true).open(&name);
    let file = file.map_err(|error| LedgerError::Lock(name.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LedgerError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(LedgerError::Lock(name, error)),
    }
}

/// The connection that writes; makes the tables of a new file.
pub(super) fn writer(path: &Path) -> Result<Connection, LedgerError> {
    let failed = |error| LedgerError::Sqlite(path.to_owned(), error);
    let connection = Connection::open(path).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = one("PRAGMA user_version").map_err(failed)?;
    let tables = one("SELECT count(*) FROM sqlite_schema").map_err(failed)?;
    let fits = if version == 0 { tables == 0 } else { version == SCHEMA_VERSION };
    if !fits {
        return Err(LedgerError::Foreign(path.to_owned()));
    }
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if version == 0 {
        connection.execute_batch(&schema()).map_err(failed)?;
    }
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> Result<Connection, LedgerError> {
    let failed = |error| LedgerError::Sqlite(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    if version.map_err(failed)? != SCHEMA_VERSION {
        return Err(LedgerError::Foreign(path.to_owned()));
    }
    Ok(connection)
}

/// The tables, and what keeps their rows as they are; all or nothing.
fn schema() -> String {
    let guards = TABLES.iter().flat_map(|table| {
        ["UPDATE", "DELETE"].map(|change| {
            format!(
                "CREATE TRIGGER {table}_no_{change} BEFORE {change} ON {table} \
                 BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END;\n"
            )
        })
    });
    format!(
        "BEGIN;\n{}\n{}PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;",
        include_str!("schema.sql"),
        guards.collect::<String>()
    )
}
