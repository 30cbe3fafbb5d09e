//! The whole answer table, for a program and for a webhook, from the post to what the OMS has; and what an
//! operator sees and does of it through the commands.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bodies::{
    JSON, amount, came_to, graph, graphs, holding, own, post, post_with, problem, server, shopify,
    shopify_cancelled, shopify_with, summary, undrained, until_summary, woocommerce, xml,
    xml_order,
};
use crate::harness::{Answer, Forebay, Request};

/// The answer's status and outcome are these.
#[track_caller]
fn is(answer: &Answer, status: u16, outcome: &str) -> Value {
    let said = answer.text();
    assert_eq!(came_to(answer), (status, outcome.to_owned()), "{said}");
    answer.json()
}

/// `202` for a program, `200` for a webhook.
fn first(channel: &str) -> u16 {
    if channel.ends_with("-hook") { 200 } else { 202 }
}

#[test]
fn a_first_order_and_the_same_again() {
    let server = undrained();
    for channel in ["shop-api", "shop-hook"] {
        let answer = post(&server, channel, shopify(1001, 1, "10.00"));
        let first = is(&answer, first(channel), "accepted");
        let location = format!("/v1/orders/{channel}/demo/1001");
        assert_eq!(answer.header("location"), Some(location.as_str()));
        assert_eq!(answer.header("idempotency-replayed"), None);
        for (member, value) in [
            ("channel", channel),
            ("source", "demo"),
            ("id", "1001"),
            ("number", "#1001"),
            ("state", "pending"),
            ("status", "received"),
            ("durability", "fsync(this disk)"),
            ("location", &location),
        ] {
            assert_eq!(first[member], value, "{first}");
        }
        assert_eq!(first["fingerprint"].as_str().map(str::len), Some(32), "{first}");
        // Other blanks are the same content.
        let spaced = shopify(1001, 1, "10.00").replace(',', " ,\n ");
        let again = post(&server, channel, spaced);
        let second = is(&again, 200, "duplicate");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        for member in ["sequence", "accepted_at", "fingerprint", "location", "number", "state"] {
            assert_eq!(first[member], second[member], "{member}");
        }
        let view = server.get(&location).json();
        for member in ["sequence", "accepted_at", "fingerprint", "state", "status"] {
            assert_eq!(first[member], view[member], "{member}: {view}");
        }
    }
}

#[test]
fn a_newer_version_of_a_pending_order_keeps_its_place_and_is_what_the_oms_gets() {
    let server = holding("2s");
    let mut amendments = Vec::new();
    for channel in ["shop-api", "shop-hook"] {
        let accepted =
            is(&post(&server, channel, shopify(1, 1, "10.00")), first(channel), "accepted");
        is(&post(&server, channel, shopify(2, 1, "20.00")), first(channel), "accepted");
        let amended = is(&post(&server, channel, shopify(1, 5, "12.00")), 200, "amended");
        let view = server.get(&format!("/v1/orders/{channel}/demo/1")).json();
        assert_eq!(view["sequence"], accepted["sequence"], "it keeps its place");
        assert_eq!(amended["accepted_at"], accepted["accepted_at"], "it keeps its time");
        assert_eq!(amended["state"], "pending");
        assert_ne!(amended["fingerprint"], accepted["fingerprint"]);
        is(&post(&server, channel, shopify(1, 3, "11.00")), 200, "stale");
        let kept = server.view(&format!("/v1/orders/{channel}/demo/1?body=1"));
        assert_eq!(kept["body"], shopify(1, 5, "12.00"));
        amendments.push((channel, amended["fingerprint"].clone()));
    }
    for (channel, fingerprint) in amendments {
        let summary = until_summary(&server, &format!("{channel}:demo:1"));
        assert_eq!(amount(&summary["grand_total"]).to_string(), "12", "{summary}");
        assert_eq!(summary["fingerprint"], fingerprint);
        until_summary(&server, &format!("{channel}:demo:2"));
    }
    assert!(server.summaries().iter().all(|summary| summary["creates"] == 1));
}

