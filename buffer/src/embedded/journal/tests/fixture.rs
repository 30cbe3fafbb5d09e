//! The checked-in data directories of format 1: they open for ever, and the writer still writes the newer one byte for
//! byte. The older one is of a release that wrote another index at the end of a segment, which is not used.
//!
//! Three slots: a full, sealed segment with a record of every kind; the one after it, whose last group was being written
//! when the power went; and the one a start began with copies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{HoldReason, MaskedSpan, Money, OrderKey, Readiness, RecordedAs};
use rust_decimal::Decimal;

use super::super::{Journal, Options};
use super::disk::Disk;
use super::support::{envelope, found, ground, small, whole};
use crate::record::{Delivery, Record, RowSnapshot, Settled, Snapshot};
use crate::{Act, Clock, Envelope, ExceptionCategory, OrderState};

struct Noon;

impl Clock for Noon {
    fn wall_ms(&self) -> i64 {
        1_764_072_000_000
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn at_noon() -> Options {
    Options { clock: Arc::new(Noon), ..small() }
}

/// The slots of one of them.
pub(super) fn corpus(random: &mut fastrand::Rng) -> Vec<Vec<u8>> {
    let name = if random.bool() { "format-1" } else { "format-1-index" };
    let slot = |slot| std::fs::read(fixture(name).join(super::super::files::name(slot))).unwrap();
    (0..3).map(slot).collect()
}

/// Every record that was ever written to them.
pub(super) fn every_record() -> Vec<Record> {
    let mut records = acknowledged();
    records.extend(torn());
    records.push(Record::Accept(delivery(41, Readiness::Pending)));
    records
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn delivery(id: u64, readiness: Readiness) -> Delivery {
    let body = Bytes::from(format!("{{\"id\":{id},\"note\":\"fixture of format 1\"}}"));
    let envelope = Envelope { readiness, body, ..envelope(id, 0) };
    Delivery { envelope, accepted_at_ms: 1_764_000_000_000 }
}

/// A delivery with every field set.
fn full_delivery() -> Delivery {
    let mut delivery = delivery(7_000, Readiness::Pending);
    let envelope = &mut delivery.envelope;
    envelope.key = OrderKey::new("woocommerce", "shop é", "7000/a:b#c");
    envelope.not_before_ms = Some(1_764_100_000_000);
    envelope.lane = 2;
    envelope.total =
        Some(Money { amount: Decimal::new(-123_456, 3), currency: "KWD".parse().unwrap() });
    envelope.lookup = Some(*b"lookup!!");
    envelope.traceparent = Some([0xab; 26]);
    envelope.synthetic = true;
    envelope.unplaced = true;
    envelope.masked = vec![MaskedSpan { start: 3, len: 16 }, MaskedSpan { start: 90, len: 3 }];
    envelope.reason = "a reason".to_owned();
    delivery
}

fn snapshot() -> Snapshot {
    Snapshot {
        state: OrderState::Submitted,
        first_accepted_at_ms: 1_763_999_999_999,
        attempts: 3,
        sent_before: true,
        not_before_ms: Some(-5),
        ticket: Some("ticket-1".to_owned()),
        ticket_at_ms: None,
        earlier: vec![[1; 16], [2; 16]],
        newest: None,
    }
}

fn row(order: Option<u64>) -> RowSnapshot {
    RowSnapshot {
        order,
        category: ExceptionCategory::Rejected,
        reason: "refused".to_owned(),
        raised_at_ms: 1_764_000_000_001,
        attempts: 2,
        identity: "shopify:demo:6".to_owned(),
        number: "#6".to_owned(),
    }
}

/// A record of every kind.
fn every_kind() -> Vec<Record> {
    let settled = |order, summary_id: &str, existing| Settled {
        order,
        summary_id: summary_id.to_owned(),
        existing,
        attempts: 1,
        at_ms: 1_764_000_000_002,
    };
    let pending = |id| delivery(id, Readiness::Pending);
    vec![
        Record::Accept(full_delivery()),
        Record::Accept(delivery(2, Readiness::Held(HoldReason::Unpaid))),
        Record::Accept(delivery(3, Readiness::Cancelled)),
        Record::Replace { order: 2, parked: false, delivery: pending(2) },
        Record::Replace { order: 1, parked: true, delivery: pending(1) },
        Record::Cancel { order: 1, parked: true, delivery: delivery(1, Readiness::Cancelled) },
        Record::Conflict { order: 1, delivery: pending(1) },
        Record::Change { order: 1, delivery: pending(1) },
        Record::Recorded(delivery(4, Readiness::Recorded(RecordedAs::Refund))),
        Record::Stray(delivery(5, Readiness::FetchNeeded)),
        Record::Leased { orders: vec![(1, 0), (2, 3)] },
        Record::Submitting { orders: vec![1, 2] },
        Record::Ticket {
            order: 1,
            ticket: "ticket-1".to_owned(),
            at_ms: None,
            not_before_ms: None,
        },
        Record::Settle { entries: vec![settled(1, "os-1", false), settled(2, "os-2", true)] },
        Record::Retry {
            order: 2,
            not_before_ms: 1_764_000_060_000,
            attempts: 1,
            sent: true,
            reason: "slow".to_owned(),
        },
        Record::Failed {
            order: 2,
            at_ms: 1_764_000_000_003,
            attempts: 9,
            category: ExceptionCategory::Poison,
            reason: String::new(),
        },
        Record::Act { exception: 16, act: Act::Discard, at_ms: 1_764_000_000_004 },
        Record::Moved { order: 1, snapshot: snapshot(), delivery: pending(1) },
        Record::MovedRow { exception: 10, row: row(None), delivery: Some(pending(5)) },
        Record::MovedRow { exception: 11, row: row(Some(6)), delivery: None },
        Record::Policy { name: "pause".to_owned(), value: b"on".to_vec(), at_ms: -1 },
        Record::Checkpoint { retired_below: 1, ended: vec![(5, 17), (7, 2)] },
    ]
}

fn large(id: u64) -> Record {
    let mut delivery = delivery(id, Readiness::Pending);
    delivery.envelope.body = Bytes::from(vec![b'0' + u8::try_from(id % 10).unwrap(); 24_000]);
    Record::Accept(delivery)
}

fn torn() -> Vec<Record> {
    vec![
        Record::Accept(delivery(31, Readiness::Pending)),
        large(32),
        Record::Accept(delivery(33, Readiness::Pending)),
    ]
}

/// All that was acknowledged, in order.
fn acknowledged() -> Vec<Record> {
    let mut records = every_kind();
    records.extend([large(21), large(22), Record::Accept(delivery(23, Readiness::Pending))]);
    records
}

/// Lives the fixture's life.
fn live() -> Disk {
    let disk = Disk::default();
    let (mut journal, _) = Journal::open_on(ground(&disk), &at_noon()).unwrap();
    for records in [every_kind(), vec![large(21)], vec![large(22)]] {
        journal.append(&records).unwrap();
    }
    journal.append(&acknowledged()[24..]).unwrap();
    let slot = journal.slot_of_open();
    let before = disk.bytes_of(slot);
    journal.append(&torn()).unwrap();
    drop(journal);
    // Of the group under way, the sector in the middle of the large body never reached the disk.
    let last_sector = disk.bytes_of(slot).iter().rposition(|byte| *byte == b'2').unwrap() / 512 - 8;
    disk.damage(slot, |bytes| {
        let lost = last_sector * 512..(last_sector + 1) * 512;
        bytes[lost.clone()].copy_from_slice(&before[lost]);
    });
    let (mut journal, _) = Journal::open_on(ground(&disk), &at_noon()).unwrap();
    journal.append(&[Record::Accept(delivery(41, Readiness::Pending))]).unwrap();
    disk
}

#[test]
fn the_writer_still_writes_format_1_byte_for_byte() {
    let disk = live();
    let now = tempfile::tempdir().unwrap();
    for slot in disk.numbers() {
        let name = super::super::files::name(slot);
        std::fs::write(now.path().join(name), disk.bytes_of(slot)).unwrap();
    }
    for slot in disk.numbers() {
        let path = fixture("format-1-index").join(super::super::files::name(slot));
        let (expected, written) = (std::fs::read(&path).unwrap_or_default(), disk.bytes_of(slot));
        let differs = expected.iter().zip(&written).position(|(a, b)| a != b);
        if differs.is_some() || expected.len() != written.len() {
            panic!("{path:?} differs from byte {differs:?} on; written now: {:?}", now.keep());
        }
    }
    assert_eq!(disk.numbers(), [0, 1, 2]);
}

#[test]
fn the_fixtures_of_format_1_open_and_read_exactly() {
    opens_and_reads_exactly("format-1", 0);
    // The first slot is full, and one of its records is told by the index alone.
    opens_and_reads_exactly("format-1-index", 1);
}

fn opens_and_reads_exactly(fixture_name: &str, by_index: usize) {
    let dir = tempfile::tempdir().unwrap();
    for slot in 0..3 {
        let name = super::super::files::name(slot);
        std::fs::copy(fixture(fixture_name).join(&name), dir.path().join(&name)).unwrap();
    }
    let (journal, mut recovered) = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(recovered.report(), &[] as &[String]);
    let plain = found(&mut recovered).iter().filter(|found| found.by_index).count();
    assert_eq!(plain, by_index);
    let mut expected: Vec<_> = (1..).zip(acknowledged()).collect();
    let (first_torn, last_torn) = (torn()[0].clone(), torn()[2].clone());
    expected.extend([(26, first_torn), (28, last_torn)]);
    expected.push((29, Record::Accept(delivery(41, Readiness::Pending))));
    assert_eq!(whole(&journal, &mut recovered), expected);
    assert!(recovered.damaged().is_empty(), "the torn one was given up when the last start began");
    assert_eq!(found(&mut recovered).len(), 28);
    assert_eq!(journal.store_id(), *b"a store's uuid..");
}
