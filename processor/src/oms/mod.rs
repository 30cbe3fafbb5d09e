//! The seam to the order management system (OMS), complete from the start, and the OMSs behind it.

pub mod http;
pub mod ledger;
mod plain;
pub mod postgres;
mod refuse;
pub mod sqlite;
mod thread;
mod words;

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::Common;
use forebay_order::{Fingerprint, OrderSummary};
use serde::{Deserialize, Serialize};

pub use plain::plain;

/// An OMS that can be asked to create order summaries, and asked what it has.
///
/// The rule above all: an order whose outcome is [`Outcome::Unknown`] (or whose whole call was
/// [`CallFailure::Unknown`]) is never sent again before [`OrderManagement::find`] said it is absent.
pub trait OrderManagement: Send + Sync + 'static {
    /// What this OMS guarantees about doubles.
    fn guarantee(&self) -> Guarantee;

    /// Whether the OMS is marked as a test one; synthetic orders reach no other.
    fn is_test(&self) -> bool;

    /// The longest identity it can store, in bytes.
    fn identity_max(&self) -> usize;

    /// How many orders one call may carry at most.
    fn batch_max(&self) -> usize;

    /// Whether it can be asked at all. One that cannot be is sent what may be there again only where it refuses a second create;
    /// else the order waits for a person.
    fn can_find(&self) -> bool {
        true
    }

    /// How many orders one look-up may ask for at most.
    fn find_batch(&self) -> usize {
        self.batch_max()
    }

    /// How long after a call's end its effect may still be missing from [`OrderManagement::find`]: before
    /// that, absent says nothing. Zero where a find sees everything committed.
    fn visible_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Creates summaries in one call. On `Ok` the outcomes stand in the order of the batch, one each.
    ///
    /// Dropping the future does not undo anything: the outcome is then unknown.
    ///
    /// # Errors
    /// [`CallFailure`] where the call as a whole failed.
    fn submit(
        &self,
        batch: &[Arc<OrderSummary>],
    ) -> impl Future<Output = Result<Vec<Outcome>, CallFailure>> + Send;

    /// Looks orders up by identity; the answers stand in the order asked, `None` for absent.
    ///
    /// # Errors
    /// [`CallFailure`] where the call as a whole failed.
    fn find(
        &self,
        identities: &[Identity],
    ) -> impl Future<Output = Result<Vec<Option<Found>>, CallFailure>> + Send;

    /// Says that orders of that fleet are drained to it, unless another's are, and tells whose; with `take` this fleet takes its
    /// place. An OMS that keeps no such note answers [`Claim::Untold`].
    ///
    /// # Errors
    /// [`CallFailure`] where the call failed.
    fn claim(
        &self,
        _fleet: &str,
        _take: bool,
    ) -> impl Future<Output = Result<Claim, CallFailure>> + Send {
        std::future::ready(Ok(Claim::Untold))
    }

    /// How often it is asked whose it is, and how long that is good for.
    fn claim_pace(&self) -> ClaimPace {
        ClaimPace::default()
    }

    /// Keeps its own limits of calls, if it has any, to that share of them, from 0 to 1, and to the smallest of all processes that drain
    /// the same orders.
    fn keep_to(&self, _share: f64, _common: &Common) {}

    /// Summaries in the order they were committed, after the cursor (0 for the start), at most `limit`;
    /// for reconciliation. An OMS that cannot list answers `Ok(None)`.
    ///
    /// # Errors
    /// [`CallFailure`] where the call failed.
    fn list(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Option<Vec<Listed>>, CallFailure>> + Send;
}

/// Whose orders are drained to an OMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The one's that asked.
    Ours {
        /// Since when, ms since 1970, where another's may have been until then; `None` where none can.
        taken_ms: Option<i64>,
    },
    /// Another's.
    Theirs {
        /// Its name.
        fleet: String,
        /// Since when, ms since 1970.
        since_ms: i64,
    },
    /// It does not keep it.
    Untold,
}

