//! What the limits, and the share of them that is this process's, come to: ceiling, burst, batch, calls and orders.

use std::time::Duration;

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
    pub(super) limits: Limits,
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
        let mut allowance = Self {
            limits: Limits { in_flight: limits.in_flight.max(1), ..limits },
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
        self.limits.ceiling_per_s = Some(ceiling_per_s);
        self.apply(now);
        Ok(())
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
    pub(super) fn apply(&mut self, now: Duration) {
        let of_share = |orders: usize| whole(orders as f64 * self.share).max(1);
        let Some(ceiling_per_s) = self.limits.ceiling_per_s.map(|all| all * self.share) else {
            self.batch = of_share(self.limits.batch.unwrap_or(BATCH_MAX));
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

/// A positive number of orders in units, rounded; saturates.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates; positive by the caller"
)]
pub(super) fn units_of(orders: f64) -> u64 {
    (orders * NANO as f64).round() as u64
}

/// A positive number's whole part; saturates.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float cast saturates; positive by the caller"
)]
pub(super) fn whole(number: f64) -> usize {
    number as usize
}
