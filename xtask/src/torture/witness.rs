//! What the OMS was made to do, told by an append-only ledger that Forebay neither writes nor reads.
//!
//! | OMS | its ledger |
//! |---|---|
//! | SQLite, PostgreSQL | a table beside the orders', filled by triggers: each create that was tried, each that was done, each change and removal of a row. What a transaction took back is not in it |
//! | the ledger | its file, which only grows |
//! | over HTTP | the reference OMS's own, by its own judge |

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio_postgres::{Client, NoTls};

use super::Oms;
use super::report::Tally;
use super::scene::Scene;
use super::server::get;
use crate::failure::{Failure, Result, While as _};
use crate::time::poll_until;

/// How long it may take until there are tables.
const TABLES_LIMIT: Duration = Duration::from_secs(20);

/// What the report calls creates that the OMS refused because it had the order.
pub(super) const REFUSED_AGAIN: &str = "refused_again";
/// What it calls identities in the ledger.
pub(super) const IN_LEDGER: &str = "in_ledger";

/// A ledger that stands beside the orders.
#[derive(Debug)]
pub(super) enum Witness {
    Sqlite(PathBuf),
    Postgres(String, Handle),
    Ledger(PathBuf),
    Http(SocketAddr),
}

/// What it tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Testimony {
    /// Identities that were created.
    pub(super) identities: u64,
    /// Identities created more than once.
    pub(super) doubled: u64,
    /// Creates of an identity that was there, which the OMS refused.
    pub(super) refused: u64,
    /// Rows changed or removed, which nobody should.
    pub(super) undone: u64,
}

impl Testimony {
    /// Takes it in; `summarised` are the orders that Forebay says are in the OMS.
    pub(super) fn enter(self, tally: &mut Tally, summarised: u64) {
        tally.doubled = tally.doubled.max(self.doubled);
        tally.count(IN_LEDGER, self.identities);
        tally.count(REFUSED_AGAIN, self.refused);
        if self.undone > 0 {
            tally.broken.push(format!("{} summaries changed or removed", self.undone));
        }
        if self.identities < summarised {
            let lacks = format!("its ledger has {} of {summarised} orders", self.identities);
            tally.broken.push(lacks);
        }
    }
}

impl Witness {
    /// Has a ledger kept of all that the running server does from here on; it has not done anything yet.
    pub(super) fn call(scene: &Scene<'_>) -> Result<Self> {
        let witness = match scene.share.oms {
            Oms::Sqlite => Self::Sqlite(scene.beside("oms.sqlite")),
            Oms::Ledger => Self::Ledger(scene.beside("oms.ledger")),
            Oms::Http => Self::Http(scene.reference()?.address()?),
            Oms::Postgres => {
                let handle = scene.interrupt().handle().clone();
                Self::Postgres(scene.database()?.url("postgres"), handle)
            }
        };
        match &witness {
            Self::Sqlite(path) => {
                let file = Connection::open(path).when("opening the OMS's file")?;
                file.execute_batch(IN_SQLITE).when("having SQLite keep a ledger")?;
            }
            Self::Postgres(url, handle) => {
                let client = handle.block_on(connect(url))?;
                let there = || handle.block_on(has_tables(&client));
                if !poll_until(TABLES_LIMIT, || there().unwrap_or(false)) {
                    return Err(Failure::Missed(format!("no tables within {TABLES_LIMIT:?}")));
                }
                let kept = handle.block_on(client.batch_execute(IN_POSTGRES));
                kept.when("having PostgreSQL keep a ledger")?;
            }
            Self::Ledger(_) | Self::Http(_) => {}
        }
        Ok(witness)
    }

    /// What it tells by now.
    pub(super) fn testify(&self) -> Result<Testimony> {
        match self {
            Self::Sqlite(path) => {
                let file = Connection::open(path).when("opening the OMS's file")?;
                let told = file.query_row(TELL, [], |row| {
                    Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?])
                });
                Ok(testimony(told.when("reading SQLite's ledger")?))
            }
            Self::Postgres(url, handle) => {
                let asked = async {
                    let row = connect(url).await?.query_one(TELL, &[]).await;
                    let row = row.when("reading PostgreSQL's ledger")?;
                    Ok([row.get(0), row.get(1), row.get(2), row.get(3)])
                };
                handle.block_on(asked).map(testimony)
            }
            Self::Ledger(path) => of_lines(path),
            Self::Http(oms) => {
                let judged: Judged = serde_json::from_value(get(*oms, "/judge")?)
                    .when("reading the reference OMS's judgement")?;
                let (identities, doubled) = (judged.distinct_identities, judged.doubles);
                Ok(Testimony { identities, doubled, ..Testimony::default() })
            }
        }
    }
}

