//! The tables, and the rows of one order summary.

use forebay_order::summary::{Address, Adjustment, DeliveryGroup, Line, Payment, Shopper, Tax};
use forebay_order::{Fingerprint, OrderSummary};

use super::columns::Type::{Big, Bool, Bytes, Int, Numeric, Small, Text};
use super::columns::{Rows, Table};
use crate::oms::words::{life_cycle, line_kind, payment_state, tax_locale};

pub(super) const ACCOUNT: Table = Table {
    name: "account",
    columns: &[
        ("email_normalised", Text),
        ("is_person_account", Bool),
        ("name", Text),
        ("person_email", Text),
        ("first_name", Text),
        ("last_name", Text),
        ("company", Text),
        ("phone", Text),
        ("customer_id", Text),
    ],
    then: "ON CONFLICT (email_normalised) DO NOTHING RETURNING email_normalised, id",
};

pub(super) const ORDER: Table = Table {
    name: "order_summary",
    columns: &[
        ("external_reference_identifier", Text),
        ("fingerprint", Bytes),
        ("fingerprint_version", Small),
        ("order_number", Text),
        ("order_life_cycle_type", Text),
        ("currency_iso_code", Text),
        ("tax_locale_type", Text),
        ("ordered_date_text", Text),
        ("ordered_date_ms", Big),
        ("account_id", Big),
        ("shopper_email_normalised", Text),
        ("billing_email_address", Text),
        ("shopper_name", Text),
        ("shopper_first_name", Text),
        ("shopper_last_name", Text),
        ("shopper_company", Text),
        ("billing_phone_number", Text),
        ("shopper_customer_id", Text),
        ("has_billing", Bool),
        ("billing_name", Text),
        ("billing_company", Text),
        ("billing_address1", Text),
        ("billing_address2", Text),
        ("billing_city", Text),
        ("billing_postal_code", Text),
        ("billing_state", Text),
        ("billing_country", Text),
        ("billing_address_phone", Text),
        ("total_product_amount", Numeric),
        ("total_delivery_amount", Numeric),
        ("total_fee_amount", Numeric),
        ("total_line_adjustment_amount", Numeric),
        ("total_adj_dist_amount", Numeric),
        ("total_amount", Numeric),
        ("total_tax_amount", Numeric),
        ("grand_total_amount", Numeric),
        ("stated_grand_total", Numeric),
        ("stated_tax_total", Numeric),
        ("stated_shipping_total", Numeric),
        ("stated_discount_total", Numeric),
        ("difference", Numeric),
        ("oddities", Text),
        ("committed_at_us", Big),
    ],
    // Whoever is left out is there already.
    then: "ON CONFLICT (external_reference_identifier) DO NOTHING RETURNING external_reference_identifier, id",
};

pub(super) const DELIVERY_GROUP: Table = Table {
    name: "order_delivery_group_summary",
    columns: &[
        ("order_summary_id", Big),
        ("position", Int),
        ("shipment_id", Text),
        ("order_delivery_method", Text),
        ("has_address", Bool),
        ("deliver_to_name", Text),
        ("deliver_to_company", Text),
        ("deliver_to_address1", Text),
        ("deliver_to_address2", Text),
        ("deliver_to_city", Text),
        ("deliver_to_postal_code", Text),
        ("deliver_to_state", Text),
        ("deliver_to_country", Text),
        ("phone_number", Text),
    ],
    then: "RETURNING order_summary_id, position, id",
};

pub(super) const ADJUSTMENT_GROUP: Table = Table {
    name: "order_adjustment_group_summary",
    columns: &[("order_summary_id", Big), ("position", Int), ("name", Text)],
    then: "RETURNING order_summary_id, position, id",
};

pub(super) const ITEM: Table = Table {
    name: "order_item_summary",
    columns: &[
        ("order_summary_id", Big),
        ("line_number", Int),
        ("type", Text),
        ("order_delivery_group_summary_id", Big),
        ("product_code", Text),
        ("name", Text),
        ("quantity", Numeric),
        ("unit_price", Numeric),
        ("total_line_amount", Numeric),
    ],
    then: "",
};

/// The same where their numbers are asked for.
pub(super) const ITEM_TOLD: Table =
    Table { then: "RETURNING order_summary_id, line_number, id", ..ITEM };

pub(super) const ADJUSTMENT: Table = Table {
    name: "order_item_adjustment_line_summary",
    columns: &[
        ("order_item_summary_id", Big),
        ("position", Int),
        ("order_adjustment_group_summary_id", Big),
        ("name", Text),
        ("amount", Numeric),
        ("total_tax_amount", Numeric),
    ],
    then: "",
};

pub(super) const TAX: Table = Table {
    name: "order_item_tax_line_item_summary",
    columns: &[
        ("order_item_summary_id", Big),
        ("position", Int),
        ("name", Text),
        ("rate", Numeric),
        ("amount", Numeric),
    ],
    then: "",
};

pub(super) const PAYMENT: Table = Table {
    name: "order_payment_summary",
    columns: &[
        ("order_summary_id", Big),
        ("position", Int),
        ("method", Text),
        ("amount", Numeric),
        ("state", Text),
        ("gateway_reference", Text),
    ],
    then: "",
};

/// Where a row of an order is among its kind.
pub(super) fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

