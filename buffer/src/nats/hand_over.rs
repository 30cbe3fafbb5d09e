//! A stream whose orders a directory takes over: sealed by its servers, so that nobody writes to it any more, and read.
//!
//! An owner whose message was not given up may have been cut off by that in the middle of a batch: what it lent may have been sent, as
//! where a partition is taken over. Nothing is to be lent for one lease, in which it notices.
//!
//! What was on its way between the servers as the stream was sealed is stored a little later. Whoever wrote it hears of that within
//! one try, or takes it for unknown and is refused from then on; so after a little longer than a try all is there that
//! anybody was told of, and nothing is read before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::connect::TRY_TIMEOUT;
use super::known::Known;
use super::origin::Origin;
use super::seen::Seen;
use super::store::Store;
use super::table::{Stored, Table, TableError};
use super::tenure::{Lent, Tenure};
use super::{NatsConfig, OpenError};
use crate::digest::KeyHasher;
use crate::migrate::{HandsOver, Whole};
use crate::{BufferError, Clock};

/// What was on its way is stored by then, as far as anybody was told.
const SETTLED: Duration = Duration::from_secs(3);
const _: () = assert!(SETTLED.as_secs() > TRY_TIMEOUT.as_secs());
/// So many sequences are left out, for what is stored later still, of which nobody was told.
const LATER: u64 = 1 << 20;

/// Things handed over together, and about how many bytes of orders.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// A sealed stream.
#[derive(Clone)]
pub struct Sealed(Arc<Inner>);

struct Inner {
    table: Table,
    store: Store,
    /// What may have been sent, by the order's sequence.
    lent: HashMap<u64, Lent>,
    /// For how long somebody may still send what he was lent.
    quiet: Duration,
    look_first_until_ms: i64,
    lookup_key: [u8; 32],
    messages: u64,
    now_ms: i64,
}

