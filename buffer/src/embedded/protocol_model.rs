//! The protocol of intake, commit, answer and end, model-checked: the very files `intake.rs` and `answers.rs` over
//! loom's types, driven by a small writer, through every order of their steps with up to three preemptions.
//!
//! Time does not pass here: what the real writer mends after a pause counts as never, unless a scenario
//! says so. When every thread has come to rest, those who were woken go on, until nobody is left who was;
//! whoever then still waits would wait for ever.

#[path = "answers.rs"]
mod answers;
#[path = "coming.rs"]
mod coming;
#[path = "intake.rs"]
#[expect(dead_code, reason = "the model sleeps for itself")]
mod intake;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use loom::sync::atomic::AtomicBool;
use loom::thread;

use answers::{Awaited, Desk, Desks, Reply};
use intake::{Intake, Phase};
use sync::{Step, Thread};

/// The checker's types under the names of the real façade.
mod sync {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::atomic::AtomicBool;
    pub(super) use loom::sync::atomic::{AtomicU8, AtomicU64, Ordering};
    pub(super) use loom::sync::{Mutex, MutexGuard};

    pub(super) use crate::embedded::sync::Step;

    thread_local! {
        /// The step that is not taken. A model runs on one thread of the system.
        pub(super) static LEFT_OUT: Cell<Option<Step>> = const { Cell::new(None) };
    }

    pub(super) fn takes(step: Step) -> bool {
        LEFT_OUT.get() != Some(step)
    }

    /// The model's writer stops where the real one sleeps.
    pub(super) fn park_timeout(_: Duration) {
        unreachable!("the model sleeps for itself");
    }

    /// Whether the writer was woken.
    #[derive(Clone)]
    pub(super) struct Thread(pub(super) Arc<AtomicBool>);

    impl Thread {
        pub(super) fn unpark(&self) {
            self.0.swap(true, Ordering::AcqRel);
        }
    }

    pub(super) struct Queue<T> {
        places: usize,
        queue: Mutex<VecDeque<T>>,
    }

    impl<T> Queue<T> {
        pub(super) fn new(places: usize) -> Self {
            Self { places, queue: Mutex::new(VecDeque::new()) }
        }

        pub(super) fn push(&self, item: T) -> Result<(), T> {
            let mut queue = self.queue.lock().unwrap();
            if queue.len() == self.places {
                return Err(item);
            }
            queue.push_back(item);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            self.queue.lock().unwrap().pop_front()
        }

        pub(super) fn len(&self) -> usize {
            self.queue.lock().unwrap().len()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.queue.lock().unwrap().is_empty()
        }
    }
}

/// A thread is interrupted at most so often in one run.
const PREEMPTIONS: usize = 3;

/// A delivery, by its number.
struct Delivery {
    number: usize,
    reply: Reply<usize>,
}

struct Buffer {
    intake: Intake<Delivery>,
    desks: Desks<usize>,
    woken: Arc<AtomicBool>,
    /// Bits of the deliveries that are durable.
    durable: AtomicUsize,
    groups: AtomicUsize,
}

/// How the writer ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Never,
    /// With the group after so many.
    FailsAfter(usize),
    /// When it first finds nothing.
    Idle,
}

impl Buffer {
    /// A buffer and a desk of it.
    fn new() -> (Arc<Self>, Arc<Desk<usize>>) {
        let woken = Arc::new(AtomicBool::new(false));
        let intake = Intake::new(4);
        intake.written_by(Thread(Arc::clone(&woken)));
        let (durable, groups) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let buffer = Arc::new(Self { intake, desks: Desks::new(), woken, durable, groups });
        let desk = buffer.desks.open();
        (buffer, desk)
    }

    fn append(self: &Arc<Self>, desk: &Arc<Desk<usize>>, number: usize) -> Waiter {
        let (reply, awaited) = desk.seat();
        assert!(self.intake.push(Delivery { number, reply }).is_ok(), "there is a place for each");
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        Waiter { number, awaited, woken, answer: None, buffer: Arc::clone(self) }
    }

    /// The real writer's turns, without a disk, until it has ended or sleeps and nobody has woken it.
    fn write(&self, end: End) {
        while self.intake.has_writer() {
            let groups = self.groups.load(Ordering::Relaxed);
            let group: Vec<Delivery> = std::iter::from_fn(|| self.intake.pop()).collect();
            match end {
                End::Idle if group.is_empty() => self.end(Phase::Closed),
                End::FailsAfter(n) if n == groups && !group.is_empty() => self.end(Phase::Failed),
                _ if group.is_empty() => {
                    let awake = !self.intake.lie_down();
                    if !awake && !self.woken.swap(false, Ordering::AcqRel) {
                        return;
                    }
                    self.intake.get_up();
                }
                _ => self.commit(group),
            }
        }
    }

    fn commit(&self, group: Vec<Delivery>) {
        let bits = group.iter().fold(0, |bits, delivery| bits | 1 << delivery.number);
        self.durable.fetch_or(bits, Ordering::Relaxed);
        self.groups.fetch_add(1, Ordering::Relaxed);
        group.into_iter().for_each(|delivery| delivery.reply.send(delivery.number));
        self.desks.ring();
    }

    fn end(&self, phase: Phase) {
        self.intake.enter(phase);
        self.desks.ring_for_all();
        self.intake.empty();
    }
}

/// A waker that remembers.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.swap(true, Ordering::AcqRel);
    }
}

/// Who waits for an answer.
struct Waiter {
    number: usize,
    awaited: Awaited<usize>,
    woken: Arc<Woken>,
    answer: Option<Option<usize>>,
    buffer: Arc<Buffer>,
}

