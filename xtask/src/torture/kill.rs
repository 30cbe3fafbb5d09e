//! `kill -9` at random moments: what was acknowledged had reached the kernel. Its control gathers writes in
//! memory and so loses what a killed process had not handed over.

use super::report::{Tally, loss};
use super::scene::Scene;
use super::strike;
use super::{SMALL_SLOTS, Torture, WriteMode};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "kill",
    runs: 20,
    control: "late-write",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: None,
    modes: &WriteMode::ALL,
    oms_inside: true,
    knobs: SMALL_SLOTS,
    play,
    missed: |tally: &Tally, control| loss(tally, control),
};

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let strikes = strike::schedule(scene.share.runs, scene.control(), &mut scene.random());
    strike::all(scene, &strikes)
}
