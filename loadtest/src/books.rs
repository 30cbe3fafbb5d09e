//! The books of a run.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Every delivery of a run, counted once, and what became of the orders.
///
/// `acknowledged` is the sum of the twelve counts after it, where nothing was lost. The last six of them are
/// the fate of each order's first accepted delivery.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Books {
    /// Deliveries the server said it has.
    pub acknowledged: u64,
    /// The same content again.
    pub duplicates: u64,
    /// Newer versions.
    pub amended: u64,
    /// Older versions.
    pub stale: u64,
    /// Cancels.
    pub cancels: u64,
    /// Other contents under a known key.
    pub conflicts: u64,
    /// No orders.
    pub recorded: u64,
    /// Orders that wait for a newer version.
    pub held: u64,
    /// Orders called off in time.
    pub cancelled: u64,
    /// Orders on their way to the OMS.
    pub pending: u64,
    /// Orders sent to the OMS, outcome not known.
    pub submitted: u64,
    /// Orders the OMS has.
    pub summarised: u64,
    /// Orders and bodies that wait for a person, or were discarded by one.
    pub exceptions: u64,

    /// Deliveries refused (4xx or 5xx; a 409 is durable and no refusal).
    pub refused: u64,
    /// Deliveries without an answer, however often they were sent.
    pub unknown: u64,
    /// Orders the server has although no answer said so.
    pub found_unacknowledged: u64,
    /// Acknowledged orders and bodies that are nowhere. Must be 0.
    pub lost: u64,
    /// Orders the OMS was made to create more than once. Must be 0.
    pub doubled: u64,
    /// Summaries with another grand total than the last accepted version. Must be 0.
    pub wrong_total: u64,
    /// Summaries of orders that were cancelled in time or still held. Must be 0.
    pub unwanted: u64,
    /// Keys whose first delivery was accepted twice. Must be 0.
    pub accepted_twice: u64,

    /// Deliveries sent.
    pub offered: u64,
    /// Deliveries sent a second, over the time of offering.
    pub offered_per_s: f64,
    /// Most pending orders at once, as the server said.
    pub backlog_peak: u64,
    /// Most summaries committed in one second, by the OMS's own times.
    pub drain_peak_per_s: f64,
    /// Summaries committed a second, over the whole seconds of the drain.
    pub drain_mean_per_s: f64,
    /// The drain's ceiling, as the server said; `null` where it has none.
    pub drain_ceiling_per_s: Option<f64>,
    /// Half of the acknowledgements came within so many ms of the intended moment of sending.
    pub accept_p50_ms: f64,
    /// 99 of 100 came within so many.
    pub accept_p99_ms: f64,

    /// The seed that makes the same sale again.
    pub seed: u64,
    /// From the first delivery to the end of the drain.
    pub elapsed_s: f64,
    /// [`Books::balanced`].
    pub balanced: bool,
}

impl Books {
    /// Whether every acknowledged delivery is in exactly one of the twelve.
    pub fn balanced(&self) -> bool {
        self.acknowledged == self.twelve().iter().map(|(_, count)| count).sum::<u64>()
    }

    /// Whether the run kept every promise: balanced, and nothing that must be 0 is above it.
    pub fn kept(&self) -> bool {
        self.balanced() && self.must_be_zero().iter().all(|(_, count)| *count == 0)
    }

