//! What the conformance suite and the model cannot reach through a backend.

use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Fingerprint, Money, OrderKey};
use rust_decimal::Decimal;

use super::{Before, Carry, EARLIER_MAX, Head, Kept, State};
use crate::digest::{PackedMoney, Plain};
use crate::embedded::journal::Location;
use crate::record::{Delivery, Record, RowSnapshot, Settled};
use crate::{Act, ActError, Envelope, ExceptionCategory, OrderState, Verdict};

const NOW_MS: i64 = 1_000_000;

fn envelope(id: &str, content: u8) -> Envelope {
    let key = OrderKey::new("shopify", "demo", id);
    let body = Bytes::from_static(b"body");
    Envelope {
        number: String::new(),
        format: 2,
        ..Envelope::new(key, Fingerprint([content; 16]), body)
    }
}

fn delivery(id: &str, content: u8) -> Delivery {
    Delivery { envelope: envelope(id, content), accepted_at_ms: NOW_MS }
}

/// What the content before says, where every content is named by its record.
fn before(kept: Kept) -> Option<Before> {
    let fingerprint = Fingerprint([u8::try_from(kept.record % 251).unwrap(); 16]);
    Some(Before { fingerprint, first_accepted_at_ms: NOW_MS })
}

/// All that must be carried forward out of a segment.
fn carry(state: &mut State, epoch: u64, horizon_ms: i64) -> Vec<Carry> {
    let mut orders = state.hanging_on(epoch);
    state.carry_from(epoch, &mut orders, 100, horizon_ms)
}

fn head(id: &str, content: u8) -> Head {
    Head::of_delivery(&delivery(id, content), Kept { record: 0, location: None, bytes: 4 })
}

fn apply(state: &mut State, record: u64, what: &Record) {
    state.apply(what, Kept { record, location: None, bytes: 4 }, before);
}

fn apply_in(state: &mut State, epoch: u32, record: u64, what: &Record) {
    let location = Some(Location::new(epoch, 8192));
    state.apply(what, Kept { record, location, bytes: 4 }, before);
}

fn rejected(order: u64) -> Record {
    Record::Failed {
        order,
        at_ms: NOW_MS,
        attempts: 3,
        category: ExceptionCategory::Rejected,
        reason: "no".into(),
    }
}

fn accepted(ids: &[&str]) -> State {
    let mut state = State::new(b"secret");
    for (sequence, id) in (1..).zip(ids) {
        apply(&mut state, sequence, &Record::Accept(delivery(id, 1)));
    }
    state
}

fn retry(order: u64, not_before_ms: i64) -> Record {
    Record::Retry { order, not_before_ms, attempts: 1, sent: false, reason: String::new() }
}

#[test]
fn a_retry_time_from_a_clock_that_was_set_back_does_not_park_an_order_for_years() {
    let mut state = accepted(&["1"]);
    apply(&mut state, 2, &retry(1, NOW_MS + 400 * 86_400_000));
    state.replayed(NOW_MS, Duration::ZERO);
    assert_eq!(state.next_due_ms(false), Some(NOW_MS + 86_400_000));
}

#[test]
fn a_time_the_sender_asked_for_stands() {
    let mut state = State::new(b"secret");
    let mut later = delivery("1", 1);
    later.envelope.not_before_ms = Some(NOW_MS + 400 * 86_400_000);
    apply(&mut state, 1, &Record::Accept(later));
    state.replayed(NOW_MS, Duration::ZERO);
    assert_eq!(state.next_due_ms(false), Some(NOW_MS + 400 * 86_400_000));
}

#[test]
fn acceptance_times_never_go_back() {
    let state = accepted(&["1"]);
    assert_eq!(state.accepted_at(NOW_MS - 5_000), NOW_MS);
    assert_eq!(state.accepted_at(NOW_MS + 1), NOW_MS + 1);
}

#[test]
fn an_acceptance_time_hours_ahead_is_not_followed() {
    let state = accepted(&["1"]);
    let day_ms = 24 * 3_600_000;
    assert_eq!(state.accepted_at(NOW_MS - 400 * day_ms), NOW_MS - 400 * day_ms);
}

#[test]
fn a_verdict_ends_its_loan_though_the_order_is_gone() {
    let mut state = accepted(&["1"]);
    state.replayed(NOW_MS, Duration::ZERO);
    let loans = state.lend(1, true, NOW_MS);
    state.forget(1);
    let summary = Verdict::Summarised { summary_id: "S".into(), existing: false };
    assert_eq!(state.verdict(1, loans[0].number, Some(summary), NOW_MS), None);
    assert_eq!(state.lent(), 0);
}

