//! Three NATS servers on loopback, as `config/cluster/server.conf` has them: TLS, users with least rights, synced.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use forebay_buffer::nats::{Login, NatsConfig, Table};
use rustix::process::{Pid, Signal, kill_process};

use crate::cargo::Workspace;
use crate::certificates::Authority;
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::{Stopwatch, poll_until};
use crate::tools;

const SERVERS: u16 = 3;
/// From connections of clients to those of the other servers.
const ROUTES_ABOVE: u16 = 2_000;
/// What each may take of the disk.
const DISK: &str = "20GB";
/// How long they may take to choose a leader, and to end.
const SOON: Duration = Duration::from_secs(60);

/// Where a cluster on loopback keeps everything, and its first port.
#[derive(Clone, Debug)]
pub struct Cluster {
    root: PathBuf,
    config: PathBuf,
    port: u16,
}

impl Cluster {
    /// The one of this workspace.
    pub fn of(workspace: &Workspace, port: u16) -> Self {
        Self::at(workspace.target.join("cluster"), workspace, port)
    }

    /// One below `root` on ports that are free, until it is dropped.
    ///
    /// # Errors
    /// As [`Cluster::up`].
    pub fn for_now(root: PathBuf, workspace: &Workspace) -> Result<ForNow> {
        let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        let all =
            |first: &u16| (0..SERVERS).all(|n| free(first + n) && free(first + ROUTES_ABOVE + n));
        // Below those that connections are given.
        let port = std::iter::repeat_with(|| fastrand::u16(12_000..28_000)).find(all);
        let cluster = ForNow(Self::at(root, workspace, port.unwrap_or_default()));
        cluster.up(&workspace.target)?;
        Ok(cluster)
    }

    /// The servers' processes.
    pub fn pids(&self) -> Vec<u32> {
        let running = (0..SERVERS).filter_map(|n| self.running(n));
        running.filter_map(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok()).collect()
    }

    fn at(root: PathBuf, workspace: &Workspace, port: u16) -> Self {
        Self { root, config: workspace.root.join("config/cluster/server.conf"), port }
    }

    /// Starts the servers and waits until a stream can be made on them. A store that is there is used again.
    ///
    /// # Errors
    /// [`Failure::Skipped`] without a nats-server; [`Failure::Broken`] if they run already, or do not come up.
    pub fn up(&self, target: &Path) -> Result<()> {
        if (0..SERVERS).any(|n| self.running(n).is_some()) {
            return Err(Failure::Broken("the cluster runs already".to_owned()));
        }
        let binary = tools::nats_server(target)?;
        for n in 0..SERVERS {
            fs::create_dir_all(self.server(n)).when(self.server(n).display())?;
        }
        self.certify()?;
        let password = self.password()?;
        for n in 0..SERVERS {
            self.start(n, &binary, &password)?;
        }
        self.ready()
    }

    /// Writes `ca.pem`, and `cert.pem` and `key.pem` into each server's directory. A cluster that comes up again gets
    /// a new authority.
    fn certify(&self) -> Result<()> {
        let authority = Authority::new("forebay on loopback").when("an authority")?;
        fs::write(self.root.join("ca.pem"), authority.pem()).when("ca.pem")?;
        for n in 0..SERVERS {
            let certified = authority.certify("nats", &["localhost", "127.0.0.1"]);
            let certified = certified.when("a certificate")?;
            let directory = self.server(n);
            fs::write(directory.join("cert.pem"), certified.certificate).when("cert.pem")?;
            let mut options = File::options();
            let file = options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = file.open(directory.join("key.pem")).when("key.pem")?;
            file.write_all(certified.key.as_bytes()).when("key.pem")?;
        }
        Ok(())
    }

    /// How to reach it, for people.
    pub fn describe(&self) -> String {
        format!(
            "three servers run: {}\ntrust {}; the user is forebay, its password in {}",
            self.addresses().join(", "),
            self.root.join("ca.pem").display(),
            self.root.join("password").display()
        )
    }

    /// Stops the servers; with `delete`, their stores go too.
    ///
    /// # Errors
    /// [`Failure::Broken`] if one does not end.
    pub fn down(&self, delete: bool) -> Result<()> {
        for n in 0..SERVERS {
            let Some(pid) = self.running(n) else { continue };
            kill_process(pid, Signal::TERM).when("stopping a server")?;
            if !poll_until(SOON, || self.running(n).is_none()) {
                return Err(Failure::Broken(format!("server {n} does not end")));
            }
        }
        if delete && self.root.exists() {
            fs::remove_dir_all(&self.root).when(self.root.display())?;
        }
        Ok(())
    }

    /// How Forebay reaches it.
    ///
    /// # Errors
    /// [`Failure::Broken`] if it was never up.
    pub fn nats(&self) -> Result<NatsConfig> {
        let password = self.password()?;
        Ok(NatsConfig {
            login: Login::User { name: "forebay".to_owned(), password },
            roots: Some(self.root.join("ca.pem")),
            ..NatsConfig::new(self.addresses())
        })
    }

    /// The same as a configuration file says it, by way of these servers.
    pub fn knobs(&self, servers: &[String]) -> String {
        format!(
            "[nats]\nservers = {servers:?}\nuser = \"forebay\"\npassword_file = {:?}\nroots = {:?}\n",
            self.root.join("password"),
            self.root.join("ca.pem")
        )
    }

    fn addresses(&self) -> Vec<String> {
        (0..SERVERS).map(|n| format!("tls://localhost:{}", self.port + n)).collect()
    }

    fn server(&self, n: u16) -> PathBuf {
        self.root.join(format!("server-{n}"))
    }

