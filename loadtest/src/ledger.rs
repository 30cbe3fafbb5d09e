//! The generator's own record of each delivery and its final answer.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::answer::{Answer, Outcome};
use crate::mix::{Kind, Mix};
use crate::watch::Seen;

/// The longest latency told apart from a longer one, in microseconds: ten minutes.
const LATENCY_MAX_US: u64 = 600_000_000;

/// What was sent and what came back, over one or several segments of [`crate::play`].
///
/// It lives in the generator's memory, so nothing the server loses is lost here; with
/// [`Ledger::keep_in`] every final answer is appended to a file as well. Cloning gives another handle to the same
/// ledger, to look at it while it is played.
#[derive(Clone, Debug)]
pub struct Ledger {
    mix: Arc<Mix>,
    book: Arc<Mutex<Book>>,
}

/// How far one request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Never sent.
    Unsent,
    /// Sent, no final answer.
    Open,
    /// Answered for good.
    Answered,
}

/// One delivery's final answer, and after how many sends it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The answer.
    pub answer: Answer,
    /// How often it was sent; 0 for never.
    pub tries: u8,
}

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) stages: Vec<Stage>,
    pub(crate) entries: Vec<Entry>,
    latency_us: Histogram<u64>,
    pub(crate) offered: u64,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    /// When the first segment started.
    pub(crate) started: Option<Instant>,
    /// Time of offering in the segments before, and in this one so far.
    offering: Duration,
    segment: Duration,
    pub(crate) seen: Seen,
    pub(crate) backlog_peak: u64,
    file: Option<(PathBuf, BufWriter<File>)>,
    /// The first failure to write the file; the play ends with it.
    fault: Option<LedgerError>,
}

/// The ledger's file could not be written: a run whose evidence is gone proves nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "the ledger {path:?} could not be written: {reason}; give it another file system and start anew"
)]
pub struct LedgerError {
    path: PathBuf,
    reason: String,
}

#[derive(Serialize)]
struct Line<'a> {
    delivery: usize,
    kind: Kind,
    channel: &'a str,
    source: &'a str,
    id: Option<&'a str>,
    outcome: Option<Outcome>,
    status: Option<u16>,
    sequence: Option<u64>,
    tries: u8,
}

impl Ledger {
    /// An empty ledger for the deliveries of a mix.
    pub fn new(mix: Mix) -> Self {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        let book = Book {
            stages: vec![Stage::Unsent; mix.requests.len()],
            entries: vec![Entry::default(); mix.deliveries.len()],
            latency_us: latency_us.expect("constant bounds within what a histogram takes"),
            offered: 0,
            acknowledged: 0,
            refused: 0,
            started: None,
            offering: Duration::ZERO,
            segment: Duration::ZERO,
            seen: Seen::default(),
            backlog_peak: 0,
            file: None,
            fault: None,
        };
        Self { mix: Arc::new(mix), book: Arc::new(Mutex::new(book)) }
    }

    /// Appends every final answer to a file from now on, one JSON object a line.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn keep_in(&mut self, path: &Path) -> io::Result<()> {
        let file = File::options().create(true).append(true).open(path)?;
        self.book().file = Some((path.to_owned(), BufWriter::new(file)));
        Ok(())
    }

    /// What is sent.
    pub fn mix(&self) -> &Arc<Mix> {
        &self.mix
    }

    /// Whether every request has its final answer.
    pub fn is_complete(&self) -> bool {
        self.book().stages.iter().all(|stage| *stage == Stage::Answered)
    }

    /// Deliveries acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.book().acknowledged
    }

    /// The final answers so far, in the order of [`Mix::deliveries`].
    pub fn entries(&self) -> Vec<Entry> {
        self.book().entries.clone()
    }

    /// The latency at a quantile (0 to 1) of the acknowledged requests, from the intended moment of sending.
    pub fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.book().latency_us.value_at_quantile(quantile))
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    pub(crate) fn shared(&self) -> Arc<Mutex<Book>> {
        Arc::clone(&self.book)
    }
}

