//! A PostgreSQL server of one's own, on loopback; it ends with the process that started it.
//!
//! Of the standard library alone: the tests of the processor run it too.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Result, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Starts the server, says so, and stops it once nobody holds its input any more. Then everything is removed, unless it is to be
/// started again.
const KEEP: &str = "\"$0\" start -w -t 60 -s -D data -l log -o \"$1\" && echo ready; read -r over; \
                    \"$0\" stop -w -s -m \"${over:-fast}\" -D data; \
                    if [ -z \"$over\" ]; then rm -rf \"$PWD\"; fi";

/// A server. Dropping it ends it and removes what it kept.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    place: PathBuf,
    binaries: PathBuf,
    /// Who runs it, where we are root, which it refuses.
    user: Option<(u32, u32)>,
    keeper: Mutex<Option<Child>>,
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // What cannot be ended or removed is the machine's to tidy.
        self.stop().ok();
        std::fs::remove_dir_all(&self.place).ok();
    }
}

impl PostgresServer {
    /// Makes one in the machine's directory for such, and starts it; `None` where there is none to run.
    ///
    /// # Errors
    /// It cannot be made, or does not start.
    pub fn start(settings: &[&str]) -> Result<Option<Self>> {
        let Some(binaries) = binaries() else { return Ok(None) };
        let server = Self::at_a_place(binaries)?;
        server.made(
            server
                .command(server.binaries.join("initdb"))
                .args(["-D", "data", "-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"])
                .arg("--no-sync"),
        )?;
        server.run(settings)?;
        Ok(Some(server))
    }

    /// Makes a standby of it, and starts it: all that this one writes reaches it, and it only reads until it is promoted.
    ///
    /// # Errors
    /// It cannot be made, or does not start.
    pub fn standby(&self) -> Result<Self> {
        let standby = Self::at_a_place(self.binaries.clone())?;
        let of = self.url("postgres");
        standby.made(standby.command(self.binaries.join("pg_basebackup")).args([
            "-D",
            "data",
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
            "-d",
            &of,
        ]))?;
        standby.run(&[])?;
        Ok(standby)
    }

    /// Has a standby take writes from now on.
    ///
    /// # Errors
    /// It is none, or does not come to it.
    pub fn promote(&self) -> Result<()> {
        self.made(self.command(self.binaries.join("pg_ctl")).args(["promote", "-w", "-D", "data"]))
    }

    /// One without data, that does not run.
    fn at_a_place(binaries: PathBuf) -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0")?;
        let port = free.local_addr()?.port();
        drop(free);
        let name = format!("forebay-postgres-{}-{port}", std::process::id());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&place)?;
        let root = std::fs::metadata(&place)?.uid() == 0;
        let user = if root { Some(other_user()?) } else { None };
        if let Some((user, group)) = user {
            chown(&place, Some(user), Some(group))?;
        }
        Ok(Self { port, place, binaries, user, keeper: Mutex::default() })
    }

    /// Runs one of its programs to its end.
    fn made(&self, command: &mut Command) -> Result<()> {
        let ended = command.output()?;
        if ended.status.success() {
            return Ok(());
        }
        Err(Error::other(String::from_utf8_lossy(&ended.stderr).into_owned()))
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

    /// Starts it again, with these settings.
    ///
    /// # Errors
    /// It does not start; what it says is in the error.
    pub fn run(&self, settings: &[&str]) -> Result<()> {
        let mut options = format!("-p {} -k ''", self.port);
        for setting in ["listen_addresses=127.0.0.1", "max_connections=200"].iter().chain(settings)
        {
            options.push_str(&format!(" -c {setting}"));
        }
        let mut command = self.command("sh");
        command.args(["-c", KEEP]).arg(self.binaries.join("pg_ctl")).arg(options);
        let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut said = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut said)?;
        }
        *self.keeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(keeper);
        if said == "ready\n" {
            return Ok(());
        }
        Err(Error::other(std::fs::read_to_string(self.place.join("log")).unwrap_or_default()))
    }

    /// Writes one of the files in its directory of data, which nobody else may read, as a key or `pg_hba.conf`. It reads them
    /// when it is run.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, name: &str, text: &str) -> Result<()> {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = file.open(self.place.join("data").join(name))?;
        if let Some((user, group)) = self.user {
            fchown(&file, Some(user), Some(group))?;
        }
        file.write_all(text.as_bytes())
    }

    /// Ends it, with whoever is connected, to be run again.
    ///
    /// # Errors
    /// Of its keeper.
    pub fn stop(&self) -> Result<()> {
        self.end("fast")
    }

    /// Ends it as a crash would, to be run again.
    ///
    /// # Errors
    /// Of its keeper.
    pub fn crash(&self) -> Result<()> {
        self.end("immediate")
    }

    /// Has all its processes stand still, with their connections open, or go on.
    ///
    /// # Errors
    /// They are not found.
    pub fn freeze(&self, still: bool) -> Result<()> {
        let text = std::fs::read_to_string(self.place.join("data").join("postmaster.pid"))?;
        let first = text.lines().next().unwrap_or_default().to_owned();
        let own = std::slice::from_ref(&first);
        // It is still the whole while: so it begins no process that is missed, and buries none that is gone.
        if still {
            kill("-STOP", own)?;
            return kill("-STOP", &children(&first)?);
        }
        kill("-CONT", &children(&first)?)?;
        kill("-CONT", own)
    }

    fn end(&self, how: &str) -> Result<()> {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut keeper) = keeper else { return Ok(()) };
        // One that stands still does not hear that it is over.
        self.freeze(false).ok();
        if let Some(mut input) = keeper.stdin.take() {
            writeln!(input, "{how}")?;
        }
        keeper.wait().map(drop)
    }

    /// How a database is reached.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Where its programs are: of a link on the path, and as Debian packages them.
fn binaries() -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", "command -v initdb"]).output().ok()?;
    let on_path = String::from_utf8(found.stdout).ok()?;
    let real = std::fs::canonicalize(on_path.trim_end()).into_iter();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let packaged = packaged.filter_map(|version| Some(version.ok()?.path().join("bin/initdb")));
    let found = real.chain(packaged).find(|initdb| initdb.exists())?;
    found.parent().map(Path::to_owned)
}

/// The processes that a process has begun.
fn children(of: &str) -> Result<Vec<String>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let status = std::fs::read_to_string(format!("/proc/{name}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.is_some_and(|parent| parent.trim() == of) {
            children.push(name);
        }
    }
    Ok(children)
}

fn kill(signal: &str, processes: &[String]) -> Result<()> {
    let mut command = Command::new("sh");
    command.args(["-c", "kill \"$@\"", "kill", signal]).args(processes);
    if processes.is_empty() || command.stderr(Stdio::null()).status()?.success() {
        return Ok(());
    }
    Err(Error::other(format!("kill {signal} {processes:?}")))
}

/// Somebody other than root: user and group.
fn other_user() -> Result<(u32, u32)> {
    let users = std::fs::read_to_string("/etc/passwd")?;
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse().ok());
        Some((fields.next()??, fields.next()??))
    };
    let found = of("postgres").or_else(|| of("nobody"));
    found.ok_or_else(|| Error::other("there is no user but root to run PostgreSQL as"))
}
