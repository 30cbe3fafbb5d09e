//! The stream's leader is killed (`kill -9`) again and again under load, and comes back before the next time: what was
//! acknowledged is on two of three servers. The control takes an answer that was lost for a success.

use std::time::Duration;

use super::leader::{self, Strike};
use super::scene::Scene;
use super::servers::Servers;
use super::{BYTES_MAX, Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-kill",
    runs: 12,
    control: "lost-is-done",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 1000.0, ceiling_per_s: 500, wired: 0, bytes_max: BYTES_MAX }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed: leader::missed,
};

/// How long the killed one stays away.
const AWAY: Duration = Duration::from_secs(1);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let strike = Strike {
        between: Duration::from_secs(5),
        back: Duration::from_secs(4),
        hit: Servers::kill,
        end: Servers::run,
    };
    let away: Vec<_> = (0..scene.share.runs).map(|_| AWAY).collect();
    leader::play(scene, &strike, &away)
}
