//! The storefront's door: HTTP in, a truthful answer out.
//!
//! # What it promises
//! - A 2xx for an order only with the buffer's receipt in hand: what it says is durable where the receipt says.
//! - Every refusal is loud, cheap and useful: a status, a problem document with a place and a way out,
//!   and `Retry-After` where coming back helps.
//! - A channel whose sender switches itself off after failures (caller `webhook`) gets 2xx for everything
//!   that is durable, however odd it is.
//! - Bounded on every side: connections, header, body and idle time, bytes as received and as inflated,
//!   items, depth, lines, orders in flight. Hostile bytes end one request, never the process.
//!
//! # The straight line
//! ```text
//! bytes -> Permit -> channel, quota -> inflate -> forebay_order::read -> Envelope -> Buffer::append -> Receipt -> answer
//! ```
//! `receive` is that line, readable from top to bottom. `connection` keeps the deadlines,
//! `problem` is the only place that words a refusal, `answer` the only one that words a success.
//!
//! Each accept thread runs its own single-threaded runtime, so a handler, and the `append` in it, never
//! moves between threads.

mod accept;
mod answer;
mod body;
mod channel;
mod config;
mod connection;
mod deliver;
mod differ;
mod door;
mod envelope;
mod graphs;
mod inflate;
mod judge;
mod look;
mod marks;
mod media;
mod metrics;
mod pace;
mod problem;
mod receive;
mod route;

pub use config::{BindError, Caller, Channel, DoorConfig, Quota, SourceRule};
pub use door::{Door, DoorError};
