//! Once acknowledged orders may be forgotten, nothing that comes is taken for new.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Answer, Buffer, Embedded, EmbeddedConfig, Envelope, OrderState, Verdict};
use forebay_order::Readiness;

use crate::support::*;

const SLOT: u64 = 64 << 10;
const HORIZON_MS: i64 = 30 * 86_400_000;
const HOUR_MS: i64 = 3_600_000;

fn large(id: &str) -> Envelope {
    Envelope { body: vec![b'x'; 1 << 10].into(), ..delivery(id, 1, Some(1)) }
}

/// Summarises orders `<prefix>-0` and so on until the first ones' segments are retired.
async fn sell(buffer: &Embedded, prefix: &str) {
    for n in 0..200 {
        post(buffer, large(&format!("{prefix}-{n}"))).await;
        let lease = lend(buffer).await;
        let verdict = Verdict::Summarised { summary_id: lease.key.id.clone(), existing: false };
        lease.settle(verdict);
    }
    let deadline = tokio::time::Instant::now() + SOON;
    while buffer.status().await.unwrap().segments > 3 {
        assert!(tokio::time::Instant::now() < deadline, "segments never retired");
        tokio::task::yield_now().await;
    }
}

async fn until_ms(buffer: &Embedded) -> Option<i64> {
    buffer.status().await.unwrap().look_first_until_ms
}

/// Whether an order of that key, accepted now, must be looked up.
async fn looked_up(buffer: &Embedded, id: &str) -> bool {
    assert_eq!(answer(buffer, large(id)).await, Answer::Accepted, "{id}");
    let lease = lend(buffer).await;
    assert_eq!((lease.key.id.as_str(), lease.sent_before), (id, false));
    let (look_first, summary_id) = (lease.look_first, id.to_owned());
    lease.settle(Verdict::Summarised { summary_id, existing: true });
    look_first
}

#[tokio::test]
async fn a_whole_store_that_starts_again_looks_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    for round in 0..3 {
        let buffer = embedded(dir.path(), SLOT, &clock);
        assert_eq!(until_ms(&buffer).await, None);
        assert!(!looked_up(&buffer, &format!("new-{round}")).await);
        sell(&buffer, &format!("sold-{round}")).await;
        if round == 1 {
            buffer.close().await;
        }
    }
}

#[tokio::test]
async fn once_outcomes_are_remembered_longer_what_was_forgotten_sooner_is_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let day = Duration::from_secs(86_400);
    let remembering = |days: u32| {
        let dedup_horizon = day * days;
        open(EmbeddedConfig { dedup_horizon, ..config(dir.path(), SLOT) }, &clock)
    };
    for (days, until) in [
        (2, None),
        // Shorter: what is forgotten from now on is older than what is known.
        (1, None),
        (1, None),
        (30, Some(START_MS + 29 * 86_400_000 + HOUR_MS)),
        // The same again adds nothing.
        (30, Some(START_MS + 29 * 86_400_000 + HOUR_MS)),
        (10, Some(START_MS + 29 * 86_400_000 + HOUR_MS)),
    ] {
        let buffer = remembering(days);
        assert_eq!(until_ms(&buffer).await, until, "{days}");
        assert_eq!(
            looked_up(&buffer, &format!("{days}-{until:?}-{}", fastrand::u64(..))).await,
            until.is_some()
        );
        buffer.close().await;
    }
}

#[tokio::test]
async fn after_the_index_is_lost_orders_are_looked_up_for_one_horizon_over_restarts_and_retirement()
{
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    sell(&buffer, "sold").await;
    post(&buffer, with(UNPAID, delivery("held", 1, Some(1)))).await;
    buffer.close().await;
    drop(buffer);
    std::fs::remove_dir_all(dir.path().join("outcomes")).unwrap();

    let mut buffer = embedded(dir.path(), SLOT, &clock);
    let until = START_MS + HORIZON_MS + HOUR_MS;
    assert_eq!(until_ms(&buffer).await, Some(until));
    let recovery = buffer.status().await.unwrap().recovery;
    assert!(recovery.iter().any(|note| note.contains("outcome index")), "{recovery:?}");
    assert!(looked_up(&buffer, "sold-0").await, "it is forgotten, and in the OMS");
    sell(&buffer, "later").await;
    for _ in 0..2 {
        drop(buffer);
        clock.advance(HOUR_MS);
        buffer = embedded(dir.path(), SLOT, &clock);
        assert_eq!(until_ms(&buffer).await, Some(until), "no start draws it out");
        assert_eq!(answer(&buffer, large("later-0")).await, Answer::Duplicate);
    }
    assert!(looked_up(&buffer, "sold-1").await);
    assert_eq!(answer(&buffer, large("waits")).await, Answer::Accepted);
    clock.advance(HORIZON_MS);
    assert_eq!(until_ms(&buffer).await, None, "it ends by itself");
    let waited = lend(&buffer).await;
    assert!(waited.look_first, "it came before the end");
    waited.settle(Verdict::Summarised { summary_id: "W".into(), existing: false });
    assert!(!looked_up(&buffer, "sold-2").await);
    let released = delivery("held", 2, Some(2));
    assert_eq!(answer(&buffer, released).await, Answer::Amended);
    assert!(lend(&buffer).await.look_first, "a Submitting of it may be what was lost");
}

