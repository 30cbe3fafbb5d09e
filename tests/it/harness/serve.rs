//! The server as a child process.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use serde_json::Value;

use super::http::{Answer, Request};

/// How long anything waited for may take before the test fails.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

/// A running server in a data directory that outlives it, so that it can be started again.
///
/// Dropping it kills the server. A failed assertion that goes through its helpers shows its log.
pub(crate) struct Forebay {
    child: Option<Child>,
    config: String,
    directory: tempfile::TempDir,
    /// The orders listener.
    pub(crate) orders: SocketAddr,
    /// The ops listener.
    pub(crate) ops: SocketAddr,
}

impl Forebay {
    /// Starts the server with a configuration file of this text, on free ports, in a fresh data
    /// directory. The text holds whole sections but `data_dir`; empty means every default.
    pub(crate) fn start(config: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child: None,
            config: config.to_owned(),
            directory,
            orders: nowhere,
            ops: nowhere,
        };
        server.start_again();
        server
    }

    /// Starts a stopped or killed server on the same data directory and configuration, at new
    /// addresses.
    pub(crate) fn start_again(&mut self) {
        self.start_again_in(&[]);
    }

    /// Like [`Forebay::start_again`], in an environment with these variables besides.
    pub(crate) fn start_again_in(&mut self, environment: &[(&str, &str)]) {
        assert!(self.child.is_none(), "the server runs already");
        let file = self.directory.path().join("forebay.toml");
        std::fs::write(&file, &self.config).unwrap();
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--config")
            .arg(&file)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let pid = child.id();
        self.child = Some(child);
        // The reader goes on to the end, so that a server that prints more is never held up.
        let (sender, lines) = sync_channel(1);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                sender.try_send(line).ok();
            }
        });
        let line = match lines.recv_timeout(WAIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("not ready in {WAIT:?}\n{}", self.log()),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("ended before it was ready: {:?}\n{}", self.wait(), self.log())
            }
        };
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["event"], "ready", "{line}");
        assert_eq!(ready["pid"], pid, "{line}");
        self.orders = ready["orders"].as_str().unwrap().parse().unwrap();
        self.ops = ready["ops"].as_str().unwrap().parse().unwrap();
    }

    /// Another configuration for the next start.
    pub(crate) fn configure(&mut self, config: &str) {
        self.config = config.to_owned();
    }

    /// Everything durable is below this.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A directory beside the data directory, for a test's own files.
    pub(crate) fn beside(&self) -> &Path {
        self.directory.path()
    }

    /// What the server wrote to stderr so far, over all its starts.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The running server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a request to the orders listener.
    pub(crate) fn order(&self, request: &Request<'_>) -> Answer {
        self.send(request, self.orders)
    }

    /// Posts an order body to a channel with this content type.
    pub(crate) fn post(&self, channel: &str, content_type: &str, body: &[u8]) -> Answer {
        let path = format!("/v1/channels/{channel}/orders");
        self.order(&Request::post(&path, body).header("Content-Type", content_type))
    }

    /// What the storefront sees of an order; `location` is the one its answer gave.
    pub(crate) fn get(&self, location: &str) -> Answer {
        self.order(&Request::get(location))
    }

    /// Sends a request to the ops listener.
    pub(crate) fn operate(&self, request: &Request<'_>) -> Answer {
        self.send(request, self.ops)
    }

    /// `GET` of an ops path as JSON; fails the test unless it is 200.
    pub(crate) fn view(&self, path: &str) -> Value {
        let answer = self.operate(&Request::get(path));
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), self.log());
        answer.json()
    }

    /// Every summary in the OMS, in order of commit.
    pub(crate) fn summaries(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = 0;
        loop {
            let page = self.view(&format!("/v1/oms/orders?after={after}&limit=1000"));
            all.extend(page["orders"].as_array().unwrap().iter().cloned());
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    /// Asks again until `found` finds what it looks for; fails the test with `what` after [`WAIT`].
    #[expect(clippy::disallowed_methods, reason = "a server is asked again, it announces nothing")]
    pub(crate) fn until<T>(&self, what: &str, mut found: impl FnMut(&Self) -> Option<T>) -> T {
        let start = std::time::Instant::now();
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(start.elapsed() < WAIT, "no {what} within {WAIT:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the order at `location` has a state of this name and gives its view.
    pub(crate) fn until_state(&self, location: &str, state: &str) -> Value {
        self.until(&format!("state {state} of {location}"), |server| {
            let view = server.get(location).json();
            (view["state"] == state).then_some(view)
        })
    }

    /// Asks for a stop (SIGTERM) and waits for the end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::KILL);
        self.wait()
    }

    /// Sends a signal to the running server.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for the server to end by itself; fails the test after [`WAIT`].
    #[expect(clippy::disallowed_methods, reason = "a child's end is asked for, with a deadline")]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let start = std::time::Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if start.elapsed() > WAIT {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("still running after {WAIT:?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, request: &Request<'_>, to: SocketAddr) -> Answer {
        request.send(to).unwrap_or_else(|error| panic!("{error} on {request:?}\n{}", self.log()))
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stderr.log")
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
