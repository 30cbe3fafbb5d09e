//! One version of one order, to be written in a channel's format.

use rust_decimal::Decimal;

use super::cart::Cart;

/// A currency no list has: the order reads fine and cannot become a summary.
const NO_CURRENCY: &str = "ZZZ";

/// What a format's writer needs.
#[derive(Clone, Debug)]
pub(super) struct Content<'a> {
    /// Which order of its channel and source it is, from 0.
    pub(super) n: u32,
    /// The sender's immutable id.
    pub(super) id: String,
    /// The label for people.
    pub(super) number: String,
    pub(super) cart: &'a Cart,
    pub(super) status: Status,
    /// From 0; the larger is the newer.
    pub(super) version: u32,
    /// Whether the currency is none.
    pub(super) poison: bool,
}

/// What the order's own status fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// A placed sale.
    Placed,
    /// Not paid, on hold, or not confirmed.
    Held,
    /// Called off.
    Cancelled,
    /// A draft, a test or a failed attempt.
    NotAnOrder,
}

impl Content<'_> {
    /// When this version was made, ms since 1970: a second per version after the order was placed.
    pub(super) fn changed_ms(&self) -> i64 {
        self.cart.placed_ms + i64::from(self.version) * 1000
    }

    /// Three capitals.
    pub(super) fn currency(&self) -> &'static str {
        if self.poison { NO_CURRENCY } else { self.cart.market.currency }
    }

    /// Nothing, with the currency's digits.
    pub(super) fn zero(&self) -> Decimal {
        Decimal::new(0, self.cart.market.exponent)
    }
}
