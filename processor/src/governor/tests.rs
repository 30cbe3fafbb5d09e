//! The bucket against a brute-force judge: every window of every simulated run.

use std::time::Duration;

use proptest::prelude::*;

use super::bucket::{Bucket, NANO};

const CALLS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Time passes, in microseconds; 0 is a clock that stands still.
    Pass(u64),
    /// The clock is asked with a time before the last one.
    Back(u64),
    Take(usize),
    /// The oldest call ends: reached the OMS, or did not.
    End(bool),
    Ceiling(u64),
    Pause,
    Resume(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_u64..50_000).prop_map(Step::Pass),
        1 => (0_u64..20_000_000).prop_map(Step::Pass),
        1 => (0_u64..5_000_000).prop_map(Step::Back),
        8 => (1_usize..80).prop_map(Step::Take),
        6 => any::<bool>().prop_map(Step::End),
        1 => (1_u64..3_000).prop_map(Step::Ceiling),
        1 => Just(Step::Pause),
        1 => (0_u64..3_000_000).prop_map(Step::Resume),
    ];
    proptest::collection::vec(step, 1..120)
}

/// Ceiling per second to rate, burst and batch in units, as the governor derives them.
fn sizes(ceiling: u64) -> (u64, u64, u64) {
    let batch = (ceiling / 40).max(1) * NANO;
    (ceiling * NANO, (ceiling * NANO * 3 / 40).max(batch), batch)
}

/// A run: at each row the time and the ceiling since, and every call.
struct Judge {
    rows: Vec<(Duration, u64)>,
    calls: Vec<Call>,
    bound: u64,
}

/// Granted at one row, ended at another (or not); given back means that it never reached the OMS.
struct Call {
    orders: u64,
    granted: usize,
    ended: Option<usize>,
    given_back: bool,
}

impl Judge {
    fn grant(&mut self, orders: usize) {
        let (orders, granted) = (u64::try_from(orders).unwrap(), self.rows.len());
        self.calls.push(Call { orders, granted, ended: None, given_back: false });
    }

    fn under_way(&self) -> usize {
        self.calls.iter().filter(|call| call.ended.is_none()).count()
    }

    /// Ends the oldest call; its orders.
    fn end(&mut self, spent: bool) -> Option<usize> {
        let row = self.rows.len();
        let call = self.calls.iter_mut().find(|call| call.ended.is_none())?;
        (call.ended, call.given_back) = (Some(row), !spent);
        usize::try_from(call.orders).ok()
    }

