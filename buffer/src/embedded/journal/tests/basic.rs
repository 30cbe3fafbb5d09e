//! Append, read, reopen.

use forebay_order::Money;
use rust_decimal::Decimal;

use super::super::files::{Directory, RealDirectory};
use super::super::recovery::Ground;
use super::super::{Journal, OpenError, Options, ReadError, WriteError, WriteMode};
use super::disk::Disk;
use super::support::{SLOT, accept, found, ground, open, open_disk, options, small, whole};
use crate::record::{Record, Settled};

#[test]
fn what_was_appended_is_there_after_reopening_in_order_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, mut recovered) = open(dir.path());
    assert!(found(&mut recovered).is_empty());
    assert_eq!(journal.next_sequence(), 1);
    let mut written = Vec::new();
    for round in 0..100 {
        let records = [accept(round * 2, 700), accept(round * 2 + 1, 0)];
        let placed = journal.append(&records).unwrap();
        for (placed, record) in placed.into_iter().zip(records) {
            assert_eq!(
                journal.reader().read(placed.location),
                Ok((placed.sequence, record.clone()))
            );
            written.push((placed.sequence, record));
        }
    }
    assert_eq!(written.last().unwrap().0, 200);
    assert_eq!(journal.durable_sequence(), 200);
    assert!(journal.segments().len() > 5, "several segments were filled");
    drop(journal);
    for _ in 0..3 {
        let (journal, mut recovered) = open(dir.path());
        assert_eq!(recovered.report(), &[] as &[String]);
        assert_eq!(whole(&journal, &mut recovered), written);
        assert_eq!(journal.next_sequence(), 201);
    }
}

#[test]
fn an_order_of_three_mebibytes_fits_and_a_larger_record_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut wide = options();
    (wide.slot_bytes, wide.disk_max) = (8 << 20, 64 << 20);
    let (mut journal, _) = Journal::open(dir.path(), wide.clone()).unwrap();
    let refused = journal.append(&[accept(1, 10), accept(2, 4 << 20)]).unwrap_err();
    assert!(matches!(refused, WriteError::TooLarge { index: 1, max: 4_190_208, .. }), "{refused}");
    let large = [accept(1, 3 << 20), accept(2, 3 << 20), accept(3, 100)];
    assert_eq!(journal.append(&large).unwrap().len(), 3, "two groups");
    drop(journal);
    let (journal, mut recovered) = Journal::open(dir.path(), wide).unwrap();
    let records: Vec<_> = whole(&journal, &mut recovered).into_iter().map(|(_, r)| r).collect();
    assert_eq!(records, large);
}

#[test]
fn a_second_process_is_kept_out_and_an_unknown_format_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    assert!(matches!(Journal::open(dir.path(), options()), Err(OpenError::Locked(_))));
    drop(journal);
    let slot = dir.path().join("00000.seg");
    let mut bytes = std::fs::read(&slot).unwrap();
    for block in [0, 4096] {
        bytes[block + 6] = b'2';
    }
    std::fs::write(&slot, &bytes).unwrap();
    let before = snapshot(dir.path());
    let refused = Journal::open(dir.path(), options()).unwrap_err();
    assert!(matches!(refused, OpenError::UnknownFormat { .. }), "{refused}");
    assert_eq!(snapshot(dir.path()), before);
}

fn snapshot(dir: &std::path::Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_clone_of_a_directory_opens_as_the_same_store() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut journal, _) = open(dir.path());
    for id in 0..40 {
        journal.append(&[accept(id, 3_000)]).unwrap();
    }
    let id = journal.store_id();
    drop(journal);
    for (name, bytes) in snapshot(dir.path()) {
        std::fs::write(copy.path().join(name), bytes).unwrap();
    }
    let (cloned, mut recovered) = open(copy.path());
    assert_eq!(cloned.store_id(), id);
    assert_eq!(whole(&cloned, &mut recovered).len(), 40);
}

#[test]
fn a_thousand_restarts_that_accept_nothing_take_no_slot() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(1, 100), accept(2, 100)]).unwrap();
    drop(journal);
    let (journal, _) = open_disk(&disk);
    journal.pump();
    let slots = disk.numbers().len();
    drop(journal);
    for _ in 0..1_000 {
        let (journal, mut recovered) = open_disk(&disk);
        assert_eq!(found(&mut recovered).len(), 2);
        assert_eq!(journal.segments().len(), 2);
        drop(journal);
        assert!(disk.numbers().len() <= slots + 1, "{:?}", disk.numbers());
    }
}

