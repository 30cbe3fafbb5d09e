//! Orders that an asynchronous OMS takes under a ticket, on paused time: how many, how often looked up, and for how long.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use forebay_buffer::{
    Act, Buffer, Clock, Effect, ExceptionCategory, Memory, OrderState, Telling, Word,
};
use forebay_order::OrderSummary;
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Found, Guarantee, Identity, Limiter, Limits, Listed,
    OrderManagement, Outcome, RetryPolicy,
};
use tokio::time::{Instant, sleep};

use crate::support::{Delivery, TokioClock, buffer, key};

const SECOND: Duration = Duration::from_secs(1);

/// Takes every order, and has it when a test says so.
pub(crate) struct Taker {
    began: Instant,
    can_find: bool,
    find_batch: usize,
    pub(crate) sent: Mutex<Vec<(Duration, Identity)>>,
    asked: Mutex<Vec<(Duration, Vec<Identity>)>>,
    there: Mutex<HashSet<Identity>>,
    out_of_order: AtomicBool,
    /// Refuses the credentials of whoever looks up.
    refuses_us: AtomicBool,
    /// Refuses every look-up that asks for this one.
    unaskable: Option<Identity>,
}

impl Taker {
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            can_find: true,
            find_batch: 20,
            sent: Mutex::default(),
            asked: Mutex::default(),
            there: Mutex::default(),
            out_of_order: AtomicBool::new(false),
            refuses_us: AtomicBool::new(false),
            unaskable: None,
        }
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }

    fn times_sent(&self, id: &str) -> usize {
        let identity = key(id).identity();
        self.sent.lock().unwrap().iter().filter(|(_, sent)| *sent == identity).count()
    }

    /// When it was asked for that order, whole seconds since the start.
    fn asked_for(&self, id: &str) -> Vec<u64> {
        let identity = key(id).identity();
        let asked = self.asked.lock().unwrap();
        let of_it = asked.iter().filter(|(_, asked)| asked.contains(&identity));
        of_it.map(|(at, _)| at.as_secs()).collect()
    }

    fn asks(&self) -> Vec<(Duration, usize)> {
        self.asked.lock().unwrap().iter().map(|(at, asked)| (*at, asked.len())).collect()
    }

    pub(crate) fn has(&self, id: &str) {
        self.there.lock().unwrap().insert(key(id).identity());
    }
}

/// A wall clock that is set forward by so many ms.
struct Stepped(Arc<dyn Clock>, AtomicI64);

