//! One store with its server, its disk and its load, struck again and again, and then accounted for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;
use tempfile::TempDir;

use super::interrupt::Interrupt;
use super::load::Load;
use super::report::Tally;
use super::server::{Server, Setup, Start, get};
use super::strike::{self, Strike};
use super::{Fault, Oms, Plan};
use crate::cargo::own_binary;
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;
use crate::volatile_disk::VolatileDisk;

/// The most the OMS is sent, so that backlog and drain are both busy when a fault strikes.
const CEILING_PER_S: u32 = 1000;
/// The volatile disk's size. Only what is written takes memory.
const DISK_BYTES: u64 = 4 << 30;
/// How long the backlog may stand still while it drains.
const STILL_LIMIT: Duration = Duration::from_secs(60);

/// Everything around one store. Dropping it ends and takes apart all it started.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    plan: &'a Plan,
    interrupt: &'a Interrupt,
    strikes: Vec<Strike>,
    setup: Setup,
    load: Load,
    tally: Tally,
    // Before what it runs on, so that it is gone when that is taken apart.
    server: Option<Server>,
    disk: Option<VolatileDisk>,
    // Last: it holds the files of all the others.
    place: TempDir,
}

impl<'a> Scene<'a> {
    /// Lays out a fresh store and a sale long enough for all runs.
    pub(super) fn set(
        plan: &'a Plan,
        oms: Oms,
        runs: u32,
        seed: u64,
        binary: PathBuf,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("forebay-torture-").tempdir();
        let place = place.when("making a directory")?;
        let mut random = fastrand::Rng::with_seed(seed);
        let strikes = strike::schedule(runs, plan.control, &mut random);
        let disk = match plan.fault {
            Fault::Kill => None,
            Fault::PowerCut => Some(VolatileDisk::start(&own_binary(), DISK_BYTES, seed)?),
        };
        let data_dir = match &disk {
            Some(disk) => disk.data().join("store"),
            None => place.path().join("store"),
        };
        let config = place.path().join("forebay.toml");
        std::fs::write(&config, configuration(oms, place.path())).when("writing forebay.toml")?;
        let log = place.path().join("stderr.log");
        let setup = Setup { binary, data_dir, config, log };
        let lasting: Duration =
            strikes.iter().map(|strike| strike.after + strike.again.unwrap_or_default()).sum();
        let lasting = lasting + Duration::from_secs(1);
        let answers = place.path().join("answers.jsonl");
        let load = Load::new(interrupt.handle(), plan.rate, lasting, seed, &answers)?;
        let tally = Tally::default();
        Ok(Self { plan, interrupt, strikes, setup, load, tally, server: None, disk, place })
    }

    /// All runs, then the drain and the account.
    pub(super) fn play(&mut self) -> Result<Tally> {
        let strikes = std::mem::take(&mut self.strikes);
        let faults = strike::count(&strikes);
        let mut target = self.start(&[])?;
        for (run, strike) in strikes.iter().enumerate() {
            let Some(at) = target else { return Ok(self.tally.clone()) };
            self.load.start(at)?;
            self.interrupt.wait(strike.after)?;
            self.strike(strike.survival)?;
            if let Some(again) = strike.again {
                self.start_and_strike(again, strike.survival)?;
            }
            target = self.start(&[])?;
            complain(format_args!("run {} of {}", run + 1, strikes.len()));
        }
        if self.tally.injected < faults {
            complain(format_args!("{} of {faults} faults hit a server", self.tally.injected));
        }
        match target {
            Some(at) => self.account(at),
            None => Ok(self.tally.clone()),
        }
    }

