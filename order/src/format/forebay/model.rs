//! The canonical order as it is sent; member by member the schema.

use rust_decimal::prelude::ToPrimitive;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::json::{Amount, Flag, List, Obj, Text};
use crate::summary::{LineKind, PaymentState, TaxLocale};

/// An order. Members that are not here are kept in its bytes and otherwise ignored.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Order<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) number: Option<Text<'a>>,
    pub(super) version: Option<Whole>,
    #[serde(borrow)]
    pub(super) placed_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) currency: Option<Text<'a>>,
    pub(super) status: Option<Word<Status>>,
    pub(super) prices: Option<Word<TaxLocale>>,
    pub(super) totals: Obj<Totals>,
    #[serde(borrow)]
    pub(super) shopper: Obj<Shopper<'a>>,
    #[serde(borrow)]
    pub(super) billing: Obj<Address<'a>>,
    #[serde(borrow)]
    pub(super) shipments: List<Shipment<'a>>,
    pub(super) line_count: Option<Whole>,
    #[serde(borrow)]
    pub(super) lines: List<Line<'a>>,
    #[serde(borrow)]
    pub(super) charges: List<Line<'a>>,
    #[serde(borrow)]
    pub(super) discounts: List<Discount<'a>>,
    #[serde(borrow)]
    pub(super) payments: List<Payment<'a>>,
}

impl Order<'_> {
    /// Whether nothing is there that an order system could work with.
    pub(super) fn is_only_an_id(&self) -> bool {
        self.currency.is_none()
            && self.totals.0.is_none()
            && self.shopper.0.is_none()
            && self.billing.0.is_none()
            && self.shipments.is_empty()
            && self.lines.is_empty()
            && self.charges.is_empty()
            && self.discounts.is_empty()
            && self.payments.is_empty()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) grand: Option<Amount>,
    pub(super) tax: Option<Amount>,
    pub(super) shipping: Option<Amount>,
    pub(super) discount: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Shopper<'a> {
    #[serde(borrow)]
    pub(super) email: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) first_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) last_name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) company: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) phone: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) customer_id: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Address<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) company: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) address1: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) address2: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) city: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) postal_code: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) country: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) phone: Option<Text<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Shipment<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) method: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) address: Obj<Address<'a>>,
}

/// A line, or a charge, which is a line with a kind.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    pub(super) kind: Option<Word<Charge>>,
    #[serde(borrow)]
    pub(super) sku: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    pub(super) quantity: Option<Amount>,
    pub(super) unit_price: Option<Amount>,
    pub(super) amount: Option<Amount>,
    pub(super) tax: Option<Amount>,
    #[serde(borrow)]
    pub(super) taxes: List<Tax<'a>>,
    #[serde(borrow)]
    pub(super) discounts: List<Discount<'a>>,
    #[serde(borrow)]
    pub(super) shipment: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Tax<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(default)]
    pub(super) rate: Option<Size>,
    pub(super) amount: Amount,
}

#[derive(Deserialize)]
pub(super) struct Discount<'a> {
    pub(super) amount: Size,
    #[serde(default)]
    pub(super) tax: Option<Size>,
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(default)]
    pub(super) order_level: Option<Flag>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Payment<'a> {
    #[serde(borrow)]
    pub(super) method: Option<Text<'a>>,
    pub(super) amount: Option<Amount>,
    pub(super) state: Option<Word<PaymentState>>,
    #[serde(borrow)]
    pub(super) reference: Option<Text<'a>>,
}

/// An amount of zero or more.
#[derive(Clone, Copy)]
pub(super) struct Size(pub(super) Amount);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = Amount::deserialize(deserializer)?;
        match amount.0 {
            Some(negative) if negative.is_sign_negative() && !negative.is_zero() => {
                Err(D::Error::custom("expected an amount of zero or more"))
            }
            _ => Ok(Self(amount)),
        }
    }
}

/// A whole number of zero or more.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = Amount::deserialize(deserializer)?.0;
        let whole = amount.filter(|amount| amount.fract().is_zero()).and_then(|a| a.to_u64());
        whole.map(Self).ok_or_else(|| D::Error::custom("expected a whole number of zero or more"))
    }
}

/// What the source says of the order.
#[derive(Clone, Copy)]
pub(super) enum Status {
    Placed,
    Held,
    Cancelled,
    Draft,
    Test,
}

/// Kind of a charge.
#[derive(Clone, Copy)]
pub(super) enum Charge {
    Delivery,
    Fee,
}

impl From<Charge> for LineKind {
    fn from(charge: Charge) -> Self {
        match charge {
            Charge::Delivery => Self::DeliveryCharge,
            Charge::Fee => Self::Fee,
        }
    }
}

/// One of a few words.
#[derive(Clone, Copy)]
pub(super) struct Word<T>(pub(super) T);

/// The words a member may have.
pub(super) trait Words: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

impl Words for Status {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("placed", Self::Placed),
        ("held", Self::Held),
        ("cancelled", Self::Cancelled),
        ("draft", Self::Draft),
        ("test", Self::Test),
    ];
}

impl Words for TaxLocale {
    const WORDS: &'static [(&'static str, Self)] = &[("net", Self::Net), ("gross", Self::Gross)];
}

impl Words for Charge {
    const WORDS: &'static [(&'static str, Self)] =
        &[("delivery", Self::Delivery), ("fee", Self::Fee)];
}

impl Words for PaymentState {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("unknown", Self::Unknown),
        ("authorised", Self::Authorised),
        ("captured", Self::Captured),
    ];
}

impl<'de, T: Words> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let found = T::WORDS.iter().find(|(word, _)| *word == text.0);
        found.map(|(_, value)| Self(*value)).ok_or_else(|| {
            let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
            D::Error::custom(format_args!("expected one of {}", words.join(", ")))
        })
    }
}
