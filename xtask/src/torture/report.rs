//! What the runs showed, in the shape of all torture reports, and whether that is as promised.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_loadtest::Books;
use serde::Serialize;

use super::{Part, Plan};
use crate::failure::{Failure, Result};

/// What of [`Books::must_be_zero`] has its own count in the report.
const OWN: [&str; 2] = ["lost", "doubled"];

/// What the runs showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Faults that surely hit a running server.
    pub(super) injected: u64,
    /// Deliveries answered as durable.
    pub(super) acknowledged: u64,
    /// Acknowledged deliveries that are accounted for.
    pub(super) found: u64,
    /// Orders acknowledged and not found.
    pub(super) lost: u64,
    /// Orders the OMS was made to create more than once.
    pub(super) doubled: u64,
    /// Orders found that nobody was told of.
    pub(super) found_unacknowledged: u64,
    /// Deliveries without an answer.
    pub(super) unknown: u64,
    /// Starts after which the store did not open.
    pub(super) open_failures: u64,
    /// What recovery listed as damaged.
    pub(super) damaged_listed: u64,
    /// The longest time from a start to ready.
    pub(super) longest_start: Duration,
    /// What only this kind counts; added up over the stores.
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// What only this kind measures; the highest of all stores.
    pub(super) peaks: BTreeMap<&'static str, f64>,
    /// What else is not as promised, in words.
    pub(super) broken: Vec<String>,
}

impl Tally {
    /// Counts something that only this kind has.
    pub(super) fn count(&mut self, name: &'static str, more: u64) {
        *self.counts.entry(name).or_default() += more;
    }

    /// What was counted under a name.
    pub(super) fn count_of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or_default()
    }

    /// Takes in the books of the run.
    pub(super) fn enter(&mut self, books: &Books) {
        self.acknowledged = books.acknowledged;
        self.found = books.twelve().iter().map(|(_, count)| count).sum();
        self.lost = books.lost;
        self.doubled = books.doubled;
        self.found_unacknowledged = books.found_unacknowledged;
        self.unknown = books.unknown;
        let others = books.must_be_zero().into_iter().filter(|(name, _)| !OWN.contains(name));
        self.broken
            .extend(others.filter(|(_, count)| *count > 0).map(|(name, n)| format!("{n} {name}")));
        if !books.balanced() {
            self.broken.push("books not balanced".to_owned());
        }
    }

    /// Adds what another store showed.
    pub(super) fn add(&mut self, other: &Self) {
        self.injected += other.injected;
        self.acknowledged += other.acknowledged;
        self.found += other.found;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.found_unacknowledged += other.found_unacknowledged;
        self.unknown += other.unknown;
        self.open_failures += other.open_failures;
        self.damaged_listed += other.damaged_listed;
        self.longest_start = self.longest_start.max(other.longest_start);
        other.counts.iter().for_each(|(name, more)| self.count(name, *more));
        other.peaks.iter().for_each(|(name, value)| self.peak(name, *value));
        self.broken.extend(other.broken.iter().cloned());
    }

    /// Measures something that only this kind has.
    pub(super) fn peak(&mut self, name: &'static str, value: f64) {
        let highest = self.peaks.entry(name).or_insert(value);
        *highest = highest.max(value);
    }
}

