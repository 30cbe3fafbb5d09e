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

use std::path::PathBuf;

mod acts;
mod again;
mod announce;
mod buffer;
mod config;
mod connect;
mod departures;
mod door;
mod drain;
mod feed;
mod fleet;
pub(crate) mod hand_over;
mod inspect;
mod known;
mod many;
mod origin;
mod outcomes;
mod page;
mod partition;
mod room;
mod seen;
mod shared;
mod silence;
mod store;
mod stream;
mod synced;
mod table;
pub(crate) mod take_in;
mod tend;
mod tenure;
mod told;

pub use buffer::Nats;
pub use config::{Login, NatsConfig};
pub use inspect::{Found, Inspection};
pub(crate) use origin::Origin;
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
    /// A server acknowledges before it has synced, and that is not allowed.
    #[error(
        "the NATS server {name} acknowledges before it has synced: a power cut of all servers would lose what was acknowledged; set \
         sync_interval: always in its jetstream section, or nats.require_fsync = false"
    )]
    NotSynced {
        /// What the server calls itself.
        name: String,
    },
    /// It is not the store this process knew.
    #[error(
        "the stream {stream} is another one than this process knew ({}): orders that were acknowledged may be gone, or are in the stream it \
         knew. Look whether nats.stream and nats.servers are as they were, and who made it anew; if it was meant, remove that file", .path.display()
    )]
    OtherStore {
        /// The stream's name.
        stream: String,
        /// Where it is kept what was seen.
        path: PathBuf,
    },
    /// The stream is behind what this process has seen of it.
    #[error(
        "the stream {stream} is at sequence {now}, and was at {highest} ({}): it was restored from an older copy, and orders that were \
         acknowledged may be gone. If that was meant, remove that file, and have the storefronts send again what they sent since", .path.display()
    )]
    WentBack {
        /// The stream's name.
        stream: String,
        /// Where it is kept what was seen.
        path: PathBuf,
        /// Its newest sequence.
        now: u64,
        /// The newest that was seen.
        highest: u64,
    },
    /// It does not have all orders yet.
    #[error(
        "the stream {stream} has not taken in all orders of the disk they come from: go on with `forebay migrate` until that is done"
    )]
    BeingFilled {
        /// The stream's name.
        stream: String,
    },
    /// What was seen of the store before cannot be read or kept.
    #[error("what was seen of the stream before is kept in {}, and cannot be used: {reason}", .path.display())]
    Seen {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
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
    /// It would be made without a limit.
    #[error(
        "the stream {stream} is not there yet, and nats.bytes_max = \"0B\" would make it without a limit: nothing would be kept free, and \
         once the servers' disks are full no order could be settled either. Set nats.bytes_max to what each server may keep of it, a \
         little below its disk"
    )]
    NoLimit {
        /// Its name.
        stream: String,
    },
    /// The servers have no room for it.
    #[error(
        "the NATS servers cannot set {bytes_max} bytes each aside for the stream {stream}: {reason}; lower nats.bytes_max, or raise \
         max_file_store on the servers, or what the account may store"
    )]
    NoRoom {
        /// Its name.
        stream: String,
        /// What it is to have on each server.
        bytes_max: u64,
        /// In the server's words.
        reason: String,
    },
    /// The servers did not say, or could not do it: JetStream is off, there is no quorum, the user may not.
    #[error(
        "the stream {stream} can neither be read nor made: {reason} (a quorum of the servers must run, with JetStream, and the user be \
         allowed to use it)"
    )]
    Unavailable {
        /// Its name.
        stream: String,
        /// In the server's words.
        reason: String,
    },
}