    /// The last lines of the server's log, for whoever has to find out.
    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(&self.setup.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Takes everything apart in order and checks that it went well.
    pub(super) fn take_apart(self) -> Result<()> {
        drop(self.server);
        match self.disk {
            Some(disk) => disk.stop(),
            None => Ok(()),
        }
    }

    /// Starts the server and waits for it; `None` if the store did not open, which is counted.
    fn start(&mut self, more: &[&str]) -> Result<Option<Target>> {
        self.keep_directory()?;
        let mut server = self.setup.spawn(more)?;
        let start = server.ready(self.interrupt)?;
        self.server = Some(server);
        match start {
            Start::Ready(target, took) => {
                self.tally.longest_start = self.tally.longest_start.max(took);
                self.count_damaged(target)?;
                Ok(Some(target))
            }
            Start::Failed(why) => {
                self.tally.open_failures += 1;
                complain(format_args!("the store did not open: {why}\n{}", self.log_tail()));
                Ok(None)
            }
        }
    }

    /// A start that is struck after so long, ready or not; under load as soon as it is ready.
    fn start_and_strike(&mut self, after: Duration, survival: f64) -> Result<()> {
        let watch = Stopwatch::start();
        let server = self.setup.spawn(&[])?;
        while !watch.left_of(after).is_zero() {
            if self.load.is_over()
                && let Some(target) = server.ready_now()?
            {
                self.load.start(target)?;
            }
            self.interrupt.wait(watch.left_of(after).min(Duration::from_millis(10)))?;
        }
        self.server = Some(server);
        self.strike(survival)
    }

    /// The fault, with everything that belongs to a machine that lost power put right afterwards.
    fn strike(&mut self, survival: f64) -> Result<()> {
        let Some(mut server) = self.server.take() else {
            return Err(Failure::Broken("there is no server to strike".to_owned()));
        };
        let ran = server.runs()?;
        let cut = match &mut self.disk {
            None => None,
            Some(disk) => {
                // A dead machine answers nobody: no answer may follow the cut.
                if ran {
                    server.freeze()?;
                }
                Some(disk.cut(survival)?)
            }
        };
        let killed = server.kill()?;
        self.load.stop()?;
        if ran && killed {
            self.tally.injected += 1;
        }
        if let (Some(cut), Some(disk)) = (cut, &mut self.disk) {
            let late = disk.power_on()?;
            self.tally.unsynced_sectors += cut.unsynced + late;
            self.tally.dropped_sectors += cut.dropped + late;
            self.tally.torn_cuts += u64::from(0 < cut.dropped && cut.dropped < cut.unsynced);
        }
        self.put_directory_back()
    }

    /// The rest of the sale, a graceful stop, the backlog drained at full speed, and the account.
    fn account(&mut self, target: Target) -> Result<Tally> {
        self.load.start(target)?;
        while !self.load.is_over() {
            self.interrupt.wait(Duration::from_millis(50))?;
        }
        self.load.stop()?;
        let Some(server) = self.server.take() else {
            return Err(Failure::Broken("there is no server to stop".to_owned()));
        };
        let status = server.stop()?;
        if !status.success() {
            return Err(Failure::Missed(format!("a graceful stop ended with {status}")));
        }
        let Some(target) = self.start(&["--no-governor"])? else { return Ok(self.tally.clone()) };
        self.drained(target)?;
        let books = self.load.books(target, self.interrupt)?;
        self.tally.enter(&books);
        if !self.plan.control && !books.kept() {
            self.keep_evidence()?;
        }
        if let Some(server) = self.server.take() {
            server.stop()?;
        }
        Ok(self.tally.clone())
    }

    /// Keeps the ledger, the log and a copy of the store of a run that broke a promise.
    fn keep_evidence(&mut self) -> Result<()> {
        replace(&self.setup.data_dir, &self.place.path().join("store-as-found"))?;
        self.place.disable_cleanup(true);
        complain(format_args!("the evidence is kept in {}", self.place.path().display()));
        Ok(())
    }

    /// Waits until nothing is on its way to the OMS any more.
    fn drained(&self, target: Target) -> Result<()> {
        let mut least = u64::MAX;
        let mut still = Stopwatch::start();
        loop {
            let status = get(target.ops, "/v1/status")?;
            let live = |state: &str| {
                status.pointer(&format!("/buffer/live/{state}")).and_then(Value::as_u64)
            };
            let under_way: u64 =
                ["pending", "leased", "submitted"].iter().filter_map(|state| live(state)).sum();
            if under_way == 0 {
                return Ok(());
            }
            if under_way < least {
                (least, still) = (under_way, Stopwatch::start());
            }
            if still.left_of(STILL_LIMIT).is_zero() {
                let why = format!("{under_way} orders do not drain: {status}");
                return Err(Failure::Missed(why));
            }
            self.interrupt.wait(Duration::from_millis(100))?;
        }
    }

    /// Counts what recovery found damaged; a torn tail was never acknowledged and is no damage.
    fn count_damaged(&mut self, target: Target) -> Result<()> {
        let status = get(target.ops, "/v1/status")?;
        let notes = status.pointer("/buffer/recovery").and_then(Value::as_array);
        let notes = notes.into_iter().flatten().filter_map(Value::as_str);
        self.tally.damaged_listed += notes.filter(|note| note.contains("damaged")).count() as u64;
        Ok(())
    }

    /// For the control of the kills: what a killed process wrote is the kernel's and cannot be lost,
    /// so after every second kill the control puts back what was there before that process started.
    fn kept_directory(&self) -> Option<PathBuf> {
        let control = self.plan.control && self.plan.fault == Fault::Kill;
        control.then(|| self.place.path().join("kept"))
    }

    fn keep_directory(&self) -> Result<()> {
        let Some(kept) = self.kept_directory() else { return Ok(()) };
        std::fs::create_dir_all(&self.setup.data_dir).when("making the store's directory")?;
        replace(&self.setup.data_dir, &kept)
    }

    fn put_directory_back(&self) -> Result<()> {
        match self.kept_directory() {
            Some(kept) if kept.exists() && self.tally.injected % 2 == 1 => {
                replace(&kept, &self.setup.data_dir)
            }
            _ => Ok(()),
        }
    }
}

/// Makes `to` a copy of `from`.
fn replace(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).when(format_args!("removing {}", to.display()))?;
    }
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().when("copying")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Broken(format!("cp ended with {status}")))
}

/// Small slots, so that segments are filled, retired and used again within a run.
fn configuration(oms: Oms, place: &Path) -> String {
    let oms = match oms {
        Oms::Sqlite => "kind = \"sqlite\"".to_owned(),
        // Beside the store, where no cut reaches it: it is the witness of what was created.
        Oms::Ledger => format!(
            "kind = \"ledger\"\npath = {:?}\ncut_every = 13",
            place.join("oms.ledger").display().to_string()
        ),
    };
    format!(
        "[buffer]\nslot_bytes = \"4MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
         [drain]\nceiling_per_s = {CEILING_PER_S}.0\nretry_base = \"20ms\"\nretry_max = \"1s\"\n\
         [oms]\ntest = true\n{oms}\n"
    )
}
