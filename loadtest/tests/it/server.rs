//! A small server that keeps orders in memory, drains them at a ceiling, and answers by the contract; with
//! faults to be found.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use forebay_loadtest::Target;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bodies::{self, Status};

/// What the server does wrong, on purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// Forgets the first order accepted from this sequence on.
    pub(crate) forget: Option<u64>,
    /// Makes the OMS create its n-th summary twice.
    pub(crate) double: Option<usize>,
    /// Adds a cent to the OMS's n-th summary.
    pub(crate) overcharge: Option<usize>,
    /// Stalls every answer of that moment for that long, once.
    pub(crate) stall: Option<(u64, Duration)>,
    /// Refuses every n-th request with 503 and `Retry-After: 0`.
    pub(crate) refuse_every: Option<u64>,
    /// Keeps every n-th request's orders and cuts the connection instead of answering.
    pub(crate) cut_every: Option<u64>,
    /// Has no room for every n-th item of a batch.
    pub(crate) full_every: Option<usize>,
    /// Refuses every request with 503.
    pub(crate) refuse_all: bool,
    /// Keeps the orders of every n-th request for good and answers 503.
    pub(crate) deny_every: Option<u64>,
}

/// Orders, the OMS and what was asked, kept when the server stops.
#[derive(Default)]
pub(crate) struct Store {
    orders: HashMap<Key, Order>,
    pending: VecDeque<Key>,
    oms: Vec<Row>,
    exceptions: Vec<u64>,
    sequence: u64,
    requests: u64,
    stalled: bool,
    forgot: bool,
    full: usize,
}

type Key = (String, String, String);

struct Order {
    sequence: u64,
    state: &'static str,
    version: Option<u64>,
    seen: HashSet<u64>,
    total: Decimal,
    poison: bool,
}

struct Row {
    key: Key,
    total: Decimal,
    committed_at_us: i64,
    creates: u64,
}

pub(crate) struct Server {
    pub(crate) target: Target,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A server on free ports, with that store, draining so many orders a second.
    pub(crate) fn start(store: &Arc<Mutex<Store>>, ceiling: u32, faults: Faults) -> Self {
        let bind = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (orders, ops) = (bind(), bind());
        let target =
            Target { orders: orders.local_addr().unwrap(), ops: ops.local_addr().unwrap() };
        let (stop, stopped) = watch::channel(false);
        let store = Arc::clone(store);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run(orders, ops, store, ceiling, faults, stopped));
        });
        Self { target, stop, thread: Some(thread) }
    }

    /// Ends it in the middle of whatever it does; the store stays as it is.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Nobody listens where the server's thread died; joining it says so.
        self.stop.send_replace(true);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(ended, Some(Err(_))), "the server died");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end();
        }
    }
}

async fn run(
    orders: TcpListener,
    ops: TcpListener,
    store: Arc<Mutex<Store>>,
    ceiling: u32,
    faults: Faults,
    mut stopped: watch::Receiver<bool>,
) {
    let orders = tokio::net::TcpListener::from_std(orders).unwrap();
    let ops = tokio::net::TcpListener::from_std(ops).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    loop {
        let accepted = tokio::select! {
            accepted = orders.accept() => accepted,
            accepted = ops.accept() => accepted,
            _ = tick.tick() => {
                lock(&store).drain(ceiling / 100, faults);
                continue;
            }
            _ = stopped.changed() => return,
        };
        let (stream, _): (_, SocketAddr) = accepted.unwrap();
        stream.set_nodelay(true).unwrap();
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let service =
                service_fn(move |request| answer(Arc::clone(&store), request, ceiling, faults));
            // A client that goes away, or a cut on purpose, ends the connection with an error.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap()
}

/// The connection is cut instead of an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
struct Cut;

async fn answer(
    store: Arc<Mutex<Store>>,
    request: Request<Incoming>,
    ceiling: u32,
    faults: Faults,
) -> Result<Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    if head.method == Method::GET {
        let query = head.uri.query().unwrap_or_default().to_owned();
        return Ok(lock(&store).get(&path, &query, ceiling));
    }
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let header = |name: &str| {
        head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    };
    assert_eq!(header("forebay-synthetic"), "true");
    let channel = path.trim_start_matches("/v1/channels/").trim_end_matches("/orders").to_owned();
    let mut text = Vec::new();
    if header("content-encoding") == "gzip" {
        flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).unwrap();
    } else {
        text.extend_from_slice(&body);
    }
    let text = String::from_utf8(text).unwrap();
    let stall = {
        let mut store = lock(&store);
        store.requests += 1;
        let due = faults.stall.filter(|(at, _)| store.requests >= *at && !store.stalled);
        store.stalled |= due.is_some();
        let every = |n: Option<u64>| n.is_some_and(|n| store.requests.is_multiple_of(n));
        if faults.refuse_all || every(faults.refuse_every) {
            return Ok(refusal());
        }
        if every(faults.cut_every) {
            store.post(&channel, &header("forebay-source"), &header("content-type"), &text, faults);
            return Err(Cut);
        }
        if every(faults.deny_every) {
            store.post(&channel, &header("forebay-source"), &header("content-type"), &text, faults);
            return Ok(refusal());
        }
        due
    };
    if let Some((_, how_long)) = stall {
        // The whole server stands still, as under a stalled disk: its one thread is blocked.
        std::thread::sleep(how_long);
    }
    let (source, kind) = (header("forebay-source"), header("content-type"));
    Ok(lock(&store).post(&channel, &source, &kind, &text, faults))
}

