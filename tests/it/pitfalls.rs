//! Real faults of systems that take in orders, each as an input and the right value, end to end where it
//! takes a running service to see it.
//!
//! Line by line: what goes wrong elsewhere, and the tests that hold it here. Tests named `pitfall_NN` are in
//! this file unless a path says otherwise; `order` is `order/src` and `order/tests`, whose tests bear the
//! number in their names (`two_pitfall_28_..` too).
//!
//! | line | what goes wrong elsewhere | held by |
//! |---|---|---|
//! | 1 | one order delivered several times at one instant | `pitfall_01_06`; ingest `many_posts_of_one_new_key_are_one_order` |
//! | 2 | a yes without a durable write | `pitfall_02`; `sync_held`; ingest `a_buffer_that_cannot_keep_an_order_is_503_for_everybody` |
//! | 3 | a step after the store fails, and the order is created again | `pitfall_03` |
//! | 4, 5 | two submits of one cart at once give two orders | `pitfall_04_05` |
//! | 6 | de-duplication per process | `pitfall_01_06`, several door threads; a second process on one directory is kept out (buffer `a_directory_in_use_is_not_opened_twice`) |
//! | 7 | the second delivery 2.5 days later | `pitfall_07`; buffer `outcomes_survive_a_reopen_and_end_with_the_horizon`, `segments_retire_and_their_outcomes_still_answer` |
//! | 8 | a delivery id taken for an event id | `pitfall_08` |
//! | 9 | a second event of one order makes a second order | `pitfall_09` |
//! | 10 | equal numbers of two stores merge | `pitfall_10`; order `b2c` |
//! | 11, 12 | an update that comes before the create is dropped | `pitfall_11_12_13`; order `woocommerce` (12) |
//! | 13 | an older message that comes late overwrites | `pitfall_11_12_13`; order `shopify`, `woocommerce` |
//! | 14, 15 | slow or failing answers end the subscription; a gap cannot be refilled | `pitfall_14_15` |
//! | 16 | a batch that always fails blocks all later orders | `pitfall_16`; processor `bad_orders_stop_nobody_and_are_exactly_the_exceptions` |
//! | 17 | one bad reference makes a whole XML file unreadable | `pitfall_17_18`; order `b2c` |
//! | 18 | one bad item fails its batch | `pitfall_17_18`; order `json`, `b2c`, `salesforce`; ingest `one_bad_item_condemns_only_itself` |
//! | 19 | only an id is taken for an empty order | `answers::only_an_id_must_be_fetched`; order, every format |
//! | 20-23 | a signature over bytes that were parsed or re-encoded first | `pitfall_20_21_22_23`, as far as it reaches: what is kept is what came. Signatures themselves come later |
//! | 24 | ids over 2^53 are rounded | `pitfall_24`, every format; order `shopify`, `b2c`, `forebay`, `salesforce`, `json` |
//! | 25 | decimals become floats | `pitfall_25_to_42`; order `json`, `forebay`, `salesforce` |
//! | 26 | `flatten` with exact numbers fails on 1.5 and 1e2 | `pitfall_25_to_42` |
//! | 27 | a decimal does not survive writing and reading under some features | order `json`; processor `every_field_of_a_summary_reads_back_as_it_was` |
//! | 28 | unit prices of many decimals are rounded again | `pitfall_25_to_42`; order `woocommerce` |
//! | 29 | an order number is an integer here and a text there | `pitfall_25_to_42`; order `shopify`, `woocommerce`, `forebay` |
//! | 30 | `1,000.00` is read as 1 | `bad_input::json_that_cannot_be_read`; order `shopify`, `woocommerce`, `b2c`, `salesforce` |
//! | 31 | a cent of difference refuses the order | `pitfall_25_to_42`; order `shopify`, `woocommerce`, `b2c`, `forebay` |
//! | 32 | yen multiplied by 100 | `pitfall_25_to_42`; order `shopify`, `woocommerce`, `b2c`, `forebay` |
//! | 33 | a fraction of a yen is lost | as 32 |
//! | 34 | the buyer's currency is booked as the shop's | `pitfall_25_to_42`; order `shopify`. The other formats have one set of amounts |
//! | 35 | 0 is taken for "not set" | `pitfall_25_to_42`; order `shopify`, `b2c`, `forebay`, `salesforce` |
//! | 36 | a division by a zero subtotal or quantity | `pitfall_25_to_42`; order `exact`, `shopify`, `b2c`, `forebay`, `salesforce` |
//! | 37 | an order without lines crashes | `pitfall_25_to_42`; order, every format |
//! | 38 | `customer` null is not `customer` absent | `pitfall_25_to_42`; order `shopify`, `b2c`, `forebay` |
//! | 39 | an order without e-mail is lost | `pitfall_25_to_42`; order, every format |
//! | 40 | UTC and shop time are mixed | `pitfall_25_to_42`; order `text`, `woocommerce`, `b2c`, `forebay` |
//! | 41 | an emoji cuts a text or stops an order | `pitfall_25_to_42`; order `text`, `json`, `b2c`, `forebay` |
//! | 42 | `&amp;` is decoded too often | as 41; order `woocommerce` |
//! | 43 | a NUL escape is refused, or an escaped one spoilt | `bad_input::odd_bytes_that_are_an_order_all_the_same`; order `json` |
//! | 44 | half a surrogate pair | `bad_input::json_that_cannot_be_read`; order `json` |
//! | 45 | a byte order mark | `bad_input::odd_bytes_that_are_an_order_all_the_same`; order `json`, `b2c` |
//! | 46 | a member given twice | `bad_input::json_that_cannot_be_read`; order, every format |
//! | 47, 48 | a gzip bomb; a limit on packed bytes | `bad_input::pitfall_47_48_a_gzip_bomb_is_cut_while_it_unpacks` |
//! | 49 | nesting in a member nobody reads | `bad_input::json_that_cannot_be_read`, `xml_that_cannot_be_read`; order `json`, `b2c` |
//! | 50 | a real order is over the size limit | `pitfall_50`; order `shopify`, `b2c` |
//! | 51 | a list of lines silently cut | order `forebay`: the canonical JSON alone declares a count. `pitfall_50`: 64 lines and more |

