//! One suite, run on every backend: each test has a new buffer and the clock it goes by.

use std::time::Duration;

use forebay_buffer::{
    Act, ActError, Answer, AppendError, Buffer, BufferError, ExceptionCategory, OrderState, Verdict,
};
use forebay_order::{Fingerprint, HoldReason, OrderKey, Readiness, RecordedAs};

use crate::support::*;
pub(crate) use crate::tickets::*;

/// Hands the names of all tests to a macro, which runs them on its backends.
macro_rules! suite {
    ($on:ident) => {
        $on! {
            first_deliveries,
            repeats_are_duplicates_in_every_state,
            versions_while_pending,
            a_hold_is_released_by_a_newer_version,
            conflicts,
            cancels,
            a_cancel_before_its_order,
            changes_while_lent_wait_for_the_loan,
            a_parked_change_of_a_summarised_order_is_an_exception,
            what_is_called_off_while_lent_is_not_sent,
            what_is_called_off_is_not_sent_once_the_oms_was_asked,
            what_is_called_off_is_sent_as_it_was_where_nobody_can_be_asked,
            open_conflicts_of_a_key_are_bounded,
            long_reasons_and_ids_are_cut,
            changes_after_the_summary,
            an_exception_is_repaired_by_a_newer_version,
            leases_oldest_first_each_to_one_worker,
            a_dropped_lease_comes_back,
            a_dropped_lease_that_was_being_sent_comes_back_as_sent_before,
            an_order_may_be_sent_again_only_by_its_worker,
            retries_wait_their_time,
            a_time_not_to_drain_before_is_kept,
            exceptions_are_listed_retried_and_discarded,
            what_the_oms_lost_is_sent_again,
            only_summarised_orders_are_sent_again,
            bodies_without_a_key_stay_apart,
            rows_of_their_own_cannot_be_retried,
            status_counts_and_ages,
            a_waiting_worker_is_woken,
            a_dropped_append_keeps_the_order,
            after_the_close_nothing_is_taken,
            an_order_under_a_ticket_is_lent_to_be_looked_up_alone,
            the_oms_tells_that_it_has_an_order,
            a_telling_ends_the_loan_and_its_verdict_changes_nothing,
            the_oms_tells_that_it_refused_an_order,
            an_order_refused_by_perhaps_no_fault_of_its_own_goes_back,
            an_order_whose_outcome_is_unknown_is_closed_by_a_telling,
            a_change_of_an_order_under_a_ticket_waits_for_what_is_told,
        }
    };
}
pub(crate) use suite;

fn key(id: &str) -> OrderKey {
    OrderKey::new("shopify", "demo", id)
}

fn rejected() -> Verdict {
    Verdict::Exception { category: ExceptionCategory::Rejected, reason: "no such product".into() }
}

async fn state<B: Buffer>(buffer: &B, id: &str) -> OrderState {
    buffer.order(&key(id)).await.unwrap().unwrap().state
}

pub(crate) async fn first_deliveries<B: Buffer>(buffer: B, _: &HandClock) {
    let receipt = post(&buffer, delivery("1", 1, Some(1))).await;
    assert_eq!(receipt.answer(), Answer::Accepted);
    assert_eq!(receipt.first().sequence, receipt.sequence());
    assert_eq!(receipt.first().accepted_at_ms, START_MS);
    assert_eq!(receipt.first().state, OrderState::Pending);
    assert_eq!(receipt.first().fingerprint, Fingerprint([1; 16]));

    assert_eq!(answer(&buffer, with(UNPAID, delivery("2", 2, None))).await, Answer::Held);
    let cancelled = with(Readiness::Cancelled, delivery("3", 3, None));
    assert_eq!(answer(&buffer, cancelled).await, Answer::Tombstone);
    let recorded = with(Readiness::Recorded(RecordedAs::Draft), delivery("4", 4, None));
    assert_eq!(answer(&buffer, recorded).await, Answer::Recorded);
    let unreadable = with(Readiness::Unreadable, delivery("", 5, None));
    assert_eq!(answer(&buffer, unreadable).await, Answer::Exception);

    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!((view.number.as_str(), view.version), ("#1", Some(1)));
    assert_eq!(state(&buffer, "2").await, OrderState::Held);
    assert_eq!(state(&buffer, "3").await, OrderState::Cancelled);
    assert_eq!(buffer.order(&key("4")).await.unwrap(), None, "a recorded body occupies no key");
    assert_eq!(buffer.order(&key("never")).await.unwrap(), None);
    assert_eq!(buffer.body(view.sequence).await.unwrap().unwrap(), "body 1 1");
    assert_eq!(buffer.body(9_999).await.unwrap(), None);
    assert_eq!(buffer.admission().in_flight(), (0, 0));
}

