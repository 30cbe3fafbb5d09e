//! A storefront's burst: orders at a steady rate on a fixed number of connections, straight into the database or to a door.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use forebay_order::OrderSummary;
use forebay_processor::oms::postgres::Postgres;
use forebay_processor::{OrderManagement as _, Outcome};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::load::{Orders, is_whole};
use super::super::oms::postgres;
use super::{behind, runtime, summary};
use crate::failure::{Failure, Result, While as _};
use crate::time::{Stopwatch, poll_until};

/// Connections of the storefront, each with one order under way.
const CONNECTIONS: usize = 64;
/// Orders of a call that fills the tables.
const FILLING: usize = 500;

/// How long the first answer may take.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// Where a burst goes.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// Into the database, an order a transaction, by the statements of the drain.
    Direct(String),
    /// To a door.
    Door(SocketAddr),
}

/// Fills the tables with so many orders.
pub(super) fn fill(url: &str, count: u64, orders: &mut Orders) -> Result<()> {
    let filling = async {
        let oms = postgres::open(url, CONNECTIONS)?;
        while orders.made() < count {
            let next = usize::try_from(count - orders.made()).unwrap_or(FILLING).min(FILLING);
            let batch = (0..next).map(|_| summary(orders.next_body())).collect::<Result<Vec<_>>>();
            create(&oms, &batch?).await?;
        }
        Ok(())
    };
    runtime()?.block_on(filling)
}

async fn create(oms: &Postgres, batch: &[Arc<OrderSummary>]) -> Result<()> {
    let outcomes = oms.submit(batch).await.when("creating summaries")?;
    let created = |outcome: &Outcome| matches!(outcome, Outcome::Created { .. });
    if outcomes.len() == batch.len() && outcomes.iter().all(created) {
        return Ok(());
    }
    Err(Failure::Missed("an order was not created".to_owned()))
}

/// A burst that goes on until it is ended, on a thread of its own.
pub(super) struct Burst {
    progress: Arc<Progress>,
    thread: JoinHandle<Result<Orders>>,
}

#[derive(Debug, Default)]
struct Progress {
    over: AtomicBool,
    answered: AtomicU64,
}

/// What a burst came to.
pub(super) struct Ended {
    /// Goes on after it.
    pub(super) orders: Orders,
    /// Orders that were answered: all that were sent.
    pub(super) answered: u64,
}

impl Burst {
    /// Begins with the orders after these.
    pub(super) fn begin(way: Way, per_second: f64, orders: &Orders) -> Self {
        let progress = Arc::new(Progress::default());
        let (orders, shared) = (RefCell::new(orders.clone()), Arc::clone(&progress));
        let thread = std::thread::spawn(move || {
            let pace = Pace { clock: Stopwatch::start(), per_second, next: Cell::new(0) };
            let offer = Offer { pace, orders, progress: shared };
            behind::this_thread()?;
            runtime()?.block_on(offer.to(&way))?;
            Ok(offer.orders.into_inner())
        });
        Self { progress, thread }
    }

    /// Waits for its first answer, or its end.
    pub(super) fn begun(&self) {
        poll_until(BEGIN_LIMIT, || self.answered() > 0 || self.thread.is_finished());
    }

    /// Orders that were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.progress.answered.load(Ordering::Acquire)
    }

    /// Ends it, once all that was sent is answered.
    pub(super) fn end(self) -> Result<Ended> {
        self.progress.over.store(true, Ordering::Release);
        let orders = self.thread.join();
        let orders =
            orders.map_err(|_| Failure::Broken("the burst's thread ended".to_owned()))??;
        Ok(Ended { orders, answered: self.progress.answered.load(Ordering::Acquire) })
    }
}

/// When the next order is due, whoever sends it.
struct Pace {
    clock: Stopwatch,
    per_second: f64,
    next: Cell<u64>,
}

impl Pace {
    async fn next(&self) {
        let n = self.next.get();
        self.next.set(n + 1);
        let due = Duration::from_secs_f64(n as f64 / self.per_second);
        let early = due.saturating_sub(self.clock.elapsed());
        if !early.is_zero() {
            tokio::time::sleep(early).await;
        }
    }
}

struct Offer {
    pace: Pace,
    orders: RefCell<Orders>,
    progress: Arc<Progress>,
}

impl Offer {
    async fn to(&self, way: &Way) -> Result<()> {
        match way {
            Way::Direct(url) => {
                let oms = postgres::open(url, CONNECTIONS)?;
                try_join_all((0..CONNECTIONS).map(|_| self.directly(&oms))).await.map(drop)
            }
            Way::Door(at) => {
                try_join_all((0..CONNECTIONS).map(|_| self.by_http(*at))).await.map(drop)
            }
        }
    }

    /// Waits for the next order to be due; whether there is to be one.
    async fn goes_on(&self) -> bool {
        self.pace.next().await;
        !self.progress.over.load(Ordering::Acquire)
    }

    fn answered(&self) {
        self.progress.answered.fetch_add(1, Ordering::AcqRel);
    }

    async fn directly(&self, oms: &Postgres) -> Result<()> {
        while self.goes_on().await {
            let order = summary(self.orders.borrow_mut().next_body())?;
            create(oms, &[order]).await?;
            self.answered();
        }
        Ok(())
    }

    async fn by_http(&self, at: SocketAddr) -> Result<()> {
        let mut stream = TcpStream::connect(at).await.when("connecting to the door")?;
        stream.set_nodelay(true).when("connecting to the door")?;
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        while self.goes_on().await {
            request.clear();
            request.extend_from_slice(self.orders.borrow_mut().next());
            stream.write_all(&request).await.when("sending an order")?;
            answer.clear();
            while !is_whole(&answer)? {
                if stream.read_buf(&mut answer).await.when("an answer")? == 0 {
                    return Err(Failure::Broken("the door closed a connection".to_owned()));
                }
            }
            self.answered();
        }
        Ok(())
    }
}
