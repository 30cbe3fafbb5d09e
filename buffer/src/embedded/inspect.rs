//! A buffer's directory looked at offline, without changing anything.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use forebay_order::{Fingerprint, OrderKey};

use super::journal::{self, Damage, Look, LookError, ReadError, Restored, SegmentSummary};
use super::recovery::{apply_damaged, original_is_there};
use super::{lookup, outcomes};
use crate::record::Record;
use crate::state::{Kept, State};
use crate::{ExceptionCategory, OrderState, OutcomeFigures, Status};

/// Why a directory was not looked at. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no buffer in {}", .0.display())]
    Missing(PathBuf),
    /// A server has it open.
    #[error("the buffer in {} is in use by another process; stop that one first, or look at a copy", .0.display())]
    InUse(PathBuf),
    /// It is of a later format, or the disk cannot be read.
    #[error("the buffer in {} cannot be looked at: {reason}", .dir.display())]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// Looks through the buffer in `dir`, every group and every body of it, and folds the records to what a server would begin
/// with. Writes nothing; a server cannot begin on the directory until the inspection is dropped. Blocks for as long
/// as reading the whole journal takes, and needs the memory a server would.
///
/// # Errors
/// [`InspectError`].
pub fn inspect(dir: &Path) -> Result<Inspection, InspectError> {
    let folded = fold(dir)?;
    let runs = outcomes::look(&dir.join("outcomes"), folded.look.store_secret());
    let runs = runs.map_err(|error| InspectError::Unreadable {
        dir: dir.to_owned(),
        reason: format!("its outcome index: {error}"),
    })?;
    Ok(Inspection { folded, runs })
}

/// A journal, looked at, and what it folds to.
#[derive(Debug)]
pub(super) struct Folded {
    pub(super) look: Look,
    pub(super) state: State,
    /// Orders by ascending sequence; some of them ended.
    pub(super) orders: Vec<u64>,
    records: u64,
}

/// Looks through the journal in `dir`, under a lock that others who read may share.
///
/// # Errors
/// [`InspectError`].
pub(super) fn fold(dir: &Path) -> Result<Folded, InspectError> {
    let unreadable = |reason| InspectError::Unreadable { dir: dir.to_owned(), reason };
    let mut look = journal::look(&dir.join("journal")).map_err(|error| match error {
        LookError::Missing => InspectError::Missing(dir.to_owned()),
        LookError::InUse => InspectError::InUse(dir.to_owned()),
        LookError::Unreadable(reason) => unreadable(reason),
    })?;
    let mut state = State::new(&look.store_secret());
    let mut orders = Vec::new();
    let mut records = 0;
    let reader = look.reader().clone();
    let before = |kept: Kept| lookup::head(&reader, kept).ok().map(|head| head.before());
    let damaged = look.damaged_records().to_vec();
    let mut damaged = damaged.iter().filter(|damaged| damaged.proven).peekable();
    let replayed = look.replay(|restored: Restored| {
        records += 1;
        while let Some(damaged) = damaged.next_if(|damaged| damaged.sequence < restored.sequence) {
            orders.extend(begun_by(&damaged.record, damaged.sequence));
            apply_damaged(&mut state, damaged, before);
        }
        let copy_is_damaged =
            || matches!(reader.read(restored.location), Err(ReadError::Damaged { .. }));
        if original_is_there(&state, &restored.record) && copy_is_damaged() {
            return;
        }
        let (record, location) = (restored.sequence, Some(restored.location));
        orders.extend(begun_by(&restored.record, record));
        let kept = Kept { record, location, bytes: restored.body_bytes };
        state.apply(&restored.record, kept, before);
    });
    replayed.map_err(|error| unreadable(error.to_string()))?;
    for damaged in damaged {
        orders.extend(begun_by(&damaged.record, damaged.sequence));
        apply_damaged(&mut state, damaged, before);
    }
    orders.sort_unstable();
    orders.dedup();
    Ok(Folded { look, state, orders, records })
}

/// The order (or the body that occupies no key) that a record begins, or carries whole.
fn begun_by(record: &Record, sequence: u64) -> Option<u64> {
    match record {
        Record::Accept(_) | Record::Recorded(_) | Record::Stray(_) => Some(sequence),
        Record::Moved { order, .. } => Some(*order),
        _ => None,
    }
}

/// What was found in a buffer's directory.
#[derive(Debug)]
pub struct Inspection {
    folded: Folded,
    runs: Vec<outcomes::Looked>,
}

/// A run of the outcome index of which something does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRun {
    /// Its file.
    pub name: String,
    /// Blocks that do not verify; `None` if nothing of it can be read.
    pub blocks: Option<u64>,
}

/// One order that has not ended, or the body of an open exception about an order.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptOrder {
    /// Sequence of the order's first accepted delivery, or the exception's id.
    pub sequence: u64,
    /// Its key.
    pub key: OrderKey,
    /// Its number, a label.
    pub number: String,
    /// Where the order is.
    pub state: OrderState,
    /// Set for the body of an exception about another order: a conflict, or a change that came too late.
    pub exception: Option<ExceptionCategory>,
    /// When these bytes were accepted, ms since 1970.
    pub accepted_at_ms: i64,
    /// Number of the format they are in.
    pub format: u8,
    /// Fingerprint of the content.
    pub fingerprint: Fingerprint,
    /// The bytes as kept.
    pub body: Bytes,
}

