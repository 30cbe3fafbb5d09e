//! The lookup thread: reads for the writer what the disk knows and memory does not, so that the writer never waits for a
//! read. What it brings back is judged by the writer only if it is still so.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use forebay_order::OrderKey;
use tokio::sync::oneshot;

use super::journal::{Location, ReadError, Reader};
use super::outcomes::Seek;
use super::shared::{Seen, Shared};
use crate::record::{Delivery, LOST, Record};
use crate::state::{Carry, Head, Kept, Outcome};

/// Bytes of bodies one round of carrying forward reads; the last body may exceed it.
const CARRY_BYTES_MAX: usize = 1 << 20;

/// What is to be known of a key before its deliveries can be judged.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) hash: u128,
    pub(super) place: Place,
    /// The fingerprint rule of the delivery that waits.
    pub(super) fingerprint_version: u8,
}

/// Where it stands.
#[derive(Debug)]
pub(super) enum Place {
    /// The order is in memory; its current content, and the latest with the rule of its fingerprint, if that is another.
    Order { kept: Kept, parked: Option<(Kept, u8)> },
    /// The index may hold its outcome; which state of the index it was.
    Index { seek: Seek, generation: u64 },
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found {
    /// `head` is `None` if the record is damaged; `body` is the latest content's, where fingerprints cannot tell.
    Order {
        head: Option<Box<Head>>,
        body: Option<Bytes>,
    },
    Outcome(Option<Box<Outcome>>),
    /// It was retired meanwhile: look where it is now.
    Moved,
    /// The disk cannot be read now, in words.
    Unreadable(String),
}

/// One thing to be carried forward, as read.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) carry: Carry,
    /// The order's content.
    pub(super) content: Option<Copied>,
    pub(super) parked: Option<Copied>,
    /// Bodies of the rows, in their order.
    pub(super) rows: Vec<Option<Copied>>,
}

/// A delivery to be written anew.
#[derive(Debug)]
pub(super) struct Copied {
    pub(super) head: Head,
    /// Without its bytes, and marked so, if they turned out damaged.
    pub(super) delivery: Delivery,
    pub(super) damaged: bool,
}

/// What the writer asks for.
pub(super) enum Job {
    Key(Wanted),
    /// For somebody who looks at an order that is not in memory.
    View {
        key: OrderKey,
        seek: Seek,
        reply: oneshot::Sender<Option<Seen>>,
    },
    Carry(Vec<Carry>),
}

/// What comes back.
pub(super) enum Done {
    Key(Wanted, Found),
    View { key: OrderKey, outcome: Option<Outcome>, reply: oneshot::Sender<Option<Seen>> },
    Carry(Result<Vec<Carried>, ReadError>),
}

#[derive(Default)]
struct Tray {
    /// Bounded by what may wait for the writer: a key's job has a permit behind it, a view's a place among the calls.
    jobs: VecDeque<Job>,
    done: VecDeque<Done>,
    over: bool,
}

#[derive(Default)]
struct Hatch {
    tray: Mutex<Tray>,
    work: Condvar,
}

impl Hatch {
    fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread, as the writer sees it. It ends with this.
pub(super) struct Lookup {
    hatch: Arc<Hatch>,
    /// Jobs whose answer was not taken yet.
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Lookup {
    /// Starts the thread.
    ///
    /// # Errors
    /// In words.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<Self, String> {
        let hatch = Arc::new(Hatch::default());
        let (theirs, shared) = (Arc::clone(&hatch), Arc::clone(shared));
        let thread = thread::Builder::new()
            .name("forebay-lookup".to_owned())
            .spawn(move || work(&theirs, &shared))
            .map_err(|error| format!("no thread for lookups: {error}"))?;
        Ok(Self { hatch, under_way: 0, thread: Some(thread) })
    }

    pub(super) fn ask(&mut self, job: Job) {
        self.under_way += 1;
        self.hatch.tray().jobs.push_back(job);
        self.hatch.work.notify_one();
    }

    /// The next answer, if one came.
    pub(super) fn next(&mut self) -> Option<Done> {
        if self.under_way == 0 {
            return None;
        }
        let done = self.hatch.tray().done.pop_front()?;
        self.under_way -= 1;
        Some(done)
    }

    /// Whether something came back.
    pub(super) fn answered(&self) -> bool {
        self.under_way > 0 && !self.hatch.tray().done.is_empty()
    }

    /// Whether nothing is asked that was not answered and taken.
    pub(super) fn idle(&self) -> bool {
        self.under_way == 0
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.hatch.tray().over = true;
        self.hatch.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends after the job in hand; a panic of it was its last word.
            thread.join().ok();
        }
    }
}

fn work(hatch: &Hatch, shared: &Shared) {
    loop {
        let mut tray = hatch.tray();
        let job = loop {
            if tray.over {
                return;
            }
            if let Some(job) = tray.jobs.pop_front() {
                break job;
            }
            tray = hatch.work.wait(tray).unwrap_or_else(PoisonError::into_inner);
        };
        drop(tray);
        let done = perform(job, &shared.reader);
        hatch.tray().done.push_back(done);
        shared.wake();
    }
}

