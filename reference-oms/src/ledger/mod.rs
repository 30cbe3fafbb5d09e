//! The ledger: an append-only SQLite file of calls and creates, the one truth of this OMS and of its judge.
//!
//! A create call is one transaction, answered after a synced commit (WAL, `synchronous=FULL`). What is noted beside
//! it is written before anything that comes after, without a sync of its own. One thread writes, one reads; no async
//! thread waits for the disk.

mod create;
mod note;
mod open;
mod read;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::order::{Found, Listed, Told};

pub(crate) use create::{Create, Created, NEVER_US};
pub(crate) use note::Note;
pub use open::LedgerError;

/// What may wait for the ledger; callers wait for room.
const QUEUE: usize = 1_024;

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    writes: Option<mpsc::Sender<Write>>,
    reads: Option<mpsc::Sender<Read>>,
    writer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
    /// Calls noted before this process.
    pub(crate) calls_before: i64,
    _held: File,
}

/// Why nothing came of a call; the text is SQLite's, or says that the ledger has ended.
pub(crate) type Failed = String;

type Answer<T> = oneshot::Sender<Result<T, Failed>>;

enum Write {
    Note(Note),
    Create(Box<Create>, Answer<Created>),
    /// Says when everything before is written.
    Flush(oneshot::Sender<i64>),
}

enum Read {
    Find { identities: Vec<String>, visible_us: i64, answer: Answer<Vec<Found>> },
    List { after: i64, limit: usize, now_us: i64, answer: Answer<Vec<Listed>> },
    Told { after: (i64, i64), limit: usize, now_us: i64, answer: Answer<Vec<Told>> },
    Record { name: String, answer: Answer<Option<String>> },
}

