//! Opening the file: connections, pragmas, schema version.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::SqliteOptions;

/// The schema in `schema.sql`, stored in the file's `user_version`.
const SCHEMA_VERSION: i64 = 1;

/// Prepared statements kept per connection; there are fewer.
const STATEMENTS: usize = 32;

/// Why the file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// SQLite's own trouble.
    #[error("cannot open the order management system's file {path}: {error}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        error: rusqlite::Error,
    },
    /// Written by a later release.
    #[error(
        "{path} has schema version {found}, this release knows {SCHEMA_VERSION}; run a later release, or give another oms.path"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
    },
    /// Another program's database.
    #[error("{path} is a database of another program; give another oms.path")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// No thread could be started.
    #[error("cannot start a thread for the order management system: {0}")]
    Thread(std::io::Error),
}

/// The one writing connection; creates the tables in a new file.
pub(super) fn writer(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = connect(path, options).map_err(failed)?;
    let version = user_version(&connection).map_err(failed)?;
    if version > SCHEMA_VERSION {
        return Err(OpenError::Newer { path: path.to_owned(), found: version });
    }
    if version == 0 {
        if !is_empty(&connection).map_err(failed)? {
            return Err(OpenError::Foreign { path: path.to_owned() });
        }
        create(&connection).map_err(failed)?;
    }
    if let Some(pages) = options.pages_max {
        let set = connection.pragma_update(None, "max_page_count", pages);
        set.map_err(failed)?;
    }
    Ok(connection)
}

/// The reading connection, which cannot write.
pub(super) fn reader(path: &Path, options: &SqliteOptions) -> Result<Connection, OpenError> {
    let failed = |error| OpenError::Sqlite { path: path.to_owned(), error };
    let connection = connect(path, options).map_err(failed)?;
    connection.pragma_update(None, "query_only", true).map_err(failed)?;
    Ok(connection)
}

fn connect(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(options.busy_timeout)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // Every commit is synced before it is answered; WAL's default (NORMAL) would not.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| row.get(0))
}

/// All tables and the version in one transaction: a file cut in between is still empty.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    let schema = include_str!("schema.sql");
    let all = format!("BEGIN IMMEDIATE; {schema} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;");
    connection.execute_batch(&all)
}
