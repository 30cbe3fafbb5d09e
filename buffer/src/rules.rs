//! The one table that says what a delivery means beside what is known of its key.
//!
//! Pure: no state, no I/O, no clock. Both backends, the tests and the documentation go by [`decide`].
//!
//! | known | same content again | older | newer, channel amends | newer, channel does not | equal or no version | cancel that is not older |
//! |---|---|---|---|---|---|---|
//! | nothing | - | - | accepted, held, tombstone by readiness | same | same | tombstone |
//! | held, pending | duplicate | stale | amended | conflict | conflict; held that becomes pending: amended | cancelled; pending that may be in the OMS: parked |
//! | leased, submitted | duplicate | stale | parked | conflict | conflict | parked |
//! | exception | duplicate; after damage: amended | stale | amended, pending again | conflict | conflict | cancelled |
//! | exception that may be in the OMS | duplicate | stale | parked | conflict | conflict | parked |
//! | cancelled | duplicate | stale; after a tombstone: held | held | held | held | cancelled |
//! | summarised, discarded | duplicate | stale | change after summary | conflict | conflict | change after summary |
//!
//! - *Same content* is an equal fingerprint of the latest or any earlier version. One exception: content that
//!   equals an *earlier* version under a strictly newer source version is a change back, hence newer.
//! - A key that was cancelled holds every later content of it (`cancelled_before`), and only a strictly newer
//!   version releases that.
//! - A delivery that says an order failed, or was replaced, at its source is no order by itself (recorded); under
//!   the key of a known order it is a newer version that holds it ([`failed_at_source`]), unless it is older.
//! - A recorded body, an unreadable one and one with only an id occupy no key; they are known by their content.
//! - A key keeps at most 16 open conflicts ([`CONFLICTS_MAX`]). A further content is refused, not acknowledged, until a
//!   person has closed one; what was kept stays, and repeats of it are answered as before.
//! - Fingerprints of different rules cannot be compared; then the kept bytes are, and bytes that are equal are
//!   never a conflict. Where they are gone (only the outcome is left), versions decide alone.

use forebay_order::{Fingerprint, HoldReason, Readiness, RecordedAs};

use crate::{Answer, Envelope, OrderState};

/// What is known of a delivery's key (or, for what occupies no key, of its content).
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Where the order is.
    pub(crate) state: OrderState,
    /// Why it is held, if it is.
    pub(crate) hold: Option<HoldReason>,
    /// Only a cancel of it ever came.
    pub(crate) tombstone: bool,
    /// A cancel waits for the loan to end.
    pub(crate) parked_cancel: bool,
    /// Bytes of it may have reached the OMS, and nobody knows yet whether they did.
    pub(crate) maybe_sent: bool,
    /// Its bytes were damaged on disk, so that the same content again repairs it.
    pub(crate) damaged: bool,
    /// The newest source version seen, of a parked or excepted change too.
    pub(crate) version: Option<u64>,
    /// Fingerprint of the latest content, a parked one before the one lent out.
    pub(crate) fingerprint: Fingerprint,
    /// The rule that made it.
    pub(crate) fingerprint_version: u8,
    /// Fingerprints of earlier versions and of changes that came too late.
    pub(crate) earlier: Vec<Fingerprint>,
    /// Fingerprints of open conflicts.
    pub(crate) conflicts: Vec<Fingerprint>,
}

/// What to answer, and what to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// What the delivery came to.
    pub(crate) answer: Answer,
    /// Which record keeps it.
    pub(crate) write: Write,
    /// The readiness the record is written with, where it is not the sender's.
    pub(crate) hold: Option<HoldReason>,
}

/// Which record keeps a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// None: nothing changes.
    Nothing,
    /// The key's first.
    Accept,
    /// The new content of a known order.
    Replace { parked: bool },
    /// The order is called off.
    Cancel { parked: bool },
    /// An exception row with the other content.
    Conflict,
    /// An exception row with a change that came too late.
    Change,
    /// Not an order.
    Recorded,
    /// An exception row without a key.
    Stray,
    /// None, and it is not acknowledged: its key has as many open conflicts as are kept.
    Refused,
}

/// Open conflicts of one key at most.
pub(crate) const CONFLICTS_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Older,
    Newer,
    /// Equal, or one of the two has none.
    Unclear,
}

/// Whether a body of this readiness stands under its order key; the others are known by their content only.
pub(crate) fn occupies_key(readiness: Readiness) -> bool {
    matches!(readiness, Readiness::Pending | Readiness::Held(_) | Readiness::Cancelled)
}

/// Whether a delivery says that the order of its key failed or was replaced where it was placed, and so
/// concerns an order of that key that is in `state`.
pub(crate) fn failed_at_source(readiness: Readiness, state: OrderState) -> bool {
    readiness == Readiness::Recorded(RecordedAs::Failed)
        && !matches!(state, OrderState::Cancelled | OrderState::Discarded | OrderState::Recorded)
}

