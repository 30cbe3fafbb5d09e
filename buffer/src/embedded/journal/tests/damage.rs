//! Bytes that change behind the journal's back: noticed, never a wrong record, never in the way of a start.

use super::super::files::{Aligned, Directory};
use super::super::group::{self, Entry, Heading, assemble};
use super::super::header::{Header, Parsed};
use super::super::{Journal, OpenError, Placed, ReadError};
use super::disk::Disk;
use super::support::{Found, accept, found, ground, open_disk, small, whole};
use crate::record::Record;

const BLOCK: usize = 4096;

/// A store of one order a group, its last group proven, and where each is.
fn store(orders: u64, body_bytes: usize) -> (Disk, Vec<Placed>) {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let placed =
        (0..orders).flat_map(|id| journal.append(&[accept(id, body_bytes)]).unwrap()).collect();
    journal.prove().unwrap();
    (disk, placed)
}

/// Slot file of the only segment in use.
const FIRST: u32 = 0;

fn at(placed: &Placed) -> usize {
    usize::try_from(placed.location.offset()).unwrap()
}

/// Offset of the group that holds it, which is its only one.
fn group_at(placed: &Placed) -> usize {
    at(placed) - group::HEADER
}

/// Every order found must read back as it was written; those that do not must say so.
fn check(journal: &Journal, restored: &[Found], body_bytes: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut sound, mut bad) = (Vec::new(), Vec::new());
    for restored in restored {
        let id = restored.sequence - 1;
        match journal.reader().read(restored.location) {
            Ok((sequence, record)) => {
                assert_eq!((sequence, record), (restored.sequence, accept(id, body_bytes)));
                sound.push(id);
            }
            Err(ReadError::Damaged { .. }) => bad.push(id),
            Err(error) => panic!("{error}"),
        }
    }
    (sound, bad)
}

#[test]
fn a_change_of_any_byte_of_a_group_is_noticed_and_harms_no_other_order() {
    let (disk, placed) = store(3, 300);
    let start = group_at(&placed[1]);
    let used = at(&placed[1]) - start + 160 + 300;
    let (mut unread, mut listed) = (0, 0);
    for byte in (0..used).chain([used + 100, BLOCK - 1]) {
        let disk = disk.image();
        disk.damage(FIRST, |bytes| bytes[start + byte] ^= 0x40);
        let (journal, mut recovered) = open_disk(&disk);
        let restored = found(&mut recovered);
        let (sound, bad) = check(&journal, &restored, 300);
        assert!(sound.contains(&0) && sound.contains(&2), "byte {byte}");
        let reported = !recovered.report().is_empty();
        assert!(sound.contains(&1) || bad.contains(&1) || reported, "byte {byte} went unnoticed");
        unread += u32::from(!bad.is_empty());
        listed += u32::from(reported);
    }
    assert!(unread >= 300, "every byte of the body counts: {unread}");
    assert!(listed > 100, "every byte of header and descriptor counts: {listed}");
}

#[test]
fn damage_to_a_group_that_was_copied_takes_no_other_group_with_it() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(0, 300)]).unwrap();
    journal.append(&[accept(1, 300)]).unwrap();
    let copied = journal.append(&[accept(2, 300)]).unwrap();
    drop(journal);
    // This start copies the last group, and the segment it begins lives on.
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(3, 300)]).unwrap();
    journal.prove().unwrap();
    drop(journal);
    disk.damage(FIRST, |bytes| bytes[group_at(&copied[0])] ^= 1);
    for start in 0..2 {
        let (journal, mut recovered) = open_disk(&disk);
        let restored = found(&mut recovered);
        assert_eq!(check(&journal, &restored, 300), (vec![0, 1, 2, 3], vec![]), "start {start}");
    }
}

