//! The feed of a store that several processes share: whoever is asked tells of all orders.

use std::collections::BTreeMap;

use forebay_buffer::{Buffer, FeedEvent, FeedKind, OrderState};

use crate::nodes::{config, lend_all, open, state, summarised, two, until};
use crate::servers::Servers;
use crate::support::{NOW, SOON, UNPAID, answer, delivery, with};

fn kinds(events: &[FeedEvent]) -> BTreeMap<&str, Vec<FeedKind>> {
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    for event in events {
        kinds.entry(event.key.id.as_str()).or_default().push(event.kind);
    }
    kinds
}

/// Reads until it has told so many.
async fn read<B: Buffer>(buffer: &B, mut after: u64, count: usize) -> (Vec<FeedEvent>, u64) {
    let mut events = Vec::new();
    while events.len() < count {
        let page = buffer.feed(after, 100, SOON).await.unwrap();
        assert!(!page.events.is_empty(), "{:?} and no more", kinds(&events));
        after = page.next;
        events.extend(page.events);
    }
    (events, after)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_at_a_door_hears_of_what_others_drain_and_one_that_lags_where_each_order_is() {
    let Some(servers) = Servers::start(1).await else { return };
    let nodes = two(&servers).await;
    let door = open(config(&servers, false)).await;
    for id in 0..30 {
        answer(&door, delivery(&id.to_string(), 1, None)).await;
    }
    answer(&door, with(UNPAID, delivery("held", 1, Some(1)))).await;
    let (accepted, position) = read(&door, 0, 31).await;
    assert!(accepted.iter().all(|event| event.order == Some(event.sequence)));
    for leases in lend_all(&nodes, 30).await {
        for (id, lease) in leases {
            lease.settle(summarised(&id));
        }
    }
    let (summaries, position) = read(&door, position, 30).await;
    assert_eq!(summaries.len(), 30, "each once");
    for event in &summaries {
        let first = accepted.iter().find(|first| first.key == event.key).unwrap();
        assert_eq!((event.kind, event.order), (FeedKind::Summarised, first.order));
        assert_eq!(event.summary_id.as_ref(), Some(&event.key.id));
    }
    answer(&door, delivery("held", 2, Some(2))).await;
    until("it is released", async || state(&door, "held").await == OrderState::Pending).await;
    let (released, _) = read(&door, position, 1).await;
    assert_eq!(kinds(&released), BTreeMap::from([("held", vec![FeedKind::Accepted])]));

    // Only the newest page of each is there.
    let (late, next) = read(&nodes[1], 0, 61).await;
    let told = kinds(&late);
    assert_eq!(told.len(), 31);
    for (id, kinds) in told {
        let expected: &[FeedKind] = match id {
            "held" => &[FeedKind::Accepted],
            _ => &[FeedKind::Accepted, FeedKind::Summarised],
        };
        assert_eq!(kinds, expected, "{id}");
    }
    // The same event has the same name, whoever reads it and from where.
    for event in summaries.iter().chain(&released) {
        assert!(late.contains(event), "{event:?}");
    }
    assert!(door.feed(next, 10, NOW).await.unwrap().events.is_empty());
    for node in nodes {
        node.close().await;
    }
    door.close().await;
    let closed = door.feed(next, 10, SOON).await.unwrap_err();
    assert!(closed.to_string().contains("shutting down"), "{closed}");
}