/// What `incoming` means. `same_bytes` says whether its body equals the kept one; asked only where the two
/// fingerprints are of different rules.
pub(crate) fn decide(
    known: Option<&Known>,
    incoming: &Envelope,
    same_bytes: impl FnOnce() -> bool,
) -> Decision {
    let Some(known) = known else { return first(incoming.readiness) };
    if !occupies_key(incoming.readiness) {
        return nothing(Answer::Duplicate);
    }
    let age = age(known.version, incoming.version);
    if same(known, incoming, age, same_bytes) {
        let repairs = known.damaged && incoming.fingerprint == known.fingerprint;
        let replace = Write::Replace { parked: false };
        return if repairs { write(Answer::Amended, replace) } else { nothing(Answer::Duplicate) };
    }
    if incoming.fingerprint_version == known.fingerprint_version
        && known.conflicts.contains(&incoming.fingerprint)
    {
        return nothing(Answer::Conflict);
    }
    if incoming.readiness == Readiness::Cancelled {
        cancel(known, age)
    } else {
        other(known, incoming, age)
    }
}

fn first(readiness: Readiness) -> Decision {
    match readiness {
        Readiness::Pending => write(Answer::Accepted, Write::Accept),
        Readiness::Held(_) => write(Answer::Held, Write::Accept),
        Readiness::Cancelled => write(Answer::Tombstone, Write::Accept),
        Readiness::Recorded(_) => write(Answer::Recorded, Write::Recorded),
        Readiness::Unreadable | Readiness::FetchNeeded => write(Answer::Exception, Write::Stray),
    }
}

fn cancel(known: &Known, age: Age) -> Decision {
    if age == Age::Older {
        return nothing(Answer::Stale);
    }
    match known.state {
        OrderState::Pending | OrderState::Exception if known.maybe_sent => {
            write(Answer::Parked, Write::Cancel { parked: true })
        }
        OrderState::Held | OrderState::Pending | OrderState::Exception | OrderState::Cancelled => {
            write(Answer::Cancelled, Write::Cancel { parked: false })
        }
        OrderState::Leased | OrderState::Submitted => {
            write(Answer::Parked, Write::Cancel { parked: true })
        }
        OrderState::Summarised | OrderState::Discarded | OrderState::Recorded => {
            write(Answer::ChangeAfterSummary, Write::Change)
        }
    }
}

fn other(known: &Known, incoming: &Envelope, age: Age) -> Decision {
    if age == Age::Older && !known.tombstone {
        return nothing(Answer::Stale);
    }
    if known.state == OrderState::Cancelled {
        return held_after_cancel(Answer::Held, false);
    }
    if known.parked_cancel {
        return held_after_cancel(Answer::Parked, true);
    }
    let released = known.state == OrderState::Held
        && known.hold != Some(HoldReason::CancelledBefore)
        && incoming.readiness == Readiness::Pending;
    let failed = incoming.readiness == Readiness::Held(HoldReason::FailedAtSource);
    if !failed && (!incoming.amend || (age == Age::Unclear && !released)) {
        return conflict(known);
    }
    match known.state {
        OrderState::Exception if known.maybe_sent => {
            write(Answer::Parked, Write::Replace { parked: true })
        }
        OrderState::Held | OrderState::Pending | OrderState::Exception | OrderState::Cancelled => {
            write(Answer::Amended, Write::Replace { parked: false })
        }
        OrderState::Leased | OrderState::Submitted => {
            write(Answer::Parked, Write::Replace { parked: true })
        }
        OrderState::Summarised | OrderState::Discarded | OrderState::Recorded => {
            write(Answer::ChangeAfterSummary, Write::Change)
        }
    }
}

fn same(known: &Known, incoming: &Envelope, age: Age, same_bytes: impl FnOnce() -> bool) -> bool {
    if incoming.fingerprint_version != known.fingerprint_version {
        return same_bytes();
    }
    incoming.fingerprint == known.fingerprint
        || (age != Age::Newer && known.earlier.contains(&incoming.fingerprint))
}

/// A conflict's answer says that its content is kept, so one too many gets no answer but a refusal.
fn conflict(known: &Known) -> Decision {
    let room = known.conflicts.len() < CONFLICTS_MAX;
    write(Answer::Conflict, if room { Write::Conflict } else { Write::Refused })
}

fn age(known: Option<u64>, incoming: Option<u64>) -> Age {
    match (known, incoming) {
        (Some(known), Some(incoming)) if incoming > known => Age::Newer,
        (Some(known), Some(incoming)) if incoming < known => Age::Older,
        _ => Age::Unclear,
    }
}

fn nothing(answer: Answer) -> Decision {
    Decision { answer, write: Write::Nothing, hold: None }
}

fn write(answer: Answer, write: Write) -> Decision {
    Decision { answer, write, hold: None }
}

fn held_after_cancel(answer: Answer, parked: bool) -> Decision {
    let hold = Some(HoldReason::CancelledBefore);
    Decision { answer, write: Write::Replace { parked }, hold }
}

#[cfg(test)]
mod tests;
