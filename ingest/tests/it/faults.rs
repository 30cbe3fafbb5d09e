//! Refusals for now: the sender's quota, our overload, a buffer that is full, closing, failing or broken.

use std::num::NonZeroU32;

use forebay_buffer::{Buffer, Pace};
use forebay_ingest::{BindError, Door, DoorConfig, Quota, SourceRule};

use crate::orders::{shopify, xml, xml_order};
use crate::support::{Fault, TestDoor, until};

#[tokio::test]
async fn a_buffer_that_cannot_keep_an_order_is_503_for_everybody() {
    let door = TestDoor::open();
    for (fault, word) in [
        (Fault::Full, "overloaded"),
        (Fault::Closing, "closing"),
        (Fault::Failed, "unknown-outcome"),
    ] {
        door.buffer.fail(fault);
        for channel in ["shopify-api", "shopify"] {
            let problem = door.post(channel, shopify(50, 1, "1.00")).await.problem(503, word);
            assert!(problem["retry_after"].is_u64());
            let says = problem["detail"].as_str().unwrap();
            let unknown = says.contains("unknown, send the same again with the same key");
            assert_eq!(unknown, fault == Fault::Failed, "{says}");
            assert!(!says.contains("input/output"), "inner trouble stays inside: {says}");
        }
        let batch = [xml_order("x1", "NEW", "1.00"), xml_order("x2", "NEW", "1.00")];
        let reply = door.post("b2c-commerce-xml", xml(&batch)).await;
        assert_eq!(reply.status, 503, "no 2xx for a maybe");
        assert_ne!(reply.header("retry-after"), "");
        door.buffer.fail(Fault::None);
    }
    door.shut().await;
}

#[tokio::test]
async fn a_look_at_a_broken_buffer_is_503() {
    let door = TestDoor::open();
    door.buffer.fail(Fault::Failed);
    door.get("/v1/orders/shopify/demo/1").await.problem(503, "overloaded");
    door.buffer.fail(Fault::None);
    door.shut().await;
}

#[tokio::test]
async fn a_handler_that_panics_ends_only_its_request() {
    let door = TestDoor::open();
    let mut client = door.connect().await;
    let order = |id| {
        let body = shopify(id, 1, "1.00");
        crate::support::request("POST", "/v1/channels/shopify-api/orders", &[], body.as_bytes())
    };
    door.buffer.fail(Fault::Panic);
    client.write(&order(51)).await;
    client.reply().await.problem(500, "unknown-outcome");
    door.buffer.fail(Fault::None);
    client.write(&order(51)).await;
    assert_eq!(client.reply().await.word("outcome"), "accepted", "on the same connection");
    door.shut().await;
}

#[tokio::test]
async fn overload_is_refused_at_once_and_says_when_to_come_back() {
    let door = TestDoor::budgeted(2, 1 << 20, |_| ());
    door.buffer.pretend(Pace { pending: 4000, drained_per_s: 40.0 });
    door.buffer.close_gate();
    let mut inside = Vec::new();
    for id in [60, 61] {
        let mut client = door.connect().await;
        let body = shopify(id, 1, "1.00");
        let path = "/v1/channels/shopify/orders";
        client.write(&crate::support::request("POST", path, &[], body.as_bytes())).await;
        inside.push(client);
    }
    door.buffer.until_waiting(2).await;
    let problem = door.post("shopify", shopify(62, 1, "1.00")).await.problem(503, "overloaded");
    let seconds = problem["retry_after"].as_u64().unwrap();
    assert!((1..=3).contains(&seconds), "room comes with the next syncs: {seconds}");
    door.buffer.open_gate();
    for mut client in inside {
        assert_eq!(client.reply().await.status, 200);
    }
    door.shut().await;
}

