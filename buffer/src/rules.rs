//! The one table that says what a delivery means beside what is known of its key.
//!
//! Pure: no state, no I/O, no clock. Both backends, the tests and the documentation go by [`decide`].
//!
//! | known | same content again | older | newer, channel amends | newer, channel does not | equal or no version | cancel that is not older |
//! |---|---|---|---|---|---|---|
//! | nothing | - | - | accepted, held, tombstone by readiness | same | same | tombstone |
//! | held, pending | duplicate | stale | amended | conflict | conflict; held that becomes pending: amended | cancelled |
//! | leased, submitted | duplicate | stale | parked | conflict | conflict | parked |
//! | exception | duplicate; after damage: amended | stale | amended, pending again | conflict | conflict | cancelled |
//! | exception that may be in the OMS | duplicate | stale | parked | conflict | conflict | parked |
//! | cancelled | duplicate | stale; after a tombstone: held | held | held | held | cancelled |
//! | summarised, discarded | duplicate | stale | change after summary | conflict | conflict | change after summary |
//!
//! - *Same content* is an equal fingerprint of the latest or any earlier version. One exception: content that
//!   equals an *earlier* version under a strictly newer source version is a change back, hence newer.
//! - A key that was cancelled holds every later content of it (`cancelled_before`), and only a strictly newer
//!   version releases that.
//! - A delivery that says an order failed, or was replaced, at its source is no order by itself (recorded); under
//!   the key of a known order it is a newer version that holds it ([`failed_at_source`]), unless it is older.
//! - A recorded body, an unreadable one and one with only an id occupy no key; they are known by their content.
//! - Fingerprints of different rules cannot be compared; then the kept bytes are, and bytes that are equal are
//!   never a conflict. Where they are gone (only the outcome is left), versions decide alone.

use forebay_order::{Fingerprint, HoldReason, Readiness, RecordedAs};

use crate::{Answer, Envelope, OrderState};

/// What is known of a delivery's key (or, for what occupies no key, of its content).
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Where the order is.
    pub(crate) state: OrderState,
    /// Why it is held, if it is.
    pub(crate) hold: Option<HoldReason>,
    /// Only a cancel of it ever came.
    pub(crate) tombstone: bool,
    /// A cancel waits for the loan to end.
    pub(crate) parked_cancel: bool,
    /// Bytes of it may have reached the OMS, and nobody knows yet whether they did.
    pub(crate) maybe_sent: bool,
    /// Its bytes were damaged on disk, so that the same content again repairs it.
    pub(crate) damaged: bool,
    /// The newest source version seen, of a parked or excepted change too.
    pub(crate) version: Option<u64>,
    /// Fingerprint of the latest content, a parked one before the one lent out.
    pub(crate) fingerprint: Fingerprint,
    /// The rule that made it.
    pub(crate) fingerprint_version: u8,
    /// Fingerprints of earlier versions and of changes that came too late.
    pub(crate) earlier: Vec<Fingerprint>,
    /// Fingerprints of open conflicts.
    pub(crate) conflicts: Vec<Fingerprint>,
}

/// What to answer, and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What the delivery came to.
    pub(crate) answer: Answer,
    /// Which record keeps it.
    pub(crate) write: Write,
    /// The readiness the record is written with, where it is not the sender's.
    pub(crate) hold: Option<HoldReason>,
}

/// Which record keeps a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// None: nothing changes.
    Nothing,
    /// The key's first.
    Accept,
    /// The new content of a known order.
    Replace { parked: bool },
    /// The order is called off.
    Cancel { parked: bool },
    /// An exception row with the other content.
    Conflict,
    /// An exception row with a change that came too late.
    Change,
    /// Not an order.
    Recorded,
    /// An exception row without a key.
    Stray,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Older,
    Newer,
    /// Equal, or one of the two has none.
    Unclear,
}

/// Whether a body of this readiness stands under its order key; the others are known by their content only.
pub(crate) fn occupies_key(readiness: Readiness) -> bool {
    matches!(readiness, Readiness::Pending | Readiness::Held(_) | Readiness::Cancelled)
}

/// Whether a delivery says that the order of its key failed or was replaced where it was placed, and so
/// concerns an order of that key that is in `state`.
pub(crate) fn failed_at_source(readiness: Readiness, state: OrderState) -> bool {
    readiness == Readiness::Recorded(RecordedAs::Failed)
        && !matches!(state, OrderState::Cancelled | OrderState::Discarded | OrderState::Recorded)
}

/// What `incoming` means. `same_bytes` says whether its body equals the kept one; asked only where the two
/// fingerprints are of different rules.
pub(crate) fn decide(
    known: Option<&Known>,
    incoming: &Envelope,
    same_bytes: impl FnOnce() -> bool,
) -> Decision {
    let Some(known) = known else { return first(incoming.readiness) };
    if !occupies_key(incoming.readiness) {
        return nothing(Answer::Duplicate);
    }
    let age = age(known.version, incoming.version);
    if same(known, incoming, age, same_bytes) {
        let repairs = known.damaged && incoming.fingerprint == known.fingerprint;
        let replace = Write::Replace { parked: false };
        return if repairs { write(Answer::Amended, replace) } else { nothing(Answer::Duplicate) };
    }
    if incoming.fingerprint_version == known.fingerprint_version
        && known.conflicts.contains(&incoming.fingerprint)
    {
        return nothing(Answer::Conflict);
    }
    if incoming.readiness == Readiness::Cancelled {
        cancel(known, age)
    } else {
        other(known, incoming, age)
    }
}

