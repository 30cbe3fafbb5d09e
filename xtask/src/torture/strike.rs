//! Runs whose fault ends the server: when they strike, all from one seed, and the strikes themselves.

use std::time::Duration;

use super::aim::Aim;
use super::scene::Scene;
use crate::failure::Result;
use crate::say::complain;

/// One run: load, a fault, and perhaps a second one while the server starts again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strike {
    /// When the fault strikes, from when the load goes on.
    pub(super) at: Moment,
    /// When it strikes again, from the next start: in recovery or soon after it.
    pub(super) again: Option<Moment>,
    /// Probability with which an unsynced sector survives a power cut.
    pub(super) survival: f64,
}

/// When a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Moment {
    /// After so long.
    After(Duration),
    /// When the server writes what it aims at, and so many requests to the disk later.
    At(Aim, u32),
}

impl Moment {
    /// About how long it is until then.
    fn lasts(self) -> Duration {
        match self {
            Self::After(after) => after,
            Self::At(..) => AIM_LASTS,
        }
    }
}

/// About how long it takes until the server does what is aimed at.
const AIM_LASTS: Duration = Duration::from_secs(3);

/// What the disk does with unsynced sectors, in turn: all gone, torn writes, all there.
const SURVIVALS: [f64; 3] = [0.0, 0.5, 1.0];

/// Faults at 0.2 to 3 s, every fourth in the first second (not a control's, which has little to lose then). Every third run
/// has a second one within the first second after the start, in turn in the first 150 ms, where recovery is, and in the
/// second.
pub(super) fn schedule(runs: u32, control: bool, random: &mut fastrand::Rng) -> Vec<Strike> {
    // A kind disk can show no loss, so a control does without it.
    let survivals = if control { 2 } else { SURVIVALS.len() };
    (0..runs)
        .zip(SURVIVALS.iter().take(survivals).cycle())
        .map(|(run, survival)| Strike {
            at: Moment::After(Duration::from_millis(match run % 4 {
                0 if !control => random.u64(50..1000),
                _ => random.u64(200..3000),
            })),
            again: (run % 3 == 1).then(|| {
                let limit = if run % 6 == 1 { 150 } else { 1000 };
                Moment::After(Duration::from_millis(random.u64(0..limit)))
            }),
            survival: *survival,
        })
        .collect()
}

/// Sells over all the strikes and starts the server again after each; it runs when this is over, unless the
/// store did not open.
pub(super) fn all(scene: &mut Scene<'_>, strikes: &[Strike]) -> Result<()> {
    let lasts =
        |strike: &Strike| strike.at.lasts() + strike.again.map(Moment::lasts).unwrap_or_default();
    let lasting: Duration = strikes.iter().map(lasts).sum();
    scene.sell(lasting + Duration::from_secs(1))?;
    let mut running = scene.start(&[])?;
    for (run, strike) in strikes.iter().enumerate() {
        if !running {
            return Ok(());
        }
        scene.play_load()?;
        scene.wait_for(strike.at)?;
        scene.strike(strike.survival)?;
        if let Some(again) = strike.again {
            scene.start_and_strike(again, strike.survival)?;
        }
        running = scene.start(&[])?;
        complain(format_args!("run {} of {}", run + 1, strikes.len()));
    }
    let (injected, faults) = (scene.tally.injected, count(strikes));
    if injected < faults {
        complain(format_args!("{injected} of {faults} faults hit a server"));
    }
    Ok(())
}

/// How many faults a schedule holds.
fn count(strikes: &[Strike]) -> u64 {
    strikes.iter().map(|strike| 1 + u64::from(strike.again.is_some())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_strikes_at_the_same_moments() {
        let of = |seed| schedule(20, false, &mut fastrand::Rng::with_seed(seed));
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
    }

    #[test]
    fn moments_and_disks_are_as_promised() {
        let strikes = schedule(30, false, &mut fastrand::Rng::with_seed(9));
        let ms = |moment: Moment| moment.lasts().as_millis();
        assert!(strikes.iter().all(|strike| (50..3000).contains(&ms(strike.at))));
        assert!(strikes.iter().step_by(4).all(|strike| ms(strike.at) < 1000));
        for survival in SURVIVALS {
            assert_eq!(strikes.iter().filter(|strike| strike.survival == survival).count(), 10);
        }
        assert_eq!(count(&strikes), 40);
        let again: Vec<_> = strikes.iter().filter_map(|strike| strike.again).collect();
        assert!(again.iter().any(|again| ms(*again) < 150));
        assert!(again.iter().all(|again| ms(*again) < 1000));
    }

    #[test]
    fn a_control_has_no_kind_disk() {
        let strikes = schedule(9, true, &mut fastrand::Rng::with_seed(9));
        assert!(strikes.iter().all(|strike| strike.survival < 1.0));
    }
}
