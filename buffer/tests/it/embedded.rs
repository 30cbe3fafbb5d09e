//! What only the embedded backend must stand: reopens, crashes, retirement, a full disk, a lost index.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{
    Act, Answer, AppendError, Buffer, Clock, Effect, Embedded, EmbeddedConfig, ExceptionCategory,
    OrderState, Status, Verdict,
};
use forebay_order::{OrderKey, Readiness, RecordedAs};

use crate::support::*;
use crate::tickets;

const SLOT: u64 = 64 << 10;

fn key(id: &str) -> OrderKey {
    OrderKey::new("shopify", "demo", id)
}

/// Waits, by asking, until what was said of the status holds.
async fn until(buffer: &Embedded, holds: impl Fn(&Status) -> bool) -> Status {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        let status = buffer.status().await.unwrap();
        if holds(&status) {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "never so: {status:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn everything_said_survives_a_close_and_a_crash() {
    for orderly in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let buffer = embedded(dir.path(), 1 << 20, &clock);
        // An exception, a retry that waits, a discard, a conflict, a summary with a change after it.
        for id in ["exception", "retry", "discard", "summary"] {
            post(&buffer, delivery(id, 1, Some(1))).await;
        }
        for lease in buffer.lease(10, SOON).await.unwrap() {
            let verdict = match lease.key.id.as_str() {
                "retry" => Verdict::Retry {
                    after: Duration::from_secs(60),
                    counts: true,
                    sent: false,
                    reason: "busy".into(),
                },
                "summary" => summarised("S1"),
                _ => Verdict::Exception {
                    category: ExceptionCategory::Rejected,
                    reason: "no".into(),
                },
            };
            lease.settle(verdict);
        }
        let rows = buffer.exceptions(0, 10).await.unwrap();
        buffer.act(rows[1].id, Act::Discard).await.unwrap();
        post(&buffer, delivery("summary", 2, Some(2))).await;
        post(&buffer, with(UNPAID, delivery("held", 1, Some(1)))).await;
        post(&buffer, delivery("conflict", 1, None)).await;
        post(&buffer, delivery("conflict", 2, None)).await;
        post(&buffer, delivery("amended", 1, Some(1))).await;
        post(&buffer, delivery("amended", 2, Some(2))).await;
        post(&buffer, with(Readiness::Cancelled, delivery("cancelled", 1, Some(5)))).await;
        let draft = with(Readiness::Recorded(RecordedAs::Draft), delivery("draft", 1, None));
        post(&buffer, draft.clone()).await;
        clock.advance(10);
        let before = all(&buffer).await;
        if orderly {
            buffer.close().await;
        }
        drop(buffer);

        let buffer = embedded(dir.path(), 1 << 20, &clock);
        let after = all(&buffer).await;
        assert_eq!(before, after, "orderly: {orderly}");
        for (id, content, version, expected) in [
            ("exception", 1, Some(1), Answer::Duplicate),
            ("discard", 1, Some(1), Answer::Duplicate),
            ("summary", 1, Some(1), Answer::Duplicate),
            ("summary", 2, Some(2), Answer::Duplicate),
            ("summary", 3, Some(3), Answer::ChangeAfterSummary),
            ("conflict", 2, None, Answer::Conflict),
            ("amended", 1, Some(1), Answer::Duplicate),
            ("cancelled", 2, Some(1), Answer::Held),
            ("held", 2, Some(2), Answer::Amended),
        ] {
            assert_eq!(answer(&buffer, delivery(id, content, version)).await, expected, "{id}");
        }
        assert_eq!(answer(&buffer, draft).await, Answer::Duplicate);
        let lent = buffer.lease(10, SOON).await.unwrap();
        let lent: Vec<_> = lent.iter().map(|lease| (&lease.key.id[..], &lease.body[..])).collect();
        assert_eq!(
            lent,
            [
                ("held", &b"body held 2"[..]),
                ("conflict", b"body conflict 1"),
                ("amended", b"body amended 2")
            ]
        );
    }
}

/// Everything that can be seen of those orders.
async fn all(buffer: &Embedded) -> String {
    let mut seen = String::new();
    for id in
        ["exception", "retry", "discard", "summary", "held", "conflict", "amended", "cancelled"]
    {
        let mut view = buffer.order(&key(id)).await.unwrap().unwrap();
        // Once its segment is gone, an order that ended has no bytes, and one in the index no number.
        let ended = view.settled_at_ms.is_some();
        let body = if ended { None } else { buffer.body(view.sequence).await.unwrap() };
        view.number.retain(|_| !ended);
        seen += &format!("{view:?} {body:?}\n");
    }
    for row in buffer.exceptions(0, 100).await.unwrap() {
        let body = buffer.body(row.id).await.unwrap();
        seen += &format!("{row:?} {body:?}\n");
    }
    let status = buffer.status().await.unwrap();
    seen + &format!("{:?} {:?} {:?}", status.live, status.ended, status.exceptions)
}

