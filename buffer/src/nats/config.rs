//! Where the servers are and what the stream is to be.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How a key table is reached and kept.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Servers to begin with, as `nats://host:4222`; the others of the cluster are learned from them.
    pub servers: Vec<String>,
    /// Who we are to them.
    pub login: Login,
    /// Certificates to trust beside the system's, in one PEM file; TLS is required where it is set.
    pub roots: Option<PathBuf>,
    /// The stream's name. Its subjects begin with the same word.
    pub stream: String,
    /// Copies of each message, on as many servers.
    pub replicas: usize,
    /// Bytes the stream may take on each server; 0 for whatever the account has.
    pub bytes_max: u64,
    /// How long a call whose outcome is unknown is pursued before it is given up as unknown.
    pub deadline: Duration,
}

impl NatsConfig {
    /// Stream `FOREBAY`, three copies, no limit of its own, 10 s.
    pub fn new(servers: impl IntoIterator<Item = String>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            login: Login::Nobody,
            roots: None,
            stream: "FOREBAY".to_owned(),
            replicas: 3,
            bytes_max: 0,
            deadline: Duration::from_secs(10),
        }
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
