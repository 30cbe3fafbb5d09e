//! Orders: created once, or as often as the faults say; looked up, listed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Oms, Request, batch, until};

#[test]
fn a_batch_is_answered_order_by_order() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    let first = oms.create(&token, &["a", "b"]).answer().body;
    assert_eq!(first["results"][0], json!({ "status": 201, "id": "SO-0000000001" }));
    let again = oms.create(&token, &["c", "a", "c"]).answer().body;
    let existing = json!({
        "status": 409, "id": "SO-0000000001", "code": "DUPLICATE_IDENTITY", "fingerprint": "f-a",
    });
    assert_eq!(again["results"][1], existing);
    assert_eq!(again["results"][0]["id"], again["results"][2]["id"], "twice in one batch");
    assert_eq!(oms.find(&token, &["a", "x", "c"]), ["a", "c"]);
    let judged = oms.judge();
    assert_eq!((judged.orders_received, judged.creates, judged.doubles), (5, 3, 0));
    assert_eq!(judged.orders_by_outcome["existing"], 2);
    assert!(judged.bytes_in > 200 && judged.bytes_out > 100, "{judged:?}");
}

#[test]
fn an_oms_that_does_not_refuse_a_second_create_has_doubles() {
    let oms = Oms::start(&json!({ "unique": false }));
    let token = oms.token();
    let (first, second) = (oms.create_one(&token, "a"), oms.create_one(&token, "a"));
    assert_eq!((&first["status"], &second["status"]), (&json!(201), &json!(201)));
    assert_ne!(first["id"], second["id"]);
    assert_eq!(oms.create_one(&token, "b")["status"], 201);
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.distinct_identities, judged.doubles), (3, 2, 1));
    assert_eq!(oms.find(&token, &["a"]), ["a"]);
    let listed = oms.list(&token, 0, 10);
    let creates: Vec<_> = listed.iter().map(|item| &item["creates"]).collect();
    assert_eq!(creates, [&json!(2), &json!(1)]);
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    oms.create(&token, &["a", "b", "c"]).answer();
    let page = oms.list(&token, 0, 2);
    assert_eq!(page.len(), 2);
    let item = &page[0];
    assert_eq!((&item["identity"], &item["fingerprint"]), (&json!("a"), &json!("f-a")));
    assert_eq!((&item["grand_total"], &item["currency"]), (&json!("28.44"), &json!("EUR")));
    assert!(item["committed_at_us"].as_i64().unwrap() > 1_700_000_000_000_000);
    let rest = oms.list(&token, page[1]["cursor"].as_i64().unwrap(), 2);
    assert_eq!(rest.len(), 1);
    assert_eq!(rest[0]["identity"], "c");
}

#[test]
fn what_is_no_batch_changes_nothing() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    let bad = oms.ask(&Request::create(&token, r#"{"orders":[{"identity":"a"}]}"#)).answer();
    assert_eq!((bad.status, &bad.body["code"]), (400, &json!("MALFORMED")));
    assert!(bad.body["message"].as_str().unwrap().contains("fingerprint"), "{bad:?}");
    let names: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = names.iter().map(String::as_str).collect();
    assert_eq!(oms.create(&token, &many).answer().status, 413);
    assert_eq!(oms.create(&token, &many[..100]).answer().status, 200);
    assert_eq!(oms.ask(&Request::get("/v1/orders").bearer(&token)).answer().status, 400);
    assert_eq!(oms.ask(&Request::get("/v2/orders").bearer(&token)).answer().status, 404);
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.peak_orders_per_s), (100, 100));
    assert_eq!((judged.refused["malformed"], judged.refused["too_large"]), (2, 1));
    assert_eq!(judged.calls_by_kind["other"], 1);
}

#[test]
fn an_idempotency_key_gets_the_first_answer_again() {
    let oms = Oms::start(&json!({ "idempotency_keys": true, "unique": false }));
    let token = oms.token();
    let send = |key: &str, identity: &str| {
        let body = batch(&[identity]);
        oms.ask(&Request::create(&token, &body).header("Idempotency-Key", key)).answer()
    };
    let first = send("k1", "a");
    let again = send("k1", "a");
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(first.header("idempotency-replayed"), None);
    let other = send("k1", "b");
    assert_eq!((other.status, &other.body["code"]), (422, &json!("IDEMPOTENCY_KEY_REUSED")));
    assert_eq!(oms.judge().replayed, 1);
    // Where keys are not honoured, nothing keeps the second from being one.
    oms.control(&json!({ "idempotency_keys": false }));
    assert_ne!(send("k1", "a").body, first.body);
    assert_eq!(oms.judge().doubles, 1);
}

