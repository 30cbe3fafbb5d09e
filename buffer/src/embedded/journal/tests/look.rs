//! What a look tells of the end of a journal, where nothing proves what stands there.

use std::sync::Arc;

use super::super::recovery::{Look, look_on};
use super::super::{DamageKind, group};
use super::disk::Disk;
use super::support::{accept, open_disk};

fn look(disk: &Disk) -> Look {
    look_on(Arc::new(disk.clone())).unwrap()
}

fn counted(look: &mut Look) -> Vec<u64> {
    let mut all = Vec::new();
    look.replay(|restored| all.push(restored.sequence)).unwrap();
    all
}

#[test]
fn damage_at_the_very_end_is_told_from_damage_that_is_proven() {
    for proven in [true, false] {
        let disk = Disk::default();
        let (mut journal, _) = open_disk(&disk);
        journal.append(&[accept(0, 300)]).unwrap();
        let placed = journal.append(&[accept(1, 300), accept(2, 300)]).unwrap();
        if proven {
            journal.prove().unwrap();
        }
        drop(journal);
        let body_end = usize::try_from(placed[1].location.offset()).unwrap() + 700;
        disk.damage(0, |bytes| bytes[body_end] ^= 1);
        let mut seen = look(&disk);
        let [damage] = seen.damages.as_slice() else { panic!("{:?}", seen.damages) };
        assert_eq!((damage.kind, damage.proven), (DamageKind::Body, proven));
        assert_eq!(damage.sequences, Some((3, 3)));
        assert_eq!(damage.key.as_ref().unwrap().id, "2");
        let expected: &[u64] = if proven { &[1, 2, 3] } else { &[1, 2] };
        assert_eq!(counted(&mut seen), expected);
    }
}

#[test]
fn of_a_group_under_way_what_is_whole_counts_and_the_rest_is_unproven() {
    let disk = Disk::default();
    let (mut journal, _) = open_disk(&disk);
    journal.append(&[accept(0, 300)]).unwrap();
    let placed = journal.append(&[accept(1, 300), accept(2, 300), accept(3, 300)]).unwrap();
    drop(journal);
    let start = usize::try_from(placed[0].location.offset()).unwrap();
    let second = usize::try_from(placed[1].location.offset()).unwrap();
    // Without its header, and without the second record's descriptor.
    disk.damage(0, |bytes| {
        bytes[start - group::HEADER] ^= 1;
        bytes[second + 20] ^= 1;
    });
    let mut seen = look(&disk);
    assert!(seen.damages.iter().all(|damage| !damage.proven), "{:?}", seen.damages);
    assert_eq!(counted(&mut seen), [1, 2, 4]);
    // A start finds the same.
    let (_, mut recovered) = open_disk(&disk);
    let found: Vec<_> = super::support::found(&mut recovered).iter().map(|r| r.sequence).collect();
    assert_eq!(found, [1, 2, 4]);
}

#[test]
fn a_look_at_nothing_finds_nothing() {
    let seen = look(&Disk::default());
    assert_eq!((seen.store_id(), seen.slots, seen.segments.len()), (None, 0, 0));
}
