//! An OMS in a thread, and a caller that sees every byte.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forebay_reference_oms::{Dialect, Faults, Judgement, Options, Server, TlsFiles};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// How long anything waited for may take.
pub(crate) const WAIT: Duration = Duration::from_secs(30);

pub(crate) const ID: &str = "forebay";
pub(crate) const SECRET: &str = "a secret & more";

/// A running OMS; dropping it stops it in order.
pub(crate) struct Oms {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Where its ledger is, if it is its own.
    _directory: Option<tempfile::TempDir>,
}

pub(crate) fn options(db: &Path) -> Options {
    Options { batch_max: 100, ..Options::new(db.to_owned(), ID, SECRET) }
}

impl Oms {
    /// On a fresh ledger, with these faults.
    pub(crate) fn start(faults: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut oms = Self::start_on(&directory.path().join("oms.db"), faults);
        oms._directory = Some(directory);
        oms
    }

    /// On a fresh ledger, in this dialect.
    pub(crate) fn start_as(dialect: Dialect) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = options(&directory.path().join("oms.db"));
        let mut oms = Self::start_with(Options { dialect, ..options });
        oms._directory = Some(directory);
        oms
    }

    /// On this ledger.
    pub(crate) fn start_on(db: &Path, faults: &Value) -> Self {
        let faults = Faults::read(&faults.to_string()).unwrap();
        Self::start_with(Options { faults, ..options(db) })
    }

    pub(crate) fn start_tls(db: &Path, files: TlsFiles) -> Self {
        Self::start_with(Options { tls: Some(files), ..options(db) })
    }

    fn start_with(options: Options) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread();
            let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::open(&options, listener).unwrap();
                assert_eq!(server.address(), address);
                server.run(async { drop(stopped.await) }).await;
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread), _directory: None }
    }

    /// Asks and reads to the end of the connection.
    pub(crate) fn ask(&self, request: &Request<'_>) -> Seen {
        let mut stream = self.connect();
        request.send(&mut stream);
        Seen::read(stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(WAIT)).unwrap();
        stream
    }

    /// A token, by the form.
    pub(crate) fn token(&self) -> String {
        let answer = self.ask(&Request::token(SECRET)).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    /// One create call of these orders, each by its identity.
    pub(crate) fn create(&self, token: &str, identities: &[&str]) -> Seen {
        self.ask(&Request::create(token, &batch(identities)))
    }

    /// What one create call of one order was told about it.
    pub(crate) fn create_one(&self, token: &str, identity: &str) -> Value {
        let answer = self.create(token, &[identity]).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["results"][0].clone()
    }

    /// The identities of these that a look-up gives.
    pub(crate) fn find(&self, token: &str, identities: &[&str]) -> Vec<String> {
        let query: Vec<_> = identities.iter().map(|id| format!("identity={id}")).collect();
        let path = format!("/v1/orders?{}", query.join("&"));
        let answer = self.ask(&Request::get(&path).bearer(token)).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        let items = answer.body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["identity"].as_str().unwrap().to_owned()).collect()
    }

    /// A page of all orders.
    pub(crate) fn list(&self, token: &str, after: i64, limit: usize) -> Vec<Value> {
        let path = format!("/v1/orders/list?after={after}&limit={limit}");
        let answer = self.ask(&Request::get(&path).bearer(token)).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["items"].as_array().unwrap().clone()
    }

    pub(crate) fn control(&self, change: &Value) {
        let answer = self.ask(&Request::post("/control", &change.to_string())).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    pub(crate) fn judge(&self) -> Judgement {
        let answer = self.ask(&Request::get("/judge")).answer();
        assert_eq!(answer.status, 200, "{answer:?}");
        serde_json::from_value(answer.body).unwrap()
    }
}

impl Drop for Oms {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the OMS died");
    }
}

pub(crate) fn batch(identities: &[&str]) -> String {
    let orders: Vec<_> = identities
        .iter()
        .map(|identity| {
            json!({
                "identity": identity,
                "fingerprint": format!("f-{identity}"),
                "order": { "currency": "EUR", "totals": { "grand_total": "28.44" } },
            })
        })
        .collect();
    json!({ "orders": orders }).to_string()
}

/// Asks again until something is so; fails the test with `what` after [`WAIT`].
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < WAIT, "no {what} within {WAIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A request, on a connection of its own.
pub(crate) struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(String, String)>,
    body: String,
}

impl<'a> Request<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self { method: "GET", path, headers: Vec::new(), body: String::new() }
    }

    pub(crate) fn post(path: &'a str, body: &str) -> Self {
        Self { method: "POST", path, headers: Vec::new(), body: body.to_owned() }
    }

    pub(crate) fn put(path: &'a str, body: &str) -> Self {
        Self { method: "PUT", ..Self::post(path, body) }
    }

    pub(crate) fn create(token: &str, body: &str) -> Self {
        Self::post("/v1/orders", body).bearer(token)
    }

    pub(crate) fn token(secret: &str) -> Self {
        let secret = secret.replace('&', "%26").replace(' ', "+");
        let form = format!("grant_type=client_credentials&client_id={ID}&client_secret={secret}");
        Self::post("/oauth/token", &form)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: oms\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let length = self.body.len();
        head.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
        head
    }

    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    fn send(&self, stream: &mut TcpStream) {
        stream.write_all(format!("{}{}", self.head(), self.body).as_bytes()).unwrap();
    }
}

/// What came on a connection until its end.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) text: String,
    /// It was reset, not closed.
    pub(crate) reset: bool,
}

impl Seen {
    pub(crate) fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        let reset = match stream.read_to_end(&mut bytes) {
            Ok(_) => false,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
            Err(error) => panic!("{error}"),
        };
        Self { text: String::from_utf8(bytes).unwrap(), reset }
    }

    /// The length of the body that was announced, and the body that came.
    pub(crate) fn body(&self) -> (usize, &str) {
        let (head, body) = self.text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        (length.map_or(0, |length| length.parse().unwrap()), body)
    }

    /// A whole answer.
    pub(crate) fn answer(&self) -> Answer {
        let (length, body) = self.body();
        assert_eq!(body.len(), length, "{self:?}");
        let (head, _) = self.text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
        Answer { status, head: head.to_owned(), body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Answer {
    /// A header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).into_iter().next()
    }

    /// All of that name.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter_map(|(found, value)| (found == name).then_some(value)).collect()
    }
}
