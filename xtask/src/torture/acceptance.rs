//! What a fault that is to be outlived without a restart does to others: for how long nothing is accepted, and which orders
//! are taken for its cause.

use std::time::Duration;

use forebay_loadtest::Target;

use super::orders::{exceptions, text};
use super::scene::Scene;
use crate::failure::{Failure, Result};
use crate::time::Stopwatch;

/// How long nothing may be accepted, whatever was struck.
const LULL_LIMIT: Duration = Duration::from_secs(60);
/// What the report calls the longest time without an acceptance.
pub(super) const LONGEST_REFUSAL: &str = "longest_refusal_s";

/// What the report calls deliveries that were refused for the moment so often that their sender gave up.
pub(super) const GIVEN_UP: &str = "given_up";

/// What the report calls orders that were taken for what had ended a process.
pub(super) const SET_ASIDE: &str = "set_aside";

impl Scene<'_> {
    /// Counts orders that wait for a person because processes ended while they were lent; none of them did that.
    pub(super) fn count_set_aside(&mut self, target: Target) -> Result<()> {
        let rows = exceptions(target)?;
        let aside = rows.iter().filter(|row| text(row, "category") == "poison").count();
        self.tally.count(SET_ASIDE, aside as u64);
        Ok(())
    }

    /// Counts deliveries whose senders gave up.
    pub(super) fn count_given_up(&mut self) -> Result<()> {
        let given_up = self.load()?.given_up();
        self.tally.count(GIVEN_UP, given_up);
        Ok(())
    }

    /// Waits until one more delivery is acknowledged, or the sale is over.
    pub(super) fn accepts_again(&mut self) -> Result<()> {
        let (before, watch) = (self.acknowledged(), Stopwatch::start());
        while self.acknowledged() == before && !self.load()?.is_over() {
            if watch.left_of(LULL_LIMIT).is_zero() {
                let why = format!("nothing was accepted for {LULL_LIMIT:?}");
                return Err(Failure::Missed(why));
            }
            self.wait(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Ends the segment of the load, and enters for how long nothing was accepted in any.
    pub(super) fn stop_load(&mut self) -> Result<()> {
        self.load()?.stop()?;
        self.enter_lull(LONGEST_REFUSAL).map(drop)
    }

    /// Enters for how long nothing was accepted since this was last done.
    pub(super) fn enter_lull(&mut self, name: &'static str) -> Result<Duration> {
        let lull = self.load()?.take_longest_lull();
        self.tally.peak(name, lull.as_secs_f64());
        Ok(lull)
    }
}
