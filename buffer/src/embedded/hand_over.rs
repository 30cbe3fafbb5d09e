//! A directory whose orders another store takes over: read, and never changed.
//!
//! What is found is what a start would find; a file beside the journal says that the orders are on their way, so that no service
//! begins on them again. It is locked for as long as they are being handed over.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::inspect::{Folded, InspectError, fold};
use super::journal::{Look, ReadError};
use super::outcomes::Archive;
use crate::digest::KeyHasher;
use crate::migrate::{HandsOver, Whole};
use crate::record::{LOST, Record};
use crate::state::{Head, Kept, Late, Outcome, State, content_among};
use crate::{BufferError, Clock, OrderState};

/// The file that says where the orders went.
const NOTE: &str = "handed-over";

/// Things handed over together, and about how many bytes of orders.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// Where the orders of a directory went; `None` if they are there.
pub(super) fn went_to(dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(dir.join(NOTE)) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A directory, looked at for good.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    state: State,
    hasher: KeyHasher,
    look: Look,
    archive: Archive,
    /// Orders in memory, oldest first.
    orders: Vec<u64>,
    /// What changes that came too late add to outcomes.
    late: HashMap<u128, (u64, Late)>,
    /// Exception rows of orders of which only the outcome is left.
    rows: HashMap<u128, Vec<(u64, Kept)>>,
    look_first_until_ms: i64,
    now_ms: i64,
    /// Locked.
    note: File,
}

/// Why a directory cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error("another process is handing the buffer in {0} over; there can be one only")]
    Locked(String),
    #[error("the buffer in {0} cannot be handed over: {1}")]
    Io(String, io::Error),
}

impl Directory {
    /// Reads all of a directory but the bytes of its orders. Blocks on the disk.
    ///
    /// # Errors
    /// [`HandOverError`]
    pub(crate) fn open(
        dir: &Path,
        horizon_ms: i64,
        clock: &dyn Clock,
    ) -> Result<Self, HandOverError> {
        let name = dir.display().to_string();
        let failed = |error| HandOverError::Io(name.clone(), error);
        // Before anything of ours is left in a directory that holds no buffer.
        let Folded { look, mut state, mut orders, .. } = fold(dir)?;
        let note =
            File::options().create(true).append(true).open(dir.join(NOTE)).map_err(failed)?;
        note.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => HandOverError::Locked(name.clone()),
            TryLockError::Error(error) => failed(error),
        })?;
        let now_ms = clock.wall_ms();
        settle_down(&mut state, &look, now_ms);
        orders.retain(|order| state.kept(*order).is_some());
        let archive = Archive::open(&dir.join("outcomes"), look.store_secret()).map_err(failed)?;
        let mut rows: HashMap<u128, Vec<(u64, Kept)>> = HashMap::new();
        let hasher = KeyHasher::new(&look.store_secret());
        for (id, kept) in state.rows_without_order() {
            let read = kept.location.map(|location| look.reader().head(location));
            if let Some(Ok((_, record))) = read
                && let Some(delivery) = record.delivery()
            {
                rows.entry(hasher.of_key(&delivery.envelope.key)).or_default().push((id, kept));
            }
        }
        let late = state.late_of(u64::MAX).into_iter();
        let late = late.map(|(order, late)| (late.hash, (order, late))).collect();
        let whole = look.notes.is_empty()
            && look.damages.is_empty()
            && archive.notes.is_empty()
            && archive.stored_below >= look.retired_below;
        let forgets = if whole { i64::MIN } else { now_ms.saturating_add(horizon_ms) };
        let look_first_until_ms = state.look_first().until_ms.max(forgets);
        Ok(Self(Arc::new(Inner {
            state,
            hasher,
            look,
            archive,
            orders,
            late,
            rows,
            look_first_until_ms,
            now_ms,
            note,
        })))
    }

    /// The store's secret, and the first sequence that no record of it has.
    pub(crate) fn ends_with(&self) -> ([u8; 16], u64) {
        (self.0.look.store_secret(), self.0.look.next_sequence)
    }

    /// Until when whatever was accepted is to be looked up before it is first sent, ms since 1970.
    pub(crate) fn look_first_until_ms(&self) -> i64 {
        self.0.look_first_until_ms
    }

    /// Notes durably where the orders go. No service begins on the directory after it.
    ///
    /// # Errors
    /// Of the file system.
    pub(crate) fn goes_to(&self, place: &str) -> io::Result<()> {
        let mut note = &self.0.note;
        if note.metadata()?.len() == 0 {
            writeln!(note, "{place}")?;
        }
        note.sync_all()
    }
}

