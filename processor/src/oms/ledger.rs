//! The ledger: an order management system (OMS) for tests only, in which a double is possible and counted.
//!
//! It appends every create it is sent to one file, without refusing a second of the same identity
//! ([`Guarantee::LookedUp`]), and can cut its answer after the commit. Both together show whether a client
//! looks an unknown outcome up, or blindly sends again: then [`Listed::creates`] is over 1. It can also end
//! the process in the middle of a call, as an order does that overflows a stack or exhausts the memory.
//!
//! One line a create: CRC-32C of the rest in 8 hex digits, a blank, a JSON object. A call is written whole
//! and synced before its answer. At the next open a line that does not verify (torn at the end) is left
//! out; its create was never answered. The index is in memory, so this is not for millions of orders.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use forebay_buffer::Clock;
use forebay_order::{Fingerprint, OrderSummary};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::thread::{self, CallThread};
use super::{CallFailure, Found, Guarantee, Identity, Listed, OrderManagement, Outcome};

const IDENTITY_MAX: usize = 255;
const BATCH_MAX: usize = 1_000;
const LIST_MAX: usize = 10_000;

/// The ledger. Dropping it waits until what was handed in is done and the file is closed.
pub struct Ledger {
    calls: CallThread<Call>,
    abort_on: Option<String>,
}

/// How the ledger misbehaves; by default not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerOptions {
    /// Every n-th submit commits and then answers [`CallFailure::Unknown`].
    pub cut_every: Option<u32>,
    /// A submit of an order whose id holds this text aborts the process, before anything of it is written.
    pub abort_on: Option<String>,
}

enum Call {
    Submit(Vec<Create>, oneshot::Sender<Result<Vec<Outcome>, CallFailure>>),
    Find(Vec<Identity>, oneshot::Sender<Vec<Option<Found>>>),
    List(u64, usize, oneshot::Sender<Vec<Listed>>),
}

/// One create, as a line holds it.
#[derive(Serialize, Deserialize)]
struct Create {
    identity: Identity,
    fingerprint: String,
    grand_total: String,
    currency: String,
    /// Microseconds since 1970, taken once per call before it is written.
    #[serde(default)]
    committed_at_us: i64,
}

struct Book {
    file: File,
    clock: Arc<dyn Clock>,
    cut_every: Option<u32>,
    submits: u32,
    /// Every identity's first create, in the order they were committed.
    listed: Vec<Listed>,
    /// Where in `listed` an identity stands.
    index: HashMap<Identity, usize>,
    /// A write or sync failed: what the file holds is unknown, so nothing is written or answered any more.
    failed: bool,
}

impl Ledger {
    /// Opens the file, or creates it, and rebuilds the index from it.
    ///
    /// Blocks for the disk: call it before serving.
    ///
    /// # Errors
    /// The file's or the thread's.
    pub fn open(path: &Path, options: LedgerOptions, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let LedgerOptions { cut_every, abort_on } = options;
        let mut book = Book::open(path, cut_every, clock)?;
        let calls = CallThread::start("oms-ledger", move |call| book.serve(call))?;
        Ok(Self { calls, abort_on })
    }

    fn kills(&self, summary: &OrderSummary) -> bool {
        self.abort_on.as_deref().is_some_and(|text| summary.key.id.contains(text))
    }
}

impl Book {
    fn open(path: &Path, cut_every: Option<u32>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (listed, index) = (Vec::new(), HashMap::new());
        let mut book = Self { file, clock, cut_every, submits: 0, listed, index, failed: false };
        let mut lines = BufReader::new(book.file.try_clone()?);
        let mut line = Vec::new();
        let mut whole = true;
        while lines.read_until(b'\n', &mut line)? > 0 {
            whole = line.ends_with(b"\n");
            if let Some(create) = verified(&line) {
                book.note(create);
            }
            line.clear();
        }
        if !whole {
            // What comes next must not be taken for the rest of a torn line.
            book.file.write_all(b"\n")?;
        }
        book.file.sync_all()?;
        if let Some(directory) = path.parent().filter(|path| !path.as_os_str().is_empty()) {
            File::open(directory)?.sync_all()?;
        }
        Ok(book)
    }

    /// A caller that went away does not matter: what it sent is done all the same.
    fn serve(&mut self, call: Call) {
        match call {
            Call::Submit(creates, answer) => drop(answer.send(self.submit(creates))),
            Call::Find(identities, answer) => drop(answer.send(self.find(&identities))),
            Call::List(after, limit, answer) => drop(answer.send(self.list(after, limit))),
        }
    }

