//! Reads on the caller's side: the writer says where, this reads it, off the async threads. If the record
//! moved meanwhile, the writer is asked again.

use std::time::Duration;

use bytes::Bytes;
use forebay_order::OrderKey;

use super::journal::{Location, ReadError, Reader};
use super::shared::{Call, Lent, Seen, SendAgain};
use super::{Embedded, lookup};
use crate::lease::{Ended, LeaseHome};
use crate::record::{LOST, Record};
use crate::state::{DAMAGED, Head, Kept};
use crate::{
    BufferError, ExceptionCategory, ExceptionRow, Lease, OrderView, SummarisedOrder,
    SummarisedPage, Verdict,
};

/// A record moves at most once while its segment is the oldest; more often, and something is wrong.
const TRIES: usize = 8;
/// A lent order that cannot be read is tried again after so long.
const READ_AGAIN: Duration = Duration::from_secs(10);

type Read = Result<Record, ReadError>;

impl Embedded {
    /// Makes leases of loans. An order whose bytes are damaged becomes an exception here.
    pub(super) async fn leases(&self, lent: Vec<Lent>) -> Result<Vec<Lease>, BufferError> {
        let mut leases = Vec::with_capacity(lent.len());
        let mut waiting = lent;
        for _ in 0..TRIES {
            if waiting.is_empty() {
                break;
            }
            let mut moved = Vec::new();
            for (lent, read) in self.read_lent(waiting).await? {
                match read {
                    Err(ReadError::Recycled(_)) => moved.push(lent),
                    Err(ReadError::Damaged { .. }) => {
                        if let Some((loan, home)) = lent.take() {
                            let verdict = Verdict::Exception {
                                category: ExceptionCategory::Damaged,
                                reason: DAMAGED.to_owned(),
                            };
                            home.settle(Ended::unnamed(loan.sequence, loan.number), Some(verdict));
                        }
                    }
                    // The disk cannot be read now. Nothing was sent, and the worker must live on.
                    Err(error @ ReadError::Io(_)) => {
                        tracing::warn!(%error, "a lent order cannot be read; it is tried again");
                        if let Some((loan, home)) = lent.take() {
                            let verdict = Verdict::Retry {
                                after: READ_AGAIN,
                                counts: false,
                                sent: false,
                                reason: "its bytes could not be read".to_owned(),
                            };
                            home.settle(Ended::unnamed(loan.sequence, loan.number), Some(verdict));
                        }
                    }
                    Ok(record) => {
                        if let Some((loan, home)) = lent.take()
                            && let Some(head) = Head::of(&record, loan.kept)
                            && let Some(delivery) = record.delivery()
                        {
                            let known = loan.accepted_at_ms;
                            let first_accepted_at_ms = known.unwrap_or(head.first_accepted_at_ms);
                            leases.push(Lease::new(
                                loan,
                                first_accepted_at_ms,
                                delivery.clone(),
                                home,
                            ));
                        }
                    }
                }
            }
            waiting = Vec::with_capacity(moved.len());
            for mut lent in moved {
                let Some((sequence, loan)) = lent.name() else { continue };
                let kept = self.ask(|reply| Call::Where { sequence, loan, reply }).await?;
                if let Some(kept) = kept {
                    lent.moved_to(kept);
                    waiting.push(lent);
                }
            }
        }
        leases.sort_unstable_by_key(|lease| lease.sequence);
        Ok(leases)
    }

    async fn read_lent(&self, lent: Vec<Lent>) -> Result<Vec<(Lent, Read)>, BufferError> {
        let reader = self.shared().reader.clone();
        blocking(move || {
            let read = |lent: Lent| {
                let location = lent.location().ok_or(ReadError::Recycled(0));
                let read = location.and_then(|location| whole(&reader, location));
                (lent, read)
            };
            lent.into_iter().map(read).collect()
        })
        .await
    }

    async fn read(&self, location: Location) -> Result<Read, BufferError> {
        let reader = self.shared().reader.clone();
        blocking(move || whole(&reader, location)).await
    }

    pub(super) async fn view(&self, key: &OrderKey) -> Result<Option<OrderView>, BufferError> {
        for _ in 0..TRIES {
            let key = key.clone();
            let sight = match self.ask(|reply| Call::Order { key, reply }).await? {
                None => return Ok(None),
                Some(Seen::Ended(view)) => return Ok(Some(view)),
                Some(Seen::Live(sight)) => sight,
            };
            let (reader, kept) = (self.shared().reader.clone(), sight.kept);
            match blocking(move || lookup::head(&reader, kept)).await? {
                Err(ReadError::Recycled(_)) => {}
                // An order is shown without what its record says rather than not at all.
                Err(_) => return Ok(Some(sight.with(None))),
                Ok(head) => return Ok(Some(sight.with(Some(&head)))),
            }
        }
        Err(moving())
    }