#[tokio::test]
async fn an_order_lent_out_at_a_crash_comes_alone_and_as_sent_before() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    for id in ["1", "2", "3"] {
        post(&buffer, delivery(id, 1, Some(1))).await;
    }
    // As if the process died: the leases are not given back while it lives.
    let lost = buffer.lease(2, SOON).await.unwrap();
    drop(buffer);
    drop(lost);

    let buffer = embedded(dir.path(), 1 << 20, &clock);
    let first = lend(&buffer).await;
    assert_eq!((first.key.id.as_str(), first.sent_before), ("1", true));
    let others = lend(&buffer).await;
    assert_eq!(others.key.id, "3", "one suspect at a time; the innocent go on");
    assert_eq!(answer(&buffer, delivery("2", 2, Some(2))).await, Answer::Parked);
    first.settle(summarised("S1"));
    let second = lend(&buffer).await;
    assert_eq!((second.key.id.as_str(), second.sent_before), ("2", true));
    assert_eq!(second.body, "body 2 1");
    buffer.close().await;
    drop((second, others));

    let buffer = embedded(dir.path(), 1 << 20, &clock);
    let lent = buffer.lease(10, SOON).await.unwrap();
    assert_eq!(lent.len(), 2, "after an orderly close nobody is suspect");
    assert_eq!(lent.iter().map(|lease| lease.sent_before).collect::<Vec<_>>(), [true, false]);
}

#[tokio::test]
async fn an_order_that_kills_the_process_three_times_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    post(&buffer, delivery("poison", 1, Some(1))).await;
    let mut kept = Vec::new();
    kept.extend(buffer.lease(10, SOON).await.unwrap());
    drop(buffer);
    for _ in 0..2 {
        let buffer = embedded(dir.path(), 1 << 20, &clock);
        let lease = lend(&buffer).await;
        assert!(lease.sent_before);
        kept.push(lease);
        drop(buffer);
    }
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    none_to_lend(&buffer).await;
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows[0].category, ExceptionCategory::Poison);
    assert!(rows[0].reason.contains("3 times"), "{}", rows[0].reason);
    assert_eq!(rows[0].key, key("poison"));
    drop(buffer);
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), rows, "set aside once, for good");
    buffer.act(rows[0].id, Act::Retry).await.unwrap();
    assert!(lend(&buffer).await.sent_before);
}

#[tokio::test]
async fn an_order_that_was_only_looked_up_killed_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let mut buffer = embedded(dir.path(), 1 << 20, &clock);
    tickets::submit(&buffer, "1", "T-1").await;
    clock.advance(10_000);
    for _ in 0..4 {
        let lost = tickets::lend_ticketed(&buffer).await;
        drop(buffer);
        drop(lost);
        buffer = embedded(dir.path(), 1 << 20, &clock);
    }
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
    assert_eq!(buffer.outstanding(), 1);
    tickets::lend_ticketed(&buffer).await.settle(tickets::taken("T-1"));
    // A read comes after all that was handed in before.
    buffer.status().await.unwrap();
    drop(buffer);
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    assert!(buffer.lease_ticketed(10, NOW).await.unwrap().is_empty(), "it keeps its pace");
    clock.advance(10_000);
    tickets::lend_ticketed(&buffer).await;
}

#[tokio::test]
async fn segments_retire_and_their_outcomes_still_answer() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let mut buffer = embedded(dir.path(), SLOT, &clock);
    let draft = with(Readiness::Recorded(RecordedAs::Draft), delivery("draft", 1, None));
    post(&buffer, draft.clone()).await;
    pass_through(&buffer, "early", 100).await;
    pass_through(&buffer, "late", 400).await;
    until(&buffer, |status| status.segments <= 4).await;
    for round in 0..2 {
        let again = post(&buffer, large("early-0-0", 1 << 10)).await;
        assert_eq!(again.answer(), Answer::Duplicate, "round {round}");
        assert_eq!(again.first().summary_id.as_deref(), Some("early-0-0"));
        assert_eq!(again.first().accepted_at_ms, START_MS);
        assert_eq!(answer(&buffer, draft.clone()).await, Answer::Duplicate);
        let view = buffer.order(&key("early-0-1")).await.unwrap().unwrap();
        assert_eq!((view.state, view.number.as_str()), (OrderState::Summarised, ""));
        assert_eq!(buffer.body(view.sequence).await.unwrap(), None, "its bytes are gone");
        let status = buffer.status().await.unwrap();
        assert_eq!((status.ended["summarised"], status.ended["recorded"]), (500, 1));
        buffer.close().await;
        drop(buffer);
        buffer = embedded(dir.path(), SLOT, &clock);
    }
    let change = post(&buffer, delivery("early-0-0", 2, Some(2))).await;
    assert_eq!(change.answer(), Answer::ChangeAfterSummary);
    assert_eq!(change.first().state, OrderState::Summarised);
    assert_eq!(answer(&buffer, delivery("early-0-0", 2, Some(2))).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("early-0-0", 3, Some(1))).await, Answer::Stale);
    assert_eq!(answer(&buffer, delivery("early-0-0", 3, None)).await, Answer::Conflict);
    none_to_lend(&buffer).await;
}

