//! WooCommerce REST v3 orders, as webhooks and the REST API carry them.
//!
//! Identity is `id`; the number is `number` (a plugin may have made it any text); the source version is
//! `date_modified_gmt`, a UTC time without a zone, in milliseconds since 1970. Names keep HTML entities
//! (`&amp;`) as received: some endpoints send them and some do not, and only a display may decode them.
//! The activation ping (`webhook_id=N`, a form) is answered by the door and never comes here.
//!
//! # Readiness, first rule that fits
//! | what the body holds | readiness |
//! |---|---|
//! | in a wrapper `refund(s)`; or no `status`, and `refunded_by`, `refunded_payment`, or `amount` with `reason` | recorded (refund) |
//! | no `id` and nothing an order has | recorded (other) |
//! | no `id`, but something an order has | unreadable: missing id |
//! | an `id`, dates perhaps, and nothing an order has (`{"id":1}`, a deleted order; a list of `{id, date}`) | fetch needed |
//! | `status` processing, completed, refunded | pending: it is, or was, a sale |
//! | pending | held (unpaid) |
//! | on-hold | held (on hold) |
//! | cancelled, trash | cancelled |
//! | failed | recorded (failed) |
//! | draft, auto-draft | recorded (draft) |
//! | checkout-draft | recorded (checkout) |
//! | none, or another word (a plugin's own) | pending, unplaced |
//!
//! A `wc-` before the word is ignored. `needs_payment: true` holds nothing: it is the answer to "does
//! this status let somebody pay", asked of themes, while `processing` and a paid date say that the shop
//! has taken the order. A test mode of a payment plugin is in its own metadata and not read: the shop
//! itself treats such an order as a sale.
//!
//! # Oddities
//! | oddity | what is done |
//! |---|---|
//! | e-mail empty or absent, guest (`customer_id` 0) | summarised, `no_email` where there is none |
//! | no lines | summarised, `no_lines` |
//! | parts differ from `total` (fees or shipping outside it, a cent) | summarised, with a difference line, `totals_differ` |
//! | `shipping_total` or `shipping_tax` without `shipping_lines` | one delivery charge |
//! | unit price of many decimals, or unlike total / quantity | kept; it is informational, totals are not made from it |
//! | fractional quantity | kept |
//! | more decimals than the currency has | kept as sent, `fraction_beyond_currency` |
//! | `date_created_gmt` absent | text of `date_created` kept, no instant, `no_ordered_instant` |
//! | an empty list in place of an object (PHP) | no object |
//! | `"1,000.00"`, or a value of another type | unreadable, with its pointer |
//! | no currency, or not ISO 4217 | process exception `no_currency` |
//! | components of a composite product | lines of their own, as sent, at their own price (mostly 0) |
//!
//! # Discounts, taxes, gift cards
//! All amounts are without tax, even with `prices_include_tax`, which says how prices are entered and
//! shown. A line's `subtotal` is its amount before coupons, `total` after them: the difference, and that
//! of the taxes, is the coupons' share. Where the order names coupons it belongs to one order-level
//! discount named after them, for the shares of several coupons are not told apart; without coupons the
//! shop changed that line alone. Per-rate taxes of a line have six decimals; they share the line's own
//! rounded tax, so that totals are those of the shop.
//! Gift cards (`gift_cards`) are payments, and `total` is what is left after them: a fee of the negative
//! amount keeps the grand total equal to the channel's.

mod summary;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::wire::Order;
use crate::json::{self, Facts, Fault, JsonFormat, Shape, Text};
use crate::read::ItemResult;
use crate::readiness::{HoldReason, Readiness, RecordedAs};
use crate::text::utc_ms;
use crate::{
    Fingerprint, OrderKey, OrderSummary, ReadOptions, Unmappable, Unreadable, UnreadableKind,
};

struct WooCommerce;

impl JsonFormat for WooCommerce {
    type Order<'a> = Order<'a>;