pub(crate) async fn repeats_are_duplicates_in_every_state<B: Buffer>(buffer: B, _: &HandClock) {
    let first = post(&buffer, delivery("1", 1, Some(1))).await;
    let again = async |expected: OrderState| {
        let receipt = post(&buffer, delivery("1", 1, Some(1))).await;
        assert_eq!(receipt.answer(), Answer::Duplicate);
        assert_eq!(receipt.sequence(), first.sequence());
        assert_eq!(receipt.first().state, expected);
        receipt
    };
    again(OrderState::Pending).await;
    let lease = lend(&buffer).await;
    again(OrderState::Leased).await;
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    again(OrderState::Submitted).await;
    lease.settle(rejected());
    let row = settled_row(&buffer).await;
    again(OrderState::Exception).await;
    buffer.act(row, Act::Retry).await.unwrap();
    again(OrderState::Pending).await;
    lend(&buffer).await.settle(summarised("S1"));
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
    let receipt = again(OrderState::Summarised).await;
    assert_eq!(receipt.first().summary_id.as_deref(), Some("S1"));
    none_to_lend(&buffer).await;

    post(&buffer, delivery("2", 2, Some(1))).await;
    lend(&buffer).await.settle(rejected());
    let row = settled_row(&buffer).await;
    buffer.act(row, Act::Discard).await.unwrap();
    let receipt = post(&buffer, delivery("2", 2, Some(1))).await;
    assert_eq!(
        (receipt.answer(), receipt.first().state),
        (Answer::Duplicate, OrderState::Discarded)
    );
    none_to_lend(&buffer).await;
}

/// The one open exception.
async fn settled_row<B: Buffer>(buffer: &B) -> u64 {
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].id
}

pub(crate) async fn versions_while_pending<B: Buffer>(buffer: B, clock: &HandClock) {
    let first = post(&buffer, delivery("1", 1, Some(1))).await;
    clock.advance(1_000);
    post(&buffer, delivery("2", 9, Some(1))).await;
    let amended = post(&buffer, delivery("1", 2, Some(2))).await;
    assert_eq!(amended.answer(), Answer::Amended);
    assert_eq!(amended.first().sequence, first.sequence(), "it keeps its place");
    assert_eq!(amended.first().accepted_at_ms, START_MS);
    assert_eq!(amended.first().fingerprint, Fingerprint([2; 16]));
    assert_ne!(amended.sequence(), first.sequence());
    assert_eq!(answer(&buffer, delivery("1", 1, Some(1))).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("1", 3, Some(1))).await, Answer::Stale);
    assert_eq!(answer(&buffer, delivery("1", 1, Some(3))).await, Answer::Amended, "a change back");
    let leases = buffer.lease(10, SOON).await.unwrap();
    let lent: Vec<_> =
        leases.iter().map(|lease| (lease.key.id.as_str(), &lease.body[..])).collect();
    assert_eq!(lent, [("1", &b"body 1 1"[..]), ("2", &b"body 2 9"[..])]);
}

pub(crate) async fn a_hold_is_released_by_a_newer_version<B: Buffer>(buffer: B, _: &HandClock) {
    assert_eq!(answer(&buffer, with(UNPAID, delivery("1", 1, Some(1)))).await, Answer::Held);
    none_to_lend(&buffer).await;
    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!(view.hold, Some(HoldReason::Unpaid));
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Amended);
    assert_eq!(answer(&buffer, with(UNPAID, delivery("1", 3, Some(3)))).await, Answer::Amended);
    none_to_lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 4, None)).await, Answer::Amended, "it became ready");
    assert_eq!(lend(&buffer).await.body, "body 1 4");
}

pub(crate) async fn conflicts<B: Buffer>(buffer: B, _: &HandClock) {
    let first = post(&buffer, delivery("1", 1, None)).await;
    let conflict = post(&buffer, delivery("1", 2, None)).await;
    assert_eq!(conflict.answer(), Answer::Conflict);
    assert_eq!(conflict.first().sequence, first.sequence());
    assert_eq!(conflict.first().fingerprint, Fingerprint([1; 16]));
    assert_eq!(answer(&buffer, delivery("1", 2, None)).await, Answer::Conflict);
    assert_eq!(answer(&buffer, delivery("1", 1, None)).await, Answer::Duplicate);
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "the same conflict again is no second one");
    assert_eq!(rows[0].id, conflict.sequence());
    assert_eq!(rows[0].category, ExceptionCategory::Conflict);
    assert_eq!(rows[0].key, key("1"));
    assert_eq!(rows[0].order, Some(first.sequence()));
    assert_eq!(buffer.body(rows[0].id).await.unwrap().unwrap(), "body 1 2");
    let mut rigid = delivery("1", 3, Some(7));
    rigid.amend = false;
    assert_eq!(answer(&buffer, rigid).await, Answer::Conflict);
    assert_eq!(buffer.order(&key("1")).await.unwrap().unwrap().exceptions.len(), 2);
    assert_eq!(lend(&buffer).await.body, "body 1 1");
}

