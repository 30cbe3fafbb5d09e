//! What the outcome index promises, tested through its interface, on real directories and on a disk that is damaged.

mod crash;
mod damage;
mod fixture;
mod merging;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use forebay_order::Fingerprint;

use super::super::files::{Directory as _, RealDirectory};
use super::Outcomes;
use super::run::Home;
use crate::OrderState;
use crate::embedded::journal::tests::disk::Disk;
use crate::state::Outcome;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: i64 = 86_400_000;
const SECRET: [u8; 16] = *b"a store's secret";

pub(super) fn outcome(sequence: u64, settled_at_ms: i64) -> Outcome {
    Outcome {
        sequence,
        state: OrderState::Summarised,
        version: Some(7),
        newest: None,
        fingerprint: Fingerprint([3; 16]),
        fingerprint_version: 1,
        earlier: Vec::new(),
        accepted_at_ms: settled_at_ms.wrapping_sub(5),
        settled_at_ms,
        attempts: 0,
        synthetic: false,
        summary_id: "1Os-7".to_owned(),
    }
}

/// As a key's: 96 bits, evenly spread.
fn hash(n: u64) -> u128 {
    let hash = blake3::hash(&n.to_le_bytes());
    u128::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) >> 32
}

fn open(dir: &Path, horizon: Duration) -> (Outcomes, Vec<String>) {
    Outcomes::open(dir, SECRET, 0, horizon).unwrap()
}

fn open_on(disk: &Disk) -> (Outcomes, Vec<String>) {
    let home = Home { directory: Box::new(disk.clone()), secret: SECRET, reserve: 0 };
    Outcomes::open_on(home, DAY).unwrap()
}

fn find(outcomes: &Outcomes, n: u64) -> Option<Outcome> {
    outcomes.seek(hash(n)).and_then(|seek| seek.find())
}

fn put(outcomes: &mut Outcomes, some: &[Outcome]) {
    try_put(outcomes, some).unwrap();
}

fn try_put(outcomes: &mut Outcomes, some: &[Outcome]) -> Result<(), String> {
    let mut batch = outcomes.batch(1);
    some.iter().for_each(|outcome| batch.add(hash(outcome.sequence), outcome));
    outcomes.stored(batch.store()?);
    Ok(())
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn runs_in(dir: &Path) -> usize {
    names(dir).iter().filter(|name| name.ends_with(".run")).count()
}

#[test]
fn outcomes_survive_a_reopen_and_end_with_the_horizon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    let (mut outcomes, notes) = open(&path, DAY);
    assert_eq!(notes, Vec::<String>::new());
    put(&mut outcomes, &[outcome(1, 0)]);
    put(&mut outcomes, &[outcome(2, DAY_MS)]);
    assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)));
    assert_eq!(find(&outcomes, 3), None);
    drop(outcomes);
    let (outcomes, notes) = open(&path, 3 * DAY);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)), "whatever the horizon is now");
    drop(outcomes);
    let (mut outcomes, notes) = open(&path, DAY);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)));
    outcomes.expire(DAY_MS + DAY_MS / 2);
    assert_eq!(find(&outcomes, 1), None);
    assert_eq!(find(&outcomes, 2), Some(outcome(2, DAY_MS)));
    outcomes.wait_until_idle();
    assert_eq!(runs_in(&path), 1, "its file is removed too");
}

#[test]
fn a_batch_is_found_only_once_it_is_stored_and_then_tells_hits_from_misses() {
    let dir = tempfile::tempdir().unwrap();
    let (mut outcomes, _) = open(&dir.path().join("outcomes"), DAY);
    let before = outcomes.generation();
    let mut batch = outcomes.batch(1);
    (0..20_000).for_each(|n| batch.add(hash(n), &outcome(n, n.cast_signed() * 3_000)));
    let stored = batch.store().unwrap();
    assert_eq!(find(&outcomes, 7), None);
    outcomes.stored(stored);
    assert_ne!(outcomes.generation(), before);
    for n in 0..20_000 {
        assert_eq!(find(&outcomes, n), Some(outcome(n, n.cast_signed() * 3_000)));
    }
    let looked_for = (20_000..40_000).filter(|n| outcomes.seek(hash(*n)).is_some()).count();
    assert!(looked_for < 400, "{looked_for} of 20000 new keys are looked for in vain");
    assert!((20_000..40_000).all(|n| find(&outcomes, n).is_none()));
    let figures = outcomes.figures();
    assert_eq!((figures.outcomes, figures.damaged_blocks), (20_000, 0));
    assert!(figures.disk_bytes > 20_000 * 30 && figures.memory_bytes > 20_000);
}

