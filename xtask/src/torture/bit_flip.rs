//! A stopped store is damaged in hundreds of ways, each on a fresh copy: it always opens; `buffer check` lists every
//! order that is not as it was, by its key or by a range its sequence is in; no wrong byte is ever handed out; and
//! the same order sent again mends it, and no order is created twice, in an OMS that would. The control does not compare checksums, and must hand out wrong bytes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::damage::{self, Damage};
use super::orders::{Order, creates, discard, exceptions, summaries, text, until};
use super::report::Tally;
use super::scene::{Scene, replace};
use super::{Torture, WriteMode};
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "bit-flip",
    runs: 500,
    control: "no-checksum",
    ledger_control: None,
    disk: None,
    cluster: None,
    modes: &[WriteMode::Direct],
    oms_inside: false,
    knobs: super::SMALL_SLOTS,
    play,
    missed,
};

/// Orders that are in the OMS, and that wait.
const SUMMARISED: usize = 60;
const PENDING: usize = 100;
/// Bytes of one.
const BYTES: usize = 3 << 10;
/// A drain that holds a few orders and sends none.
const STILL: [&str; 2] = ["--drain-rate", "0.001"];
/// How long an order may be told to come again.
const REPAIR_LIMIT: Duration = Duration::from_secs(10);
/// After so long without a delivery the last group is proven.
const PROVEN: Duration = Duration::from_millis(1_500);

/// What must become of an order in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// In the OMS already.
    Summarised,
    /// On its way there.
    Waits,
    /// Held, cancelled, excepted or discarded: not in the OMS.
    Apart,
}

/// An order that was acknowledged.
#[derive(Clone, Debug)]
struct Known {
    order: Order,
    /// Contents it had before.
    earlier: Vec<String>,
    /// Sequences of its deliveries.
    sequences: Vec<u64>,
    fate: Fate,
    /// Its state when the store was whole.
    state: String,
}

