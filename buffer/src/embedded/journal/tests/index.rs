//! The index at the end of a full segment tells a start what a walk would have told.

use super::super::{Journal, Options, Recovered, Replayed, group};
use super::disk::Disk;
use super::support::{accept, found, ground, open_disk, options, small, whole};
use crate::digest::{KeyHasher, Plain};
use crate::record::Record;

/// A store of several full segments, orders and other records mixed; what it holds, by ascending sequence.
fn store() -> (Disk, Vec<Record>) {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let mut records = Vec::new();
    for id in 0..70 {
        let mut group = vec![accept(id, 1_500), accept(id + 1_000, 10)];
        if id % 5 == 0 {
            group.push(Record::Submitting { orders: vec![id] });
        }
        journal.append(&group).unwrap();
        records.extend(group);
    }
    assert!(journal.segments().len() > 3);
    journal.prove().unwrap();
    (disk, records)
}

/// Every record replayed, and the epochs of those told by an index alone.
fn replay(journal: &Journal, recovered: &mut Recovered) -> (Vec<Record>, Vec<u64>) {
    let hasher = KeyHasher::new(&journal.store_secret());
    let (mut records, mut epochs) = (Vec::new(), Vec::new());
    let replayed = recovered.replay(|replayed| {
        let (sequence, location, bytes) = replayed.place();
        let (read, record) = journal.reader().read(location).unwrap();
        assert_eq!(read, sequence);
        match replayed {
            Replayed::Plain(found) => {
                assert_eq!(Plain::of(&record, &hasher), Some(found.plain));
                epochs.push(location.epoch());
            }
            Replayed::Whole(restored) => {
                let mut bodiless = record.clone();
                if let Some(delivery) = bodiless.delivery_mut() {
                    delivery.envelope.body = Default::default();
                }
                assert_eq!(restored.record, bodiless);
            }
        }
        assert_eq!(record.delivery().map_or(0, |d| d.envelope.body.len()), bytes as usize);
        records.push(record);
    });
    replayed.unwrap();
    epochs.dedup();
    (records, epochs)
}

#[test]
fn full_segments_are_replayed_by_their_index_and_say_the_same_as_a_walk() {
    let (disk, records) = store();
    let (journal, mut recovered) = open_disk(&disk);
    assert_eq!(recovered.report(), &[] as &[String]);
    let full: Vec<_> = journal.segments().iter().rev().skip(2).rev().map(|s| s.epoch).collect();
    assert_eq!(replay(&journal, &mut recovered), (records.clone(), full));
    // Once more, from the disk: what was kept in memory is gone.
    assert_eq!(replay(&journal, &mut recovered).0, records);
}

#[test]
fn a_damaged_index_costs_a_walk_and_nothing_else() {
    let (disk, records) = store();
    let (journal, _) = open_disk(&disk);
    let first = journal.segments()[0];
    drop(journal);
    let used = usize::try_from(first.bytes).unwrap();
    let image = disk.bytes_of(0);
    // Header, descriptor, entries of the last group, which is the index.
    let seal = (0..used / 4096).rev().map(|block| block * 4096);
    let seal = seal.map(|at| (at, &image[at..at + 4])).find(|(_, magic)| *magic == b"FBG1");
    let (seal, _) = seal.unwrap();
    for at in [seal, seal + 50, seal + group::HEADER + 3, seal + 200, used - 4096] {
        let disk = disk.image();
        disk.damage(0, |bytes| bytes[at] ^= 4);
        let (journal, mut recovered) = open_disk(&disk);
        let (again, epochs) = replay(&journal, &mut recovered);
        assert_eq!(again, records, "byte {at}");
        let padding = at == used - 4096;
        assert_eq!(epochs.contains(&first.epoch), padding && image[at] == 0, "byte {at}");
    }
}

