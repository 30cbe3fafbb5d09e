//! One sale into an OMS in a process of its own, in which everything goes wrong after each other; that OMS's own ledger is the judge.

use serde_json::{Value, json};

use crate::bodies::{JSON, own};
use crate::harness::{Forebay, Request};
use crate::oms::{Oms, control, directory};

const CEILING: u64 = 100;
const IN_FLIGHT: u64 = 2;
/// Of each part of the sale.
const PART: u64 = 120;

/// Orders on their way to an OMS that can be asked, and would take any of them twice.
fn selling(oms: &Oms, at: &std::path::Path) -> Forebay {
    let (url, at) = (format!("http://{}", oms.address), at.display());
    Forebay::start(&format!(
        "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
         [drain]\nceiling_per_s = {CEILING}.0\nin_flight = {IN_FLIGHT}\nretry_base = \"20ms\"\nretry_max = \"500ms\"\n\
         [oms]\nkind = \"http\"\nurl = \"{url}\"\ntest = true\nclaim = \"none\"\n\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/oauth/token\"\n\
         client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
         [oms.create]\npath = \"/v1/orders\"\nbatch = 10\nanswers = {{ items = \"/results\" }}\n\
         [oms.find]\npath = \"/v1/orders?{{% for i in identities %}}identity={{{{ i }}}}&{{% endfor %}}\"\nbatch = 50\n\
         items = \"/items\"\nidentity = \"/identity\"\nid = \"/id\"\nfingerprint = \"/fingerprint\"\nvisible_after = \"500ms\"\n\
         [oms.list]\npath = \"/v1/orders/list?after={{{{ after }}}}&limit={{{{ limit }}}}\"\nitems = \"/items\"\n"
    ))
}

/// The storefront goes on, whatever becomes of the OMS.
fn post(forebay: &Forebay, part: u64) {
    let orders: Vec<_> =
        (part * PART..(part + 1) * PART).map(|n| own(&n.to_string(), "10.00")).collect();
    let answer = forebay.post("forebay", JSON, format!("[{}]", orders.join(",")).as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
}

fn summarised(forebay: &Forebay) -> u64 {
    forebay.view("/v1/status")["buffer"]["ended"]["summarised"].as_u64().unwrap_or_default()
}

/// Waits until so many are in the OMS.
fn at_least(forebay: &Forebay, orders: u64) {
    forebay.until("orders in the OMS", |forebay| (summarised(forebay) >= orders).then_some(()));
}

fn limited_by(forebay: &Forebay, limiter: &str) {
    forebay.until(&format!("limiter {limiter}"), |forebay| {
        (forebay.view("/v1/status")["drain"]["limiter"] == limiter).then_some(())
    });
}

fn exceptions(forebay: &Forebay) -> Vec<Value> {
    forebay.view("/v1/exceptions")["exceptions"].as_array().unwrap().clone()
}

fn judged(oms: &Oms) -> Value {
    Request::get("/judge").send(oms.address).unwrap().json()
}

#[test]
fn an_outage_an_expired_secret_and_a_bad_rule_in_one_sale_lose_double_and_burn_nothing() {
    let files = directory(r#"{"unique": false, "latency_ms": {"p50": 5, "p99": 30}}"#);
    let oms = Oms::start_with(&[], files.path());
    let address = oms.address.to_string();
    let mut forebay = selling(&oms, files.path());
    post(&forebay, 0);
    at_least(&forebay, 20);

    // It dies in the middle of its work; once it is back it serves nobody for a while.
    oms.kill();
    post(&forebay, 1);
    limited_by(&forebay, "oms");
    let down = r#"{"unique": false, "unavailable": true}"#;
    std::fs::write(files.path().join("faults.json"), down).unwrap();
    let oms = Oms::start_with(&["--listen", &address], files.path());
    forebay.until("calls into the outage", |_| {
        (judged(&oms)["refused"]["unavailable"].as_u64() >= Some(5)).then_some(())
    });
    assert_eq!(exceptions(&forebay), Vec::<Value>::new());
    let before = summarised(&forebay);
    control(&oms, &json!({ "unavailable": false }));
    at_least(&forebay, before + 50);

    control(&oms, &json!({ "refuse_credentials": true, "revoke_tokens": true }));
    post(&forebay, 2);
    limited_by(&forebay, "auth");
    assert_eq!(exceptions(&forebay), Vec::<Value>::new());
    let before = summarised(&forebay);
    control(&oms, &json!({ "refuse_credentials": false }));
    at_least(&forebay, before + 50);

    control(&oms, &json!({ "reject_all_with": "FIELD_CUSTOM_VALIDATION_EXCEPTION" }));
    post(&forebay, 3);
    limited_by(&forebay, "rejected");
    assert_eq!(exceptions(&forebay), Vec::<Value>::new());
    control(&oms, &json!({ "reject_all_with": null }));

    let all = 4 * PART;
    at_least(&forebay, all / 2);
    forebay.until("all orders", |forebay| (summarised(forebay) == all).then_some(()));
    let status = forebay.view("/v1/status");
    let live = &status["buffer"]["live"];
    let left = ["held", "pending", "leased", "submitted"]
        .map(|state| live[state].as_u64().unwrap_or_default());
    assert_eq!(left, [0; 4], "{status}");
    assert_eq!(exceptions(&forebay), Vec::<Value>::new());
    let judged = judged(&oms);
    for (member, expected) in [("creates", all), ("distinct_identities", all), ("doubles", 0)] {
        assert_eq!(judged[member], expected, "{member}: {judged}");
    }
    assert_eq!(forebay.summaries().len() as u64, all);
    // Whatever went wrong, it was never sent more than the ceiling and a burst, nor by more calls at once.
    let burst = status["drain"]["burst"].as_f64().unwrap();
    assert!(burst <= 10.0, "{status}");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let most = CEILING as f64 + burst;
    assert!(judged["peak_orders_per_s"].as_f64().unwrap() <= most, "{most}: {judged}");
    assert!(judged["peak_calls_at_once"].as_u64().unwrap() <= IN_FLIGHT, "{judged}");
    assert!(forebay.stop().success());
}