/// The last line.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    name: &'static str,
    runs: u32,
    mode: String,
    oms: String,
    seed: u64,
    rate_per_s: f64,
    injected: u64,
    acknowledged: u64,
    found: u64,
    lost: u64,
    doubled: u64,
    found_unacknowledged: u64,
    unknown: u64,
    open_failures: u64,
    damaged_listed: u64,
    longest_start_s: f64,
    #[serde(flatten)]
    counts: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    peaks: BTreeMap<&'static str, f64>,
    /// Lost by write mode: a control must lose in each.
    lost_by_write_mode: BTreeMap<&'static str, u64>,
    /// What only this kind counts, and doubles, on each OMS, where each is judged by itself.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    by_oms: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    broken: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan, tallies: &[(Part, Tally)]) -> Self {
        let mut tally = Tally::default();
        tallies.iter().for_each(|(_, of)| tally.add(of));
        let mut lost_by_write_mode = BTreeMap::new();
        let mut by_oms: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        for (part, of) in tallies {
            *lost_by_write_mode.entry(part.mode.name()).or_default() += of.lost;
            let Some(oms) = part.oms else { continue };
            let counts = by_oms.entry(oms.name()).or_default();
            let own = [("injected", of.injected), ("doubled", of.doubled)];
            for (name, count) in of.counts.iter().map(|(name, count)| (*name, *count)).chain(own) {
                *counts.entry(name).or_default() += count;
            }
        }
        Self {
            name: plan.fault.name(),
            runs: plan.runs,
            mode: plan.mode(),
            oms: plan.oms.iter().map(|oms| oms.name()).collect::<Vec<_>>().join("+"),
            seed: plan.seed,
            rate_per_s: plan.rate,
            injected: tally.injected,
            acknowledged: tally.acknowledged,
            found: tally.found,
            lost: tally.lost,
            doubled: tally.doubled,
            found_unacknowledged: tally.found_unacknowledged,
            unknown: tally.unknown,
            open_failures: tally.open_failures,
            damaged_listed: tally.damaged_listed,
            longest_start_s: tally.longest_start.as_secs_f64(),
            counts: tally.counts,
            peaks: tally.peaks,
            lost_by_write_mode,
            by_oms,
            broken: tally.broken,
        }
    }
}

/// What most kinds promise: every store opens, nothing is lost or doubled; and a control loses.
pub(super) fn loss(tally: &Tally, control: bool) -> Vec<String> {
    broken(tally, control.then_some(("lost", tally.lost)))
}

/// The same of a kind whose control doubles.
pub(super) fn doubles(tally: &Tally, control: bool) -> Vec<String> {
    broken(tally, control.then_some(("doubled", tally.doubled)))
}

/// What a run broke; of a control, what it failed to show: so many orders lost or doubled.
fn broken(tally: &Tally, shown: Option<(&str, u64)>) -> Vec<String> {
    let mut missed = Vec::new();
    if tally.open_failures > 0 {
        missed.push(format!("{} starts did not open the store", tally.open_failures));
    }
    if let Some((what, count)) = shown {
        if count == 0 {
            missed.push(format!("the control {what} nothing, so the runs prove nothing"));
        }
        return missed;
    }
    if tally.lost > 0 || tally.doubled > 0 {
        missed.push(format!("{} lost, {} doubled", tally.lost, tally.doubled));
    }
    missed.extend(tally.broken.iter().cloned());
    missed
}

