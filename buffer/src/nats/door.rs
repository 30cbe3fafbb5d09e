//! The door's side: any process makes a delivery durable, whoever owns its partition.
//!
//! ```text
//! create the key -> done: accepted
//!       | something stands there
//! look: page and, if it waits, its owner's list -> judge -> replace -> done: answered
//! ```
//! **A change of an order that waits is written as parked**, always: what is parked has its effect once the order is not
//! lent. So no door needs to know whether an owner lends the order in this moment. The owner lists it first and reads its
//! page then; the door writes the page first and reads the list then. One of the two must see the other.

use forebay_order::{OrderKey, Readiness, RecordedAs};

use super::known::Known;
use super::partition::Partition;
use super::shared::{Look, Shared, failed};
use super::table::{Put, Stored, TableError};
use crate::record::Record;
use crate::state::Judged;
use crate::{AppendError, BufferError, Envelope, OrderView, Receipt};

/// Bytes of a message that are kept free for what becomes of its order: reasons, fingerprints, a ticket, how it was settled.
pub(super) const MESSAGE_RESERVE: usize = 64 << 10;

/// A delivery that says that its order failed, or was replaced, where it was placed.
const FAILED: Readiness = Readiness::Recorded(RecordedAs::Failed);

impl Shared {
    /// The hash by which deliveries wait for each other: what failed at its source may concern the order of its key.
    pub(super) fn hash_in_line(&self, envelope: &Envelope) -> u128 {
        match envelope.readiness {
            FAILED => self.store.hasher.of_key(&envelope.key),
            _ => self.store.hasher.of(envelope),
        }
    }

    /// Makes a delivery durable, or finds out what it comes to.
    pub(super) async fn append(&self, mut envelope: Envelope) -> Result<Receipt, AppendError> {
        self.open().map_err(append_error)?;
        self.must_sync()?;
        let hasher = self.store.hasher;
        let mut seen = None;
        if envelope.readiness == FAILED {
            let hash = hasher.of_key(&envelope.key);
            let look = self.look(hash).await.map_err(append_error)?.named(&envelope.key);
            look.known.hold_failed(&mut envelope);
            if envelope.readiness != FAILED {
                seen = Some(look);
            }
        }
        let hash = hasher.of(&envelope);
        loop {
            let look = match seen.take() {
                Some(look) => look,
                // Nearly always it is the first of its key, so nobody asks before.
                None => Look {
                    known: self.known(None).map_err(|e| AppendError::Failed(e.to_string()))?,
                    lent: None,
                },
            };
            match self.append_to(hash, look, &envelope).await? {
                Ok(receipt) => return Ok(receipt),
                Err(stored) => {
                    self.settled(hash).await;
                    let look = self.look_at(hash, stored.as_ref()).await.map_err(append_error)?;
                    seen = Some(look.named(&envelope.key));
                }
            }
        }
    }

    /// Judges a delivery by what is known and writes what it comes to; gives back what stands there if that was not known.
    async fn append_to(
        &self,
        hash: u128,
        look: Look,
        envelope: &Envelope,
    ) -> Result<Result<Receipt, Option<Stored>>, AppendError> {
        let mut judged = look.known.judge(envelope);
        if judged.refused() {
            return Err(AppendError::Disputed);
        }
        let accepted_at_ms = look.known.accepted_at(self.clock.wall_ms());
        let Some(mut record) = judged.into_record(envelope.clone(), accepted_at_ms) else {
            let receipt = look.known.receipt(&judged, None, self.durable()?);
            return receipt.map(Ok).ok_or_else(not_there);
        };
        if self.room.is_full() {
            return Err(AppendError::Full);
        }
        if self.write_effect(hash, &look).await.map_err(put_error)? {
            return self.read(hash).await.map(Err).map_err(append_error);
        }
        let Look { mut known, lent } = look;
        let waited = known.waits();
        if waited {
            park(&mut record);
        }
        let page = known.page_with(record.clone()).ok_or_else(not_there)?;
        let message = page.encode();
        if message.len() > self.table.message_max().saturating_sub(MESSAGE_RESERVE) {
            return Err(AppendError::TooLarge);
        }
        let taken = self.room.take(message.len()).ok_or(AppendError::Full)?;
        let over = Known::is_over_with(self.store.hasher, &page);
        let ttl = over.then_some(self.config.dedup_horizon);
        let put = self.table.replace(&self.store.subject(hash), known.stored, message, ttl).await;
        drop(taken);
        self.answered(put.as_ref().err());
        let sequence = match put.map_err(put_error)? {
            Put::Done(sequence) => sequence,
            Put::Overtaken(stored) => return Ok(Err(stored)),
        };
        let page = page.stored_at(sequence);
        known.wrote(sequence, record);
        if waited {
            self.after_change(hash, &mut known, &mut judged, lent.is_some()).await?;
        }
        self.take(hash, sequence, &page);
        let written = Some((sequence, accepted_at_ms));
        let receipt = known.receipt(&judged, written, self.durable()?);
        receipt.map(Ok).ok_or_else(not_there)
    }

    /// A change of an order that waits is durable. Unless the order was lent meanwhile, it has its effect.
    async fn after_change(
        &self,
        hash: u128,
        known: &mut Known,
        judged: &mut Judged,
        was_lent: bool,
    ) -> Result<(), AppendError> {
        if was_lent {
            return Ok(());
        }
        match self.lent(hash, known).await.map_err(append_error)? {
            Some(lent) => {
                known.lent(lent.may_be_sent());
                judged.park();
            }
            None => drop(known.free()),
        }
        Ok(())
    }

    /// What is known of an order.
    pub(super) async fn view(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        self.open()?;
        let hash = self.store.hasher.of_key(key);
        let look = self.look(hash).await?.named(key);
        let Some(mut view) = look.known.view(key) else { return Ok(None) };
        view.position = self.position(hash, view.sequence);
        Ok(Some(view))
    }

    /// About how many orders come before one of a partition of ours; the other owners' shares are taken to be like ours.
    fn position(&self, hash: u128, sequence: u64) -> Option<u64> {
        self.partition(hash)?.with(|mine| mine.state.position(sequence)).flatten()?;
        let before =
            |partition: &Partition| partition.with(|mine| mine.state.ready_before(sequence));
        let ours: Vec<u64> = self.partitions.iter().filter_map(before).collect();
        let (owned, all) = (ours.len() as u64, self.partitions.len() as u64);
        Some(ours.into_iter().sum::<u64>().saturating_mul(all) / owned.max(1))
    }

    /// What stands under a key, as it is.
    pub(super) async fn read(&self, hash: u128) -> Result<Option<Stored>, BufferError> {
        self.table.read(&self.store.subject(hash)).await.map_err(failed)
    }
}

/// What changes a waiting order waits for it not to be lent.
fn park(record: &mut Record) {
    if let Record::Replace { parked, .. } | Record::Cancel { parked, .. } = record {
        *parked = true;
    }
}

fn not_there() -> AppendError {
    AppendError::Failed("what stands under the order's key does not hold together".to_owned())
}

fn put_error(error: TableError) -> AppendError {
    match error {
        TableError::Full(_) => AppendError::Full,
        TableError::TooLarge { .. } => AppendError::TooLarge,
        TableError::Unknown(_)
        | TableError::Refused(_)
        | TableError::Sealed
        | TableError::WentBack { .. } => AppendError::Failed(error.to_string()),
    }
}

fn append_error(error: BufferError) -> AppendError {
    match error {
        BufferError::Failed(reason) => AppendError::Failed(reason),
        BufferError::Closing => AppendError::Closing,
    }
}
