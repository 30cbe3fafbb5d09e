//! Power cuts at every step: what was durable is there and the same, what was not is told again from where it ends.

use super::slots::{all, try_open};
use super::*;
use crate::embedded::feed::Keeper;
use crate::embedded::journal::WriteMode;
use crate::embedded::journal::tests::disk::Disk;

/// Lives that are lived; more with `FOREBAY_CRASH_SEEDS=10000 cargo test --release -p forebay-buffer whatever_the_power`.
fn seeds() -> u64 {
    let asked = option_env!("FOREBAY_CRASH_SEEDS").map(|seeds| seeds.parse().unwrap());
    asked.unwrap_or(if cfg!(debug_assertions) { 100 } else { 2_000 })
}

/// As a process does: derives what is missing, then goes on; how far it is told durably.
fn live(
    disk: &Disk,
    random: &mut fastrand::Rng,
    journal: &mut u64,
    synced: &mut u64,
) -> std::io::Result<()> {
    let (mut keeper, told, notes) = try_open(disk, 6)?;
    assert_eq!(notes, Vec::<String>::new());
    match told {
        Some(told) => {
            assert!(told >= *synced, "told up to {told}, and {synced} was durable");
            assert!(told <= *journal);
            check(&keeper, told);
            keeper.tell((told + 1..=*journal).map(|sequence| event(sequence, 0)), *journal)?;
        }
        None => {
            assert_eq!(*synced, 0, "all of it is lost");
            keeper.begin_after(*journal)?;
        }
    }
    keeper.sync()?;
    *synced = *journal;
    loop {
        if random.u32(..8) == 0 {
            keeper.sync()?;
            *synced = *journal;
        }
        let from = *journal + 1;
        *journal += random.u64(1..20);
        keeper.tell((from..=*journal).map(|sequence| event(sequence, 0)), *journal)?;
        if random.u32(..8) == 0 {
            check(&keeper, *journal);
        }
    }
}

/// All that is kept can be read, without a gap, up to `told`.
fn check(keeper: &Keeper, told: u64) {
    let oldest = keeper.shared().slots().first().map_or(told, |slot| slot.base);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(all(keeper, oldest)), (oldest + 1..=told).collect::<Vec<_>>());
}

#[test]
fn whatever_the_power_takes_is_told_again_and_nothing_else() {
    for seed in 0..seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Disk::of(WriteMode::Buffered);
        let (mut journal, mut synced) = (0, 0);
        for _ in 0..4 {
            disk.cut_after(random.u64(..60));
            live(&disk, &mut random, &mut journal, &mut synced).unwrap_err();
            let survives = random.f64();
            disk.restart(&mut random, survives);
        }
    }
}