    fn start(&self, n: u16, binary: &Path, password: &str) -> Result<()> {
        let directory = self.server(n);
        let log = File::options().create(true).append(true).open(directory.join("log"));
        let quoted = |text: &str| format!("\"{text}\"");
        let file = |name: &str| quoted(&directory.join(name).to_string_lossy());
        let address = |port: u16| quoted(&format!("127.0.0.1:{port}"));
        let mut command = Command::new(binary);
        command
            .arg("--config")
            .arg(&self.config)
            .env("CLUSTER_NAME", quoted(&format!("forebay-{n}")))
            .env("CLUSTER_CLIENTS", address(self.port + n))
            .env("CLUSTER_ROUTES", address(self.port + ROUTES_ABOVE + n))
            .env("CLUSTER_STORE", file("store"))
            .env("CLUSTER_DISK", DISK)
            .env("CLUSTER_CERT", file("cert.pem"))
            .env("CLUSTER_KEY", file("key.pem"))
            .env("CLUSTER_CA", quoted(&self.root.join("ca.pem").to_string_lossy()))
            .env("CLUSTER_PASSWORD", quoted(password))
            .env("CLUSTER_SYS_PASSWORD", quoted(password));
        for other in 0..SERVERS {
            let route = format!("nats://localhost:{}", self.port + ROUTES_ABOVE + other);
            command.env(format!("CLUSTER_ROUTE_{}", other + 1), quoted(&route));
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.when("a server's log")?)
            .spawn()
            .when("starting a server")?;
        fs::write(directory.join("pid"), child.id().to_string()).when("a server's id")
    }

    /// The process of a server that runs.
    fn running(&self, n: u16) -> Option<Pid> {
        let pid = fs::read_to_string(self.server(n).join("pid")).ok()?;
        let pid = Pid::from_raw(pid.trim().parse().ok()?)?;
        // The number may be another process's by now.
        let binary = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).ok()?;
        binary
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("nats-server"))
            .then_some(pid)
    }

    /// Waits until a stream is there.
    fn ready(&self) -> Result<()> {
        let config = self.nats()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.when("a runtime")?;
        let watch = Stopwatch::start();
        loop {
            let error = match runtime.block_on(Table::open(&config)) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if watch.left_of(SOON).is_zero() {
                let log = self.server(0).join("log");
                return Err(Failure::Broken(format!("{error}; see {}", log.display())));
            }
            poll_until(Duration::from_millis(200), || false);
        }
    }

    /// The password of all users, made once.
    fn password(&self) -> Result<String> {
        let path = self.root.join("password");
        if let Ok(password) = fs::read_to_string(&path) {
            return Ok(password);
        }
        let password = format!("{:032x}", fastrand::u128(..));
        let mut options = File::options();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let mut file = file.when(path.display())?;
        std::io::Write::write_all(&mut file, password.as_bytes()).when(path.display())?;
        Ok(password)
    }
}

/// A cluster that ends, with all it stored, when this is dropped.
#[derive(Debug)]
pub struct ForNow(Cluster);

impl Deref for ForNow {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for ForNow {
    fn drop(&mut self) {
        if let Err(failure) = self.0.down(true) {
            complain(&failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use forebay_buffer::nats::Put;

    use super::*;
    use crate::say::say;

    #[test]
    fn three_servers_come_up_take_orders_over_tls_from_a_user_who_can_delete_nothing_and_end() {
        let workspace = Workspace::find().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let cluster = match Cluster::for_now(directory.path().join("cluster"), &workspace) {
            Err(Failure::Skipped(why)) => return say(format_args!("skipped: {why}")),
            up => up.unwrap(),
        };
        assert!(cluster.up(&workspace.target).is_err(), "not twice");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = cluster.nats().unwrap();
        runtime.block_on(async {
            let table = Table::open(&config).await.unwrap();
            let put = table.create("FOREBAY.o.1", "an order".into()).await.unwrap();
            assert!(matches!(put, Put::Done(_)));
            let replication = table.replication().await.unwrap();
            assert_eq!((replication.replicas, replication.quorum()), (3, 2));
            let Login::User { name, password } = &config.login else { unreachable!() };
            let client = async_nats::ConnectOptions::new()
                .user_and_password(name.clone(), password.clone())
                .add_root_certificates(config.roots.clone().unwrap())
                .request_timeout(Some(Duration::from_secs(2)))
                .connect(config.servers.as_slice())
                .await
                .unwrap();
            let context = async_nats::jetstream::new(client);
            assert!(context.get_stream("FOREBAY").await.is_ok());
            assert!(context.delete_stream("FOREBAY").await.is_err());
            assert!(table.read("FOREBAY.o.1").await.unwrap().is_some());
            let wrong = Login::User { name: name.clone(), password: "wrong".to_owned() };
            let refused = Table::open(&NatsConfig { login: wrong, ..config.clone() }).await;
            assert!(refused.unwrap_err().to_string().contains("password"));
            let plain = Table::open(&NatsConfig { roots: None, ..config.clone() }).await;
            assert!(plain.is_err(), "nobody vouches for such a server");
        });
        cluster.down(false).unwrap();
        assert!((0..SERVERS).all(|n| cluster.running(n).is_none()));
        cluster.up(&workspace.target).unwrap();
        let table = runtime.block_on(Table::open(&config)).unwrap();
        let kept = runtime.block_on(table.read("FOREBAY.o.1")).unwrap();
        assert_eq!(&*kept.unwrap().bytes, b"an order");
        drop(cluster);
        assert!(!directory.path().join("cluster").exists());
    }
}
