//! The drain's side: orders of our partitions are lent, and settled where they stand.
//!
//! ```text
//! lend: scheduler -> listed in the owner's message, durable -> pages read, as of that message or later -> leases
//! settle: verdict -> record -> page replaced, if nobody changed it meanwhile; else with what came
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream;
use hashbrown::HashMap;
use tokio::time::{Instant, sleep, timeout};

use super::known::Known;
use super::page::Page;
use super::partition::{End, Mine, Partition};
use super::shared::{HandedOut, Shared, failed};
use super::table::{Put, Stored, TableError};
use crate::embedded::coming::Coming;
use crate::lease::{Ended, LeaseHome};
use crate::metrics;
use crate::record::Record;
use crate::state::Loan;
use crate::{BufferError, Lease, OrderState, Verdict};

/// Pages read at once.
const READS: usize = 128;
/// What the servers could not take is tried again after so long.
const AGAIN: Duration = Duration::from_millis(200);

impl Shared {
    /// Lends up to `limit` orders of our partitions, those under a ticket or the others, oldest first; waits up to `wait` for the first.
    pub(super) async fn lease(
        self: &Arc<Self>,
        limit: usize,
        wait: Duration,
        ticketed: bool,
    ) -> Result<Vec<Lease>, BufferError> {
        let until = Instant::now() + wait;
        loop {
            self.open()?;
            let changed = self.changed.notified();
            let leases = self.lend(limit, ticketed).await;
            let left = until.saturating_duration_since(Instant::now());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            let pause = self.next_due(ticketed).map_or(left, |due| due.min(left));
            drop(timeout(pause, changed).await);
        }
    }

    async fn lend(self: &Arc<Self>, limit: usize, ticketed: bool) -> Vec<Lease> {
        let chosen = if ticketed { self.choose_ticketed(limit) } else { self.choose(limit) };
        let noted = chosen.into_iter().map(|(partition, loans)| self.list(partition, loans));
        let mut loans: Vec<_> = join_all(noted).await.into_iter().flatten().collect();
        loans.sort_unstable_by_key(|(_, loan)| loan.sequence);
        let mut pages = self.pages(&loans).await;
        let home: Arc<dyn LeaseHome> = Arc::new(Home(Arc::clone(self)));
        let leases = stream::iter(loans)
            .map(|loan| {
                let page = pages.remove(&self.store.subject(loan.0));
                self.hand_out(loan, page, Arc::clone(&home))
            })
            .buffered(READS);
        leases.collect::<Vec<_>>().await.into_iter().flatten().collect()
    }

    /// Lists loans in our message; gives back those that are listed, which is all or none.
    async fn list(&self, partition: &Partition, loans: Vec<(u128, Loan)>) -> Vec<(u128, Loan)> {
        if self.note(partition).await.is_ok() {
            return loans;
        }
        partition.with(|mine| loans.iter().for_each(|(_, loan)| mine.unlend(loan)));
        Vec::new()
    }

    /// The pages of loans that are listed, as they stood after that; one that is missing is to be read alone.
    async fn pages(&self, loans: &[(u128, Loan)]) -> HashMap<String, Stored> {
        let ours = |partition: &Partition| partition.with(|mine| mine.row);
        let listed = self.partitions.iter().filter_map(ours).max().unwrap_or(u64::MAX);
        let subjects: Vec<_> = loans.iter().map(|(hash, _)| self.store.subject(*hash)).collect();
        self.table.read_many(&subjects, listed).await
    }

    /// The oldest ready orders of all our partitions; one that may have ended its owner comes alone.
    fn choose(&self, limit: usize) -> Vec<(&Partition, Vec<(u128, Loan)>)> {
        let (now_ms, elapsed) = (self.clock.wall_ms(), self.clock.elapsed());
        let mut ready = Vec::new();
        let (mut suspect, mut suspect_out) = (None, false);
        for partition in &self.partitions {
            partition.with(|mine| {
                if !mine.may_lend(elapsed) {
                    return;
                }
                mine.state.wake_due(now_ms);
                let (waits, out) = mine.state.suspects();
                suspect_out |= out;
                suspect = suspect.or(waits.then_some(partition));
                ready.extend(mine.state.ready().take(limit).map(|order| (order, partition.number)));
            });
        }
        if let Some(partition) = suspect.filter(|_| !suspect_out && limit > 0) {
            let loans = partition.with(|mine| mine.lend(1, true, now_ms)).unwrap_or_default();
            return vec![(partition, loans)];
        }
        ready.sort_unstable();
        ready.truncate(limit);
        let share = |partition: &Partition| {
            let count = ready.iter().filter(|(_, number)| *number == partition.number).count();
            let lend = |mine: &mut Mine| mine.lend(count, false, now_ms);
            (count > 0).then(|| partition.with(lend).unwrap_or_default())
        };
        let shares = self
            .partitions
            .iter()
            .map(|partition| (partition, share(partition).unwrap_or_default()));
        shares.filter(|(_, loans)| !loans.is_empty()).collect()
    }

