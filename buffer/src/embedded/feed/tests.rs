//! The feed's slots by themselves.

use std::sync::Arc;

use forebay_order::OrderKey;

use super::keeper::Home;
use crate::{FeedEvent, FeedKind, SystemClock};

/// An event of that sequence and part.
pub(in crate::embedded) fn event(sequence: u64, part: u32) -> FeedEvent {
    FeedEvent {
        sequence,
        part,
        kind: FeedKind::Accepted,
        key: OrderKey::new("shopify", "demo", format!("{}", sequence / 3)),
        number: format!("#{sequence}"),
        at_ms: 1_790_000_000_000 + i64::try_from(sequence).unwrap(),
        order: Some(sequence / 3),
        summary_id: None,
        existing: None,
        exception: None,
        hold: None,
        synthetic: false,
    }
}

mod crash;
mod derived;
mod slots;
