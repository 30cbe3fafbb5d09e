//! Strikes the real server under load, again and again, and then accounts for every order. Each kind has a
//! control that must show the loss, or the runs prove nothing.
//!
//! One small module a kind; they share the scene (store, disk, server, load), the account and the report.

mod interrupt;
mod kill;
mod load;
mod power_cut;
mod report;
mod scene;
mod server;
mod strike;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cargo::Workspace;
use crate::failure::{Failure, Result};
use crate::say::{complain, say};
use crate::volatile_disk;
use interrupt::Interrupt;
use report::{Report, Tally};
use scene::Scene;

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// `kill -9`: what reached the kernel stays.
    Kill,
    /// The power of its disk is cut: what was not synced is gone or torn (root, Linux).
    PowerCut,
}

impl Fault {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.torture().name
    }

    fn torture(self) -> &'static Torture {
        match self {
            Self::Kill => &kill::TORTURE,
            Self::PowerCut => &power_cut::TORTURE,
        }
    }

    /// Says why it cannot strike here, if so.
    pub fn missing_means(self) -> Option<String> {
        self.torture().disk.and_then(|_| volatile_disk::missing_means())
    }
}

/// One kind of torture.
#[derive(Debug)]
struct Torture {
    name: &'static str,
    /// Runs where nobody says how many.
    runs: u32,
    /// The promise the control build breaks (`FOREBAY_CONTROL`).
    control: &'static str,
    /// Bytes of the volatile disk the store is on; without one it is in an ordinary directory.
    disk: Option<u64>,
    /// Lines of the configuration's `[buffer]` section.
    buffer: &'static str,
    /// Sells and strikes, so many runs of the plan; leaves the server running for the account.
    play: fn(&mut Scene<'_>, u32) -> Result<()>,
    /// What is not as promised, or proves nothing; of a control, what it failed to show.
    missed: fn(&Tally, control: bool) -> Vec<String>,
}

/// Small slots, so that segments are filled, retired and used again within a run.
const SMALL_SLOTS: &str = "slot_bytes = \"4MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n";

/// How the server writes its journal (`buffer.write_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteMode {
    /// Direct where the file system can.
    Auto,
    /// One synchronous write past the page cache.
    Direct,
    /// A write and a sync.
    Buffered,
}

impl WriteMode {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Direct => "direct",
            Self::Buffered => "buffered",
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
    /// Take the promise away; then the runs must show it.
    pub control: bool,
    /// The OMSs, each with a store of its own.
    pub oms: Vec<Oms>,
    /// Deliveries a second.
    pub rate: f64,
    /// What everything random follows from.
    pub seed: u64,
    /// How the server writes.
    pub write_mode: WriteMode,
}

impl Plan {
    /// The kind's own number of runs at 2,000 orders a second, on both OMSs.
    pub fn new(fault: Fault) -> Self {
        let oms = vec![Oms::Sqlite, Oms::Ledger];
        let (runs, write_mode) = (fault.torture().runs, WriteMode::Auto);
        Self { fault, runs, control: false, oms, rate: 2000.0, seed: 1, write_mode }
    }

    fn mode(&self) -> String {
        match self.control {
            false => format!("synced, {} writes", self.write_mode.name()),
            true => {
                let control = self.fault.torture().control;
                format!("control: {control}, {} writes", self.write_mode.name())
            }
        }
    }
}

/// Runs the plan; the last line on stdout is the report as one JSON object.
///
/// # Errors
/// [`Failure::Missed`] if an order was lost or doubled, a store did not open, or a control showed
/// nothing; [`Failure::Skipped`] if a means is missing here.
pub fn run(plan: &Plan) -> Result<()> {
    if plan.runs == 0 || plan.oms.is_empty() || plan.rate.is_nan() || plan.rate < 1.0 {
        return Err(Failure::Usage("runs, OMSs and rate must be at least 1".to_owned()));
    }
    if let Some(why) = plan.fault.missing_means() {
        return Err(Failure::Skipped(why));
    }
    let binary = binary(plan)?;
    let interrupt = Interrupt::listen()?;
    let mut tally = Tally::default();
    for (index, (oms, runs)) in shares(plan).into_iter().enumerate() {
        let seed = plan.seed.wrapping_add(index as u64);
        complain(format_args!(
            "{} ({}) on {}: {runs} runs",
            plan.fault.name(),
            plan.mode(),
            oms.name()
        ));
        let mut scene = Scene::set(plan, oms, seed, binary.clone(), &interrupt)?;
        let shown = match scene.play(runs) {
            Ok(shown) => shown,
            Err(failure) => {
                complain(scene.log_tail());
                return Err(failure);
            }
        };
        complain(format_args!("{}: {shown:?}", oms.name()));
        tally.add(&shown);
        scene.take_apart()?;
    }
    say(serde_json::to_string(&Report::new(plan, &tally)).unwrap_or_default());
    report::judge(plan, &tally)
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
    if plan.control { workspace.control_binary() } else { workspace.release_binary() }
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

    #[test]
    fn a_kind_s_name_on_the_command_line_is_its_name_in_reports() {
        for fault in Fault::value_variants() {
            let value = fault.to_possible_value().unwrap();
            assert_eq!(value.get_name(), fault.name());
        }
    }
}
