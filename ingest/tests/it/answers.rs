//! The whole answer table, for both callers.

use crate::orders::{shopify, shopify_with, woocommerce, xml, xml_order};
use crate::support::TestDoor;

#[tokio::test]
async fn a_first_order_is_accepted_with_everything_the_sender_needs() {
    let door = TestDoor::open();
    for (channel, status) in [("shopify-api", 202), ("shopify", 200)] {
        let reply = door.post(channel, shopify(1001, 1, "10.00")).await;
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("content-type"), "application/json");
        let location = format!("/v1/orders/{channel}/demo/1001");
        assert_eq!(reply.header("location"), location);
        assert_eq!(reply.header("idempotency-replayed"), "");
        let body = reply.json();
        for (member, value) in [
            ("outcome", "accepted"),
            ("channel", channel),
            ("source", "demo"),
            ("id", "1001"),
            ("number", "#1001"),
            ("state", "pending"),
            ("status", "received"),
            ("durability", "memory"),
            ("location", &location),
        ] {
            assert_eq!(body[member], value, "{member}");
        }
        assert!(body["sequence"].as_u64().is_some_and(|sequence| sequence > 0));
        assert_eq!(body["fingerprint"].as_str().map(str::len), Some(32));
        let at = body["accepted_at"].as_str().unwrap();
        assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    }
    door.shut().await;
}

#[tokio::test]
async fn the_same_again_is_answered_as_the_first_and_marked() {
    let door = TestDoor::open();
    for (channel, first_status) in [("shopify-api", 202), ("shopify", 200)] {
        let first = door.post(channel, shopify(7, 1, "10.00")).await;
        assert_eq!(first.status, first_status);
        // Other blanks, same content.
        let again = door.post(channel, shopify(7, 1, "10.00").replace(',', " ,\n ")).await;
        assert_eq!((again.status, again.word("outcome")), (200, "duplicate"));
        assert_eq!(again.header("idempotency-replayed"), "true");
        let (first, again) = (first.json(), again.json());
        for member in ["sequence", "accepted_at", "fingerprint", "location", "id", "number"] {
            assert_eq!(first[member], again[member], "{member}");
        }
    }
    door.shut().await;
}

#[tokio::test]
async fn versions_decide_between_amended_and_stale() {
    let door = TestDoor::open();
    for (channel, _) in [("shopify-api", 202), ("shopify", 200)] {
        door.post(channel, shopify(8, 5, "10.00")).await;
        let newer = door.post(channel, shopify(8, 9, "12.00")).await;
        assert_eq!((newer.status, newer.word("outcome")), (200, "amended"));
        let older = door.post(channel, shopify(8, 2, "11.00")).await;
        assert_eq!((older.status, older.word("outcome")), (200, "stale"));
    }
    door.shut().await;
}

#[tokio::test]
async fn a_conflict_is_409_for_a_program_and_200_for_a_webhook_and_kept_for_both() {
    let door = TestDoor::open();
    for (channel, hook) in [("b2c-commerce-xml", false), ("b2c-commerce-xml-hook", true)] {
        let first = door.post(channel, xml(&[xml_order("c/1", "NEW", "10.00")])).await;
        let again = door.post(channel, xml(&[xml_order("c/1", "NEW", "12.00")])).await;
        if hook {
            assert_eq!((again.status, again.word("outcome")), (200, "conflict_recorded"));
        } else {
            let problem = again.problem(409, "conflict");
            assert_eq!(again.header("location"), first.word("location"));
            assert_eq!(again.header("location"), "/v1/orders/b2c-commerce-xml/demo/c%2F1");
            assert_eq!(problem["first_fingerprint"], first.json()["fingerprint"]);
            assert_ne!(problem["first_fingerprint"], problem["fingerprint"]);
            assert_eq!(problem["differing"], serde_json::json!(["/product-lineitems", "/totals"]));
        }
        let look = door.get(&format!("/v1/orders/{channel}/demo/c%2F1")).await.json();
        assert_eq!(look["exceptions"].as_array().map(Vec::len), Some(1), "{look}");
        assert_eq!(look["state"], "pending", "the first stands");
    }
    door.shut().await;
}

#[tokio::test]
async fn a_json_conflict_names_members_and_no_values() {
    let door = TestDoor::open();
    door.post("shopify-api", shopify(9, 5, "10.00")).await;
    let other = shopify(9, 5, "77.31").replace("\"name\"", "\"note\":\"secret words\",\"name\"");
    let reply = door.post("shopify-api", other).await;
    let problem = reply.problem(409, "conflict");
    let expected = serde_json::json!(["/line_items", "/note", "/total_price"]);
    assert_eq!(problem["differing"], expected);
    assert!(!problem.to_string().contains("77.31") && !problem.to_string().contains("secret"));
    door.shut().await;
}

