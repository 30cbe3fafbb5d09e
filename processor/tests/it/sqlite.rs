//! The SQLite OMS's own: nothing of a summary is lost, trouble of the file is nobody's fault.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_processor::oms::sqlite::{OpenError, Sqlite, SqliteOptions};
use forebay_processor::{CallFailure, OrderManagement, Outcome, Scope};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tempfile::tempdir;

use crate::read_back;
use crate::support::{clock, creates, dec, full_order, order, sqlite};

/// The file's tables.
struct Tables(Connection);

impl read_back::Tables for Tables {
    async fn rows(&self, sql: &str) -> Vec<read_back::Row> {
        let mut statement = self.0.prepare(sql).unwrap();
        let names: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at| match row.get_ref(at).unwrap() {
                ValueRef::Null => None,
                ValueRef::Integer(number) => Some(number.to_string()),
                ValueRef::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
                ValueRef::Blob(bytes) => Some(bytes.iter().map(|b| format!("{b:02x}")).collect()),
                ValueRef::Real(real) => panic!("{real}"),
            };
            Ok((0..).zip(&names).map(|(at, name)| (name.clone(), value(at))).collect())
        };
        statement.query_map((), row).unwrap().map(Result::unwrap).collect()
    }
}

fn count(path: &Path, table: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {table}"), (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn every_field_of_a_summary_reads_back_as_it_was() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    let mut bare = order("bare");
    Arc::make_mut(&mut bare).lines.clear();
    let mut empty_address = order("empty address");
    Arc::make_mut(&mut empty_address).billing = Some(Default::default());
    for sent in [full_order("full"), order("small"), bare, empty_address] {
        oms.submit(std::slice::from_ref(&sent)).await.unwrap();
        let back = read_back::summary(&Tables(Connection::open(&path).unwrap()), &sent.key).await;
        assert_eq!(back, *sent);
        // Equal decimals can differ in their digits; their text must not.
        let json = |summary| serde_json::to_string(summary).unwrap();
        assert_eq!(json(&back), json(&sent));
    }
}

#[tokio::test]
async fn no_column_can_hold_money_as_a_float() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    oms.submit(&[full_order("1")]).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let mut tables = connection
        .prepare(
            "SELECT m.name, c.name, c.type FROM sqlite_schema m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
        )
        .unwrap();
    let columns: Vec<(String, String, String)> = tables
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(columns.len() > 80, "{}", columns.len());
    for (table, column, kind) in &columns {
        assert!(["TEXT", "INTEGER", "BLOB"].contains(&kind.as_str()), "{table}.{column} {kind}");
        let sql = format!("SELECT count(*) FROM {table} WHERE typeof({column}) = 'real'");
        let reals: i64 = connection.query_row(&sql, (), |row| row.get(0)).unwrap();
        assert_eq!(reals, 0, "{table}.{column}");
    }
}

#[tokio::test]
async fn one_shopper_per_normalised_email_and_none_without() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    let with = |id: &str, email: Option<&str>| {
        let mut order = order(id);
        Arc::make_mut(&mut order).shopper.email_normalised = email.map(str::to_owned);
        Arc::make_mut(&mut order).shopper.name = Some(format!("name of {id}"));
        order
    };
    let batch =
        [with("1", Some("a@example.com")), with("2", Some("a@example.com")), with("3", None)];
    oms.submit(&batch).await.unwrap();
    oms.submit(&[with("4", Some("b@example.com")), with("5", Some("a@example.com"))])
        .await
        .unwrap();
    assert_eq!(count(&path, "account"), 2);
    let connection = Connection::open(&path).unwrap();
    let sql = "SELECT account_id FROM order_summary ORDER BY id";
    let mut statement = connection.prepare(sql).unwrap();
    let accounts: Vec<Option<i64>> =
        statement.query_map((), |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(accounts[0], accounts[1]);
    assert_eq!(accounts[0], accounts[4]);
    assert_ne!(accounts[0], accounts[3]);
    assert_eq!(accounts[2], None);
}

#[tokio::test]
async fn a_bad_order_gets_its_own_verdict_and_leaves_no_row() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    let mut negative = full_order("negative");
    Arc::make_mut(&mut negative).lines[0].quantity = dec("-1");
    let mut points_outside = full_order("outside");
    Arc::make_mut(&mut points_outside).lines[0].delivery_group = Some(3);
    let mut share_outside = full_order("share");
    Arc::make_mut(&mut share_outside).lines[0].adjustments[1].group = Some(2);
    let mut twice = full_order("twice");
    Arc::make_mut(&mut twice).lines[3].number = 1;
    let long = order(&"x".repeat(300));
    let batch =
        [order("1"), negative, order("2"), points_outside, share_outside, twice, long, order("3")];
    let outcomes = oms.submit(&batch).await.unwrap();
    let words: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Created { .. } => "created",
            Outcome::Invalid { code, .. } => code.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "created",
        "negative_quantity",
        "created",
        "unknown_group",
        "unknown_group",
        "constraint",
        "identity_too_long",
        "created",
    ];
    assert_eq!(words, expected);
    assert_eq!(count(&path, "order_summary"), 3);
    assert_eq!(count(&path, "order_item_summary"), 3, "nothing of a refused order stays");
    assert_eq!(count(&path, "account"), 0);
}

