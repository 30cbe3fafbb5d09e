//! Whether what the OMS committed stayed below the ceiling, by its own commit times.

use forebay_loadtest::Target;
use serde_json::Value;

use super::orders::summaries;
use super::report::Tally;
use super::scene::Scene;
use crate::failure::Result;

/// What the report calls seconds that hold more than they may.
pub(super) const EXCEEDED: &str = "ceiling_exceeded";

/// One second.
const WINDOW_US: i64 = 1_000_000;
/// Batches a second at the ceiling, and the burst in seconds of it: the drain's own where nothing is configured.
const BATCHES_PER_S: u32 = 40;
const BURST_S: f64 = 0.075;

impl Scene<'_> {
    /// Counts the seconds in which the OMS was sent more than the ceiling.
    pub(super) fn count_above_ceiling(&mut self, pauses: &[Pause]) -> Result<()> {
        let commits = commits(self.target()?)?;
        let seen = Ceiling::of(self.plan().fault.torture().ceiling_per_s()).look(&commits, pauses);
        self.tally.count(EXCEEDED, seen.exceeded);
        self.tally.peak("most_in_1s", seen.most);
        Ok(())
    }
}

/// That the ceiling was exceeded, if it was.
pub(super) fn missed(tally: &Tally) -> Option<String> {
    let count = tally.count_of(EXCEEDED);
    (count > 0).then(|| format!("{count} windows of a second saw more than the ceiling"))
}

/// When a worker stood still, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// What may be committed.
#[derive(Clone, Copy, Debug)]
struct Ceiling {
    /// In any second: the ceiling and one burst.
    most: f64,
    /// What a worker may have had on its way when it was stopped.
    batch: f64,
}

/// What was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    /// Seconds that begin with a commit and hold more than they may.
    exceeded: u64,
    /// The most in one second.
    most: f64,
}

impl Ceiling {
    fn of(ceiling_per_s: u32) -> Self {
        let batch = f64::from((ceiling_per_s / BATCHES_PER_S).max(1));
        let ceiling = f64::from(ceiling_per_s);
        Self { most: ceiling + (ceiling * BURST_S).max(batch), batch }
    }

    /// Looks at each second that begins with a commit; the times are in order.
    #[expect(clippy::cast_precision_loss, reason = "some hundreds in a second")]
    fn look(self, commits: &[i64], pauses: &[Pause]) -> Seen {
        let mut seen = Seen::default();
        let mut end = 0;
        for (at, begin) in commits.iter().enumerate() {
            let until = begin + WINDOW_US;
            end += commits.iter().skip(end).take_while(|time| **time < until).count();
            let count = (end - at) as f64;
            seen.most = seen.most.max(count);
            // One that goes on sends within a second what it had; it finds out before anything else.
            let late = |pause: &&Pause| pause.from < until && *begin < pause.to + WINDOW_US;
            let late = pauses.iter().filter(late).count() as f64;
            seen.exceeded += u64::from(count > self.most + late * self.batch);
        }
        seen
    }
}

/// When the OMS behind a server committed each order first, in order.
fn commits(target: Target) -> Result<Vec<i64>> {
    let of = |summary: &Value| summary.get("committed_at_us").and_then(Value::as_i64);
    let mut commits: Vec<i64> = summaries(target)?.values().filter_map(of).collect();
    commits.sort_unstable();
    Ok(commits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many at each of these milliseconds.
    fn at(ms: impl IntoIterator<Item = i64>, each: usize) -> Vec<i64> {
        ms.into_iter().flat_map(|ms| std::iter::repeat_n(ms * 1000, each)).collect()
    }

    #[test]
    fn what_a_drain_at_the_ceiling_commits_is_allowed_and_one_more_is_not() {
        let ceiling = Ceiling::of(200);
        let even = at((0..3_000).step_by(25), 5);
        assert_eq!(ceiling.look(&even, &[]), Seen { exceeded: 0, most: 200.0 });
        let mut burst = at([1_001], 15);
        burst.extend(&even);
        burst.sort_unstable();
        assert_eq!(ceiling.look(&burst, &[]).exceeded, 0);
        burst.push(1_002_000);
        burst.sort_unstable();
        assert!(ceiling.look(&burst, &[]).exceeded > 0);
        let pause = Pause { from: 0, to: 900_000 };
        assert_eq!(ceiling.look(&burst, &[pause]).exceeded, 0, "it was on its way");
        let before = Pause { from: -9, to: -1_000_001 };
        assert!(ceiling.look(&burst, &[before]).exceeded > 0);
    }
}
