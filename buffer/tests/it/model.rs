//! Random commands against a small model of its own, with random closes and crashes.
//!
//! The model knows nothing of records, groups or segments: a map of orders, and the rules as a person would tell
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{
    Act, Answer, Buffer, ExceptionCategory, FeedEvent, FeedKind, Lease, OrderState, Verdict,
};
use forebay_order::{HoldReason, OrderKey, Readiness};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::*;

const KEYS: u8 = 5;

#[derive(Clone, Debug)]
pub(crate) enum Command {
    Post {
        key: u8,
        content: u8,
        version: Option<u64>,
        readiness: Readiness,
        amend: bool,
    },
    /// Several deliveries handed in before any is answered; then the process dies, if it is to.
    Burst {
        posts: Vec<(u8, u8, Option<u64>)>,
        dies: bool,
    },
    Lease,
    /// Ends the n-th loan.
    Settle {
        nth: usize,
        end: End,
    },
    Sending {
        nth: usize,
    },
    Advance,
    Act {
        nth: usize,
        act: Act,
    },
    /// A summarised order is to be sent once more.
    Again {
        key: u8,
    },
    /// Other orders pass through, so that segments end.
    Flow,
    Close,
    Crash,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Summarised,
    Retry { later: bool, counts: bool, sent: bool },
    Rejected,
    OutcomeUnknown,
    Dropped,
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let readiness = prop_oneof![
        6 => Just(Readiness::Pending),
        2 => Just(UNPAID),
        2 => Just(Readiness::Cancelled),
    ];
    let version = prop_oneof![1 => Just(None), 3 => (1..5_u64).prop_map(Some)];
    let post = (0..KEYS, 1..6_u8, version, readiness, prop::bool::weighted(0.9)).prop_map(
        |(key, content, version, readiness, amend)| Command::Post {
            key,
            content,
            version,
            readiness,
            amend,
        },
    );
    let end = prop_oneof![
        3 => Just(End::Summarised),
        3 => any::<(bool, bool, bool)>()
            .prop_map(|(later, counts, sent)| End::Retry { later, counts, sent }),
        2 => Just(End::Rejected),
        1 => Just(End::OutcomeUnknown),
        2 => Just(End::Dropped),
    ];
    let act = prop_oneof![Just(Act::Retry), Just(Act::Discard)];
    let posts = vec((0..2_u8, 1..6_u8, prop::option::weighted(0.8, 1..5_u64)), 2..8);
    let burst = (posts, prop::bool::weighted(0.2));
    let burst = burst.prop_map(|(posts, dies)| Command::Burst { posts, dies });
    prop_oneof![
        12 => post,
        3 => burst,
        5 => Just(Command::Lease),
        5 => (0..3_usize, end).prop_map(|(nth, end)| Command::Settle { nth, end }),
        2 => (0..3_usize).prop_map(|nth| Command::Sending { nth }),
        1 => Just(Command::Advance),
        2 => (0..4_usize, act).prop_map(|(nth, act)| Command::Act { nth, act }),
        2 => (0..KEYS).prop_map(|key| Command::Again { key }),
        2 => Just(Command::Flow),
        1 => Just(Command::Close),
        1 => Just(Command::Crash),
    ]
}

/// A content and what came with it.
#[derive(Clone, Debug)]
struct Content {
    bytes: u8,
    version: Option<u64>,
    becomes: OrderState,
    cancelled_before: bool,
}

#[derive(Clone, Debug)]
struct Order {
    place: usize,
    state: OrderState,
    content: Content,
    seen: Vec<u8>,
    parked: Option<Content>,
    conflicts: Vec<u8>,
    changes: usize,
    newest: Option<u64>,
    attempts: u8,
    delayed: bool,
    sent: bool,
    deaths: u8,
    lent: Option<Loan>,
}

#[derive(Clone, Copy, Debug)]
struct Loan {
    sent_before: bool,
    sending: bool,
    alone: bool,
}

#[derive(Debug, Default)]
struct Model {
    orders: BTreeMap<u8, Order>,
    places: usize,
}

