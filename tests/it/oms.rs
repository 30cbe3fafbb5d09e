//! `forebay oms serve`: ready, killed, started again, stopped in order; and what it tells `forebay serve` by itself.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::harness::{Answer, Forebay, Request};

pub(crate) struct Oms {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Oms {
    fn start(directory: &Path) -> Self {
        Self::start_with(&[], directory)
    }

    /// One that speaks this dialect.
    pub(crate) fn start_as(dialect: &str, directory: &Path) -> Self {
        Self::start_with(&["--dialect", dialect], directory)
    }

    /// One with these arguments besides.
    pub(crate) fn start_with(arguments: &[&str], directory: &Path) -> Self {
        let mut command = command(directory);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        // Its stdout ends with it, so this waits for no longer than it lives.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&ready["event"], &ready["pid"]), (&json!("ready"), &json!(child.id())));
        let listen = ready["ready"]["listen"].as_str().unwrap();
        let address = listen.split_once("://").unwrap().1;
        Self { child, address: address.parse().unwrap() }
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

    /// As `kill -9` does; returns once it is gone.
    pub(crate) fn kill(self) {
        self.end(Signal::KILL);
    }

    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
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
        "[oms]\nkind = \"http\"\nurl = \"http://{address}\"\ntest = true\nclaim = \"none\"\n\
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

/// A Forebay that sends orders to that OMS, and cannot ask it.
fn selling(directory: &Path, oms: &Oms, more: &str) -> Forebay {
    let (address, at) = (oms.address, directory.display());
    let claim = if more.contains("[oms.claim]") { "" } else { "claim = \"none\"\n" };
    Forebay::start(&format!(
        "[oms]\nkind = \"http\"\nurl = \"http://{address}\"\ntest = true\naccept_doubles = true\n{claim}{more}\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"http://{address}/oauth/token\"\n\
         client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
         [oms.create]\npath = \"/v1/orders\"\nbatch = 10\nanswers = {{ items = \"/results\" }}\n\
         [oms.limits]\noutstanding = 60\n[drain]\nceiling_per_s = 500.0\n"
    ))
}

fn post_orders(server: &Forebay, orders: std::ops::Range<u32>) {
    for n in orders {
        let body = format!(
            r#"{{"id":"{n}","currency":"EUR","placed_at":"2026-11-27T09:00:00Z","lines":[{{"sku":"BOWL","name":"Bowl","quantity":1,"unit_price":"10.00","amount":"10.00"}}],"totals":{{"grand":"10.00"}}}}"#
        );
        let answer = server.post("forebay", "application/json", body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}

fn count(server: &Forebay, pointer: &str) -> u64 {
    server.view("/v1/status").pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

pub(crate) fn control(oms: &Oms, change: &Value) {
    let answer = send(&Request::post("/control", change.to_string().as_bytes()), oms.address);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What each telling came to.
fn tell(server: &Forebay, body: &str) -> Vec<String> {
    let answer = server.operate(&Request::post("/v1/oms/outcomes", body.as_bytes()));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let word = |told: &Value| told["answer"].as_str().unwrap().to_owned();
    answer.json()["results"].as_array().unwrap().iter().map(word).collect()
}

/// As many orders are outstanding as may be, and none is with a worker.
/// How many are outstanding where no more may be: up to a tenth less than the 60.
fn full(server: &Forebay) -> Option<u64> {
    let (outstanding, lent) =
        (count(server, "/drain/outstanding"), count(server, "/buffer/live/leased"));
    ((55..=60).contains(&outstanding) && lent == 0).then_some(outstanding)
}

#[test]
fn what_the_oms_tells_closes_its_tickets_through_a_kill_and_has_one_effect() {
    let faults = r#"{"unique": false, "async_after_ms": 1000, "async_refuse_every": 8}"#;
    let directory = directory(faults);
    let oms = Oms::start(directory.path());
    let mut server = selling(directory.path(), &oms, "");
    post_orders(&server, 0..200);
    let outstanding = server.until("as many as may be", full);
    let status = server.view("/v1/status");
    assert_eq!(status["drain"]["limiter"], "outstanding", "{status}");
    assert_eq!(
        (&status["drain"]["outstanding_max"], count(&server, "/buffer/live/pending")),
        (&json!(60), 200 - outstanding)
    );

    // Dead between ticket and outcome: it still knows what is outstanding, and sends nothing more.
    server.kill();
    server.start_again();
    assert_eq!(server.until("the same after a kill", full), outstanding);
    let received = || send(&Request::get("/judge"), oms.address).json()["orders_received"].clone();
    let received = &received;
    assert_eq!(received(), outstanding);

    // From now on the OMS tells, and so it is sent the rest.
    control(&oms, &json!({ "tell": format!("http://{}/v1/oms/outcomes", server.ops) }));
    let ended = |server: &Forebay| {
        let refused = count(server, "/buffer/exceptions/rejected");
        (count(server, "/buffer/ended/summarised") + refused == 200).then_some(refused)
    };
    // What is refused is sent once more, half a minute later.
    let more_than =
        |count: u64| move |_: &Forebay| received().as_u64().filter(|sent| *sent > count);
    server.until("all of it sent", more_than(199));
    server.until("one that was refused sent again", more_than(200));
    let refused = server.until("an outcome of each", ended);
    assert!(refused > 0 && count(&server, "/drain/outstanding") == 0, "{refused}");
    let judged = send(&Request::get("/judge"), oms.address).json();
    // Each that was refused was sent once more.
    let sent = 200 + refused;
    assert_eq!((&judged["doubles"], &judged["orders_received"]), (&json!(0), &json!(sent)));

    // All of it again.
    control(&oms, &json!({ "tell_again": true }));
    let known = "forebay_buffer_told_total{effect=\"already_known\"}";
    server.until("all of it told again", |server| {
        let metrics = server.operate(&Request::get("/metrics")).text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(known))?;
        (line.trim().parse::<f64>().ok()? >= 200.0).then_some(())
    });
    assert_eq!(ended(&server), Some(refused));
    assert_eq!(received(), sent);
}

#[test]
fn what_is_told_wrongly_changes_nothing_and_says_so() {
    let directory = directory(r#"{"async_after_ms": 3600000}"#);
    let oms = Oms::start(directory.path());
    let server = selling(directory.path(), &oms, "");
    post_orders(&server, 0..1);
    server.until("a ticket", |server| (count(server, "/drain/outstanding") == 1).then_some(()));
    let body = r#"{"identity":"forebay:demo:1","outcome":"created","id":"SO-1"}
        {"identity":"forebay:demo:0","ticket":"TK-9","outcome":"invalid","code":"NO","reason":"no"}
        {"ticket":"TK-9","outcome":"created","id":"SO-1"}
        {"identity":"forebay:demo","outcome":"created","id":"SO-1"}
        {"identity":"#;
    let expected = ["unknown_order", "other_ticket", "unknown_order", "malformed", "malformed"];
    assert_eq!(tell(&server, body), expected);
    let refused = |body: &[u8]| {
        let answer = server.operate(&Request::post("/v1/oms/outcomes", body));
        (answer.status, answer.json()["type"].as_str().unwrap().to_owned())
    };
    let problem = |word: &str| format!("https://forebay.dev/problems/{word}");
    assert_eq!(refused(b""), (400, problem("malformed")));
    assert_eq!(refused(b"[{"), (400, problem("malformed")));
    assert_eq!(refused(&vec![b' '; (1 << 20) + 1]), (413, problem("too-large")));
    assert_eq!(refused("{}\n".repeat(1_001).as_bytes()), (413, problem("too-large")));
    assert_eq!(count(&server, "/drain/outstanding"), 1);

    // By its ticket; then by its identity, for a ticket that is closed is not known any more.
    let created = r#"[{"ticket":"TK-0000000001","outcome":"created","id":"SO-0000000001"},
        {"identity":"forebay:demo:0","outcome":"created","id":"SO-0000000001"},
        {"identity":"forebay:demo:0","outcome":"created","id":"SO-0000000002"},
        {"identity":"forebay:demo:0","outcome":"invalid","code":"NO"}]"#;
    for first in ["done", "unknown_order"] {
        let expected = [first, "already_known", "other_summary", "not_submitted"];
        assert_eq!(tell(&server, created), expected);
    }
    let order = server.view("/v1/orders/forebay/demo/0");
    assert_eq!(
        (&order["state"], &order["summary_id"]),
        (&json!("summarised"), &json!("SO-0000000001"))
    );
}

#[test]
fn where_a_secret_is_configured_nothing_unsigned_is_taken() {
    let directory = directory("{}");
    let oms = Oms::start(directory.path());
    let secret = directory.path().join("outcomes.secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let more = format!("outcomes_secret_file = \"{}\"\n", secret.display());
    let server = selling(directory.path(), &oms, &more);
    let body = br#"{"ticket":"TK-1","outcome":"created","id":"SO-1"}"#;
    let unsigned = Request::post("/v1/oms/outcomes", body);
    // One of long ago, of another body.
    let stale = unsigned
        .clone()
        .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header("webhook-timestamp", "1614265330")
        .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    for request in [unsigned, stale] {
        let answer = server.operate(&request);
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.json()["type"], "https://forebay.dev/problems/not-signed");
    }
}

#[test]
fn of_two_fleets_over_http_one_has_the_claim_and_the_other_says_whose_it_is() {
    let directory = directory("{}");
    let oms = Oms::start(directory.path());
    let note = "[oms.claim]\npath = \"/v1/records/forebay\"\n";
    let limiter = |server: &Forebay, what: &str| {
        server.until("the claim", |server| {
            let drain = server.view("/v1/status")["drain"].clone();
            let why = drain["why"].as_str().unwrap_or_default().to_owned();
            (drain["limiter"] == "claim" && why.contains(what)).then_some(why)
        })
    };
    let mut first = selling(directory.path(), &oms, note);
    limiter(&first, "claim on the OMS is new");
    let mut second = selling(directory.path(), &oms, note);
    post_orders(&second, 0..3);
    limiter(&second, "drains to this OMS since");
    // Only an operator moves it, and it is told.
    let take = Request::post("/v1/oms/claim?take=true", b"");
    assert_eq!(second.operate(&take).json()["claim"], "ours");
    assert_eq!(first.operate(&Request::post("/v1/oms/claim", b"")).json()["claim"], "theirs");
    assert_eq!(
        count(&second, "/buffer/live/pending"),
        3,
        "nothing is sent before the wait is over"
    );
    assert!(first.stop().success() && second.stop().success());
}
