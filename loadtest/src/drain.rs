//! How fast orders left, by the OMS's own commit times.

const SECOND_US: i64 = 1_000_000;

/// Summaries a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Drain {
    /// The fullest second.
    pub(crate) peak_per_s: f64,
    /// Over the whole seconds between the first and the last, which are cut.
    pub(crate) mean_per_s: f64,
}

impl Drain {
    /// From commit times in microseconds since 1970, in any order. Seconds are those of the wall clock.
    pub(crate) fn of(mut commits: Vec<i64>) -> Self {
        commits.sort_unstable();
        let (Some(first), Some(last)) = (commits.first().copied(), commits.last().copied()) else {
            return Self::default();
        };
        let second = |at: &i64| at.div_euclid(SECOND_US);
        let peak = commits.chunk_by(|a, b| second(a) == second(b)).map(<[i64]>::len).max();
        let peak_per_s = peak.unwrap_or(0) as f64;
        let (from, to) = (second(&first) + 1, second(&last));
        let whole = commits.iter().filter(|at| (from..to).contains(&second(at))).count();
        let mean_per_s = if to > from {
            whole as f64 / (to - from) as f64
        } else {
            commits.len() as f64 / ((last - first) as f64 / SECOND_US as f64).max(1.0)
        };
        Self { peak_per_s, mean_per_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_and_mean_of_a_steady_drain() {
        // From 0.5 s to 3.5 s, one each millisecond, and a burst of 200 in second 2.
        let mut commits: Vec<i64> = (500..3_500).map(|ms| ms * 1_000).collect();
        commits.extend(std::iter::repeat_n(2_100_000, 200));
        let drain = Drain::of(commits);
        assert_eq!(drain.peak_per_s, 1_200.0);
        assert_eq!(drain.mean_per_s, 1_100.0);
    }

    #[test]
    fn short_and_empty_drains() {
        assert_eq!(Drain::of(vec![]), Drain::default());
        let drain = Drain::of(vec![100, 200, 300]);
        assert_eq!((drain.peak_per_s, drain.mean_per_s), (3.0, 3.0));
    }
}