/// The store before it is damaged, and what is in it.
struct Base {
    store: PathBuf,
    /// The same store some time before, for stale segments.
    early: PathBuf,
    oms: PathBuf,
    known: Vec<Known>,
}

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut random = scene.random();
    let Some(base) = fill(scene, &mut random)? else { return Ok(()) };
    scene.tally.acknowledged += base.known.len() as u64;
    // Said also where there are none.
    for name in ["silently_wrong", "not_repaired", "repaired_later", "runs_not_listed"] {
        scene.tally.count(name, 0);
    }
    let runs = scene.share.runs;
    let mut done = 0;
    while done < runs {
        let store = scene.beside("case");
        replace(&base.store, &store)?;
        std::fs::copy(&base.oms, scene.beside("oms.ledger")).when("copying the OMS")?;
        scene.setup().data_dir.clone_from(&store);
        let damages = damage::some(&store.join("buffer"), &base.early, runs - done, &mut random)?;
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
fn verdicts(tally: &Tally) -> (u64, u64, u64, u64, u64) {
    let count = |name| tally.count_of(name);
    (tally.lost, tally.doubled, tally.open_failures, count("silently_wrong"), count("not_repaired"))
}

/// A store with orders in many states, killed.
fn fill(scene: &mut Scene<'_>, random: &mut fastrand::Rng) -> Result<Option<Base>> {
    let mut known = Vec::new();
    let Some(target) = scene.open(&[])? else { return Ok(None) };
    for at in 0..SUMMARISED {
        let order = Order::new(format!("summarised-{at}"), BYTES, random);
        post(&mut known, target, order, Fate::Summarised)?;
    }
    for at in 0..8 {
        for (name, status, currency) in [
            ("excepted", "placed", false),
            ("discarded", "placed", false),
            ("held", "held", true),
            ("cancelled", "held", true),
        ] {
            let order = Order { status, currency, ..Order::new(format!("{name}-{at}"), 1, random) };
            post(&mut known, target, order.filled(BYTES, random), Fate::Apart)?;
        }
    }
    until("the exceptions", || Ok(exceptions(target)?.len() == 16))?;
    for row in exceptions(target)? {
        if text(&row, "key").contains("discarded") {
            discard(target, row.get("id").and_then(Value::as_u64).unwrap_or_default())?;
        }
    }
    scene.drained(target)?;
    scene.stop()?;
    let (store, early) = (scene.setup().data_dir.clone(), scene.beside("early"));
    replace(&store, &early)?;

    let Some(target) = scene.open(&STILL)? else { return Ok(None) };
    for known in known.iter_mut().filter(|known| known.order.id.starts_with("cancelled")) {
        renew(known, target, "cancelled", random)?;
    }
    for at in 0..PENDING {
        let order = Order::new(format!("pending-{at}"), BYTES, random);
        post(&mut known, target, order, Fate::Waits)?;
    }
    // The first ones are lent out, so their changes are parked; the others' take effect.
    for known in known.iter_mut().filter(|known| known.fate == Fate::Waits).step_by(15) {
        renew(known, target, "placed", random)?;
    }
    scene.wait(PROVEN)?;
    scene.kill()?;
    // A start later the end of those segments is known; before, what is missing there may never have been.
    let Some(target) = scene.open(&STILL)? else { return Ok(None) };
    scene.wait(PROVEN)?;
    for known in &mut known {
        known.state =
            known.order.view(target)?.map_or(String::new(), |view| text(&view, "state").to_owned());
    }
    scene.kill()?;
    let oms = scene.beside("oms.whole");
    std::fs::copy(scene.beside("oms.ledger"), &oms).when("copying the OMS")?;
    let whole = check(scene, &store)?;
    if !whole.keys.is_empty() || !whole.ranges.is_empty() || whole.runs > 0 {
        return Err(Failure::Missed(format!("the whole store is found damaged: {whole:?}")));
    }
    Ok(Some(Base { store, early: early.join("buffer/journal"), oms, known }))
}

fn post(known: &mut Vec<Known>, target: Target, order: Order, fate: Fate) -> Result<()> {
    let answer = order.accepted(target)?;
    let sequences = vec![sequence(&answer)];
    known.push(Known { order, earlier: Vec::new(), sequences, fate, state: String::new() });
    Ok(())
}

/// A newer version with another content.
fn renew(
    known: &mut Known,
    target: Target,
    status: &'static str,
    random: &mut fastrand::Rng,
) -> Result<()> {
    known.earlier.push(known.order.body.clone());
    let version = known.order.version + 1;
    known.order = Order { status, version, ..known.order.clone() }.filled(BYTES, random);
    known.sequences.push(sequence(&known.order.accepted(target)?));
    Ok(())
}

fn sequence(answer: &Value) -> u64 {
    answer.get("sequence").and_then(Value::as_u64).unwrap_or_default()
}

/// What `buffer check` lists.
#[derive(Debug, Default)]
struct Listed {
    keys: HashSet<String>,
    /// First and last sequence, where known.
    ranges: Vec<Option<(u64, u64)>>,
    /// Missing segments and slots that cannot be read.
    notes: Vec<String>,
    /// Damaged runs of the outcome index.
    runs: u64,
}

impl Listed {
    /// Whether the order is listed by a range or note rather than by its key.
    fn by_range(&self, known: &Known) -> bool {
        let within = |range: &Option<(u64, u64)>| {
            range.is_none_or(|(first, last)| {
                known.sequences.iter().any(|sequence| (first..=last).contains(sequence))
            })
        };
        !self.notes.is_empty() || self.ranges.iter().any(within)
    }
}

fn check(scene: &mut Scene<'_>, store: &Path) -> Result<Listed> {
    let output = Command::new(&scene.setup().binary)
        .args(["buffer", "check", "--json", "--data-dir"])
        .arg(store)
        .output()
        .when("running buffer check")?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Missed(format!("buffer check ended with {}: {said}", output.status)));
    }
    let mut listed = Listed::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line).when("a line of buffer check")?;
        let key = text(&line, "key");
        match text(&line, "kind") {
            "summary" => {
                let notes = line.get("notes").and_then(Value::as_array).into_iter().flatten();
                listed.notes.extend(notes.filter_map(Value::as_str).map(str::to_owned));
            }
            "body" if !key.is_empty() => drop(listed.keys.insert(key.to_owned())),
            "range" | "body" => listed.ranges.push(range(&line)),
            "run" => listed.runs += 1,
            _ => {}
        }
    }
    Ok(listed)
}

