//! Measures Forebay against a baseline, both in one run and by turns, and holds the medians to the project's gates.
//!
//! Server and load share the machine, as they do on the two-core reference machine; figures of different machines and
//! different runs do not compare, ratios do.

mod accept;
mod gates;
pub mod hello;
mod journal;
mod load;
mod memory;
mod mixed;
mod nats;
mod oms;
mod outcomes;
mod place;
mod process;
mod protect;
mod recovery;
mod report;
mod service;
mod wrk;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::cargo::Workspace;
use crate::failure::{Failure, Result};
use crate::say::complain;
use load::Until;
use place::Place;
use report::Line;
use service::{NO_DRAIN, Setup};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Name {
    /// One order a request, beside a million pending, against the HTTP stack alone.
    Accept,
    /// A hundred orders a request.
    Batch,
    /// The embedded buffer without HTTP, against sled with its file synced.
    Journal,
    /// Accepting beside a drain, against accepting alone.
    Mixed,
    /// Bytes of memory a pending order, and the disk after the drain.
    Memory,
    /// From a start to ready, with a million pending.
    Recovery,
    /// The key table on three servers, against bare JetStream.
    Nats,
    /// What ended orders cost once their segment is gone: disk, memory, look-ups, storing, opening.
    Outcomes,
    /// Order summaries created in PostgreSQL and SQLite, against the same rows inserted by hand.
    Oms,
    /// Whoever reads in an order database during a burst through Forebay, against the same without a burst.
    Protect,
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured.
    pub name: Name,
    /// The largest sizes too: minutes to hours, tens of GiB of disk.
    pub full: bool,
    /// A few seconds on the debug build, with figures that mean nothing and no gates: does the bench still run?
    pub short: bool,
    /// One JSON object a line on stdout, instead of words.
    pub json: bool,
    /// A server to measure instead of what this workspace ships.
    pub server: Option<PathBuf>,
}

/// Spare slots: a measured round fits into them.
const RESERVE: u32 = 16;

/// What a bench works with.
struct Bench {
    plan: Plan,
    place: Place,
    /// Forebay's release binary.
    binary: PathBuf,
}

/// How long and how often is measured.
#[derive(Clone, Copy, Debug)]
struct Pace {
    runs: usize,
    warm: Duration,
    measured: Duration,
}

impl Pace {
    /// When a round ends: in time, or in the short form, which may meet a busy machine, after a few requests.
    fn until(&self, orders_per_request: u64) -> Until {
        if self.warm.is_zero() {
            return Until::Answered((600 / orders_per_request).max(20));
        }
        Until::Passed { warm: self.warm, measured: self.measured }
    }
}

impl Bench {
    fn pace(&self) -> Pace {
        if self.plan.short {
            return Pace { runs: 1, warm: Duration::ZERO, measured: Duration::from_millis(300) };
        }
        Pace { runs: 5, warm: Duration::from_millis(500), measured: Duration::from_secs(3) }
    }

    /// A store of its own, to accept into and nothing else.
    fn accepting(&self, name: &str) -> Result<Setup> {
        let (binary, dir) = (self.binary.clone(), self.place.directory(name)?);
        Ok(Setup {
            binary,
            dir,
            ceiling: Some(NO_DRAIN),
            batch: None,
            oms: "sqlite",
            oms_url: None,
            reserve: self.slots(RESERVE),
            nats: None,
        })
    }

    /// So many spare slots, or few of them, for they are filled ahead.
    fn slots(&self, slots: u32) -> u32 {
        if self.plan.short { 1 } else { slots }
    }

    /// A number of orders, or few of them.
    fn size(&self, orders: u64) -> u64 {
        if self.plan.short { orders / 1_000 } else { orders }
    }
}

/// Runs the plan; figures go to stdout.
///
/// # Errors
/// [`Failure::Missed`] if a gate is missed; [`Failure::Skipped`] without a disk or the room for it.
pub fn run(plan: &Plan) -> Result<()> {
    let workspace = Workspace::find()?;
    if cfg!(debug_assertions) && !plan.short {
        return in_release(&workspace, plan);
    }
    let binary = match &plan.server {
        Some(server) => server.clone(),
        None if plan.name == Name::Oms => PathBuf::new(),
        None if plan.short => workspace.debug_binary()?,
        None => workspace.shipped_binary()?,
    };
    let place = Place::make(&workspace.target, disk_bytes(plan))?;
    let bench = Bench { plan: plan.clone(), place, binary };
    let lines = match plan.name {
        Name::Accept => accept::accept(&bench)?,
        Name::Batch => accept::batch(&bench)?,
        Name::Journal => journal::run(&bench)?,
        Name::Mixed => mixed::run(&bench)?,
        Name::Memory => memory::run(&bench)?,
        Name::Recovery => recovery::run(&bench)?,
        Name::Nats => nats::run(&bench)?,
        Name::Outcomes => outcomes::run(&bench)?,
        Name::Oms => oms::run(&bench)?,
        Name::Protect => protect::run(&bench)?,
    };
    report::close(&lines, plan.json, !plan.short)
}

/// What a run needs at most.
fn disk_bytes(plan: &Plan) -> u64 {
    let gib = match plan {
        Plan { short: true, .. } => 4,
        Plan { full: true, .. } => 40,
        Plan { .. } => 16,
    };
    gib << 30
}

/// The load and the baselines are this crate's own code, which counts only when it is optimised: builds it so and
/// goes on as that.
fn in_release(workspace: &Workspace, plan: &Plan) -> Result<()> {
    let binary = workspace.release_xtask()?;
    let mut command = Command::new(binary);
    let name = clap::ValueEnum::to_possible_value(&plan.name);
    command.arg("bench").args(name.map(|name| name.get_name().to_owned()));
    for (flag, set) in [("--full", plan.full), ("--json", plan.json)] {
        if set {
            command.arg(flag);
        }
    }
    if let Some(server) = &plan.server {
        command.arg("--server").arg(server);
    }
    Err(Failure::broken("running the release build of xtask", command.exec()))
}

/// Progress, for people.
fn tell(what: impl std::fmt::Display) {
    complain(format_args!("bench: {what}"));
}
