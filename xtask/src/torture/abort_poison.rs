//! An order that kills the process inside the OMS call, in the midst of others: within three restarts it is set
//! aside as exception `poison`, and every other order is created once. The control does not count the deaths, and
//! must never get past it.

use std::os::unix::process::ExitStatusExt as _;

use forebay_loadtest::Target;

use super::orders::{Order, creates, exceptions, summaries, text, until};
use super::report::Tally;
use super::scene::Scene;
use super::{Torture, WriteMode};
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "abort-poison",
    runs: 5,
    control: "no-deaths",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: None,
    modes: &WriteMode::ALL,
    oms_inside: false,
    knobs: super::SMALL_SLOTS,
    play,
    missed,
};

/// Orders around each poisonous one.
const OTHERS: usize = 60;
/// Deaths after which it should have been set aside.
const DEATHS_MAX: u64 = 3;
/// Bytes of an order.
const BYTES: usize = 400;
/// The OMS aborts on it; orders wait a little before they are drained, so that all are in before the first death.
const KNOBS: &str = "abort_on = \"poison\"\n[channels.forebay]\nformat = \"forebay\"\ncaller = \"api\"\n\
                     source = \"demo\"\nhold_for = \"1s\"\n";

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let config = scene.setup().config.clone();
    let knobs = std::fs::read_to_string(&config).when("reading forebay.toml")?;
    std::fs::write(&config, knobs + KNOBS).when("writing forebay.toml")?;
    let mut random = scene.random();
    let (mut others, mut poisons) = (Vec::new(), Vec::new());
    for run in 0..scene.share.runs {
        let Some(target) = scene.open(&[])? else { return Ok(()) };
        let poison_at = random.usize(0..OTHERS);
        for at in 0..OTHERS {
            if at == poison_at {
                let poison = Order::new(format!("poison-{run}"), BYTES, &mut random);
                poison.accepted(target)?;
                poisons.push(poison);
            }
            let other = Order::new(format!("good-{run}-{at}"), BYTES, &mut random);
            other.accepted(target)?;
            others.push(other);
        }
        scene.tally.acknowledged += OTHERS as u64 + 1;
        let Some(target) = isolated(scene, target, poisons.last())? else {
            scene.tally.count("never_isolated", 1);
            return Ok(());
        };
        scene.drained(target)?;
        complain(format_args!("run {} of {}", run + 1, scene.share.runs));
        if run + 1 == scene.share.runs {
            account(scene, target, &others, &poisons)?;
        }
        scene.stop()?;
    }
    Ok(())
}

/// Starts the server again after each death until the order is set aside: where it answers then. `None` if that
/// takes more deaths than it may.
fn isolated(
    scene: &mut Scene<'_>,
    mut target: Target,
    poison: Option<&Order>,
) -> Result<Option<Target>> {
    let identity = poison.map(Order::identity).unwrap_or_default();
    let mut deaths = 0;
    loop {
        let mut died = None;
        until("its isolation", || {
            died = scene.server()?.ended()?;
            // A dead server answers nothing, and dies perhaps while it is asked.
            let rows =
                if died.is_none() { exceptions(target).unwrap_or_default() } else { Vec::new() };
            let aside = rows
                .iter()
                .any(|row| text(row, "key") == identity && text(row, "category") == "poison");
            Ok(died.is_some() || aside)
        })?;
        let Some(status) = died else {
            scene.tally.peak("restarts_at_most", deaths as f64);
            return Ok(Some(target));
        };
        if status.signal() != Some(rustix::process::Signal::ABORT.as_raw()) {
            return Err(Failure::Missed(format!("it ended with {status}, not by abort")));
        }
        scene.tally.injected += 1;
        deaths += 1;
        if deaths > DEATHS_MAX + 2 {
            // It is dead, and there is nothing to account for.
            scene.kill()?;
            return Ok(None);
        }
        let Some(again) = scene.open(&[])? else { return Ok(None) };
        target = again;
    }
}

/// Every other order is in the OMS once, and no poisonous one.
fn account(
    scene: &mut Scene<'_>,
    target: Target,
    others: &[Order],
    poisons: &[Order],
) -> Result<()> {
    let summaries = summaries(target)?;
    for other in others {
        match summaries.get(&other.identity()) {
            None => scene.tally.lost += 1,
            Some(summary) => {
                scene.tally.found += 1;
                scene.tally.doubled += u64::from(creates(summary) > 1);
            }
        }
    }
    for poison in poisons {
        let state = poison.view(target)?;
        let aside = state.is_some_and(|view| text(&view, "state") == "exception");
        let created = summaries.contains_key(&poison.identity());
        scene.tally.found += u64::from(aside);
        if !aside || created {
            scene.tally.broken.push(format!("{} is not set aside", poison.id));
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a handful of restarts")]
fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let never = tally.count_of("never_isolated");
    let mut missed = Vec::new();
    if tally.open_failures > 0 {
        missed.push(format!("{} starts did not open the store", tally.open_failures));
    }
    if control {
        if never == 0 {
            missed.push("the control set the order aside, so the runs prove nothing".to_owned());
        }
        return missed;
    }
    if never > 0 {
        missed.push(format!("{never} orders went on killing the process"));
    }
    if tally.peaks.get("restarts_at_most").is_some_and(|most| *most > DEATHS_MAX as f64) {
        missed.push(format!("it took more than {DEATHS_MAX} restarts"));
    }
    if tally.lost > 0 || tally.doubled > 0 {
        missed.push(format!("{} lost, {} doubled", tally.lost, tally.doubled));
    }
    missed.extend(tally.broken.iter().cloned());
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_never_set_aside_is_missed_and_its_control_is_met() {
        let mut tally = Tally { acknowledged: 9, injected: 3, ..Tally::default() };
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        tally.peak("restarts_at_most", 4.0);
        assert!(!missed(&tally, false).is_empty(), "too many restarts");
        tally.count("never_isolated", 1);
        assert_eq!(missed(&tally, true), Vec::<String>::new());
    }
}