    /// Orders under a ticket of all our partitions that are to be looked up by now, longest due first.
    fn choose_ticketed(&self, limit: usize) -> Vec<(&Partition, Vec<(u128, Loan)>)> {
        let (now_ms, elapsed) = (self.clock.wall_ms(), self.clock.elapsed());
        let mut due = Vec::new();
        for partition in &self.partitions {
            partition.with(|mine| {
                let orders = mine.state.to_look_up(now_ms).take(limit);
                if mine.may_lend(elapsed) {
                    due.extend(orders.map(|(since, order)| (since, order, partition.number)));
                }
            });
        }
        due.sort_unstable();
        due.truncate(limit);
        let share = |partition: &Partition| {
            let count = due.iter().filter(|(.., number)| *number == partition.number).count();
            partition.with(|mine| mine.lend_ticketed(count, now_ms)).unwrap_or_default()
        };
        let shares = self.partitions.iter().map(|partition| (partition, share(partition)));
        shares.filter(|(_, loans)| !loans.is_empty()).collect()
    }

    /// When the next delayed order's time comes.
    fn next_due(&self, ticketed: bool) -> Option<Duration> {
        let due = self
            .partitions
            .iter()
            .filter_map(|p| p.with(|mine| mine.state.next_due_ms(ticketed)).flatten())
            .min()?;
        let ms = due.saturating_sub(self.clock.wall_ms()).max(1);
        u64::try_from(ms).ok().map(Duration::from_millis)
    }

