//! Several hosts: the one that writes is used, and left once it only reads or stands still, also on connections that were open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Buffer;
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Limiter, Limits, OrderManagement, RetryPolicy,
};

use super::server::{self, PostgresServer, database, execute};
use super::{at, patient};
use crate::support::{Delivery, buffer, clock, creates, in_time, order, until};

/// Two servers with the tables, and how both are named in one address.
async fn two(name: &str) -> Option<([PostgresServer; 2], [String; 2], String)> {
    let servers = [server::own()?, server::own()?];
    let urls = [database(&servers[0], name).await, database(&servers[1], name).await];
    for url in &urls {
        // Whoever is asked makes the tables.
        at(url).find(&["none".to_owned()]).await.unwrap();
    }
    let both = format!("postgres://postgres@{},{}/{name}", host(&urls[0]), host(&urls[1]));
    Some((servers, urls, both))
}

/// The host and port of an address.
fn host(url: &str) -> &str {
    url.split(['@', '/']).nth(3).unwrap()
}

/// Has a server take writes, or only read, without a restart, as whoever fails it over does.
async fn read_only(server: &PostgresServer, only: bool) {
    let word = if only { "on" } else { "off" };
    let url = server.url("postgres");
    let set = format!(
        "SET default_transaction_read_only = off; ALTER SYSTEM SET default_transaction_read_only = {word}"
    );
    for statement in set.split("; ") {
        execute(&url, statement).await.ok();
    }
    execute(&url, "SELECT pg_reload_conf()").await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let said = async || {
        let row = client.query_one("SHOW default_transaction_read_only", &[]).await.unwrap();
        row.get::<_, String>(0) == word
    };
    in_time("the reload", until(said)).await;
    drop(client);
    driving.await.unwrap().unwrap();
}

async fn has(url: &str) -> usize {
    creates(&at(&format!("{url}?options=-cdefault_transaction_read_only%3Doff"))).await.len()
}

