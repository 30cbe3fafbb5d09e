//! What is to be played, and against whom.

use std::net::SocketAddr;
use std::time::Duration;

use crate::ledger::Book;

/// A sale: how many orders, how fast, in which shape. Two equal sales are the same bytes at the same times.
#[derive(Clone, Debug, PartialEq)]
pub struct Sale {
    /// Distinct orders placed; re-sent, conflicting, amended, cancelling, draft and malformed deliveries come on top.
    pub orders: u32,
    /// Mean deliveries a second over the whole sale; must be above 0.
    pub rate: f64,
    /// What everything random follows from.
    pub seed: u64,
    /// How the deliveries spread over time.
    pub shape: Shape,
    /// Share of the orders that arrive several in one request, 0 to 1.
    pub batch_share: f64,
    /// Share of the requests whose body is gzip, 0 to 1.
    pub gzip_share: f64,
    /// The first of the two sources of each channel; the other is `<source>-2`. Ids repeat from source to
    /// source on purpose, and from sale to sale: against a store that is kept, take another source.
    pub source: String,
    /// Connections at most, and so requests in flight at most.
    pub connections: u16,
    /// How long one request may take from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How often a request is sent at most when it is refused for the moment or not answered.
    pub tries: u8,
}

impl Default for Sale {
    /// 20,000 orders at 10,000 deliveries a second.
    fn default() -> Self {
        Self {
            orders: 20_000,
            rate: 10_000.0,
            seed: 1,
            shape: Shape::Flash,
            batch_share: 0.05,
            gzip_share: 0.2,
            source: "demo".to_owned(),
            connections: 256,
            timeout: Duration::from_secs(10),
            tries: 4,
        }
    }
}

/// How deliveries spread over the time of a sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A flash sale: ramp, spike at twice the mean rate, plateau.
    Flash,
    /// The mean rate from first to last.
    Constant,
}

/// Where the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The orders listener.
    pub orders: SocketAddr,
    /// The ops listener.
    pub ops: SocketAddr,
}

/// How a sale stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Time of the sale so far.
    pub elapsed: Duration,
    /// Deliveries sent.
    pub offered: u64,
    /// Deliveries acknowledged.
    pub acknowledged: u64,
    /// Deliveries refused.
    pub refused: u64,
    /// Pending orders, as the server says; the last known where it is silent.
    pub backlog: u64,
    /// Orders summarised, as the server says.
    pub summarised: u64,
    /// Age of the oldest pending order, as the server says.
    pub oldest: Option<Duration>,
}

impl Progress {
    pub(crate) fn new(elapsed: Duration, book: &Book) -> Self {
        let oldest = book.seen.oldest_ms.and_then(|ms| u64::try_from(ms).ok());
        Self {
            elapsed,
            offered: book.offered,
            acknowledged: book.acknowledged,
            refused: book.refused,
            backlog: book.seen.pending,
            summarised: book.seen.summarised,
            oldest: oldest.map(Duration::from_millis),
        }
    }
}
