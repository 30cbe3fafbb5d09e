//! The buffer over the key table: what its callers see.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::OrderKey;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::door::MESSAGE_RESERVE;
use super::fleet::Ask;
use super::origin::Origin;
use super::seen::Seen;
use super::shared::{SETTLED_WAIT, Shared, failed};
use super::store::Store;
use super::stream::{self, Replication};
use super::synced::{Holders, Said, Syncing};
use super::table::Table;
use super::take_in::TakingIn;
use super::tend::Rounds;
use super::{NatsConfig, OpenError};
use crate::control::Control;
use crate::metrics;
use crate::view::Fleet;
use crate::{
    Act, ActError, ActReceipt, Admission, AppendError, Buffer, BufferError, Clock, Common,
    Durability, Effect, Envelope, ExceptionRow, FeedCursor, FeedError, FeedPage, Lease, OrderView,
    Pace, Permit, Receipt, Status, SummarisedPage, Telling,
};

/// A start waits so long for what it took over to be read; the rest is read while it serves.
const LOAD_WAIT: Duration = Duration::from_secs(10);
const LOAD_LOOK: Duration = Duration::from_millis(5);

/// A buffer on a NATS JetStream cluster, shared by any number of processes. Its receipts say on how many servers an order
/// is, and whether they sync.
///
/// Every process takes orders in and answers for any key; a partition of the keys is drained by the one that owns it. What
/// only an owner knows (exceptions, counts) the others ask it for. [`Buffer::pace`] is of this process's partitions alone.
#[derive(Clone)]
pub struct Nats {
    shared: Arc<Shared>,
}

impl Nats {
    /// Connects, declares or checks the stream, and takes its share of the partitions. Must be called in a tokio runtime,
    /// where its tasks will run.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: NatsConfig, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        Self::open_with(config, clock, None).await
    }

    /// The same to take orders of another store in, or to go on with that.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) async fn open_taking_in(
        config: NatsConfig,
        taking_in: TakingIn,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_with(config, clock, Some(taking_in)).await
    }

    async fn open_with(
        config: NatsConfig,
        clock: Arc<dyn Clock>,
        taking_in: Option<TakingIn>,
    ) -> Result<Self, OpenError> {
        // What can be refused is, before anything is written: orders go on being taken where they were.
        let syncing = Syncing::begin(&config).await?;
        syncing.said().allowed(&config)?;
        let next_sequence = taking_in.as_ref().map(|taking_in| taking_in.next_sequence);
        let table = Table::open_from(&config, next_sequence).await?;
        let (order, max) = (config.order_bytes, table.message_max());
        let needed = order + 2 * MESSAGE_RESERVE;
        if max < needed {
            return Err(OpenError::Payload { max, order, needed });
        }
        let see = |store: &Store| {
            let path = config.seen.as_ref();
            path.map(|path| Seen::check(path, &config.stream, store, table.highest())).transpose()
        };
        let (store, origin, seen) = match taking_in {
            Some(taking_in) => {
                let ready = taking_in.look(&table, &config).await?;
                let seen = see(&ready.store)?;
                let (store, origin) = ready.begin(&table, &config).await?;
                (store, Some(origin), seen)
            }
            None => {
                let store = Store::open(&table, &config.stream, config.partitions, None).await?;
                let origin = Origin::read(&table, &config.stream).await?;
                if origin.as_ref().is_some_and(|(origin, _)| !origin.whole) {
                    return Err(OpenError::BeingFilled { stream: config.stream });
                }
                let seen = see(&store)?;
                (store, origin.map(|(origin, _)| origin), seen)
            }
        };
        if store.partitions != config.partitions {
            let (found, wanted) = (store.partitions, config.partitions);
            tracing::warn!(
                stream = config.stream,
                found,
                wanted,
                "the store's partitions are not the configured ones, and stand"
            );
        }
        let unavailable = |error: super::TableError| OpenError::Unavailable {
            stream: config.stream.clone(),
            reason: error.to_string(),
        };
        let info = table.info().await.map_err(unavailable)?;
        syncing.held_by(Holders::of(&info));
        if syncing.said() == Said::Nothing {
            tracing::warn!(
                "it is not known that the NATS servers sync before they acknowledge (sync_interval: always); otherwise a power cut of \
                 all of them loses what was acknowledged in the last minutes"
            );
        }
        let replication = Replication::of(&info);
        let shared = Shared::new(config, clock, (table, store, origin), (replication, syncing));
        let shared = Arc::new(shared);
        drop(tokio::spawn(Arc::clone(&shared).watch_syncing()));
        drop(tokio::spawn(Arc::clone(&shared).watch_store(seen)));
        drop(tokio::spawn(Arc::clone(&shared).leave_the_silent()));
        if shared.config.drains {
            let mut rounds = Rounds::default();
            shared.tend_once(&mut rounds).await;
            drop(tokio::spawn(Arc::clone(&shared).answer()));
            drop(tokio::spawn(Arc::clone(&shared).tidy_up()));
            drop(tokio::spawn(Arc::clone(&shared).tend(rounds)));
            let mut waited = Duration::ZERO;
            while !shared.is_loaded() && waited < LOAD_WAIT {
                sleep(LOAD_LOOK).await;
                waited += LOAD_LOOK;
            }
        }
        Ok(Self { shared })
    }

    /// The key of the e-mail lookup hash: the same for all processes of the store, and nobody else's.
    pub fn lookup_key(&self) -> [u8; 32] {
        let origin = self.shared.origin.as_ref();
        origin.map_or_else(|| self.shared.store.lookup_key(), |origin| origin.lookup_key)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How many partitions this process owns, and of how many.
    pub fn owned(&self) -> (usize, usize) {
        let partitions = &self.shared.partitions;
        (
            partitions.iter().filter(|partition| partition.with(|_| ()).is_some()).count(),
            partitions.len(),
        )
    }
}

