//! From a record to its extensions.

use forebay_order::Readiness;

use super::primitives::{len32, put_text, put_varint};
use super::{flags, kinds, tags};
use crate::record::{Delivery, Record, RowSnapshot, Settled, Snapshot};

/// The number of a record's kind.
pub(crate) fn kind(record: &Record) -> u8 {
    match record {
        Record::Accept(delivery) => match delivery.envelope.readiness {
            Readiness::Held(_) => kinds::HOLD,
            Readiness::Cancelled => kinds::TOMBSTONE,
            _ => kinds::ACCEPT,
        },
        Record::Replace { .. } => kinds::REPLACE,
        Record::Cancel { .. } => kinds::CANCEL,
        Record::Conflict { .. } => kinds::CONFLICT,
        Record::Change { .. } => kinds::CHANGE,
        Record::Recorded(_) => kinds::RECORDED,
        Record::Stray(_) => kinds::STRAY,
        Record::Leased { .. } => kinds::LEASED,
        Record::Submitting { .. } => kinds::SUBMITTING,
        Record::Ticket { .. } => kinds::TICKET,
        Record::Settle { .. } => kinds::SETTLE,
        Record::Retry { .. } => kinds::RETRY,
        Record::Failed { .. } => kinds::FAILED,
        Record::Act { .. } => kinds::ACT,
        Record::Moved { .. } => kinds::MOVED,
        Record::MovedRow { .. } => kinds::MOVED_ROW,
        Record::Policy { .. } => kinds::POLICY,
        Record::Checkpoint { .. } => kinds::CHECKPOINT,
    }
}

/// A record's body: the order's bytes, empty where it carries none.
pub(crate) fn body(record: &Record) -> &[u8] {
    record.delivery().map_or(&[], |delivery| &delivery.envelope.body)
}

/// Appends a record's extensions to `out`, unpadded.
pub(crate) fn extensions(record: &Record, out: &mut Vec<u8>) {
    let mut ext = Ext(out);
    match record {
        Record::Accept(_) | Record::Recorded(_) | Record::Stray(_) => {}
        Record::Replace { order, parked, .. } | Record::Cancel { order, parked, .. } => {
            ext.u64(tags::SUBJECT, *order);
            if *parked {
                ext.put(tags::PARKED, &[]);
            }
        }
        Record::Conflict { order, .. } | Record::Change { order, .. } => {
            ext.u64(tags::SUBJECT, *order);
        }
        Record::Leased { orders } => ext.list(tags::LEASED, orders, 9, |out, (order, attempt)| {
            out.extend_from_slice(&order.to_le_bytes());
            out.push(*attempt);
        }),
        Record::Submitting { orders } => ext.list(tags::ORDERS, orders, 8, |out, order| {
            out.extend_from_slice(&order.to_le_bytes());
        }),
        Record::Ticket { order, ticket, at_ms, not_before_ms } => {
            ext.u64(tags::SUBJECT, *order);
            ext.put(tags::TICKET, ticket.as_bytes());
            ext.time(tags::TICKET_AT, *at_ms);
            ext.time(tags::TICKET_LOOK, *not_before_ms);
        }
        Record::Settle { entries } => ext.settled(entries),
        Record::Retry { order, not_before_ms, attempts, sent, reason } => {
            ext.u64(tags::SUBJECT, *order);
            ext.parts(tags::RETRY, &[&not_before_ms.to_le_bytes(), &[*attempts, u8::from(*sent)]]);
            ext.text(tags::WHY, reason);
        }
        Record::Failed { order, at_ms, attempts, category, reason } => {
            ext.u64(tags::SUBJECT, *order);
            ext.parts(tags::FAILED, &[&at_ms.to_le_bytes(), &[*attempts, *category as u8]]);
            ext.text(tags::WHY, reason);
        }
        Record::Act { exception, act, at_ms } => {
            ext.u64(tags::SUBJECT, *exception);
            ext.parts(tags::ACT, &[&at_ms.to_le_bytes(), &[*act as u8]]);
        }
        Record::Moved { order, snapshot, .. } => {
            ext.u64(tags::SUBJECT, *order);
            ext.snapshot(snapshot);
        }
        Record::MovedRow { exception, row, .. } => {
            ext.u64(tags::SUBJECT, *exception);
            ext.row(row);
        }
        Record::Policy { name, value, at_ms } => {
            ext.parts(tags::POLICY, &[&at_ms.to_le_bytes(), name.as_bytes()]);
            ext.put(tags::POLICY_VALUE, value);
        }
        Record::Checkpoint { retired_below, ended } => ext.checkpoint(*retired_below, ended),
    }
    if let Some(delivery) = record.delivery() {
        ext.delivery(delivery);
    }
}

/// Writes extensions.
struct Ext<'a>(&'a mut Vec<u8>);

