//! The n-th write or sync fails, n = 1, 2, ...: after it nothing more is acknowledged, readiness is red, the process
//! ends with its own code, and the next start has everything that was acknowledged. The control counts a failed
//! write or sync as done, and must lose.
//!
//! A fault never strikes by hope: strace's log, the disk's own count or the server's last words prove it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::probe::{self, Begun};
use super::report::{Tally, loss};
use super::scene::Scene;
use super::server::Start;
use super::tamper::{self, Tampered};
use super::{Torture, WriteMode};
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;
use crate::volatile_disk::Fault as DiskFault;

pub(super) const TORTURE: Torture = Torture {
    name: "sync-error",
    runs: 50,
    control: "no-failed-state",
    ledger_control: None,
    ceiling_control: None,
    disk: Some(4 << 30),
    cluster: None,
    modes: &WriteMode::ALL,
    // The faults are the journal's, and not for the OMS's file on the same disk.
    oms_inside: false,
    knobs: super::SMALL_SLOTS,
    play,
    missed,
};

/// The code of a server whose buffer failed.
const FAILED: i32 = 70;
/// How long a fault may take to strike.
const STRIKE_LIMIT: Duration = Duration::from_secs(10);
/// How long the server may take to end after it.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How soon after the fault readiness must be red.
const GRACE: Duration = Duration::from_millis(300);
/// Posts that are begun before the fault, and finished once readiness is red or should be: none may be acknowledged.
const BEGUN: u32 = 8;
/// How long the control goes on after the fault.
const CONTROL_GOES_ON: Duration = Duration::from_millis(500);

const WRITES: &str = "pwrite64,pwritev,pwritev2";
const SYNCS: &str = "fdatasync";
const JOURNAL_THREADS: [&str; 2] = ["forebay-writer", "forebay-slots"];

/// How it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A write call of the journal's threads returns an error and writes nothing.
    Write,
    /// A sync call does.
    Sync,
    /// A write or sync call while the store is opened.
    Start,
    /// The device refuses a write.
    DeviceWrite,
    /// The device takes half of a write.
    DeviceShort,
    /// The device refuses a sync and drops what was written.
    DeviceSync,
    /// A write is cut short within a file, and the next is refused: the file has reached the most it may have.
    Limit,
}

impl Way {
    fn of(n: u32, mode: WriteMode, control: bool) -> Self {
        let ways = [
            Self::Write,
            Self::Sync,
            Self::DeviceSync,
            Self::Start,
            Self::DeviceWrite,
            Self::Limit,
            Self::DeviceShort,
        ];
        let at = usize::try_from(n).unwrap_or_default() % ways.len();
        match ways.get(at).copied().unwrap_or(Self::Write) {
            // A direct write is its own sync.
            Self::Sync if mode == WriteMode::Direct => Self::Write,
            // A broken start would prove nothing about acknowledgements.
            Self::Start if control => Self::Write,
            // One failed device call may hit what is not the journal's, or a group without orders.
            way if control && way.is_device() => Self::Write,
            way => way,
        }
    }

    fn is_device(self) -> bool {
        matches!(self, Self::DeviceWrite | Self::DeviceShort | Self::DeviceSync)
    }
}

/// What tells that a fault has struck.
enum Proof {
    Strace(Tampered),
    /// The disk's count before.
    Disk(u64),
    /// Length of the server's log before.
    Log(usize),
}

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    scene.sell(Duration::from_millis(1500) * runs)?;
    // Only then a write beyond the limit is an error, and not the end by a signal.
    scene.setup().prefix = ["env", "--ignore-signal=XFSZ"].map(str::to_owned).to_vec();
    let mut random = scene.random();
    if !scene.start(&[])? {
        return Ok(());
    }
    for run in 0..runs {
        let n = scene.share.nth(run);
        let way = Way::of(n, scene.share.mode, scene.control());
        complain(format_args!("run {} of {runs}: {way:?}, the call no. {n}", run + 1));
        if way == Way::Start {
            fail_start(scene, n)?;
        } else {
            scene.play_load()?;
            scene.wait(Duration::from_millis(random.u64(100..500)))?;
            fail_running(scene, way, n)?;
        }
        if !scene.start(&[])? {
            return Ok(());
        }
    }
    Ok(())
}

