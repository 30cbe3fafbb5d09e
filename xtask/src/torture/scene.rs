//! One store with its server, its disk and its load, to be struck and then accounted for.

mod account;
mod begun;
mod oms;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forebay_loadtest::Target;
use tempfile::TempDir;

use super::aim;
use super::configuration::configuration;
use super::interrupt::Interrupt;
use super::load::Load;
use super::probe::{self, Reply};
use super::reference::ReferenceOms;
use super::report::Tally;
use super::server::{Server, Setup, Start};
use super::servers::{self, Servers};
use super::strike::Moment;
use super::witness::Witness;
use super::{Oms, Plan, Share};
use crate::cargo::{Workspace, own_binary};
use crate::failure::{Failure, Result, While as _};
use crate::postgres::PostgresServer;
use crate::say::complain;
use crate::time::Stopwatch;
use crate::tools;
use crate::volatile_disk::VolatileDisk;
use oms::reached;

/// How long it may take until the server does what a cut aims at.
const AIM_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at what comes by no event.
const LOOK: Duration = Duration::from_millis(50);

/// Everything around one store. Dropping it ends and takes apart all it started.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    plan: &'a Plan,
    interrupt: &'a Interrupt,
    /// What part of the plan it plays.
    pub(super) share: Share,
    setup: Setup,
    load: Option<Load>,
    /// Ids of a probe's own orders that were acknowledged, and how many were sent.
    probes: (Vec<String>, u32),
    /// What the runs showed so far.
    pub(super) tally: Tally,
    /// Where the running server answers.
    target: Option<Target>,
    // Before what it runs on, so that it is gone when that is taken apart.
    server: Option<Server>,
    /// The NATS servers the buffer is on.
    servers: Option<Servers>,
    /// The PostgreSQL server the summaries are in.
    database: Option<PostgresServer>,
    /// The reference OMS the summaries are in.
    reference: Option<ReferenceOms>,
    /// A ledger of what the OMS was made to do, where one was called for.
    pub(super) witness: Option<Witness>,
    /// Of each NATS server, where there are some.
    disks: Vec<VolatileDisk>,
    // Last: it holds the files of all the others.
    place: TempDir,
}

impl<'a> Scene<'a> {
    /// Lays out a fresh store.
    pub(super) fn set(
        plan: &'a Plan,
        share: Share,
        binary: PathBuf,
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let torture = plan.fault.torture();
        let place = tempfile::Builder::new().prefix("forebay-torture-").tempdir();
        let place = place.when("making a directory")?;
        let count = torture.cluster.map_or(1, |_| servers::COUNT as u64);
        let start = |(n, bytes)| VolatileDisk::start(&own_binary(), bytes, share.seed + n);
        let disks = torture.disk.map(|bytes| (0..count).map(move |n| (n, bytes)));
        let disks: Vec<_> = disks.into_iter().flatten().map(start).collect::<Result<_>>()?;
        let struck = disks.first().map_or_else(|| place.path(), VolatileDisk::data);
        let servers = match torture.cluster {
            None => None,
            Some(cluster) => {
                let binary = tools::nats_server(&Workspace::find()?.target)?;
                let synced = !(plan.control && torture.breaks_the_servers());
                let own = |n| disks.get(n).map_or_else(|| place.path(), VolatileDisk::data);
                let directories = std::array::from_fn(|n| own(n).join(format!("server-{n}")));
                Some(Servers::start(directories, binary, synced, cluster, interrupt)?)
            }
        };
        // Disks that are struck are the NATS servers' where there are some.
        let data_dir = match &servers {
            Some(_) => place.path().join("store"),
            None => struck.join("store"),
        };
        let database = match share.oms {
            Oms::Postgres => PostgresServer::start(&[]).when("starting PostgreSQL")?,
            Oms::Sqlite | Oms::Ledger | Oms::Http => None,
        };
        let reference = match share.oms {
            Oms::Http => Some(ReferenceOms::start(&binary, place.path())?),
            Oms::Sqlite | Oms::Ledger | Oms::Postgres => None,
        };
        let reached = reached(&database, &reference, place.path());
        let config = place.path().join("forebay.toml");
        let addresses = servers.as_ref().map(|servers| servers.addresses(0));
        let knobs = configuration(torture, share, place.path(), addresses, reached);
        std::fs::write(&config, knobs).when("writing forebay.toml")?;
        let log = place.path().join("stderr.log");
        let control = share.control.filter(|_| !torture.breaks_the_servers());
        let setup = Setup {
            binary,
            command: vec!["serve".to_owned()],
            environment: Vec::new(),
            prefix: Vec::new(),
            control,
            data_dir,
            config,
            log,
        };
        let tally = Tally::default();
        Ok(Self {
            plan,
            interrupt,
            share,
            setup,
            load: None,
            probes: (Vec::new(), 0),
            tally,
            target: None,
            server: None,
            servers,
            database,
            reference,
            witness: None,
            disks,
            place,
        })
    }

