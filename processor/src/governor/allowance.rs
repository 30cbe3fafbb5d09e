//! What the limits, and the share of them that is this process's, come to: ceiling, burst, batch, calls and orders.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Common;

use super::bucket::{Bucket, NANO};
use super::claim::Claimed;
use super::limits::{CEILING_MAX, CeilingError, Limiter, Limits};

/// The most orders in one batch, whatever the ceiling.
const BATCH_MAX: usize = 256;

/// Batches a second at the ceiling, where no batch is set: enough that each is a small part of any second.
const BATCHES_PER_S: f64 = 40.0;

/// The burst in seconds of the ceiling, where none is set: two batches in flight and one that gathers.
const BURST_S: f64 = 0.075;

/// What may be granted, and what is.
pub(super) struct Allowance {
    /// This process's own.
    own: Limits,
    /// What is kept to of them: where another process has a smaller one, that.
    pub(super) limits: Limits,
    pub(super) common: Arc<Common>,
    /// How much of the limits is this process's; 1 unless others drain the same orders.
    pub(super) share: f64,
    pub(super) batch: usize,
    burst_units: u64,
    pub(super) bucket: Option<Bucket>,
    pub(super) calls: usize,
    pub(super) orders: usize,
    pub(super) claimed: Claimed,
    /// No call before this time, because the OMS is in trouble.
    pub(super) not_before: Duration,
    /// Whole calls in a row that failed.
    pub(super) failures: u32,
    /// What the holder of the turn waits for.
    pub(super) waiting: Option<Limiter>,
}

impl Allowance {
    /// Nothing is granted yet, and a ceiling's bucket is empty.
    ///
    /// # Errors
    /// [`CeilingError`] for a ceiling that is none.
    pub(super) fn new(limits: Limits, now: Duration) -> Result<Self, CeilingError> {
        let limits = Limits { in_flight: limits.in_flight.max(1), ..limits };
        let mut allowance = Self {
            own: limits,
            limits,
            common: Arc::default(),
            share: 1.0,
            batch: limits.batch.unwrap_or(BATCH_MAX).max(1),
            burst_units: 0,
            bucket: None,
            calls: 0,
            orders: 0,
            claimed: Claimed::default(),
            not_before: Duration::ZERO,
            failures: 0,
            waiting: None,
        };
        if let Some(ceiling) = limits.ceiling_per_s {
            allowance.set_ceiling(ceiling, now)?;
        }
        Ok(allowance)
    }

    pub(super) fn set_ceiling(
        &mut self,
        ceiling_per_s: f64,
        now: Duration,
    ) -> Result<(), CeilingError> {
        let valid = ceiling_per_s > 0.0 && ceiling_per_s <= CEILING_MAX;
        if !valid || units_of(ceiling_per_s) == 0 {
            return Err(CeilingError(ceiling_per_s));
        }
        self.own.ceiling_per_s = Some(ceiling_per_s);
        self.apply(now);
        Ok(())
    }

    /// Keeps to a share of the limits, and to the smallest of each. Whether that is anything new.
    pub(super) fn keep_to(&mut self, share: f64, common: &Arc<Common>, now: Duration) -> bool {
        let share = share.clamp(0.0, 1.0);
        if self.share.total_cmp(&share).is_eq() && self.common == *common {
            return false;
        }
        (self.share, self.common) = (share, Arc::clone(common));
        self.apply(now);
        true
    }

    /// Orders above the ceiling that any span of time may see; `None` without one.
    pub(super) fn burst(&self) -> Option<f64> {
        self.bucket.as_ref().map(|_| self.burst_units as f64 / NANO as f64)
    }

    /// Calls under way at most.
    pub(super) fn in_flight(&self) -> usize {
        whole(self.limits.in_flight as f64 * self.share).max(1)
    }

    /// Orders outstanding at most: of this process's share one at least.
    pub(super) fn outstanding_max(&self) -> Option<u64> {
        let most = self.limits.outstanding?;
        Some((whole(most as f64 * self.share) as u64).max(1))
    }

