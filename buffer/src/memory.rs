//! The model backend: the same state, the same answers, nothing on disk. For tests only: its receipts say so.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use forebay_order::OrderKey;
use hashbrown::HashMap;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::feed::Named;
use crate::lease::{Ended, LeaseHome};
use crate::record::{Delivery, Record};
use crate::state::{Head, Kept, Meter, State};
use crate::{
    Act, ActError, ActReceipt, Admission, AppendError, Buffer, BufferError, Clock, Durability,
    Effect, Envelope, ExceptionRow, FeedCursor, FeedError, FeedEvent, FeedPage, Lease, OrderView,
    Pace, Permit, Receipt, Status, SummarisedOrder, SummarisedPage, Telling, Verdict,
};

/// A buffer in memory. It forgets nothing and keeps nothing: every delivery stays until the process ends.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

struct Shared {
    admission: Admission,
    clock: Arc<dyn Clock>,
    model: Mutex<Model>,
    meter: Meter,
    changed: Notify,
}

struct Model {
    state: State,
    deliveries: HashMap<u64, Delivery>,
    events: Vec<FeedEvent>,
    sequence: u64,
    closed: bool,
}

impl Memory {
    /// An empty buffer with room for so many orders and bytes in flight.
    pub fn new(in_flight_orders: usize, in_flight_bytes: usize, clock: Arc<dyn Clock>) -> Self {
        let mut state = State::new(&fastrand::u128(..).to_le_bytes());
        state.replayed(clock.wall_ms(), Duration::ZERO);
        state.listen();
        let (deliveries, events) = (HashMap::new(), Vec::new());
        let model = Model { state, deliveries, events, sequence: 0, closed: false };
        let shared = Shared {
            admission: Admission::new(in_flight_orders, in_flight_bytes),
            clock,
            model: Mutex::new(model),
            meter: Meter::default(),
            changed: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    fn open(&self) -> Result<MutexGuard<'_, Model>, BufferError> {
        let model = self.shared.lock();
        if model.closed { Err(BufferError::Closing) } else { Ok(model) }
    }

    fn append_now(&self, mut envelope: Envelope) -> Result<Receipt, AppendError> {
        let mut model = self.open().map_err(|_| AppendError::Closing)?;
        let body = envelope.body.clone();
        let same = |kept: Kept| {
            model.deliveries.get(&kept.record).is_some_and(|kept| kept.envelope.body == body)
        };
        model.state.hold_failed(&mut envelope, None);
        let hash = model.state.hash_of(&envelope);
        let kept = model.state.find(hash).and_then(|order| model.state.kept(order));
        let head = kept.and_then(|kept| model.head(kept));
        let judged = model.state.judge(hash, &envelope, head.as_ref(), None, same);
        if judged.refused() {
            return Err(AppendError::Disputed);
        }
        let accepted_at_ms = model.state.accepted_at(self.shared.clock.wall_ms());
        let record = judged.into_record(envelope, accepted_at_ms);
        let written = record.map(|record| (model.write(record), accepted_at_ms));
        let receipt = model.state.receipt(&judged, written, None, Durability::Memory);
        drop(model);
        self.shared.changed.notify_waiters();
        receipt.ok_or_else(|| AppendError::Failed("the order is not in memory".to_owned()))
    }

    fn lend(&self, limit: usize, ticketed: bool) -> Result<Vec<Lease>, BufferError> {
        let mut model = self.open()?;
        let now_ms = self.shared.clock.wall_ms();
        let loans = match ticketed {
            true => model.state.lend_ticketed(limit, now_ms),
            false => model.state.lend(limit, true, now_ms),
        };
        let home: Arc<dyn LeaseHome> = Arc::clone(&self.shared) as _;
        let lease = |loan: crate::state::Loan| {
            let delivery = model.deliveries.get(&loan.kept.record)?.clone();
            let first_accepted_at_ms = loan.accepted_at_ms.unwrap_or(delivery.accepted_at_ms);
            Some(Lease::new(loan, first_accepted_at_ms, delivery, Arc::clone(&home)))
        };
        Ok(loans.into_iter().filter_map(lease).collect())
    }

    async fn lease_of(
        &self,
        limit: usize,
        wait: Duration,
        ticketed: bool,
    ) -> Result<Vec<Lease>, BufferError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            let leases = self.lend(limit, ticketed)?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !leases.is_empty() || left.is_zero() {
                return Ok(leases);
            }
            // Delayed orders come due without any change; look again when the next one does.
            let due = self.shared.lock().state.next_due_ms(ticketed);
            let due = due.map(|at| at.saturating_sub(self.shared.clock.wall_ms()).max(1));
            let due = due.and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
            let pause = due.map_or(left, |due| due.min(left));
            drop(timeout(pause, changed).await);
        }
    }

    fn tell_now(&self, telling: &Telling) -> Result<Effect, BufferError> {
        let mut model = self.open()?;
        let now_ms = self.shared.clock.wall_ms();
        let order = model.state.told_of(telling);
        let record = order.and_then(|order| model.state.judge_telling(order, telling, now_ms));
        let record = match record {
            Ok(record) => record,
            Err(effect) => return Ok(effect),
        };
        self.shared.settled(&record);
        model.write(record);
        drop(model);
        self.shared.changed.notify_waiters();
        Ok(Effect::Done)
    }

    fn act_now(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        let mut model = self.open()?;
        let acting = model.state.check_act(exception, act)?;
        let at_ms = self.shared.clock.wall_ms();
        model.write(Record::Act { exception, act, at_ms });
        let state = model.state.state_after(acting);
        drop(model);
        self.shared.changed.notify_waiters();
        Ok(ActReceipt { id: exception, act, state })
    }
}