    /// The books as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
    }

    /// The buckets of the acknowledged, with their names.
    pub fn twelve(&self) -> [(&'static str, u64); 12] {
        [
            ("duplicates", self.duplicates),
            ("amended", self.amended),
            ("stale", self.stale),
            ("cancels", self.cancels),
            ("conflicts", self.conflicts),
            ("recorded", self.recorded),
            ("held", self.held),
            ("cancelled", self.cancelled),
            ("pending", self.pending),
            ("submitted", self.submitted),
            ("summarised", self.summarised),
            ("exceptions", self.exceptions),
        ]
    }

    /// What breaks a promise when it is not 0, with its names.
    pub fn must_be_zero(&self) -> [(&'static str, u64); 5] {
        [
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("wrong total", self.wrong_total),
            ("unwanted", self.unwanted),
            ("accepted twice", self.accepted_twice),
        ]
    }
}

/// A table for a terminal.
impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.balanced(), self.kept()) {
            (true, true) => "balanced, every promise kept",
            (true, false) => "balanced, A PROMISE IS BROKEN",
            (false, _) => "NOT BALANCED",
        };
        writeln!(f, "The books (seed {}, {:.1} s): {verdict}", self.seed, self.elapsed_s)?;
        row(f, "acknowledged", self.acknowledged, "deliveries the server said it has")?;
        for ((name, count), note) in self.twelve().into_iter().zip(NOTES) {
            row(f, &format!("  {name}"), count, note)?;
        }
        row(f, "refused", self.refused, "4xx or 5xx, nothing kept")?;
        row(f, "unknown", self.unknown, "no answer came")?;
        let note = "there, although no answer said so";
        row(f, "found unacknowledged", self.found_unacknowledged, note)?;
        for (name, count) in self.must_be_zero() {
            row(f, name, count, if count == 0 { "" } else { "<-- must be 0" })?;
        }
        writeln!(f)?;
        let ceiling = self.drain_ceiling_per_s;
        let ceiling = ceiling.map_or_else(|| "none".to_owned(), |c| format!("{c:.0}/s"));
        writeln!(
            f,
            "  in      {:>9.0}/s  {} deliveries",
            self.offered_per_s,
            grouped(self.offered)
        )?;
        writeln!(f, "  backlog {:>9}    at its peak", grouped(self.backlog_peak))?;
        writeln!(
            f,
            "  out     {:>9.0}/s  at its peak, {:.0}/s on average, ceiling {ceiling}",
            self.drain_peak_per_s, self.drain_mean_per_s
        )?;
        write!(
            f,
            "  accept  {:>9.1} ms  for half, {:.1} ms for 99 of 100, from the intended moment",
            self.accept_p50_ms, self.accept_p99_ms
        )
    }
}

/// What the twelve mean, in their order.
const NOTES: [&str; 12] = [
    "the same content again",
    "newer versions",
    "older versions",
    "orders called off",
    "other content under a known key",
    "no orders",
    "orders that wait for a newer version",
    "orders that never reached the OMS",
    "orders on their way",
    "orders sent, outcome not known",
    "orders in the OMS",
    "orders and bodies that wait for a person",
];

fn row(f: &mut fmt::Formatter<'_>, name: &str, count: u64, note: &str) -> fmt::Result {
    writeln!(f, "{}", format!("  {name:<22}{:>12}  {note}", grouped(count)).trim_end())
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn books_balance_only_when_all_is_accounted_for() {
        let mut books = Books { acknowledged: 3, summarised: 2, held: 1, ..Books::default() };
        assert!(books.balanced() && books.kept());
        books.lost = 1;
        assert!(books.balanced() && !books.kept());
        books.held = 0;
        assert!(!books.balanced());
    }

    #[test]
    fn json_is_one_line_with_the_names_of_the_contract() {
        let json = Books::default().json();
        assert!(!json.contains('\n'));
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        for name in "acknowledged duplicates amended stale cancels conflicts recorded held cancelled pending \
            submitted summarised exceptions refused unknown found_unacknowledged lost doubled offered \
            offered_per_s backlog_peak drain_peak_per_s drain_ceiling_per_s accept_p50_ms accept_p99_ms \
            seed elapsed_s balanced"
            .split_whitespace()
        {
            assert!(read.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_table_shows_what_must_be_zero_and_is_not() {
        let books = Books { acknowledged: 1_234_567, lost: 2, ..Books::default() };
        let table = books.to_string();
        assert!(table.contains("1,234,567"), "{table}");
        assert!(table.contains("NOT BALANCED") && table.contains("<-- must be 0"), "{table}");
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_000), "1,000");
    }
}
