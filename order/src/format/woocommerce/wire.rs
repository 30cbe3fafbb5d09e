//! The members of a WooCommerce order that are read.

use serde::Deserialize;

use crate::json::{Amount, Flag, Label, List, LooseList, Obj, Present, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an order object")]
pub(crate) struct Order<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) number: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) currency: Option<Text<'a>>,
    pub(super) prices_include_tax: Option<Flag>,
    pub(super) total: Option<Amount>,
    pub(super) total_tax: Option<Amount>,
    pub(super) shipping_total: Option<Amount>,
    pub(super) shipping_tax: Option<Amount>,
    pub(super) discount_total: Option<Amount>,
    #[serde(borrow)]
    pub(super) date_created: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) date_created_gmt: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) date_modified_gmt: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) date_paid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) date_paid_gmt: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) customer_id: Label<'a>,
    #[serde(borrow)]
    pub(super) billing: Obj<Address<'a>>,
    #[serde(borrow)]
    pub(super) shipping: Obj<Address<'a>>,
    #[serde(borrow)]
    pub(super) payment_method: Label<'a>,
    #[serde(borrow)]
    pub(super) payment_method_title: Label<'a>,
    #[serde(borrow)]
    pub(super) transaction_id: Label<'a>,
    #[serde(borrow)]
    pub(super) line_items: Option<List<Line<'a>>>,
    #[serde(borrow)]
    pub(super) shipping_lines: List<Charge<'a>>,
    #[serde(borrow)]
    pub(super) fee_lines: List<Charge<'a>>,
    #[serde(borrow)]
    pub(super) coupon_lines: LooseList<Coupon<'a>>,
    #[serde(borrow)]
    pub(super) tax_lines: LooseList<Rate<'a>>,
    pub(super) gift_cards: LooseList<GiftCard>,
    // What tells refund objects from orders.
    pub(super) refunded_by: Present,
    pub(super) refunded_payment: Present,
    pub(super) amount: Present,
    pub(super) reason: Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an address object")]
pub(super) struct Address<'a> {
    #[serde(borrow)]
    pub(super) first_name: Label<'a>,
    #[serde(borrow)]
    pub(super) last_name: Label<'a>,
    #[serde(borrow)]
    pub(super) company: Label<'a>,
    #[serde(borrow)]
    pub(super) address_1: Label<'a>,
    #[serde(borrow)]
    pub(super) address_2: Label<'a>,
    #[serde(borrow)]
    pub(super) city: Label<'a>,
    #[serde(borrow)]
    pub(super) state: Label<'a>,
    #[serde(borrow)]
    pub(super) postcode: Label<'a>,
    #[serde(borrow)]
    pub(super) country: Label<'a>,
    #[serde(borrow)]
    pub(super) email: Label<'a>,
    #[serde(borrow)]
    pub(super) phone: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a line item object")]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) name: Label<'a>,
    #[serde(borrow)]
    pub(super) sku: Label<'a>,
    #[serde(borrow)]
    pub(super) product_id: Label<'a>,
    #[serde(borrow)]
    pub(super) variation_id: Label<'a>,
    pub(super) quantity: Option<Amount>,
    pub(super) price: Option<Amount>,
    pub(super) subtotal: Option<Amount>,
    pub(super) subtotal_tax: Option<Amount>,
    pub(super) total: Option<Amount>,
    pub(super) total_tax: Option<Amount>,
    #[serde(borrow)]
    pub(super) taxes: LooseList<LineTax<'a>>,
}

/// A shipping or fee line.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a charge object")]
pub(super) struct Charge<'a> {
    #[serde(borrow)]
    pub(super) name: Label<'a>,
    #[serde(borrow)]
    pub(super) method_title: Label<'a>,
    #[serde(borrow)]
    pub(super) method_id: Label<'a>,
    pub(super) total: Option<Amount>,
    pub(super) total_tax: Option<Amount>,
    #[serde(borrow)]
    pub(super) taxes: LooseList<LineTax<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a tax object")]
pub(super) struct LineTax<'a> {
    #[serde(borrow)]
    pub(super) id: Label<'a>,
    pub(super) subtotal: Option<Amount>,
    pub(super) total: Option<Amount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a coupon object")]
pub(super) struct Coupon<'a> {
    #[serde(borrow)]
    pub(super) code: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a tax line object")]
pub(super) struct Rate<'a> {
    #[serde(borrow)]
    pub(super) rate_id: Label<'a>,
    #[serde(borrow)]
    pub(super) label: Label<'a>,
    #[serde(borrow)]
    pub(super) rate_code: Label<'a>,
    #[serde(borrow)]
    pub(super) rate_percent: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a gift card object")]
pub(super) struct GiftCard {
    pub(super) amount: Option<Amount>,
}
