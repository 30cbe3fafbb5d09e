//! Tokens: who gets one, how long it is good, and how the judge counts them.

use serde_json::json;

use crate::support::{Oms, Request, SECRET, until};

#[test]
fn a_token_is_for_those_with_the_secret() {
    let oms = Oms::start(&json!({}));
    let answer = oms.ask(&Request::token(SECRET)).answer();
    assert_eq!((answer.status, &answer.body["token_type"]), (200, &json!("Bearer")));
    assert_eq!(answer.body["expires_in"], 3600);
    let wrong = oms.ask(&Request::token("guessed")).answer();
    assert_eq!((wrong.status, wrong.body), (401, json!({ "error": "invalid_client" })));
    let grant = Request::post("/oauth/token", "grant_type=password&username=a&password=b");
    let other = oms.ask(&grant).answer();
    assert_eq!((other.status, other.body), (400, json!({ "error": "unsupported_grant_type" })));
    oms.control(&json!({ "refuse_credentials": true }));
    assert_eq!(oms.ask(&Request::token(SECRET)).answer().status, 401);
    let judged = oms.judge();
    assert_eq!(judged.calls_by_kind["token"], 4);
    assert_eq!((judged.tokens_issued, judged.refused["credentials"]), (1, 2));
}

#[test]
fn credentials_may_come_as_http_basic() {
    let oms = Oms::start(&json!({}));
    let ask = |basic: &str| {
        let request = Request::post("/oauth/token", "grant_type=client_credentials");
        oms.ask(&request.header("Authorization", &format!("Basic {basic}"))).answer().status
    };
    // "forebay:a secret & more", form-encoded, and with another secret.
    assert_eq!(ask("Zm9yZWJheTphK3NlY3JldCslMjYrbW9yZQ=="), 200);
    assert_eq!(ask("Zm9yZWJheTpndWVzc2Vk"), 401);
}

#[test]
fn a_call_needs_a_token_that_is_good() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    assert_eq!(oms.create_one(&token, "a")["status"], 201);
    let missing = oms.ask(&Request::get("/v1/orders?identity=a")).answer();
    assert_eq!((missing.status, &missing.body["code"]), (401, &json!("INVALID_TOKEN")));
    assert_eq!(oms.create("guessed", &["b"]).answer().status, 401);
    oms.control(&json!({ "revoke_tokens": true }));
    assert_eq!(oms.create(&token, &["b"]).answer().status, 401);
    let fresh = oms.token();
    assert_eq!(oms.find(&fresh, &["a", "b"]), ["a"]);
    assert_eq!(oms.judge().refused_for_token, 3);
}

#[test]
fn a_token_expires() {
    let oms = Oms::start(&json!({ "token_ttl_s": 0 }));
    let stillborn = oms.token();
    assert_eq!(oms.create(&stillborn, &["a"]).answer().status, 401);
    oms.control(&json!({ "token_ttl_s": 2 }));
    let short = oms.token();
    oms.control(&json!({ "token_ttl_s": 3600 }));
    let long = oms.token();
    until("end of the short token", || oms.create(&short, &["a"]).answer().status == 401);
    assert!(oms.find(&long, &["x"]).is_empty(), "the other one is good still");
}

#[test]
fn a_token_storm_is_told() {
    let oms = Oms::start(&json!({}));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| drop(oms.token())));
        }
    });
    let judged = oms.judge();
    assert_eq!(judged.tokens_issued, 20);
    // However slow this machine is, some second has seen more than its share.
    let seconds = (judged.last_call_us - judged.first_call_us) / 1_000_000 + 1;
    assert!(judged.peak_tokens_per_s >= 20 / (seconds + 1), "{judged:?}");
    assert!(judged.peak_tokens_per_s <= 20);
    assert_eq!(judged.peak_calls_per_s, 0, "a token is no call on orders");
}