#[tokio::test]
async fn live_orders_and_rows_are_carried_forward_out_of_old_segments() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    let held = post(&buffer, with(UNPAID, delivery("held", 1, Some(1)))).await;
    post(&buffer, with(UNPAID, delivery("held", 2, Some(2)))).await;
    post(&buffer, with(UNPAID, delivery("conflict", 1, None))).await;
    let conflict = post(&buffer, delivery("conflict", 2, None)).await;
    assert_eq!(conflict.answer(), Answer::Amended);
    let conflict = post(&buffer, delivery("conflict", 3, None)).await.sequence();
    let unreadable = with(Readiness::Unreadable, delivery("", 1, None));
    let stray = post(&buffer, unreadable.clone()).await.sequence();
    post(&buffer, delivery("bad", 1, None)).await;
    post(&buffer, delivery("given-up", 1, None)).await;
    post(&buffer, delivery("lent", 1, Some(1))).await;
    let mut leases = buffer.lease(10, SOON).await.unwrap();
    let lent = leases.remove(3);
    assert_eq!(lent.key.id, "lent");
    post(&buffer, delivery("lent", 2, Some(2))).await;
    for lease in leases {
        let category = ExceptionCategory::Rejected;
        lease.settle(Verdict::Exception { category, reason: "no".into() });
    }
    let rows = buffer.exceptions(0, 10).await.unwrap();
    let given_up = rows.iter().find(|row| row.key == key("given-up")).unwrap();
    buffer.act(given_up.id, Act::Discard).await.unwrap();
    post(&buffer, with(Readiness::Cancelled, delivery("cancelled", 1, Some(5)))).await;
    let before = snapshot(&buffer).await;

    pass_through(&buffer, "flow", 600).await;
    until(&buffer, |status| status.segments <= 4).await;
    assert_eq!(snapshot(&buffer).await, before);
    assert_eq!(buffer.body(held.sequence()).await.unwrap().unwrap(), "body held 2");
    assert_eq!(buffer.body(conflict).await.unwrap().unwrap(), "body conflict 3");
    assert_eq!(buffer.body(stray).await.unwrap().unwrap(), "body  1");
    drop(buffer);

    // The index is lost too; none of these needs it.
    std::fs::remove_dir_all(dir.path().join("outcomes")).unwrap();
    let buffer = embedded(dir.path(), SLOT, &clock);
    drop(lent);
    assert_eq!(answer(&buffer, delivery("given-up", 1, None)).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, unreadable).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("cancelled", 2, Some(1))).await, Answer::Held);
    assert_eq!(answer(&buffer, delivery("held", 1, Some(1))).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("lent", 2, Some(2))).await, Answer::Duplicate);
    let lent = lend(&buffer).await;
    assert_eq!((lent.key.id.as_str(), lent.sent_before), ("lent", true));
    assert_eq!(lent.body, "body lent 1");
    lent.settle(summarised("S"));
    let rows = buffer.exceptions(0, 20).await.unwrap();
    let change = rows.iter().find(|row| row.key == key("lent")).unwrap();
    assert_eq!(change.category, ExceptionCategory::ChangeAfterSummary);
    assert_eq!(buffer.body(change.id).await.unwrap().unwrap(), "body lent 2");
}

async fn snapshot(buffer: &Embedded) -> String {
    let mut seen = String::new();
    for id in ["held", "conflict", "bad", "given-up", "lent", "cancelled"] {
        let mut view = buffer.order(&key(id)).await.unwrap().unwrap();
        view.position = None;
        seen += &format!("{view:?}\n");
    }
    for row in buffer.exceptions(0, 100).await.unwrap() {
        seen += &format!("{row:?}\n");
    }
    seen
}

const TEN_YEARS_MS: i64 = 3_652 * 86_400_000;

