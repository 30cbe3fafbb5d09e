//! The stream's leader is killed (`kill -9`) again and again under load, and comes back before the next time: what was
//! acknowledged is on two of three servers. The control takes an answer that was lost for a success.

use std::time::Duration;

use super::acceptance::LONGEST_REFUSAL;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::{Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-kill",
    runs: 12,
    control: "lost-is-done",
    ledger_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 1000.0, ceiling_per_s: 500 }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// From one kill to the next, at least.
const EVERY: Duration = Duration::from_secs(5);
/// How long the killed one stays away.
const AWAY: Duration = Duration::from_secs(1);
/// About how long it takes until all servers are there again.
const BACK: Duration = Duration::from_secs(4);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    scene.sell((EVERY + AWAY + BACK) * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.play_load()?;
    for run in 0..runs {
        scene.wait(EVERY)?;
        let leader = scene.whole_servers()?;
        let killed = scene.servers()?.kill(leader)?;
        scene.tally.injected += u64::from(killed);
        scene.wait(AWAY)?;
        scene.servers()?.run(leader)?;
        scene.accepts_again()?;
        complain(format_args!("run {} of {runs}", run + 1));
    }
    scene.wait(AWAY)?;
    scene.whole_servers()?;
    scene.stop_load()
}

pub(super) fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.peaks.get(LONGEST_REFUSAL).is_none_or(|longest| *longest <= 0.0) {
        missed.push("nobody looked for how long nothing was accepted".to_owned());
    }
    missed
}
