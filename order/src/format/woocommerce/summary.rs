//! From a WooCommerce order to an order summary.

use rust_decimal::Decimal;

use super::wire::{Address, Charge, Line, LineTax, Order};
use super::{given, readiness};
use crate::exact::{check, check_parts};
use crate::json::{Amount, Label};
use crate::money::parse_amount;
use crate::readiness::Readiness;
use crate::summary::{
    self, Adjustment, AdjustmentGroup, DeliveryGroup, Draft, LineKind, Oddity, Payment,
    PaymentState, Shopper, Stated, TaxLocale, shares,
};
use crate::text::{normalise_email, short_name, utc_ms};
use crate::{Currency, Fingerprint, OrderKey, OrderSummary, Unmappable};

/// Tax rates of an order that give its taxes a name; no shop has as many.
const RATES_MAX: usize = 500;

/// The summary of `order`.
///
/// # Errors
/// It is no order, names no currency, or its amounts are too large to be any.
pub(super) fn of(
    order: &Order<'_>,
    key: OrderKey,
    fingerprint: Fingerprint,
) -> Result<OrderSummary, Unmappable> {
    let unplaced = match readiness(order, None) {
        Ok((Readiness::Recorded(_) | Readiness::FetchNeeded, _)) | Err(_) => {
            let reason = "not an order; discard it, or have the order itself sent".to_owned();
            return Err(Unmappable { code: "not_an_order", reason });
        }
        Ok((_, unplaced)) => unplaced,
    };
    check_parts(parts(order))?;
    let currency = given(&order.currency).and_then(|code| code.parse().ok());
    let currency: Currency = currency.ok_or_else(|| Unmappable {
        code: "no_currency",
        reason: "the order names no ISO 4217 currency; send `currency`".to_owned(),
    })?;
    let mut draft = Draft::new(key, fingerprint, currency);
    draft.order_number = given(&order.number).unwrap_or_default().to_owned();
    ordered(order, &mut draft);
    let gross = order.prices_include_tax.is_some_and(|flag| flag.0);
    draft.tax_locale = if gross { TaxLocale::Gross } else { TaxLocale::Net };
    draft.stated = Stated {
        grand_total: amount(order.total),
        tax_total: amount(order.total_tax),
        shipping_total: amount(order.shipping_total),
        discount_total: amount(order.discount_total),
    };
    people(order, &mut draft);
    products(order, &mut draft);
    charges(order, &mut draft);
    payments(order, &mut draft);
    if unplaced {
        draft.oddities.push(Oddity::Unplaced);
    }
    check(&draft)?;
    Ok(draft.finish())
}

/// Everything in the order that becomes a line, a discount or a tax, or names one.
fn parts(order: &Order<'_>) -> usize {
    let lines = order.line_items.iter().flat_map(|lines| lines.iter());
    let lines: usize = lines.map(|line| 2 + line.taxes.len()).sum();
    let charges = order.shipping_lines.iter().chain(order.fee_lines.iter());
    let charges: usize = charges.map(|charge| 1 + charge.taxes.len()).sum();
    lines + charges + order.gift_cards.len() + order.tax_lines.len()
}

fn amount(amount: Option<Amount>) -> Option<Decimal> {
    amount.and_then(|amount| amount.0)
}

fn ordered(order: &Order<'_>, draft: &mut Draft) {
    let utc = given(&order.date_created_gmt);
    let text = utc.or(given(&order.date_created)).unwrap_or_default();
    draft.ordered_date_text = text.to_owned();
    draft.ordered_date_ms = utc.and_then(utc_ms);
}

// === people and places ===

fn people(order: &Order<'_>, draft: &mut Draft) {
    let none = Address::default();
    let billing = order.billing.0.as_ref().unwrap_or(&none);
    let company = billing.company.owned();
    draft.shopper = Shopper {
        email_normalised: order.email().and_then(normalise_email),
        email: order.email().map(str::to_owned),
        name: whole_name(billing).or(company.clone()),
        first_name: billing.first_name.owned(),
        last_name: billing.last_name.owned(),
        company,
        phone: billing.phone.owned(),
        // 0 is a guest.
        customer_id: order.customer_id.owned().filter(|id| id != "0"),
    };
    draft.billing = address(billing);
    let ship_to = order.shipping.0.as_ref().and_then(address);
    let method = order.shipping_lines.iter().find_map(|line| line.method_title.owned());
    if ship_to.is_some() || !order.shipping_lines.is_empty() {
        draft.delivery_groups.push(DeliveryGroup { shipment_id: None, method, address: ship_to });
    }
}

