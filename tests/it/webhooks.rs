//! Webhooks of the real binary: who is told, over a kill and a restart, and what the command line says.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;

use serde_json::Value;

use crate::bodies::{JSON, own, until_summary};
use crate::harness::{Forebay, Request, WAIT};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";

/// A receiver that answers this, and passes on what it took.
struct Receiver {
    port: u16,
    status: Arc<AtomicU16>,
    taken: mpsc::Receiver<Value>,
    directory: tempfile::TempDir,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let status = Arc::new(AtomicU16::new(204));
        let (take, taken) = mpsc::sync_channel(20_000);
        let answers = Arc::clone(&status);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A connection that is cut is the sender's to make again.
                one(stream, answers.load(Ordering::SeqCst), &take).ok();
            }
        });
        let directory = tempfile::Builder::new().prefix("forebay-it-").tempdir().unwrap();
        std::fs::write(directory.path().join("secret"), SECRET).unwrap();
        Self { port, status, taken, directory }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// The section that has it told everything.
    fn config(&self) -> String {
        format!(
            "[webhooks.mail]\nurl = \"http://127.0.0.1:{}/hooks\"\nsecret_file = {:?}\nretry_base = \"5ms\"\n\
             retry_max = \"50ms\"\n",
            self.port,
            self.directory.path().join("secret"),
        )
    }

    fn config_file(&self) -> PathBuf {
        let path = self.directory.path().join("forebay.toml");
        std::fs::write(&path, self.config()).unwrap();
        path
    }

    fn next(&self) -> Value {
        self.taken.recv_timeout(WAIT).unwrap()
    }

    /// Takes until each of these orders is summarised; what each was told, by its id, repeats apart.
    fn until_summarised(&self, ids: &[String]) -> BTreeMap<String, Vec<String>> {
        let mut told = BTreeMap::<_, Vec<String>>::new();
        let mut newest = BTreeMap::<_, u64>::new();
        while !ids.iter().all(|id| told.get(id).is_some_and(|words| words.len() > 1)) {
            let event = self.next();
            let order = event["data"]["id"].as_str().unwrap().to_owned();
            let sequence: u64 =
                event["id"].as_str().unwrap().split('-').next().unwrap().parse().unwrap();
            let before = newest.entry(order.clone()).or_default();
            if sequence > *before {
                *before = sequence;
                let word = event["type"].as_str().unwrap().strip_prefix("forebay.order.").unwrap();
                told.entry(order).or_default().push(word.to_owned());
            }
        }
        told
    }
}

fn one(stream: TcpStream, status: u16, take: &mpsc::SyncSender<Value>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(WAIT))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    if status == 204 {
        let events = match serde_json::from_slice(&body)? {
            Value::Array(events) => events,
            event => vec![event],
        };
        events.into_iter().for_each(|event| take.send(event).unwrap());
    }
    let length = if status == 204 { "" } else { "content-length: 0\r\n" };
    let answer = format!("HTTP/1.1 {status} So\r\n{length}connection: close\r\n\r\n");
    reader.into_inner().write_all(answer.as_bytes())
}

fn run(arguments: &[&str], config: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(arguments).arg("--config").arg(config).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_ping_says_in_words_what_came_back() {
    let receiver = Receiver::start();
    let config = receiver.config_file();
    let taken = run(&["webhooks", "test", "mail"], &config);
    assert_eq!(taken.status.code(), Some(0), "{}", text(&taken.stderr));
    assert_eq!(text(&taken.stdout), "taken: mail answered 204 No Content\n");
    assert_eq!(receiver.next()["type"], "forebay.ping");

    receiver.answers(401);
    let refused = run(&["webhooks", "test", "mail"], &config);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("does it have the same secret?"),
        "{}",
        text(&refused.stderr)
    );
    let json = run(&["webhooks", "test", "mail", "--json"], &config);
    let said: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &said["ok"]), (Some(1), &Value::Bool(false)));

    let unknown = run(&["webhooks", "test", "male"], &config);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("configured: mail"), "{}", text(&unknown.stderr));

    std::fs::write(receiver.directory.path().join("secret"), "hush").unwrap();
    let wrong = run(&["config", "check"], &config);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("webhooks.mail.secret_file: "), "{}", text(&wrong.stderr));
    assert!(!text(&wrong.stderr).contains("hush"));
}

