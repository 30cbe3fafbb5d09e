//! `forebay oms serve`: ready, killed, started again, stopped in order.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Answer, Request};

pub(crate) struct Oms {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Oms {
    fn start(directory: &Path) -> Self {
        Self::start_as("generic", directory)
    }

    /// One that speaks this dialect.
    pub(crate) fn start_as(dialect: &str, directory: &Path) -> Self {
        let mut command = command(directory);
        let mut child =
            command.args(["--dialect", dialect]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // Its stdout ends with it, so this waits for no longer than it lives.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&ready["event"], &ready["pid"]), (&json!("ready"), &json!(child.id())));
        let listen = ready["ready"]["listen"].as_str().unwrap();
        Self { child, address: listen.strip_prefix("http://").unwrap().parse().unwrap() }
    }

    fn token(&self) -> String {
        let form = b"grant_type=client_credentials&client_id=me&client_secret=hush";
        let answer = send(&Request::post("/oauth/token", form), self.address);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    fn create(&self, token: &str) -> Value {
        let order = json!({ "identity": "a:b:1", "fingerprint": "f", "order": {} });
        let body = json!({ "orders": [order] }).to_string();
        let request = Request::post("/v1/orders", body.as_bytes());
        let bearer = format!("Bearer {token}");
        let answer = send(&request.header("Authorization", &bearer), self.address);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["results"][0].clone()
    }

    fn end(mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_raw(self.child.id().cast_signed()).unwrap(), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Oms {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.current_dir(directory).args(["oms", "serve", "--db", "oms.db"]);
    command.args(["--client-id-file", "id", "--client-secret-file", "secret"]);
    command.args(["--faults", "faults.json"]);
    command
}

/// With its secrets and faults.
pub(crate) fn directory(faults: &str) -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
    let files = [("id", "me\n"), ("secret", "hush\n"), ("faults.json", faults)];
    files
        .iter()
        .for_each(|(name, text)| std::fs::write(directory.path().join(name), text).unwrap());
    directory
}

fn send(request: &Request<'_>, to: SocketAddr) -> Answer {
    request.send(to).unwrap()
}

#[test]
fn what_the_reference_oms_answered_survives_a_kill() {
    let directory = directory(r#"{"visible_after_ms": 7}"#);
    let oms = Oms::start(directory.path());
    let first = oms.create(&oms.token());
    assert_eq!(first["status"], 201);
    oms.end(Signal::KILL);
    let oms = Oms::start(directory.path());
    let again = oms.create(&oms.token());
    assert_eq!((&again["status"], &again["id"]), (&json!(409), &first["id"]));
    let judged = send(&Request::get("/judge"), oms.address).json();
    assert_eq!((&judged["creates"], &judged["calls"]), (&json!(1), &json!(4)));
    assert_eq!(send(&Request::get("/control"), oms.address).json()["visible_after_ms"], 7);
    assert!(oms.end(Signal::TERM).success());
}

#[test]
fn wrong_faults_stop_the_start() {
    let directory = directory(r#"{"uniqe": true}"#);
    let output = command(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("faults.json") && said.contains("uniqe"), "{said}");
}

/// What `oms verify` says of the reference OMS, reached as `more` says beside the usual: level by name, and its exit status.
fn verify(faults: &str, find: &str, create: &str) -> (Value, Option<i32>) {
    let directory = directory(faults);
    let oms = Oms::start(directory.path());
    let address = oms.address;
    let config = format!(
        "[oms]\nkind = \"http\"\nurl = \"http://{address}\"\ntest = true\n\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"http://{address}/oauth/token\"\n\
         client_id_file = \"id\"\nclient_secret_file = \"secret\"\n\
         [oms.create]\npath = \"/v1/orders\"\nanswers = {{ items = \"/results\" }}\n{create}\n\
         [oms.find]\npath = \"/v1/orders?identity={{{{ identity }}}}\"\nitems = \"/items\"\n\
         identity = \"/identity\"\nid = \"/id\"\nfingerprint = \"/fingerprint\"\n{find}\n\
         [oms.limits]\ncalls_per_s = 4.0\n"
    );
    std::fs::write(directory.path().join("forebay.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.current_dir(directory.path());
    let output =
        command.args(["oms", "verify", "--config", "forebay.toml", "--json"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let levels = said["checks"].as_array().unwrap().iter();
    let levels =
        levels.map(|check| (check["name"].as_str().unwrap().to_owned(), check["level"].clone()));
    println!("{said:#}");
    (levels.collect::<serde_json::Map<_, _>>().into(), output.status.code())
}

#[test]
fn an_oms_is_verified_against_what_is_configured_of_it() {
    let (levels, status) = verify("{}", "visible_after = \"1s\"", "refuses_second = true");
    for name in ["guarantee", "look-up", "create", "visible", "repeat", "cut", "limit"] {
        assert_eq!(levels[name], "ok", "{name}: {levels}");
    }
    assert_eq!(status, Some(0));
}

#[test]
fn an_oms_that_is_not_as_configured_is_found_out() {
    let (levels, status) =
        verify(r#"{"unique": false}"#, "visible_after = \"1s\"", "refuses_second = true");
    assert_eq!((&levels["repeat"], status), (&json!("fail"), Some(1)), "{levels}");
    let slow = r#"{"visible_after_ms": 700}"#;
    let (levels, status) = verify(slow, "visible_after = \"0s\"", "refuses_second = true");
    assert_eq!((&levels["visible"], status), (&json!("fail"), Some(1)), "{levels}");
    let (levels, status) = verify(slow, "visible_after = \"2s\"", "refuses_second = true");
    assert_eq!(
        (&levels["visible"], &levels["cut"], status),
        (&json!("ok"), &json!("ok"), Some(0)),
        "{levels}"
    );
    let limit =
        r#"{"overloaded": {"status": 429, "code": "SLOW", "retry_after_s": 1, "every": 15}}"#;
    let (levels, status) = verify(limit, "visible_after = \"1s\"", "refuses_second = true");
    assert_eq!((&levels["limit"], status), (&json!("warn"), Some(0)), "{levels}");
    let (levels, status) = verify(r#"{"refuse_credentials": true}"#, "", "refuses_second = true");
    assert_eq!((&levels["look-up"], status), (&json!("fail"), Some(1)), "{levels}");
}
