//! The server dies between the OMS's commit and the durable settle. Every second time by `kill -9` within some milliseconds after the
//! OMS's file was written to, or its database told of new rows; of these every third time the database crashes with it. The other
//! times a control build that breaks no promise ends itself at one of the steps there, each in its turn, on the same store; the
//! server as it is released recovers from both. Each order is in the OMS once, by a ledger that Forebay does not write; what was
//! committed is found there and not sent again. In the control what was lent is forgotten at the start: an OMS that refuses no second
//! create must have doubles, and one that does must have refused some. Each OMS is judged by itself.

mod commits;
mod step;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use forebay_buffer::step::Step;
use rustix::process::Signal;

use super::acceptance::SET_ASIDE;
use super::probe;
use super::report::{Tally, doubles};
use super::scene::Scene;
use super::server::{ANSWER_LIMIT, get};
use super::witness::{IN_LEDGER, REFUSED_AGAIN, Witness};
use super::{Oms, Torture, WriteMode};
use crate::cargo::Workspace;
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;
use commits::Commits;
use step::{comes_after_a_death, counted_as, of_run};

pub(super) const TORTURE: Torture = Torture {
    name: "oms-kill",
    runs: 1_000,
    control: "forgotten-loans",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: None,
    modes: &[WriteMode::Direct],
    oms_inside: false,
    knobs: KNOBS,
    play,
    missed,
};

/// Outcomes are kept longer than the sale's orders are old, or an OMS that refuses no second create is asked before anything is sent, and
/// none could be doubled by forgetting what was lent.
const KNOBS: &str = "dedup_horizon = \"3650d\"\nslot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
                     [door]\nitem_bytes = \"512KiB\"\n";

/// At least how long the load plays in one run, on a busy machine too.
const RUN: Duration = Duration::from_millis(700);
/// How long a server serves before it is killed at its next commit.
const SERVED_MS: std::ops::Range<u64> = 0..150;
/// From a commit to the kill: what is settled takes a few milliseconds.
const AFTER_COMMIT_US: std::ops::Range<u64> = 0..1_500;
/// How often a process is at its step before it ends there.
const BEFORE: std::ops::Range<u32> = 0..8;
/// How long it may take until a process ends at its step.
const END_LIMIT: Duration = Duration::from_secs(30);
/// How long a start may take to look up what may have been sent before.
const LOOK_UP_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at what comes by no event.
const LOOK: Duration = Duration::from_millis(5);
/// What a dead process has sent to the reference OMS is done by then. It is told before a start and not as its `visible_after`,
/// which each order would wait for that was lent, one after the other.
const ARRIVED: Duration = Duration::from_millis(400);

/// Orders that a start found in the OMS, whose process was killed before it had settled them.
const FOUND: &str = "found_committed";
/// Kills at random, and from how many of one OMS on some must have come in time; a few may all be too late.
const KILLED: &str = "killed_at_random";
const KILLS_JUDGED: u64 = 24;
/// As [`FOUND`], of one that ended at a step.
const FOUND_AFTER_STEP: &str = "found_after_a_step";
/// Processes that did not come to their step.
const STEPS_MISSED: &str = "steps_missed";
const DATABASE_CRASHED: &str = "database_crashed";

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let ending = ending_binary(scene)?;
    let mut random = scene.random();
    scene.sell(RUN * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.witness = Some(Witness::call(scene)?);
    let mut commits = Commits::watch(scene)?;
    for run in 0..runs {
        scene.play_load()?;
        scene.wait(Duration::from_millis(random.u64(SERVED_MS)))?;
        // In the control nothing is looked up.
        let step = of_run(run).filter(|step| !scene.control() || !comes_after_a_death(*step));
        match step {
            None => {
                commits.next(scene.interrupt())?;
                // Every second one at once.
                if run % 4 == 2 {
                    scene.wait(Duration::from_micros(random.u64(AFTER_COMMIT_US)))?;
                }
                scene.strike(1.0)?;
                scene.tally.count(KILLED, 1);
                if run % 3 == 2 && scene.share.oms == Oms::Postgres {
                    // Not before the server is dead: that takes longer than a settle.
                    scene.database()?.crash().when("crashing PostgreSQL")?;
                    scene.database()?.run(&[]).when("starting PostgreSQL again")?;
                    scene.tally.count(DATABASE_CRASHED, 1);
                    commits = Commits::watch(scene)?;
                }
            }
            Some(step) => {
                // In order: an order that three processes died with is set aside, and rightly so.
                scene.stop()?;
                scene.load()?.stop()?;
                if comes_after_a_death(step) {
                    end_at(scene, Step::Committed, random.u32(BEFORE), &ending)?;
                }
                let before = if comes_after_a_death(step) { 0 } else { random.u32(BEFORE) };
                let met = end_at(scene, step, before, &ending)?;
                scene.tally.injected += u64::from(met);
            }
        }
        arrive(scene)?;
        if !scene.start(&[])? {
            return Ok(());
        }
        looked_up(scene)?;
        count_found(scene, if step.is_none() { FOUND } else { FOUND_AFTER_STEP })?;
        if run % 50 == 49 {
            complain(format_args!("run {} of {runs}", run + 1));
        }
    }
    let target = scene.target()?;
    scene.count_set_aside(target)
}

