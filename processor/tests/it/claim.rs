//! Two fleets and one OMS, on paused time: at no time do both drain to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_buffer::{Buffer, Clock, Memory};
use forebay_order::OrderSummary;
use forebay_processor::{
    CallFailure, Claim, Drain, DrainConfig, Found, Guarantee, Identity, Limiter, Limits, Listed,
    OrderManagement, Outcome,
};
use tokio::time::sleep;

use crate::support::{Delivery, TokioClock, buffer};

/// When which fleet's orders came.
type Came = Arc<Mutex<Vec<(u64, &'static str)>>>;

/// What an OMS notes of fleets, and whose orders it is sent: each fleet's way to it.
struct Way {
    fleet: &'static str,
    note: Note,
    came: Came,
    clock: Arc<dyn Clock>,
    /// It cannot be asked whose it is, though orders reach it.
    cut_off: Arc<AtomicBool>,
    /// Its first note is written whatever was written a moment before, as where it is a record over HTTP.
    writes_over: AtomicBool,
}

/// Whose the OMS is as it notes it: a fleet, since when, taken from another.
type Note = Arc<Mutex<Option<(String, i64, bool)>>>;

impl OrderManagement for Way {
    fn guarantee(&self) -> Guarantee {
        Guarantee::UniqueId
    }

    fn is_test(&self) -> bool {
        true
    }

    fn identity_max(&self) -> usize {
        255
    }

    fn batch_max(&self) -> usize {
        1
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        self.came.lock().unwrap().push((self.clock.elapsed().as_secs(), self.fleet));
        Ok(batch.iter().map(|order| Outcome::Created { id: order.key.identity() }).collect())
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        Ok(identities.iter().map(|_| None).collect())
    }

    async fn list(&self, _: u64, _: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        Ok(None)
    }

    async fn claim(&self, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
        if self.cut_off.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if self.writes_over.swap(false, Ordering::Relaxed) {
            *self.note.lock().unwrap() = Some((fleet.to_owned(), self.clock.wall_ms(), true));
        }
        Ok(self.noted(fleet, take))
    }
}

impl Way {
    /// An operator takes it, wherever he is.
    fn take_for(&self, fleet: &str) {
        self.noted(fleet, true);
    }

    fn noted(&self, fleet: &str, take: bool) -> Claim {
        let mut note = self.note.lock().unwrap();
        let now_ms = self.clock.wall_ms();
        let there = note.get_or_insert_with(|| (fleet.to_owned(), now_ms, false));
        if take && there.0 != fleet {
            *there = (fleet.to_owned(), now_ms, true);
        }
        let (theirs, since_ms, taken) = there.clone();
        match theirs == fleet {
            true => Claim::Ours { taken_ms: taken.then_some(since_ms) },
            false => Claim::Theirs { fleet: theirs, since_ms },
        }
    }
}

/// Two fleets with a few hundred orders each, ten a second, and the OMS they both know.
struct Scene {
    drains: Vec<Drain>,
    buffers: Vec<Memory>,
    ways: Vec<Arc<Way>>,
    came: Came,
}

impl Scene {
    async fn new() -> Self {
        Self::of(false).await
    }

    async fn of(writes_over: bool) -> Self {
        let clock = TokioClock::shared();
        let (note, came) = (Arc::new(Mutex::new(None)), Came::default());
        let (mut drains, mut ways, mut buffers) = (Vec::new(), Vec::new(), Vec::new());
        for fleet in ["one", "other"] {
            let buffer = buffer(Arc::clone(&clock));
            for n in 0..3_000 {
                Delivery::new(&format!("{fleet}-{n}")).append(&buffer).await;
            }
            let way = Arc::new(Way {
                fleet,
                note: Arc::clone(&note),
                came: Arc::clone(&came),
                clock: Arc::clone(&clock),
                cut_off: Arc::default(),
                writes_over: AtomicBool::new(writes_over),
            });
            let config = DrainConfig {
                limits: Limits { ceiling_per_s: Some(10.0), ..Limits::default() },
                fleet: Some(fleet.to_owned()),
                ..DrainConfig::default()
            };
            buffers.push(buffer.clone());
            let drain = Drain::start(config, buffer, Arc::clone(&way), Arc::clone(&clock)).unwrap();
            drains.push(drain);
            ways.push(way);
            // The first one is there first.
            sleep(Duration::from_secs(1)).await;
        }
        Self { drains, buffers, ways, came }
    }

    /// Limiter word of a fleet, and why.
    fn limiter(&self, fleet: usize) -> (Limiter, String) {
        let state = self.drains[fleet].governor().state();
        (state.limiter, state.why.unwrap_or_default())
    }

    /// The seconds in which orders of a fleet came: the first and the last.
    fn came(&self, fleet: &str) -> Option<(u64, u64)> {
        let came = self.came.lock().unwrap();
        let mut seconds = came.iter().filter(|(_, whose)| *whose == fleet).map(|(at, _)| *at);
        let first = seconds.next()?;
        Some((first, seconds.next_back().unwrap_or(first)))
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_fleets_the_first_drains_until_the_other_takes_over() {
    let scene = Scene::new().await;
    sleep(Duration::from_secs(28)).await;
    assert_eq!(scene.came("other"), None);
    assert!(scene.came("one").is_some_and(|(first, last)| first <= 1 && last >= 28));
    let (limiter, why) = scene.limiter(1);
    assert_eq!(limiter, Limiter::Claim);
    assert!(why.starts_with("fleet one drains to this OMS since 1970-01-01T00:00:00Z"), "{why}");
    // Taken over at 30 s.
    scene.ways[1].claim("other", true).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.limiter(0).0, Limiter::Claim);
    let (limiter, why) = scene.limiter(1);
    assert_eq!(limiter, Limiter::Claim);
    assert!(why.starts_with("this fleet's claim on the OMS is new"), "{why}");
    sleep(Duration::from_secs(80)).await;
    let (_, one_last) = scene.came("one").unwrap();
    let (other_first, other_last) = scene.came("other").unwrap();
    assert!((29..=36).contains(&one_last), "{one_last}");
    assert!((89..=97).contains(&other_first), "{other_first}");
    assert!(other_last >= 118, "{other_last}");
}

#[tokio::test(start_paused = true)]
async fn of_two_that_claim_it_at_once_only_the_one_whose_note_stays_ever_drains() {
    let scene = Scene::of(true).await;
    sleep(Duration::from_secs(90)).await;
    assert_eq!(scene.came("one"), None);
    let (first, last) = scene.came("other").unwrap();
    assert!((61..=67).contains(&first) && last >= 89, "{first} {last}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_waits_holds_no_order() {
    let scene = Scene::new().await;
    sleep(Duration::from_secs(10)).await;
    let live = scene.buffers[1].status().await.unwrap().live;
    assert_eq!((live["pending"], live["leased"]), (3_000, 0), "a cancel has its effect at once");
    // Nor does one that has lost it.
    scene.ways[1].claim("other", true).await.unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(scene.buffers[0].status().await.unwrap().live["leased"], 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_taken_back_waits_too_though_it_never_heard_of_the_other() {
    let scene = Scene::new().await;
    scene.ways[0].cut_off.store(true, Ordering::Relaxed);
    scene.ways[1].claim("other", true).await.unwrap();
    sleep(Duration::from_secs(80)).await;
    let (other_first, _) = scene.came("other").unwrap();
    // Taken back at 82 s, of which the other one hears 5 s later.
    scene.ways[0].take_for("one");
    scene.ways[0].cut_off.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(120)).await;
    let came = scene.came.lock().unwrap();
    let last_of_other = came.iter().rev().find(|(_, whose)| *whose == "other").unwrap().0;
    let again = came.iter().find(|(at, whose)| *whose == "one" && *at > other_first).unwrap().0;
    assert!(last_of_other < again, "{last_of_other} and {again}");
    assert!(again >= 82 + 60 - 2, "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_cannot_ask_stops_before_another_begins() {
    let scene = Scene::new().await;
    scene.ways[0].cut_off.store(true, Ordering::Relaxed);
    scene.ways[1].claim("other", true).await.unwrap();
    sleep(Duration::from_secs(120)).await;
    let (_, one_last) = scene.came("one").unwrap();
    let (other_first, _) = scene.came("other").unwrap();
    assert!(one_last <= 22, "{one_last}");
    assert!(other_first >= 61, "{other_first}");
    let (limiter, why) = scene.limiter(0);
    assert_eq!(limiter, Limiter::Claim);
    assert!(why.ends_with("it does not answer"), "{why}");
}