#[tokio::test]
async fn a_clock_that_jumps_years_ahead_makes_nothing_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, with(Readiness::Cancelled, delivery("cancelled", 1, Some(5)))).await;
    pass_through(&buffer, "before", 300).await;
    until(&buffer, |status| status.segments <= 4).await;
    clock.set_wall(TEN_YEARS_MS);
    pass_through(&buffer, "during", 300).await;
    until(&buffer, |status| status.segments <= 4).await;
    clock.set_wall(-TEN_YEARS_MS);
    assert_eq!(answer(&buffer, delivery("cancelled", 2, Some(1))).await, Answer::Held);
    assert_eq!(answer(&buffer, large("before-0-0", 1 << 10)).await, Answer::Duplicate);
}

#[tokio::test]
async fn a_clock_that_is_set_back_by_years_parks_no_retry() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, delivery("1", 1, Some(1))).await;
    let after = Duration::from_secs(60);
    lend(&buffer).await.settle(Verdict::Retry {
        after,
        counts: true,
        sent: false,
        reason: "busy".into(),
    });
    until(&buffer, |status| status.delayed == 1).await;
    clock.set_wall(-TEN_YEARS_MS);
    none_to_lend(&buffer).await;
    clock.advance(59_000);
    none_to_lend(&buffer).await;
    clock.advance(1_000);
    assert_eq!(lend(&buffer).await.attempts, 1);
}

#[tokio::test]
async fn a_lost_index_changes_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    pass_through(&buffer, "flow", 300).await;
    until(&buffer, |status| status.segments <= 4).await;
    buffer.close().await;
    drop(buffer);
    for run in std::fs::read_dir(dir.path().join("outcomes")).unwrap() {
        std::fs::write(run.unwrap().path(), vec![0xa5; 4096]).unwrap();
    }
    let buffer = embedded(dir.path(), SLOT, &clock);
    let status = buffer.status().await.unwrap();
    assert!(status.recovery.iter().any(|line| line.contains(".run.bad")), "{:?}", status.recovery);
    assert_eq!(status.outcomes.runs, 0);
    assert_eq!(answer(&buffer, large("flow-0-0", 1 << 10)).await, Answer::Accepted, "drains again");
    assert_eq!(lend(&buffer).await.key.id, "flow-0-0");
}

