//! Whole orders, accepted, read and settled: the buffer against bare publishes and an ordered consumer, by turns.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::nats::{Nats, NatsConfig};
use forebay_buffer::{Buffer, Envelope, Lease, SystemClock, Verdict};
use forebay_order::{Fingerprint, OrderKey};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use super::super::{Bench, Line, gates};
use super::{IN_FLIGHT, ORDER_BYTES, OUTCOME_BYTES, OUTCOME_TTL, Sides, of, with_cost};
use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;

/// Orders that are accepted and not settled at most, on both sides.
const OPEN: usize = 1_024;
/// Orders of one lease.
const LEASE: usize = 256;
/// Workers, as a drain has one for each call in flight: while one waits for its list to be durable, others send and settle.
const WORKERS: usize = 4;
const LEASE_WAIT: Duration = Duration::from_millis(100);
/// What is under way may take so long to end.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Both sides by turns, with so many partitions.
pub(super) fn run(
    bench: &Bench,
    sides: &Sides,
    config: &NatsConfig,
    partitions: u16,
) -> Result<Line> {
    // A key of its own each round, and no partition of anybody else's.
    let config = NatsConfig { dedup_horizon: OUTCOME_TTL, partitions, ..config.clone() };
    let open = Nats::open(config, Arc::new(SystemClock));
    let buffer = sides.runtime.block_on(open).when("the buffer")?;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for round in 0..bench.pace().runs {
        let lasting = bench.pace().measured;
        let all_bare = || sides.runtime.block_on(bare_cycles(sides, lasting));
        bare.push(sides.measured("bare cycles", all_bare)?);
        own.push(sides.measured("nats_drain", || {
            let cycles = Cycles::new(buffer.clone(), round, lasting);
            sides.runtime.block_on(LocalSet::new().run_until(cycles.run()))
        })?);
    }
    sides.runtime.block_on(buffer.close());
    let line = Line::new("nats_drain", "orders/s", &of(&own, |round| round.per_second))
        .against("bare cycles", &of(&bare, |round| round.per_second))
        .count("open", OPEN as u64)
        .count("partitions", partitions.into());
    let line = with_cost(with_cost(line, "", &own), "bare_", &bare);
    Ok(line.at_least("ratio", gates::NATS_DRAIN_RATIO_MIN))
}

/// The buffer's side.
struct Cycles {
    buffer: Nats,
    round: usize,
    watch: Stopwatch,
    lasting: Duration,
    next: Cell<u64>,
    /// Orders that were accepted.
    accepted: Cell<u64>,
    settled: Cell<u64>,
    room: Semaphore,
}

impl Cycles {
    fn new(buffer: Nats, round: usize, lasting: Duration) -> Self {
        let zero = || Cell::new(0);
        let (next, accepted, settled) = (zero(), zero(), zero());
        let room = Semaphore::new(OPEN);
        Self { buffer, round, watch: Stopwatch::start(), lasting, next, accepted, settled, room }
    }

    async fn run(self) -> Result<u64> {
        let accept = try_join_all((0..IN_FLIGHT).map(|_| self.accept()));
        let drain = try_join_all((0..WORKERS).map(|_| self.drain()));
        let (accepted, drained) = tokio::join!(accept, drain);
        accepted.map(|_| ()).and(drained.map(|_| ()))?;
        // A verdict is durable once its order is summarised.
        let all = self.settled.get();
        let until = Stopwatch::start();
        loop {
            let live = self.buffer.status().await.when("the status")?.live;
            if live.values().sum::<u64>() == 0 {
                return Ok(all);
            }
            if until.elapsed() > END_LIMIT {
                return Err(Failure::Broken(format!("orders are left: {live:?}")));
            }
        }
    }

    async fn accept(&self) -> Result<()> {
        let body = Bytes::from(vec![b'x'; ORDER_BYTES]);
        while self.watch.elapsed() < self.lasting {
            if let Ok(room) = self.room.acquire().await {
                room.forget();
            }
            let number = self.next.replace(self.next.get() + 1);
            let key = OrderKey::new("bench", self.round.to_string(), number.to_string());
            let envelope = Envelope::new(key, Fingerprint([7; 16]), body.clone());
            let permit = self.buffer.admission().admit(ORDER_BYTES).when("a permit")?;
            self.buffer.append(envelope, permit).await.when("an append")?;
            self.accepted.set(self.accepted.get() + 1);
        }
        Ok(())
    }

    async fn drain(&self) -> Result<()> {
        let over = || self.watch.elapsed() >= self.lasting + LEASE_WAIT;
        while !over() || self.settled.get() < self.accepted.get() {
            let leases = self.buffer.lease(LEASE, LEASE_WAIT).await.when("a lease")?;
            let may_go = self.buffer.submitting(&leases, false).await.when("a note")?;
            let count = leases.len();
            for (lease, _) in leases.into_iter().zip(may_go).filter(|(_, may_go)| *may_go) {
                settle(lease);
            }
            self.settled.set(self.settled.get() + count as u64);
            self.room.add_permits(count);
        }
        Ok(())
    }
}

fn settle(lease: Lease) {
    lease.settle(Verdict::Summarised {
        summary_id: "1OsIQ0000000001AAA".to_owned(),
        existing: false,
    });
}

/// The same by bare publishes: create, read, replace.
async fn bare_cycles(sides: &Sides, lasting: Duration) -> Result<u64> {
    let feed = sides.bare.feed("FOREBAY.bare.>").await?;
    let (watch, body) = (Stopwatch::start(), Bytes::from(vec![b'x'; ORDER_BYTES]));
    let (room, created) = (Semaphore::new(OPEN), Cell::new(0_u64));
    let over = Cell::new(false);
    let create = async || {
        while watch.elapsed() < lasting {
            if let Ok(room) = room.acquire().await {
                room.forget();
            }
            let number = sides.next.replace(sides.next.get() + 1);
            let subject = format!("FOREBAY.bare.{number}");
            sides.bare.publish(subject, body.clone(), 0).await?;
            created.set(created.get() + 1);
        }
        Ok::<(), Failure>(())
    };
    let outcome = body.slice(..OUTCOME_BYTES);
    let settled = Cell::new(0_u64);
    let settle = async {
        let read = feed.filter_map(async |message| {
            let message = message.ok()?;
            let sequence = message.info().ok()?.stream_sequence;
            // An outcome comes by as well; it is no order.
            (message.payload.len() == ORDER_BYTES).then(|| (message.subject.to_string(), sequence))
        });
        let done =
            read.map(|(subject, sequence)| sides.bare.publish(subject, outcome.clone(), sequence));
        let mut done = std::pin::pin!(done.buffer_unordered(IN_FLIGHT));
        while !over.get() || settled.get() < created.get() {
            let next = tokio::time::timeout(LEASE_WAIT, done.next()).await;
            if let Ok(Some(next)) = next {
                next?;
                settled.set(settled.get() + 1);
                room.add_permits(1);
            }
        }
        Ok::<(), Failure>(())
    };
    let all = async {
        let made = try_join_all((0..IN_FLIGHT).map(|_| create())).await;
        over.set(true);
        made.map(|_| ())
    };
    let (made, ended) = tokio::join!(all, settle);
    made.and(ended)?;
    Ok(settled.get())
}