#[test]
fn the_filler_keeps_its_reserve_and_gives_a_bursts_slots_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    journal.wait_until_idle();
    assert_eq!(journal.disk_use().spare, 3, "the reserve, at least three");
    let mut id = 0;
    while journal.segments().len() < 20 {
        journal.append(&[accept(id, 9_000)]).unwrap();
        id += 1;
    }
    let below = journal.epoch();
    journal.append(&[Record::Checkpoint { retired_below: below, ended: Vec::new() }]).unwrap();
    journal.retire(below).unwrap();
    journal.wait_until_idle();
    assert!(journal.disk_use().bytes <= 8 * SLOT, "{:?}", journal.disk_use());
    drop(journal);
    let (_, mut recovered) = open(dir.path());
    assert!(found(&mut recovered).len() < 8);
}

/// Appends until the next segment is open, and retires those before it.
fn turn(journal: &mut Journal, id: &mut u64) {
    let open = journal.epoch();
    while journal.epoch() == open {
        journal.append(&[accept(*id, 3_000)]).unwrap();
        *id += 1;
    }
    let retired_below = journal.epoch();
    journal.append(&[Record::Checkpoint { retired_below, ended: Vec::new() }]).unwrap();
    journal.retire(retired_below).unwrap();
}

#[test]
fn at_rest_a_store_without_a_backlog_has_its_reserve_and_two_slots_and_goes_on_with_those() {
    let disk = Disk::default();
    let ground = Ground { filler: true, ..ground(&disk) };
    let (mut journal, _) = Journal::open_on(ground, &small()).unwrap();
    journal.wait_until_idle();
    let mut id = 0;
    while journal.segments().len() < 7 {
        journal.append(&[accept(id, 3_000)]).unwrap();
        id += 1;
    }
    turn(&mut journal, &mut id);
    assert!(journal.wait_for_spare(..=4), "{:?}", journal.disk_use());
    assert!(journal.disk_use().bytes <= (3 + 2) * SLOT, "{:?}", journal.disk_use());
    let before = journal.disk_use().written;
    for _ in 0..8 {
        turn(&mut journal, &mut id);
        assert!(journal.wait_for_spare(3..=4), "{:?}", journal.disk_use());
    }
    let written = journal.disk_use().written - before;
    assert!(written < 9 * SLOT, "{written} bytes: no slot was made anew");
}

#[test]
fn where_no_slot_can_be_made_the_filler_tries_again_by_itself() {
    let disk = Disk::default();
    let (journal, _) = open_disk(&disk);
    journal.pump();
    drop(journal);
    let ground = Ground { filler: true, ..ground(&disk) };
    let (mut journal, _) = Journal::open_on(ground, &small()).unwrap();
    journal.wait_until_idle();
    disk.set_full(true);
    let settles = Record::Submitting { orders: (0..1_000).collect() };
    while journal.disk_use().spare >= 3 {
        journal.append(std::slice::from_ref(&settles)).unwrap();
        // The next slot is taken from the spare ones by the filler.
        journal.wait_until_idle();
    }
    assert_eq!(journal.disk_use().spare, 2);
    assert!(!journal.room_for_orders());
    // Nothing but time tells the filler that there is space again.
    disk.set_full(false);
    assert!(journal.wait_for_spare(3..));
    assert!(journal.room_for_orders());
}

#[test]
fn refused_orders_do_not_have_the_filler_try_again_on_a_full_disk() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    disk.set_full(true);
    while journal.append(&[accept(1, 10_000)]).is_ok() {}
    journal.pump();
    for _ in 0..3 {
        assert_eq!(journal.append(&[accept(1, 10_000)]), Err(WriteError::Full));
        let before = disk.calls();
        journal.pump();
        assert_eq!(disk.calls(), before);
        assert!(!journal.room_for_orders());
    }
}