/// Flips one bit of `body` wherever slots hold it: a start may have copied it.
fn flip(dir: &Path, body: &[u8]) {
    let mut flipped = false;
    for entry in std::fs::read_dir(dir.join("journal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(body.len()).position(|window| window == body);
        if let Some(at) = found {
            let slot = std::fs::File::options().write(true).open(path).unwrap();
            slot.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            flipped = true;
        }
    }
    assert!(flipped, "no slot holds that body");
}

#[tokio::test]
async fn damaged_bytes_are_listed_and_the_same_order_repairs_them() {
    for at_start in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let mut buffer = embedded(dir.path(), 1 << 20, &clock);
        post(&buffer, delivery("whole", 1, Some(1))).await;
        post(&buffer, delivery("damaged", 1, Some(1))).await;
        post(&buffer, with(UNPAID, delivery("after", 1, Some(1)))).await;
        if at_start {
            drop(buffer);
            flip(dir.path(), b"body damaged 1");
            buffer = embedded(dir.path(), 1 << 20, &clock);
        } else {
            flip(dir.path(), b"body damaged 1");
        }
        let whole = lend(&buffer).await;
        assert_eq!(whole.key, key("whole"));
        let rows = buffer.exceptions(0, 10).await.unwrap();
        assert_eq!(rows.len(), 1, "at start: {at_start}");
        assert_eq!(
            (rows[0].category, rows[0].key.clone()),
            (ExceptionCategory::Damaged, key("damaged"))
        );
        assert!(buffer.act(rows[0].id, Act::Retry).await.is_err());
        assert_eq!(answer(&buffer, delivery("damaged", 1, Some(1))).await, Answer::Amended);
        assert_eq!(answer(&buffer, delivery("damaged", 1, Some(1))).await, Answer::Duplicate);
        assert_eq!(lend(&buffer).await.body, "body damaged 1");
        assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn a_repeat_mends_an_order_whose_bytes_have_gone_bad_before_anybody_has_read_them() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    post(&buffer, delivery("damaged", 1, Some(1))).await;
    flip(dir.path(), b"body damaged 1");
    assert_eq!(answer(&buffer, delivery("damaged", 1, Some(1))).await, Answer::Amended);
    assert_eq!(answer(&buffer, delivery("damaged", 1, Some(1))).await, Answer::Duplicate);
    assert_eq!(lend(&buffer).await.body, "body damaged 1");
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_repeat_mends_an_order_that_may_have_been_sent_and_waits_for_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    for id in ["first", "damaged", "changed"] {
        post(&buffer, delivery(id, 1, Some(1))).await;
    }
    let lent = buffer.lease(3, SOON).await.unwrap();
    assert_eq!(answer(&buffer, delivery("changed", 2, Some(2))).await, Answer::Parked);
    drop(buffer);
    drop(lent);
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    let first = lend(&buffer).await;
    assert_eq!(first.key.id, "first", "a suspect is lent alone, the others wait");
    // What is carried forward at the start is not damaged under way.
    until(&buffer, |status| status.segments == 1).await;
    let again = delivery("damaged", 1, Some(1));
    flip(dir.path(), b"body damaged 1");
    flip(dir.path(), b"body changed 1");
    assert_eq!(answer(&buffer, again.clone()).await, Answer::Amended);
    assert_eq!(answer(&buffer, again).await, Answer::Duplicate);
    let kept = delivery("changed", 2, Some(2));
    assert_eq!(answer(&buffer, kept).await, Answer::Duplicate, "it is kept whole");
    first.settle(summarised("F"));
    let leases = buffer.lease(10, SOON).await.unwrap();
    assert_eq!(leases.len(), 0, "the next suspect turns out damaged");
    let mended = lend(&buffer).await;
    let (sent_before, body) = (mended.sent_before, &mended.body[..]);
    assert_eq!((sent_before, body), (true, &b"body damaged 1"[..]), "{}", mended.key.id);
}

#[tokio::test]
async fn what_is_called_off_while_lent_takes_effect_after_a_crash_too() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    post(&buffer, delivery("1", 1, Some(1))).await;
    let lost = lend(&buffer).await;
    let cancel = with(Readiness::Cancelled, delivery("1", 2, Some(2)));
    assert_eq!(answer(&buffer, cancel).await, Answer::Parked);
    drop(buffer);
    drop(lost);
    let buffer = embedded(dir.path(), 1 << 20, &clock);
    let mut lease = lend(&buffer).await;
    assert!(lease.sent_before, "nobody knows whether it was sent");
    lease.sent_before = false;
    let may_go = buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    assert_eq!(may_go, [false], "the OMS was asked, and had nothing");
    drop(lease);
    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!((view.state, view.exceptions), (OrderState::Cancelled, Vec::new()));
}

#[tokio::test]
async fn a_damaged_change_that_waits_never_looks_like_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, delivery("lent", 1, Some(1))).await;
    let lease = lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("lent", 2, Some(2))).await, Answer::Parked);
    flip(dir.path(), b"body lent 2");
    pass_through(&buffer, "flow", 600).await;
    until(&buffer, |status| status.segments <= 4).await;
    drop(lease);
    let view = buffer.order(&key("lent")).await.unwrap().unwrap();
    assert_eq!((view.state, view.version), (OrderState::Exception, Some(2)));
    none_to_lend(&buffer).await;
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Damaged));
    assert!(buffer.body(view.sequence).await.is_err(), "lost, not empty");
    assert!(buffer.act(rows[0].id, Act::Retry).await.is_err());
    pass_through(&buffer, "more", 600).await;
    until(&buffer, |status| status.segments <= 4).await;
    drop(buffer);
    let buffer = embedded(dir.path(), SLOT, &clock);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap().len(), 1);
    assert!(buffer.body(view.sequence).await.is_err(), "lost, carried again and after a start");
    assert_eq!(answer(&buffer, delivery("lent", 2, Some(2))).await, Answer::Amended);
    assert_eq!(lend(&buffer).await.body, "body lent 2");
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_damaged_body_of_a_row_never_looks_like_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, with(UNPAID, delivery("1", 1, None))).await;
    let conflict = post(&buffer, with(UNPAID, delivery("1", 2, None))).await;
    assert_eq!(conflict.answer(), Answer::Conflict);
    flip(dir.path(), b"body 1 2");
    pass_through(&buffer, "flow", 600).await;
    until(&buffer, |status| status.segments <= 4).await;
    assert!(buffer.body(conflict.sequence()).await.is_err(), "lost, not empty");
    let again = answer(&buffer, with(UNPAID, delivery("1", 2, None))).await;
    assert_eq!(again, Answer::Conflict, "its fingerprint is still known");
    assert_eq!(buffer.exceptions(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_exception_whose_bytes_are_damaged_is_not_retried() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    post(&buffer, delivery("bad", 1, Some(1))).await;
    let category = ExceptionCategory::Rejected;
    lend(&buffer).await.settle(Verdict::Exception { category, reason: "no such product".into() });
    until(&buffer, |status| status.live["exception"] == 1).await;
    flip(dir.path(), b"body bad 1");
    pass_through(&buffer, "flow", 600).await;
    until(&buffer, |status| status.segments <= 4).await;
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Damaged));
    assert!(rows[0].reason.contains("no such product"), "{}", rows[0].reason);
    assert!(buffer.act(rows[0].id, Act::Retry).await.is_err());
    assert_eq!(answer(&buffer, delivery("bad", 1, Some(1))).await, Answer::Amended);
    assert_eq!(lend(&buffer).await.body, "body bad 1");
}

