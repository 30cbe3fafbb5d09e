//! The network fails in the midst of load, and heals after seconds: a NATS server loses its peers while processes still
//! reach it, or a process of ours loses all servers, wholly or one way only; what was on its way then comes late or never.
//! Nothing is lost or doubled, all processes together stay below the ceiling, and one that is cut off says so: by its
//! readiness, and to senders. The control takes an answer that was lost for a success.

mod cut_off;
mod strikes;

use std::time::Duration;

use forebay_loadtest::Target;

use super::acceptance::{LONGEST_REFUSAL, SET_ASIDE};
use super::ceiling;
use super::network::{Lost, Node};
use super::report::{Tally, loss};
use super::scene::Scene;
use super::servers::COUNT;
use super::worker::{self, Worker};
use super::{BYTES_MAX, Cluster, Torture, WriteMode};
use crate::failure::{Failure, Result};
use crate::say::complain;
use crate::time::Stopwatch;
use strikes::{Strike, Who};

pub(super) const TORTURE: Torture = Torture {
    name: "nats-partition",
    runs: 24,
    control: "lost-is-done",
    ledger_control: None,
    ceiling_control: None,
    disk: None,
    cluster: Some(CLUSTER),
    modes: &[WriteMode::Replicated],
    oms_inside: false,
    knobs: KNOBS,
    play,
    missed,
};

const CLUSTER: Cluster =
    Cluster { rate: 250.0, ceiling_per_s: 200, wired: 1 + WORKERS, bytes_max: BYTES_MAX };
/// Workers beside the server with the door.
const WORKERS: usize = 2;
/// As the other kinds on NATS have it, but a write is given up before its sender is.
const KNOBS: &str =
    "backend = \"nats\"\n[nats]\nlease = \"3s\"\ndeadline = \"3s\"\noutcome_ttl = \"3650d\"\n";

/// Between two strikes, so that whoever is cut off next has orders.
const BETWEEN: Duration = Duration::from_secs(2);
/// About how long one takes beside its own length.
const BESIDE: Duration = Duration::from_secs(2);
/// How long it may take until something is sent into the cut.
const SENT_LIMIT: Duration = Duration::from_secs(5);
/// How long the other servers may take to choose a leader when theirs is not heard any more.
const CHOICE_LIMIT: Duration = Duration::from_secs(20);
/// How long it is looked whether a process leaves a server that has lost its peers. It begins to after six seconds, and what was
/// under way there takes its time; so not all do so within a strike.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What the report calls leaders that others followed while they were cut off.
const FOLLOWED: &str = "leaders_followed";
/// Doors that accepted by another server while their own was cut off.
const LEFT: &str = "servers_left";
/// The longest time without an acceptance while the door's own server was cut off from the others.
const AT_IT: &str = "longest_refusal_at_it_s";
/// Strikes of which one way was open.
const ONE_WAY: &str = "cut_one_way";
/// Connections found where only wires should lead.
const AROUND: &str = "around_the_network";

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let mut random = scene.random();
    let runs = 0..scene.share.runs as usize;
    let strikes: Vec<_> = runs.map(|run| Strike::nth(run, &mut random)).collect();
    let lasting: Duration = strikes.iter().map(|strike| strike.lasts + BETWEEN + BESIDE).sum();
    scene.sell(lasting)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    let workers = (1..=WORKERS).map(|n| Worker::start_beside(scene, n));
    let workers = workers.collect::<Result<Vec<_>>>()?;
    scene.play_load()?;
    for (run, strike) in strikes.iter().enumerate() {
        scene.wait(BETWEEN)?;
        hit(scene, &workers, run, strike)?;
    }
    scene.wait(BETWEEN)?;
    scene.whole_servers()?;
    scene.load()?.stop()?;
    scene.count_above_ceiling(&[])?;
    worker::end(scene, workers)
}

/// Whom a strike is about.
struct Struck {
    node: Node,
    /// Where it answers, if it is a process of ours.
    target: Option<Target>,
    /// It is the server that the door is connected to.
    at_it: bool,
    /// The server that leads when it is struck.
    leader: usize,
}

