//! The order summary: the order's consolidated record in the order management system (OMS).
//!
//! Named after Salesforce Order Management's objects. Every amount is in the order's one currency.
//!
//! # Totals
//! A line's `line_amount` is before adjustments and tax. An adjustment (a discount is negative) either
//! belongs to its line alone or is the line's share of an order-level (header) adjustment group.
//!
//! ```text
//! line.total_price  = line_amount + all its adjustments          (line and header share)
//! line.total_tax    = its taxes + the taxes of its adjustments
//! total_amount      = sum of line.total_price
//! total_tax_amount  = sum of line.total_tax
//! grand_total       = total_amount + total_tax_amount
//! ```
//!
//! Salesforce's own documentation describes `TotalAmount` with two formulas that differ when there is a
//! header discount; taken literally, one of them loses the discount. This crate takes the reading in
//! which the grand total equals what the lines say, so that a header discount never vanishes.
//!
//! The channel's stated grand total is what the shopper was charged, so it is trusted: where the parts
//! do not add up to it, one line of kind [`LineKind::Difference`] carries the rest, and
//! [`OrderSummary::difference`] records it.

mod draft;

use rust_decimal::Decimal;
use serde::Serialize;

pub(crate) use draft::{Draft, HeaderAdjustment, shares};

use crate::{Currency, Fingerprint, Format, OrderKey};

/// An order summary, ready for the OMS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OrderSummary {
    /// Who the order is; its identity is unique in the OMS for ever.
    #[serde(serialize_with = "crate::summary::serialize_key")]
    pub key: OrderKey,
    /// Fingerprint of the content as received.
    pub fingerprint: Fingerprint,
    /// The number people use.
    pub order_number: String,
    /// When the shopper ordered, as the source wrote it (kept, since zones are often missing).
    pub ordered_date_text: String,
    /// The same as an instant in milliseconds since 1970, where the text says which instant it is.
    pub ordered_date_ms: Option<i64>,
    /// Managed, or unmanaged history.
    pub life_cycle: LifeCycle,
    /// The one currency of all amounts.
    pub currency: Currency,
    /// Whether the source's prices held tax.
    pub tax_locale: TaxLocale,
    /// Who bought.
    pub shopper: Shopper,
    /// Billing address, where given.
    pub billing: Option<Address>,
    /// Where it goes, one per ship-to and method.
    pub delivery_groups: Vec<DeliveryGroup>,
    /// Order-level adjustments, by name; their shares stand on the lines.
    pub adjustment_groups: Vec<AdjustmentGroup>,
    /// Products, delivery charges, fees, and the difference line if any.
    pub lines: Vec<Line>,
    /// One per payment method.
    pub payments: Vec<Payment>,
    /// What the channel itself stated.
    pub stated: Stated,
    /// Stated grand total less the sum of the parts; zero where they agree or none was stated.
    pub difference: Decimal,
    /// What was odd about the order, for people.
    pub oddities: Vec<Oddity>,
    /// Derived totals; see the module's formulas.
    pub totals: Totals,
}

/// Managed by the OMS, or kept as history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LifeCycle {
    /// The OMS keeps its financial fields.
    Managed,
    /// For reference only.
    Unmanaged,
}

/// How the source states prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum TaxLocale {
    /// Prices without tax.
    Net,
    /// Prices with tax.
    Gross,
}

/// The buyer. The OMS finds or creates its account by `email_normalised`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shopper {
    /// E-mail trimmed and lower-cased; `None` where the order has none.
    pub email_normalised: Option<String>,
    /// E-mail as sent.
    pub email: Option<String>,
    /// First and last name, or the company.
    pub name: Option<String>,
    /// First name.
    pub first_name: Option<String>,
    /// Last name.
    pub last_name: Option<String>,
    /// Company; makes a business account.
    pub company: Option<String>,
    /// Phone.
    pub phone: Option<String>,
    /// The sender's own id of the customer.
    pub customer_id: Option<String>,
}

/// A postal address, each part as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Address {
    pub name: Option<String>,
    pub company: Option<String>,
    pub address1: Option<String>,
    pub address2: Option<String>,
    pub city: Option<String>,
    pub postal_code: Option<String>,
    pub state: Option<String>,
    pub country: Option<String>,
    pub phone: Option<String>,
}

/// A ship-to and a method.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeliveryGroup {
    /// The source's shipment id, where it has one.
    pub shipment_id: Option<String>,
    /// Delivery method as the source names it.
    pub method: Option<String>,
    /// Ship-to; `None` for a digital order or where the source gave none.
    pub address: Option<Address>,
}