    /// Lets the limits and the share have their effect.
    fn apply(&mut self, now: Duration) {
        self.limits = self.own.at_most(&self.common);
        let of_share = |orders: usize| whole(orders as f64 * self.share).max(1);
        let Some(ceiling_per_s) = self.limits.ceiling_per_s.map(|all| all * self.share) else {
            self.batch = of_share(self.limits.batch.unwrap_or(BATCH_MAX));
            self.bucket = None;
            return;
        };
        let fortieth = whole(ceiling_per_s / BATCHES_PER_S).clamp(1, BATCH_MAX);
        self.batch = self.limits.batch.map_or(fortieth, of_share);
        let batch = u64::try_from(self.batch).unwrap_or(u64::MAX).saturating_mul(NANO);
        let burst = match self.limits.burst {
            Some(burst) => units_of(burst as f64 * self.share),
            None => units_of(ceiling_per_s * BURST_S),
        };
        self.burst_units = burst.max(batch);
        let rate = units_of(ceiling_per_s);
        match &mut self.bucket {
            // Nothing may be left for a share that comes after none.
            Some(bucket) if self.share <= 0.0 => bucket.set(0, 0, 0, now),
            Some(bucket) => bucket.set(rate, self.burst_units, batch, now),
            None => {
                self.bucket = Some(Bucket::new(rate, self.burst_units, batch, self.orders, now));
            }
        }
    }
}

/// A positive number of orders in units, never more, so that parts of one add up to it at most; saturates.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates; positive by the caller"
)]
pub(super) fn units_of(orders: f64) -> u64 {
    (orders * NANO as f64) as u64
}

/// A positive number's whole part; saturates.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates; positive by the caller"
)]
pub(super) fn whole(number: f64) -> usize {
    number as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many partitions each of so many processes has once all have joined: as `docs/fleet.md` says, no more than a fair
    /// part rounded up, and the last ones what is left.
    fn packed(partitions: usize, processes: usize) -> Vec<usize> {
        let fair = partitions.div_ceil(processes);
        let mut left = partitions;
        let had = (0..processes).map(|_| {
            let own = fair.min(left);
            left -= own;
            own
        });
        had.filter(|own| *own > 0).collect()
    }

    #[test]
    fn the_shares_of_any_fleet_add_up_to_the_limits_or_one_order_and_one_call_each() {
        let spent = |ceiling: f64, in_flight, owned: &[usize], partitions: usize| {
            let limits = Limits { ceiling_per_s: Some(ceiling), in_flight, ..Limits::default() };
            let (mut rate, mut burst, mut calls, mut batch) = (0, 0, 0, 0);
            for own in owned {
                let mut one = Allowance::new(limits, Duration::ZERO).unwrap();
                let share = *own as f64 / partitions as f64;
                one.keep_to(share, &Arc::default(), Duration::ZERO);
                rate += units_of(ceiling * share);
                burst += one.burst_units;
                calls += one.in_flight();
                batch += one.batch;
            }
            (rate, burst, calls, batch)
        };
        for partitions in [5, 16, 64, 250] {
            for processes in 1..=64 {
                let owned = packed(partitions, processes);
                assert_eq!(owned.iter().sum::<usize>(), partitions);
                for (ceiling, in_flight) in [(0.5, 1), (40.0, 2), (333.3, 7), (20_000.0, 64)] {
                    let (rate, burst, calls, batch) = spent(ceiling, in_flight, &owned, partitions);
                    let case = format!("{ceiling}/s by {processes} of {partitions} partitions");
                    assert!(rate <= units_of(ceiling), "{case}: {rate}");
                    assert!(calls <= in_flight.max(owned.len()), "{case}: {calls} calls");
                    let each = u64::try_from(owned.len()).unwrap() * NANO;
                    assert!(burst <= units_of(ceiling * BURST_S) + each, "{case}: {burst}");
                    assert!(
                        batch <= whole(ceiling / BATCHES_PER_S).max(owned.len()),
                        "{case}: {batch}"
                    );
                }
            }
        }
    }
}