impl Sealed {
    /// Seals the stream, for good, and reads who owned what.
    ///
    /// # Errors
    /// [`OpenError`]; it may be sealed then.
    pub(crate) async fn open(config: &NatsConfig, clock: &dyn Clock) -> Result<Self, OpenError> {
        let stream = config.stream.as_str();
        let unavailable = |error: &dyn std::fmt::Display| OpenError::Unavailable {
            stream: stream.to_owned(),
            reason: error.to_string(),
        };
        let table = Table::open_there(config).await?;
        let nothing = || OpenError::Stream {
            stream: stream.to_owned(),
            fault: "holds no orders".to_owned(),
            mend: "check nats.stream and nats.servers".to_owned(),
        };
        let store = Store::read(&table, stream).await?.ok_or_else(nothing)?;
        let origin = Origin::read(&table, stream).await?.map(|(origin, _)| origin);
        if origin.as_ref().is_some_and(|origin| !origin.whole) {
            return Err(OpenError::BeingFilled { stream: stream.to_owned() });
        }
        if let Some(path) = &config.seen {
            Seen::check(path, stream, &store, table.highest())?;
        }
        table.seal().await?;
        sleep(SETTLED).await;
        let messages = table.seal().await?;
        let tenures = tenures(&table, &store).await.map_err(|error| unavailable(&error))?;
        let owned = tenures.iter().filter(|tenure| !tenure.released);
        let quiet = owned.map(|tenure| Duration::from_millis(tenure.lease_ms.into())).max();
        let quiet = quiet.unwrap_or_default();
        let lent = tenures.iter().flat_map(Tenure::inherited);
        let lent = lent.map(|lent| (lent.order, lent)).collect();
        let look_first_until_ms =
            origin.as_ref().map_or(i64::MIN, |origin| origin.look_first_until_ms);
        let lookup_key = origin.map_or_else(|| store.lookup_key(), |origin| origin.lookup_key);
        let inner = Inner {
            table,
            store,
            lent,
            quiet,
            look_first_until_ms,
            lookup_key,
            messages,
            now_ms: clock.wall_ms(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The store's secret, and the first sequence that no message of it has.
    pub(crate) fn ends_with(&self) -> ([u8; 16], u64) {
        (self.0.store.secret, self.0.table.highest() + LATER)
    }

    /// What tells it from another.
    pub(crate) fn id(&self) -> String {
        self.0.store.id()
    }

    /// For how long nothing is to be lent.
    pub(crate) fn quiet(&self) -> Duration {
        self.0.quiet
    }

    /// Until when whatever was accepted is to be looked up before it is first sent, ms since 1970.
    pub(crate) fn look_first_until_ms(&self) -> i64 {
        self.0.look_first_until_ms
    }

    /// The key of the e-mail lookup hash.
    pub(crate) fn lookup_key(&self) -> [u8; 32] {
        self.0.lookup_key
    }
}

/// Who owns each partition, or owned it.
async fn tenures(table: &Table, store: &Store) -> Result<Vec<Tenure>, TableError> {
    let mut tenures = Vec::new();
    for partition in 0..store.partitions {
        let Some(stored) = table.read(&store.owner(partition)).await? else { continue };
        let tenure = Tenure::decode(&stored.bytes).ok_or_else(|| {
            TableError::Refused("who owned its orders was written by a later release".to_owned())
        });
        tenures.push(tenure?);
    }
    Ok(tenures)
}

impl Inner {
    /// What a page says.
    fn whole(&self, hash: u128, stored: &Stored) -> Result<Option<Whole>, BufferError> {
        let broken = |what: &dyn std::fmt::Display| {
            BufferError::Failed(format!(
                "the page of order {} cannot be read: {what}",
                stored.sequence
            ))
        };
        let known = Known::of(self.store.hasher, stored).map_err(|error| broken(&error))?;
        let Some(order) = known.order else { return Ok(None) };
        let lent = self.lent.get(&order).filter(|lent| known.is_lent(lent));
        let whole = known.handed_over(hash, lent, self.now_ms);
        whole.map(Some).ok_or_else(|| broken(&"it does not hold together"))
    }

    async fn hand_over(&self, to: &mpsc::Sender<Vec<Whole>>) -> Result<(), BufferError> {
        let failed = |error: TableError| BufferError::Failed(error.to_string());
        let feed = self.table.feed_with_left(self.store.all_pages(), 1).await;
        let (feed, mut left) = feed.map_err(failed)?;
        let mut feed = std::pin::pin!(feed);
        let (mut wholes, mut bytes) = (Vec::new(), 0);
        while left > 0 {
            let ended = || TableError::Unknown("the feed ended before everything came".to_owned());
            let fed;
            (fed, left) = feed.next().await.ok_or_else(ended).flatten().map_err(failed)?;
            let Some(hash) = self.store.hash(&fed.subject) else { continue };
            let Some(whole) = self.whole(hash, &fed.stored)? else { continue };
            bytes += whole.bytes();
            wholes.push(whole);
            if wholes.len() >= BATCH || bytes >= BATCH_BYTES {
                bytes = 0;
                if to.send(std::mem::take(&mut wholes)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // Whoever takes no more has his reasons.
        to.send(wholes).await.ok();
        Ok(())
    }
}

impl HandsOver for Sealed {
    fn hasher(&self) -> KeyHasher {
        self.0.store.hasher
    }

    async fn find(&self, hash: u128) -> Result<Option<Whole>, BufferError> {
        let stored = self.0.table.read(&self.0.store.subject(hash)).await;
        let stored = stored.map_err(|error| BufferError::Failed(error.to_string()))?;
        stored.map_or(Ok(None), |stored| self.0.whole(hash, &stored))
    }

    async fn hand_over(&self, to: mpsc::Sender<Vec<Whole>>) -> Result<(), BufferError> {
        self.0.hand_over(&to).await
    }

    fn count(&self) -> u64 {
        self.0.messages
    }

    /// A stream says so only page by page.
    fn outstanding(&self) -> Vec<u128> {
        Vec::new()
    }
}