impl Claim {
    /// What an OMS's note says to a fleet.
    fn of(asks: &str, fleet: String, since_ms: i64, taken: bool) -> Self {
        if fleet == asks {
            Self::Ours { taken_ms: taken.then_some(since_ms) }
        } else {
            Self::Theirs { fleet, since_ms }
        }
    }
}

/// How often an OMS is asked whose orders are drained to it.
#[derive(Clone, Copy, Debug)]
pub struct ClaimPace {
    /// It is asked so often.
    pub ask: Duration,
    /// What it said is good for so long from when it was asked.
    pub good_for: Duration,
    /// A fleet that took it over waits so long: then what the other one was told is not good any more, and its last calls are over.
    pub take_over: Duration,
}

impl Default for ClaimPace {
    /// Where asking costs next to nothing.
    fn default() -> Self {
        Self {
            ask: Duration::from_secs(5),
            good_for: Duration::from_secs(20),
            take_over: Duration::from_secs(60),
        }
    }
}

/// The joined identity of an order, as the OMS stores it (see [`forebay_order::OrderKey::identity`]).
pub type Identity = String;

/// What the OMS does when it is sent a second create of one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Refuses it by a unique key: one order, one effect, whatever happens between.
    UniqueId,
    /// Answers it as it answered the first, for the same idempotency key.
    IdempotencyKey,
    /// Would create another, but can be asked first. Every send is journaled and synced before it leaves.
    LookedUp,
    /// Would create another, and cannot be asked. What may be there already waits for a person, who may double it.
    AtLeastOnce,
}

impl Guarantee {
    /// Of an OMS that refuses a second create, knows one by its idempotency key, or can be asked.
    pub fn of(refuses_second: bool, idempotency_key: bool, can_find: bool) -> Self {
        match (refuses_second, idempotency_key, can_find) {
            (true, ..) => Self::UniqueId,
            (false, true, _) => Self::IdempotencyKey,
            (false, false, true) => Self::LookedUp,
            (false, false, false) => Self::AtLeastOnce,
        }
    }

    /// In words, for `config check` and `status`.
    pub fn words(self) -> &'static str {
        match self {
            Self::UniqueId => "once: unique id",
            Self::IdempotencyKey => "once: idempotency key",
            Self::LookedUp => "once: looked up",
            Self::AtLeastOnce => "at least once: doubles possible",
        }
    }

    /// Whether a second create of an order has no effect, so that it may be sent again without asking.
    pub fn refuses_second(self) -> bool {
        matches!(self, Self::UniqueId | Self::IdempotencyKey)
    }
}

/// What became of one order of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The summary exists now, durably.
    Created {
        /// The OMS's id of it.
        id: String,
    },
    /// A summary of that identity had been there.
    Existing {
        /// The OMS's id of it.
        id: String,
        /// Whether its content is the same (fingerprints equal); `None` where the OMS cannot tell.
        same: Option<bool>,
    },
    /// Taken; the outcome comes later under this ticket.
    Accepted {
        /// The OMS's ticket.
        ticket: String,
    },
    /// Definitely refused, and will be again.
    Invalid {
        /// The OMS's code, a stable word.
        code: String,
        /// What it says is wrong; nothing personal.
        reason: String,
    },
    /// Definitely not done; may be tried again.
    Retry {
        /// Not before this long.
        after: Duration,
    },
    /// Definitely not done, and not for anything about the order: it may be tried again, and no attempt is counted.
    NotDone {
        /// Not before this long.
        after: Duration,
    },
    /// Nobody can say.
    Unknown,
}