#[tokio::test]
async fn only_a_full_disk_waits_for_the_backlog() {
    let door = TestDoor::open();
    door.buffer.pretend(Pace { pending: 4000, drained_per_s: 40.0 });
    for (fault, word, seconds) in [
        (Fault::Full, "overloaded", 80..=120),
        (Fault::Closing, "closing", 1..=3),
        (Fault::Failed, "unknown-outcome", 1..=3),
    ] {
        door.buffer.fail(fault);
        let problem = door.post("shopify", shopify(63, 1, "1.00")).await.problem(503, word);
        assert!(seconds.contains(&problem["retry_after"].as_u64().unwrap()), "{problem}");
    }
    door.buffer.fail(Fault::None);
    door.shut().await;
}

#[tokio::test]
async fn bytes_count_against_the_budget_as_they_come_and_as_they_unpack() {
    let door = TestDoor::budgeted(10, 1 << 20, |_| ());
    let orders: Vec<_> = (0..2000).map(|n| xml_order(&format!("w{n}"), "NEW", "1.00")).collect();
    let body = xml(&orders);
    assert!(body.len() > 1 << 20);
    door.post("b2c-commerce-xml", &body).await.problem(503, "overloaded");
    let packed = crate::support::gzip(body.as_bytes());
    let headers = [("content-encoding", "gzip")];
    door.post_with("b2c-commerce-xml", &headers, packed).await.problem(503, "overloaded");
    door.shut().await;
}

#[tokio::test]
async fn a_sender_over_its_quota_is_429_with_its_limits() {
    let n = |n| NonZeroU32::new(n).unwrap();
    let door = TestDoor::with(|config| {
        for channel in &mut config.channels {
            if channel.name.starts_with("b2c") {
                channel.quota = Some(Quota { per_s: n(1), burst: n(3) });
            }
        }
    });
    for channel in ["b2c-commerce-xml", "b2c-commerce-xml-hook"] {
        let three: Vec<_> = (0..3).map(|n| xml_order(&format!("q{n}"), "NEW", "1.00")).collect();
        assert!(door.post(channel, xml(&three)).await.status < 300);
        let reply = door.post(channel, xml(&three[..1])).await;
        reply.problem(429, "quota");
        assert_eq!(reply.header("ratelimit-policy"), format!("\"{channel}\";q=3;w=3"));
        assert_eq!(
            reply.header("ratelimit"),
            format!("\"{channel}\";r=0;t={}", reply.header("retry-after"))
        );
    }
    // Another channel's senders feel nothing of it; `shut` sends one.
    door.shut().await;
}

#[tokio::test]
async fn a_body_that_could_never_pass_the_quota_is_413() {
    let n = |n| NonZeroU32::new(n).unwrap();
    let door = TestDoor::with(|config| {
        config.channels[1].quota = Some(Quota { per_s: n(1), burst: n(2) });
        assert_eq!(config.channels[1].name, "b2c-commerce-xml");
    });
    let five: Vec<_> = (0..5).map(|n| xml_order(&format!("q{n}"), "NEW", "1.00")).collect();
    door.post("b2c-commerce-xml", xml(&five)).await.problem(413, "too-large");
    door.shut().await;
}

#[tokio::test]
async fn many_posts_of_one_new_key_are_one_order() {
    let door = TestDoor::open();
    door.buffer.close_gate();
    let posts: Vec<_> = (0..64)
        .map(|_| {
            let address = door.address;
            tokio::spawn(async move {
                let body = shopify(70, 1, "1.00");
                let path = "/v1/channels/shopify-api/orders";
                let request = crate::support::request("POST", path, &[], body.as_bytes());
                let mut client = crate::support::Client::to(address).await;
                client.write(&request).await;
                client.reply().await
            })
        })
        .collect();
    door.buffer.until_waiting(64).await;
    assert!(posts.iter().all(|post| !post.is_finished()), "no answer before the buffer's");
    door.buffer.open_gate();
    let mut accepted = 0;
    for post in posts {
        let reply = post.await.unwrap();
        match reply.word("outcome") {
            "accepted" => accepted += 1,
            outcome => assert_eq!((reply.status, outcome), (200, "duplicate")),
        }
    }
    assert_eq!(accepted, 1);
    let admission = door.buffer.admission().clone();
    until("the budget is given back", || admission.in_flight() == (0, 0)).await;
    door.shut().await;
}

