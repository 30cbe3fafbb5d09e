//! Mass refusals by an OMS that only takes orders at first: told later, or never. None is burnt, and the drain stops.

use std::time::Duration;

use forebay_buffer::{
    Buffer, Effect, ExceptionCategory, Lease, Memory, OrderState, Telling, Verdict, Word,
};
use forebay_order::OrderKey;
use forebay_processor::{Drain, DrainConfig, Hearing, Limiter, Limits, RetryPolicy};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::reference::Reference;
use crate::support::{Delivery, TokioClock, buffer, clock, in_time, key, until};
use crate::tickets::{Sale, Taker, config};

const SECOND: Duration = Duration::from_secs(1);
const RULE: &str = "PROMOTION_NOT_VALID";

/// Tells that the order sent as the n-th was refused.
async fn refuse(sale: &Sale, hearing: &Hearing, n: usize) {
    let identity = sale.oms.sent.lock().unwrap()[n].1.clone();
    let word = Word::Invalid { reason: "not valid".to_owned() };
    let ticket = Some(format!("T-{}", n + 1));
    let telling = Telling { key: OrderKey::parse(&identity), ticket, word };
    let patience = hearing.patience();
    let effect = hearing.tell(&sale.buffer, telling, Some(RULE), patience).await.unwrap();
    assert_eq!(effect, Effect::Done, "{identity}");
}

