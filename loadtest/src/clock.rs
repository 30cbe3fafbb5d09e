//! The one place of this crate that reads a clock.

use std::time::Instant;

/// Now, by the clock that never goes back.
#[expect(clippy::disallowed_methods, reason = "a black box has no clock of Forebay's to ask")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
