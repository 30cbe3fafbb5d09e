//! `forebay buffer check`: what does not verify, order by order.

use std::collections::HashSet;
use std::process::ExitCode;

use forebay_buffer::{Damage, DamageKind, DamagedRun, Inspection};
use serde::Serialize;
use serde_json::json;

use super::super::{EXIT_MET, EXIT_MISSED, print};

/// One damaged place, for people and machines.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: DamageKind,
    /// channel:source:id, percent-encoded.
    key: Option<String>,
    /// Whether the bytes are still needed: the order is not in the OMS yet, and this is its content.
    needed: bool,
    /// False at the very end of the journal, where it may never have been acknowledged.
    acknowledged: bool,
    /// First and last sequence that is gone.
    sequences: Option<(u64, u64)>,
    epoch: u64,
    slot: &'a str,
    offset: u64,
    bytes: u64,
    #[serde(skip)]
    advice: &'static str,
}

/// Exit 0 if every byte verifies and nothing is missing, 1 if not.
pub(super) fn run(found: &Inspection, json: bool) -> ExitCode {
    // Reads every body that is still needed, through the very path that would hand it out.
    let mut readable = 0_u64;
    let mut unreadable = HashSet::new();
    let mut nameless = Vec::new();
    for order in found.orders() {
        match order {
            Ok(_) => readable += 1,
            Err(lost) => match &lost.key {
                Some(key) => drop(unreadable.insert(key.identity())),
                None => nameless.push(lost.sequence),
            },
        }
    }
    let mut lines: Vec<Line<'_>> =
        found.damages().iter().map(|damage| line(damage, &unreadable)).collect();
    let named: HashSet<_> = lines.iter().filter_map(|line| line.key.clone()).collect();
    lines.extend(
        unreadable.iter().filter(|key| !named.contains(*key)).map(|key| nowhere(Some(key), None)),
    );
    lines.extend(nameless.iter().map(|sequence| nowhere(None, Some(*sequence))));
    let runs: Vec<_> = found.damaged_runs().collect();
    let clean = lines.is_empty() && runs.is_empty() && found.notes().is_empty();
    if json {
        for line in &lines {
            print(&serde_json::to_string(line).unwrap_or_default());
        }
        for DamagedRun { name, blocks } in &runs {
            print(&json!({ "kind": "run", "run": name, "blocks": blocks }).to_string());
        }
        let damaged = lines.iter().filter(|line| line.needed).count();
        print(&json!({
            "kind": "summary", "clean": clean, "segments": found.segments().len(), "records": found.records(),
            "readable_orders": readable, "damaged_orders": damaged, "damaged_runs": runs.len(), "notes": found.notes(),
        }).to_string());
    } else {
        lines.iter().for_each(|line| print(&line.words()));
        runs.iter().for_each(|run| print(&run_words(run)));
        found.notes().iter().for_each(|note| print(&format!("note      {note}")));
        print(&format!(
            "{}     {} records in {} segments, {readable} orders not yet in the OMS readable, {} damaged places",
            if clean { "clean" } else { "found" },
            found.records(),
            found.segments().len(),
            lines.len() + runs.len()
        ));
    }
    ExitCode::from(if clean { EXIT_MET } else { EXIT_MISSED })
}

fn run_words(run: &DamagedRun) -> String {
    let blocks = match run.blocks {
        Some(blocks) => format!("{blocks} blocks of 4 KiB do not verify"),
        None => "nothing of it can be read".to_owned(),
    };
    format!(
        "run       {} of the outcome index ({blocks}): repeats of orders in it drain again, and the OMS tells that it has them",
        run.name
    )
}

fn line<'a>(damage: &'a Damage, unreadable: &HashSet<String>) -> Line<'a> {
    let key = damage.key.as_ref().map(|key| key.identity());
    let needed = key.as_ref().is_some_and(|key| unreadable.contains(key));
    let advice = match (damage.kind, damage.proven) {
        (DamageKind::Body, true) if !needed => {
            "no longer needed: the order ended or has another content"
        }
        (DamageKind::Body, true) => "have its sender send the same order again, which repairs it",
        (DamageKind::Body, false) | (DamageKind::Range, false) => {
            "at the very end: perhaps never acknowledged; have the senders of the last second send again"
        }
        (DamageKind::Range, true) => {
            "these orders cannot be named; compare what was acknowledged in that time and have it sent again"
        }
        (DamageKind::Seal, _) | (DamageKind::Header, _) => "nothing is lost by it",
    };
    Line {
        kind: damage.kind,
        key,
        needed,
        acknowledged: damage.proven,
        sequences: damage.sequences,
        epoch: damage.epoch,
        slot: &damage.slot,
        offset: damage.offset,
        bytes: damage.bytes,
        advice,
    }
}

/// An order that is not readable though no place is known to be damaged: the disk refused.
fn nowhere<'a>(key: Option<&String>, sequence: Option<u64>) -> Line<'a> {
    Line {
        kind: DamageKind::Body,
        key: key.cloned(),
        needed: true,
        acknowledged: true,
        sequences: sequence.map(|sequence| (sequence, sequence)),
        epoch: 0,
        slot: "",
        offset: 0,
        bytes: 0,
        advice: "have its sender send the same order again, which repairs it",
    }
}

impl Line<'_> {
    fn words(&self) -> String {
        let what = match self.kind {
            DamageKind::Body => "damaged",
            DamageKind::Range => "lost",
            DamageKind::Seal => "index",
            DamageKind::Header => "header",
        };
        let mut words = format!("{what:<9} ");
        if let Some(key) = &self.key {
            words.push_str(&format!("{key} "));
        }
        if let Some((first, last)) = self.sequences {
            words.push_str(&format!("sequences {first} to {last} "));
        }
        words.push_str(&format!(
            "({}, epoch {}, bytes {} to {}): {}",
            self.slot,
            self.epoch,
            self.offset,
            self.offset.saturating_add(self.bytes),
            self.advice
        ));
        words
    }
}
