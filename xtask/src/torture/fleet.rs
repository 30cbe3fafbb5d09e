//! Three servers drain one NATS cluster into one OMS. One keeps the door; the others are killed between what they commit
//! and what they settle, or stopped for longer than their lease, and come back; sometimes the leader of the NATS servers
//! is killed with them. Nothing is lost or doubled, and all together stay below the one ceiling. In the control whoever takes
//! a partition over forgets what was lent of it, and must double; in the other half of its runs each takes the whole ceiling, and
//! together they must exceed it.

use std::time::Duration;

use super::acceptance::SET_ASIDE;
use super::ceiling::{self, Pause};
use super::report::{Tally, doubles};
use super::scene::Scene;
use super::worker::{self, INHERITED, Worker};
use super::{BYTES_MAX, Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;
use crate::time::wall_us;

pub(super) const TORTURE: Torture = Torture {
    name: "fleet",
    runs: 16,
    control: "forgotten-loans",
    ledger_control: None,
    ceiling_control: Some("whole-ceiling"),
    disk: None,
    cluster: Some(CLUSTER),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// A ceiling that three together exceed also on a slow machine, where each takes it whole.
const CLUSTER: Cluster = Cluster { rate: 100.0, ceiling_per_s: 30, wired: 0, bytes_max: BYTES_MAX };
/// Workers beside the one with the door.
const WORKERS: usize = 2;
/// Between two strikes, so that the struck one has orders again.
const BETWEEN: std::ops::Range<u64> = 1_500..5_000;
/// How long a worker stays stopped: its lease and more, so that others have all of its orders.
const PAUSED: std::ops::Range<u64> = 3_500..8_000;
/// How long a killed one stays away.
const AWAY: std::ops::Range<u64> = 0..6_000;
/// About how long one run takes.
const RUN: Duration = Duration::from_secs(8);
/// And strikes right after a commit.
const AT_COMMIT: &str = "struck_at_commit";

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let mut random = scene.random();
    scene.sell(RUN * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    let workers = (1..=WORKERS).map(|n| Worker::start_beside(scene, n));
    let mut workers = workers.collect::<Result<Vec<_>>>()?;
    scene.play_load()?;
    let mut pauses = Vec::new();
    for run in 0..runs {
        scene.wait(Duration::from_millis(random.u64(BETWEEN)))?;
        let worker = workers.get_mut(random.usize(0..WORKERS));
        let Some(worker) = worker else { continue };
        strike(scene, worker, run, &mut random, &mut pauses)?;
        complain(format_args!("run {} of {runs}", run + 1));
    }
    scene.wait(Duration::from_millis(BETWEEN.end))?;
    scene.stop_load()?;
    // What follows goes over the ceiling on purpose.
    scene.count_above_ceiling(&pauses)?;
    worker::end(scene, workers)
}

/// Kills a worker or stops it beyond its lease, right after a commit but for each fourth time; every third time the leader of
/// the NATS servers is killed with it, so that what the worker had under way is under way there too.
fn strike(
    scene: &mut Scene<'_>,
    worker: &mut Worker,
    run: u32,
    random: &mut fastrand::Rng,
    pauses: &mut Vec<Pause>,
) -> Result<()> {
    let leader = (run % 3 == 2).then(|| scene.whole_servers()).transpose()?;
    if run % 4 != 3 {
        let committed = worker.commits(scene.interrupt())?;
        scene.tally.count(AT_COMMIT, u64::from(committed));
    }
    let kills = run.is_multiple_of(2);
    let from = wall_us();
    let (struck, away) = if kills { (worker.kill()?, AWAY) } else { (worker.freeze()?, PAUSED) };
    scene.tally.injected += u64::from(struck);
    scene.tally.count(if kills { "killed" } else { "paused" }, u64::from(struck));
    if let Some(leader) = leader {
        let killed = scene.servers()?.kill(leader)?;
        scene.tally.count("leaders_killed", u64::from(killed));
    }
    scene.wait(Duration::from_millis(random.u64(away)))?;
    if let Some(leader) = leader {
        scene.servers()?.run(leader)?;
    }
    if kills {
        // A start needs servers that have a leader.
        scene.whole_servers()?;
        worker.start(scene.interrupt())
    } else {
        worker.thaw()?;
        pauses.push(Pause { from, to: wall_us() });
        Ok(())
    }
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = doubles(tally, control);
    if control {
        if tally.count_of(ceiling::EXCEEDED) == 0 {
            missed.push("the control of the ceiling kept it, so the runs prove nothing".to_owned());
        }
        return missed;
    }
    missed.extend(ceiling::missed(tally));
    if tally.count_of(INHERITED) == 0 {
        missed.push("no worker ended while its orders were lent".to_owned());
    }
    if tally.count_of(SET_ASIDE) > 0 {
        let count = tally.count_of(SET_ASIDE);
        missed.push(format!("{count} orders were set aside that ended nobody"));
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_or_too_much_in_a_second_is_missed_and_the_control_must_double() {
        let mut tally = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty(), "nothing was inherited");
        tally.count(INHERITED, 3);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        tally.count(ceiling::EXCEEDED, 1);
        assert!(!missed(&tally, false).is_empty());
        assert_eq!(missed(&tally, true).len(), 1, "and nothing doubled");
        let doubled = Tally { doubled: 1, ..tally };
        assert_eq!(missed(&doubled, true), Vec::<String>::new());
        let kept = Tally { counts: std::collections::BTreeMap::new(), ..doubled };
        assert_eq!(missed(&kept, true).len(), 1, "and the ceiling was kept");
    }
}