use std::collections::BTreeSet;
use std::sync::{Arc, Barrier};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::bodies::{
    JSON, amount, came_to, graph, graphs, holding, kind, own, post, post_with, problem, server,
    shopify, shopify_with, summary, undrained, until_summary, woocommerce, xml, xml_order,
};
use crate::harness::{Answer, Forebay, Request};

/// Posts every body at the same moment, each from a connection and a thread of its own.
fn at_once(server: &Forebay, channel: &str, bodies: Vec<String>) -> Vec<Answer> {
    let gate = Arc::new(Barrier::new(bodies.len()));
    let (orders, path) = (server.orders, format!("/v1/channels/{channel}/orders"));
    let threads: Vec<_> = bodies
        .into_iter()
        .map(|body| {
            let (gate, path, kind) = (Arc::clone(&gate), path.clone(), kind(channel));
            std::thread::spawn(move || {
                gate.wait();
                Request::post(&path, body.as_bytes()).header("Content-Type", kind).send(orders)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
}

/// How many answers came to this.
fn count(answers: &[Answer], status: u16, outcome: &str) -> usize {
    answers.iter().filter(|answer| came_to(answer) == (status, outcome.to_owned())).count()
}

fn creates(server: &Forebay) -> Vec<u64> {
    server.summaries().iter().map(|summary| summary["creates"].as_u64().unwrap()).collect()
}

#[test]
fn pitfall_01_06_one_order_from_64_connections_at_one_instant_is_one_order() {
    const SENDERS: usize = 64;
    let server = server("[door]\nthreads = 4\n");
    for (channel, first, body) in [
        ("shop-hook", 200, shopify(1, 1, "10.00")),
        ("shop-api", 202, shopify(1, 1, "10.00")),
        ("xml-api", 202, xml(&[xml_order("1", "NEW", "10.00")])),
        ("graphs-api", 202, graphs(&[graph("g", "1", "10")])),
    ] {
        let answers = at_once(&server, channel, vec![body; SENDERS]);
        assert_eq!(count(&answers, first, "accepted"), 1, "{channel}");
        assert_eq!(count(&answers, 200, "duplicate"), SENDERS - 1, "{channel}");
        let sequences: BTreeSet<_> =
            answers.iter().map(|answer| answer.json()["sequence"].to_string()).collect();
        assert_eq!(sequences.len(), 1, "all are told of one order: {sequences:?}");
        until_summary(&server, &format!("{channel}:demo:1"));
    }
    assert_eq!(creates(&server), [1; 4]);
}

#[test]
fn pitfall_02_what_is_full_says_503_and_a_yes_outlives_a_kill() {
    let mut server = Forebay::start(
        "[door]\nitem_bytes = \"512KiB\"\n[buffer]\nslot_bytes = \"1MiB\"\nburst_reserve = 0\ndisk_max = \"5MiB\"\n[drain]\nceiling_per_s = 0.001\n",
    );
    let filler = "b".repeat(100_000);
    let body = |n: u64| shopify(n, 1, "10.00").replace("Bowl", &filler);
    let (mut yes, mut no) = (Vec::new(), Vec::new());
    while no.len() < 3 {
        let n = 1 + (yes.len() + no.len()) as u64;
        assert!(n < 200, "5 MiB hold no 20 MB");
        let answer = server.post("shopify", JSON, body(n).as_bytes());
        if answer.status == 200 {
            yes.push(n);
        } else {
            let document = problem(&answer, 503, "overloaded");
            assert!(document["detail"].as_str().unwrap().contains("Nothing was kept"));
            assert!(answer.header("retry-after").is_some());
            no.push(n);
        }
    }
    assert!(yes.len() > 5, "{yes:?}");
    // A duplicate that meets the stored key is a yes, full or not.
    let again = server.post("shopify", JSON, body(yes[0]).as_bytes());
    assert_eq!(came_to(&again), (200, "duplicate".to_owned()), "{}", again.text());
    server.kill();
    server.start_again();
    for n in yes {
        let answer = server.get(&format!("/v1/orders/shopify/demo/{n}"));
        assert_eq!(answer.status, 200, "{n}: {}", answer.text());
    }
    for n in no {
        problem(&server.get(&format!("/v1/orders/shopify/demo/{n}")), 404, "not-found");
    }
}

#[test]
fn pitfall_03_an_answer_lost_after_the_commit_creates_nothing_again() {
    // The ledger appends every create it is sent: a second one would show.
    let server = server(
        "[oms]\nkind = \"ledger\"\ntest = true\ncut_every = 2\n[drain]\nceiling_per_s = 2000.0\nretry_base = \"10ms\"\n",
    );
    let body: Vec<_> = (1..=200).map(|n| shopify(n, 1, "10.00")).collect();
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = post_with(&server, "shop-api", &headers, body.join("\n"));
    assert_eq!(answer.json()["durable"], 200, "{}", answer.status);
    server.until("all summarised", |server| {
        (server.view("/v1/status")["buffer"]["ended"]["summarised"] == 200).then_some(())
    });
    assert_eq!(creates(&server), [1; 200]);
    let cut = server.operate(&Request::get("/metrics")).text();
    let unknown = cut.lines().find(|line| {
        line.starts_with("forebay_") && line.contains("\"unknown\"") && !line.ends_with(" 0")
    });
    assert!(unknown.is_some(), "answers were really cut:\n{cut}");
}

#[test]
fn pitfall_04_05_carts_submitted_twice_at_once_have_one_winner_each() {
    const CARTS: u64 = 12;
    const SENDERS: u64 = 6;
    let server = server("[drain]\nceiling_per_s = 2000.0\n");
    // The same cart, and the same number with another cart: both while others are bought.
    let bodies: Vec<_> = (0..CARTS * SENDERS)
        .map(|n| {
            let total = if (n / CARTS).is_multiple_of(2) { "10.00" } else { "11.00" };
            own(&format!("cart-{}", n % CARTS), total)
        })
        .collect();
    let answers = at_once(&server, "own-api", bodies);
    let carts = usize::try_from(CARTS).unwrap();
    let senders = usize::try_from(SENDERS).unwrap();
    assert_eq!(count(&answers, 202, "accepted"), carts, "one winner a cart");
    assert_eq!(count(&answers, 200, "duplicate"), carts * (senders / 2 - 1), "the winner's body");
    for cart in 0..carts {
        let of_cart: Vec<_> = answers.iter().skip(cart).step_by(carts).collect();
        let location = format!("/v1/orders/own-api/demo/cart-{cart}");
        let winner = of_cart.iter().find(|answer| answer.status == 202).unwrap().json();
        for answer in of_cart {
            assert_eq!(answer.header("location"), Some(location.as_str()), "{}", answer.text());
            match answer.status {
                200 => assert_eq!(answer.json()["sequence"], winner["sequence"]),
                409 => assert_eq!(answer.json()["first_fingerprint"], winner["fingerprint"]),
                status => assert_eq!(status, 202),
            }
        }
        let summary = until_summary(&server, &format!("own-api:demo:cart-{cart}"));
        assert_eq!(summary["fingerprint"], winner["fingerprint"], "the winner's content");
    }
    assert_eq!(creates(&server), vec![1; carts]);
}

#[test]
fn pitfall_07_a_repeat_long_after_the_order_was_settled_is_a_duplicate() {
    let mut server = server("");
    let first = post(&server, "shop-hook", shopify(1, 1, "10.00")).json();
    server.until_state("/v1/orders/shop-hook/demo/1", "summarised");
    for _ in 0..2 {
        assert!(server.stop().success(), "{}", server.log());
        server.start_again();
        let answer = post(&server, "shop-hook", shopify(1, 1, "10.00"));
        assert_eq!(came_to(&answer), (200, "duplicate".to_owned()), "{}", answer.text());
        let again = answer.json();
        for member in ["sequence", "accepted_at", "fingerprint"] {
            assert_eq!(again[member], first[member], "{member}");
        }
        assert_eq!(
            (&again["state"], &again["status"]),
            (&json!("summarised"), &json!("confirmed"))
        );
    }
    assert_eq!(creates(&server), [1]);
    // The memory is longer than any sender's retry window (Shopify 4 hours, the report's 2.5 days).
    let file = server.beside().join("forebay.toml");
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["config", "check", "--json", "--config"])
        .arg(file)
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(document["config"]["buffer"]["dedup_horizon"], "30d", "{document}");
}

#[test]
fn pitfall_08_delivery_ids_decide_nothing() {
    let server = undrained();
    let headers = |delivery: &'static str| {
        [
            ("Content-Type", JSON),
            ("X-Shopify-Webhook-Id", delivery),
            ("X-Shopify-Event-Id", "event-1"),
            ("Idempotency-Key", delivery),
        ]
    };
    let first = post_with(&server, "shop-hook", &headers("d-1"), shopify(1, 1, "10.00"));
    assert_eq!(came_to(&first), (200, "accepted".to_owned()));
    let attempt = post_with(&server, "shop-hook", &headers("d-2"), shopify(1, 1, "10.00"));
    assert_eq!(came_to(&attempt), (200, "duplicate".to_owned()), "another attempt");
    let other = post_with(&server, "shop-hook", &headers("d-1"), shopify(2, 1, "10.00"));
    assert_eq!(came_to(&other), (200, "accepted".to_owned()), "another order");
}

#[test]
fn pitfall_09_another_event_of_an_order_is_no_second_summary() {
    // Before the drain took it, and after.
    for (server, outcome) in [(holding("2s"), "amended"), (server(""), "change_after_summary")] {
        let created = shopify_with(1, 1, "10.00", r#""financial_status":"authorized""#);
        let answer = post(&server, "shop-hook", created);
        assert_eq!(came_to(&answer), (200, "accepted".to_owned()));
        if outcome == "change_after_summary" {
            server.until_state("/v1/orders/shop-hook/demo/1", "summarised");
        }
        let topic = [("Content-Type", JSON), ("X-Shopify-Topic", "orders/paid")];
        let paid = post_with(&server, "shop-hook", &topic, shopify(1, 2, "10.00"));
        assert_eq!(came_to(&paid), (200, outcome.to_owned()), "{}", paid.text());
        until_summary(&server, "shop-hook:demo:1");
        assert_eq!(
            post(&server, "shop-hook", shopify(1, 2, "10.00")).json()["outcome"],
            "duplicate"
        );
        assert_eq!(creates(&server), [1]);
    }
}

#[test]
fn pitfall_10_one_number_of_two_stores_is_two_orders() {
    let server = server("");
    let sources = ["north.example.com", "south.example.com"];
    for (source, total) in sources.into_iter().zip(["10.00", "20.00"]) {
        let headers = [("Content-Type", JSON), ("Forebay-Source", source)];
        let body = woocommerce(7, 1, "processing", total);
        let answer = post_with(&server, "woo-hook", &headers, body);
        assert_eq!(came_to(&answer), (200, "accepted".to_owned()), "{}", answer.text());
        assert_eq!(
            answer.header("location"),
            Some(format!("/v1/orders/woo-hook/{source}/7").as_str())
        );
    }
    // Numbers are texts: 7 and 007 are two orders.
    for (id, total) in [("7", "30.00"), ("007", "40.00")] {
        assert_eq!(came_to(&post(&server, "own-api", own(id, total))).0, 202);
    }
    for (identity, total) in [
        ("woo-hook:north.example.com:7", "10"),
        ("woo-hook:south.example.com:7", "20"),
        ("own-api:demo:7", "30"),
        ("own-api:demo:007", "40"),
    ] {
        let summary = until_summary(&server, identity);
        assert_eq!(amount(&summary["grand_total"]).to_string(), total, "{summary}");
    }
}

#[test]
fn pitfall_11_12_13_versions_decide_in_whatever_order_messages_come() {
    let server = holding("2s");
    let shop = |minute, total: &str| shopify(1, minute, total);
    let woo = |minute, total: &str| woocommerce(1, minute, "processing", total);
    type Body<'a> = &'a dyn Fn(u8, &str) -> String;
    let rows: [(&str, Body<'_>); 2] = [("shop-hook", &shop), ("woo-hook", &woo)];
    for (channel, body) in rows {
        // The update first: it is the order. Then what it was updated from, minutes late, twice.
        let headers = [("Content-Type", JSON), ("X-WC-Webhook-Topic", "order.updated")];
        let update = post_with(&server, channel, &headers, body(5, "15.00"));
        assert_eq!(came_to(&update), (200, "accepted".to_owned()), "{}", update.text());
        for _ in 0..2 {
            let create = post(&server, channel, body(1, "11.00"));
            assert_eq!(came_to(&create), (200, "stale".to_owned()), "{}", create.text());
        }
        let newest = post(&server, channel, body(9, "19.00"));
        assert_eq!(came_to(&newest), (200, "amended".to_owned()), "{}", newest.text());
        let late = post(&server, channel, body(6, "16.00"));
        assert_eq!(came_to(&late), (200, "stale".to_owned()), "three minutes older");
    }
    for (channel, body) in rows {
        let summary = until_summary(&server, &format!("{channel}:demo:1"));
        assert_eq!(amount(&summary["grand_total"]).to_string(), "19", "the newest: {summary}");
        let late = post(&server, channel, body(7, "17.00"));
        assert_eq!(came_to(&late), (200, "stale".to_owned()), "after the summary too");
    }
    assert_eq!(creates(&server), [1, 1]);
    assert_eq!(server.view("/v1/exceptions")["exceptions"], json!([]));
}

#[test]
fn pitfall_14_15_a_burst_is_answered_while_the_oms_stands_and_a_gap_refilled_without_doubles() {
    const ORDERS: u64 = 1_000;
    let mut server = server("[drain]\nceiling_per_s = 0.001\n");
    let bodies: Vec<_> = (1..=ORDERS).map(|n| shopify(n, 1, "10.00")).collect();
    // One by one, as a webhook comes, over eight connections; nothing waits for the OMS.
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies
            .chunks(125)
            .map(|chunk| {
                let server = &server;
                scope.spawn(move || {
                    chunk.iter().map(|body| post(server, "shop-hook", body)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(count(&answers, 200, "accepted"), 1_000);
    assert_eq!(server.summaries().len(), 0);
    // The history is posted again, with what was missed: all known but the last.
    server.kill();
    server.start_again();
    let history: Vec<_> = (1..=ORDERS + 1).map(|n| shopify(n, 1, "10.00")).collect();
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = post_with(&server, "shop-hook", &headers, history.join("\n"));
    assert_eq!(answer.status, 200);
    let document = answer.json();
    let outcome = |word: &str| {
        let items = document["items"].as_array().unwrap();
        items.iter().filter(|item| item["outcome"] == word).count()
    };
    assert_eq!((outcome("duplicate"), outcome("accepted")), (1_000, 1));
}

#[test]
fn pitfall_16_orders_that_always_fail_stop_nobody() {
    let server = server("[drain]\nceiling_per_s = 2000.0\nbatch = 50\n");
    let bad = |n: u64| woocommerce(n, 1, "processing", "10.00").replace(r#""currency":"EUR","#, "");
    let batch: Vec<_> = (1..=50).map(bad).collect();
    let headers = [("Content-Type", "application/x-ndjson")];
    assert_eq!(post_with(&server, "woo-hook", &headers, batch.join("\n")).status, 200);
    let mixed: Vec<_> = (51..=150)
        .map(|n| if n % 2 == 0 { bad(n) } else { woocommerce(n, 1, "processing", "10.00") })
        .collect();
    assert_eq!(post_with(&server, "woo-hook", &headers, mixed.join("\n")).status, 200);
    server.until("the good ones", |server| (server.summaries().len() == 50).then_some(()));
    let open = server.until("the bad ones as exceptions", |server| {
        let status = server.view("/v1/status");
        let live = &status["buffer"]["live"];
        (live["exception"] == 100 && live["pending"] == 0 && live["leased"] == 0).then_some(status)
    });
    assert_eq!(open["buffer"]["exceptions"], json!({"unmappable": 100}), "{open}");
    // Later orders pass, and the bad ones are not taken up again.
    assert_eq!(post(&server, "woo-hook", woocommerce(999, 1, "processing", "1.00")).status, 200);
    until_summary(&server, "woo-hook:demo:999");
    assert_eq!(server.summaries().len(), 51);
}

#[test]
fn pitfall_17_18_one_bad_item_condemns_itself_only_and_says_where() {
    let server = server("");
    let orders = [
        xml_order("1", "NEW", "10.00"),
        xml_order("2", "NEW", "20.00").replace("Bowl", "Bowl &#xFFFFFFF; &bad"),
        xml_order("3", "NEW", "30.00"),
    ];
    let body = xml(&orders).replace("<order ", "\n<order ");
    let (api, hook) = (post(&server, "xml-api", &body), post(&server, "xml-hook", &body));
    assert_eq!((api.status, hook.status), (202, 200), "{} {}", api.text(), hook.text());
    let (api, hook) = (api.json(), hook.json());
    for (at, number) in [(0, "1"), (2, "3")] {
        for document in [&api, &hook] {
            let item = &document["items"][at];
            assert_eq!(
                (&item["outcome"], &item["id"]),
                (&json!("accepted"), &json!(number)),
                "{item}"
            );
        }
    }
    let refused = &api["items"][1];
    assert_eq!(refused["code"], 400, "{refused}");
    assert_eq!(refused["problem"]["errors"][0]["line"], 3, "{refused}");
    assert_eq!((&api["durable"], &api["refused"]), (&json!(2), &json!(1)));
    let kept = &hook["items"][1];
    assert_eq!(kept["outcome"], "exception", "{kept}");
    let row = server.view(&format!("/v1/exceptions/{}", kept["sequence"]));
    let bytes = row["body"].as_str().unwrap();
    assert!(bytes.contains(r#"order-no="2""#) && bytes.contains("&bad"), "{row}");
    assert!(!bytes.contains(r#"order-no="1""#) && !bytes.contains(r#"order-no="3""#), "{row}");
    for channel in ["xml-api", "xml-hook"] {
        until_summary(&server, &format!("{channel}:demo:1"));
        until_summary(&server, &format!("{channel}:demo:3"));
        assert!(summary(&server, &format!("{channel}:demo:2")).is_none());
    }
}

#[test]
fn pitfall_20_21_22_23_what_is_kept_is_what_came() {
    let server = server("");
    let odd = "1.0 \u{2028} 😀 ₹ \\u20b9 \\/ é";
    let body = shopify(1, 1, "10.00")
        .replace("Bowl", odd)
        .replace(r#""quantity":1"#, r#""quantity" :  1.0"#)
        .replace(r#""price":"10.00""#, "\"price\":\t10.000");
    let element =
        xml_order("1", "NEW", "10.00").replace("Bowl", "\u{2028} 😀 ₹ &#x20b9; &amp;amp;");
    for (channel, sent, kept) in [
        ("shop-api", body.clone(), body.clone()),
        ("shop-hook", body.clone(), body),
        ("xml-hook", xml(std::slice::from_ref(&element)), element),
    ] {
        assert_eq!(came_to(&post(&server, channel, sent)).1, "accepted");
        until_summary(&server, &format!("{channel}:demo:1"));
        let order = server.view(&format!("/v1/orders/{channel}/demo/1?body=1"));
        assert_eq!(order["body"], kept.as_str(), "{channel}: byte for byte");
    }
}

#[test]
fn pitfall_24_ids_over_2_to_the_53_stay_exact() {
    const ID: &str = "820982911946154508";
    let server = server("");
    let id: u64 = ID.parse().unwrap();
    for (channel, body) in [
        ("shop-hook", shopify(id, 1, "10.00")),
        ("woo-hook", woocommerce(id, 1, "processing", "10.00")),
        ("own-api", own(ID, "10.00").replace(&format!("\"{ID}\""), ID)),
        ("xml-api", xml(&[xml_order(ID, "NEW", "10.00")])),
        ("graphs-api", graphs(&[graph("g", ID, "10")])),
    ] {
        let answer = post(&server, channel, body);
        assert_eq!(answer.json()["id"], ID, "{}", answer.text());
        assert_eq!(
            answer.header("location"),
            Some(format!("/v1/orders/{channel}/demo/{ID}").as_str())
        );
        until_summary(&server, &format!("{channel}:demo:{ID}"));
        // Its neighbour, the same as a double.
        let view = server.get(&format!("/v1/orders/{channel}/demo/820982911946154509"));
        assert_eq!(view.status, 404, "{}", view.text());
    }
    let kept = server.view(&format!("/v1/orders/shop-hook/demo/{ID}?body=1"));
    assert!(kept["body"].as_str().unwrap().contains(ID), "not taken for a card: {kept}");
}

/// What the OMS must have of one order: column of `order_summary` and its value, as text.
struct Sale {
    line: &'static str,
    channel: &'static str,
    body: String,
    columns: Vec<(&'static str, &'static str)>,
}

fn sales() -> Vec<Sale> {
    let sale = |line, channel, body: String, columns: &[(&'static str, &'static str)]| Sale {
        line,
        channel,
        body,
        columns: columns.to_vec(),
    };
    let grand = "grand_total_amount";
    let shop = |n: u64, total: &str| shopify(n, 1, total);
    let woo = |n: u64, total: &str| woocommerce(n, 1, "processing", total);
    vec![
        sale("25: more digits than a double has", "own-api",
            own("1", "12345678901234567.89").replace(r#""12345678901234567.89""#, "12345678901234567.89"),
            &[(grand, "12345678901234567.89")]),
        sale("25: a tenth and two tenths", "own-api",
            own("2", "0.30").replace(r#"{"sku":"BOWL","name":"Bowl","quantity":1,"unit_price":"0.30","amount":"0.30"}"#,
                r#"{"sku":"A","amount":0.1},{"sku":"B","amount":0.2}"#),
            &[(grand, "0.3"), ("difference", "0")]),
        sale("26: 1e2", "shop-hook", shop(3, "1e2").replace(r#""1e2""#, "1e2"), &[(grand, "100")]),
        sale("26: 1.5", "shop-hook", shop(4, "1.5").replace(r#""1.5""#, "1.5"), &[(grand, "1.5")]),
        sale("28: a unit price of many decimals", "woo-hook",
            woo(5, "10.00").replace(r#""quantity":1"#, r#""quantity":3,"price":3.3333333333333335"#),
            &[(grand, "10"), ("difference", "0"), ("total_product_amount", "10")]),
        sale("29: a number that is an integer", "woo-hook",
            woo(6, "10.00").replace(r#""number":"6""#, r#""number":1006"#), &[("order_number", "1006")]),
        sale("29: a number that is a text", "woo-hook",
            woo(7, "10.00").replace(r#""number":"7""#, r#""number":"W-1007/a""#), &[("order_number", "W-1007/a")]),
        sale("31: a cent of difference", "shop-hook",
            shop(8, "92.00").replace(r#""total_price":"92.00""#, r#""total_price":"92.01""#),
            &[(grand, "92.01"), ("difference", "0.01"), ("oddities", r#"["totals_differ"]"#)]),
        sale("32: yen", "shop-hook", shop(9, "1500").replace("EUR", "JPY"),
            &[(grand, "1500"), ("currency_iso_code", "JPY"), ("oddities", "[]")]),
        sale("33: a fraction of a yen", "shop-hook", shop(10, "16.24").replace("EUR", "JPY"),
            &[(grand, "16.24"), ("oddities", r#"["fraction_beyond_currency"]"#)]),
        sale("34: the buyer's currency", "shop-hook",
            shopify_with(11, 1, "10.00", r#""financial_status":"paid","presentment_currency":"USD","total_price_usd":"11.70","total_price_set":{"shop_money":{"amount":"10.00","currency_code":"EUR"},"presentment_money":{"amount":"11.70","currency_code":"USD"}}"#),
            &[(grand, "10"), ("currency_iso_code", "EUR")]),
        sale("35: a discount of 100 %", "woo-hook",
            woo(12, "0.00").replace(r#""subtotal":"0.00""#, r#""subtotal":"20.00""#),
            &[(grand, "0"), ("stated_grand_total", "0")]),
        sale("36: quantity and subtotal zero", "woo-hook",
            woo(13, "0.00").replace(r#""quantity":1"#, r#""quantity":0"#), &[(grand, "0")]),
        sale("37: no lines", "own-api",
            r#"{"id":"14","currency":"EUR","placed_at":"2026-11-27T09:00:00Z","shopper":{"email":"a@example.com"},"lines":[],"totals":{"grand":"10.00"}}"#.to_owned(),
            &[(grand, "10"), ("difference", "10"), ("oddities", r#"["no_lines","totals_differ"]"#)]),
        sale("38: a customer that is null", "shop-hook",
            shopify_with(15, 1, "10.00", r#""financial_status":"paid","customer":null"#), &[(grand, "10"), ("oddities", "[]")]),
        sale("39: no e-mail", "shop-hook",
            shop(16, "10.00").replace("shopper@example.com", ""), &[(grand, "10"), ("oddities", r#"["no_email"]"#)]),
        sale("39: e-mail null", "shop-hook",
            shop(17, "10.00").replace(r#""shopper@example.com""#, "null"), &[(grand, "10"), ("oddities", r#"["no_email"]"#)]),
        sale("40: a time in UTC without a zone", "woo-hook", woo(18, "10.00"),
            &[("ordered_date_ms", "1795770000000")]),
        sale("40: a time with a zone", "own-api",
            own("19", "10.00").replace("09:00:00Z", "09:00:00+09:00"),
            &[("ordered_date_ms", "1795737600000"), ("ordered_date_text", "2026-11-27T09:00:00+09:00")]),
        sale("40: a time nobody can place", "own-api",
            own("20", "10.00").replace("09:00:00Z", "09:00:00"),
            &[("ordered_date_ms", "NULL"), ("ordered_date_text", "2026-11-27T09:00:00"), ("oddities", r#"["no_ordered_instant"]"#)]),
        sale("41, 42: text is kept as it is", "own-api",
            own("21", "10.00").replace(r#""email":"#, r#""name":"Zoë 🛒👩‍👩‍👧 &amp; Søn","email":"#),
            &[("shopper_name", "Zoë 🛒👩‍👩‍👧 &amp; Søn")]),
        sale("41, 42: XML is decoded once", "xml-api",
            xml(&[xml_order("22", "NEW", "10.00").replace("<customer>", "<customer><customer-name>🛒 A &amp;amp; B</customer-name>")]),
            &[("shopper_name", "🛒 A &amp; B")]),
    ]
}

#[test]
fn pitfall_25_to_42_odd_sales_have_the_right_values_in_the_oms() {
    let server = server("[drain]\nceiling_per_s = 1000.0\n");
    let sales = sales();
    let mut posted = Vec::new();
    for sale in &sales {
        let answer = post(&server, sale.channel, &sale.body);
        assert_eq!(came_to(&answer).1, "accepted", "{}: {}", sale.line, answer.text());
        posted.push(answer.header("location").unwrap().to_owned());
    }
    for (sale, location) in sales.iter().zip(&posted) {
        let view = server.until(sale.line, |server| {
            let view = server.get(location).json();
            matches!(view["state"].as_str(), Some("summarised" | "exception")).then_some(view)
        });
        assert_eq!(view["state"], "summarised", "{}: {view}", sale.line);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let oms = Connection::open_with_flags(server.data_dir().join("oms.sqlite"), flags).unwrap();
    for (sale, location) in sales.iter().zip(&posted) {
        let identity = location.trim_start_matches("/v1/orders/").replace('/', ":");
        for (column, expected) in &sale.columns {
            let sql = format!(
                "SELECT coalesce(CAST({column} AS TEXT), 'NULL') FROM order_summary WHERE external_reference_identifier = ?1"
            );
            let found: String = oms.query_row(&sql, [&identity], |row| row.get(0)).unwrap();
            // Amounts are compared as numbers: 10 and 10.00 are one, 10 and 10.01 are not.
            let decimal = |text: &str| text.parse::<rust_decimal::Decimal>().ok();
            let equal = match (decimal(expected), decimal(&found)) {
                (Some(expected), Some(found)) => expected == found,
                _ => found == *expected,
            };
            assert!(equal, "{}: {column} is {found}, not {expected}", sale.line);
        }
    }
}

#[test]
fn pitfall_50_long_orders_are_orders() {
    let server = server("");
    let line = r#"{"id":1,"title":"Bowl","sku":"BOWL","quantity":1,"price":"1.00"}"#;
    for (id, lines) in [(20_u64, 20_usize), (64, 64), (65, 65), (1_114, 1_114), (2_000, 2_000)] {
        let total = format!("{lines}.00");
        let good = shopify(id, 1, &total);
        let start = good.find(r#""line_items":["#).unwrap();
        let body = format!("{}\"line_items\":[{}]}}", &good[..start], vec![line; lines].join(","));
        let answer = post(&server, "shop-hook", body);
        assert_eq!(came_to(&answer), (200, "accepted".to_owned()), "{lines}: {}", answer.text());
        let identity = format!("shop-hook:demo:{id}");
        let summary = until_summary(&server, &identity);
        assert_eq!(amount(&summary["grand_total"]).to_string(), amount(&json!(total)).to_string());
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let oms = Connection::open_with_flags(server.data_dir().join("oms.sqlite"), flags).unwrap();
        let sql = "SELECT count(*) FROM order_item_summary JOIN order_summary ON order_summary.id = order_summary_id \
                   WHERE external_reference_identifier = ?1 AND type = 'product'";
        let found: i64 = oms.query_row(sql, [&identity], |row| row.get(0)).unwrap();
        assert_eq!(found, lines as i64, "not one line is missing");
    }
}

#[test]
fn the_table_has_every_line_once_and_names_tests_that_are_there() {
    let files = [
        ("", include_str!("pitfalls.rs")),
        ("answers::", include_str!("answers.rs")),
        ("bad_input::", include_str!("bad_input.rs")),
    ];
    let rows: Vec<_> = files[0].1.lines().filter_map(|line| line.strip_prefix("//! | ")).collect();
    let mut lines = Vec::new();
    for row in rows.iter().skip(1) {
        let numbers = row.split(" |").next().unwrap();
        for part in numbers.split(", ") {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            lines.extend(from.parse::<u8>().unwrap()..=to.parse().unwrap());
        }
        let held_by = row.split(" | ").nth(2).unwrap();
        for name in held_by.split('`').skip(1).step_by(2) {
            let (module, name) = name.split_at(name.find("::").map_or(0, |at| at + 2));
            if let Some((_, text)) = files.iter().find(|(file, _)| *file == module)
                && (name.starts_with("pitfall_") || !module.is_empty())
            {
                assert!(text.contains(&format!("fn {name}")), "{module}{name}");
            }
        }
    }
    assert_eq!(lines, (1..=51).collect::<Vec<_>>());
}