pub(super) fn account<'a>(rows: &mut Rows<'a>, email: &'a str, shopper: &'a Shopper) {
    let person = shopper.company.is_none();
    rows.text(Some(email))
        .bool(person)
        .text(shopper.name.as_deref())
        .text(shopper.email.as_deref())
        .text(shopper.first_name.as_deref())
        .text(shopper.last_name.as_deref())
        .text(shopper.company.as_deref())
        .text(shopper.phone.as_deref())
        .text(shopper.customer_id.as_deref())
        .end();
}

/// An order, as it is inserted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order<'a> {
    pub(super) identity: &'a str,
    pub(super) summary: &'a OrderSummary,
    pub(super) oddities: &'a str,
    pub(super) account: Option<i64>,
    pub(super) committed_at_us: i64,
}

pub(super) fn order<'a>(rows: &mut Rows<'a>, order: Order<'a>) {
    const RULE: i16 = Fingerprint::VERSION as i16;
    static NONE: Address = NO_ADDRESS;
    let summary = order.summary;
    let (shopper, totals, stated) = (&summary.shopper, &summary.totals, &summary.stated);
    let billing = summary.billing.as_ref().unwrap_or(&NONE);
    rows.text(Some(order.identity))
        .bytes(&summary.fingerprint.0)
        .small(RULE)
        .text(Some(&summary.order_number))
        .text(Some(life_cycle(summary.life_cycle)))
        .text(Some(summary.currency.code()))
        .text(Some(tax_locale(summary.tax_locale)))
        .text(Some(&summary.ordered_date_text))
        .big(summary.ordered_date_ms)
        .big(order.account)
        .text(shopper.email_normalised.as_deref())
        .text(shopper.email.as_deref())
        .text(shopper.name.as_deref())
        .text(shopper.first_name.as_deref())
        .text(shopper.last_name.as_deref())
        .text(shopper.company.as_deref())
        .text(shopper.phone.as_deref())
        .text(shopper.customer_id.as_deref())
        .bool(summary.billing.is_some());
    address(rows, billing)
        .numeric(Some(totals.product))
        .numeric(Some(totals.delivery))
        .numeric(Some(totals.fee))
        .numeric(Some(totals.line_adjustment))
        .numeric(Some(totals.header_adjustment))
        .numeric(Some(totals.total_amount))
        .numeric(Some(totals.total_tax_amount))
        .numeric(Some(totals.grand_total))
        .numeric(stated.grand_total)
        .numeric(stated.tax_total)
        .numeric(stated.shipping_total)
        .numeric(stated.discount_total)
        .numeric(Some(summary.difference))
        .text(Some(order.oddities))
        .big(Some(order.committed_at_us))
        .end();
}

/// Of an order or a delivery without one.
const NO_ADDRESS: Address = Address {
    name: None,
    company: None,
    address1: None,
    address2: None,
    city: None,
    postal_code: None,
    state: None,
    country: None,
    phone: None,
};

fn address<'r, 'a>(rows: &'r mut Rows<'a>, address: &'a Address) -> &'r mut Rows<'a> {
    rows.text(address.name.as_deref())
        .text(address.company.as_deref())
        .text(address.address1.as_deref())
        .text(address.address2.as_deref())
        .text(address.city.as_deref())
        .text(address.postal_code.as_deref())
        .text(address.state.as_deref())
        .text(address.country.as_deref())
        .text(address.phone.as_deref())
}

pub(super) fn delivery_group<'a>(
    rows: &mut Rows<'a>,
    order: i64,
    at: usize,
    group: &'a DeliveryGroup,
) {
    static NONE: Address = NO_ADDRESS;
    rows.big(Some(order))
        .int(position(at))
        .text(group.shipment_id.as_deref())
        .text(group.method.as_deref())
        .bool(group.address.is_some());
    address(rows, group.address.as_ref().unwrap_or(&NONE)).end();
}

pub(super) fn adjustment_group<'a>(rows: &mut Rows<'a>, order: i64, at: usize, name: &'a str) {
    rows.big(Some(order)).int(position(at)).text(Some(name)).end();
}

pub(super) fn item<'a>(rows: &mut Rows<'a>, order: i64, delivery: Option<i64>, line: &'a Line) {
    rows.big(Some(order))
        .int(line_number(line))
        .text(Some(line_kind(line.kind)))
        .big(delivery)
        .text(Some(&line.product_code))
        .text(Some(&line.name))
        .numeric(Some(line.quantity))
        .numeric(Some(line.unit_price))
        .numeric(Some(line.line_amount))
        .end();
}

/// The number of a line within its order.
pub(super) fn line_number(line: &Line) -> i32 {
    i32::try_from(line.number).unwrap_or(i32::MAX)
}

pub(super) fn adjustment<'a>(
    rows: &mut Rows<'a>,
    item: i64,
    at: usize,
    group: Option<i64>,
    adjustment: &'a Adjustment,
) {
    rows.big(Some(item))
        .int(position(at))
        .big(group)
        .text(Some(&adjustment.name))
        .numeric(Some(adjustment.amount))
        .numeric(Some(adjustment.tax))
        .end();
}

pub(super) fn tax<'a>(rows: &mut Rows<'a>, item: i64, at: usize, tax: &'a Tax) {
    rows.big(Some(item))
        .int(position(at))
        .text(Some(&tax.name))
        .numeric(tax.rate)
        .numeric(Some(tax.amount))
        .end();
}

pub(super) fn payment<'a>(rows: &mut Rows<'a>, order: i64, at: usize, payment: &'a Payment) {
    rows.big(Some(order))
        .int(position(at))
        .text(Some(&payment.method))
        .numeric(payment.amount)
        .text(Some(payment_state(payment.state)))
        .text(payment.reference.as_deref())
        .end();
}
