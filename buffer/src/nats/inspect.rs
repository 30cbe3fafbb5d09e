//! What a cluster is like, for whoever is about to run on it. Nothing is declared or changed.

use async_nats::jetstream;

use super::connect::connect;
use super::stream::{self, Replication};
use super::{NatsConfig, OpenError, synced};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The stream; `None` where there is none yet, so that the first start declares it.
    pub stream: Option<Found>,
    /// Whether each server syncs before it acknowledges; `None` if that is not known.
    pub synced: Option<bool>,
}

/// A stream that is there, and as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its copies.
    pub replication: Replication,
    /// Messages, one a key.
    pub keys: u64,
    /// Bytes they take, of each copy.
    pub bytes: u64,
    /// Bytes they may take; `None` if there is no limit, so that nothing is kept free.
    pub bytes_max: Option<u64>,
}

impl Inspection {
    /// Asks the servers.
    ///
    /// # Errors
    /// [`OpenError`], as [`super::Nats::open`] would return it.
    pub async fn of(config: &NatsConfig) -> Result<Self, OpenError> {
        let context = jetstream::new(connect(config).await?);
        let stream = stream::find(&context, config).await?.map(|stream| {
            let info = stream.cached_info();
            let (keys, bytes) = (info.state.messages, info.state.bytes);
            let bytes_max = u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0);
            Found { replication: Replication::of(info), keys, bytes, bytes_max }
        });
        if stream.is_none() {
            stream::must_have_limit(config)?;
        }
        Ok(Self { stream, synced: synced::ask(config).await? })
    }
}
