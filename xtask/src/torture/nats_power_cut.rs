//! The power of all NATS servers' disks is cut at once, as in a rack, and by turns of one of them while the two others go on: what was
//! acknowledged had been synced on two of them. The control leaves the servers their own sync interval, of two minutes.

use std::time::Duration;

use super::report::{Tally, loss};
use super::scene::Scene;
use super::servers::COUNT;
use super::{BYTES_MAX, Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-power-cut",
    runs: 8,
    control: "default-sync",
    ledger_control: None,
    ceiling_control: None,
    disk: Some(8 << 30),
    cluster: Some(Cluster { rate: 300.0, ceiling_per_s: 200, wired: 0, bytes_max: BYTES_MAX }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// What the disk does with unsynced sectors, in turn: all gone, torn writes.
const SURVIVALS: [f64; 2] = [0.0, 0.5];
const DROPPED: &str = "dropped_sectors";
/// What the report calls cuts of all servers, and of one.
const OF_ALL: &str = "cuts_of_all";
const OF_ONE: &str = "cuts_of_one";
/// When the power goes, from when orders are accepted again.
const MILLIS: std::ops::Range<u64> = 500..4_000;
/// About how long it takes until they are.
const BACK: Duration = Duration::from_secs(12);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let mut random = scene.random();
    let moments: Vec<_> = (0..runs).map(|_| Duration::from_millis(random.u64(MILLIS))).collect();
    scene.sell(BACK * runs + moments.iter().sum::<Duration>())?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.play_load()?;
    for (run, (moment, survival)) in moments.into_iter().zip(SURVIVALS.iter().cycle()).enumerate() {
        scene.accepts_again()?;
        scene.wait(moment)?;
        // By turns, beginning with another in the next share. One is by turns the leader and a follower.
        let turn = usize::try_from(scene.share.place.0).unwrap_or_default() + run;
        match turn % 4 {
            0 | 2 => cut_all(scene, *survival)?,
            of => cut_one(scene, of == 3, *survival)?,
        }
        complain(format_args!("run {} of {runs}", run + 1));
        if scene.control() {
            // A server that finds its stream gone back takes nothing more, nor does its next start, until it is told to forget.
            scene.kill()?;
            scene.forget_store()?;
            if !scene.start(&[])? {
                return Ok(());
            }
            scene.play_load()?;
        }
    }
    scene.stop_load()
}

/// All servers lose their power, and get it back.
fn cut_all(scene: &mut Scene<'_>, survival: f64) -> Result<()> {
    // A dead machine answers nobody: no answer may follow the cut.
    scene.servers()?.freeze_all()?;
    (0..COUNT).try_for_each(|n| cut_disk(scene, n, survival))?;
    let killed = scene.servers()?.kill_all()?;
    (0..COUNT).try_for_each(|n| power_on(scene, n))?;
    let hit = u64::from(killed == COUNT as u64);
    scene.tally.injected += hit;
    scene.tally.count(OF_ALL, hit);
    scene.servers()?.run_all()?;
    scene.whole_servers().map(drop)
}

/// The leader, or another one, loses its power; the others go on without it, and then with what is left on its disk.
fn cut_one(scene: &mut Scene<'_>, leader: bool, survival: f64) -> Result<()> {
    let led_by = scene.whole_servers()?;
    let n = if leader { led_by } else { (led_by + 1) % COUNT };
    let ran = scene.servers()?.freeze(n)?;
    cut_disk(scene, n, survival)?;
    let hit = u64::from(scene.servers()?.kill(n)? && ran);
    scene.tally.injected += hit;
    scene.tally.count(OF_ONE, hit);
    scene.accepts_again()?;
    power_on(scene, n)?;
    scene.servers()?.run(n)?;
    scene.whole_servers().map(drop)
}

fn cut_disk(scene: &mut Scene<'_>, n: usize, survival: f64) -> Result<()> {
    let cut = scene.disk_of(n)?.cut(survival)?;
    scene.tally.count(DROPPED, cut.dropped);
    scene.tally.count("torn_cuts", u64::from(0 < cut.dropped && cut.dropped < cut.unsynced));
    Ok(())
}

fn power_on(scene: &mut Scene<'_>, n: usize) -> Result<()> {
    let late = scene.disk_of(n)?.power_on()?;
    scene.tally.count(DROPPED, late);
    Ok(())
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.count_of(DROPPED) == 0 {
        missed.push("no cut dropped a sector".to_owned());
    }
    let cuts = [OF_ALL, OF_ONE].map(|name| tally.count_of(name));
    if cuts.iter().sum::<u64>() > 1 && cuts.contains(&0) {
        missed.push("the power of all was to be cut, and of one".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_cut_only_all_or_only_one_prove_half() {
        let mut tally = Tally { acknowledged: 9, found: 9, ..Tally::default() };
        tally.count(DROPPED, 5);
        tally.count(OF_ALL, 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new(), "a run alone");
        tally.count(OF_ALL, 1);
        assert_eq!(missed(&tally, false).len(), 1);
        tally.count(OF_ONE, 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
    }
}
