//! B2C Commerce order XML (namespace `http://www.demandware.com/xml/impex/order/2006-10-31`).
//!
//! A body is `<orders>` of `<order>`, or one `<order>`. Elements are matched by local name.
//!
//! # Identity, number, version
//! Identity and number are the attribute `order-no`; an order without it cannot be read. The format
//! has no version: the same number with another content is a conflict.
//!
//! # Readiness
//! | order | readiness |
//! |---|---|
//! | attribute `mode="delete"` | cancelled: the source takes the order back, so it must not be fulfilled |
//! | `order-status` NEW, OPEN | pending |
//! | COMPLETED | pending, life cycle UNMANAGED: history, kept for reference |
//! | CREATED | held (unconfirmed): the source has not placed it yet |
//! | CANCELLED | cancelled |
//! | FAILED, REPLACED | recorded (failed): no sale, or the sale is in another order; an order of that key that waits is held |
//! | missing or another word | pending, flagged as unplaced |
//! | no element inside the order | fetch needed: only its number came |
//! | another root, another child of `orders`, no order at all | recorded (other) |
//!
//! Payment, confirmation and shipping status do not decide: the platform feeds NEW and OPEN orders
//! whatever they say, and holds an order back by leaving it CREATED. A held order is released when it
//! comes again as NEW or OPEN: becoming ready counts as newer, though there is no version.
//!
//! # Fingerprint
//! Volatile, because they are bookkeeping about the order and not part of what was sold:
//! `invoice-no` (given by the back office after the sale; the summary does not use it),
//! `status/export-status` (changes each time the order is exported), and `external-order-no`,
//! `external-order-status`, `external-order-text` (what an order management system writes back).
//!
//! # Oddities
//! | odd | what happens |
//! |---|---|
//! | no e-mail, no lines, no date, totals that differ | summarised, flagged |
//! | a line names a shipment that is not there | summarised without delivery group, flagged |
//! | `order-total/gross-price` is no decimal number | unreadable (value), so that it is never misread |
//! | another amount is no decimal number | exception `amount` |
//! | currency missing or unknown | exception `no_currency` |
//! | an element that decides identity, money or readiness given twice | unreadable (duplicate member) |

mod summary;

use bytes::Bytes;
use rust_decimal::Decimal;

pub(crate) use summary::summarise;

use crate::money::parse_amount;
use crate::read::ItemResult;
use crate::readiness::{HoldReason, RecordedAs};
use crate::xml::cards;
use crate::xml::document::{self, Complaint, Facts, Part, Shape};
use crate::xml::tokens::Attribute;
use crate::{Item, Limits, ReadOptions, Readiness, Unreadable, UnreadableKind, mask};

const SHAPE: Shape = Shape {
    list: "orders",
    item: "order",
    volatile: &[
        &["invoice-no"],
        &["status", "export-status"],
        &["external-order-no"],
        &["external-order-status"],
        &["external-order-text"],
    ],
    cards: cards::Rules { looked_at: is_card_text, name_attribute: "attribute-id" },
};

/// Free text and payment text, where a card number may stand though it should not. Never identifiers
/// (`product-id`, `transaction-id`, `card-token`, a bank account), phones or amounts.
fn is_card_text(path: &[&str]) -> bool {
    const FREE: [&str; 11] = [
        "gift-message",
        "message",
        "note",
        "subject",
        "text",
        "custom-attribute",
        "cancel-description",
        "replace-description",
        "external-order-text",
        "external-line-item-text",
        "lineitem-text",
    ];
    const PAYMENT: [&str; 5] =
        ["card-number", "card-holder", "card-type", "issue-number", "method-name"];
    match path {
        [.., name] if FREE.contains(name) => true,
        [.., "custom-attribute", "value"] => true,
        ["payments", "payment", _, name] => PAYMENT.contains(name),
        ["payments", "payment", "salesforce-payments", .., name] => {
            PAYMENT.contains(name) || name.ends_with("last4")
        }
        _ => false,
    }
}

/// Elements that may stand once, since which of two counts would be a guess about money or state.
const ONCE: [&[&str]; 6] = [
    &["currency"],
    &["status"],
    &["status", "order-status"],
    &["totals"],
    &["totals", "order-total"],
    &["totals", "order-total", "gross-price"],
];

pub(crate) fn read(body: &Bytes, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    let parts = document::read::<OrderFacts>(body, &SHAPE, options)?;
    if parts.is_empty() {
        return Ok(vec![Ok(no_orders(body))]);
    }
    Ok(parts.into_iter().map(|part| part.map(|part| item(body, part))).collect())
}

