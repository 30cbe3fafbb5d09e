//! The governor with waiters, on a clock that tests move.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_buffer::Clock;
use forebay_processor::{CeilingError, Governor, Limiter, Limits};
use tokio::time::{Instant, advance, sleep};

use crate::support::{TokioClock, in_time};

fn governor(ceiling: f64, in_flight: usize) -> Governor {
    let limits = Limits { ceiling_per_s: Some(ceiling), in_flight, ..Limits::default() };
    Governor::new(limits, TokioClock::shared()).unwrap()
}

/// Sends as fast as it is let, each call taking so long, and counts.
fn sender(governor: &Governor, call: Duration) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let (governor, counter) = (governor.clone(), Arc::clone(&sent));
    let task = tokio::spawn(async move {
        loop {
            let grant = governor.acquire(governor.batch()).await;
            counter.fetch_add(grant.orders(), Ordering::Relaxed);
            sleep(call).await;
            grant.spend();
        }
    });
    (sent, task)
}

async fn in_a_second(sent: &AtomicUsize) -> usize {
    let before = sent.load(Ordering::Relaxed);
    sleep(Duration::from_secs(1)).await;
    sent.load(Ordering::Relaxed) - before
}

fn near(got: usize, want: f64) {
    let got = u32::try_from(got).map(f64::from).unwrap();
    assert!((got - want).abs() <= want * 0.03 + 1.0, "{got} where {want} was due");
}

#[tokio::test(start_paused = true)]
async fn the_ceiling_is_met_and_followed_live() {
    let governor = governor(100.0, 2);
    let (sent, _task) = sender(&governor, Duration::from_millis(5));
    sleep(Duration::from_secs(1)).await;
    near(in_a_second(&sent).await, 100.0);
    governor.set_ceiling(1_000.0).unwrap();
    near(in_a_second(&sent).await, 1_000.0);
    near(in_a_second(&sent).await, 1_000.0);
    governor.set_ceiling(250.0).unwrap();
    let burst = 250.0 * 0.075;
    let first = in_a_second(&sent).await as f64;
    assert!(
        (240.0..=250.0 + burst).contains(&first),
        "{first}: at most one burst was carried over"
    );
    near(in_a_second(&sent).await, 250.0);
    governor.set_ceiling(0.5).unwrap();
    sleep(Duration::from_secs(2)).await;
    let before = sent.load(Ordering::Relaxed);
    sleep(Duration::from_secs(20)).await;
    assert!((9..=11).contains(&(sent.load(Ordering::Relaxed) - before)));
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_at_once_and_a_resume_climbs() {
    let governor = governor(1_000.0, 2);
    let (sent, _task) = sender(&governor, Duration::from_millis(1));
    sleep(Duration::from_secs(1)).await;
    governor.pause();
    in_time("paused", governor.paused()).await;
    assert_eq!(in_a_second(&sent).await, 0);
    assert_eq!(governor.state().limiter, Limiter::Paused);
    sleep(Duration::from_secs(3_600)).await;
    governor.resume();
    in_time("open", governor.open()).await;
    let mut by_second = Vec::new();
    for _ in 0..7 {
        by_second.push(in_a_second(&sent).await);
    }
    // 5 s in ten steps: 100 and 200, 300 and 400, ... of which each half second gives half.
    for (got, want) in by_second.into_iter().zip([150.0, 350.0, 550.0, 750.0, 950.0, 1e3, 1e3]) {
        assert!((want - 60.0..=want + 60.0).contains(&(got as f64)), "{got} where {want} was due");
    }
}

#[tokio::test(start_paused = true)]
async fn it_starts_empty_and_an_idle_hour_gathers_one_burst() {
    let governor = governor(1_000.0, 1_000);
    let began = Instant::now();
    drop(governor.acquire(1).await);
    assert!(began.elapsed() >= Duration::from_millis(1));
    sleep(Duration::from_secs(3_600)).await;
    let mut grants = Vec::new();
    let began = Instant::now();
    while began.elapsed().is_zero() {
        grants.push(governor.acquire(1).await);
    }
    // 75 of the burst at once; the one more came later.
    assert_eq!(grants.len(), 76);
    assert_eq!(governor.state().burst, Some(75.0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_first_is_served_first_and_giving_up_costs_nobody() {
    let governor = governor(10.0, 100);
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for n in 0..9 {
        let (governor, order) = (governor.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let grant = governor.acquire(1).await;
            order.lock().unwrap().push(n);
            grant.spend();
        }));
        tokio::task::yield_now().await;
    }
    // The first, one in the middle, and the last give up.
    for n in [0, 4, 8] {
        tasks[n].abort();
    }
    let began = Instant::now();
    for (n, task) in tasks.into_iter().enumerate() {
        let joined = in_time("a waiter", task).await;
        assert_eq!(joined.is_err(), [0, 4, 8].contains(&n));
    }
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 5, 6, 7]);
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(610), "six orders at 10/s took {took:?}");
    assert_eq!(governor.state().limiter, Limiter::Idle, "nobody waits any more");
}