    /// No window saw more than its ceiling and the bound: what was on its way when it began, and what was
    /// granted in it, is all that can have reached the OMS in it.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut granted = vec![0_u64; self.rows.len()];
        let mut under_way = vec![0_u64; self.rows.len()];
        for call in self.calls.iter().filter(|call| !call.given_back) {
            granted[call.granted] += call.orders;
            let ended = call.ended.unwrap_or(self.rows.len());
            under_way[call.granted..ended].iter_mut().for_each(|sum| *sum += call.orders);
        }
        for (from, under_way) in under_way.iter().enumerate() {
            let mut seen = u128::from(under_way * NANO);
            let mut allowed = u128::from(self.bound);
            prop_assert!(seen <= allowed, "{seen} of {allowed} at row {from}");
            for (pair, granted) in self.rows[from..].windows(2).zip(&granted[from + 1..]) {
                allowed += (pair[1].0 - pair[0].0).as_nanos() * u128::from(pair[0].1);
                seen += u128::from(granted * NANO);
                prop_assert!(seen <= allowed, "{seen} of {allowed} from row {from}");
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn no_window_sees_more_than_the_ceiling_and_the_burst(start in 1_u64..3_000, steps in steps()) {
        let mut ceiling = start;
        let (rate, burst, batch) = sizes(ceiling);
        let mut now = Duration::from_secs(1_000);
        let mut bucket = Bucket::new(rate, burst, batch, 0, now);
        let calls = u64::try_from(CALLS).unwrap();
        let bound = burst.max((calls + 1) * batch);
        let mut judge = Judge { rows: vec![(now, ceiling)], calls: Vec::new(), bound };
        for step in steps {
            match step {
                Step::Pass(micros) => now += Duration::from_micros(micros),
                Step::Back(micros) => {
                    let back = now.saturating_sub(Duration::from_micros(micros));
                    if judge.under_way() < CALLS && let Ok(orders) = bucket.take(1, back) {
                        judge.grant(orders);
                    }
                }
                Step::Take(orders) => {
                    if judge.under_way() < CALLS && let Ok(orders) = bucket.take(orders, now) {
                        judge.grant(orders);
                    }
                }
                Step::End(spent) => match judge.end(spent) {
                    Some(orders) if spent => bucket.spend(orders, now),
                    Some(orders) => bucket.give_back(orders, now),
                    None => {}
                },
                Step::Ceiling(new) => {
                    ceiling = new;
                    let (rate, burst, batch) = sizes(new);
                    judge.bound = judge.bound.max(burst).max((calls + 1) * batch);
                    bucket.set(rate, burst, batch, now);
                }
                Step::Pause => bucket.pause(now),
                Step::Resume(micros) => bucket.resume(Duration::from_micros(micros), now),
            }
            judge.rows.push((now, ceiling));
        }
        judge.check()?;
    }

    #[test]
    fn nothing_drifts(ceiling in 1_u64..100_000, tick_ns in 1_u64..2_000_000_000) {
        // However time is cut up, whole seconds give whole seconds' worth.
        let (rate, _, batch) = sizes(ceiling);
        let huge = u64::MAX / 2;
        let mut now = Duration::ZERO;
        let mut cut = Bucket::new(rate, huge, batch, 0, now);
        let mut whole = Bucket::new(rate, huge, batch, 0, now);
        for _ in 0..100 {
            now += Duration::from_nanos(tick_ns);
            if let Ok(orders) = cut.take(usize::MAX, now) {
                cut.give_back(orders, now);
            }
        }
        if let Ok(orders) = whole.take(usize::MAX, now) {
            whole.give_back(orders, now);
        }
        prop_assert_eq!(cut.level(), whole.level());
    }
}

#[test]
fn the_wait_it_names_is_enough_and_not_a_nanosecond_too_long() {
    let (rate, burst, batch) = sizes(1_500);
    let mut now = Duration::from_secs(5);
    let mut bucket = Bucket::new(rate, burst, batch, 0, now);
    for _ in 0..1_000 {
        let wait = bucket.take(37, now).unwrap_err();
        assert!(bucket.take(37, now + wait - Duration::from_nanos(1)).is_err());
        now += wait;
        let orders = bucket.take(37, now).unwrap();
        bucket.spend(orders, now);
    }
    let taken = now - Duration::from_secs(5);
    let exact = Duration::from_nanos(37_000 * NANO / 1_500);
    assert!(taken.abs_diff(exact) < Duration::from_micros(1), "{taken:?} for {exact:?}");
}

#[test]
fn a_resume_climbs_in_ten_steps_from_an_empty_bucket() {
    let (rate, burst, batch) = sizes(1_000);
    let mut now = Duration::ZERO;
    let mut bucket = Bucket::new(rate, burst, batch, 0, now);
    now += Duration::from_secs(1);
    bucket.pause(now);
    now += Duration::from_secs(60);
    assert!(bucket.take(1, now).is_err(), "nothing gathers in a pause");
    bucket.resume(Duration::from_secs(10), now);
    let mut by_second = Vec::new();
    for _ in 0..12 {
        let end = now + Duration::from_secs(1);
        let mut orders = 0;
        while now < end {
            match bucket.take(1, now) {
                Ok(one) => {
                    orders += one;
                    bucket.spend(one, now);
                }
                Err(wait) => now = (now + wait).min(end),
            }
        }
        by_second.push(orders);
    }
    let expected = [100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000, 1_000, 1_000];
    for (got, want) in by_second.iter().zip(expected) {
        assert!(got.abs_diff(want) <= 1, "{by_second:?}");
    }
}

#[test]
fn what_hangs_at_the_oms_counts_against_the_burst() {
    // A stall of a second with two calls in flight: what gathers meanwhile leaves room for what hangs.
    let (rate, burst, batch) = sizes(1_500);
    let mut now = Duration::ZERO;
    let mut bucket = Bucket::new(rate, burst, batch, 0, now);
    for _ in 0..2 {
        now += Duration::from_millis(25);
        bucket.take(37, now).unwrap();
    }
    now += Duration::from_secs(1);
    assert!(bucket.level() + 2 * 37 * NANO <= burst, "{}", bucket.level());
}