#[test]
fn a_cancel_of_a_pending_order_never_reaches_the_oms() {
    let server = holding("2s");
    for channel in ["shop-api", "shop-hook"] {
        is(&post(&server, channel, shopify(1, 1, "10.00")), first(channel), "accepted");
        let cancelled =
            is(&post(&server, channel, shopify_cancelled(1, 5, "10.00")), 200, "cancelled");
        assert_eq!(
            (&cancelled["state"], &cancelled["status"]),
            (&json!("cancelled"), &json!("needs attention"))
        );
        // A cancel of an order nobody knows, and the order after it.
        let tomb = post(&server, channel, shopify_cancelled(2, 5, "10.00"));
        is(&tomb, first(channel), "tombstone");
        let late = is(&post(&server, channel, shopify(2, 1, "10.00")), first(channel), "held");
        assert_eq!(late["state"], "held", "{late}");
        let view = server.get(&format!("/v1/orders/{channel}/demo/2")).json();
        assert_eq!(view["hold"], "cancelled_before", "{view}");
        is(&post(&server, channel, shopify(3, 1, "30.00")), first(channel), "accepted");
    }
    for channel in ["shop-api", "shop-hook"] {
        until_summary(&server, &format!("{channel}:demo:3"));
        let view = server.get(&format!("/v1/orders/{channel}/demo/1")).json();
        assert_eq!(view["state"], "cancelled", "{view}");
    }
    assert_eq!(server.summaries().len(), 2, "only the order that came last of each channel");
}

