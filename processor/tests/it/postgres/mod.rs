//! The PostgreSQL OMS's own: nothing of a summary is lost, two calls that share orders agree, trouble of the server is nobody's fault.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Buffer;
use forebay_processor::oms::postgres::{Postgres, PostgresOptions};
use forebay_processor::{CallFailure, Drain, DrainConfig, Limiter, OrderManagement, Outcome};
use tokio_postgres::{SimpleQueryMessage, SimpleQueryRow};

use crate::read_back::{self, Tables};
use crate::support::{
    Delivery, buffer, clock, creates, dec, full_order, in_time, key, order, until, without_nul,
};

mod faults;
mod hosts;
pub(crate) mod server;
mod tls;

use server::{database, execute};

/// The tables of the database at a URL.
struct Database<'a>(&'a str);

impl Tables for Database<'_> {
    async fn rows(&self, sql: &str) -> Vec<read_back::Row> {
        let (client, connection) =
            tokio_postgres::connect(self.0, tokio_postgres::NoTls).await.unwrap();
        let driving = tokio::spawn(connection);
        let told = client.simple_query(sql).await.unwrap();
        drop(client);
        driving.await.unwrap().unwrap();
        let rows = told.into_iter().filter_map(|told| match told {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let named = |row: SimpleQueryRow| {
            let columns = row.columns().iter().enumerate();
            let value = |at| row.get(at).map(str::to_owned);
            columns.map(|(at, column)| (column.name().to_owned(), value(at))).collect()
        };
        rows.map(named).collect()
    }
}

pub(crate) fn at(url: &str) -> Postgres {
    patient(url, Duration::from_secs(30))
}

/// One that waits for twice so long.
fn patient(url: &str, answer_timeout: Duration) -> Postgres {
    let options = PostgresOptions {
        url: url.to_owned(),
        password: None,
        roots: None,
        test: true,
        connections: 8,
        answer_timeout,
    };
    Postgres::open(&options, clock()).unwrap()
}

#[tokio::test]
async fn every_field_of_a_summary_reads_back_as_it_was() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "every_field").await;
    let oms = at(&url);
    let mut bare = order("bare");
    Arc::make_mut(&mut bare).lines.clear();
    let mut empty_address = order("empty address");
    Arc::make_mut(&mut empty_address).billing = Some(Default::default());
    let all = [without_nul(full_order("full")), order("small"), bare, empty_address];
    oms.submit(&all[..1]).await.unwrap();
    oms.submit(&all[1..]).await.unwrap();
    for sent in all {
        let back = read_back::summary(&Database(&url), &sent.key).await;
        assert_eq!(back, *sent);
        // Equal decimals can differ in their digits; their text must not.
        let json = |summary| serde_json::to_string(summary).unwrap();
        assert_eq!(json(&back), json(&sent));
    }
}

#[tokio::test]
async fn a_bad_order_gets_its_own_verdict_and_leaves_no_row() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "bad_order").await;
    let oms = at(&url);
    let mut negative = without_nul(full_order("negative"));
    Arc::make_mut(&mut negative).lines[0].quantity = dec("-1");
    let mut points_outside = without_nul(full_order("outside"));
    Arc::make_mut(&mut points_outside).lines[0].delivery_group = Some(3);
    let mut twice = without_nul(full_order("twice"));
    Arc::make_mut(&mut twice).lines[3].number = 1;
    let nul = full_order("nul");
    let long = order(&"x".repeat(300));
    let batch = [order("1"), negative, order("2"), points_outside, twice, nul, long, order("3")];
    let outcomes = oms.submit(&batch).await.unwrap();
    let words: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Created { .. } => "created",
            Outcome::Invalid { code, reason } => {
                assert!(!reason.contains("example.com") && !reason.contains("Sons"), "{reason}");
                code.as_str()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [
        "created",
        "negative_quantity",
        "created",
        "unknown_group",
        "constraint",
        "data",
        "identity_too_long",
        "created",
    ];
    assert_eq!(words, expected);
    assert_eq!(creates(&oms).await.len(), 3);
    assert_eq!(
        Database(&url).count("order_item_summary").await,
        3,
        "nothing of a refused one stays"
    );
    assert_eq!(Database(&url).count("account").await, 0);
}

#[tokio::test]
async fn two_of_one_identity_in_a_call_and_one_with_another_content_are_told_apart() {
    let Some(server) = server::shared() else { return };
    let oms = at(&database(server, "two_of_one").await);
    let mut other = order("1");
    Arc::make_mut(&mut other).fingerprint = crate::support::fingerprint("other");
    let outcomes = oms.submit(&[order("1"), order("2"), order("1"), other.clone()]).await.unwrap();
    let Outcome::Created { id } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes[2], Outcome::Existing { id: id.clone(), same: Some(true) });
    assert_eq!(outcomes[3], Outcome::Existing { id: id.clone(), same: Some(false) });
    let again = oms.submit(&[other]).await.unwrap();
    assert_eq!(again, [Outcome::Existing { id: id.clone(), same: Some(false) }]);
    assert_eq!(creates(&oms).await.len(), 2);
}

