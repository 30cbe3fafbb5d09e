//! The stream is filled to its limit under load: orders are refused with 503 and `Retry-After`, what was accepted goes on into the OMS
//! and is settled in what is kept free, also while the leader of the NATS servers, or the server with the door, is killed meanwhile;
//! and orders are accepted again once there is room. The control keeps nothing free, and must let orders into that, or stand still.

use std::time::Duration;

use serde_json::Value;

use super::probe::Reply;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::server::get;
use super::{Cluster, NATS, Torture, WriteMode};
use crate::failure::Result;
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "nats-full",
    runs: 6,
    control: "no-reserve",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 1000.0, ceiling_per_s: 100, wired: 0, bytes_max: BYTES_MAX }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// A quarter of so little is kept free.
const BYTES_MAX: u64 = 32 << 20;
/// So much must be free when the door refuses: what settles meanwhile takes less than the rest of that quarter.
const FREE_MIN: u64 = BYTES_MAX / 8;
/// How much of the sale the first run is for, which fills it; and each after that. What became of the orders stays in the stream: it
/// must leave room at the end.
const FIRST: Duration = Duration::from_secs(14);
const NEXT: Duration = Duration::from_secs(1);
/// How long it may take until the door refuses.
const REFUSE_LIMIT: Duration = Duration::from_secs(90);
/// So many orders are to be settled while the stream is full; and how long that may take: a partition's lease and more, where a
/// process was killed.
const SETTLED: u64 = 200;
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How soon orders must be accepted once nobody fills what becomes free.
const AGAIN_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(12);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    scene.sell(FIRST + NEXT * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    for run in 0..runs {
        scene.play_load()?;
        let stood = fill(scene, run)?;
        complain(format_args!("run {} of {runs}", run + 1));
        if stood && scene.control() {
            // Nothing becomes of it any more, so there is nothing to account for.
            scene.tally.acknowledged = scene.acknowledged();
            scene.tally.injected = u64::from(runs);
            return scene.kill();
        }
    }
    // The rest of the sale is to find room.
    scene.stop()?;
    scene.start(&["--no-governor"]).map(drop)
}

/// Fills the stream, strikes, and looks at what is settled meanwhile; whether that stood still.
fn fill(scene: &mut Scene<'_>, run: u32) -> Result<bool> {
    if !scene.until(REFUSE_LIMIT, |scene| Ok(probe(scene)?.as_ref().is_some_and(is_full)))? {
        scene.tally.broken.push("orders were not refused".to_owned());
    }
    scene.tally.injected += 1;
    let bytes = number(scene, "/buffer/disk_bytes")?;
    scene.tally.peak(HIGHEST, bytes as f64);
    scene.tally.count(NOT_FREE, u64::from(bytes > BYTES_MAX - FREE_MIN));
    match run % 3 {
        0 => {
            let leader = scene.whole_servers()?;
            let killed = scene.servers()?.kill(leader)?;
            scene.tally.count("leaders_killed", u64::from(killed));
            scene.wait(Duration::from_secs(1))?;
            scene.servers()?.run(leader)?;
        }
        1 => {
            scene.kill()?;
            if !scene.start(&[])? {
                return Ok(true);
            }
            scene.play_load()?;
            scene.tally.count("doors_killed", 1);
        }
        _ => {}
    }
    // Whatever becomes free meanwhile is filled again.
    let (before, mut refused) = (settled(scene)?, 0);
    let goes_on = scene.until(SETTLE_LIMIT, |scene| {
        refused += u64::from(probe(scene)?.as_ref().is_some_and(is_full));
        Ok(settled(scene)?.saturating_sub(before) >= SETTLED)
    })?;
    scene.tally.count("refused_while_settling", refused);
    scene.tally.count(STOOD_STILL, u64::from(!goes_on));
    scene.load()?.stop()?;
    let watch = Stopwatch::start();
    let again = scene
        .until(AGAIN_LIMIT, |scene| Ok(probe(scene)?.as_ref().is_some_and(Reply::is_durable)))?;
    scene.tally.peak("accepting_after_s", watch.elapsed().as_secs_f64());
    scene.tally.count(NEVER_AGAIN, u64::from(!again));
    Ok(!goes_on || !again)
}

fn probe(scene: &mut Scene<'_>) -> Result<Option<Reply>> {
    scene.probe(ANSWER_LIMIT)
}

/// Whether it says that nothing was kept, and when to come again.
fn is_full(reply: &Reply) -> bool {
    reply.is_refusal() && reply.problem().as_deref() == Some("overloaded")
}

/// Orders that are in the OMS, and said to be so on the stream.
fn settled(scene: &mut Scene<'_>) -> Result<u64> {
    number(scene, "/buffer/ended/summarised")
}

/// A number of the status; 0 where nobody answers.
fn number(scene: &mut Scene<'_>, pointer: &str) -> Result<u64> {
    let status = get(scene.target()?.ops, "/v1/status").ok();
    Ok(status
        .and_then(|status| status.pointer(pointer).and_then(Value::as_u64))
        .unwrap_or_default())
}

/// The most bytes the stream was found to have.
const HIGHEST: &str = "highest_bytes";
const NOT_FREE: &str = "not_kept_free";
const STOOD_STILL: &str = "stood_still";
const NEVER_AGAIN: &str = "never_accepted_again";
/// What must not happen, and what a control is for.
const STANDS: [(&str, &str); 3] = [
    (NOT_FREE, "times orders had taken what is kept free when they were refused"),
    (STOOD_STILL, "times nothing was settled while the stream was full"),
    (NEVER_AGAIN, "times no order was accepted although there was room"),
];

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let stands = STANDS.iter().filter(|(name, _)| tally.count_of(name) > 0);
    let stands: Vec<_> =
        stands.map(|(name, why)| format!("{} {why}", tally.count_of(name))).collect();
    if control {
        let why = "the control kept it free and went on, so the runs prove nothing";
        return if stands.is_empty() { vec![why.to_owned()] } else { Vec::new() };
    }
    let mut missed = loss(tally, false);
    missed.extend(stands);
    if tally.count_of("refused_while_settling") == 0 {
        missed.push("nothing was refused while orders were settled: it was not full".to_owned());
    }
    if tally.peaks.get(HIGHEST).is_none_or(|bytes| *bytes < (BYTES_MAX / 2) as f64) {
        missed.push("nobody saw how full it was when orders were refused".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_stands_still_is_missed_and_the_control_s_aim() {
        let mut tally = Tally { acknowledged: 9, found: 9, ..Tally::default() };
        assert_eq!(missed(&tally, false).len(), 2, "it was not full, and nobody looked");
        tally.count("refused_while_settling", 3);
        tally.peak(HIGHEST, 25e6);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        for name in [NOT_FREE, STOOD_STILL, NEVER_AGAIN] {
            let mut stood = tally.clone();
            stood.count(name, 1);
            assert_eq!(missed(&stood, false).len(), 1, "{name}");
            assert_eq!(missed(&stood, true), Vec::<String>::new());
        }
        assert_eq!(missed(&Tally { lost: 1, ..tally }, false).len(), 1);
    }

    #[test]
    fn only_who_says_that_nothing_was_kept_is_full() {
        let reply = |word: &str, retry_after| Reply {
            status: 503,
            retry_after,
            body: format!(r#"{{"type":"https://forebay.dev/problems/{word}"}}"#),
        };
        assert!(is_full(&reply("overloaded", Some(2))));
        assert!(!is_full(&reply("overloaded", None)), "it does not say when");
        assert!(!is_full(&reply("unknown-outcome", Some(2))));
    }
}