/// A panic while the book was held leaves it whole: every change to it is one step.
pub(crate) fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Book {
    /// Notes that a request leaves, this long after the start of the segment.
    pub(crate) fn sent(&mut self, mix: &Mix, request: usize, since_start: Duration) {
        let Some(stage) = self.stages.get_mut(request) else { return };
        let Some(of) = mix.requests.get(request).map(|r| r.deliveries.clone()) else { return };
        if *stage == Stage::Unsent {
            *stage = Stage::Open;
            self.offered += u64::try_from(of.len()).unwrap_or_default();
            self.segment = self.segment.max(since_start);
        }
        for entry in self.entries.get_mut(of).into_iter().flatten() {
            entry.tries = entry.tries.saturating_add(1);
        }
    }

    /// Notes the final answers of a request, this long after it was to leave.
    pub(crate) fn answered(
        &mut self,
        mix: &Mix,
        request: usize,
        answers: &[Answer],
        latency: Duration,
    ) {
        let Some(stage) = self.stages.get_mut(request) else { return };
        *stage = Stage::Answered;
        self.note(mix, request, answers);
        if answers.iter().any(|answer| matches!(answer, Answer::Acknowledged { .. })) {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.latency_us.saturating_record(us.clamp(1, LATENCY_MAX_US));
        }
    }

    /// Notes what is acknowledged of a batch that must be sent again for its other items.
    pub(crate) fn answered_in_part(&mut self, mix: &Mix, request: usize, answers: &[Answer]) {
        let acknowledged = |answer: &Answer| match answer {
            Answer::Acknowledged { .. } => *answer,
            _ => Answer::None,
        };
        let answers: Vec<Answer> = answers.iter().map(acknowledged).collect();
        self.note(mix, request, &answers);
    }

    /// Sets the answers that are not set; the first acknowledgement of a delivery stands.
    fn note(&mut self, mix: &Mix, request: usize, answers: &[Answer]) {
        let Some(of) = mix.requests.get(request).map(|r| r.deliveries.clone()) else { return };
        for (at, answer) in of.zip(answers) {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            if entry.answer != Answer::None || *answer == Answer::None {
                continue;
            }
            entry.answer = *answer;
            match answer {
                Answer::Acknowledged { .. } => self.acknowledged += 1,
                _ => self.refused += 1,
            }
            let entry = *entry;
            self.write(mix, at, request, entry);
        }
    }

    fn write(&mut self, mix: &Mix, at: usize, request: usize, entry: Entry) {
        let Some((path, file)) = &mut self.file else { return };
        let (Some(delivery), Some(request)) = (mix.deliveries.get(at), mix.requests.get(request))
        else {
            return;
        };
        let key = delivery.key.and_then(|key| mix.keys.get(usize::try_from(key).ok()?));
        let (outcome, sequence, status) = match entry.answer {
            Answer::Acknowledged { outcome, sequence } => (Some(outcome), Some(sequence), None),
            Answer::Refused { status } => (None, None, Some(status)),
            Answer::None => (None, None, None),
        };
        let line = Line {
            delivery: at,
            kind: delivery.kind,
            channel: request.channel.name(),
            source: &request.source,
            id: key.map(|key| key.id.as_str()),
            outcome,
            status,
            sequence,
            tries: entry.tries,
        };
        let written = serde_json::to_writer(&mut *file, &line).map_err(io::Error::from);
        if let Err(error) = written.and_then(|()| file.write_all(b"\n")) {
            let fault = LedgerError { path: path.clone(), reason: error.to_string() };
            self.fault.get_or_insert(fault);
        }
    }

    /// Hands what is buffered to the file system.
    pub(crate) fn flush(&mut self) -> Result<(), LedgerError> {
        if let Some((path, file)) = &mut self.file
            && let Err(error) = file.flush()
        {
            let fault = LedgerError { path: path.clone(), reason: error.to_string() };
            self.fault.get_or_insert(fault);
        }
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Takes in what the server says of itself.
    pub(crate) fn saw(&mut self, seen: Seen) {
        self.backlog_peak = self.backlog_peak.max(seen.pending);
        self.seen = seen;
    }

    /// Ends a segment.
    pub(crate) fn close_segment(&mut self) {
        self.offering += std::mem::take(&mut self.segment);
    }

    /// Deliveries first sent a second, over the time of offering.
    pub(crate) fn offered_per_s(&self) -> f64 {
        let seconds = (self.offering + self.segment).as_secs_f64();
        if seconds > 0.0 { self.offered as f64 / seconds } else { 0.0 }
    }
}
