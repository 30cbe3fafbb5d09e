//! How fast the drain is, readable without asking the writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Seconds the pace is averaged over.
const WINDOW_S: u64 = 10;
const SLOTS: usize = 16;
const COUNT_BITS: u32 = 32;

/// Orders settled in each of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    slots: [AtomicU64; SLOTS],
}

impl Meter {
    /// Counts `n` settled orders at `elapsed`. One thread only.
    pub(crate) fn add(&self, elapsed: Duration, n: u64) {
        let second = elapsed.as_secs();
        let Some(slot) = self.slots.get(usize::try_from(second % SLOTS as u64).unwrap_or(0)) else {
            return;
        };
        let now = slot.load(Ordering::Relaxed);
        let count = if now >> COUNT_BITS == second { now & u64::from(u32::MAX) } else { 0 };
        let count = count.saturating_add(n).min(u64::from(u32::MAX));
        slot.store(second << COUNT_BITS | count, Ordering::Relaxed);
    }

    /// Orders settled a second, over the last ten full seconds and the one under way.
    pub(crate) fn per_second(&self, elapsed: Duration) -> f64 {
        let second = elapsed.as_secs();
        let from = second.saturating_sub(WINDOW_S);
        let recent = self.slots.iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|slot| {
            let at = slot >> COUNT_BITS;
            at >= from && at <= second
        });
        let count: u64 = recent.map(|slot| slot & u64::from(u32::MAX)).sum();
        let seconds = WINDOW_S as f64 + elapsed.subsec_millis() as f64 / 1e3;
        count as f64 / seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_last_ten_seconds() {
        let meter = Meter::default();
        for second in 100..110 {
            meter.add(Duration::from_secs(second), 50);
        }
        assert_eq!(meter.per_second(Duration::from_secs(110)), 50.0);
        assert_eq!(meter.per_second(Duration::from_secs(115)), 25.0);
        assert_eq!(meter.per_second(Duration::from_secs(130)), 0.0);
        meter.add(Duration::from_secs(116), 10);
        assert_eq!(meter.per_second(Duration::from_secs(120)), 1.0, "an old slot is taken anew");
    }
}
