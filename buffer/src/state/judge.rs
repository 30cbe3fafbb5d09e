//! From a delivery to its record and its receipt, by the rules.

use forebay_order::Fingerprint;

use super::order::{Before, Head, Kept};
use super::{Outcome, State};
use crate::receipt::First;
use crate::record::{Delivery, Record};
use crate::rules::{self, Decision, Known, Write};
use crate::{Answer, Durability, Envelope, ExceptionCategory, OrderState, Receipt};

/// Of a content nothing is known of; no real one has it.
const NO_FINGERPRINT: Fingerprint = Fingerprint([0; 16]);

/// What a delivery comes to, before anything is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judged {
    pub(crate) decision: Decision,
    /// The order it belongs to; `None` for the first of its key.
    pub(crate) order: Option<u64>,
    /// Newest version known of that order.
    version: Option<u64>,
    /// The order's current content.
    pub(crate) before: Option<Before>,
    incoming: Fingerprint,
    /// It repeats an order whose bytes are damaged and which cannot be set right while it is with a worker.
    pub(crate) repeats_lost: bool,
}

impl Judged {
    /// Whether the delivery is neither kept nor answered.
    pub(crate) fn refused(&self) -> bool {
        self.decision.write == Write::Refused
    }

    /// The order was lent while its change was being written: the change waits for what becomes of that.
    pub(crate) fn park(&mut self) {
        self.decision.write = match self.decision.write {
            Write::Replace { .. } => Write::Replace { parked: true },
            Write::Cancel { .. } => Write::Cancel { parked: true },
            _ => return,
        };
        self.decision.answer = Answer::Parked;
    }

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
            Write::Nothing | Write::Refused => return None,
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
    /// What a delivery of that hash ([`State::hash_of`]) comes to. `head` is what the record of the order's current
    /// content says, where memory knows the order; `outcome` is what the index knows of its hash, where memory knows
    /// nothing. `same_bytes` compares its body with a kept one, and is asked only across fingerprint rules.
    ///
    /// Without a head of a known order its record is damaged, and [`Head::body_lost`] says that its bytes are. An order that can still be set right takes the delivery
    /// as the repair, for nothing else is left of it; any other keeps it beside, as a conflict or late change.
    pub(crate) fn judge(
        &self,
        hash: u128,
        envelope: &Envelope,
        head: Option<&Head>,
        outcome: Option<&Outcome>,
        same_bytes: impl FnOnce(Kept) -> bool,
    ) -> Judged {
        let found = self.find(hash);
        let order = found.or(outcome.map(|outcome| outcome.sequence));
        let known = found.and_then(|sequence| self.known(sequence, envelope, head));
        let known = known.or_else(|| outcome.map(|outcome| self.known_outcome(outcome)));
        let version = known.as_ref().and_then(|known| known.version);
        let same = || found.and_then(|order| self.latest(order)).is_some_and(same_bytes);
        let decision = rules::decide(known.as_ref(), envelope, same);
        let before = head.filter(|_| found.is_some()).map(Head::before);
        let exact = found.and_then(|order| self.detail(order)?.accepted_at_ms);
        let before = before.map(|before| Before {
            first_accepted_at_ms: exact.unwrap_or(before.first_accepted_at_ms),
            ..before
        });
        let lost = head.is_some_and(|head| head.body_lost) && decision.answer == Answer::Duplicate;
        let repeats_lost = lost && found.is_some_and(|order| self.needs_its_body(order));
        Judged { decision, order, version, before, incoming: envelope.fingerprint, repeats_lost }
    }

    /// Where the latest content of an order is, a parked one before the one lent out.
    fn latest(&self, order: u64) -> Option<Kept> {
        let parked = self.parked(order).map(|parked| parked.content.kept);
        parked.or_else(|| self.kept(order))
    }

    /// Where the content is that waits for an order's loan to end, and the rule of its fingerprint.
    pub(crate) fn parked_at(&self, order: u64) -> Option<(Kept, u8)> {
        let content = &self.parked(order)?.content;
        Some((content.kept, content.fingerprint_version))
    }