impl Order {
    fn newest(&self) -> Option<u64> {
        let parked = self.parked.as_ref().and_then(|parked| parked.version);
        self.content.version.max(parked).max(self.newest)
    }

    fn latest(&self) -> &Content {
        self.parked.as_ref().unwrap_or(&self.content)
    }

    fn take(&mut self, content: Content) {
        self.seen.push(self.content.bytes);
        self.state = match content.becomes {
            OrderState::Pending if self.sent => OrderState::Submitted,
            state => state,
        };
        (self.attempts, self.delayed, self.deaths) = (0, false, 0);
        self.content = content;
    }

    /// The loan ended without a summary.
    fn unpark(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.take(parked);
        }
    }

    fn waits(&self) -> bool {
        self.lent.is_none() && matches!(self.state, OrderState::Pending | OrderState::Submitted)
    }

    fn rows(&self) -> usize {
        self.conflicts.len() + self.changes + usize::from(self.state == OrderState::Exception)
    }
}

impl Model {
    fn post(&mut self, key: u8, mut new: Content, amend: bool) -> Answer {
        let Some(order) = self.orders.get_mut(&key) else {
            let answer = match new.becomes {
                OrderState::Pending => Answer::Accepted,
                OrderState::Held => Answer::Held,
                _ => Answer::Tombstone,
            };
            self.places += 1;
            self.orders.insert(key, Order::new(self.places, new));
            return answer;
        };
        let known = order.newest();
        let older = matches!((known, new.version), (Some(a), Some(b)) if b < a);
        let newer = matches!((known, new.version), (Some(a), Some(b)) if b > a);
        let tombstone = order.state == OrderState::Cancelled && order.seen.is_empty();
        let seen = order.seen.contains(&new.bytes)
            || (order.parked.is_some() && order.content.bytes == new.bytes);
        if order.latest().bytes == new.bytes || (seen && !newer) {
            return Answer::Duplicate;
        }
        if order.conflicts.contains(&new.bytes) {
            return Answer::Conflict;
        }
        let cancel = new.becomes == OrderState::Cancelled;
        if older && (cancel || !tombstone) {
            return Answer::Stale;
        }
        let own_version = new.version;
        new.version = new.version.max(known);
        let out = order.lent.is_some() || order.state == OrderState::Submitted;
        let unsure = out || (order.state == OrderState::Exception && order.sent);
        let ended = matches!(order.state, OrderState::Summarised | OrderState::Discarded);
        let after_cancel = order.state == OrderState::Cancelled
            || order.parked.as_ref().is_some_and(|p| p.becomes == OrderState::Cancelled);
        if after_cancel && !cancel {
            new.becomes = OrderState::Held;
            new.cancelled_before = true;
        } else if !cancel {
            let released = order.state == OrderState::Held
                && !order.content.cancelled_before
                && new.becomes == OrderState::Pending;
            if !amend || !(newer || released) {
                order.conflicts.push(new.bytes);
                return Answer::Conflict;
            }
        }
        if ended {
            order.changes += 1;
            order.seen.push(new.bytes);
            order.newest = order.newest.max(own_version);
            return Answer::ChangeAfterSummary;
        }
        if unsure {
            order.seen.extend(order.parked.take().map(|parked| parked.bytes));
            order.parked = Some(new);
            return Answer::Parked;
        }
        order.take(new);
        match () {
            () if cancel => Answer::Cancelled,
            () if after_cancel => Answer::Held,
            () => Answer::Amended,
        }
    }

    /// Who is lent next.
    fn next(&self) -> Option<u8> {
        let waiting = || self.orders.iter().filter(|(_, order)| order.waits() && !order.delayed);
        let alone_out = self.orders.values().any(|o| o.lent.is_some_and(|loan| loan.alone));
        let suspect = waiting().filter(|(_, order)| order.deaths > 0 && !alone_out);
        let suspect = suspect.min_by_key(|(_, order)| (order.deaths, order.place));
        let innocent = waiting().filter(|(_, order)| order.deaths == 0);
        let next = suspect.or_else(|| innocent.min_by_key(|(_, order)| order.place));
        next.map(|(key, _)| *key)
    }