    pub(super) async fn read_body(&self, sequence: u64) -> Result<Option<Bytes>, BufferError> {
        for _ in 0..TRIES {
            let kept: Option<Kept> = self.ask(|reply| Call::BodyAt { sequence, reply }).await?;
            let Some(location) = kept.and_then(|kept| kept.location) else { return Ok(None) };
            match self.read(location).await? {
                Err(ReadError::Recycled(_)) => {}
                Err(error) => return Err(failed(&error)),
                Ok(record) => return Ok(record.delivery().map(|d| d.envelope.body.clone())),
            }
        }
        Err(moving())
    }

    pub(super) async fn summarised(
        &self,
        since_ms: i64,
        from: u64,
        limit: usize,
    ) -> Result<SummarisedPage, BufferError> {
        let ask = |reply| Call::SummarisedSince { since_ms, after: from, limit, reply };
        let found = self.ask(ask).await?;
        let reader = self.shared().reader.clone();
        let orders = blocking(move || {
            let key = |(_, kept, settled_at_ms): (u64, Kept, i64)| {
                // One whose record is gone or damaged cannot be sent again.
                let (_, record) = reader.head(kept.location?).ok()?;
                let key = record.delivery()?.envelope.key.clone();
                Some(SummarisedOrder { key, settled_at_ms })
            };
            found.orders.into_iter().filter_map(key).collect()
        });
        Ok(SummarisedPage { orders: orders.await?, next: found.next })
    }

    pub(super) async fn again(&self, key: &OrderKey) -> Result<bool, BufferError> {
        for _ in 0..TRIES {
            let key = key.clone();
            let seen = self.ask(|reply| Call::Order { key, reply }).await?;
            let Some(Seen::Live(sight)) = seen else { return Ok(false) };
            let (sequence, kept) = (sight.sequence(), sight.kept);
            let Some(location) = kept.location else { return Ok(false) };
            let record = match self.read(location).await? {
                Err(ReadError::Recycled(_)) => continue,
                Err(ReadError::Damaged { .. }) => return Ok(false),
                Err(error @ ReadError::Io(_)) => return Err(failed(&error)),
                Ok(record) => record,
            };
            let (Some(head), Some(delivery)) =
                (Head::of(&record, kept), record.delivery().cloned())
            else {
                return Ok(false);
            };
            let again = |reply| {
                Call::SendAgain(Box::new(SendAgain { sequence, kept, head, delivery, reply }))
            };
            return self.ask(again).await?;
        }
        Err(moving())
    }

    pub(super) async fn rows(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<ExceptionRow>, BufferError> {
        for _ in 0..TRIES {
            let heads = self.ask(|reply| Call::Rows { after, limit, reply }).await?;
            let reader = self.shared().reader.clone();
            let rows = blocking(move || {
                let mut rows = Vec::with_capacity(heads.len());
                for mut head in heads {
                    let location = head.named_in.and_then(|kept| kept.location);
                    match location.map(|location| reader.head(location)) {
                        Some(Err(ReadError::Recycled(_))) => return None,
                        Some(Ok((_, record))) => {
                            if let Some(delivery) = record.delivery() {
                                head.row.key = delivery.envelope.key.clone();
                                head.row.number = delivery.envelope.number.clone();
                            }
                        }
                        // Shown without its name rather than not at all.
                        Some(Err(_)) | None => {}
                    }
                    rows.push(head.row);
                }
                Some(rows)
            });
            if let Some(rows) = rows.await? {
                return Ok(rows);
            }
        }
        Err(moving())
    }
}

/// A record with its body. One that was carried forward without its bytes is as damaged as what it was copied from.
fn whole(reader: &Reader, location: Location) -> Read {
    let (_, record) = reader.read(location)?;
    if record.delivery().is_some_and(|delivery| delivery.envelope.reason == LOST) {
        return Err(ReadError::Damaged { epoch: location.epoch(), offset: location.offset() });
    }
    Ok(record)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, BufferError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| BufferError::Failed(format!("a read did not end: {error}")))
}

fn failed(error: &ReadError) -> BufferError {
    BufferError::Failed(error.to_string())
}

fn moving() -> BufferError {
    BufferError::Failed("the record moves faster than it can be read; try again".to_owned())
}