#[tokio::test]
async fn an_order_whose_bytes_go_bad_while_it_is_lent_ends_as_its_loan_ends() {
    for summary in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock::default());
        let buffer = embedded(dir.path(), SLOT, &clock);
        post(&buffer, delivery("lent", 1, Some(1))).await;
        let lease = lend(&buffer).await;
        flip(dir.path(), b"body lent 1");
        pass_through(&buffer, "flow", 600).await;
        // Time for it to be looked through again and again.
        for _ in 0..3 {
            clock.advance(6_000);
            buffer.status().await.unwrap();
        }
        assert_eq!(buffer.exceptions(0, 10).await.unwrap(), [], "there is nothing to discard");
        let view = buffer.order(&key("lent")).await.unwrap().unwrap();
        assert_eq!(view.state, OrderState::Leased);
        if summary {
            lease.settle(summarised("S"));
        } else {
            drop(lease);
        }
        clock.advance(6_000);
        until(&buffer, |status| {
            clock.advance(100);
            status.segments <= 4
        })
        .await;
        let view = buffer.order(&key("lent")).await.unwrap().unwrap();
        let rows = buffer.exceptions(0, 10).await.unwrap();
        if summary {
            assert_eq!((view.state, rows.len()), (OrderState::Summarised, 0));
        } else {
            assert_eq!((view.state, rows.len()), (OrderState::Exception, 1));
            assert_eq!(rows[0].category, ExceptionCategory::Damaged);
            none_to_lend(&buffer).await;
        }
    }
}

#[tokio::test]
async fn a_clock_that_was_years_ahead_stamps_no_later_order() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    clock.set_wall(TEN_YEARS_MS);
    let hour_ms = 3_600_000;
    let during = post(&buffer, delivery("during", 1, None)).await.first().accepted_at_ms;
    assert_eq!(during, START_MS + TEN_YEARS_MS);
    clock.set_wall(-TEN_YEARS_MS);
    drop(buffer);
    let buffer = embedded(dir.path(), SLOT, &clock);
    clock.advance(2 * hour_ms);
    let later = post(&buffer, delivery("later", 1, None)).await.first().accepted_at_ms;
    assert_eq!(later, START_MS + 2 * hour_ms);
}

#[tokio::test]
async fn a_full_disk_refuses_orders_settles_what_it_has_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let mut config = config(dir.path(), SLOT);
    config.disk_max = 12 * SLOT;
    let on_failure = Box::new(|reason| panic!("the buffer failed: {reason}"));
    let clock = Arc::clone(&clock) as Arc<dyn Clock>;
    let buffer = Embedded::open(config, clock, on_failure).unwrap();
    let mut kept = 0_usize;
    let refused = loop {
        let envelope = large(&format!("order-{kept}"), 4 << 10);
        let permit = buffer.admission().admit(envelope.body.len()).unwrap();
        match buffer.append(envelope, permit).await {
            Ok(receipt) => assert_eq!(receipt.answer(), Answer::Accepted),
            Err(error) => break error,
        }
        kept += 1;
        assert!(kept < 10_000, "a disk of 768 KiB never filled");
    };
    assert_eq!(refused, AppendError::Full);
    assert!(kept > 20, "only {kept} orders of 4 KiB fit");
    assert!(buffer.health().is_err());
    assert_eq!(answer(&buffer, large("order-0", 4 << 10)).await, Answer::Duplicate);
    assert_eq!(buffer.order(&key(&format!("order-{kept}"))).await.unwrap(), None);
    let mut settled = 0;
    while settled < kept {
        for lease in buffer.lease(50, SOON).await.unwrap() {
            lease.settle(summarised("S"));
            settled += 1;
        }
    }
    until(&buffer, |status| status.segments <= 4).await;
    assert_eq!(answer(&buffer, large("one-more", 4 << 10)).await, Answer::Accepted);
    assert_eq!(buffer.health(), Ok(()));
}