    fn lend(&mut self, key: u8) {
        let order = self.orders.get_mut(&key).unwrap();
        order.lent =
            Some(Loan { sent_before: order.sent, sending: false, alone: order.deaths > 0 });
        if order.state == OrderState::Pending {
            order.state = OrderState::Leased;
        }
    }

    fn settle(&mut self, key: u8, end: End) {
        let order = self.orders.get_mut(&key).unwrap();
        let loan = order.lent.take().unwrap();
        order.deaths = 0;
        match end {
            End::Summarised => {
                (order.state, order.attempts) = (OrderState::Summarised, order.attempts + 1);
                order.delayed = false;
                if let Some(parked) = order.parked.take() {
                    order.changes += 1;
                    order.newest = order.newest.max(parked.version);
                    order.seen.push(parked.bytes);
                }
            }
            End::Retry { later, counts, sent } => {
                order.attempts += u8::from(counts);
                order.delayed = later;
                order.sent = sent || (loan.sent_before && !loan.sending);
                order.back();
            }
            End::Dropped => {
                order.delayed = false;
                order.sent = loan.sent_before || loan.sending;
                order.back();
            }
            End::Rejected | End::OutcomeUnknown => {
                (order.state, order.attempts) = (OrderState::Exception, order.attempts + 1);
                order.delayed = false;
                order.sent &= matches!(end, End::OutcomeUnknown);
                if !order.sent {
                    order.unpark();
                }
            }
        }
    }

    fn die(&mut self) {
        for order in self.orders.values_mut() {
            if order.lent.take().is_some() {
                (order.sent, order.state) = (true, OrderState::Submitted);
                (order.delayed, order.deaths) = (false, order.deaths + 1);
                if order.deaths >= 3 {
                    (order.state, order.deaths) = (OrderState::Exception, 0);
                }
            }
        }
    }
}

impl Order {
    fn new(place: usize, content: Content) -> Self {
        Self {
            place,
            state: content.becomes,
            content,
            seen: Vec::new(),
            parked: None,
            conflicts: Vec::new(),
            changes: 0,
            newest: None,
            attempts: 0,
            delayed: false,
            sent: false,
            deaths: 0,
            lent: None,
        }
    }

    fn back(&mut self) {
        self.state = if self.sent { OrderState::Submitted } else { OrderState::Pending };
        if !self.sent {
            self.unpark();
        }
    }
}

/// Something that can be closed, killed and opened again.
pub(crate) trait Store {
    type Buffer: Buffer;
    /// Whether it survives its process.
    const KEPT: bool;
    /// Whether all deliveries go through one line: accepted in the order in which they were handed in, whatever their keys, and
    /// kept though the process dies before it answers. Otherwise only those of one key keep their order.
    const ONE_LINE: bool;
    /// Whether its feed tells everything, and the same whenever it is read.
    const TELLS_ALL: bool;
    /// Whether it knows at each time how many orders have ended since it was first begun.
    const COUNTS_ENDED: bool = true;
    /// Whether the bytes of a summarised order may be gone.
    const FORGETS_BYTES: bool = false;
    fn buffer(&self) -> &Self::Buffer;
    /// Opens it anew, after it was closed or as if its process had died.
    fn reopen(&mut self) -> impl Future<Output = ()>;
    /// Whether it forgot at the last opening during which deaths orders were lent.
    fn forgot_deaths(&self) -> bool {
        false
    }
    /// The clock has jumped.
    async fn jumped(&self) {}
}

fn key(n: u8) -> OrderKey {
    OrderKey::new("shopify", "demo", format!("k{n}"))
}

pub(crate) struct Run<S: Store> {
    store: S,
    clock: Arc<HandClock>,
    model: Model,
    leases: Vec<(u8, Lease)>,
    flows: usize,
    /// Everything the feed told.
    told: Vec<FeedEvent>,
}

