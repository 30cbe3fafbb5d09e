//! When deliveries arrive.

use std::time::Duration;

use fastrand::Rng;

use crate::Shape;

/// A stretch of a sale: its share of the time, and the level (in mean rates) it starts and ends at.
struct Stretch {
    share: f64,
    from: f64,
    to: f64,
}

/// A flash sale; the areas under the stretches are 0.22, 0.40 and 0.38.
const FLASH: [Stretch; 3] = [
    Stretch { share: 0.2, from: 0.2, to: 2.0 },
    Stretch { share: 0.2, from: 2.0, to: 2.0 },
    Stretch { share: 0.6, from: 19.0 / 30.0, to: 19.0 / 30.0 },
];

const CONSTANT: [Stretch; 1] = [Stretch { share: 1.0, from: 1.0, to: 1.0 }];

/// The moments of so many arrivals within that time, ascending. Gaps are random as independent shoppers
/// make them (exponential), around the shape's rate.
pub(super) fn times(shape: Shape, count: usize, within: Duration, rng: &mut Rng) -> Vec<Duration> {
    let mut at = 0.0;
    let mut places: Vec<f64> = (0..=count)
        .map(|_| {
            at -= (1.0 - rng.f64()).ln();
            at
        })
        .collect();
    let whole = places.pop().unwrap_or(1.0).max(f64::MIN_POSITIVE);
    let stretches: &[Stretch] = match shape {
        Shape::Flash => &FLASH,
        Shape::Constant => &CONSTANT,
    };
    places.into_iter().map(|place| within.mul_f64(moment(stretches, place / whole))).collect()
}

/// The share of the time by which that share of the arrivals has come.
fn moment(stretches: &[Stretch], arrived: f64) -> f64 {
    let (mut before, mut left) = (0.0, arrived);
    for Stretch { share, from, to } in stretches {
        let area = share * (from + to) / 2.0;
        if left <= area {
            let slope = (to - from) / share;
            let into = if slope.abs() < f64::EPSILON {
                left / from
            } else {
                ((from * from + 2.0 * slope * left).sqrt() - from) / slope
            };
            return (before + into).clamp(0.0, 1.0);
        }
        before += share;
        left -= area;
    }
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flash_sale_ramps_spikes_and_settles() {
        let count = 100_000;
        let times = times(Shape::Flash, count, Duration::from_secs(10), &mut Rng::with_seed(3));
        assert!(times.is_sorted());
        assert!(times.last().unwrap() <= &Duration::from_secs(10));
        let in_second = |s: u64| {
            let of = |t: &&Duration| t.as_secs() == s;
            times.iter().filter(of).count() as f64 / (count as f64 / 10.0)
        };
        let near = |value: f64, wanted: f64| (value - wanted).abs() < 0.05;
        assert!(near(in_second(0), 0.65), "ramp {}", in_second(0));
        assert!(near(in_second(3), 2.0), "spike {}", in_second(3));
        assert!(near(in_second(7), 0.633), "plateau {}", in_second(7));
    }

    #[test]
    fn a_constant_rate_is_constant() {
        let times = times(Shape::Constant, 10_000, Duration::from_secs(10), &mut Rng::with_seed(4));
        let half = times.iter().filter(|t| t.as_secs() < 5).count();
        assert!((4_850..5_150).contains(&half), "{half}");
    }
}