/// Why a whole call failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallFailure {
    /// No byte left: nothing can have happened.
    #[error("the order management system could not be reached: {0}")]
    NotSent(String),
    /// It said it is overloaded or a quota is used up; nothing was done.
    #[error("the order management system is overloaded")]
    Overloaded {
        /// When to come back, where it said so.
        after: Option<Duration>,
        /// Which limit it was.
        scope: Scope,
    },
    /// Credentials are refused; nothing was done.
    #[error("the order management system refuses the credentials")]
    Unauthenticated,
    /// Definitely refused as a whole, nothing was done; one of its orders may be why.
    #[error("the order management system refused the batch: {0}")]
    Refused(String),
    /// It took too much of it, and it gave up: definitely nothing was done. One of the orders may be why, or its own state.
    #[error("the order management system gave up on the batch: {0}")]
    GaveUp(String),
    /// Bytes left and no complete answer came.
    #[error("the call's outcome is unknown: {0}")]
    Unknown(String),
}

/// Which limit an overloaded OMS spoke of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Per second.
    #[default]
    Second,
    /// Per hour.
    Hour,
    /// Per day.
    Day,
    /// Calls at once.
    Concurrency,
}

/// An order the OMS has.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The OMS's id of it.
    pub id: String,
    /// Fingerprint stored beside it; `None` where the OMS stores none.
    pub fingerprint: Option<Fingerprint>,
}

/// One committed summary, for reconciliation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// Place in the OMS's order of commits, from 1.
    pub cursor: u64,
    /// The order's identity.
    pub identity: Identity,
    /// The OMS's id of it.
    #[serde(alias = "id")]
    pub summary_id: String,
    /// Fingerprint stored beside it.
    #[serde(default, deserialize_with = "digits")]
    pub fingerprint: Option<Fingerprint>,
    /// When it was committed, microseconds since 1970, by the OMS.
    pub committed_at_us: i64,
    /// Grand total as decimal text.
    pub grand_total: String,
    /// Its currency.
    pub currency: String,
    /// How many times the OMS was made to create it: over 1 is a double.
    pub creates: u64,
}

/// A fingerprint of 32 hex digits; anything else is none of ours.
fn digits<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Fingerprint>, D::Error> {
    let text = Option::<String>::deserialize(value)?;
    Ok(text.and_then(|text| Fingerprint::parse(&text)))
}

/// The OMSs of this crate; the binary picks one.
pub enum Oms {
    /// The embedded one.
    Sqlite(sqlite::Sqlite),
    /// In a PostgreSQL database.
    Postgres(postgres::Postgres),
    /// Reached over HTTP.
    Http(http::Http),
    /// The ledger, for tests only.
    Ledger(ledger::Ledger),
}

impl Oms {
    /// Its kind, as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Http(_) => "http",
            Self::Ledger(_) => "ledger",
        }
    }
}

/// One call of whichever OMS it is.
macro_rules! of {
    ($oms:ident, $one:ident => $call:expr) => {
        match $oms {
            Oms::Sqlite($one) => $call,
            Oms::Postgres($one) => $call,
            Oms::Http($one) => $call,
            Oms::Ledger($one) => $call,
        }
    };
}

impl OrderManagement for Oms {
    fn guarantee(&self) -> Guarantee {
        of!(self, oms => oms.guarantee())
    }

    fn is_test(&self) -> bool {
        of!(self, oms => oms.is_test())
    }

    fn identity_max(&self) -> usize {
        of!(self, oms => oms.identity_max())
    }

    fn batch_max(&self) -> usize {
        of!(self, oms => oms.batch_max())
    }

    fn can_find(&self) -> bool {
        of!(self, oms => oms.can_find())
    }

    fn find_batch(&self) -> usize {
        of!(self, oms => oms.find_batch())
    }

    fn visible_after(&self) -> Duration {
        of!(self, oms => oms.visible_after())
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        of!(self, oms => oms.submit(batch).await)
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        of!(self, oms => oms.find(identities).await)
    }

    async fn claim(&self, fleet: &str, take: bool) -> Result<Claim, CallFailure> {
        of!(self, oms => oms.claim(fleet, take).await)
    }

    fn keep_to(&self, share: f64, common: &Common) {
        of!(self, oms => oms.keep_to(share, common));
    }

    fn claim_pace(&self) -> ClaimPace {
        of!(self, oms => oms.claim_pace())
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        of!(self, oms => oms.list(after, limit).await)
    }
}