/// A fault while it runs, and what follows.
fn fail_running(scene: &mut Scene<'_>, way: Way, n: u32) -> Result<()> {
    let begun = scene.begin_probes(BEGUN)?;
    let proof = arm(scene, way, n)?;
    let Some(ended) = watch(scene, way, &proof, begun)? else { return put_right(scene, way, n) };
    drop(proof);
    if let Some(code) = ended
        && code != Some(FAILED)
    {
        scene.tally.broken.push(format!("{way:?} no. {n}: it ended with {code:?}, not {FAILED}"));
    }
    scene.tally.injected += 1;
    scene.tally.count("ended_by_themselves", u64::from(ended.is_some()));
    put_right(scene, way, n)
}

/// Every second time the machine loses its power after that, so that what only the page cache has is gone.
fn put_right(scene: &mut Scene<'_>, way: Way, n: u32) -> Result<()> {
    if scene.control() || way.is_device() || n.is_multiple_of(2) {
        let survival = if scene.control() || n.is_multiple_of(4) { 0.0 } else { 1.0 };
        scene.cut_or_kill(survival)?;
    } else {
        scene.kill()?;
    }
    Ok(())
}

fn arm(scene: &mut Scene<'_>, way: Way, n: u32) -> Result<Proof> {
    let pid = scene.server()?.pid();
    let log = strace_log(scene);
    // A control goes on after the failure. One group may hold no order, so there it is not the only one.
    let nth = format!("{n}{}", if scene.control() { "+" } else { "" });
    let calls =
        |calls| Tampered::attach(pid, &JOURNAL_THREADS, calls, &nth, &log).map(Proof::Strace);
    let fault = match way {
        Way::Write | Way::Start => return calls(WRITES),
        Way::Sync => return calls(SYNCS),
        Way::Limit => {
            let before = scene.log().len();
            limit_files(pid, n)?;
            return Ok(Proof::Log(before));
        }
        Way::DeviceWrite => DiskFault::Write,
        Way::DeviceShort => DiskFault::Short,
        Way::DeviceSync => DiskFault::Sync,
    };
    let disk = scene.disk()?;
    let before = disk.failed()?;
    disk.arm(fault, n - 1)?;
    Ok(Proof::Disk(before))
}

fn strace_log(scene: &Scene<'_>) -> PathBuf {
    scene.beside("strace.log")
}

/// No file may grow, or be written, beyond a place within a slot that is no block's end.
fn limit_files(pid: u32, n: u32) -> Result<()> {
    let most = (256 << 10) + u64::from(n) * 4096 + 1024;
    let limit = Rlimit { current: Some(most), maximum: None };
    prlimit(Pid::from_raw(pid.cast_signed()), Resource::Fsize, limit).when("limiting files")?;
    Ok(())
}

fn fired(scene: &mut Scene<'_>, proof: &Proof) -> Result<bool> {
    match proof {
        Proof::Strace(tampered) => tampered.fired(),
        Proof::Disk(before) => Ok(scene.disk()?.failed()? > *before),
        Proof::Log(before) => {
            let log = scene.log();
            let since = log.get(*before..).unwrap_or_default();
            Ok(since.contains("File too large") || since.contains("bytes were written"))
        }
    }
}

/// Watches readiness, and finishes what was begun once the server has failed, until it has ended: its code, or that it goes on after
/// the fault. `None` if there was no fault.
fn watch(
    scene: &mut Scene<'_>,
    way: Way,
    proof: &Proof,
    begun: Vec<Begun>,
) -> Result<Option<Option<Option<i32>>>> {
    let ops = scene.target()?.ops;
    let began = Stopwatch::start();
    let mut struck: Option<Stopwatch> = None;
    let mut begun = Some(begun);
    let mut red = false;
    loop {
        if let Some(status) = scene.server()?.ended()? {
            scene.tally.count("red_before_the_end", u64::from(red));
            let known = struck.is_some() || fired(scene, proof)?;
            return Ok(known.then_some(Some(status.code())));
        }
        if struck.is_none() && fired(scene, proof)? {
            struck = Some(Stopwatch::start());
        }
        let late = struck.is_some_and(|struck| struck.left_of(GRACE).is_zero());
        if let Ok(ready) = probe::get(ops, "/readyz", Duration::from_secs(1)) {
            red |= struck.is_some() && ready.status == 503;
            let green = ready.status == 200 && (late || red);
            // A device's error may hit what is not the journal's; then it goes on, rightly.
            if green && !way.is_device() && !scene.control() {
                scene.tally.count("ready_after", 1);
            }
        }
        if (red || (late && !way.is_device()))
            && let Some(begun) = begun.take()
        {
            let (sent, acknowledged) = scene.finish_probes(begun);
            scene.tally.count("posted_after", sent);
            scene.tally.count("asked_after", u64::from(sent > 0));
            scene.tally.count("acknowledged_after", acknowledged);
        }
        let limit = if scene.control() { CONTROL_GOES_ON } else { END_LIMIT };
        let over = match struck {
            None => began.left_of(STRIKE_LIMIT),
            Some(struck) if way.is_device() && !red => struck.left_of(limit / 4),
            Some(struck) => struck.left_of(limit),
        };
        if over.is_zero() {
            if !scene.control() && struck.is_some() && !way.is_device() {
                scene.tally.broken.push(format!("{way:?}: it goes on after the failure"));
            }
            return Ok(struck.map(|_| None));
        }
        scene.wait(Duration::from_millis(2))?;
    }
}

