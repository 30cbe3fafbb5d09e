//! Receivers that are down, slow, elsewhere, or want no more.

use std::time::Duration;

use forebay_buffer::{Buffer, SystemClock};
use forebay_ops::webhooks::{Beginning, EndpointOptions, EndpointState, Settings, Webhooks, ping};
use tokio::time::Instant;

use crate::receiver::{Reaction, Receiver};
use crate::support::{OLD_SECRET, SECRET, Shop, in_time, stop, until, until_up_to_date};

/// A receiver that wants no more is left in peace until a restart; then it is asked with the same.
#[tokio::test]
async fn gone_is_gone_until_a_restart() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([Reaction::Answers("410 Gone", "")]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    assert_eq!(receiver.words(1).await, ["accepted 1"]);
    let stopped = until(&webhooks, |status| status.state == EndpointState::Stopped).await;
    assert!(stopped.error.unwrap().contains("410 Gone"));
    shop.accept("2").await;
    stop(webhooks).await;
    assert!(receiver.is_quiet());
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    assert_eq!(receiver.words(2).await, ["accepted 1", "accepted 2"]);
    stop(webhooks).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let shop = Shop::open();
    let mut elsewhere = Receiver::start([]).await;
    let location: &str = format!("location: {}\r\n", elsewhere.url).leak();
    let mut receiver =
        Receiver::start([Reaction::Answers("307 Temporary Redirect", location)]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    assert_eq!(receiver.words(2).await, ["accepted 1", "accepted 1"]);
    stop(webhooks).await;
    assert!(elsewhere.is_quiet());
}

#[tokio::test]
async fn it_comes_back_when_it_was_told_to() {
    let shop = Shop::open();
    let busy = Reaction::Answers("429 Too Many Requests", "retry-after: 1\r\n");
    let mut receiver = Receiver::start([busy]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert!(second.at - first.at >= Duration::from_secs(1), "{:?}", second.at - first.at);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_asked_again_and_a_slow_one_is_waited_for() {
    let shop = Shop::open();
    let late = Reaction::Late(Duration::from_millis(200));
    let mut receiver = Receiver::start([Reaction::Silence, late]).await;
    let patience = Duration::from_millis(700);
    let endpoint = EndpointOptions { answer_timeout: patience, ..shop.endpoint(&receiver.url) };
    let webhooks = shop.start(endpoint).await;
    // The request goes out after this; when it was read is not when its patience began.
    let began = Instant::now();
    shop.accept("1").await;
    receiver.next().await;
    let failing = until(&webhooks, |status| status.state == EndpointState::Failing).await;
    assert!(failing.error.as_deref().unwrap().contains("no answer within 700ms"), "{failing:?}");
    assert!(
        failing.failing_since_ms.is_some() && failing.waiting_since_ms.is_some(),
        "{failing:?}"
    );
    assert!(receiver.next().await.at - began >= patience);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert!(receiver.is_quiet(), "slow is no failure");
}

#[tokio::test]
async fn a_status_counts_whatever_comes_after_it() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([Reaction::Endless]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    shop.accept("2").await;
    assert_eq!(receiver.words(2).await, ["accepted 1", "accepted 2"]);
    until_up_to_date(&webhooks, 2).await;
    stop(webhooks).await;
}

#[tokio::test]
async fn only_a_certificate_that_is_trusted_is_told_anything() {
    let shop = Shop::open();
    let roots = shop.path("roots.pem");
    let mut receiver = Receiver::start_tls(&roots).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    let failing = until(&webhooks, |status| status.state == EndpointState::Failing).await;
    assert!(failing.error.as_deref().unwrap().contains("cannot be reached"), "{failing:?}");
    stop(webhooks).await;
    assert!(receiver.is_quiet());
    let endpoint = EndpointOptions { roots: Some(roots), ..shop.endpoint(&receiver.url) };
    let webhooks = shop.start(endpoint).await;
    assert_eq!(receiver.words(1).await, ["accepted 1"]);
    stop(webhooks).await;
}

#[tokio::test]
async fn a_secret_is_replaced_while_it_runs() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    let signatures = |signed: &str| signed.split(' ').filter(|one| one.starts_with("v1,")).count();
    shop.accept("1").await;
    assert_eq!(signatures(receiver.next().await.header("webhook-signature")), 1);
    shop.keep_secrets(&format!("{OLD_SECRET}\n{SECRET}\n"));
    shop.accept("2").await;
    assert_eq!(signatures(receiver.next().await.header("webhook-signature")), 2);
    until_up_to_date(&webhooks, 2).await;

    std::fs::remove_file(shop.path("secret")).unwrap();
    shop.accept("3").await;
    let failing = until(&webhooks, |status| status.state == EndpointState::Failing).await;
    assert!(failing.error.as_deref().unwrap().starts_with("secret_file: "), "{failing:?}");
    shop.keep_secrets(&format!("{OLD_SECRET}\n"));
    assert_eq!(receiver.words(1).await, ["accepted 3"]);
    stop(webhooks).await;
}

/// Days of it cost the drain nothing, and all of it is told in the end.
#[tokio::test]
async fn a_receiver_that_is_down_holds_nobody() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([Reaction::Silence]).await;
    let webhooks = shop
        .start(EndpointOptions {
            answer_timeout: Duration::from_secs(2),
            ..shop.endpoint(&receiver.url)
        })
        .await;
    for n in 0..300 {
        shop.accept(&n.to_string()).await;
        shop.summarise(&format!("S{n}")).await;
    }
    assert_eq!(shop.buffer.pace().pending, 0);
    assert_eq!(receiver.words(2).await, ["accepted 0", "accepted 0"]);
    let all = receiver.words(599).await;
    assert_eq!(all[0], "summarised 0");
    for (n, pair) in all[1..].chunks(2).enumerate() {
        let n = n + 1;
        assert_eq!(pair, [format!("accepted {n}"), format!("summarised {n}")]);
    }
    stop(webhooks).await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_receiver_beyond_its_grace() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([Reaction::Answers("200 OK", ""), Reaction::Silence]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    shop.accept("2").await;
    assert_eq!(receiver.words(2).await, ["accepted 1", "accepted 2"]);
    in_time("a stop", webhooks.stop(Duration::from_millis(50))).await;
    assert_eq!(shop.cursor(), 1, "what was taken is known, what was not is not");
    // And one under way is let end.
    receiver.reacts([Reaction::Late(Duration::from_millis(100))]);
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    assert_eq!(receiver.words(1).await, ["accepted 2"]);
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 2);
}

/// Where it begins is nowhere but in this process; a restart would begin later.
#[tokio::test]
async fn one_that_cannot_keep_where_it_begins_does_not_begin_before_it_can() {
    let shop = Shop::open();
    // There is none, and none can be written.
    std::fs::create_dir_all(shop.path("webhooks/mail.new")).unwrap();
    let mut receiver = Receiver::start([]).await;
    let endpoint = EndpointOptions { from: Beginning::End, ..shop.endpoint(&receiver.url) };
    shop.accept("before").await;
    let webhooks = shop.start(endpoint.clone()).await;
    shop.accept("1").await;
    let failing = until(&webhooks, |status| status.state == EndpointState::Failing).await;
    assert!(failing.waiting_since_ms.is_some(), "{failing:?}");
    let error = failing.error.unwrap();
    assert!(error.starts_with("it does not begin: where that is cannot be kept"), "{error}");
    stop(webhooks).await;
    assert!(receiver.is_quiet());

    let webhooks = shop.start(endpoint).await;
    shop.accept("2").await;
    std::fs::remove_dir(shop.path("webhooks/mail.new")).unwrap();
    assert_eq!(receiver.words(1).await, ["accepted 2"]);
    until_up_to_date(&webhooks, 1).await;
    stop(webhooks).await;
    assert_eq!(shop.cursor(), 3);
}

#[tokio::test]
async fn a_cursor_that_could_not_be_kept_is_kept_once_it_can_be() {
    let shop = Shop::open();
    std::fs::write(shop.path("webhooks"), "no directory").unwrap();
    let mut receiver = Receiver::start([]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("1").await;
    assert_eq!(receiver.words(1).await, ["accepted 1"]);
    until_up_to_date(&webhooks, 1).await;
    std::fs::remove_file(shop.path("webhooks")).unwrap();
    // Nothing more happens, and nobody stops it.
    let file = shop.path("webhooks/mail.cursor");
    in_time("a cursor", async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(shop.cursor(), 1);
    stop(webhooks).await;
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_the_start() {
    let shop = Shop::open();
    let start = async |endpoint: EndpointOptions| {
        let settings = Settings {
            directory: shop.path("webhooks"),
            store: "store".to_owned(),
            endpoints: vec![endpoint],
        };
        let clock: std::sync::Arc<dyn forebay_buffer::Clock> = std::sync::Arc::new(SystemClock);
        Webhooks::start(settings, &shop.buffer, &clock).await.unwrap_err().to_string()
    };
    let endpoint = shop.endpoint("http://shop.example/hooks");
    assert!(start(endpoint).await.starts_with("webhooks.mail.url: "));
    let good = "https://shop.example/hooks";
    let endpoint = EndpointOptions { roots: Some(shop.path("nothing")), ..shop.endpoint(good) };
    assert!(start(endpoint).await.starts_with("webhooks.mail.roots: "));
    let endpoint = EndpointOptions { secret_file: shop.path("nothing"), ..shop.endpoint(good) };
    assert!(start(endpoint).await.starts_with("webhooks.mail.secret_file: "));
}

#[tokio::test]
async fn a_ping_says_what_came_back() {
    let shop = Shop::open();
    let mut receiver = Receiver::start([Reaction::Answers("401 Unauthorized", "")]).await;
    let endpoint = shop.endpoint(&receiver.url);
    let refused = ping(&endpoint, "00000000-0000", &SystemClock).await.unwrap_err();
    assert_eq!(refused, "it answered 401 Unauthorized; does it have the same secret?");
    assert_eq!(ping(&endpoint, "00000000-0000", &SystemClock).await.unwrap().as_u16(), 204);
    receiver.next().await;
    assert_eq!(receiver.next().await.json()["type"], "forebay.ping");
    let nobody = ping(&shop.endpoint("http://127.0.0.1:1/"), "x", &SystemClock).await.unwrap_err();
    assert!(nobody.starts_with("it cannot be reached: "), "{nobody}");
}
