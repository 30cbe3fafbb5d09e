//! What is to be done with each item of a body, by the caller's profile. Pure.

use std::ops::Range;

use bytes::Bytes;
use forebay_buffer::Envelope;
use forebay_order::read::ItemResult;
use forebay_order::{Item, Readiness, RecordedAs, Unreadable, UnreadableKind};

use crate::config::Caller;
use crate::envelope::{Maker, Unfit};
use crate::problem::Problem;

/// Runs of masked card data in one order.
const MASKED_MAX: usize = 16_384;

/// One item's next step.
#[derive(Debug)]
pub(crate) enum Step {
    /// Keep it.
    Append(Box<Envelope>),
    /// Refuse it; nothing of it is kept.
    Refuse(Problem),
    /// It lies within what the step before keeps, and shares its answer.
    WithThePrevious,
}

/// What to do with what a format read of `body`: one step an item, at least one.
pub(crate) fn judge(
    maker: &Maker<'_>,
    body: &Bytes,
    items: Result<Vec<ItemResult>, Unreadable>,
    item_bytes: usize,
) -> Vec<Step> {
    let items = items.and_then(|items| if items.is_empty() { Err(empty()) } else { Ok(items) });
    match (maker.feed.channel.caller, items) {
        (Caller::Api, Err(fault)) => vec![Step::Refuse(Problem::unreadable(&fault))],
        (Caller::Api, Ok(items)) => items.into_iter().map(|item| for_api(maker, item)).collect(),
        (Caller::Webhook, Err(fault)) => {
            vec![keep_unreadable(maker, body.clone(), fault.to_string(), item_bytes)]
        }
        (Caller::Webhook, Ok(items)) => for_webhook(maker, body, items, item_bytes),
    }
}

fn empty() -> Unreadable {
    Unreadable {
        kind: UnreadableKind::Syntax,
        pointer: None,
        line: 1,
        column: 1,
        message: "there is no order in the body; send one, or a list of them".to_owned(),
    }
}

fn for_api(maker: &Maker<'_>, item: ItemResult) -> Step {
    let item = match item {
        Err(fault) => return Step::Refuse(Problem::unreadable(&fault)),
        Ok(item) => item,
    };
    match item.readiness {
        // It may concern an order that waits here; what it came to decides the answer.
        Readiness::Recorded(RecordedAs::Failed) => {}
        Readiness::Recorded(kind) => {
            return Step::Refuse(Problem::not_an_order(recorded_words(kind)));
        }
        Readiness::FetchNeeded => return Step::Refuse(Problem::fetch_needed()),
        _ => {}
    }
    match maker.key(&item) {
        Ok(key) => keep(maker.item(item, key)),
        Err(Unfit::Source(reason)) => Step::Refuse(Problem::unusable_source(reason)),
        Err(Unfit::Identity(reason)) => Step::Refuse(Problem::unusable_identity(reason)),
    }
}

/// Everything is kept. Items that cannot be read are kept as the bytes between their readable neighbours;
/// several in a row share one process exception, since nobody can say where one ends.
fn for_webhook(
    maker: &Maker<'_>,
    body: &Bytes,
    items: Vec<ItemResult>,
    item_bytes: usize,
) -> Vec<Step> {
    let mut steps = Vec::with_capacity(items.len());
    let mut readable_until = 0;
    let mut items = items.into_iter().peekable();
    let alone = items.len() == 1;
    while let Some(item) = items.next() {
        let fault = match item {
            Ok(item) => {
                readable_until = item.span.end;
                steps.push(keep(kept(maker, item)));
                continue;
            }
            Err(fault) => fault,
        };
        let mut more = 0;
        while items.next_if(Result::is_err).is_some() {
            more += 1;
        }
        let until = match items.peek() {
            Some(Ok(next)) => next.span.start,
            _ => body.len(),
        };
        let span = if alone { 0..body.len() } else { readable_until..until };
        steps.push(keep_unreadable(maker, cut(body, span), fault.to_string(), item_bytes));
        steps.extend(std::iter::repeat_with(|| Step::WithThePrevious).take(more));
    }
    steps
}

fn cut(body: &Bytes, span: Range<usize>) -> Bytes {
    let end = span.end.min(body.len());
    body.slice(span.start.min(end)..end)
}

fn kept(maker: &Maker<'_>, item: Item) -> Envelope {
    match maker.key(&item) {
        Ok(key) => maker.item(item, key),
        Err(unfit) => maker.unfit(item, unfit),
    }
}

/// Bytes for a process exception; more than an item may have cannot be kept.
pub(crate) fn keep_unreadable(
    maker: &Maker<'_>,
    bytes: Bytes,
    reason: String,
    item_bytes: usize,
) -> Step {
    if bytes.len() > item_bytes {
        return Step::Refuse(Problem::too_large("An order of the body", item_bytes));
    }
    keep(maker.unreadable(bytes, reason))
}

/// Each masked run takes eight bytes of the record, which must fit a journal group together with the body.
fn keep(envelope: Envelope) -> Step {
    if envelope.masked.len() > MASKED_MAX {
        return Step::Refuse(Problem::too_many_masked(MASKED_MAX));
    }
    Step::Append(Box::new(envelope))
}

fn recorded_words(kind: RecordedAs) -> &'static str {
    match kind {
        RecordedAs::Test => "a test notification or test order",
        RecordedAs::Draft => "a draft",
        RecordedAs::Checkout => "a checkout or cart that was not completed",
        RecordedAs::Refund => "a refund",
        RecordedAs::Failed => "an order that failed or was replaced where it was placed",
        RecordedAs::Ping => "a message of the sender about itself",
        RecordedAs::Other => "some other object than an order",
    }
}