#[test]
fn a_held_order_waits_until_a_newer_version_releases_it() {
    let server = server("");
    for channel in ["shop-api", "shop-hook"] {
        let unpaid = shopify_with(1, 1, "10.00", r#""financial_status":"pending""#);
        let held = is(&post(&server, channel, unpaid), first(channel), "held");
        assert_eq!((&held["state"], &held["status"]), (&json!("held"), &json!("received")));
        is(&post(&server, channel, shopify(2, 1, "20.00")), first(channel), "accepted");
        until_summary(&server, &format!("{channel}:demo:2"));
        assert!(summary(&server, &format!("{channel}:demo:1")).is_none());
        is(&post(&server, channel, shopify(1, 2, "10.00")), 200, "amended");
        until_summary(&server, &format!("{channel}:demo:1"));
    }
    // Without versions, becoming ready is newer.
    for channel in ["xml-api", "xml-hook"] {
        is(
            &post(&server, channel, xml(&[xml_order("1", "CREATED", "5.00")])),
            first(channel),
            "held",
        );
        is(&post(&server, channel, xml(&[xml_order("1", "NEW", "5.00")])), 200, "amended");
        until_summary(&server, &format!("{channel}:demo:1"));
    }
}

#[test]
fn a_change_after_the_summary_is_an_exception_and_no_second_summary() {
    let server = server("");
    for channel in ["shop-api", "shop-hook"] {
        is(&post(&server, channel, shopify(1, 1, "10.00")), first(channel), "accepted");
        let location = format!("/v1/orders/{channel}/demo/1");
        server.until_state(&location, "summarised");
        let changed = shopify(1, 5, "12.00");
        is(&post(&server, channel, &changed), first(channel), "change_after_summary");
        is(&post(&server, channel, &changed), 200, "duplicate");
        let cancel = shopify_cancelled(1, 6, "12.00");
        is(&post(&server, channel, &cancel), first(channel), "change_after_summary");
        let view = server.get(&location).json();
        assert_eq!(view["state"], "summarised", "{view}");
        let ids = view["exceptions"].as_array().unwrap();
        assert_eq!(ids.len(), 2, "{view}");
        for (id, body) in ids.iter().zip([&changed, &cancel]) {
            let row = server.view(&format!("/v1/exceptions/{id}"));
            assert_eq!(row["category"], "change_after_summary", "{row}");
            assert_eq!(row["severity"], "high", "{row}");
            assert_eq!(row["body"], body.as_str(), "{row}");
        }
        let summary = summary(&server, &format!("{channel}:demo:1")).unwrap();
        assert_eq!(amount(&summary["grand_total"]).to_string(), "10", "{summary}");
    }
    assert_eq!(server.summaries().len(), 2);
}

#[test]
fn a_change_while_the_oms_has_the_order_is_parked_until_its_outcome() {
    let server = server("");
    // Once one order is in the OMS, it is known to be kept for this fleet; before that nothing would be sent.
    is(&post(&server, "shop-api", shopify(9, 1, "10.00")), first("shop-api"), "accepted");
    server.until_state("/v1/orders/shop-api/demo/9", "summarised");
    let oms = rusqlite::Connection::open(server.data_dir().join("oms.sqlite")).unwrap();
    // The OMS cannot commit, so what was sent stays without an outcome.
    oms.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for channel in ["shop-api", "shop-hook"] {
        let location = format!("/v1/orders/{channel}/demo/1");
        is(&post(&server, channel, shopify(1, 1, "10.00")), first(channel), "accepted");
        let view = server.until_state(&location, "submitted");
        assert_eq!(view["status"], "processing", "{view}");
        let newer = is(&post(&server, channel, shopify(1, 5, "12.00")), first(channel), "parked");
        assert_eq!(newer["status"], "processing", "{newer}");
        is(&post(&server, channel, shopify_cancelled(1, 6, "12.00")), first(channel), "parked");
        is(&post(&server, channel, shopify(1, 1, "10.00")), 200, "duplicate");
    }
    oms.execute_batch("COMMIT").unwrap();
    for channel in ["shop-api", "shop-hook"] {
        let view = server.until_state(&format!("/v1/orders/{channel}/demo/1"), "summarised");
        let ids = view["exceptions"].as_array().unwrap();
        assert!(!ids.is_empty(), "{view}");
        for id in ids {
            let row = server.view(&format!("/v1/exceptions/{id}"));
            assert_eq!(row["category"], "change_after_summary", "{row}");
        }
        let summary = summary(&server, &format!("{channel}:demo:1")).unwrap();
        assert_eq!(amount(&summary["grand_total"]).to_string(), "10", "as it was sent: {summary}");
        assert_eq!(summary["creates"], 1);
    }
}

#[test]
fn a_conflict_is_409_or_recorded_and_its_body_is_kept() {
    let mut server = undrained();
    let mut kept = Vec::new();
    for (channel, one, other) in [
        (
            "xml-api",
            xml(&[xml_order("c/1", "NEW", "10.00")]),
            xml(&[xml_order("c/1", "NEW", "12.00")]),
        ),
        (
            "xml-hook",
            xml(&[xml_order("c/1", "NEW", "10.00")]),
            xml(&[xml_order("c/1", "NEW", "12.00")]),
        ),
        ("shop-api", shopify(1, 1, "10.00"), shopify(1, 1, "12.00")),
        ("shop-hook", shopify(1, 1, "10.00"), shopify(1, 1, "12.00")),
        ("own-api", own("c1", "10.00"), own("c1", "12.00")),
    ] {
        let answer = post(&server, channel, &one);
        let accepted = is(&answer, first(channel), "accepted");
        let location = answer.header("location").unwrap().to_owned();
        let conflict = post(&server, channel, &other);
        if channel.ends_with("-hook") {
            is(&conflict, 200, "conflict_recorded");
        } else {
            let document = problem(&conflict, 409, "conflict");
            assert_eq!(conflict.header("location"), Some(location.as_str()));
            assert_eq!(document["location"], location);
            assert_eq!(document["first_fingerprint"], accepted["fingerprint"], "{document}");
            assert_ne!(document["fingerprint"], accepted["fingerprint"], "{document}");
            let differing = document["differing"].as_array().unwrap();
            assert!(differing.iter().all(|name| name.as_str().unwrap().starts_with('/')));
            assert!(!differing.is_empty(), "{document}");
            assert!(!document.to_string().contains("12.00"), "no values: {document}");
        }
        let again = post(&server, channel, &other);
        assert_eq!(again.status, conflict.status, "the same conflict again: {}", again.text());
        kept.push((location, other));
    }
    // The second body is as durable as the first.
    server.kill();
    server.start_again();
    for (location, other) in kept {
        let view = server.get(&location).json();
        assert_eq!(view["state"], "pending", "the first stands: {view}");
        let ids = view["exceptions"].as_array().unwrap();
        assert_eq!(ids.len(), 1, "one row however often it came: {view}");
        let row = server.view(&format!("/v1/exceptions/{}", ids[0]));
        assert_eq!(row["category"], "conflict", "{row}");
        let body = row["body"].as_str().unwrap();
        assert!(!body.is_empty() && other.contains(body), "the second body is kept: {row}");
        assert!(body.contains("12.00"), "{row}");
    }
}

#[test]
fn what_is_no_order_is_422_and_nothing_kept_or_recorded() {
    let server = server("");
    let rows = [
        ("a test", "shop", shopify_with(1, 1, "1.00", r#""financial_status":"paid","test":true"#)),
        ("a draft", "shop", r#"{"draft_order":{"id":2,"invoice_url":"https://example.com/i","total_price":"1.00"}}"#.to_owned()),
        ("a refund", "shop", r#"{"refund":{"id":3,"order_id":1,"refund_line_items":[]}}"#.to_owned()),
        ("a draft", "woo", woocommerce(4, 1, "auto-draft", "1.00")),
        ("a checkout", "woo", woocommerce(5, 1, "checkout-draft", "1.00")),
    ];
    for (name, family, body) in &rows {
        let refused = post(&server, &format!("{family}-api"), body);
        let document = problem(&refused, 422, "not-an-order");
        assert!(document["detail"].as_str().unwrap().contains("Nothing was kept"), "{name}");
        let hook = post(&server, &format!("{family}-hook"), body);
        is(&hook, 200, "recorded");
        assert_eq!(hook.header("location"), None, "{name} occupies no key");
        is(&post(&server, &format!("{family}-hook"), body), 200, "duplicate");
    }
    for (channel, id) in [("shop-hook", "1"), ("shop-api", "1"), ("woo-hook", "4")] {
        problem(&server.get(&format!("/v1/orders/{channel}/demo/{id}")), 404, "not-found");
    }
    // What was recorded does not stand in an order's way.
    is(&post(&server, "woo-hook", woocommerce(5, 2, "processing", "5.00")), 200, "accepted");
    until_summary(&server, "woo-hook:demo:5");
    let ended = server.view("/v1/status")["buffer"]["ended"].clone();
    assert_eq!(ended["recorded"], rows.len() as u64, "one each, from webhooks only: {ended}");
    assert_eq!(server.summaries().len(), 1);
}

#[test]
fn an_order_that_failed_at_its_source_never_reaches_the_oms() {
    let server = holding("1s");
    for channel in ["xml-api", "xml-hook"] {
        let failed = |number| xml(&[xml_order(number, "FAILED", "5.00")]);
        let placed = |number| xml(&[xml_order(number, "NEW", "5.00")]);
        let unknown = post(&server, channel, failed("1"));
        match channel {
            "xml-api" => drop(problem(&unknown, 422, "not-an-order")),
            _ => drop(is(&unknown, 200, "recorded")),
        }
        problem(&server.get(&format!("/v1/orders/{channel}/demo/1")), 404, "not-found");
        is(&post(&server, channel, placed("2")), first(channel), "accepted");
        let held = is(&post(&server, channel, failed("2")), 200, "amended");
        assert_eq!(held["state"], "held", "{held}");
        is(&post(&server, channel, placed("3")), first(channel), "accepted");
    }
    for channel in ["xml-api", "xml-hook"] {
        until_summary(&server, &format!("{channel}:demo:3"));
        assert!(summary(&server, &format!("{channel}:demo:2")).is_none());
    }
}

#[test]
fn only_an_id_must_be_fetched() {
    let server = server("");
    for (family, body) in [("woo", r#"{"id":15}"#), ("shop", r#"{"id":15}"#)] {
        problem(&post(&server, &format!("{family}-api"), body), 422, "fetch-needed");
        let kept = is(&post(&server, &format!("{family}-hook"), body), 200, "exception");
        let row = server.view(&format!("/v1/exceptions/{}", kept["sequence"]));
        assert_eq!(row["category"], "fetch_needed", "{row}");
        assert!(row["reason"].as_str().unwrap().contains("fetch"), "{row}");
    }
    // The key is still free for the order itself.
    is(&post(&server, "woo-hook", woocommerce(15, 1, "processing", "5.00")), 200, "accepted");
    until_summary(&server, "woo-hook:demo:15");
}

#[test]
fn woocommerces_ping_gets_exactly_200() {
    let server = server("");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for channel in ["woo-hook", "woo-api"] {
        is(&post_with(&server, channel, &form, "webhook_id=12"), 200, "recorded");
        // WooCommerce sends it again whenever the hook is saved.
        assert_eq!(post_with(&server, channel, &form, "webhook_id=12").status, 200);
    }
    problem(&post_with(&server, "woo-api", &form, "a=b"), 400, "unreadable");
    is(&post_with(&server, "woo-hook", &form, "a=b"), 200, "exception");
    problem(&post_with(&server, "shop-api", &form, "webhook_id=1"), 415, "unsupported-media-type");
}

#[test]
fn the_idempotency_key_is_echoed_and_decides_nothing() {
    let server = undrained();
    let headers = [("Content-Type", JSON), ("Idempotency-Key", "\"cart-7\"")];
    for id in [16, 17] {
        let answer = post_with(&server, "shop-api", &headers, shopify(id, 1, "10.00"));
        is(&answer, 202, "accepted");
        assert_eq!(answer.header("idempotency-key"), Some("\"cart-7\""));
    }
    let other = [("Content-Type", JSON), ("Idempotency-Key", "\"cart-8\"")];
    is(&post_with(&server, "shop-api", &other, shopify(16, 1, "10.00")), 200, "duplicate");
}

#[test]
fn over_the_quota_is_429_for_both() {
    let server = server(
        "[channels.slow-api]\nformat = \"forebay\"\ncaller = \"api\"\nsource = \"demo\"\nquota = { per_s = 1, burst = 2 }\n\
         [channels.slow-hook]\nformat = \"shopify\"\ncaller = \"webhook\"\nsource = \"demo\"\nquota = { per_s = 1, burst = 2 }\n",
    );
    for channel in ["slow-api", "slow-hook"] {
        let body = |n: u64| {
            if channel == "slow-api" { own(&n.to_string(), "1.00") } else { shopify(n, 1, "1.00") }
        };
        let answers: Vec<_> =
            (1..=8).map(|n| server.post(channel, JSON, body(n).as_bytes())).collect();
        assert_eq!(answers[0].status, first(channel));
        let over: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
        assert!(over.len() >= 4, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
        let document = problem(over[0], 429, "quota");
        assert!(document["retry_after"].as_u64().is_some(), "{document}");
        assert!(
            over[0].header("ratelimit").is_some() && over[0].header("ratelimit-policy").is_some()
        );
    }
    // Another channel has its own.
    is(&post(&server, "own-api", own("1", "1.00")), 202, "accepted");
}

#[test]
fn batches_are_answered_item_by_item() {
    let server = server("");
    let ndjson = [("Content-Type", "application/x-ndjson")];
    for channel in ["shop-api", "shop-hook"] {
        let hook = channel.ends_with("-hook");
        let body = format!(
            "{}\n{{\"id\":2,}}\n{}\n{}",
            shopify(1, 1, "10.00"),
            shopify_with(3, 1, "1.00", r#""financial_status":"paid","test":true"#),
            shopify(1, 1, "10.00"),
        );
        let answer = post_with(&server, channel, &ndjson, &body);
        assert_eq!(answer.status, first(channel), "{}", answer.text());
        let document = answer.json();
        let items = document["items"].as_array().unwrap();
        let codes: Vec<_> = items.iter().map(|item| item["code"].as_u64().unwrap()).collect();
        let expected = if hook { [200, 200, 200, 200] } else { [202, 400, 422, 200] };
        assert_eq!(codes, expected, "{document}");
        let indexes: Vec<_> = items.iter().map(|item| item["index"].as_u64().unwrap()).collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
        assert_eq!(
            (&items[0]["outcome"], &items[3]["outcome"]),
            (&json!("accepted"), &json!("duplicate"))
        );
        let counts = if hook { (4, 0) } else { (2, 2) };
        assert_eq!(
            (&document["durable"], &document["refused"]),
            (&json!(counts.0), &json!(counts.1))
        );
        if hook {
            assert_eq!(
                (&items[1]["outcome"], &items[2]["outcome"]),
                (&json!("exception"), &json!("recorded"))
            );
        } else {
            assert_eq!(items[1]["problem"]["type"], "https://forebay.dev/problems/unreadable");
            assert_eq!(items[1]["problem"]["errors"][0]["line"], 2, "{document}");
            assert_eq!(items[2]["problem"]["type"], "https://forebay.dev/problems/not-an-order");
        }
        until_summary(&server, &format!("{channel}:demo:1"));
    }
    let nothing = post_with(&server, "shop-api", &ndjson, "{\"id\":2,}\n[]\n");
    assert_eq!(nothing.status, 400, "nothing durable: the first item's status; {}", nothing.text());
}

#[test]
fn salesforces_own_path_answers_each_graph() {
    const PATH: &str = "/services/data/v67.0/commerce/order-summaries";
    let server = server("");
    let send = |body: &str| {
        server.order(&Request::post(PATH, body.as_bytes()).header("Content-Type", JSON))
    };
    let answer = send(&graphs(&[graph("g1", "site@1", "10"), graph("g2", "site@2", "20")]));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let output = answer.json();
    assert_eq!((&output["success"], &output["error"]), (&json!(true), &Value::Null), "{output}");
    let results = output["orderSummaryGraphsResults"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{output}");
    for (n, result) in (1..).zip(results) {
        assert_eq!(result["orderSummaryGraphId"], format!("g{n}"), "{result}");
        assert_eq!(result["success"], true, "{result}");
        assert_eq!(result["httpHeaders"][0]["name"], "Location", "{result}");
        let location = result["httpHeaders"][0]["value"].as_str().unwrap();
        server.until_state(location, "summarised");
        let summary = until_summary(&server, &format!("graphs-api:demo:site@{n}"));
        assert_eq!(amount(&summary["grand_total"]).to_string(), format!("{n}0"), "{summary}");
    }
    // A graph that conflicts, one that cannot be read, and one that is new: each for itself.
    let unreadable = graph("g3", "site@3", "30")
        .replace(r#""Type":"Order Product""#, r#""Type":"a","Type":"b""#);
    let mixed =
        send(&graphs(&[graph("g1", "site@1", "11"), unreadable, graph("g4", "site@4", "40")]));
    assert_eq!(mixed.status, 202, "{}", mixed.text());
    let output = mixed.json();
    assert_eq!(output["success"], false, "{output}");
    let results = &output["orderSummaryGraphsResults"];
    assert_eq!(results[0]["error"]["errorCode"], "CONFLICT", "{output}");
    assert_eq!(results[1]["error"]["errorCode"], "UNREADABLE", "{output}");
    assert_eq!(results[1]["orderSummaryGraphId"], "g3", "{output}");
    assert_eq!((&results[2]["success"], &results[2]["error"]), (&json!(true), &Value::Null));
    until_summary(&server, "graphs-api:demo:site@4");
    let bad = send("{");
    assert_eq!((bad.status, &bad.json()["success"]), (400, &json!(false)));
    assert_eq!(server.summaries().len(), 3);
    let again = send(&graphs(&[graph("g9", "site@4", "40")]));
    assert_eq!((again.status, &again.json()["success"]), (202, &json!(true)), "{}", again.text());
}

/// What a command said.
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one line of JSON: {}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap()
    }
}

/// Runs the binary's command as a person does.
fn forebay(args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let output = command.args(args).env_clear().stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Asks a running service.
fn ask(server: &Forebay, args: &[&str]) -> Said {
    let ops = server.ops.to_string();
    forebay(&[args, &["--ops", &ops, "--json"]].concat())
}

#[test]
fn exceptions_are_listed_shown_retried_and_discarded() {
    let server = server("");
    let none = ask(&server, &["exceptions", "list"]);
    assert_eq!((none.code, none.json()), (0, json!({"exceptions": []})));
    let broken = woocommerce(1, 1, "processing", "10.00").replace(r#""currency":"EUR","#, "");
    is(&post(&server, "woo-hook", &broken), 200, "accepted");
    server.until_state("/v1/orders/woo-hook/demo/1", "exception");

    let listed = ask(&server, &["exceptions", "list"]).json();
    let rows = listed["exceptions"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{listed}");
    let row = &rows[0];
    assert_eq!(row["category"], "unmappable", "{row}");
    assert_eq!((&row["severity"], &row["state"]), (&json!("high"), &json!("exception")), "{row}");
    assert_eq!(row["key"], "woo-hook:demo:1", "{row}");
    assert!(row["reason"].as_str().unwrap().contains("currency"), "{row}");
    assert!(!row.to_string().contains("shopper@"), "nothing personal: {row}");
    let (first_id, id) = (row["id"].clone(), row["id"].to_string());

    let shown = ask(&server, &["exceptions", "show", &id]);
    assert_eq!((shown.code, &shown.json()["body"]), (0, &json!(broken)));

    // It cannot become a summary, so a retry makes a fresh exception of it.
    let retried = ask(&server, &["exceptions", "retry", &id]);
    assert_eq!((retried.code, &retried.json()["state"]), (0, &json!("pending")), "{}", retried.err);
    let fresh = server.until("a fresh exception", |server| {
        let rows = server.view("/v1/exceptions")["exceptions"].clone();
        rows.as_array().unwrap().iter().find(|row| row["id"] != first_id).cloned()
    });
    let closed = ask(&server, &["exceptions", "retry", &id]);
    assert_eq!((closed.code, closed.out.as_str()), (1, ""));
    assert!(closed.err.contains("no open exception"), "{}", closed.err);

    // The corrected order is a newer version, and repairs it.
    let corrected = woocommerce(1, 9, "processing", "10.00");
    is(&post(&server, "woo-hook", &corrected), 200, "amended");
    until_summary(&server, "woo-hook:demo:1");
    assert_eq!(ask(&server, &["exceptions", "list"]).json(), json!({"exceptions": []}), "{fresh}");

    // Another one is given up.
    let broken = woocommerce(2, 1, "processing", "10.00").replace(r#""currency":"EUR","#, "");
    is(&post(&server, "woo-hook", &broken), 200, "accepted");
    server.until_state("/v1/orders/woo-hook/demo/2", "exception");
    let id = ask(&server, &["exceptions", "list"]).json()["exceptions"][0]["id"].to_string();
    let hasty = ask(&server, &["exceptions", "discard", &id]);
    assert_eq!(hasty.code, 2, "{}", hasty.out);
    assert!(hasty.err.contains("--yes"), "{}", hasty.err);
    let discarded = ask(&server, &["exceptions", "discard", &id, "--yes"]);
    assert_eq!((discarded.code, &discarded.json()["state"]), (0, &json!("discarded")));
    let gone = ask(&server, &["exceptions", "show", &id]);
    assert_eq!((gone.code, gone.out.as_str()), (1, ""), "{}", gone.err);
    let view = server.get("/v1/orders/woo-hook/demo/2").json();
    assert_eq!((&view["state"], &view["status"]), (&json!("discarded"), &json!("needs attention")));
    assert!(summary(&server, "woo-hook:demo:2").is_none());
    is(&post(&server, "woo-hook", &broken), 200, "duplicate");

    // A retry makes no sense where the order stands; a discard closes the row and leaves the order.
    is(&post(&server, "xml-hook", xml(&[xml_order("3", "NEW", "1.00")])), 200, "accepted");
    is(&post(&server, "xml-hook", xml(&[xml_order("3", "NEW", "2.00")])), 200, "conflict_recorded");
    let id = ask(&server, &["exceptions", "list"]).json()["exceptions"][0]["id"].to_string();
    let senseless = ask(&server, &["exceptions", "retry", &id]);
    assert_eq!((senseless.code, senseless.out.as_str()), (1, ""));
    assert_eq!(ask(&server, &["exceptions", "discard", &id, "--yes"]).code, 0);
    until_summary(&server, "xml-hook:demo:3");
}

#[test]
fn lists_of_exceptions_go_on_over_pages() {
    let server = server("");
    for n in 0..7 {
        is(&post(&server, "shop-hook", format!("not an order {n}")), 200, "exception");
    }
    let ids = |said: &Said| -> Vec<u64> {
        let rows = said.json()["exceptions"].as_array().unwrap().clone();
        rows.iter().map(|row| row["id"].as_u64().unwrap()).collect()
    };
    let all = ids(&ask(&server, &["exceptions", "list"]));
    assert_eq!(all.len(), 7);
    assert!(all.is_sorted(), "oldest first: {all:?}");
    assert_eq!(ids(&ask(&server, &["exceptions", "list", "--limit", "3"])), all[..3]);
    let after = all[2].to_string();
    assert_eq!(ids(&ask(&server, &["exceptions", "list", "--after", &after])), all[3..]);
}

#[test]
fn the_status_says_what_waits_and_what_the_oms_promises() {
    let server = undrained();
    is(&post(&server, "shop-api", shopify(1, 1, "10.50")), 202, "accepted");
    is(&post(&server, "shop-api", shopify(2, 1, "0.25")), 202, "accepted");
    let unpaid = shopify_with(3, 1, "1.00", r#""financial_status":"pending""#);
    is(&post(&server, "shop-api", unpaid), 202, "held");
    is(&post(&server, "shop-hook", "nothing"), 200, "exception");
    let said = ask(&server, &["status"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let status = said.json();
    assert_eq!(status["pid"], server.pid());
    let buffer = &status["buffer"];
    assert_eq!(
        (&buffer["live"]["pending"], &buffer["live"]["held"]),
        (&json!(2), &json!(1)),
        "{buffer}"
    );
    assert_eq!(buffer["exceptions"]["unreadable"], 1, "{buffer}");
    assert_eq!(amount(&buffer["money_waiting"]["EUR"]).to_string(), "11.75", "{buffer}");
    assert_eq!(buffer["durability"], "fsync(this disk)");
    assert_eq!(
        status["oms"],
        json!({"kind": "sqlite", "guarantee": "once: unique id", "test": false})
    );
    assert_eq!(status["drain"]["ceiling_per_s"], 40.0, "{status}");
    let ops = server.ops.to_string();
    let table = forebay(&["status", "--ops", &ops]);
    assert_eq!(table.code, 0);
    for word in ["pending 2", "once: unique id", "11.75"] {
        assert!(table.out.contains(word), "{word}: {}", table.out);
    }
    let nobody = forebay(&["status", "--ops", "127.0.0.1:1"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("cannot be reached"), "{}", nobody.err);
}

#[test]
fn one_order_is_shown_by_channel_source_and_id() {
    let server = undrained();
    let body = own("#1001/a", "10.00");
    is(&post(&server, "own-api", &body), 202, "accepted");
    let said = ask(&server, &["orders", "get", "own-api", "demo", "#1001/a"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let order = said.json();
    assert_eq!(order["key"], "own-api:demo:%231001%2Fa", "{order}");
    assert_eq!((&order["state"], &order["attempts"]), (&json!("pending"), &json!(0)), "{order}");
    assert!(order.get("body").is_none(), "{order}");
    let with = ask(&server, &["orders", "get", "own-api", "demo", "#1001/a", "--body"]).json();
    assert_eq!(with["body"], body);
    let none = ask(&server, &["orders", "get", "own-api", "demo", "1"]);
    assert_eq!((none.code, none.out.as_str()), (1, ""));
    assert!(none.err.contains("no order"), "{}", none.err);
}

#[test]
fn a_configuration_is_checked_and_its_guarantee_named() {
    let directory = tempfile::tempdir().unwrap();
    let check = |text: &str, json: bool| {
        let file = directory.path().join("forebay.toml");
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let mut args = vec!["config", "check", "--config", &file];
        if json {
            args.push("--json");
        }
        forebay(&args)
    };
    for (text, guarantee) in
        [("", "once: unique id"), ("[oms]\nkind = \"ledger\"\ntest = true\n", "once: looked up")]
    {
        let good = check(text, true);
        assert_eq!(good.code, 0, "{}", good.err);
        let document = good.json();
        assert_eq!(document["ok"], true);
        let promises = document["promises"].as_array().unwrap();
        let promised = |words: &str| promises.iter().any(|p| p.as_str().unwrap().contains(words));
        assert!(promised(guarantee) && promised("fsync(this disk)"), "{document}");
        assert!(promised("40 orders/s"), "{document}");
        assert!(check(text, false).out.contains(guarantee), "for people too");
    }
    for (text, named) in [
        ("[door]\nlisten = \"0.0.0.0:80\"\n", "door.listen"),
        ("[drain]\nceiling_per_s = 0.0\n", "drain.ceiling_per_s"),
        ("[drain]\nceilling = 1.0\n", "ceilling"),
        ("[oms]\nkind = \"oracle\"\n", "oms.kind"),
        ("[channels.shop]\nformat = \"shopify\"\ncaller = \"webhook\"\n", "channels.shop.source"),
        (
            "[channels.shop]\nformat = \"magento\"\ncaller = \"webhook\"\nsource = \"a\"\n",
            "channels.shop.format",
        ),
        ("this is no TOML", "forebay.toml"),
    ] {
        let bad = check(text, true);
        assert_eq!(bad.code, 2, "{text}: {}", bad.out);
        let document = bad.json();
        assert_eq!(document["ok"], false, "{text}");
        assert!(document["faults"].to_string().contains(named), "{named}: {document}");
        let people = check(text, false);
        assert_eq!((people.code, people.out.as_str()), (2, ""), "{text}");
        assert!(people.err.contains(named), "{named}: {}", people.err);
    }
    let both = check("[door]\nlisten = \"0.0.0.0:80\"\n[drain]\nin_flight = 0\n", true).json();
    assert_eq!(both["faults"].as_array().map(Vec::len), Some(2), "all at once: {both}");
    let missing = forebay(&["config", "check", "--config", "/nowhere/forebay.toml"]);
    assert_eq!(missing.code, 2, "{}", missing.out);
}
