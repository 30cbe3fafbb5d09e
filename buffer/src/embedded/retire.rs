//! Retirement: gives the oldest segment's slot back, when nothing in it is needed any more.
//!
//! Strictly oldest first, for a settle must outlive what it buries. What is live is carried forward, a little a turn;
//! outcomes go to the index, synced, on a thread of their own; then a durable checkpoint says that everything
//! below is retired; only then the journal takes the slot back.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::journal::{Placed, ReadError, Segment, WriteError};
use super::outcomes::Batch;
use super::writer::{Fatal, Writer};
use crate::metrics;
use crate::record::{Delivery, Record};
use crate::state::{Carry, Kept};

/// Below this share of live bytes the oldest segment is emptied.
const LIVE_PERCENT_MIN: u64 = 25;
/// Below this share it is emptied once it is that old.
const LIVE_PERCENT_OLD: u64 = 50;
const OLD: Duration = Duration::from_secs(600);
/// Above this many times the live bytes it is emptied whatever its share.
const LIVE_TIMES_MAX: u64 = 4;
/// Above this use of the disk budget it is emptied whatever its share, if younger ones hold enough to gain.
const DISK_PERCENT_MAX: u64 = 75;
/// Things carried forward in one turn.
const CARRY_MAX: usize = 128;
const CARRY_BYTES_MAX: u64 = 1 << 20;
/// After trouble, or when there was nothing to do, it looks again after this long.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Outcomes on their way into the index.
type Storing = JoinHandle<(Batch, Result<(), String>)>;

/// The segment on its way out.
pub(super) struct Retiring {
    epoch: u64,
    storing: Option<Storing>,
}

