//! Whole sales: played, drained, reconciled.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_loadtest::mix::Kind;
use forebay_loadtest::{Books, Ledger, Mix, Sale, Shape, Target, play, reconcile};

use crate::server::{Faults, Server, Store};

pub(crate) fn small(seed: u64) -> Sale {
    Sale {
        orders: 3_000,
        rate: 3_000.0,
        seed,
        shape: Shape::Flash,
        connections: 32,
        batch_share: 0.2,
        ..Sale::default()
    }
}

pub(crate) const DRAINED: Duration = Duration::from_secs(60);

pub(crate) async fn run(sale: &Sale, target: &Target) -> (Ledger, Books) {
    let mut ledger = Ledger::new(Mix::new(sale));
    play(target, &mut ledger, pending(), |_| {}).await.unwrap();
    let books = reconcile(&ledger, target, DRAINED, |_| {}).await.unwrap();
    (ledger, books)
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

#[test]
fn a_sale_balances_with_every_bucket_filled() {
    let store = Arc::new(Mutex::new(Store::default()));
    let server = Server::start(&store, 500, Faults::default());
    let mut looks = Vec::new();
    let sale = small(5);
    let (ledger, books) = block_on(async {
        let mut ledger = Ledger::new(Mix::new(&sale));
        play(&server.target, &mut ledger, pending(), |p| looks.push(p)).await.unwrap();
        let books = reconcile(&ledger, &server.target, DRAINED, |p| looks.push(p)).await.unwrap();
        (ledger, books)
    });
    println!("{books}");
    println!("{}", books.json());
    assert!(books.kept(), "{books}");
    assert!(books.balanced && ledger.is_complete());
    let empty: Vec<_> = books
        .twelve()
        .into_iter()
        .filter(|(name, count)| *count == 0 && !["stale", "pending", "submitted"].contains(name))
        .collect();
    assert!(empty.is_empty(), "{empty:?} in {books}");
    assert_eq!((books.unknown, books.found_unacknowledged), (0, 0));
    let deliveries = u64::try_from(ledger.mix().deliveries.len()).unwrap();
    assert_eq!(books.offered, deliveries);
    assert_eq!(books.acknowledged + books.refused, deliveries);
    let first = ledger
        .mix()
        .deliveries
        .iter()
        .filter(|delivery| matches!(delivery.kind, Kind::Plain | Kind::Held | Kind::Poison));
    let six = books.held + books.cancelled + books.summarised + books.exceptions;
    let malformed_at_webhooks = six - u64::try_from(first.count()).unwrap();
    assert!(malformed_at_webhooks < 20, "{malformed_at_webhooks}");
    assert_eq!(books.drain_ceiling_per_s, Some(500.0));
    assert!(books.offered_per_s > 0.0 && books.drain_peak_per_s >= books.drain_mean_per_s);
    assert!(books.backlog_peak > 100, "{}", books.backlog_peak);
    assert!(looks.len() > 5 && looks.iter().any(|look| look.backlog > 0));
    assert!(looks.is_sorted_by_key(|look| look.acknowledged));
    assert_eq!(looks.last().unwrap().summarised, books.summarised);
}

#[test]
fn a_second_sale_of_the_same_bytes_is_all_duplicates_of_the_first() {
    let store = Arc::new(Mutex::new(Store::default()));
    let server = Server::start(&store, 10_000, Faults::default());
    let sale = Sale { orders: 300, ..small(6) };
    let (first, again) = block_on(async {
        let first = run(&sale, &server.target).await.1;
        (first, run(&sale, &server.target).await.1)
    });
    assert!(first.kept() && again.balanced(), "{first}\n{again}");
    assert!(again.duplicates > first.summarised, "{again}");
    assert_eq!((again.summarised, again.lost, again.doubled), (0, 0, 0), "{again}");
}