#[test]
fn an_order_that_is_lent_is_neither_set_aside_nor_discarded() {
    let mut state = accepted(&["1"]);
    state.replayed(NOW_MS, Duration::ZERO);
    assert!(state.damaged_order(1, NOW_MS).is_some());
    let loans = state.lend(1, true, NOW_MS);
    assert_eq!(state.damaged_order(1, NOW_MS), None);
    // As an earlier release wrote it.
    apply(&mut state, 2, &rejected(1));
    assert!(matches!(state.check_act(2, Act::Discard), Err(ActError::NotPossible(_))));
    state.verdict(1, loans[0].number, None, NOW_MS);
    assert!(state.check_act(2, Act::Discard).is_ok());
}

#[test]
fn what_the_index_says_of_a_plain_order_is_what_its_record_says() {
    let (mut read, mut indexed) = (State::new(b"secret"), State::new(b"secret"));
    let kept = |record| Kept { record, location: Some(Location::new(3, 8192)), bytes: 640 };
    for n in 1..50_u64 {
        let mut delivery = delivery(&n.to_string(), 1);
        delivery.accepted_at_ms = 1_790_000_000_000;
        let amount = Decimal::new(i64::try_from(n).unwrap() * 1_001, 3);
        delivery.envelope.total = Some(Money { amount, currency: "KWD".parse().unwrap() });
        let record = Record::Accept(delivery);
        let plain = read.plain(&record).unwrap();
        read.apply(&record, kept(n), before);
        indexed.apply_indexed(n, kept(n), &plain);
    }
    assert_eq!(read.status(NOW_MS), indexed.status(NOW_MS));
    assert_eq!(read.live_bytes(3), indexed.live_bytes(3));
    for n in 1..50_u64 {
        assert_eq!(read.get(n), indexed.get(n));
        let key = OrderKey::new("shopify", "demo", n.to_string());
        assert_eq!(indexed.find(indexed.hash_of_key(&key)), Some(n));
    }
    let mut wide = delivery("wide", 1);
    let currency = "IDR".parse().unwrap();
    wide.envelope.total = Some(Money { amount: Decimal::new(10_i64.pow(12), 0), currency });
    assert!(read.plain(&Record::Accept(wide.clone())).is_none(), "it is read whole");
    apply_in(&mut read, 3, 50, &Record::Accept(wide));
    assert_eq!(read.status(NOW_MS).money_waiting["IDR"], "1000000000000.00");
    apply(&mut read, 51, &rejected(50));
    assert_eq!(read.status(NOW_MS).money_waiting.get("IDR"), None);
}

#[test]
fn an_endlessly_amended_order_takes_no_endless_memory() {
    let mut state = accepted(&["1"]);
    for n in 2..200_u8 {
        let delivery = delivery("1", n);
        apply(&mut state, u64::from(n), &Record::Replace { order: 1, parked: false, delivery });
    }
    assert_eq!(state.details[&1].earlier.len(), EARLIER_MAX);
}

#[test]
fn records_of_orders_that_are_retired_have_no_effect() {
    let mut state = accepted(&["1"]);
    let gone = 99;
    let entry = Settled {
        order: gone,
        summary_id: "S".into(),
        existing: false,
        attempts: 1,
        at_ms: NOW_MS,
    };
    apply(&mut state, 100, &retry(gone, 0));
    apply(&mut state, 101, &Record::Settle { entries: vec![entry] });
    apply(&mut state, 102, &Record::Leased { orders: vec![(gone, 0)] });
    apply(&mut state, 103, &Record::Submitting { orders: vec![gone] });
    let ticket = Record::Ticket {
        order: gone,
        ticket: "T".into(),
        at_ms: Some(NOW_MS),
        not_before_ms: Some(NOW_MS),
    };
    apply(&mut state, 104, &ticket);
    let delivery = delivery("gone", 2);
    let replace = Record::Replace { order: gone, parked: false, delivery: delivery.clone() };
    apply(&mut state, 105, &replace);
    apply(&mut state, 106, &Record::Cancel { order: gone, parked: true, delivery });
    let failed = Record::Failed {
        order: gone,
        at_ms: NOW_MS,
        attempts: 1,
        category: ExceptionCategory::Rejected,
        reason: String::new(),
    };
    apply(&mut state, 107, &failed);
    assert_eq!(state.replayed(NOW_MS, Duration::ZERO), []);
    assert_eq!(state.pending(), 1);
    assert_eq!(state.row_heads(0, 10).len(), 0);
    assert!(state.details.is_empty() && state.not_before.is_empty());
}

