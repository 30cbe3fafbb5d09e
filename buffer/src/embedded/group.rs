//! The open group: records to be made durable together, and whom to answer then.

use tokio::sync::oneshot;

use super::answers::Reply;
use super::shared::{Appended, Lent};
use crate::record::Record;
use crate::state::{Acting, Judged, Outcome};
use crate::{Act, ActError, ActReceipt, AppendError, BufferError, Effect, Permit};

/// What is to be done once a record is durable and applied.
pub(super) enum Then {
    Nothing,
    Accepted {
        judged: Judged,
        outcome: Option<Box<Outcome>>,
        permit: Permit,
        reply: Reply<Appended>,
    },
    Acted {
        exception: u64,
        act: Act,
        acting: Acting,
        reply: oneshot::Sender<Result<ActReceipt, ActError>>,
    },
    Lent(oneshot::Sender<Vec<Lent>>, Vec<Lent>),
    Sent(oneshot::Sender<Vec<bool>>, Vec<bool>),
    Again(oneshot::Sender<Result<bool, BufferError>>),
    Told(oneshot::Sender<Result<Effect, BufferError>>),
}

impl Then {
    /// Whether it brings an order's bytes, which the disk budget may refuse.
    pub(super) fn is_order(&self) -> bool {
        matches!(self, Self::Accepted { .. } | Self::Again(_))
    }

    /// Nothing was written. Deliveries, acts and tellings hear why; the others hear a hang-up.
    pub(super) fn refuse(self, why: &AppendError) {
        match self {
            Self::Accepted { reply, .. } => reply.send(Err(why.clone())),
            Self::Acted { reply, .. } => {
                let failed = BufferError::Failed(why.to_string());
                reply.send(Err(ActError::Buffer(failed))).ok();
            }
            Self::Again(reply) => {
                reply.send(Err(BufferError::Failed(why.to_string()))).ok();
            }
            Self::Told(reply) => {
                reply.send(Err(BufferError::Failed(why.to_string()))).ok();
            }
            Self::Nothing | Self::Lent(..) | Self::Sent(..) => {}
        }
    }
}

/// Records in the order in which they will be applied.
#[derive(Default)]
pub(super) struct Group {
    first: Vec<(Record, Then)>,
    /// Bytes of bodies among them.
    first_bytes: usize,
    orders: Vec<(Record, Then)>,
}

impl Group {
    /// Adds a record somebody waits for.
    pub(super) fn push(&mut self, record: Record, then: Then) {
        self.first_bytes += record.delivery().map_or(0, |delivery| delivery.envelope.body.len());
        self.first.push((record, then));
    }

    /// Adds a delivery's record.
    pub(super) fn push_order(&mut self, record: Record, then: Then) {
        self.orders.push((record, then));
    }

    /// Bytes of bodies that no delivery of this turn brings.
    pub(super) fn first_bytes(&self) -> usize {
        self.first_bytes
    }

    /// Records in it.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.orders.len()
    }

    /// Deliveries among them.
    pub(super) fn orders(&self) -> usize {
        self.orders.len()
    }

    /// Whether somebody waits for it.
    pub(super) fn urgent(&self) -> bool {
        self.len() > 0
    }

    /// All records, those nobody waits for first, for they are older.
    pub(super) fn into_records(self, lazy: Vec<Record>) -> (Vec<Record>, Vec<Then>) {
        let lazy = lazy.into_iter().map(|record| (record, Then::Nothing));
        lazy.chain(self.first).chain(self.orders).unzip()
    }
}