/// What a start would do before it serves: loans of the process that ended are over, and orders whose bytes are damaged are set
/// aside.
fn settle_down(state: &mut State, look: &Look, now_ms: i64) {
    for (n, record) in (look.next_sequence..).zip(state.replayed(now_ms, Duration::ZERO)) {
        state.apply(&record, Kept { record: n, location: None, bytes: 0 }, |_| None);
    }
}

impl Inner {
    fn find(&self, hash: u128) -> Result<Option<Whole>, String> {
        match self.state.find(hash) {
            Some(order) => self.order(order),
            None => {
                let outcome = self.archive.find(hash).map_err(|error| error.to_string())?;
                self.ended(hash, outcome)
            }
        }
    }

    /// An order in memory, with its bytes.
    fn order(&self, sequence: u64) -> Result<Option<Whole>, String> {
        let Some(hash) = self.state.hash_at(sequence) else { return Ok(None) };
        // Its key came anew after its end was forgotten.
        if self.state.find(hash) != Some(sequence) {
            return Ok(None);
        }
        let ended = self.state.known_state(sequence).is_some_and(OrderState::has_ended);
        let mut read = Vec::new();
        let mut damaged = false;
        for kept in self.state.all_kept(sequence) {
            let content = self.state.kept(sequence).is_some_and(|one| one.same_place(&kept));
            let (record, is_damaged) = self.read(kept, !(content && ended))?;
            damaged |= is_damaged && content;
            read.push((kept.record, record));
        }
        let content = |kept: Kept| content_among(&read, kept);
        if let Some(kept) = self.state.kept(sequence)
            && let Some(head) = content(kept).and_then(|record| Head::of(record, kept))
            && let Some(outcome) = self.state.outcome_of(sequence, &head)
        {
            return Ok(Some(Whole::Outcome { hash, outcome }));
        }
        let records = self.state.whole(sequence, true, content);
        let Some(mut records) = records else {
            return Err(format!("order {sequence} does not hold together"));
        };
        if damaged {
            let set_aside = self.state.damaged_order(sequence, self.now_ms);
            records.extend(set_aside.map(|record| (0, record)));
        }
        Ok(Some(Whole::Order { hash, records }))
    }

    /// An order of which only the outcome is left, with the exceptions that came of it since.
    fn ended(&self, hash: u128, outcome: Option<Outcome>) -> Result<Option<Whole>, String> {
        let late = self.late.get(&hash);
        let outcome = outcome.map(|mut outcome| {
            if let Some((_, late)) = late.filter(|(order, _)| *order == outcome.sequence) {
                late.merge(&mut outcome);
            }
            outcome
        });
        let Some(rows) = self.rows.get(&hash) else {
            return Ok(outcome.map(|outcome| Whole::Outcome { hash, outcome }));
        };
        let mut moved = Vec::new();
        let mut key = None;
        for (id, kept) in rows {
            let (record, _) = self.read(*kept, true)?;
            let Some(delivery) = record.delivery().cloned() else { continue };
            key.get_or_insert_with(|| delivery.envelope.key.clone());
            let row = self.state.moved_row_record(*id, Some(delivery));
            moved.extend(row.map(|row| (*id, row)));
        }
        let order = moved.iter().find_map(|(_, row)| match row {
            Record::MovedRow { row, .. } => row.order,
            _ => None,
        });
        let (Some(key), Some(order)) = (key, order) else { return Ok(None) };
        let outcome = outcome.unwrap_or_else(|| Outcome::forgotten(order));
        let mut records = outcome.records(key);
        records.extend(moved);
        Ok(Some(Whole::Order { hash, records }))
    }

