//! Retirement: gives the oldest segment's slot back, when nothing in it is needed any more.
//!
//! Strictly oldest first, for a settle must outlive what it buries. What is live is carried forward, a little a turn;
//! outcomes go to the index, synced, on a thread of their own; then a durable checkpoint says that everything
//! below is retired; only then the journal takes the slot back.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::feed::{Feed, fed_record};
use super::journal::{ReadError, Reader, Segment, WriteError};
use super::lookup::{self, Carried, Copied, Job};
use super::outcomes::{Batch, Seek, Stored};
use super::writer::{Fatal, Writer};
use crate::metrics;
use crate::record::Record;
use crate::state::{Carry, Ended, Head, Kept, Late};

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
/// Orders gathered or forgotten in one turn.
const GATHER_MAX: usize = 1_024;
/// After trouble, or when there was nothing to do, it looks again after this long.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Outcomes on their way into the index.
type Storing = JoinHandle<Result<Stored, String>>;

/// The segment on its way out.
pub(super) struct Retiring {
    epoch: u64,
    step: Step,
}

enum Step {
    /// What is live is looked for among these orders; `again`: something was found, so all are to be looked at again.
    Choosing { orders: Vec<u64>, again: bool },
    /// The lookup thread reads some of it; these orders are left.
    Reading(Vec<u64>),
    /// Nothing is live any more: the ended ones among these orders are gathered.
    Gathering(Vec<u64>, Vec<Ended>),
    /// The outcomes of these orders go to the index.
    Storing(Storing, Vec<u64>),
    /// Their outcomes are in the index: memory lets these orders go.
    Forgetting(Vec<u64>),
    /// The feed is made durable up to that sequence.
    Telling(u64),
}

impl Retiring {
    /// Whether the writer should go on with it at once.
    pub(super) fn wants_a_turn(&self, feed: Option<&Feed>) -> bool {
        match &self.step {
            Step::Choosing { .. } | Step::Gathering(..) | Step::Forgetting(_) => true,
            // Whoever reads or stores wakes the writer.
            Step::Reading(_) => false,
            Step::Storing(storing, _) => storing.is_finished(),
            Step::Telling(told) => feed.is_some_and(|feed| feed.shared.is_synced(*told)),
        }
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
                self.retiring = self.choose(elapsed).map(|epoch| self.begin(epoch));
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
        if self.may_be_replayed(oldest.epoch) && self.has_slots_to_spare(&segments) {
            return None;
        }
        // With the reserve used up, a carry that does not fit would fill the open segment and end nothing.
        (due && (live == 0 || self.journal.room_to_carry(live))).then_some(oldest.epoch)
    }

    /// Whether an order of the segment was settled so lately that it is kept whole.
    fn may_be_replayed(&self, epoch: u64) -> bool {
        let until = |at_ms: i64| at_ms.saturating_add(self.replay_ms);
        self.replay_ms > 0
            && self.state.settled_last(epoch).is_some_and(|at| until(at) > self.sober_wall_ms())
    }

    /// Whether the segments leave a quarter of the disk budget.
    fn has_slots_to_spare(&self, segments: &[Segment]) -> bool {
        let taken = (segments.len() as u64).saturating_mul(self.journal.slot_bytes());
        let bytes_max = self.journal.disk_use().bytes_max;
        taken.saturating_mul(100) <= bytes_max.saturating_mul(DISK_PERCENT_MAX)
    }