#[test]
fn a_carried_order_replaces_its_earlier_copy_and_is_rebuilt_without_it() {
    let mut full = accepted(&["1", "2"]);
    apply(&mut full, 3, &retry(1, 0));
    let failed = Record::Failed {
        order: 2,
        at_ms: NOW_MS,
        attempts: 3,
        category: ExceptionCategory::Rejected,
        reason: "no".into(),
    };
    apply(&mut full, 4, &failed);
    let moved = [
        full.moved_record(1, &head("1", 1), delivery("1", 1)).unwrap(),
        full.moved_record(2, &head("2", 1), delivery("2", 1)).unwrap(),
        full.moved_row_record(4, None).unwrap(),
    ];
    let mut rebuilt = State::new(b"secret");
    for (sequence, record) in (10..).zip(&moved) {
        apply(&mut full, sequence, record);
        apply(&mut rebuilt, sequence, record);
    }
    for (id, state) in [("1", OrderState::Pending), ("2", OrderState::Exception)] {
        let key = OrderKey::new("shopify", "demo", id);
        let shown = |state: &State| state.view(&key).unwrap().with(Some(&head(id, 1)));
        let view = shown(&full);
        assert_eq!((view.state, view.attempts > 0), (state, true));
        assert_eq!(shown(&rebuilt), view, "order {id}");
    }
    let rows = |state: &State| -> Vec<RowSnapshot> {
        state.rows.after(0).map(|(_, row)| row.snapshot()).collect()
    };
    assert_eq!(rows(&full), rows(&rebuilt));
    assert_eq!(rows(&rebuilt).len(), 1);
    assert_eq!(full.status(NOW_MS), rebuilt.status(NOW_MS));
}

#[test]
fn a_move_that_was_cut_short_before_its_rows_is_made_again_after_the_start() {
    let before = [Record::Accept(delivery("1", 1)), rejected(1)];
    let mut dying = State::new(b"secret");
    let mut started = State::new(b"secret");
    for (sequence, record) in (1..).zip(&before) {
        apply_in(&mut dying, 5, sequence, record);
        apply_in(&mut started, 5, sequence, record);
    }
    dying.replayed(NOW_MS, Duration::ZERO);
    let moved = dying.moved_record(1, &head("1", 1), delivery("1", 1)).unwrap();
    // The row stood in the next group, which never came.
    apply_in(&mut started, 9, 3, &moved);
    started.replayed(NOW_MS, Duration::ZERO);
    let found = carry(&mut started, 5, 0);
    assert!(
        matches!(&found[..], [Carry::Order { sequence: 1, rows, .. }] if rows.len() == 1),
        "{found:?}"
    );
    for (sequence, record) in (4..).zip([
        started.moved_record(1, &head("1", 1), delivery("1", 1)).unwrap(),
        started.moved_row_record(2, None).unwrap(),
    ]) {
        apply_in(&mut started, 9, sequence, &record);
    }
    assert!(carry(&mut started, 5, 0).is_empty(), "moved whole, and once");
}

#[test]
fn a_discarded_order_is_remembered_from_its_discard_on_wherever_it_is_rebuilt_from() {
    let discarded_at = NOW_MS + 1_000;
    let mut state = accepted(&["1"]);
    apply(&mut state, 2, &rejected(1));
    apply(&mut state, 3, &Record::Act { exception: 2, act: Act::Discard, at_ms: discarded_at });
    let moved = state.moved_record(1, &head("1", 1), delivery("1", 1)).unwrap();
    let mut rebuilt = State::new(b"secret");
    apply_in(&mut rebuilt, 9, 4, &moved);
    let key = OrderKey::new("shopify", "demo", "1");
    let shown = |state: &State| state.view(&key).unwrap().with(Some(&head("1", 1)));
    assert_eq!(shown(&rebuilt), shown(&state));
    assert_eq!(shown(&rebuilt).settled_at_ms, Some(discarded_at));
    assert_eq!(carry(&mut rebuilt, 9, discarded_at).len(), 1, "within the horizon");
    assert!(carry(&mut rebuilt, 9, discarded_at + 1).is_empty(), "past it");
}

/// Bytes of memory that the orders of a state take.
fn bytes(state: &State) -> usize {
    let side = [state.details.len(), state.not_before.len(), state.late.len()];
    assert_eq!(side, [0; 3], "nothing stands beside");
    state.slab.bytes() + state.keys.bytes() + state.queue.ready_bytes()
}

