//! A sale in segments: the server dies, comes back elsewhere, and the same client goes on.

use std::future::pending;
use std::sync::{Arc, Mutex};

use forebay_loadtest::{Answer, Ledger, Mix, Outcome, Sale, play, reconcile};
use tokio::sync::Notify;

use crate::sale::{DRAINED, block_on, small};
use crate::server::{Faults, Server, Store};

#[test]
fn the_ledger_goes_on_over_a_change_of_address() {
    let store = Arc::new(Mutex::new(Store::default()));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.ndjson");
    let sale = Sale { orders: 2_000, rate: 2_000.0, ..small(9) };
    let (ledger, books) = block_on(async {
        let mut ledger = Ledger::new(Mix::new(&sale));
        ledger.keep_in(&path).unwrap();
        for segment in 1..=3 {
            let server = Server::start(&store, 5_000, Faults::default());
            let enough = Notify::new();
            let until = |p: forebay_loadtest::Progress| {
                if p.acknowledged > segment * 400 {
                    enough.notify_one();
                }
            };
            play(&server.target, &mut ledger, enough.notified(), until).await.unwrap();
            assert!(!ledger.is_complete());
            server.kill();
        }
        let server = Server::start(&store, 5_000, Faults::default());
        play(&server.target, &mut ledger, pending(), |_| {}).await.unwrap();
        let books = reconcile(&ledger, &server.target, DRAINED, |_| {}).await.unwrap();
        (ledger, books)
    });
    assert!(ledger.is_complete());
    assert!(books.kept(), "{books}");
    assert_eq!((books.unknown, books.found_unacknowledged), (0, 0), "{books}");
    let written = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        written.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let entries = ledger.entries();
    assert_eq!(lines.len(), entries.len(), "one line for each final answer");
    for line in &lines {
        let entry = entries[usize::try_from(line["delivery"].as_u64().unwrap()).unwrap()];
        match entry.answer {
            Answer::Acknowledged { outcome, .. } => {
                let read: Outcome = serde_json::from_value(line["outcome"].clone()).unwrap();
                assert_eq!(read, outcome);
            }
            Answer::Refused { status } => assert_eq!(line["status"], status),
            Answer::None => panic!("a line without an answer: {line}"),
        }
    }
}