#[test]
fn every_order_is_told_of_in_its_order_over_a_kill_and_a_restart() {
    let receiver = Receiver::start();
    let mut server = Forebay::start(&receiver.config());
    let post = |server: &Forebay, id: &String| {
        let answer = server.post("forebay", JSON, own(id, "10.00").as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    };
    let ids = |from: u32| (from..from + 8).map(|n| format!("told-{n}")).collect::<Vec<_>>();
    let first = ids(0);
    first.iter().for_each(|id| post(&server, id));
    let in_order = |told: BTreeMap<String, Vec<String>>, ids: &[String]| {
        for id in ids {
            assert_eq!(told[id], ["accepted", "summarised"], "{id}");
        }
    };
    in_order(receiver.until_summarised(&first), &first);
    server.until("an endpoint that is up to date", |server| {
        let webhook = server.view("/v1/status")["webhooks"][0].clone();
        (webhook["state"] == "ok"
            && webhook["waiting_since_ms"].is_null()
            && webhook["taken"] == 16)
            .then_some(())
    });

    // The receiver is down; the drain does not mind, and readiness neither.
    receiver.answers(503);
    let second = ids(100);
    second.iter().for_each(|id| post(&server, id));
    for id in &second {
        until_summary(&server, &format!("forebay:demo:{id}"));
    }
    let failing = server.until("an endpoint that fails", |server| {
        let webhook = server.view("/v1/status")["webhooks"][0].clone();
        (webhook["state"] == "failing").then_some(webhook)
    });
    assert_eq!(failing["error"], "it answered 503 Service Unavailable");
    assert_eq!(server.operate(&Request::get("/readyz")).status, 200);
    let metrics = server.operate(&Request::get("/metrics")).text();
    for name in [
        "forebay_webhook_requests_total{endpoint=\"mail\",outcome=\"refused\"}",
        "forebay_webhook_events_total{endpoint=\"mail\"} 16",
        "forebay_webhook_stopped{endpoint=\"mail\"} 0",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    server.kill();
    receiver.answers(204);
    server.start_again();
    in_order(receiver.until_summarised(&second), &second);

    // Stopped in order, it repeats nothing and leaves nothing out.
    server.stop();
    server.start_again();
    let third = ids(200);
    third.iter().for_each(|id| post(&server, id));
    let told = receiver.until_summarised(&third);
    assert_eq!(told.len(), third.len(), "{told:?}");
    in_order(told, &third);
}

#[test]
fn a_receiver_that_was_down_for_too_long_goes_on_with_what_is_kept_and_that_is_said() {
    let receiver = Receiver::start();
    let channel = "[channels.forebay]\nformat = \"forebay\"\ncaller = \"api\"\nsource = \"demo\"\nhold_for = \"1h\"\n";
    let feed = "[feed]\nkeep = \"2MiB\"\n";
    let server = Forebay::start(&format!("{}batch = 100\n{feed}{channel}", receiver.config()));
    let answer = server.post("forebay", JSON, own("first", "10.00").as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(receiver.next()["data"]["id"], "first");

    receiver.answers(503);
    let long = "x".repeat(150);
    for batch in 0..5 {
        let orders = (0..2_500).map(|n| own(&format!("{batch}-{n}-{long}"), "10.00") + "\n");
        let orders = orders.collect::<String>();
        let answer = server.post("forebay", "application/x-ndjson", orders.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    receiver.answers(204);
    let last = format!("4-2499-{long}");
    let mut told = 0_u32;
    while receiver.next()["data"]["id"] != last.as_str() {
        told += 1;
    }
    assert!((100..12_499).contains(&told), "{told}");
    let webhook = server.until("an endpoint that is up to date", |server| {
        let webhook = server.view("/v1/status")["webhooks"][0].clone();
        webhook["waiting_since_ms"].is_null().then_some(webhook)
    });
    assert_eq!((&webhook["missed"], &webhook["state"]), (&1.into(), &"ok".into()), "{webhook}");
    assert!(
        server
            .log()
            .contains("events were given up before this webhook's receiver had been told them")
    );
}
