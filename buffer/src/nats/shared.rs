//! What the doors, the drain and the tending of partitions share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::Info;
use forebay_order::OrderKey;
use futures_util::future::join_all;
use hashbrown::HashMap;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::NatsConfig;
use super::announce::Announced;
use super::known::Known;
use super::origin::Origin;
use super::outcomes::Ear;
use super::page::{Page, PageError};
use super::partition::Partition;
use super::room::Room;
use super::seen::Seen;
use super::store::Store;
use super::stream::{self, Replication};
use super::synced::{Holders, Syncing};
use super::table::{Stored, Table, TableError};
use super::tenure::{Lent, Tenure};
use crate::embedded::coming::Comings;
use crate::state::{Meter, State};
use crate::underway::{Underway, Waiter};
use crate::{Admission, AppendError, BufferError, Clock, Durability};

/// A verdict on its way is waited for so long: while the servers do not answer, people are told what was before it.
pub(super) const SETTLED_WAIT: Duration = Duration::from_secs(2);
/// The stream is looked at so often.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A server that no write was answered by for so long is left for another. That is longer than most choices of a leader take, of
/// which no server knows more than another.
const LEFT_AFTER: Duration = Duration::from_secs(6);
/// Nothing is ready while no write is answered for so long.
const RED_AFTER: Duration = Duration::from_secs(3);

/// One process's part of the store.
pub(super) struct Shared {
    pub(super) config: NatsConfig,
    pub(super) admission: Admission,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) table: Table,
    pub(super) store: Store,
    /// Where the orders came from, if it was another store.
    pub(super) origin: Option<Origin>,
    /// This process, to the others.
    pub(super) node: u64,
    /// The sequence of our own message among the nodes'; held while it is being replaced.
    pub(super) node_row: tokio::sync::Mutex<u64>,
    /// What the processes that drain announced.
    pub(super) announced: Mutex<Announced>,
    pub(super) partitions: Vec<Partition>,
    /// As of the last look at it.
    stream: Mutex<StreamNow>,
    syncing: Syncing,
    /// For those who wait for what becomes of orders.
    pub(super) ear: Ear,
    /// Orders became ready, or the phase changed.
    pub(super) changed: Notify,
    pub(super) meter: Meter,
    /// Where tasks run, whoever starts them.
    pub(super) tasks: Handle,
    pub(super) closing: AtomicBool,
    pub(super) loans: Mutex<Loans>,
    /// One for each ticket that is about to be written, and this one.
    pub(super) coming: Comings,
    /// Verdicts on their way, and deliveries: those of one key are judged in the order in which they were handed in.
    pub(super) settling: Arc<Underway>,
    pub(super) appending: Arc<Underway>,
    trouble: Mutex<Option<String>>,
    /// Bytes that are left for orders; the rest is for what becomes of those that are there.
    pub(super) room: Room,
}

/// What the stream is, which may be changed while it is served from.
struct StreamNow {
    replication: Replication,
    /// Why it is not as it must be, if it is not.
    unfit: Option<String>,
}

/// Loans that were handed out, by order and loan.
pub(super) type Loans = HashMap<(u64, u64), HandedOut>;

/// A loan that was handed out, and what it was of. It outlives the tenure it was made in.
#[derive(Clone, Debug)]
pub(super) struct HandedOut {
    pub(super) hash: u128,
    pub(super) epoch: u64,
    pub(super) loan: u64,
    pub(super) stored: Stored,
}

/// A key, and whether its order is with a worker.
pub(super) struct Look {
    pub(super) known: Known,
    pub(super) lent: Option<Lent>,
}

impl Look {
    /// See [`Known::named`].
    pub(super) fn named(self, key: &OrderKey) -> Self {
        Self { known: self.known.named(key), ..self }
    }
}

impl Shared {
    pub(super) fn new(
        config: NatsConfig,
        clock: Arc<dyn Clock>,
        (table, store, origin): (Table, Store, Option<Origin>),
        (replication, syncing): (Replication, Syncing),
    ) -> Self {
        Self {
            admission: Admission::new(config.in_flight_orders, config.in_flight_bytes),
            partitions: (0..store.partitions).map(Partition::new).collect(),
            node: fastrand::u64(..),
            node_row: tokio::sync::Mutex::default(),
            announced: Mutex::default(),
            ear: Ear::default(),
            changed: Notify::new(),
            meter: Meter::default(),
            tasks: Handle::current(),
            closing: AtomicBool::new(false),
            loans: Mutex::default(),
            coming: Comings::default(),
            settling: Arc::default(),
            appending: Arc::default(),
            trouble: Mutex::default(),
            room: Room::default(),
            config,
            clock,
            table,
            store,
            origin,
            stream: Mutex::new(StreamNow { replication, unfit: None }),
            syncing,
        }
    }

