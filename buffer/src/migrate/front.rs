//! The buffer that is served from meanwhile: the new store, with whatever the old one has of a key taken in first.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{OrderKey, Readiness, RecordedAs};
use hashbrown::HashSet;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::progress::{Migration, Progress};
use super::{HandsOver, TakesIn, Whole};
use crate::control::Control;
use crate::underway::Underway;
use crate::{
    Act, ActError, ActReceipt, Admission, AppendError, Buffer, BufferError, Clock, Common,
    Durability, Effect, Envelope, ExceptionRow, FeedCursor, FeedError, FeedPage, Lease, OrderView,
    Pace, Permit, Receipt, Status, SummarisedPage, Telling,
};

/// Batches on their way.
const BATCHES: usize = 2;
/// After trouble it is begun again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A buffer that is being moved from one store to another. Every process of the old store must be stopped or cut off from it; one process
/// serves like this until nothing is left, and any number may serve from the new store then.
///
/// A delivery that is dropped before its first poll is not handed in.
#[derive(Clone)]
pub struct Migrating<O, N> {
    inner: Arc<Inner<O, N>>,
}

struct Inner<O, N> {
    old: O,
    new: N,
    clock: Arc<dyn Clock>,
    progress: Progress,
    /// Deliveries of one key are judged in the order in which they were handed in.
    line: Arc<Underway>,
    /// By the clock's elapsed time: before it somebody may still send what he was lent by the old store.
    lends_from: Duration,
    /// Orders under a ticket that were not taken in yet.
    outstanding: Mutex<HashSet<u128>>,
}

