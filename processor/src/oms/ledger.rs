//! The ledger: an order management system (OMS) for tests only, in which a double is possible and counted.
//!
//! It appends every create it is sent to one file, without refusing a second of the same identity
//! ([`Guarantee::LookedUp`]), and can cut its answer after the commit. Both together show whether a client
//! looks an unknown outcome up, or blindly sends again: then [`Listed::creates`] is over 1. It can also end
//! the process in the middle of a call, as an order does that overflows a stack or exhausts the memory.
//!
//! One line a create: CRC-32C of the rest in 8 hex digits, a blank, a JSON object. A call is appended in one write, behind
//! a line end of its own, and synced before its answer. A line that does not verify (torn by a kill) is left out; its create
//! was never answered. The index is in memory, so this is not for millions of orders.
//!
//! Several processes may have one file open: whoever asks or answers first reads what all of them appended since.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use forebay_buffer::Clock;
use forebay_buffer::step::Step;
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
    Find(Vec<Identity>, oneshot::Sender<Result<Vec<Option<Found>>, CallFailure>>),
    List(u64, usize, oneshot::Sender<Result<Vec<Listed>, CallFailure>>),
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
    /// Up to where the file is known.
    read_to: u64,
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
        let mut book = Self {
            file,
            read_to: 0,
            clock,
            cut_every,
            submits: 0,
            listed: Vec::new(),
            index: HashMap::new(),
            failed: false,
        };
        book.catch_up()?;
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

    /// Takes in what was appended since, by whichever process.
    fn catch_up(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.read_to))?;
        let mut bytes = Vec::new();
        self.file.read_to_end(&mut bytes)?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let create = verified(line);
            // The rest of a last line may be on its way.
            if create.is_none() && !line.ends_with(b"\n") {
                break;
            }
            self.read_to += line.len() as u64;
            if let Some(create) = create {
                self.note(create);
            }
        }
        Ok(())
    }

    /// The same before an answer, which must not rest on half the file.
    fn up_to_date(&mut self) -> Result<(), CallFailure> {
        self.catch_up().map_err(|error| CallFailure::NotSent(format!("reading its file: {error}")))
    }

    fn submit(&mut self, mut creates: Vec<Create>) -> Result<Vec<Outcome>, CallFailure> {
        if self.failed {
            return Err(CallFailure::NotSent("its file failed before; restart Forebay".to_owned()));
        }
        let committed_at_us = self.clock.wall_ms().saturating_mul(1_000);
        // Ends whatever a process that was killed has torn.
        let mut lines = b"\n".to_vec();
        for create in &mut creates {
            create.committed_at_us = committed_at_us;
            append_line(&mut lines, create).map_err(|e| CallFailure::NotSent(e.to_string()))?;
        }
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written.and_then(|()| self.catch_up()) {
            self.failed = true;
            return Err(CallFailure::Unknown(format!("writing its file failed: {error}")));
        }
        Step::Committed.reached(|| true);
        let outcomes = creates.iter().map(|create| self.outcome(create)).collect();
        self.submits = self.submits.wrapping_add(1);
        match self.cut_every {
            Some(every) if every > 0 && self.submits.is_multiple_of(every) => {
                Err(CallFailure::Unknown("the answer was cut after the commit".to_owned()))
            }
            _ => Ok(outcomes),
        }
    }

    /// A committed create, by the first of its identity.
    fn outcome(&self, create: &Create) -> Outcome {
        let first = self.first(&create.identity);
        Outcome::Created { id: first.map(|first| first.summary_id.clone()).unwrap_or_default() }
    }

    fn first(&self, identity: &Identity) -> Option<&Listed> {
        self.index.get(identity).and_then(|at| self.listed.get(*at))
    }

    /// Takes a committed create into the index.
    fn note(&mut self, create: Create) {
        let known = self.index.get(&create.identity).and_then(|at| self.listed.get_mut(*at));
        if let Some(first) = known {
            first.creates += 1;
            return;
        }
        let cursor = u64::try_from(self.listed.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.index.insert(create.identity.clone(), self.listed.len());
        self.listed.push(Listed {
            cursor,
            identity: create.identity,
            summary_id: format!("L-{cursor}"),
            fingerprint: Fingerprint::parse(&create.fingerprint),
            committed_at_us: create.committed_at_us,
            grand_total: create.grand_total,
            currency: create.currency,
            creates: 1,
        });
    }

    fn find(&mut self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        self.up_to_date()?;
        let find = |identity| {
            let first = self.first(identity)?;
            Some(Found { id: first.summary_id.clone(), fingerprint: first.fingerprint })
        };
        Ok(identities.iter().map(find).collect())
    }

    fn list(&mut self, after: u64, limit: usize) -> Result<Vec<Listed>, CallFailure> {
        self.up_to_date()?;
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(self.listed.iter().skip(skip).take(limit).cloned().collect())
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

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        if batch.iter().any(|summary| self.kills(summary)) {
            std::process::abort();
        }
        let create = |summary: &Arc<OrderSummary>| Create {
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
        answered.await.map_err(|_| thread::ended())?
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        let (answer, answered) = oneshot::channel();
        let call = Call::List(after, limit.min(LIST_MAX), answer);
        self.calls.hand_in(call).await?;
        answered.await.map_err(|_| thread::ended())?.map(Some)
    }
}
