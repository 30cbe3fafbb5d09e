//! From a delivery to its record and its receipt, by the rules.

use super::order::Kept;
use super::{Outcome, State};
use crate::receipt::First;
use crate::record::{Delivery, Record};
use crate::rules::{self, Decision, Known, Write};
use crate::{Durability, Envelope, ExceptionCategory, OrderState, Receipt};

/// What a delivery comes to, before anything is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    /// The order it belongs to; `None` for the first of its key.
    pub(crate) order: Option<u64>,
    /// Newest version known of that order.
    version: Option<u64>,
}

impl Judged {
    /// The record that keeps the delivery, or nothing.
    pub(crate) fn into_record(self, mut envelope: Envelope, accepted_at_ms: i64) -> Option<Record> {
        let order = self.order.unwrap_or_default();
        if let Some(reason) = self.decision.hold {
            envelope.readiness = forebay_order::Readiness::Held(reason);
        }
        if matches!(self.decision.write, Write::Replace { .. } | Write::Cancel { .. }) {
            // A hold or cancel outranks everything up to the newest version it was told of.
            envelope.version = envelope.version.max(self.version);
        }
        let delivery = Delivery { envelope, accepted_at_ms };
        Some(match self.decision.write {
            Write::Nothing => return None,
            Write::Accept => Record::Accept(delivery),
            Write::Replace { parked } => Record::Replace { order, parked, delivery },
            Write::Cancel { parked } => Record::Cancel { order, parked, delivery },
            Write::Conflict => Record::Conflict { order, delivery },
            Write::Change => Record::Change { order, delivery },
            Write::Recorded => Record::Recorded(delivery),
            Write::Stray => Record::Stray(delivery),
        })
    }
}

impl State {
    /// What a delivery of that hash ([`State::hash_of`]) comes to. `outcome` is what the index knows of its hash, where memory knows nothing;
    /// `same_bytes` compares its body with a kept one, and is asked only across fingerprint rules.
    pub(crate) fn judge(
        &self,
        hash: u128,
        envelope: &Envelope,
        outcome: Option<&Outcome>,
        same_bytes: impl FnOnce(Kept) -> bool,
    ) -> Judged {
        let found = self.find(hash);
        let in_memory = found.and_then(|sequence| self.get(sequence));
        let order = found.or(outcome.map(|outcome| outcome.sequence));
        let known = order.and_then(|order| {
            self.known(order).or_else(|| outcome.map(|outcome| self.known_outcome(outcome)))
        });
        let version = known.as_ref().and_then(|known| known.version);
        let same = || {
            let kept = order.and_then(|order| self.parked.get(&order)).map(|p| p.content.kept);
            kept.or(in_memory.map(|order| order.content.kept)).is_some_and(same_bytes)
        };
        let decision = rules::decide(known.as_ref(), envelope, same);
        Judged { decision, order, version }
    }

    /// The receipt of a delivery that was judged, once `record` (if any) is durable and applied.
    pub(crate) fn receipt(
        &self,
        judged: &Judged,
        record: Option<u64>,
        outcome: Option<&Outcome>,
        durability: Durability,
    ) -> Option<Receipt> {
        let order = judged.order.or(record)?;
        let first = self.first(order).or_else(|| outcome.map(first_of_outcome))?;
        Some(Receipt::new(judged.decision.answer, record.unwrap_or(order), first, durability))
    }

    fn first(&self, sequence: u64) -> Option<First> {
        let order = self.get(sequence)?;
        let ending = self.endings.get(&sequence);
        Some(First {
            sequence,
            accepted_at_ms: order.accepted_at_ms,
            state: order.state,
            fingerprint: order.content.fingerprint,
            summary_id: ending.map(|e| e.summary_id.clone()).filter(|id| !id.is_empty()),
        })
    }

    fn known(&self, sequence: u64) -> Option<Known> {
        let order = self.get(sequence)?;
        let parked = self.parked.get(&sequence);
        let latest = parked.map_or(&order.content, |parked| &parked.content);
        let earlier = self.earlier.get(&sequence).cloned().unwrap_or_default();
        let newest = self.newest.get(&sequence).copied();
        let damaged = |row: &super::Row| row.category == ExceptionCategory::Damaged;
        Some(self.with_rows(
            sequence,
            Known {
                state: order.state,
                hold: order.hold,
                tombstone: order.state == OrderState::Cancelled && earlier.is_empty(),
                parked_cancel: parked.is_some_and(|parked| parked.cancel),
                maybe_sent: order.sent_before,
                damaged: self.rows.of(sequence).any(|(_, row)| damaged(row)),
                version: latest.version.max(order.content.version).max(newest),
                fingerprint: latest.fingerprint,
                fingerprint_version: latest.fingerprint_version,
                earlier,
                conflicts: Vec::new(),
            },
        ))
    }

    fn known_outcome(&self, outcome: &Outcome) -> Known {
        self.with_rows(
            outcome.sequence,
            Known {
                state: outcome.state,
                hold: None,
                tombstone: false,
                parked_cancel: false,
                maybe_sent: false,
                damaged: false,
                version: outcome.version.max(outcome.newest),
                fingerprint: outcome.fingerprint,
                fingerprint_version: outcome.fingerprint_version,
                earlier: outcome.earlier.clone(),
                conflicts: Vec::new(),
            },
        )
    }

    fn with_rows(&self, order: u64, mut known: Known) -> Known {
        if let Some(late) = self.late.get(&order) {
            known.version = known.version.max(late.newest);
            known.earlier.extend(&late.fingerprints);
        }
        for (_, row) in self.rows.of(order) {
            let Some(body) = row.body else { continue };
            match row.category {
                ExceptionCategory::Conflict => known.conflicts.push(body.fingerprint),
                ExceptionCategory::ChangeAfterSummary => {
                    known.version = known.version.max(body.version);
                    if !known.earlier.contains(&body.fingerprint) {
                        known.earlier.push(body.fingerprint);
                    }
                }
                _ => {}
            }
        }
        known
    }
}

fn first_of_outcome(outcome: &Outcome) -> First {
    First {
        sequence: outcome.sequence,
        accepted_at_ms: outcome.accepted_at_ms,
        state: outcome.state,
        fingerprint: outcome.fingerprint,
        summary_id: Some(outcome.summary_id.clone()).filter(|id| !id.is_empty()),
    }
}