    /// The lease of a loan that is noted, with what stands under its key now: a change that came before has its effect first.
    async fn hand_out(
        &self,
        (hash, loan): (u128, Loan),
        page: Option<Stored>,
        home: Arc<dyn LeaseHome>,
    ) -> Option<Lease> {
        let partition = self.partition(hash)?;
        let read = self.page_to_lend(hash, &loan, page).await;
        let (known, stored) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(sequence = loan.sequence, %error, "an order cannot be lent now");
                // It would be the next one again at once.
                sleep(AGAIN).await;
                partition.with(|mine| mine.unlend(&loan));
                return None;
            }
        };
        let lent = partition.with(|mine| {
            let page = known.to_page();
            mine.take(hash, stored.sequence, &page);
            let again =
                mine.state.loan_again(&loan).filter(|loan| mine.state.waits_or_lent(loan.sequence));
            if again.is_none() {
                mine.unlend(&loan);
            }
            again.map(|loan| (loan, mine.epoch))
        })?;
        let (loan, epoch) = lent?;
        let Some((delivery, first_accepted_at_ms)) = known.content(&loan) else {
            tracing::error!(
                sequence = loan.sequence,
                "what stands under an order's key is another order's; the servers' copies differ"
            );
            partition.with(|mine| mine.unlend(&loan));
            return None;
        };
        let out = HandedOut { hash, epoch, loan: loan.number, stored };
        self.loans().insert((loan.sequence, loan.number), out);
        Some(Lease::new(loan, first_accepted_at_ms, delivery, home))
    }

    /// The page of an order that is about to be handed out, read unless it was, and writes first what must be durable before that:
    /// - A change that waits for a loan, of an order that was never sent, came before this one: it has its effect.
    /// - Of an order that an owner before us had lent, that it may have been sent, and that its loan is over: so that owner,
    ///   should it come back, finds its page changed and its verdict too late.
    async fn page_to_lend(
        &self,
        hash: u128,
        loan: &Loan,
        page: Option<Stored>,
    ) -> Result<(Known, Stored), BufferError> {
        let gone = || BufferError::Failed("nothing stands under its key any more".to_owned());
        let mut stored = match page {
            Some(page) => page,
            None => self.read(hash).await?.ok_or_else(gone)?,
        };
        loop {
            let known = self.known(Some(&stored));
            let mut known = known.map_err(|error| BufferError::Failed(error.to_string()))?;
            let page = if loan.sent_before && known.waits() && known.takes_over(loan) {
                known.page_with(Loan::taken_over(loan))
            } else if !loan.sent_before && known.free() {
                known.page()
            } else {
                return Ok((known, stored));
            };
            let put = self.write(hash, stored.sequence, page.ok_or_else(gone)?).await;
            stored = match put.map_err(failed)? {
                Put::Done(_) => self.read(hash).await?,
                Put::Overtaken(other) => other,
            }
            .ok_or_else(gone)?;
        }
    }

    /// Replaces a page; one that only says how its order ended expires.
    pub(super) async fn write(
        &self,
        hash: u128,
        expected: u64,
        page: Page,
    ) -> Result<Put, TableError> {
        let ttl =
            Known::is_over_with(self.store.hasher, &page).then_some(self.config.dedup_horizon);
        let put = self.table.replace(&self.store.subject(hash), expected, page.encode(), ttl).await;
        self.answered(put.as_ref().err());
        put
    }

    /// Notes that bytes of these orders may leave for the order management system.
    pub(super) async fn submitting(
        &self,
        leases: &[Lease],
        synced: bool,
    ) -> Result<Vec<bool>, BufferError> {
        self.open()?;
        let elapsed = self.clock.elapsed();
        let mut noted = Vec::with_capacity(leases.len());
        let mut concerned = Vec::new();
        for lease in leases {
            let hash = self.loans().get(&(lease.sequence, lease.loan)).map(|out| out.hash);
            let partition = hash.and_then(|hash| self.partition(hash));
            let may_go = partition.and_then(|partition| {
                partition.with(|mine| {
                    let may_go = elapsed < mine.good_until
                        && mine.state.sending(lease.sequence, lease.loan, lease.sent_before);
                    if let Some(lent) = mine.lent.get_mut(&lease.sequence).filter(|_| may_go) {
                        lent.sending = true;
                    }
                    may_go
                })
            });
            noted.push(may_go.unwrap_or_default());
            if let Some(partition) = partition.filter(|_| may_go == Some(true))
                && !concerned.contains(&partition.number)
            {
                concerned.push(partition.number);
            }
        }
        if synced {
            let concerned = self.partitions.iter().filter(|p| concerned.contains(&p.number));
            for noted in join_all(concerned.map(|partition| self.note(partition))).await {
                noted?;
            }
            // That took its time, in which they may have become another's.
            for (lease, may_go) in leases.iter().zip(&mut noted) {
                let out = self.loans().get(&(lease.sequence, lease.loan)).cloned();
                *may_go &= out.is_some_and(|out| self.tenure_of(&out) == Held::Certainly);
            }
        }
        Ok(noted)
    }

    /// Writes what a verdict says, whatever came to the key meanwhile.
    async fn write_verdict(&self, out: HandedOut, record: Record) {
        let order = match &record {
            Record::Settle { entries } => entries.first().map_or(0, |entry| entry.order),
            Record::Ticket { order, .. }
            | Record::Retry { order, .. }
            | Record::Failed { order, .. } => *order,
            _ => 0,
        };
        let settles = matches!(record, Record::Settle { .. });
        let mut stored = Some(out.stored.clone());
        loop {
            match self.tenure_of(&out) {
                Held::Certainly => {}
                // It may be another's by now, or is held again in a moment.
                Held::Perhaps if !settles => {
                    sleep(AGAIN).await;
                    continue;
                }
                Held::Not if !settles => {
                    // Whoever owns it now finds it listed, and asks the order management system.
                    tracing::warn!(
                        order,
                        "a verdict was not kept; the partition is not ours any more"
                    );
                    return;
                }
                Held::Perhaps | Held::Not => {}
            }
            let mut known = match self.known(stored.as_ref()) {
                Ok(known) if known.order == Some(order) => known,
                // It expired, or its key came anew: there is nothing to be settled any more.
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(order, %error, "a verdict cannot be kept");
                    break;
                }
            };
            // A try of ours whose answer was lost has kept it, or another loan has ended since, or it is settled.
            let late = match settles {
                true => known.state() == Some(OrderState::Summarised),
                false => known.is_over_by(out.loan),
            };
            // The OMS said by itself meanwhile what became of it.
            if late || (!settles && !known.waits()) {
                break;
            }
            known.loan_is_over(out.loan);
            let keep_whole = !self.config.replay_window.is_zero();
            let Some(page) = known.page_settling(record.clone(), keep_whole) else { break };
            match self.write(out.hash, known.stored, page.clone()).await {
                Ok(Put::Done(sequence)) => {
                    self.verdict_is_kept(&out, order, sequence, &page.stored_at(sequence), &record);
                    return;
                }
                Ok(Put::Overtaken(other)) => stored = other,
                Err(error @ (TableError::TooLarge { .. } | TableError::Refused(_))) => {
                    tracing::error!(
                        order,
                        %error,
                        "a verdict cannot be kept, and its order stays lent until the process ends; raise the servers' max_payload"
                    );
                    return;
                }
                Err(error) => {
                    if self.tenure_of(&out) == Held::Not || self.table.sound().is_err() {
                        tracing::warn!(order, %error, "a verdict was not kept");
                        return;
                    }
                    tracing::warn!(order, %error, "a verdict is not kept yet; trying again");
                    sleep(AGAIN).await;
                    match self.read(out.hash).await {
                        Ok(now) => stored = now,
                        Err(error) => tracing::debug!(order, %error, "its page cannot be read now"),
                    }
                }
            }
        }
        if let Some(partition) = self.partition(out.hash) {
            partition.with(|mine| mine.ended(order, out.loan));
        }
    }

    /// Whether a loan's partition is still in the tenure it was made in.
    fn tenure_of(&self, out: &HandedOut) -> Held {
        let elapsed = self.clock.elapsed();
        let held = self.partition(out.hash).and_then(|partition| {
            partition.with(|mine| (mine.epoch == out.epoch).then(|| mine.is_certain(elapsed)))
        });
        match held.flatten() {
            Some(true) => Held::Certainly,
            Some(false) => Held::Perhaps,
            None => Held::Not,
        }
    }

    fn verdict_is_kept(
        &self,
        out: &HandedOut,
        order: u64,
        sequence: u64,
        page: &Page,
        record: &Record,
    ) {
        if let Some(partition) = self.partition(out.hash) {
            partition.with(|mine| {
                mine.take(out.hash, sequence, page);
                mine.ended(order, out.loan);
            });
        }
        self.count_settled(record);
        self.changed.notify_waiters();
    }

    pub(super) fn count_settled(&self, record: &Record) {
        if let Record::Settle { entries } = record {
            metrics::summarised(entries.len() as u64);
            self.meter.add(self.clock.elapsed(), entries.len() as u64);
        }
    }

    /// Ends every loan, for an orderly close.
    pub(super) fn end_loans(self: &Arc<Self>) {
        let home = Home(Arc::clone(self));
        let out: Vec<_> = self.loans().keys().copied().collect();
        out.into_iter().for_each(|(order, loan)| home.settle(Ended::unnamed(order, loan), None));
    }

    /// Sets an order aside that has ended its owners too often.
    pub(super) async fn set_aside(&self, epoch: u64, record: Record) {
        let Record::Failed { order, .. } = &record else { return };
        let lent = |mine: &mut Mine| mine.lent.get(order).copied();
        let Some(lent) = self.partitions.iter().find_map(|p| p.with(lent).flatten()) else {
            return;
        };
        let (hash, loan) = (lent.hash, lent.loan);
        match self.read(hash).await {
            Ok(Some(stored)) => {
                self.write_verdict(HandedOut { hash, epoch, loan, stored }, record).await;
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(order, %error, "an order cannot be set aside"),
        }
    }
}

