//! Looking an order up, and paths that are not there.

use crate::orders::{shopify, xml, xml_order};
use crate::support::TestDoor;

#[tokio::test]
async fn an_order_is_looked_up_without_anything_personal() {
    let door = TestDoor::open();
    door.post("shopify", shopify(820_982_911_946_154_508, 1, "10.00")).await;
    let reply = door.get("/v1/orders/shopify/demo/820982911946154508").await;
    let look = reply.json();
    assert_eq!(reply.status, 200);
    for (member, value) in [
        ("channel", "shopify"),
        ("source", "demo"),
        ("id", "820982911946154508"),
        ("number", "#820982911946154508"),
        ("state", "pending"),
        ("status", "received"),
    ] {
        assert_eq!(look[member], value);
    }
    assert_eq!(look["exceptions"], serde_json::json!([]));
    assert!(look["hold"].is_null() && look["settled_at"].is_null() && look["summary_id"].is_null());
    let members: Vec<_> = look.as_object().unwrap().keys().cloned().collect();
    assert_eq!(members.len(), 15, "{members:?}");
    let text = look.to_string().to_lowercase();
    assert!(!text.contains("shopper@") && !text.contains("example"), "{text}");
    door.shut().await;
}

#[tokio::test]
async fn odd_ids_are_safe_in_paths() {
    let door = TestDoor::open();
    for (plain, escaped, encoded) in [
        ("#1001", "#1001", "%231001"),
        ("a/b", "a/b", "a%2Fb"),
        ("ünï 🛒", "ünï 🛒", "%C3%BCn%C3%AF%20%F0%9F%9B%92"),
        ("a:b%2F?c", "a:b%2F?c", "a%3Ab%252F%3Fc"),
        ("<&\"", "&lt;&amp;&quot;", "%3C&%22"),
        ("..", "..", ".."),
    ] {
        let reply = door.post("b2c-commerce-xml", xml(&[xml_order(escaped, "NEW", "1.00")])).await;
        assert_eq!((reply.status, reply.word("id")), (202, plain));
        assert_eq!(reply.header("location"), format!("/v1/orders/b2c-commerce-xml/demo/{encoded}"));
        let look = door.get(reply.header("location")).await;
        assert_eq!((look.status, look.word("id")), (200, plain));
    }
    door.shut().await;
}

#[tokio::test]
async fn unknown_orders_paths_and_methods() {
    let door = TestDoor::open();
    door.get("/v1/orders/shopify/demo/1").await.problem(404, "not-found");
    door.get("/v1/orders/shopify/demo/%FF").await.problem(400, "bad-request");
    door.get("/v1/orders/shopify/demo").await.problem(404, "not-found");
    door.get("/").await.problem(404, "not-found");
    door.post("nobody", "{}").await.problem(404, "unknown-channel");
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let reply = door.send(method, "/v1/channels/shopify/orders", &[], b"").await;
        reply.problem(405, "bad-request");
        assert_eq!(reply.header("allow"), "POST");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let reply = door.send(method, "/v1/orders/shopify/demo/1", &[], b"").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "GET"));
    }
    door.shut().await;
}
