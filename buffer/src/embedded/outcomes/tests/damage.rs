//! Damaged runs: never a panic, never a wrong outcome, and what is whole goes on answering.

use super::*;
use crate::embedded::files::Directory;
use crate::embedded::outcomes::block::BLOCK;

const KEYS: u64 = 600;

/// A disk with one run of many blocks; its name.
fn one_run() -> (Disk, String) {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    put(&mut outcomes, &(0..KEYS).map(|n| outcome(n, 5)).collect::<Vec<_>>());
    let name = disk.names().unwrap().remove(0);
    (disk, name)
}

/// How many are found; whatever is found is right.
fn found(outcomes: &Outcomes) -> u64 {
    (0..KEYS)
        .filter(|n| {
            let found = find(outcomes, *n);
            assert!(found.is_none() || found == Some(outcome(*n, 5)));
            found.is_some()
        })
        .count() as u64
}

#[test]
fn a_damaged_block_loses_its_own_outcomes_alone_and_is_counted() {
    let (disk, name) = one_run();
    disk.damage_file(&name, |bytes| bytes[2 * BLOCK + 900] ^= 1);
    let (outcomes, notes) = open_on(&disk);
    assert_eq!(notes, Vec::<String>::new(), "a start does not read entries");
    assert!(!outcomes.has_forgotten());
    let lost = KEYS - found(&outcomes);
    assert!((20..200).contains(&lost), "{lost} of one block");
    assert_eq!(outcomes.figures().damaged_blocks, 1, "once, however often it is asked");
    assert!(outcomes.has_forgotten(), "whoever has such a key is taken for new");
}

#[test]
fn a_torn_run_answers_with_what_is_whole_of_it() {
    let (disk, name) = one_run();
    let mut whole = 0;
    disk.damage_file(&name, |bytes| whole = bytes.len());
    for len in (0..whole).step_by(BLOCK - 512) {
        let (disk, name) = one_run();
        disk.damage_file(&name, |bytes| bytes.truncate(len));
        let (outcomes, notes) = open_on(&disk);
        assert_eq!(notes.len(), 1, "{notes:?}");
        let found = found(&outcomes);
        let expected = (len / BLOCK) as u64;
        assert!(found >= (expected * 50).min(KEYS) && found <= expected * 120, "{found} of {len}");
    }
}

#[test]
fn whatever_bit_flips_nothing_wrong_is_found_and_at_most_a_block_is_lost() {
    let mut random = fastrand::Rng::with_seed(5);
    for _ in 0..60 {
        let (disk, name) = one_run();
        disk.damage_file(&name, |bytes| {
            let at = random.usize(..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        });
        let (outcomes, notes) = open_on(&disk);
        let lost = KEYS - found(&outcomes);
        assert!(lost < 200, "{lost} lost");
        let noticed = outcomes.figures().damaged_blocks;
        assert_eq!(noticed, 1, "{lost} lost, {notes:?}");
    }
}

#[test]
fn a_run_of_which_nothing_is_whole_is_set_aside() {
    let (disk, name) = one_run();
    disk.damage_file(&name, |bytes| bytes.fill(0xa5));
    let (outcomes, notes) = open_on(&disk);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains(&format!("{name}.bad")), "{notes:?}");
    assert_eq!(found(&outcomes), 0);
    drop(outcomes);
    let (_, notes) = open_on(&disk);
    assert_eq!(notes, Vec::<String>::new(), "said once");
}

#[test]
fn a_run_under_another_s_name_answers_nothing() {
    let (disk, name) = one_run();
    disk.rename(&name, "0_10800000_7_7.run").unwrap();
    let (outcomes, notes) = open_on(&disk);
    assert_eq!((notes.len(), found(&outcomes)), (1, 0));
}

#[test]
fn an_offline_look_finds_every_damaged_block_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    assert_eq!(super::super::look(&path, SECRET).unwrap().len(), 0);
    let (mut outcomes, _) = open(&path, DAY);
    put(&mut outcomes, &(0..KEYS).map(|n| outcome(n, 5)).collect::<Vec<_>>());
    put(&mut outcomes, &[outcome(9, DAY_MS)]);
    drop(outcomes);
    let before = names(&path);
    let bytes = fs::read(path.join(&before[0])).unwrap();
    let mut bad = bytes.clone();
    bad[BLOCK] ^= 1;
    bad[5 * BLOCK] ^= 1;
    fs::write(path.join(&before[0]), bad).unwrap();
    fs::write(path.join(&before[1]), [0; 100]).unwrap();
    let looked = super::super::look(&path, SECRET).unwrap();
    let damaged: Vec<_> = looked.iter().map(|run| run.damaged_blocks).collect();
    assert_eq!(damaged, [Some(2), None]);
    assert_eq!(names(&path), before);
}
