//! Three NATS servers under the server that is tortured: plain, on loopback, each with a directory of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use forebay_buffer::nats::{NatsConfig, Replication, Table};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Handle;

use super::Cluster;
use super::interrupt::Interrupt;
use super::network::{Network, Node};
use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, poll_until};

pub(super) const COUNT: usize = 3;
/// Has a server name no address of its own; the port it gives instead is nobody's.
const NO_GOSSIP: &str = "no_advertise: true, advertise: \"127.0.0.1:1\"";
/// How long they may take to have a leader and every copy again.
const WHOLE_LIMIT: Duration = Duration::from_secs(60);
/// How long an orderly stop may take: a lame duck lets its clients go one by one.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);
/// How long one of them may take to say how the stream is.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// How one is asked to end in order: it hands what it leads to another first, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM: it lets go of its clients all together.
    AtOnce,
    /// SIGUSR2: it goes on passing their messages on for a while, and lets go of them one by one.
    LameDuck,
}

/// The cluster. Dropping it kills its servers.
#[derive(Debug)]
pub(super) struct Servers {
    /// Of each one.
    directories: [PathBuf; COUNT],
    /// Bytes the stream may take on each.
    bytes_max: u64,
    binary: PathBuf,
    /// Each write is synced before it is acknowledged; otherwise when the servers like.
    synced: bool,
    runtime: Handle,
    servers: Vec<Server>,
    /// Between them and processes of ours, where it can be cut.
    network: Option<Network>,
}

#[derive(Debug)]
struct Server {
    clients: u16,
    routes: u16,
    running: Option<Child>,
    frozen: bool,
}