/// Does one job. One that is never answered would hold its key for ever; so a panic is an answer too.
fn perform(job: Job, reader: &Reader) -> Done {
    match job {
        Job::Key(wanted) => {
            let found = caught(|| find(&wanted, reader));
            let found = found.unwrap_or_else(|reason| Found::Unreadable(reason.to_owned()));
            Done::Key(wanted, found)
        }
        Job::View { key, seek, reply } => Done::View { key, outcome: seek.find(), reply },
        Job::Carry(items) => {
            let read = caught(|| read_all(items, reader));
            Done::Carry(read.unwrap_or_else(|reason| Err(ReadError::Io(reason.to_owned()))))
        }
    }
}

fn caught<T>(read: impl FnOnce() -> T) -> Result<T, &'static str> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| "the lookup panicked")
}

fn find(wanted: &Wanted, reader: &Reader) -> Found {
    match &wanted.place {
        Place::Index { seek, .. } => Found::Outcome(seek.find().map(Box::new)),
        Place::Order { kept, parked } => {
            let found = find_order(*kept, *parked, wanted.fingerprint_version, reader);
            found.unwrap_or_else(|error| match error {
                ReadError::Recycled(_) => Found::Moved,
                ReadError::Damaged { .. } => Found::Order { head: None, body: None },
                error @ ReadError::Io(_) => Found::Unreadable(error.to_string()),
            })
        }
    }
}

fn find_order(
    kept: Kept,
    parked: Option<(Kept, u8)>,
    fingerprint_version: u8,
    reader: &Reader,
) -> Result<Found, ReadError> {
    // With the body: a repeat of an order whose bytes have gone bad must mend it, not be told that all is well.
    let head = match whole(reader, kept) {
        Err(ReadError::Damaged { .. }) => Head { body_lost: true, ..head(reader, kept)? },
        head => head?,
    };
    let (latest, rule) = parked.unwrap_or((kept, head.content.fingerprint_version));
    let mut body = None;
    if let Some(location) = latest.location.filter(|_| rule != fingerprint_version) {
        match reader.read(location) {
            Ok((_, mut record)) => {
                body = record.delivery_mut().map(|d| std::mem::take(&mut d.envelope.body));
            }
            // Damaged bytes equal no others.
            Err(ReadError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Found::Order { head: Some(Box::new(head)), body })
}

/// What the record of a content says of it.
///
/// # Errors
/// As [`Reader::head`]; a record that holds no delivery counts as damaged.
pub(super) fn head(reader: &Reader, kept: Kept) -> Result<Head, ReadError> {
    let location = kept.location.ok_or(ReadError::Recycled(0))?;
    head_of(&reader.head(location)?.1, kept, location)
}

/// The same, once its body verified too.
fn whole(reader: &Reader, kept: Kept) -> Result<Head, ReadError> {
    let location = kept.location.ok_or(ReadError::Recycled(0))?;
    head_of(&reader.read(location)?.1, kept, location)
}

fn head_of(record: &Record, kept: Kept, location: Location) -> Result<Head, ReadError> {
    let damaged = ReadError::Damaged { epoch: location.epoch(), offset: location.offset() };
    Head::of(record, kept).ok_or(damaged)
}

fn read_all(items: Vec<Carry>, reader: &Reader) -> Result<Vec<Carried>, ReadError> {
    let (mut carried, mut bytes) = (Vec::new(), 0);
    for carry in items {
        if bytes >= CARRY_BYTES_MAX {
            break;
        }
        let read = read_one(carry, reader)?;
        let rows = read.rows.iter().flatten();
        let all = read.content.iter().chain(&read.parked).chain(rows);
        bytes += all.map(|copied| copied.delivery.envelope.body.len()).sum::<usize>();
        carried.push(read);
    }
    Ok(carried)
}

fn read_one(carry: Carry, reader: &Reader) -> Result<Carried, ReadError> {
    let copy = |kept: &Kept| copied(reader, *kept, true);
    let (mut content, mut waits) = (None, None);
    let rows = match &carry {
        Carry::Order { kept, parked, with_body, rows, .. } => {
            content = Some(copied(reader, *kept, *with_body)?);
            waits = parked.as_ref().map(copy).transpose()?;
            let rows = rows.iter().map(|(_, kept)| kept.as_ref().map(copy).transpose());
            rows.collect::<Result<_, _>>()?
        }
        Carry::Row { kept, .. } => vec![kept.as_ref().map(copy).transpose()?],
    };
    Ok(Carried { carry, content, parked: waits, rows })
}

/// A delivery as kept. Bytes that turn out damaged are left out, and the delivery says so.
fn copied(reader: &Reader, kept: Kept, with_body: bool) -> Result<Copied, ReadError> {
    let location = kept.location.ok_or(ReadError::Recycled(0))?;
    let (read, damaged) = match with_body.then(|| reader.read(location)) {
        Some(Err(ReadError::Damaged { .. })) => (reader.head(location), true),
        Some(read) => (read, false),
        None => (reader.head(location), false),
    };
    let (_, record): (u64, Record) = read?;
    let lost = || ReadError::Io("a record that should hold a delivery holds none".to_owned());
    let head = Head::of(&record, kept).ok_or_else(lost)?;
    let mut delivery = record.delivery().ok_or_else(lost)?.clone();
    if damaged {
        LOST.clone_into(&mut delivery.envelope.reason);
    }
    Ok(Copied { head, delivery, damaged })
}
