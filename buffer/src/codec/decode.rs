//! From a descriptor's extensions back to the record.

use bytes::Bytes;
use forebay_order::{Currency, Fingerprint, MaskedSpan, Money, OrderKey, Readiness};
use rust_decimal::Decimal;

use super::primitives::Take;
use super::{SKIPPABLE, flags, kinds, tags};
use crate::record::{Delivery, Record, RowSnapshot, Settled, Snapshot};
use crate::{Act, Envelope, ExceptionCategory, OrderState};

/// A record whose checksum holds and whose content this release does not understand: a later one wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Undecodable(pub(crate) String);

/// Reads a record of that kind out of its extensions. `None` for one a reader passes over: the journal's own
/// seal, or an unknown kind flagged so.
///
/// # Errors
/// [`Undecodable`] for an unknown kind, extension or value that must not be passed over.
pub(crate) fn record(
    kind: u8,
    descriptor_flags: u8,
    extensions: &[u8],
    body: Bytes,
) -> Result<Option<Record>, Undecodable> {
    if kind == kinds::SEAL {
        return Ok(None);
    }
    if !(kinds::ACCEPT..=kinds::CHECKPOINT).contains(&kind) {
        return if descriptor_flags & SKIPPABLE != 0 {
            Ok(None)
        } else {
            Err(Undecodable(format!("record kind {kind}")))
        };
    }
    let ext = Ext::split(extensions)?;
    let decoded = of_kind(kind, &ext, body);
    decoded.map(Some).ok_or_else(|| Undecodable(format!("a value in a record of kind {kind}")))
}

fn of_kind(kind: u8, ext: &Ext<'_>, body: Bytes) -> Option<Record> {
    let parked = ext.get(tags::PARKED).is_some();
    Some(match kind {
        kinds::ACCEPT | kinds::HOLD | kinds::TOMBSTONE => Record::Accept(ext.delivery(body)?),
        kinds::REPLACE | kinds::RELEASE => {
            Record::Replace { order: ext.subject()?, parked, delivery: ext.delivery(body)? }
        }
        kinds::CANCEL => {
            Record::Cancel { order: ext.subject()?, parked, delivery: ext.delivery(body)? }
        }
        kinds::CONFLICT => {
            Record::Conflict { order: ext.subject()?, delivery: ext.delivery(body)? }
        }
        kinds::CHANGE => Record::Change { order: ext.subject()?, delivery: ext.delivery(body)? },
        kinds::RECORDED => Record::Recorded(ext.delivery(body)?),
        kinds::STRAY => Record::Stray(ext.delivery(body)?),
        kinds::LEASED => {
            let orders = list(ext.get(tags::LEASED)?, |take| Some((take.u64()?, take.u8()?)))?;
            Record::Leased { orders }
        }
        kinds::SUBMITTING => {
            Record::Submitting { orders: list(ext.get(tags::ORDERS)?, |take| take.u64())? }
        }
        kinds::TICKET => {
            let ticket = ext.get(tags::TICKET)?.rest_text()?;
            let at_ms = ext.optional(tags::TICKET_AT, Take::i64)?;
            let not_before_ms = ext.optional(tags::TICKET_LOOK, Take::i64)?;
            Record::Ticket { order: ext.subject()?, ticket, at_ms, not_before_ms }
        }
        kinds::SETTLE => Record::Settle { entries: list(ext.get(tags::SETTLED)?, settled)? },
        kinds::RETRY => {
            let mut take = ext.get(tags::RETRY)?;
            Record::Retry {
                order: ext.subject()?,
                not_before_ms: take.i64()?,
                attempts: take.u8()?,
                sent: take.bool()?,
                reason: ext.text(tags::WHY)?,
            }
        }
        kinds::FAILED => {
            let mut take = ext.get(tags::FAILED)?;
            Record::Failed {
                order: ext.subject()?,
                at_ms: take.i64()?,
                attempts: take.u8()?,
                category: ExceptionCategory::from_code(take.u8()?)?,
                reason: ext.text(tags::WHY)?,
            }
        }
        kinds::ACT => {
            let mut take = ext.get(tags::ACT)?;
            let at_ms = take.i64()?;
            let act = match take.u8()? {
                1 => Act::Retry,
                2 => Act::Discard,
                _ => return None,
            };
            Record::Act { exception: ext.subject()?, act, at_ms }
        }
        kinds::MOVED => Record::Moved {
            order: ext.subject()?,
            snapshot: ext.snapshot()?,
            delivery: ext.delivery(body)?,
        },
        kinds::MOVED_ROW => {
            let has_delivery = ext.get(tags::DELIVERY).is_some();
            let delivery = if has_delivery { Some(ext.delivery(body)?) } else { None };
            Record::MovedRow { exception: ext.subject()?, row: ext.row()?, delivery }
        }
        kinds::POLICY => {
            let mut take = ext.get(tags::POLICY)?;
            let at_ms = take.i64()?;
            let value = ext.get(tags::POLICY_VALUE)?.0.to_vec();
            Record::Policy { name: take.rest_text()?, value, at_ms }
        }
        kinds::CHECKPOINT => {
            let mut take = ext.get(tags::CHECKPOINT)?;
            let retired_below = take.u64()?;
            let ended = list(take, |take| Some((take.u8()?, take.u64()?)))?;
            Record::Checkpoint { retired_below, ended }
        }
        _ => return None,
    })
}

fn list<'a, T>(
    mut take: Take<'a>,
    mut one: impl FnMut(&mut Take<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut items = Vec::new();
    while !take.is_empty() {
        items.push(one(&mut take)?);
    }
    Some(items)
}