#[expect(private_bounds, reason = "stores are this crate's")]
impl<O: HandsOver, N: TakesIn> Migrating<O, N> {
    /// Nothing is lent for `quiet`.
    pub(super) fn new(
        (old, new): (O, N),
        from_to: (&'static str, &'static str),
        quiet: Duration,
        is_whole: bool,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let inner = Inner {
            progress: Progress::new(from_to, old.count(), is_whole),
            outstanding: Mutex::new(old.outstanding().into_iter().collect()),
            old,
            new,
            line: Arc::default(),
            lends_from: clock.elapsed() + quiet,
            clock,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Hands everything over, however often it takes; it may be dropped and begun again at any time. Without it only what is
    /// asked for is.
    pub async fn hand_over(&self) {
        let progress = &self.inner.progress;
        while !progress.is_done() {
            let ended = self.inner.hand_over().await;
            progress.ended(ended.err());
            if !progress.is_done() {
                sleep(AGAIN).await;
            }
        }
    }

    /// The new store.
    pub fn new_store(&self) -> &N {
        &self.inner.new
    }

    /// How far it is.
    pub fn progress(&self) -> Migration {
        self.inner.progress.now()
    }
}

impl<O: HandsOver, N: TakesIn> Inner<O, N> {
    async fn hand_over(&self) -> Result<(), String> {
        self.progress.begins();
        let (to, batches) = mpsc::channel(BATCHES);
        // Whoever ends first ends the other, by its end of the channel.
        let (handed, taken) = tokio::join!(self.old.hand_over(to), self.take_all_in(batches));
        handed.map_err(|error| error.to_string())?;
        match taken.map_err(|error| error.to_string())? {
            0 => self.new.is_whole().await.map_err(|error| error.to_string()),
            left => {
                Err(format!("{left} orders cannot be kept in the new store; the log names them"))
            }
        }
    }

    /// Takes in what is handed over; how many orders cannot be.
    async fn take_all_in(
        &self,
        mut batches: mpsc::Receiver<Vec<Whole>>,
    ) -> Result<u64, BufferError> {
        let mut left = 0;
        while let Some(mut wholes) = batches.recv().await {
            wholes.retain(|whole| !stays_behind(whole.hash()));
            let hashes: Vec<u128> = wholes.iter().map(Whole::hash).collect();
            let count = hashes.len() as u64;
            left += self.new.take_in(wholes, None).await?;
            self.taken_in(&hashes);
            self.progress.add(count);
        }
        Ok(left)
    }

    /// Takes in what the old store has under a hash.
    async fn take_in(&self, hash: u128, key: &OrderKey) -> Result<(), BufferError> {
        if self.progress.is_done() || stays_behind(hash) {
            return Ok(());
        }
        let Some(whole) = self.old.find(hash).await? else { return Ok(()) };
        match self.new.take_in(vec![whole], Some(key.clone())).await? {
            0 => {
                self.taken_in(&[hash]);
                Ok(())
            }
            _ => Err(BufferError::Failed(
                "what the store that is left has of its key cannot be kept in the new one"
                    .to_owned(),
            )),
        }
    }

    /// The new store counts what is outstanding of these.
    fn taken_in(&self, hashes: &[u128]) {
        let mut outstanding = self.outstanding();
        for hash in hashes {
            outstanding.remove(hash);
        }
    }

    fn outstanding(&self) -> MutexGuard<'_, HashSet<u128>> {
        self.outstanding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what a delivery is to be judged beside.
    async fn take_in_for(&self, envelope: &Envelope) -> Result<(), BufferError> {
        let hasher = self.old.hasher();
        let (key, hash) = (&envelope.key, hasher.of(envelope));
        if envelope.readiness == Readiness::Recorded(RecordedAs::Failed) {
            // It may concern the order of its key.
            self.take_in(hasher.of_key(key), key).await?;
        }
        self.take_in(hash, key).await
    }

    /// While it goes on, what is not found may only not have been taken in yet.
    fn not_yet(&self) -> BufferError {
        let Migration { handed_over, of, .. } = self.progress.now();
        BufferError::Failed(format!(
            "orders are being taken over from another store ({handed_over} of about {of}); try again once that is done"
        ))
    }
}

/// Of which orders a control build breaks the promise that they are handed over.
fn stays_behind(hash: u128) -> bool {
    Control::HalfHandedOver.is_on() && hash.is_multiple_of(2)
}

impl<O: HandsOver, N: TakesIn> Buffer for Migrating<O, N> {
    fn admission(&self) -> &Admission {
        self.inner.new.admission()
    }

    /// Takes its place in the line of its key at once; the rest is done as it is polled.
    fn append(
        &self,
        envelope: Envelope,
        permit: Permit,
    ) -> impl Future<Output = Result<Receipt, AppendError>> {
        let inner = Arc::clone(&self.inner);
        let (before, turn) = inner.line.begin(inner.old.hasher().of_key(&envelope.key));
        async move {
            if let Some(before) = before {
                before.over().await;
            }
            let taken_in = inner.take_in_for(&envelope).await;
            taken_in.map_err(|error| AppendError::Failed(error.to_string()))?;
            let answer = inner.new.append(envelope, permit);
            // It is handed in, and so before whatever comes behind it.
            drop(turn);
            answer.await
        }
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        let quiet = self.inner.lends_from.saturating_sub(self.inner.clock.elapsed());
        if !quiet.is_zero() {
            sleep(quiet.min(wait)).await;
            return Ok(Vec::new());
        }
        self.inner.new.lease(limit, wait).await
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        let quiet = self.inner.lends_from.saturating_sub(self.inner.clock.elapsed());
        if !quiet.is_zero() {
            sleep(quiet.min(wait)).await;
            return Ok(Vec::new());
        }
        self.inner.new.lease_ticketed(limit, wait).await
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        let by_ticket = telling.key.is_none();
        if let Some(key) = &telling.key {
            self.inner.take_in(self.inner.old.hasher().of_key(key), key).await?;
        }
        match self.inner.new.tell(telling).await? {
            Effect::UnknownOrder if by_ticket && !self.inner.progress.is_done() => {
                Err(self.inner.not_yet())
            }
            effect => Ok(effect),
        }
    }

    /// Of a stream that is left, of those that were taken in.
    fn outstanding(&self) -> u64 {
        // Looked at in this order none is missed while it is being taken in.
        let left = self.inner.outstanding().len() as u64;
        left + self.inner.new.outstanding()
    }

    async fn submitting(&self, leases: &[Lease], synced: bool) -> Result<Vec<bool>, BufferError> {
        self.inner.new.submitting(leases, synced).await
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        self.inner.take_in(self.inner.old.hasher().of_key(key), key).await?;
        self.inner.new.order(key).await
    }

    async fn body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        match self.inner.new.body(sequence).await? {
            None if !self.inner.progress.is_done() => Err(self.inner.not_yet()),
            body => Ok(body),
        }
    }

    /// Those that were taken in.
    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        self.inner.new.exceptions(after, limit).await
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        match self.inner.new.act(exception, act).await {
            Err(ActError::NotFound) if !self.inner.progress.is_done() => {
                Err(self.inner.not_yet().into())
            }
            acted => acted,
        }
    }