#[tokio::test]
async fn without_even_the_reserve_a_worker_waits_and_the_next_start_drains() {
    for standing_orders in [false, true] {
        drains_after_the_reserve(standing_orders).await;
    }
}

/// `standing_orders`: the first segment holds one, which outlives it.
async fn drains_after_the_reserve(standing_orders: bool) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let open = |days: u64| {
        let dedup_horizon = Duration::from_secs(days * 86_400);
        let disk_max = 24 * SLOT;
        open(EmbeddedConfig { disk_max, dedup_horizon, ..config(dir.path(), SLOT) }, &clock)
    };
    if standing_orders {
        // Outcomes are remembered for longer from then on, so until then orders are looked up first.
        drop(open(1));
    }
    let buffer = open(30);
    let until_ms = buffer.status().await.unwrap().look_first_until_ms;
    assert_eq!(until_ms.is_some(), standing_orders);
    let mut kept = 0_usize;
    loop {
        let envelope = large(&format!("order-{kept}"), 3_700);
        let permit = buffer.admission().admit(envelope.body.len()).unwrap();
        if buffer.append(envelope, permit).await.is_err() {
            break;
        }
        kept += 1;
    }
    // An OMS that takes nothing: lent and given back, until the notes of it have used up the reserve.
    for _ in 0..10_000 {
        if buffer.lease(1, NOW).await.unwrap().is_empty() {
            break;
        }
        clock.advance(10);
    }
    buffer.close().await;
    drop(buffer);
    let buffer = open(30);
    let (mut settled, mut rounds) = (0, 0);
    while settled < kept {
        rounds += 1;
        assert!(rounds < 1_000, "{settled} of {kept}: {:?}", buffer.status().await.unwrap());
        for lease in buffer.lease(50, Duration::from_millis(20)).await.unwrap() {
            lease.settle(summarised("S"));
            settled += 1;
        }
        clock.advance(1_000);
    }
    clock.advance(10_000);
    until(&buffer, |status| status.segments <= 4).await;
    assert_eq!(answer(&buffer, large("one-more", 3_700)).await, Answer::Accepted);
    assert_eq!(buffer.status().await.unwrap().look_first_until_ms, until_ms);
}

#[tokio::test]
async fn an_order_larger_than_a_slot_is_refused_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    let envelope = large("huge", 100 << 10);
    let permit = buffer.admission().admit(envelope.body.len()).unwrap();
    let small_permit = buffer.admission().admit(1).unwrap();
    let (huge, small) = tokio::join!(
        buffer.append(envelope, permit),
        buffer.append(delivery("small", 1, None), small_permit)
    );
    assert_eq!(huge, Err(AppendError::TooLarge));
    assert_eq!(small.unwrap().answer(), Answer::Accepted);
}

#[tokio::test]
async fn a_directory_in_use_is_not_opened_twice() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    let second = open_error(dir.path(), &clock);
    assert!(second.contains("in use"), "{second}");
    drop(buffer);
    drop(embedded(dir.path(), SLOT, &clock));
}

fn open_error(dir: &Path, clock: &Arc<HandClock>) -> String {
    let clock = Arc::clone(clock) as Arc<dyn Clock>;
    Embedded::open(config(dir, SLOT), clock, Box::new(|_| {})).map(drop).unwrap_err().to_string()
}

