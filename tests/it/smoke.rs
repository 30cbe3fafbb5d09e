//! The main job once: an order of each default channel, from the answer to its summary in the OMS.

use crate::harness::Forebay;

/// One hand-written, placed order a channel, and what the answer and the OMS must say of it.
pub(crate) struct Case {
    pub(crate) channel: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) body: &'static [u8],
    pub(crate) id: &'static str,
    first_answer: u16,
    pub(crate) grand_total: &'static str,
    currency: &'static str,
}

const JSON: &str = "application/json";

pub(crate) const CASES: [Case; 5] = [
    Case {
        channel: "salesforce",
        content_type: JSON,
        body: include_bytes!("orders/salesforce.json"),
        id: "smoke-3",
        first_answer: 202,
        grand_total: "126",
        currency: "USD",
    },
    Case {
        channel: "b2c-commerce-xml",
        content_type: "application/xml",
        body: include_bytes!("orders/b2c-commerce.xml"),
        id: "SMOKE-2",
        first_answer: 202,
        grand_total: "54",
        currency: "EUR",
    },
    Case {
        channel: "forebay",
        content_type: JSON,
        body: include_bytes!("orders/forebay.json"),
        id: "smoke-1",
        first_answer: 202,
        grand_total: "28.44",
        currency: "EUR",
    },
    Case {
        channel: "shopify",
        content_type: JSON,
        body: include_bytes!("orders/shopify.json"),
        id: "9007199254740993",
        first_answer: 200,
        grand_total: "32.5",
        currency: "USD",
    },
    Case {
        channel: "woocommerce",
        content_type: JSON,
        body: include_bytes!("orders/woocommerce.json"),
        id: "4711",
        first_answer: 200,
        grand_total: "27.6",
        currency: "GBP",
    },
];

#[test]
fn an_order_of_each_channel_becomes_a_summary() {
    let mut server = Forebay::start("");
    for case in &CASES {
        let answer = server.post(case.channel, case.content_type, case.body);
        let said = format!("{}: {}", case.channel, answer.text());
        assert_eq!(answer.status, case.first_answer, "{said}");
        let first = answer.json();
        assert_eq!(first["outcome"], "accepted", "{said}");
        assert_eq!(first["id"], case.id, "{said}");
        assert_eq!(first["durability"], "fsync(this disk)", "{said}");
        let location = format!("/v1/orders/{}/demo/{}", case.channel, case.id);
        assert_eq!(answer.header("location"), Some(location.as_str()), "{said}");

        let view = server.until_state(&location, "summarised");
        assert_eq!(view["status"], "confirmed", "{view}");
        assert_eq!(view["fingerprint"], first["fingerprint"], "{view}");
        assert!(view["summary_id"].is_string(), "{view}");

        let again = server.post(case.channel, case.content_type, case.body);
        assert_eq!(again.status, 200, "{}", again.text());
        assert_eq!(again.json()["outcome"], "duplicate", "{}", again.text());
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }

    let summaries = server.summaries();
    assert_eq!(summaries.len(), CASES.len(), "{summaries:?}");
    for case in &CASES {
        let identity = format!("{}:demo:{}", case.channel, case.id);
        let summary = summaries
            .iter()
            .find(|summary| summary["identity"] == identity.as_str())
            .unwrap_or_else(|| panic!("no {identity} in {summaries:?}"));
        assert_eq!(summary["creates"], 1, "{summary}");
        assert_eq!(summary["currency"], case.currency, "{summary}");
        let total = |text: &str| text.parse::<rust_decimal::Decimal>().unwrap();
        let found = total(summary["grand_total"].as_str().unwrap());
        assert_eq!(found, total(case.grand_total), "{summary}");
    }
    let stopped = server.stop();
    assert!(stopped.success(), "{stopped}\n{}", server.log());
}

#[test]
fn what_was_accepted_is_there_after_a_kill() {
    let mut server = Forebay::start("[drain]\nceiling_per_s = 0.001\n");
    let case = &CASES[2];
    assert_eq!(server.post(case.channel, case.content_type, case.body).status, 202);
    let killed = server.kill();
    assert!(!killed.success());
    server.start_again();
    let location = format!("/v1/orders/{}/demo/{}", case.channel, case.id);
    let found = server.get(&location);
    assert_eq!(found.status, 200, "{}\n{}", found.text(), server.log());
    assert!(server.stop().success(), "{}", server.log());
}

#[test]
fn an_order_replaced_at_its_source_never_reaches_the_oms() {
    let mut server = Forebay::start("[drain]\nceiling_per_s = 0.001\n");
    let case = &CASES[1];
    let with = |status: &str| {
        let body = std::str::from_utf8(case.body).unwrap();
        assert!(body.contains("<order-status>NEW<"), "{body}");
        body.replace("<order-status>NEW<", &format!("<order-status>{status}<")).into_bytes()
    };
    let unknown = server.post(case.channel, case.content_type, &with("REPLACED"));
    assert_eq!(unknown.status, 422, "of an unknown order it is no order: {}", unknown.text());
    let first = server.post(case.channel, case.content_type, &with("NEW"));
    assert_eq!(first.status, 202, "{}", first.text());
    // A worker may hold it already, waiting for the ceiling; then the change waits for that loan's end.
    let failed = server.post(case.channel, case.content_type, &with("FAILED"));
    let outcome = failed.json()["outcome"].as_str().unwrap().to_owned();
    assert!(outcome == "amended" || outcome == "parked", "{}", failed.text());
    assert!(server.stop().success(), "{}", server.log());
    server.start_again();
    let location = format!("/v1/orders/{}/demo/{}", case.channel, case.id);
    let view = server.until_state(&location, "held");
    assert_eq!(view["hold"], "failed_at_source", "{view}");
    assert_eq!(server.summaries().len(), 0);
    assert!(server.stop().success(), "{}", server.log());
}
