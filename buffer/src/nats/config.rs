//! Where the servers are and what the stream is to be.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::connect::without_login;
use crate::Announcement;

/// How a key table is reached and kept.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Servers to begin with, as `nats://host:4222`; the others of the cluster are learned from them.
    pub servers: Vec<String>,
    /// Who we are to them.
    pub login: Login,
    /// Who may ask the servers how they are set up (their system account), if anybody.
    pub system: Option<Login>,
    /// Whether servers that are found not to sync before they acknowledge are refused.
    pub require_fsync: bool,
    /// A file in which is kept what was seen of the store, to tell it from another one at the next start.
    pub seen: Option<PathBuf>,
    /// Certificates to trust beside the system's, in one PEM file; TLS is required where it is set.
    pub roots: Option<PathBuf>,
    /// The stream's name. Its subjects begin with the same word.
    pub stream: String,
    /// Copies of each message, on as many servers.
    pub replicas: usize,
    /// Bytes that the stream may take on each server, which they set aside for it. With 0 none is made: one that is there keeps the
    /// limit it has.
    pub bytes_max: u64,
    /// How long a call whose outcome is unknown is pursued before it is given up as unknown.
    pub deadline: Duration,
    /// Into how many parts the keys of a new store are divided. Each is drained by one process at a time, so it is the most
    /// processes that can take part. What a store was begun with stays.
    pub partitions: u16,
    /// Whether this process takes part in the drain, or only takes orders in.
    pub drains: bool,
    /// How long a partition stays with a process that does not answer.
    pub lease: Duration,
    /// How long orders that another process had lent are left alone by whoever takes their partition over: as long as a call of that
    /// process may be under way, which may have lost these servers and not the OMS. Zero where the OMS takes no order twice.
    pub lent_wait: Duration,
    /// Who this process is, and which of its limits must be those of all that drain.
    pub announcement: Announcement,
    /// How long the first answer of an order is remembered: how long after it ended what stands under its key expires. Whole
    /// seconds.
    pub dedup_horizon: Duration,
    /// How long a summarised order is kept whole, so that it can be sent again to an OMS that lost it. More than zero keeps it as
    /// long as its first answer is remembered.
    pub replay_window: Duration,
    /// Bytes of the largest order; the servers must take one, and what is known of it, in a message.
    pub order_bytes: usize,
    /// Deliveries in flight at most.
    pub in_flight_orders: usize,
    /// Bytes in flight at most.
    pub in_flight_bytes: usize,
}

impl NatsConfig {
    /// Stream `FOREBAY`, three copies, 16 GiB, 10 s; 16 partitions, leases of 10 s, 24 hours, orders of 512 KiB, 8,192
    /// deliveries and 256 MiB in flight.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            login: Login::Nobody,
            system: None,
            require_fsync: true,
            seen: None,
            roots: None,
            stream: "FOREBAY".to_owned(),
            replicas: 3,
            bytes_max: 16 << 30,
            deadline: Duration::from_secs(10),
            partitions: 16,
            drains: true,
            lease: Duration::from_secs(10),
            lent_wait: Duration::ZERO,
            announcement: Announcement::default(),
            dedup_horizon: Duration::from_secs(86_400),
            replay_window: Duration::ZERO,
            order_bytes: 512 << 10,
            in_flight_orders: 8_192,
            in_flight_bytes: 256 << 20,
        }
    }

    /// The servers as they may be shown.
    pub(crate) fn shown_servers(&self) -> String {
        let shown: Vec<_> = self.servers.iter().map(|server| without_login(server)).collect();
        shown.join(", ")
    }
}

/// Who we are to the servers.
#[derive(Clone)]
pub enum Login {
    /// They ask nobody.
    Nobody,
    /// A user and its password.
    User {
        /// Its name.
        name: String,
        /// Never shown.
        password: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::User { name, .. } => {
                f.debug_struct("User").field("name", name).finish_non_exhaustive()
            }
        }
    }
}