pub(crate) async fn cancels<B: Buffer>(buffer: B, _: &HandClock) {
    let cancel = |id, content, version| with(Readiness::Cancelled, delivery(id, content, version));
    post(&buffer, delivery("1", 1, Some(1))).await;
    post(&buffer, with(UNPAID, delivery("2", 2, Some(1)))).await;
    assert_eq!(answer(&buffer, cancel("1", 11, Some(2))).await, Answer::Cancelled);
    assert_eq!(answer(&buffer, cancel("2", 12, None)).await, Answer::Cancelled);
    assert_eq!(answer(&buffer, cancel("2", 12, None)).await, Answer::Duplicate);
    none_to_lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 3, Some(1))).await, Answer::Stale);
    let back = post(&buffer, delivery("1", 4, Some(3))).await;
    assert_eq!((back.answer(), back.first().state), (Answer::Held, OrderState::Held));
    none_to_lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 5, Some(4))).await, Answer::Amended);
    assert_eq!(lend(&buffer).await.body, "body 1 5");
}

pub(crate) async fn a_cancel_before_its_order<B: Buffer>(buffer: B, _: &HandClock) {
    let cancel = with(Readiness::Cancelled, delivery("1", 1, Some(3)));
    assert_eq!(answer(&buffer, cancel).await, Answer::Tombstone);
    assert_eq!(answer(&buffer, delivery("1", 2, Some(1))).await, Answer::Held);
    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!(view.hold, Some(HoldReason::CancelledBefore));
    assert_eq!(
        answer(&buffer, delivery("1", 3, Some(2))).await,
        Answer::Stale,
        "older than the cancel"
    );
    assert_eq!(answer(&buffer, delivery("1", 4, Some(3))).await, Answer::Conflict);
    none_to_lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 5, Some(4))).await, Answer::Amended);
    assert_eq!(lend(&buffer).await.body, "body 1 5");
}

pub(crate) async fn changes_while_lent_wait_for_the_loan<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 1, Some(1))).await;
    let lease = lend(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Parked);
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("1", 9, Some(1))).await, Answer::Stale);
    assert_eq!(answer(&buffer, delivery("1", 3, Some(3))).await, Answer::Parked);
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Duplicate);
    assert_eq!(buffer.body(lease.sequence).await.unwrap().unwrap(), "body 1 1");
    drop(lease);
    let lease = lend(&buffer).await;
    assert_eq!(lease.body, "body 1 3");
    let cancel = with(Readiness::Cancelled, delivery("1", 4, Some(4)));
    assert_eq!(answer(&buffer, cancel).await, Answer::Parked);
    assert_eq!(answer(&buffer, delivery("1", 5, Some(5))).await, Answer::Parked);
    drop(lease);
    assert_eq!(state(&buffer, "1").await, OrderState::Held, "content after a cancel is held");
    none_to_lend(&buffer).await;
}

pub(crate) async fn a_parked_change_of_a_summarised_order_is_an_exception<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    post(&buffer, delivery("1", 1, Some(1))).await;
    let lease = lend(&buffer).await;
    let parked = post(&buffer, delivery("1", 2, Some(2))).await;
    lease.settle(summarised("S1"));
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].id, parked.sequence());
    assert_eq!(rows[0].category, ExceptionCategory::ChangeAfterSummary);
    assert_eq!(buffer.body(rows[0].id).await.unwrap().unwrap(), "body 1 2");
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Duplicate);
}

pub(crate) async fn what_is_called_off_is_not_sent_once_the_oms_was_asked<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    let retry = |sent| Verdict::Retry {
        after: Duration::ZERO,
        counts: false,
        sent,
        reason: "busy".to_owned(),
    };
    let cancel = |id| with(Readiness::Cancelled, delivery(id, 2, Some(2)));
    for (id, given_back) in [("settled", true), ("dropped", false)] {
        post(&buffer, delivery(id, 1, Some(1))).await;
        lend(&buffer).await.settle(retry(true));
        let mut lease = lend(&buffer).await;
        assert!(lease.sent_before, "so its worker asks the OMS first");
        assert_eq!(answer(&buffer, cancel(id)).await, Answer::Parked);
        lease.sent_before = false;
        let may_go = buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
        assert_eq!(may_go, [false], "it was not there, and it is called off");
        if given_back {
            lease.settle(retry(false));
        } else {
            drop(lease);
        }
        assert_eq!(state(&buffer, id).await, OrderState::Cancelled);
        none_to_lend(&buffer).await;
    }
    // What went out before the cancel came may have arrived.
    post(&buffer, delivery("gone", 1, Some(1))).await;
    let lease = lend(&buffer).await;
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    assert_eq!(answer(&buffer, cancel("gone")).await, Answer::Parked);
    drop(lease);
    assert_eq!(state(&buffer, "gone").await, OrderState::Submitted);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