#[test]
fn a_pending_order_takes_at_most_52_bytes_at_every_number_and_none_when_it_is_gone() {
    let mut state = State::new(b"secret");
    let money = PackedMoney::NONE;
    let mut random = fastrand::Rng::with_seed(1);
    for n in 1..=200_000_u64 {
        let kept = Kept { record: n, location: Some(Location::new(3, 8192)), bytes: 640 };
        let plain = Plain { hash: random.u128(..) >> 32, accepted_at_s: 1, money };
        state.apply_indexed(n, kept, &plain);
        if n >= 50_000 && n % 1_000 == 0 {
            let each = bytes(&state) / usize::try_from(n).unwrap();
            assert!(each <= 52, "{each} bytes each at {n}");
        }
    }
    for n in 1..=200_000 {
        state.forget(n);
    }
    assert!(bytes(&state) < 1 << 19, "{} bytes are left", bytes(&state));
}

/// Settled orders wait for their segment in little more than they took before.
#[test]
fn a_summarised_order_takes_at_most_its_slot_and_its_ending() {
    let mut state = accepted(&["1"]);
    let settled = Settled {
        order: 1,
        summary_id: "1OsIQ0000000001AAA".into(),
        existing: false,
        attempts: 1,
        at_ms: NOW_MS,
    };
    apply(&mut state, 2, &Record::Settle { entries: vec![settled] });
    assert!(state.details.is_empty() && state.not_before.is_empty());
    let key = OrderKey::new("shopify", "demo", "1");
    let view = state.view(&key).unwrap().with(Some(&head("1", 1)));
    assert_eq!(view.summary_id.as_deref(), Some("1OsIQ0000000001AAA"));
    assert_eq!(view.settled_at_ms, Some(NOW_MS));
}

#[test]
fn what_was_held_while_it_was_about_to_be_lent_is_not_ready_when_the_loan_is_taken_back() {
    let mut state = accepted(&["1"]);
    let loans = state.lend(1, true, NOW_MS);
    let mut held = delivery("1", 2);
    held.envelope.readiness = forebay_order::Readiness::Held(forebay_order::HoldReason::Unpaid);
    let replace = Record::Replace { order: 1, parked: false, delivery: held };
    state.renew(1, &[(1, Record::Accept(delivery("1", 1))), (2, replace)], None, true);
    state.unlend(&loans[0]);
    assert_eq!(state.known_state(1), Some(OrderState::Held));
    assert!(state.lend(1, true, NOW_MS).is_empty());

    // Nor does an old loan that is taken back end a later one.
    let accept = Record::Accept(delivery("1", 3));
    state.renew(1, &[(1, accept)], None, false);
    let later = state.lend(1, true, NOW_MS);
    state.unlend(&loans[0]);
    assert!(state.lend(1, true, NOW_MS).is_empty());
    assert!(state.loan_again(&later[0]).is_some());
}

/// A state into which records of an earlier process are read.
fn replaying(records: &[Record]) -> State {
    let mut state = State::new(b"secret");
    for (sequence, record) in (1..).zip(records) {
        apply(&mut state, sequence, record);
    }
    state.replayed(NOW_MS, Duration::ZERO);
    state
}

#[test]
fn the_note_of_a_loan_that_is_carried_forward_is_no_second_loan() {
    let mut live = accepted(&["1"]);
    assert_eq!(live.lend(1, true, NOW_MS).len(), 1);
    let moved = live.moved_record(1, &head("1", 1), delivery("1", 1)).unwrap();
    let noted = live.leased_again(1).unwrap();
    let unmappable = match rejected(1) {
        Record::Failed { order, at_ms, attempts, reason, .. } => {
            let category = ExceptionCategory::Unmappable;
            Record::Failed { order, at_ms, attempts, category, reason }
        }
        other => other,
    };
    let lent = Record::Leased { orders: vec![(1, 0)] };
    let accept = Record::Accept(delivery("1", 1));
    // Its segment has not retired yet, so the original is read too.
    let state = replaying(&[accept.clone(), lent.clone(), moved, noted, unmappable.clone()]);
    assert_eq!(state.known_state(1), Some(OrderState::Exception));
    assert!(!state.is_sent_before(1), "nothing was sent");
    // One that was lent again by the next process was lent when the one before died.
    let again = Record::Leased { orders: vec![(1, 1)] };
    assert!(replaying(&[accept, lent, again, unmappable]).is_sent_before(1));
}