    /// A state of which nothing is known yet but what holds for all orders.
    pub(super) fn new_state(&self) -> State {
        let mut state = State::hashing(self.store.hasher);
        if let Some(origin) = &self.origin {
            let now_ms = self.clock.wall_ms();
            let record = state.look_first_until(origin.look_first_until_ms, now_ms);
            state.apply_whole(record.map(|record| (0, record)).as_slice());
        }
        state
    }

    /// Where whatever is acknowledged now is durable.
    pub(super) fn durability(&self) -> Durability {
        let synced = self.syncing.said().synced();
        let StreamNow { replication, .. } = &*self.stream();
        Durability::Quorum { needed: replication.quorum(), of: replication.replicas, synced }
    }

    fn stream(&self) -> MutexGuard<'_, StreamNow> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the stream is now.
    fn found(&self, info: &Info) {
        self.syncing.held_by(Holders::of(info));
        let unfit = stream::is_still_fit(info, &self.config).err().map(|error| error.to_string());
        let mut now = self.stream();
        if unfit != now.unfit {
            match &unfit {
                Some(why) => tracing::error!("{why}"),
                None => tracing::info!("the stream is as it must be again"),
            }
        }
        *now = StreamNow { replication: Replication::of(info), unfit };
    }

    /// The same, for a receipt.
    ///
    /// # Errors
    /// [`Shared::must_sync`].
    pub(super) fn durable(&self) -> Result<Durability, AppendError> {
        self.must_sync()?;
        Ok(self.durability())
    }

    /// Fails where the servers have come to acknowledge before they sync, and must not.
    ///
    /// # Errors
    /// [`AppendError::Failed`] says which does.
    pub(super) fn must_sync(&self) -> Result<(), AppendError> {
        let allowed = self.syncing.said().allowed(&self.config);
        allowed.map_err(|error| AppendError::Failed(error.to_string()))
    }

    /// Fails once it is closing.
    pub(super) fn open(&self) -> Result<(), BufferError> {
        if self.closing.load(Ordering::Acquire) { Err(BufferError::Closing) } else { Ok(()) }
    }

    /// The partition a key is in.
    pub(super) fn partition(&self, hash: u128) -> Option<&Partition> {
        self.partitions.get(usize::from(self.store.partition(hash)))
    }

    pub(super) fn loans(&self) -> MutexGuard<'_, Loans> {
        self.loans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what stands under a key.
    pub(super) fn known(&self, stored: Option<&Stored>) -> Result<Known, PageError> {
        let hasher = self.store.hasher;
        stored.map_or_else(|| Ok(Known::nothing(hasher)), |stored| Known::of(hasher, stored))
    }

    /// What is known of a key now, from the leader; what this process is settling is waited for.
    pub(super) async fn look(&self, hash: u128) -> Result<Look, BufferError> {
        self.settled(hash).await;
        let stored = self.table.read(&self.store.subject(hash)).await.map_err(failed)?;
        self.look_at(hash, stored.as_ref()).await
    }

    /// The same of a key that was just read.
    pub(super) async fn look_at(
        &self,
        hash: u128,
        stored: Option<&Stored>,
    ) -> Result<Look, BufferError> {
        let mut known =
            self.known(stored).map_err(|error| BufferError::Failed(error.to_string()))?;
        let mut lent = None;
        if known.waits() {
            lent = self.lent(hash, &known).await?;
            match &lent {
                Some(lent) => known.lent(lent.may_be_sent()),
                None => drop(known.free()),
            }
        }
        Ok(Look { known, lent })
    }