#[tokio::test(start_paused = true)]
async fn told_refusals_stop_the_drain_and_only_what_became_of_a_probe_lets_it_go_on() {
    let limits = Limits { ceiling_per_s: Some(10.0), ..config(None).limits };
    let sale = Sale::of(100, Taker::new(), DrainConfig { limits, ..config(None) }).await;
    let drain = sale.drain();
    let (hearing, limiter) = (drain.hearing(), || drain.governor().state().limiter);
    sleep(4 * SECOND).await;
    let before = sale.oms.sent();
    assert!((30..=44).contains(&before), "{before}");
    for n in 0..20 {
        assert_ne!(limiter(), Limiter::Rejected);
        refuse(&sale, &hearing, n).await;
    }
    assert_eq!(limiter(), Limiter::Rejected);
    // One probe, which is taken, and then nothing for as long as nobody knows what became of it.
    sleep(20 * SECOND).await;
    let under_way = sale.oms.sent() - before;
    assert!((1..=9).contains(&under_way), "{under_way}: two calls under way and a probe");
    let out = sale.oms.sent();
    sleep(600 * SECOND).await;
    assert_eq!((sale.oms.sent(), limiter()), (out, Limiter::Rejected));
    // Refused: another one is made, alone again.
    refuse(&sale, &hearing, out - 1).await;
    sleep(60 * SECOND).await;
    assert_eq!((sale.oms.sent(), limiter()), (out + 1, Limiter::Rejected));
    assert_eq!(sale.exceptions().await, []);
    // What others become, that were sent before, says nothing; the probe's does.
    let sent = |n: usize| sale.oms.sent.lock().unwrap()[n].1.clone();
    sale.oms.has(&OrderKey::parse(&sent(25)).unwrap().id);
    sleep(70 * SECOND).await;
    assert_eq!(limiter(), Limiter::Rejected);
    (0..100).for_each(|n| sale.oms.has(&n.to_string()));
    sleep(300 * SECOND).await;
    let status = sale.buffer.status().await.unwrap();
    assert_eq!(status.ended["summarised"], 100, "{status:?}");
    assert_eq!((sale.exceptions().await, limiter()), (vec![], Limiter::Idle));
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn an_order_refused_twice_while_others_pass_is_an_exception() {
    let sale = Sale::of(10, Taker::new(), config(None)).await;
    let drain = sale.drain();
    let hearing = drain.hearing();
    sleep(SECOND).await;
    refuse(&sale, &hearing, 3).await;
    assert_eq!(sale.exceptions().await, []);
    sleep(29 * SECOND).await;
    assert_eq!(sale.oms.sent(), 10, "held back");
    sleep(5 * SECOND).await;
    assert_eq!(sale.oms.sent(), 11, "and sent again");
    refuse(&sale, &hearing, 10).await;
    let rows = sale.exceptions().await;
    assert_eq!((rows.len(), rows[0].1), (1, ExceptionCategory::Rejected));
    sleep(600 * SECOND).await;
    assert_eq!(sale.oms.sent(), 11);
    drain.stop(SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn tickets_that_nothing_becomes_of_stop_the_drain() {
    let config = DrainConfig { ticket_deadline: 100 * SECOND, ..config(Some(40)) };
    let sale = Sale::of(400, Taker::new(), config).await;
    let drain = sale.drain();
    sleep(90 * SECOND).await;
    assert_eq!((sale.oms.sent(), sale.exceptions().await.len()), (40, 0));
    sleep(90 * SECOND).await;
    let state = drain.governor().state();
    assert_eq!(state.limiter, Limiter::Rejected);
    assert!(state.why.unwrap().contains("ticket_overdue"));
    let sent = sale.oms.sent();
    assert!(sent <= 80, "{sent}: what was sent until the twentieth was over");
    sleep(1_000 * SECOND).await;
    assert!(sale.oms.sent() <= sent + 15, "probes: {}", sale.oms.sent() - sent);
    (0..400).for_each(|n| sale.oms.has(&n.to_string()));
    sleep(3_000 * SECOND).await;
    let status = sale.buffer.status().await.unwrap();
    let aside = sale.exceptions().await.len() as u64;
    assert!(aside < 100 && status.ended["summarised"] + aside == 400, "{aside}: {status:?}");
    drain.stop(SECOND).await;
}

/// So many orders that are being sent, and nobody has answered yet.
async fn being_sent(count: usize) -> (Memory, Hearing, Vec<Lease>) {
    let buffer = buffer(TokioClock::shared());
    for n in 0..count {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let leases = buffer.lease(count, Duration::ZERO).await.unwrap();
    buffer.submitting(&leases, true).await.unwrap();
    (buffer, Hearing::without_drain(TokioClock::shared()), leases)
}

/// An order was refused under ticket T-1.
fn refused(n: usize) -> Telling {
    let word = Word::Invalid { reason: "not valid".to_owned() };
    Telling { key: Some(key(&n.to_string())), ticket: Some("T-1".to_owned()), word }
}

fn taken(ticket: &str) -> Verdict {
    Verdict::Submitted { ticket: ticket.to_owned(), after: SECOND }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_told_before_its_ticket_is_heard_once_that_is_noted() {
    let (buffer, hearing, mut leases) = being_sent(1).await;
    let (told, patience) = (buffer.clone(), hearing.patience());
    let told =
        tokio::spawn(async move { hearing.tell(&told, refused(0), Some(RULE), patience).await });
    sleep(2 * SECOND).await;
    assert!(!told.is_finished());
    leases.remove(0).settle(taken("T-1"));
    assert_eq!(told.await.unwrap().unwrap(), Effect::Done);
    let order = buffer.order(&key("0")).await.unwrap().unwrap();
    assert_eq!((order.state, order.attempts), (OrderState::Pending, 1));
}

#[tokio::test(start_paused = true)]
async fn all_that_is_told_together_waits_no_longer_than_one_does() {
    let (buffer, hearing, _leases) = being_sent(200).await;
    let (began, patience) = (Instant::now(), hearing.patience());
    for n in 0..200 {
        let effect = hearing.tell(&buffer, refused(n), Some(RULE), patience).await.unwrap();
        assert_eq!(effect, Effect::NotSubmitted);
    }
    let took = began.elapsed();
    assert!((3 * SECOND..4 * SECOND).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_an_order_under_another_ticket_waits_for_nothing() {
    let (buffer, hearing, leases) = being_sent(200).await;
    leases.into_iter().for_each(|lease| lease.settle(taken("T-2")));
    buffer.status().await.unwrap();
    let began = Instant::now();
    for n in 0..200 {
        let patience = hearing.patience();
        let effect = hearing.tell(&buffer, refused(n), Some(RULE), patience).await.unwrap();
        assert_eq!(effect, Effect::OtherTicket);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

const ORDERS: u64 = 400;
const EVERY: u64 = 15;

/// Whether the reference OMS refuses this one later whatever its rules: about every fifteenth, by its identity.
fn is_bad(id: &str) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key(id).identity().bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash.is_multiple_of(EVERY)
}

/// Hears what the OMS tells, as the operators' door does.
async fn hear(listener: TcpListener, hearing: Hearing, buffer: Memory) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let items = read(&mut stream).await;
        let patience = hearing.patience();
        for item in items.as_array().unwrap() {
            let text = |name: &str| item[name].as_str().map(str::to_owned);
            let word = match text("id") {
                Some(summary_id) => Word::Created { summary_id },
                None => Word::Invalid { reason: "the OMS refused it".to_owned() },
            };
            let (key, code) = (OrderKey::parse(&text("identity").unwrap()), text("code"));
            let telling = Telling { key, ticket: text("ticket"), word };
            hearing.tell(&buffer, telling, code.as_deref(), patience).await.unwrap();
        }
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

/// The JSON of one request.
async fn read(stream: &mut TcpStream) -> Value {
    let mut request = Vec::new();
    loop {
        stream.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            if body.len() >= length.lines().next().unwrap().parse().unwrap() {
                return serde_json::from_str(body).unwrap();
            }
        }
    }
}

/// A sale in which everything that is taken for a while is refused later. Who is an exception at its end, and the judge's word.
async fn mass_rejection(hold: Duration) -> (Vec<String>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tell = format!("http://{}/v1/oms/outcomes", listener.local_addr().unwrap());
    let faults = json!({ "async_after_ms": 50, "async_refuse_every": EVERY, "tell": tell });
    let oms = Reference::of(directory.path(), &faults);
    let buffer = buffer(clock());
    for n in 0..ORDERS {
        Delivery::new(&n.to_string()).append(&buffer).await;
    }
    let retry = RetryPolicy { base: Duration::from_millis(5), max: Duration::from_millis(50) };
    let ramp = Duration::from_millis(50);
    let limits = Limits { ceiling_per_s: Some(100.0), ramp, ..Limits::default() };
    let remembered = Duration::from_secs(1_000 * 365 * 86_400);
    let config =
        DrainConfig { limits, retry, remembered, refusal_hold: hold, ..DrainConfig::default() };
    let drain =
        Drain::start(config, buffer.clone(), std::sync::Arc::new(oms.http()), clock()).unwrap();
    let hears = tokio::spawn(hear(listener, drain.hearing(), buffer.clone()));
    let ended = async |word: &str| {
        buffer.status().await.unwrap().ended.get(word).copied().unwrap_or_default()
    };
    in_time("some", until(async || ended("summarised").await > 60)).await;
    oms.control(json!({ "async_refuse_all": true })).await;
    let braked = async || drain.governor().state().limiter == Limiter::Rejected;
    in_time("the brake", until(braked)).await;
    // Everything that was taken is told by now, and some probes are, too.
    sleep(3 * SECOND).await;
    assert!(braked().await);
    oms.control(json!({ "async_refuse_all": false })).await;
    let over = async || {
        let aside = buffer.exceptions(0, 1_000).await.unwrap().len() as u64;
        aside + ended("summarised").await == ORDERS
    };
    in_time("drained", until(over)).await;
    hears.abort();
    drain.stop(5 * SECOND).await;
    let rows = buffer.exceptions(0, 1_000).await.unwrap();
    let aside = rows.into_iter().map(|row| row.key.id).collect();
    (aside, oms.judge().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mass_rejection_told_later_burns_none_but_the_bad_orders() {
    let (aside, judged) = mass_rejection(SECOND).await;
    let bad = (0..ORDERS).filter(|n| is_bad(&n.to_string())).count() as u64;
    assert!((10..60).contains(&bad), "{bad}");
    let burnt: Vec<_> = aside.iter().filter(|id| !is_bad(id)).collect();
    assert!(burnt.is_empty() && aside.len() as u64 == bad, "{burnt:?} of {}", aside.len());
    assert_eq!((&judged["doubles"], &judged["distinct_identities"]), (&json!(0), &json!(ORDERS)));
    let exist = judged["creates"].as_u64().unwrap() - judged["refused_later"].as_u64().unwrap();
    assert_eq!(exist, ORDERS - bad, "{judged}");
    assert!(judged["peak_orders_per_s"].as_u64().unwrap() <= 110, "{judged}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_holding_back_a_mass_rejection_told_later_burns_orders() {
    // The control of the test before.
    let (aside, _) = mass_rejection(Duration::ZERO).await;
    let burnt = aside.iter().filter(|id| !is_bad(id)).count();
    assert!(burnt >= 10, "{burnt}");
}