#[test]
fn a_slot_that_was_removed_under_a_running_journal_ends_it() {
    let dir = tempfile::tempdir().unwrap();
    for write_mode in [WriteMode::Auto, WriteMode::Buffered] {
        let home = dir.path().join(write_mode.word());
        let (mut journal, _) = Journal::open(&home, Options { write_mode, ..options() }).unwrap();
        journal.append(&[accept(1, 100)]).unwrap();
        std::fs::remove_dir_all(&home).unwrap();
        let failed = journal.append(&[accept(2, 100)]).unwrap_err();
        assert!(failed.to_string().contains("was removed"), "{failed}");
        assert!(matches!(journal.append(&[accept(3, 100)]), Err(WriteError::Failed(_))));
    }
}

#[test]
fn at_256_in_flight_recycled_slots_take_at_most_15_percent_more_bytes_than_the_orders() {
    let large = Options { slot_bytes: 8 << 20, disk_max: 48 << 20, ..small() };
    let (mut journal, _) = Journal::open_on(ground(&Disk::default()), &large).unwrap();
    let mut start = None;
    let mut next = 0;
    for turn in 0..70 {
        let mut group = Vec::new();
        for batch in (next..next + 256).collect::<Vec<_>>().chunks(64) {
            // What the drain notes meanwhile.
            group.push(Record::Leased { orders: batch.iter().map(|order| (*order, 0)).collect() });
            group.push(Record::Submitting { orders: batch.to_vec() });
        }
        let settled = |order| Settled {
            order,
            summary_id: format!("1OsAn{order:013}"),
            existing: false,
            attempts: 1,
            at_ms: 1_000,
        };
        group.push(Record::Settle { entries: (next..next + 256).map(settled).collect() });
        group.extend((next..next + 256).map(full_order));
        journal.append(&group).unwrap();
        next += 256;
        let segments = journal.segments();
        if segments.len() > 2 {
            let retired_below = segments[1].epoch;
            journal.append(&[Record::Checkpoint { retired_below, ended: vec![(5, 1)] }]).unwrap();
            journal.retire(retired_below).unwrap();
        }
        journal.pump();
        // From here on every slot has been used before.
        if turn == 30 {
            start = Some(journal.disk_use());
        }
    }
    let (start, end) = (start.unwrap(), journal.disk_use());
    assert_eq!(start.bytes, end.bytes, "slots are used again");
    let (written, payload) = (end.written - start.written, end.payload - start.payload);
    assert_eq!(payload, 39 * 256 * 2_048);
    let percent = (written * 1_000).div_ceil(payload);
    assert!((1_050..=1_150).contains(&percent), "{percent} thousandths of the payload");
}

/// An order with everything a storefront sends.
fn full_order(id: u64) -> Record {
    let Record::Accept(mut delivery) = accept(5_000_000_000_000 + id, 2_048) else {
        unreachable!()
    };
    let envelope = &mut delivery.envelope;
    envelope.total =
        Some(Money { amount: Decimal::new(123_456, 2), currency: "EUR".parse().unwrap() });
    envelope.lookup = Some([7; 8]);
    envelope.traceparent = Some([9; 26]);
    Record::Accept(delivery)
}

#[test]
fn segments_retire_oldest_first_and_only_below_a_durable_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path());
    let mut placed = Vec::new();
    while journal.segments().len() < 6 {
        placed.extend(journal.append(&[accept(placed.len() as u64, 5_000)]).unwrap());
    }
    let epochs: Vec<_> = journal.segments().iter().map(|segment| segment.epoch).collect();
    let below = epochs[3];
    assert_eq!(journal.retire(below), Err(WriteError::NotRetirable(below)));
    let beyond = Record::Checkpoint { retired_below: journal.epoch() + 1, ended: Vec::new() };
    assert!(matches!(journal.append(&[beyond]), Err(WriteError::NotRetirable(_))));
    journal.append(&[Record::Checkpoint { retired_below: below, ended: vec![(5, 7)] }]).unwrap();
    journal.retire(below).unwrap();
    assert_eq!(journal.segments()[0].epoch, below);
    let old = placed[0].location;
    assert_eq!(journal.reader().read(old), Err(ReadError::Recycled(old.epoch())));
    // The slots begin new lives; what they held must not come back, now or after a restart.
    while journal.segments().len() < 6 {
        placed.extend(journal.append(&[accept(placed.len() as u64, 5_000)]).unwrap());
    }
    assert_eq!(journal.reader().read(old), Err(ReadError::Recycled(old.epoch())));
    drop(journal);
    let (journal, mut recovered) = open(dir.path());
    assert_eq!(recovered.report(), &[] as &[String]);
    let epochs: Vec<_> = found(&mut recovered).iter().map(|r| r.location.epoch()).collect();
    assert!(epochs.iter().all(|epoch| *epoch >= below), "{epochs:?}");
    assert_eq!(whole(&journal, &mut recovered).len(), epochs.len());
    assert_eq!(journal.segments()[0].epoch, below);
}

