//! Limits: how they are told, and how the judge sees who does not keep to them.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Oms, Request, Seen, batch, until};

#[test]
fn a_wait_is_told_and_grows_for_those_who_do_not_keep_it() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    oms.control(&json!({ "overloaded":
        { "status": 429, "code": "TOO_MANY", "retry_after_s": 60, "growing": true } }));
    let waits: Vec<_> = (0..3)
        .map(|_| {
            let answer = oms.create(&token, &["a"]).answer();
            assert_eq!((answer.status, &answer.body["code"]), (429, &json!("TOO_MANY")));
            answer.header("retry-after").unwrap().to_owned()
        })
        .collect();
    assert_eq!(waits, ["60", "120", "240"]);
    oms.control(&json!({ "overloaded": null }));
    assert_eq!(oms.create_one(&token, "a")["status"], 201);
    let judged = oms.judge();
    assert_eq!((judged.came_too_early, judged.refused["overloaded"]), (3, 3));
    // Those were perhaps under way when the first was told; one that comes later was not.
    until("a call that comes too early knowingly", || {
        oms.find(&token, &["a"]);
        oms.judge().came_too_early_knowingly > 0
    });
}

#[test]
fn an_overload_may_tell_no_wait_and_hit_only_some() {
    let oms = Oms::start(&json!({ "overloaded": { "status": 403, "code": "LIMIT", "every": 2 } }));
    let token = oms.token();
    let statuses: Vec<_> = (0..4)
        .map(|n| {
            let answer = oms.create(&token, &[&n.to_string()]).answer();
            assert_eq!(answer.header("retry-after"), None);
            answer.status
        })
        .collect();
    assert_eq!(statuses, [200, 403, 200, 403]);
    assert_eq!(oms.judge().came_too_early, 0);
}

#[test]
fn a_quota_of_the_day_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let db = directory.path().join("oms.db");
    let faults = json!({ "quota_per_day": 2 });
    let oms = Oms::start_on(&db, &faults);
    let token = oms.token();
    let ask = |oms: &Oms, token: &str| oms.create(token, &["a"]).answer();
    assert_eq!(ask(&oms, &token).header("sforce-limit-info"), Some("api-usage=1/2"));
    assert_eq!(ask(&oms, &token).header("sforce-limit-info"), Some("api-usage=2/2"));
    let refused = ask(&oms, &token);
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("REQUEST_LIMIT_EXCEEDED")));
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(refused.header("sforce-limit-info"), Some("api-usage=2/2"));
    drop(oms);
    let oms = Oms::start_on(&db, &faults);
    let token = oms.token();
    assert_eq!(ask(&oms, &token).status, 403);
    assert_eq!(oms.judge().refused["quota"], 2);
}

#[test]
fn too_many_calls_at_once_are_refused() {
    let oms = Oms::start(&json!({ "calls_at_once_max": 1 }));
    let token = oms.token();
    // A call that has come but not ended: its body is still to come.
    let body = batch(&["a"]);
    let slow = Request::create(&token, &body);
    let mut stream = oms.connect();
    stream.write_all(slow.head().as_bytes()).unwrap();
    until("the slow call", || oms.judge().calls_by_kind.contains_key("create"));
    let refused = oms.create(&token, &["b"]).answer();
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (400, &json!("SSS_REQUEST_LIMIT_EXCEEDED"))
    );
    assert_eq!(oms.judge().unanswered, 1);
    stream.write_all(slow.body().as_bytes()).unwrap();
    assert_eq!(Seen::read(stream).answer().status, 200);
    assert_eq!(oms.create_one(&token, "b")["status"], 201);
    let judged = oms.judge();
    assert_eq!((judged.peak_calls_at_once, judged.refused["calls_at_once"]), (2, 1));
}

#[test]
fn an_oms_that_is_down_answers_503_to_everything() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    oms.control(&json!({ "unavailable": true }));
    assert_eq!(oms.create(&token, &["a"]).answer().status, 503);
    assert_eq!(oms.ask(&Request::post("/oauth/token", "")).answer().status, 503);
    oms.control(&json!({ "unavailable": false }));
    assert_eq!(oms.create_one(&token, "a")["status"], 201);
    assert_eq!(oms.judge().refused["unavailable"], 2);
}

#[test]
fn a_slow_oms_is_slow() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    oms.control(&json!({ "latency_ms": { "p50": 150, "p99": 150 } }));
    let asked = Instant::now();
    assert_eq!(oms.create_one(&token, "a")["status"], 201);
    assert!(asked.elapsed() >= Duration::from_millis(150), "{:?}", asked.elapsed());
}
