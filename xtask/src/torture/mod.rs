//! Strikes the real server under load, again and again, and then accounts for every order. Each kind has a
//! control that must show the loss, or the runs prove nothing.
//!
//! One small module a kind; they share the scene (store, disk, server, load), the account and the report.
//! `kind.rs` lists them, `plan.rs` shares runs out.

mod abort_poison;
mod acceptance;
mod aim;
mod balancer;
mod ballast;
mod bit_flip;
mod ceiling;
mod configuration;
mod copy;
mod damage;
mod disk_full;
mod fleet;
mod index_loss;
mod interrupt;
mod kill;
mod kind;
mod leader;
mod load;
mod migrate;
mod nats_full;
mod nats_kill;
mod nats_partition;
mod nats_pause;
mod nats_power_cut;
mod network;
mod oms_kill;
mod orders;
mod plan;
mod power_cut;
mod probe;
mod reference;
mod report;
mod rolling;
mod scene;
mod server;
mod servers;
mod stall;
mod strike;
mod sync_error;
mod tamper;
mod wire;
mod witness;
mod worker;

use std::path::PathBuf;

use crate::cargo::Workspace;
use crate::failure::{Failure, Result};
use crate::say::{complain, say};
use interrupt::Interrupt;
use kind::{BYTES_MAX, Cluster, NATS, SMALL_SLOTS, Torture};
use plan::{Part, Share, shares};
use report::{Report, Tally};
use scene::Scene;

pub use kind::{EVERY_STEP, Fault};
pub use plan::{Oms, Plan, WriteMode};

/// Runs the plan; the last line on stdout is the report as one JSON object.
///
/// # Errors
/// [`Failure::Missed`] if an order was lost or doubled, a store did not open, or a control showed
/// nothing; [`Failure::Skipped`] if a means is missing here.
pub fn run(plan: &Plan) -> Result<()> {
    if plan.runs == 0 || plan.oms.is_empty() || plan.rate.is_nan() || plan.rate < 1.0 {
        return Err(Failure::Usage("runs, OMSs and rate must be at least 1".to_owned()));
    }
    if plan.next_binary.is_some() && !matches!(plan.fault, Fault::Rolling | Fault::OmsKill) {
        let only = "only rolling and oms-kill start another server";
        return Err(Failure::Usage(only.to_owned()));
    }
    if let Some(why) = plan.fault.missing_means() {
        return Err(Failure::Skipped(why));
    }
    let oms: Vec<_> = plan.oms.iter().copied().filter(|oms| plan.fault.is_for(*oms)).collect();
    if oms.is_empty() {
        return Err(Failure::Usage(format!("{} is not for that OMS", plan.fault.name())));
    }
    let plan = &Plan { oms, ..plan.clone() };
    let binary = binary(plan)?;
    let interrupt = Interrupt::listen()?;
    let mut tallies: Vec<(Part, Tally)> = Vec::new();
    for share in shares(plan) {
        complain(format_args!("{} ({}), {share:?}", plan.fault.name(), plan.mode()));
        let part = Part::of(plan, share);
        let mut scene = Scene::set(plan, share, binary.clone(), &interrupt)?;
        let shown = match scene.play() {
            Ok(shown) => shown,
            Err(failure) => {
                complain(scene.log_tail());
                return Err(failure);
            }
        };
        complain(format_args!("{shown:?}"));
        match tallies.iter_mut().find(|(of, _)| *of == part) {
            Some((_, tally)) => tally.add(&shown),
            None => tallies.push((part, shown)),
        }
        scene.take_apart()?;
    }
    say(serde_json::to_string(&Report::new(plan, &tallies)).unwrap_or_default());
    report::judge(plan, &tallies)
}

fn binary(plan: &Plan) -> Result<PathBuf> {
    if let Some(binary) = &plan.binary {
        return Ok(binary.clone());
    }
    let workspace = Workspace::find()?;
    if plan.control { workspace.control_binary() } else { workspace.release_binary() }
}
