//! Tokens from an OAuth server that others wrote.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use forebay_buffer::{Clock as _, SystemClock};
use forebay_processor::oms::http::{Auth, Http};
use forebay_processor::{CallFailure, OrderManagement, Outcome};
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::http::options;
use crate::support::{in_time, order};

const ID: &str = "fore:bay";
const SECRET: &str = "of the tests & more: 100 %+";

/// An OMS behind it.
struct Guarded {
    child: Child,
    address: String,
    secrets: TempDir,
}

impl Guarded {
    /// `None`, which is said, where there is no such server to run.
    fn start() -> Option<Self> {
        let Some(package) = package() else {
            assert!(std::env::var_os("CI").is_none(), "CI must have Node.js and oidc-provider");
            println!("skipped: no Node.js, or no oidc-provider in the build's tools");
            return None;
        };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/foreign/oauth.mjs");
        let mut node = Command::new("node");
        node.arg(script).arg(package).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = node.stderr(Stdio::null()).spawn().unwrap();
        let mut port = String::new();
        // Its stdout ends with it, so this waits for no longer than it lives.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let address = format!("127.0.0.1:{}", port.trim());
        Some(Self { child, address, secrets: tempdir().unwrap() })
    }

    fn oms(&self, secret: &str, scope: Option<&str>) -> Http {
        let file = |name: &str, text: &str| {
            let path = self.secrets.path().join(name);
            std::fs::write(&path, format!("{text}\n")).unwrap();
            path
        };
        let url = format!("http://{}", self.address);
        let auth = Auth::ClientCredentials {
            token_url: format!("{url}/token"),
            client_id_file: file("id", ID),
            client_secret_file: file("secret", secret),
            scope: scope.map(str::to_owned),
        };
        let mut options = options(url);
        (options.create.batch, options.create.answers.items) = (1, None);
        options.auth = auth;
        options.answer_timeout = Duration::from_secs(30);
        Http::open(options).unwrap()
    }

    async fn ask(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let head = format!("GET {path} HTTP/1.0\r\nhost: oms\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Where `cargo xtask ci` puts it.
fn package() -> Option<PathBuf> {
    let node = Command::new("node").arg("--version").output();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
    let package = target.join("tools/oidc-provider/node_modules/oidc-provider/lib/index.js");
    (node.is_ok_and(|node| node.status.success()) && package.exists()).then_some(package)
}

async fn created(oms: &Http, n: usize) {
    let outcome = in_time("a submit", oms.submit(&[order(&n.to_string())])).await;
    assert!(matches!(outcome.as_deref(), Ok([Outcome::Created { .. }])), "{outcome:?}");
}

#[tokio::test]
async fn tokens_of_a_server_that_others_wrote_are_had_renewed_in_time_and_after_a_refusal() {
    let Some(guarded) = Guarded::start() else { return };
    let oms = guarded.oms(SECRET, Some("orders"));
    let (began, mut sent, mut tokens) = (Instant::now(), 0, 0);
    // A token lives for two seconds. However slow this machine is: none that had ended was taken for a call, and none was had before
    // a second of the last was over.
    while tokens < 4 {
        let asked_at = seconds();
        created(&oms, sent).await;
        sent += 1;
        let seen = guarded.ask("/seen").await;
        let ends = seen["ends"].as_array().unwrap();
        assert_eq!((&seen["refused"], ends.len()), (&0.into(), sent), "{seen}");
        assert!(ends[sent - 1].as_i64().unwrap() > asked_at, "it had ended at {asked_at}: {seen}");
        tokens = seen["tokens"].as_u64().unwrap();
        assert!(tokens <= began.elapsed().as_secs() + 1, "{seen}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    guarded.ask("/revoke").await;
    created(&oms, sent).await;
    let seen = guarded.ask("/seen").await;
    assert_eq!((&seen["created"], &seen["refused"]), (&(sent + 1).into(), &1.into()), "{seen}");
    // One for the one that was refused, and one if that was old.
    assert!(seen["tokens"].as_u64().unwrap() <= tokens + 2, "{seen}");
}

/// Since 1970, by this machine's clock, as the server counts.
fn seconds() -> i64 {
    SystemClock.wall_ms() / 1_000
}

#[tokio::test]
async fn a_wrong_secret_and_a_scope_that_is_not_ours_are_no_credentials() {
    let Some(guarded) = Guarded::start() else { return };
    for (secret, scope) in [("wrong", None), (SECRET, Some("stock"))] {
        let oms = guarded.oms(secret, scope);
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await;
        assert_eq!(outcome, Err(CallFailure::Unauthenticated), "{scope:?}");
    }
    assert_eq!(guarded.ask("/seen").await["created"], 0);
}