/// A fault while the store is opened: no server, but a clean start afterwards. With a number beyond what a start
/// needs, a lower one.
fn fail_start(scene: &mut Scene<'_>, n: u32) -> Result<()> {
    let log = strace_log(scene);
    let calls = format!("{WRITES},{SYNCS}");
    scene.stop()?;
    let mut n = n;
    while n > 0 {
        if fails_to_start(scene, &calls, n, &log)? {
            scene.tally.injected += 1;
            scene.tally.count("failed_starts", 1);
            return Ok(());
        }
        n /= 2;
    }
    Ok(())
}

fn fails_to_start(scene: &mut Scene<'_>, calls: &str, n: u32, log: &Path) -> Result<bool> {
    let usual = scene.setup().prefix.clone();
    scene.setup().prefix.extend(tamper::prefix(calls, n, log));
    let started = scene.try_start();
    scene.setup().prefix = usual;
    match started? {
        // Enough went well to open; what fails later is what the other ways are for.
        Start::Ready(..) => {
            scene.kill()?;
            Ok(false)
        }
        Start::Failed(why) if tamper::fired(log)? => {
            complain(format_args!("as it must: {why}"));
            Ok(true)
        }
        Start::Failed(why) => Err(Failure::Missed(format!("a start failed by itself: {why}"))),
    }
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = loss(tally, control);
    if control {
        if tally.count_of("acknowledged_after") == 0 {
            missed.push(
                "the control acknowledged nothing that was sent after the failure".to_owned(),
            );
        }
        return missed;
    }
    for (name, why) in [
        ("acknowledged_after", "deliveries sent after the failure were acknowledged"),
        ("ready_after", "times it called itself ready after the failure"),
    ] {
        if tally.count_of(name) > 0 {
            missed.push(format!("{} {why}", tally.count_of(name)));
        }
    }
    let ended = tally.count_of("ended_by_themselves");
    if tally.count_of("red_before_the_end") < ended {
        missed.push("readiness did not turn red before every end".to_owned());
    }
    if tally.count_of("asked_after") < ended {
        missed.push("not every server was sent deliveries after it had failed".to_owned());
    }
    if ended + tally.count_of("failed_starts") == 0 {
        missed.push("no fault ended the server".to_owned());
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_has_its_turn_and_each_mode_only_what_it_can() {
        let all: Vec<_> = (1..=7).map(|n| Way::of(n, WriteMode::Buffered, false)).collect();
        for way in [Way::Write, Way::Sync, Way::Start, Way::DeviceSync, Way::Limit] {
            assert!(all.contains(&way), "{way:?}");
        }
        for n in 1..=50 {
            assert_ne!(Way::of(n, WriteMode::Direct, false), Way::Sync);
            assert_ne!(Way::of(n, WriteMode::Buffered, true), Way::Start);
        }
    }

    #[test]
    fn an_acknowledgement_after_the_failure_is_missed() {
        let mut tally = Tally { acknowledged: 9, found: 9, injected: 1, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty(), "nothing ended the server");
        tally.count("ended_by_themselves", 1);
        tally.count("asked_after", 1);
        assert!(!missed(&tally, false).is_empty(), "nobody saw it red");
        tally.count("red_before_the_end", 1);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        tally.count("ended_by_themselves", 1);
        tally.count("red_before_the_end", 1);
        assert!(!missed(&tally, false).is_empty(), "nothing was sent to the second one");
        tally.count("asked_after", 1);
        tally.count("acknowledged_after", 1);
        assert!(!missed(&tally, false).is_empty());
    }

    #[test]
    fn a_control_must_lose_and_acknowledge_what_was_sent_after_the_failure() {
        let mut tally = Tally { acknowledged: 9, lost: 1, injected: 1, ..Tally::default() };
        assert!(!missed(&tally, true).is_empty());
        tally.count("acknowledged_after", 1);
        assert_eq!(missed(&tally, true), Vec::<String>::new());
    }
}
