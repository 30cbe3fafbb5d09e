//! The brakes in mid-sale, on a clock that stands still unless everybody waits: what stops the drain burns nothing, and what is
//! the orders' own fault does not stop it.

use std::time::Duration;

use forebay_buffer::{Buffer, OrderState};
use forebay_processor::{DrainConfig, Limiter, Limits};
use tokio::time::sleep;

use crate::scripted::{Says, Scene, ids, s};
use crate::support::{Delivery, key};

const RULE: &str = "PROMOTION_NOT_VALID";

#[tokio::test(start_paused = true)]
async fn a_secret_that_expires_in_mid_sale_burns_no_order_and_counts_no_attempt() {
    let scene = Scene::new(ids(1_000), 200.0, |_, at| match (s(1)..s(61)).contains(&at) {
        true => Says::Unauthenticated,
        false => Says::Yes,
    })
    .await;
    scene.sleep_until(s(2)).await;
    assert_eq!(scene.limiter(), Limiter::Auth);
    assert!(scene.why().contains("renew them"), "{}", scene.why());
    scene.sleep_until(s(60)).await;
    assert_eq!(scene.limiter(), Limiter::Auth);
    let calls = scene.oms.submits_in(1, 61);
    assert!((3..=40).contains(&calls), "{calls} calls in a minute");
    let before = scene.oms.created();
    assert!((150..=215).contains(&before), "{before}");
    while scene.limiter() == Limiter::Auth {
        sleep(Duration::from_millis(1)).await;
    }
    let released = scene.elapsed();
    assert!(released < s(61 + 31), "{released:?}");
    scene.drained(s(30)).await;
    let ramp = scene.oms.orders_in(released, released + s(1));
    assert!(ramp <= 46, "{ramp} in the first second: a tenth and two tenths of the ceiling");
    assert_eq!((scene.oms.created(), scene.exceptions().await), (1_000, 0));
    for n in 0..1_000 {
        assert_eq!(scene.attempts(&n.to_string()).await, 1, "{n}");
    }
    scene.drain.stop(s(5)).await;
}

#[tokio::test(start_paused = true)]
async fn the_look_up_that_is_due_is_the_probe_of_credentials() {
    let scene = Scene::new([], 200.0, |what, at| match (what, at < s(20)) {
        ("find", true) => Says::Unauthenticated,
        _ => Says::Yes,
    })
    .await;
    scene.drain.governor().pause();
    for id in ids(10) {
        Delivery::new(&id).append(&scene.buffer).await;
    }
    let leases = scene.buffer.lease(10, Duration::ZERO).await.unwrap();
    scene.buffer.submitting(&leases, true).await.unwrap();
    drop(leases);
    scene.drain.governor().resume();
    scene.sleep_until(s(19)).await;
    assert_eq!((scene.limiter(), scene.oms.created()), (Limiter::Auth, 0));
    assert_eq!(scene.oms.submits_in(0, 20), 0, "none is sent before it was looked up");
    scene.drained(s(60)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (10, 0));
}

/// A rule that refuses every order from 2 s to 62 s.
fn rule(_: &str, at: Duration) -> Says {
    match (s(2)..s(62)).contains(&at) {
        true => Says::Invalid(RULE),
        false => Says::Yes,
    }
}

