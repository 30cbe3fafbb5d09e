//! An order that stays for a day must not keep the disk of all that passed it.
//!
//! The disk is real and so is every sync; only the clock is moved. 24 hours at one order in three seconds take
//! seconds; `FOREBAY_LONG=1 cargo test --release -p forebay-buffer --test it pinned` runs them at 20 a second,
//! which takes minutes.

#![expect(clippy::print_stdout, reason = "says what the day came to")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use forebay_buffer::{Answer, Buffer, Embedded, Envelope, OrderState, Verdict};
use forebay_order::{OrderKey, Readiness};

use crate::support::*;

const SLOT: u64 = 1 << 20;
/// Spare slots of this configuration: the burst reserve, at least three, and two that a burst left.
const RESERVE: u64 = 5;
const BODY: usize = 4 << 10;
/// One look at the disk.
const STEP_S: i64 = 60;

fn order(id: &str, readiness: Readiness, version: u64) -> Envelope {
    let body = vec![b'x'; BODY].into();
    with(readiness, Envelope { body, ..delivery(id, 1, Some(version)) })
}

/// Bytes of disk that the journal's files take.
fn disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let files = std::fs::read_dir(dir.join("journal")).unwrap();
    // A file may go between the two looks.
    files.filter_map(|file| file.unwrap().metadata().ok()).map(|file| file.blocks() * 512).sum()
}

/// Hands them all in, then waits for each.
async fn post_all(buffer: &Embedded, envelopes: &[Envelope]) {
    let handed_in: Vec<_> = envelopes
        .iter()
        .map(|envelope| {
            let permit = buffer.admission().admit(envelope.body.len()).unwrap();
            buffer.append(envelope.clone(), permit)
        })
        .collect();
    for append in handed_in {
        append.await.unwrap();
    }
}

async fn drain(buffer: &Embedded, mut left: u64) {
    while left > 0 {
        let leases = buffer.lease(1_000, SOON).await.unwrap();
        assert!(!leases.is_empty(), "{left} never came");
        left -= leases.len() as u64;
        for lease in leases {
            let summary_id = lease.key.id.clone();
            lease.settle(Verdict::Summarised { summary_id, existing: false });
        }
    }
}

/// About what a record takes besides its body.
const RECORD: u64 = 160;

/// Lets hours pass over `pinned` held orders. Every `one_in`-th of the others is held too, and called off
/// `held_steps` later; the rest passes. At every step the disk is at most four times what is live, the
/// reserve, and the two segments that are being filled and emptied.
async fn pass(hours: i64, pinned: u64, one_in: Option<u64>, held_steps: i64) {
    let per_step = if std::env::var_os("FOREBAY_LONG").is_some() { 20 * STEP_S } else { 20 };
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    for id in 0..pinned {
        post(&buffer, order(&format!("pinned-{id}"), UNPAID, 1)).await;
    }
    let mut held: VecDeque<(i64, String)> = VecDeque::new();
    let (mut posted, mut cancelled, mut most) = (0_u64, 0_u64, 0);
    for step in 0..hours * 3_600 / STEP_S {
        let mut passing = 0;
        let mut orders = Vec::new();
        for _ in 0..per_step {
            posted += 1;
            let id = posted.to_string();
            if one_in.is_some_and(|one_in| posted.is_multiple_of(one_in)) {
                orders.push(order(&id, UNPAID, 1));
                held.push_back((step, id));
            } else {
                orders.push(order(&id, Readiness::Pending, 1));
                passing += 1;
            }
        }
        while held.front().is_some_and(|(since, _)| step - since >= held_steps) {
            let (_, id) = held.pop_front().unwrap();
            let cancel = with(Readiness::Cancelled, delivery(&id, 2, Some(2)));
            assert_eq!(answer(&buffer, cancel).await, Answer::Cancelled);
            cancelled += 1;
        }
        for chunk in orders.chunks(500) {
            post_all(&buffer, chunk).await;
        }
        drain(&buffer, passing).await;
        clock.advance(STEP_S * 1_000);
        let live = (held.len() as u64 + pinned) * (BODY as u64 + RECORD) + cancelled * RECORD;
        let bound = 4 * live + (RESERVE + 2) * SLOT;
        let taken = disk_within(&buffer, dir.path(), bound).await;
        most = most.max(taken);
    }
    println!("{posted} orders, {} MiB of disk at most", most >> 20);
    let view = buffer.order(&OrderKey::new("shopify", "demo", "pinned-0")).await.unwrap().unwrap();
    assert_eq!((view.state, view.accepted_at_ms), (OrderState::Held, START_MS));
    assert_eq!(buffer.body(view.sequence).await.unwrap().unwrap().len(), BODY);
}

/// The disk taken, which must be within the bound as soon as the writer has done what it can do in this step.
async fn disk_within(buffer: &Embedded, dir: &Path, bound: u64) -> u64 {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let taken = disk(dir);
        if taken <= bound {
            return taken;
        }
        let status = buffer.status().await.unwrap();
        assert!(tokio::time::Instant::now() < deadline, "{taken} of {bound} bytes: {status:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_order_pinned_for_a_day_keeps_only_its_own_disk() {
    pass(24, 1, None, 0).await;
}

#[tokio::test]
async fn orders_pinned_in_bulk_and_all_over_keep_at_most_four_times_their_own_disk() {
    pass(8, 400, Some(40), 120).await;
}