#[tokio::test]
async fn an_identity_with_another_content_is_told_apart() {
    let directory = tempdir().unwrap();
    let oms = sqlite(&directory.path().join("oms.sqlite"));
    let mut other = order("1");
    Arc::make_mut(&mut other).fingerprint.0[0] ^= 1;
    // In one batch, too: the second of the two sees the first.
    let outcomes = oms.submit(&[order("1"), other, order("1")]).await.unwrap();
    let Outcome::Created { id } = outcomes[0].clone() else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[1], Outcome::Existing { id: id.clone(), same: Some(false) });
    assert_eq!(outcomes[2], Outcome::Existing { id, same: Some(true) });
}

#[tokio::test]
async fn a_fingerprint_of_another_rule_cannot_be_compared() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    oms.submit(&[order("1")]).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    connection.execute("UPDATE order_summary SET fingerprint_version = 9", ()).unwrap();
    let outcomes = oms.submit(&[order("1")]).await.unwrap();
    assert!(matches!(outcomes[0], Outcome::Existing { same: None, .. }), "{outcomes:?}");
    let found = oms.find(&[order("1").key.identity()]).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().fingerprint, None);
}

#[tokio::test]
async fn a_locked_file_is_overload_and_not_a_bad_order() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let options =
        SqliteOptions { busy_timeout: Duration::from_millis(20), ..SqliteOptions::default() };
    let oms = Sqlite::open(&path, options, clock()).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let failure = oms.submit(&[order("1")]).await.unwrap_err();
    assert_eq!(failure, CallFailure::Overloaded { after: None, scope: Scope::Concurrency });
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(oms.submit(&[order("1")]).await.unwrap()[0], Outcome::Created { .. }));
}

#[tokio::test]
async fn a_full_file_fails_the_call_whole_and_nothing_stands() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    drop(sqlite(&path));
    let options = SqliteOptions { pages_max: Some(60), ..SqliteOptions::default() };
    let oms = Sqlite::open(&path, options, clock()).unwrap();
    let mut stored = 0;
    let failure = loop {
        let batch: Vec<_> = (0..10).map(|n| full_order(&format!("{stored}.{n}"))).collect();
        match oms.submit(&batch).await {
            Ok(_) => stored += 10,
            Err(failure) => break failure,
        }
    };
    assert!(
        matches!(&failure, CallFailure::NotSent(reason) if reason.contains("full")),
        "{failure:?}"
    );
    assert_eq!(creates(&oms).await.len(), stored, "the batch that failed left nothing");
    drop(oms);
    let oms = sqlite(&path);
    assert!(oms.submit(&[order("more room")]).await.is_ok());
    assert_eq!(creates(&oms).await.len(), stored + 1);
}

#[tokio::test]
async fn an_error_at_the_commit_is_unknown_and_find_settles_it() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    // A foreign key that is checked at the commit only, and then fails.
    let other = Connection::open(&path).unwrap();
    other
        .execute_batch(
            "CREATE TABLE late (to_none INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER fails AFTER INSERT ON order_summary WHEN NEW.order_number = '#bad'
             BEGIN INSERT INTO late VALUES (999); END;",
        )
        .unwrap();
    let failure = oms.submit(&[order("good"), order("bad")]).await.unwrap_err();
    assert!(matches!(failure, CallFailure::Unknown(_)), "{failure:?}");
    let identities = [order("good").key.identity(), order("bad").key.identity()];
    assert_eq!(oms.find(&identities).await.unwrap(), [None, None]);
    assert!(matches!(oms.submit(&[order("good")]).await.unwrap()[0], Outcome::Created { .. }));
}

#[tokio::test]
async fn files_of_later_releases_and_other_programs_are_left_alone() {
    let directory = tempdir().unwrap();
    let newer = directory.path().join("newer.sqlite");
    drop(sqlite(&newer));
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let opened = Sqlite::open(&newer, SqliteOptions::default(), clock());
    assert!(matches!(opened, Err(OpenError::Newer { found: 2, .. })));
    let foreign = directory.path().join("foreign.sqlite");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let opened = Sqlite::open(&foreign, SqliteOptions::default(), clock());
    assert!(matches!(opened, Err(OpenError::Foreign { .. })));
    assert_eq!(count(&foreign, "sqlite_schema"), 1);
    let text = directory.path().join("text.sqlite");
    std::fs::write(&text, "no database at all, but long enough to look at".repeat(9)).unwrap();
    let opened = Sqlite::open(&text, SqliteOptions::default(), clock());
    assert!(matches!(opened, Err(OpenError::Sqlite { .. })));
}

#[tokio::test]
async fn commits_are_synced_and_keys_are_checked() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let oms = sqlite(&path);
    oms.submit(&[order("1")]).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    let broken: i64 = connection
        .query_row("SELECT count(*) FROM pragma_foreign_key_check", (), |row| row.get(0))
        .unwrap();
    assert_eq!(broken, 0);
}
