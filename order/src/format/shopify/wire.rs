//! The members of a Shopify order that are read. Amounts are the shop's currency, never presentment's.

use serde::Deserialize;

use crate::json::{Amount, Flag, Label, Labels, List, LooseList, Obj, Present, Text};

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an order object")]
pub(crate) struct Order<'a> {
    #[serde(borrow)]
    pub(super) id: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) order_number: Option<Text<'a>>,
    pub(super) test: Option<Flag>,
    #[serde(borrow)]
    pub(super) cancelled_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) financial_status: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) currency: Option<Text<'a>>,
    pub(super) taxes_included: Option<Flag>,
    pub(super) total_price: Option<Amount>,
    pub(super) total_tax: Option<Amount>,
    pub(super) total_discounts: Option<Amount>,
    pub(super) total_outstanding: Option<Amount>,
    pub(super) total_tip_received: Option<Amount>,
    #[serde(borrow)]
    pub(super) total_shipping_price_set: Obj<PriceSet<'a>>,
    #[serde(borrow)]
    pub(super) original_total_duties_set: Obj<PriceSet<'a>>,
    #[serde(borrow)]
    pub(super) created_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) processed_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) updated_at: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) email: Label<'a>,
    #[serde(borrow)]
    pub(super) contact_email: Label<'a>,
    #[serde(borrow)]
    pub(super) phone: Label<'a>,
    #[serde(borrow)]
    pub(super) customer: Obj<Customer<'a>>,
    #[serde(borrow)]
    pub(super) billing_address: Obj<Address<'a>>,
    #[serde(borrow)]
    pub(super) shipping_address: Obj<Address<'a>>,
    #[serde(borrow)]
    pub(super) line_items: Option<List<Line<'a>>>,
    #[serde(borrow)]
    pub(super) shipping_lines: List<Shipping<'a>>,
    #[serde(borrow)]
    pub(super) tax_lines: List<Tax<'a>>,
    #[serde(borrow)]
    pub(super) discount_applications: LooseList<Application<'a>>,
    #[serde(borrow)]
    pub(super) discount_codes: LooseList<Code<'a>>,
    #[serde(borrow)]
    pub(super) gateway: Label<'a>,
    #[serde(borrow)]
    pub(super) payment_gateway_names: Labels<'a>,
    // What tells other objects from orders.
    pub(super) token: Present,
    pub(super) order_id: Present,
    pub(super) invoice_url: Present,
    pub(super) invoice_sent_at: Present,
    pub(super) abandoned_checkout_url: Present,
    pub(super) refund_line_items: Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a price set")]
pub(super) struct PriceSet<'a> {
    #[serde(borrow)]
    pub(super) shop_money: Obj<Money<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an amount with its currency")]
pub(super) struct Money<'a> {
    pub(super) amount: Option<Amount>,
    #[serde(borrow)]
    pub(super) currency_code: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a customer object")]
pub(super) struct Customer<'a> {
    #[serde(borrow)]
    pub(super) id: Label<'a>,
    #[serde(borrow)]
    pub(super) email: Label<'a>,
    #[serde(borrow)]
    pub(super) phone: Label<'a>,
    #[serde(borrow)]
    pub(super) first_name: Label<'a>,
    #[serde(borrow)]
    pub(super) last_name: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "an address object")]
pub(super) struct Address<'a> {
    #[serde(borrow)]
    pub(super) name: Label<'a>,
    #[serde(borrow)]
    pub(super) first_name: Label<'a>,
    #[serde(borrow)]
    pub(super) last_name: Label<'a>,
    #[serde(borrow)]
    pub(super) company: Label<'a>,
    #[serde(borrow)]
    pub(super) address1: Label<'a>,
    #[serde(borrow)]
    pub(super) address2: Label<'a>,
    #[serde(borrow)]
    pub(super) city: Label<'a>,
    #[serde(borrow)]
    pub(super) zip: Label<'a>,
    #[serde(borrow)]
    pub(super) province: Label<'a>,
    #[serde(borrow)]
    pub(super) province_code: Label<'a>,
    #[serde(borrow)]
    pub(super) country: Label<'a>,
    #[serde(borrow)]
    pub(super) country_code: Label<'a>,
    #[serde(borrow)]
    pub(super) phone: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a line item object")]
pub(super) struct Line<'a> {
    #[serde(borrow)]
    pub(super) sku: Label<'a>,
    #[serde(borrow)]
    pub(super) variant_id: Label<'a>,
    #[serde(borrow)]
    pub(super) product_id: Label<'a>,
    #[serde(borrow)]
    pub(super) name: Label<'a>,
    #[serde(borrow)]
    pub(super) title: Label<'a>,
    pub(super) quantity: Option<Amount>,
    pub(super) price: Option<Amount>,
    pub(super) total_discount: Option<Amount>,
    pub(super) requires_shipping: Option<Flag>,
    pub(super) taxable: Option<Flag>,
    #[serde(borrow)]
    pub(super) tax_lines: List<Tax<'a>>,
    #[serde(borrow)]
    pub(super) discount_allocations: List<Allocation<'a>>,
    pub(super) tip: Present,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a shipping line object")]
pub(super) struct Shipping<'a> {
    #[serde(borrow)]
    pub(super) code: Label<'a>,
    #[serde(borrow)]
    pub(super) title: Label<'a>,
    pub(super) price: Option<Amount>,
    pub(super) discounted_price: Option<Amount>,
    #[serde(borrow)]
    pub(super) tax_lines: List<Tax<'a>>,
    #[serde(borrow)]
    pub(super) discount_allocations: List<Allocation<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a tax line object")]
pub(super) struct Tax<'a> {
    #[serde(borrow)]
    pub(super) title: Label<'a>,
    pub(super) price: Option<Amount>,
    pub(super) rate: Option<Amount>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a discount allocation object")]
pub(super) struct Allocation<'a> {
    pub(super) amount: Option<Amount>,
    #[serde(borrow)]
    pub(super) discount_application_index: Option<Text<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a discount application object")]
pub(super) struct Application<'a> {
    #[serde(borrow)]
    pub(super) allocation_method: Label<'a>,
    #[serde(borrow)]
    pub(super) target_type: Label<'a>,
    #[serde(borrow)]
    pub(super) code: Label<'a>,
    #[serde(borrow)]
    pub(super) title: Label<'a>,
    #[serde(borrow)]
    pub(super) description: Label<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a discount code object")]
pub(super) struct Code<'a> {
    #[serde(borrow)]
    pub(super) code: Label<'a>,
}