#[tokio::test]
async fn sources_come_from_where_the_channel_says() {
    let door = TestDoor::with(|config| {
        for channel in &mut config.channels {
            channel.source = match channel.name.as_str() {
                "shopify" | "shopify-hook" => SourceRule::Header {
                    name: "x-shopify-shop-domain".parse().unwrap(),
                    default: None,
                },
                "woocommerce" | "woocommerce-api" => {
                    SourceRule::Pointer { pointer: "/billing/email".to_owned(), default: None }
                }
                _ => continue,
            };
        }
        let shop = config.channels.iter_mut().find(|channel| channel.name == "b2c-commerce-xml");
        shop.unwrap().source =
            SourceRule::Header { name: "x-site".parse().unwrap(), default: None };
    });
    let site = [("x-site", "site/1")];
    let body = xml(&[xml_order("s1", "NEW", "1.00")]);
    let reply = door.post_with("b2c-commerce-xml", &site, &body).await;
    assert_eq!(reply.word("source"), "site/1");
    assert_eq!(reply.header("location"), "/v1/orders/b2c-commerce-xml/site%2F1/s1");
    let missing = door.post("b2c-commerce-xml", &body).await.problem(400, "bad-request");
    assert!(missing["detail"].as_str().unwrap().contains("x-site"));
    // A webhook would send nothing else, so it is kept for a person.
    let hook = door.post("shopify", shopify(80, 1, "1.00")).await;
    assert_eq!((hook.status, hook.word("outcome")), (200, "exception"));
    let rows = door.buffer.exceptions(0, 10).await.unwrap();
    assert!(rows[0].reason.contains("x-shopify-shop-domain"), "{}", rows[0].reason);
    let pointed = door.post("woocommerce", crate::orders::woocommerce(81, "1.00")).await;
    assert_eq!(pointed.word("source"), "shopper@example.com");
    let nowhere = crate::orders::woocommerce(82, "1.00").replace("email", "mail");
    door.post("woocommerce-api", nowhere).await.problem(400, "unreadable");
    door.shut().await;
}

#[tokio::test]
async fn ids_and_sources_that_cannot_be_a_key_are_refused_or_kept_aside() {
    let door = TestDoor::open();
    let long = "x".repeat(250);
    for id in [long.as_str(), "a&#9;b"] {
        let body = xml(&[xml_order(id, "NEW", "1.00")]);
        door.post("b2c-commerce-xml", &body).await.problem(400, "unreadable");
        let hook = door.post("b2c-commerce-xml-hook", &body).await;
        assert_eq!((hook.status, hook.word("outcome")), (200, "exception"));
    }
    let header = [("forebay-source", " ")];
    let refused =
        door.post_with("b2c-commerce-xml", &header, xml(&[xml_order("i", "NEW", "1.00")]));
    refused.await.problem(400, "bad-request");
    door.shut().await;
}

#[tokio::test]
async fn an_address_others_can_reach_is_refused() {
    let door = TestDoor::open();
    let config = DoorConfig { listen: "0.0.0.0:0".parse().unwrap(), ..DoorConfig::default() };
    let clock = std::sync::Arc::new(forebay_buffer::SystemClock);
    let refused = Door::bind(config, door.buffer.clone(), [0; 32], clock.clone());
    assert!(matches!(refused, Err(BindError::NotLoopback(_))));
    let taken = DoorConfig { listen: door.address, ..DoorConfig::default() };
    let refused = Door::bind(taken, door.buffer.clone(), [0; 32], clock);
    assert!(matches!(refused, Err(BindError::Listen { .. })));
    door.shut().await;
}
