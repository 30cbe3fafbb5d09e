//! The power of the disk is cut, at random moments, in the first second, and at what the server writes when it changes
//! segments, retires one, settles orders, recovers: what was acknowledged had been synced. Its control leaves the syncs out.

use std::time::Duration;

use super::aim::{self, Aim};
use super::report::{Tally, loss};
use super::scene::Scene;
use super::strike::{self, Moment, Strike};
use super::{SMALL_SLOTS, Torture, WriteMode};
use crate::failure::Result;

pub(super) const TORTURE: Torture = Torture {
    name: "power-cut",
    runs: 40,
    control: "no-sync",
    ledger_control: None,
    ceiling_control: None,
    // Only what is written takes memory.
    disk: Some(4 << 30),
    cluster: None,
    modes: &WriteMode::ALL,
    oms_inside: true,
    knobs: SMALL_SLOTS,
    play,
    missed,
};

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut random = scene.random();
    let mut strikes = strike::schedule(scene.share.runs, scene.control(), &mut random);
    // Unsynced, the control's writes reach the disk whenever the kernel likes.
    if !scene.control() {
        for (run, strike) in (0..).zip(&mut strikes) {
            take_aim(strike, scene.share.nth(run), &mut random);
        }
    }
    for name in AIMS.map(Aim::counted_as) {
        scene.tally.count(name, 0);
    }
    let early = |strike: &&Strike| matches!(strike.at, Moment::After(after) if after < FIRST);
    scene.tally.count("cuts_in_first_second", strikes.iter().filter(early).count() as u64);
    strike::all(scene, &strikes)
}

const AIMS: [Aim; 4] = [Aim::SegmentChange, Aim::Retirement, Aim::Drain, Aim::Recovery];
const FIRST: Duration = Duration::from_secs(1);
/// Requests to the disk that may still be performed behind the one aimed at: none, its sync, or a little more.
const LATER_MAX: u32 = 3;

/// Aims most of the cuts, each fifth at another thing, by its number among those of all shares.
fn take_aim(strike: &mut Strike, nth: u32, random: &mut fastrand::Rng) {
    let mut at = |aim| Moment::At(aim, random.u32(0..=LATER_MAX));
    match nth % 5 {
        1 => strike.at = at(Aim::SegmentChange),
        2 => strike.at = at(Aim::Retirement),
        3 => strike.at = at(Aim::Drain),
        4 => strike.again = Some(at(Aim::Recovery)),
        _ => strike.at = Moment::After(Duration::from_millis(random.u64(50..1000))),
    }
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if tally.count_of("dropped_sectors") == 0 {
        missed.push("no cut dropped a sector".to_owned());
    }
    if tally.count_of(aim::MISSED) > 0 {
        missed.push(format!("{} cuts never met what they aimed at", tally.count_of(aim::MISSED)));
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
        tally.count(aim::MISSED, 1);
        assert!(!missed(&tally, false).is_empty());
    }

    #[test]
    fn the_cuts_of_all_shares_together_aim_at_everything() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut strikes = strike::schedule(40, false, &mut random);
        for (run, strike) in (0..).zip(&mut strikes) {
            take_aim(strike, run + 1, &mut random);
        }
        let aimed = |moment: Moment| match moment {
            Moment::At(aim, _) => Some(aim),
            Moment::After(_) => None,
        };
        for aim in AIMS {
            let at = strikes.iter().flat_map(|s| [Some(s.at), s.again]).flatten();
            assert_eq!(at.filter_map(aimed).filter(|a| *a == aim).count(), 8, "{aim:?}");
        }
        let early = strikes.iter().filter(|s| matches!(s.at, Moment::After(a) if a < FIRST));
        assert!(early.count() >= 8);
    }
}
