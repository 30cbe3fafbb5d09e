//! One append, one sync; then what it says takes effect, and everybody is answered.

use std::sync::atomic::Ordering;

use super::group::{Group, Then};
use super::journal::{Placed, WriteError};
use super::lookup::Job;
use super::shared::{Call, Lent, Seen};
use super::writer::{FULL_PAUSE, Fatal, Writer, answer};
use crate::metrics;
use crate::record::Record;
use crate::state::{Before, Kept};
use crate::step::Step;
use crate::{ActError, ActReceipt, AppendError, BufferError, Durability, Effect};

impl Writer {
    /// One append, one sync; then everything is applied and everybody answered.
    pub(super) fn commit(&mut self, group: Group) -> Result<(), Fatal> {
        let lazy = std::mem::take(&mut self.lazy);
        let (records, thens) = group.into_records(lazy);
        Step::Settling.reached(|| records.iter().any(settles));
        let appended = self.append_all(records, thens)?;
        Step::Settled.reached(|| appended.iter().any(|(_, record, _)| settles(record)));
        self.touched_hashes.clear();
        if self.lazy.is_empty() {
            self.touched.clear();
        }
        if let Some(feed) = &self.feed {
            feed.shared.reached(self.journal.durable_sequence());
        }
        for (placed, record, then) in appended {
            let before = match &then {
                Then::Accepted { judged, .. } => judged.before,
                _ => None,
            };
            self.apply(placed, &record, before);
            let accepted_at_ms = record.delivery().map(|delivery| delivery.accepted_at_ms);
            self.answer(placed.sequence, accepted_at_ms.unwrap_or_default(), then);
        }
        if let Some(feed) = self.feed.as_mut().filter(|_| self.lazy.is_empty()) {
            feed.forget_names();
        }
        self.tell();
        if self.lazy.is_empty() {
            // Noted, and so counted.
            self.coming.clear();
        }
        Ok(())
    }

    /// Appends what there is room for; whatever is refused is answered here.
    fn append_all(
        &mut self,
        mut records: Vec<Record>,
        mut thens: Vec<Then>,
    ) -> Result<Vec<(Placed, Record, Then)>, Fatal> {
        loop {
            match self.append(&records) {
                Ok(placed) => {
                    let records = records.into_iter().zip(thens);
                    return Ok(placed
                        .into_iter()
                        .zip(records)
                        .map(|(p, (r, t))| (p, r, t))
                        .collect());
                }
                Err(error @ WriteError::TooLarge { index, .. }) if index < records.len() => {
                    let record = records.remove(index);
                    let then = thens.remove(index);
                    if matches!(then, Then::Nothing) {
                        // Texts are cut and lists are short, so it cannot be; to drop it would keep its order lent.
                        tracing::error!(%error, "a note nobody waits for cannot be kept");
                        drop(record);
                    }
                    then.refuse(&AppendError::TooLarge);
                }
                Err(WriteError::Full) if thens.iter().any(Then::is_order) => {
                    let (mut kept, mut kept_thens) = (Vec::new(), Vec::new());
                    for (record, then) in records.into_iter().zip(thens) {
                        if then.is_order() {
                            then.refuse(&AppendError::Full);
                        } else {
                            kept.push(record);
                            kept_thens.push(then);
                        }
                    }
                    (records, thens) = (kept, kept_thens);
                }
                Err(WriteError::Full) => {
                    self.no_room_at_all(records, thens);
                    return Ok(Vec::new());
                }
                Err(error) => return Err(self.shared.fail(error.to_string())),
            }
            if records.is_empty() {
                return Ok(Vec::new());
            }
        }
    }

    fn append(&mut self, records: &[Record]) -> Result<Vec<Placed>, WriteError> {
        #[cfg(test)]
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        self.journal.append(records)
    }

    /// Not even the reserve has room: what nobody waits for waits on, loans are taken back, the rest hears so.
    fn no_room_at_all(&mut self, records: Vec<Record>, thens: Vec<Then>) {
        self.full_until = self.shared.clock.elapsed() + FULL_PAUSE;
        for (record, then) in records.into_iter().zip(thens) {
            match then {
                Then::Nothing => self.lazy.push(record),
                Then::Lent(reply, lent) => {
                    for (loan, _) in lent.into_iter().filter_map(Lent::take) {
                        self.state.unlend(&loan);
                    }
                    // No failure: there is nothing to be lent until a segment has retired.
                    reply.send(Vec::new()).ok();
                }
                then => then.refuse(&AppendError::Full),
            }
        }
        self.refuse_put_off();
    }

