//! The outcome index is deleted, at several points of a sale: exceptions, discards, held and waiting orders are as
//! before; a late repeat of an order that is long in the OMS has no second effect; another content under its key
//! becomes an exception, never a success. That holds on an OMS that refuses a second create and on one that does not. The
//! control forgets discarded orders when their segment goes, and must bring one back to life; on the ledger it sends what
//! may be forgotten without a look, and must double.

use std::collections::{BTreeMap, BTreeSet};

use forebay_loadtest::Target;
use serde_json::Value;

use super::orders::{Order, STILL, creates, discard, exceptions, summaries, text, until};
use super::report::Tally;
use super::scene::Scene;
use super::server::get;
use super::{Oms, Torture, WriteMode};
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;

pub(super) const TORTURE: Torture = Torture {
    name: "index-loss",
    runs: 8,
    control: "forgotten-discards",
    ledger_control: Some("no-look-up"),
    ceiling_control: None,
    disk: None,
    cluster: None,
    modes: &WriteMode::ALL,
    oms_inside: true,
    knobs: super::SMALL_SLOTS,
    play,
    missed,
};

/// Orders of a wave, enough to fill segments and let older ones retire.
const WAVE: usize = 400;
/// Bytes of one.
const BYTES: usize = 6 << 10;
/// Orders of each run that wait while the index is lost.
const WAITING: usize = 20;
/// Late repeats, and late other contents, in each run.
const LATE: usize = 20;
/// Stores on which the control broke nothing.
const SHOWN_NOTHING: &str = "control_shown_nothing";
/// What the index has no part in.
#[derive(Default)]
struct Apart {
    /// Discarded by an operator.
    discarded: Vec<Order>,
    /// Held, cancelled, excepted, in conflict.
    others: Vec<Order>,
}

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut random = scene.random();
    let Some(target) = scene.open(&[])? else { return Ok(()) };
    let apart = set_apart(scene, target, &mut random)?;
    for name in ["second_effects", "false_successes"] {
        scene.tally.count(name, 0);
    }
    // By now in the OMS, the oldest first.
    let mut sold: Vec<Order> = Vec::new();
    let mut changed: Vec<Order> = Vec::new();
    let mut target = target;
    for run in 0..scene.share.runs {
        let wave: Vec<_> = (0..WAVE)
            .map(|at| Order::new(format!("wave-{run}-{at}"), BYTES, &mut random))
            .collect();
        // In turn after the wave has drained and segments retired, and in the midst of it.
        let strike_at = if run % 2 == 0 { WAVE } else { random.usize(WAVE / 8..WAVE) };
        for order in wave.iter().take(strike_at) {
            order.accepted(target)?;
        }
        if strike_at == WAVE {
            scene.drained(target)?;
            retired(target)?;
        }
        if run % 4 == 0 {
            scene.stop()?;
        } else {
            scene.kill()?;
        }
        // Nothing drains any more, so what waits must be seen as before.
        let Some(still) = scene.open(&STILL)? else { return Ok(()) };
        let waiting: Vec<_> = (0..WAITING)
            .map(|at| Order::new(format!("waiting-{run}-{at}"), BYTES, &mut random))
            .collect();
        for order in &waiting {
            order.accepted(still)?;
        }
        scene.tally.acknowledged += WAITING as u64;
        let before = seen(still, &apart, &waiting)?;
        scene.kill()?;
        lose_index(scene, run)?;
        let Some(still) = scene.open(&STILL)? else { return Ok(()) };
        scene.tally.injected += 1;
        compare(scene, &before, &seen(still, &apart, &waiting)?);
        scene.stop()?;
        let Some(again) = scene.open(&[])? else { return Ok(()) };
        target = again;
        for order in &wave {
            order.accepted(target)?;
        }
        scene.tally.acknowledged += WAVE as u64;
        scene.drained(target)?;
        let in_oms = summaries(target)?;
        late(scene, target, &mut sold, &mut changed, &apart, &mut random)?;
        scene.drained(target)?;
        unchanged(scene, &in_oms, &summaries(target)?);
        sold.extend(wave.into_iter().chain(waiting));
        complain(format_args!("run {} of {}", run + 1, scene.share.runs));
    }
    account(scene, target, &sold, &changed, &apart)?;
    let shown = match scene.share.oms {
        Oms::Sqlite | Oms::Postgres | Oms::Http => scene.tally.count_of("resurrected"),
        Oms::Ledger => scene.tally.doubled,
    };
    scene.tally.count(SHOWN_NOTHING, u64::from(scene.control() && shown == 0));
    scene.stop()
}