    fn submit(&mut self, mut creates: Vec<Create>) -> Result<Vec<Outcome>, CallFailure> {
        if self.failed {
            return Err(CallFailure::NotSent("its file failed before; restart Forebay".to_owned()));
        }
        let committed_at_us = self.clock.wall_ms().saturating_mul(1_000);
        let mut lines = Vec::new();
        for create in &mut creates {
            create.committed_at_us = committed_at_us;
            append_line(&mut lines, create).map_err(|e| CallFailure::NotSent(e.to_string()))?;
        }
        if let Err(error) = self.file.write_all(&lines).and_then(|()| self.file.sync_data()) {
            self.failed = true;
            return Err(CallFailure::Unknown(format!("writing its file failed: {error}")));
        }
        let outcomes = creates.into_iter().map(|c| Outcome::Created { id: self.note(c) }).collect();
        self.submits = self.submits.wrapping_add(1);
        match self.cut_every {
            Some(every) if every > 0 && self.submits.is_multiple_of(every) => {
                Err(CallFailure::Unknown("the answer was cut after the commit".to_owned()))
            }
            _ => Ok(outcomes),
        }
    }

    /// Takes a committed create into the index; returns the id of the identity's first.
    fn note(&mut self, create: Create) -> String {
        let known = self.index.get(&create.identity).and_then(|at| self.listed.get_mut(*at));
        if let Some(first) = known {
            first.creates += 1;
            return first.summary_id.clone();
        }
        let cursor = u64::try_from(self.listed.len()).unwrap_or(u64::MAX).saturating_add(1);
        let summary_id = format!("L-{cursor}");
        self.index.insert(create.identity.clone(), self.listed.len());
        self.listed.push(Listed {
            cursor,
            identity: create.identity,
            summary_id: summary_id.clone(),
            fingerprint: Fingerprint::parse(&create.fingerprint),
            committed_at_us: create.committed_at_us,
            grand_total: create.grand_total,
            currency: create.currency,
            creates: 1,
        });
        summary_id
    }

    fn find(&self, identities: &[Identity]) -> Vec<Option<Found>> {
        let find = |identity| {
            let first = self.index.get(identity).and_then(|at| self.listed.get(*at))?;
            Some(Found { id: first.summary_id.clone(), fingerprint: first.fingerprint })
        };
        identities.iter().map(find).collect()
    }

    fn list(&self, after: u64, limit: usize) -> Vec<Listed> {
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        self.listed.iter().skip(skip).take(limit).cloned().collect()
    }
}

fn append_line(lines: &mut Vec<u8>, create: &Create) -> io::Result<()> {
    let json = serde_json::to_string(create)?;
    writeln!(lines, "{:08x} {json}", crc32c::crc32c(json.as_bytes()))
}

/// The create of a whole line (only its newline may be missing); `None` for a torn one.
fn verified(line: &[u8]) -> Option<Create> {
    let line = std::str::from_utf8(line).ok()?.trim_end_matches('\n');
    let (crc, json) = line.split_once(' ')?;
    let crc = u32::from_str_radix(crc, 16).ok()?;
    if crc != crc32c::crc32c(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

impl OrderManagement for Ledger {
    fn guarantee(&self) -> Guarantee {
        Guarantee::LookedUp
    }

    fn is_test(&self) -> bool {
        true
    }

    fn identity_max(&self) -> usize {
        IDENTITY_MAX
    }

    fn batch_max(&self) -> usize {
        BATCH_MAX
    }

    async fn submit(&self, batch: &[OrderSummary]) -> Result<Vec<Outcome>, CallFailure> {
        if batch.iter().any(|summary| self.kills(summary)) {
            std::process::abort();
        }
        let create = |summary: &OrderSummary| Create {
            identity: summary.key.identity(),
            fingerprint: summary.fingerprint.to_string(),
            grand_total: summary.totals.grand_total.to_string(),
            currency: summary.currency.to_string(),
            committed_at_us: 0,
        };
        let (answer, answered) = oneshot::channel();
        let call = Call::Submit(batch.iter().map(create).collect(), answer);
        self.calls.hand_in(call).await?;
        answered.await.map_err(|_| thread::ended_in_the_middle())?
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        self.calls.hand_in(Call::Find(identities.to_vec(), answer)).await?;
        answered.await.map_err(|_| thread::ended())
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let call = Call::List(after, limit.min(LIST_MAX), answer);
        self.calls.hand_in(call).await?;
        answered.await.map(Some).map_err(|_| thread::ended())
    }
}