fn whole_name(from: &Address<'_>) -> Option<String> {
    let parts = [from.first_name.given(), from.last_name.given()];
    let whole = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Some(whole).filter(|name| !name.is_empty())
}

/// `None` where every part is empty, as for an order without shipping.
fn address(from: &Address<'_>) -> Option<summary::Address> {
    let address = summary::Address {
        name: whole_name(from),
        company: from.company.owned(),
        address1: from.address_1.owned(),
        address2: from.address_2.owned(),
        city: from.city.owned(),
        postal_code: from.postcode.owned(),
        state: from.state.owned(),
        country: from.country.owned(),
        phone: from.phone.owned(),
    };
    (address != summary::Address::default()).then_some(address)
}

// === lines ===

fn products(order: &Order<'_>, draft: &mut Draft) {
    let codes: Vec<&str> = order.coupon_lines.iter().filter_map(|c| c.code.given()).collect();
    let name = short_name(&codes.join(", "));
    let group = (!codes.is_empty()).then_some(0);
    let delivered = !draft.delivery_groups.is_empty();
    let mut discounted = false;
    for line in order.line_items.iter().flat_map(|lines| lines.iter()) {
        let mut product = product(order, line, draft.currency, delivered);
        let before = product.line_amount;
        let tax_before = line_tax_before(line);
        let discount = amount(line.total).unwrap_or(before) - before;
        let tax = amount(line.total_tax).unwrap_or(tax_before) - tax_before;
        if !discount.is_zero() || !tax.is_zero() {
            discounted = true;
            let name = name.clone();
            product.adjustments.push(Adjustment { amount: discount, tax, name, group });
        }
        draft.lines.push(product);
    }
    if discounted && group.is_some() {
        draft.adjustment_groups.push(AdjustmentGroup { name });
    }
}

fn line_tax_before(line: &Line<'_>) -> Decimal {
    amount(line.subtotal_tax).or(amount(line.total_tax)).unwrap_or_default()
}

fn product(
    order: &Order<'_>,
    line: &Line<'_>,
    currency: Currency,
    delivered: bool,
) -> summary::Line {
    let variation = line.variation_id.owned().filter(|id| id != "0");
    let code = line.sku.owned().or(variation).or(line.product_id.owned());
    summary::Line {
        number: 0,
        kind: LineKind::Product,
        delivery_group: delivered.then_some(0),
        product_code: code.unwrap_or_default(),
        name: line.name.owned().unwrap_or_default(),
        quantity: amount(line.quantity).unwrap_or(Decimal::ONE),
        unit_price: amount(line.price).unwrap_or_default(),
        line_amount: amount(line.subtotal).or(amount(line.total)).unwrap_or_default(),
        adjustments: Vec::new(),
        taxes: taxes(order, &line.taxes, |tax| tax.subtotal, line_tax_before(line), currency),
    }
}

