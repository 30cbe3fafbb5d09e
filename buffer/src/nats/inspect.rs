//! What a cluster is like, for whoever is about to run on it. Nothing is declared or changed.

use async_nats::jetstream;

use super::announce::All;
use super::connect::connect;
use super::stream::{self, Replication};
use super::synced::{Holders, Syncing};
use super::{NatsConfig, OpenError, Table};
use crate::{Announcement, Common};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The stream; `None` where there is none yet, so that the first start declares it.
    pub stream: Option<Found>,
    /// Whether each server syncs before it acknowledges; `None` if that is not known.
    pub synced: Option<bool>,
    /// Where the limits of the processes that drain, and those of this configuration, differ, or may.
    pub differs: Option<String>,
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
        let Some(stream) = stream::find(&context, config).await? else {
            stream::must_have_limit(config)?;
            let synced = synced(config, Holders::Any(config.replicas)).await?;
            return Ok(Self { stream: None, synced, differs: None });
        };
        let info = stream.cached_info();
        let holders = Holders::of(info);
        let (keys, bytes) = (info.state.messages, info.state.bytes);
        let bytes_max = u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0);
        let found = Found { replication: Replication::of(info), keys, bytes, bytes_max };
        let process = "this configuration".to_owned();
        let own = Announcement { process, ..config.announcement.clone() };
        let own = config.drains.then_some(&own);
        let table = Table::of(context, stream, config);
        let others = table.announced(&config.stream, 0, All::default()).await;
        // Of a stream that does not answer its copies say so.
        let others = others.unwrap_or_default();
        let others = others.values().map(Option::as_ref);
        let differs = Common::of(own.map(Some).into_iter().chain(others)).differs;
        Ok(Self { stream: Some(found), synced: synced(config, holders).await?, differs })
    }
}

/// Whether the servers sync, as far as they can be asked.
async fn synced(config: &NatsConfig, holders: Holders) -> Result<Option<bool>, OpenError> {
    let syncing = Syncing::begin(config).await?;
    syncing.held_by(holders);
    let said = syncing.said();
    said.allowed(config)?;
    Ok(said.synced())
}
