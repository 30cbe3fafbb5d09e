//! Shopify REST Admin orders, as webhooks and exports carry them.
//!
//! Identity is `id`; the number is `name` (`#1001`), else `order_number`; the source version is
//! `updated_at` in milliseconds since 1970. An amount and its currency are the shop's (`total_price`,
//! `currency`); the buyer's (`presentment_*`, `total_price_usd`) are never read.
//!
//! # Readiness, first rule that fits
//! | what the body holds | readiness |
//! |---|---|
//! | `test: true` | recorded (test), before anything else: every test notification has the same id |
//! | in a wrapper `draft_order(s)`, or with `invoice_url` or `invoice_sent_at` | recorded (draft) |
//! | in a wrapper `checkout(s)`, or with `abandoned_checkout_url`; a cart (`token` and lines, no price, status or e-mail) | recorded (checkout) |
//! | in a wrapper `refund(s)`, or with `refund_line_items` | recorded (refund) |
//! | another object: of an order (`order_id`) but without price and status, or without anything an order has (`order_edit`) | recorded (other) |
//! | an `id` and nothing an order has (`{"id":1}`, deleted orders) | fetch needed |
//! | no `id` | unreadable: missing id |
//! | `cancelled_at` | cancelled |
//! | `financial_status` paid, partially_paid, authorized, partially_refunded, refunded | pending: it is, or was, a sale |
//! | pending, voided, expired | held (unpaid) |
//! | none, or another word | pending, unplaced |
//!
//! `voided` without `cancelled_at`: the authorisation was given back and nothing was paid, but the order
//! stands until somebody cancels it, so it waits for a newer version. `confirmed: false` means that no
//! stock was reserved yet, which is the order management system's own work: it holds nothing.
//! A `refunds` list inside an order does not change what was sold; a refund object posted alone is a
//! change to an order, and no order.
//!
//! # Oddities
//! | oddity | what is done |
//! |---|---|
//! | no e-mail, `customer` null or absent | summarised, `no_email` |
//! | no lines | summarised, `no_lines` |
//! | parts differ from `total_price` | summarised, with a difference line, `totals_differ` |
//! | tax only for the order, none on any line | distributed over taxable lines by price, `tax_distributed` |
//! | `total_discounts` above what lines carry | distributed as an order-level discount, `discount_distributed` |
//! | a `discount_codes` amount that no total knows | ignored; it is a limit, not a booking |
//! | more decimals than the currency has | kept as sent, `fraction_beyond_currency` |
//! | a date without offset, or impossible | text kept, no instant, `no_ordered_instant` |
//! | a delivery price (`total_shipping_price_set`) without `shipping_lines` | one delivery charge |
//! | no currency, or not ISO 4217 | process exception `no_currency` |
//! | an amount with a thousands separator, or of another type | unreadable, with its pointer |
//! | line shipping to an unknown place | cannot happen: one delivery group |
//!
//! # Discounts and taxes
//! An allocation of an application that is spread (`across`) over line items is the line's share of an
//! order-level discount; any other is the line's own. Shopify states a line's taxes after discounts, and
//! they are kept as stated: a discount's own tax is zero. With `taxes_included` prices hold tax, and are
//! turned into net ones: the tax that a discount saved is derived from the line's ratio of tax to price,
//! so that line amount and discount are both without tax, and price less discount stays exact.

mod summary;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::wire::Order;
use crate::json::{self, Facts, Fault, JsonFormat, Shape, Text};
use crate::read::ItemResult;
use crate::readiness::{HoldReason, Readiness, RecordedAs};
use crate::text::instant_ms;
use crate::{
    Fingerprint, OrderKey, OrderSummary, ReadOptions, Unmappable, Unreadable, UnreadableKind,
};

struct Shopify;

impl JsonFormat for Shopify {
    type Order<'a> = Order<'a>;

    const SHAPE: Shape = Shape {
        wrappers: &[
            "order",
            "orders",
            "data",
            "draft_order",
            "draft_orders",
            "checkout",
            "checkouts",
            "refund",
            "refunds",
        ],
        id: "id",
        volatile: &["updated_at"],
        masked: &[
            "/note",
            "/note_attributes/*/value/**",
            "/customer/note",
            "/line_items/*/properties/**",
            "/payment_details/**",
            "/transactions/*/message",
            "/transactions/*/receipt/**",
            "/transactions/*/payment_details/**",
            "/refunds/*/note",
            "/refunds/*/transactions/*/message",
            "/refunds/*/transactions/*/receipt/**",
            "/fulfillments/*/receipt/**",
        ],
    };