/// The control build that ends itself where it is told to.
fn ending_binary(scene: &Scene<'_>) -> Result<std::path::PathBuf> {
    let plan = scene.plan();
    match (&plan.next_binary, &plan.binary) {
        (Some(binary), _) => Ok(binary.clone()),
        (None, Some(binary)) if plan.control => Ok(binary.clone()),
        _ => Workspace::find()?.control_binary(),
    }
}

/// Starts a process that ends itself at that step, under load as soon as it is ready. Says whether it did.
fn end_at(scene: &mut Scene<'_>, step: Step, before: u32, ending: &Path) -> Result<bool> {
    arrive(scene)?;
    let mut setup = scene.setup().clone();
    setup.binary = ending.to_owned();
    setup.environment.push(("FOREBAY_ENDS_AT", format!("{}:{before}", step.name())));
    let mut server = setup.spawn(&[])?;
    let watch = Stopwatch::start();
    let mut playing = false;
    let ended = loop {
        if let Some(ended) = server.ended()? {
            break Some(ended);
        }
        if watch.left_of(END_LIMIT).is_zero() {
            break None;
        }
        if !playing && let Some(target) = server.ready_now()? {
            scene.load()?.start(target)?;
            playing = true;
        }
        scene.wait(LOOK)?;
    };
    drop(server);
    scene.load()?.stop()?;
    let aborted = |ended: ExitStatus| ended.signal() == Some(Signal::ABORT.as_raw());
    let met = ended.is_some_and(aborted);
    scene.tally.count(if met { counted_as(step) } else { STEPS_MISSED }, 1);
    if !met {
        complain(format_args!(
            "it did not end at {}: {ended:?}\n{}",
            step.name(),
            scene.log_tail()
        ));
    }
    Ok(met)
}

/// Waits until an OMS of another process has done what it was sent.
fn arrive(scene: &Scene<'_>) -> Result<()> {
    match scene.share.oms {
        Oms::Http => scene.wait(ARRIVED),
        Oms::Sqlite | Oms::Ledger | Oms::Postgres => Ok(()),
    }
}

/// Waits until nothing is left that may have been sent by the process before: between two calls no order is.
fn looked_up(scene: &mut Scene<'_>) -> Result<()> {
    let target = scene.target()?;
    let watch = Stopwatch::start();
    loop {
        let status = get(target.ops, "/v1/status")?;
        let sent = status.pointer("/buffer/live/submitted").and_then(serde_json::Value::as_u64);
        match sent {
            Some(0) => return Ok(()),
            _ if watch.left_of(LOOK_UP_LIMIT).is_zero() => {
                let why = format!("orders that may have been sent are not looked up: {status}");
                return Err(Failure::Missed(why));
            }
            _ => scene.wait(LOOK)?,
        }
    }
}

