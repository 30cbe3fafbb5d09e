//! The disk hangs for seconds: nothing is acknowledged meanwhile, the door refuses what the in-flight budget has no
//! room for, memory stays bounded, others are answered; then everything goes on by itself, or the power goes. The
//! control gathers writes in memory: it must be caught acknowledging while the disk hangs, and lose at the cut that ends it.

use std::thread::JoinHandle;
use std::time::Duration;

use super::probe;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::{Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "stall",
    runs: 8,
    control: "late-write",
    ledger_control: None,
    ceiling_control: None,
    disk: Some(4 << 30),
    cluster: None,
    modes: &WriteMode::ALL,
    // The drain may go on: its OMS's disk does not hang.
    oms_inside: false,
    // A budget that the load's 256 connections use up; slots that outlast the hang, so that the control need not make one.
    knobs: "slot_bytes = \"32MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
            [door]\nin_flight_orders = 128\nin_flight_bytes = \"32MiB\"\n",
    play,
    missed,
};

/// How long the load runs before the disk hangs.
const BEFORE: Duration = Duration::from_secs(1);
/// What was answered before is on its way for so long after the last of it came, and altogether at most for so long.
/// After that nothing more may be acknowledged.
const QUIET: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(1);
/// How long it hangs.
const SECONDS: std::ops::Range<u64> = 7..10;
/// The same in a short form: a second longer than it may take until somebody answers for the writer.
const SHORT_SECONDS: std::ops::Range<u64> = 6..7;
/// The same of a control, which shows at once what it acknowledges too early.
const CONTROL_SECONDS: std::ops::Range<u64> = 3..4;
/// How long a run's part of the sale lasts. While the disk hangs the load's connections soon all wait, so a short form sells little
/// more than what comes before; a control goes on selling.
const SALE: Duration = Duration::from_secs(12);
const SHORT_SALE: Duration = Duration::from_secs(3);
const CONTROL_SALE: Duration = Duration::from_secs(6);
/// How long one question may take meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// And one that would have to ask the writer, whose time is then over.
const WRITER_ANSWER_LIMIT: Duration = Duration::from_secs(6);
/// How soon it must be back when the disk is.
const BACK_LIMIT: Duration = Duration::from_secs(10);
/// By how much memory may grow while it hangs: the budget's bytes, decoded and inflated, and some of the
/// allocator's own.
const GROWTH_LIMIT: u64 = 64 << 20;
/// What must be answered while the disk hangs, although the writer cannot be.
const PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// What may have to ask the writer.
const WRITER_PATHS: [&str; 2] = ["/v1/status", "/v1/orders/forebay/probe/probe-1"];

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let (sale, seconds) = match (scene.control(), scene.plan().runs < TORTURE.runs) {
        (true, _) => (CONTROL_SALE, CONTROL_SECONDS),
        (false, true) => (SHORT_SALE, SHORT_SECONDS),
        (false, false) => (SALE, SECONDS),
    };
    scene.sell(sale * runs)?;
    let mut random = scene.random();
    if !scene.start(&[])? {
        return Ok(());
    }
    for run in 0..runs {
        scene.play_load()?;
        scene.wait(BEFORE)?;
        hang(scene, Duration::from_secs(random.u64(seconds.clone())))?;
        // The power goes every second time: then nothing of what waited was ever written.
        if run % 2 == 1 || scene.control() {
            scene.cut_or_kill(0.0)?;
            if !scene.start(&[])? {
                return Ok(());
            }
        } else {
            go_on(scene)?;
            scene.load()?.stop()?;
        }
        complain(format_args!("run {} of {runs}", run + 1));
    }
    Ok(())
}

/// Lets the disk hang so long, and looks at everything meanwhile.
fn hang(scene: &mut Scene<'_>, long: Duration) -> Result<()> {
    let before = scene.server()?.resident_bytes()?;
    scene.disk()?.hold()?;
    let watch = Stopwatch::start();
    let acknowledged = settle(scene)?;
    let mut most = before;
    let (mut refused, mut red) = (false, false);
    let mut asked = ask_the_writer(scene)?;
    while !watch.left_of(long).is_zero() || !asked.is_empty() {
        most = most.max(scene.server()?.resident_bytes()?);
        red |= ask_meanwhile(scene)?;
        refused |= scene.probe(ANSWER_LIMIT)?.is_some_and(|reply| reply.is_refusal());
        take_answers(scene, &mut asked);
        scene.wait(Duration::from_millis(100))?;
    }
    let false_answers = scene.acknowledged() - acknowledged;
    scene.tally.injected += 1;
    scene.tally.count("false_2xx", false_answers);
    scene.tally.count("refused_while_full", u64::from(refused));
    scene.tally.count("readiness_red", u64::from(red));
    let growth = most.saturating_sub(before);
    scene.tally.peak("memory_growth_mib", (growth >> 20) as f64);
    if growth > GROWTH_LIMIT {
        let mib = growth >> 20;
        scene.tally.broken.push(format!("memory grew by {mib} MiB while the disk hung"));
    }
    Ok(())
}

