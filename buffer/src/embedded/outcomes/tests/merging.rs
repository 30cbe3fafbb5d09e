//! Merging: the newest outcome wins, the number of runs stays small, and no step of it can lose anything.

use super::*;
use crate::embedded::files::Directory;
use crate::embedded::outcomes::merge::{UnderWay, choose, merge};

fn settle(outcomes: &Outcomes) {
    while outcomes.keeper.shared.step().unwrap() {}
}

#[test]
fn of_several_outcomes_of_one_order_the_newest_stays() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    let at = |n: u64, attempts: u8| Outcome { attempts, ..outcome(n, 5) };
    for attempts in 0..20 {
        // One of all rounds, one of each.
        put(&mut outcomes, &[at(7, attempts), at(100 + u64::from(attempts), attempts)]);
        settle(&outcomes);
        assert_eq!(find(&outcomes, 7), Some(at(7, attempts)));
    }
    // And within a batch.
    put(&mut outcomes, &[at(7, 50), at(7, 51)]);
    assert!(outcomes.figures().runs <= 8, "{:?}", outcomes.figures());
    drop(outcomes);
    let (outcomes, notes) = open_on(&disk);
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(find(&outcomes, 7), Some(at(7, 51)));
    for attempts in 0..20 {
        let n = 100 + u64::from(attempts);
        assert_eq!(find(&outcomes, n), Some(at(n, attempts)));
    }
}

#[test]
fn a_stretch_that_is_over_comes_down_to_few_runs_and_small_ones_do_not_rewrite_large_ones() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    let mut next = 0;
    let mut batch = |outcomes: &mut Outcomes, size: u64, at_ms: i64| {
        put(outcomes, &(next..next + size).map(|n| outcome(n, at_ms)).collect::<Vec<_>>());
        next += size;
        settle(outcomes);
    };
    (0..75).for_each(|_| batch(&mut outcomes, 60, 5));
    let runs = outcomes.figures().runs;
    assert!((3..=16).contains(&runs), "{runs} while it lasts");
    batch(&mut outcomes, 60, DAY_MS / 2);
    let runs = outcomes.figures().runs;
    assert!(runs <= 5, "{runs} when it is over");
    let largest = disk.names().unwrap();
    batch(&mut outcomes, 1, 5);
    let kept = disk.names().unwrap();
    assert!(largest.iter().all(|name| kept.contains(name)), "{largest:?} and {kept:?}");
    assert!((0..next).all(|n| find(&outcomes, n).is_some()));
}

#[test]
fn a_damaged_block_does_not_stop_a_merge() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    for batch in 0..8 {
        let some = batch * 500..(batch + 1) * 500;
        put(&mut outcomes, &some.map(|n| outcome(n, 5)).collect::<Vec<_>>());
    }
    let name = disk.names().unwrap().remove(3);
    disk.damage_file(&name, |bytes| bytes[100] ^= 1);
    settle(&outcomes);
    assert_eq!(outcomes.figures().runs, 1);
    let lost = (0..4_000).filter(|n| find(&outcomes, *n).is_none()).count();
    assert!((20..200).contains(&lost), "{lost}");
}

#[test]
fn a_run_whose_time_came_while_it_was_merged_does_not_come_back() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    (0..8).for_each(|n| put(&mut outcomes, &[outcome(n, 5)]));
    let shared = &outcomes.keeper.shared;
    let runs = choose(&shared.runs(), &[]).unwrap();
    let merged = merge(&shared.home, &runs, |_| Ok(true)).unwrap().unwrap();
    shared.drop_until(DAY_MS);
    shared.replace(&runs, merged);
    settle(&outcomes);
    assert_eq!(find(&outcomes, 3), None);
    assert_eq!(disk.names().unwrap(), ["stored-below-1"]);
}

