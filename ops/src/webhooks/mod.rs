//! Signed webhooks: what becomes of orders, told to receivers over HTTP as CloudEvents 1.0, signed by Standard Webhooks.
//!
//! # What it promises
//! - At least once, in order: a receiver is told the next thing after it took the one before, and is asked again until it does.
//! - The drain never waits for a receiver, and no receiver for another.
//! - Nothing personal leaves.
//!
//! ```text
//! mod.rs       start and stop             event.rs      what is said
//! endpoint.rs  from the feed, in order    signature.rs  that it is us who say it
//! receiver.rs  one request, its answer    cursor.rs     how far a receiver was told
//! report.rs    how each endpoint stands
//! ```

mod cursor;
mod endpoint;
mod event;
mod receiver;
mod report;
mod signature;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::{Buffer, Clock, FeedCursor, FeedError, FeedKind};
use forebay_processor::RetryPolicy;
use http::StatusCode;
use ring::hmac;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use cursor::{Cursor, Kept, keep};
use endpoint::Endpoint;
use event::Origin;
use receiver::Receiver;

pub use receiver::address;
pub use report::{Board, EndpointState, EndpointStatus};
pub use signature::Secrets;

/// The last cursors are waited for so long.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// One receiver, and what it is told.
#[derive(Clone, Debug)]
pub struct EndpointOptions {
    /// Its name in the configuration.
    pub name: String,
    /// Where it is: `https://`, or `http://` on loopback.
    pub url: String,
    /// The secret both have, one a line; a second one is the secret before.
    pub secret_file: PathBuf,
    /// The `source` of its events; none: the store's own.
    pub source: Option<String>,
    /// What it is told.
    pub kinds: Vec<FeedKind>,
    /// Whether it is told of synthetic orders.
    pub synthetic: bool,
    /// Where a new one begins.
    pub from: Beginning,
    /// Events in a request at most; with one it is not a list.
    pub batch: usize,
    /// Certificates to trust beside the machine's.
    pub roots: Option<PathBuf>,
    /// Waited for a connection.
    pub connect_timeout: Duration,
    /// Waited for an answer.
    pub answer_timeout: Duration,
    /// Waits between attempts.
    pub retry: RetryPolicy,
}

/// Where an endpoint begins that was never told anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Beginning {
    /// With what happens from now on.
    #[default]
    End,
    /// With the oldest that is kept.
    Start,
}

/// What the webhooks run with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where cursors are kept.
    pub directory: PathBuf,
    /// The store's name, see [`store_name`].
    pub store: String,
    /// Whom to tell.
    pub endpoints: Vec<EndpointOptions>,
}

/// Why a webhook cannot be.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(String);

/// A store's name, a UUID that no other store has: by its key, which it keeps in a migration and shares with every process of a fleet.
pub fn store_name(lookup_key: &[u8; 32]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, lookup_key);
    let hash = hmac::sign(&key, b"the store's name in its webhooks");
    let bits =
        hash.as_ref().iter().take(16).fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
    // Version 8 of RFC 9562: bits of one's own.
    let bits = bits & !(0xf << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let part = |range| hex.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

/// All endpoints, at work.
#[derive(Debug)]
pub struct Webhooks {
    board: Board,
    stop: watch::Sender<bool>,
    sending: JoinSet<()>,
    keeping: JoinSet<()>,
}

impl Webhooks {
    /// Starts every endpoint. Where a new one begins is decided when this returns, and durable; one that is to begin with the end of the
    /// feed, and cannot keep where that is, is told nothing before it can.
    ///
    /// # Errors
    /// [`OpenError`]: one cannot be, by its configuration, or nobody can say where the feed ends.
    pub async fn start<B: Buffer>(
        settings: Settings,
        buffer: &B,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (stop, stops) = watch::channel(false);
        let mut webhooks = Self {
            board: Board::default(),
            stop,
            sending: JoinSet::new(),
            keeping: JoinSet::new(),
        };
        for options in settings.endpoints {
            let receiver = Receiver::open(&options)?;
            let cursor = Cursor::new(&settings.directory, &options.name, &settings.store);
            let (position, unkept) = begin(&options, &cursor, buffer).await?;
            let after = position.sequence();
            let report = webhooks.board.add(&options.name, receiver.host(), after);
            tracing::info!(
                endpoint = options.name,
                host = receiver.host(),
                after,
                "a webhook's receiver is told"
            );
            let (moved, moves) = watch::channel(position);
            let (kept, is_kept) = watch::channel(unkept.is_none());
            let must_be_kept = unkept.filter(|_| options.from == Beginning::End);
            if let Some(why) = &must_be_kept {
                report.failing(&format!("it does not begin: {why}"), clock.wall_ms());
                report.waits_if_not(clock.wall_ms());
            }
            webhooks.keeping.spawn(keep(cursor, options.name.clone(), moves, kept));
            let endpoint = Endpoint {
                receiver,
                origin: origin(&options, &settings.store),
                options,
                buffer: buffer.clone(),
                clock: Arc::clone(clock),
                report,
                moved,
                kept: must_be_kept.map(|_| is_kept),
                read_ms: clock.wall_ms(),
                stop: stops.clone(),
            };
            webhooks.sending.spawn(endpoint.run());
        }
        Ok(webhooks)
    }

    /// How the endpoints stand, from now on.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Lets requests that are under way end, for so long, and keeps what was taken. What was not is sent after the next start.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(true);
        if tokio::time::timeout(grace, ended(&mut self.sending)).await.is_err() {
            tracing::warn!(
                "webhooks under way were cut off at the end of the grace time; they are sent again"
            );
            self.sending.shutdown().await;
        }
        tokio::time::timeout(LAST_WRITE, ended(&mut self.keeping)).await.ok();
    }
}

