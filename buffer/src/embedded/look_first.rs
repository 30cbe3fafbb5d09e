//! When acknowledged orders may be forgotten, that is noted before anything is taken for new: at a start, and where the outcome
//! index forgets while it is in use. What it is for stands in `state::look_first`.

use std::time::Duration;

use jiff::Timestamp;

use super::journal::Journal;
use super::recovery::append;
use super::writer::{Fatal, Writer};
use crate::state::State;

/// Orders may be forgotten: makes durable that the order management system is asked first.
pub(super) fn note(
    journal: &mut Journal,
    state: &mut State,
    horizon: Duration,
    now_ms: i64,
    damage: u64,
) -> Result<(), String> {
    let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX / 2);
    let record = state.look_first_record(now_ms, horizon_ms, damage);
    let stands = append(journal, state, record.as_slice())?;
    stands.then_some(()).ok_or_else(|| {
        "acknowledged orders may be forgotten, and there is no room to note that the order management system must be asked \
         first; free some space"
            .to_owned()
    })
}

/// A digest of damage as told in words; 0 if there is none.
pub(super) fn digest<'a>(notes: impl Iterator<Item = &'a String>) -> u64 {
    let notes: Vec<_> = notes.map(String::as_str).collect();
    let hash = blake3::hash(notes.join("\n").as_bytes());
    let digest = hash.as_bytes().first_chunk().map_or(1, |bytes| u64::from_le_bytes(*bytes));
    if notes.is_empty() { 0 } else { digest.max(1) }
}

/// Says in the log what stands, and what it costs.
pub(super) fn say(state: &State, now_ms: i64) {
    let until_ms = state.look_first().until_ms;
    if let (true, Ok(until)) = (until_ms >= now_ms, Timestamp::from_millisecond(until_ms)) {
        tracing::warn!(
            %until,
            "acknowledged orders may be forgotten, so whatever is accepted until then is looked up in the order management \
             system before it is first sent, which costs a look-up for each batch; one that refuses a second create is not asked"
        );
    }
}

impl Writer {
    /// Where outcomes are forgotten, makes it durable that orders are looked up first, before any that was taken for new
    /// is.
    pub(super) fn note_forgotten(&mut self) -> Result<(), Fatal> {
        if !self.outcomes.has_forgotten() {
            return Ok(());
        }
        let now_ms = self.shared.clock.wall_ms();
        let damage = self.state.look_first().damage;
        let Some(record) = self.state.look_first_record(now_ms, self.horizon_ms, damage) else {
            return Ok(());
        };
        if self.write_carried(std::slice::from_ref(&record))? {
            say(&self.state, now_ms);
        } else {
            // No room for this is none for orders either, and none is lent.
            self.outcomes.forgot();
        }
        Ok(())
    }
}
