//! The stream's leader is stopped where it stands for some seconds, and goes on: another leads meanwhile, and the old one
//! must find out before it acknowledges anything. The control takes an answer that was lost for a success.

use std::time::Duration;

use super::scene::Scene;
use super::{Cluster, NATS, Torture, WriteMode, nats_kill};
use crate::failure::Result;
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-pause",
    runs: 8,
    control: "lost-is-done",
    ledger_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 1000.0, ceiling_per_s: 500 }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed: nats_kill::missed,
};

/// Between two pauses.
const BETWEEN: Duration = Duration::from_secs(2);
/// About how long it takes until all servers are there again.
const BACK: Duration = Duration::from_secs(2);
/// How long one lasts: another leader is chosen after four to nine seconds.
const MILLIS: std::ops::Range<u64> = 3_000..14_000;

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let mut random = scene.random();
    let pauses: Vec<_> = (0..runs).map(|_| Duration::from_millis(random.u64(MILLIS))).collect();
    scene.sell((BETWEEN + BACK) * (runs + 1) + pauses.iter().sum::<Duration>())?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.play_load()?;
    for (run, pause) in pauses.into_iter().enumerate() {
        scene.wait(BETWEEN)?;
        let leader = scene.whole_servers()?;
        let frozen = scene.servers()?.freeze(leader)?;
        scene.tally.injected += u64::from(frozen);
        scene.wait(pause)?;
        scene.servers()?.thaw(leader)?;
        scene.accepts_again()?;
        complain(format_args!("run {} of {runs}", run + 1));
    }
    scene.wait(BETWEEN)?;
    let leader = scene.whole_servers()?;
    complain(format_args!("server {leader} leads at the end"));
    scene.stop_load()
}