fn testimony([identities, doubled, refused, undone]: [i64; 4]) -> Testimony {
    let count = |n: i64| u64::try_from(n).unwrap_or_default();
    Testimony {
        identities: count(identities),
        doubled: count(doubled),
        refused: count(refused),
        undone: count(undone),
    }
}

/// The part of the reference OMS's judgement that is asked for.
#[derive(Deserialize)]
struct Judged {
    distinct_identities: u64,
    doubles: u64,
}

/// A ledger that only grows. A create is tried before the table may refuse it.
const IN_SQLITE: &str = "BEGIN IMMEDIATE;
    CREATE TABLE witness (n INTEGER PRIMARY KEY, what TEXT NOT NULL, identity TEXT NOT NULL) STRICT;
    CREATE TRIGGER witness_kept BEFORE UPDATE ON witness BEGIN SELECT RAISE(ABORT, 'it only grows'); END;
    CREATE TRIGGER witness_whole BEFORE DELETE ON witness BEGIN SELECT RAISE(ABORT, 'it only grows'); END;
    CREATE TRIGGER witness_tried BEFORE INSERT ON order_summary BEGIN
        INSERT INTO witness (what, identity) VALUES ('tried', NEW.external_reference_identifier); END;
    CREATE TRIGGER witness_created AFTER INSERT ON order_summary BEGIN
        INSERT INTO witness (what, identity) VALUES ('created', NEW.external_reference_identifier); END;
    CREATE TRIGGER witness_changed AFTER UPDATE ON order_summary BEGIN
        INSERT INTO witness (what, identity) VALUES ('undone', OLD.external_reference_identifier); END;
    CREATE TRIGGER witness_removed AFTER DELETE ON order_summary BEGIN
        INSERT INTO witness (what, identity) VALUES ('undone', OLD.external_reference_identifier); END;
    COMMIT;";

const IN_POSTGRES: &str = "BEGIN;
    CREATE TABLE witness (n bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL, identity text NOT NULL);
    CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO witness (what, identity)
        VALUES (TG_ARGV[0], coalesce(OLD.external_reference_identifier, NEW.external_reference_identifier));
        RETURN NEW; END$$;
    CREATE FUNCTION witness_grows() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'it only grows'; END$$;
    CREATE TRIGGER witness_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON witness
        FOR EACH STATEMENT EXECUTE FUNCTION witness_grows();
    CREATE TRIGGER witness_tried BEFORE INSERT ON order_summary
        FOR EACH ROW EXECUTE FUNCTION witness('tried');
    CREATE TRIGGER witness_created AFTER INSERT ON order_summary
        FOR EACH ROW EXECUTE FUNCTION witness('created');
    CREATE TRIGGER witness_undone AFTER UPDATE OR DELETE ON order_summary
        FOR EACH ROW EXECUTE FUNCTION witness('undone');
    COMMIT";

/// Identities, those created twice, creates refused, rows undone.
const TELL: &str = "SELECT
    (SELECT count(DISTINCT identity) FROM witness WHERE what = 'created'),
    (SELECT count(*) FROM (SELECT identity FROM witness WHERE what = 'created' GROUP BY identity HAVING count(*) > 1) AS twice),
    (SELECT count(*) FROM witness WHERE what = 'tried') - (SELECT count(*) FROM witness WHERE what = 'created'),
    (SELECT count(*) FROM witness WHERE what = 'undone')";

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.when("connecting to PostgreSQL")?;
    // It ends with the client.
    drop(tokio::spawn(connection));
    Ok(client)
}

async fn has_tables(client: &Client) -> Result<bool> {
    let there = client.query_one("SELECT to_regclass('order_summary') IS NOT NULL", &[]);
    Ok(there.await.when("asking PostgreSQL")?.get(0))
}