/// Cuts somebody off, proves it, and heals it.
fn hit(scene: &mut Scene<'_>, workers: &[Worker], run: usize, strike: &Strike) -> Result<()> {
    let struck = struck(scene, workers, run, strike.who)?;
    let around = scene.servers()?.network()?.around()?;
    scene.tally.count(AROUND, around as u64);
    // What was before is not of this strike.
    scene.load()?.take_longest_lull();
    let before = scene.servers()?.network()?.swallowed();
    scene.servers()?.network()?.cut(struck.node, strike.lost);
    let watch = Stopwatch::start();
    let sent =
        scene.until(SENT_LIMIT, |scene| Ok(scene.servers()?.network()?.swallowed() > before))?;
    let shown = is_shown(scene, strike, &struck, watch)?;
    scene.wait(watch.left_of(strike.lasts))?;
    let lasted = watch.elapsed();
    scene.servers()?.network()?.heal(strike.comes_late);
    let told = struck.target.filter(|_| strike.long && !scene.control());
    let back = told.map_or(Ok(true), |target| cut_off::is_back(scene, target))?;
    scene.accepts_again()?;
    let lull = scene.enter_lull(strike.who.lull())?;
    if struck.at_it {
        scene.tally.peak(AT_IT, lull.as_secs_f64());
    }
    let what = format!("{:?} ({:?}) cut off, lost: {:?}", strike.who, struck.node, strike.lost);
    for (is_so, why) in
        [(sent, "swallowed nothing"), (shown, "was not noticed"), (back, "left a process red")]
    {
        if !is_so {
            scene.tally.broken.push(format!("run {}, {what}: it {why}", run + 1));
        }
    }
    scene.tally.injected += u64::from(sent && shown && back);
    scene.tally.count(strike.who.counted_as(), 1);
    scene.tally.count(ONE_WAY, u64::from(strike.lost != Lost::All));
    complain(format_args!(
        "run {}, {what}: {lasted:.1?}, and nothing accepted for {lull:.1?} (the door is connected to it: {})",
        run + 1,
        struck.at_it
    ));
    Ok(())
}

/// Waits until the servers are whole, and says whom a strike is about then.
fn struck(scene: &mut Scene<'_>, workers: &[Worker], run: usize, who: Who) -> Result<Struck> {
    let leader = scene.whole_servers()?;
    let doors = scene.servers()?.network()?.connected(Node::Process(0));
    let n = run % WORKERS;
    let (node, target) = match who {
        Who::Leader => (Node::Server(leader), None),
        Who::Follower => (Node::Server((leader + 1) % COUNT), None),
        Who::DoorsServer => (Node::Server(doors.unwrap_or(leader)), None),
        Who::Door => (Node::Process(0), Some(scene.target()?)),
        Who::Worker => {
            let none = || Failure::Broken(format!("there is no worker {n}"));
            (Node::Process(n + 1), Some(workers.get(n).ok_or_else(none)?.target()?))
        }
    };
    let at_it = doors.is_some_and(|doors| node == Node::Server(doors));
    Ok(Struck { node, target, at_it, leader })
}

/// Waits until those concerned show that somebody is cut off, where it lasts long enough for that; whether they do.
fn is_shown(
    scene: &mut Scene<'_>,
    strike: &Strike,
    struck: &Struck,
    watch: Stopwatch,
) -> Result<bool> {
    match (strike.who, struck.target) {
        _ if !strike.long => Ok(true),
        // It says what is not so, which is what it is for.
        (_, Some(_)) if scene.control() => Ok(true),
        (_, Some(target)) => cut_off::says_so(scene, target, watch),
        (Who::DoorsServer, None) => {
            let left = is_left(scene)?;
            scene.tally.count(LEFT, u64::from(left));
            Ok(struck.at_it)
        }
        _ if strike.deposes() => is_followed(scene, struck.leader),
        _ => Ok(true),
    }
}

/// Waits until the other servers have another leader; whether they have.
fn is_followed(scene: &mut Scene<'_>, leader: usize) -> Result<bool> {
    let followed = scene.until(CHOICE_LIMIT, |scene| {
        Ok(scene.servers()?.leader_beside(leader).is_some_and(|other| other != leader))
    })?;
    scene.tally.count(FOLLOWED, u64::from(followed));
    Ok(followed)
}

/// Waits until the door accepts an order by way of another server than its own, which reaches no other; whether it does.
fn is_left(scene: &mut Scene<'_>) -> Result<bool> {
    scene.until(LEAVE_LIMIT, |scene| {
        let reply = scene.probe(LEAVE_LIMIT)?;
        Ok(reply.is_some_and(|reply| reply.is_durable()))
    })
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    let mut none_of = |name: &str, what: &str| {
        let count = tally.count_of(name);
        if count > 0 {
            missed.push(format!("{count} {what}"));
        }
    };
    none_of(AROUND, "connections went around the network that was cut");
    if !control {
        none_of(SET_ASIDE, "orders were set aside that ended nobody");
        none_of(cut_off::ACCEPTED, "orders were accepted by who reached no server");
        none_of(cut_off::UNCLEAR, "senders were not told by who reached no server");
        missed.extend(ceiling::missed(tally));
    }
    if tally.peaks.get(LONGEST_REFUSAL).is_none_or(|longest| *longest <= 0.0) {
        missed.push("nobody looked for how long nothing was accepted".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_around_and_an_acceptance_while_cut_off_are_missed_and_the_control_must_lose() {
        let mut tally = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty(), "no leader was cut off");
        tally.peak(LONGEST_REFUSAL, 3.0);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        let lost = Tally { lost: 1, ..tally.clone() };
        assert_eq!(missed(&lost, true), Vec::<String>::new());
        for name in [AROUND, ceiling::EXCEEDED, cut_off::ACCEPTED, cut_off::UNCLEAR] {
            let mut found = tally.clone();
            found.count(name, 1);
            assert_eq!(missed(&found, false).len(), 1, "{name}");
        }
    }
}