fn first(readiness: Readiness) -> Decision {
    match readiness {
        Readiness::Pending => write(Answer::Accepted, Write::Accept),
        Readiness::Held(_) => write(Answer::Held, Write::Accept),
        Readiness::Cancelled => write(Answer::Tombstone, Write::Accept),
        Readiness::Recorded(_) => write(Answer::Recorded, Write::Recorded),
        Readiness::Unreadable | Readiness::FetchNeeded => write(Answer::Exception, Write::Stray),
    }
}

fn cancel(known: &Known, age: Age) -> Decision {
    if age == Age::Older {
        return nothing(Answer::Stale);
    }
    match known.state {
        OrderState::Exception if known.maybe_sent => {
            write(Answer::Parked, Write::Cancel { parked: true })
        }
        OrderState::Held | OrderState::Pending | OrderState::Exception | OrderState::Cancelled => {
            write(Answer::Cancelled, Write::Cancel { parked: false })
        }
        OrderState::Leased | OrderState::Submitted => {
            write(Answer::Parked, Write::Cancel { parked: true })
        }
        OrderState::Summarised | OrderState::Discarded | OrderState::Recorded => {
            write(Answer::ChangeAfterSummary, Write::Change)
        }
    }
}

fn other(known: &Known, incoming: &Envelope, age: Age) -> Decision {
    if age == Age::Older && !known.tombstone {
        return nothing(Answer::Stale);
    }
    if known.state == OrderState::Cancelled {
        return held_after_cancel(Answer::Held, false);
    }
    if known.parked_cancel {
        return held_after_cancel(Answer::Parked, true);
    }
    let released = known.state == OrderState::Held
        && known.hold != Some(HoldReason::CancelledBefore)
        && incoming.readiness == Readiness::Pending;
    let failed = incoming.readiness == Readiness::Held(HoldReason::FailedAtSource);
    if !failed && (!incoming.amend || (age == Age::Unclear && !released)) {
        return write(Answer::Conflict, Write::Conflict);
    }
    match known.state {
        OrderState::Exception if known.maybe_sent => {
            write(Answer::Parked, Write::Replace { parked: true })
        }
        OrderState::Held | OrderState::Pending | OrderState::Exception | OrderState::Cancelled => {
            write(Answer::Amended, Write::Replace { parked: false })
        }
        OrderState::Leased | OrderState::Submitted => {
            write(Answer::Parked, Write::Replace { parked: true })
        }
        OrderState::Summarised | OrderState::Discarded | OrderState::Recorded => {
            write(Answer::ChangeAfterSummary, Write::Change)
        }
    }
}

fn same(known: &Known, incoming: &Envelope, age: Age, same_bytes: impl FnOnce() -> bool) -> bool {
    if incoming.fingerprint_version != known.fingerprint_version {
        return same_bytes();
    }
    incoming.fingerprint == known.fingerprint
        || (age != Age::Newer && known.earlier.contains(&incoming.fingerprint))
}

fn age(known: Option<u64>, incoming: Option<u64>) -> Age {
    match (known, incoming) {
        (Some(known), Some(incoming)) if incoming > known => Age::Newer,
        (Some(known), Some(incoming)) if incoming < known => Age::Older,
        _ => Age::Unclear,
    }
}

fn nothing(answer: Answer) -> Decision {
    Decision { answer, write: Write::Nothing, hold: None }
}

fn write(answer: Answer, write: Write) -> Decision {
    Decision { answer, write, hold: None }
}

fn held_after_cancel(answer: Answer, parked: bool) -> Decision {
    let hold = Some(HoldReason::CancelledBefore);
    Decision { answer, write: Write::Replace { parked }, hold }
}

#[cfg(test)]
mod tests {
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
            fingerprint_version: 1,
            earlier: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    fn incoming(readiness: Readiness, version: Option<u64>, fingerprint: Fingerprint) -> Envelope {
        Envelope {
            key: OrderKey::new("shopify", "demo", "1"),
            number: "#1".into(),
            readiness,
            amend: true,
            version,
            fingerprint,
            fingerprint_version: 1,
            not_before_ms: None,
            format: 1,
            lane: 0,
            total: None,
            lookup: None,
            traceparent: None,
            synthetic: false,
            unplaced: false,
            masked: Vec::new(),
            reason: String::new(),
            body: Bytes::new(),
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
        for state in [WAITING, LENT, ENDED, [OrderState::Exception, OrderState::Cancelled]].concat()
        {
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
            for state in
                [WAITING, LENT, ENDED, [OrderState::Pending, OrderState::Exception]].concat()
            {
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
}