    /// Whether all segments together hold over four times what is live: then a well filled oldest one keeps the
    /// disk of sparse ones behind it. To carry everything once writes a third of what that gives back.
    fn mostly_dead(&self, segments: &[Segment]) -> bool {
        // A full segment takes its whole slot, whatever did not fit its end.
        let full = segments.len().saturating_sub(1) as u64;
        full * self.journal.slot_bytes() / LIVE_TIMES_MAX > self.state.live_bytes_all()
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

    fn begin(&self, epoch: u64) -> Retiring {
        let orders = self.state.hanging_on(epoch);
        Retiring { epoch, step: Step::Choosing { orders, again: false } }
    }

    fn retire_on(&mut self, Retiring { epoch, step }: Retiring) -> Result<bool, Fatal> {
        let next = match step {
            Step::Choosing { orders, again } => Some(self.choose_live(epoch, orders, again)),
            Step::Reading(orders) => match self.carried.take() {
                None => {
                    self.retiring = Some(Retiring { epoch, step: Step::Reading(orders) });
                    return Ok(false);
                }
                Some(Ok(carried)) => {
                    self.carry(carried)?.then_some(Step::Choosing { orders, again: true })
                }
                Some(Err(error)) => {
                    tracing::warn!(epoch, %error, "what a segment holds cannot be read to be carried forward; it stays");
                    None
                }
            },
            Step::Gathering(mut orders, mut ended) => {
                let left = orders.len().saturating_sub(GATHER_MAX);
                ended.extend(self.state.ended_among(epoch, orders.drain(left..).rev()));
                Some(if orders.is_empty() {
                    self.store(epoch, ended)?
                } else {
                    Step::Gathering(orders, ended)
                })
            }
            Step::Storing(storing, orders) if !storing.is_finished() => {
                self.retiring = Some(Retiring { epoch, step: Step::Storing(storing, orders) });
                return Ok(false);
            }
            Step::Storing(storing, orders) => self.stored(epoch, storing, orders),
            Step::Forgetting(mut orders) => {
                let left = orders.len().saturating_sub(GATHER_MAX);
                orders.drain(left..).for_each(|order| self.state.indexed(order));
                if orders.is_empty() {
                    return self.told_to(epoch);
                }
                Some(Step::Forgetting(orders))
            }
            Step::Telling(told) => {
                if self.feed.as_ref().is_some_and(|feed| !feed.shared.is_synced(told)) {
                    self.retiring = Some(Retiring { epoch, step: Step::Telling(told) });
                    return Ok(false);
                }
                return self.check_out(epoch, Some(told));
            }
        };
        match next {
            Some(step) => self.retiring = Some(Retiring { epoch, step }),
            None => self.retire_after = self.shared.clock.elapsed() + RETRY_PAUSE,
        }
        Ok(true)
    }

    /// Asks for some of what is live to be read. Once a whole look found nothing, the outcomes are next.
    fn choose_live(&mut self, epoch: u64, mut orders: Vec<u64>, again: bool) -> Step {
        let horizon_ms = self.sober_wall_ms().saturating_sub(self.horizon_ms);
        let carry = self.state.carry_from(epoch, &mut orders, CARRY_MAX, horizon_ms);
        if !carry.is_empty() {
            self.lookup.ask(Job::Carry(carry));
            return Step::Reading(orders);
        }
        match (orders.is_empty(), again) {
            (false, _) => Step::Choosing { orders, again },
            (true, true) => self.begin(epoch).step,
            (true, false) => Step::Gathering(self.state.hanging_on(epoch), Vec::new()),
        }
    }

    /// Writes a few things anew, those that are still as they were read; false if there is no room for it, or nothing
    /// can be done for now.
    fn carry(&mut self, carried: Vec<Carried>) -> Result<bool, Fatal> {
        let mut records = Vec::new();
        let mut held_up = false;
        for carried in carried {
            held_up |= self.carry_one(carried, &mut records);
        }
        if records.is_empty() && held_up {
            return Ok(false);
        }
        self.write_carried(&records)
    }

    /// Writes records that build orders anew, what waits for an order's loan to end behind the order itself; false if there is
    /// no room for them.
    pub(super) fn write_carried(&mut self, records: &[Record]) -> Result<bool, Fatal> {
        match self.journal.carry(records) {
            Ok(placed) => {
                let mut moved = None;
                for (placed, record) in placed.into_iter().zip(records) {
                    if let Record::Moved { order, .. } = record {
                        let at = Some(placed.location);
                        let kept = Kept { record: placed.sequence, location: at, bytes: 0 };
                        moved = Head::of(record, kept).map(|head| (*order, head.before()));
                    }
                    let before = moved.filter(|(moved, _)| record.parked_behind() == Some(*moved));
                    self.apply(placed, record, before.map(|(_, before)| before));
                }
                Ok(true)
            }
            Err(WriteError::Full) => Ok(false),
            Err(error @ WriteError::TooLarge { .. }) => {
                tracing::error!(%error, "what is to be carried forward cannot be written; its segment stays");
                Ok(false)
            }
            Err(error) => Err(self.shared.fail(error.to_string())),
        }
    }

    /// Adds the records that carry one thing forward; whether it must wait for a loan to end. An order whose bytes turn
    /// out damaged is set aside first, and carried once that is durable; while it is lent out it can be neither.
    fn carry_one(&self, carried: Carried, records: &mut Vec<Record>) -> bool {
        let Carried { carry, content, parked, rows } = carried;
        let (sequence, row_ids) = match &carry {
            Carry::Row { id, kept } => {
                if self.state.row_is_at(*id, *kept) {
                    let copied = rows.into_iter().next().flatten();
                    let delivery = copied.map(|copied| copied.delivery);
                    records.extend(self.state.moved_row_record(*id, delivery));
                }
                return false;
            }
            Carry::Order { sequence, rows, .. } => (*sequence, rows),
        };
        let Some(Copied { head, delivery, damaged }) = content else { return false };
        if !self.state.is_as(&carry) {
            return false;
        }
        if damaged {
            if self.state.is_lent(sequence) {
                return true;
            }
            let now_ms = self.shared.clock.wall_ms();
            if let Some(set_aside) = self.state.damaged_order(sequence, now_ms) {
                records.push(set_aside);
                return false;
            }
        }
        records.extend(self.state.moved_record(sequence, &head, delivery));
        records.extend(self.state.leased_again(sequence));
        if let Some(parked) = parked {
            records.extend(self.state.parked_record(sequence, parked.delivery));
        }
        for ((id, _), copied) in row_ids.iter().zip(rows) {
            let delivery = copied.map(|copied| copied.delivery);
            records.extend(self.state.moved_row_record(*id, delivery));
        }
        false
    }

    /// Begins to store the outcomes of a segment that holds nothing else any more.
    fn store(&mut self, epoch: u64, ended: Vec<Ended>) -> Result<Step, Fatal> {
        self.outcomes.expire(self.sober_wall_ms());
        let orders = ended.iter().map(|ended| ended.sequence).collect();
        let late = self.state.late_of(epoch).into_iter();
        let late = late.filter_map(|(order, late)| {
            let seek = self.outcomes.seek(late.hash)?;
            Some((order, late, seek))
        });
        let late: Vec<_> = late.collect();
        let mut batch = self.outcomes.batch(epoch.saturating_add(1));
        let shared = Arc::clone(&self.shared);
        let storing = thread::Builder::new()
            .name("forebay-outcomes".to_owned())
            .spawn(move || {
                let filled = fill(&mut batch, &shared.reader, &ended, &late);
                let stored = filled.and_then(|()| batch.store());
                shared.wake();
                stored
            })
            .map_err(|error| {
                self.shared.fail(format!("no thread for the outcome index: {error}"))
            })?;
        Ok(Step::Storing(storing, orders))
    }

    fn stored(&mut self, epoch: u64, storing: Storing, orders: Vec<u64>) -> Option<Step> {
        let panicked = |_| Err("its writer panicked".to_owned());
        match storing.join().unwrap_or_else(panicked) {
            Ok(stored) => {
                self.outcomes.stored(stored);
                Some(Step::Forgetting(orders))
            }
            Err(reason) => {
                metrics::outcomes_failed();
                tracing::warn!(epoch, %reason, "outcomes cannot be stored; their segment stays");
                None
            }
        }
    }

    /// Nothing of the segment is needed any more; but what its records made of orders must be told durably before they go. What
    /// comes from now on does not need them to be told.
    fn told_to(&mut self, epoch: u64) -> Result<bool, Fatal> {
        let told = self.journal.durable_sequence();
        match &mut self.feed {
            Some(feed) if !self.state.hangs(epoch) => {
                feed.sync(told);
                self.retiring = Some(Retiring { epoch, step: Step::Telling(told) });
                Ok(true)
            }
            _ => self.check_out(epoch, None),
        }
    }

    /// Says durably that the segment is retired, and gives its slot back. Standing orders go with it: only the checkpoint's own group
    /// has room for certain.
    fn check_out(&mut self, epoch: u64, told: Option<u64>) -> Result<bool, Fatal> {
        if self.state.hangs(epoch) {
            // Something came to hang on it since it was looked through.
            self.retiring = Some(self.begin(epoch));
            return Ok(true);
        }
        let retired_below = epoch.saturating_add(1);
        let ended = self.state.ended_codes();
        let now_ms = self.shared.clock.wall_ms();
        let fed = told.map(|told| fed_record(told, retired_below, now_ms));
        let mut records = self.state.policies_to_carry(epoch);
        records.extend(fed);
        records.push(Record::Checkpoint { retired_below, ended });
        match self.journal.append(&records) {
            Ok(placed) => {
                let placed = placed.into_iter().zip(&records);
                placed.for_each(|(placed, record)| self.apply(placed, record, None));
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
        if let Some(Retiring { step: Step::Storing(storing, _), .. }) = self.retiring.take() {
            // Stored or not, the segment is still there and the next start begins anew.
            storing.join().ok();
        }
    }
}

/// Puts outcomes into a batch, with what their records say. One whose record is damaged is left out, and so forgotten.
///
/// # Errors
/// In words: the disk cannot be read now.
fn fill(
    batch: &mut Batch,
    reader: &Reader,
    ended: &[Ended],
    late: &[(u64, Late, Seek)],
) -> Result<(), String> {
    for ended in ended {
        match lookup::head(reader, ended.kept) {
            Ok(head) => batch.add(ended.hash, &ended.outcome(&head)),
            Err(error @ ReadError::Damaged { .. }) => {
                batch.leave_out();
                metrics::outcomes_failed();
                tracing::warn!(%error, order = ended.sequence, "an outcome is not kept");
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    for (order, late, seek) in late {
        if let Some(mut outcome) = seek.find().filter(|outcome| outcome.sequence == *order) {
            late.merge(&mut outcome);
            batch.add(late.hash, &outcome);
        }
    }
    Ok(())
}