impl fmt::Debug for Nats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Buffer for Nats {
    fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    /// Hands the delivery in at once, not at the first poll.
    fn append(
        &self,
        envelope: Envelope,
        permit: Permit,
    ) -> impl Future<Output = Result<Receipt, AppendError>> {
        let (reply, answer) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let (before, turn) = shared.appending.begin(shared.hash_in_line(&envelope));
        drop(self.shared.tasks.spawn(async move {
            if let Some(before) = before {
                before.over().await;
            }
            let answer = shared.append(envelope).await;
            drop((turn, permit));
            reply.send(answer).ok();
        }));
        async move {
            let gone = |_| Err(AppendError::Failed("its task ended".to_owned()));
            answer.await.unwrap_or_else(gone)
        }
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        self.shared.lease(limit, wait, false).await
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        self.shared.lease(limit, wait, true).await
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        let effect = self.shared.tell(&telling).await?;
        metrics::told(effect);
        Ok(effect)
    }

    fn outstanding(&self) -> u64 {
        let coming = self.shared.coming.count();
        let noted = self.shared.partitions.iter().map(|partition| partition.outstanding());
        coming + noted.sum::<u64>()
    }

    async fn submitting(&self, leases: &[Lease], synced: bool) -> Result<Vec<bool>, BufferError> {
        self.shared.submitting(leases, synced).await
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        self.shared.view(key).await
    }

    async fn body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        let shared = &self.shared;
        shared.open()?;
        let heard = shared.ask(Ask::At { sequence }).await.map_err(failed)?;
        let Some(hash) = heard.hash else {
            return heard.whole().map(|_| None).map_err(failed);
        };
        Ok(shared.look(hash).await?.known.body(sequence))
    }

    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        let shared = &self.shared;
        shared.open()?;
        shared.all_settled(SETTLED_WAIT).await;
        let heard = shared.ask(Ask::Rows { after, limit }).await.map_err(failed)?;
        let mut ids = heard.whole().map_err(failed)?.rows;
        ids.sort_unstable();
        ids.truncate(limit);
        let mut hashes: Vec<u128> = ids.iter().map(|(_, hash)| *hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let looks = join_all(hashes.into_iter().map(|hash| shared.look(hash))).await;
        let mut rows = Vec::with_capacity(ids.len());
        for look in looks {
            rows.extend(look?.known.exceptions());
        }
        rows.retain(|row| ids.binary_search_by_key(&row.id, |(id, _)| *id).is_ok());
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        self.shared.act(exception, act).await
    }

    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        self.shared.summarised_since(since_ms, from, limit).await
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        self.shared.send_again(key).await
    }

    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        self.shared.events(after, limit, wait).await
    }

    async fn status(&self) -> Result<Status, BufferError> {
        let shared = &self.shared;
        shared.open()?;
        shared.all_settled(SETTLED_WAIT).await;
        let heard = shared.ask(Ask::Status).await.map_err(failed)?;
        let fleet = Some(Fleet::of(shared, &heard));
        let mut status = Status { fleet, ..heard.status };
        let info = shared.table.info_of_led().await.map_err(failed)?;
        (status.disk_bytes, status.disk_bytes_max) = stream::size(&info);
        status.durable_sequence = info.state.last_sequence;
        status.durability = shared.durability().to_string();
        Ok(status)
    }

    fn health(&self) -> Result<(), String> {
        self.shared.health()
    }

    fn durability(&self) -> Durability {
        self.shared.durability()
    }

    fn pace(&self) -> Pace {
        Pace {
            pending: self.shared.partitions.iter().map(|partition| partition.pending()).sum(),
            drained_per_s: self.shared.meter.per_second(self.shared.clock.elapsed()),
        }
    }

    /// The part of the partitions that is ours, and certainly so; none while it is not known what the others keep to.
    fn share(&self) -> f64 {
        if !self.shared.is_common_known() {
            return 0.0;
        }
        let elapsed = self.shared.clock.elapsed();
        let partitions = &self.shared.partitions;
        let ours = partitions
            .iter()
            .filter(|partition| partition.with(|mine| mine.may_lend(elapsed)) == Some(true));
        match ours.count() {
            1.. if Control::WholeCeiling.is_on() => 1.0,
            ours => ours as f64 / partitions.len().max(1) as f64,
        }
    }

    fn common(&self) -> Arc<Common> {
        self.shared.common()
    }

    async fn close(&self) {
        let shared = &self.shared;
        if shared.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        shared.ear.close();
        shared.changed.notify_waiters();
        shared.end_loans();
        shared.all_settled(shared.config.deadline).await;
        let released =
            join_all(shared.partitions.iter().map(|partition| shared.release(partition)));
        tokio::join!(shared.leave(), released);
    }
}
