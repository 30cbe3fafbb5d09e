//! What every OMS must do, on each of them.

use std::sync::Arc;

use forebay_processor::{CallFailure, Claim, Found, Guarantee, Oms, OrderManagement, Outcome};
use tempfile::tempdir;

use crate::support::{
    both, creates, each, fingerprint, full_order, key, order, until, without_nul,
};

fn id_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Created { id } | Outcome::Existing { id, .. } => id.clone(),
        other => panic!("{other:?} has no id"),
    }
}

async fn reopened(directory: &std::path::Path, oms: Oms) -> Oms {
    let kind = oms.kind();
    drop(oms);
    each(directory).await.into_iter().find(|oms| oms.kind() == kind).unwrap()
}

#[tokio::test]
async fn outcomes_stand_in_the_order_of_the_batch_and_find_agrees() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let batch: Vec<_> = (0..50).map(|n| order(&n.to_string())).collect();
        let outcomes = oms.submit(&batch).await.unwrap();
        assert_eq!(outcomes.len(), batch.len());
        let identities: Vec<_> = batch.iter().rev().map(|order| order.key.identity()).collect();
        let found = oms.find(&identities).await.unwrap();
        for ((outcome, sent), found) in outcomes.iter().zip(&batch).zip(found.iter().rev()) {
            assert!(matches!(outcome, Outcome::Created { .. }), "{outcome:?}");
            let fingerprint = Some(sent.fingerprint);
            assert_eq!(*found, Some(Found { id: id_of(outcome), fingerprint }));
        }
    }
}

#[tokio::test]
async fn absent_is_none_and_nothing_asked_is_nothing_answered() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        oms.submit(&[order("1")]).await.unwrap();
        let asked = [key("2").identity(), key("1").identity(), "no such".to_owned()];
        let found = oms.find(&asked).await.unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false]);
        assert_eq!(oms.find(&[]).await.unwrap(), []);
        assert_eq!(oms.submit(&[]).await.unwrap(), []);
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_reopen() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let sent = without_nul(full_order("1"));
        let first = oms.submit(std::slice::from_ref(&sent)).await.unwrap();
        let oms = reopened(directory.path(), oms).await;
        let found = oms.find(&[sent.key.identity()]).await.unwrap();
        let expected = Found { id: id_of(&first[0]), fingerprint: Some(sent.fingerprint) };
        assert_eq!(found, [Some(expected)]);
        let next = oms.submit(&[order("2")]).await.unwrap();
        assert_ne!(id_of(&next[0]), id_of(&first[0]), "ids are never used twice");
    }
}

#[tokio::test]
async fn the_list_is_in_commit_order_with_pages_and_exact_totals() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        for call in 0..4 {
            let batch: Vec<_> = (0..5).map(|n| order(&format!("{call}.{n}"))).collect();
            oms.submit(&batch).await.unwrap();
        }
        oms.submit(&[without_nul(full_order("last"))]).await.unwrap();
        let first = oms.list(0, 7).await.unwrap().unwrap();
        assert_eq!(first.len(), 7);
        assert_eq!(first[0].identity, key("0.0").identity());
        assert_eq!((first[0].grand_total.as_str(), first[0].currency.as_str()), ("12.50", "EUR"));
        let rest = oms.list(first[6].cursor, 1_000).await.unwrap().unwrap();
        assert_eq!(rest.len(), 14);
        let all: Vec<_> = first.iter().chain(&rest).collect();
        assert!(all.windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
        assert!(all.windows(2).all(|pair| pair[0].committed_at_us <= pair[1].committed_at_us));
        assert_eq!(rest[13].grand_total, "13.10");
        assert_eq!(rest[13].fingerprint, Some(fingerprint("last")));
        assert_eq!(oms.list(rest[13].cursor, 10).await.unwrap(), Some(Vec::new()));
    }
}

