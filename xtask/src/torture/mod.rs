//! Strikes the real server under load, again and again, and then accounts for every order. Each kind has a
//! control that must show the loss, or the runs prove nothing.
//!
//! One small module a kind; they share the scene (store, disk, server, load), the account and the report.

mod abort_poison;
mod acceptance;
mod aim;
mod balancer;
mod ballast;
mod bit_flip;
mod ceiling;
mod configuration;
mod copy;
mod damage;
mod disk_full;
mod fleet;
mod index_loss;
mod interrupt;
mod kill;
mod leader;
mod load;
mod migrate;
mod nats_full;
mod nats_kill;
mod nats_partition;
mod nats_pause;
mod nats_power_cut;
mod network;
mod oms_kill;
mod orders;
mod power_cut;
mod probe;
mod reference;
mod report;
mod rolling;
mod scene;
mod server;
mod servers;
mod stall;
mod strike;
mod sync_error;
mod tamper;
mod wire;
mod witness;
mod worker;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::cargo::Workspace;
use crate::failure::{Failure, Result};
use crate::say::{complain, say};
use crate::volatile_disk;
use interrupt::Interrupt;
use report::{Report, Tally};
use scene::Scene;

/// What happens to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// `kill -9`: what reached the kernel stays.
    Kill,
    /// The power of its disk is cut: what was not synced is gone or torn (root, Linux).
    PowerCut,
    /// The n-th write or sync fails: an error, a short write, an error with the data dropped (root, strace).
    SyncError,
    /// The disk is full to the last byte (root, Linux).
    DiskFull,
    /// The disk hangs for seconds (root, Linux).
    Stall,
    /// Bits flip, slots are truncated, zeroed, swapped, stale, headers damaged, the index too.
    BitFlip,
    /// The outcome index is deleted.
    IndexLoss,
    /// An order kills the process inside the OMS call.
    AbortPoison,
    /// The NATS servers' leader is killed (`kill -9`) every few seconds, and comes back.
    NatsKill,
    /// The NATS servers' leader is stopped for seconds, and goes on.
    NatsPause,
    /// The network fails for seconds: a NATS server loses its peers, or a server of ours all of them, wholly or one way.
    NatsPartition,
    /// The stream on the NATS servers is filled to its limit under load, and drains.
    NatsFull,
    /// Of several servers on one NATS cluster some are killed or stopped for longer than a lease.
    Fleet,
    /// The power of all NATS servers' disks is cut, or of one's (root, Linux).
    NatsPowerCut,
    /// The servers of a fleet and the NATS servers are stopped in order and started again, by turns.
    Rolling,
    /// A store moves from its disk to the NATS servers and back, and what moves it is killed in the middle.
    Migrate,
    /// The server dies between the OMS's commit and the durable settle, by `kill -9` and at each step there; the PostgreSQL
    /// server crashes, too.
    OmsKill,
}

impl Fault {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        self.torture().name
    }

    fn torture(self) -> &'static Torture {
        match self {
            Self::Kill => &kill::TORTURE,
            Self::PowerCut => &power_cut::TORTURE,
            Self::SyncError => &sync_error::TORTURE,
            Self::DiskFull => &disk_full::TORTURE,
            Self::Stall => &stall::TORTURE,
            Self::BitFlip => &bit_flip::TORTURE,
            Self::IndexLoss => &index_loss::TORTURE,
            Self::AbortPoison => &abort_poison::TORTURE,
            Self::NatsKill => &nats_kill::TORTURE,
            Self::NatsPause => &nats_pause::TORTURE,
            Self::NatsPartition => &nats_partition::TORTURE,
            Self::NatsFull => &nats_full::TORTURE,
            Self::Fleet => &fleet::TORTURE,
            Self::NatsPowerCut => &nats_power_cut::TORTURE,
            Self::Rolling => &rolling::TORTURE,
            Self::Migrate => &migrate::TORTURE,
            Self::OmsKill => &oms_kill::TORTURE,
        }
    }

    /// Whether it can be played on an OMS.
    fn is_for(self, oms: Oms) -> bool {
        match self {
            Self::OmsKill => true,
            _ if matches!(oms, Oms::Postgres | Oms::Http) => false,
            // Only that OMS ends the process, and only there doubles show.
            Self::AbortPoison
            | Self::BitFlip
            | Self::NatsPartition
            | Self::NatsFull
            | Self::Fleet
            | Self::Rolling
            | Self::Migrate => oms == Oms::Ledger,
            _ => true,
        }
    }

    /// Whether each OMS is judged by itself, for it is about what each of them does.
    fn judges_each_oms(self) -> bool {
        self == Self::OmsKill
    }

    /// Says why it cannot strike here, if so.
    pub fn missing_means(self) -> Option<String> {
        let disk = self.torture().disk.and_then(|_| volatile_disk::missing_means());
        disk.or_else(|| if self == Self::SyncError { tamper::missing_means() } else { None })
    }
}

