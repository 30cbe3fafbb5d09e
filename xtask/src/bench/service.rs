//! The servers under measurement, each a process of its own.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::process;
use crate::cargo::own_binary;
use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, poll_until};

/// How long a start may take; recovery of ten million orders is slow where it misses its gate.
const START_LIMIT: Duration = Duration::from_secs(300);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Threads of the door, the default; the hello server gets as many.
const DOOR_THREADS: usize = 1;
/// A slot's, by default.
pub(super) const SLOT_BYTES: u64 = 64 << 20;

/// How Forebay is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The release binary.
    pub(super) binary: PathBuf,
    /// Its directory, and the one of its log.
    pub(super) dir: PathBuf,
    /// Orders a second to the OMS; `None` for no ceiling, and nearly nothing for accepting alone.
    pub(super) ceiling: Option<f64>,
    /// Orders in one call; `None` for as many as the ceiling has by default.
    pub(super) batch: Option<u32>,
    /// `sqlite`, the quicker `ledger`, or `postgres`.
    pub(super) oms: &'static str,
    /// Where a `postgres` is.
    pub(super) oms_url: Option<String>,
    /// Spare slots.
    pub(super) reserve: u32,
    /// Its buffer is on NATS.
    pub(super) nats: Option<OnNats>,
}

/// A service of a fleet.
#[derive(Clone, Debug)]
pub(super) struct OnNats {
    /// `all`, `ingest` or `process`.
    pub(super) role: &'static str,
    /// The knobs that say how the servers are reached.
    pub(super) knobs: String,
}

/// A ceiling under which nothing drains.
pub(super) const NO_DRAIN: f64 = 0.001;

impl Setup {
    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The buffer's own directory.
    pub(super) fn store(&self) -> PathBuf {
        self.data().join("buffer")
    }

    fn config(&self) -> String {
        let drain = self.ceiling.map_or_else(
            || "governor = false".to_owned(),
            |ceiling| format!("ceiling_per_s = {ceiling:.3}"),
        );
        let batch = self.batch.map(|batch| format!("batch = {batch}\n")).unwrap_or_default();
        let (role, backend, knobs) = match &self.nats {
            Some(OnNats { role, knobs }) => (*role, "nats", knobs.as_str()),
            None => ("all", "embedded", ""),
        };
        let url = self.oms_url.as_ref().map(|url| format!("url = {url:?}\n")).unwrap_or_default();
        // Beside a cluster the drain is elsewhere, and a door's threads wait for others most of the time.
        let threads = if self.nats.is_some() { 2 * DOOR_THREADS } else { DOOR_THREADS };
        format!(
            "log = \"warn\"\nrole = \"{role}\"\n[door]\nthreads = {threads}\n\
             [buffer]\nbackend = \"{backend}\"\ndisk_max = \"64GiB\"\nburst_reserve = {}\n\
             [drain]\n{drain}\n{batch}[oms]\nkind = \"{}\"\ntest = true\n{url}{knobs}",
            self.reserve, self.oms
        )
    }

    /// Starts it and waits until it is ready.
    pub(super) fn start(&self) -> Result<Service> {
        let config = self.dir.join("forebay.toml");
        fs::write(&config, self.config()).when("its configuration")?;
        let log = self.dir.join("log");
        let stderr = File::options().create(true).append(true).open(&log).when("its log")?;
        let mut command = Command::new(&self.binary);
        command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.data())
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stderr(stderr);
        Service::start(&mut command).map_err(|failure| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            Failure::Broken(format!("{failure}; its log ends: {}", tail.join(" <- ")))
        })
    }
}

/// Starts the hello server with as many threads as the door has.
pub(super) fn hello() -> Result<Service> {
    let mut command = Command::new(own_binary());
    command.arg("hello").arg(DOOR_THREADS.to_string()).stdin(Stdio::piped());
    Service::start(&mut command)
}

/// A server that answers. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Service {
    child: Child,
    _stdin: Option<ChildStdin>,
    /// Where orders go.
    pub(super) orders: SocketAddr,
    ops: Option<SocketAddr>,
    /// From its start to its ready line.
    pub(super) started_in: Duration,
}