#[tokio::test]
async fn one_shopper_per_normalised_email_and_none_without() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "shoppers").await;
    let oms = at(&url);
    let with = |id: &str, email: Option<&str>| {
        let mut order = order(id);
        Arc::make_mut(&mut order).shopper.email_normalised = email.map(str::to_owned);
        order
    };
    let (a, b) = (Some("a@example.com"), Some("b@example.com"));
    oms.submit(&[with("1", a), with("2", a), with("3", None)]).await.unwrap();
    oms.submit(&[with("4", b), with("5", a)]).await.unwrap();
    assert_eq!(Database(&url).count("account").await, 2);
    let accounts = Database(&url).rows("SELECT account_id FROM order_summary ORDER BY id").await;
    let accounts: Vec<_> = accounts.iter().map(|row| row["account_id"].as_deref()).collect();
    assert_eq!((accounts[0], accounts[1], accounts[4]), (accounts[0], accounts[0], accounts[0]));
    assert_ne!(accounts[0], accounts[3]);
    assert_eq!(accounts[2], None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_share_orders_and_shoppers_agree_and_block_nobody() {
    let Some(server) = server::shared() else { return };
    let oms = at(&database(server, "shared_orders").await);
    let mut calls = tokio::task::JoinSet::new();
    for call in 0..12_usize {
        let oms = oms.clone();
        calls.spawn(async move {
            let mut batch: Vec<_> =
                (0..60).map(|n| without_nul(full_order(&n.to_string()))).collect();
            // Each in an order of its own.
            batch.rotate_left(call * 5);
            if call % 2 == 0 {
                batch.reverse();
            }
            oms.submit(&batch).await.unwrap()
        });
    }
    let mut created = 0;
    while let Some(outcomes) = calls.join_next().await {
        for outcome in outcomes.unwrap() {
            match outcome {
                Outcome::Created { .. } => created += 1,
                Outcome::Existing { same, .. } => assert_eq!(same, Some(true)),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(created, 60);
    assert_eq!(creates(&oms).await.len(), 60);
}

#[tokio::test]
async fn a_server_that_is_not_there_or_only_reads_is_trouble_of_nobody_s_order_and_passes() {
    let Some(server) = server::own() else { return };
    let url = database(&server, "comes_and_goes").await;
    let oms = at(&url);
    let not_sent = async |oms: &Postgres, n: &str| {
        let failure = oms.submit(&[order(n)]).await.unwrap_err();
        assert!(matches!(failure, CallFailure::NotSent(_)), "{failure:?}");
        failure.to_string()
    };
    server.stop().unwrap();
    not_sent(&oms, "1").await;
    assert!(matches!(oms.find(&["x".to_owned()]).await, Err(CallFailure::NotSent(_))));
    server.run(&[]).unwrap();
    until(async || oms.submit(&[order("1")]).await.is_ok()).await;
    // With its connections open.
    server.crash().unwrap();
    not_sent(&oms, "2").await;
    server.run(&["default_transaction_read_only=on"]).unwrap();
    not_sent(&oms, "2").await;
    server.stop().unwrap();
    server.run(&["synchronous_commit=off"]).unwrap();
    until(async || oms.submit(&[order("2")]).await.is_ok()).await;
    assert_eq!(creates(&oms).await.len(), 2);
}

#[tokio::test]
async fn a_lock_that_is_held_and_refused_credentials_are_said_to_be_that() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "held").await;
    let oms = at(&url);
    oms.submit(&[order("1")]).await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    client.batch_execute("BEGIN; LOCK TABLE order_summary").await.unwrap();
    let failure = oms.submit(&[order("2")]).await.unwrap_err();
    assert!(matches!(failure, CallFailure::Overloaded { .. }), "{failure:?}");
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(matches!(oms.submit(&[order("2")]).await.unwrap()[0], Outcome::Created { .. }));
    drop(client);
    driving.await.unwrap().unwrap();
    let nobody = at(&url.replace("postgres@", "nobody@"));
    let failure = nobody.submit(&[order("3")]).await.unwrap_err();
    assert_eq!(failure, CallFailure::Unauthenticated);
    let none = at(&format!("{url}_none"));
    let failure = none.submit(&[order("3")]).await.unwrap_err();
    assert!(
        matches!(&failure, CallFailure::NotSent(why) if why.contains("does not exist")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_user_that_is_refused_stops_the_drain_until_it_is_let_in() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "let_in").await;
    let oms = Arc::new(at(&url.replace("postgres@", "late@")));
    let buffer = buffer(clock());
    for n in 0..50 {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let config = DrainConfig::default();
    let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock()).unwrap();
    let stopped = async || drain.governor().state().limiter == Limiter::Auth;
    in_time("stopped", until(stopped)).await;
    execute(&url, "CREATE ROLE late SUPERUSER LOGIN").await.unwrap();
    let drained = async || {
        let status = buffer.status().await.unwrap();
        status.ended.get("summarised") == Some(&50)
    };
    in_time("drained", until(drained)).await;
    in_time("over", drain.stop(Duration::from_secs(5))).await;
    assert_eq!(creates(&*oms).await.len(), 50);
    let view = buffer.order(&key("0")).await.unwrap().unwrap();
    assert_eq!((view.attempts, view.exceptions.len()), (1, 0));
}

#[tokio::test]
async fn tables_of_a_later_release_are_left_alone() {
    let Some(server) = server::shared() else { return };
    let url = database(server, "later").await;
    at(&url).submit(&[order("1")]).await.unwrap();
    // Made once, whoever comes.
    let (one, other) = (at(&url), at(&url));
    let (orders, others) = ([order("2")], [order("3")]);
    let (one, other) = tokio::join!(one.submit(&orders), other.submit(&others));
    one.unwrap();
    other.unwrap();
    execute(&url, "UPDATE forebay_schema SET version = 2").await.unwrap();
    let failure = at(&url).submit(&[order("4")]).await.unwrap_err();
    assert!(failure.to_string().contains("have version 2, this release knows 1"), "{failure}");
}
