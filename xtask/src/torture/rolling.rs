//! A fleet is restarted bit by bit under load, as for an upgrade: the door, the server that does all, the one that only drains,
//! then each NATS server, all asked to stop in order, one at a time, and the next only once everything is there again.
//! Senders are behind a load balancer and send again what was not answered. Nothing is lost, doubled or refused for good,
//! and the ceiling holds. In the control an answer that was lost is taken for a success, and it is the NATS servers' leader that
//! ends, killed: one that is asked to stop hands over what it leads, and loses hardly any.

use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::acceptance::{GIVEN_UP, LONGEST_REFUSAL, SET_ASIDE};
use super::balancer::Balancer;
use super::ceiling;
use super::probe;
use super::report::{Tally, loss};
use super::scene::Scene;
use super::server::{ANSWER_LIMIT, get};
use super::servers::Ending;
use super::worker::Worker;
use super::{BYTES_MAX, Cluster, NATS, Torture, WriteMode};
use crate::failure::{Failure, Result};
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "rolling",
    runs: 12,
    control: "lost-is-done",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: Some(Cluster { rate: 250.0, ceiling_per_s: 200, wired: 0, bytes_max: BYTES_MAX }),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: NATS,
    play,
    missed,
};

/// How long a server of ours may take to stop: its grace, the last words of its door, and what it gives up then.
const GRACE: Duration = Duration::from_secs(12);
/// How long it may take until all is as before.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// Servers that drain.
const DRAINS: f64 = 2.0;
/// What the report calls the longest time from a stop until all is as before.
const WHOLE_AGAIN: &str = "longest_whole_again_s";

/// What is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The server that only takes orders in.
    Ingest,
    /// The one that does all.
    All,
    /// The one that only drains.
    Process,
    /// A NATS server.
    Nats(usize, Ending),
}

impl Turn {
    /// The turns of a round; the NATS servers are lame ducks in each second one.
    fn of(run: u32) -> Self {
        let ending = if (run / 6).is_multiple_of(2) { Ending::AtOnce } else { Ending::LameDuck };
        match run % 6 {
            0 => Self::Ingest,
            1 => Self::All,
            2 => Self::Process,
            3 => Self::Nats(0, ending),
            4 => Self::Nats(1, ending),
            _ => Self::Nats(2, ending),
        }
    }

    /// What the report calls the longest time in which nothing was accepted.
    fn gap(self) -> &'static str {
        match self {
            Self::Ingest => "gap_ingest_s",
            Self::All => "gap_all_s",
            Self::Process => "gap_process_s",
            Self::Nats(_, Ending::AtOnce) => "gap_nats_s",
            Self::Nats(_, Ending::LameDuck) => "gap_nats_lame_duck_s",
        }
    }

    /// Longer than it takes, also on a busy machine; a server that is killed is followed only after some seconds.
    fn lasts(self, control: bool) -> Duration {
        match self {
            Self::Nats(..) if control => Duration::from_secs(15),
            Self::Ingest | Self::Nats(_, Ending::AtOnce) => Duration::from_secs(3),
            Self::All | Self::Process | Self::Nats(_, Ending::LameDuck) => Duration::from_secs(6),
        }
    }
}