impl Clock for Stepped {
    fn wall_ms(&self) -> i64 {
        self.0.wall_ms() + self.1.load(Ordering::Relaxed)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

impl OrderManagement for Taker {
    fn guarantee(&self) -> Guarantee {
        Guarantee::of(false, false, self.can_find)
    }

    fn is_test(&self) -> bool {
        true
    }

    fn identity_max(&self) -> usize {
        255
    }

    fn batch_max(&self) -> usize {
        100
    }

    fn can_find(&self) -> bool {
        self.can_find
    }

    fn find_batch(&self) -> usize {
        self.find_batch
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let at = self.began.elapsed();
        sleep(Duration::from_millis(20)).await;
        let mut sent = self.sent.lock().unwrap();
        let take = |order: &Arc<OrderSummary>| {
            sent.push((at, order.key.identity()));
            Outcome::Accepted { ticket: format!("T-{}", sent.len()) }
        };
        Ok(batch.iter().map(take).collect())
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        assert!(identities.len() <= self.find_batch);
        self.asked.lock().unwrap().push((self.began.elapsed(), identities.to_vec()));
        sleep(Duration::from_millis(20)).await;
        if self.out_of_order.load(Ordering::Relaxed) {
            return Err(CallFailure::NotSent("no route".to_owned()));
        }
        if self.refuses_us.load(Ordering::Relaxed) {
            return Err(CallFailure::Unauthenticated);
        }
        if self.unaskable.as_ref().is_some_and(|unaskable| identities.contains(unaskable)) {
            return Err(CallFailure::NotSent("it answered 400".to_owned()));
        }
        let there = self.there.lock().unwrap();
        let found = |identity: &Identity| {
            let id = format!("SO-{identity}");
            there.contains(identity).then_some(Found { id, fingerprint: None })
        };
        Ok(identities.iter().map(found).collect())
    }

    async fn list(&self, _: u64, _: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        Ok(None)
    }
}

pub(crate) fn config(outstanding: Option<u64>) -> DrainConfig {
    let retry = RetryPolicy { base: Duration::from_millis(10), max: SECOND };
    let limits = Limits { batch: Some(4), outstanding, ..Limits::default() };
    let remembered = Duration::from_secs(1_000 * 365 * 86_400);
    DrainConfig { limits, retry, remembered, ..DrainConfig::default() }
}

pub(crate) struct Sale {
    pub(crate) buffer: Memory,
    pub(crate) oms: Arc<Taker>,
    config: DrainConfig,
}

impl Sale {
    pub(crate) async fn of(orders: usize, oms: Taker, config: DrainConfig) -> Self {
        let buffer = buffer(TokioClock::shared());
        for n in 0..orders {
            Delivery::new(&n.to_string()).append(&buffer).await;
        }
        Self { buffer, oms: Arc::new(oms), config }
    }

    pub(crate) fn drain(&self) -> Drain {
        let oms = Arc::clone(&self.oms);
        Drain::start(self.config.clone(), self.buffer.clone(), oms, TokioClock::shared()).unwrap()
    }

    async fn state(&self, id: &str) -> OrderState {
        self.buffer.order(&key(id)).await.unwrap().unwrap().state
    }

    pub(crate) async fn exceptions(&self) -> Vec<(u64, ExceptionCategory, String)> {
        let rows = self.buffer.exceptions(0, 1_000).await.unwrap();
        rows.into_iter().map(|row| (row.id, row.category, row.reason)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_are_outstanding_than_may_be_and_look_ups_go_on() {
    let sale = Sale::of(100, Taker::new(), config(Some(10))).await;
    let drain = sale.drain();
    let limiter = |drain: &Drain| drain.governor().state().limiter;
    sleep(20 * SECOND).await;
    assert_eq!((sale.oms.sent(), sale.buffer.outstanding()), (10, 10));
    assert_eq!(limiter(&drain), Limiter::Outstanding);
    let state = drain.governor().state();
    assert_eq!((state.outstanding, state.outstanding_max), (10, Some(10)));
    let status = sale.buffer.status().await.unwrap();
    assert_eq!(status.live["pending"], 90, "none is held by a worker that waits: {status:?}");
    let asks = sale.oms.asks().len();
    assert!(asks >= 3, "{asks}");

    // As many more as are closed: by a look-up, and by the OMS's own word.
    (0..3).for_each(|n| sale.oms.has(&n.to_string()));
    let word = Word::Created { summary_id: "SO-9".to_owned() };
    let telling = Telling { key: Some(key("9")), ticket: None, word };
    assert_eq!(sale.buffer.tell(telling).await.unwrap(), Effect::Done);
    sleep(61 * SECOND).await;
    assert_eq!((sale.oms.sent(), sale.buffer.outstanding()), (14, 10));

    // What a process before this one has sent counts.
    drain.stop(SECOND).await;
    let drain = sale.drain();
    sleep(61 * SECOND).await;
    assert_eq!((sale.oms.sent(), sale.buffer.outstanding()), (14, 10));
    assert_eq!(limiter(&drain), Limiter::Outstanding);

    (0..100).for_each(|n| sale.oms.has(&n.to_string()));
    sleep(60 * 60 * SECOND).await;
    assert_eq!(sale.oms.sent(), 100);
    assert_eq!(sale.buffer.status().await.unwrap().ended["summarised"], 100);
    assert_eq!(limiter(&drain), Limiter::Idle);
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn look_ups_find_out_that_credentials_are_good_again_where_nothing_can_be_sent() {
    // Once with the cap full and orders behind it, once with nothing left to be sent.
    for (orders, outstanding) in [(100, Some(10)), (10, None)] {
        let sale = Sale::of(orders, Taker::new(), config(outstanding)).await;
        let drain = sale.drain();
        sleep(5 * SECOND).await;
        assert_eq!(sale.oms.sent(), 10);
        sale.oms.refuses_us.store(true, Ordering::Relaxed);
        let asked_before = sale.oms.asks().len();
        sleep(600 * SECOND).await;
        assert_eq!(drain.governor().state().limiter, Limiter::Auth);
        let asks = sale.oms.asks().len() - asked_before;
        // A wait of up to half a minute between any two, so some forty.
        assert!((20..80).contains(&asks), "{asks} probes in ten minutes");
        sale.oms.refuses_us.store(false, Ordering::Relaxed);
        (0..orders).for_each(|n| sale.oms.has(&n.to_string()));
        sleep(60 * 60 * SECOND).await;
        assert_eq!(sale.oms.sent(), orders);
        let status = sale.buffer.status().await.unwrap();
        assert_eq!(status.ended["summarised"], orders as u64, "{status:?}");
        assert_eq!(sale.exceptions().await, []);
        drain.stop(5 * SECOND).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_asked_for_keeps_up_no_others() {
    let taker = Taker { unaskable: Some(key("7").identity()), ..Taker::new() };
    let sale = Sale::of(100, taker, config(None)).await;
    let drain = sale.drain();
    sleep(5 * SECOND).await;
    (0..100).for_each(|n| sale.oms.has(&n.to_string()));
    sleep(300 * SECOND).await;
    let status = sale.buffer.status().await.unwrap();
    assert_eq!((status.ended["summarised"], status.live["submitted"]), (99, 1), "{status:?}");
    assert_eq!(sale.state("7").await, OrderState::Submitted);
    drain.stop(5 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_forward_makes_no_ticket_old() {
    let clock = Arc::new(Stepped(TokioClock::shared(), AtomicI64::new(0)));
    let shared = Arc::clone(&clock) as Arc<dyn Clock>;
    let buffer = buffer(Arc::clone(&shared));
    for n in 0..20 {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let oms = Arc::new(Taker::new());
    let drain = Drain::start(config(None), buffer.clone(), Arc::clone(&oms), shared).unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(oms.sent(), 20);
    clock.1.store(86_400_000, Ordering::Relaxed);
    sleep(600 * SECOND).await;
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
    (0..20).for_each(|n| oms.has(&n.to_string()));
    sleep(120 * SECOND).await;
    assert_eq!(buffer.status().await.unwrap().ended["summarised"], 20);
    assert_eq!(oms.sent(), 20);
    drain.stop(5 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_all_are_sent_at_once() {
    let sale = Sale::of(100, Taker::new(), config(None)).await;
    let drain = sale.drain();
    sleep(20 * SECOND).await;
    assert_eq!((sale.oms.sent(), sale.buffer.outstanding()), (100, 100));
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn look_ups_come_ever_less_often_and_none_sends_again() {
    let sale = Sale::of(1, Taker::new(), config(Some(10))).await;
    let drain = sale.drain();
    sleep(Duration::from_secs(1_200)).await;
    let asked = sale.oms.asked_for("0");
    assert_eq!(asked[..6], [1, 2, 3, 4, 6, 10], "{asked:?}");
    // Whole seconds hide up to one.
    let gaps: Vec<_> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps.windows(2).all(|two| two[0] <= two[1] + 1), "{asked:?}");
    assert!(gaps.last() >= Some(&60) && gaps.iter().max() <= Some(&61), "{asked:?}");
    assert!((20..35).contains(&asked.len()), "{asked:?}");
    assert_eq!(sale.oms.sent(), 1);
    sale.oms.has("0");
    sleep(61 * SECOND).await;
    assert_eq!(sale.state("0").await, OrderState::Summarised);
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn look_ups_are_batched_and_take_none_of_the_orders_a_second() {
    let limits = Limits { ceiling_per_s: Some(10.0), in_flight: 3, ..config(None).limits };
    let limits = Limits { batch: Some(1), ..limits };
    let sale = Sale::of(300, Taker::new(), DrainConfig { limits, ..config(None) }).await;
    let drain = sale.drain();
    sleep(Duration::from_secs(25)).await;
    let sent = sale.oms.sent();
    assert!((245..=252).contains(&sent), "{sent} in 25 s at 10/s");
    let asks = sale.oms.asks();
    assert!(asks.iter().map(|(_, orders)| orders).sum::<usize>() > 500, "they were looked up");
    drain.stop(SECOND).await;

    // All were taken in the same moment, and so they are due together: by calls of twenty.
    let sale = Sale::of(100, Taker::new(), config(None)).await;
    let drain = sale.drain();
    sleep(Duration::from_secs(60)).await;
    let (calls, orders) = sale
        .oms
        .asks()
        .iter()
        .fold((0, 0), |(calls, orders), (_, asked)| (calls + 1, orders + asked));
    assert!(orders >= 500 && calls <= orders / 5, "{calls} calls for {orders}");
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn past_its_deadline_an_order_is_looked_up_once_more_and_waits_for_a_person() {
    let config = DrainConfig { ticket_deadline: 100 * SECOND, ..config(Some(10)) };
    let sale = Sale::of(2, Taker::new(), config).await;
    let drain = sale.drain();
    sleep(95 * SECOND).await;
    assert_eq!(sale.exceptions().await, []);
    // There at the last moment.
    sale.oms.has("1");
    sale.oms.out_of_order.store(true, Ordering::Relaxed);
    sleep(60 * SECOND).await;
    assert_eq!(sale.exceptions().await, [], "nobody answered the last look-up yet");
    assert_eq!(sale.state("0").await, OrderState::Submitted);
    sale.oms.out_of_order.store(false, Ordering::Relaxed);
    sleep(5 * SECOND).await;
    assert_eq!(sale.state("1").await, OrderState::Summarised);
    let rows = sale.exceptions().await;
    let [(id, ExceptionCategory::OutcomeUnknown, reason)] = &rows[..] else { panic!("{rows:?}") };
    for words in ["under ticket T-1", "oms.ticket_deadline", "last look-up", "look for it there"] {
        assert!(reason.contains(words), "{words}: {reason}");
    }
    assert_eq!((sale.oms.times_sent("0"), sale.buffer.outstanding()), (1, 0));

    // A person's retry looks it up before it sends it again.
    let asked = sale.oms.asked_for("0").len();
    sale.buffer.act(*id, Act::Retry).await.unwrap();
    sleep(Duration::from_millis(500)).await;
    assert_eq!((sale.oms.asked_for("0").len(), sale.oms.times_sent("0")), (asked + 1, 2));
    assert_eq!((sale.state("0").await, sale.buffer.outstanding()), (OrderState::Submitted, 1));
    sale.oms.has("0");
    sleep(5 * SECOND).await;
    assert_eq!(sale.state("0").await, OrderState::Summarised);
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn where_the_oms_cannot_be_asked_the_deadline_comes_by_itself_and_a_retry_sends_nothing() {
    let oms = Taker { can_find: false, ..Taker::new() };
    let config = DrainConfig { ticket_deadline: 3_600 * SECOND, ..config(Some(10)) };
    let sale = Sale::of(1, oms, config).await;
    let drain = sale.drain();
    sleep(3_599 * SECOND).await;
    assert_eq!(sale.exceptions().await, []);
    sleep(2 * SECOND).await;
    for round in 0..2 {
        let rows = sale.exceptions().await;
        assert_eq!((rows.len(), rows[0].1), (1, ExceptionCategory::OutcomeUnknown), "{round}");
        sale.buffer.act(rows[0].0, Act::Retry).await.unwrap();
        sleep(SECOND).await;
    }
    assert_eq!((sale.oms.sent(), sale.oms.asks().len()), (1, 0));
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn in_a_pause_nothing_is_looked_up() {
    let sale = Sale::of(1, Taker::new(), config(Some(10))).await;
    let drain = sale.drain();
    sleep(10 * SECOND).await;
    drain.governor().pause();
    sleep(SECOND).await;
    let asks = sale.oms.asks().len();
    sleep(300 * SECOND).await;
    assert_eq!(sale.oms.asks().len(), asks);
    sale.oms.has("0");
    drain.governor().resume();
    sleep(5 * SECOND).await;
    assert_eq!(sale.state("0").await, OrderState::Summarised);
    drain.stop(SECOND).await;
}