/// Whether a tenure goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Certainly,
    /// Its time is up, and nobody is known to have followed.
    Perhaps,
    Not,
}

/// Where leases go back to.
#[derive(Debug)]
struct Home(Arc<Shared>);

impl LeaseHome for Home {
    fn settle(&self, Ended { sequence, loan, .. }: Ended, verdict: Option<Verdict>) {
        let shared = &self.0;
        let Some(out) = shared.loans().remove(&(sequence, loan)) else { return };
        let is_taken = matches!(verdict, Some(Verdict::Submitted { .. }));
        let coming = is_taken.then(|| shared.coming.begin());
        let now_ms = shared.clock.wall_ms();
        let partition = shared.partition(out.hash);
        let ours = partition.and_then(|partition| {
            partition.with(|mine| {
                let ours = mine.epoch == out.epoch;
                ours.then(|| mine.verdict(sequence, loan, verdict.clone(), now_ms))
            })
        });
        let end = match ours.flatten() {
            Some(end) => end,
            // Only what the order management system has is of interest to whoever owns the partition now.
            None => {
                let known = shared.known(Some(&out.stored)).ok();
                let record = known.and_then(|mut known| known.late_verdict(verdict, now_ms));
                record.map_or(End::Nothing, |record| End::Record(Box::new(record)))
            }
        };
        spawn_end(shared, out, end, coming);
    }
}

/// Makes durable how a loan ended; whoever looks at the order here meanwhile waits.
fn spawn_end(shared: &Arc<Shared>, out: HandedOut, end: End, coming: Option<Coming>) {
    if matches!(end, End::Nothing) {
        return;
    }
    let (_, turn) = shared.settling.begin(out.hash);
    let task = Arc::clone(shared);
    drop(shared.tasks.spawn(async move {
        match end {
            End::Record(record) => task.write_verdict(out, *record).await,
            End::Unsent | End::Nothing => {
                if let Some(partition) = task.partition(out.hash) {
                    task.note_what_ended(partition).await;
                }
                task.changed.notify_waiters();
            }
        }
        drop((turn, coming));
    }));
}
