//! A stopped store is damaged in hundreds of ways, each on a fresh copy: it always opens; `buffer check` lists every
//! order that is not as it was: by its key wherever a descriptor is left that tells it, else by the range of sequences, or the segment,
//! that its record was in; no wrong byte is ever handed out; and the same order sent again mends it, and no order is created
//! twice, in an OMS that would. The control does not compare checksums, and must hand out wrong bytes.

mod found;
mod journal;
mod listed;
mod store;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::copy::replace;
use super::damage::{self, Damage};
use super::orders::{Order, STILL, creates, exceptions, summaries, text};
use super::report::Tally;
use super::scene::Scene;
use super::{Torture, WriteMode};
use crate::failure::{Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;
use found::{Found, judge};
use listed::{How, check};
use store::{Base, Fate, fill};

pub(super) const TORTURE: Torture = Torture {
    name: "bit-flip",
    runs: 500,
    control: "no-checksum",
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

/// How long an order may be told to come again.
const REPAIR_LIMIT: Duration = Duration::from_secs(10);

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut random = scene.random();
    let Some(base) = fill(scene, &mut random)? else { return Ok(()) };
    scene.tally.acknowledged += base.known.len() as u64;
    // Said also where there are none.
    for name in [
        "silently_wrong",
        "not_repaired",
        "repaired_later",
        "runs_not_listed",
        "listed_by_range",
        "listed_by_segment",
        "not_listed_by_key",
    ] {
        scene.tally.count(name, 0);
    }
    let runs = scene.share.runs;
    let mut done = 0;
    while done < runs {
        let store = scene.beside("case");
        replace(&base.store, &store)?;
        std::fs::copy(&base.oms, scene.beside("oms.ledger")).when("copying the OMS")?;
        scene.setup().data_dir.clone_from(&store);
        let buffer = store.join("buffer");
        // Whether chance forgets what ended is not left to it.
        let damages = match done {
            0 => damage::forgetting(&buffer, &base.early)?,
            _ => damage::some(&buffer, &base.early, runs - done, &mut random)?,
        };
        done += u32::try_from(damages.len()).unwrap_or(u32::MAX);
        scene.tally.injected += damages.len() as u64;
        let before = verdicts(&scene.tally);
        case(scene, &base, &damages)?;
        if verdicts(&scene.tally) != before && !scene.control() {
            complain(format_args!("after {damages:?}"));
        }
        if done % 50 < u32::try_from(damages.len()).unwrap_or_default() {
            complain(format_args!("{done} of {runs} damages"));
        }
    }
    Ok(())
}

/// What counts against the promise so far.
fn verdicts(tally: &Tally) -> [u64; 6] {
    let [wrong, not_repaired, not_by_key] =
        ["silently_wrong", "not_repaired", "not_listed_by_key"].map(|name| tally.count_of(name));
    [tally.lost, tally.doubled, tally.open_failures, wrong, not_repaired, not_by_key]
}

/// One damaged copy, from the check to the account in the OMS.
fn case(scene: &mut Scene<'_>, base: &Base, damages: &[Damage]) -> Result<()> {
    let store = scene.setup().data_dir.clone();
    let listed = check(scene, &store)?;
    let left = base.journal.left(&store)?;
    let Some(target) = scene.open(&STILL)? else {
        not_open(damages);
        return Ok(());
    };
    let index = damages.iter().any(|damage| matches!(damage, Damage::Index { .. }));
    if index {
        scene.tally.count("runs_damaged", 1);
    }
    if index && listed.runs == 0 {
        scene.tally.count("runs_not_listed", 1);
        complain(format_args!("a damaged run is not listed after {damages:?}"));
    }
    let mut again = Vec::new();
    for known in &base.known {
        let found = judge(known, known.order.view(target)?.as_ref());
        scene.tally.found += u64::from(found == Found::AsItWas);
        match found {
            Found::AsItWas => continue,
            Found::Wrong => {
                scene.tally.count("silently_wrong", 1);
                if !scene.control() {
                    complain(format_args!("{}: wrong bytes", known.order.id));
                }
            }
            Found::Gone => match listed.how(known, &base.journal, &left) {
                How::ByKey => scene.tally.damaged_listed += 1,
                How::ByRange | How::BySegment if known.fate == Fate::Summarised => {
                    // It is known to the OMS, which would take it twice, and so is asked first.
                    scene.tally.count("forgotten", 1);
                }
                How::ByRange => scene.tally.count("listed_by_range", 1),
                How::BySegment => scene.tally.count("listed_by_segment", 1),
                // Where it ended in a segment that is retired, only the index tells.
                How::NotAtAll if index && known.records.is_empty() => {
                    scene.tally.count("forgotten", 1);
                }
                How::NotByKey => {
                    scene.tally.count("not_listed_by_key", 1);
                    complain(format_args!("{} is not listed by its key", known.order.id));
                }
                How::NotAtAll => {
                    scene.tally.lost += 1;
                    complain(format_args!("{} is gone and not listed", known.order.id));
                }
            },
        }
        again.push(known);
    }
    for known in &again {
        repair(scene, &known.order, target)?;
    }
    scene.tally.count("sent_again", again.len() as u64);
    scene.stop()?;
    let Some(target) = scene.open(&["--no-governor"])? else {
        not_open(damages);
        return Ok(());
    };
    scene.drained(target)?;
    repair_late(scene, base, target)?;
    account(scene, base, target, &summaries(target)?)?;
    scene.stop()
}

/// Sends an order again until it is answered as a sender takes it: a 503 says to come again, as while a worker finds out that
/// its bytes are damaged.
fn repair(scene: &mut Scene<'_>, order: &Order, target: Target) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        let reply = order.post(target).when(&order.id)?;
        if reply.is_durable() {
            return Ok(());
        }
        if reply.status != 503 || watch.left_of(REPAIR_LIMIT).is_zero() {
            scene.tally.count("not_repaired", 1);
            complain(format_args!("{}: {} {}", order.id, reply.status, reply.body));
            return Ok(());
        }
        scene.wait(Duration::from_millis(50))?;
    }
}