#[tokio::test]
async fn an_open_connection_to_a_server_that_only_reads_is_left_for_the_one_that_writes() {
    let Some((servers, urls, both)) = two("left").await else { return };
    read_only(&servers[0], true).await;
    let oms = at(&both);
    oms.submit(&[order("1")]).await.unwrap();
    assert_eq!((has(&urls[0]).await, has(&urls[1]).await), (0, 1), "the one that writes");
    // Several are open and idle by now.
    let calls = (2..6).map(|n| {
        let oms = oms.clone();
        async move { oms.submit(&[order(&n.to_string())]).await.unwrap() }
    });
    futures_util::future::join_all(calls).await;
    read_only(&servers[0], false).await;
    read_only(&servers[1], true).await;
    let failure = oms.submit(&[order("6")]).await.unwrap_err();
    assert!(
        matches!(&failure, CallFailure::NotSent(why) if why.contains("only reads")),
        "{failure:?}"
    );
    oms.submit(&[order("6")]).await.expect("the other one, at the next call");
    assert_eq!((has(&urls[0]).await, has(&urls[1]).await), (1, 5));
    // Nobody writes: nobody's fault, until one does.
    read_only(&servers[0], true).await;
    for _ in 0..3 {
        let failure = oms.submit(&[order("7")]).await.unwrap_err();
        assert!(matches!(failure, CallFailure::NotSent(_)), "{failure:?}");
    }
    read_only(&servers[1], false).await;
    oms.submit(&[order("7")]).await.unwrap();
    assert_eq!((has(&urls[0]).await, has(&urls[1]).await), (1, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_goes_over_to_the_server_that_writes_and_burns_nothing() {
    let Some((servers, urls, both)) = two("goes_over").await else { return };
    read_only(&servers[1], true).await;
    let buffer = buffer(clock());
    for n in 0..400 {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let retry = RetryPolicy { base: Duration::from_millis(10), max: Duration::from_millis(200) };
    let limits = Limits { ceiling_per_s: Some(200.0), batch: Some(5), ..Limits::default() };
    let config = DrainConfig { limits, retry, ..DrainConfig::default() };
    let drain = Drain::start(config, buffer.clone(), Arc::new(at(&both)), clock()).unwrap();
    let summarised = async || {
        buffer.status().await.unwrap().ended.get("summarised").copied().unwrap_or_default()
    };
    in_time("some", until(async || summarised().await >= 20)).await;
    read_only(&servers[0], true).await;
    let before = summarised().await;
    read_only(&servers[1], false).await;
    in_time("drained", until(async || summarised().await == 400)).await;
    assert!(before < 400);
    assert_eq!(buffer.exceptions(0, 100).await.unwrap(), []);
    drain.stop(Duration::from_secs(5)).await;
    let mut all = Vec::new();
    for url in &urls {
        let url = format!("{url}?options=-cdefault_transaction_read_only%3Doff");
        let there = creates(&at(&url)).await;
        assert!(!there.is_empty(), "{url}");
        all.extend(there.into_iter().map(|(identity, _)| identity));
    }
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!((all.len(), distinct.len()), (400, 400), "each once, on one of them");
}

/// As short a patience as a server that is only busy with other tests keeps.
const PATIENCE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_server_that_stands_still_is_left_for_the_one_that_writes() {
    let Some((servers, urls, both)) = two("still").await else { return };
    read_only(&servers[1], true).await;
    let oms = patient(&both, PATIENCE);
    oms.submit(&[order("1")]).await.unwrap();
    read_only(&servers[1], false).await;
    servers[0].freeze(true).unwrap();
    let failure = oms.submit(&[order("2")]).await.unwrap_err();
    assert!(
        matches!(&failure, CallFailure::Unknown(why) if why.contains("did not answer within 4s")),
        "{failure:?}"
    );
    // It takes connections still, and says nothing on them; whoever is asked first is asked by chance.
    in_time("the other one", until(async || oms.submit(&[order("3")]).await.is_ok())).await;
    servers[0].freeze(false).unwrap();
    assert_eq!((has(&urls[0]).await, has(&urls[1]).await), (1, 1), "nothing is done late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_a_server_that_stands_still_and_doubles_and_burns_nothing() {
    let Some(server) = server::own() else { return };
    let url = database(&server, "waits").await;
    let buffer = buffer(clock());
    for n in 0..200 {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let retry = RetryPolicy { base: Duration::from_millis(10), max: Duration::from_millis(200) };
    let limits = Limits { ceiling_per_s: Some(200.0), batch: Some(5), ..Limits::default() };
    let config = DrainConfig { limits, retry, ..DrainConfig::default() };
    let oms = Arc::new(patient(&url, PATIENCE / 3));
    let drain = Drain::start(config, buffer.clone(), oms, clock()).unwrap();
    let summarised = async || {
        buffer.status().await.unwrap().ended.get("summarised").copied().unwrap_or_default()
    };
    in_time("some", until(async || summarised().await >= 20)).await;
    server.freeze(true).unwrap();
    let given_up = async || drain.governor().state().limiter == Limiter::Oms;
    in_time("given up", until(given_up)).await;
    let before = summarised().await;
    server.freeze(false).unwrap();
    in_time("drained", until(async || summarised().await == 200)).await;
    assert!(before < 200);
    assert_eq!(buffer.exceptions(0, 100).await.unwrap(), []);
    drain.stop(Duration::from_secs(5)).await;
    let each = creates(&at(&url)).await;
    assert_eq!((each.len(), each.iter().all(|(_, creates)| *creates == 1)), (200, true));
}

/// What a server says when it is asked.
async fn asked(url: &str, question: &str) -> Option<String> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.ok()?;
    let driving = tokio::spawn(connection);
    let row = client.query_opt(question, &[]).await.ok()?;
    drop(client);
    driving.await.ok()?.ok()?;
    row.map(|row| row.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_goes_over_to_a_standby_that_is_promoted_and_it_has_each_order_once() {
    let Some(first) = server::own() else { return };
    let url = database(&first, "promoted").await;
    let second = first.standby().unwrap();
    let own = first.url("postgres");
    execute(&own, "ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    execute(&own, "SELECT pg_reload_conf()").await.unwrap();
    let synced = "SELECT sync_state FROM pg_stat_replication";
    in_time("the standby", until(async || asked(&own, synced).await.as_deref() == Some("sync")))
        .await;
    let standby_url = second.url("promoted");
    let both = url.replace("/promoted", &format!(",{}/promoted", host(&standby_url)));

    let buffer = buffer(clock());
    for n in 0..400 {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let retry = RetryPolicy { base: Duration::from_millis(10), max: Duration::from_millis(200) };
    let limits = Limits { ceiling_per_s: Some(200.0), batch: Some(5), ..Limits::default() };
    let config = DrainConfig { limits, retry, ..DrainConfig::default() };
    let drain = Drain::start(config, buffer.clone(), Arc::new(at(&both)), clock()).unwrap();
    let summarised = async || {
        buffer.status().await.unwrap().ended.get("summarised").copied().unwrap_or_default()
    };
    in_time("some", until(async || summarised().await >= 20)).await;
    first.crash().unwrap();
    in_time("it is gone", until(async || drain.governor().state().limiter == Limiter::Oms)).await;
    let before = summarised().await;
    second.promote().unwrap();
    in_time("drained", until(async || summarised().await == 400)).await;
    assert!((20..400).contains(&before), "{before}");
    assert_eq!(buffer.exceptions(0, 100).await.unwrap(), []);
    drain.stop(Duration::from_secs(5)).await;
    let each = creates(&at(&standby_url)).await;
    let distinct: BTreeSet<_> = each.iter().map(|(identity, _)| identity).collect();
    assert_eq!((each.len(), distinct.len()), (400, 400), "also what the first one answered");
    assert!(each.iter().all(|(_, creates)| *creates == 1));
}
