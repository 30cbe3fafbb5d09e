//! Faults are changed and shown while it runs.

use serde_json::json;

use crate::support::{Oms, Request};

#[test]
fn faults_are_merged_and_shown() {
    let oms = Oms::start(&json!({ "unique": false }));
    oms.control(&json!({ "visible_after_ms": 7 }));
    let shown = oms.ask(&Request::get("/control")).answer().body;
    assert_eq!((&shown["unique"], &shown["visible_after_ms"]), (&json!(false), &json!(7)));
    let wrong = oms.ask(&Request::post("/control", r#"{"visible_after": 7}"#)).answer();
    assert_eq!((wrong.status, &wrong.body["code"]), (400, &json!("MALFORMED")));
    assert_eq!(oms.ask(&Request::get("/control")).answer().body, shown, "all or nothing");
    assert_eq!(oms.judge().calls, 0, "who runs the test is no caller");
}

#[test]
fn a_page_in_a_browser_controls_nothing() {
    let oms = Oms::start(&json!({}));
    let page = Request::post("/control", r#"{"unavailable": true}"#);
    let refused = oms.ask(&page.header("Origin", "https://example.com")).answer();
    assert_eq!(refused.status, 403);
    assert_eq!(oms.ask(&Request::get("/control")).answer().body["unavailable"], false);
}