/// One kind of torture.
#[derive(Debug)]
struct Torture {
    name: &'static str,
    /// Runs where nobody says how many.
    runs: u32,
    /// The promise the control build breaks (`FOREBAY_CONTROL`).
    control: &'static str,
    /// The one it breaks on the ledger, where that is another.
    ledger_control: Option<&'static str>,
    /// The promise it breaks for the other half of a control's runs, which must show that the ceiling was exceeded.
    ceiling_control: Option<&'static str>,
    /// Bytes of the volatile disk the store is on, of each NATS server where there are some; without one it is in an ordinary
    /// directory.
    disk: Option<u64>,
    /// The buffer is on three NATS servers; without it on this machine's disk.
    cluster: Option<Cluster>,
    /// How groups are written, each in a part of the runs.
    modes: &'static [WriteMode],
    /// The OMS's file is in the data directory, as by default, and so struck with it.
    oms_inside: bool,
    /// The configuration's `[buffer]` section without its write mode, and other sections after it.
    knobs: &'static str,
    /// Sells and strikes, all runs of the scene's share; leaves the server running for the account.
    play: fn(&mut Scene<'_>) -> Result<()>,
    /// What is not as promised, or proves nothing; of a control, what it failed to show.
    missed: fn(&Tally, control: bool) -> Vec<String>,
}

impl Torture {
    /// The promises its control breaks on an OMS, each on a store of its own.
    fn controls(&self, oms: Oms) -> impl Iterator<Item = &'static str> {
        let ledger = self.ledger_control.filter(|_| oms == Oms::Ledger);
        std::iter::once(ledger.unwrap_or(self.control)).chain(self.ceiling_control)
    }

    /// The most the OMS is sent.
    fn ceiling_per_s(&self) -> u32 {
        self.cluster.map_or(configuration::CEILING_PER_S, |cluster| cluster.ceiling_per_s)
    }

    /// Its control is in how the NATS servers are configured, not in a control build.
    fn breaks_the_servers(&self) -> bool {
        self.cluster.is_some() && self.disk.is_some()
    }
}

/// What three NATS servers beside all else take on this machine.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// Deliveries a second where nobody says how many.
    rate: f64,
    /// The most the OMS is sent.
    ceiling_per_s: u32,
    /// Processes of ours, where the network between them and the servers can be cut.
    wired: usize,
    /// Bytes the stream may take on each server.
    bytes_max: u64,
}

/// More than any sale takes: the default.
const BYTES_MAX: u64 = 16 << 30;

/// The buffer on the scene's NATS servers. Outcomes are kept longer than the sale's orders are old: an OMS that refuses no second
/// create is else asked before anything is sent, and no order could be doubled by forgetting that it was lent.
const NATS: &str = "backend = \"nats\"\n[nats]\nlease = \"3s\"\noutcome_ttl = \"3650d\"\n";

/// As many runs of `oms-kill` as it takes to meet every step once on every OMS.
pub const EVERY_STEP: u32 = 48;

/// Deliveries a second where nobody says how many.
const RATE: f64 = 2000.0;

/// Small slots, so that segments are filled, retired and used again within a run.
const SMALL_SLOTS: &str = "slot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
                           [door]\nitem_bytes = \"512KiB\"\n";

/// How groups reach the disk (`buffer.write_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WriteMode {
    /// Past the page cache, each write synchronous.
    Direct,
    /// Into the page cache, then a sync.
    Buffered,
    /// As the NATS servers do it.
    #[value(skip)]
    Replicated,
}

impl WriteMode {
    /// Both.
    const ALL: [Self; 2] = [Self::Direct, Self::Buffered];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Buffered => "buffered",
            Self::Replicated => "replicated",
        }
    }
}

/// The order management system the server drains into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oms {
    /// The embedded default, whose unique key refuses a second create.
    Sqlite,
    /// Append-only, and it cuts answers after the commit: a second create is possible and counted.
    Ledger,
    /// A PostgreSQL server of its own.
    Postgres,
    /// The reference OMS, over HTTP.
    Http,
}

