//! How long a refused sender should stay away.

use forebay_buffer::Pace;

/// Seconds after trouble that the next syncs end, or a restart: 1 to 3, at random, so that refused
/// senders do not all come back at once. The backlog has no part in it.
pub(crate) fn soon() -> u64 {
    fastrand::u64(1..=3)
}

/// Seconds until the backlog has drained at the present pace, which is when a full disk has room again:
/// 1 to 300, shaken by a fifth.
pub(crate) fn when_drained(pace: Pace) -> u64 {
    shaken(seconds(pace), fastrand::f64())
}

fn seconds(pace: Pace) -> f64 {
    if pace.pending == 0 {
        return 1.0;
    }
    if pace.drained_per_s <= 0.0 {
        return 300.0;
    }
    let pending = f64::from(u32::try_from(pace.pending).unwrap_or(u32::MAX));
    (pending / pace.drained_per_s).clamp(1.0, 300.0)
}

/// `roll` from 0 to 1 shakes by -20 % to +20 %.
fn shaken(seconds: f64, roll: f64) -> u64 {
    let shaken = (seconds * (0.8 + 0.4 * roll)).clamp(1.0, 300.0);
    u64::try_from(std::time::Duration::from_secs_f64(shaken).as_millis().div_ceil(1000))
        .unwrap_or(300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soon_is_soon_and_not_the_same_for_all() {
        let waits: std::collections::BTreeSet<u64> = (0..1_000).map(|_| soon()).collect();
        assert_eq!(waits, [1, 2, 3].into());
    }

    #[test]
    fn the_wait_follows_backlog_and_pace_within_bounds() {
        let at = |pending, drained_per_s| seconds(Pace { pending, drained_per_s });
        assert_eq!(at(0, 0.0), 1.0);
        assert_eq!(at(5, 0.0), 300.0);
        assert_eq!(at(4_000, 40.0), 100.0);
        assert_eq!(at(10, 40.0), 1.0);
        assert_eq!(at(1_000_000, 40.0), 300.0);
        assert_eq!((shaken(100.0, 0.0), shaken(100.0, 0.5), shaken(100.0, 1.0)), (80, 100, 120));
        assert_eq!((shaken(300.0, 1.0), shaken(1.0, 0.0)), (300, 1));
    }
}
