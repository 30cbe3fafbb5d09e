//! At least once, in order, from where it was.

use std::time::Duration;

use forebay_buffer::{Buffer, FeedKind};
use forebay_ops::webhooks::{Beginning, EndpointOptions, EndpointState};
use serde_json::{Value, json};

use crate::receiver::{Reaction, Receiver, words};
use crate::support::{Shop, stop, until, until_up_to_date};

#[tokio::test]
async fn a_receiver_is_told_of_each_order_in_its_order() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    shop.accept("2").await;
    shop.summarise("S1").await;
    shop.reject("no such product").await;

    let told = receiver.next().await;
    assert!(told.head.starts_with("POST /hooks HTTP/1.1\r\n"), "{}", told.head);
    assert_eq!(told.header("content-type"), "application/cloudevents+json");
    let event = told.json();
    let store = event["source"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    assert_eq!(
        told.header("webhook-id"),
        format!("{}-{}", &store[..8], event["id"].as_str().unwrap())
    );
    let signed_at: i64 = told.header("webhook-timestamp").parse().unwrap();
    let now = forebay_buffer::Clock::wall_ms(&forebay_buffer::SystemClock) / 1_000;
    assert!((now - 60..=now).contains(&signed_at), "{signed_at} at {now}");
    assert_eq!(
        (event["subject"].as_str(), event["specversion"].as_str()),
        (Some("shop:de:1"), Some("1.0"))
    );

    assert_eq!(receiver.words(2).await, ["accepted 2", "summarised 1"]);
    let raised = receiver.next().await.json();
    assert_eq!(words(&raised), "exception 2");
    let exception = &raised["data"]["exception"];
    assert_eq!(
        (&exception["category"], &exception["reason"]),
        (&json!("rejected"), &json!("no such product"))
    );
    until_up_to_date(&webhooks, 4).await;
    stop(webhooks).await;
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn what_was_not_surely_taken_is_sent_again_the_same() {
    let shop = Shop::open();
    let refused = Reaction::Answers("500 Internal Server Error", "");
    let mut receiver = Receiver::start([Reaction::Cut, refused]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    shop.accept("2").await;
    let (lost, refused, taken) =
        (receiver.next().await, receiver.next().await, receiver.next().await);
    for again in [&refused, &taken] {
        assert_eq!(
            (again.header("webhook-id"), &again.body),
            (lost.header("webhook-id"), &lost.body)
        );
    }
    assert_eq!(receiver.words(1).await, ["accepted 2"]);
    until_up_to_date(&webhooks, 2).await;
    stop(webhooks).await;
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    assert_eq!(receiver.words(1).await, ["accepted 1"]);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 1);
    shop.accept("2").await;

    // With a receiver that takes nothing, a restart changes nothing.
    receiver.reacts([Reaction::Answers("503 Service Unavailable", "")]);
    let slow = EndpointOptions {
        retry: forebay_processor::RetryPolicy {
            base: Duration::from_secs(600),
            max: Duration::from_secs(600),
        },
        ..shop.endpoint(&receiver.url)
    };
    let webhooks = shop.start(slow).await;
    assert_eq!(receiver.words(1).await, ["accepted 2"]);
    until(&webhooks, |status| status.state == EndpointState::Failing).await;
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 1);

    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    assert_eq!(receiver.words(1).await, ["accepted 2"]);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn a_new_one_begins_with_what_happens_from_then_on() {
    let shop = Shop::open();
    shop.accept("before").await;
    let mut receiver = Receiver::start([]).await;
    let endpoint = EndpointOptions { from: Beginning::End, ..shop.endpoint(&receiver.url) };
    // Where it begins is settled although the process dies at once.
    drop(shop.start(endpoint.clone()).await);
    shop.accept("after").await;
    let webhooks = shop.start(endpoint).await;
    assert_eq!(receiver.words(1).await, ["accepted after"]);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert!(receiver.is_quiet());
}

#[tokio::test]
async fn a_cursor_that_cannot_be_read_makes_repeats_and_no_gap() {
    let shop = Shop::open();
    shop.accept("1").await;
    std::fs::create_dir(shop.path("webhooks")).unwrap();
    std::fs::write(shop.path("webhooks/mail.cursor"), "nonsense").unwrap();
    let mut receiver = Receiver::start([]).await;
    let endpoint = EndpointOptions { from: Beginning::End, ..shop.endpoint(&receiver.url) };
    let webhooks = shop.start(endpoint).await;
    assert_eq!(receiver.words(1).await, ["accepted 1"]);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 1);
}

#[tokio::test]
async fn a_receiver_is_told_what_it_asked_for() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([]).await;
    let endpoint =
        EndpointOptions { kinds: vec![FeedKind::Summarised], ..shop.endpoint(&receiver.url) };
    let webhooks = shop.start(endpoint.clone()).await;
    shop.accept("1").await;
    shop.summarise("S1").await;
    shop.accept_as("load-test", true).await;
    shop.summarise("S2").await;
    assert_eq!(receiver.words(1).await, ["summarised 1"]);
    // What it does not want is passed over for good.
    let last = shop.buffer.status().await.unwrap().durable_sequence;
    until(&webhooks, |status| status.after == last).await;
    stop(webhooks).await;
    assert!(receiver.is_quiet());

    shop.accept_as("load-test 2", true).await;
    shop.summarise("S3").await;
    let webhooks = shop.start(EndpointOptions { synthetic: true, ..endpoint }).await;
    assert_eq!(receiver.words(1).await, ["summarised load-test 2"]);
    stop(webhooks).await;
}

#[tokio::test]
async fn several_go_in_one_request_if_they_are_there() {
    let shop = Shop::open();
    for id in ["1", "2", "3", "4", "5"] {
        shop.accept(id).await;
    }
    let mut receiver = Receiver::start([]).await;
    let endpoint = EndpointOptions { batch: 3, ..shop.endpoint(&receiver.url) };
    let webhooks = shop.start(endpoint).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(first.header("content-type"), "application/cloudevents-batch+json");
    let said = |body: Value| body.as_array().unwrap().iter().map(words).collect::<Vec<_>>();
    assert_eq!(said(first.json()), ["accepted 1", "accepted 2", "accepted 3"]);
    assert_eq!(said(second.json()), ["accepted 4", "accepted 5"]);
    assert!(first.header("webhook-id").ends_with("-1-0_3-0"), "{}", first.head);
    until_up_to_date(&webhooks, 5).await;
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 5);
}

/// A disk that takes no cursor makes repeats after a restart, and nothing else.
#[tokio::test]
async fn a_cursor_that_cannot_be_kept_holds_nobody() {
    let shop = Shop::open();
    std::fs::write(shop.path("webhooks"), "no directory").unwrap();
    let mut receiver = Receiver::start([]).await;
    for _ in 0..2 {
        let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
        if shop.buffer.pace().pending == 0 {
            shop.accept("1").await;
        }
        assert_eq!(receiver.words(1).await, ["accepted 1"]);
        stop(webhooks).await;
    }
}