/// Counts the creates in the ledger's file. A line that a kill has torn was never answered, and is no create.
fn of_lines(path: &Path) -> Result<Testimony> {
    #[derive(Deserialize)]
    struct Create {
        identity: String,
    }
    let text = std::fs::read(path).when("reading the ledger")?;
    let mut creates: HashMap<String, u64> = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let json = line.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default();
        if let Ok(Create { identity }) = serde_json::from_slice(json) {
            *creates.entry(identity).or_default() += 1;
        }
    }
    let doubled = creates.values().filter(|count| **count > 1).count() as u64;
    Ok(Testimony { identities: creates.len() as u64, doubled, ..Testimony::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as the OMS's, but that it may refuse a second create or not.
    fn orders(identity: &str) -> (tempfile::TempDir, Witness, Connection) {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("oms.sqlite");
        let file = Connection::open(&path).unwrap();
        let table = format!(
            "CREATE TABLE order_summary (external_reference_identifier TEXT NOT NULL {identity}) STRICT"
        );
        file.execute_batch(&table).unwrap();
        file.execute_batch(IN_SQLITE).unwrap();
        (place, Witness::Sqlite(path), file)
    }

    fn create(file: &Connection, identity: &str) {
        let insert = "INSERT INTO order_summary VALUES (?1) ON CONFLICT DO NOTHING";
        file.execute(insert, [identity]).unwrap();
    }

    #[test]
    fn a_second_create_is_a_double_where_the_table_takes_it_and_refused_where_it_does_not() {
        for (identity, doubled, refused) in [("", 1, 0), ("UNIQUE", 0, 1)] {
            let (_place, witness, file) = orders(identity);
            ["a", "b", "a"].into_iter().for_each(|identity| create(&file, identity));
            let told = witness.testify().unwrap();
            assert_eq!(told, Testimony { identities: 2, doubled, refused, undone: 0 });
        }
    }

    #[test]
    fn an_order_that_was_removed_and_created_anew_is_a_double_though_there_is_one_row() {
        let (_place, witness, file) = orders("UNIQUE");
        create(&file, "a");
        file.execute("DELETE FROM order_summary", []).unwrap();
        create(&file, "a");
        let told = witness.testify().unwrap();
        assert_eq!(told, Testimony { identities: 1, doubled: 1, refused: 0, undone: 1 });
    }

    #[test]
    fn what_a_transaction_took_back_is_no_create_and_the_ledger_only_grows() {
        let (_place, witness, mut file) = orders("UNIQUE");
        let transaction = file.transaction().unwrap();
        create(&transaction, "a");
        transaction.rollback().unwrap();
        create(&file, "b");
        assert_eq!(witness.testify().unwrap().identities, 1);
        assert!(file.execute("DELETE FROM witness", []).is_err());
        assert!(file.execute("UPDATE witness SET identity = 'c'", []).is_err());
    }

    #[test]
    fn creates_of_a_ledger_are_counted_and_torn_lines_are_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("oms.ledger");
        let text = "\n1 {\"identity\":\"a\"}\n2 {\"identity\":\"b\"}\n\n3 {\"identity\":\"a\"}\n4 {\"iden\n";
        std::fs::write(&path, text).unwrap();
        let told = Witness::Ledger(path).testify().unwrap();
        let expected = Testimony { identities: 2, doubled: 1, ..Testimony::default() };
        assert_eq!(told, expected);
    }

    #[test]
    fn what_the_ledger_tells_stands_in_the_tally_and_one_that_lacks_orders_proves_nothing() {
        let of = |told: Testimony, summarised| {
            let mut tally = Tally::default();
            told.enter(&mut tally, summarised);
            (tally.doubled, tally.count_of(REFUSED_AGAIN), tally.broken.len())
        };
        let good = Testimony { identities: 5, ..Testimony::default() };
        assert_eq!(of(good, 5), (0, 0, 0));
        assert_eq!(of(good, 6), (0, 0, 1));
        assert_eq!(of(Testimony { undone: 1, ..good }, 5), (0, 0, 1));
        assert_eq!(of(Testimony { doubled: 2, refused: 3, ..good }, 5), (2, 3, 0));
    }
}
