//! Real NATS servers on loopback, each with a directory of its own; they end with the test.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay_buffer::nats::{NatsConfig, Table};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;

/// No wait of a test is longer; one that reaches it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster of servers that sync before they acknowledge.
pub(crate) struct Servers {
    directory: TempDir,
    binary: PathBuf,
    servers: Vec<Server>,
    /// Whether they sync before they acknowledge.
    synced: bool,
    /// Of the user `app`.
    password: String,
    /// What one dials another by, if it can be held.
    wires: Vec<Wire>,
}

struct Wire {
    from: usize,
    to: usize,
    proxy: Proxy,
}

struct Server {
    clients: u16,
    routes: u16,
    running: Option<Child>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.servers.len()).for_each(|n| self.kill(n));
    }
}

impl Servers {
    /// Starts so many and waits until they have chosen a leader; `None`, which is said, where there is no server to run.
    pub(crate) async fn start(count: usize) -> Option<Self> {
        Self::start_synced(count, true).await
    }

    /// The same, of servers that may acknowledge before they sync.
    pub(crate) async fn start_synced(count: usize, synced: bool) -> Option<Self> {
        Self::begin(count, synced, false).await
    }

    /// The same, of servers that can be cut off from each other.
    pub(crate) async fn start_wired(count: usize) -> Option<Self> {
        Self::begin(count, true, true).await
    }

    async fn begin(count: usize, synced: bool, wired: bool) -> Option<Self> {
        let Some(binary) = binary() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have nats-server");
            println!("skipped: no nats-server on the path or in the build's tools");
            return None;
        };
        // Held together, so that no port is given twice; below those that connections are given, so that none of them takes
        // the port of a server that is down for a moment.
        let free = || {
            let random = std::iter::repeat_with(|| fastrand::u16(12_000..32_000));
            let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
            random.filter_map(bind).next().unwrap()
        };
        let held: Vec<_> = (0..count).map(|_| (free(), free())).collect();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let servers = held.iter().map(|(clients, routes)| Server {
            clients: port(clients),
            routes: port(routes),
            running: None,
        });
        let servers: Vec<Server> = servers.collect();
        drop(held);
        let mut wires = Vec::new();
        let pairs = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
        for (from, to) in pairs.filter(|(from, to)| wired && from != to) {
            wires.push(Wire { from, to, proxy: Proxy::start(servers[to].routes).await });
        }
        let directory = tempfile::tempdir().unwrap();
        let password = "app".to_owned();
        let mut servers = Self { directory, binary, servers, synced, password, wires };
        (0..count).for_each(|n| servers.run(n));
        drop(servers.table(|_| {}).await);
        Some(servers)
    }

    /// Starts one that does not run.
    pub(crate) fn run(&mut self, n: usize) {
        let directory = self.directory.path().join(n.to_string());
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("server.conf");
        fs::write(&path, self.config_file(n, &directory)).unwrap();
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&path).stdout(Stdio::null()).stderr(log);
        self.servers[n].running = Some(command.spawn().unwrap());
    }

    fn config_file(&self, n: usize, directory: &Path) -> String {
        let Server { clients, routes, .. } = &self.servers[n];
        let store = directory.join("store");
        let others = self.servers.iter().map(|other| format!("nats://127.0.0.1:{}", other.routes));
        let own = self.wires.iter().filter(|wire| wire.from == n);
        // What they tell of each other would lead around the wires: to nobody.
        let (others, hidden): (Vec<_>, _) = match self.wires.is_empty() {
            true => (others.collect(), ""),
            false => (
                own.map(|wire| wire.proxy.address()).collect(),
                ", no_advertise: true, advertise: \"127.0.0.1:1\"",
            ),
        };
        let others = others.join(", ");
        let cluster = match self.servers.len() {
            1 => String::new(),
            _ => format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{routes}\", routes: [{others}]{hidden} }}\n"
            ),
        };
        let sync = if self.synced { ", sync_interval: always" } else { "" };
        let password = &self.password;
        // Who says nobody is `app`; `guest` may nothing; who asks how they are set up is `sys`.
        format!(
            "server_name: s{n}\nlisten: \"127.0.0.1:{clients}\"\n\
             jetstream {{ store_dir: {store:?}{sync} }}\n{cluster}\
             accounts {{ APP {{ jetstream: enabled, users: [ {{ user: app, password: {password} }},\n\
             {{ user: guest, password: guest, permissions: {{ publish: {{ deny: \">\" }} }} }} ] }}\n\
             SYS {{ users: [ {{ user: sys, password: sys }} ] }} }}\n\
             no_auth_user: app\nsystem_account: SYS\n"
        )
    }

    /// Cuts one off from the others; whoever is connected to it still is.
    pub(crate) fn cut_off(&self, n: usize) {
        let own = self.wires.iter().filter(|wire| wire.from == n || wire.to == n);
        own.for_each(|wire| wire.proxy.hold(true));
    }

    /// Those that are started from now on know `app` by this password.
    pub(crate) fn set_password(&mut self, password: &str) {
        self.password = password.to_owned();
    }

    /// Whether those that are started from now on sync before they acknowledge.
    pub(crate) fn set_synced(&mut self, synced: bool) {
        self.synced = synced;
    }

    /// Kills one without warning.
    pub(crate) fn kill(&mut self, n: usize) {
        if let Some(mut running) = self.servers[n].running.take() {
            running.kill().unwrap();
            running.wait().unwrap();
        }
    }

    /// Where one takes connections.
    pub(crate) fn port(&self, n: usize) -> u16 {
        self.servers[n].clients
    }

    /// How they are reached, three copies of everything or as many as there are servers, and
    /// room for what a test needs.
    pub(crate) fn config(&self) -> NatsConfig {
        let addresses =
            self.servers.iter().map(|server| format!("nats://127.0.0.1:{}", server.clients));
        // Little, for the servers set it aside for each stream of a test.
        let (replicas, bytes_max) = (self.servers.len().min(3), 64 << 20);
        NatsConfig { replicas, bytes_max, ..NatsConfig::new(addresses) }
    }

    /// A table on them, as soon as they can have one.
    pub(crate) async fn table(&self, change: impl Fn(&mut NatsConfig)) -> Table {
        let mut config = self.config();
        change(&mut config);
        let until = Instant::now() + DEADLINE;
        loop {
            match Table::open(&config).await {
                Ok(table) => return table,
                Err(error) if Instant::now() >= until => panic!("{error}"),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// What one has said.
    pub(crate) fn log(&self, n: usize) -> String {
        fs::read_to_string(self.directory.path().join(n.to_string()).join("log")).unwrap()
    }

    /// The number of the server with that name.
    pub(crate) fn called(name: &str) -> usize {
        name.trim_start_matches('s').parse().unwrap()
    }
}

/// A server to run: on the path, or where the build's tools are.
fn binary() -> Option<PathBuf> {
    let own =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/nats-server/bin/nats-server");
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let tools = target.map(|target| target.join("tools/nats-server/bin/nats-server"));
    let known = [Some(PathBuf::from("nats-server")), tools, Some(own)];
    known.into_iter().flatten().find(|binary| {
        let mut version = Command::new(binary);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    })
}