    /// Not before all are taken in: what is found among a part would pass for all. Of what had been summarised in the old store only the outcome
    /// is taken in, so it is not among them.
    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        if !self.inner.progress.is_done() {
            return Err(self.inner.not_yet());
        }
        self.inner.new.summarised_since(since_ms, from, limit).await
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        self.inner.take_in(self.inner.old.hasher().of_key(key), key).await?;
        self.inner.new.send_again(key).await
    }

    /// The new store's: what the old one told is not told again.
    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        self.inner.new.feed(after, limit, wait).await
    }

    /// Counts of what was taken in, and how far that is.
    async fn status(&self) -> Result<Status, BufferError> {
        let status = self.inner.new.status().await?;
        Ok(Status { migration: Some(self.inner.progress.now()), ..status })
    }

    fn health(&self) -> Result<(), String> {
        self.inner.new.health()
    }

    fn durability(&self) -> Durability {
        self.inner.new.durability()
    }

    fn pace(&self) -> Pace {
        self.inner.new.pace()
    }

    fn share(&self) -> f64 {
        self.inner.new.share()
    }

    fn common(&self) -> Arc<Common> {
        self.inner.new.common()
    }

    async fn close(&self) {
        self.inner.new.close().await;
    }
}

impl<O, N: fmt::Debug> fmt::Debug for Migrating<O, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Migrating").field("new", &self.inner.new).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use forebay_order::Fingerprint;

    use super::*;
    use crate::embedded::hand_over::Directory;
    use crate::embedded::take_in::TakingIn;
    use crate::{Embedded, EmbeddedConfig, SystemClock, Verdict};

    const SOON: Duration = Duration::from_secs(20);

    fn key(id: &str) -> OrderKey {
        OrderKey::new("shopify", "demo", id)
    }

    async fn settle(buffer: &Embedded, id: &str, verdict: Verdict) {
        let body = Bytes::from_static(b"body");
        let envelope = Envelope::new(key(id), Fingerprint([1; 16]), body);
        let permit = buffer.admission().admit(4).unwrap();
        buffer.append(envelope, permit).await.unwrap();
        let mut leases = buffer.lease(1, SOON).await.unwrap();
        buffer.submitting(&leases, true).await.unwrap();
        leases.remove(0).settle(verdict);
    }

    fn failed(reason: String) {
        panic!("the buffer failed: {reason}");
    }

    #[tokio::test]
    async fn what_is_outstanding_or_summarised_in_the_old_store_is_not_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let config = |name: &str| EmbeddedConfig {
            slot_bytes: 1 << 20,
            replay_window: Duration::from_secs(3_600),
            ..EmbeddedConfig::new(dir.path().join(name))
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let buffer = Embedded::open(config("old"), Arc::clone(&clock), Box::new(failed)).unwrap();
        for id in ["1", "2"] {
            let (ticket, after) = (format!("T-{id}"), Duration::from_secs(3_600));
            settle(&buffer, id, Verdict::Submitted { ticket, after }).await;
        }
        let summary_id = "S".to_owned();
        settle(&buffer, "3", Verdict::Summarised { summary_id, existing: false }).await;
        buffer.close().await;
        drop(buffer);

        let old = Directory::open(&dir.path().join("old"), 0, &SystemClock).unwrap();
        let (secret, next_sequence) = old.ends_with();
        let taking_in = TakingIn::new("old".to_owned(), secret, next_sequence, i64::MIN);
        let new = config("new");
        let new = Embedded::open_taking_in(new, &taking_in, Arc::clone(&clock), Box::new(failed));
        let new = new.unwrap();
        let moving = Migrating::new((old, new), ("old", "new"), Duration::ZERO, false, clock);
        assert_eq!(moving.outstanding(), 2, "none is taken in yet");
        moving.summarised_since(0, 0, 10).await.unwrap_err();
        // Taken in because it was asked for.
        assert!(moving.order(&key("1")).await.unwrap().is_some());
        assert_eq!((moving.outstanding(), moving.new_store().outstanding()), (2, 1));
        moving.hand_over().await;
        assert_eq!((moving.outstanding(), moving.new_store().outstanding()), (2, 2));
        moving.summarised_since(0, 0, 10).await.unwrap();
    }
}
