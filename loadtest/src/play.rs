//! The open loop: every request leaves at its intended moment, whatever the answers do.
//!
//! There is no queue between a clock and the connections: each connection takes the next request that is
//! due, sleeps until its moment and sends it. While all connections wait for answers, later requests leave
//! late, and the delay counts: latency runs from the intended moment. Moments are kept to the timer's
//! millisecond.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::answer::{self, Answer};
use crate::client::{CallError, Connection, Reply};
use crate::clock::now;
use crate::ledger::{Book, Ledger, LedgerError, Stage, lock};
use crate::mix::Mix;
use crate::watch::{Seen, Watch};
use crate::{Progress, Target};

/// Between two looks at the server's status.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A sender's waits before it sends the same bytes again, where the server names none.
const BACKOFF: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];

/// A `Retry-After` beyond this is cut to it.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

const SOURCE: HeaderName = HeaderName::from_static("forebay-source");
const SYNTHETIC: HeaderName = HeaderName::from_static("forebay-synthetic");

/// Plays what the ledger has not seen answered yet, until all is answered (or given up) or `stop` is ready.
///
/// Requests of an earlier segment without a final answer are sent first, the same bytes again; those never
/// sent follow, the first of them at once and the others at their distance from it. When `stop` is ready,
/// requests in flight are dropped and stay open for the next segment. Dropping the future does the same,
/// and loses no answer the ledger has.
///
/// `progress` is called about every 200 ms, and once at the end.
///
/// # Errors
/// The ledger's file could not be written.
pub async fn play(
    target: &Target,
    ledger: &mut Ledger,
    stop: impl Future<Output = ()>,
    mut progress: impl FnMut(Progress),
) -> Result<(), LedgerError> {
    let segment = Arc::new(Segment::new(ledger));
    let mut connections = JoinSet::new();
    for _ in 0..ledger.mix().sale.connections.max(1) {
        connections.spawn(Arc::clone(&segment).work(Connection::new(target.orders)));
    }
    let mut watch = Watch::new(target.ops);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            ended = connections.join_next() => if ended.is_none() { break },
            () = &mut stop => break,
            _ = tick.tick() => {
                let seen = tokio::select! {
                    seen = watch.look() => seen,
                    () = &mut stop => break,
                };
                progress(segment.progress(seen.ok()));
                ledger.book().flush()?;
            }
        }
    }
    connections.shutdown().await;
    progress(segment.progress(watch.look().await.ok()));
    let mut book = ledger.book();
    book.close_segment();
    book.flush()
}

struct Segment {
    mix: Arc<Mix>,
    book: Arc<Mutex<Book>>,
    start: Instant,
    /// Moment of the sale at which the segment starts.
    offset: Duration,
    queue: Mutex<Queue>,
}

/// What is still to be sent. Each request is in it at most once.
struct Queue {
    open: VecDeque<usize>,
    unsent: VecDeque<usize>,
    again: BinaryHeap<Reverse<Job>>,
}

/// One request to be sent at a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Job {
    due: Instant,
    request: usize,
    /// When it was first to leave, in this segment.
    intended: Instant,
    /// How often it was sent in this segment.
    tries: u8,
}