#[test]
fn what_was_told_to_come_later_may_come_with_its_key() {
    let oms = Oms::start(&json!({ "idempotency_keys": true, "try_later_every": 1 }));
    let token = oms.token();
    let send = || {
        let body = batch(&["a"]);
        oms.ask(&Request::create(&token, &body).header("Idempotency-Key", "k")).answer().body
    };
    let later = json!({ "status": 503, "code": "TRY_LATER", "retry_after_s": 1 });
    assert_eq!(send()["results"][0], later);
    oms.control(&json!({ "try_later_every": null }));
    assert_eq!(send()["results"][0]["status"], 201);
    let judged = oms.judge();
    assert_eq!((judged.orders_by_outcome["try_later"], judged.replayed), (1, 0));
}

#[test]
fn an_order_becomes_visible_after_its_delay() {
    let oms = Oms::start(&json!({ "visible_after_ms": 600_000 }));
    let token = oms.token();
    oms.create_one(&token, "a");
    assert!(oms.find(&token, &["a"]).is_empty());
    assert_eq!(oms.create_one(&token, "a")["status"], 409, "it is there all the same");
    oms.control(&json!({ "visible_after_ms": 400 }));
    let sent = Instant::now();
    oms.create_one(&token, "b");
    until("sight of b", || oms.find(&token, &["b"]) == ["b"]);
    assert!(sent.elapsed() >= Duration::from_millis(400), "{:?}", sent.elapsed());
}

#[test]
fn an_order_that_was_accepted_exists_later() {
    let oms = Oms::start(&json!({ "async_after_ms": 400 }));
    let token = oms.token();
    let sent = Instant::now();
    let accepted = oms.create_one(&token, "a");
    assert_eq!(accepted, json!({ "status": 202, "ticket": "TK-0000000001" }));
    until("the order", || oms.find(&token, &["a"]) == ["a"]);
    assert!(sent.elapsed() >= Duration::from_millis(400), "{:?}", sent.elapsed());
    assert_eq!(oms.create_one(&token, "a")["status"], 409);
    oms.control(&json!({ "async_after_ms": 600_000 }));
    let pending = oms.create_one(&token, "b");
    assert_eq!(oms.create_one(&token, "b"), pending, "one ticket for one order");
    oms.control(&json!({ "async_after_ms": null }));
    assert_eq!(oms.create_one(&token, "c")["status"], 201);
    // What is listed must not be overtaken by what comes to exist before it.
    let listed: Vec<Value> = oms.list(&token, 0, 10);
    assert_eq!(listed.len(), 1, "{listed:?}");
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.orders_by_outcome["accepted"]), (3, 3));
}

#[test]
fn an_invalid_order_is_invalid_again() {
    let oms = Oms::start(&json!({ "invalid_every": 3 }));
    let token = oms.token();
    let names: Vec<_> = (0..90).map(|n| format!("order-{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let statuses = || {
        let body = oms.create(&token, &names).answer().body;
        let results = body["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["status"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let (first, again) = (statuses(), statuses());
    let invalid = |statuses: &[u64]| statuses.iter().map(|s| *s == 422).collect::<Vec<_>>();
    assert_eq!(invalid(&first), invalid(&again));
    let count = invalid(&first).iter().filter(|is| **is).count();
    assert!((15..=45).contains(&count), "{count} of 90");
    assert_eq!(oms.judge().orders_by_outcome["invalid"], 2 * i64::try_from(count).unwrap());
}

#[test]
fn a_validation_rule_refuses_everything() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    oms.create_one(&token, "a");
    oms.control(&json!({ "reject_all_with": "FIELD_CUSTOM_VALIDATION_EXCEPTION" }));
    for identity in ["a", "b"] {
        let refused = oms.create_one(&token, identity);
        assert_eq!(refused["status"], 422);
        assert_eq!(refused["code"], "FIELD_CUSTOM_VALIDATION_EXCEPTION");
        assert!(refused["message"].is_string());
    }
    oms.control(&json!({ "reject_all_with": null }));
    assert_eq!(oms.create_one(&token, "b")["status"], 201);
}

#[test]
fn errors_may_be_told_inside_a_success() {
    let oms = Oms::start(&json!({ "error_in_200": true }));
    let token = oms.token();
    let created = oms.create_one(&token, "a");
    assert_eq!(created, json!({ "success": true, "id": "SO-0000000001" }));
    let existing = oms.create_one(&token, "a");
    assert_eq!((&existing["success"], &existing["id"]), (&json!(false), &created["id"]));
    assert_eq!(existing["errors"][0]["code"], "DUPLICATE_IDENTITY");
    oms.control(&json!({ "reject_all_with": "X" }));
    let refused = oms.create_one(&token, "b");
    assert_eq!((&refused["success"], &refused["errors"][0]["code"]), (&json!(false), &json!("X")));
}
