//! Random commands against a small model of its own, with random closes and crashes.
//!
//! The model knows nothing of records, groups or segments: a map of orders, and the rules as a person would tell
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{
    Act, Answer, Buffer, Clock, Effect, ExceptionCategory, FeedCursor, FeedEvent, FeedKind, Lease,
    OrderState, Telling, Verdict, Word,
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
    /// An order under a ticket is lent.
    LookUp,
    /// The OMS says by itself what became of an order; whoever had it ends its loan so, too late.
    Tell {
        key: u8,
        created: bool,
        late: End,
    },
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
    Retry {
        later: bool,
        counts: bool,
        sent: bool,
    },
    Rejected,
    OutcomeUnknown,
    /// Under a ticket, to be looked up in ten seconds.
    Taken,
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
    let end = || {
        prop_oneof![
            3 => Just(End::Summarised),
            3 => Just(End::Taken),
            3 => any::<(bool, bool, bool)>()
                .prop_map(|(later, counts, sent)| End::Retry { later, counts, sent }),
            2 => Just(End::Rejected),
            1 => Just(End::OutcomeUnknown),
            2 => Just(End::Dropped),
        ]
    };
    let act = prop_oneof![Just(Act::Retry), Just(Act::Discard)];
    let posts = vec((0..2_u8, 1..6_u8, prop::option::weighted(0.8, 1..5_u64)), 2..8);
    let burst = (posts, prop::bool::weighted(0.2));
    let burst = burst.prop_map(|(posts, dies)| Command::Burst { posts, dies });
    prop_oneof![
        12 => post,
        3 => burst,
        5 => Just(Command::Lease),
        5 => (0..3_usize, end()).prop_map(|(nth, end)| Command::Settle { nth, end }),
        3 => Just(Command::LookUp),
        4 => (0..KEYS, any::<bool>(), end())
            .prop_map(|(key, created, late)| Command::Tell { key, created, late }),
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
    /// Under a ticket, to be looked up from then on.
    ticket: Option<i64>,
    /// Why it waits for a person, if it does.
    why: Option<ExceptionCategory>,
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
        self.why = None;
        self.content = content;
    }

    /// The loan ended without a summary.
    fn unpark(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.take(parked);
        }
    }

    fn waits(&self) -> bool {
        let here = matches!(self.state, OrderState::Pending | OrderState::Submitted);
        self.lent.is_none() && self.ticket.is_none() && here
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

    /// Who is lent next to be looked up.
    fn next_look(&self, now_ms: i64) -> Option<u8> {
        let due = |order: &Order| order.ticket.filter(|at| *at <= now_ms);
        let due = self.orders.iter().filter_map(|(key, order)| {
            let waits = order.lent.is_none() && order.state == OrderState::Submitted;
            Some((due(order).filter(|_| waits)?, order.place, *key))
        });
        due.min().map(|(_, _, key)| key)
    }

    /// The OMS's own word of an order.
    fn tell(&mut self, key: u8, created: bool) -> Effect {
        let Some(order) = self.orders.get_mut(&key) else { return Effect::UnknownOrder };
        let rejected = order.why == Some(ExceptionCategory::Rejected);
        let unknown = order.why == Some(ExceptionCategory::OutcomeUnknown);
        match (order.state, created) {
            (OrderState::Summarised, true) => return Effect::Known,
            (_, true) if order.sent || order.lent.is_some() || rejected => {
                order.end_as(OrderState::Summarised);
                order.too_late();
            }
            (OrderState::Exception, false) if rejected => return Effect::Known,
            (OrderState::Exception, false) if unknown => order.refused(),
            (OrderState::Submitted, false) if order.ticket.is_some() => order.refused(),
            _ => return Effect::NotSubmitted,
        }
        Effect::Done
    }

    fn settle(&mut self, key: u8, end: End, now_ms: i64) {
        let order = self.orders.get_mut(&key).unwrap();
        let loan = order.lent.take().unwrap();
        order.deaths = 0;
        match end {
            End::Summarised => {
                order.end_as(OrderState::Summarised);
                order.too_late();
            }
            End::Taken => {
                (order.sent, order.state) = (true, OrderState::Submitted);
                (order.delayed, order.ticket) = (false, Some(now_ms + 10_000));
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
                order.ticket = order.ticket.map(|_| i64::MIN);
                order.back();
            }
            End::Rejected => order.refused(),
            End::OutcomeUnknown => {
                order.end_as(OrderState::Exception);
                order.why = Some(ExceptionCategory::OutcomeUnknown);
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
                order.delayed = false;
                order.deaths += u8::from(order.ticket.is_none());
                order.ticket = order.ticket.map(|_| i64::MIN);
                if order.deaths >= 3 {
                    (order.state, order.deaths) = (OrderState::Exception, 0);
                    order.why = Some(ExceptionCategory::Poison);
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
            ticket: None,
            why: None,
        }
    }

    /// Its loan, if there is one, is over.
    fn end_as(&mut self, state: OrderState) {
        (self.state, self.attempts) = (state, self.attempts + 1);
        (self.delayed, self.deaths, self.lent, self.why) = (false, 0, None, None);
    }

    fn refused(&mut self) {
        self.end_as(OrderState::Exception);
        (self.why, self.sent, self.ticket) = (Some(ExceptionCategory::Rejected), false, None);
        self.unpark();
    }

    /// A change that waited is an exception of its own.
    fn too_late(&mut self) {
        self.ticket = None;
        if let Some(parked) = self.parked.take() {
            self.changes += 1;
            self.newest = self.newest.max(parked.version);
            self.seen.push(parked.bytes);
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
            let again =
                self.store.buffer().feed(&FeedCursor::default(), usize::MAX, NOW).await.unwrap();
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
            let position = FeedCursor::after(position);
            let page = self.store.buffer().feed(&position, 1_000, SOON).await.unwrap();
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
            Command::Lease => self.lease(false).await,
            Command::LookUp => self.lease(true).await,
            Command::Tell { key, created, late } => self.tell(key, created, late).await,
            Command::Settle { nth, end } if nth < self.leases.len() => {
                let (n, lease) = self.leases.remove(nth);
                // Nothing is sent of an order under a ticket.
                let end = match end {
                    End::Retry { .. } | End::Rejected if lease.ticket.is_some() => End::Taken,
                    end => end,
                };
                self.model.settle(n, end, self.clock.wall_ms());
                settle(n, lease, end);
            }
            Command::Sending { nth }
                if self.leases.get(nth).is_some_and(|(_, lease)| lease.ticket.is_none()) =>
            {
                let (n, lease) = &mut self.leases[nth];
                let order = self.model.orders.get_mut(n).unwrap();
                let loan = order.lent.as_mut().unwrap();
                // The OMS was asked in vain; else it cannot be asked.
                lease.sent_before &= nth % 3 == 0;
                let may_go = order.parked.is_none() || loan.sending || lease.sent_before;
                if may_go {
                    (order.state, order.sent) = (OrderState::Submitted, true);
                    loan.sending = true;
                } else {
                    // It is known that nothing had arrived.
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
                    self.model.settle(n, End::Dropped, 0);
                    drop(lease);
                }
            }
            Command::Close => {
                self.store.buffer().close().await;
                self.store.reopen().await;
                for (n, _) in std::mem::take(&mut self.leases) {
                    self.model.settle(n, End::Dropped, 0);
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

    async fn tell(&mut self, n: u8, created: bool, late: End) {
        let word = match created {
            true => Word::Created { summary_id: "S".into() },
            false => Word::Invalid { reason: "no".into() },
        };
        let telling = Telling { key: Some(key(n)), ticket: None, word };
        self.store.buffer().status().await.unwrap();
        let expected = self.model.tell(n, created);
        assert_eq!(self.store.buffer().tell(telling).await.unwrap(), expected, "of {n}");
        let over = self.model.orders.get(&n).is_some_and(|order| order.lent.is_none());
        if let Some(nth) = self.leases.iter().position(|(lent, _)| over && *lent == n) {
            let (_, lease) = self.leases.remove(nth);
            // That it exists counts, whoever says it.
            let late =
                if matches!(late, End::Summarised) && !created { End::Dropped } else { late };
            settle(n, lease, late);
        }
    }

    async fn lease(&mut self, ticketed: bool) {
        // A verdict that is under way is seen before the loan.
        self.store.buffer().status().await.unwrap();
        let (leases, expected) = match ticketed {
            true => {
                let leases = self.store.buffer().lease_ticketed(1, NOW).await;
                (leases.unwrap(), self.model.next_look(self.clock.wall_ms()))
            }
            false => (self.store.buffer().lease(1, NOW).await.unwrap(), self.model.next()),
        };
        let lent = leases.first().map(|lease| lease.key.clone());
        assert_eq!(lent, expected.map(key));
        let Some((n, lease)) = expected.zip(leases.into_iter().next()) else { return };
        let order = &self.model.orders[&n];
        assert_eq!(lease.body, vec![order.content.bytes; 700], "of {n}");
        assert_eq!((lease.attempts, lease.sent_before), (order.attempts, order.sent), "of {n}");
        let ticket = order.ticket.map(|_| format!("T{n}"));
        assert_eq!(lease.ticket, ticket, "of {n}");
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
                (order.attempts, order.ticket, order.why) = (0, None, None);
                order.state = if order.sent { OrderState::Submitted } else { OrderState::Pending };
            }
            (_, Act::Discard) => {
                order.seen.extend(order.parked.take().map(|parked| parked.bytes));
                (order.state, order.why) = (OrderState::Discarded, None);
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
        let outstanding =
            |order: &&Order| order.ticket.is_some() && order.state == OrderState::Submitted;
        let outstanding = self.model.orders.values().filter(outstanding).count() as u64;
        assert_eq!(self.store.buffer().outstanding(), outstanding, "after {after}");
        let flowed = 8 * self.flows as u64;
        if S::COUNTS_ENDED {
            assert_eq!(status.ended["recorded"], flowed, "after {after}");
        }
    }
}

fn settle(n: u8, lease: Lease, end: End) {
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
        End::Taken => {
            Verdict::Submitted { ticket: format!("T{n}"), after: Duration::from_secs(10) }
        }
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
