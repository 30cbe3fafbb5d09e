//! What a database is like, for whoever is about to run on it. Nothing in it is made or changed.

use super::PostgresOptions;
use super::connect::{self, OpenError};
use super::fault::not_done;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The server's version, in its words.
    pub version: String,
    /// Version of the tables; `None` where there are none yet, so that the first call makes them.
    pub tables: Option<i32>,
    /// The server's `synchronous_commit`, before our connections put `off` right.
    pub synchronous_commit: String,
    /// Whether the server syncs at all (`fsync`).
    pub fsync: bool,
    /// Connections the server takes at most, of everybody.
    pub connections_max: i64,
}

impl Inspection {
    /// Asks the server.
    ///
    /// # Errors
    /// In words: the options are wrong, or it does not answer.
    pub async fn of(options: &PostgresOptions) -> Result<Self, String> {
        let pool = connect::pool(options).map_err(|error: OpenError| error.to_string())?;
        let client = connect::get(&pool).await.map_err(|failure| failure.to_string())?;
        let ask = "SELECT version(), (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), \
                   current_setting('fsync') = 'on', current_setting('max_connections')::bigint";
        let asked = async {
            let row = client.query_one(ask, &[]).await?;
            let tables = connect::version(&client).await?;
            let version: String = row.try_get(0)?;
            let words: Vec<_> = version.split_whitespace().take(2).collect();
            Ok(Self {
                version: words.join(" "),
                tables,
                synchronous_commit: row.try_get(1)?,
                fsync: row.try_get(2)?,
                connections_max: row.try_get(3)?,
            })
        };
        asked.await.map_err(|error: tokio_postgres::Error| not_done(&error).to_string())
    }
}