    fn facts(order: &Order<'_>, wrapper: Option<&str>) -> Result<Facts, Fault> {
        let (readiness, unplaced) = readiness(order, wrapper)?;
        let products = order.line_items.as_ref().map_or(0, |lines| lines.len());
        let updated = order.updated_at.as_ref().and_then(Text::given).and_then(instant_ms);
        Ok(Facts {
            id: given(&order.id).map(str::to_owned),
            number: order.number().to_owned(),
            unplaced,
            version: updated.and_then(|ms| u64::try_from(ms).ok()),
            amount: order.total_price.and_then(|amount| amount.0),
            currency: given(&order.currency).and_then(|code| code.parse().ok()),
            email: order.email().map(str::to_owned),
            products,
            lines: products + order.shipping_lines.len(),
            ..Facts::only(readiness)
        })
    }
}

pub(super) fn read(body: &Bytes, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    json::read::<Shopify>(body, options)
}

pub(super) fn summarise(
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    json::decode::<Shopify, _>(bytes, |order| summary::of(order, key, fingerprint)).unwrap_or_else(
        |fault| Err(Unmappable { code: fault.kind.word(), reason: fault.to_string() }),
    )
}

fn given<'o>(text: &'o Option<Text<'_>>) -> Option<&'o str> {
    text.as_ref().and_then(Text::given)
}

impl Order<'_> {
    fn number(&self) -> &str {
        given(&self.name).or(given(&self.order_number)).unwrap_or_default()
    }

    fn email(&self) -> Option<&str> {
        let of_customer = || self.customer.0.as_ref().and_then(|customer| customer.email.given());
        self.email.given().or(self.contact_email.given()).or_else(of_customer)
    }

    /// Whether anything is there that makes an object a sale.
    fn is_priced(&self) -> bool {
        self.total_price.is_some() || given(&self.financial_status).is_some()
    }

    fn is_like_an_order(&self) -> bool {
        self.is_priced()
            || self.line_items.is_some()
            || given(&self.currency).is_some()
            || given(&self.order_number).is_some()
            || given(&self.cancelled_at).is_some()
            || self.email.given().is_some()
    }

    fn is_cart(&self) -> bool {
        self.token.0
            && !self.is_priced()
            && given(&self.currency).is_none()
            && given(&self.order_number).is_none()
            && given(&self.cancelled_at).is_none()
            && self.email.given().is_none()
    }

    /// What the object is, where it is no order.
    fn other_object(&self, wrapper: Option<&str>) -> Option<RecordedAs> {
        let in_wrapper = |names: [&str; 2]| wrapper.is_some_and(|name| names.contains(&name));
        let draft = self.invoice_url.0 || self.invoice_sent_at.0;
        Some(match () {
            () if self.test.is_some_and(|test| test.0) => RecordedAs::Test,
            () if in_wrapper(["draft_order", "draft_orders"]) || draft => RecordedAs::Draft,
            () if in_wrapper(["checkout", "checkouts"]) || self.abandoned_checkout_url.0 => {
                RecordedAs::Checkout
            }
            () if in_wrapper(["refund", "refunds"]) || self.refund_line_items.0 => {
                RecordedAs::Refund
            }
            () if self.order_id.0 && !self.is_priced() => RecordedAs::Other,
            () if self.is_cart() && self.line_items.is_some() => RecordedAs::Checkout,
            () if given(&self.id).is_none() && !self.is_like_an_order() => RecordedAs::Other,
            () => return None,
        })
    }
}

/// The readiness table, and whether it could not place the order.
fn readiness(order: &Order<'_>, wrapper: Option<&str>) -> Result<(Readiness, bool), Fault> {
    if let Some(object) = order.other_object(wrapper) {
        return Ok((Readiness::Recorded(object), false));
    }
    if given(&order.id).is_none() {
        let message = "an order without id; send the order's own id";
        return Err(Fault::of(UnreadableKind::MissingId, "/id", message));
    }
    if !order.is_like_an_order() {
        return Ok((Readiness::FetchNeeded, false));
    }
    if given(&order.cancelled_at).is_some() {
        return Ok((Readiness::Cancelled, false));
    }
    let status = given(&order.financial_status).unwrap_or_default().to_ascii_lowercase();
    Ok(match status.as_str() {
        "paid" | "partially_paid" | "authorized" | "partially_refunded" | "refunded" => {
            (Readiness::Pending, false)
        }
        "pending" | "voided" | "expired" => (Readiness::Held(HoldReason::Unpaid), false),
        _ => (Readiness::Pending, true),
    })
}
