//! The store before it is damaged: orders in many states, and what is known of them.

use std::path::PathBuf;
use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::super::copy::replace;
use super::super::orders::{Order, STILL, discard, exceptions, text, until};
use super::super::scene::Scene;
use super::journal::Journal;
use super::listed::check;
use crate::failure::{Failure, Result, While as _};

/// Orders that are in the OMS, and that wait.
const SUMMARISED: usize = 60;
const PENDING: usize = 100;
/// Bytes of one.
const BYTES: usize = 3 << 10;
/// After so long without a delivery the last group is proven.
const PROVEN: Duration = Duration::from_millis(1_500);

/// What must become of an order in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In the OMS already.
    Summarised,
    /// On its way there.
    Waits,
    /// Held, cancelled, excepted or discarded: not in the OMS.
    Apart,
}

/// An order that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) order: Order,
    /// Contents it had before.
    pub(super) earlier: Vec<String>,
    /// Sequences of its deliveries.
    pub(super) sequences: Vec<u64>,
    pub(super) fate: Fate,
    /// Its state when the store was whole.
    pub(super) state: String,
    /// Numbers of its records in the whole journal.
    pub(super) records: Vec<usize>,
}

/// The store before it is damaged, and what is in it.
pub(super) struct Base {
    pub(super) store: PathBuf,
    /// The same store some time before, for stale segments.
    pub(super) early: PathBuf,
    pub(super) oms: PathBuf,
    pub(super) journal: Journal,
    pub(super) known: Vec<Known>,
}

/// A store with orders in many states, killed.
pub(super) fn fill(scene: &mut Scene<'_>, random: &mut fastrand::Rng) -> Result<Option<Base>> {
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
    let journal = Journal::read(scene, &store)?;
    for known in &mut known {
        let earlier = known.earlier.iter().map(String::as_str);
        let bodies: Vec<_> = earlier.chain([known.order.body.as_str()]).collect();
        known.records = journal.of(&known.sequences, &bodies);
        if known.records.is_empty() && known.fate == Fate::Waits {
            let why = format!("{} was not found in the journal", known.order.id);
            return Err(Failure::Broken(why));
        }
    }
    Ok(Some(Base { store, early: early.join("buffer/journal"), oms, journal, known }))
}

pub(super) fn post(known: &mut Vec<Known>, target: Target, order: Order, fate: Fate) -> Result<()> {
    let answer = order.accepted(target)?;
    let sequences = vec![sequence(&answer)];
    let (earlier, state, records) = (Vec::new(), String::new(), Vec::new());
    known.push(Known { order, earlier, sequences, fate, state, records });
    Ok(())
}

/// A newer version with another content.
pub(super) fn renew(
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

pub(super) fn sequence(answer: &Value) -> u64 {
    answer.get("sequence").and_then(Value::as_u64).unwrap_or_default()
}