    /// What is put off waits for an order that the open group touches. Where that cannot be written, it would be looked at again and
    /// again for nothing.
    pub(super) fn refuse_put_off(&mut self) {
        for append in self.deferred.drain(..) {
            append.reply.send(Err(AppendError::Full));
        }
        for act in std::mem::take(&mut self.acts) {
            let full = || BufferError::Failed(AppendError::Full.to_string());
            match act {
                Call::Act { reply, .. } => drop(reply.send(Err(ActError::Buffer(full())))),
                Call::Tell { reply, .. } => drop(reply.send(Err(full()))),
                Call::SendAgain(again) => drop(again.reply.send(Err(full()))),
                _ => {}
            }
        }
    }

    /// Hands over to the feed what is durable and applied.
    pub(super) fn tell(&mut self) {
        if let Some(feed) = &mut self.feed {
            let durable = self.journal.durable_sequence();
            feed.shared.reached(durable);
            feed.tell(durable);
        }
    }

    /// `before` is the content the record takes the place of, if any.
    pub(super) fn apply(&mut self, placed: Placed, record: &Record, before: Option<Before>) {
        let bytes = record.delivery().map_or(0, |delivery| delivery.envelope.body.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let location = Some(placed.location);
        self.state.apply(record, Kept { record: placed.sequence, location, bytes }, |_| before);
        if let Some(feed) = &mut self.feed {
            feed.note(&mut self.state, placed.location, record);
        }
        self.shared.outstanding.store(self.state.outstanding(), Ordering::Release);
        if let Record::Settle { entries } = record {
            metrics::summarised(entries.len() as u64);
            self.shared.meter.add(self.shared.clock.elapsed(), entries.len() as u64);
        }
    }

    fn answer(&mut self, sequence: u64, accepted_at_ms: i64, then: Then) {
        match then {
            Then::Nothing => {}
            Then::Sent(reply, noted) => {
                reply.send(noted).ok();
            }
            Then::Lent(reply, lent) => {
                // Nobody there any more: dropping the loans gives the orders back.
                reply.send(lent).ok();
            }
            Then::Again(reply) => {
                reply.send(Ok(true)).ok();
            }
            Then::Told(reply) => {
                reply.send(Ok(Effect::Done)).ok();
            }
            Then::Acted { exception, act, acting, reply } => {
                let state = self.state.state_after(acting);
                reply.send(Ok(ActReceipt { id: exception, act, state })).ok();
            }
            Then::Accepted { judged, outcome, permit, reply } => {
                let durability = Durability::Fsync;
                let written = Some((sequence, accepted_at_ms));
                let receipt = self.state.receipt(&judged, written, outcome.as_deref(), durability);
                answer(reply, receipt);
                drop(permit);
            }
        }
    }

    pub(super) fn serve(&mut self, read: Call) {
        match read {
            Call::Where { sequence, loan, reply } => {
                reply.send(self.state.kept_on_loan(sequence, loan)).ok();
            }
            Call::Order { key, reply } => match self.state.view(&key) {
                Some(sight) => {
                    reply.send(Some(Seen::Live(sight))).ok();
                }
                None => match self.outcomes.seek(self.state.hash_of_key(&key)) {
                    Some(seek) => self.lookup.ask(Job::View { key, seek, reply }),
                    None => {
                        reply.send(None).ok();
                    }
                },
            },
            Call::BodyAt { sequence, reply } => {
                reply.send(self.state.body_at(sequence)).ok();
            }
            Call::Rows { after, limit, reply } => {
                reply.send(self.state.row_heads(after, limit)).ok();
            }
            Call::Status { reply } => {
                let mut status = self.state.status(self.shared.clock.wall_ms());
                let disk = self.journal.disk_use();
                status.durable_sequence = self.journal.durable_sequence();
                status.durability = Durability::Fsync.to_string();
                (status.disk_bytes, status.disk_bytes_max) = (disk.bytes, disk.bytes_max);
                status.segments = disk.segments;
                status.outcomes = self.outcomes.figures();
                status.journal_bytes_written = disk.written;
                status.journal_payload_bytes = disk.payload;
                status.write_mode = self.journal.write_mode().word();
                status.recovery = self.recovery.clone();
                reply.send(status).ok();
            }
            Call::SummarisedSince { since_ms, after, limit, reply } => {
                reply.send(self.state.summarised_since(since_ms, after, limit)).ok();
            }
            // None of these is a read; each is answered where it is taken.
            Call::Lease { .. }
            | Call::Sending { .. }
            | Call::Act { .. }
            | Call::SendAgain(_)
            | Call::Tell { .. }
            | Call::TakeIn(_)
            | Call::Close { .. } => {}
        }
    }
}

/// Whether it says that orders are summarised.
fn settles(record: &Record) -> bool {
    matches!(record, Record::Settle { .. })
}