/// What the OMS answers to the order as it was decides.
pub(crate) async fn what_is_called_off_is_sent_as_it_was_where_nobody_can_be_asked<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    let retry = |sent| Verdict::Retry {
        after: Duration::ZERO,
        counts: false,
        sent,
        reason: "busy".to_owned(),
    };
    for (id, there) in [("there", true), ("not there", false)] {
        post(&buffer, delivery(id, 1, Some(1))).await;
        lend(&buffer).await.settle(retry(true));
        assert_eq!(
            answer(&buffer, with(Readiness::Cancelled, delivery(id, 2, Some(2)))).await,
            Answer::Parked
        );
        let lease = lend(&buffer).await;
        let may_go = buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
        assert_eq!((may_go.as_slice(), lease.sent_before), ([true].as_slice(), true));
        if there {
            lease.settle(Verdict::Summarised { summary_id: "s".to_owned(), existing: true });
            assert_eq!(state(&buffer, id).await, OrderState::Summarised);
        } else {
            lease.settle(retry(true));
            assert_eq!(state(&buffer, id).await, OrderState::Submitted, "nobody knows yet");
            let mut lease = lend(&buffer).await;
            lease.sent_before = false;
            let may_go = buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
            assert_eq!(may_go, [false], "it was asked in the end");
            lease.settle(retry(false));
            assert_eq!(state(&buffer, id).await, OrderState::Cancelled);
        }
        none_to_lend(&buffer).await;
    }
}

pub(crate) async fn open_conflicts_of_a_key_are_bounded<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 100, None)).await;
    for content in 0..16 {
        assert_eq!(answer(&buffer, delivery("1", content, None)).await, Answer::Conflict);
    }
    let one_more = async || {
        let envelope = delivery("1", 16, None);
        let permit = buffer.admission().admit(envelope.body.len()).unwrap();
        buffer.append(envelope, permit).await.map(|receipt| receipt.answer())
    };
    assert_eq!(one_more().await, Err(AppendError::Disputed), "refused, not acknowledged");
    assert_eq!(buffer.admission().in_flight(), (0, 0));
    assert_eq!(answer(&buffer, delivery("1", 15, None)).await, Answer::Conflict, "kept before");
    let rows = buffer.exceptions(0, 100).await.unwrap();
    assert_eq!(rows.len(), 16);
    buffer.act(rows[0].id, Act::Discard).await.unwrap();
    assert_eq!(one_more().await, Ok(Answer::Conflict));
}

pub(crate) async fn long_reasons_and_ids_are_cut<B: Buffer>(buffer: B, _: &HandClock) {
    for id in ["1", "2", "3"] {
        post(&buffer, delivery(id, 1, None)).await;
    }
    let long = "ö".repeat(3 << 20);
    for lease in buffer.lease(10, SOON).await.unwrap() {
        let verdict = match lease.key.id.as_str() {
            "1" => {
                Verdict::Exception { category: ExceptionCategory::Rejected, reason: long.clone() }
            }
            "2" => taken(&long),
            _ => summarised(&long),
        };
        lease.settle(verdict);
    }
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows[0].reason, "ö".repeat(256));
    assert_eq!(rows[1].category, ExceptionCategory::OutcomeUnknown, "{rows:?}");
    let view = buffer.order(&key("3")).await.unwrap().unwrap();
    assert_eq!(view.summary_id, Some("ö".repeat(512)));
}

pub(crate) async fn changes_after_the_summary<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 1, Some(1))).await;
    lend(&buffer).await.settle(summarised("S1"));
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
    let change = post(&buffer, delivery("1", 2, Some(2))).await;
    assert_eq!(change.answer(), Answer::ChangeAfterSummary);
    assert_eq!(change.first().state, OrderState::Summarised);
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Duplicate);
    let cancel = with(Readiness::Cancelled, delivery("1", 3, Some(3)));
    assert_eq!(answer(&buffer, cancel.clone()).await, Answer::ChangeAfterSummary);
    assert_eq!(answer(&buffer, cancel).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("1", 4, None)).await, Answer::Conflict);
    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!(view.exceptions.len(), 3);
    assert_eq!((view.version, view.summary_id.as_deref()), (Some(1), Some("S1")));
    for id in view.exceptions {
        let receipt = buffer.act(id, Act::Discard).await.unwrap();
        assert_eq!(receipt.state, OrderState::Summarised);
    }
    assert_eq!(answer(&buffer, delivery("1", 2, Some(2))).await, Answer::Duplicate);
    none_to_lend(&buffer).await;
}

