//! What a storefront may know of an order: four words and the exact state, nothing personal.

use std::time::Duration;

use forebay_buffer::{Buffer, BufferError, OrderView};
use forebay_order::key::decode;
use forebay_order::{Fingerprint, HoldReason, OrderKey};
use http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;

use crate::answer::{Response, json, timestamp};
use crate::door::Shared;
use crate::problem::Problem;

/// What is known is known to the one that writes, and while the disk hangs that one waits for it.
const LOOK_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Look<'a> {
    channel: &'a str,
    source: &'a str,
    id: &'a str,
    number: &'a str,
    state: &'static str,
    status: &'static str,
    hold: Option<HoldReason>,
    sequence: u64,
    accepted_at: String,
    settled_at: Option<String>,
    version: Option<u64>,
    fingerprint: Fingerprint,
    attempts: u8,
    summary_id: Option<&'a str>,
    exceptions: &'a [u64],
}

/// `GET /v1/orders/{channel}/{source}/{id}`, parts as they stand in the path.
///
/// # Errors
/// 400 for a part that is no percent-encoded UTF-8, 404 for an order never accepted, 503 while the buffer
/// cannot say, or has not said for [`LOOK_TIME`].
pub(crate) async fn look<B: Buffer>(
    shared: &Shared<B>,
    parts: [&str; 3],
) -> Result<Response, Problem> {
    let [channel, source, id] = parts.map(decode);
    let (Some(channel), Some(source), Some(id)) = (channel, source, id) else {
        return Err(Problem::bad_path());
    };
    let key = OrderKey::new(channel, source, id);
    let Ok(found) = timeout(LOOK_TIME, shared.buffer.order(&key)).await else {
        return Err(Problem::cannot_look());
    };
    match found {
        Ok(Some(view)) => Ok(json(StatusCode::OK, &Look::of(&view))),
        Ok(None) => Err(Problem::no_such_order()),
        Err(BufferError::Closing) => Err(Problem::closing()),
        Err(error @ BufferError::Failed(_)) => {
            tracing::error!(%error, "an order could not be looked up");
            Err(Problem::cannot_look())
        }
    }
}

impl<'a> Look<'a> {
    fn of(view: &'a OrderView) -> Self {
        Self {
            channel: &view.key.channel,
            source: &view.key.source,
            id: &view.key.id,
            number: &view.number,
            state: view.state.word(),
            status: view.state.shopper_word(),
            hold: view.hold,
            sequence: view.sequence,
            accepted_at: timestamp(view.accepted_at_ms),
            settled_at: view.settled_at_ms.map(timestamp),
            version: view.version,
            fingerprint: view.fingerprint,
            attempts: view.attempts,
            summary_id: view.summary_id.as_deref(),
            exceptions: &view.exceptions,
        }
    }
}