impl Waiter {
    /// Looks for the answer if it was woken; whether it was. What it hears must be true.
    fn look(&mut self) -> bool {
        if self.answer.is_some() || !self.woken.0.swap(false, Ordering::AcqRel) {
            return false;
        }
        let waker = Arc::clone(&self.woken).into();
        if let Poll::Ready(answer) =
            Pin::new(&mut self.awaited).poll(&mut Context::from_waker(&waker))
        {
            assert!(answer.is_none_or(|own| own == self.number), "somebody else's answer");
            let durable = self.buffer.durable.load(Ordering::Relaxed) & 1 << self.number != 0;
            assert_eq!(answer.is_some(), durable, "a yes that is not durable, or a no that is");
            self.answer = Some(answer);
        }
        true
    }
}

/// All come to rest: who was woken goes on, the writer included, until nobody is left who was.
fn settle(buffer: &Buffer, end: End, waiters: &mut [Waiter]) {
    loop {
        if buffer.intake.has_writer() && buffer.woken.swap(false, Ordering::AcqRel) {
            buffer.intake.get_up();
            buffer.write(end);
        }
        let looked = waiters.iter_mut().filter_map(|waiter| waiter.look().then_some(())).count();
        if looked == 0 {
            break;
        }
    }
    for waiter in waiters {
        assert!(waiter.answer.is_some(), "delivery {} waits for ever", waiter.number);
    }
}

/// Two deliveries from two threads at one desk, and the writer's end meanwhile.
fn two_wait(end: End) {
    let (buffer, desk) = Buffer::new();
    let appending = [0, 1].map(|number| {
        let (buffer, desk) = (Arc::clone(&buffer), Arc::clone(&desk));
        thread::spawn(move || {
            let mut waiter = buffer.append(&desk, number);
            waiter.look();
            waiter.look();
            waiter
        })
    });
    buffer.write(end);
    let mut waiters = appending.map(|appending| appending.join().unwrap());
    settle(&buffer, end, &mut waiters);
    if end == End::Never {
        assert!(waiters.iter().all(|waiter| waiter.answer == Some(Some(waiter.number))));
    }
}

/// One of two gives up at any moment; the other is answered all the same.
fn one_gives_up() {
    let (buffer, desk) = Buffer::new();
    // Both wait already, so the one who gives up may be the one who is woken.
    let mut leaver = buffer.append(&desk, 0);
    let mut stayer = buffer.append(&desk, 1);
    leaver.look();
    let leaving = thread::spawn(move || drop(leaver));
    let staying = thread::spawn(move || {
        stayer.look();
        stayer.look();
        stayer
    });
    buffer.write(End::Never);
    leaving.join().unwrap();
    settle(&buffer, End::Never, &mut [staying.join().unwrap()]);
}

/// One of two is kept and never polled again; the writer's later turns see to the other.
fn one_sleeps() {
    let (buffer, desk) = Buffer::new();
    let mut sleeper = buffer.append(&desk, 0);
    sleeper.look();
    let appending = {
        let (buffer, desk) = (Arc::clone(&buffer), Arc::clone(&desk));
        thread::spawn(move || {
            let mut waiter = buffer.append(&desk, 1);
            waiter.look();
            waiter
        })
    };
    buffer.write(End::Never);
    let mut waiter = [appending.join().unwrap()];
    if buffer.woken.swap(false, Ordering::AcqRel) {
        buffer.intake.get_up();
        buffer.write(End::Never);
    }
    while buffer.desks.ring() {}
    settle(&buffer, End::Never, &mut waiter);
}

/// Every order of steps; how many there were.
fn model(scenario: impl Fn() + Sync + Send + 'static) -> usize {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    runs.load(Ordering::Relaxed)
}

#[test]
fn everybody_is_answered_and_only_after_the_group_is_durable() {
    assert!(model(|| two_wait(End::Never)) > 100);
}

#[test]
fn a_failure_says_yes_to_nobody_and_everybody_hears_of_it() {
    assert!(model(|| two_wait(End::FailsAfter(0))) > 100);
    assert!(model(|| two_wait(End::FailsAfter(1))) > 100);
}

#[test]
fn whatever_meets_the_end_is_answered_or_hears_of_it() {
    assert!(model(|| two_wait(End::Idle)) > 100);
}

#[test]
fn who_gives_up_keeps_nobody_waiting() {
    assert!(model(one_gives_up) > 20);
}

#[test]
fn who_is_never_polled_keeps_nobody_waiting() {
    assert!(model(one_sleeps) > 20);
}

#[test]
fn each_step_left_out_is_noticed() {
    let noticed = |step, scenario: fn()| {
        sync::LEFT_OUT.set(Some(step));
        let checked = catch_unwind(AssertUnwindSafe(|| model(scenario)));
        sync::LEFT_OUT.set(None);
        assert!(checked.is_err(), "{step:?} was left out and nothing noticed");
    };
    noticed(Step::DropHandsRound, one_gives_up);
    noticed(Step::PushWakes, || two_wait(End::Never));
    noticed(Step::PushAfterTheEndHangsUp, || two_wait(End::Idle));
}

#[test]
fn an_order_is_outstanding_while_its_ticket_is_being_noted() {
    loom::model(|| {
        let comings = Arc::new(coming::Comings::default());
        let noted = Arc::new(sync::AtomicU64::new(0));
        let coming = comings.begin();
        let writer = thread::spawn({
            let noted = Arc::clone(&noted);
            move || {
                noted.store(1, sync::Ordering::Release);
                drop(coming);
            }
        });
        let coming = comings.count();
        assert!(coming + noted.load(sync::Ordering::Acquire) >= 1);
        writer.join().unwrap();
    });
}