#[test]
fn any_torn_mixture_of_old_and_new_sectors_gives_only_whole_records() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(0, 100)]).unwrap();
    let before = disk.bytes_of(FIRST);
    let torn: Vec<_> = (1..6).map(|id| accept(id, 640)).collect();
    let start = group_at(&journal.append(&torn).unwrap()[0]);
    let after = disk.bytes_of(FIRST);
    drop(journal);
    for subset in 0u32..256 {
        let disk = disk.image();
        disk.damage(FIRST, |bytes| {
            bytes.clone_from(&before);
            for sector in (0..8).filter(|sector| subset & 1 << sector != 0) {
                let range = start + sector * 512..start + (sector + 1) * 512;
                bytes[range.clone()].copy_from_slice(&after[range]);
            }
        });
        let (journal, mut recovered) = open_disk(&disk);
        let restored = found(&mut recovered);
        let (sound, bad) = check_bodies(&journal, &restored);
        assert!(bad.is_empty() && sound[0] == 0, "subset {subset:08b}");
        assert!(recovered.damaged().iter().all(|damaged| !damaged.proven));
        assert_eq!(subset != 255, sound.len() < 6, "subset {subset:08b}");
    }
}

fn check_bodies(journal: &Journal, restored: &[Found]) -> (Vec<u64>, Vec<u64>) {
    let (mut sound, mut bad) = (Vec::new(), Vec::new());
    for restored in restored {
        let id = restored.sequence - 1;
        let bytes = if id == 0 { 100 } else { 640 };
        match journal.reader().read(restored.location) {
            Ok((_, record)) => {
                assert_eq!(record, accept(id, bytes));
                sound.push(id);
            }
            Err(_) => bad.push(id),
        }
    }
    (sound, bad)
}

#[test]
fn a_damaged_body_is_listed_with_its_key_and_a_damaged_group_gives_up_the_rest() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let batch: Vec<_> = (0..4).map(|id| accept(id, 500)).collect();
    let placed = journal.append(&batch).unwrap();
    let start = group_at(&placed[0]);
    drop(journal);
    // At the very end nobody can say whether it had been acknowledged.
    let last = disk.image();
    last.damage(FIRST, |bytes| bytes[start + 1_500] ^= 1);
    let (journal, mut recovered) = open_disk(&last);
    let [damaged] = recovered.damaged() else { panic!("{:?}", recovered.damaged()) };
    assert!(!damaged.proven);
    let lost = damaged.sequence - 1;
    let mut bodiless = accept(lost, 500);
    bodiless.delivery_mut().unwrap().envelope.body = Default::default();
    assert_eq!(damaged.record, bodiless, "key, fingerprint and all");
    assert_eq!(whole(&journal, &mut recovered).len(), 3);
    // Once proven, damage is damage: header and one body gone, the other three are still there.
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&batch).unwrap();
    journal.append(&[accept(4, 10)]).unwrap();
    drop(journal);
    disk.damage(FIRST, |bytes| {
        bytes[start] ^= 1;
        bytes[start + 1_500] ^= 1;
    });
    let (journal, mut recovered) = open_disk(&disk);
    assert!(recovered.report().iter().any(|line| line.contains("damaged")));
    let [damaged] = recovered.damaged() else { panic!("{:?}", recovered.damaged()) };
    assert!(damaged.proven);
    let lost = damaged.sequence;
    let ids: Vec<_> = whole(&journal, &mut recovered).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(!ids.contains(&lost));
}

#[test]
fn groups_of_an_earlier_life_and_of_another_slot_are_refused() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    for id in 0..40 {
        journal.append(&[accept(id, 3_000)]).unwrap();
    }
    let segments = journal.segments();
    assert!(segments.len() > 2);
    let tail = usize::try_from(segments.last().unwrap().bytes).unwrap();
    let open_slot = journal.slot_of_open();
    let count = 40;
    drop(journal);
    let other = disk.bytes_of(if open_slot == 0 { 1 } else { 0 });
    disk.damage(open_slot, |bytes| {
        let end = bytes.len();
        bytes[tail..end].copy_from_slice(&other[tail..end]);
    });
    let (journal, mut recovered) = open_disk(&disk);
    assert_eq!(recovered.report(), &[] as &[String]);
    assert_eq!(whole(&journal, &mut recovered).len(), count);
}

