//! The disk runs full, to the last byte: orders are refused with 503 and `Retry-After` before it does, while the reserve is
//! still there, what was accepted drains all the same out of it, and when space returns orders are accepted and segments retired
//! again, without a restart. The control gives orders the reserve, and one of these must be seen to fail.

use std::time::Duration;

use serde_json::Value;

use super::ballast::{Ballast, free_bytes};
use super::report::Tally;
use super::scene::Scene;
use super::server::get;
use super::{Torture, WriteMode};
use crate::failure::{Failure, Result};
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "disk-full",
    runs: 6,
    control: "no-reserve",
    ledger_control: None,
    ceiling_control: None,
    disk: Some(192 << 20),
    cluster: None,
    modes: &WriteMode::ALL,
    oms_inside: false,
    // A budget far above what the disk has: it is the disk that ends.
    knobs: "slot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"16GiB\"\n\
            [door]\nitem_bytes = \"512KiB\"\n",
    play,
    missed,
};

/// Bytes of a slot, as in the knobs.
const SLOT: u64 = 1 << 20;
/// Spare slots that must be left when orders are first refused: of the three that orders leave alone one may by then be in use, for what
/// the drain writes. What the file system says is free does not count: some of it is its own.
const RESERVE: u64 = 2;
/// What the disk has left before the orders come.
const LEFT: u64 = 10 << 20;
/// How long it may take until the door refuses.
const REFUSE_LIMIT: Duration = Duration::from_secs(40);
/// How long the backlog may stand still while it drains.
const STILL_LIMIT: Duration = Duration::from_secs(15);
/// How soon orders must be accepted again once space is there, and segments retired.
const AGAIN_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    scene.sell(Duration::from_secs(8) * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    for run in 0..runs {
        scene.play_load()?;
        scene.wait(Duration::from_millis(500))?;
        fill(scene)?;
        complain(format_args!("run {} of {runs}", run + 1));
        if scene.control() {
            // One that stands still is restarted with its space back, for the account.
            scene.load()?.stop()?;
            scene.kill()?;
            if !scene.start(&[])? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Fills the disk, drains it full, gives the space back.
fn fill(scene: &mut Scene<'_>) -> Result<()> {
    let directory = scene.disk()?.data().to_owned();
    let mut ballast = Ballast::lay(&directory)?;
    ballast.leave(LEFT)?;
    if scene.until(REFUSE_LIMIT, |scene| {
        Ok(scene.probe(ANSWER_LIMIT)?.is_some_and(|reply| reply.is_refusal()))
    })? {
        let (spare, free) = (spare(scene)?, free_bytes(&directory)?);
        complain(format_args!("refused with {spare} spare slots, {} KiB free", free >> 10));
        scene.tally.count(WITHOUT_RESERVE, u64::from(spare < RESERVE));
        scene.tally.peak("free_kib_when_refused", (free >> 10) as f64);
    } else {
        scene.tally.broken.push("orders were not refused".to_owned());
    }
    scene.tally.injected += 1;
    ballast.leave(0)?;
    // Some orders more against the full disk, then the drain alone.
    scene.wait(Duration::from_secs(1))?;
    scene.load()?.stop()?;
    scene.tally.peak("free_kib_while_draining", (free_bytes(&directory)? >> 10) as f64);
    if !drains(scene)? {
        scene.tally.count("stood_still", 1);
    }
    ballast.leave(0)?;
    drop(ballast);
    let watch = Stopwatch::start();
    if scene.until(AGAIN_LIMIT, |scene| {
        Ok(scene.probe(ANSWER_LIMIT)?.is_some_and(|reply| reply.is_durable()))
    })? {
        scene.tally.peak("accepting_after_s", watch.elapsed().as_secs_f64());
    } else {
        scene.tally.count("never_accepted_again", 1);
    }
    let segments = |scene: &mut Scene<'_>| Ok(status(scene, "/buffer/segments")?.unwrap_or(9) <= 3);
    if scene.until(AGAIN_LIMIT, segments)? {
        scene.tally.peak("retired_after_s", watch.elapsed().as_secs_f64());
    } else {
        scene.tally.count("never_retired_again", 1);
    }
    Ok(())
}

/// Waits until nothing is on its way to the OMS; false if it stands still.
fn drains(scene: &mut Scene<'_>) -> Result<bool> {
    let mut least = u64::MAX;
    let mut still = Stopwatch::start();
    loop {
        let mut under_way = 0;
        for state in ["pending", "leased", "submitted"] {
            under_way += status(scene, &format!("/buffer/live/{state}"))?.unwrap_or_default();
        }
        if under_way == 0 {
            return Ok(true);
        }
        if under_way < least {
            (least, still) = (under_way, Stopwatch::start());
        }
        if still.left_of(STILL_LIMIT).is_zero() {
            complain(format_args!("{under_way} orders do not drain while the disk is full"));
            return Ok(false);
        }
        scene.wait(Duration::from_millis(100))?;
    }
}

/// Slots of the store that no segment is in.
fn spare(scene: &mut Scene<'_>) -> Result<u64> {
    let slots = status(scene, "/buffer/disk_bytes")?.unwrap_or_default() / SLOT;
    Ok(slots.saturating_sub(status(scene, "/buffer/segments")?.unwrap_or_default()))
}

fn status(scene: &mut Scene<'_>, pointer: &str) -> Result<Option<u64>> {
    if let Some(status) = scene.server()?.ended()? {
        return Err(Failure::Missed(format!("the server ended with {status}")));
    }
    let status = get(scene.target()?.ops, "/v1/status")?;
    Ok(status.pointer(pointer).and_then(Value::as_u64))
}

/// Refusals that came only when the reserve was in use.
const WITHOUT_RESERVE: &str = "refused_without_the_reserve";

/// What must not happen, and what a control is for.
const STANDS: [(&str, &str); 3] = [
    ("stood_still", "times the drain stood still while the disk was full"),
    ("never_accepted_again", "times no order was accepted although space had returned"),
    ("never_retired_again", "times no segment was retired although space had returned"),
];

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let stands = STANDS.iter().filter(|(name, _)| tally.count_of(name) > 0);
    let stands: Vec<_> =
        stands.map(|(name, why)| format!("{} {why}", tally.count_of(name))).collect();
    let without_reserve = tally.count_of(WITHOUT_RESERVE);
    if control {
        let lost = tally.lost > 0 || tally.open_failures > 0;
        let shown = lost || without_reserve > 0 || !stands.is_empty();
        let why = "the control neither used its reserve up, nor stood still, nor lost, so the runs prove nothing";
        return if shown { Vec::new() } else { vec![why.to_owned()] };
    }
    let mut missed = super::report::loss(tally, false);
    if without_reserve > 0 {
        missed.push(format!(
            "{without_reserve} times orders were refused only when the reserve was in use"
        ));
    }
    missed.extend(stands);
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_that_stands_still_is_missed_and_the_control_s_aim() {
        let mut tally = Tally { acknowledged: 9, found: 9, ..Tally::default() };
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        tally.count("stood_still", 1);
        assert!(!missed(&tally, false).is_empty());
        assert_eq!(missed(&tally, true), Vec::<String>::new());
    }

    #[test]
    fn a_refusal_only_when_the_reserve_is_in_use_is_missed() {
        let mut tally = Tally { acknowledged: 9, found: 9, ..Tally::default() };
        tally.count(WITHOUT_RESERVE, 1);
        assert_eq!(missed(&tally, false).len(), 1);
        assert_eq!(missed(&tally, true), Vec::<String>::new(), "what the control is for");
    }
}