/// Many hands post the versions of a few orders while they are lent, sent and summarised, and their segments retire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_races_an_order_is_summarised_once_and_its_newest_version_is_never_lost() {
    const KEYS: u8 = 6;
    const VERSIONS: u8 = 25;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), SLOT, &clock);
    let posters: Vec<_> = (0..4)
        .map(|_| {
            let buffer = buffer.clone();
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for version in 1..=VERSIONS {
                    for n in 0..KEYS {
                        let id = format!("race-{n}");
                        let posted = delivery(&id, version, Some(u64::from(version)));
                        let is = answer(&buffer, posted).await;
                        if !matches!(is, Answer::Duplicate | Answer::Stale) {
                            kept.push((n, version, is));
                        }
                    }
                    let passing = large(&format!("{version}-{:p}", &kept), 2 << 10);
                    answer(&buffer, with(Readiness::Recorded(RecordedAs::Other), passing)).await;
                }
                kept
            })
        })
        .collect();
    let mut summaries = std::collections::BTreeMap::new();
    let mut turns = 0;
    let mut posters_left = posters;
    let mut kept = Vec::new();
    loop {
        let over = posters_left.iter().all(tokio::task::JoinHandle::is_finished);
        let leases = buffer.lease(2, Duration::from_millis(5)).await.unwrap();
        if over && leases.is_empty() {
            break;
        }
        for lease in leases {
            turns += 1;
            let may_go = buffer.submitting(std::slice::from_ref(&lease), turns % 2 == 0).await;
            match (may_go.unwrap()[0], turns % 7) {
                (true, 0) => {
                    let body = String::from_utf8(lease.body.to_vec()).unwrap();
                    let version: u8 = body.rsplit(' ').next().unwrap().parse().unwrap();
                    let id = lease.key.id.clone();
                    lease.settle(summarised(&id));
                    assert_eq!(summaries.insert(id, version), None, "a second summary");
                }
                (true, 1..4) => lease.settle(Verdict::Retry {
                    after: Duration::ZERO,
                    counts: false,
                    sent: turns % 2 == 0,
                    reason: "busy".into(),
                }),
                _ => drop(lease),
            }
        }
    }
    for poster in posters_left.drain(..) {
        kept.extend(poster.await.unwrap());
    }
    let rows = buffer.exceptions(0, 1_000).await.unwrap();
    for n in 0..KEYS {
        let id = format!("race-{n}");
        let of = |wanted: Answer| kept.iter().filter(|(k, _, is)| *k == n && *is == wanted).count();
        assert_eq!(of(Answer::Accepted), 1, "{id}");
        assert_eq!(of(Answer::Conflict), 0, "{id}");
        let newest = kept.iter().filter(|(k, version, _)| *k == n && *version == VERSIONS).count();
        assert_eq!(newest, 1, "the newest version of {id} is kept once");
        let view = buffer.order(&key(&id)).await.unwrap().unwrap();
        let summary = summaries[&id];
        assert_eq!((view.state, view.version), (OrderState::Summarised, Some(summary.into())));
        if summary < VERSIONS {
            let last = rows.iter().rfind(|row| row.key == key(&id)).unwrap();
            assert_eq!(last.category, ExceptionCategory::ChangeAfterSummary);
            let body = buffer.body(last.id).await.unwrap().unwrap();
            assert_eq!(body, format!("body {id} {VERSIONS}"), "of {id}");
        }
    }
}

#[tokio::test]
async fn what_is_under_a_ticket_and_what_was_told_of_it_survives_a_kill_and_is_carried_forward() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(HandClock::default()));
    let open = || embedded(dir.path(), 32 << 10, &clock);
    let buffer = open();
    for (id, ticket) in [("1", "T-1"), ("2", "T-2"), ("3", "T-3")] {
        tickets::submit(&buffer, id, ticket).await;
    }
    assert_eq!(buffer.outstanding(), 3);
    assert_eq!(tickets::tell_of(&buffer, "2", tickets::created("S2")).await, Effect::Done);
    drop(buffer);
    let buffer = open();
    assert_eq!(buffer.outstanding(), 2, "before anything was asked of it");
    // So much else that the segment they came in is gone.
    for n in 0..200 {
        let mut recorded =
            with(Readiness::Recorded(RecordedAs::Other), delivery(&n.to_string(), 9, None));
        recorded.body = vec![7; 3_000].into();
        post(&buffer, recorded).await;
    }
    drop(buffer);
    let buffer = open();
    assert_eq!(buffer.outstanding(), 2);
    assert!(buffer.lease_ticketed(10, NOW).await.unwrap().is_empty(), "not yet to be looked up");
    none_to_lend(&buffer).await;
    clock.advance(10_000);
    let leases = buffer.lease_ticketed(10, SOON).await.unwrap();
    let tickets: Vec<_> = leases.iter().map(|l| (l.ticket.as_deref(), l.ticket_at_ms)).collect();
    let expected = ["T-1", "T-3"].map(|ticket| (Some(ticket), Some(START_MS)));
    assert_eq!(tickets, expected);
    assert_eq!(tickets::tell_of(&buffer, "2", tickets::created("S2")).await, Effect::Known);
    assert_eq!(tickets::tell_of(&buffer, "2", tickets::created("S3")).await, Effect::OtherSummary);
    drop((leases, buffer));
    // Killed while they were being looked up.
    let buffer = open();
    assert_eq!(buffer.outstanding(), 2);
    let leases = buffer.lease_ticketed(10, SOON).await.unwrap();
    assert_eq!(leases.len(), 2, "both at once, though they were lent when it died");
}

#[tokio::test]
async fn what_was_refused_under_a_ticket_goes_back_also_after_a_kill() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Arc::new(HandClock::default()));
    let buffer = embedded(dir.path(), 32 << 10, &clock);
    tickets::refuse_before_a_start(&buffer).await;
    drop(buffer);
    tickets::refused_before_the_start(&embedded(dir.path(), 32 << 10, &clock), &clock).await;
}