impl<S: Store> Run<S> {
    pub(crate) async fn all(mut self, commands: Vec<Command>) {
        for command in commands {
            let said = format!("{command:?}");
            self.one(command).await;
            self.compare(&said).await;
            if S::TELLS_ALL {
                self.hear(&said).await;
            }
        }
        if S::TELLS_ALL {
            let again = self.store.buffer().feed(0, usize::MAX, NOW).await.unwrap();
            assert!(again.events.starts_with(&self.told), "{again:?}");
        }
    }

    /// Where each order is by what was told of it, which is what was done to it.
    async fn hear(&mut self, after: &str) {
        loop {
            let own = |event: &&FeedEvent| match &event.exception {
                Some(raised) => !matches!(
                    raised.category,
                    ExceptionCategory::Conflict | ExceptionCategory::ChangeAfterSummary
                ),
                None => true,
            };
            let told = self.told.iter().filter(own).map(|event| (event.key.clone(), event.kind));
            let told: BTreeMap<_, _> = told.collect();
            let orders = self.model.orders.iter();
            let expected = orders.map(|(n, order)| (key(*n), kind_of(order.state)));
            let raised = self.told.iter().filter(|event| event.exception.is_some()).count();
            let rows: usize = self.model.orders.values().map(Order::rows).sum();
            if told == expected.collect() && raised >= rows {
                return;
            }
            let position = self.told.last().map_or(0, |event| event.sequence);
            let page = self.store.buffer().feed(position, 1_000, SOON).await.unwrap();
            assert!(!page.events.is_empty(), "nothing more is told after {after}: {told:?}");
            self.told.extend(page.events);
        }
    }

    async fn one(&mut self, command: Command) {
        match command {
            Command::Post { key: n, content, version, readiness, amend } => {
                let mut envelope = delivery(&format!("k{n}"), content, version);
                (envelope.readiness, envelope.amend) = (readiness, amend);
                envelope.body = vec![content; 700].into();
                let becomes = match readiness {
                    Readiness::Pending => OrderState::Pending,
                    Readiness::Held(_) => OrderState::Held,
                    _ => OrderState::Cancelled,
                };
                let new = Content { bytes: content, version, becomes, cancelled_before: false };
                let expected = self.model.post(n, new, amend);
                assert_eq!(answer(self.store.buffer(), envelope).await, expected);
            }
            Command::Burst { mut posts, dies } => {
                if !S::ONE_LINE {
                    let key = posts[0].0;
                    posts.retain(|(other, _, _)| *other == key);
                }
                self.burst(posts, dies && S::KEPT && S::ONE_LINE).await;
            }
            Command::Lease => self.lease().await,
            Command::Settle { nth, end } if nth < self.leases.len() => {
                let (n, lease) = self.leases.remove(nth);
                self.model.settle(n, end);
                settle(lease, end);
            }
            Command::Sending { nth } if nth < self.leases.len() => {
                let (n, lease) = &self.leases[nth];
                let order = self.model.orders.get_mut(n).unwrap();
                let loan = order.lent.as_mut().unwrap();
                let may_go = order.parked.is_none() || loan.sending;
                if may_go {
                    (order.state, order.sent) = (OrderState::Submitted, true);
                    loan.sending = true;
                } else {
                    // Whoever asks knows that nothing had arrived.
                    loan.sent_before = false;
                }
                let synced = nth % 2 == 0;
                let sending = self.store.buffer().submitting(std::slice::from_ref(lease), synced);
                assert_eq!(sending.await.unwrap(), [may_go]);
            }
            Command::Advance => {
                self.clock.advance(60_000);
                self.store.jumped().await;
                self.model.orders.values_mut().for_each(|order| order.delayed = false);
            }
            Command::Act { nth, act } => self.act(nth, act).await,
            Command::Again { key: n } => self.again(n).await,
            Command::Flow => self.flow().await,
            Command::Close | Command::Crash if !S::KEPT => {
                for (n, lease) in std::mem::take(&mut self.leases) {
                    self.model.settle(n, End::Dropped);
                    drop(lease);
                }
            }
            Command::Close => {
                self.store.buffer().close().await;
                self.store.reopen().await;
                for (n, _) in std::mem::take(&mut self.leases) {
                    self.model.settle(n, End::Dropped);
                }
                self.forget_deaths();
            }
            Command::Crash => {
                // What nobody waits for may be lost in a crash; here it is not, so that the model stays small.
                self.store.buffer().status().await.unwrap();
                self.die().await;
            }
            Command::Settle { .. } | Command::Sending { .. } => {}
        }
    }

