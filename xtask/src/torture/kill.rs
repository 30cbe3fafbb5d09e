//! `kill -9` at random moments: what was acknowledged had reached the kernel. Its control gathers writes in
//! memory and so loses what a killed process had not handed over.

use super::report::{Tally, loss};
use super::scene::Scene;
use super::strike;
use super::{SMALL_SLOTS, Torture};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "kill",
    runs: 20,
    control: "late-write",
    disk: None,
    buffer: SMALL_SLOTS,
    play,
    missed: |tally: &Tally, control| loss(tally, control),
};

fn play(scene: &mut Scene<'_>, runs: u32) -> Result<()> {
    let strikes = strike::schedule(runs, scene.control(), &mut scene.random());
    strike::all(scene, &strikes)
}
