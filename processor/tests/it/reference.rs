//! The reference OMS, reached over HTTP with tokens that end.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use forebay_processor::oms::http::{
    Answers, Auth, CallLimits, ClaimNote, Create, Find, Http, HttpOptions, List, Meaning, Method,
    Rule,
};
use forebay_processor::{Oms, Scope};
use forebay_reference_oms::{Faults, Options, Server};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ID: &str = "forebay";
const SECRET: &str = "of the tests & more";

/// A reference OMS that serves until its test ends.
pub(crate) struct Reference {
    pub(crate) url: String,
    directory: std::path::PathBuf,
}

impl Reference {
    /// The one of the directory; started if it is not running. It lives as long as this process.
    pub(crate) fn of(directory: &Path, faults: &Value) -> Self {
        let told = directory.join("reference.url");
        let url = std::fs::read_to_string(&told).unwrap_or_else(|_| {
            let url = start(directory, faults);
            std::fs::write(&told, &url).unwrap();
            for (name, secret) in [("client.id", ID), ("client.secret", SECRET)] {
                std::fs::write(directory.join(name), format!("{secret}\n")).unwrap();
            }
            url
        });
        Self { url, directory: directory.to_owned() }
    }

    /// How it is reached.
    pub(crate) fn options(&self) -> HttpOptions {
        HttpOptions {
            url: self.url.clone(),
            roots: None,
            test: true,
            connections: 4,
            identity_max: 255,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            auth: Auth::ClientCredentials {
                token_url: format!("{}/oauth/token", self.url),
                client_id_file: self.directory.join("client.id"),
                client_secret_file: self.directory.join("client.secret"),
                scope: None,
            },
            header_files: BTreeMap::new(),
            csrf_path: None,
            create: Create {
                method: Method::Post,
                headers: BTreeMap::new(),
                values: BTreeMap::new(),
                path: "/v1/orders".to_owned(),
                body: None,
                batch: 1_000,
                bytes: 8 << 20,
                idempotency_header: None,
                refuses_second: true,
                answers: Answers { items: Some("/results".to_owned()), ..Answers::default() },
            },
            find: Some(Find {
                url: None,
                path: "/v1/orders?{% for i in identities %}identity={{ i }}&{% endfor %}"
                    .to_owned(),
                batch: 100,
                items: Some("/items".to_owned()),
                identity: "/identity".to_owned(),
                id: "/id".to_owned(),
                fingerprint: Some("/fingerprint".to_owned()),
                visible_after: Duration::ZERO,
            }),
            list: Some(List {
                path: "/v1/orders/list?after={{ after }}&limit={{ limit }}".to_owned(),
                items: "/items".to_owned(),
            }),
            claim: Some(ClaimNote {
                url: None,
                path: "/v1/records/forebay".to_owned(),
                method: Method::Put,
                write_path: None,
                body: None,
                fleet: "/fleet".to_owned(),
                since_ms: "/since_ms".to_owned(),
            }),
            rules: vec![
                overloaded(403, "REQUEST_LIMIT_EXCEEDED", Scope::Day),
                overloaded(400, "SSS_REQUEST_LIMIT_EXCEEDED", Scope::Concurrency),
                // Also where errors are told inside a 200.
                Rule {
                    status: None,
                    code: Some("TRY_LATER".to_owned()),
                    is: Meaning::Retry,
                    scope: Scope::Second,
                },
            ],
            limits: CallLimits::default(),
            calls_kept: None,
        }
    }

    pub(crate) fn http(&self) -> Http {
        Http::open(self.options()).unwrap()
    }

    /// Changes its faults.
    pub(crate) async fn control(&self, faults: Value) {
        let (status, said) = self.call("POST", "/control", &faults.to_string()).await;
        assert_eq!(status, 200, "{said}");
    }

    /// What it saw.
    pub(crate) async fn judge(&self) -> Value {
        let (status, said) = self.call("GET", "/judge", "").await;
        assert_eq!(status, 200, "{said}");
        serde_json::from_str(&said).unwrap()
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let address = self.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: oms\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

fn overloaded(status: u16, code: &str, scope: Scope) -> Rule {
    Rule { status: Some(status), code: Some(code.to_owned()), is: Meaning::Overloaded, scope }
}

fn start(directory: &Path, faults: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let faults = Faults::read(&faults.to_string()).unwrap();
    let options = Options { faults, ..Options::new(directory.join("reference.db"), ID, SECRET) };
    // A thread of its own, as a process would be; it ends with the tests.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::open(&options, listener).unwrap();
            server.run(std::future::pending()).await;
        });
    });
    url
}

/// The reference OMS of a directory.
pub(crate) fn oms(directory: &Path) -> Oms {
    Oms::Http(Reference::of(directory, &json!({})).http())
}
