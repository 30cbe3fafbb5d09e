//! Every kind of record reads back as it was written.

use bytes::Bytes;
use forebay_order::{Fingerprint, HoldReason, MaskedSpan, Money, OrderKey, Readiness, RecordedAs};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rust_decimal::Decimal;

use super::{SKIPPABLE, Undecodable, body, extensions, kind, kinds, record};
use crate::record::{Delivery, Record, RowSnapshot, Settled, Snapshot};
use crate::{Act, Envelope, ExceptionCategory, OrderState};

fn readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![
        Just(Readiness::Pending),
        Just(Readiness::Held(HoldReason::Unpaid)),
        Just(Readiness::Held(HoldReason::CancelledBefore)),
        Just(Readiness::Cancelled),
        Just(Readiness::Recorded(RecordedAs::Refund)),
        Just(Readiness::FetchNeeded),
        Just(Readiness::Unreadable),
    ]
}

fn total() -> impl Strategy<Value = Money> {
    (any::<i64>(), 0u32..12, prop::sample::select(vec!["EUR", "JPY", "KWD", "USD"])).prop_map(
        |(amount, scale, code)| Money {
            amount: Decimal::new(amount, scale),
            currency: code.parse().unwrap(),
        },
    )
}

fn envelope() -> impl Strategy<Value = Envelope> {
    let key = (".{0,12}", ".{0,12}", ".{0,200}")
        .prop_map(|(channel, source, id)| OrderKey::new(channel, source, id));
    let first = (
        key,
        ".{0,20}",
        readiness(),
        any::<[bool; 3]>(),
        option::of(any::<u64>()),
        any::<[u8; 16]>(),
        any::<[u8; 3]>(),
        option::of(any::<i64>()),
    );
    let second = (
        option::of(total()),
        option::of(any::<[u8; 8]>()),
        option::of(any::<[u8; 26]>()),
        vec((any::<u32>(), any::<u32>()), 0..4),
        ".{0,40}",
        vec(any::<u8>(), 0..600),
    );
    (first, second).prop_map(|(a, b)| {
        let (key, number, readiness, [amend, synthetic, unplaced], version, fp, small, not_before) =
            a;
        let (total, lookup, traceparent, masked, reason, body) = b;
        Envelope {
            key,
            number,
            readiness,
            amend,
            version,
            fingerprint: Fingerprint(fp),
            fingerprint_version: small[0],
            not_before_ms: not_before,
            format: small[1],
            lane: small[2],
            total,
            lookup,
            traceparent,
            synthetic,
            unplaced,
            masked: masked.into_iter().map(|(start, len)| MaskedSpan { start, len }).collect(),
            reason,
            body: Bytes::from(body),
        }
    })
}

fn delivery() -> impl Strategy<Value = Delivery> {
    (envelope(), any::<i64>())
        .prop_map(|(envelope, accepted_at_ms)| Delivery { envelope, accepted_at_ms })
}

fn category() -> impl Strategy<Value = ExceptionCategory> {
    (1u8..=10).prop_map(|code| ExceptionCategory::from_code(code).unwrap())
}

fn state() -> impl Strategy<Value = OrderState> {
    prop::sample::select(OrderState::ALL.to_vec())
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    (
        state(),
        any::<i64>(),
        any::<u8>(),
        any::<bool>(),
        option::of(any::<i64>()),
        option::of((".{0,20}", option::of(any::<i64>()))),
        vec(any::<[u8; 16]>(), 0..4),
        option::of(any::<u64>()),
    )
        .prop_map(
            |(
                state,
                first_accepted_at_ms,
                attempts,
                sent_before,
                not_before_ms,
                ticket,
                earlier,
                newest,
            )| {
                let (ticket, ticket_at_ms) = ticket.map_or((None, None), |(t, at)| (Some(t), at));
                Snapshot {
                    state,
                    first_accepted_at_ms,
                    attempts,
                    sent_before,
                    not_before_ms,
                    ticket,
                    ticket_at_ms,
                    earlier,
                    newest,
                }
            },
        )
}

fn row() -> impl Strategy<Value = RowSnapshot> {
    (
        option::of(any::<u64>()),
        category(),
        ".{0,40}",
        any::<i64>(),
        any::<u8>(),
        ".{0,40}",
        ".{0,20}",
    )
        .prop_map(|(order, category, reason, raised_at_ms, attempts, identity, number)| {
            RowSnapshot { order, category, reason, raised_at_ms, attempts, identity, number }
        })
}

