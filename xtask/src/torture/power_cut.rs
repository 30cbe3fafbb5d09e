//! The power of the disk is cut at random moments: what was acknowledged had been synced. Its control leaves the
//! syncs out.

use super::report::{Tally, loss};
use super::scene::Scene;
use super::strike;
use super::{SMALL_SLOTS, Torture, WriteMode};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "power-cut",
    runs: 40,
    control: "no-sync",
    ledger_control: None,
    // Only what is written takes memory.
    disk: Some(4 << 30),
    modes: &WriteMode::ALL,
    oms_inside: true,
    knobs: SMALL_SLOTS,
    play,
    missed,
};

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let strikes = strike::schedule(scene.share.runs, scene.control(), &mut scene.random());
    strike::all(scene, &strikes)
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.count_of("dropped_sectors") == 0 {
        missed.push("no cut dropped a sector".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_that_dropped_nothing_prove_nothing() {
        let mut tally = Tally { acknowledged: 9, found: 9, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty());
        tally.count("dropped_sectors", 4);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
    }
}