    /// The receipt of a delivery that was judged, once its record (if any) is durable and applied: `written` is that
    /// record's sequence, and when the delivery was accepted.
    pub(crate) fn receipt(
        &self,
        judged: &Judged,
        written: Option<(u64, i64)>,
        outcome: Option<&Outcome>,
        durability: Durability,
    ) -> Option<Receipt> {
        let record = written.map(|(record, _)| record);
        let order = judged.order.or(record)?;
        let first = self.first(order, judged, written.map(|(_, at_ms)| at_ms));
        let first = first.or_else(|| outcome.map(first_of_outcome))?;
        Some(Receipt::new(judged.decision.answer, record.unwrap_or(order), first, durability))
    }

    fn first(&self, sequence: u64, judged: &Judged, written_at_ms: Option<i64>) -> Option<First> {
        let order = self.get(sequence)?;
        let takes_effect = matches!(
            judged.decision.write,
            Write::Accept
                | Write::Recorded
                | Write::Stray
                | Write::Replace { parked: false }
                | Write::Cancel { parked: false }
        );
        let before = judged.before.filter(|_| judged.order.is_some());
        let seconds = i64::from(order.accepted_at_s) * 1_000;
        let own = written_at_ms.filter(|_| judged.order.is_none());
        let known = before.map(|before| before.fingerprint).filter(|_| !takes_effect);
        Some(First {
            sequence,
            accepted_at_ms: before.map(|b| b.first_accepted_at_ms).or(own).unwrap_or(seconds),
            state: order.state,
            fingerprint: known.unwrap_or(judged.incoming),
            summary_id: self.settled_as(&order).map(|(_, id)| id).filter(|id| !id.is_empty()),
        })
    }

    /// Whether the bytes of an order's current content are needed: it has not ended, and no other content waits to take
    /// their place.
    fn needs_its_body(&self, sequence: u64) -> bool {
        let ended = self.get(sequence).is_none_or(|order| order.ended());
        !ended && self.parked(sequence).is_none()
    }

    fn known(&self, sequence: u64, incoming: &Envelope, head: Option<&Head>) -> Option<Known> {
        let order = self.get(sequence)?;
        let detail = self.detail(sequence);
        let parked = self.parked(sequence);
        let content = head.map(|head| &head.content);
        let latest = parked.map(|parked| &parked.content).or(content);
        let earlier = detail.map(|detail| detail.earlier.clone()).unwrap_or_default();
        let newest = detail.and_then(|detail| detail.newest);
        let can_be_repaired =
            matches!(order.state, OrderState::Pending | OrderState::Held | OrderState::Exception)
                && !order.sent_before;
        let called_off = incoming.readiness == forebay_order::Readiness::Cancelled;
        let unreadable = latest.is_none() && can_be_repaired && !called_off;
        // The same content again changes nothing about what may have been sent.
        let body_lost = head.is_some_and(|head| head.body_lost)
            && !order.on_loan
            && self.needs_its_body(sequence);
        let fingerprint = match latest {
            Some(latest) => latest.fingerprint,
            None if unreadable => incoming.fingerprint,
            None => NO_FINGERPRINT,
        };
        let damaged = |row: &super::Row| row.category == ExceptionCategory::Damaged;
        Some(
            self.with_rows(
                sequence,
                Known {
                    state: order.state,
                    hold: order.hold,
                    tombstone: order.state == OrderState::Cancelled && earlier.is_empty(),
                    parked_cancel: parked.is_some_and(|parked| parked.cancel),
                    maybe_sent: order.sent_before
                        || (order.state == OrderState::Pending && self.looks_first(&order)),
                    damaged: unreadable
                        || body_lost
                        || order.lost
                        || self.rows.of(sequence).any(|(_, r)| damaged(r)),
                    version: latest
                        .and_then(|latest| latest.version)
                        .max(content.and_then(|content| content.version))
                        .max(newest),
                    fingerprint,
                    fingerprint_version: latest
                        .map_or(incoming.fingerprint_version, |latest| latest.fingerprint_version),
                    earlier,
                    conflicts: Vec::new(),
                },
            ),
        )
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
                    known.earlier.push(body.fingerprint);
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
