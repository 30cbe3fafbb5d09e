//! The feed of a store that several processes share: whoever is asked tells of all orders.

use std::collections::{BTreeMap, BTreeSet};

use forebay_buffer::nats::Nats;
use forebay_buffer::{Buffer, FeedCursor, FeedEvent, FeedKind, OrderState};
use forebay_order::Readiness;

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
async fn read<B: Buffer>(
    buffer: &B,
    mut after: FeedCursor,
    count: usize,
) -> (Vec<FeedEvent>, FeedCursor) {
    let mut events = Vec::new();
    while events.len() < count {
        let page = buffer.feed(&after, 100, SOON).await.unwrap();
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
    let (accepted, position) = read(&door, FeedCursor::default(), 31).await;
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
    let (late, next) = read(&nodes[1], FeedCursor::default(), 61).await;
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
    assert!(door.feed(&next, 10, NOW).await.unwrap().events.is_empty());
    for node in nodes {
        node.close().await;
    }
    door.close().await;
    let closed = door.feed(&next, 10, SOON).await.unwrap_err();
    assert!(closed.to_string().contains("shutting down"), "{closed}");
}

/// Somebody who reads the feed and remembers nothing but text.
struct Reader {
    cursor: String,
    events: Vec<FeedEvent>,
}

impl Reader {
    fn new() -> Self {
        Self { cursor: "0".to_owned(), events: Vec::new() }
    }

    /// Reads one page; whether there was something.
    async fn reads(&mut self, buffer: &Nats, limit: usize) -> bool {
        let after: FeedCursor = self.cursor.parse().unwrap();
        let page = buffer.feed(&after, limit, NOW).await.unwrap();
        self.cursor = page.next.to_string();
        let found = !page.events.is_empty();
        self.events.extend(page.events);
        found
    }

    async fn reads_all(&mut self, buffer: &Nats, limit: usize) {
        while self.reads(buffer, limit).await {}
    }

    fn told(&self, id: &str, kind: FeedKind) -> usize {
        let of = |event: &&FeedEvent| event.key.id == id && event.kind == kind;
        self.events.iter().filter(of).count()
    }
}

/// So many orders get their summary; which.
async fn summarise(node: &Nats, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    until("orders are lent", async || {
        for lease in node.lease(count - ids.len(), NOW).await.unwrap() {
            let id = lease.key.id.clone();
            lease.settle(summarised(&id));
            ids.insert(id);
        }
        ids.len() == count
    })
    .await;
    for id in &ids {
        until("it is settled", async || state(node, id).await == OrderState::Summarised).await;
    }
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lags_is_told_of_pages_that_were_replaced_before_he_came_by() {
    let Some(servers) = Servers::start(1).await else { return };
    let node = open(config(&servers, true)).await;
    for id in 0..30 {
        answer(&node, delivery(&id.to_string(), 1, None)).await;
    }
    let mut reader = Reader::new();
    for _ in 0..10 {
        assert!(reader.reads(&node, 1).await);
    }
    // Of some he was told, of some not.
    let summaries = summarise(&node, 20).await;
    // He is behind where those stood that are not there any more.
    let at = reader.events.last().unwrap().sequence;
    while reader.events.last().unwrap().kind == FeedKind::Accepted && reader.reads(&node, 1).await {
    }
    assert!(reader.events.last().unwrap().sequence > at);
    reader.reads_all(&node, 1).await;
    for id in (0..30).map(|id| id.to_string()) {
        assert_eq!(reader.told(&id, FeedKind::Accepted), 1, "{id}");
        let expected = usize::from(summaries.contains(&id));
        assert_eq!(reader.told(&id, FeedKind::Summarised), expected, "{id}");
    }
    node.close().await;
}

/// Orders are accepted, called off and sent on while he reads; whom he asks is another process each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_one_event_at_a_time_is_told_each_whatever_happens_meanwhile() {
    let Some(servers) = Servers::start(1).await else { return };
    let node = open(config(&servers, true)).await;
    let mut door = open(config(&servers, false)).await;
    let mut random = fastrand::Rng::with_seed(11);
    let (mut reader, mut expected) = (Reader::new(), BTreeMap::new());
    for n in 0..150 {
        let id = n.to_string();
        answer(&node, delivery(&id, 1, Some(1))).await;
        expected.insert(id, FeedKind::Accepted);
        if random.u8(..3) > 0 {
            reader.reads(&door, 1).await;
        }
        match random.u8(..6) {
            0 => {
                let pending = expected.iter().filter(|(_, kind)| **kind == FeedKind::Accepted);
                let pending: Vec<_> = pending.map(|(id, _)| id.clone()).collect();
                let id = pending[random.usize(..pending.len())].clone();
                answer(&node, with(Readiness::Cancelled, delivery(&id, 2, Some(2)))).await;
                expected.insert(id, FeedKind::Cancelled);
            }
            1..4 => {
                let ids = summarise(&node, 1).await.into_iter();
                expected.extend(ids.map(|id| (id, FeedKind::Summarised)));
            }
            4 if n % 10 == 0 => {
                door.close().await;
                door = open(config(&servers, false)).await;
            }
            _ => {}
        }
    }
    let off = expected.values().filter(|kind| **kind == FeedKind::Cancelled).count();
    // Who drains them says so within a second.
    until("all are told", async || {
        reader.reads_all(&door, 1).await;
        reader.events.iter().filter(|event| event.kind == FeedKind::Cancelled).count() >= off
    })
    .await;
    let mut repeated = 0;
    for (id, kind) in &expected {
        assert!(reader.told(id, *kind) > 0, "{id}: {kind:?} is not told");
        let accepted = reader.told(id, FeedKind::Accepted);
        assert!(accepted > 0 || *kind == FeedKind::Cancelled, "{id}: accepted is not told");
        repeated += accepted.saturating_sub(1);
    }
    let named: BTreeSet<_> =
        reader.events.iter().map(|event| (event.sequence, event.part)).collect();
    assert_eq!(named.len(), reader.events.len(), "no event is told twice under one name");
    println!("{repeated} of {} accepted are told again; cursor {}", expected.len(), reader.cursor);
    assert!(repeated <= 10, "{repeated} are told again without need");
    door.close().await;
    node.close().await;
}

/// Cut off between any two events of a page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_within_a_page_is_told_the_rest_of_it() {
    let Some(servers) = Servers::start(1).await else { return };
    let node = open(config(&servers, true)).await;
    for id in 0..20 {
        answer(&node, delivery(&id.to_string(), 1, None)).await;
    }
    let first = node.feed(&FeedCursor::default(), 5, NOW).await.unwrap();
    assert_eq!(first.events.len(), 5);
    summarise(&node, 10).await;
    let page = node.feed(&first.next, 100, NOW).await.unwrap();
    // Accepted and summarised are told by one record.
    assert!(page.events.windows(2).any(|pair| pair[0].sequence == pair[1].sequence));
    for (at, _) in page.events.iter().enumerate() {
        let behind: FeedCursor = page.behind(at).to_string().parse().unwrap();
        let rest = node.feed(&behind, 100, NOW).await.unwrap();
        assert_eq!(rest.events, page.events[at + 1..], "behind {at}: {behind}");
    }
    node.close().await;
}