    /// All runs, then the drain and the account.
    pub(super) fn play(&mut self) -> Result<Tally> {
        (self.plan.fault.torture().play)(self)?;
        if let Some(target) = self.target {
            self.account(target)?;
        }
        Ok(self.tally.clone())
    }

    /// Whether the promise is taken away.
    pub(super) fn control(&self) -> bool {
        self.plan.control
    }

    /// What is to be run.
    pub(super) fn plan(&self) -> &'a Plan {
        self.plan
    }

    /// Randomness of this store's own.
    pub(super) fn random(&self) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.share.seed)
    }

    /// Lets time pass, unless somebody wishes to stop.
    pub(super) fn wait(&self, duration: Duration) -> Result<()> {
        self.interrupt.wait(duration)
    }

    /// Has the next start not know which NATS store it had, as whoever means to go on with another one.
    pub(super) fn forget_store(&self) -> Result<()> {
        let seen = self.setup.data_dir.join("nats.seen");
        std::fs::remove_file(&seen).when(seen.display())
    }

    /// Waits until something is so; whether it is within `limit`.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<bool> {
        let watch = Stopwatch::start();
        while !is_so(self)? {
            if watch.left_of(limit).is_zero() {
                return Ok(false);
            }
            self.wait(LOOK)?;
        }
        Ok(true)
    }

    /// The last lines of the server's log, for whoever has to find out.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// Takes everything apart in order and checks that it went well.
    pub(super) fn take_apart(self) -> Result<()> {
        drop(self.server);
        drop(self.servers);
        drop(self.reference);
        self.disks.into_iter().try_for_each(VolatileDisk::stop)
    }

    /// Prepares a sale that lasts about so long, over many starts of the server.
    pub(super) fn sell(&mut self, lasting: Duration) -> Result<()> {
        let answers = self.place.path().join("answers.jsonl");
        let runtime = self.interrupt.handle();
        self.load = Some(Load::new(runtime, self.plan.rate, lasting, self.share.seed, &answers)?);
        Ok(())
    }

    /// The sale.
    pub(super) fn load(&mut self) -> Result<&mut Load> {
        self.load.as_mut().ok_or_else(|| Failure::Broken("there is no sale".to_owned()))
    }

    /// Goes on with the sale at the running server.
    pub(super) fn play_load(&mut self) -> Result<()> {
        let target = self.target()?;
        self.load()?.start(target)
    }

    /// Where the running server answers.
    pub(super) fn target(&self) -> Result<Target> {
        self.target.ok_or_else(|| Failure::Broken("no server runs".to_owned()))
    }

    /// Starts the server and waits for it, whatever comes of it.
    pub(super) fn try_start(&mut self) -> Result<Start> {
        self.try_start_with(&[])
    }

    pub(super) fn try_start_with(&mut self, more: &[&str]) -> Result<Start> {
        let mut server = self.setup.spawn(more)?;
        let start = server.ready(self.interrupt)?;
        self.server = Some(server);
        Ok(start)
    }

    /// Starts the server and waits for it: where it answers, or nothing if the store did not open, which is counted.
    pub(super) fn open(&mut self, more: &[&str]) -> Result<Option<Target>> {
        self.target = match self.try_start_with(more)? {
            Start::Ready(target, took) => {
                self.tally.longest_start = self.tally.longest_start.max(took);
                Some(target)
            }
            Start::Failed(why) => {
                self.tally.open_failures += 1;
                complain(format_args!("the store did not open: {why}\n{}", self.log_tail()));
                None
            }
        };
        Ok(self.target)
    }

    /// The same where nothing should be damaged: what the start found so is counted.
    pub(super) fn start(&mut self, more: &[&str]) -> Result<bool> {
        let Some(target) = self.open(more)? else { return Ok(false) };
        self.count_damaged(target)?;
        Ok(true)
    }

    /// A start that is struck at that moment, ready or not; under load as soon as it is ready.
    pub(super) fn start_and_strike(&mut self, moment: Moment, survival: f64) -> Result<()> {
        self.watch_for(moment)?;
        let mut server = self.setup.spawn(&[])?;
        self.reach(moment, |scene| {
            if scene.load()?.is_over()
                && let Some(target) = server.ready_now()?
            {
                scene.load()?.start(target)?;
            }
            Ok(())
        })?;
        self.server = Some(server);
        self.strike(survival)
    }

    /// Waits until that moment.
    pub(super) fn wait_for(&mut self, moment: Moment) -> Result<()> {
        self.watch_for(moment)?;
        self.reach(moment, |_| Ok(()))
    }

    /// Has the disk look out for what is aimed at.
    fn watch_for(&mut self, moment: Moment) -> Result<()> {
        match moment {
            Moment::After(_) => Ok(()),
            Moment::At(aim, later) => self.disk()?.hold_at(aim.mark(), later),
        }
    }

    /// Lets time pass until that moment, and counts what was aimed at.
    fn reach(
        &mut self,
        moment: Moment,
        mut meanwhile: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let watch = Stopwatch::start();
        let limit = match moment {
            Moment::After(after) => after,
            Moment::At(..) => AIM_LIMIT,
        };
        while !watch.left_of(limit).is_zero() {
            if let Moment::At(aim, _) = moment
                && self.disk()?.is_hit(false)?
            {
                self.tally.count(aim.counted_as(), 1);
                return Ok(());
            }
            meanwhile(self)?;
            self.wait(watch.left_of(limit).min(Duration::from_millis(10)))?;
        }
        if matches!(moment, Moment::At(..)) {
            self.disk()?.is_hit(true)?;
            self.tally.count(aim::MISSED, 1);
        }
        Ok(())
    }

    /// Ends the server by `kill -9`, or by cutting the power of its disk if that is what it runs on, and counts
    /// it.
    pub(super) fn strike(&mut self, survival: f64) -> Result<()> {
        let hit = self.cut_or_kill(survival)?;
        self.tally.injected += u64::from(hit);
        Ok(())
    }

    /// The same for a server that may have ended by itself, uncounted. Everything that belongs to a machine that
    /// lost power is put right afterwards. Says whether it was this that ended the server.
    pub(super) fn cut_or_kill(&mut self, survival: f64) -> Result<bool> {
        let mut server = self.take_server()?;
        let ran = server.runs()?;
        let cut = match self.disks.first_mut() {
            None => None,
            Some(disk) => {
                // A dead machine answers nobody: no answer may follow the cut.
                if ran {
                    server.freeze()?;
                }
                Some(disk.cut(survival)?)
            }
        };
        let killed = ran && server.kill()?;
        self.load()?.stop()?;
        if let (Some(cut), Some(disk)) = (cut, self.disks.first_mut()) {
            let late = disk.power_on()?;
            self.tally.count("unsynced_sectors", cut.unsynced + late);
            self.tally.count("dropped_sectors", cut.dropped + late);
            let torn = 0 < cut.dropped && cut.dropped < cut.unsynced;
            self.tally.count("torn_cuts", u64::from(torn));
        }
        Ok(killed)
    }

    /// Ends the server by `kill -9` if it has not ended by itself, and the load; its disk stays as it is.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.kill_server()?;
        self.load.as_mut().map_or(Ok(()), Load::stop)
    }

    /// Ends the server by `kill -9` if it has not ended by itself; its senders go on. Says whether it was that which ended it.
    pub(super) fn kill_server(&mut self) -> Result<bool> {
        let mut server = self.take_server()?;
        Ok(server.runs()? && server.kill()?)
    }

    /// Deliveries of the load that are acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.load.as_ref().map_or(0, Load::acknowledged)
    }

    /// The running server.
    pub(super) fn server(&mut self) -> Result<&mut Server> {
        self.server.as_mut().ok_or_else(|| Failure::Broken("no server runs".to_owned()))
    }

    /// The NATS servers.
    pub(super) fn servers(&mut self) -> Result<&mut Servers> {
        self.servers.as_mut().ok_or_else(|| Failure::Broken("there are no NATS servers".to_owned()))
    }

    /// Waits until the NATS servers are whole; the number of the one that leads.
    pub(super) fn whole_servers(&mut self) -> Result<usize> {
        let interrupt = self.interrupt;
        self.servers()?.whole(interrupt)
    }

    /// What listens for a wish to stop.
    pub(super) fn interrupt(&self) -> &'a Interrupt {
        self.interrupt
    }

    /// The volatile disk.
    pub(super) fn disk(&mut self) -> Result<&mut VolatileDisk> {
        self.disk_of(0)
    }

    /// The volatile disk of a NATS server.
    pub(super) fn disk_of(&mut self, n: usize) -> Result<&mut VolatileDisk> {
        let none = || Failure::Broken(format!("there is no volatile disk {n}"));
        self.disks.get_mut(n).ok_or_else(none)
    }

    /// How the server is started.
    pub(super) fn setup(&mut self) -> &mut Setup {
        &mut self.setup
    }

    /// How the n-th server beside the first is started, on the same NATS servers.
    pub(super) fn setup_beside(&mut self, n: usize) -> Result<Setup> {
        let data_dir = self.beside(&format!("worker-{n}"));
        let log = self.beside(&format!("worker-{n}.log"));
        let config = self.beside(&format!("worker-{n}.toml"));
        let addresses = self.servers()?.addresses(n);
        let torture = self.plan.fault.torture();
        let knobs = configuration(
            torture,
            self.share,
            self.place.path(),
            Some(addresses),
            reached(&self.database, &self.reference, self.place.path()),
        );
        std::fs::write(&config, knobs).when(config.display())?;
        Ok(Setup { data_dir, config, log, ..self.setup.clone() })
    }

    /// A file of this name beside the store, out of the faults' reach.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// What the server has logged so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(&self.setup.log).unwrap_or_default()
    }

    /// Posts one order beside the load. What is acknowledged is looked for in the account.
    pub(super) fn probe(&mut self, within: Duration) -> Result<Option<Reply>> {
        let orders = self.target()?.orders;
        self.probe_at(orders, within, |_| Ok(()))
    }

    /// The same at any door, with something done until the answer comes.
    pub(super) fn probe_at(
        &mut self,
        orders: SocketAddr,
        within: Duration,
        meanwhile: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Option<Reply>> {
        self.probes.1 += 1;
        let id = format!("probe-{}", self.probes.1);
        let sent = id.clone();
        let probing = std::thread::spawn(move || probe::post(orders, &sent, within));
        meanwhile(self)?;
        // No answer within that time is what some faults are about.
        let reply = probing.join().ok().and_then(std::result::Result::ok);
        if reply.as_ref().is_some_and(Reply::is_durable) {
            self.probes.0.push(id);
        }
        Ok(reply)
    }

    /// The running server, out of the scene.
    fn take_server(&mut self) -> Result<Server> {
        self.target = None;
        self.server.take().ok_or_else(|| Failure::Broken("no server runs".to_owned()))
    }

    /// Asks the server to stop and expects it to do so in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let status = self.take_server()?.stop()?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::Missed(format!("a graceful stop ended with {status}")))
    }
}