    /// A record, with its body if that is wanted; whether its body is damaged, and left out.
    fn read(&self, kept: Kept, with_body: bool) -> Result<(Record, bool), String> {
        let reader = self.look.reader();
        let location = kept.location.ok_or("a record of an order is nowhere")?;
        let (read, damaged) = match with_body.then(|| reader.read(location)) {
            Some(Err(ReadError::Damaged { .. })) => (reader.head(location), true),
            Some(read) => (read, false),
            None => (reader.head(location), false),
        };
        let (_, mut record) = read.map_err(|error| error.to_string())?;
        if damaged && let Some(delivery) = record.delivery_mut() {
            LOST.clone_into(&mut delivery.envelope.reason);
        }
        Ok((record, damaged))
    }

    /// Hands everything over, oldest first; orders before outcomes.
    fn hand_over(&self, to: &mpsc::Sender<Vec<Whole>>) -> Result<(), String> {
        let mut batch = Batch { to, wholes: Vec::new(), bytes: 0 };
        for order in &self.orders {
            if let Some(whole) = self.order(*order)?
                && !batch.add(whole)
            {
                return Ok(());
            }
        }
        for hash in self.rows.keys() {
            if let Some(whole) = self.find(*hash)?
                && !batch.add(whole)
            {
                return Ok(());
            }
        }
        let mut failed = None;
        let each = |hash, outcome: &Outcome| {
            if self.state.find(hash).is_some() || self.rows.contains_key(&hash) {
                return true;
            }
            match self.ended(hash, Some(outcome.clone())) {
                Ok(whole) => whole.is_none_or(|whole| batch.add(whole)),
                Err(reason) => {
                    failed = Some(reason);
                    false
                }
            }
        };
        self.archive.each(each).map_err(|error| error.to_string())?;
        if let Some(reason) = failed {
            return Err(reason);
        }
        batch.send();
        Ok(())
    }
}

/// What is gathered to be handed over together.
struct Batch<'a> {
    to: &'a mpsc::Sender<Vec<Whole>>,
    wholes: Vec<Whole>,
    bytes: usize,
}

impl Batch<'_> {
    /// Adds one; false once nobody takes any more.
    fn add(&mut self, whole: Whole) -> bool {
        self.bytes += whole.bytes();
        self.wholes.push(whole);
        let full = self.wholes.len() >= BATCH || self.bytes >= BATCH_BYTES;
        !full || self.send()
    }

    fn send(&mut self) -> bool {
        self.bytes = 0;
        self.to.blocking_send(std::mem::take(&mut self.wholes)).is_ok()
    }
}

impl HandsOver for Directory {
    fn hasher(&self) -> KeyHasher {
        self.0.hasher
    }

    async fn find(&self, hash: u128) -> Result<Option<Whole>, BufferError> {
        let inner = &self.0;
        if inner.state.find(hash).is_none()
            && !inner.rows.contains_key(&hash)
            && !inner.archive.may_hold(hash)
        {
            return Ok(None);
        }
        let inner = Arc::clone(inner);
        off_the_runtime(move || inner.find(hash)).await
    }

    async fn hand_over(&self, to: mpsc::Sender<Vec<Whole>>) -> Result<(), BufferError> {
        let inner = Arc::clone(&self.0);
        off_the_runtime(move || inner.hand_over(&to)).await
    }

    fn count(&self) -> u64 {
        self.0.orders.len() as u64 + self.0.archive.outcomes
    }

    fn outstanding(&self) -> Vec<u128> {
        let Inner { state, orders, .. } = &*self.0;
        let under_ticket = orders.iter().filter(|order| state.is_outstanding(**order));
        under_ticket.filter_map(|order| state.hash_at(*order)).collect()
    }
}

/// Does what blocks on the disk.
async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, BufferError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.unwrap_or_else(|_| Err("reading it panicked".to_owned()));
    done.map_err(|reason| BufferError::Failed(format!("the buffer that is handed over: {reason}")))
}
