//! Partitions: taken, held, loaded, given up. Leases on the same table, with no leader of our own.
//!
//! An owner replaces its message three times a lease. Whoever finds one that nobody replaced for a whole lease, by its own
//! clock from when it first saw it, may replace it with its own, and the older owner's next replacement fails. An owner that
//! could not replace its message for a lease, by its own clock from before its last try, lends nothing any more.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, future::join_all};
use hashbrown::HashMap;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::feed::Fed;
use super::page::Page;
use super::partition::{Mine, Partition};
use super::shared::{Look, Shared, failed, unreadable_tenure};
use super::table::{Put, TableError};
use super::tenure::Tenure;
use crate::clock::SetBack;
use crate::control::Control;
use crate::{BufferError, OrderState};

/// Replacements of an owner's message in one lease.
const RENEWALS: u32 = 3;
/// A partition that nobody has for so many rounds is taken by whoever sees it, however many it has.
const ROUNDS_FREE: u32 = 3;
/// A partition of which nothing was read for so many rounds is given up: whoever takes it begins to read anew.
const UNREAD: u32 = 2 * RENEWALS;
/// Pages of orders that were called off that are written at once.
const CALLED_OFF: usize = 64;
/// A feed that broke is begun anew after so long.
const FEED_PAUSE: Duration = Duration::from_millis(100);

/// What was seen of a partition that is another's.
#[derive(Debug)]
struct Seen {
    row: u64,
    since: Duration,
    /// Rounds it was free for.
    free: u32,
}

/// What the rounds of one process know.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    seen: HashMap<u16, Seen>,
    set_back: Option<SetBack>,
}

impl Shared {
    fn lease_ms(&self) -> u32 {
        u32::try_from(self.config.lease.as_millis()).unwrap_or(u32::MAX)
    }

    /// How long a message of ours is good for, to ourselves: a tenth less than to the others, for whoever looks at the clock and
    /// acts a little later.
    pub(super) fn good_for(&self) -> Duration {
        self.config.lease - self.config.lease / 10
    }

    /// How long one round takes.
    pub(super) fn round(&self) -> Duration {
        self.config.lease / RENEWALS
    }

    /// Tends the partitions until the buffer closes.
    pub(super) async fn tend(self: Arc<Self>, mut rounds: Rounds) {
        while self.open().is_ok() {
            sleep(self.round()).await;
            self.tend_once(&mut rounds).await;
        }
    }

    /// One round: what is ours is kept, what is free is taken, what is too much for us is given up.
    pub(super) async fn tend_once(self: &Arc<Self>, rounds: &mut Rounds) {
        self.follow_clock(rounds);
        let ours = self.partitions.iter().filter(|partition| partition.with(|_| ()).is_some());
        let held = join_all(ours.map(|partition| self.hold(partition)))
            .await
            .into_iter()
            .filter(|held| *held)
            .count();
        let nodes = self.announce().await.unwrap_or(1).max(1);
        let fair = self.partitions.len().div_ceil(nodes);
        let ours = self.partitions.iter().filter(|partition| partition.with(|_| ()).is_some());
        for (n, partition) in ours.enumerate() {
            partition.with(|mine| mine.leaving = n >= fair);
        }
        let mut room = fair.saturating_sub(held);
        let others: Vec<_> = self.partitions.iter().filter(|p| p.with(|_| ()).is_none()).collect();
        for taken in join_all(others.iter().map(|partition| self.watch(partition))).await {
            let Ok((number, tenure, row)) = taken else { continue };
            let Some(partition) = self.partitions.get(usize::from(number)) else { continue };
            if rounds.is_free(number, &tenure, row, self.clock.elapsed(), room > 0)
                && self.open().is_ok()
                && self.acquire(partition, &tenure, row).await
            {
                room = room.saturating_sub(1);
                rounds.seen.remove(&number);
            }
        }
    }

    /// Lets what waits until some time follow a wall clock that was set back.
    fn follow_clock(&self, rounds: &mut Rounds) {
        let since = || SetBack::since(self.clock.wall_ms(), self.clock.elapsed());
        let set_back = rounds.set_back.get_or_insert_with(since);
        let Some(back_ms) = set_back.by_ms(&*self.clock) else { return };
        tracing::warn!(back_ms, "the wall clock was set back");
        for partition in &self.partitions {
            partition.with(|mine| mine.state.clock_set_back(back_ms));
        }
        self.changed.notify_waiters();
    }

    /// Keeps a partition of ours, or ends what is to be ended; whether it is ours to stay.
    async fn hold(&self, partition: &Partition) -> bool {
        let unread = partition.with(Mine::unread_rounds).unwrap_or_default();
        if unread == UNREAD {
            tracing::error!(
                partition = partition.number,
                "a partition was not read for two leases: giving it up"
            );
        }
        let leaves =
            partition.with(|mine| (mine.leaving && mine.state.lent() == 0) || unread >= UNREAD);
        if leaves == Some(true) {
            self.release(partition).await;
            return false;
        }
        self.note(partition).await.is_ok() && leaves.is_some()
    }