#[tokio::test]
async fn a_held_order_waits_and_a_newer_version_releases_it() {
    let door = TestDoor::open();
    for (channel, status) in [("shopify-api", 202), ("shopify", 200)] {
        let unpaid = shopify_with(10, 1, "10.00", r#""financial_status":"pending""#);
        let held = door.post(channel, unpaid).await;
        assert_eq!(
            (held.status, held.word("outcome"), held.word("state")),
            (status, "held", "held")
        );
        let paid = door.post(channel, shopify(10, 2, "10.00")).await;
        assert_eq!(
            (paid.status, paid.word("outcome"), paid.word("state")),
            (200, "amended", "pending")
        );
    }
    door.shut().await;
}

#[tokio::test]
async fn cancels_before_and_after_the_order() {
    let door = TestDoor::open();
    let cancelled = r#""financial_status":"voided","cancelled_at":"2026-11-25T10:03:00Z""#;
    for (channel, status) in [("shopify-api", 202), ("shopify", 200)] {
        door.post(channel, shopify(11, 1, "10.00")).await;
        let after = door.post(channel, shopify_with(11, 3, "10.00", cancelled)).await;
        assert_eq!((after.status, after.word("outcome")), (200, "cancelled"));
        assert_eq!(after.word("status"), "needs attention");
        let before = door.post(channel, shopify_with(12, 3, "10.00", cancelled)).await;
        assert_eq!((before.status, before.word("outcome")), (status, "tombstone"));
    }
    door.shut().await;
}

#[tokio::test]
async fn what_is_no_order_is_422_for_a_program_and_recorded_for_a_webhook() {
    let door = TestDoor::open();
    let test = shopify_with(13, 1, "10.00", r#""financial_status":"paid","test":true"#);
    door.post("shopify-api", &test).await.problem(422, "not-an-order");
    door.get("/v1/orders/shopify-api/demo/13").await.problem(404, "not-found");
    let recorded = door.post("shopify", &test).await;
    assert_eq!((recorded.status, recorded.word("outcome")), (200, "recorded"));
    assert_eq!(recorded.header("location"), "", "it occupies no key");
    door.get("/v1/orders/shopify/demo/13").await.problem(404, "not-found");
    let draft = woocommerce(14, "10.00").replace("processing", "auto-draft");
    door.post("woocommerce-api", &draft).await.problem(422, "not-an-order");
    let failed = woocommerce(14, "10.00").replace("processing", "failed");
    let problem = door.post("woocommerce-api", &failed).await.problem(422, "not-an-order");
    assert!(problem["detail"].as_str().unwrap().contains("was kept as recorded"), "{problem}");
    assert_eq!(door.post("woocommerce", &draft).await.word("outcome"), "recorded");
    door.shut().await;
}

#[tokio::test]
async fn only_an_id_must_be_fetched() {
    let door = TestDoor::open();
    door.post("woocommerce-api", r#"{"id":15}"#).await.problem(422, "fetch-needed");
    let kept = door.post("woocommerce", r#"{"id":15}"#).await;
    assert_eq!(
        (kept.status, kept.word("outcome"), kept.word("state")),
        (200, "exception", "exception")
    );
    let rows = forebay_buffer::Buffer::exceptions(&door.buffer, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].category, forebay_buffer::ExceptionCategory::FetchNeeded);
    assert!(rows[0].reason.contains("fetch"), "{}", rows[0].reason);
    door.shut().await;
}

#[tokio::test]
async fn woocommerces_ping_gets_exactly_200() {
    let door = TestDoor::open();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    for channel in ["woocommerce", "woocommerce-api"] {
        let reply = door.post_with(channel, &form, "webhook_id=12").await;
        assert_eq!((reply.status, reply.word("outcome")), (200, "recorded"), "{reply:?}");
    }
    assert_eq!(door.post_with("woocommerce", &form, "webhook_id=12").await.status, 200);
    let other = door.post_with("woocommerce-api", &form, "a=b").await;
    other.problem(400, "unreadable");
    let hook = door.post_with("woocommerce", &form, "a=b").await;
    assert_eq!((hook.status, hook.word("outcome")), (200, "exception"));
    door.post_with("shopify-api", &form, "webhook_id=1")
        .await
        .problem(415, "unsupported-media-type");
    door.shut().await;
}

#[tokio::test]
async fn the_idempotency_key_is_echoed_and_decides_nothing() {
    let door = TestDoor::open();
    let header = [("idempotency-key", "\"k-1\"")];
    for id in [16, 17] {
        let reply = door.post_with("shopify-api", &header, shopify(id, 1, "10.00")).await;
        assert_eq!((reply.status, reply.word("outcome")), (202, "accepted"));
        assert_eq!(reply.header("idempotency-key"), "\"k-1\"");
    }
    let refused = door.post_with("shopify-api", &header, "{").await;
    assert_eq!(refused.header("idempotency-key"), "\"k-1\"");
    refused.problem(400, "unreadable");
    door.shut().await;
}

#[tokio::test]
async fn marks_reach_the_buffer() {
    let door = TestDoor::with(|config| {
        let hold = Some(std::time::Duration::from_secs(1800));
        config.channels.iter_mut().for_each(|channel| channel.hold_for = hold);
    });
    let headers = [("forebay-synthetic", "true"), ("forebay-source", "shop.example.com")];
    let reply = door.post_with("shopify", &headers, shopify(18, 1, "10.00")).await;
    assert_eq!(reply.word("source"), "shop.example.com");
    let key = forebay_order::OrderKey::new("shopify", "shop.example.com", "18");
    let view = forebay_buffer::Buffer::order(&door.buffer, &key).await.unwrap().unwrap();
    assert!(view.synthetic);
    let wait = view.not_before_ms.unwrap() - view.accepted_at_ms;
    assert!((1_799_000..=1_801_000).contains(&wait), "{wait}");
    // The same id of another source is another order.
    let demo = door.post("shopify", shopify(18, 1, "10.00")).await;
    assert_eq!((demo.word("source"), demo.word("outcome")), ("demo", "accepted"));
    door.shut().await;
}
