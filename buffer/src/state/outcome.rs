//! What is kept of an order after its journal segment is gone.

use forebay_order::Fingerprint;

use crate::OrderState;

/// An ended order, as the outcome index keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) sequence: u64,
    /// Summarised or recorded; other ends stay in the journal.
    pub(crate) state: OrderState,
    /// Source version of the content in the OMS.
    pub(crate) version: Option<u64>,
    /// Newest source version seen, of changes that came too late.
    pub(crate) newest: Option<u64>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) fingerprint_version: u8,
    /// Fingerprints of earlier versions, and of changes that came too late.
    pub(crate) earlier: Vec<Fingerprint>,
    pub(crate) accepted_at_ms: i64,
    pub(crate) settled_at_ms: i64,
    pub(crate) attempts: u8,
    pub(crate) synthetic: bool,
    pub(crate) summary_id: String,
}
