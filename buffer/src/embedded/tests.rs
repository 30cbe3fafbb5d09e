//! The writer with its append held or failed: nobody hears anything before what he was told is durable.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Fingerprint, OrderKey};

use super::journal::{Failed, Journal, Options, WriteError};
use super::{Embedded, EmbeddedConfig};
use crate::record::{Delivery, Record, Snapshot};
use crate::{
    Act, Answer, AppendError, Buffer, Clock, Envelope, OrderState, Receipt, SystemClock, Telling,
    Verdict, Word,
};

const SOON: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    Open,
    /// Open, and held again behind the next one.
    OpenForOne,
    Held,
    Failing,
    /// There is no room, not even in the reserve.
    Full,
}

/// Holds or fails appends.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    now: Arc<(Mutex<Now>, Condvar)>,
    arrived: Arc<AtomicU32>,
}

impl Gate {
    fn new(now: Now) -> Self {
        Self { now: Arc::new((Mutex::new(now), Condvar::new())), arrived: Arc::default() }
    }

    fn set(&self, now: Now) {
        *self.now.0.lock().unwrap() = now;
        self.now.1.notify_all();
    }

    pub(super) fn pass(&self) -> Result<(), WriteError> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let held = self.now.1.wait_while(self.now.0.lock().unwrap(), |now| *now == Now::Held);
        let mut now = held.unwrap();
        if *now == Now::OpenForOne {
            *now = Now::Held;
        }
        match *now {
            Now::Full => Err(WriteError::Full),
            Now::Failing => Err(Failed { what: "sync", reason: "gate".to_owned() }.into()),
            _ => Ok(()),
        }
    }
}

fn gated(gate: &Gate, dir: &std::path::Path, failures: &Arc<AtomicU32>) -> Embedded {
    let config =
        EmbeddedConfig { slot_bytes: 1 << 20, burst_reserve: 1, ..EmbeddedConfig::new(dir) };
    let (gate, failures) = (gate.clone(), Arc::clone(failures));
    let on_failure = Box::new(move |_| {
        failures.fetch_add(1, Ordering::SeqCst);
    });
    Embedded::start(&config, Arc::new(SystemClock), None, on_failure, |writer| {
        writer.gate = Some(gate)
    })
    .unwrap()
}

fn envelope(content: u8) -> Envelope {
    let key = OrderKey::new("shopify", "demo", "1");
    let body = Bytes::from(vec![content; 32]);
    Envelope { format: 2, ..Envelope::new(key, Fingerprint([content; 16]), body) }
}

type Pending<'a> = Pin<Box<dyn Future<Output = Result<Receipt, AppendError>> + 'a>>;

/// 64 deliveries of one key, every fourth with another content, all handed in.
fn posts(buffer: &Embedded) -> Vec<Pending<'_>> {
    let post = |n: u8| -> Pending<'_> {
        let permit = buffer.admission().admit(32).unwrap();
        Box::pin(buffer.append(envelope(u8::from(n % 4 == 3)), permit))
    };
    (0..64).map(post).collect()
}

