//! The table, one row per cell.

use bytes::Bytes;
use forebay_order::OrderKey;

use super::*;

const A: Fingerprint = Fingerprint([1; 16]);
const B: Fingerprint = Fingerprint([2; 16]);
const C: Fingerprint = Fingerprint([3; 16]);
const NOTHING: Write = Write::Nothing;
const REPLACE: Write = Write::Replace { parked: false };
const PARK: Write = Write::Replace { parked: true };
const CANCEL: Write = Write::Cancel { parked: false };
const PARK_CANCEL: Write = Write::Cancel { parked: true };
const UNPAID: Readiness = Readiness::Held(HoldReason::Unpaid);
const WAITING: [OrderState; 2] = [OrderState::Held, OrderState::Pending];
const LENT: [OrderState; 2] = [OrderState::Leased, OrderState::Submitted];
const ENDED: [OrderState; 2] = [OrderState::Summarised, OrderState::Discarded];

fn known(state: OrderState, version: Option<u64>) -> Known {
    Known {
        state,
        hold: (state == OrderState::Held).then_some(HoldReason::Unpaid),
        tombstone: false,
        parked_cancel: false,
        maybe_sent: false,
        damaged: false,
        version,
        fingerprint: A,
        fingerprint_version: Fingerprint::VERSION,
        earlier: Vec::new(),
        conflicts: Vec::new(),
    }
}

fn incoming(readiness: Readiness, version: Option<u64>, fingerprint: Fingerprint) -> Envelope {
    Envelope {
        readiness,
        version,
        format: 1,
        ..Envelope::new(OrderKey::new("shopify", "demo", "1"), fingerprint, Bytes::new())
    }
}

fn rigid(version: Option<u64>) -> Envelope {
    Envelope { amend: false, ..incoming(Readiness::Pending, version, B) }
}

fn came_to(known: &Known, incoming: &Envelope) -> (Answer, Write) {
    let decision = decide(Some(known), incoming, || false);
    (decision.answer, decision.write)
}

#[test]
fn unknown_keys_go_by_readiness() {
    let rows = [
        (Readiness::Pending, Answer::Accepted, Write::Accept),
        (UNPAID, Answer::Held, Write::Accept),
        (Readiness::Cancelled, Answer::Tombstone, Write::Accept),
        (Readiness::Recorded(RecordedAs::Draft), Answer::Recorded, Write::Recorded),
        (Readiness::Unreadable, Answer::Exception, Write::Stray),
        (Readiness::FetchNeeded, Answer::Exception, Write::Stray),
    ];
    for (readiness, answer, write) in rows {
        let decision = decide(None, &incoming(readiness, Some(1), A), || false);
        assert_eq!((decision.answer, decision.write), (answer, write), "{readiness:?}");
    }
}

#[test]
fn an_order_that_failed_at_its_source_is_held() {
    let failed = Readiness::Held(HoldReason::FailedAtSource);
    for version in [None, Some(2), Some(3)] {
        let again = incoming(failed, version, B);
        for state in WAITING {
            let came = came_to(&known(state, Some(2)), &again);
            assert_eq!(came, (Answer::Amended, REPLACE), "{state:?} {version:?}");
        }
        for state in LENT {
            assert_eq!(came_to(&known(state, Some(2)), &again), (Answer::Parked, PARK));
        }
        let summarised = known(OrderState::Summarised, Some(2));
        assert_eq!(came_to(&summarised, &again), (Answer::ChangeAfterSummary, Write::Change));
    }
    let older = incoming(failed, Some(1), B);
    assert_eq!(came_to(&known(OrderState::Pending, Some(2)), &older), (Answer::Stale, NOTHING));
    for state in [OrderState::Cancelled, OrderState::Discarded, OrderState::Recorded] {
        assert!(!failed_at_source(Readiness::Recorded(RecordedAs::Failed), state));
    }
}

#[test]
fn content_that_occupies_no_key_is_a_duplicate_when_known() {
    for readiness in
        [Readiness::Recorded(RecordedAs::Test), Readiness::Unreadable, Readiness::FetchNeeded]
    {
        let known = known(OrderState::Recorded, None);
        let again = incoming(readiness, None, A);
        assert_eq!(came_to(&known, &again), (Answer::Duplicate, NOTHING), "{readiness:?}");
        assert!(!occupies_key(readiness));
    }
}

#[test]
fn the_same_content_is_a_duplicate_in_every_state() {
    for state in [
        OrderState::Held,
        OrderState::Pending,
        OrderState::Leased,
        OrderState::Submitted,
        OrderState::Summarised,
        OrderState::Exception,
        OrderState::Cancelled,
        OrderState::Discarded,
    ] {
        for version in [None, Some(1), Some(2), Some(3)] {
            let again = incoming(Readiness::Pending, version, A);
            let came = came_to(&known(state, Some(2)), &again);
            assert_eq!(came, (Answer::Duplicate, NOTHING), "{state:?} {version:?}");
        }
        let mut amended = known(state, Some(2));
        amended.earlier = vec![B];
        for version in [None, Some(1), Some(2)] {
            let earlier = incoming(Readiness::Pending, version, B);
            let came = came_to(&amended, &earlier);
            assert_eq!(came, (Answer::Duplicate, NOTHING), "{state:?} {version:?}");
        }
    }
}

