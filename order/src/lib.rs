//! The order domain, pure: what an order is, what a channel's bytes mean, and the order summary it becomes.
//!
//! No I/O, no clock, no configuration file. Two doors into this crate:
//!
//! - [`read()`] takes a request body as it came in and says, item by item, what the ingest door must
//!   know: identity, readiness, version, fingerprint, and the item's bytes with card data masked.
//! - [`summarise`] takes one item's kept bytes, later and in another process if need be, and makes
//!   the [`OrderSummary`] the order management system (OMS) is asked to create.
//!
//! Both go through the one file per channel format in [`format`](mod@format).

mod exact;
pub mod fingerprint;
pub mod format;
mod json;
pub mod key;
mod mask;
pub mod money;
pub mod read;
pub mod readiness;
pub mod summary;
mod text;
mod unread;
mod xml;

pub use fingerprint::Fingerprint;
pub use format::Format;
pub use key::OrderKey;
pub use money::{Currency, Money};
pub use read::{
    Item, ItemResult, Limits, MaskedSpan, ReadOptions, Unreadable, UnreadableKind, read,
};
pub use readiness::{HoldReason, Readiness, RecordedAs};
pub use summary::{OrderSummary, Unmappable, summarise};
pub use unread::mask_unread;