fn settled(take: &mut Take<'_>) -> Option<Settled> {
    let (order, at_ms) = (take.u64()?, take.i64()?);
    let (attempts, existing) = (take.u8()?, take.bool()?);
    Some(Settled { order, summary_id: take.text()?.to_owned(), existing, attempts, at_ms })
}

fn state(code: u8) -> Option<OrderState> {
    OrderState::ALL.into_iter().find(|state| *state as u8 == code)
}

/// A descriptor's extensions by tag.
struct Ext<'a>([Option<&'a [u8]>; tags::COUNT]);

impl<'a> Ext<'a> {
    fn split(bytes: &'a [u8]) -> Result<Self, Undecodable> {
        let mut found = [None; tags::COUNT];
        let mut take = Take(bytes);
        let cut = || Undecodable("an extension cut short".to_owned());
        while let Some(tag) = take.u8() {
            if tag == 0 {
                break;
            }
            let len = take.varint().ok_or_else(cut)?;
            let value = take.bytes(usize::try_from(len).unwrap_or(usize::MAX)).ok_or_else(cut)?;
            match tags::place(tag).and_then(|place| found.get_mut(place)) {
                Some(place @ None) => *place = Some(value),
                Some(Some(_)) => return Err(Undecodable(format!("extension {tag} twice"))),
                None if tag >= tags::SKIPPABLE => {}
                None => return Err(Undecodable(format!("extension {tag}"))),
            }
        }
        Ok(Self(found))
    }

    fn get(&self, tag: u8) -> Option<Take<'a>> {
        self.0.get(tags::place(tag)?).copied().flatten().map(Take)
    }

    /// Text, empty where it was left out.
    fn text(&self, tag: u8) -> Option<String> {
        self.get(tag).map_or(Some(String::new()), Take::rest_text)
    }

    /// A value that may be left out: `None` only if it is there and wrong.
    fn optional<T>(
        &self,
        tag: u8,
        read: impl FnOnce(&mut Take<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(tag) {
            None => Some(None),
            Some(mut take) => read(&mut take).map(Some),
        }
    }

    fn subject(&self) -> Option<u64> {
        self.get(tags::SUBJECT)?.u64()
    }

    fn key(&self) -> Option<OrderKey> {
        let mut take = self.get(tags::KEY)?;
        let (channel, source) = (take.text()?, take.text()?);
        Some(OrderKey::new(channel, source, take.rest_text()?))
    }

    fn delivery(&self, body: Bytes) -> Option<Delivery> {
        let mut take = self.get(tags::DELIVERY)?;
        let accepted_at_ms = take.i64()?;
        let fingerprint = Fingerprint(take.array()?);
        let (fingerprint_version, format, lane, bits) =
            (take.u8()?, take.u8()?, take.u8()?, take.u8()?);
        let readiness = Readiness::from_code(take.array()?)?;
        let span = |take: &mut Take<'_>| Some(MaskedSpan { start: take.u32()?, len: take.u32()? });
        let masked = self.get(tags::MASKED).map_or(Some(Vec::new()), |take| list(take, span))?;
        let envelope = Envelope {
            key: self.key()?,
            number: self.text(tags::NUMBER)?,
            readiness,
            amend: bits & flags::AMEND != 0,
            version: self.optional(tags::VERSION, Take::u64)?,
            fingerprint,
            fingerprint_version,
            not_before_ms: self.optional(tags::NOT_BEFORE, Take::i64)?,
            format,
            lane,
            total: self.optional(tags::TOTAL, total)?.flatten(),
            lookup: self.optional(tags::LOOKUP, Take::array)?,
            traceparent: self.optional(tags::TRACEPARENT, Take::array)?,
            synthetic: bits & flags::SYNTHETIC != 0,
            unplaced: bits & flags::UNPLACED != 0,
            masked,
            reason: self.text(tags::REASON)?,
            body,
        };
        Some(Delivery { envelope, accepted_at_ms })
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let mut take = self.get(tags::SNAPSHOT)?;
        Some(Snapshot {
            first_accepted_at_ms: take.i64()?,
            state: state(take.u8()?)?,
            attempts: take.u8()?,
            sent_before: take.bool()?,
            not_before_ms: self.optional(tags::SNAPSHOT_NOT_BEFORE, Take::i64)?,
            ticket: self.optional(tags::TICKET, |take| take.rest_text())?,
            ticket_at_ms: self.optional(tags::TICKET_AT, Take::i64)?,
            earlier: self
                .get(tags::EARLIER)
                .map_or(Some(Vec::new()), |take| list(take, Take::array))?,
            newest: self.optional(tags::SNAPSHOT_NEWEST, Take::u64)?,
        })
    }

    fn row(&self) -> Option<RowSnapshot> {
        let mut take = self.get(tags::ROW)?;
        Some(RowSnapshot {
            raised_at_ms: take.i64()?,
            attempts: take.u8()?,
            category: ExceptionCategory::from_code(take.u8()?)?,
            order: self.optional(tags::ROW_ORDER, Take::u64)?,
            reason: self.text(tags::WHY)?,
            identity: self.text(tags::ROW_IDENTITY)?,
            number: self.text(tags::ROW_NUMBER)?,
        })
    }
}

/// The total; `Some(None)` where its currency is no longer (or not yet) a known one: it is a label for
/// counting money, not what the order is made from.
fn total(take: &mut Take<'_>) -> Option<Option<Money>> {
    let amount = Decimal::deserialize(take.array()?);
    let code: [u8; 3] = take.array()?;
    let currency = std::str::from_utf8(&code).ok().and_then(|code| code.parse::<Currency>().ok());
    Some(currency.map(|currency| Money { amount, currency }))
}