    /// Whether an order is with a worker, wherever that is.
    pub(super) async fn lent(
        &self,
        hash: u128,
        known: &Known,
    ) -> Result<Option<Lent>, BufferError> {
        let Some(order) = known.order else { return Ok(None) };
        let elapsed = self.clock.elapsed();
        let ours = self.partition(hash).and_then(|partition| {
            partition.with(|mine| mine.is_certain(elapsed).then(|| mine.lent.get(&order).copied()))
        });
        let lent = match ours.flatten() {
            Some(lent) => lent,
            None => {
                let stored = self.table.read(&self.store.owner(self.store.partition(hash))).await;
                let Some(stored) = stored.map_err(failed)? else { return Ok(None) };
                let tenure = Tenure::decode(&stored.bytes).ok_or_else(unreadable_tenure)?;
                tenure.lent(order).copied()
            }
        };
        Ok(lent.filter(|lent| known.is_lent(lent)))
    }

    /// Waits for the verdict on a key that is on its way.
    pub(super) async fn settled(&self, hash: u128) {
        if let Some(settling) = self.settling.of(hash) {
            drop(timeout(SETTLED_WAIT, settling.over()).await);
        }
    }

    /// Waits for all verdicts that are on their way now, for so long at most.
    pub(super) async fn all_settled(&self, wait: Duration) {
        let all = self.settling.all().into_iter().map(Waiter::over);
        drop(timeout(wait, join_all(all)).await);
    }

    /// Takes in what this process wrote, if the partition is its own.
    pub(super) fn take(&self, hash: u128, sequence: u64, page: &Page) {
        let Some(partition) = self.partition(hash) else { return };
        if partition.with(|mine| mine.take(hash, sequence, page)).is_some() {
            self.changed.notify_waiters();
        }
    }

    /// Looks at the stream now and then: how far it is, how full, and whether the servers answer.
    pub(super) async fn watch_store(self: Arc<Self>, mut seen: Option<Seen>) {
        while self.open().is_ok() {
            let looked = self.room.look();
            let info = self.table.info_of_led().await;
            self.answered(info.as_ref().err());
            if let Ok(info) = info {
                let (bytes, limit) = stream::size(&info);
                self.room.found(looked, bytes, limit);
                self.found(&info);
            }
            let highest = self.table.highest();
            // A disk of ours that is slow must not hold the partitions up.
            let noted = tokio::task::spawn_blocking(move || {
                if let Some(seen) = &mut seen {
                    seen.reached(highest);
                }
                seen
            });
            seen = noted.await.unwrap_or_default();
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Asks the servers now and then whether they sync, if they can be asked.
    pub(super) async fn watch_syncing(self: Arc<Self>) {
        while self.syncing.can_ask() && self.open().is_ok() {
            self.syncing.look().await;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Leaves servers that answer no write.
    pub(super) async fn leave_the_silent(self: Arc<Self>) {
        while self.open().is_ok() {
            let silent = self.table.silent_for();
            if silent >= LEFT_AFTER {
                tracing::warn!(?silent, "no write is answered by this NATS server; trying another");
                self.table.reconnect().await;
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Writes pages of orders that were called off, so that they expire.
    pub(super) async fn tidy_up(self: Arc<Self>) {
        while self.open().is_ok() {
            self.write_called_off().await;
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Notes how the servers did.
    pub(super) fn answered(&self, error: Option<&TableError>) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        *trouble = match error {
            // Of one message alone.
            Some(TableError::TooLarge { .. } | TableError::Refused(_)) => return,
            Some(error) => Some(error.to_string()),
            None => None,
        };
    }

    /// Whether the servers do what they should.
    pub(super) fn health(&self) -> Result<(), String> {
        self.open().map_err(|error| error.to_string())?;
        self.table.sound().map_err(|error| error.to_string())?;
        self.syncing.said().allowed(&self.config).map_err(|error| error.to_string())?;
        self.syncing.new_enough().map_err(|error| error.to_string())?;
        if let Some(unfit) = &self.stream().unfit {
            return Err(unfit.clone());
        }
        if self.room.is_full() {
            return Err(AppendError::Full.to_string());
        }
        let silent = self.table.silent_for();
        if silent >= RED_AFTER {
            return Err(format!(
                "no write was answered by the NATS servers for {} s",
                silent.as_secs()
            ));
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        trouble.map_or(Ok(()), Err)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("stream", &self.config.stream).finish_non_exhaustive()
    }
}

/// A failed call, to whoever waits for its answer.
pub(super) fn failed(error: TableError) -> BufferError {
    BufferError::Failed(error.to_string())
}

pub(super) fn unreadable_tenure() -> BufferError {
    BufferError::Failed(
        "who owns the order's partition was written by a later release: upgrade this one"
            .to_owned(),
    )
}
