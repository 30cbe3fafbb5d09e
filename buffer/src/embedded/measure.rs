//! The outcome index alone, for measuring it at sizes that would take hours through orders.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use forebay_order::Fingerprint;

use super::journal::{self, LookError};
use super::outcomes::Outcomes;
use crate::state::Outcome;
use crate::{OrderState, OutcomeFigures};

/// An outcome index without a journal. It is what the buffer uses, fed with outcomes that are made up from their numbers.
/// Not part of this crate's promises.
pub struct OutcomeIndex(Outcomes);

impl OutcomeIndex {
    /// Opens or creates the one of the buffer in `dir`, as the buffer does at its start; the buffer must be closed.
    ///
    /// # Errors
    /// In words.
    pub fn open(dir: &Path, horizon: Duration) -> Result<Self, String> {
        let secret = match journal::look(&dir.join("journal")) {
            Ok(look) => look.store_secret(),
            Err(LookError::Missing) => [0; 16],
            Err(LookError::InUse) => return Err("the buffer is in use".to_owned()),
            Err(LookError::Unreadable(reason)) => return Err(reason),
        };
        let (outcomes, notes) = Outcomes::open(&dir.join("outcomes"), secret, 0, horizon)?;
        if notes.is_empty() { Ok(Self(outcomes)) } else { Err(notes.join("; ")) }
    }

    /// Stores outcomes as the buffer does when a segment retires: one batch, synced. Each has its number and the time it
    /// was settled at, ms since 1970.
    ///
    /// # Errors
    /// In words.
    pub fn store(&mut self, outcomes: impl Iterator<Item = (u64, i64)>) -> Result<(), String> {
        let mut batch = self.0.batch(1);
        outcomes.for_each(|(n, at_ms)| batch.add(hash(n), &outcome(n, at_ms)));
        self.0.stored(batch.store()?);
        Ok(())
    }

    /// Waits until all that is to be merged is merged.
    pub fn wait_until_merged(&self) {
        self.0.wait_until_idle();
    }

    /// What the writer asks of the key of that number: whether its outcome may be there.
    pub fn may_hold(&self, number: u64) -> bool {
        self.0.seek(hash(number)).is_some()
    }

    /// Whether the outcome of that number is there, found as for a delivery of its key.
    pub fn holds(&self, number: u64) -> bool {
        self.0.seek(hash(number)).is_some_and(|seek| seek.find().is_some())
    }

    /// How much there is.
    pub fn figures(&self) -> OutcomeFigures {
        self.0.figures()
    }
}

impl fmt::Debug for OutcomeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutcomeIndex").finish_non_exhaustive()
    }
}

/// As evenly spread, and as long, as the hash of a key, and made in no time.
fn hash(number: u64) -> u128 {
    let upper = mix(number);
    (u128::from(upper) << 64 | u128::from(mix(!upper))) >> 32
}

/// The finaliser of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn outcome(number: u64, settled_at_ms: i64) -> Outcome {
    Outcome {
        sequence: number,
        state: OrderState::Summarised,
        version: Some(1),
        newest: None,
        fingerprint: Fingerprint(hash(number).to_be_bytes()),
        fingerprint_version: Fingerprint::VERSION,
        earlier: Vec::new(),
        accepted_at_ms: settled_at_ms.saturating_sub(60_000),
        settled_at_ms,
        attempts: 0,
        synthetic: false,
        summary_id: format!("0sO{number:015}"),
    }
}