fn settled() -> impl Strategy<Value = Settled> {
    (any::<u64>(), ".{0,200}", any::<bool>(), any::<u8>(), any::<i64>()).prop_map(
        |(order, summary_id, existing, attempts, at_ms)| Settled {
            order,
            summary_id,
            existing,
            attempts,
            at_ms,
        },
    )
}

/// Any record.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    let order = any::<u64>();
    prop_oneof![
        delivery().prop_map(Record::Accept),
        (order, any::<bool>(), delivery())
            .prop_map(|(order, parked, delivery)| { Record::Replace { order, parked, delivery } }),
        (order, any::<bool>(), delivery())
            .prop_map(|(order, parked, delivery)| { Record::Cancel { order, parked, delivery } }),
        (order, delivery()).prop_map(|(order, delivery)| Record::Conflict { order, delivery }),
        (order, delivery()).prop_map(|(order, delivery)| Record::Change { order, delivery }),
        delivery().prop_map(Record::Recorded),
        delivery().prop_map(Record::Stray),
        vec((any::<u64>(), any::<u8>()), 0..20).prop_map(|orders| Record::Leased { orders }),
        vec(any::<u64>(), 0..20).prop_map(|orders| Record::Submitting { orders }),
        (order, ".{0,40}", option::of(any::<i64>()), option::of(any::<i64>())).prop_map(
            |(order, ticket, at_ms, not_before_ms)| Record::Ticket {
                order,
                ticket,
                at_ms,
                not_before_ms,
            },
        ),
        vec(settled(), 0..20).prop_map(|entries| Record::Settle { entries }),
        (order, any::<i64>(), any::<u8>(), any::<bool>(), ".{0,40}").prop_map(
            |(order, not_before_ms, attempts, sent, reason)| Record::Retry {
                order,
                not_before_ms,
                attempts,
                sent,
                reason,
            }
        ),
        (order, any::<i64>(), any::<u8>(), category(), ".{0,40}").prop_map(
            |(order, at_ms, attempts, category, reason)| Record::Failed {
                order,
                at_ms,
                attempts,
                category,
                reason,
            }
        ),
        (order, prop::sample::select(vec![Act::Retry, Act::Discard]), any::<i64>())
            .prop_map(|(exception, act, at_ms)| Record::Act { exception, act, at_ms }),
        (order, snapshot(), delivery()).prop_map(|(order, snapshot, delivery)| Record::Moved {
            order,
            snapshot,
            delivery,
        }),
        (order, row(), option::of(delivery())).prop_map(|(exception, row, delivery)| {
            Record::MovedRow { exception, row, delivery }
        }),
        (".{0,20}", vec(any::<u8>(), 0..40), any::<i64>())
            .prop_map(|(name, value, at_ms)| Record::Policy { name, value, at_ms }),
        (Just(0u64), vec((any::<u8>(), any::<u64>()), 0..5))
            .prop_map(|(retired_below, ended)| { Record::Checkpoint { retired_below, ended } }),
    ]
}

fn through(record_in: &Record, flags: u8, padding: usize) -> Result<Option<Record>, Undecodable> {
    let mut ext = Vec::new();
    extensions(record_in, &mut ext);
    ext.resize(ext.len() + padding, 0);
    record(kind(record_in), flags, &ext, Bytes::copy_from_slice(body(record_in)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn every_record_reads_back(written in any_record(), padding in 0usize..8) {
        prop_assert_eq!(through(&written, 0, padding), Ok(Some(written)));
    }

    #[test]
    fn hostile_extensions_never_panic(
        kind in any::<u8>(),
        flags in any::<u8>(),
        ext in vec(any::<u8>(), 0..300),
    ) {
        drop(record(kind, flags, &ext, Bytes::new()));
    }
}

#[test]
fn an_unknown_kind_is_passed_over_only_if_flagged() {
    assert_eq!(record(99, SKIPPABLE, &[], Bytes::new()), Ok(None));
    assert!(record(99, 0, &[], Bytes::new()).is_err());
    assert_eq!(record(kinds::SEAL, 0, &[], Bytes::new()), Ok(None));
}

#[test]
fn an_unknown_extension_is_passed_over_only_from_128_on() {
    let written = Record::Submitting { orders: vec![7] };
    let mut ext = Vec::new();
    extensions(&written, &mut ext);
    let with = |tag| {
        let mut more = ext.clone();
        more.extend_from_slice(&[tag, 2, 1, 1]);
        record(kind(&written), 0, &more, Bytes::new())
    };
    assert_eq!(with(200), Ok(Some(written.clone())));
    assert_eq!(with(90), Err(Undecodable("extension 90".to_owned())));
    assert_eq!(with(14), Err(Undecodable("extension 14 twice".to_owned())));
}