fn item(body: &Bytes, part: Part<OrderFacts>) -> Item {
    let facts = part.facts;
    let (readiness, unplaced) = match part.is_item {
        true => facts.readiness(),
        false => (Readiness::Recorded(RecordedAs::Other), false),
    };
    Item {
        bytes: mask::apply(body.slice(part.span.clone()), &part.masked),
        span: part.span,
        number: facts.id.clone().unwrap_or_default(),
        id: facts.id,
        source: None,
        readiness,
        unplaced,
        version: None,
        amount: facts.total,
        currency: facts.currency.and_then(|code| code.parse().ok()),
        email: facts.email,
        lines: facts.products,
        fingerprint: part.fingerprint,
        masked: part.masked,
    }
}

/// `<orders/>`: nothing to drain, but it came.
fn no_orders(body: &Bytes) -> Item {
    let facts = OrderFacts::new(&Limits::default());
    let fingerprint = document::empty();
    item(body, Part { span: 0..body.len(), is_item: false, facts, fingerprint, masked: Vec::new() })
}

/// What the door must know of an order.
struct OrderFacts {
    id: Option<String>,
    deleted: bool,
    content: bool,
    status: Option<String>,
    currency: Option<String>,
    email: Option<String>,
    total: Option<Decimal>,
    products: usize,
    lines: usize,
    lines_max: usize,
    seen: [bool; ONCE.len()],
}

impl OrderFacts {
    fn readiness(&self) -> (Readiness, bool) {
        if self.deleted {
            return (Readiness::Cancelled, false);
        }
        if !self.content {
            return (Readiness::FetchNeeded, false);
        }
        let status = self.status.as_deref().unwrap_or_default().to_ascii_uppercase();
        match &*status {
            "NEW" | "OPEN" | "COMPLETED" => (Readiness::Pending, false),
            "CREATED" => (Readiness::Held(HoldReason::Unconfirmed), false),
            "CANCELLED" => (Readiness::Cancelled, false),
            "FAILED" | "REPLACED" => (Readiness::Recorded(RecordedAs::Failed), false),
            _ => (Readiness::Pending, true),
        }
    }
}

impl Facts for OrderFacts {
    fn new(limits: &Limits) -> Self {
        Self {
            id: None,
            deleted: false,
            content: false,
            status: None,
            currency: None,
            email: None,
            total: None,
            products: 0,
            lines: 0,
            lines_max: limits.lines,
            seen: [false; ONCE.len()],
        }
    }

    fn open(&mut self, path: &[&str], attributes: &[Attribute<'_>]) -> Result<(), Complaint> {
        let Some(name) = path.last() else { return self.identify(attributes) };
        self.content = true;
        let once = ONCE.iter().zip(&mut self.seen).find(|(once, _)| **once == path);
        if let Some((_, seen)) = once
            && std::mem::replace(seen, true)
        {
            let message = "an element that decides money or state is given twice";
            return Err(Complaint(UnreadableKind::DuplicateMember, message));
        }
        self.products += usize::from(path == ["product-lineitems", "product-lineitem"]);
        self.lines += usize::from(name.ends_with("-lineitem"));
        if self.lines > self.lines_max {
            let message = "the order has more lines than allowed";
            return Err(Complaint(UnreadableKind::TooLarge, message));
        }
        Ok(())
    }

    fn text(&mut self, path: &[&str], text: &str) -> Result<(), Complaint> {
        match path {
            [] => self.content = true,
            ["status", "order-status"] => self.status = Some(text.to_owned()),
            ["currency"] => self.currency = Some(text.to_owned()),
            ["customer", "customer-email"] => self.email = Some(text.to_owned()),
            ["totals", "order-total", "gross-price"] => {
                let message = "the order total is not a decimal number; send digits with a point, \
                               no thousands separators";
                let total = parse_amount(text);
                self.total = Some(total.map_err(|_| Complaint(UnreadableKind::Value, message))?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl OrderFacts {
    fn identify(&mut self, attributes: &[Attribute<'_>]) -> Result<(), Complaint> {
        for (name, value) in attributes {
            match *name {
                "order-no" => self.id = Some(value.trim().to_owned()).filter(|id| !id.is_empty()),
                "mode" => self.deleted = value.trim() == "delete",
                _ => {}
            }
        }
        match &self.id {
            Some(id) if id.chars().any(char::is_control) => {
                let message = "`order-no` holds a control character; send it without";
                Err(Complaint(UnreadableKind::Value, message))
            }
            Some(_) => Ok(()),
            None => Err(Complaint(UnreadableKind::MissingId, "an order without `order-no`")),
        }
    }
}
