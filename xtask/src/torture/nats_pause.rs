//! The stream's leader is stopped where it stands for some seconds, and goes on: another leads meanwhile, and the old one
//! must find out before it acknowledges anything. The control takes an answer that was lost for a success.

use std::time::Duration;

use super::leader::{self, Strike};
use super::scene::Scene;
use super::servers::Servers;
use super::{BYTES_MAX, Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-pause",
    runs: 8,
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

/// How long a pause lasts: another leader is chosen after four to nine seconds.
const MILLIS: std::ops::Range<u64> = 3_000..14_000;

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let strike = Strike {
        between: Duration::from_secs(2),
        back: Duration::from_secs(2),
        hit: Servers::freeze,
        end: Servers::thaw,
    };
    let mut random = scene.random();
    let runs = 0..scene.share.runs;
    let pauses: Vec<_> = runs.map(|_| Duration::from_millis(random.u64(MILLIS))).collect();
    leader::play(scene, &strike, &pauses)
}