fn range(line: &Value) -> Option<(u64, u64)> {
    let at = |index: usize| line.get("sequences")?.get(index)?.as_u64();
    at(0).zip(at(1))
}

/// One damaged copy, from the check to the account in the OMS.
fn case(scene: &mut Scene<'_>, base: &Base, damages: &[Damage]) -> Result<()> {
    let store = scene.setup().data_dir.clone();
    let listed = check(scene, &store)?;
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
            // What ended and is forgotten is known to the OMS, which would take it twice, and so is asked first.
            Found::Gone if known.fate == Fate::Summarised && (index || listed.by_range(known)) => {
                scene.tally.count("forgotten", 1);
            }
            Found::Gone if listed.keys.contains(&known.order.identity()) => {
                scene.tally.damaged_listed += 1;
            }
            Found::Gone if listed.by_range(known) => scene.tally.count("listed_by_range", 1),
            Found::Gone => {
                scene.tally.lost += 1;
                complain(format_args!("{} is gone and not listed", known.order.id));
            }
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

/// What is handed out of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    AsItWas,
    /// Nothing, an earlier content, or an exception that says so.
    Gone,
    /// Bytes that nobody sent.
    Wrong,
}

fn judge(known: &Known, view: Option<&Value>) -> Found {
    let Some(view) = view else { return Found::Gone };
    let (state, body) = (text(view, "state"), view.get("body").and_then(Value::as_str));
    let on_its_way = |state: &str| matches!(state, "pending" | "leased" | "submitted");
    let same_state = state == known.state || (on_its_way(state) && on_its_way(&known.state));
    match body {
        Some(body) if body == known.order.body && same_state => Found::AsItWas,
        // A parked content is not the current one yet.
        Some(body) if known.fate == Fate::Waits && known.earlier.iter().any(|b| b == body) => {
            if same_state {
                Found::AsItWas
            } else {
                Found::Gone
            }
        }
        Some(body) if body == known.order.body || known.earlier.iter().any(|b| b == body) => {
            Found::Gone
        }
        Some(_) => Found::Wrong,
        // Of what ended the bytes go with its segment.
        None if same_state
            && known.fate != Fate::Waits
            && state != "held"
            && state != "exception" =>
        {
            Found::AsItWas
        }
        None => Found::Gone,
    }
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

    fn known(fate: Fate, state: &str) -> Known {
        let order = Order::new("1".to_owned(), 10, &mut fastrand::Rng::with_seed(1));
        Known {
            order,
            earlier: vec!["old".to_owned()],
            sequences: vec![7],
            fate,
            state: state.to_owned(),
        }
    }

    #[test]
    fn bytes_that_nobody_sent_are_wrong_and_others_are_gone_or_as_they_were() {
        let held = known(Fate::Apart, "held");
        let body = held.order.body.clone();
        let view = |state: &str, body: Value| serde_json::json!({ "state": state, "body": body });
        assert_eq!(judge(&held, Some(&view("held", body.clone().into()))), Found::AsItWas);
        assert_eq!(judge(&held, Some(&view("exception", body.into()))), Found::Gone);
        assert_eq!(judge(&held, Some(&view("held", "other".into()))), Found::Wrong);
        assert_eq!(judge(&held, Some(&view("held", "old".into()))), Found::Gone);
        assert_eq!(judge(&held, Some(&view("held", Value::Null))), Found::Gone);
        assert_eq!(judge(&held, None), Found::Gone);
        let summarised = known(Fate::Summarised, "summarised");
        assert_eq!(judge(&summarised, Some(&view("summarised", Value::Null))), Found::AsItWas);
        let waits = known(Fate::Waits, "leased");
        assert_eq!(judge(&waits, Some(&view("submitted", "old".into()))), Found::AsItWas);
    }

    #[test]
    fn a_range_lists_the_orders_whose_sequence_is_in_it() {
        let known = known(Fate::Waits, "pending");
        let listed = |ranges| Listed { ranges, ..Listed::default() };
        assert!(listed(vec![Some((5, 9))]).by_range(&known));
        assert!(!listed(vec![Some((8, 9))]).by_range(&known));
        assert!(listed(vec![None]).by_range(&known));
        assert!(!Listed::default().by_range(&known));
    }
}
