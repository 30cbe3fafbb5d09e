//! A store moves from its disk to the NATS servers and back, again and again under load: what serves is stopped or killed, what
//! moves the orders is killed in the middle, and then goes on. Senders are behind a load balancer, and some give up while
//! nothing serves. Nothing is lost or doubled, and what was answered before a move is known after it. In the control every
//! other order is left behind.

use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::balancer::Balancer;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::server::get;
use super::{Cluster, Torture, WriteMode};
use crate::failure::{Failure, Result};
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "migrate",
    runs: 8,
    control: "half-handed-over",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 400.0, ceiling_per_s: 60, wired: 0, bytes_max: STREAM_BYTES }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: "slot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
            [door]\nitem_bytes = \"512KiB\"\n\
            [nats]\nlease = \"3s\"\noutcome_ttl = \"3650d\"\n",
    play,
    missed,
};

/// One stream of many that the servers hold beside each other.
const STREAM_BYTES: u64 = 1 << 30;
/// How long it is served between two moves.
const SERVED: std::ops::Range<u64> = 500..2_500;
/// How long what moves the orders runs until it is killed: since it was started, and since it has a door.
const OPENED_FOR: std::ops::Range<u64> = 10..300;
const MOVED_FOR: std::ops::Range<u64> = 0..300;
/// About how long one move takes with what is before it.
const RUN: Duration = Duration::from_secs(8);
/// How long one may take.
const MOVED_LIMIT: Duration = Duration::from_secs(60);
/// What the report calls the longest move, and what was killed in the middle of one, or before it had a door.
const LONGEST_MOVE: &str = "longest_move_s";
const KILLED_MOVING: &str = "killed_moving";
const KILLED_OPENING: &str = "killed_opening";

/// Where the orders are: the n-th place, at even ones a disk.
#[derive(Clone, Copy, Debug)]
struct Place(u32);

impl Place {
    fn backend(self) -> &'static str {
        if self.0.is_multiple_of(2) { "embedded" } else { "nats" }
    }
}

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let mut random = scene.random();
    scene.sell(RUN * runs)?;
    serve_at(scene, Place(0));
    if !scene.start(&[])? {
        return Ok(());
    }
    let balancer = Balancer::start(scene.interrupt())?;
    balancer.admit(scene.target()?.orders);
    let target = Target { orders: balancer.address(), ..scene.target()? };
    scene.load()?.start(target)?;
    for run in 0..runs {
        scene.wait(Duration::from_millis(random.u64(SERVED)))?;
        if random.bool() {
            scene.stop()?;
        } else {
            scene.kill_server()?;
        }
        scene.tally.injected += 1;
        let watch = Stopwatch::start();
        move_on(scene, Place(run), &balancer, &mut random)?;
        scene.tally.peak(LONGEST_MOVE, watch.elapsed().as_secs_f64());
        scene.accepts_again()?;
        if random.bool() {
            // As any other process may from now on.
            scene.stop()?;
            serve_at(scene, Place(run + 1));
            start(scene, &balancer)?;
        }
        complain(format_args!("run {} of {runs}: {:?}", run + 1, watch.elapsed()));
    }
    scene.accepts_again()?;
    scene.stop_load()?;
    scene.stop()?;
    serve_at(scene, Place(runs));
    scene.start(&[]).map(drop)
}

/// Moves the orders on to the next place. It is killed in the middle, perhaps twice, and begun again.
fn move_on(
    scene: &mut Scene<'_>,
    from: Place,
    balancer: &Balancer,
    random: &mut fastrand::Rng,
) -> Result<()> {
    let to = Place(from.0 + 1);
    serve_at(scene, to);
    let moves = ["migrate", "--from", from.backend(), "--to", to.backend()];
    scene.setup().command = moves.map(str::to_owned).to_vec();
    for _ in 0..random.u32(1..=2) {
        if random.bool() {
            let server = scene.setup().spawn(&[])?;
            scene.wait(Duration::from_millis(random.u64(OPENED_FOR)))?;
            let killed = server.kill()?;
            scene.tally.count(KILLED_OPENING, u64::from(killed));
        }
        start(scene, balancer)?;
        scene.wait(Duration::from_millis(random.u64(MOVED_FOR)))?;
        let killed = !is_done(scene)? && scene.kill_server()?;
        scene.tally.count(KILLED_MOVING, u64::from(killed));
        if !killed {
            return Ok(());
        }
    }
    start(scene, balancer)?;
    if scene.until(MOVED_LIMIT, |scene| is_done(scene))? {
        return Ok(());
    }
    Err(Failure::Missed(format!("a move was not done within {MOVED_LIMIT:?}")))
}

/// Has the next server serve at a place.
fn serve_at(scene: &mut Scene<'_>, place: Place) {
    let data_dir = scene.beside(&format!("store-{}", place.0 / 2));
    // A directory that orders are moved to must be there, as a disk that was meant.
    std::fs::create_dir_all(&data_dir).ok();
    let setup = scene.setup();
    setup.command = vec!["serve".to_owned()];
    setup.data_dir = data_dir;
    setup.environment = vec![
        ("FOREBAY_BUFFER__BACKEND", place.backend().to_owned()),
        ("FOREBAY_NATS__STREAM", format!("MOVED-{}", place.0.saturating_sub(1) / 2)),
    ];
}

fn start(scene: &mut Scene<'_>, balancer: &Balancer) -> Result<()> {
    if !scene.start(&[])? {
        return Err(Failure::Missed("a server did not start".to_owned()));
    }
    balancer.admit(scene.target()?.orders);
    Ok(())
}

fn is_done(scene: &Scene<'_>) -> Result<bool> {
    let status = get(scene.target()?.ops, "/v1/status")?;
    Ok(status.pointer("/buffer/migration/done").and_then(Value::as_bool) == Some(true))
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if !control && tally.count_of(KILLED_MOVING) + tally.count_of(KILLED_OPENING) == 0 {
        missed.push("nothing was killed in the middle of a move".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_or_a_move_that_nothing_struck_is_missed_and_the_control_must_lose() {
        let mut tally = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty(), "nothing was killed");
        tally.count(KILLED_MOVING, 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        let lost = Tally { lost: 1, ..tally };
        assert!(!missed(&lost, false).is_empty());
        assert_eq!(missed(&lost, true), Vec::<String>::new());
    }
}