pub(crate) async fn an_exception_is_repaired_by_a_newer_version<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    post(&buffer, delivery("1", 1, Some(1))).await;
    lend(&buffer).await.settle(rejected());
    let row = settled_row(&buffer).await;
    assert_eq!(answer(&buffer, delivery("1", 9, Some(1))).await, Answer::Conflict);
    let amended = post(&buffer, delivery("1", 2, Some(2))).await;
    assert_eq!((amended.answer(), amended.first().state), (Answer::Amended, OrderState::Pending));
    assert_eq!(buffer.act(row, Act::Retry).await, Err(ActError::NotFound), "its row is closed");
    let lease = lend(&buffer).await;
    assert_eq!((&lease.body[..], lease.attempts), (&b"body 1 2"[..], 0));
}

pub(crate) async fn leases_oldest_first_each_to_one_worker<B: Buffer>(buffer: B, _: &HandClock) {
    for id in ["a", "b", "c", "d", "e"] {
        post(&buffer, delivery(id, 1, None)).await;
    }
    let view = buffer.order(&key("e")).await.unwrap().unwrap();
    assert_eq!(view.position, Some(4));
    let ids = |leases: &[forebay_buffer::Lease]| -> Vec<String> {
        leases.iter().map(|lease| lease.key.id.clone()).collect()
    };
    let first = buffer.lease(2, SOON).await.unwrap();
    let second = buffer.lease(2, SOON).await.unwrap();
    let third = buffer.lease(2, SOON).await.unwrap();
    assert_eq!(ids(&first), ["a", "b"]);
    assert_eq!(ids(&second), ["c", "d"]);
    assert_eq!(ids(&third), ["e"]);
    none_to_lend(&buffer).await;
    drop(second);
    let again = buffer.lease(10, SOON).await.unwrap();
    assert_eq!(again[0].key.id, "c");
    assert!(again.len() <= 2 && again[0].loan > first[0].loan, "{again:?}");
}

pub(crate) async fn a_dropped_lease_comes_back<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 1, None)).await;
    let lease = lend(&buffer).await;
    assert_eq!(state(&buffer, "1").await, OrderState::Leased);
    drop(lease);
    let lease = lend(&buffer).await;
    assert_eq!((lease.sent_before, lease.attempts), (false, 0));
}

pub(crate) async fn a_dropped_lease_that_was_being_sent_comes_back_as_sent_before<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    for synced in [false, true] {
        let id = if synced { "synced" } else { "lazy" };
        post(&buffer, delivery(id, 1, None)).await;
        let lease = lend(&buffer).await;
        buffer.submitting(std::slice::from_ref(&lease), synced).await.unwrap();
        assert_eq!(state(&buffer, id).await, OrderState::Submitted);
        drop(lease);
        let lease = lend(&buffer).await;
        assert!(lease.sent_before);
        assert_eq!(state(&buffer, id).await, OrderState::Submitted, "never plain pending again");
        drop(lease);
        let lease = lend(&buffer).await;
        assert!(lease.sent_before, "not even after a loan in which nothing was sent");
        lease.settle(summarised("S"));
        assert_eq!(state(&buffer, id).await, OrderState::Summarised);
    }
}

pub(crate) async fn what_is_called_off_while_lent_is_not_sent<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 1, None)).await;
    post(&buffer, delivery("2", 2, None)).await;
    let leases = buffer.lease(2, Duration::ZERO).await.unwrap();
    let cancel = with(Readiness::Cancelled, delivery("1", 3, None));
    assert_eq!(post(&buffer, cancel).await.answer(), Answer::Parked);
    assert_eq!(buffer.submitting(&leases, true).await.unwrap(), [false, true]);
    for lease in leases {
        lease.settle(Verdict::Retry {
            after: Duration::ZERO,
            counts: false,
            sent: false,
            reason: "it changed".to_owned(),
        });
    }
    assert_eq!(state(&buffer, "1").await, OrderState::Cancelled);
    assert_eq!(state(&buffer, "2").await, OrderState::Pending);
}

