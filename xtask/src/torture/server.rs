//! The server under torture, as a child process.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use forebay_loadtest::Target;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::interrupt::Interrupt;
use super::probe;
use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, poll_until};

/// How long a start may take before the store counts as one that did not open.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a graceful stop may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long the kernel may take to say that a process is dead that has stopped answering.
const DYING: Duration = Duration::from_secs(2);
/// Where nobody listens.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long one answer of the ops listener may take.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How the server is started, the same each time, on free ports.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) binary: PathBuf,
    /// What it is to do, in the words of its command line.
    pub(super) command: Vec<String>,
    /// Knobs beside those of its configuration.
    pub(super) environment: Vec<(&'static str, String)>,
    /// What it is started behind: a command and its arguments, which must keep the process id.
    pub(super) prefix: Vec<String>,
    /// The promise a control build is to break.
    pub(super) control: Option<&'static str>,
    pub(super) data_dir: PathBuf,
    pub(super) config: PathBuf,
    /// Its stderr, appended to at every start.
    pub(super) log: PathBuf,
}

/// How the waiting for a start ended.
#[derive(Debug)]
pub(super) enum Start {
    /// It is ready at these addresses, this long after it was started.
    Ready(Target, Duration),
    /// It ended or hung before it was ready.
    Failed(String),
}

/// A started server. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    lines: Receiver<String>,
    started: Stopwatch,
}

impl Setup {
    /// Starts the server without waiting for it.
    pub(super) fn spawn(&self, more: &[&str]) -> Result<Server> {
        let log = File::options().create(true).append(true).open(&self.log).when("its log")?;
        let mut words = self.prefix.iter().map(AsRef::as_ref).chain([self.binary.as_os_str()]);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .args(&self.command)
            .arg("--json")
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("--config")
            .arg(&self.config)
            .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .args(more)
            .envs(self.control.map(|control| ("FOREBAY_CONTROL", control)))
            .envs(self.environment.iter().map(|(knob, value)| (knob, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C reaches its keeper, who then ends it in order.
            .process_group(0)
            .spawn()
            .when("starting the server")?;
        let started = Stopwatch::start();
        let (sender, lines) = sync_channel(1);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    sender.try_send(line).ok();
                }
            });
        }
        Ok(Server { child, lines, started })
    }
}

impl Server {
    /// Waits until it says it is ready, and makes sure that it is this very process that answers.
    pub(super) fn ready(&mut self, interrupt: &Interrupt) -> Result<Start> {
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => {
                    let took = self.started.elapsed();
                    return Ok(Start::Ready(self.target(&line)?, took));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.child.wait().when("waiting for the server")?;
                    return Ok(Start::Failed(format!("the server ended with {status}")));
                }
                Err(RecvTimeoutError::Timeout) => interrupt.wait(Duration::ZERO)?,
            }
            if self.started.left_of(START_LIMIT).is_zero() {
                return Ok(Start::Failed(format!("not ready within {START_LIMIT:?}")));
            }
        }
    }

    /// Its addresses if it has become ready since it was last asked.
    pub(super) fn ready_now(&mut self) -> Result<Option<Target>> {
        let line = self.lines.try_recv().ok();
        line.map(|line| self.target(&line)).transpose()
    }

    /// Its addresses by its ready line, once it is sure that this very process answers there.
    fn target(&mut self, line: &str) -> Result<Target> {
        let ready: Value = serde_json::from_str(line).when("the ready line")?;
        // One that only drains has no door.
        let orders = match ready.get("orders") {
            Some(Value::Null) => NOWHERE,
            _ => address(&ready, "orders")?,
        };
        let target = Target { orders, ops: address(&ready, "ops")? };
        let status = match get(target.ops, "/v1/status") {
            Ok(status) => status,
            // It died as soon as it was ready, of a poisonous order; whoever asks it next finds it dead.
            Err(_) if poll_until(DYING, || matches!(self.ended(), Ok(Some(_)))) => {
                return Ok(target);
            }
            Err(failure) => return Err(failure),
        };
        for (whose, view) in [("ready line", &ready), ("status", &status)] {
            if view.get("pid").and_then(Value::as_u64) != Some(u64::from(self.child.id())) {
                return Err(Failure::Missed(format!("the {whose} is another process's: {view}")));
            }
        }
        Ok(target)
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> Result<bool> {
        Ok(self.ended()?.is_none())
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().when("asking for the server")
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bytes of memory it holds now.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.when("the server's memory")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib << 10).ok_or_else(|| Failure::Broken("no VmRSS".to_owned()))
    }

    /// Bytes it has given to files so far.
    pub(super) fn bytes_to_files(&self) -> Result<u64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id()));
        let io = io.when("what the server has written")?;
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes:"));
        let bytes = line.and_then(|line| line.trim().parse().ok());
        bytes.ok_or_else(|| Failure::Broken("no write_bytes".to_owned()))
    }

    /// Stops it where it stands: no answer leaves it any more.
    pub(super) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// `kill -9`, and waits until the kernel has let go of everything it held. Says whether it was
    /// the kill that ended it.
    pub(super) fn kill(mut self) -> Result<bool> {
        self.signal(Signal::KILL)?;
        let status = self.child.wait().when("waiting for the killed server")?;
        Ok(status.signal() == Some(Signal::KILL.as_raw()))
    }

    /// SIGTERM, and its exit status.
    pub(super) fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        let mut status = None;
        poll_until(STOP_LIMIT, || {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        status.ok_or_else(|| Failure::Missed(format!("the server did not stop in {STOP_LIMIT:?}")))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let pid = pid.ok_or_else(|| Failure::Broken("the server has no pid".to_owned()))?;
        // Not yet waited for, so the id is still its own even if it has ended.
        kill_process(pid, signal).when("signalling the server")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn address(ready: &Value, door: &str) -> Result<SocketAddr> {
    let text = ready.get(door).and_then(Value::as_str).unwrap_or_default();
    text.parse().when(format_args!("the ready line's {door}"))
}

/// `GET` of a JSON document from the ops listener.
pub(super) fn get(from: SocketAddr, path: &str) -> Result<Value> {
    let reply = probe::get(from, path, ANSWER_LIMIT).when(path)?;
    if reply.status != 200 {
        return Err(Failure::Broken(format!("{path}: {}: {}", reply.status, reply.body)));
    }
    serde_json::from_str(&reply.body).when(path)
}