impl Retiring {
    /// Whether the writer should go on with it at once.
    pub(super) fn wants_a_turn(&self) -> bool {
        self.storing.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Writer {
    /// One step of retirement; whether anything was done.
    pub(super) fn retire(&mut self) -> Result<bool, Fatal> {
        let elapsed = self.shared.clock.elapsed();
        match self.retiring.take() {
            Some(retiring) => self.retire_on(retiring),
            None if elapsed < self.retire_after => Ok(false),
            None => {
                self.retiring = self.choose(elapsed).map(|epoch| Retiring { epoch, storing: None });
                Ok(self.retiring.is_some())
            }
        }
    }

    /// The oldest segment, if it is time for it to go.
    fn choose(&mut self, elapsed: Duration) -> Option<u64> {
        let segments = self.journal.segments();
        let oldest = segments.first().filter(|oldest| oldest.epoch < self.journal.epoch())?;
        let first_seen = match self.oldest_since {
            Some((epoch, since)) if epoch == oldest.epoch => since,
            _ => {
                self.oldest_since = Some((oldest.epoch, elapsed));
                elapsed
            }
        };
        let old = elapsed.saturating_sub(first_seen) >= OLD;
        let live = self.state.live_bytes(oldest.epoch);
        let share = live.saturating_mul(100) / oldest.bytes.max(1);
        let due = share < LIVE_PERCENT_MIN
            || (old && share < LIVE_PERCENT_OLD)
            || self.mostly_dead(&segments)
            || (self.crowded(&segments) && self.gain(&segments));
        // With the reserve used up, a carry that does not fit would fill the open segment and end nothing.
        (due && (live == 0 || self.journal.room_to_carry(live))).then_some(oldest.epoch)
    }

    /// Whether all segments together hold over four times what is live: then a well filled oldest one keeps the
    /// disk of sparse ones behind it. To carry everything once writes a third of what that gives back.
    fn mostly_dead(&self, segments: &[Segment]) -> bool {
        let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
        used / LIVE_TIMES_MAX > self.state.live_bytes_all()
    }

    /// Whether the disk budget is nearly used up.
    fn crowded(&self, segments: &[Segment]) -> bool {
        let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let bytes_max = self.journal.disk_use().bytes_max;
        used.saturating_mul(100) > bytes_max.saturating_mul(DISK_PERCENT_MAX)
            || !self.journal.room_for_orders()
    }

    /// Whether at least a quarter of what all segments hold is not needed any more.
    fn gain(&self, segments: &[Segment]) -> bool {
        let used: u64 = segments.iter().map(|segment| segment.bytes).sum();
        self.state.live_bytes_all().saturating_mul(4) < used.saturating_mul(3)
    }

    fn retire_on(&mut self, mut retiring: Retiring) -> Result<bool, Fatal> {
        if let Some(storing) = retiring.storing {
            if !storing.is_finished() {
                retiring.storing = Some(storing);
                self.retiring = Some(retiring);
                return Ok(false);
            }
            return self.stored(retiring.epoch, storing);
        }
        let horizon_ms = self.sober_wall_ms().saturating_sub(self.horizon_ms);
        let carry = self.state.carry_from(retiring.epoch, CARRY_MAX, horizon_ms);
        if carry.is_empty() && self.state.policies_to_carry(retiring.epoch).is_empty() {
            retiring.storing = Some(self.store(retiring.epoch)?);
            self.retiring = Some(retiring);
            return Ok(true);
        }
        if self.carry(retiring.epoch, carry)? {
            self.retiring = Some(retiring);
        } else {
            self.retire_after = self.shared.clock.elapsed() + RETRY_PAUSE;
        }
        Ok(true)
    }

    /// Writes a few things anew; false if there is no room for it, or the disk cannot be read now.
    fn carry(&mut self, epoch: u64, carry: Vec<Carry>) -> Result<bool, Fatal> {
        let mut records = self.state.policies_to_carry(epoch);
        let mut bytes = 0;
        for item in carry {
            if bytes >= CARRY_BYTES_MAX {
                break;
            }
            match self.carry_one(item) {
                Ok((carried, size)) => {
                    records.extend(carried);
                    bytes += size;
                }
                Err(error) => {
                    tracing::warn!(%error, "a segment cannot be emptied");
                    return Ok(false);
                }
            }
        }
        match self.journal.carry(&records) {
            Ok(placed) => {
                for (placed, record) in placed.into_iter().zip(&records) {
                    self.apply(placed, record);
                }
                Ok(true)
            }
            Err(WriteError::Full) => Ok(false),
            Err(error @ WriteError::TooLarge { .. }) => {
                tracing::error!(%error, "a segment cannot be emptied");
                Ok(false)
            }
            Err(error) => Err(self.shared.fail(error.to_string())),
        }
    }

    /// The records that carry one thing forward, and the bytes of its bodies. Bytes that turn out damaged are
    /// carried as none, and the order becomes an exception.
    fn carry_one(&self, item: Carry) -> Result<(Vec<Record>, u64), ReadError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        match item {
            Carry::Order { sequence, kept, parked, with_body, rows } => {
                let (delivery, damaged) = self.kept_delivery(kept, with_body)?;
                bytes += delivery.envelope.body.len();
                records.extend(self.state.moved_record(sequence, delivery));
                records.extend(self.state.leased_again(sequence));
                if damaged {
                    let now_ms = self.shared.clock.wall_ms();
                    records.extend(self.state.damaged_order(sequence, now_ms));
                }
                if let Some(parked) = parked {
                    let (delivery, _) = self.kept_delivery(parked, true)?;
                    bytes += delivery.envelope.body.len();
                    records.extend(self.state.parked_record(sequence, delivery));
                }
                for (id, kept) in rows {
                    bytes += self.carry_row(id, kept, &mut records)?;
                }
            }
            Carry::Row { id, kept } => bytes += self.carry_row(id, kept, &mut records)?,
        }
        Ok((records, bytes as u64))
    }

    fn carry_row(
        &self,
        id: u64,
        kept: Option<Kept>,
        records: &mut Vec<Record>,
    ) -> Result<usize, ReadError> {
        let delivery = kept.map(|kept| self.kept_delivery(kept, true)).transpose()?;
        let delivery = delivery.map(|(delivery, _)| delivery);
        let bytes = delivery.as_ref().map_or(0, |delivery| delivery.envelope.body.len());
        records.extend(self.state.moved_row_record(id, delivery));
        Ok(bytes)
    }

    /// A delivery as kept, and whether its bytes are damaged (and left out).
    fn kept_delivery(&self, kept: Kept, with_body: bool) -> Result<(Delivery, bool), ReadError> {
        let lost = || ReadError::Io("a record that should hold a delivery holds none".to_owned());
        let location = kept.location.ok_or_else(lost)?;
        let reader = &self.shared.reader;
        let (read, damaged) = match with_body.then(|| reader.read(location)) {
            Some(Err(ReadError::Damaged { .. })) => (reader.head(location), true),
            Some(read) => (read, false),
            None => (reader.head(location), false),
        };
        let (_, record) = read?;
        Ok((record.delivery().ok_or_else(lost)?.clone(), damaged))
    }

    fn store(&mut self, epoch: u64) -> Result<Storing, Fatal> {
        self.outcomes.expire(self.sober_wall_ms());
        let mut outcomes = self.state.outcomes_of(epoch);
        outcomes.extend(self.state.late_outcomes_of(epoch, |hash| self.outcomes.find(hash)));
        let batch = self.outcomes.batch(&outcomes);
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name("forebay-outcomes".to_owned())
            .spawn(move || {
                let stored = batch.store();
                shared.wake();
                (batch, stored)
            })
            .map_err(|error| self.shared.fail(format!("no thread for the outcome index: {error}")))
    }

    fn stored(&mut self, epoch: u64, storing: Storing) -> Result<bool, Fatal> {
        let stored = match storing.join() {
            Ok((batch, Ok(()))) => self.outcomes.stored(&batch),
            Ok((_, Err(reason))) => Err(reason),
            Err(_) => Err("its writer panicked".to_owned()),
        };
        if let Err(reason) = stored {
            metrics::outcomes_failed();
            tracing::warn!(%reason, "outcomes cannot be stored; their segment stays");
            self.retire_after = self.shared.clock.elapsed() + RETRY_PAUSE;
            return Ok(true);
        }
        let retired_below = epoch.saturating_add(1);
        let ended = self.state.ended_codes();
        let checkpoint = Record::Checkpoint { retired_below, ended };
        match self.journal.append(std::slice::from_ref(&checkpoint)) {
            Ok(placed) => {
                placed.into_iter().for_each(|placed: Placed| self.apply(placed, &checkpoint));
            }
            Err(WriteError::Full) => {
                self.retire_after = self.shared.clock.elapsed() + RETRY_PAUSE;
                return Ok(true);
            }
            Err(error) => return Err(self.shared.fail(error.to_string())),
        }
        let retired = self.journal.retire(retired_below);
        retired.map_err(|error| self.shared.fail(error.to_string()))?;
        self.state.retired(epoch);
        self.full_until = Duration::ZERO;
        metrics::retired();
        Ok(true)
    }

    /// Waits for outcomes that are being stored, so that the index is closed with the writer.
    pub(super) fn settle_retiring(&mut self) {
        if let Some(storing) = self.retiring.take().and_then(|retiring| retiring.storing) {
            // Stored or not, the segment is still there and the next start begins anew.
            storing.join().ok();
        }
    }
}
