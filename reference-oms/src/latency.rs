//! How long a call takes.

use std::f64::consts::TAU;
use std::time::Duration;

use crate::faults::Latency;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_9;

/// One latency, drawn at random.
pub(crate) fn draw(latency: Latency) -> Duration {
    let millis = |whole: u64| Duration::from_millis(whole).as_secs_f64();
    let (p50, p99) = (millis(latency.p50), millis(latency.p99));
    if p50 == 0.0 {
        return Duration::ZERO;
    }
    // Two uniform numbers make a normal one.
    let (a, b) = (1.0 - fastrand::f64(), fastrand::f64());
    let normal = (-2.0 * a.ln()).sqrt() * (TAU * b).cos();
    let drawn = p50 * (normal * (p99 / p50).ln() / Z99).exp();
    // The tail has an end.
    Duration::from_secs_f64(drawn.min(p99 * 4.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantiles_are_the_ones_asked_for() {
        fastrand::seed(7);
        let latency = Latency { p50: 20, p99: 200 };
        let mut drawn: Vec<_> = (0..20_000).map(|_| draw(latency)).collect();
        drawn.sort();
        let near = |found: Duration, asked: u64| {
            let ratio = found.as_secs_f64() / Duration::from_millis(asked).as_secs_f64();
            assert!((0.85..1.15).contains(&ratio), "{found:?} for {asked} ms");
        };
        near(drawn[10_000], 20);
        near(drawn[19_800], 200);
        assert_eq!(draw(Latency { p50: 0, p99: 0 }), Duration::ZERO);
    }
}