/// Waits until the writer stands before the gate, and looks at everybody for a while after.
fn nobody_is_answered(gate: &Gate, posts: &mut [Pending<'_>]) {
    let waker = Waker::noop();
    let mut context = Context::from_waker(waker);
    let mut looks_after = 0;
    while looks_after < 1_000 {
        for post in posts.iter_mut() {
            assert!(matches!(post.as_mut().poll(&mut context), Poll::Pending));
        }
        looks_after += u32::from(gate.arrived.load(Ordering::SeqCst) > 0);
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn while_the_sync_is_held_nobody_is_answered_and_then_one_is_first() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(Now::Held);
    let buffer = gated(&gate, dir.path(), &Arc::default());
    let mut posts = posts(&buffer);
    nobody_is_answered(&gate, &mut posts);
    gate.set(Now::Open);
    let mut answers = Vec::new();
    for post in posts {
        answers.push(post.await.unwrap().answer());
    }
    let count = |answer| answers.iter().filter(|other| **other == answer).count();
    assert_eq!(answers[0], Answer::Accepted);
    assert_eq!(count(Answer::Accepted), 1);
    assert_eq!(count(Answer::Duplicate), 47);
    assert_eq!(count(Answer::Conflict), 16);
    assert_eq!(buffer.exceptions(0, 100).await.unwrap().len(), 1, "one conflict, kept once");
}

#[tokio::test]
async fn when_the_sync_fails_nobody_hears_yes_or_no_and_nothing_more_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(Now::Held);
    let failures = Arc::default();
    let buffer = gated(&gate, dir.path(), &failures);
    let mut posts = posts(&buffer);
    nobody_is_answered(&gate, &mut posts);
    gate.set(Now::Failing);
    for post in posts {
        let refused = post.await.unwrap_err();
        assert!(
            matches!(&refused, AppendError::Failed(reason) if reason.contains("gate")),
            "{refused}"
        );
    }
    let permit = buffer.admission().admit(1).unwrap();
    let later = buffer.append(envelope(9), permit).await;
    assert!(matches!(later, Err(AppendError::Failed(_))), "{later:?}");
    assert!(buffer.health().unwrap_err().contains("gate"));
    assert!(buffer.order(&envelope(1).key).await.is_err());
    assert!(buffer.lease(1, Duration::ZERO).await.is_err());
    buffer.close().await;
    drop(buffer);
    assert_eq!(failures.load(Ordering::SeqCst), 1, "the hook is called once");
}

#[tokio::test]
async fn a_last_order_that_went_bad_after_its_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let slots = dir.path().join("journal");
    // A process that dies before anything proves its last group.
    let options = Options { slot_bytes: 1 << 20, ..Options::new(Arc::new(SystemClock)) };
    let (mut journal, _) = Journal::open(&slots, options).unwrap();
    let delivery = Delivery { envelope: envelope(0xe7), accepted_at_ms: 1 };
    journal.append(&[Record::Accept(delivery)]).unwrap();
    drop(journal);
    let slot = slots.join("00000.seg");
    let mut bytes = std::fs::read(&slot).unwrap();
    let body = bytes.windows(32).position(|window| window == [0xe7; 32]).unwrap();
    bytes[body + 16] ^= 1;
    std::fs::write(&slot, bytes).unwrap();
    let buffer = gated(&Gate::new(Now::Open), dir.path(), &Arc::default());
    let recovery = buffer.status().await.unwrap().recovery;
    let key = envelope(0).key.to_string();
    assert!(recovery.iter().any(|line| line.contains(&key)), "{recovery:?}");
}

#[tokio::test]
async fn a_copy_that_went_bad_gives_way_to_its_original() {
    let dir = tempfile::tempdir().unwrap();
    let slots = dir.path().join("journal");
    // A process that dies between carrying an order forward and giving its segment up.
    let options = Options { slot_bytes: 1 << 20, ..Options::new(Arc::new(SystemClock)) };
    let (mut journal, _) = Journal::open(&slots, options).unwrap();
    let original = Delivery { envelope: envelope(0xe7), accepted_at_ms: 1 };
    let placed = journal.append(&[Record::Accept(original.clone())]).unwrap();
    let snapshot = Snapshot {
        state: OrderState::Pending,
        first_accepted_at_ms: 1,
        attempts: 0,
        sent_before: false,
        not_before_ms: None,
        ticket: None,
        ticket_at_ms: None,
        earlier: Vec::new(),
        newest: None,
    };
    let copy = Record::Moved { order: placed[0].sequence, snapshot, delivery: original };
    journal.carry(&[copy]).unwrap();
    journal.prove().unwrap();
    drop(journal);
    let slot = slots.join("00000.seg");
    let mut bytes = std::fs::read(&slot).unwrap();
    let bodies: Vec<_> =
        (0..bytes.len() - 32).filter(|at| bytes[*at..at + 32] == [0xe7; 32]).collect();
    assert_eq!(bodies.len(), 2);
    bytes[bodies[1] + 16] ^= 1;
    std::fs::write(&slot, bytes).unwrap();
    let buffer = gated(&Gate::new(Now::Open), dir.path(), &Arc::default());
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
    let leases = buffer.lease(1, SOON).await.unwrap();
    assert_eq!(leases[0].body, vec![0xe7; 32]);
}