/// The servers of ours beside the scene's, and what is before the doors.
#[derive(Debug)]
struct Fleet {
    balancer: Balancer,
    ingest: Worker,
    process: Worker,
}

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let control = scene.control();
    scene.sell((0..runs).map(|run| Turn::of(run).lasts(control)).sum())?;
    if !scene.start(&[])? {
        return Ok(());
    }
    let mut fleet = Fleet::start(scene)?;
    let orders = fleet.balancer.address();
    let target = Target { orders, ..scene.target()? };
    scene.load()?.start(target)?;
    scene.accepts_again()?;
    for run in 0..runs {
        fleet.whole(scene)?;
        scene.enter_lull(LONGEST_REFUSAL)?;
        let turn = match Turn::of(run) {
            Turn::Nats(_, ending) if control => Turn::Nats(scene.whole_servers()?, ending),
            turn => turn,
        };
        let watch = Stopwatch::start();
        fleet.restart(scene, turn)?;
        scene.tally.injected += 1;
        fleet.whole(scene)?;
        scene.tally.peak(WHOLE_AGAIN, watch.elapsed().as_secs_f64());
        scene.accepts_again()?;
        let gap = scene.enter_lull(turn.gap())?;
        scene.tally.peak(LONGEST_REFUSAL, gap.as_secs_f64());
        if scene.load()?.is_over() {
            return Err(Failure::Missed("the sale was over before the restarts".to_owned()));
        }
        complain(format_args!("run {} of {runs}: {turn:?}, {:?}", run + 1, watch.elapsed()));
    }
    scene.stop_load()?;
    // What follows goes over the ceiling on purpose.
    scene.count_above_ceiling(&[])?;
    fleet.ingest.stop()?;
    fleet.process.stop()
}

impl Fleet {
    /// Starts the others beside the scene's server, with all doors behind one balancer.
    fn start(scene: &mut Scene<'_>) -> Result<Self> {
        let balancer = Balancer::start(scene.interrupt())?;
        let ingest = Worker::start_in_role(scene, 1, "ingest")?;
        let process = Worker::start_in_role(scene, 2, "process")?;
        balancer.admit(scene.target()?.orders);
        balancer.admit(ingest.target()?.orders);
        Ok(Self { balancer, ingest, process })
    }

    /// Stops one in order and starts it again; it must be another process then.
    fn restart(&mut self, scene: &mut Scene<'_>, turn: Turn) -> Result<()> {
        let before = self.pid(scene, turn)?;
        match turn {
            Turn::Nats(n, ending) => restart_nats(scene, n, ending)?,
            Turn::All => {
                self.has_senders(scene, scene.target()?)?;
                restart_scene(scene)?;
                self.balancer.admit(scene.target()?.orders);
            }
            Turn::Ingest => {
                self.has_senders(scene, self.ingest.target()?)?;
                restart(scene, &mut self.ingest)?;
                self.balancer.admit(self.ingest.target()?.orders);
            }
            Turn::Process => restart(scene, &mut self.process)?,
        }
        if self.pid(scene, turn)? == before {
            return Err(Failure::Broken(format!("{turn:?} is the process it was")));
        }
        Ok(())
    }

    fn pid(&mut self, scene: &mut Scene<'_>, turn: Turn) -> Result<u32> {
        match turn {
            Turn::Ingest => Ok(self.ingest.server()?.pid()),
            Turn::All => Ok(scene.server()?.pid()),
            Turn::Process => Ok(self.process.server()?.pid()),
            Turn::Nats(n, _) => scene.servers()?.pid(n),
        }
    }

    /// Waits until a door has senders, who then lose it.
    fn has_senders(&self, scene: &Scene<'_>, door: Target) -> Result<()> {
        until(scene, "a door without senders", || Ok(self.balancer.connections(door.orders) > 0))
    }

    /// Waits until the NATS servers are whole, every server of ours is ready, and each that drains has its share.
    fn whole(&self, scene: &mut Scene<'_>) -> Result<()> {
        scene.whole_servers()?;
        let drains = [scene.target()?, self.process.target()?];
        let ingest = self.ingest.target()?;
        until(scene, "a fleet that is not whole", || {
            let mut whole = is_ready(ingest);
            for server in drains {
                whole &= is_ready(server) && has_its_share(server)?;
            }
            Ok(whole)
        })
    }
}

/// Stops a NATS server, or kills it in the control, and starts it; it must know the stream whole then.
fn restart_nats(scene: &mut Scene<'_>, n: usize, ending: Ending) -> Result<()> {
    let leads = scene.whole_servers()? == n;
    scene.tally.count("leaders_restarted", u64::from(leads));
    let control = scene.control();
    let interrupt = scene.interrupt();
    let servers = scene.servers()?;
    if control {
        servers.kill(n)?;
    } else {
        let status = servers.stop(n, ending)?;
        if status.is_none_or(|status| !status.success()) {
            return Err(Failure::Missed(format!("the stop of server {n} ended with {status:?}")));
        }
    }
    servers.run(n)?;
    servers.whole_by_one(n, interrupt).map(drop)
}

