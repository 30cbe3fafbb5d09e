//! The key table on real servers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use bytes::Bytes;
use forebay_buffer::nats::{NatsConfig, OpenError, Put, Table, TableError};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use crate::servers::{DEADLINE, Servers};

fn subject(key: impl std::fmt::Display) -> String {
    format!("FOREBAY.o.{key}")
}

fn body(text: impl std::fmt::Display) -> Bytes {
    Bytes::from(text.to_string())
}

async fn created(table: &Table, key: &str, text: &str) -> u64 {
    match table.create(&subject(key), body(text)).await.unwrap() {
        Put::Done(sequence) => sequence,
        other => panic!("{key}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_six_that_create_one_key_through_three_servers_one_does() {
    let Some(servers) = Servers::start(3).await else { return };
    let tables: Vec<_> = join_all((0..6).map(|_| servers.table(|_| {}))).await;
    for key in 0..50 {
        let subject = subject(key);
        let racers = tables.iter().enumerate();
        let racers = racers.map(|(n, table)| table.create(&subject, body(n)));
        let puts: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..6).filter(|n| matches!(puts[*n], Put::Done(_))).collect();
        assert_eq!(winners.len(), 1, "{key}: {puts:?}");
        for put in puts {
            if let Put::Overtaken(stands) = put {
                assert_eq!(
                    stands.unwrap().bytes,
                    body(winners[0]),
                    "the loser is told what stands"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_replaces_what_has_changed_is_told_and_changes_nothing() {
    let Some(servers) = Servers::start(1).await else { return };
    let (one, other) = (servers.table(|_| {}).await, servers.table(|_| {}).await);
    let subject = subject("k");
    assert_eq!(one.read(&subject).await.unwrap(), None);
    let first = created(&one, "k", "a").await;
    let Put::Done(second) = one.replace(&subject, first, body("b"), None).await.unwrap() else {
        panic!("nobody else wrote it");
    };
    assert!(second > first);
    // Paused since it read the first.
    let late = other.replace(&subject, first, body("late"), None).await.unwrap();
    let Put::Overtaken(Some(stands)) = late else { panic!("{late:?}") };
    assert_eq!((stands.sequence, &*stands.bytes), (second, &b"b"[..]));
    assert_eq!(other.read(&subject).await.unwrap(), Some(stands));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_are_read_at_once_as_of_a_sequence_and_never_as_of_an_older_one() {
    let Some(servers) = Servers::start(3).await else { return };
    let table = servers.table(|_| {}).await;
    let mut last = 0;
    for number in 0..300 {
        last = created(&table, &number.to_string(), "first").await;
    }
    let changed = subject("7");
    let stands = table.read(&changed).await.unwrap().unwrap();
    let put = table.replace(&changed, stands.sequence, body("second"), None).await.unwrap();
    assert!(matches!(put, Put::Done(sequence) if sequence > last), "{put:?}");
    let Put::Done(newest) = put else { return };
    let mut subjects: Vec<_> = (0..300).map(|number| subject(number.to_string())).collect();
    subjects.push(subject("nothing"));
    let found = table.read_many(&subjects, newest).await;
    assert_eq!(found.len(), 300, "all but the one under which nothing stands");
    for subject in &subjects[..300] {
        assert_eq!(found.get(subject).cloned(), table.read(subject).await.unwrap(), "{subject}");
    }
    // No copy is as far as that, so none is believed.
    assert!(table.read_many(&subjects, newest + 1).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outcome_expires_and_its_key_is_free_again() {
    let Some(servers) = Servers::start(1).await else { return };
    let table = servers.table(|_| {}).await;
    let first = created(&table, "k", "order").await;
    let ttl = Some(Duration::from_secs(1));
    assert!(matches!(
        table.replace(&subject("k"), first, body("outcome"), ttl).await,
        Ok(Put::Done(_))
    ));
    assert!(matches!(
        table.create(&subject("k"), body("again")).await,
        Ok(Put::Overtaken(Some(_)))
    ));
    let gone = async {
        while table.read(&subject("k")).await.unwrap().is_some() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
    created(&table, "k", "again").await;
    created(&table, "stays", "an order has no time to live").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_message_is_lost_when_leaders_are_killed() {
    let Some(mut servers) = Servers::start(3).await else { return };
    let table = Arc::new(servers.table(|config| config.deadline = DEADLINE).await);
    let stop = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|writer| {
        let (table, stop) = (Arc::clone(&table), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut stored = BTreeMap::new();
            for n in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let key = format!("{writer}-{n}");
                // Each key has one writer, so nobody can have overtaken it.
                let sequence = created(&table, &key, &key).await;
                stored.insert(key, sequence);
            }
            stored
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut kills = 0;
    while kills < 3 {
        let before = table.replication().await;
        let Ok(before) = before else { continue };
        let Some(leader) = before.leader.as_deref().map(Servers::called) else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        sleep(Duration::from_millis(300)).await;
        servers.kill(leader);
        kills += 1;
        // Two of three go on by themselves.
        created(&table, &format!("while-one-is-down-{kills}"), "").await;
        servers.run(leader);
        let whole = async {
            while table.replication().await.map_or(0, |now| now.current) < 3 {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(DEADLINE, whole).await.is_err() {
            panic!("{:?} {}", table.replication().await, servers.log(leader));
        }
    }
    stop.store(true, Ordering::Relaxed);
    let stored = join_all(writers).await.into_iter().flat_map(Result::unwrap);
    let stored: BTreeMap<_, _> = stored.collect();
    assert!(stored.len() > 100, "{}", stored.len());
    for (key, sequence) in stored {
        let found = table.read(&subject(&key)).await.unwrap().unwrap();
        assert_eq!((found.sequence, found.bytes), (sequence, body(&key)), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_the_outcome_is_unknown_and_never_a_success() {
    let Some(mut servers) = Servers::start(3).await else { return };
    let deadline = Duration::from_secs(2);
    let table = servers.table(|config| config.deadline = deadline).await;
    created(&table, "before", "").await;
    servers.kill(0);
    servers.kill(1);
    let began = Instant::now();
    let put = table.create(&subject("k"), body("")).await;
    assert!(matches!(put, Err(TableError::Unknown(_))), "{put:?}");
    assert!(began.elapsed() < deadline * 10);
    servers.run(0);
    servers.run(1);
    let table = servers.table(|_| {}).await;
    // Whatever became of it, the same again ends well.
    assert!(matches!(
        table.create(&subject("k"), body("")).await,
        Ok(Put::Done(_) | Put::Overtaken(Some(_)))
    ));
    assert!(table.read(&subject("before")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_finds_no_room_is_refused_and_not_stored() {
    let Some(servers) = Servers::start(1).await else { return };
    let table =
        servers.table(|config| (config.stream, config.bytes_max) = ("SMALL".to_owned(), 64 << 10));
    let table = table.await;
    let small = |key: &dyn std::fmt::Display| format!("SMALL.{key}");
    let huge = table.create(&small(&"huge"), Bytes::from(vec![b'x'; 2 << 20])).await;
    assert!(matches!(huge, Err(TableError::TooLarge { bytes, max }) if bytes > max), "{huge:?}");
    let mut full = None;
    for n in 0..100 {
        let put = table.create(&small(&n), Bytes::from(vec![b'x'; 4 << 10])).await;
        if let Err(error) = put {
            full = Some((n, error));
            break;
        }
    }
    let (n, error) = full.unwrap();
    assert!(matches!(error, TableError::Full(_)), "{error}");
    assert_eq!(table.read(&small(&n)).await.unwrap(), None);
    assert!(table.read(&small(&0)).await.unwrap().is_some(), "nothing made room for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_not_ours_is_refused_and_left_as_it_is() {
    let Some(servers) = Servers::start(1).await else { return };
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let context = jetstream::new(client);
    let queue = Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["ORDERS.>".to_owned()],
        retention: RetentionPolicy::WorkQueue,
        ..Config::default()
    };
    context.create_stream(queue).await.unwrap();
    let named = |stream: &str| NatsConfig { stream: stream.to_owned(), ..servers.config() };
    let error = Table::open(&named("ORDERS")).await.unwrap_err();
    assert!(matches!(error, OpenError::Stream { .. }), "{error}");
    assert!(error.to_string().contains("retention"), "{error}");
    let left = context.get_stream("ORDERS").await.unwrap();
    assert_eq!(left.cached_info().config.retention, RetentionPolicy::WorkQueue);
    // Subjects of another stream.
    let taken =
        Config { name: "OTHER".into(), subjects: vec!["MINE.*".into()], ..Config::default() };
    context.create_stream(taken).await.unwrap();
    let error = Table::open(&named("MINE")).await.unwrap_err();
    assert!(error.to_string().contains("another stream"), "{error}");
    // More copies than there are servers.
    let error = Table::open(&NatsConfig { replicas: 3, ..named("MORE") }).await.unwrap_err();
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_made_anew_is_told_from_the_one_that_was() {
    let Some(servers) = Servers::start(1).await else { return };
    let table = servers.table(|_| {}).await;
    for n in 0..5 {
        created(&table, &n.to_string(), "").await;
    }
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let context = jetstream::new(client);
    context.delete_stream("FOREBAY").await.unwrap();
    drop(servers.table(|_| {}).await);
    let put = table.create(&subject("k"), body("")).await;
    let went_back = TableError::WentBack { given: 1, highest: 5 };
    assert_eq!(put, Err(went_back.clone()));
    // For good, also once it has come as far as it had been.
    let again = servers.table(|_| {}).await;
    for n in 0..10 {
        created(&again, &format!("new-{n}"), "").await;
    }
    assert_eq!(table.create(&subject("later"), body("")).await, Err(went_back.clone()));
    assert_eq!(table.read(&subject("k")).await, Err(went_back));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_with_its_address() {
    let config = NatsConfig::new(["nats://127.0.0.1:1".to_owned()]);
    let error = Table::open(&config).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
