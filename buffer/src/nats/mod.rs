//! What a buffer beyond one machine stands on: NATS JetStream as a replicated *key table*.
//!
//! One limits stream, one subject for each key, one message a subject: the newest. To accept an order is to create its
//! subject (nothing may stand there), to change or settle it is to replace the message one has read, and whoever was
//! overtaken is told what stands there now. So a key has one truth, wherever it is written from, and a worker that was paused or cut off
//! cannot overwrite what came after it.
//!
//! ```text
//! open: connect -> refuse old servers -> declare or check the stream -> Table -> a share of the partitions
//! append: page created, or looked at, judged, replaced                                    (any process, any key)
//! lease:  scheduler -> listed in the owner's message -> page read -> the OMS -> page replaced      (a key's owner)
//! ```
//! Nothing here trusts `Nats-Msg-Id`: it answers another body under the same id with success.

mod buffer;
mod config;
mod connect;
mod door;
mod drain;
mod fleet;
mod known;
mod page;
mod partition;
mod shared;
mod store;
mod stream;
mod table;
mod tend;
mod tenure;

pub use buffer::Nats;
pub use config::{Login, NatsConfig};
pub use stream::Replication;
pub use table::{Put, Stored, Table, TableError};

/// Why a key table was not opened: what is wrong, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server could be reached, or none let us in.
    #[error("cannot connect to NATS at {servers}: {reason}")]
    Connect {
        /// The servers that were asked for.
        servers: String,
        /// In the client's words; after a refusal, what to check.
        reason: String,
    },
    /// A server is older than 2.12.
    #[error(
        "the NATS server {name} is version {version}; Forebay needs {}.{} or later, which can expire single messages and \
         keeps its word about expected sequences: upgrade it", connect::OLDEST.0, connect::OLDEST.1
    )]
    TooOld {
        /// What the server calls itself.
        name: String,
        /// Its version.
        version: String,
    },
    /// The servers take no message that is large enough.
    #[error(
        "the NATS servers take messages of {max} bytes, and an order of {order} with what is known of it needs {needed}: set max_payload: 8MB \
         on the servers, or lower door.item_bytes"
    )]
    Payload {
        /// The servers' `max_payload`.
        max: usize,
        /// The largest order.
        order: usize,
        /// What it needs.
        needed: usize,
    },
    /// The stream is there and not as it must be.
    #[error("the stream {stream} {fault}; {mend}")]
    Stream {
        /// Its name.
        stream: String,
        /// What is wrong with it.
        fault: String,
        /// What to do.
        mend: String,
    },
    /// The servers did not say, or could not do it: JetStream is off, there is no quorum, the user may not.
    #[error("the stream {stream} can neither be read nor made: {reason}")]
    Unavailable {
        /// Its name.
        stream: String,
        /// In the server's words.
        reason: String,
    },
}