/// Orders in every state the index has no part in.
fn set_apart(scene: &mut Scene<'_>, target: Target, random: &mut fastrand::Rng) -> Result<Apart> {
    let mut apart = Apart::default();
    let mut post = |name: &str, at: usize, status, currency| {
        let order = Order { status, currency, ..Order::new(format!("{name}-{at}"), 300, random) };
        let order = order.filled(300, random);
        order.accepted(target)?;
        scene.tally.acknowledged += 1;
        Ok::<_, Failure>(order)
    };
    for at in 0..5 {
        apart.discarded.push(post("discarded", at, "placed", false)?);
        apart.others.push(post("excepted", at, "placed", false)?);
        apart.others.push(post("held", at, "held", true)?);
        apart.others.push(post("cancelled", at, "held", true)?);
    }
    for order in apart.others.iter_mut().filter(|order| order.id.starts_with("cancelled")) {
        let cancel = Order { status: "cancelled", version: 2, ..order.clone() };
        *order = cancel.filled(300, random);
        order.accepted(target)?;
    }
    // Another content under a held order's key without a version to compare: an exception with a body of its own.
    for order in apart.others.iter().filter(|order| order.id.starts_with("held")) {
        let other = order.clone().filled(300, random);
        let reply = other.post(target).when(&other.id)?;
        if reply.status != 409 {
            return Err(Failure::Missed(format!("{}: {} {}", other.id, reply.status, reply.body)));
        }
    }
    until("the exceptions", || Ok(unmappable(target)?.len() == 10))?;
    for row in unmappable(target)? {
        if text(&row, "key").contains("discarded") {
            discard(target, row.get("id").and_then(Value::as_u64).unwrap_or_default())?;
        }
    }
    Ok(apart)
}

fn unmappable(target: Target) -> Result<Vec<Value>> {
    let rows = exceptions(target)?;
    Ok(rows.into_iter().filter(|row| text(row, "category") == "unmappable").collect())
}

/// Waits until ended segments are retired, so that only the index knows what was in them.
fn retired(target: Target) -> Result<()> {
    until("the retirement", || {
        let status = get(target.ops, "/v1/status")?;
        Ok(status.pointer("/buffer/segments").and_then(Value::as_u64).is_some_and(|n| n <= 3))
    })
}

/// Deletes the index; every third time only one of its runs.
fn lose_index(scene: &mut Scene<'_>, run: u32) -> Result<()> {
    let index = scene.setup().data_dir.join("buffer/outcomes");
    let mut runs: Vec<_> = std::fs::read_dir(&index)
        .when("listing the index")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "run"))
        .collect();
    runs.sort();
    let Some(first) = runs.first() else {
        return Err(Failure::Broken("there is no index to lose".to_owned()));
    };
    if run % 3 == 2 {
        return std::fs::remove_file(first).when("deleting a run of the index");
    }
    std::fs::remove_dir_all(index).when("deleting the index")
}

/// Everything that operators see of those orders, of ones that wait, and of open exceptions.
fn seen(target: Target, apart: &Apart, waiting: &[Order]) -> Result<BTreeMap<String, Value>> {
    let mut seen = BTreeMap::new();
    for order in apart.discarded.iter().chain(&apart.others).chain(waiting) {
        let view = order.view(target)?.unwrap_or_default();
        seen.insert(order.identity(), lasting(view));
    }
    for row in exceptions(target)? {
        // Those that late changes raise come with each run.
        if !text(&row, "key").contains(":wave-") {
            seen.insert(format!("exception {}", row.get("id").cloned().unwrap_or_default()), row);
        }
    }
    Ok(seen)
}

/// What of a view a restart does not change.
fn lasting(mut view: Value) -> Value {
    let Some(members) = view.as_object_mut() else { return view };
    // An estimate, and of an ended order the bytes go with its segment.
    members.remove("position");
    match members.get("state").and_then(Value::as_str).unwrap_or_default() {
        "discarded" | "cancelled" => {
            members.remove("body");
            members.remove("number");
        }
        // Which of those that wait are lent is the drain's, and that is another one.
        "pending" | "leased" | "submitted" => {
            members.insert("state".to_owned(), "waiting".into());
        }
        _ => {}
    }
    view
}

fn compare(
    scene: &mut Scene<'_>,
    before: &BTreeMap<String, Value>,
    after: &BTreeMap<String, Value>,
) {
    for (name, was) in before {
        if after.get(name) != Some(was) {
            scene.tally.count("changed", 1);
            complain(format_args!("{name} was {was}\nand is {:?}", after.get(name)));
        }
        scene.tally.count("compared_waiting", u64::from(text(was, "state") == "waiting"));
    }
    scene.tally.count("changed", after.len().saturating_sub(before.len()) as u64);
    scene.tally.count("compared", before.len() as u64);
}