#[test]
fn slots_that_changed_places_are_left_alone_and_the_start_goes_on() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    for id in 0..40 {
        journal.append(&[accept(id, 3_000)]).unwrap();
    }
    assert_ne!(journal.slot_of_open(), 1);
    drop(journal);
    let (zero, one) = (disk.bytes_of(0), disk.bytes_of(1));
    disk.damage(0, |bytes| bytes.clone_from(&one));
    disk.damage(1, |bytes| bytes.clone_from(&zero));
    let (journal, mut recovered) = open_disk(&disk);
    assert_eq!(recovered.report().iter().filter(|line| line.contains("its name")).count(), 2);
    assert_eq!(journal.disk_use().quarantined, 2);
    let rest = whole(&journal, &mut recovered).len();
    assert!(0 < rest && rest < 40);
    drop(journal);
    assert_eq!((disk.bytes_of(0), disk.bytes_of(1)), (one, zero), "touched");
}

#[test]
fn an_orders_bytes_that_look_like_groups_are_never_taken_for_groups() {
    let (disk, placed) = store(2, 200);
    let stolen = disk.bytes_of(FIRST)[group_at(&placed[1])..][..BLOCK].to_vec();
    let (mut journal, _) = open_disk(&disk);
    let Record::Accept(mut delivery) = accept(7, 0) else { unreachable!() };
    delivery.envelope.body = stolen.repeat(3).into();
    let forged = Record::Accept(delivery);
    let home = journal.append(std::slice::from_ref(&forged)).unwrap()[0];
    journal.append(&[accept(8, 10)]).unwrap();
    let slot = journal.slot_of_open();
    drop(journal);
    let before = found(&mut open_disk(&disk.image()).1).len();
    disk.damage(slot, |bytes| bytes[group_at(&home)] ^= 1);
    let (journal, mut recovered) = open_disk(&disk);
    let again = whole(&journal, &mut recovered);
    assert_eq!(again.len(), before, "the order around the forged bytes is salvaged, they are not");
    assert!(again.contains(&(home.sequence, forged)));
}

#[test]
fn a_slot_without_headers_is_known_by_its_groups_and_never_becomes_a_spare_one() {
    let (disk, _) = store(5, 500);
    disk.damage(FIRST, |bytes| bytes[..2 * BLOCK].fill(0xee));
    let none_left = disk.image();
    let (journal, recovered) = open_disk(&none_left);
    assert!(recovered.report()[0].contains("cannot be read"), "{:?}", recovered.report());
    assert_eq!(journal.disk_use().quarantined, 1);
    drop(journal);
    assert_eq!(none_left.bytes_of(FIRST), disk.bytes_of(FIRST));
    // With another slot of the store to tell the secret, the groups say what it is.
    let (disk, _) = store(5, 500);
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(5, 500)]).unwrap();
    drop(journal);
    disk.damage(FIRST, |bytes| bytes[..2 * BLOCK].fill(0xee));
    let (journal, mut recovered) = open_disk(&disk);
    assert!(recovered.report()[0].contains("lost both copies"), "{:?}", recovered.report());
    assert_eq!(whole(&journal, &mut recovered).len(), 6);
}

#[test]
fn a_missing_segment_is_reported_and_the_start_goes_on() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    for id in 0..60 {
        journal.append(&[accept(id, 3_000)]).unwrap();
    }
    let middle = journal.segments()[1].epoch;
    drop(journal);
    let (_, recovered) = open_disk(&disk.image());
    let slot = recovered.slot_of(middle).unwrap();
    disk.remove(slot).unwrap();
    let (journal, mut recovered) = open_disk(&disk);
    let report = recovered.report().join("\n");
    assert!(report.contains(&format!("epoch {middle}")) && report.contains("missing"), "{report}");
    let rest = whole(&journal, &mut recovered).len();
    assert!(0 < rest && rest < 60);
}