impl Service {
    fn start(command: &mut Command) -> Result<Self> {
        let watch = Stopwatch::start();
        let mut child = command.stdout(Stdio::piped()).spawn().when("starting a server")?;
        let stdin = child.stdin.take();
        let (sender, lines) = sync_channel(1);
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut line = String::new();
                let read = BufReader::new(stdout).read_line(&mut line);
                // Whoever started it has given up where nobody listens.
                sender.send((read.is_ok_and(|read| read > 0)).then_some(line)).ok();
            });
        }
        let line = lines.recv_timeout(START_LIMIT);
        let started_in = watch.elapsed();
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { child, _stdin: stdin, orders: none, ops: None, started_in };
        let Ok(Some(line)) = line else {
            return Err(Failure::Broken("the server ended before it was ready".to_owned()));
        };
        let ready: Value = serde_json::from_str(&line).when("the ready line")?;
        let address = |door: &str| ready.get(door)?.as_str()?.parse().ok();
        service.ops = address("ops");
        let none_meant = ready.get("orders").is_some_and(Value::is_null);
        let missing = || Failure::Broken(format!("no address in {line:?}"));
        match address("orders") {
            Some(orders) => service.orders = orders,
            // It only drains.
            None if none_meant => {}
            None => return Err(missing()),
        }
        Ok(service)
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> Result<Status> {
        let Some(ops) = self.ops else {
            return Err(Failure::Broken("this server has no status".to_owned()));
        };
        Ok(Status(get(ops, "/v1/status")?))
    }

    /// Waits until it has nothing left to do, as filling slots ahead.
    pub(super) fn quiet(&self) -> Result<()> {
        process::quiet(self.pid())
    }

    /// Stops it where it stands, as it is not its turn.
    pub(super) fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// SIGTERM, and its end.
    pub(super) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        if poll_until(STOP_LIMIT, || self.child.try_wait().ok().flatten().is_some()) {
            return Ok(());
        }
        Err(Failure::Broken(format!("the server did not stop within {STOP_LIMIT:?}")))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let pid = pid.ok_or_else(|| Failure::Broken("the server has no pid".to_owned()))?;
        // Not yet waited for, so the id is still its own even if it has ended.
        kill_process(pid, signal).when("signalling a server")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `/v1/status`.
#[derive(Debug)]
pub(super) struct Status(Value);

impl Status {
    /// Orders waiting for the drain.
    pub(super) fn pending(&self) -> u64 {
        self.number("/buffer/live/pending")
    }

    /// Orders whose end is not known yet.
    pub(super) fn unsettled(&self) -> u64 {
        let live = ["pending", "leased", "submitted"];
        live.iter().map(|state| self.number(&format!("/buffer/live/{state}"))).sum()
    }

    /// Orders in the OMS.
    pub(super) fn summarised(&self) -> u64 {
        self.number("/buffer/ended/summarised")
    }

    /// Every order it knows of, in whatever state.
    pub(super) fn orders(&self) -> u64 {
        let sum = |place: &str| {
            let states = self.0.pointer(place).and_then(Value::as_object);
            states.map_or(0, |states| states.values().filter_map(Value::as_u64).sum())
        };
        sum("/buffer/live") + sum("/buffer/ended")
    }

    /// Bytes of the journal's slots.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.number("/buffer/disk_bytes")
    }

    fn number(&self, place: &str) -> u64 {
        self.0.pointer(place).and_then(Value::as_u64).unwrap_or(0)
    }
}

/// `GET` of a JSON document.
fn get(from: SocketAddr, path: &str) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&from, ANSWER_LIMIT).when(path)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT)).when(path)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {from}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).when(path)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).when(path)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if !head.starts_with("HTTP/1.1 200") {
        return Err(Failure::Broken(format!(
            "{path}: {}",
            head.lines().next().unwrap_or_default()
        )));
    }
    serde_json::from_str(body).when(path)
}