/// What the record of an order's content says.
fn head(deliveries: &HashMap<u64, Delivery>, kept: Kept) -> Option<Head> {
    deliveries.get(&kept.record).map(|delivery| Head::of_delivery(delivery, kept))
}

impl Model {
    fn head(&self, kept: Kept) -> Option<Head> {
        head(&self.deliveries, kept)
    }

    fn write(&mut self, record: Record) -> u64 {
        self.sequence += 1;
        let bytes = record.delivery().map_or(0, |delivery| delivery.envelope.body.len());
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let kept = Kept { record: self.sequence, location: None, bytes };
        let deliveries = &self.deliveries;
        let before = |kept: Kept| head(deliveries, kept).map(|head| head.before());
        self.state.apply(&record, kept, before);
        if let Some(delivery) = record.delivery() {
            self.deliveries.insert(self.sequence, delivery.clone());
        }
        let deliveries = &self.deliveries;
        self.events.extend(self.state.take_news().map(|news| {
            let delivery = deliveries.get(&news.named_in.record);
            news.event(delivery.map(|delivery| Named::of(&delivery.envelope)).unwrap_or_default())
        }));
        self.sequence
    }

    /// Events of records after a sequence.
    fn feed(&self, asked: &FeedCursor, limit: usize) -> Result<FeedPage, FeedError> {
        let after = asked.sequence();
        if after > self.sequence {
            return Err(FeedError::Ahead { newest: self.sequence });
        }
        let begin = self.events.partition_point(|event| event.sequence <= after);
        let rest = self.events.get(begin..).unwrap_or_default();
        let mut page = Vec::new();
        for of_record in rest.chunk_by(|one, other| one.sequence == other.sequence) {
            if page.len() >= limit {
                break;
            }
            page.extend_from_slice(of_record);
        }
        let to = page.last().map_or(after, |event| event.sequence);
        Ok(FeedPage::of(page, asked, to))
    }
}

impl Shared {
    /// A panic while the lock was held left one command half done, in a test; the next may still look.
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record is about to be written.
    fn settled(&self, record: &Record) {
        if let Record::Settle { entries } = record {
            self.meter.add(self.clock.elapsed(), entries.len() as u64);
        }
    }
}