#[test]
fn a_damaged_record_that_the_index_does_not_tell_is_counted_and_the_rest_replayed() {
    let (disk, records) = store();
    let (journal, mut recovered) = open_disk(&disk);
    let mut at = None;
    let replayed = recovered.replay(|replayed| {
        if let Replayed::Whole(restored) = &replayed {
            at.get_or_insert(restored.location);
        }
    });
    replayed.unwrap();
    drop(journal);
    let at = usize::try_from(at.unwrap().offset()).unwrap();
    disk.damage(0, |bytes| bytes[at + 20] ^= 1);
    let (journal, mut recovered) = open_disk(&disk);
    let report = recovered.report().join("\n");
    assert!(report.contains("1 records that its index names"), "{report}");
    assert!(report.contains("1 records cannot be found"), "{report}");
    let mut left = records;
    let gone = left.iter().position(|record| matches!(record, Record::Submitting { .. }));
    left.remove(gone.unwrap());
    assert_eq!(replay(&journal, &mut recovered).0, left);
}

#[test]
fn a_checkpoint_in_an_indexed_segment_counts() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let mut id = 0;
    let mut fill = |journal: &mut Journal, segments| {
        while journal.segments().len() < segments {
            id += 1;
            journal.append(&[accept(id, 3_000)]).unwrap();
        }
    };
    fill(&mut journal, 3);
    let retired_below = journal.segments()[1].epoch;
    journal.append(&[Record::Checkpoint { retired_below, ended: vec![] }]).unwrap();
    // The slot is not given back: the process ends before. The checkpoint's segment is filled, and more.
    fill(&mut journal, 6);
    drop(journal);
    let (journal, mut recovered) = open_disk(&disk);
    assert_eq!(journal.segments()[0].epoch, retired_below);
    assert!(found(&mut recovered).iter().all(|f| f.location.epoch() >= retired_below));
    assert!(found(&mut recovered).iter().any(|f| f.by_index));
}

#[test]
fn an_index_too_large_for_one_group_takes_several() {
    let dir = tempfile::tempdir().unwrap();
    let large = Options { slot_bytes: 8 << 20, disk_max: 40 << 20, burst_reserve: 0, ..options() };
    let (mut journal, _) = Journal::open(dir.path(), large.clone()).unwrap();
    let mut count = 0;
    while journal.segments().len() < 2 {
        let group: Vec<_> = (count..count + 4_096).map(|id| accept(id, 0)).collect();
        journal.append(&group).unwrap();
        count += 4_096;
    }
    let first = journal.segments()[0];
    assert!(first.records > 33_000, "{}", first.records);
    drop(journal);
    let (journal, mut recovered) = Journal::open(dir.path(), large).unwrap();
    let found = found(&mut recovered);
    assert_eq!(found.len() as u64, count);
    let indexed = found.iter().filter(|found| found.by_index).count() as u64;
    assert_eq!(indexed, first.records);
    for found in found.iter().step_by(999) {
        let (sequence, record) = journal.reader().read(found.location).unwrap();
        assert_eq!((sequence, record), (found.sequence, accept(found.sequence - 1, 0)));
    }
}

#[test]
fn a_segment_begun_with_copies_is_indexed_too_and_no_copy_counts_twice() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(1, 500), accept(2, 500)]).unwrap();
    drop(journal);
    let (mut journal, _) = open_disk(&disk);
    let begun = journal.epoch();
    let mut all = vec![accept(1, 500), accept(2, 500)];
    while journal.epoch() == begun {
        let record = accept(all.len() as u64 + 1, 4_000);
        journal.append(std::slice::from_ref(&record)).unwrap();
        all.push(record);
    }
    drop(journal);
    let (journal, mut recovered) = Journal::open_on(ground(&disk), &small()).unwrap();
    let records: Vec<_> = whole(&journal, &mut recovered).into_iter().map(|(_, r)| r).collect();
    assert_eq!(records, all);
    let indexed = found(&mut recovered).iter().filter(|f| f.by_index).count();
    assert!(indexed > 2, "{indexed}");
}