/// An order-level adjustment: what a header discount is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdjustmentGroup {
    /// Promotion, coupon or reason.
    pub name: String,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    /// A product.
    Product,
    /// A delivery charge.
    DeliveryCharge,
    /// A fee.
    Fee,
    /// The rest between the parts and the channel's stated grand total.
    Difference,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Number within the order, from 1, in document order, products first.
    pub number: u32,
    /// What it is.
    pub kind: LineKind,
    /// Index into [`OrderSummary::delivery_groups`].
    pub delivery_group: Option<usize>,
    /// Product code (SKU, product id) as text; empty where the source has none.
    pub product_code: String,
    /// Name as sent.
    pub name: String,
    /// Quantity, which may be a fraction.
    pub quantity: Decimal,
    /// Price of one, informational, as the source states it.
    pub unit_price: Decimal,
    /// Before adjustments and tax.
    pub line_amount: Decimal,
    /// Discounts (negative) and surcharges.
    pub adjustments: Vec<Adjustment>,
    /// Taxes on `line_amount`.
    pub taxes: Vec<Tax>,
}

/// A discount (negative) or surcharge on a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Adjustment {
    /// Without tax; a discount is negative.
    pub amount: Decimal,
    /// Tax on it; a discount's is negative.
    pub tax: Decimal,
    /// Promotion, coupon or reason, where given.
    pub name: String,
    /// Index into [`OrderSummary::adjustment_groups`] for a share of an order-level adjustment.
    pub group: Option<usize>,
}

/// A tax on a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tax {
    /// Name, where given.
    pub name: String,
    /// Rate as a fraction (0.19), where given.
    pub rate: Option<Decimal>,
    /// Amount.
    pub amount: Decimal,
}

/// One payment method's part in the order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Payment {
    /// Method or gateway as the source names it.
    pub method: String,
    /// What it stands for, where stated.
    pub amount: Option<Decimal>,
    /// Authorised, captured, or unknown.
    pub state: PaymentState,
    /// The gateway's reference; never a card number.
    pub reference: Option<String>,
}

/// How far a payment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// The source does not say.
    #[default]
    Unknown,
    /// Money reserved.
    Authorised,
    /// Money taken.
    Captured,
}

/// The channel's own totals, where stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stated {
    /// What the shopper was charged.
    pub grand_total: Option<Decimal>,
    /// Tax in it.
    pub tax_total: Option<Decimal>,
    /// Shipping in it.
    pub shipping_total: Option<Decimal>,
    /// Discount in it, as a positive number.
    pub discount_total: Option<Decimal>,
}

/// Derived totals, named after the OrderSummary object's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Sum of `line_amount` of products.
    pub product: Decimal,
    /// Sum of `line_amount` of delivery charges.
    pub delivery: Decimal,
    /// Sum of `line_amount` of fees, and of the difference line.
    pub fee: Decimal,
    /// Sum of line-level adjustments.
    pub line_adjustment: Decimal,
    /// Sum of the shares of order-level adjustments (`TotalAdjDistAmount`).
    pub header_adjustment: Decimal,
    /// `TotalAmount`: with every adjustment, without tax.
    pub total_amount: Decimal,
    /// `TotalTaxAmount`.
    pub total_tax_amount: Decimal,
    /// `GrandTotalAmount` = `total_amount + total_tax_amount`, always.
    pub grand_total: Decimal,
}

/// What can be odd about a sale that is summarised all the same; see the table in [`format`](mod@crate::format).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Oddity {
    /// No e-mail: the summary has a shopper without an account key.
    NoEmail,
    /// No product lines.
    NoLines,
    /// Parts and stated total differ.
    TotalsDiffer,
    /// A line names a shipment that is not there.
    UnknownShipment,
    /// An amount has more decimals than the currency.
    FractionBeyondCurrency,
    /// The order date is missing or names no instant.
    NoOrderedInstant,
    /// A header discount stated without shares was distributed by line price.
    DiscountDistributed,
    /// Tax stated for the order alone was distributed by line price.
    TaxDistributed,
    /// The readiness table could not place it.
    Unplaced,
    /// The body declares more lines than it holds.
    LinesIncomplete,
}

/// Why an item cannot become a summary: a process exception with this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unmappable {
    /// Stable word for machines, such as `no_currency`.
    pub code: &'static str,
    /// What is wrong and what to do; never a value from the body.
    pub reason: String,
}

/// Makes the order summary of one item's kept bytes.
///
/// # Errors
/// [`Unmappable`] where the bytes cannot become a summary; the order then needs a person.
pub fn summarise(
    format: Format,
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    format.summarise(key, fingerprint, bytes)
}

fn serialize_key<S: serde::Serializer>(key: &OrderKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}
