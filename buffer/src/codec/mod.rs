//! One record as bytes: its kind, its *extensions*, and its body, an order's bytes, which stand apart.
//!
//! An extension is a tag, a length and a value. One number for each kind of record and each extension, never used again for
//! another meaning. The journal frames them as descriptors (`embedded/journal/group.rs`), the key table as pages
//! (`nats/page.rs`).

mod decode;
mod encode;
mod primitives;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use decode::{Undecodable, record};
pub(crate) use encode::{body, extensions, kind};
pub(crate) use primitives::{Take, len32, put_text, put_varint, put_varint64};

/// Descriptor flag: a reader that does not know the kind may pass over the record.
pub(crate) const SKIPPABLE: u8 = 1;

/// Kinds of records.
pub(crate) mod kinds {
    pub(crate) const ACCEPT: u8 = 1;
    pub(crate) const HOLD: u8 = 2;
    pub(crate) const TOMBSTONE: u8 = 3;
    pub(crate) const REPLACE: u8 = 4;
    /// Reads like `REPLACE`; not written.
    pub(crate) const RELEASE: u8 = 5;
    pub(crate) const CANCEL: u8 = 6;
    pub(crate) const CONFLICT: u8 = 7;
    pub(crate) const CHANGE: u8 = 8;
    pub(crate) const RECORDED: u8 = 9;
    pub(crate) const STRAY: u8 = 10;
    pub(crate) const LEASED: u8 = 11;
    pub(crate) const SUBMITTING: u8 = 12;
    pub(crate) const TICKET: u8 = 13;
    pub(crate) const SETTLE: u8 = 14;
    pub(crate) const RETRY: u8 = 15;
    pub(crate) const FAILED: u8 = 16;
    pub(crate) const ACT: u8 = 17;
    pub(crate) const MOVED: u8 = 18;
    pub(crate) const MOVED_ROW: u8 = 19;
    pub(crate) const POLICY: u8 = 20;
    pub(crate) const CHECKPOINT: u8 = 21;
    /// The journal's own: the index at the end of a full segment.
    pub(crate) const SEAL: u8 = 22;
    // 23 is reserved for an operator's edit of an order's bytes.
}

/// Extensions. From 128 on, a reader that does not know the tag passes over it; below, it must not.
mod tags {
    /// Channel, source and id, the first two with their lengths.
    pub(super) const KEY: u8 = 1;
    /// The fixed part of a delivery.
    pub(super) const DELIVERY: u8 = 2;
    pub(super) const NUMBER: u8 = 3;
    pub(super) const VERSION: u8 = 4;
    pub(super) const NOT_BEFORE: u8 = 5;
    pub(super) const TOTAL: u8 = 6;
    pub(super) const LOOKUP: u8 = 7;
    pub(super) const TRACEPARENT: u8 = 8;
    pub(super) const MASKED: u8 = 9;
    pub(super) const REASON: u8 = 10;
    /// The order (or exception) the record is about.
    pub(super) const SUBJECT: u8 = 11;
    /// The order was lent out: the content waits.
    pub(super) const PARKED: u8 = 12;
    pub(super) const LEASED: u8 = 13;
    pub(super) const ORDERS: u8 = 14;
    pub(super) const TICKET: u8 = 15;
    pub(super) const SETTLED: u8 = 16;
    pub(super) const RETRY: u8 = 17;
    pub(super) const FAILED: u8 = 18;
    pub(super) const ACT: u8 = 19;
    pub(super) const SNAPSHOT: u8 = 20;
    pub(super) const SNAPSHOT_NOT_BEFORE: u8 = 21;
    pub(super) const EARLIER: u8 = 22;
    pub(super) const ROW: u8 = 23;
    pub(super) const ROW_ORDER: u8 = 24;
    pub(super) const ROW_IDENTITY: u8 = 25;
    pub(super) const ROW_NUMBER: u8 = 26;
    pub(super) const POLICY: u8 = 27;
    pub(super) const POLICY_VALUE: u8 = 28;
    pub(super) const CHECKPOINT: u8 = 29;
    /// The text that goes with `RETRY`, `FAILED` or `ROW`.
    pub(super) const WHY: u8 = 30;
    pub(super) const SNAPSHOT_NEWEST: u8 = 32;
    /// One past the highest of them.
    pub(super) const PLAIN: usize = 33;
    /// Unknown ones from here on may be passed over.
    pub(super) const SKIPPABLE: u8 = 128;
    /// When a ticket was given.
    pub(super) const TICKET_AT: u8 = 128;
    /// When its order is to be looked up.
    pub(super) const TICKET_LOOK: u8 = 129;
    /// How many there are, and where each of them has its place.
    pub(super) const COUNT: usize = PLAIN + 2;

    /// Where a tag has its place, if it is known.
    pub(super) fn place(tag: u8) -> Option<usize> {
        let place = match tag.checked_sub(SKIPPABLE) {
            None => Some(usize::from(tag)).filter(|place| *place < PLAIN),
            Some(beyond) => Some(PLAIN + usize::from(beyond)),
        };
        place.filter(|place| *place < COUNT)
    }
}

/// Bits of a delivery's flag byte.
mod flags {
    pub(super) const AMEND: u8 = 1;
    pub(super) const SYNTHETIC: u8 = 2;
    pub(super) const UNPLACED: u8 = 4;
}
