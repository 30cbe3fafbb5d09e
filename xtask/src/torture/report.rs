//! What the runs showed, in the shape of all torture reports, and whether that is as promised.

use std::time::Duration;

use forebay_loadtest::Books;
use serde::Serialize;

use super::{Fault, Plan};
use crate::failure::{Failure, Result};

/// What of [`Books::must_be_zero`] has its own count in the report.
const OWN: [&str; 2] = ["lost", "doubled"];

/// What the runs on one store showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Faults that hit a running server.
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
    /// Sectors that were not synced when the power went, on the disk or still in memory.
    pub(super) unsynced_sectors: u64,
    /// How many of those were dropped.
    pub(super) dropped_sectors: u64,
    /// Cuts that kept some of the unsynced sectors on the disk and dropped others.
    pub(super) torn_cuts: u64,
    /// What else of the books is not as promised, in words.
    pub(super) broken: Vec<String>,
}

impl Tally {
    /// Takes in the books of the run.
    pub(super) fn enter(&mut self, books: &Books) {
        self.acknowledged = books.acknowledged;
        self.found = books.twelve().iter().map(|(_, count)| count).sum();
        self.lost = books.lost;
        self.doubled = books.doubled;
        self.found_unacknowledged = books.found_unacknowledged;
        self.unknown = books.unknown;
        let others = books.must_be_zero().into_iter().filter(|(name, _)| !OWN.contains(name));
        self.broken =
            others.filter(|(_, count)| *count > 0).map(|(name, n)| format!("{n} {name}")).collect();
        if !books.balanced() {
            self.broken.push("books not balanced".to_owned());
        }
    }
}

/// The last line.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    name: &'static str,
    runs: u32,
    mode: &'static str,
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
    unsynced_sectors: u64,
    dropped_sectors: u64,
    torn_cuts: u64,
    broken: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            name: plan.fault.name(),
            runs: plan.runs,
            mode: plan.mode(),
            oms: plan.oms.iter().map(|oms| oms.name()).collect::<Vec<_>>().join("+"),
            seed: plan.seed,
            rate_per_s: plan.rate,
            injected: 0,
            acknowledged: 0,
            found: 0,
            lost: 0,
            doubled: 0,
            found_unacknowledged: 0,
            unknown: 0,
            open_failures: 0,
            damaged_listed: 0,
            longest_start_s: 0.0,
            unsynced_sectors: 0,
            dropped_sectors: 0,
            torn_cuts: 0,
            broken: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, tally: &Tally) {
        self.injected += tally.injected;
        self.acknowledged += tally.acknowledged;
        self.found += tally.found;
        self.lost += tally.lost;
        self.doubled += tally.doubled;
        self.found_unacknowledged += tally.found_unacknowledged;
        self.unknown += tally.unknown;
        self.open_failures += tally.open_failures;
        self.damaged_listed += tally.damaged_listed;
        self.longest_start_s = self.longest_start_s.max(tally.longest_start.as_secs_f64());
        self.unsynced_sectors += tally.unsynced_sectors;
        self.dropped_sectors += tally.dropped_sectors;
        self.torn_cuts += tally.torn_cuts;
        self.broken.extend(tally.broken.iter().cloned());
    }

    /// Whether that is as promised, or, of a control, whether it lost as it must.
    ///
    /// # Errors
    /// [`Failure::Missed`] with what is not.
    pub(super) fn judge(&self, plan: &Plan) -> Result<()> {
        let mut missed = Vec::new();
        if self.injected < u64::from(plan.runs) {
            missed.push(format!("only {} of {} faults fired", self.injected, plan.runs));
        }
        if plan.fault == Fault::PowerCut && self.dropped_sectors == 0 {
            missed.push("no cut dropped a sector".to_owned());
        }
        if self.acknowledged == 0 {
            missed.push("nothing was acknowledged".to_owned());
        }
        if self.open_failures > 0 {
            missed.push(format!("{} starts did not open the store", self.open_failures));
        }
        if plan.control {
            if self.lost == 0 {
                missed.push("the control lost nothing, so the runs prove nothing".to_owned());
            }
        } else {
            if self.lost > 0 || self.doubled > 0 {
                missed.push(format!("{} lost, {} doubled", self.lost, self.doubled));
            }
            missed.extend(self.broken.iter().cloned());
        }
        if missed.is_empty() {
            return Ok(());
        }
        Err(Failure::Missed(missed.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Tally {
        Tally { injected: 2, acknowledged: 9, found: 9, dropped_sectors: 4, ..Tally::default() }
    }

    fn judged(control: bool, tally: &Tally) -> Result<()> {
        let plan = Plan { runs: 2, control, ..Plan::new(Fault::PowerCut) };
        let mut report = Report::new(&plan);
        report.add(tally);
        report.judge(&plan)
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
    fn runs_that_proved_nothing_are_missed() {
        for tally in [
            Tally { injected: 1, ..good() },
            Tally { acknowledged: 0, ..good() },
            Tally { dropped_sectors: 0, ..good() },
            Tally { doubled: 1, ..good() },
            Tally { broken: vec!["1 wrong total".to_owned()], ..good() },
        ] {
            assert!(judged(false, &tally).is_err(), "{tally:?}");
        }
    }
}