#[tokio::test(start_paused = true)]
async fn a_rule_deployed_in_mid_sale_burns_no_order_not_even_the_first() {
    // A quick drain whose calls are full of refusals, and one so slow that the first wait for the twentieth.
    for ceiling in [1_000.0, 200.0, 20.0, 1.0] {
        let orders = if ceiling < 100.0 { 200 } else { 4_000 };
        let scene = Scene::new(ids(orders), ceiling, rule).await;
        scene.sleep_until(s(30)).await;
        assert_eq!(scene.limiter(), Limiter::Rejected, "{ceiling}");
        assert!(scene.why().starts_with("20 of the last"), "{}", scene.why());
        assert!(scene.why().contains(RULE), "{}", scene.why());
        let unsettled = scene.in_state("submitted").await;
        assert!(unsettled <= 1, "{unsettled} but for a probe under way");
        scene.sleep_until(s(62)).await;
        let calls = scene.oms.submits_in(30, 62);
        assert!((1..=20).contains(&calls), "{calls} calls in half a minute");
        assert_eq!(scene.exceptions().await, 0);
        scene.drained(s(400)).await;
        assert_eq!((scene.oms.created(), scene.exceptions().await), (orders, 0), "{ceiling}");
        for n in 0..orders {
            assert_eq!(scene.attempts(&n.to_string()).await, 1, "{n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_order_sent_before_the_brake_does_not_release_it() {
    let waiting = ids(100).chain(["slow".to_owned()]).chain((100..200).map(|n| n.to_string()));
    // One order a call, and from the slow one's call on each other one is refused.
    let scene = Scene::new(waiting, 40.0, |id, at| match id.parse::<u32>() {
        Ok(n) if n >= 100 && at < s(60) => Says::Invalid(RULE),
        _ => Says::Yes,
    })
    .await;
    while scene.limiter() != Limiter::Rejected {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(scene.oms.created(), 100, "the slow one is under way");
    while scene.elapsed() < s(60) {
        assert_eq!(scene.limiter(), Limiter::Rejected, "{:?}", scene.elapsed());
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(scene.oms.created(), 101);
    scene.drained(s(60)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (201, 0));
}

#[tokio::test(start_paused = true)]
async fn a_brake_is_released_though_all_orders_there_are_wait_and_the_next_comes_late() {
    let scene = Scene::new(ids(20), 100.0, |_, at| match at < s(10) {
        true => Says::Invalid(RULE),
        false => Says::Yes,
    })
    .await;
    scene.drained(s(120)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (20, 0));
    // Credentials that expire with one order, which its sender then calls off; probes find nothing to ask with.
    let scene = Scene::new(ids(1), 100.0, |_, at| match at < s(3_000) {
        true => Says::Unauthenticated,
        false => Says::Yes,
    })
    .await;
    scene.sleep_until(s(1)).await;
    assert_eq!(scene.limiter(), Limiter::Auth);
    let permit = scene.buffer.admission().admit(1).unwrap();
    let cancel = forebay_buffer::Envelope {
        readiness: forebay_order::Readiness::Cancelled,
        ..forebay_buffer::Envelope::new(
            key("0"),
            crate::support::fingerprint("called off"),
            bytes::Bytes::from_static(b"x"),
        )
    };
    scene.buffer.append(cancel, permit).await.unwrap();
    scene.drained(s(60)).await;
    scene.sleep_until(s(3_001)).await;
    assert_eq!(scene.limiter(), Limiter::Auth);
    let calls = scene.oms.submits_in(0, 3_001);
    assert!(calls <= 10, "{calls} calls, none without an order");
    Delivery::new("1").append(&scene.buffer).await;
    scene.drained(s(5)).await;
    assert_eq!(scene.limiter(), Limiter::Idle);
}

#[tokio::test(start_paused = true)]
async fn without_the_hold_the_first_refused_orders_burn() {
    // The control of the test before.
    let config = DrainConfig { refusal_hold: Duration::ZERO, ..DrainConfig::default() };
    let scene = Scene::with(ids(200), 20.0, config, rule).await;
    scene.drained(s(400)).await;
    let burnt = scene.exceptions().await;
    assert!((5..20).contains(&burnt), "{burnt}: those before the brake");
    assert_eq!(scene.oms.created(), 200 - burnt);
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_refuses_the_whole_call_burns_none_either() {
    let scene = Scene::new(ids(500), 100.0, |_, at| match (s(2)..s(32)).contains(&at) {
        true => Says::RefusesTheCall,
        false => Says::Yes,
    })
    .await;
    scene.sleep_until(s(20)).await;
    assert_eq!(scene.limiter(), Limiter::Rejected);
    scene.drained(s(200)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (500, 0));
}

#[tokio::test(start_paused = true)]
async fn five_bad_orders_of_five_hundred_are_five_exceptions_and_no_brake() {
    let bad = |id: &str| [7, 8, 9, 120, 499].contains(&id.parse::<u32>().unwrap());
    let scene = Scene::new(ids(500), 200.0, move |id, _| match bad(id) {
        true => Says::Invalid(RULE),
        false => Says::Yes,
    })
    .await;
    assert!(!scene.drained(s(30)).await, "no brake");
    assert_eq!((scene.oms.created(), scene.exceptions().await), (495, 5));
}

/// Drains 1,000 orders of which the script refuses some: whether a brake was on, and how many became exceptions.
async fn refusing(
    bad: impl Fn(u32) -> Option<&'static str> + Send + Sync + 'static,
) -> (bool, usize) {
    let scene = Scene::new(ids(1_000), 200.0, move |id, _| match bad(id.parse().unwrap()) {
        Some(code) => Says::Invalid(code),
        None => Says::Yes,
    })
    .await;
    let braked = scene.drained(s(600)).await;
    let exceptions = scene.exceptions().await;
    assert_eq!(scene.oms.created() + exceptions, 1_000);
    (braked, exceptions)
}

#[tokio::test(start_paused = true)]
async fn less_than_a_fifth_with_one_code_is_no_brake() {
    assert_eq!(refusing(|n| (n % 10 == 3).then_some("A")).await, (false, 100));
    let two = |n| match n % 20 {
        0 | 7 | 13 => Some("A"),
        3 | 9 | 17 => Some("B"),
        _ => None,
    };
    assert_eq!(refusing(two).await, (false, 300));
}

#[tokio::test(start_paused = true)]
async fn a_fifth_with_one_code_is_a_brake() {
    // The control of the test before.
    let scene = Scene::new(ids(1_000), 200.0, |id, _| match id.ends_with(['3', '8']) {
        true => Says::Invalid(RULE),
        false => Says::Yes,
    })
    .await;
    let mut braked = false;
    while scene.elapsed() < s(5) {
        braked |= scene.limiter() == Limiter::Rejected;
        sleep(Duration::from_millis(5)).await;
    }
    assert!(braked);
}

#[tokio::test(start_paused = true)]
async fn a_bad_order_alone_in_an_idle_system_is_an_exception_within_seconds() {
    let scene = Scene::new(["1".to_owned()], 100.0, |_, _| Says::Invalid(RULE)).await;
    scene.sleep_until(s(1)).await;
    let state = async || scene.buffer.order(&key("1")).await.unwrap().unwrap().state;
    assert_eq!((state().await, scene.exceptions().await), (OrderState::Submitted, 0));
    scene.sleep_until(s(6)).await;
    assert_eq!((state().await, scene.exceptions().await), (OrderState::Exception, 1));
    assert_eq!(scene.oms.submits_in(0, 60), 1, "it was sent once");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_when_nobody_can_tell_goes_back() {
    // Held at a pause, in the OMS's trouble, and at the stop.
    let scene = Scene::new(ids(3), 100.0, |_, at| match at < s(30) {
        true => Says::Invalid(RULE),
        false => Says::Overloaded,
    })
    .await;
    scene.sleep_until(s(1)).await;
    assert_eq!(scene.in_state("submitted").await, 3);
    scene.drain.governor().pause();
    scene.sleep_until(s(7)).await;
    assert_eq!((scene.in_state("pending").await, scene.exceptions().await), (3, 0), "the pause");
    scene.drain.governor().resume();
    scene.sleep_until(s(9)).await;
    assert_eq!(scene.in_state("submitted").await, 3, "sent again, and refused again");
    scene.drain.stop(s(5)).await;
    let status = scene.buffer.status().await.unwrap();
    assert_eq!((status.live.get("pending"), status.exceptions.is_empty()), (Some(&3), true));
    let lease = scene.buffer.lease(1, Duration::ZERO).await.unwrap().remove(0);
    assert_eq!(
        (lease.attempts, lease.sent_before),
        (0, false),
        "it is certain that it was not created"
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_before_an_outage_are_not_judged_by_it() {
    let scene = Scene::new(ids(100), 20.0, |_, at| match at {
        at if at < s(2) => Says::Yes,
        at if at < Duration::from_millis(2_500) => Says::Invalid(RULE),
        at if at < s(300) => Says::Overloaded,
        _ => Says::Yes,
    })
    .await;
    scene.sleep_until(s(299)).await;
    assert_eq!((scene.limiter(), scene.exceptions().await), (Limiter::Oms, 0));
    assert_eq!(scene.in_state("submitted").await, 0);
    scene.drained(s(100)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_wins_over_a_brake_and_its_end_does_not_release_it() {
    let scene = Scene::new(ids(1_000), 100.0, rule).await;
    scene.sleep_until(s(20)).await;
    assert_eq!(scene.limiter(), Limiter::Rejected);
    scene.drain.governor().pause();
    assert_eq!(scene.limiter(), Limiter::Paused);
    scene.sleep_until(s(90)).await;
    assert!(scene.oms.submits_in(21, 90) == 0, "nothing is probed in a pause");
    scene.drain.governor().resume();
    assert_eq!(scene.limiter(), Limiter::Rejected);
    scene.drained(s(60)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_truly_bad_orders_brakes_and_yet_ends_as_exceptions_while_others_pass() {
    // Forty bad ones in a row, as of a storefront that forgot a field, before and among thousands of good ones.
    let bad = |id: &str| (100..140).contains(&id.parse::<u32>().unwrap());
    let scene = Scene::new(ids(6_000), 50.0, move |id, _| match bad(id) {
        true => Says::Invalid(RULE),
        false => Says::Yes,
    })
    .await;
    let braked = scene.drained(s(900)).await;
    assert!(braked);
    assert_eq!((scene.oms.created(), scene.exceptions().await), (5_960, 40));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_is_denied_while_others_come_through_ends_alone_and_stops_nobody() {
    for batch in [1, 20] {
        let limits = Limits { batch: Some(batch), ..Limits::default() };
        let config = DrainConfig { limits, ..DrainConfig::default() };
        let says = |id: &str, _| match id {
            "3" | "500" => Says::Unauthenticated,
            _ => Says::Yes,
        };
        let scene = Scene::with(ids(1_000), 200.0, config, says).await;
        scene.drained(s(180)).await;
        assert_eq!((scene.oms.created(), scene.exceptions().await), (998, 2), "{batch}");
        for id in ["3", "500"] {
            let order = scene.buffer.order(&key(id)).await.unwrap().unwrap();
            assert_eq!(order.state, OrderState::Exception, "{id}");
        }
        scene.drain.stop(s(5)).await;
    }
}