/// Repeats and other contents of orders that are long in the OMS, and repeats of discarded ones.
fn late(
    scene: &mut Scene<'_>,
    target: Target,
    sold: &mut Vec<Order>,
    changed: &mut Vec<Order>,
    apart: &Apart,
    random: &mut fastrand::Rng,
) -> Result<()> {
    for _ in 0..LATE.min(sold.len() / 2) {
        let at = random.usize(0..sold.len());
        if let Some(order) = sold.get(at) {
            order.accepted(target)?;
            scene.tally.count("late_repeats", 1);
        }
        let order = sold.swap_remove(random.usize(0..sold.len()));
        let version = order.version + random.u64(0..2);
        let other = Order { version, ..order.clone() }.filled(BYTES, random);
        // Known, it is a conflict; forgotten, it is taken in.
        let reply = other.post(target).when(&other.id)?;
        if !reply.is_durable() && reply.status != 409 {
            return Err(Failure::Missed(format!("{}: {} {}", other.id, reply.status, reply.body)));
        }
        scene.tally.count("late_changes", 1);
        changed.push(order);
    }
    for order in &apart.discarded {
        order.accepted(target)?;
    }
    Ok(())
}

/// What is in the OMS stays as it is.
fn unchanged(
    scene: &mut Scene<'_>,
    before: &BTreeMap<String, Value>,
    after: &BTreeMap<String, Value>,
) {
    for (identity, was) in before {
        if after.get(identity) != Some(was) {
            scene.tally.count("second_effects", 1);
            complain(format_args!("{identity} was {was}\nand is {:?}", after.get(identity)));
        }
    }
}

fn account(
    scene: &mut Scene<'_>,
    target: Target,
    sold: &[Order],
    changed: &[Order],
    apart: &Apart,
) -> Result<()> {
    let in_oms = summaries(target)?;
    for order in sold.iter().chain(changed) {
        match in_oms.get(&order.identity()) {
            None => scene.tally.lost += 1,
            Some(summary) => {
                scene.tally.found += 1;
                scene.tally.doubled += u64::from(creates(summary) > 1);
                if text(summary, "grand_total") != order.total {
                    scene.tally.count("second_effects", 1);
                }
            }
        }
    }
    // By the list of exceptions: an order whose outcome was lost after its change is found by its key no more.
    let rows = exceptions(target)?;
    let excepted: BTreeSet<_> = rows.iter().map(|row| text(row, "key").to_owned()).collect();
    for order in changed.iter().filter(|order| !excepted.contains(&order.identity())) {
        scene.tally.count("false_successes", 1);
        complain(format_args!("{}: its other content is no exception", order.id));
    }
    for order in &apart.discarded {
        let view = order.view(target)?.unwrap_or_default();
        let alive = text(&view, "state") != "discarded";
        scene.tally.count("resurrected", u64::from(alive));
        scene.tally.found += u64::from(!alive);
    }
    scene.tally.found += apart.others.len() as u64;
    Ok(())
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = Vec::new();
    if tally.open_failures > 0 {
        missed.push(format!("{} starts did not open the store", tally.open_failures));
    }
    if control {
        if tally.count_of(SHOWN_NOTHING) > 0 {
            missed.push(
                "the control brought no discard back, or doubled nothing, so the runs prove nothing".to_owned(),
            );
        }
        return missed;
    }
    if tally.lost > 0 || tally.doubled > 0 {
        missed.push(format!("{} lost, {} doubled", tally.lost, tally.doubled));
    }
    for (name, why) in [
        ("changed", "views or exceptions are not as before"),
        ("second_effects", "summaries in the OMS are not as before"),
        ("false_successes", "other contents were taken for a success"),
        ("resurrected", "discarded orders came back to life"),
    ] {
        if tally.count_of(name) > 0 {
            missed.push(format!("{} {why}", tally.count_of(name)));
        }
    }
    if tally.count_of("compared") == 0 {
        missed.push("nothing was compared".to_owned());
    }
    if tally.count_of("compared_waiting") == 0 {
        missed.push("no order that waits was compared".to_owned());
    }
    missed.extend(tally.broken.iter().cloned());
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_that_waits_is_the_same_lent_or_not_and_another_with_other_bytes() {
        let view = |state: &str, body: &str, position: u64| {
            lasting(serde_json::json!({ "state": state, "body": body, "position": position }))
        };
        assert_eq!(view("pending", "a", 1), view("leased", "a", 2));
        assert_ne!(view("pending", "a", 1), view("pending", "b", 1));
        assert_ne!(view("pending", "a", 1), view("summarised", "a", 1));
    }

    #[test]
    fn each_promise_is_missed_by_itself_and_a_control_that_shows_nothing_too() {
        let mut good = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        good.count("compared", 5);
        assert_eq!(missed(&good, false).len(), 1, "none of them waits");
        good.count("compared_waiting", 1);
        assert_eq!(missed(&good, false), Vec::<String>::new());
        for name in ["changed", "second_effects", "false_successes", "resurrected"] {
            let mut tally = good.clone();
            tally.count(name, 1);
            assert_eq!(missed(&tally, false).len(), 1, "{name}");
        }
        let mut control = good;
        control.count("resurrected", 1);
        assert_eq!(missed(&control, true), Vec::<String>::new());
        control.count(SHOWN_NOTHING, 1);
        assert!(!missed(&control, true).is_empty());
    }
}
