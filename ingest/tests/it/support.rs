//! A door on a free port, and a client that says exactly what it is told to.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use forebay_buffer::{
    Act, ActError, ActReceipt, Admission, AppendError, Buffer, BufferError, Durability, Effect,
    Envelope, ExceptionRow, FeedCursor, FeedError, FeedPage, Lease, Memory, OrderView, Pace,
    Permit, Receipt, Status, SummarisedPage, SystemClock, Telling,
};
use forebay_ingest::{Caller, Channel, Door, DoorConfig, DoorError, SourceRule};
use forebay_order::{Format, OrderKey};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than any test needs; reaching it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A channel no test changes, to see whether the door still serves.
const WELL: &str = "well";

/// What the buffer is told to do instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Full,
    Closing,
    Failed,
    Panic,
}

/// The memory backend, with a switch for each way a buffer can fail and a gate that holds appends.
#[derive(Clone)]
pub(crate) struct TestBuffer {
    pub(crate) inner: Memory,
    fault: Arc<std::sync::Mutex<Fault>>,
    pace: Arc<std::sync::Mutex<Option<Pace>>>,
    gate: Arc<Semaphore>,
    pub(crate) waiting: Arc<AtomicUsize>,
}

impl TestBuffer {
    fn new(orders: usize, bytes: usize) -> Self {
        Self {
            inner: Memory::new(orders, bytes, Arc::new(SystemClock)),
            fault: Arc::new(std::sync::Mutex::new(Fault::None)),
            pace: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            waiting: Arc::default(),
        }
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    pub(crate) fn pretend(&self, pace: Pace) {
        *self.pace.lock().unwrap() = Some(pace);
    }

    /// Holds every append until [`TestBuffer::open_gate`].
    pub(crate) fn close_gate(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1_000_000);
    }

    /// Waits until `n` appends stand at the gate.
    pub(crate) async fn until_waiting(&self, n: usize) {
        until("appends at the gate", || self.waiting.load(Ordering::SeqCst) >= n).await;
    }
}

impl Buffer for TestBuffer {
    fn admission(&self) -> &Admission {
        self.inner.admission()
    }