    const SHAPE: Shape = Shape {
        wrappers: &["order", "orders", "data", "refund", "refunds"],
        id: "id",
        volatile: &["date_modified", "date_modified_gmt", "_links"],
        masked: &[
            "/customer_note",
            "/payment_method_title",
            "/reason",
            "/refunds/*/reason",
            "/meta_data/*/value/**",
            "/meta_data/*/display_value/**",
            "/line_items/*/meta_data/*/value/**",
            "/line_items/*/meta_data/*/display_value/**",
            "/shipping_lines/*/meta_data/*/value/**",
            "/shipping_lines/*/meta_data/*/display_value/**",
            "/fee_lines/*/name",
            "/fee_lines/*/meta_data/*/value/**",
            "/fee_lines/*/meta_data/*/display_value/**",
        ],
    };

    fn facts(order: &Order<'_>, wrapper: Option<&str>) -> Result<Facts, Fault> {
        let (readiness, unplaced) = readiness(order, wrapper)?;
        let products = order.line_items.as_ref().map_or(0, |lines| lines.len());
        let modified = given(&order.date_modified_gmt).and_then(utc_ms);
        Ok(Facts {
            id: given(&order.id).map(str::to_owned),
            number: given(&order.number).unwrap_or_default().to_owned(),
            unplaced,
            version: modified.and_then(|ms| u64::try_from(ms).ok()),
            amount: order.total.and_then(|amount| amount.0),
            currency: given(&order.currency).and_then(|code| code.parse().ok()),
            email: order.email().map(str::to_owned),
            products,
            lines: products + order.shipping_lines.len() + order.fee_lines.len(),
            ..Facts::only(readiness)
        })
    }
}

pub(super) fn read(body: &Bytes, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    json::read::<WooCommerce>(body, options)
}

pub(super) fn summarise(
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    json::decode::<WooCommerce, _>(bytes, |order| summary::of(order, key, fingerprint))
        .unwrap_or_else(|fault| {
            Err(Unmappable { code: fault.kind.word(), reason: fault.to_string() })
        })
}

fn given<'o>(text: &'o Option<Text<'_>>) -> Option<&'o str> {
    text.as_ref().and_then(Text::given)
}

impl Order<'_> {
    fn email(&self) -> Option<&str> {
        let billing = self.billing.0.as_ref().and_then(|address| address.email.given());
        billing.or_else(|| self.shipping.0.as_ref().and_then(|address| address.email.given()))
    }

    fn is_refund(&self, wrapper: Option<&str>) -> bool {
        let marked =
            self.refunded_by.0 || self.refunded_payment.0 || (self.amount.0 && self.reason.0);
        wrapper.is_some_and(|name| name == "refund" || name == "refunds")
            || (given(&self.status).is_none() && marked)
    }

    /// Whether anything is there that makes an object an order.
    fn is_like_an_order(&self) -> bool {
        given(&self.status).is_some()
            || self.total.is_some()
            || self.line_items.is_some()
            || given(&self.currency).is_some()
            || given(&self.number).is_some()
            || self.billing.0.is_some()
    }
}

/// The readiness table, and whether it could not place the order.
fn readiness(order: &Order<'_>, wrapper: Option<&str>) -> Result<(Readiness, bool), Fault> {
    let recorded = |object| Ok((Readiness::Recorded(object), false));
    if order.is_refund(wrapper) {
        return recorded(RecordedAs::Refund);
    }
    match (given(&order.id).is_some(), order.is_like_an_order()) {
        (false, false) => return recorded(RecordedAs::Other),
        (false, true) => {
            let message = "an order without id; send the order's own id";
            return Err(Fault::of(UnreadableKind::MissingId, "/id", message));
        }
        (true, false) => return Ok((Readiness::FetchNeeded, false)),
        (true, true) => {}
    }
    let status = given(&order.status).unwrap_or_default().to_ascii_lowercase();
    match status.strip_prefix("wc-").unwrap_or(&status) {
        "processing" | "completed" | "refunded" => Ok((Readiness::Pending, false)),
        "pending" => Ok((Readiness::Held(HoldReason::Unpaid), false)),
        "on-hold" => Ok((Readiness::Held(HoldReason::OnHold), false)),
        "cancelled" | "canceled" | "trash" => Ok((Readiness::Cancelled, false)),
        "failed" => recorded(RecordedAs::Failed),
        "draft" | "auto-draft" => recorded(RecordedAs::Draft),
        "checkout-draft" => recorded(RecordedAs::Checkout),
        _ => Ok((Readiness::Pending, true)),
    }
}