#[test]
fn a_group_that_reaches_the_disk_after_recovery_gave_it_up_stays_given_up() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(0, 100)]).unwrap();
    let before = disk.bytes_of(FIRST);
    journal.append(&[accept(1, 100)]).unwrap();
    let late = disk.bytes_of(FIRST);
    drop(journal);
    disk.damage(FIRST, |bytes| bytes.clone_from(&before));
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(7, 100)]).unwrap();
    drop(journal);
    disk.damage(FIRST, |bytes| bytes.clone_from(&late));
    let (journal, mut recovered) = open_disk(&disk);
    let records: Vec<_> = whole(&journal, &mut recovered).into_iter().map(|(_, r)| r).collect();
    assert_eq!(records, [accept(0, 100), accept(7, 100)]);
}

/// Writes a group with one record of that kind and these extensions behind the last one.
fn append_by_hand(disk: &Disk, kind: u8, flags: u8, extensions: &[u8]) {
    let (journal, _) = open_disk(disk);
    let writer = journal.writer.as_ref().unwrap();
    let heading = Heading {
        group_no: writer.chain.next_group,
        first_seq: writer.chain.next_seq,
        durable_seq: writer.chain.durable_seq,
        wall_ms: 0,
        flags: 0,
        prev_crc: writer.chain.prev_crc,
    };
    let entry = Entry { sequence: writer.chain.next_seq, kind, flags, extensions, body: b"new" };
    let mut group = Aligned::default();
    let (place, offset) = (writer.open.place, writer.open.at);
    let header = assemble(&mut group, &place, offset, heading, std::iter::once(entry), |_| {});
    let bytes = group.bytes(usize::try_from(header.bytes()).unwrap());
    writer.open.slot.file.write_at(offset, bytes).unwrap();
}

#[test]
fn what_a_later_release_wrote_is_passed_over_where_it_says_so_and_else_refused_untouched() {
    let (disk, _) = store(2, 50);
    append_by_hand(&disk, 99, crate::codec::SKIPPABLE, &[7, 1, 1]);
    let (mut journal, mut recovered) = open_disk(&disk);
    assert_eq!(found(&mut recovered).len(), 2);
    assert_eq!(journal.append(&[accept(5, 5)]).unwrap()[0].sequence, 4, "3 stays taken");
    drop(journal);
    append_by_hand(&disk, 99, 0, &[]);
    let images: Vec<_> = disk.numbers().into_iter().map(|slot| disk.bytes_of(slot)).collect();
    let refused = Journal::open_on(ground(&disk), &small()).unwrap_err();
    assert!(matches!(&refused, OpenError::Newer { what, .. } if what.contains("99")), "{refused}");
    let after: Vec<_> = disk.numbers().into_iter().map(|slot| disk.bytes_of(slot)).collect();
    assert_eq!(images, after, "touched");
}

#[test]
fn a_damaged_copy_of_the_last_group_falls_back_on_the_original() {
    for later_groups in [false, true] {
        damaged_copy(later_groups);
    }
}

fn damaged_copy(later_groups: bool) {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(0, 900), accept(1, 900)]).unwrap();
    drop(journal);
    let (mut journal, mut recovered) = open_disk(&disk);
    let copy = found(&mut recovered)[0].location;
    let slot = journal.slot_of_open();
    let mut all = vec![accept(0, 900), accept(1, 900)];
    if later_groups {
        journal.append(&[accept(2, 900)]).unwrap();
        all.push(accept(2, 900));
    }
    drop(journal);
    let offset = usize::try_from(copy.offset()).unwrap();
    let header = offset - group::HEADER;
    for bytes in [vec![header], vec![offset + 30], vec![header, offset + 900, offset + 1_500]] {
        let disk = disk.image();
        disk.damage(slot, |slot| bytes.iter().for_each(|byte| slot[*byte] ^= 1));
        let (journal, mut recovered) = open_disk(&disk);
        let records: Vec<_> = whole(&journal, &mut recovered).into_iter().map(|(_, r)| r).collect();
        assert_eq!(records, all, "bytes {bytes:?}");
        assert!(recovered.damaged().is_empty());
    }
}