impl Servers {
    /// Starts three, each in its directory, and waits until they are one cluster. With wired processes of ours, every connection to
    /// them goes by a network that can be cut.
    pub(super) fn start(
        directories: [PathBuf; COUNT],
        binary: PathBuf,
        synced: bool,
        Cluster { wired, bytes_max, .. }: Cluster,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        // Held together, so that no port is given twice; below those that connections are given, so that none of them takes
        // the port of a server that is down for a moment.
        let free = || {
            let random = std::iter::repeat_with(|| fastrand::u16(12_000..28_000)).take(10_000);
            random.filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).next()
        };
        let held: Vec<_> = std::iter::repeat_with(free).take(2 * COUNT).flatten().collect();
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let ports = held.iter().map(port).collect::<std::io::Result<Vec<_>>>();
        drop(held);
        let servers = ports.when("a free port")?;
        let servers = servers.chunks_exact(2).filter_map(|pair| match pair {
            [clients, routes] => {
                Some(Server { clients: *clients, routes: *routes, running: None, frozen: false })
            }
            _ => None,
        });
        let servers: Vec<_> = servers.collect();
        let network = (wired > 0).then(|| {
            let ports = servers.iter().map(|server| (server.clients, server.routes));
            Network::lay(&ports.collect::<Vec<_>>(), wired)
        });
        let (network, runtime) = (network.transpose()?, interrupt.handle().clone());
        let mut all = Self { directories, bytes_max, binary, synced, runtime, servers, network };
        all.run_all()?;
        all.whole(interrupt)?;
        Ok(all)
    }

    /// Starts all that do not run.
    pub(super) fn run_all(&mut self) -> Result<()> {
        (0..COUNT).try_for_each(|n| self.run(n))
    }

    /// Starts one that does not run.
    pub(super) fn run(&mut self, n: usize) -> Result<()> {
        let none = || Failure::Broken(format!("there is no server {n}"));
        let directory = self.directories.get(n).ok_or_else(none)?.clone();
        fs::create_dir_all(&directory).when(directory.display())?;
        let path = directory.join("server.conf");
        fs::write(&path, self.configuration(n, &directory)).when(path.display())?;
        let log = File::options().create(true).append(true).open(directory.join("log"));
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        let log = log.when("a server's log")?;
        let server = self.server(n)?;
        if server.running.is_none() {
            server.running = Some(command.stderr(log).spawn().when("starting nats-server")?);
        }
        Ok(())
    }

    fn configuration(&self, n: usize, directory: &Path) -> String {
        let sync = if self.synced { ", sync_interval: always" } else { "" };
        let plain = || {
            let routes = self.servers.iter();
            routes.map(|other| format!("nats://127.0.0.1:{}", other.routes)).collect()
        };
        let wires = self.network.as_ref().map(|network| network.servers(Node::Server(n)));
        // What they tell of each other, and of where clients find them, would lead around the wires: to nobody.
        let hidden = if wires.is_some() { &format!(", {NO_GOSSIP}") } else { "" };
        let routes = wires.unwrap_or_else(plain).join(", ");
        let (clients, own) =
            self.servers.get(n).map_or((0, 0), |server| (server.clients, server.routes));
        format!(
            "server_name: s{n}\nlisten: \"127.0.0.1:{clients}\"\nmax_payload: 8MB\n\
             lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"1s\"\n\
             jetstream {{ store_dir: {:?}, max_file_store: 20GB{sync} }}\n\
             cluster {{ name: torture, listen: \"127.0.0.1:{own}\", routes: [{routes}]{hidden} }}\n",
            directory.join("store")
        )
    }

    /// `kill -9`, and waits until the kernel has let go of all it held. Says whether it was this that ended it.
    pub(super) fn kill(&mut self, n: usize) -> Result<bool> {
        let server = self.server(n)?;
        server.frozen = false;
        let Some(mut child) = server.running.take() else { return Ok(false) };
        let ran = child.try_wait().when("asking for a nats-server")?.is_none();
        child.kill().when("killing a nats-server")?;
        child.wait().when("waiting for a killed nats-server")?;
        Ok(ran)
    }

    /// Has one end in order, and waits until it has; its exit status, and `None` if it did not run.
    pub(super) fn stop(&mut self, n: usize, ending: Ending) -> Result<Option<ExitStatus>> {
        let server = self.server(n)?;
        if server.running.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None))) {
            return Ok(None);
        }
        server.signal(match ending {
            Ending::AtOnce => Signal::TERM,
            Ending::LameDuck => Signal::USR2,
        })?;
        let mut status = None;
        poll_until(STOP_LIMIT, || {
            let child = server.running.as_mut();
            status = child.and_then(|child| child.try_wait().ok().flatten());
            status.is_some()
        });
        if status.is_none() {
            return Err(Failure::Missed(format!("server {n} did not stop in {STOP_LIMIT:?}")));
        }
        server.running = None;
        Ok(status)
    }

    /// The process id of one that runs.
    pub(super) fn pid(&mut self, n: usize) -> Result<u32> {
        let running = self.server(n)?.running.as_ref().map(Child::id);
        running.ok_or_else(|| Failure::Broken(format!("server {n} does not run")))
    }

    /// Kills all; says how many ran.
    pub(super) fn kill_all(&mut self) -> Result<u64> {
        let killed = (0..COUNT).map(|n| self.kill(n)).collect::<Result<Vec<_>>>()?;
        Ok(killed.into_iter().filter(|killed| *killed).count() as u64)
    }

    /// Stops one where it stands. Says whether it ran.
    pub(super) fn freeze(&mut self, n: usize) -> Result<bool> {
        let server = self.server(n)?;
        server.signal(Signal::STOP)?;
        server.frozen = true;
        let running = server.running.as_mut();
        running.map_or(Ok(false), |child| Ok(child.try_wait().when("asking for it")?.is_none()))
    }

    /// Stops all where they stand.
    pub(super) fn freeze_all(&mut self) -> Result<()> {
        (0..COUNT).try_for_each(|n| self.freeze(n).map(drop))
    }

    /// Lets one go on.
    pub(super) fn thaw(&mut self, n: usize) -> Result<()> {
        let server = self.server(n)?;
        server.frozen = false;
        server.signal(Signal::CONT)
    }

    /// Where a process of ours connects.
    pub(super) fn addresses(&self, process: usize) -> Vec<String> {
        let plain = || addresses(self.servers.iter());
        let wires = self.network.as_ref().map(|network| network.servers(Node::Process(process)));
        wires.unwrap_or_else(plain)
    }

    /// What can be cut.
    pub(super) fn network(&self) -> Result<&Network> {
        let none = || Failure::Broken("there are no wires to be cut".to_owned());
        self.network.as_ref().ok_or_else(none)
    }

    /// Who leads, as the others than `n` see it.
    pub(super) fn leader_beside(&self, n: usize) -> Option<usize> {
        let others = self.servers.iter().enumerate().filter(|(at, _)| *at != n);
        let others = others.map(|(_, server)| server).filter(|server| server.answers());
        let seen = self.replication(&addresses(others)).ok()?;
        seen.leader.as_deref().and_then(number)
    }

    /// Waits until the stream has a leader and every copy of it is there; the leader's number.
    pub(super) fn whole(&self, interrupt: &Interrupt) -> Result<usize> {
        let up = self.servers.iter().filter(|server| server.answers());
        self.whole_by(&addresses(up), interrupt)
    }

    /// The same, as one server alone says it.
    pub(super) fn whole_by_one(&self, n: usize, interrupt: &Interrupt) -> Result<usize> {
        self.whole_by(&addresses(self.servers.iter().skip(n).take(1)), interrupt)
    }

    fn whole_by(&self, addresses: &[String], interrupt: &Interrupt) -> Result<usize> {
        let watch = Stopwatch::start();
        loop {
            let seen = self.replication(addresses);
            if let Ok(Replication { replicas, current, leader: Some(leader) }) = &seen
                && current == replicas
                && let Some(n) = number(leader)
            {
                return Ok(n);
            }
            if watch.left_of(WHOLE_LIMIT).is_zero() {
                let why = format!("the servers are not whole within {WHOLE_LIMIT:?}: {seen:?}");
                return Err(Failure::Missed(why));
            }
            interrupt.wait(LOOK)?;
        }
    }

    /// How the stream is, from the first of these that answers; it is made if it is not there.
    fn replication(&self, addresses: &[String]) -> std::result::Result<Replication, String> {
        let config =
            NatsConfig { bytes_max: self.bytes_max, ..NatsConfig::new(addresses.iter().cloned()) };
        let ask = async {
            let table = Table::open(&config).await.map_err(|error| error.to_string())?;
            table.replication().await.map_err(|error| error.to_string())
        };
        self.runtime.block_on(async {
            let asked = tokio::time::timeout(ANSWER_LIMIT, ask).await;
            asked.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_LIMIT:?}")))
        })
    }

    fn server(&mut self, n: usize) -> Result<&mut Server> {
        let none = || Failure::Broken(format!("there is no server {n}"));
        self.servers.get_mut(n).ok_or_else(none)
    }
}

/// Where clients of these connect.
fn addresses<'a>(servers: impl Iterator<Item = &'a Server>) -> Vec<String> {
    servers.map(|server| format!("nats://127.0.0.1:{}", server.clients)).collect()
}

impl Server {
    /// Whether it runs and is not stopped.
    fn answers(&self) -> bool {
        self.running.is_some() && !self.frozen
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let Some(child) = &self.running else { return Ok(()) };
        let pid = Pid::from_raw(child.id().cast_signed());
        let pid = pid.ok_or_else(|| Failure::Broken("a nats-server has no pid".to_owned()))?;
        // Not yet waited for, so the id is still its own even if it has ended.
        kill_process(pid, signal).when("signalling a nats-server")
    }
}

/// The number of the server of that name.
fn number(name: &str) -> Option<usize> {
    name.strip_prefix('s')?.parse().ok()
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.kill_all().ok();
    }
}