#[test]
fn a_full_disk_refuses_orders_and_still_takes_settles_until_a_retirement_makes_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options();
    small.disk_max = 8 * SLOT;
    let (mut journal, _) = Journal::open(dir.path(), small).unwrap();
    let mut kept = 0;
    let full = loop {
        match journal.append(&[accept(kept, 10_000)]) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full, WriteError::Full);
    assert!(!journal.room_for_orders());
    let settles = Record::Submitting { orders: (0..1_000).collect() };
    for _ in 0..8 {
        journal.append(std::slice::from_ref(&settles)).unwrap();
    }
    let below = journal.epoch();
    journal.append(&[Record::Checkpoint { retired_below: below, ended: Vec::new() }]).unwrap();
    journal.retire(below).unwrap();
    assert!(journal.room_for_orders());
    journal.append(&[accept(kept, 10_000), accept(kept + 1, 10_000)]).unwrap();
    assert!(journal.disk_use().bytes <= 8 * SLOT);
}

#[test]
fn with_the_reserve_used_up_too_a_checkpoint_still_goes_in_with_what_stands_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = options();
    small.disk_max = 8 * SLOT;
    let (mut journal, _) = Journal::open(dir.path(), small).unwrap();
    let note = Record::Submitting { orders: (0..1_000).collect() };
    while journal.append(std::slice::from_ref(&note)).is_ok() {}
    // Down to the last block.
    while journal.append(&[Record::Submitting { orders: vec![1] }]).is_ok() {}
    let below = journal.epoch();
    let fed = Record::Policy { name: "fed".to_owned(), value: vec![1; 16], at_ms: 1 };
    let checkpoint = Record::Checkpoint { retired_below: below, ended: Vec::new() };
    journal.append(&[fed, checkpoint]).unwrap();
    journal.retire(below).unwrap();
    journal.append(&[accept(1, 10_000)]).unwrap();
}

#[test]
fn a_reader_sees_every_durable_record_in_each_mode_and_a_store_may_change_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Vec::new();
    for mode in [WriteMode::Direct, WriteMode::Buffered, WriteMode::Direct] {
        let mode_options = Options { write_mode: mode, disk_max: 8 * SLOT, ..options() };
        let (mut journal, mut recovered) = match Journal::open(dir.path(), mode_options) {
            // Not to be had here; the other one is.
            Err(OpenError::NoDirect(_)) => continue,
            opened => opened.unwrap(),
        };
        assert_eq!(journal.write_mode(), mode);
        let found = whole(&journal, &mut recovered);
        assert!(last.iter().all(|record| found.contains(record)));
        // Slots are used again and again, their older pages still in the cache.
        for id in 0..200 {
            let records = [accept(id, 3_000), accept(id, 900)];
            let placed = journal.append(&records).unwrap();
            last = placed.iter().map(|placed| placed.sequence).zip(records).collect();
            for (placed, record) in placed.iter().zip(&last) {
                assert_eq!(journal.reader().read(placed.location).as_ref(), Ok(record));
            }
            if journal.segments().len() > 2 {
                let retired_below = journal.epoch();
                journal.append(&[Record::Checkpoint { retired_below, ended: vec![] }]).unwrap();
                journal.retire(retired_below).unwrap();
            }
        }
    }
    assert!(!last.is_empty());
}

#[test]
fn where_direct_writes_are_not_to_be_had_auto_is_buffered_and_direct_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    // A file that cannot be opened past the page cache, as on a file system without direct access.
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("00000.seg")).unwrap();
    let mut directory = RealDirectory::lock(dir.path()).unwrap().unwrap();
    assert!(directory.choose(WriteMode::Auto).unwrap());
    assert_eq!(directory.write_mode(), WriteMode::Buffered);
    assert!(!directory.choose(WriteMode::Direct).unwrap());
    drop(directory);
    let refusing = Options { write_mode: WriteMode::Direct, ..options() };
    let refused = Journal::open(dir.path(), refusing).unwrap_err();
    assert!(refused.to_string().contains("write_mode"), "{refused}");
}