impl Ledger {
    /// Opens the file, or creates it. What was committed before is there. Blocks for the disk.
    pub(crate) fn open(path: &Path, clock: Clock) -> Result<Self, LedgerError> {
        let held = open::hold(path)?;
        let to = open::writer(path)?;
        let from = open::reader(path)?;
        let failed = |error| LedgerError::Sqlite(path.to_owned(), error);
        let last = |column, table| {
            let sql = format!("SELECT coalesce(max({column}), 0) FROM {table}");
            to.query_row(&sql, [], |row| row.get::<_, i64>(0)).map_err(failed)
        };
        let (calls_before, next) = (last("call", "calls")?, last("seq", "creates")? + 1);
        let (writes, written) = mpsc::channel(QUEUE);
        let (reads, read) = mpsc::channel(QUEUE);
        let writer = Writer { to, clock, next, notes: Vec::new() };
        let writer = thread("ledger-writer", move || writer.run(written))?;
        let reader = thread("ledger-reader", move || serve_reads(&from, read))?;
        Ok(Self {
            path: path.to_owned(),
            writes: Some(writes),
            reads: Some(reads),
            writer: Some(writer),
            reader: Some(reader),
            calls_before,
            _held: held,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes something; it is written before whatever is handed in later.
    pub(crate) async fn note(&self, note: Note) {
        if let Some(writes) = &self.writes
            && writes.send(Write::Note(note)).await.is_err()
        {
            tracing::error!("the ledger has ended; a call is not noted");
        }
    }

    /// Creates orders; once this is handed in, they are created even if nobody waits any more.
    pub(crate) async fn create(&self, create: Create) -> Result<Created, Failed> {
        let (answer, answered) = oneshot::channel();
        send(self.writes.as_ref(), Write::Create(Box::new(create), answer)).await?;
        answered.await.map_err(|_| ended())?
    }

    pub(crate) async fn find(
        &self,
        identities: Vec<String>,
        visible_us: i64,
    ) -> Result<Vec<Found>, Failed> {
        let (answer, answered) = oneshot::channel();
        send(self.reads.as_ref(), Read::Find { identities, visible_us, answer }).await?;
        answered.await.map_err(|_| ended())?
    }

    pub(crate) async fn list(
        &self,
        after: i64,
        limit: usize,
        now_us: i64,
    ) -> Result<Vec<Listed>, Failed> {
        let (answer, answered) = oneshot::channel();
        send(self.reads.as_ref(), Read::List { after, limit, now_us, answer }).await?;
        answered.await.map_err(|_| ended())?
    }

    /// What became, by now, of orders that were only taken, in the order in which it did: after that time and order. What is created
    /// later comes after all of it.
    pub(crate) async fn told(&self, after: (i64, i64), limit: usize) -> Result<Vec<Told>, Failed> {
        // By the writer's clock between two creates: one that is being written may have become something before that time.
        let now_us = self.flush().await?;
        let (answer, answered) = oneshot::channel();
        send(self.reads.as_ref(), Read::Told { after, limit, now_us, answer }).await?;
        answered.await.map_err(|_| ended())?
    }

    /// A record as it was written last, if it was.
    pub(crate) async fn record(&self, name: String) -> Result<Option<String>, Failed> {
        let (answer, answered) = oneshot::channel();
        send(self.reads.as_ref(), Read::Record { name, answer }).await?;
        answered.await.map_err(|_| ended())?
    }

    /// Returns when everything noted before is written, with the time by then: what is created later is not of before it.
    pub(crate) async fn flush(&self) -> Result<i64, Failed> {
        let (done, is_done) = oneshot::channel();
        send(self.writes.as_ref(), Write::Flush(done)).await?;
        is_done.await.map_err(|_| ended())
    }
}

/// Waits until everything is written and the file is closed; by the writer last, which leaves one file without a log.
impl Drop for Ledger {
    fn drop(&mut self) {
        let join = |thread: &mut Option<JoinHandle<()>>| {
            // A panic was heard of by its caller.
            drop(thread.take().map(JoinHandle::join));
        };
        self.reads = None;
        join(&mut self.reader);
        self.writes = None;
        join(&mut self.writer);
    }
}

/// A connection for whoever only looks, beside a running OMS too.
pub(crate) fn look(path: &Path) -> Result<Connection, LedgerError> {
    open::reader(path)
}

async fn send<T>(to: Option<&mpsc::Sender<T>>, what: T) -> Result<(), Failed> {
    match to {
        Some(to) => to.send(what).await.map_err(|_| ended()),
        None => Err(ended()),
    }
}

fn ended() -> Failed {
    "the ledger has ended".to_owned()
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, LedgerError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(LedgerError::Thread)
}

fn serve_reads(from: &Connection, mut reads: mpsc::Receiver<Read>) {
    // Nobody waits any more where a caller went away.
    while let Some(read) = reads.blocking_recv() {
        match read {
            Read::Find { identities, visible_us, answer } => {
                let found = read::find(from, &identities, visible_us);
                drop(answer.send(found.map_err(|error| error.to_string())));
            }
            Read::Told { after, limit, now_us, answer } => {
                let told = read::told(from, after, limit, now_us);
                drop(answer.send(told.map_err(|error| error.to_string())));
            }
            Read::Record { name, answer } => {
                let record = read::record(from, &name);
                drop(answer.send(record.map_err(|error| error.to_string())));
            }
            Read::List { after, limit, now_us, answer } => {
                let listed = read::list(from, after, limit, now_us);
                drop(answer.send(listed.map_err(|error| error.to_string())));
            }
        }
    }
}

struct Writer {
    to: Connection,
    clock: Clock,
    /// Number of the next create.
    next: i64,
    /// Not written yet.
    notes: Vec<Note>,
}

impl Writer {
    fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        while let Some(write) = writes.blocking_recv() {
            match write {
                Write::Note(note) => self.notes.push(note),
                Write::Create(create, answer) => {
                    let created = self.create(&create).map_err(|error| error.to_string());
                    drop(answer.send(created));
                }
                Write::Flush(done) => {
                    self.write_notes();
                    done.send(self.clock.now_us()).ok();
                }
            }
            if writes.is_empty() || self.notes.len() >= QUEUE {
                self.write_notes();
            }
        }
        self.write_notes();
    }

    /// One transaction, with the notes before it.
    fn create(&mut self, create: &Create) -> rusqlite::Result<Created> {
        let transaction = self.to.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for note in &self.notes {
            note.write(&transaction)?;
        }
        let mut next = self.next;
        let created = create::create(&transaction, create, self.clock.now_us(), &mut next)?;
        transaction.commit()?;
        self.next = next;
        self.notes.clear();
        Ok(created)
    }

    fn write_notes(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        if let Err(error) = self.try_write_notes() {
            tracing::error!(%error, notes = self.notes.len(), "the ledger could not be written");
        }
        self.notes.clear();
    }

    fn try_write_notes(&mut self) -> rusqlite::Result<()> {
        self.to.pragma_update(None, "synchronous", "NORMAL")?;
        let written = self.insert_notes();
        self.to.pragma_update(None, "synchronous", "FULL")?;
        written
    }

    fn insert_notes(&mut self) -> rusqlite::Result<()> {
        let transaction = self.to.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for note in &self.notes {
            note.write(&transaction)?;
        }
        transaction.commit()
    }
}
