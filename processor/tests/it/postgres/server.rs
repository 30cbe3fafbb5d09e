//! A PostgreSQL server of the tests' own, with a database for each that asks.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::sync::OnceLock;

use tokio_postgres::NoTls;

#[path = "../../../../xtask/src/postgres.rs"]
#[expect(unreachable_pub, reason = "of another crate")]
mod postgres;

#[path = "../../../../xtask/src/certificates.rs"]
mod certificates;

pub(crate) use certificates::Authority;
pub(crate) use postgres::PostgresServer;

/// The server that the tests of this process share; `None`, which is said, where there is none to run.
pub(crate) fn shared() -> Option<&'static PostgresServer> {
    static SERVER: OnceLock<Option<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(own).as_ref()
}

/// A server of one test's own.
pub(crate) fn own() -> Option<PostgresServer> {
    let server = PostgresServer::start(&[]).unwrap();
    if server.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have PostgreSQL");
        println!("skipped: no PostgreSQL on the path or in /usr/lib/postgresql");
    }
    server
}

/// A database of that name, made if it is not there.
pub(crate) async fn database(server: &PostgresServer, name: &str) -> String {
    // PostgreSQL copies its template for one at a time.
    static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = ONE.lock().await;
    let made = execute(&server.url("postgres"), &format!("CREATE DATABASE \"{name}\"")).await;
    if let Err(error) = made {
        assert!(error.contains("exists"), "{error}");
    }
    server.url(name)
}

/// Runs statements in a database.
pub(crate) async fn execute(url: &str, statements: &str) -> Result<(), String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let done = client.batch_execute(statements).await;
    drop(client);
    driving.await.unwrap().unwrap();
    done.map_err(|error| error.as_db_error().map_or(error.to_string(), |e| e.message().to_owned()))
}