pub(crate) async fn an_order_may_be_sent_again_only_by_its_worker<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    let retry = |sent| Verdict::Retry {
        after: Duration::ZERO,
        counts: false,
        sent,
        reason: "busy".to_owned(),
    };
    post(&buffer, delivery("1", 1, None)).await;
    let lease = lend(&buffer).await;
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease.settle(retry(true));
    let lease = lend(&buffer).await;
    assert!(lease.sent_before);
    lease.settle(retry(false));
    let lease = lend(&buffer).await;
    assert!(lease.sent_before, "nothing was sent in that loan, so nothing is known better");
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease.settle(retry(false));
    assert!(!lend(&buffer).await.sent_before, "the OMS definitely did not take it");
}

pub(crate) async fn retries_wait_their_time<B: Buffer>(buffer: B, clock: &HandClock) {
    post(&buffer, delivery("1", 1, None)).await;
    let retry = |counts| Verdict::Retry {
        after: Duration::from_secs(60),
        counts,
        sent: false,
        reason: "busy".to_owned(),
    };
    lend(&buffer).await.settle(retry(true));
    let view = buffer.order(&key("1")).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempts), (OrderState::Pending, 1));
    assert_eq!(view.not_before_ms, Some(START_MS + 60_000));
    assert_eq!(buffer.status().await.unwrap().delayed, 1);
    none_to_lend(&buffer).await;
    clock.advance(59_999);
    none_to_lend(&buffer).await;
    clock.advance(1);
    let lease = lend(&buffer).await;
    assert_eq!(lease.attempts, 1);
    lease.settle(retry(false));
    assert_eq!(buffer.order(&key("1")).await.unwrap().unwrap().attempts, 1);
    assert_eq!(answer(&buffer, delivery("1", 1, None)).await, Answer::Duplicate);
    clock.advance(60_000);
    lend(&buffer).await.settle(summarised("S1"));
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
}

pub(crate) async fn a_time_not_to_drain_before_is_kept<B: Buffer>(buffer: B, clock: &HandClock) {
    let mut later = delivery("1", 1, Some(1));
    later.not_before_ms = Some(START_MS + 30_000);
    assert_eq!(answer(&buffer, later).await, Answer::Accepted);
    post(&buffer, delivery("2", 2, Some(1))).await;
    assert_eq!(lend(&buffer).await.key.id, "2");
    clock.advance(30_000);
    let leases = buffer.lease(1, SOON).await.unwrap();
    assert_eq!(leases[0].key.id, "1");
}

