//! The whole buffer, whose feed loses what it had not synced: it is derived again from the journal, under the same names.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Fingerprint, HoldReason, Readiness};

use super::*;
use crate::embedded::journal::{Location, ReadError};
use crate::embedded::{Embedded, EmbeddedConfig};
use crate::{Act, Buffer, Envelope, ExceptionCategory, FeedCursor, FeedError, OrderState, Verdict};

const SOON: Duration = Duration::from_secs(20);
const NOW: Duration = Duration::ZERO;
/// Ids from here on mark how far something was done.
const MARKS: u64 = 1 << 40;

/// A buffer in small slots, whose feed loses at the end what was not durable.
fn open(dir: &Path, change: impl FnOnce(&mut EmbeddedConfig)) -> Embedded {
    let mut config = EmbeddedConfig {
        slot_bytes: 32 << 10,
        burst_reserve: 2,
        disk_max: 16 << 20,
        ..EmbeddedConfig::new(dir)
    };
    change(&mut config);
    let failed = Box::new(|reason| panic!("the buffer failed: {reason}"));
    let loses = |writer: &mut crate::embedded::writer::Writer| {
        if let Some(feed) = &mut writer.feed {
            feed.loses = true;
        }
    };
    Embedded::start(&config, Arc::new(SystemClock), None, failed, loses).unwrap()
}

async fn post(buffer: &Embedded, id: u64, content: u8, version: u64, readiness: Readiness) {
    let key = OrderKey::new("shopify", "demo", id.to_string());
    let body = Bytes::from(vec![content; 400]);
    let envelope = Envelope {
        readiness,
        version: Some(version),
        ..Envelope::new(key, Fingerprint([content; 16]), body)
    };
    let permit = buffer.admission().admit(400).unwrap();
    buffer.append(envelope, permit).await.unwrap();
}

/// All events after one, up to what was done last.
async fn read(buffer: &Embedded, mut after: u64) -> Vec<FeedEvent> {
    // Answers come after the verdicts that were handed in before.
    let durable = buffer.status().await.unwrap().durable_sequence;
    let mark = MARKS + durable;
    post(buffer, mark, 1, 1, Readiness::Held(HoldReason::OnHold)).await;
    let mut events: Vec<FeedEvent> = Vec::new();
    while events.last().is_none_or(|event| event.key.id != mark.to_string()) {
        let page = buffer.feed(&FeedCursor::after(after), 100, SOON).await.unwrap();
        assert!(!page.events.is_empty(), "{:?}", events.last());
        after = page.next.sequence();
        events.extend(page.events);
    }
    events.retain(|event| event.key.id.parse::<u64>().unwrap() < MARKS);
    events
}

/// One of many things that happen to orders.
async fn happens(buffer: &Embedded, random: &mut fastrand::Rng) {
    let id = random.u64(1..60);
    let readiness = match random.u32(..8) {
        0 => Readiness::Cancelled,
        1 => Readiness::Held(HoldReason::Unpaid),
        _ => Readiness::Pending,
    };
    match random.u32(..10) {
        0..5 => post(buffer, id, random.u8(1..9), random.u64(1..9), readiness).await,
        5..9 => {
            for lease in buffer.lease(random.usize(1..4), NOW).await.unwrap() {
                let other = random.u8(1..9);
                if random.u32(..4) == 0 {
                    let id = lease.key.id.parse().unwrap();
                    post(buffer, id, other, random.u64(1..9), readiness).await;
                }
                match random.u32(..6) {
                    0 => drop(lease),
                    1 => lease.settle(Verdict::Exception {
                        category: ExceptionCategory::Rejected,
                        reason: "no".into(),
                    }),
                    2 => lease.settle(Verdict::Retry {
                        after: NOW,
                        counts: false,
                        sent: false,
                        reason: "busy".into(),
                    }),
                    _ => lease
                        .settle(Verdict::Summarised { summary_id: "S".into(), existing: false }),
                }
            }
        }
        _ => {
            let rows = buffer.exceptions(0, 100).await.unwrap();
            if let Some(row) = random.choice(rows) {
                let act = if random.bool() { Act::Retry } else { Act::Discard };
                // Not every act is possible.
                drop(buffer.act(row.id, act).await);
            }
        }
    }
}

/// Whether the first segment is gone.
fn has_retired(buffer: &Embedded) -> bool {
    let read = buffer.shared().reader.read(Location::new(1, 0));
    matches!(read, Err(ReadError::Recycled(_)))
}

/// Where each order is by what was told of it.
fn standing(events: &[FeedEvent]) -> BTreeMap<String, FeedKind> {
    let own = |event: &&FeedEvent| {
        event.exception.as_ref().is_none_or(|exception| exception.category.is_own())
    };
    let last = events.iter().filter(own).map(|event| (event.key.id.clone(), event.kind));
    last.collect()
}

fn kind_of(state: OrderState) -> FeedKind {
    match state {
        OrderState::Held => FeedKind::Held,
        OrderState::Pending | OrderState::Leased | OrderState::Submitted => FeedKind::Accepted,
        OrderState::Summarised => FeedKind::Summarised,
        OrderState::Cancelled => FeedKind::Cancelled,
        OrderState::Discarded => FeedKind::Discarded,
        OrderState::Exception | OrderState::Recorded => FeedKind::Exception,
    }
}

