//! Exception rows in memory.

use std::collections::BTreeMap;

use forebay_order::Fingerprint;
use hashbrown::HashMap;

use super::order::{Kept, RECORD_OVERHEAD};
use crate::ExceptionCategory;
use crate::record::RowSnapshot;

/// One open exception.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// The order (or keyless body) it is attached to.
    pub(crate) order: u64,
    pub(crate) category: ExceptionCategory,
    pub(crate) reason: String,
    pub(crate) raised_at_ms: i64,
    pub(crate) attempts: u8,
    /// Its own body, where it has one.
    pub(crate) body: Option<RowBody>,
    /// The segment from which a replay can rebuild it.
    pub(super) anchor: u64,
    /// It came of its order's records, not of one of its own: a change that was parked when the summary came.
    pub(super) derived: bool,
}

/// A row's own body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowBody {
    pub(crate) kept: Kept,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) version: Option<u64>,
    pub(crate) cancel: bool,
}

impl Row {
    /// Whether the order's own state is exception because of it.
    pub(crate) fn is_own(&self) -> bool {
        self.category.is_own()
    }

    /// Whether it is a body's that occupies no key.
    pub(crate) fn is_stray(&self) -> bool {
        matches!(self.category, ExceptionCategory::Unreadable | ExceptionCategory::FetchNeeded)
    }

    /// Whether a replay can rebuild it only beside its order, so that it is carried forward with it.
    pub(super) fn travels(&self) -> bool {
        self.is_own() || self.derived
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.body.map_or(0, |body| u64::from(body.kept.bytes)) + RECORD_OVERHEAD
    }

    /// The row as the journal carries it forward. Identity and number stand in the delivery it goes with.
    pub(super) fn snapshot(&self) -> RowSnapshot {
        RowSnapshot {
            order: Some(self.order),
            category: self.category,
            reason: self.reason.clone(),
            raised_at_ms: self.raised_at_ms,
            attempts: self.attempts,
            identity: String::new(),
            number: String::new(),
        }
    }
}

/// All open exceptions, by id and by order.
#[derive(Debug, Default)]
pub(super) struct Rows {
    by_id: BTreeMap<u64, Row>,
    by_order: HashMap<u64, Vec<u64>>,
}

impl Rows {
    pub(super) fn get(&self, id: u64) -> Option<&Row> {
        self.by_id.get(&id)
    }

    /// Adds one; gives back the row of that id that was there.
    pub(super) fn insert(&mut self, id: u64, row: Row) -> Option<Row> {
        let ids = self.by_order.entry(row.order).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        self.by_id.insert(id, row)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Row> {
        let row = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_order.get_mut(&row.order) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_order.remove(&row.order);
            }
        }
        Some(row)
    }

    /// Ids of an order's rows, oldest first.
    pub(super) fn ids_of(&self, order: u64) -> &[u64] {
        self.by_order.get(&order).map_or(&[], Vec::as_slice)
    }

    /// An order's rows.
    pub(super) fn of(&self, order: u64) -> impl Iterator<Item = (u64, &Row)> {
        self.ids_of(order).iter().filter_map(|id| Some((*id, self.by_id.get(id)?)))
    }

    /// Rows with `id > after`, oldest first.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = (u64, &Row)> {
        let from = after.saturating_add(1);
        self.by_id.range(from..).map(|(id, row)| (*id, row))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Row> {
        self.by_id.values()
    }
}