    /// Writes pages of orders that were called off, or held, as what they are, so that it is told, and they expire: some of them at a time.
    pub(super) async fn write_called_off(&self) {
        for partition in &self.partitions {
            let some = |mine: &mut Mine| {
                let from = mine.called_off.len().saturating_sub(CALLED_OFF);
                mine.called_off.split_off(from)
            };
            let hashes = partition.with(some).unwrap_or_default();
            let written =
                join_all(hashes.iter().map(|hash| self.write_one_called_off(*hash))).await;
            let left = hashes.into_iter().zip(written).filter(|(_, written)| !written);
            partition.with(|mine| mine.called_off.extend(left.map(|(hash, _)| hash)));
        }
    }

    /// Whether nothing is left to be done about it.
    async fn write_one_called_off(&self, hash: u128) -> bool {
        let Ok(look @ Look { lent: None, .. }) = self.look(hash).await else { return false };
        // Whoever changed it meanwhile has written it.
        self.write_effect(hash, &look).await.is_ok()
    }

    /// Writes that an order is called off, or held, where only the look let that change have its effect; whether that was so. It goes
    /// before anything else that is written of the order, which would hide it from the feed.
    pub(super) async fn write_effect(&self, hash: u128, look: &Look) -> Result<bool, TableError> {
        let Look { known, lent: None } = look else { return Ok(false) };
        let is_off = matches!(known.state(), Some(OrderState::Held | OrderState::Cancelled));
        let page = known.page().filter(|_| is_off && known.names_what_waits());
        let Some(page) = page else { return Ok(false) };
        if let Put::Done(sequence) = self.write(hash, known.stored, page.clone()).await? {
            self.take(hash, sequence, &page);
        }
        Ok(true)
    }

    /// Who owns a partition that is not ours.
    async fn watch(&self, partition: &Partition) -> Result<(u16, Tenure, u64), BufferError> {
        let stored = self.table.read(&self.store.owner(partition.number)).await.map_err(failed)?;
        let Some(stored) = stored else {
            let nobody = Tenure { released: true, ..Tenure::default() };
            return Ok((partition.number, nobody, 0));
        };
        let tenure = Tenure::decode(&stored.bytes).ok_or_else(unreadable_tenure)?;
        Ok((partition.number, tenure, stored.sequence))
    }

    /// Takes a partition over from `before`, and begins to read it; whether it became ours.
    async fn acquire(self: &Arc<Self>, partition: &Partition, before: &Tenure, row: u64) -> bool {
        let tenure = Tenure {
            epoch: before.epoch + 1,
            node: self.node,
            lease_ms: self.lease_ms(),
            released: false,
            lent: match Control::ForgottenLoans.is_on() {
                false => before.inherited(),
                true => Vec::new(),
            },
        };
        let _turn = partition.turn.lock().await;
        let begun = self.clock.elapsed();
        let Ok(Put::Done(row)) = self.put_tenure(partition, row, &tenure).await else {
            return false;
        };
        tracing::info!(
            partition = partition.number,
            epoch = tenure.epoch,
            may_be_sent = tenure.lent.len(),
            "took a partition"
        );
        let (gained, may_begin) = oneshot::channel::<()>();
        let (shared, number, epoch) = (Arc::clone(self), partition.number, tenure.epoch);
        let feed = self.tasks.spawn(async move {
            may_begin.await.ok();
            shared.follow(number, epoch).await;
        });
        let good_until = begun + self.good_for();
        let mine = Mine::new(self.new_state(), &tenure, row, good_until, feed.abort_handle());
        partition.gain(mine);
        gained.send(()).ok();
        true
    }

    async fn put_tenure(
        &self,
        partition: &Partition,
        row: u64,
        tenure: &Tenure,
    ) -> Result<Put, TableError> {
        let subject = self.store.owner(partition.number);
        let put = self.table.replace(&subject, row, tenure.encode(), None).await;
        self.answered(put.as_ref().err());
        put
    }

    /// Replaces our message of a partition with how things are now. Once it fails the partition is not ours any more.
    pub(super) async fn note(&self, partition: &Partition) -> Result<(), BufferError> {
        let _turn = partition.turn.lock().await;
        self.replace(partition).await
    }

    /// Notes that loans have ended, unless another note did.
    pub(super) async fn note_what_ended(&self, partition: &Partition) {
        let _turn = partition.turn.lock().await;
        if partition.with(|mine| mine.to_be_noted) == Some(true) {
            // If it fails the partition is another's, or is noted again in a while.
            drop(self.replace(partition).await);
        }
    }