/// Whether that is as promised, or, of a control, whether it showed what it must.
///
/// # Errors
/// [`Failure::Missed`] with what is not.
pub(super) fn judge(plan: &Plan, tallies: &[(Part, Tally)]) -> Result<()> {
    let mut missed = Vec::new();
    for (part, tally) in tallies {
        let mut of = (plan.fault.torture().missed)(tally, plan.control);
        if tally.acknowledged == 0 {
            of.push("nothing was acknowledged".to_owned());
        }
        missed.extend(of.into_iter().map(|what| format!("{}: {what}", part.name())));
    }
    let injected: u64 = tallies.iter().map(|(_, tally)| tally.injected).sum();
    if injected < u64::from(plan.runs) {
        missed.push(format!("only {injected} of {} faults fired", plan.runs));
    }
    if missed.is_empty() {
        return Ok(());
    }
    Err(Failure::Missed(missed.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, Oms, WriteMode};
    use super::*;

    const DIRECT: Part = Part { mode: WriteMode::Direct, oms: None };
    const BUFFERED: Part = Part { mode: WriteMode::Buffered, oms: None };

    fn good() -> Tally {
        Tally { injected: 2, acknowledged: 9, found: 9, ..Tally::default() }
    }

    fn judged(control: bool, tally: &Tally) -> Result<()> {
        let plan = Plan { runs: 2, control, ..Plan::new(Fault::Kill) };
        judge(&plan, &[(DIRECT, tally.clone())])
    }

    #[test]
    fn a_run_without_loss_is_met_and_its_control_is_not() {
        judged(false, &good()).unwrap();
        assert!(judged(true, &good()).is_err());
    }

    #[test]
    fn a_loss_is_missed_and_its_control_is_met() {
        let lost = Tally { lost: 1, ..good() };
        assert!(judged(false, &lost).is_err());
        judged(true, &lost).unwrap();
        assert!(judged(true, &Tally { open_failures: 1, ..lost }).is_err());
    }

    #[test]
    fn a_control_must_lose_in_each_write_mode() {
        let plan = Plan { runs: 2, control: true, ..Plan::new(Fault::PowerCut) };
        let mut lost = Tally { lost: 1, ..good() };
        lost.count("dropped_sectors", 1);
        let kept = Tally { lost: 0, ..lost.clone() };
        let of =
            |direct: &Tally| judge(&plan, &[(DIRECT, direct.clone()), (BUFFERED, lost.clone())]);
        of(&lost).unwrap();
        assert!(of(&kept).is_err());
    }

    #[test]
    fn runs_that_proved_nothing_are_missed() {
        for tally in [
            Tally { injected: 1, ..good() },
            Tally { acknowledged: 0, ..good() },
            Tally { doubled: 1, ..good() },
            Tally { broken: vec!["1 wrong total".to_owned()], ..good() },
        ] {
            assert!(judged(false, &tally).is_err(), "{tally:?}");
        }
    }

    #[test]
    fn what_only_one_kind_has_stands_in_the_report() {
        let mut tally = good();
        tally.count("torn_cuts", 2);
        tally.peak("rss_mib", 7.5);
        let both = [(DIRECT, tally.clone()), (BUFFERED, tally)];
        let plan = Plan::new(Fault::Kill);
        let report = serde_json::to_value(Report::new(&plan, &both)).unwrap();
        assert_eq!(report["torn_cuts"], 4);
        assert_eq!(report["rss_mib"], 7.5);
        assert_eq!(report["found"], 18);
        assert_eq!(report["by_oms"], serde_json::Value::Null);
    }

    #[test]
    fn an_oms_whose_kills_prove_nothing_is_missed_whatever_the_others_show() {
        let part = |oms| Part { mode: WriteMode::Direct, oms: Some(oms) };
        let mut proves = good();
        for name in ["found_committed", "in_ledger"] {
            proves.count(name, 5);
        }
        let judged = |control, sqlite: &Tally, http: &Tally| {
            let plan = Plan { runs: 2, control, ..Plan::new(Fault::OmsKill) };
            let parts = [(part(Oms::Sqlite), sqlite.clone()), (part(Oms::Http), http.clone())];
            let report = serde_json::to_value(Report::new(&plan, &parts)).unwrap();
            assert_eq!(report["by_oms"]["http"]["doubled"], http.doubled);
            judge(&plan, &parts).map_err(|failure| failure.to_string())
        };
        judged(false, &proves, &proves).unwrap();
        let missed = judged(false, &proves, &good()).unwrap_err();
        assert!(missed.contains("http") && !missed.contains("sqlite"), "{missed}");
        let doubled = Tally { doubled: 1, ..good() };
        judged(true, &doubled, &doubled).unwrap();
        assert!(judged(true, &doubled, &good()).unwrap_err().contains("http"));
    }

    #[test]
    fn only_a_kind_that_is_about_each_oms_is_judged_on_each() {
        for (fault, apart) in [(Fault::OmsKill, true), (Fault::Kill, false)] {
            let plan = Plan::new(fault);
            let mut parts: Vec<_> = super::super::shares(&plan)
                .into_iter()
                .map(|share| Part::of(&plan, share))
                .filter(|part| part.mode == WriteMode::Direct)
                .collect();
            let shares = parts.len();
            assert!(shares > 1);
            parts.dedup();
            assert_eq!(parts.len(), if apart { shares } else { 1 }, "{fault:?}");
        }
    }
}