/// Damage that the server had not come upon when the same order was sent again was answered as a duplicate; by now
/// it is an exception, and the same order mends it.
fn repair_late(scene: &mut Scene<'_>, base: &Base, target: Target) -> Result<()> {
    let damaged: HashSet<_> = exceptions(target)?
        .iter()
        .filter(|row| text(row, "category") == "damaged")
        .map(|row| text(row, "key").to_owned())
        .collect();
    for known in base.known.iter().filter(|known| damaged.contains(&known.order.identity())) {
        known.order.accepted(target)?;
        scene.tally.count("repaired_later", 1);
    }
    scene.drained(target)
}

fn not_open(damages: &[Damage]) {
    complain(format_args!("it did not open after {damages:?}"));
}

/// What is in the OMS in the end.
fn account(
    scene: &mut Scene<'_>,
    base: &Base,
    target: Target,
    in_oms: &BTreeMap<String, Value>,
) -> Result<()> {
    for known in &base.known {
        let summary = in_oms.get(&known.order.identity());
        if let Some(summary) = summary {
            let total = text(summary, "grand_total");
            let sent = total == known.order.total
                || known.earlier.iter().any(|body| body.contains(&format!("{total:?}")));
            if !sent {
                scene.tally.count("silently_wrong", 1);
            }
            if creates(summary) > 1 {
                scene.tally.doubled += 1;
                complain(format_args!("{} is doubled", known.order.id));
            }
        }
        if known.fate != Fate::Apart && summary.is_none() {
            scene.tally.lost += 1;
            let view = known.order.view(target)?.unwrap_or_default();
            complain(format_args!("{} is not in the OMS: {view}", known.order.id));
        }
    }
    Ok(())
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = Vec::new();
    if control {
        if tally.count_of("silently_wrong") == 0 {
            missed
                .push("the control handed out no wrong byte, so the runs prove nothing".to_owned());
        }
        return missed;
    }
    if tally.open_failures > 0 {
        missed.push(format!("{} starts did not open the store", tally.open_failures));
    }
    if tally.lost > 0 || tally.doubled > 0 {
        missed.push(format!("{} lost, {} doubled", tally.lost, tally.doubled));
    }
    for (name, why) in [
        ("silently_wrong", "records are silently wrong"),
        ("not_repaired", "orders are not taken again"),
        ("not_listed_by_key", "damaged orders are not listed by their key, which is still there"),
        ("runs_not_listed", "damaged runs of the outcome index are not listed"),
    ] {
        if tally.count_of(name) > 0 {
            missed.push(format!("{} {why}", tally.count_of(name)));
        }
    }
    if tally.count_of("forgotten") == 0 {
        missed.push("no order that the OMS has was forgotten and sent again".to_owned());
    }
    if tally.damaged_listed == 0 {
        missed.push("no damaged order was listed by its key".to_owned());
    }
    missed.extend(tally.broken.iter().cloned());
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_order_that_is_not_listed_by_its_key_is_missed() {
        let mut tally = Tally { acknowledged: 9, damaged_listed: 1, ..Tally::default() };
        tally.count("forgotten", 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        tally.count("not_listed_by_key", 1);
        assert_eq!(missed(&tally, false).len(), 1);
    }
}
