//! The bytes of one event, within a frame.
//!
//! ```text
//! var     sequence, less the one that all before the frame is told up to
//! var     part
//! u8      what: 1 accepted, 2 held, 3 summarised, 4 exception, 5 cancelled, 6 discarded
//! u8      1 = of an order, 2 = synthetic, 4 = the OMS had it already
//! i64     when, ms since 1970
//! var     if of an order: sequence, less the order's
//! text    channel; text source; text id; text number
//! u8      held: the reason;   exception: the category
//! text    summarised: the summary's id;   exception: why
//! var     exception: its row's id
//! ```

use forebay_order::{OrderKey, Readiness};

use crate::codec::{Take, put_text, put_varint64};
use crate::{ExceptionCategory, FeedEvent, FeedException, FeedKind};

const OF_ORDER: u8 = 1;
const SYNTHETIC: u8 = 2;
const EXISTING: u8 = 4;

/// Appends an event of a frame before which everything up to `before` is told.
pub(super) fn put(out: &mut Vec<u8>, before: u64, event: &FeedEvent) {
    put_varint64(out, event.sequence.wrapping_sub(before));
    put_varint64(out, event.part.into());
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(event.order.is_some(), OF_ORDER)
        | flag(event.synthetic, SYNTHETIC)
        | flag(event.existing == Some(true), EXISTING);
    out.extend_from_slice(&[event.kind as u8, flags]);
    out.extend_from_slice(&event.at_ms.to_le_bytes());
    if let Some(order) = event.order {
        put_varint64(out, event.sequence.wrapping_sub(order));
    }
    let key = &event.key;
    for text in [&*key.channel, &*key.source, key.id.as_str(), event.number.as_str()] {
        put_text(out, text);
    }
    match event.kind {
        FeedKind::Held => {
            let code = event.hold.map(|hold| Readiness::Held(hold).code());
            out.push(code.map_or(0, |[_, reason]| reason));
        }
        FeedKind::Summarised => put_text(out, event.summary_id.as_deref().unwrap_or_default()),
        FeedKind::Exception => {
            if let Some(exception) = &event.exception {
                out.push(exception.category as u8);
                put_text(out, &exception.reason);
                put_varint64(out, exception.id);
            }
        }
        FeedKind::Accepted | FeedKind::Cancelled | FeedKind::Discarded => {}
    }
}

/// Takes the next event of a frame; `None` for bytes that are none.
pub(super) fn take(take: &mut Take<'_>, before: u64) -> Option<FeedEvent> {
    let sequence = before.wrapping_add(take.varint64()?);
    let part = u32::try_from(take.varint64()?).ok()?;
    let (kind, flags) = (take.u8()?, take.u8()?);
    let kind = FeedKind::ALL.into_iter().find(|known| *known as u8 == kind)?;
    let at_ms = take.i64()?;
    let order = match flags & OF_ORDER {
        0 => None,
        _ => Some(sequence.wrapping_sub(take.varint64()?)),
    };
    let key = OrderKey::new(take.text()?, take.text()?, take.text()?);
    let mut event = FeedEvent {
        sequence,
        part,
        kind,
        key,
        number: take.text()?.to_owned(),
        at_ms,
        order,
        summary_id: None,
        existing: None,
        exception: None,
        hold: None,
        synthetic: flags & SYNTHETIC != 0,
    };
    match kind {
        FeedKind::Held => {
            if let Some(Readiness::Held(reason)) = Readiness::from_code([2, take.u8()?]) {
                event.hold = Some(reason);
            }
        }
        FeedKind::Summarised => {
            event.summary_id = Some(take.text()?.to_owned()).filter(|id| !id.is_empty());
            event.existing = Some(flags & EXISTING != 0);
        }
        FeedKind::Exception => {
            let category = ExceptionCategory::from_code(take.u8()?)?;
            let reason = take.text()?.to_owned();
            event.exception = Some(FeedException { id: take.varint64()?, category, reason });
        }
        FeedKind::Accepted | FeedKind::Cancelled | FeedKind::Discarded => {}
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use forebay_order::HoldReason;

    use super::*;
    use crate::embedded::feed::tests::event;

    #[test]
    fn events_read_back() {
        let mut events: Vec<_> =
            (0..6).map(|n| event(100 + n, u32::try_from(n).unwrap())).collect();
        events[1].kind = FeedKind::Held;
        events[1].hold = Some(HoldReason::CancelledBefore);
        events[2].kind = FeedKind::Summarised;
        (events[2].summary_id, events[2].existing) = (Some("1Os-1".to_owned()), Some(true));
        events[3].kind = FeedKind::Exception;
        let (category, reason) = (ExceptionCategory::Rejected, "no such product".to_owned());
        events[3].exception = Some(FeedException { id: 7, category, reason });
        (events[4].kind, events[4].order) = (FeedKind::Discarded, None);
        (events[5].kind, events[5].synthetic) = (FeedKind::Cancelled, true);
        let mut bytes = Vec::new();
        events.iter().for_each(|event| put(&mut bytes, 90, event));
        let mut left = Take(&bytes);
        let read: Vec<_> = std::iter::from_fn(|| take(&mut left, 90)).collect();
        assert_eq!(read, events);
        assert!(left.is_empty());
    }
}