impl LeaseHome for Shared {
    fn settle(&self, Ended { sequence, loan, .. }: Ended, verdict: Option<Verdict>) {
        let mut model = self.lock();
        let now_ms = self.clock.wall_ms();
        let Some(record) = model.state.verdict(sequence, loan, verdict, now_ms) else { return };
        self.settled(&record);
        model.write(record);
        drop(model);
        self.changed.notify_waiters();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Buffer for Memory {
    fn admission(&self) -> &Admission {
        &self.shared.admission
    }

    async fn append(&self, envelope: Envelope, permit: Permit) -> Result<Receipt, AppendError> {
        let receipt = self.append_now(envelope);
        drop(permit);
        receipt
    }

    async fn lease(&self, limit: usize, wait: Duration) -> Result<Vec<Lease>, BufferError> {
        self.lease_of(limit, wait, false).await
    }

    async fn lease_ticketed(
        &self,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Lease>, BufferError> {
        self.lease_of(limit, wait, true).await
    }

    async fn tell(&self, telling: Telling) -> Result<Effect, BufferError> {
        self.tell_now(&telling)
    }

    fn outstanding(&self) -> u64 {
        self.shared.lock().state.outstanding()
    }

    async fn submitting(&self, leases: &[Lease], _synced: bool) -> Result<Vec<bool>, BufferError> {
        let mut model = self.open()?;
        let note =
            |lease: &Lease| model.state.sending(lease.sequence, lease.loan, lease.sent_before);
        let noted: Vec<bool> = leases.iter().map(note).collect();
        let orders = leases.iter().zip(&noted).filter(|(_, noted)| **noted);
        let orders = orders.map(|(lease, _)| lease.sequence).collect();
        model.write(Record::Submitting { orders });
        Ok(noted)
    }

    async fn order(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        let model = self.open()?;
        let sight = model.state.view(key);
        Ok(sight.map(|sight| {
            let head = model.head(sight.kept);
            sight.with(head.as_ref())
        }))
    }

    async fn body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        let model = self.open()?;
        let kept = model.state.body_at(sequence);
        let delivery = kept.and_then(|kept| model.deliveries.get(&kept.record));
        Ok(delivery.map(|delivery| delivery.envelope.body.clone()))
    }

    async fn exceptions(&self, after: u64, limit: usize) -> Result<Vec<ExceptionRow>, BufferError> {
        let model = self.open()?;
        let named = |mut head: crate::state::RowHead| {
            if let Some(delivery) =
                head.named_in.and_then(|kept| model.deliveries.get(&kept.record))
            {
                head.row.key = delivery.envelope.key.clone();
                head.row.number = delivery.envelope.number.clone();
            }
            head.row
        };
        Ok(model.state.row_heads(after, limit).into_iter().map(named).collect())
    }

    async fn act(&self, exception: u64, act: Act) -> Result<ActReceipt, ActError> {
        self.act_now(exception, act)
    }

    async fn summarised_since(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        let model = self.open()?;
        let found = model.state.summarised_since(since_ms, from, limit);
        let named = |(_, kept, settled_at_ms): (u64, Kept, i64)| {
            let key = model.deliveries.get(&kept.record)?.envelope.key.clone();
            Some(SummarisedOrder { key, settled_at_ms })
        };
        let orders = found.orders.into_iter().filter_map(named).collect();
        Ok(SummarisedPage { orders, next: found.next })
    }

    async fn send_again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        let mut model = self.open()?;
        let Some(sequence) = model.state.find(model.state.hash_of_key(key)) else {
            return Ok(false);
        };
        let record = model.state.kept(sequence).and_then(|kept| {
            let delivery = model.deliveries.get(&kept.record)?.clone();
            model.state.again_record(sequence, &model.head(kept)?, delivery)
        });
        let Some(record) = record else { return Ok(false) };
        model.write(record);
        drop(model);
        self.shared.changed.notify_waiters();
        Ok(true)
    }

    async fn feed(
        &self,
        after: &FeedCursor,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            let page = self.open()?.feed(after, limit)?;
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if !page.events.is_empty() || left.is_zero() {
                return Ok(page);
            }
            drop(timeout(left, changed).await);
        }
    }

    async fn status(&self) -> Result<Status, BufferError> {
        let model = self.open()?;
        let mut status = model.state.status(self.shared.clock.wall_ms());
        status.durable_sequence = model.sequence;
        status.durability = Durability::Memory.to_string();
        Ok(status)
    }

    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn health(&self) -> Result<(), String> {
        self.open().map(|_| ()).map_err(|error| error.to_string())
    }

    fn pace(&self) -> Pace {
        Pace {
            pending: self.shared.lock().state.pending(),
            drained_per_s: self.shared.meter.per_second(self.shared.clock.elapsed()),
        }
    }

    async fn close(&self) {
        let mut model = self.shared.lock();
        let now_ms = self.shared.clock.wall_ms();
        for record in model.state.end_loans(now_ms) {
            model.write(record);
        }
        model.closed = true;
        drop(model);
        self.shared.changed.notify_waiters();
    }
}