impl Ext<'_> {
    fn put(&mut self, tag: u8, value: &[u8]) {
        self.parts(tag, &[value]);
    }

    fn parts(&mut self, tag: u8, parts: &[&[u8]]) {
        self.0.push(tag);
        put_varint(self.0, len32(parts.iter().map(|part| part.len()).sum()));
        for part in parts {
            self.0.extend_from_slice(part);
        }
    }

    /// A time, left out where there is none.
    fn time(&mut self, tag: u8, at_ms: Option<i64>) {
        if let Some(at_ms) = at_ms {
            self.put(tag, &at_ms.to_le_bytes());
        }
    }

    fn u64(&mut self, tag: u8, value: u64) {
        self.put(tag, &value.to_le_bytes());
    }

    /// Text, left out where empty.
    fn text(&mut self, tag: u8, text: &str) {
        if !text.is_empty() {
            self.put(tag, text.as_bytes());
        }
    }

    /// Entries of `each` bytes.
    fn list<T>(&mut self, tag: u8, items: &[T], each: usize, put: impl Fn(&mut Vec<u8>, &T)) {
        self.0.push(tag);
        put_varint(self.0, len32(items.len().saturating_mul(each)));
        for item in items {
            put(self.0, item);
        }
    }

    fn settled(&mut self, entries: &[Settled]) {
        let id_bytes = |entry: &Settled| {
            let len = entry.summary_id.len();
            len + varint_len(len32(len))
        };
        self.0.push(tags::SETTLED);
        put_varint(self.0, len32(entries.iter().map(|entry| 18 + id_bytes(entry)).sum()));
        for entry in entries {
            self.0.extend_from_slice(&entry.order.to_le_bytes());
            self.0.extend_from_slice(&entry.at_ms.to_le_bytes());
            self.0.extend_from_slice(&[entry.attempts, u8::from(entry.existing)]);
            put_text(self.0, &entry.summary_id);
        }
    }

    fn snapshot(&mut self, snapshot: &Snapshot) {
        let first = snapshot.first_accepted_at_ms.to_le_bytes();
        let rest = [snapshot.state as u8, snapshot.attempts, u8::from(snapshot.sent_before)];
        self.parts(tags::SNAPSHOT, &[&first, &rest]);
        self.time(tags::SNAPSHOT_NOT_BEFORE, snapshot.not_before_ms);
        if let Some(ticket) = &snapshot.ticket {
            self.put(tags::TICKET, ticket.as_bytes());
        }
        self.time(tags::TICKET_AT, snapshot.ticket_at_ms);
        if !snapshot.earlier.is_empty() {
            self.list(tags::EARLIER, &snapshot.earlier, 16, |out, fingerprint| {
                out.extend_from_slice(fingerprint);
            });
        }
        if let Some(newest) = snapshot.newest {
            self.u64(tags::SNAPSHOT_NEWEST, newest);
        }
    }

    fn row(&mut self, row: &RowSnapshot) {
        let raised = row.raised_at_ms.to_le_bytes();
        self.parts(tags::ROW, &[&raised, &[row.attempts, row.category as u8]]);
        if let Some(order) = row.order {
            self.u64(tags::ROW_ORDER, order);
        }
        self.text(tags::WHY, &row.reason);
        self.text(tags::ROW_IDENTITY, &row.identity);
        self.text(tags::ROW_NUMBER, &row.number);
    }

    fn checkpoint(&mut self, retired_below: u64, ended: &[(u8, u64)]) {
        self.0.push(tags::CHECKPOINT);
        put_varint(self.0, len32(8 + ended.len().saturating_mul(9)));
        self.0.extend_from_slice(&retired_below.to_le_bytes());
        for (state, count) in ended {
            self.0.push(*state);
            self.0.extend_from_slice(&count.to_le_bytes());
        }
    }

    fn delivery(&mut self, delivery: &Delivery) {
        let envelope = &delivery.envelope;
        self.key(&envelope.key);
        let mut bits = 0;
        for (set, bit) in [
            (envelope.amend, flags::AMEND),
            (envelope.synthetic, flags::SYNTHETIC),
            (envelope.unplaced, flags::UNPLACED),
        ] {
            if set {
                bits |= bit;
            }
        }
        let small = [envelope.fingerprint_version, envelope.format, envelope.lane, bits];
        self.parts(
            tags::DELIVERY,
            &[
                &delivery.accepted_at_ms.to_le_bytes(),
                &envelope.fingerprint.0,
                &small,
                &envelope.readiness.code(),
            ],
        );
        self.text(tags::NUMBER, &envelope.number);
        if let Some(version) = envelope.version {
            self.u64(tags::VERSION, version);
        }
        if let Some(not_before) = envelope.not_before_ms {
            self.put(tags::NOT_BEFORE, &not_before.to_le_bytes());
        }
        if let Some(total) = &envelope.total {
            self.parts(tags::TOTAL, &[&total.amount.serialize(), &total.currency.bytes()]);
        }
        if let Some(lookup) = &envelope.lookup {
            self.put(tags::LOOKUP, lookup);
        }
        if let Some(traceparent) = &envelope.traceparent {
            self.put(tags::TRACEPARENT, traceparent);
        }
        if !envelope.masked.is_empty() {
            self.list(tags::MASKED, &envelope.masked, 8, |out, span| {
                out.extend_from_slice(&span.start.to_le_bytes());
                out.extend_from_slice(&span.len.to_le_bytes());
            });
        }
        self.text(tags::REASON, &envelope.reason);
    }

    fn key(&mut self, key: &forebay_order::OrderKey) {
        let (channel, source) = (len32(key.channel.len()), len32(key.source.len()));
        let len = key.channel.len()
            + key.source.len()
            + key.id.len()
            + varint_len(channel)
            + varint_len(source);
        self.0.push(tags::KEY);
        put_varint(self.0, len32(len));
        put_text(self.0, &key.channel);
        put_text(self.0, &key.source);
        self.0.extend_from_slice(key.id.as_bytes());
    }
}

fn varint_len(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        _ => 5,
    }
}
