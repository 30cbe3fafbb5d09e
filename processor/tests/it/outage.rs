//! The OMS is down for half an hour in mid-sale, in every way that it can be: by its own books nothing is lost, doubled or burnt.

use std::time::Duration;

use forebay_processor::Limiter;

use crate::scripted::{Says, Scene, ids, s};
use crate::support::Delivery;

const FROM: u64 = 60;
const TO: u64 = FROM + 1_800;
const CEILING: f64 = 40.0;

/// Each minute of the outage is another kind of it.
fn outage(id: &str, at: Duration) -> Says {
    if !(s(FROM)..s(TO)).contains(&at) {
        return Says::Yes;
    }
    match ((at.as_secs() - FROM) / 60 % 4, id) {
        (0, _) => Says::NotThere,
        (1, "find") => Says::NotThere,
        (1, _) => Says::CutAfter,
        (2, _) => Says::CutBefore,
        (_, "find") => Says::NotThere,
        (_, _) => Says::Overloaded,
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_hour_of_outage_in_mid_sale_loses_doubles_and_burns_nothing() {
    let scene = Scene::new(ids(4_000), CEILING, outage).await;
    scene.sleep_until(s(FROM)).await;
    let before = scene.oms.created();
    assert!((2_200..=2_500).contains(&before), "{before} in the first minute");
    // The storefront goes on meanwhile.
    for n in 0..1_800 {
        Delivery::new(&format!("meanwhile-{n}")).append(&scene.buffer).await;
        scene.sleep_until(s(FROM + n + 1)).await;
    }
    assert_eq!(scene.limiter(), Limiter::Oms);
    let during = scene.oms.created();
    assert!(during > before, "some whose line was cut are there");
    let calls = scene.oms.submits_in(FROM, TO) + scene.oms.finds.lock().unwrap().len();
    assert!(calls < 600, "{calls} calls in half an hour: it is left alone");

    scene.drained(s(600)).await;
    assert_eq!((scene.oms.created(), scene.exceptions().await), (5_800, 0));
    // In each round others come through, by a look-up, while one has its line cut: that may count once. Most count only the one that passes.
    let tried = (before..before + 100).map(|n| n.to_string());
    let mut counted = 0;
    for id in tried.chain((0..1_800).map(|n| format!("meanwhile-{n}"))) {
        counted += usize::from(scene.attempts(&id).await);
    }
    assert!(counted < 2_000, "{counted} attempts of 1,900 orders: it was not their fault");
    // What the OMS was sent in any second afterwards.
    let last = scene.elapsed().as_secs();
    for second in TO..last {
        let orders = scene.oms.orders_in(s(second), s(second + 1));
        assert!(orders <= 44, "{orders} orders in second {second}");
    }
    scene.drain.stop(s(5)).await;
}