fn refusal() -> Response<Full<Bytes>> {
    let mut response = reply(503, &json!({"status": 503, "retry_after": 0}));
    response.headers_mut().insert("retry-after", "0".parse().unwrap());
    response
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

impl Store {
    fn post(
        &mut self,
        channel: &str,
        source: &str,
        content_type: &str,
        text: &str,
        faults: Faults,
    ) -> Response<Full<Bytes>> {
        let webhook = matches!(channel, "shopify" | "woocommerce");
        let Some((items, batch)) = bodies::split(channel, content_type, text) else {
            let (code, body) = self.unreadable(webhook);
            return reply(code, &body);
        };
        let mut answers: Vec<(u16, Value)> = Vec::new();
        for (at, item) in (1..).zip(&items) {
            let full =
                batch && faults.full_every.is_some_and(|n| (self.full + at).is_multiple_of(n));
            answers.push(match full {
                true => (503, json!({"problem": {"status": 503}})),
                false => self.item(channel, source, item, webhook, faults),
            });
        }
        // Another item the next time, so that a batch sent again comes through.
        self.full += 1;
        if !batch {
            let (code, body) = answers.pop().unwrap();
            return reply(code, &body);
        }
        let durable = answers.iter().filter(|(code, _)| *code < 300 || *code == 409).count();
        let whole = if durable > 0 { if webhook { 200 } else { 202 } } else { answers[0].0 };
        let refused = answers.len() - durable;
        let items: Vec<Value> = answers
            .into_iter()
            .enumerate()
            .map(|(index, (code, mut body))| {
                body["index"] = index.into();
                body["code"] = code.into();
                body
            })
            .collect();
        reply(whole, &json!({"items": items, "durable": durable, "refused": refused}))
    }

    fn unreadable(&mut self, webhook: bool) -> (u16, Value) {
        if !webhook {
            return (
                400,
                json!({"type": "https://forebay.dev/problems/unreadable", "status": 400}),
            );
        }
        self.sequence += 1;
        self.exceptions.push(self.sequence);
        (200, json!({"outcome": "exception", "sequence": self.sequence}))
    }

    fn item(
        &mut self,
        channel: &str,
        source: &str,
        text: &str,
        webhook: bool,
        faults: Faults,
    ) -> (u16, Value) {
        let Some(read) = bodies::read(channel, text) else { return self.unreadable(webhook) };
        let key = (channel.to_owned(), source.to_owned(), read.id.clone());
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let fingerprint = hasher.finish();
        let first = if webhook { 200 } else { 202 };
        self.sequence += 1;
        let sequence = self.sequence;
        let said =
            |code: u16, outcome: &str| (code, json!({"outcome": outcome, "sequence": sequence}));
        if read.status == Status::NotAnOrder {
            return if webhook { said(200, "recorded") } else { (422, json!({"status": 422})) };
        }
        let Some(order) = self.orders.get_mut(&key) else {
            let (state, outcome) = match read.status {
                Status::Cancelled => ("cancelled", "tombstone"),
                Status::Held => ("held", "held"),
                _ => ("pending", "accepted"),
            };
            let order = Order {
                sequence,
                state,
                version: read.version,
                seen: HashSet::from([fingerprint]),
                total: read.total,
                poison: read.poison,
            };
            if state == "pending" {
                self.pending.push_back(key.clone());
            }
            let forget = faults.forget.is_some_and(|from| sequence >= from) && !self.forgot;
            if forget && state == "pending" {
                self.forgot = true;
            } else {
                self.orders.insert(key, order);
            }
            return said(first, outcome);
        };
        if !order.seen.insert(fingerprint) {
            return said(200, "duplicate");
        }
        let cancel = read.status == Status::Cancelled;
        let newer = match (read.version, order.version) {
            (Some(new), Some(old)) if new < old => return said(200, "stale"),
            (Some(new), Some(old)) => new > old,
            _ => cancel,
        };
        if !newer {
            self.exceptions.push(sequence);
            return if webhook {
                said(200, "conflict_recorded")
            } else {
                (409, json!({"status": 409}))
            };
        }
        if order.state == "summarised" {
            self.exceptions.push(sequence);
            return said(first, "change_after_summary");
        }
        order.version = read.version;
        if cancel {
            order.state = "cancelled";
            return said(200, "cancelled");
        }
        order.total = read.total;
        if order.state == "held" {
            order.state = "pending";
            self.pending.push_back(key);
        }
        said(200, "amended")
    }

    fn drain(&mut self, count: u32, faults: Faults) {
        for _ in 0..count {
            let Some(key) = self.pending.pop_front() else { return };
            let Some(order) = self.orders.get_mut(&key) else { continue };
            if order.state != "pending" {
                continue;
            }
            if order.poison {
                order.state = "exception";
                self.exceptions.push(order.sequence);
                continue;
            }
            order.state = "summarised";
            let at = self.oms.len();
            let cent =
                if faults.overcharge == Some(at) { Decimal::new(1, 2) } else { Decimal::ZERO };
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            self.oms.push(Row {
                key,
                total: order.total + cent,
                committed_at_us: i64::try_from(since.as_micros()).unwrap(),
                creates: if faults.double == Some(at) { 2 } else { 1 },
            });
        }
    }

    fn get(&self, path: &str, query: &str, ceiling: u32) -> Response<Full<Bytes>> {
        let parameter = |name: &str| {
            let value =
                query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.map_or(0, |value| value.parse::<u64>().unwrap())
        };
        let (after, limit) = (parameter("after"), usize::try_from(parameter("limit")).unwrap());
        match path {
            "/v1/status" => reply(200, &self.status(ceiling)),
            "/v1/oms/orders" => {
                let start = usize::try_from(after).unwrap();
                let rows: Vec<Value> =
                    (start..self.oms.len()).take(limit).map(|at| self.row(at)).collect();
                let next = (rows.len() == limit).then(|| start + limit);
                reply(200, &json!({"orders": rows, "next": next}))
            }
            "/v1/exceptions" => {
                let ids: Vec<&u64> =
                    self.exceptions.iter().filter(|id| **id > after).take(limit).collect();
                let next = if ids.len() == limit { ids.last().copied() } else { None };
                let rows: Vec<Value> = ids.iter().map(|id| json!({"id": id})).collect();
                reply(200, &json!({"exceptions": rows, "next": next}))
            }
            _ => {
                let parts: Vec<String> = path
                    .trim_start_matches("/v1/orders/")
                    .split('/')
                    .map(|part| percent_decode_str(part).decode_utf8().unwrap().into_owned())
                    .collect();
                let key = (parts[0].clone(), parts[1].clone(), parts[2].clone());
                match self.orders.get(&key) {
                    Some(order) => reply(200, &json!({"state": order.state})),
                    None => reply(404, &json!({"status": 404})),
                }
            }
        }
    }

    fn row(&self, at: usize) -> Value {
        let Row { key, total, committed_at_us, creates } = &self.oms[at];
        let encode = |part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string();
        json!({
            "cursor": at + 1,
            "identity": format!("{}:{}:{}", encode(&key.0), encode(&key.1), encode(&key.2)),
            "summary_id": format!("s{at}"),
            "committed_at_us": committed_at_us,
            "grand_total": total.to_string(),
            "currency": "EUR",
            "creates": creates,
        })
    }

    fn status(&self, ceiling: u32) -> Value {
        let mut live: BTreeMap<&str, u64> = BTreeMap::new();
        for order in self.orders.values() {
            *live.entry(order.state).or_default() += 1;
        }
        let summarised = live.remove("summarised").unwrap_or(0);
        json!({
            "buffer": {
                "live": live,
                "ended": {"summarised": summarised},
                "oldest_pending_ms": 12,
            },
            "drain": {"ceiling_per_s": f64::from(ceiling)},
        })
    }
}
