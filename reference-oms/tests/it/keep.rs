//! The ledger outlives the process, only grows, and has one owner.

use std::net::TcpListener;

use forebay_reference_oms::{LedgerError, Server, StartError, judge};
use serde_json::json;

use crate::support::{Oms, options};

#[test]
fn a_ledger_opened_again_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("oms.db");
    let oms = Oms::start_on(&db, &json!({}));
    let old = oms.token();
    let first = oms.create_one(&old, "a");
    let before = oms.judge();
    drop(oms);
    assert!(!directory.path().join("oms.db-wal").exists(), "it was closed in order");
    assert_eq!(judge(&db).unwrap(), before, "the judge needs no running OMS");
    let oms = Oms::start_on(&db, &json!({}));
    assert_eq!(oms.create(&old, &["b"]).answer().status, 401, "tokens are not kept");
    let token = oms.token();
    let again = oms.create_one(&token, "a");
    assert_eq!((&again["status"], &again["id"]), (&json!(409), &first["id"]));
    assert_eq!(oms.create_one(&token, "b")["id"], "SO-0000000002");
    let after = oms.judge();
    assert_eq!((after.calls, after.creates), (before.calls + 4, 2));
    assert_eq!((after.unanswered, after.tokens_issued), (0, 2));
}

#[test]
fn a_ledger_only_grows() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("oms.db");
    let oms = Oms::start_on(&db, &json!({ "idempotency_keys": true }));
    oms.create_one(&oms.token(), "a");
    drop(oms);
    let connection = rusqlite::Connection::open(&db).unwrap();
    for table in ["calls", "answers", "batches", "creates", "tokens"] {
        let rows = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert!(rows(&format!("SELECT count(*) FROM {table}")) > 0, "{table}");
        for change in [format!("DELETE FROM {table}"), format!("UPDATE {table} SET at_us = 0")] {
            let refused = connection.execute(&change, []).unwrap_err();
            assert!(refused.to_string().contains("only grows"), "{change}: {refused}");
        }
    }
}

#[tokio::test]
async fn a_ledger_has_one_owner() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("oms.db");
    let open = || Server::open(&options(&db), TcpListener::bind("127.0.0.1:0").unwrap());
    let first = open().map_err(|error| error.to_string()).unwrap();
    assert!(matches!(open(), Err(StartError::Ledger(LedgerError::InUse(_)))));
    drop(first);
    assert!(open().is_ok());
}

#[tokio::test]
async fn the_database_of_another_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("other.db");
    rusqlite::Connection::open(&db).unwrap().execute_batch("CREATE TABLE a (b)").unwrap();
    let opened = Server::open(&options(&db), TcpListener::bind("127.0.0.1:0").unwrap());
    assert!(matches!(opened, Err(StartError::Ledger(LedgerError::Foreign(_)))));
}
