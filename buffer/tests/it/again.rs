//! How long an order that is in the OMS is kept whole, to be sent again if the OMS loses it.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Answer, Buffer, Embedded, EmbeddedConfig, ExceptionCategory, OrderState};
use forebay_order::OrderKey;

use crate::support::*;

const SLOT: u64 = 64 << 10;
const HOUR_MS: i64 = 3_600_000;

/// Orders that can be sent again.
async fn kept_whole(buffer: &Embedded) -> usize {
    let (mut count, mut from) = (0, 0);
    loop {
        let page = buffer.summarised_since(0, from, 100).await.unwrap();
        count += page.orders.len();
        match page.next {
            Some(next) => from = next,
            None => return count,
        }
    }
}

/// Waits, by asking, until so few or many are kept whole.
async fn until_kept(buffer: &Embedded, holds: impl Fn(usize) -> bool) -> usize {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let kept = kept_whole(buffer).await;
        if holds(kept) {
            return kept;
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {kept}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_order_is_kept_whole_for_its_window_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let replay_window = Duration::from_secs(3_600);
    let config = EmbeddedConfig { replay_window, ..config(dir.path(), SLOT) };
    let buffer = open(config.clone(), &clock);
    pass_through(&buffer, "early", 300).await;
    clock.advance(HOUR_MS / 2);
    pass_through(&buffer, "late", 300).await;
    // Ten looks for what may retire.
    for _ in 0..10 {
        clock.advance(10_000);
        assert_eq!(kept_whole(&buffer).await, 600);
    }
    drop(buffer);
    let buffer = open(config, &clock);
    assert_eq!(kept_whole(&buffer).await, 600, "after a start");
    clock.advance(HOUR_MS / 2);
    let kept = until_kept(&buffer, |kept| kept <= 360).await;
    assert!(kept >= 300, "{kept}: those settled half an hour ago");
    assert!(!buffer.send_again(&OrderKey::new("shopify", "demo", "early-0-0")).await.unwrap());
    let late = OrderKey::new("shopify", "demo", "late-14-19");
    assert!(buffer.send_again(&late).await.unwrap());
    assert_eq!(buffer.order(&late).await.unwrap().unwrap().state, OrderState::Submitted);
    clock.advance(HOUR_MS);
    // The open segment stays.
    until_kept(&buffer, |kept| kept < 60).await;
    let lease = lend(&buffer).await;
    assert_eq!((lease.key.clone(), lease.body.len()), (late, 1 << 10), "it waits, and is whole");
}

#[tokio::test]
async fn the_window_ends_early_where_the_disk_is_nearly_used_up() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let config = EmbeddedConfig {
        replay_window: Duration::from_secs(86_400),
        disk_max: 64 * SLOT,
        ..config(dir.path(), SLOT)
    };
    let buffer = open(config, &clock);
    // Twice what the disk may hold; none is refused.
    for round in 0..80 {
        pass_through(&buffer, &format!("round-{round}"), 80).await;
        clock.advance(10_000);
        let deadline = tokio::time::Instant::now() + SOON;
        while buffer.status().await.unwrap().segments > 49 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "three quarters of 64, and the open one"
            );
        }
    }
    let kept = kept_whole(&buffer).await;
    assert!((700..3_000).contains(&kept), "{kept}: of three quarters of the disk");
    let status = buffer.status().await.unwrap();
    assert_eq!(status.ended["summarised"], 6_400);
}

#[tokio::test]
async fn a_change_that_came_too_late_outlives_the_segment_its_order_left_to_be_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let replay_window = Duration::from_secs(3_600);
    let config = EmbeddedConfig { replay_window, ..config(dir.path(), SLOT) };
    let buffer = open(config.clone(), &clock);
    let key = OrderKey::new("shopify", "demo", "lost");
    post(&buffer, delivery("lost", 1, Some(1))).await;
    let lease = lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("lost", 2, Some(2))).await, Answer::Parked);
    lease.settle(summarised("lost"));
    pass_through(&buffer, "other", 120).await;
    assert!(buffer.send_again(&key).await.unwrap());
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows[0].category, ExceptionCategory::ChangeAfterSummary);
    let change = buffer.body(rows[0].id).await.unwrap().unwrap();
    // It waits for another worker, while others pass.
    let waits = lend(&buffer).await;
    pass_through(&buffer, "after", 120).await;
    drop(waits);
    // The window is over: the order's old segment goes, then the one it was written to anew.
    clock.advance(2 * HOUR_MS);
    until_kept(&buffer, |kept| kept < 60).await;
    let is_kept = async |buffer: &Embedded| {
        assert_eq!(buffer.exceptions(0, 10).await.unwrap(), rows);
        assert_eq!(buffer.body(rows[0].id).await.unwrap().as_ref(), Some(&change));
    };
    is_kept(&buffer).await;
    drop(buffer);
    let buffer = open(config, &clock);
    is_kept(&buffer).await;
    assert_eq!(lend(&buffer).await.key, key);
}
