//! The feed of a store that several processes share: whoever is asked tells of all orders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Buffer, FeedCursor, FeedEvent, FeedKind, OrderState};
use forebay_order::Readiness;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::sleep;

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

/// Whoever drains them looks once a second for what was called off; something else comes of them before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_called_off_or_held_is_told_though_another_change_follows_at_once() {
    let Some(servers) = Servers::start(1).await else { return };
    let node = open(config(&servers, true)).await;
    let mut reader = Reader::new();
    let ids: Vec<_> = (0..10).map(|id| id.to_string()).collect();
    for id in &ids {
        answer(&node, delivery(id, 1, Some(1))).await;
    }
    reader.reads_all(&node, 100).await;
    // A cancel comes a second time; a held one is contradicted, and nobody knows by which is newer.
    let changes =
        [(FeedKind::Cancelled, Readiness::Cancelled, Some(3)), (FeedKind::Held, UNPAID, None)];
    for (id, (kind, readiness, version)) in ids.iter().zip(changes.into_iter().cycle()) {
        answer(&node, with(readiness, delivery(id, 2, Some(2)))).await;
        // He comes by before it is told.
        reader.reads_all(&node, 100).await;
        answer(&node, with(readiness, delivery(id, 3, version))).await;
        until("it is told", async || {
            reader.reads(&node, 100).await;
            reader.told(id, kind) > 0
        })
        .await;
    }
    // Something beside it waits for a person when it is called off.
    answer(&node, delivery("beside", 1, Some(1))).await;
    answer(&node, delivery("beside", 2, None)).await;
    answer(&node, with(Readiness::Cancelled, delivery("beside", 3, Some(2)))).await;
    until("it is told", async || {
        reader.reads(&node, 100).await;
        reader.told("beside", FeedKind::Cancelled) > 0
    })
    .await;
    reader.events.retain(|event| event.key.id != "beside");
    for (id, kinds) in kinds(&reader.events) {
        let expected: &[_] = match id.parse::<u8>().unwrap() % 2 {
            0 => &[FeedKind::Accepted, FeedKind::Cancelled],
            _ => &[FeedKind::Accepted, FeedKind::Held, FeedKind::Exception],
        };
        assert_eq!(kinds, expected, "{id}");
    }
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

/// Whoever waits beyond the newest page, which is not there any more, asks for it now and then only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_where_the_newest_page_has_expired_leaves_the_servers_in_peace() {
    let Some(servers) = Servers::start(1).await else { return };
    let dedup_horizon = Duration::from_secs(1);
    // Nobody owns anything, so nothing comes after it.
    let node = open(NatsConfig { dedup_horizon, ..config(&servers, false) }).await;
    answer(&node, delivery("1", 1, None)).await;
    let (_, before) = read(&node, FeedCursor::default(), 1).await;
    // From here on it listens for whoever waits.
    let nothing = node.feed(&before, 10, Duration::from_millis(10)).await.unwrap();
    assert_eq!(nothing.events, []);
    let off = async { answer(&node, with(Readiness::Cancelled, delivery("2", 1, None))).await };
    let (page, _) = tokio::join!(node.feed(&before, 10, SOON), off);
    assert_eq!(kinds(&page.unwrap().events)["2"], [FeedKind::Cancelled]);
    until("it has expired", async || node.feed(&before, 10, NOW).await.unwrap().events.is_empty())
        .await;
    let client = async_nats::connect(&servers.config().servers[0]).await.unwrap();
    let mut asked = client.subscribe("$JS.API.DIRECT.GET.>").await.unwrap();
    client.flush().await.unwrap();
    let came = async {
        sleep(Duration::from_secs(2)).await;
        answer(&node, delivery("3", 1, None)).await;
    };
    let (page, ()) = tokio::join!(node.feed(&before, 10, SOON), came);
    assert_eq!(kinds(&page.unwrap().events)["3"], [FeedKind::Accepted]);
    client.flush().await.unwrap();
    let mut times = 0;
    while let Some(Some(_)) = asked.next().now_or_never() {
        times += 1;
    }
    assert!((2..40).contains(&times), "asked {times} times in two seconds");
    node.close().await;
}
