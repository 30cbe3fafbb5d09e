//! Whose an error of the server is: an order's, which leaves the others alone; or the server's, which burns nobody.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, ExceptionCategory, Memory, OrderState};
use forebay_order::OrderSummary;
use forebay_processor::{Drain, DrainConfig, Limits, OrderManagement, Outcome, RetryPolicy};

use super::server::{self, database, execute};
use super::{Database, at};
use crate::read_back::Tables;
use crate::support::{Delivery, buffer, clock, creates, in_time, key, order, until};

/// An order of a shopper whose e-mail is longer than an index takes, and cannot be packed smaller.
fn long_email(id: &str) -> Arc<OrderSummary> {
    let mut rng = fastrand::Rng::with_seed(7);
    let local: String = (0..6_000).map(|_| rng.alphanumeric().to_ascii_lowercase()).collect();
    let mut order = order(id);
    Arc::make_mut(&mut order).shopper.email_normalised = Some(format!("{local}@example.com"));
    order
}

fn invalid(outcome: &Outcome) -> (&str, &str) {
    match outcome {
        Outcome::Invalid { code, reason } => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_order_over_a_limit_of_the_server_is_its_own_fault_and_the_others_stand() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "over_a_limit").await;
    let oms = at(&url);
    let outcomes = oms.submit(&[order("1"), long_email("2"), order("3")]).await.unwrap();
    assert!(matches!(outcomes[0], Outcome::Created { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Created { .. }), "{outcomes:?}");
    let (code, reason) = invalid(&outcomes[1]);
    assert_eq!(code, "limit");
    assert!(reason.contains("index row size") && !reason.contains("example.com"), "{reason}");
    let alone = oms.submit(&[long_email("4")]).await.unwrap();
    assert_eq!(invalid(&alone[0]).0, "limit");
    assert_eq!(creates(&oms).await.len(), 2);
    assert_eq!(Database(&url).count("account").await, 0);
}

#[tokio::test]
async fn what_a_trigger_refuses_is_the_order_s_and_its_words_stay_in_the_server_s_log() {
    let Some(server) = server::shared() else { return };
    // As it refuses a row: at once, or at the commit.
    for (name, deferred) in [("trigger_now", false), ("trigger_late", true)] {
        let url = database(server, name).await;
        let oms = at(&url);
        oms.submit(&[order("0")]).await.unwrap();
        let trigger = match deferred {
            false => "CREATE TRIGGER rule BEFORE INSERT ON order_summary FOR EACH ROW",
            true => {
                "CREATE CONSTRAINT TRIGGER rule AFTER INSERT ON order_summary \
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
            }
        };
        let rule = format!(
            "CREATE FUNCTION rule() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.order_number = '#bad' THEN RAISE EXCEPTION 'no such shopper: Jo Doe'; END IF; \
             RETURN NEW; END $$; {trigger} EXECUTE FUNCTION rule()"
        );
        execute(&url, &rule).await.unwrap();
        let outcomes = oms.submit(&[order("1"), order("bad"), order("2")]).await.unwrap();
        let (code, reason) = invalid(&outcomes[1]);
        assert_eq!(code, "trigger", "{name}");
        assert!(reason.contains("P0001") && reason.contains("function rule()"), "{reason}");
        assert!(!reason.contains("Jo Doe"), "{reason}");
        assert_eq!(creates(&oms).await.len(), 3, "{name}");
    }
}

/// A database whose statements may take but 300 ms, and where orders take 10 s whose number is as this says (SQL).
async fn slow_for(name: &str, which: &str) -> Option<String> {
    let url = database(server::shared()?, name).await;
    at(&url).submit(&[order("first")]).await.unwrap();
    let slow = format!(
        "ALTER DATABASE \"{name}\" SET statement_timeout = '300ms'; \
         CREATE TABLE slow (numbers text); INSERT INTO slow VALUES ('{which}'); \
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF EXISTS (SELECT 1 FROM slow WHERE NEW.order_number LIKE numbers) THEN PERFORM pg_sleep(10); END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER slow BEFORE INSERT ON order_summary FOR EACH ROW EXECUTE FUNCTION slow()"
    );
    execute(&url, &slow).await.unwrap();
    Some(url)
}

async fn with(ids: impl IntoIterator<Item = String>) -> Memory {
    let buffer = buffer(clock());
    for id in ids {
        Delivery::new(&id).append(&buffer).await;
    }
    buffer
}

fn config() -> DrainConfig {
    let retry = RetryPolicy { base: Duration::from_millis(5), max: Duration::from_millis(100) };
    let limits = Limits { batch: Some(16), in_flight: 2, ..Limits::default() };
    DrainConfig { limits, retry, attempts_max: 3, ..DrainConfig::default() }
}

async fn summarised(buffer: &Memory) -> u64 {
    buffer.status().await.unwrap().ended.get("summarised").copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_takes_too_long_is_set_aside_and_holds_up_no_others() {
    let Some(url) = slow_for("too_long", "huge-%").await else { return };
    let oms = Arc::new(at(&url));
    // They are the oldest, and in both halves of the first batch.
    let ids = (0..60).map(|n| match n {
        3 | 12 => format!("huge-{n}"),
        n => n.to_string(),
    });
    let buffer = with(ids).await;
    let drain = Drain::start(config(), buffer.clone(), Arc::clone(&oms), clock()).unwrap();
    in_time("all others", until(async || summarised(&buffer).await == 58)).await;
    // Nobody can tell whose fault it is unless others pass, one after the other as in a sale.
    let (mut more, began) = (0, tokio::time::Instant::now());
    while buffer.exceptions(0, 100).await.unwrap().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "{more} passed");
        Delivery::new(&format!("more-{more}")).append(&buffer).await;
        more += 1;
        in_time("it", until(async || summarised(&buffer).await == 58 + more)).await;
    }
    for row in buffer.exceptions(0, 100).await.unwrap() {
        assert_eq!(row.category, ExceptionCategory::Poison);
        for words in ["3 attempts", "too_much", "statement timeout", "57014"] {
            assert!(row.reason.contains(words), "{words}: {}", row.reason);
        }
    }
    drain.stop(Duration::from_secs(5)).await;
    assert_eq!(creates(&*oms).await.len() as u64, 59 + more, "and the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_too_long_over_everything_burns_nothing() {
    let Some(url) = slow_for("slow_for_all", "%").await else { return };
    let oms = Arc::new(at(&url));
    let buffer = with((0..5).map(|n| n.to_string())).await;
    let drain = Drain::start(config(), buffer.clone(), Arc::clone(&oms), clock()).unwrap();
    // Longer than five orders would need to be set aside, alone as they are.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(summarised(&buffer).await, 0);
    assert_eq!(buffer.exceptions(0, 100).await.unwrap(), []);
    execute(&url, "DELETE FROM slow").await.unwrap();
    in_time("drained", until(async || summarised(&buffer).await == 5)).await;
    let view = buffer.order(&key("0")).await.unwrap().unwrap();
    assert_eq!((view.state, view.exceptions.len()), (OrderState::Summarised, 0));
    drain.stop(Duration::from_secs(5)).await;
}