/// Stops the scene's server and starts it, perhaps as another.
fn restart_scene(scene: &mut Scene<'_>) -> Result<()> {
    let watch = Stopwatch::start();
    scene.stop()?;
    in_time(scene, watch)?;
    if let Some(next) = &scene.plan().next_binary {
        scene.setup().binary.clone_from(next);
    }
    if scene.start(&[])? {
        return Ok(());
    }
    Err(Failure::Missed("a server did not start again".to_owned()))
}

/// Stops a worker and starts it, perhaps as another server.
fn restart(scene: &mut Scene<'_>, worker: &mut Worker) -> Result<()> {
    let watch = Stopwatch::start();
    worker.stop()?;
    in_time(scene, watch)?;
    if let Some(next) = &scene.plan().next_binary {
        worker.setup.binary.clone_from(next);
    }
    worker.start(scene.interrupt())
}

/// Enters how long a stop took, which must be within its grace.
fn in_time(scene: &mut Scene<'_>, watch: Stopwatch) -> Result<()> {
    scene.tally.peak("longest_stop_s", watch.elapsed().as_secs_f64());
    if watch.left_of(GRACE).is_zero() {
        return Err(Failure::Missed(format!("a stop took {:?}", watch.elapsed())));
    }
    Ok(())
}

fn is_ready(server: Target) -> bool {
    let reply = probe::get(server.ops, "/readyz", ANSWER_LIMIT);
    reply.is_ok_and(|reply| reply.is_durable())
}

fn has_its_share(server: Target) -> Result<bool> {
    let status = get(server.ops, "/v1/status")?;
    let share = status.pointer("/drain/share").and_then(Value::as_f64).unwrap_or_default();
    Ok((share * DRAINS - 1.0).abs() < 1e-9)
}

fn until(scene: &Scene<'_>, what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let watch = Stopwatch::start();
    while !so()? {
        if watch.left_of(WHOLE_LIMIT).is_zero() {
            return Err(Failure::Missed(format!("{what} after {WHOLE_LIMIT:?}")));
        }
        scene.wait(LOOK)?;
    }
    Ok(())
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if control {
        return missed;
    }
    missed.extend(ceiling::missed(tally));
    if tally.unknown + tally.count_of(GIVEN_UP) > 0 {
        let (unknown, given_up) = (tally.unknown, tally.count_of(GIVEN_UP));
        missed.push(format!("{unknown} deliveries without an answer, {given_up} given up"));
    }
    if tally.count_of(SET_ASIDE) > 0 {
        let count = tally.count_of(SET_ASIDE);
        missed.push(format!("{count} orders were set aside that ended nobody"));
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_or_a_refusal_for_good_is_missed_and_the_control_must_lose() {
        let tally = Tally { acknowledged: 9, injected: 6, ..Tally::default() };
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        let mut refused = tally.clone();
        refused.count(GIVEN_UP, 1);
        assert!(!missed(&refused, false).is_empty());
        assert!(!missed(&Tally { unknown: 1, ..tally.clone() }, false).is_empty());
        let lost = Tally { lost: 1, ..tally };
        assert!(!missed(&lost, false).is_empty());
        assert_eq!(missed(&lost, true), Vec::<String>::new());
    }

    #[test]
    fn a_round_restarts_everything_once() {
        let round: Vec<_> = (0..6).map(Turn::of).collect();
        for (n, turn) in round.iter().enumerate() {
            assert!(!round.iter().skip(n + 1).any(|other| other == turn), "{turn:?}");
        }
        assert_eq!(Turn::of(9), Turn::Nats(0, Ending::LameDuck));
    }
}