/// Keys of all orders settled since then, page by page.
async fn summarised_since<B: Buffer>(buffer: &B, since_ms: i64) -> Vec<String> {
    let (mut ids, mut from) = (Vec::new(), 0);
    loop {
        let page = buffer.summarised_since(since_ms, from, 2).await.unwrap();
        ids.extend(page.orders.into_iter().map(|order| order.key.id));
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    ids.sort_unstable();
    ids
}

pub(crate) async fn what_the_oms_lost_is_sent_again<B: Buffer>(buffer: B, clock: &HandClock) {
    for id in 1..=5 {
        post(&buffer, delivery(&id.to_string(), id, Some(1))).await;
    }
    let oldest = async || buffer.lease(1, SOON).await.unwrap().pop().unwrap();
    for _ in 1..=3 {
        let lease = oldest().await;
        let id = lease.key.id.clone();
        lease.settle(summarised(&format!("S{id}")));
    }
    assert_eq!(summarised_since(&buffer, START_MS).await, ["1", "2", "3"]);
    clock.advance(10_000);
    oldest().await.settle(summarised("S4"));
    assert_eq!(summarised_since(&buffer, START_MS + 10_000).await, ["4"]);
    assert_eq!(summarised_since(&buffer, START_MS + 10_001).await, [""; 0]);

    // A change that came too late stays what it is.
    assert_eq!(answer(&buffer, delivery("2", 9, Some(2))).await, Answer::ChangeAfterSummary);
    assert!(buffer.send_again(&key("2")).await.unwrap());
    let view = buffer.order(&key("2")).await.unwrap().unwrap();
    assert_eq!((view.state, view.attempts), (OrderState::Submitted, 0));
    assert_eq!((view.summary_id, view.exceptions.len()), (None, 1));
    assert_eq!(view.accepted_at_ms, START_MS);
    assert_eq!(summarised_since(&buffer, START_MS).await, ["1", "3", "4"]);
    let status = buffer.status().await.unwrap();
    assert_eq!((status.live["submitted"], status.ended["summarised"]), (1, 3));

    let lease = oldest().await;
    assert_eq!((lease.key.id.as_str(), lease.sent_before), ("2", true));
    assert_eq!(lease.body, "body 2 2");
    lease.settle(summarised("S2 anew"));
    let view = buffer.order(&key("2")).await.unwrap().unwrap();
    assert_eq!(view.summary_id.as_deref(), Some("S2 anew"));
    assert_eq!(buffer.status().await.unwrap().ended["summarised"], 4);
    assert_eq!(answer(&buffer, delivery("2", 2, Some(1))).await, Answer::Duplicate);
}

pub(crate) async fn only_summarised_orders_are_sent_again<B: Buffer>(buffer: B, _: &HandClock) {
    assert!(!buffer.send_again(&key("never")).await.unwrap());
    post(&buffer, delivery("1", 1, Some(1))).await;
    assert!(!buffer.send_again(&key("1")).await.unwrap(), "pending");
    let lease = lend(&buffer).await;
    assert!(!buffer.send_again(&key("1")).await.unwrap(), "lent");
    lease.settle(summarised("S1"));
    buffer.status().await.unwrap();
    assert!(buffer.send_again(&key("1")).await.unwrap());
    assert!(!buffer.send_again(&key("1")).await.unwrap(), "waiting by now");
    lend(&buffer).await.settle(rejected());
    let row = settled_row(&buffer).await;
    assert!(!buffer.send_again(&key("1")).await.unwrap(), "an exception");
    buffer.act(row, Act::Discard).await.unwrap();
    assert!(!buffer.send_again(&key("1")).await.unwrap(), "discarded");
}

pub(crate) async fn exceptions_are_listed_retried_and_discarded<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    for id in ["1", "2", "3"] {
        post(&buffer, delivery(id, 1, None)).await;
    }
    for (lease, n) in buffer.lease(10, SOON).await.unwrap().into_iter().zip(1..) {
        lease.settle(rejected());
        assert_eq!(buffer.exceptions(0, 10).await.unwrap().len(), n);
    }
    let rows = buffer.exceptions(0, 2).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].key, key("1"));
    assert_eq!((rows[0].number.as_str(), rows[0].attempts), ("#1", 1));
    assert_eq!((rows[0].state, rows[0].has_body), (OrderState::Exception, false));
    assert_eq!(rows[0].reason, "no such product");
    let rest = buffer.exceptions(rows[1].id, 10).await.unwrap();
    assert_eq!(rest.iter().map(|row| row.key.id.as_str()).collect::<Vec<_>>(), ["3"]);
    assert_eq!(buffer.status().await.unwrap().exceptions["rejected"], 3);

    let retried = buffer.act(rows[0].id, Act::Retry).await.unwrap();
    assert_eq!((retried.id, retried.state), (rows[0].id, OrderState::Pending));
    assert_eq!(buffer.act(rows[0].id, Act::Retry).await, Err(ActError::NotFound));
    let lease = lend(&buffer).await;
    assert_eq!((lease.key.id.as_str(), lease.attempts, lease.sent_before), ("1", 0, false));
    let discarded = buffer.act(rows[1].id, Act::Discard).await.unwrap();
    assert_eq!(discarded.state, OrderState::Discarded);
    assert_eq!(answer(&buffer, delivery("2", 1, None)).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("2", 2, Some(1))).await, Answer::Conflict);
    none_to_lend(&buffer).await;
    assert_eq!(buffer.act(77_777, Act::Discard).await, Err(ActError::NotFound));
}

pub(crate) async fn bodies_without_a_key_stay_apart<B: Buffer>(buffer: B, _: &HandClock) {
    let draft = with(Readiness::Recorded(RecordedAs::Draft), delivery("1", 1, None));
    assert_eq!(answer(&buffer, draft.clone()).await, Answer::Recorded);
    assert_eq!(answer(&buffer, draft).await, Answer::Duplicate);
    let id_only = with(Readiness::FetchNeeded, delivery("1", 2, None));
    let row = post(&buffer, id_only.clone()).await;
    assert_eq!((row.answer(), row.first().state), (Answer::Exception, OrderState::Exception));
    assert_eq!(answer(&buffer, id_only.clone()).await, Answer::Duplicate);
    assert_eq!(answer(&buffer, delivery("1", 3, None)).await, Answer::Accepted);

    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].id, rows[0].order), (row.sequence(), None));
    assert_eq!((rows[0].key.clone(), rows[0].has_body), (key("1"), true));
    assert_eq!(buffer.body(rows[0].id).await.unwrap().unwrap(), "body 1 2");
    buffer.act(rows[0].id, Act::Discard).await.unwrap();
    assert_eq!(answer(&buffer, id_only).await, Answer::Exception, "it is needed again");
    assert_eq!(lend(&buffer).await.body, "body 1 3");
}