#[test]
fn a_change_back_to_earlier_content_is_newer_not_a_duplicate() {
    let mut amended = known(OrderState::Pending, Some(2));
    amended.earlier = vec![B];
    let back = incoming(Readiness::Pending, Some(3), B);
    assert_eq!(came_to(&amended, &back), (Answer::Amended, REPLACE));
}

#[test]
fn newer_content_by_state() {
    let newer = incoming(Readiness::Pending, Some(3), B);
    let expected = |states: &[OrderState], answer, write| {
        for state in states {
            assert_eq!(came_to(&known(*state, Some(2)), &newer), (answer, write), "{state:?}");
        }
    };
    expected(&WAITING, Answer::Amended, REPLACE);
    expected(&[OrderState::Exception], Answer::Amended, REPLACE);
    expected(&LENT, Answer::Parked, PARK);
    expected(&ENDED, Answer::ChangeAfterSummary, Write::Change);
    expected(&[OrderState::Cancelled], Answer::Held, REPLACE);
    let hold = incoming(UNPAID, Some(3), B);
    let came = came_to(&known(OrderState::Pending, Some(2)), &hold);
    assert_eq!(came, (Answer::Amended, REPLACE), "a newer version may hold a pending order");
}

#[test]
fn where_the_channel_does_not_amend_newer_is_a_conflict() {
    for state in [WAITING, LENT, ENDED].concat() {
        let came = came_to(&known(state, Some(2)), &rigid(Some(3)));
        assert_eq!(came, (Answer::Conflict, Write::Conflict), "{state:?}");
        let older = came_to(&known(state, Some(2)), &rigid(Some(1)));
        assert_eq!(older, (Answer::Stale, NOTHING), "{state:?}");
    }
    let came = came_to(&known(OrderState::Cancelled, Some(2)), &rigid(Some(3)));
    assert_eq!(came, (Answer::Held, REPLACE), "a cancelled order is held whatever the rule");
}

#[test]
fn older_content_is_stale_in_every_state() {
    for state in [WAITING, LENT, ENDED, [OrderState::Exception, OrderState::Cancelled]].concat() {
        for readiness in [Readiness::Pending, UNPAID, Readiness::Cancelled] {
            let older = incoming(readiness, Some(1), B);
            let came = came_to(&known(state, Some(2)), &older);
            assert_eq!(came, (Answer::Stale, NOTHING), "{state:?} {readiness:?}");
        }
    }
}

#[test]
fn other_content_without_a_newer_version_is_a_conflict() {
    for (known_version, version) in
        [(Some(2), Some(2)), (None, Some(2)), (Some(2), None), (None, None)]
    {
        for state in [WAITING, LENT, ENDED, [OrderState::Pending, OrderState::Exception]].concat() {
            let other = incoming(UNPAID, version, B);
            let came = came_to(&known(state, known_version), &other);
            assert_eq!(came, (Answer::Conflict, Write::Conflict), "{state:?} {version:?}");
        }
    }
}

#[test]
fn the_same_conflict_again_writes_nothing() {
    let mut known = known(OrderState::Pending, None);
    known.conflicts = vec![B];
    assert_eq!(
        came_to(&known, &incoming(Readiness::Pending, None, B)),
        (Answer::Conflict, NOTHING)
    );
    assert_eq!(
        came_to(&known, &incoming(Readiness::Pending, None, C)),
        (Answer::Conflict, Write::Conflict)
    );
}

#[test]
fn becoming_ready_counts_as_newer() {
    for (known_version, version) in [(None, None), (Some(2), Some(2)), (Some(2), None)] {
        let ready = incoming(Readiness::Pending, version, B);
        let came = came_to(&known(OrderState::Held, known_version), &ready);
        assert_eq!(came, (Answer::Amended, REPLACE));
        let rigid = came_to(&known(OrderState::Held, known_version), &rigid(version));
        assert_eq!(rigid, (Answer::Conflict, Write::Conflict), "unless the channel forbids it");
    }
}

#[test]
fn a_hold_after_a_cancel_is_released_only_by_a_strictly_newer_version() {
    let mut held = known(OrderState::Held, Some(2));
    held.hold = Some(HoldReason::CancelledBefore);
    let came = |version| came_to(&held, &incoming(Readiness::Pending, version, B));
    assert_eq!(came(None), (Answer::Conflict, Write::Conflict));
    assert_eq!(came(Some(2)), (Answer::Conflict, Write::Conflict));
    assert_eq!(came(Some(1)), (Answer::Stale, NOTHING));
    assert_eq!(came(Some(3)), (Answer::Amended, REPLACE));
}