async fn ended(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

/// Where an endpoint begins; and why that is not kept, if it is not, though it has to be.
async fn begin<B: Buffer>(
    options: &EndpointOptions,
    cursor: &Cursor,
    buffer: &B,
) -> Result<(FeedCursor, Option<String>), OpenError> {
    let name = &options.name;
    let after = match (cursor.read(), options.from) {
        (Kept::At(position), _) => return Ok((position, None)),
        (Kept::Unreadable(why), _) => {
            tracing::error!(
                endpoint = name,
                "nobody knows what this webhook's receiver was told, so it is told all that is kept: {why}"
            );
            return Ok((FeedCursor::default(), None));
        }
        (Kept::Nothing, Beginning::Start) => {
            match buffer.feed(&FeedCursor::default(), 1, Duration::ZERO).await {
                Err(FeedError::Gone { oldest }) => oldest,
                _ => 0,
            }
        }
        (Kept::Nothing, Beginning::End) => {
            let status = buffer.status().await;
            let status = status
                .map_err(|error| OpenError(format!("webhooks.{name}: where to begin: {error}")))?;
            status.durable_sequence
        }
    };
    // Else a restart before the first event would begin later.
    let position = FeedCursor::after(after);
    let unkept = cursor.write(position.clone()).err().map(|error| {
        tracing::error!(endpoint = name, %error, "where this webhook begins cannot be kept; it is tried again");
        format!("where that is cannot be kept, and is tried again: {error}")
    });
    Ok((position, unkept))
}

fn origin(options: &EndpointOptions, store: &str) -> Origin {
    let source = options.source.clone().unwrap_or_else(|| format!("urn:uuid:{store}"));
    Origin { store: store.to_owned(), source }
}

/// Sends an endpoint one event that says nothing of an order; what it answered.
///
/// # Errors
/// Why it cannot be sent, or was not taken, and what to do.
pub async fn ping(
    options: &EndpointOptions,
    store: &str,
    clock: &dyn Clock,
) -> Result<StatusCode, String> {
    let receiver = Receiver::open(options).map_err(|error| error.to_string())?;
    let message = origin(options, store).ping(&options.name, clock.wall_ms());
    receiver.take(&message, clock).await.map_err(|refusal| refusal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stores_name_is_a_uuid_of_its_own() {
        let (one, other) = (store_name(&[1; 32]), store_name(&[2; 32]));
        assert_eq!(one, store_name(&[1; 32]));
        assert_ne!(one, other);
        assert_eq!(one.len(), 36);
        let mark = |at: usize| one.as_bytes()[at];
        assert_eq!(mark(14), b'8', "{one}");
        assert!(b"89ab".contains(&mark(19)), "{one}");
    }
}