/// A store of six segments, of which the third has no group left, and perhaps the fourth is gone: what a start says.
fn without_groups(next_gone: bool) -> (Vec<u64>, Vec<String>) {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let mut ids = 0..;
    while journal.segments().len() < 6 {
        journal.append(&[accept(ids.next().unwrap(), 9_000)]).unwrap();
    }
    let epochs: Vec<u64> = journal.segments().iter().map(|segment| segment.epoch).collect();
    drop(journal);
    let slot = |epoch| {
        let is = |number: &u32| match Header::parse(&disk.bytes_of(*number)[..BLOCK]) {
            Parsed::Valid(header) => header.epoch == epoch,
            _ => false,
        };
        disk.numbers().into_iter().find(is).unwrap()
    };
    let (emptied, next) = (slot(epochs[2]), slot(epochs[3]));
    disk.damage(emptied, |bytes| bytes[2 * BLOCK..].fill(0xa5));
    if next_gone {
        disk.damage(next, |bytes| bytes.fill(0));
    }
    let (_, recovered) = open_disk(&disk);
    (epochs, recovered.report().to_vec())
}

#[test]
fn a_segment_of_which_no_group_is_left_is_damage() {
    let (_, report) = without_groups(false);
    let says = |what: &str| report.iter().any(|note| note.contains(what));
    assert!(says("are damaged") && says("records cannot be found any more"), "{report:?}");
}

#[test]
fn a_missing_segment_is_named_also_behind_one_of_which_no_group_is_left() {
    let (epochs, report) = without_groups(true);
    let missing =
        format!("the segment of epoch {}, before epoch {}, is missing", epochs[3], epochs[4]);
    assert!(report.contains(&missing), "{report:?}");
    assert!(report.iter().any(|note| note.contains("are damaged")), "{report:?}");
}

#[test]
fn a_slot_that_names_anothers_epoch_and_holds_no_group_of_it_voids_nothing() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    let mut placed = Vec::new();
    while journal.segments().len() < 6 {
        placed.extend(journal.append(&[accept(placed.len() as u64, 9_000)]).unwrap());
    }
    let below = journal.segments()[2].epoch;
    journal.append(&[Record::Checkpoint { retired_below: below, ended: vec![] }]).unwrap();
    journal.retire(below).unwrap();
    let epoch = journal.segments().iter().rev().nth(1).unwrap().epoch;
    let slots = |epoch| {
        let of = |number: &u32| match Header::parse(&disk.bytes_of(*number)[..BLOCK]) {
            Parsed::Valid(header) => header.epoch == epoch,
            _ => false,
        };
        disk.numbers().into_iter().filter(of).collect::<Vec<_>>()
    };
    let (real, spare) = (slots(epoch)[0], slots(1)[0]);
    assert!(spare < real, "it is looked at first");
    drop(journal);
    let Parsed::Valid(header) = Header::parse(&disk.bytes_of(real)[..BLOCK]) else { panic!() };
    let twin = Header { slot: spare, ..header }.encode();
    disk.damage(spare, |bytes| {
        bytes[..BLOCK].copy_from_slice(&twin);
        bytes[BLOCK..2 * BLOCK].copy_from_slice(&twin);
        bytes[2 * BLOCK..].fill(0xa5);
    });
    let (journal, mut recovered) = open_disk(&disk);
    assert_eq!(recovered.report(), &[] as &[String]);
    let is_order = |found: &&Found| {
        let (_, record) = journal.reader().read(found.location).unwrap();
        record.delivery().is_some()
    };
    let orders = found(&mut recovered).iter().filter(is_order).count();
    assert_eq!(orders, placed.iter().filter(|placed| placed.location.epoch() >= below).count());
}
