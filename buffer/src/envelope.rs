//! What the door hands to the buffer.

use bytes::Bytes;
use forebay_order::{Fingerprint, MaskedSpan, Money, OrderKey, Readiness};

/// One delivery, as the door understood it, with its untouched (except masked) bytes.
///
/// There is no "create" or "update" in it: senders announce updates of orders nobody has seen and create
/// orders twice, so whether a delivery creates or replaces is a fact about the buffer. Only the cancel is
/// the sender's word, and stands in `readiness`.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The order's key. A body without an id ([`Readiness::Unreadable`], some [`Readiness::Recorded`]) has an
    /// empty `id`, and never occupies a key.
    pub key: OrderKey,
    /// Number people use; a label.
    pub number: String,
    /// What the format's readiness table said.
    pub readiness: Readiness,
    /// Whether a newer version of a known order replaces it, or is a conflict (the channel's rule).
    pub amend: bool,
    /// Source version; the larger is the newer.
    pub version: Option<u64>,
    /// Fingerprint of the content before masking.
    pub fingerprint: Fingerprint,
    /// The rule that made it.
    pub fingerprint_version: u8,
    /// Not to be drained before this time (ms since 1970).
    pub not_before_ms: Option<i64>,
    /// [`forebay_order::Format`] by its number.
    pub format: u8,
    /// Lane; 0 until lanes exist.
    pub lane: u8,
    /// The channel's own grand total, where stated with a currency.
    pub total: Option<Money>,
    /// Keyed hash of the normalised e-mail, to find a shopper's orders without keeping the address here.
    pub lookup: Option<[u8; 8]>,
    /// W3C trace context in binary: version, trace id, parent id, flags.
    pub traceparent: Option<[u8; 26]>,
    /// Sent by a load test or demo; never reaches an OMS that is not marked as a test one.
    pub synthetic: bool,
    /// The readiness table could not place it.
    pub unplaced: bool,
    /// What was masked in `body`.
    pub masked: Vec<MaskedSpan>,
    /// For [`Readiness::Unreadable`] and [`Readiness::FetchNeeded`]: what is wrong, without any value from the body.
    pub reason: String,
    /// The item's bytes.
    pub body: Bytes,
}

impl Envelope {
    /// A pending order about which the sender said nothing more. The number is made of the key's id, the format is 0; amendments are
    /// taken, and the fingerprint is of the current rule.
    pub fn new(key: OrderKey, fingerprint: Fingerprint, body: Bytes) -> Self {
        Self {
            number: format!("#{}", key.id),
            key,
            readiness: Readiness::Pending,
            amend: true,
            version: None,
            fingerprint,
            fingerprint_version: Fingerprint::VERSION,
            not_before_ms: None,
            format: 0,
            lane: 0,
            total: None,
            lookup: None,
            traceparent: None,
            synthetic: false,
            unplaced: false,
            masked: Vec::new(),
            reason: String::new(),
            body,
        }
    }
}