    async fn append(&self, envelope: Envelope, permit: Permit) -> Result<Receipt, AppendError> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::None => {}
            Fault::Full => return Err(AppendError::Full),
            Fault::Closing => return Err(AppendError::Closing),
            Fault::Failed => {
                return Err(AppendError::Failed("sync: input/output error".to_owned()));
            }
            Fault::Panic => panic!("a fault put here by a test"),
        }
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.inner.append(envelope, permit).await
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        self.inner.lease(limit, wait).await
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        self.inner.lease_ticketed(limit, wait).await
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        self.inner.tell(telling).await
    }

    fn outstanding(&self) -> u64 {
        self.inner.outstanding()
    }

    async fn submitting(&self, leases: &[Lease], synced: bool) -> Result<Vec<bool>, BufferError> {
        self.inner.submitting(leases, synced).await
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        if *self.fault.lock().unwrap() == Fault::Failed {
            return Err(BufferError::Failed("read: input/output error".to_owned()));
        }
        self.inner.order(key).await
    }

    async fn body(&self, sequence: u64) -> Result<Option<bytes::Bytes>, BufferError> {
        self.inner.body(sequence).await
    }

    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        self.inner.exceptions(after, limit).await
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        self.inner.act(exception, act).await
    }

    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        self.inner.summarised_since(since_ms, from, limit).await
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        self.inner.send_again(key).await
    }

    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        self.inner.feed(after, limit, wait).await
    }

    async fn status(&self) -> Result<Status, BufferError> {
        self.inner.status().await
    }

    fn health(&self) -> Result<(), String> {
        self.inner.health()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn pace(&self) -> Pace {
        self.pace.lock().unwrap().unwrap_or_else(|| self.inner.pace())
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A running door.
pub(crate) struct TestDoor {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) buffer: TestBuffer,
    stop: watch::Sender<bool>,
    running: JoinHandle<Result<(), DoorError>>,
}

/// Every format as both callers: `shopify` and `shopify-api`, `b2c-commerce-xml` and `b2c-commerce-xml-hook`.
pub(crate) fn config() -> DoorConfig {
    let mut config = DoorConfig { listen: "127.0.0.1:0".parse().unwrap(), ..DoorConfig::default() };
    for format in Format::ALL {
        let default = Channel::of(format);
        let (caller, suffix) = match default.caller {
            Caller::Api => (Caller::Webhook, "hook"),
            Caller::Webhook => (Caller::Api, "api"),
        };
        let name = format!("{}-{suffix}", default.name);
        config.channels.push(Channel { name, caller, ..default });
    }
    let source = SourceRule::Constant("test".to_owned());
    let name = WELL.to_owned();
    config.channels.push(Channel { name, source, ..Channel::of(Format::B2cCommerceXml) });
    config
}

impl TestDoor {
    pub(crate) fn open() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut DoorConfig)) -> Self {
        Self::budgeted(10_000, 256 << 20, change)
    }

    pub(crate) fn budgeted(
        orders: usize,
        bytes: usize,
        change: impl FnOnce(&mut DoorConfig),
    ) -> Self {
        Self::start(orders, bytes, Duration::from_secs(5), change)
    }

    pub(crate) fn graceful(grace: Duration) -> Self {
        Self::start(10_000, 256 << 20, grace, |_| ())
    }

    fn start(
        orders: usize,
        bytes: usize,
        grace: Duration,
        change: impl FnOnce(&mut DoorConfig),
    ) -> Self {
        let mut config = config();
        change(&mut config);
        let buffer = TestBuffer::new(orders, bytes);
        let door = Door::bind(config, buffer.clone(), [7; 32], Arc::new(SystemClock)).unwrap();
        let address = door.local_addr();
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(door.run(stopped, grace));
        Self { address, buffer, stop, running }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::to(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn post(&self, channel: &str, body: impl AsRef<[u8]>) -> Reply {
        self.post_with(channel, &[], body).await
    }

    pub(crate) async fn post_with(
        &self,
        channel: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let path = format!("/v1/channels/{channel}/orders");
        self.send("POST", &path, headers, body.as_ref()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut client = self.connect().await;
        client.write(&request(method, path, headers, body)).await;
        client.reply().await
    }

    pub(crate) fn tell_to_stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub(crate) async fn stopped(self) -> Result<(), DoorError> {
        timeout(PATIENCE, self.running).await.expect("the door stops in time").unwrap()
    }

    /// Nothing is left of the in-flight budget's use, and the next order is served.
    /// What a test posts has no part in it: the order goes through a channel of its own.
    pub(crate) async fn is_well(&self) {
        let admission = self.buffer.admission().clone();
        until("the in-flight budget is given back", || admission.in_flight() == (0, 0)).await;
        let id = fastrand::u64(..).to_string();
        let order = crate::orders::xml(&[crate::orders::xml_order(&id, "NEW", "10.00")]);
        let reply = self.post(WELL, order).await;
        assert_eq!((reply.status, reply.word("outcome")), (202, "accepted"), "{reply:?}");
        until("the in-flight budget is given back", || admission.in_flight() == (0, 0)).await;
    }

    /// Stops the door and sees that it ends well.
    pub(crate) async fn shut(self) {
        self.is_well().await;
        self.tell_to_stop();
        self.stopped().await.unwrap();
    }
}

/// Waits for something that comes about by itself.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never came: {what}");
}

pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: door\r\n").into_bytes();
    for (name, value) in headers {
        write!(bytes, "{name}: {value}\r\n").unwrap();
    }
    write!(bytes, "content-length: {}\r\n\r\n", body.len()).unwrap();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) async fn to(address: std::net::SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
    }

    /// A client whose socket takes in little ahead of being read.
    pub(crate) async fn narrow(address: std::net::SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self { stream: socket.connect(address).await.unwrap(), read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next answer; panics if the connection ends before it.
    pub(crate) async fn reply(&mut self) -> Reply {
        self.try_reply().await.expect("an answer before the connection's end")
    }

    /// The next answer, or `None` if the connection ends before it.
    pub(crate) async fn try_reply(&mut self) -> Option<Reply> {
        let head_end = loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if self.more().await == 0 {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_end).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        if status == 100 {
            return Some(Reply { status, headers, body: Vec::new() });
        }
        let len: usize = headers["content-length"].parse().unwrap();
        while self.read.len() < len {
            assert!(self.more().await > 0, "the connection ended within an answer");
        }
        Some(Reply { status, headers, body: self.read.drain(..len).collect() })
    }

    /// Waits for the other side to close; bytes that still come are an error.
    pub(crate) async fn closed(&mut self) {
        assert_eq!(self.more().await, 0, "the connection closes");
    }

    /// The status of an answer that may be cut short.
    pub(crate) async fn status_line(&mut self) -> Option<u16> {
        while !self.read.contains(&b'\n') && self.more().await > 0 {}
        let head = String::from_utf8_lossy(&self.read).into_owned();
        head.split(' ').nth(1)?.parse().ok()
    }

    /// Reads to the end; whether that is before the answer's.
    pub(crate) async fn ends_within_an_answer(&mut self) -> bool {
        while self.more().await > 0 {}
        let head_end = self.read.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&self.read[..head_end]).to_ascii_lowercase();
        let len = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
        self.read.len() - head_end < len.parse().unwrap()
    }

    /// Bytes read; 0 at the end, also if the other side reset the connection.
    async fn more(&mut self) -> usize {
        let mut chunk = vec![0u8; 64 << 10];
        let n = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("an answer in time");
        let n = n.unwrap_or(0);
        self.read.extend_from_slice(&chunk[..n]);
        n
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// A member's text, `""` if there is none.
    pub(crate) fn word(&self, member: &str) -> &str {
        let value: Value = self.json();
        match value[member].as_str() {
            Some(text) => String::leak(text.to_owned()),
            None => "",
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Checks that it is a complete problem of this kind, and gives it.
    pub(crate) fn problem(&self, status: u16, word: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        check_problem(&problem, status, word);
        match problem["retry_after"].as_u64() {
            Some(seconds) => {
                assert!((1..=300).contains(&seconds));
                assert_eq!(self.header("retry-after"), seconds.to_string());
            }
            None => assert_eq!(self.header("retry-after"), ""),
        }
        problem
    }
}

pub(crate) fn check_problem(problem: &Value, status: u16, word: &str) {
    assert_eq!(problem["type"], format!("https://forebay.dev/problems/{word}"), "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    for member in ["title", "detail", "instance"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
}