    async fn die(&mut self) {
        self.store.reopen().await;
        self.model.die();
        self.leases.clear();
        self.forget_deaths();
    }

    fn forget_deaths(&mut self) {
        if self.store.forgot_deaths() {
            self.model.orders.values_mut().for_each(|order| order.deaths = 0);
        }
    }

    /// Deliveries of one key are judged in the order in which they were handed in, whatever each has to wait for.
    async fn burst(&mut self, posts: Vec<(u8, u8, Option<u64>)>, dies: bool) {
        self.store.buffer().status().await.unwrap();
        let (mut answers, mut expected) = (Vec::new(), Vec::new());
        for (n, content, version) in posts {
            let mut envelope = delivery(&format!("k{n}"), content, version);
            envelope.body = vec![content; 700].into();
            let permit = self.store.buffer().admission().admit(700).unwrap();
            answers.push(Box::pin(self.store.buffer().append(envelope, permit)));
            let becomes = OrderState::Pending;
            let new = Content { bytes: content, version, becomes, cancelled_before: false };
            expected.push(self.model.post(n, new, true));
        }
        if dies {
            // Nobody hears an answer, and every delivery is kept all the same.
            drop(answers);
            return self.die().await;
        }
        for (answer, expected) in answers.into_iter().zip(expected) {
            assert_eq!(answer.await.unwrap().answer(), expected);
        }
    }

    async fn lease(&mut self) {
        // A verdict that is under way is seen before the loan.
        self.store.buffer().status().await.unwrap();
        let leases = self.store.buffer().lease(1, NOW).await.unwrap();
        let expected = self.model.next();
        let lent = leases.first().map(|lease| lease.key.clone());
        assert_eq!(lent, expected.map(key));
        let Some((n, lease)) = expected.zip(leases.into_iter().next()) else { return };
        let order = &self.model.orders[&n];
        assert_eq!(lease.body, vec![order.content.bytes; 700], "of {n}");
        assert_eq!((lease.attempts, lease.sent_before), (order.attempts, order.sent), "of {n}");
        self.model.lend(n);
        self.leases.push((n, lease));
    }

    async fn act(&mut self, nth: usize, act: Act) {
        let rows = self.store.buffer().exceptions(0, 100).await.unwrap();
        let Some(row) = rows.get(nth) else { return };
        let body = self.store.buffer().body(row.id).await.unwrap();
        let acted = self.store.buffer().act(row.id, act).await;
        let n = row.key.id[1..].parse().unwrap();
        let order = self.model.orders.get_mut(&n).unwrap();
        match (row.category, act) {
            (ExceptionCategory::Conflict, Act::Discard) => {
                let content = body.unwrap()[0];
                order.conflicts.retain(|other| *other != content);
            }
            (ExceptionCategory::ChangeAfterSummary, Act::Discard) => order.changes -= 1,
            (ExceptionCategory::Conflict | ExceptionCategory::ChangeAfterSummary, Act::Retry) => {
                acted.unwrap_err();
                return;
            }
            (_, Act::Retry) => {
                order.attempts = 0;
                order.state = if order.sent { OrderState::Submitted } else { OrderState::Pending };
            }
            (_, Act::Discard) => {
                order.seen.extend(order.parked.take().map(|parked| parked.bytes));
                order.state = OrderState::Discarded;
            }
        }
        assert_eq!(acted.unwrap().state, order.state);
    }