#[test]
fn cancels_by_state() {
    for version in [None, Some(2), Some(3)] {
        let cancel = incoming(Readiness::Cancelled, version, B);
        let expected = |states: &[OrderState], answer, write| {
            for state in states {
                let came = came_to(&known(*state, Some(2)), &cancel);
                assert_eq!(came, (answer, write), "{state:?} {version:?}");
            }
        };
        expected(&WAITING, Answer::Cancelled, CANCEL);
        expected(&[OrderState::Exception, OrderState::Cancelled], Answer::Cancelled, CANCEL);
        expected(&LENT, Answer::Parked, PARK_CANCEL);
        expected(&ENDED, Answer::ChangeAfterSummary, Write::Change);
    }
    let rigid = Envelope { amend: false, ..incoming(Readiness::Cancelled, Some(3), B) };
    let came = came_to(&known(OrderState::Pending, Some(2)), &rigid);
    assert_eq!(came, (Answer::Cancelled, CANCEL), "a cancel is no amendment");
}

#[test]
fn what_comes_after_a_tombstone_is_held_whatever_its_version() {
    let mut tombstone = known(OrderState::Cancelled, Some(2));
    tombstone.tombstone = true;
    for version in [None, Some(1), Some(2), Some(3)] {
        let decision =
            decide(Some(&tombstone), &incoming(Readiness::Pending, version, B), || false);
        assert_eq!(decision.answer, Answer::Held, "{version:?}");
        assert_eq!(decision.write, REPLACE);
        assert_eq!(decision.hold, Some(HoldReason::CancelledBefore));
    }
}

#[test]
fn an_exception_that_may_be_in_the_oms_is_changed_only_when_its_outcome_is_known() {
    let mut unknown = known(OrderState::Exception, Some(2));
    unknown.maybe_sent = true;
    let newer = incoming(Readiness::Pending, Some(3), B);
    assert_eq!(came_to(&unknown, &newer), (Answer::Parked, PARK));
    let cancel = incoming(Readiness::Cancelled, Some(3), B);
    assert_eq!(came_to(&unknown, &cancel), (Answer::Parked, PARK_CANCEL));
}

#[test]
fn a_cancel_of_a_pending_order_that_may_be_in_the_oms_waits_for_its_outcome_and_a_change_does_not()
{
    let mut forgotten = known(OrderState::Pending, Some(2));
    forgotten.maybe_sent = true;
    let cancel = incoming(Readiness::Cancelled, Some(3), B);
    assert_eq!(came_to(&forgotten, &cancel), (Answer::Parked, PARK_CANCEL));
    // What is looked up then is the newer content, and another one in the OMS is an exception.
    let newer = incoming(Readiness::Pending, Some(3), B);
    assert_eq!(came_to(&forgotten, &newer), (Answer::Amended, REPLACE));
}

#[test]
fn the_same_content_repairs_damaged_bytes() {
    let mut damaged = known(OrderState::Exception, Some(2));
    damaged.damaged = true;
    damaged.earlier = vec![B];
    let again = incoming(Readiness::Pending, Some(2), A);
    assert_eq!(came_to(&damaged, &again), (Answer::Amended, REPLACE));
    let earlier = incoming(Readiness::Pending, Some(1), B);
    assert_eq!(came_to(&damaged, &earlier), (Answer::Duplicate, NOTHING));
}

#[test]
fn content_after_a_parked_cancel_is_parked_as_held() {
    let mut lent = known(OrderState::Submitted, Some(2));
    lent.parked_cancel = true;
    for version in [None, Some(2), Some(3)] {
        let decision = decide(Some(&lent), &incoming(Readiness::Pending, version, B), || false);
        assert_eq!(decision.answer, Answer::Parked, "{version:?}");
        assert_eq!(decision.write, PARK);
        assert_eq!(decision.hold, Some(HoldReason::CancelledBefore));
    }
    let older = incoming(Readiness::Pending, Some(1), B);
    assert_eq!(came_to(&lent, &older), (Answer::Stale, NOTHING));
}

#[test]
fn fingerprints_of_another_rule_are_settled_by_bytes_then_by_version() {
    let known = known(OrderState::Pending, Some(2));
    let mut again = incoming(Readiness::Pending, Some(2), B);
    again.fingerprint_version = 2;
    assert_eq!(decide(Some(&known), &again, || true).answer, Answer::Duplicate);
    assert_eq!(decide(Some(&known), &again, || false).answer, Answer::Conflict);
    again.version = Some(3);
    assert_eq!(decide(Some(&known), &again, || false).answer, Answer::Amended);
    again.fingerprint = A;
    again.version = Some(1);
    assert_eq!(decide(Some(&known), &again, || false).answer, Answer::Stale);
}
