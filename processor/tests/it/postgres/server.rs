//! A PostgreSQL server of the tests' own, with a database for each that asks; it ends with the process.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use tokio_postgres::NoTls;

/// A running server.
pub(crate) struct Server {
    port: u16,
    place: PathBuf,
    binaries: PathBuf,
    user: Option<(u32, u32)>,
    keeper: Mutex<Option<Child>>,
}

/// The server that the tests of this process share; `None`, which is said, where there is none to run.
pub(crate) fn shared() -> Option<&'static Server> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    SERVER.get_or_init(Server::start).as_ref()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        // What cannot be removed is the machine's to tidy.
        std::fs::remove_dir_all(&self.place).ok();
    }
}

impl Server {
    /// Makes one and starts it.
    pub(crate) fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have PostgreSQL");
            println!("skipped: no PostgreSQL on the path or in /usr/lib/postgresql");
            return None;
        };
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let place =
            std::env::temp_dir().join(format!("forebay-postgres-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        // It refuses to run as root.
        let root =
            std::fs::metadata(&place).map(|place| std::os::unix::fs::MetadataExt::uid(&place));
        let user = (root.unwrap() == 0).then(other_user);
        if let Some((user, group)) = user {
            chown(&place, Some(user), Some(group)).unwrap();
        }
        let server = Self { port, place, binaries, user, keeper: Mutex::default() };
        let made = server
            .command(server.binaries.join("initdb"))
            .args([
                "-D",
                "data",
                "-U",
                "postgres",
                "--auth=trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        server.run(&[]);
        Some(server)
    }

    /// A command as the server's user, in its place.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.place);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Runs it; its keeper ends it, and removes everything, once nobody holds the keeper's input any more.
    pub(crate) fn run(&self, settings: &[&str]) {
        const KEEP: &str = "\"$0\" start -w -t 60 -s -D data -l log -o \"$1\" && echo ready; read -r over; \
                            \"$0\" stop -w -s -m fast -D data; \
                            if [ \"$over\" != again ]; then rm -rf \"$PWD\"; fi";
        let mut options = format!("-p {} -k ''", self.port);
        for setting in ["listen_addresses=127.0.0.1", "max_connections=200"].iter().chain(settings)
        {
            write!(options, " -c {setting}").unwrap();
        }
        let mut command = self.command("sh");
        command.args(["-c", KEEP]).arg(self.binaries.join("pg_ctl")).arg(options);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(keeper.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let log = || std::fs::read_to_string(self.place.join("log")).unwrap_or_default();
        assert_eq!(said, "ready\n", "it does not start: {}", log());
        *self.keeper.lock().unwrap() = Some(keeper);
    }

    /// Ends it, with whoever is connected, to be run again.
    pub(crate) fn stop(&self) {
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            keeper.stdin.take().unwrap().write_all(b"again\n").unwrap();
            keeper.wait().unwrap();
        }
    }

    /// How a database is reached.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A database of that name, made if it is not there.
    pub(crate) async fn database(&self, name: &str) -> String {
        // PostgreSQL copies its template for one at a time.
        static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one = ONE.lock().await;
        let made = execute(&self.url("postgres"), &format!("CREATE DATABASE \"{name}\"")).await;
        if let Err(error) = made {
            assert!(error.to_string().contains("exists"), "{error:?}");
        }
        self.url(name)
    }
}

/// Runs statements in a database.
pub(crate) async fn execute(url: &str, statements: &str) -> Result<(), String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let driving = tokio::spawn(connection);
    let done = client.batch_execute(statements).await;
    drop(client);
    driving.await.unwrap().unwrap();
    done.map_err(|error| error.as_db_error().map_or(error.to_string(), |e| e.message().to_owned()))
}

/// Where its programs are.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|directory| directory.join("initdb"));
    // A link's own directory lacks what it needs beside it.
    let real = on_path.filter_map(|initdb| std::fs::canonicalize(initdb).ok());
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let packaged = packaged.filter_map(|version| Some(version.ok()?.path().join("bin/initdb")));
    real.chain(packaged)
        .find(|initdb| initdb.exists())
        .and_then(|it| it.parent().map(Path::to_owned))
}

/// Somebody other than root.
fn other_user() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    of("postgres").or_else(|| of("nobody")).unwrap()
}