impl Segment {
    fn new(ledger: &Ledger) -> Self {
        let mix = Arc::clone(ledger.mix());
        let start = now();
        let mut book = ledger.book();
        book.started.get_or_insert(start);
        let of = |wanted: Stage| {
            let stages = book.stages.iter().enumerate();
            stages.filter(move |(_, stage)| **stage == wanted).map(|(request, _)| request)
        };
        let queue = Queue {
            open: of(Stage::Open).collect(),
            unsent: of(Stage::Unsent).collect(),
            again: BinaryHeap::new(),
        };
        let first = queue.unsent.front().filter(|_| book.offered > 0);
        let offset = first.and_then(|first| mix.requests.get(*first)).map(|request| request.at);
        let offset = offset.unwrap_or_default();
        drop(book);
        Self { mix, book: ledger.shared(), start, offset, queue: Mutex::new(queue) }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job due first, or `None` when nothing is left to send. A request that must be sent again is put
    /// back by the connection that is free then, so none is left behind.
    fn take(&self) -> Option<Job> {
        let mut queue = self.queue();
        if let Some(request) = queue.open.pop_front() {
            return Some(Job { due: self.start, request, intended: self.start, tries: 0 });
        }
        let next = queue.unsent.front().and_then(|request| {
            let at = self.mix.requests.get(*request)?.at;
            let due = self.start + at.saturating_sub(self.offset);
            Some(Job { due, request: *request, intended: due, tries: 0 })
        });
        match (next, queue.again.peek()) {
            (Some(next), Some(Reverse(again))) if next.due <= again.due => queue.unsent.pop_front(),
            (Some(_), None) => queue.unsent.pop_front(),
            _ => return queue.again.pop().map(|Reverse(job)| job),
        };
        next
    }

    async fn work(self: Arc<Self>, mut connection: Connection) {
        let within = self.mix.sale.timeout;
        while let Some(mut job) = self.take() {
            tokio::time::sleep_until(job.due.into()).await;
            let Some(request) = self.request(job.request) else { continue };
            lock(&self.book).sent(&self.mix, job.request, self.start.elapsed());
            job.tries = job.tries.saturating_add(1);
            let reply = connection.call(request, within).await;
            match self.judge(&job, reply, connection.was_kept()) {
                Judged::Final(answers) => {
                    let latency = now().saturating_duration_since(job.intended);
                    lock(&self.book).answered(&self.mix, job.request, &answers, latency);
                }
                Judged::Again(answers, after) => {
                    lock(&self.book).answered_in_part(&self.mix, job.request, &answers);
                    job.due = now() + after;
                    self.queue().again.push(Reverse(job));
                }
                Judged::Open => {}
            }
        }
    }

    /// What follows from a reply, or from none: the sender's side of the contract.
    fn judge(&self, job: &Job, reply: Result<Reply, CallError>, kept: bool) -> Judged {
        let may_again = job.tries < self.mix.sale.tries;
        let backoff = BACKOFF.get(usize::from(job.tries.saturating_sub(1)));
        let backoff = backoff.or(BACKOFF.last()).copied().unwrap_or_default();
        let again = |after: Duration| Judged::Again(Vec::new(), after.min(RETRY_AFTER_MAX));
        let reply = match reply {
            Ok(reply) => reply,
            Err(_) if !may_again => return Judged::Open,
            // The server may just have closed a connection that was idle: a new one, at once.
            Err(CallError::Connection { .. }) if kept => return again(Duration::ZERO),
            Err(_) => return again(backoff),
        };
        let after = reply.retry_after.unwrap_or(backoff);
        if may_again && not_now(reply.status.as_u16()) {
            return again(after);
        }
        let count = self.mix.requests.get(job.request).map_or(0, |r| r.deliveries.len());
        match answer::read(reply.status, &reply.body, count) {
            Some(answers) if may_again && answers.iter().any(is_not_now) => {
                Judged::Again(answers, after.min(RETRY_AFTER_MAX))
            }
            Some(answers) => Judged::Final(answers),
            None if may_again => again(backoff),
            None => Judged::Open,
        }
    }

    fn request(&self, request: usize) -> Option<hyper::Request<Full<Bytes>>> {
        let from = self.mix.requests.get(request)?;
        let mut request = hyper::Request::new(Full::new(from.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(from.channel.path());
        let headers = request.headers_mut();
        headers.reserve(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(from.content_type));
        headers.insert(SOURCE, HeaderValue::from_str(&from.source).ok()?);
        headers.insert(SYNTHETIC, HeaderValue::from_static("true"));
        if from.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Some((name, value)) = from.channel.topic() {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Some(request)
    }

    fn progress(&self, seen: Option<Seen>) -> Progress {
        let mut book = lock(&self.book);
        if let Some(seen) = seen {
            book.saw(seen);
        }
        Progress::new(self.offset + self.start.elapsed(), &book)
    }
}

enum Judged {
    /// The answers, for good.
    Final(Vec<Answer>),
    /// The same bytes again after that long; what a batch's other items were told holds.
    Again(Vec<Answer>, Duration),
    /// No answer came, and it was tried often enough.
    Open,
}

/// Whether a status means "not now": the sender's quota, or trouble of the server's.
fn not_now(status: u16) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS.as_u16() || status >= 500
}

fn is_not_now(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { status } if not_now(*status))
}