/// Counts what this life of the server found in the OMS when it looked.
fn count_found(scene: &mut Scene<'_>, name: &'static str) -> Result<()> {
    let metrics = probe::get(scene.target()?.ops, "/metrics", ANSWER_LIMIT).when("metrics")?;
    let found = metrics.body.lines().filter_map(|line| {
        line.strip_prefix("forebay_drain_orders_total{outcome=\"existing\"} ")?.parse::<u64>().ok()
    });
    scene.tally.count(name, found.sum());
    Ok(())
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    if control {
        // Where the OMS refuses a second create none can be doubled; then it must have refused some.
        let shown = tally.doubled + tally.count_of(REFUSED_AGAIN);
        return doubles(&Tally { doubled: shown, ..tally.clone() }, control);
    }
    let mut missed = doubles(tally, control);
    let found = tally.count_of(FOUND);
    if found == 0 && tally.count_of(KILLED) >= KILLS_JUDGED {
        missed.push("no kill came between a commit and what is settled of it".to_owned());
    }
    if found + tally.count_of(FOUND_AFTER_STEP) == 0 {
        missed.push("no start found anything that was committed and not settled".to_owned());
    }
    if tally.count_of(STEPS_MISSED) > 0 {
        missed.push(format!("{} processes never came to their step", tally.count_of(STEPS_MISSED)));
    }
    if tally.count_of(IN_LEDGER) == 0 {
        missed.push("the OMS's ledger shows no create".to_owned());
    }
    if tally.count_of(SET_ASIDE) > 0 {
        missed.push(format!("{} orders were set aside", tally.count_of(SET_ASIDE)));
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::{EVERY_STEP, Fault, Plan, shares};

    #[test]
    fn so_many_runs_meet_every_step_on_every_oms_and_no_fewer_do() {
        let meet_all = |runs| {
            shares(&Plan { runs, ..Plan::new(Fault::OmsKill) }).iter().all(|share| {
                let met: Vec<_> = (0..share.runs).filter_map(of_run).collect();
                Step::ALL.iter().all(|step| met.contains(step))
            })
        };
        assert!(meet_all(EVERY_STEP) && !meet_all(EVERY_STEP - 1));
    }

    fn good() -> Tally {
        let mut tally = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        tally.count(KILLED, KILLS_JUDGED);
        tally.count(FOUND, 3);
        tally.count(FOUND_AFTER_STEP, 2);
        tally.count(IN_LEDGER, 9);
        tally
    }

    #[test]
    fn a_double_a_missed_step_and_kills_that_prove_nothing_are_missed() {
        assert_eq!(missed(&good(), false), Vec::<String>::new());
        let but = |change: fn(&mut Tally)| {
            let mut tally = good();
            change(&mut tally);
            missed(&tally, false).len()
        };
        assert_eq!(but(|tally| tally.doubled = 1), 1);
        assert_eq!(but(|tally| tally.count(STEPS_MISSED, 1)), 1);
        assert_eq!(but(|tally| tally.count(SET_ASIDE, 1)), 1);
        assert_eq!(but(|tally| tally.counts.retain(|name, _| *name != FOUND)), 1);
        assert_eq!(but(|tally| tally.counts.retain(|name, _| *name != IN_LEDGER)), 1);
        assert_eq!(but(|tally| tally.counts.retain(|name, _| !name.starts_with("found"))), 2);
        // A few kills may all come too late, but not what ends at a step.
        assert_eq!(but(|tally| tally.counts.retain(|name, _| ![FOUND, KILLED].contains(name))), 0);
        // A refused second create is what the table is for.
        assert_eq!(but(|tally| tally.count(REFUSED_AGAIN, 1)), 0);
    }

    #[test]
    fn the_control_must_double_or_be_refused() {
        assert!(!missed(&good(), true).is_empty());
        assert_eq!(missed(&Tally { doubled: 1, ..good() }, true), Vec::<String>::new());
        let mut refused = good();
        refused.count(REFUSED_AGAIN, 1);
        assert_eq!(missed(&refused, true), Vec::<String>::new());
    }
}