#[tokio::test]
async fn a_second_create_is_refused_or_counted_as_the_guarantee_says() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let sent = order("1");
        let first = oms.submit(std::slice::from_ref(&sent)).await.unwrap();
        let second = oms.submit(std::slice::from_ref(&sent)).await.unwrap();
        let expected = match oms.guarantee() {
            Guarantee::UniqueId | Guarantee::IdempotencyKey => {
                assert_eq!(second, [Outcome::Existing { id: id_of(&first[0]), same: Some(true) }]);
                1
            }
            Guarantee::LookedUp | Guarantee::AtLeastOnce => 2,
        };
        assert_eq!(creates(&oms).await, [(sent.key.identity(), expected)]);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_undoes_nothing() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let batch: Vec<_> = (0..200).map(|n| order(&n.to_string())).collect();
        {
            // Polled once: the call is handed in, its answer never awaited.
            let mut call = std::pin::pin!(oms.submit(&batch));
            let handed_in = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_pending())
            });
            assert!(handed_in.await);
        }
        oms.submit(&[order("after")]).await.unwrap();
        until(async || creates(&oms).await.len() == 201).await;
    }
}

#[tokio::test]
async fn hundreds_of_calls_at_once_all_get_their_own_answer() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let oms = std::sync::Arc::new(oms);
        let mut calls = tokio::task::JoinSet::new();
        for call in 0..200 {
            let oms = std::sync::Arc::clone(&oms);
            calls.spawn(async move {
                let sent = order(&call.to_string());
                let id = id_of(&oms.submit(std::slice::from_ref(&sent)).await.unwrap()[0]);
                let found = oms.find(&[sent.key.identity()]).await.unwrap();
                assert_eq!(found[0].as_ref().map(|found| found.id.clone()), Some(id));
            });
        }
        while let Some(joined) = calls.join_next().await {
            joined.unwrap();
        }
        assert_eq!(creates(&*oms).await.len(), 200);
    }
}

#[tokio::test]
async fn call_failures_say_what_happened_without_personal_data() {
    let failure = CallFailure::NotSent("its thread has ended; restart Forebay".into());
    assert!(failure.to_string().contains("could not be reached"));
    let directory = tempdir().unwrap();
    let [sqlite, _] = both(directory.path());
    let mut twice = full_order("1");
    Arc::make_mut(&mut twice).lines[1].number = 1;
    let outcomes = sqlite.submit(&[twice]).await.unwrap();
    let Outcome::Invalid { code, reason } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(code, "constraint");
    assert!(!reason.contains("example.com") && !reason.contains("Sons"), "{reason}");
}

#[tokio::test]
async fn an_oms_keeps_whose_orders_are_drained_to_it() {
    let directory = tempdir().unwrap();
    for oms in each(directory.path()).await {
        let told = oms.claim("one", false).await.unwrap();
        let Claim::Ours { taken_ms: first } = told else {
            assert_eq!((told, oms.kind()), (Claim::Untold, "ledger"));
            continue;
        };
        assert_eq!(first.is_some(), oms.kind() == "http", "over HTTP two may write it at once");
        let oms = reopened(directory.path(), oms).await;
        for take in [false, true] {
            let again = oms.claim("one", take).await.unwrap();
            assert_eq!(again, told, "its own is not taken from anybody");
        }
        let other = oms.claim("other", false).await.unwrap();
        let Claim::Theirs { fleet, since_ms } = other else { panic!("{other:?}") };
        assert_eq!(fleet, "one");
        assert!(first.is_none_or(|first| first == since_ms));
        let taken = oms.claim("other", true).await.unwrap();
        let Claim::Ours { taken_ms: Some(taken_ms) } = taken else { panic!("{taken:?}") };
        assert!(taken_ms >= since_ms);
        assert_eq!(oms.claim("other", false).await.unwrap(), taken);
        let lost = oms.claim("one", false).await.unwrap();
        assert_eq!(lost, Claim::Theirs { fleet: "other".to_owned(), since_ms: taken_ms });
    }
}
