//! Connections that are cut: what the caller sees, and what the ledger has.

use serde_json::json;

use crate::support::Oms;

#[test]
fn every_third_call_commits_and_is_reset() {
    let oms = Oms::start(&json!({ "drop_after_commit_every": 3 }));
    let token = oms.token();
    for (identity, is_cut) in [("a", false), ("b", false), ("c", true), ("d", false)] {
        let seen = oms.create(&token, &[identity]);
        assert_eq!((seen.text.is_empty(), seen.reset), (is_cut, is_cut), "{identity}: {seen:?}");
    }
    assert_eq!(oms.find(&token, &["c"]), ["c"], "it was committed");
    let judged = oms.judge();
    assert_eq!((judged.cut["after_commit"], judged.creates), (1, 4));
    assert_eq!(judged.unanswered, 0);
}

#[test]
fn a_call_may_be_reset_before_it_has_an_effect() {
    let oms = Oms::start(&json!({ "drop_before_commit_every": 2 }));
    let token = oms.token();
    assert_eq!(oms.create_one(&token, "a")["status"], 201);
    let seen = oms.create(&token, &["b", "c"]);
    assert!(seen.text.is_empty() && seen.reset, "{seen:?}");
    assert!(oms.find(&token, &["b", "c"]).is_empty());
    let judged = oms.judge();
    assert_eq!((judged.cut["before_commit"], judged.creates, judged.orders_received), (1, 1, 3));
}

#[test]
fn an_answer_may_end_in_its_middle() {
    let oms = Oms::start(&json!({ "drop_mid_answer_every": 1 }));
    let token = oms.token();
    let seen = oms.create(&token, &["a", "b"]);
    assert!(seen.text.starts_with("HTTP/1.1 200 OK"), "{seen:?}");
    let (announced, came) = seen.body();
    assert_eq!(came.len(), announced / 2, "{seen:?}");
    assert!(came.starts_with(r#"{"results":[{"#), "{seen:?}");
    assert_eq!(oms.find(&token, &["a", "b"]), ["a", "b"]);
    let judged = oms.judge();
    assert_eq!((judged.cut["mid_answer"], judged.answers_by_status["200"]), (1, 3));
}

#[test]
fn each_fault_counts_each_call() {
    let faults = json!({ "drop_before_commit_every": 2, "drop_after_commit_every": 3 });
    let oms = Oms::start(&faults);
    let token = oms.token();
    let cut: Vec<_> =
        (1..=6).map(|n| oms.create(&token, &[&n.to_string()]).text.is_empty()).collect();
    // The sixth is the turn of both; before the commit comes first.
    assert_eq!(cut, [false, true, true, true, false, true]);
    assert_eq!(oms.find(&token, &["1", "2", "3", "4", "5", "6"]), ["1", "3", "5"]);
}