#[tokio::test(start_paused = true)]
async fn what_did_not_reach_the_oms_is_given_back() {
    let governor = governor(100.0, 4);
    sleep(Duration::from_secs(10)).await;
    let began = Instant::now();
    for _ in 0..1_000 {
        drop(governor.acquire(2).await);
    }
    let mut kept = governor.acquire(2).await;
    kept.keep(1);
    assert_eq!(kept.orders(), 1);
    assert!(began.elapsed().is_zero(), "none of it cost a token");
    kept.spend();
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_than_allowed_are_under_way() {
    let limits = Limits { in_flight: 3, ..Limits::default() };
    let governor = Governor::new(limits, TokioClock::shared()).unwrap();
    let grants = [governor.acquire(5).await, governor.acquire(5).await, governor.acquire(5).await];
    let state = governor.state();
    assert_eq!((state.in_flight, state.in_flight_orders), (3, 15));
    assert_eq!((state.ceiling_per_s, state.limiter), (None, Limiter::InFlight));
    let waits = tokio::time::timeout(Duration::from_secs(5), governor.acquire(5)).await;
    assert!(waits.is_err());
    drop(grants);
    in_time("a free call", governor.acquire(5)).await.spend();
    assert_eq!(governor.state().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn trouble_of_the_oms_keeps_everybody_back_for_so_long() {
    let governor = governor(1_000.0, 2);
    sleep(Duration::from_secs(1)).await;
    assert_eq!((governor.failed(), governor.failed()), (1, 2));
    governor.back_off(Duration::from_secs(30));
    assert_eq!(governor.state().limiter, Limiter::Oms);
    let began = Instant::now();
    governor.open().await;
    governor.acquire(1).await.spend();
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    governor.answered();
    assert_eq!(governor.failed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_suspended_machine_gains_one_burst_at_most() {
    let governor = governor(1_000.0, 1_000);
    advance(Duration::from_secs(86_400)).await;
    let mut grants = Vec::new();
    let began = Instant::now();
    while began.elapsed().is_zero() {
        grants.push(governor.acquire(1).await);
    }
    assert!(grants.len() <= 76, "{}", grants.len());
}

#[test]
fn a_ceiling_is_a_positive_number() {
    let clock: Arc<dyn Clock> = TokioClock::shared();
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e12, 1e-12] {
        let limits = Limits { ceiling_per_s: Some(bad), ..Limits::default() };
        let Err(CeilingError(_)) = Governor::new(limits, Arc::clone(&clock)) else {
            panic!("{bad} was taken")
        };
    }
    let governor = Governor::new(Limits::default(), clock).unwrap();
    assert!(governor.set_ceiling(0.0).is_err());
    assert_eq!(governor.state().ceiling_per_s, None, "a wrong ceiling changes nothing");
    governor.set_ceiling(40.0).unwrap();
    assert_eq!((governor.state().ceiling_per_s, governor.batch()), (Some(40.0), 1));
}

#[tokio::test(start_paused = true)]
async fn a_share_scales_the_limits_and_none_grants_nothing() {
    let governor = governor(1_000.0, 4);
    let (sent, _task) = sender(&governor, Duration::from_millis(1));
    sleep(Duration::from_secs(1)).await;
    governor.set_share(0.25);
    sleep(Duration::from_millis(100)).await;
    near(in_a_second(&sent).await, 250.0);
    let state = governor.state();
    assert_eq!((state.ceiling_per_s, state.share), (Some(1_000.0), 0.25));
    assert_eq!((state.burst, state.batch), (Some(18.75), 6));
    governor.set_ceiling(400.0).unwrap();
    sleep(Duration::from_millis(100)).await;
    near(in_a_second(&sent).await, 100.0);
    governor.set_share(0.0);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(in_a_second(&sent).await, 0);
    assert_eq!(governor.state().limiter, Limiter::Share);
    sleep(Duration::from_secs(3_600)).await;
    governor.set_share(1.0);
    let first = in_a_second(&sent).await as f64;
    assert!(first <= 401.0, "{first}: nothing was gathered while it had no share");
    near(in_a_second(&sent).await, 400.0);
}