/// Waits for what was answered before the disk hung; the number of acknowledgements then.
fn settle(scene: &Scene<'_>) -> Result<u64> {
    let watch = Stopwatch::start();
    let (mut acknowledged, mut quiet) = (scene.acknowledged(), Stopwatch::start());
    while !quiet.left_of(QUIET).is_zero() && !watch.left_of(GRACE).is_zero() {
        scene.wait(Duration::from_millis(20))?;
        if scene.acknowledged() != acknowledged {
            (acknowledged, quiet) = (scene.acknowledged(), Stopwatch::start());
        }
    }
    Ok(acknowledged)
}

/// Asks what needs no disk; whether readiness is red.
fn ask_meanwhile(scene: &mut Scene<'_>) -> Result<bool> {
    let ops = scene.target()?.ops;
    let mut red = false;
    for path in PATHS {
        let answer = probe::get(ops, path, ANSWER_LIMIT).ok();
        scene.tally.count("unanswered", u64::from(answer.is_none()));
        red |= path == "/readyz" && answer.is_some_and(|reply| reply.status == 503);
    }
    Ok(red)
}

/// Asks what the writer would have to answer: somebody must, in time, and before the disk goes on.
fn ask_the_writer(scene: &mut Scene<'_>) -> Result<Vec<JoinHandle<bool>>> {
    let ops = scene.target()?.ops;
    let ask = |path| move || probe::get(ops, path, WRITER_ANSWER_LIMIT).is_ok();
    Ok(WRITER_PATHS.map(|path| std::thread::spawn(ask(path))).into())
}

/// Takes the answers that have come.
fn take_answers(scene: &mut Scene<'_>, asked: &mut Vec<JoinHandle<bool>>) {
    for question in asked.extract_if(.., |question| question.is_finished()) {
        let answered = question.join().unwrap_or_default();
        scene.tally.count("unanswered_by_the_writer", u64::from(!answered));
    }
}

/// The disk goes on: so must everything else, by itself.
fn go_on(scene: &mut Scene<'_>) -> Result<()> {
    let waited = scene.disk()?.let_go()?;
    scene.tally.count("requests_held", waited);
    let watch = Stopwatch::start();
    loop {
        let answered = scene.probe(ANSWER_LIMIT)?.is_some_and(|reply| reply.is_durable());
        let ready = probe::get(scene.target()?.ops, "/readyz", ANSWER_LIMIT);
        let ready = ready.is_ok_and(|reply| reply.status == 200);
        if answered && ready {
            scene.tally.peak("back_after_s", watch.elapsed().as_secs_f64());
            return Ok(());
        }
        if watch.left_of(BACK_LIMIT).is_zero() {
            let why = format!("not back {BACK_LIMIT:?} after the disk was");
            scene.tally.broken.push(why);
            return Ok(());
        }
        scene.wait(Duration::from_millis(50))?;
    }
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if control {
        // What it acknowledged too early is lost at the cut that ends the hang; but a loss alone may be of before.
        if tally.count_of("false_2xx") == 0 {
            missed.push("the control acknowledged nothing while the disk hung".to_owned());
        }
        return missed;
    }
    for (name, why) in [
        ("false_2xx", "deliveries were acknowledged while the disk hung"),
        ("unanswered", "questions that need no disk were not answered while it hung"),
        ("unanswered_by_the_writer", "questions about orders or status were not answered"),
    ] {
        if tally.count_of(name) > 0 {
            missed.push(format!("{} {why}", tally.count_of(name)));
        }
    }
    if tally.count_of("refused_while_full") == 0 {
        missed.push("the door never refused with 503 and Retry-After".to_owned());
    }
    if tally.count_of("readiness_red") < tally.injected {
        missed.push("readiness did not turn red in every run".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_2xx_while_the_disk_hangs_is_missed_and_a_loss_is_the_control_s_aim() {
        let mut tally = Tally { acknowledged: 9, found: 9, injected: 1, ..Tally::default() };
        tally.count("refused_while_full", 1);
        tally.count("readiness_red", 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        let lost = Tally { lost: 1, ..tally.clone() };
        assert!(!missed(&lost, true).is_empty(), "no 2xx while it hung");
        tally.count("false_2xx", 1);
        assert!(!missed(&tally, false).is_empty());
        assert!(!missed(&tally, true).is_empty(), "nothing was lost");
        tally.lost = 1;
        assert_eq!(missed(&tally, true), Vec::<String>::new());
    }
}
