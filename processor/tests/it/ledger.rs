//! The ledger's own: doubles are seen, answers can be cut, a torn end hurts nobody.

use std::io::Write;

use forebay_processor::{CallFailure, OrderManagement};
use tempfile::tempdir;

use crate::support::{creates, ledger, order};

#[tokio::test]
async fn every_second_answer_is_cut_after_the_commit() {
    let directory = tempdir().unwrap();
    let oms = ledger(&directory.path().join("oms.ledger"), Some(2));
    let mut cut = 0;
    for n in 0..10 {
        if let Err(failure) = oms.submit(&[order(&n.to_string())]).await {
            assert!(matches!(failure, CallFailure::Unknown(_)), "{failure:?}");
            cut += 1;
        }
    }
    assert_eq!(cut, 5);
    assert_eq!(creates(&oms).await.len(), 10, "all of them were committed");
}

#[tokio::test]
async fn a_client_that_blindly_sends_again_doubles_and_the_ledger_sees_it() {
    // The negative control of every "doubled 0": this client takes Unknown for "not done".
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.ledger");
    let oms = ledger(&path, Some(2));
    for n in 0..100 {
        let sent = order(&n.to_string());
        while oms.submit(std::slice::from_ref(&sent)).await.is_err() {}
    }
    let doubled = |all: &[(String, u64)]| all.iter().filter(|(_, creates)| *creates > 1).count();
    let all = creates(&oms).await;
    assert_eq!(all.len(), 100);
    assert_eq!(doubled(&all), 99, "every answer that was cut made a double");
    drop(oms);
    assert_eq!(creates(&ledger(&path, None)).await, all, "and they are counted after a reopen");
}

#[tokio::test]
async fn a_torn_last_line_is_left_out_and_does_not_swallow_the_next() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.ledger");
    let oms = ledger(&path, None);
    oms.submit(&[order("1"), order("2")]).await.unwrap();
    drop(oms);
    let whole = std::fs::read(&path).unwrap();
    let last = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    // What one open says must be what every later one says: a line that lacks its newline only is whole.
    let cuts = [(last + 1, 1), (last + 9, 1), (whole.len() - 2, 1), (whole.len() - 1, 2)];
    for (torn_at, left) in cuts {
        std::fs::write(&path, &whole[..torn_at]).unwrap();
        let oms = ledger(&path, None);
        assert_eq!(creates(&oms).await.len(), left, "torn at {torn_at}");
        oms.submit(&[order("3")]).await.unwrap();
        drop(oms);
        let after: Vec<_> = creates(&ledger(&path, None)).await;
        assert_eq!(after.len(), left + 1, "torn at {torn_at}");
    }
}

#[tokio::test]
async fn a_flipped_bit_condemns_its_line_only() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.ledger");
    let oms = ledger(&path, None);
    oms.submit(&[order("1"), order("2"), order("3")]).await.unwrap();
    drop(oms);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::File::create(&path).unwrap().write_all(&bytes).unwrap();
    let left = creates(&ledger(&path, None)).await;
    assert_eq!(left.len(), 2);
    assert_eq!(left[0].0, order("2").key.identity());
}

#[tokio::test]
async fn two_processes_on_one_file_see_each_other_s_creates_and_doubles() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("oms.ledger");
    let (one, other) = (ledger(&path, None), ledger(&path, None));
    one.submit(&[order("1")]).await.unwrap();
    let found = other.find(&[order("1").key.identity()]).await.unwrap();
    assert!(found[0].is_some(), "what the other one was sent is there");
    let torn = b"0badc0de {\"identity\":\"torn by a kill";
    std::fs::File::options().append(true).open(&path).unwrap().write_all(torn).unwrap();
    other.submit(&[order("2"), order("1")]).await.unwrap();
    let identity = |id: &str| order(id).key.identity();
    let all = vec![(identity("1"), 2), (identity("2"), 1)];
    assert_eq!(creates(&one).await, all);
    assert_eq!(creates(&other).await, all, "and in the same order");
    assert_eq!(creates(&ledger(&path, None)).await, all);
}
