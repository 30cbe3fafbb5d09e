//! Kills the real server, or cuts its disk's power, again and again under load, and then accounts for
//! every order. Each kind has a control that must lose, or the runs prove nothing.

mod interrupt;
mod load;
mod report;
mod scene;
mod server;
mod strike;

use std::path::PathBuf;

use crate::cargo::Workspace;
use crate::failure::{Failure, Result};
use crate::say::{complain, say};
use crate::volatile_disk;
use interrupt::Interrupt;
use report::Report;
use scene::Scene;

/// The control build in which the journal's sync does nothing.
const NO_SYNC: &str = "no-sync";

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`: what reached the kernel stays.
    Kill,
    /// The power of its disk is cut: what was not synced is gone or torn.
    PowerCut,
}

impl Fault {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
        }
    }
}

/// The order management system the server drains into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oms {
    /// The embedded default, whose unique key refuses a second create.
    Sqlite,
    /// Append-only, and it cuts answers after the commit: a second create is possible and counted.
    Ledger,
}

impl Oms {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Ledger => "ledger",
        }
    }
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What happens to the server.
    pub fault: Fault,
    /// How often, shared out among the OMSs.
    pub runs: u32,
    /// Take the promise away; then acknowledged orders must be lost.
    pub control: bool,
    /// The OMSs, each with a store of its own.
    pub oms: Vec<Oms>,
    /// Deliveries a second.
    pub rate: f64,
    /// What everything random follows from.
    pub seed: u64,
}

impl Plan {
    /// 20 runs at 2,000 orders a second, on both OMSs.
    pub fn new(fault: Fault) -> Self {
        let oms = vec![Oms::Sqlite, Oms::Ledger];
        Self { fault, runs: 20, control: false, oms, rate: 2000.0, seed: 1 }
    }

    fn mode(&self) -> &'static str {
        match (self.fault, self.control) {
            (_, false) => "synced",
            (Fault::PowerCut, true) => "control: no sync",
            (Fault::Kill, true) => "control: directory put back after every second kill",
        }
    }
}

/// Runs the plan; the last line on stdout is the report as one JSON object.
///
/// # Errors
/// [`Failure::Missed`] if an order was lost or doubled, a store did not open, or a control lost
/// nothing; [`Failure::Skipped`] if there can be no volatile disk here.
pub fn run(plan: &Plan) -> Result<()> {
    if plan.runs == 0 || plan.oms.is_empty() || plan.rate.is_nan() || plan.rate < 1.0 {
        return Err(Failure::Usage("runs, OMSs and rate must be at least 1".to_owned()));
    }
    if let (Fault::PowerCut, Some(why)) = (plan.fault, volatile_disk::missing_means()) {
        return Err(Failure::Skipped(why));
    }
    let binary = binary(plan)?;
    let interrupt = Interrupt::listen()?;
    let mut report = Report::new(plan);
    for (index, (oms, runs)) in shares(plan).into_iter().enumerate() {
        let seed = plan.seed.wrapping_add(index as u64);
        complain(format_args!(
            "{} {} on {}: {runs} runs",
            plan.fault.name(),
            plan.mode(),
            oms.name()
        ));
        let mut scene = Scene::set(plan, oms, runs, seed, binary.clone(), &interrupt)?;
        let tally = match scene.play() {
            Ok(tally) => tally,
            Err(failure) => {
                complain(scene.log_tail());
                return Err(failure);
            }
        };
        complain(format_args!("{}: {tally:?}", oms.name()));
        report.add(&tally);
        scene.take_apart()?;
    }
    say(serde_json::to_string(&report).unwrap_or_default());
    report.judge(plan)
}

/// How many runs each OMS gets: as even as can be, and none gets none.
fn shares(plan: &Plan) -> Vec<(Oms, u32)> {
    let count = u32::try_from(plan.oms.len()).unwrap_or(1).max(1);
    (0..count)
        .zip(&plan.oms)
        .map(|(index, oms)| (*oms, plan.runs / count + u32::from(index < plan.runs % count)))
        .filter(|(_, runs)| *runs > 0)
        .collect()
}

fn binary(plan: &Plan) -> Result<PathBuf> {
    let workspace = Workspace::find()?;
    match (plan.fault, plan.control) {
        (Fault::PowerCut, true) => workspace.control_binary(NO_SYNC),
        _ => workspace.release_binary(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_shared_out_evenly() {
        let plan = Plan { runs: 5, ..Plan::new(Fault::Kill) };
        assert_eq!(shares(&plan), [(Oms::Sqlite, 3), (Oms::Ledger, 2)]);
        let one = Plan { runs: 1, ..plan };
        assert_eq!(shares(&one), [(Oms::Sqlite, 1)]);
    }
}
