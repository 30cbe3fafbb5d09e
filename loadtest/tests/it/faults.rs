//! A server that breaks its promises is found out, and one that is only slow or busy is measured fairly.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_loadtest::{Books, Ledger, Sale, Shape};

use crate::sale::{block_on, run, small};
use crate::server::{Faults, Server, Store};

fn against(faults: Faults, sale: &Sale) -> (Ledger, Books) {
    let store = Arc::new(Mutex::new(Store::default()));
    let server = Server::start(&store, 20_000, faults);
    block_on(run(sale, &server.target))
}

fn sale(seed: u64) -> Sale {
    Sale { orders: 600, ..small(seed) }
}

#[test]
fn a_forgotten_order_is_lost_and_the_books_do_not_balance() {
    let (_, books) = against(Faults { forget: Some(100), ..Faults::default() }, &sale(1));
    assert_eq!(books.lost, 1, "{books}");
    assert!(!books.balanced && !books.kept());
}

#[test]
fn a_double_in_the_oms_is_counted() {
    let (_, books) = against(Faults { double: Some(77), ..Faults::default() }, &sale(1));
    assert_eq!(books.doubled, 1, "{books}");
    assert!(books.balanced && !books.kept());
}

#[test]
fn a_cent_too_much_is_a_wrong_total() {
    let (_, books) = against(Faults { overcharge: Some(5), ..Faults::default() }, &sale(1));
    assert_eq!(books.wrong_total, 1, "{books}");
    assert!(!books.kept());
}

#[test]
fn a_refusal_for_the_moment_is_tried_again_and_counted_once() {
    let (ledger, books) = against(Faults { refuse_every: Some(5), ..Faults::default() }, &sale(2));
    assert!(books.kept(), "{books}");
    let (_, calm) = against(Faults::default(), &sale(2));
    // One in 625 is refused all four times; every other one is tried again until it is taken.
    assert!(books.refused - calm.refused < 20, "{books}\n{calm}");
    assert!(ledger.entries().iter().filter(|entry| entry.tries > 1).count() > 50);
    assert_eq!(books.offered, calm.offered);
}

/// The items that were taken are not counted again as the duplicates they are the second time.
#[test]
fn items_a_batch_had_no_room_for_are_sent_again() {
    let sale = Sale { batch_share: 1.0, tries: 20, ..sale(2) };
    let (_, full) = against(Faults { full_every: Some(15), ..Faults::default() }, &sale);
    let (_, calm) = against(Faults::default(), &sale);
    assert!(full.kept() && calm.kept(), "{full}\n{calm}");
    assert_eq!((full.refused, full.unknown), (calm.refused, 0), "{full}\n{calm}");
    assert_eq!(full.acknowledged, calm.acknowledged);
    assert!(full.duplicates < calm.duplicates + 5, "{full}\n{calm}");
}

#[test]
fn a_server_that_refuses_everything_is_refused_and_not_unknown() {
    let sale = Sale { orders: 50, ..small(3) };
    let (ledger, books) = against(Faults { refuse_all: true, ..Faults::default() }, &sale);
    assert_eq!((books.acknowledged, books.unknown, books.lost), (0, 0, 0), "{books}");
    assert_eq!(books.refused, books.offered);
    assert!(books.balanced && ledger.entries().iter().all(|entry| entry.tries == 4));
}

#[test]
fn an_answer_that_never_came_is_asked_for_with_the_same_bytes() {
    // Every seventh answer is cut, whosever it is: with the usual four tries one delivery in 2,401 would get none.
    let sale = Sale { tries: 20, ..sale(4) };
    let (_, books) = against(Faults { cut_every: Some(7), ..Faults::default() }, &sale);
    assert!(books.kept(), "{books}");
    assert_eq!(books.unknown, 0, "{books}");
    // The first try had its effect; the second is a duplicate.
    assert!(books.duplicates > 50, "{books}");
}

#[test]
fn orders_kept_without_an_acknowledgement_are_found() {
    let sale = Sale { tries: 1, ..sale(5) };
    let (_, books) = against(Faults { deny_every: Some(10), ..Faults::default() }, &sale);
    assert!(books.found_unacknowledged > 20, "{books}");
    assert!(books.kept(), "kept though refused breaks no promise: {books}");
}

#[test]
fn nobody_there_is_unknown() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = Arc::new(Mutex::new(Store::default()));
    let server = Server::start(&store, 100, Faults::default());
    let target = forebay_loadtest::Target { orders: closed, ops: server.target.ops };
    let (ledger, books) = block_on(run(&Sale { orders: 20, tries: 2, ..small(6) }, &target));
    assert_eq!(books.unknown, books.offered, "{books}");
    assert!(books.balanced && !ledger.is_complete());
}

/// With four connections at most four of 1,500 requests are in flight during the stall: a closed loop would
/// see those four. An open one sees everybody who had to wait, some 500.
#[test]
fn a_stall_of_a_second_shows_in_the_latency() {
    let sale =
        Sale { orders: 1_500, rate: 500.0, shape: Shape::Constant, batch_share: 0.0, ..small(7) };
    let stall = Some((300, Duration::from_secs(1)));
    let (ledger, books) =
        against(Faults { stall, ..Faults::default() }, &Sale { connections: 4, ..sale });
    assert!(books.kept(), "{books}");
    assert!(books.accept_p99_ms > 800.0, "p99 {} ms", books.accept_p99_ms);
    assert!(ledger.latency(0.85) > Duration::from_millis(300), "{:?}", ledger.latency(0.85));
}