#[test]
fn a_full_disk_closes_nothing() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    put(&mut outcomes, &[outcome(1, 0)]);
    disk.set_full(true);
    for _ in 0..3 {
        try_put(&mut outcomes, &[outcome(2, 0), outcome(3, DAY_MS)]).unwrap_err();
        assert_eq!(find(&outcomes, 1), Some(outcome(1, 0)), "what is there still answers");
        assert_eq!(find(&outcomes, 2), None);
    }
    disk.set_full(false);
    put(&mut outcomes, &[outcome(2, 0), outcome(3, DAY_MS)]);
    assert_eq!(find(&outcomes, 3), Some(outcome(3, DAY_MS)));
    drop(outcomes);
    let (outcomes, notes) = open_on(&disk);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(outcomes.figures().runs, 3, "nothing is left of what failed");
}

#[test]
fn what_is_kept_of_the_disk_takes_outcomes_in_when_it_is_full_and_is_filled_up_again() {
    let disk = Disk::default();
    let home = Home { directory: Box::new(disk.clone()), secret: SECRET, reserve: 1 << 20 };
    let (mut outcomes, _) = Outcomes::open_on(home, DAY).unwrap();
    outcomes.keeper.shared.step().unwrap();
    assert_eq!(disk.reserved().unwrap(), 1 << 20);
    disk.set_full(true);
    let mut stored = 0;
    while try_put(&mut outcomes, &[outcome(stored, 0)]).is_ok() {
        stored += 1;
    }
    assert!(stored >= 12, "{stored} batches in a MiB");
    assert!((0..stored).all(|n| find(&outcomes, n) == Some(outcome(n, 0))));
    disk.set_full(false);
    outcomes.keeper.shared.step().unwrap();
    assert_eq!(disk.reserved().unwrap(), 1 << 20);
}

#[test]
fn a_real_directory_keeps_and_gives_up_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let directory = RealDirectory::make(dir.path()).unwrap();
    let blocks = || fs::metadata(dir.path().join("reserve")).unwrap().blocks() * 512;
    for bytes in [1 << 20, 256 << 10, 512 << 10, 0] {
        directory.reserve(bytes).unwrap();
        assert_eq!((directory.reserved().unwrap(), blocks()), (bytes, bytes));
    }
}

#[test]
fn how_far_it_reaches_survives_a_reopen_and_goes_with_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    let (mut outcomes, _) = open(&path, DAY);
    assert_eq!(outcomes.stored_below(), 0);
    for epoch in [3, 7, 12] {
        let batch = outcomes.batch(epoch);
        let stored = batch.store().unwrap();
        outcomes.stored(stored);
    }
    assert_eq!((outcomes.stored_below(), outcomes.has_forgotten()), (12, false));
    drop(outcomes);
    assert_eq!(names(&path), ["stored-below-12"]);
    assert_eq!(open(&path, DAY).0.stored_below(), 12);
    fs::remove_dir_all(&path).unwrap();
    assert_eq!(open(&path, DAY).0.stored_below(), 0);
}

#[test]
fn an_index_deleted_in_use_begins_anew_with_the_next_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    let (mut outcomes, _) = open(&path, DAY);
    put(&mut outcomes, &[outcome(1, 0)]);
    assert!(!outcomes.has_forgotten());
    fs::remove_dir_all(&path).unwrap();
    put(&mut outcomes, &[outcome(2, 0)]);
    assert!(outcomes.has_forgotten(), "the next start will not have what was in it");
    drop(outcomes);
    let (outcomes, notes) = open(&path, DAY);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(find(&outcomes, 1), None);
    assert_eq!(find(&outcomes, 2), Some(outcome(2, 0)));
}

#[test]
fn what_is_no_directory_of_runs_is_set_aside_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("db"), b"an earlier form").unwrap();
    fs::write(path.join("conf"), b"an earlier form").unwrap();
    let (outcomes, notes) = open(&path, DAY);
    assert!(notes[0].contains("outcomes.bad-1"), "{notes:?}");
    assert_eq!(names(&path), Vec::<String>::new());
    drop(outcomes);
    assert_eq!(names(&dir.path().join("outcomes.bad-1")), ["conf", "db"]);
    fs::remove_dir(&path).unwrap();
    fs::write(&path, b"a file").unwrap();
    let (_, notes) = open(&path, DAY);
    assert!(notes[0].contains("outcomes.bad-2"), "{notes:?}");
}

#[test]
fn runs_of_another_store_answer_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    let (mut outcomes, _) = open(&path, DAY);
    put(&mut outcomes, &[outcome(1, 0)]);
    drop(outcomes);
    let (outcomes, notes) = Outcomes::open(&path, [0; 16], 0, DAY).unwrap();
    assert!(notes[0].contains(".run.bad"), "{notes:?}");
    assert_eq!(find(&outcomes, 1), None);
}