impl Oms {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Ledger => "ledger",
            Self::Postgres => "postgres",
            Self::Http => "http",
        }
    }
}

/// What is to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What happens to the server.
    pub fault: Fault,
    /// How often, shared out among the OMSs.
    pub runs: u32,
    /// Take the promise away; then the runs must show it.
    pub control: bool,
    /// The OMSs, each with a store of its own.
    pub oms: Vec<Oms>,
    /// Deliveries a second.
    pub rate: f64,
    /// What everything random follows from.
    pub seed: u64,
    /// The one write mode to play in; otherwise all of the kind's, in parts of the runs.
    pub write_mode: Option<WriteMode>,
    /// A server to strike instead of one built for it; with `control` a control build.
    pub binary: Option<PathBuf>,
    /// What is started in place of what was stopped, as in an upgrade; otherwise the same. With `oms-kill` the control build that
    /// ends itself.
    pub next_binary: Option<PathBuf>,
}

impl Plan {
    /// The kind's own number of runs at its own rate, on all OMSs that it is for.
    pub fn new(fault: Fault) -> Self {
        let all = [Oms::Sqlite, Oms::Ledger, Oms::Postgres, Oms::Http].into_iter();
        let oms = all.filter(|oms| fault.is_for(*oms)).collect();
        let Torture { runs, cluster, .. } = *fault.torture();
        Self {
            fault,
            runs,
            control: false,
            oms,
            rate: cluster.map_or(RATE, |cluster| cluster.rate),
            seed: 1,
            write_mode: None,
            binary: None,
            next_binary: None,
        }
    }

    fn modes(&self) -> &[WriteMode] {
        self.write_mode.as_ref().map_or(self.fault.torture().modes, std::slice::from_ref)
    }

    fn mode(&self) -> String {
        match self.control {
            false => "synced".to_owned(),
            true => {
                let controls = |oms: &Oms| self.fault.torture().controls(*oms);
                let mut controls: Vec<_> = self.oms.iter().flat_map(controls).collect();
                controls.dedup();
                format!("control: {}", controls.join(", "))
            }
        }
    }
}

/// Runs the plan; the last line on stdout is the report as one JSON object.
///
/// # Errors
/// [`Failure::Missed`] if an order was lost or doubled, a store did not open, or a control showed
/// nothing; [`Failure::Skipped`] if a means is missing here.
pub fn run(plan: &Plan) -> Result<()> {
    if plan.runs == 0 || plan.oms.is_empty() || plan.rate.is_nan() || plan.rate < 1.0 {
        return Err(Failure::Usage("runs, OMSs and rate must be at least 1".to_owned()));
    }
    if plan.next_binary.is_some() && !matches!(plan.fault, Fault::Rolling | Fault::OmsKill) {
        let only = "only rolling and oms-kill start another server";
        return Err(Failure::Usage(only.to_owned()));
    }
    if let Some(why) = plan.fault.missing_means() {
        return Err(Failure::Skipped(why));
    }
    let oms: Vec<_> = plan.oms.iter().copied().filter(|oms| plan.fault.is_for(*oms)).collect();
    if oms.is_empty() {
        return Err(Failure::Usage(format!("{} is not for that OMS", plan.fault.name())));
    }
    let plan = &Plan { oms, ..plan.clone() };
    let binary = binary(plan)?;
    let interrupt = Interrupt::listen()?;
    let mut tallies: Vec<(Part, Tally)> = Vec::new();
    for share in shares(plan) {
        complain(format_args!("{} ({}), {share:?}", plan.fault.name(), plan.mode()));
        let part = Part::of(plan, share);
        let mut scene = Scene::set(plan, share, binary.clone(), &interrupt)?;
        let shown = match scene.play() {
            Ok(shown) => shown,
            Err(failure) => {
                complain(scene.log_tail());
                return Err(failure);
            }
        };
        complain(format_args!("{shown:?}"));
        match tallies.iter_mut().find(|(of, _)| *of == part) {
            Some((_, tally)) => tally.add(&shown),
            None => tallies.push((part, shown)),
        }
        scene.take_apart()?;
    }
    say(serde_json::to_string(&Report::new(plan, &tallies)).unwrap_or_default());
    report::judge(plan, &tallies)
}

/// The shares that are judged together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    mode: WriteMode,
    /// `None`: all of them.
    oms: Option<Oms>,
}

