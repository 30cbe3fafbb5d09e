//! Two real processes on one NATS server, with ceilings that differ: the smaller one holds for both, and everyone says so.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{Forebay, Request, WAIT};

/// A NATS server of its own, which ends with the test.
struct Nats {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Nats {
    /// `None`, which is said, where there is no server to run.
    #[expect(clippy::disallowed_methods, reason = "a server is asked again, it announces nothing")]
    fn start() -> Option<Self> {
        let Some(binary) = binary() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have nats-server");
            println!("skipped: no nats-server on the path or in the build's tools");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = directory.path().join("server.conf");
        let store = directory.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nmax_payload: 8MB\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(binary);
        command.arg("--config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let start = std::time::Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(start.elapsed() < WAIT, "the NATS server takes no connection");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Some(Self { child, port, _directory: directory })
    }

    /// A process with that ceiling.
    fn config(&self, oms: &Path, ceiling: u32) -> String {
        format!(
            "[buffer]\nbackend = \"nats\"\n[nats]\nservers = [\"nats://127.0.0.1:{}\"]\nreplicas = 1\npartitions = 8\nlease = \"4s\"\n\
             outcome_ttl = \"3650d\"\n[drain]\nceiling_per_s = {ceiling}.0\n[oms]\nkind = \"ledger\"\ntest = true\npath = {oms:?}\n",
            self.port
        )
    }
}

fn binary() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
    let tools = target.join("tools/nats-server/bin/nats-server");
    [PathBuf::from("nats-server"), tools].into_iter().find(|binary| {
        let mut version = Command::new(binary);
        version.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        version.status().is_ok_and(|status| status.success())
    })
}

/// Waits until a process keeps to that ceiling with half of it, and says whether it differs.
fn until_ceiling(server: &Forebay, ceiling: u32, differs: bool) -> Value {
    server.until("that ceiling, and half of it", |server| {
        let status = server.view("/v1/status");
        let drain = &status["drain"];
        let is = drain["ceiling_per_s"] == f64::from(ceiling) && drain["share"] == 0.5;
        let fleet = &status["buffer"]["fleet"]["differs"];
        (is && fleet.is_string() == differs).then(|| fleet.clone())
    })
}

fn doctor(server: &Forebay) -> String {
    let config = server.beside().join("forebay.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("doctor").arg("--data-dir").arg(server.data_dir()).arg("--config").arg(config);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

/// The most that was committed in any second.
fn most_in_a_second(summaries: &[Value]) -> usize {
    let at = |one: &Value| one["committed_at_us"].as_i64().unwrap();
    let mut at: Vec<_> = summaries.iter().map(at).collect();
    at.sort_unstable();
    let within = |from: &i64| at.iter().filter(|us| (*from..from + 1_000_000).contains(us)).count();
    at.iter().map(within).max().unwrap_or_default()
}

#[test]
fn the_ceiling_is_lowered_one_process_after_the_other_and_the_smaller_one_holds() {
    const HIGH: u32 = 60;
    const LOW: u32 = 20;
    let Some(nats) = Nats::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let oms = directory.path().join("oms.ledger");
    let mut one = Forebay::start(&nats.config(&oms, HIGH));
    let mut other = Forebay::start(&nats.config(&oms, HIGH));
    for server in [&one, &other] {
        until_ceiling(server, HIGH, false);
    }
    other.stop();
    other.configure(&nats.config(&oms, LOW));
    other.start_again();
    for server in [&one, &other] {
        let said = until_ceiling(server, LOW, true);
        let said = said.as_str().unwrap();
        assert!(said.contains("drain.ceiling_per_s is 20 in "), "{said}");
        assert!(said.contains(&format!("pid {}", one.pid())), "{said}");
        let ready = server.operate(&Request::get("/readyz?verbose"));
        assert_eq!(ready.status, 200, "orders are taken in as ever: {}", ready.text());
        assert!(ready.text().contains("[!] fleet: drain.ceiling_per_s is 20"), "{}", ready.text());
        assert!(server.log().contains("drain.ceiling_per_s is 20"), "{}", server.log());
        let metrics = server.operate(&Request::get("/metrics")).text();
        assert!(metrics.contains("forebay_buffer_limits_differ 1"), "{metrics}");
        let examined = doctor(server);
        let line = examined.lines().find(|line| line.starts_with("warn  fleet"));
        assert!(line.is_some_and(|line| line.contains("drain.ceiling_per_s is 20")), "{examined}");
    }
    let body = include_str!("orders/forebay.json");
    for n in 0..60 {
        let body = body.replace("smoke-1", &format!("fleet-{n}"));
        let server = if n % 2 == 0 { &one } else { &other };
        assert_eq!(server.post("forebay", "application/json", body.as_bytes()).status, 202);
    }
    one.until("all of them in the OMS", |server| (server.summaries().len() == 60).then_some(()));
    // Of each a burst of one order, one call that gathers, and one on its way.
    let most = most_in_a_second(&one.summaries());
    assert!(most <= LOW as usize + 2 * 3, "{most} in one second");
    // The last one that has another is restarted, and it is the same again.
    one.stop();
    one.configure(&nats.config(&oms, LOW));
    one.start_again();
    for server in [&one, &other] {
        until_ceiling(server, LOW, false);
    }
    assert!(doctor(&one).lines().any(|line| line.starts_with("ok    fleet")), "{}", doctor(&one));
}