#[test]
fn runs_that_heaped_up_are_merged_eight_at_a_time_and_come_down_as_if_they_had_not() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    (0..500).for_each(|n| put(&mut outcomes, &[outcome(n, 5)]));
    assert_eq!(choose(&outcomes.keeper.shared.runs(), &[]).unwrap().len(), 8);
    settle(&outcomes);
    let sizes: Vec<_> = outcomes.keeper.shared.runs().iter().map(|run| run.entries).collect();
    // 7 * 64 + 6 * 8 + 4.
    assert_eq!(sizes, [vec![64; 7], vec![8; 6], vec![1; 4]].concat());
    assert!((0..500).all(|n| find(&outcomes, n) == Some(outcome(n, 5))));
}

#[test]
fn beside_a_large_merge_only_newer_and_much_smaller_runs_are_merged() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    for batch in 0..8 {
        let some = batch * 700..(batch + 1) * 700;
        put(&mut outcomes, &some.map(|n| outcome(n, 5)).collect::<Vec<_>>());
    }
    let runs = outcomes.keeper.shared.runs();
    let large = UnderWay::of(&choose(&runs, &[]).unwrap()).unwrap();
    assert!(choose(&runs, &[large]).is_none());
    (0..8).for_each(|n| put(&mut outcomes, &[outcome(6_000 + n, 5)]));
    let runs = outcomes.keeper.shared.runs();
    let small = choose(&runs, &[large]).unwrap();
    assert_eq!(
        small.iter().map(|run| run.id.first).collect::<Vec<_>>(),
        (9..17).collect::<Vec<_>>()
    );
    let both = [large, UnderWay::of(&small).unwrap()];
    assert!(choose(&runs, &both).is_none());
    settle(&outcomes);
    assert!((0..5_600).chain(6_000..6_008).all(|n| find(&outcomes, n) == Some(outcome(n, 5))));
}

#[test]
fn where_the_disk_has_no_room_nothing_is_merged_and_nothing_is_lost() {
    let disk = Disk::default();
    let (mut outcomes, _) = open_on(&disk);
    (0..8).for_each(|n| put(&mut outcomes, &[outcome(n, 5)]));
    disk.set_full(true);
    outcomes.keeper.shared.step().unwrap_err();
    assert!((0..8).all(|n| find(&outcomes, n).is_some()));
    disk.set_full(false);
    settle(&outcomes);
    assert_eq!(outcomes.figures().runs, 1);
}

#[test]
fn power_that_goes_at_any_step_of_a_merge_or_a_batch_costs_nothing() {
    let mut random = fastrand::Rng::with_seed(1);
    let mut merged = 0;
    for (survives, calls) in [0.0, 0.5, 1.0].into_iter().flat_map(|s| (0..24).map(move |n| (s, n)))
    {
        let disk = Disk::default();
        let (mut outcomes, _) = open_on(&disk);
        (0..8).for_each(|n| put(&mut outcomes, &[outcome(n, 5)]));
        disk.cut_after(calls);
        let shared = &outcomes.keeper.shared;
        while matches!(shared.step(), Ok(true)) {}
        let stored = try_put(&mut outcomes, &[outcome(8, 5)]).is_ok();
        drop(outcomes);
        disk.restart(&mut random, survives);
        let (mut outcomes, notes) = open_on(&disk);
        assert_eq!(notes, Vec::<String>::new(), "a crash is no damage");
        assert!((0..8 + u64::from(stored)).all(|n| find(&outcomes, n) == Some(outcome(n, 5))));
        merged += usize::from(outcomes.figures().runs <= 2);
        put(&mut outcomes, &[outcome(9, 5)]);
        settle(&outcomes);
        let names = disk.names().unwrap();
        let left = |name: &String| name.ends_with(".run") || name == "stored-below-1";
        assert!(names.iter().all(left) && names.len() < 11, "{names:?}");
    }
    assert!((10..60).contains(&merged), "{merged} cuts came after the merge");
}

#[test]
fn the_thread_merges_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("outcomes");
    let (mut outcomes, _) = open(&path, DAY);
    (0..8).for_each(|n| put(&mut outcomes, &[outcome(n, 5)]));
    outcomes.wait_until_idle();
    assert_eq!(runs_in(&path), 1);
    assert!((0..8).all(|n| find(&outcomes, n) == Some(outcome(n, 5))));
}
