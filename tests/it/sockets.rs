//! Restarts under load, the sockets held by somebody else: no connection is refused.

use std::io::{self, BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Request, WAIT};

const PATH: &str = "/v1/channels/forebay/orders";
const CONFIG: &str = "[buffer]\nslot_bytes = \"4MiB\"\nburst_reserve = 1\n";
/// Together they send 500 orders a second.
const SENDERS: usize = 10;
const PAUSE: Duration = Duration::from_millis(20);
/// No longer may nobody be answered.
const GAP_MAX: Duration = Duration::from_secs(3);

/// Becomes the server with its stdin and stderr, two sockets, as descriptors 3 and 4, as a service manager does it.
const HAND_OVER: &str =
    r#"exec 3<&0 4<&2 0</dev/null 2>>"$LOG"; export LISTEN_PID=$$; exec "$0" "$@""#;

/// The sockets, and a directory to serve from.
struct Manager {
    directory: tempfile::TempDir,
    orders: TcpListener,
    ops: TcpListener,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
        std::fs::write(directory.path().join("forebay.toml"), CONFIG).unwrap();
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        Self { directory, orders: listen(), ops: listen() }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("stderr.log")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts a server on the sockets and waits until it is ready.
    fn start(&self) -> Running {
        let held = |socket: &TcpListener| OwnedFd::from(socket.try_clone().unwrap());
        let at = |name: &str| -> PathBuf { Path::new(self.directory.path()).join(name) };
        let mut child = Command::new("sh")
            .args(["-c", HAND_OVER, env!("CARGO_BIN_EXE_forebay"), "serve", "--json"])
            // Addresses nobody can have: what is handed over must be taken.
            .args(["--listen", "127.0.0.1:1", "--ops-listen", "127.0.0.1:1", "--data-dir"])
            .arg(at("data"))
            .arg("--config")
            .arg(at("forebay.toml"))
            .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "orders:ops")])
            .env("LOG", self.log_path())
            .stdin(Stdio::from(held(&self.orders)))
            .stderr(Stdio::from(held(&self.ops)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(1);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                sender.try_send(line).ok();
            }
        });
        let running = Running(child);
        let line = lines.recv_timeout(WAIT).unwrap_or_else(|_| panic!("not ready\n{}", self.log()));
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(ready["pid"], running.0.id(), "{line}");
        let address = |socket: &TcpListener| socket.local_addr().unwrap().to_string();
        assert_eq!(ready["orders"], address(&self.orders), "{line}");
        assert_eq!(ready["ops"], address(&self.ops), "{line}");
        running
    }
}

/// A server; killed when dropped.
struct Running(Child);

impl Running {
    fn end(mut self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// What all senders saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    refused: AtomicUsize,
    sent_again: AtomicUsize,
    /// When orders were answered, and where they are.
    answered: Mutex<Vec<(Instant, String)>>,
}

impl Seen {
    /// Sends one order after the other, each until it is answered with a yes.
    #[expect(clippy::disallowed_methods, reason = "an even load is paced by the clock")]
    fn send(&self, sender: usize, to: SocketAddr) {
        let start = Instant::now();
        for n in 0_u32.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let id = format!("{sender}-{n}");
            let body = format!(
                r#"{{"id":"{id}","currency":"EUR","totals":{{"grand":"1.00"}},"lines":[]}}"#
            );
            let request =
                Request::post(PATH, body.as_bytes()).header("Content-Type", "application/json");
            let first = Instant::now();
            while !self.is_answered(request.send(to)) {
                self.sent_again.fetch_add(1, Ordering::Relaxed);
                assert!(first.elapsed() < WAIT, "no answer to {id} within {WAIT:?}");
            }
            let location = format!("/v1/orders/forebay/demo/{id}");
            self.answered.lock().unwrap().push((Instant::now(), location));
            std::thread::sleep((PAUSE * (n + 1)).saturating_sub(start.elapsed()));
        }
    }

    fn is_answered(&self, answer: io::Result<crate::harness::Answer>) -> bool {
        match answer {
            Ok(answer) if answer.status == 503 => false,
            Ok(answer) => {
                assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
                true
            }
            Err(error) => {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                self.refused.fetch_add(usize::from(refused), Ordering::Relaxed);
                false
            }
        }
    }

    /// Waits until so many more orders were answered.
    #[expect(clippy::disallowed_methods, reason = "the senders announce nothing; has a deadline")]
    fn until_more(&self, more: usize) {
        let (start, before) = (Instant::now(), self.answered.lock().unwrap().len());
        while self.answered.lock().unwrap().len() < before + more {
            assert!(start.elapsed() < WAIT, "the load stands still");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn restarts_under_load_refuse_no_connection() {
    let manager = Manager::new();
    let server = manager.start();
    let to = manager.orders.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || seen.send(sender, to))
        })
        .collect();
    seen.until_more(300);
    server.end(Signal::TERM);
    let server = manager.start();
    seen.until_more(300);
    server.end(Signal::KILL);
    let server = manager.start();
    seen.until_more(300);
    seen.stop.store(true, Ordering::Relaxed);
    for sender in senders {
        sender.join().unwrap_or_else(|_| panic!("a sender failed\n{}", manager.log()));
    }
    assert_eq!(seen.refused.load(Ordering::Relaxed), 0, "connections were refused");
    let mut answered = std::mem::take(&mut *seen.answered.lock().unwrap());
    answered.sort_unstable();
    let gaps = answered.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let gap = gaps.max().unwrap();
    assert!(gap <= GAP_MAX, "nobody was answered for {gap:?}");
    for (_, location) in &answered {
        let found = Request::get(location).send(to).unwrap();
        assert_eq!(found.status, 200, "{location}: {}", found.text());
    }
    server.end(Signal::TERM);
}