    /// One replacement; its caller has the turn.
    async fn replace(&self, partition: &Partition) -> Result<(), BufferError> {
        let lost =
            || BufferError::Failed("another process owns the order's partition now".to_owned());
        let now = partition.with(|mine| (mine.row, mine.tenure(self.node, self.lease_ms(), false)));
        let (row, tenure) = now.ok_or_else(lost)?;
        let begun = self.clock.elapsed();
        match self.put_tenure(partition, row, &tenure).await {
            Ok(Put::Done(row)) => {
                partition.with(|mine| (mine.row, mine.good_until) = (row, begun + self.good_for()));
                Ok(())
            }
            Ok(Put::Overtaken(_)) => {
                tracing::warn!(
                    partition = partition.number,
                    "another process took a partition over"
                );
                partition.lose();
                Err(lost())
            }
            Err(error @ TableError::Full(_)) => Err(failed(error)),
            Err(error) => {
                tracing::warn!(partition = partition.number, %error, "a partition cannot be held");
                partition.lose();
                Err(failed(error))
            }
        }
    }

    /// Gives a partition up, so that whoever comes may have it at once.
    pub(super) async fn release(&self, partition: &Partition) {
        let _turn = partition.turn.lock().await;
        let now = partition.with(|mine| (mine.row, mine.tenure(self.node, self.lease_ms(), true)));
        let Some((row, tenure)) = now else { return };
        partition.lose();
        match self.put_tenure(partition, row, &tenure).await {
            Ok(_) => tracing::info!(partition = partition.number, "gave a partition up"),
            Err(error) => {
                tracing::warn!(partition = partition.number, %error, "a partition ends with its lease")
            }
        }
    }

    /// Reads a partition that became ours, and then whatever comes to it.
    async fn follow(self: Arc<Self>, number: u16, epoch: u64) {
        let Some(partition) = self.partitions.get(usize::from(number)) else { return };
        let mut position = 0;
        loop {
            match self.table.feed(self.store.all(number), position + 1).await {
                Ok(mut feed) => {
                    while let Some(fed) = feed.next().await {
                        match fed {
                            Ok(fed) => {
                                position = fed.stored.sequence;
                                self.fed(partition, epoch, &fed);
                            }
                            Err(error) => {
                                tracing::debug!(partition = number, %error, "a feed is begun anew");
                                break;
                            }
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(partition = number, %error, "a partition cannot be read; trying again");
                    sleep(FEED_PAUSE * 9).await;
                }
            }
            if partition.with(|mine| mine.epoch) != Some(epoch) {
                return;
            }
            sleep(FEED_PAUSE).await;
        }
    }

    fn fed(self: &Arc<Self>, partition: &Partition, epoch: u64, fed: &Fed) {
        let page = self.store.hash(&fed.subject).and_then(|hash| {
            let page = Page::decode(&fed.stored.bytes, fed.stored.sequence);
            let broken =
                |error| tracing::error!(subject = fed.subject, %error, "an order cannot be read");
            page.map_err(broken).ok().map(|page| (hash, page))
        });
        self.table.saw(fed.stored.sequence);
        let now_ms = self.clock.wall_ms();
        let completed = partition.with(|mine| {
            // A straggler of an earlier tenure says nothing of this one.
            if mine.epoch != epoch {
                return None;
            }
            mine.follow(fed.stored.sequence, page.as_ref().map(|(hash, page)| (*hash, page)));
            mine.completes(now_ms, self.config.lent_wait)
        });
        self.changed.notify_waiters();
        if let Some(poison) = completed.flatten() {
            tracing::info!(partition = partition.number, "a partition is read");
            for record in poison {
                let shared = Arc::clone(self);
                drop(self.tasks.spawn(async move { shared.set_aside(epoch, record).await }));
            }
        }
    }

    /// Whether every partition of ours is read.
    pub(super) fn is_loaded(&self) -> bool {
        self.partitions.iter().all(|p| p.with(|mine| mine.is_loaded()).unwrap_or(true))
    }
}

impl Rounds {
    /// Whether a partition is to be had; `wanted`: we have fewer than our share.
    fn is_free(
        &mut self,
        number: u16,
        tenure: &Tenure,
        row: u64,
        elapsed: Duration,
        wanted: bool,
    ) -> bool {
        let seen = self.seen.entry(number).or_insert(Seen { row, since: elapsed, free: 0 });
        if seen.row != row {
            *seen = Seen { row, since: elapsed, free: 0 };
        }
        let lease = Duration::from_millis(tenure.lease_ms.into());
        if !tenure.released && elapsed.saturating_sub(seen.since) < lease {
            return false;
        }
        seen.free += 1;
        wanted || seen.free > ROUNDS_FREE
    }
}