impl Part {
    fn of(plan: &Plan, share: Share) -> Self {
        let oms = plan.fault.judges_each_oms().then_some(share.oms);
        Self { mode: share.mode, oms }
    }

    fn name(self) -> String {
        let writes = format!("{} writes", self.mode.name());
        self.oms.map_or(writes.clone(), |oms| format!("{}, {writes}", oms.name()))
    }
}

/// A part of the runs, on a store of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    oms: Oms,
    mode: WriteMode,
    /// The promise that is broken, in a control.
    control: Option<&'static str>,
    /// Runs of it.
    runs: u32,
    /// Its number, and how many there are.
    place: (u32, u32),
    seed: u64,
}

impl Share {
    /// The number of one of its runs among those of all shares, from 1.
    fn nth(&self, run: u32) -> u32 {
        run * self.place.1 + self.place.0 + 1
    }
}

/// Shares the runs out over the OMSs, write modes and, of a control, the promises it breaks: as even as can be, the first ones with another OMS and
/// another mode each, and none gets none.
fn shares(plan: &Plan) -> Vec<Share> {
    let (omss, modes) = (plan.oms.len().max(1), plan.modes().len().max(1));
    let crossed = (0..modes).flat_map(|turn| (0..omss).map(move |at| (at, (at + turn) % modes)));
    let of = |(oms, mode): (usize, usize)| Some((*plan.oms.get(oms)?, *plan.modes().get(mode)?));
    let controls = |(oms, mode): (Oms, WriteMode)| {
        let broken = plan.control.then(|| plan.fault.torture().controls(oms).map(Some));
        let none = (!plan.control).then_some(None);
        broken.into_iter().flatten().chain(none).map(move |control| (oms, mode, control))
    };
    let all: Vec<_> = crossed.filter_map(of).flat_map(controls).collect();
    let count = u32::try_from(all.len()).unwrap_or(1).clamp(1, plan.runs.max(1));
    (0..count)
        .zip(all)
        .map(|(at, (oms, mode, control))| Share {
            oms,
            mode,
            control,
            runs: plan.runs / count + u32::from(at < plan.runs % count),
            place: (at, count),
            seed: plan.seed.wrapping_add(u64::from(at)),
        })
        .collect()
}

fn binary(plan: &Plan) -> Result<PathBuf> {
    if let Some(binary) = &plan.binary {
        return Ok(binary.clone());
    }
    let workspace = Workspace::find()?;
    if plan.control { workspace.control_binary() } else { workspace.release_binary() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_shared_out_evenly_over_omss_and_write_modes() {
        let of = |runs| {
            let plan = Plan { runs, ..Plan::new(Fault::PowerCut) };
            shares(&plan)
                .iter()
                .map(|share| (share.oms, share.mode, share.runs))
                .collect::<Vec<_>>()
        };
        let (sqlite, ledger) = (Oms::Sqlite, Oms::Ledger);
        let (direct, buffered) = (WriteMode::Direct, WriteMode::Buffered);
        assert_eq!(of(2), [(sqlite, direct, 1), (ledger, buffered, 1)]);
        let all = [(sqlite, direct, 2), (ledger, buffered, 1)];
        assert_eq!(of(5), [all[0], all[1], (sqlite, buffered, 1), (ledger, direct, 1)]);
        assert_eq!(of(1), [(sqlite, direct, 1)]);
    }

    #[test]
    fn a_control_of_the_ceiling_has_half_of_the_runs() {
        let of = |control| {
            let plan = Plan { runs: 5, control, ..Plan::new(Fault::Fleet) };
            shares(&plan).iter().map(|share| (share.control, share.runs)).collect::<Vec<_>>()
        };
        assert_eq!(of(false), [(None, 5)]);
        assert_eq!(of(true), [(Some("forgotten-loans"), 3), (Some("whole-ceiling"), 2)]);
    }

    #[test]
    fn every_run_has_its_own_number() {
        let plan = Plan { runs: 10, ..Plan::new(Fault::SyncError) };
        let mut numbers: Vec<u32> = shares(&plan)
            .iter()
            .flat_map(|share| (0..share.runs).map(|run| share.nth(run)).collect::<Vec<_>>())
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_kind_s_name_on_the_command_line_is_its_name_in_reports() {
        for fault in Fault::value_variants() {
            let value = fault.to_possible_value().unwrap();
            assert_eq!(value.get_name(), fault.name());
        }
    }
}
