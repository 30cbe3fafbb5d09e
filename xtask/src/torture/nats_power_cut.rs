//! The power of all NATS servers' disks is cut at once, as in a rack: what was acknowledged had been synced on two of
//! them. The control leaves the servers their own sync interval, of two minutes.

use std::time::Duration;

use super::report::{Tally, loss};
use super::scene::Scene;
use super::{Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-power-cut",
    runs: 8,
    control: "default-sync",
    ledger_control: None,
    disk: Some(8 << 30),
    cluster: Some(Cluster { rate: 300.0, ceiling_per_s: 200, wired: 0 }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// What the disk does with unsynced sectors, in turn: all gone, torn writes.
const SURVIVALS: [f64; 2] = [0.0, 0.5];
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
        cut(scene, *survival)?;
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
fn cut(scene: &mut Scene<'_>, survival: f64) -> Result<()> {
    // A dead machine answers nobody: no answer may follow the cut.
    scene.servers()?.freeze_all()?;
    let cut = scene.disk()?.cut(survival)?;
    let killed = scene.servers()?.kill_all()?;
    let late = scene.disk()?.power_on()?;
    scene.tally.injected += u64::from(killed == 3);
    scene.tally.count("dropped_sectors", cut.dropped + late);
    scene.tally.count("torn_cuts", u64::from(0 < cut.dropped && cut.dropped < cut.unsynced));
    scene.servers()?.run_all()?;
    scene.whole_servers().map(drop)
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.count_of("dropped_sectors") == 0 {
        missed.push("no cut dropped a sector".to_owned());
    }
    missed
}