#[tokio::test]
async fn what_was_not_synced_is_told_again_the_same() {
    let seeds = if cfg!(debug_assertions) { 6 } else { 60 };
    for seed in 0..seeds {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut told: Vec<FeedEvent> = Vec::new();
        let mut retired = false;
        for _ in 0..5 {
            let buffer = open(dir.path(), |_| {});
            let recovery = buffer.status().await.unwrap().recovery;
            assert_eq!(recovery, Vec::<String>::new(), "seed {seed}");
            let again = read(&buffer, 0).await;
            let before = again.get(..told.len()).unwrap();
            assert_eq!(before, told, "seed {seed}: names and events are the same for ever");
            for _ in 0..random.u32(20..200) {
                happens(&buffer, &mut random).await;
            }
            told = read(&buffer, 0).await;
            assert!(told.is_sorted_by_key(|event| (event.sequence, event.part)));
            for (id, kind) in standing(&told) {
                let key = OrderKey::new("shopify", "demo", id.clone());
                let view = buffer.order(&key).await.unwrap().unwrap();
                assert_eq!(kind, kind_of(view.state), "order {id}, seed {seed}");
                let first = told.iter().find(|event| event.key.id == id).unwrap();
                assert_eq!(first.order, Some(view.sequence));
            }
            retired |= has_retired(&buffer);
        }
        assert!(retired, "no segment has retired, seed {seed}");
    }
}

#[tokio::test]
async fn nobody_reads_and_all_goes_on_and_what_is_too_old_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open(dir.path(), |config| {
        config.slot_bytes = 1 << 20;
        config.disk_max = 64 << 20;
        config.feed_bytes = 1;
    });
    let number = "n".repeat(1_000);
    let mut last = 0;
    for n in 0..3_000_u64 {
        let key = OrderKey::new("shopify", "demo", n.to_string());
        let envelope = Envelope {
            number: number.clone(),
            ..Envelope::new(key, Fingerprint([1; 16]), Bytes::from(vec![1; 4_000]))
        };
        let permit = buffer.admission().admit(4_000).unwrap();
        last = buffer.append(envelope, permit).await.unwrap().sequence();
    }
    // The last of them is told.
    let page = buffer.feed(&FeedCursor::after(last - 1), 1, SOON).await.unwrap();
    assert_eq!(page.next, FeedCursor::after(last));
    let gone = buffer.feed(&FeedCursor::after(0), 10, NOW).await.unwrap_err();
    let FeedError::Gone { oldest } = gone else { panic!("{gone}") };
    let kept = read(&buffer, oldest).await;
    assert!((900..2_000).contains(&kept.len()), "two slots of 1 MiB keep {} events", kept.len());
    assert_eq!(kept.first().unwrap().sequence, oldest + 1);
}

#[tokio::test]
async fn a_feed_that_is_lost_begins_anew_and_its_readers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let feed = dir.path().join("feed");
    let buffer = open(dir.path(), |_| {});
    post(&buffer, 1, 1, 1, Readiness::Pending).await;
    assert_eq!(read(&buffer, 0).await.len(), 1);
    drop(buffer);
    // Removed.
    std::fs::remove_dir_all(&feed).unwrap();
    let buffer = open(dir.path(), |_| {});
    let gone = buffer.feed(&FeedCursor::after(1), 10, NOW).await.unwrap_err();
    let FeedError::Gone { oldest } = gone else { panic!("{gone}") };
    post(&buffer, 2, 1, 1, Readiness::Pending).await;
    let page = buffer.feed(&FeedCursor::after(oldest), 10, SOON).await.unwrap();
    assert_eq!(page.events[0].key.id, "2");
    drop(buffer);
    // Switched off, and on again.
    let buffer = open(dir.path(), |config| config.feed_bytes = 0);
    assert!(matches!(buffer.feed(&FeedCursor::after(0), 1, NOW).await, Err(FeedError::NotKept)));
    post(&buffer, 3, 1, 1, Readiness::Pending).await;
    drop(buffer);
    assert!(!feed.exists());
    let buffer = open(dir.path(), |_| {});
    let gone = buffer.feed(&page.next, 10, NOW).await.unwrap_err();
    assert!(matches!(gone, FeedError::Gone { .. }), "{gone}");
}

/// An older copy of the feed's files, while segments have retired since.
#[tokio::test]
async fn a_feed_that_is_behind_what_has_retired_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (feed, copy) = (dir.path().join("feed"), dir.path().join("copy"));
    let buffer = open(dir.path(), |_| {});
    post(&buffer, 1, 1, 1, Readiness::Pending).await;
    assert_eq!(read(&buffer, 0).await.len(), 1);
    buffer.close().await;
    drop(buffer);
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(feed.join("1.feed"), copy.join("1.feed")).unwrap();
    let buffer = open(dir.path(), |_| {});
    let mut random = fastrand::Rng::with_seed(3);
    while !has_retired(&buffer) {
        happens(&buffer, &mut random).await;
    }
    drop(buffer);
    std::fs::copy(copy.join("1.feed"), feed.join("1.feed")).unwrap();
    let buffer = open(dir.path(), |_| {});
    let recovery = buffer.status().await.unwrap().recovery;
    assert!(recovery.iter().any(|line| line.contains("begins anew")), "{recovery:?}");
    let gone = buffer.feed(&FeedCursor::after(0), 10, NOW).await.unwrap_err();
    assert!(matches!(gone, FeedError::Gone { .. }), "{gone}");
}
