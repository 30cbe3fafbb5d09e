//! The outcome index alone, for measuring it at sizes that would take hours through orders.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use forebay_order::Fingerprint;

use super::outcomes::Outcomes;
use crate::OrderState;
use crate::state::Outcome;

/// An outcome index without a journal. It is what the buffer uses, fed with outcomes that are made up from their numbers.
/// Not part of this crate's promises.
pub struct OutcomeIndex(Outcomes);

impl OutcomeIndex {
    /// Opens or creates it, as the buffer does at its start.
    ///
    /// # Errors
    /// In words.
    pub fn open(dir: &Path, horizon: Duration) -> Result<Self, String> {
        Outcomes::open(dir, horizon).map(|(outcomes, _)| Self(outcomes))
    }

    /// Stores outcomes as the buffer does when a segment retires: one batch, synced. Each has its number and the time it
    /// was settled at, ms since 1970.
    ///
    /// # Errors
    /// In words.
    pub fn store(&mut self, outcomes: impl Iterator<Item = (u64, i64)>) -> Result<(), String> {
        let mut batch = self.0.batch(1);
        outcomes.for_each(|(n, at_ms)| batch.add(hash(n), &outcome(n, at_ms)));
        batch.store()?;
        self.0.stored(&batch)
    }

    /// Whether the outcome of that number is there, found as for a delivery of its key.
    pub fn holds(&self, number: u64) -> bool {
        self.0.seek(hash(number)).is_some_and(|seek| seek.find().is_some())
    }
}

impl fmt::Debug for OutcomeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutcomeIndex").finish_non_exhaustive()
    }
}

/// As evenly spread as the hash of a key.
fn hash(number: u64) -> u128 {
    let hash = blake3::hash(&number.to_le_bytes());
    hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes))
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