    async fn again(&mut self, n: u8) {
        // A verdict that is under way is seen before.
        self.store.buffer().status().await.unwrap();
        let again = self.store.buffer().send_again(&key(n)).await.unwrap();
        let order = self.model.orders.get_mut(&n);
        let Some(order) = order.filter(|order| order.state == OrderState::Summarised) else {
            assert!(!again, "{n} is not summarised");
            return;
        };
        assert!(again || S::FORGETS_BYTES, "{n} is summarised");
        if again {
            (order.state, order.sent, order.delayed) = (OrderState::Submitted, true, false);
            (order.attempts, order.deaths) = (0, 0);
        }
    }

    async fn flow(&mut self) {
        self.flows += 1;
        let buffer = self.store.buffer();
        for i in 0..8 {
            let mut envelope = delivery(&format!("flow-{}-{i}", self.flows), 1, None);
            envelope.readiness = Readiness::Recorded(forebay_order::RecordedAs::Other);
            envelope.body = vec![b'f'; 3_000].into();
            assert_eq!(answer(buffer, envelope).await, Answer::Recorded);
        }
    }

    async fn compare(&self, after: &str) {
        for n in 0..KEYS {
            let view = self.store.buffer().order(&key(n)).await.unwrap();
            let Some(order) = self.model.orders.get(&n) else {
                assert_eq!(view, None, "after {after}");
                continue;
            };
            let view = view.unwrap();
            let seen = (view.state, view.attempts, view.exceptions.len(), view.version);
            let expected = (order.state, order.attempts, order.rows(), order.content.version);
            assert_eq!(seen, expected, "order {n} after {after}: {order:?}");
            assert_eq!(view.fingerprint.0, [order.content.bytes; 16], "order {n} after {after}");
            let held = order.content.cancelled_before && order.state == OrderState::Held;
            assert_eq!(view.hold == Some(HoldReason::CancelledBefore), held, "after {after}");
            if !matches!(
                order.state,
                OrderState::Summarised | OrderState::Cancelled | OrderState::Discarded
            ) {
                let body = self.store.buffer().body(view.sequence).await.unwrap();
                assert_eq!(body.unwrap(), vec![order.content.bytes; 700], "after {after}");
            }
        }
        let status = self.store.buffer().status().await.unwrap();
        let ended = status.ended.iter().filter(|_| S::COUNTS_ENDED);
        for (word, count) in status.live.iter().chain(ended) {
            let of = |order: &&Order| order.state.word() == *word;
            let expected = self.model.orders.values().filter(of).count() as u64;
            if *word != "recorded" {
                assert_eq!(*count, expected, "{word} after {after}");
            }
        }
        let flowed = 8 * self.flows as u64;
        if S::COUNTS_ENDED {
            assert_eq!(status.ended["recorded"], flowed, "after {after}");
        }
    }
}

fn settle(lease: Lease, end: End) {
    let verdict = match end {
        End::Summarised => Verdict::Summarised { summary_id: "S".into(), existing: false },
        End::Retry { later, counts, sent } => Verdict::Retry {
            after: Duration::from_secs(if later { 60 } else { 0 }),
            counts,
            sent,
            reason: "busy".into(),
        },
        End::Rejected => {
            Verdict::Exception { category: ExceptionCategory::Rejected, reason: "no".into() }
        }
        End::OutcomeUnknown => Verdict::Exception {
            category: ExceptionCategory::OutcomeUnknown,
            reason: "who knows".into(),
        },
        End::Dropped => return drop(lease),
    };
    lease.settle(verdict);
}

pub(crate) fn run<S: Store>(store: S, clock: Arc<HandClock>) -> Run<S> {
    let (model, leases, told) = (Model::default(), Vec::new(), Vec::new());
    Run { store, clock, model, leases, flows: 0, told }
}

fn kind_of(state: OrderState) -> FeedKind {
    match state {
        OrderState::Held => FeedKind::Held,
        OrderState::Pending | OrderState::Leased | OrderState::Submitted => FeedKind::Accepted,
        OrderState::Summarised => FeedKind::Summarised,
        OrderState::Cancelled => FeedKind::Cancelled,
        OrderState::Discarded => FeedKind::Discarded,
        OrderState::Exception | OrderState::Recorded => FeedKind::Exception,
    }
}