#[tokio::test]
async fn an_index_that_is_older_than_the_journal_has_forgotten_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let (index, old) = (dir.path().join("outcomes"), dir.path().join("old"));
    let buffer = embedded(dir.path(), SLOT, &clock);
    sell(&buffer, "early").await;
    buffer.close().await;
    drop(buffer);
    std::fs::rename(&index, &old).unwrap();
    copy(&old, &index);
    let buffer = embedded(dir.path(), SLOT, &clock);
    assert_eq!(until_ms(&buffer).await, None);
    sell(&buffer, "late").await;
    buffer.close().await;
    drop(buffer);
    std::fs::remove_dir_all(&index).unwrap();
    copy(&old, &index);
    let buffer = embedded(dir.path(), SLOT, &clock);
    assert_eq!(until_ms(&buffer).await, Some(START_MS + HORIZON_MS + HOUR_MS));
    assert!(looked_up(&buffer, "late-0").await);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Zeroes some bytes of the block that holds `needle`: from its start a group's header, at 80 the first descriptor.
fn damage(dir: &Path, needle: &[u8], range: Range<usize>) {
    for entry in std::fs::read_dir(dir.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            let from = at / 4096 * 4096 + range.start;
            let slot = std::fs::File::options().write(true).open(path).unwrap();
            return slot.write_all_at(&vec![0; range.len()], from as u64).unwrap();
        }
    }
    panic!("no slot holds that body");
}

#[tokio::test]
async fn after_damage_orders_are_looked_up_and_a_start_that_finds_it_again_adds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let mut buffer = embedded(dir.path(), 1 << 20, &clock);
    for id in ["before", "gone", "after"] {
        post(&buffer, delivery(id, 1, Some(1))).await;
    }
    drop(buffer);
    damage(dir.path(), b"body gone 1", 0..4096);
    let until = START_MS + HORIZON_MS + HOUR_MS;
    for restart in 0..3 {
        buffer = embedded(dir.path(), 1 << 20, &clock);
        assert_eq!(until_ms(&buffer).await, Some(until), "restart {restart}");
        drop(buffer);
        clock.advance(2 * HOUR_MS);
    }
    buffer = embedded(dir.path(), 1 << 20, &clock);
    let lent = buffer.lease(10, SOON).await.unwrap();
    let lent: Vec<_> = lent.iter().map(|lease| (&lease.key.id[..], lease.look_first)).collect();
    assert_eq!(lent, [("before", true), ("after", true)], "what was sent is forgotten as well");
    assert!(looked_up(&buffer, "gone").await);
}

#[tokio::test]
async fn an_outcome_that_cannot_be_kept_is_forgotten_and_noted() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, delivery("unkept", 1, Some(1))).await;
    lend(&buffer).await.settle(Verdict::Summarised { summary_id: "U".into(), existing: false });
    damage(dir.path(), b"body unkept 1", 100..104);
    sell(&buffer, "sold").await;
    assert_eq!(until_ms(&buffer).await, Some(START_MS + HORIZON_MS + HOUR_MS));
    assert_eq!(answer(&buffer, delivery("unkept", 1, Some(1))).await, Answer::Accepted);
    assert!(lend(&buffer).await.look_first);
    buffer.close().await;
    drop(buffer);
    let buffer = embedded(dir.path(), SLOT, &clock);
    assert!(until_ms(&buffer).await.is_some());
}

#[tokio::test]
async fn a_cancel_of_an_order_that_may_be_in_the_oms_waits_until_it_was_asked() {
    for in_oms in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let buffer = embedded(dir.path(), SLOT, &clock);
        sell(&buffer, "sold").await;
        buffer.close().await;
        drop(buffer);
        std::fs::remove_dir_all(dir.path().join("outcomes")).unwrap();
        let buffer = embedded(dir.path(), SLOT, &clock);
        assert_eq!(answer(&buffer, large("sold-0")).await, Answer::Accepted);
        assert_eq!(buffer.status().await.unwrap().live["pending"], 1, "it is backlog");
        let cancel = with(Readiness::Cancelled, delivery("sold-0", 2, Some(2)));
        assert_eq!(answer(&buffer, cancel).await, Answer::Parked);
        let lease = lend(&buffer).await;
        let key = lease.key.clone();
        assert!(lease.look_first);
        if in_oms {
            lease.settle(Verdict::Summarised { summary_id: "S".into(), existing: true });
        } else {
            let leases = [lease];
            assert_eq!(buffer.submitting(&leases, true).await.unwrap(), [false]);
        }
        let (state, rows) =
            if in_oms { (OrderState::Summarised, 1) } else { (OrderState::Cancelled, 0) };
        let view = buffer.order(&key).await.unwrap().unwrap();
        assert_eq!((view.state, view.exceptions.len()), (state, rows), "in the OMS: {in_oms}");
    }
}