/// An order whose bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes of order {sequence} ({}) cannot be read: {reason}", .key.as_ref().map_or("key unknown".to_owned(), OrderKey::to_string))]
pub struct LostOrder {
    /// Its sequence, or the exception's id.
    pub sequence: u64,
    /// Its key, where it can still be read.
    pub key: Option<OrderKey>,
    /// Where it is.
    pub state: OrderState,
    /// Why.
    pub reason: String,
}

impl Inspection {
    /// Identity of the store, made once and copied with the directory; `None` if there is nothing in it yet.
    pub fn store(&self) -> Option<[u8; 16]> {
        self.folded.look.store_id()
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> u64 {
        self.folded.look.slot_bytes()
    }

    /// Slot files: all, spare ones, ones set aside because they cannot be read or are another store's.
    pub fn slots(&self) -> (u64, u64, u64) {
        (self.folded.look.slots, self.folded.look.spare, self.folded.look.set_aside)
    }

    /// Segments not yet retired, oldest first.
    pub fn segments(&self) -> &[SegmentSummary] {
        &self.folded.look.segments
    }

    /// Records that count.
    pub fn records(&self) -> u64 {
        self.folded.records
    }

    /// Every damaged place, segment by segment, oldest first.
    pub fn damages(&self) -> &[Damage] {
        &self.folded.look.damages
    }

    /// What else is not as it should be, for people; names files, no order.
    pub fn notes(&self) -> &[String] {
        &self.folded.look.notes
    }

    /// Every run of the outcome index that is not whole.
    pub fn damaged_runs(&self) -> impl Iterator<Item = DamagedRun> {
        let damaged = self.runs.iter().filter(|run| run.damaged_blocks != Some(0));
        damaged.map(|run| DamagedRun { name: run.name.clone(), blocks: run.damaged_blocks })
    }

    /// Counts, ages and money as a server would state them at `now_ms`; of the outcome index, what is on the disk.
    pub fn status(&self, now_ms: i64) -> Status {
        let outcomes = OutcomeFigures {
            outcomes: self.runs.iter().map(|run| run.outcomes).sum(),
            runs: self.runs.len() as u64,
            disk_bytes: self.runs.iter().map(|run| run.bytes).sum(),
            memory_bytes: 0,
            damaged_blocks: self.runs.iter().filter_map(|run| run.damaged_blocks).sum(),
        };
        Status { outcomes, ..self.folded.state.status(now_ms) }
    }

    /// Every order that has not ended, then the bodies of open exceptions, by ascending sequence, read from the disk one
    /// by one.
    pub fn orders(&self) -> impl Iterator<Item = Result<KeptOrder, LostOrder>> {
        let orders = self.folded.orders.iter().filter_map(|order| self.order(*order));
        let mut after = 0;
        let rows = std::iter::from_fn(move || {
            let head = self.folded.state.row_heads(after, 1).into_iter().next()?;
            after = head.row.id;
            Some(head)
        });
        let rows = rows.filter(|head| head.row.has_body && head.row.order.is_some());
        orders.chain(rows.filter_map(|head| {
            let kept = head.named_in?;
            Some(self.read(head.row.id, head.row.state, Some(head.row.category), kept))
        }))
    }

    fn order(&self, order: u64) -> Option<Result<KeptOrder, LostOrder>> {
        let state = self.folded.state.state_of(order);
        let kept = (!state.has_ended()).then(|| self.folded.state.body_at(order)).flatten()?;
        Some(self.read(order, state, None, kept))
    }

    fn read(
        &self,
        sequence: u64,
        state: OrderState,
        exception: Option<ExceptionCategory>,
        kept: Kept,
    ) -> Result<KeptOrder, LostOrder> {
        let reader = self.folded.look.reader();
        let lost =
            |key: Option<OrderKey>, reason: String| LostOrder { sequence, key, state, reason };
        let location = kept.location.ok_or_else(|| lost(None, "it is nowhere".to_owned()))?;
        let (_, record) = reader.read(location).map_err(|error: ReadError| {
            let head = reader.head(location).ok();
            let key = head.and_then(|(_, record)| Some(record.delivery()?.envelope.key.clone()));
            lost(key, error.to_string())
        })?;
        let delivery = record.delivery();
        let delivery = delivery.ok_or_else(|| lost(None, "its record holds none".to_owned()))?;
        let envelope = &delivery.envelope;
        Ok(KeptOrder {
            sequence,
            key: envelope.key.clone(),
            number: envelope.number.clone(),
            state,
            exception,
            accepted_at_ms: delivery.accepted_at_ms,
            format: envelope.format,
            fingerprint: envelope.fingerprint,
            body: envelope.body.clone(),
        })
    }
}