pub(crate) async fn rows_of_their_own_cannot_be_retried<B: Buffer>(buffer: B, _: &HandClock) {
    let unreadable = with(Readiness::Unreadable, delivery("", 1, None));
    let stray = post(&buffer, unreadable.clone()).await.sequence();
    post(&buffer, delivery("1", 2, None)).await;
    let conflict = post(&buffer, delivery("1", 3, None)).await.sequence();
    for row in [stray, conflict] {
        let refused = buffer.act(row, Act::Retry).await;
        assert!(matches!(refused, Err(ActError::NotPossible(_))), "{refused:?}");
    }
    assert_eq!(buffer.act(stray, Act::Discard).await.unwrap().state, OrderState::Discarded);
    assert_eq!(buffer.act(conflict, Act::Discard).await.unwrap().state, OrderState::Pending);
    let again = post(&buffer, unreadable).await;
    assert_eq!(
        (again.answer(), again.first().state),
        (Answer::Duplicate, OrderState::Discarded),
        "a retry of the sender does not reopen it"
    );
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

pub(crate) async fn status_counts_and_ages<B: Buffer>(buffer: B, clock: &HandClock) {
    let priced = |id: &str, content, amount: &str| {
        let mut order = delivery(id, content, None);
        order.total = Some(forebay_order::Money {
            amount: forebay_order::money::parse_amount(amount).unwrap(),
            currency: "EUR".parse().unwrap(),
        });
        order
    };
    post(&buffer, priced("1", 1, "19.90")).await;
    clock.advance(5_000);
    post(&buffer, priced("2", 2, "0.1")).await;
    post(&buffer, with(UNPAID, priced("3", 3, "100"))).await;
    post(&buffer, with(Readiness::Cancelled, delivery("4", 4, None))).await;
    let status = buffer.status().await.unwrap();
    assert_eq!((status.live["pending"], status.live["held"], status.ended["cancelled"]), (2, 1, 1));
    assert_eq!(status.oldest_pending_ms, Some(5_000));
    assert_eq!(status.money_waiting["EUR"], "120.00");
    assert!(status.durable_sequence >= 4);
    assert_eq!(buffer.pace().pending, 2);
    for lease in buffer.lease(10, SOON).await.unwrap() {
        lease.settle(summarised("S"));
    }
    let status = buffer.status().await.unwrap();
    assert_eq!((status.live["pending"], status.ended["summarised"]), (0, 2));
    assert_eq!(status.money_waiting["EUR"], "100.00");
    assert_eq!(status.oldest_pending_ms, None);
    assert!(buffer.pace().drained_per_s > 0.0);
    assert_eq!(buffer.health(), Ok(()));
}

pub(crate) async fn a_waiting_worker_is_woken<B: Buffer>(buffer: B, _: &HandClock) {
    let worker = buffer.clone();
    let waiting = tokio::spawn(async move { worker.lease(5, SOON).await });
    tokio::task::yield_now().await;
    post(&buffer, delivery("1", 1, None)).await;
    let leases = waiting.await.unwrap().unwrap();
    assert_eq!(leases.len(), 1);
    let empty = buffer.lease(5, Duration::from_millis(20)).await.unwrap();
    assert!(empty.is_empty());
}

pub(crate) async fn a_dropped_append_keeps_the_order<B: Buffer>(buffer: B, _: &HandClock) {
    for id in ["1", "2", "3"] {
        let envelope = delivery(id, 1, None);
        let permit = buffer.admission().admit(envelope.body.len()).unwrap();
        let append = buffer.append(envelope, permit);
        // One poll hands it in; the answer is not waited for.
        let mut append = Box::pin(append);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        drop(append.as_mut().poll(&mut context));
    }
    for id in ["3", "2", "1"] {
        let receipt = post(&buffer, delivery(id, 1, None)).await;
        assert_eq!(receipt.answer(), Answer::Duplicate, "it was handed in before");
    }
    let leases = buffer.lease(10, SOON).await.unwrap();
    assert_eq!(leases.len(), 3);
    assert_eq!(buffer.admission().in_flight(), (0, 0), "their share is given back");
}

pub(crate) async fn after_the_close_nothing_is_taken<B: Buffer>(buffer: B, _: &HandClock) {
    post(&buffer, delivery("1", 1, None)).await;
    let lease = lend(&buffer).await;
    buffer.close().await;
    buffer.close().await;
    drop(lease);
    let envelope = delivery("2", 1, None);
    let permit = buffer.admission().admit(1).unwrap();
    assert_eq!(buffer.append(envelope, permit).await, Err(AppendError::Closing));
    assert_eq!(buffer.lease(1, NOW).await.unwrap_err(), BufferError::Closing);
    assert_eq!(buffer.order(&key("1")).await, Err(BufferError::Closing));
    assert_eq!(buffer.status().await, Err(BufferError::Closing));
    assert!(matches!(buffer.act(1, Act::Retry).await, Err(ActError::Buffer(_))));
    assert!(buffer.health().is_err());
}