/// The line's tax, shared by its rates; one tax where the rates say nothing.
fn taxes(
    order: &Order<'_>,
    rates: &[LineTax<'_>],
    part: impl Fn(&LineTax<'_>) -> Option<Amount>,
    total: Decimal,
    currency: Currency,
) -> Vec<summary::Tax> {
    if total.is_zero() {
        return Vec::new();
    }
    let part = |tax: &LineTax<'_>| amount(part(tax)).or(amount(tax.total)).unwrap_or_default();
    let rates: Vec<_> = rates.iter().filter(|tax| part(tax) > Decimal::ZERO).collect();
    let weights: Vec<Decimal> = rates.iter().map(|tax| part(tax)).collect();
    let parts = shares(total, &weights, currency);
    if parts.is_empty() {
        return vec![summary::Tax { name: String::new(), rate: None, amount: total }];
    }
    let named = |(tax, amount): (&&LineTax<'_>, Decimal)| {
        let (name, rate) = rate(order, &tax.id);
        summary::Tax { name, rate, amount }
    };
    rates.iter().zip(parts).map(named).collect()
}

/// Name and rate, as a fraction, of a tax rate of the order.
fn rate(order: &Order<'_>, id: &Label<'_>) -> (String, Option<Decimal>) {
    let known = order
        .tax_lines
        .iter()
        .take(RATES_MAX)
        .find(|rate| rate.rate_id.given().is_some() && rate.rate_id.given() == id.given());
    let Some(known) = known else { return (String::new(), None) };
    let percent = known.rate_percent.given().and_then(|text| parse_amount(text).ok());
    let name = known.label.given().or(known.rate_code.given()).map(short_name);
    (name.unwrap_or_default(), percent.map(|percent| (percent / Decimal::ONE_HUNDRED).normalize()))
}

fn charges(order: &Order<'_>, draft: &mut Draft) {
    let delivered = !draft.delivery_groups.is_empty();
    for line in order.shipping_lines.iter() {
        let mut charge = charge(order, line, draft.currency, LineKind::DeliveryCharge);
        charge.delivery_group = delivered.then_some(0);
        draft.lines.push(charge);
    }
    let shipping = amount(order.shipping_total).unwrap_or_default();
    let tax = amount(order.shipping_tax).unwrap_or_default();
    if order.shipping_lines.is_empty() && !(shipping.is_zero() && tax.is_zero()) {
        let stated = Charge {
            total: Some(Amount(Some(shipping))),
            total_tax: Some(Amount(Some(tax))),
            ..Charge::default()
        };
        let mut charge = charge(order, &stated, draft.currency, LineKind::DeliveryCharge);
        charge.name = "Shipping".to_owned();
        charge.delivery_group = delivered.then_some(0);
        draft.lines.push(charge);
    }
    for line in order.fee_lines.iter() {
        draft.lines.push(charge(order, line, draft.currency, LineKind::Fee));
    }
}

fn charge(
    order: &Order<'_>,
    line: &Charge<'_>,
    currency: Currency,
    kind: LineKind,
) -> summary::Line {
    let price = amount(line.total).unwrap_or_default();
    let tax = amount(line.total_tax).unwrap_or_default();
    summary::Line {
        number: 0,
        kind,
        delivery_group: None,
        product_code: line.method_id.owned().unwrap_or_default(),
        name: line.method_title.owned().or(line.name.owned()).unwrap_or_default(),
        quantity: Decimal::ONE,
        unit_price: price,
        line_amount: price,
        adjustments: Vec::new(),
        taxes: taxes(order, &line.taxes, |tax| tax.total, tax, currency),
    }
}

// === payments ===

fn payments(order: &Order<'_>, draft: &mut Draft) {
    let method = order.payment_method.owned().or(order.payment_method_title.owned());
    let paid = given(&order.date_paid_gmt).or(given(&order.date_paid)).is_some();
    let state = if paid { PaymentState::Captured } else { PaymentState::Unknown };
    if let Some(method) = method {
        let reference = order.transaction_id.owned();
        let amount = amount(order.total);
        draft.payments.push(Payment { method, amount, state, reference });
    }
    let cards: Vec<Decimal> =
        order.gift_cards.iter().filter_map(|card| amount(card.amount)).collect();
    let redeemed: Decimal = cards.iter().sum();
    for amount in cards {
        let (method, amount) = ("gift_card".to_owned(), Some(amount));
        // Its code is as good as money, so it is no reference.
        let state = PaymentState::Captured;
        draft.payments.push(Payment { method, amount, state, reference: None });
    }
    if !redeemed.is_zero() {
        draft.lines.push(summary::Line {
            number: 0,
            kind: LineKind::Fee,
            delivery_group: None,
            product_code: String::new(),
            name: "Paid by gift card".to_owned(),
            quantity: Decimal::ONE,
            unit_price: -redeemed,
            line_amount: -redeemed,
            adjustments: Vec::new(),
            taxes: Vec::new(),
        });
    }
}