/// Two acts on rows of one order, while as many calls wait as ever may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_that_has_to_wait_is_not_dropped_though_every_place_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(Now::Open);
    let buffer = gated(&gate, dir.path(), &Arc::default());
    for content in 1..4 {
        let permit = buffer.admission().admit(32).unwrap();
        buffer.append(envelope(content), permit).await.unwrap();
    }
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 2, "two conflicts");
    let shared = Arc::clone(buffer.shared());
    // The writer stands before the gate while the acts, and all that fits behind them, are handed in.
    gate.set(Now::Held);
    let before = gate.arrived.load(Ordering::SeqCst);
    let first = tokio::spawn({
        let (buffer, key) = (buffer.clone(), OrderKey::new("shopify", "demo", "another"));
        async move {
            let permit = buffer.admission().admit(32).unwrap();
            buffer.append(Envelope { key, ..envelope(1) }, permit).await
        }
    });
    until(&gate, || gate.arrived.load(Ordering::SeqCst) > before).await;
    let acts: Vec<_> = rows.iter().map(|row| (row.id, buffer.clone())).collect();
    let mut acting = Vec::new();
    for (n, (id, buffer)) in acts.into_iter().enumerate() {
        acting.push(tokio::spawn(async move { buffer.act(id, Act::Discard).await }));
        until(&gate, || shared.calls.len() == n + 1).await;
    }
    let many = 2 * shared.calls.capacity();
    let looking = (0..many).map(|_| {
        let buffer = buffer.clone();
        tokio::spawn(async move { buffer.status().await })
    });
    let looking: Vec<_> = looking.collect();
    until(&gate, || shared.calls.len() == shared.calls.capacity()).await;
    gate.set(Now::OpenForOne);
    // The first act stands before the gate, the second waits for it, and every place was taken again.
    until(&gate, || gate.arrived.load(Ordering::SeqCst) > before + 1).await;
    until(&gate, || shared.calls.len() == shared.calls.capacity()).await;
    gate.set(Now::Open);
    first.await.unwrap().unwrap();
    for acted in acting {
        acted.await.unwrap().unwrap();
    }
    for look in looking {
        look.await.unwrap().unwrap();
    }
}

/// A clock that stands still: nothing is tried again in its time.
struct Still;

impl Clock for Still {
    fn wall_ms(&self) -> i64 {
        1_790_000_000_000
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// The end of a loan cannot be written; what concerns its order is refused, and the writer does not look at it again and again.
#[tokio::test]
async fn on_a_full_disk_nobody_waits_for_what_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(Now::Open);
    let config = EmbeddedConfig { slot_bytes: 1 << 20, ..EmbeddedConfig::new(dir.path()) };
    let failed = Box::new(|reason| panic!("the buffer failed: {reason}"));
    let theirs = gate.clone();
    let buffer = Embedded::start(&config, Arc::new(Still), None, failed, |writer| {
        writer.gate = Some(theirs);
    })
    .unwrap();
    let post = |content| {
        let permit = buffer.admission().admit(32).unwrap();
        buffer.append(envelope(content), permit)
    };
    post(1).await.unwrap();
    let mut leases = buffer.lease(1, SOON).await.unwrap();
    gate.set(Now::Full);
    let arrived = gate.arrived.load(Ordering::SeqCst);
    leases.remove(0).settle(Verdict::Submitted { ticket: "T".into(), after: Duration::ZERO });
    until(&gate, || gate.arrived.load(Ordering::SeqCst) > arrived).await;
    let key = Some(envelope(1).key);
    let word = Word::Created { summary_id: "S".into() };
    let telling = Telling { key, ticket: None, word };
    for _ in 0..3 {
        let posted = tokio::time::timeout(SOON, post(2)).await.expect("nobody answers");
        assert_eq!(posted.unwrap_err(), AppendError::Full);
        let told = tokio::time::timeout(SOON, buffer.tell(telling.clone())).await;
        let told = told.expect("nobody answers").unwrap_err();
        assert!(told.to_string().contains("used up"), "{told}");
    }
}

/// Waits until something holds; a gate that is held then would hold the test too, so it is opened before it fails.
async fn until(gate: &Gate, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds() {
        if tokio::time::Instant::now() > deadline {
            gate.set(Now::Open);
            panic!("never so");
        }
        tokio::task::yield_now().await;
    }
}
