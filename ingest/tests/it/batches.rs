//! Bodies of several orders: one answer an item, in their order.

use serde_json::Value;

use crate::orders::{shopify, xml, xml_order};
use crate::support::{TestDoor, check_problem, gzip};

fn codes(batch: &Value) -> Vec<u64> {
    let items = batch["items"].as_array().unwrap();
    for (at, item) in items.iter().enumerate() {
        assert_eq!(item["index"], at);
    }
    items.iter().map(|item| item["code"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_multi_order_document_is_answered_item_by_item() {
    let door = TestDoor::open();
    let orders = [
        xml_order("b1", "NEW", "10.00"),
        xml_order("b2", "FAILED", "10.00"),
        xml_order("b1", "NEW", "10.00"),
        xml_order("b1", "NEW", "12.00"),
        xml_order("b3", "CREATED", "10.00"),
    ];
    let reply = door.post("b2c-commerce-xml", xml(&orders)).await;
    assert_eq!(reply.status, 202);
    let batch = reply.json();
    assert_eq!(codes(&batch), [202, 422, 200, 409, 202]);
    assert_eq!((&batch["durable"], &batch["refused"]), (&4.into(), &1.into()));
    let items = &batch["items"];
    assert_eq!(items[0]["outcome"], "accepted");
    assert_eq!(items[0]["location"], "/v1/orders/b2c-commerce-xml/demo/b1");
    check_problem(&items[1]["problem"], 422, "not-an-order");
    assert_eq!(items[2]["outcome"], "duplicate");
    check_problem(&items[3]["problem"], 409, "conflict");
    assert_eq!(items[4]["outcome"], "held");

    let hook = door.post("b2c-commerce-xml-hook", xml(&orders)).await;
    assert_eq!(hook.status, 200);
    let batch = hook.json();
    assert_eq!(codes(&batch), [200; 5]);
    assert_eq!((&batch["durable"], &batch["refused"]), (&5.into(), &0.into()));
    let words: Vec<_> =
        (0..5).map(|n| batch["items"][n]["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(words, ["accepted", "recorded", "duplicate", "conflict_recorded", "held"]);
    door.shut().await;
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_kept_has_the_status_of_its_first() {
    let door = TestDoor::open();
    let orders = [xml_order("n1", "FAILED", "1.00"), xml_order("n2", "REPLACED", "1.00")];
    let reply = door.post("b2c-commerce-xml", xml(&orders)).await;
    assert_eq!(reply.status, 422);
    assert_eq!((&reply.json()["durable"], &reply.json()["refused"]), (&0.into(), &2.into()));
    door.shut().await;
}

#[tokio::test]
async fn arrays_and_ndjson_are_lists_even_of_one() {
    let door = TestDoor::open();
    let (one, two) = (shopify(21, 1, "1.00"), shopify(22, 1, "1.00"));
    let array = door.post("shopify-api", format!("[{one},{two}]")).await;
    assert_eq!((array.status, codes(&array.json())), (202, vec![202, 202]));
    let ndjson = [("content-type", "application/x-ndjson")];
    let lines = door.post_with("shopify-api", &ndjson, format!("{one}\n{two}\n")).await;
    assert_eq!((lines.status, codes(&lines.json())), (202, vec![200, 200]));
    let single = door.post("shopify-api", format!(" [{}]", shopify(23, 1, "1.00"))).await;
    assert_eq!(codes(&single.json()), [202]);
    let single = door.post_with("shopify-api", &ndjson, shopify(24, 1, "1.00")).await;
    assert_eq!(codes(&single.json()), [202]);
    door.shut().await;
}

#[tokio::test]
async fn one_bad_item_condemns_only_itself() {
    let door = TestDoor::open();
    let bad = r#"{"id":31,"total_price":"1,000.00"}"#;
    let body = format!("{}\n{bad}\n{}\n", shopify(30, 1, "1.00"), shopify(32, 1, "1.00"));
    let ndjson = [("content-type", "application/x-ndjson")];
    let reply = door.post_with("shopify-api", &ndjson, &body).await;
    let batch = reply.json();
    assert_eq!((reply.status, codes(&batch)), (202, vec![202, 400, 202]));
    let problem = &batch["items"][1]["problem"];
    check_problem(problem, 400, "unreadable");
    assert_eq!(problem["errors"][0]["line"], 2, "{problem}");
    assert_eq!(problem["errors"][0]["pointer"], "/total_price");

    let hook = door.post_with("shopify", &ndjson, &body).await;
    let batch = hook.json();
    assert_eq!((hook.status, codes(&batch)), (200, vec![200, 200, 200]));
    assert_eq!(batch["items"][1]["outcome"], "exception");
    let row = batch["items"][1]["sequence"].as_u64().unwrap();
    let kept = forebay_buffer::Buffer::body(&door.buffer, row).await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&kept).unwrap().trim(), bad, "exactly its own bytes are kept");
    door.shut().await;
}

#[tokio::test]
async fn many_orders_in_one_body_share_the_budget() {
    // Fewer places than items: the window of one batch must fit in.
    let door = TestDoor::budgeted(140, 64 << 20, |_| ());
    let orders: Vec<_> = (0..1000).map(|n| xml_order(&format!("m{n}"), "NEW", "1.00")).collect();
    let body = gzip(xml(&orders).as_bytes());
    let headers = [("content-encoding", "gzip"), ("content-type", "text/xml; charset=utf-8")];
    let reply = door.post_with("b2c-commerce-xml", &headers, body).await;
    let batch = reply.json();
    assert_eq!((reply.status, &batch["durable"]), (202, &1000.into()));
    for (n, item) in batch["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!(item["id"], format!("m{n}"));
    }
    door.shut().await;
}

#[tokio::test]
async fn the_order_of_a_body_is_the_order_of_its_deliveries() {
    let door = TestDoor::open();
    let versions: Vec<_> = (0..50).map(|n| shopify(40, n, &format!("{n}.00"))).collect();
    let reply = door.post("shopify-api", format!("[{}]", versions.join(","))).await;
    let batch = reply.json();
    assert_eq!(batch["items"][0]["outcome"], "accepted");
    assert!((1..50).all(|n| batch["items"][n]["outcome"] == "amended"), "{batch}");
    door.shut().await;
}

#[tokio::test]
async fn unreadable_neighbours_of_a_webhook_share_one_exception() {
    let door = TestDoor::open();
    let (first, last) = (shopify(50, 1, "1.00"), shopify(51, 1, "1.00"));
    let body = format!("{first}\n{{\"id\":,}}\n{{\"id\":!}}\n{last}\nnot json either\n");
    let ndjson = [("content-type", "application/x-ndjson")];
    let reply = door.post_with("shopify", &ndjson, body).await;
    let batch = reply.json();
    assert_eq!((reply.status, &batch["durable"]), (200, &5.into()), "{batch}");
    let rows = forebay_buffer::Buffer::exceptions(&door.buffer, 0, 10).await.unwrap();
    assert_eq!(rows.len(), 2, "{rows:?}");
    assert_eq!(batch["items"][1]["sequence"], batch["items"][2]["sequence"]);
    assert_eq!((&batch["items"][1]["index"], &batch["items"][2]["index"]), (&1.into(), &2.into()));
    let mut kept = Vec::new();
    for row in rows {
        let bytes = forebay_buffer::Buffer::body(&door.buffer, row.id).await.unwrap().unwrap();
        kept.push(String::from_utf8(bytes.to_vec()).unwrap().trim().to_owned());
    }
    assert_eq!(kept, ["{\"id\":,}\n{\"id\":!}", "not json either"]);
    door.shut().await;
}
