//! A canonical order becomes an order summary.
//!
//! Where `prices` is gross, the tax stated beside an amount is taken out of it; where it is net, it is
//! not in it. Discounts are positive and become negative adjustments.

use std::collections::HashMap;

use rust_decimal::Decimal;

use super::Forebay;
use super::model::{self, Order};
use crate::json::{self, Amount, Text};
use crate::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, Draft, HeaderAdjustment, Line, LineKind,
    Oddity, Payment, PaymentState, Shopper, Stated, Tax, TaxLocale,
};
use crate::text::{instant_ms, normalise_email};
use crate::{Fingerprint, OrderKey, OrderSummary, Unmappable, exact};

/// The summary of one order's bytes.
pub(crate) fn summarise(
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Result<OrderSummary, Unmappable> {
    let summary = json::decode::<Forebay, _>(bytes, |order| of_order(key, fingerprint, order));
    summary.unwrap_or_else(|fault| {
        Err(Unmappable { code: "unreadable", reason: format!("{fault}; send it again") })
    })
}

fn of_order(
    key: OrderKey,
    fingerprint: Fingerprint,
    order: &Order<'_>,
) -> Result<OrderSummary, Unmappable> {
    let currency = given(&order.currency).and_then(|code| code.parse().ok());
    let currency = currency.ok_or_else(|| Unmappable {
        code: "no_currency",
        reason: "`currency` is missing or no ISO 4217 code; send a newer version with it"
            .to_owned(),
    })?;
    exact::check_parts(parts(order))?;
    let number = owned(&order.number).unwrap_or_else(|| key.id.clone());
    let mut draft = Draft::new(key, fingerprint, currency);
    draft.order_number = number;
    if let Some(date) = given(&order.placed_at) {
        draft.ordered_date_ms = instant_ms(date);
        draft.ordered_date_text = date.to_owned();
    }
    draft.tax_locale = order.prices.map_or(TaxLocale::Net, |prices| prices.0);
    draft.shopper = order.shopper.0.as_ref().map(shopper).unwrap_or_default();
    draft.billing = order.billing.0.as_ref().map(address);
    draft.delivery_groups = order.shipments.iter().map(delivery_group).collect();
    draft.stated = stated(order);
    let mut groups = HashMap::new();
    for line in order.lines.iter() {
        let line = self::line(line, LineKind::Product, &mut draft, &mut groups)?;
        draft.lines.push(line);
    }
    for charge in order.charges.iter() {
        let kind = charge.kind.map_or(LineKind::DeliveryCharge, |kind| kind.0.into());
        let line = self::line(charge, kind, &mut draft, &mut groups)?;
        draft.lines.push(line);
    }
    for discount in order.discounts.iter() {
        let (amount, tax) = less(discount, draft.tax_locale);
        let name = owned(&discount.name).unwrap_or_default();
        draft.header.push(HeaderAdjustment { name, amount, tax });
    }
    draft.payments = order.payments.iter().map(payment).collect();
    let lines = u64::try_from(order.lines.len()).unwrap_or(u64::MAX);
    if order.line_count.is_some_and(|count| count.0 > lines) {
        draft.oddities.push(Oddity::LinesIncomplete);
    }
    exact::check(&draft)?;
    Ok(draft.finish())
}

/// Everything that is summed up, and the shipments that lines are matched with; counted before either.
fn parts(order: &Order<'_>) -> usize {
    let lines = order.lines.iter().chain(order.charges.iter());
    let lines: usize = lines.map(|line| 1 + line.taxes.len() + line.discounts.len()).sum();
    lines + order.shipments.len()
}

fn given<'a>(text: &'a Option<Text<'_>>) -> Option<&'a str> {
    text.as_ref()?.given()
}

fn owned(text: &Option<Text<'_>>) -> Option<String> {
    given(text).map(str::to_owned)
}

fn value(amount: Option<Amount>) -> Option<Decimal> {
    amount?.0
}

fn shopper(shopper: &model::Shopper<'_>) -> Shopper {
    let email = owned(&shopper.email);
    let company = owned(&shopper.company);
    let parts = [given(&shopper.first_name), given(&shopper.last_name)];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let joined = Some(joined).filter(|name| !name.is_empty());
    Shopper {
        email_normalised: email.as_deref().and_then(normalise_email),
        email,
        name: owned(&shopper.name).or(joined).or_else(|| company.clone()),
        first_name: owned(&shopper.first_name),
        last_name: owned(&shopper.last_name),
        company,
        phone: owned(&shopper.phone),
        customer_id: owned(&shopper.customer_id),
    }
}

fn address(address: &model::Address<'_>) -> Address {
    Address {
        name: owned(&address.name),
        company: owned(&address.company),
        address1: owned(&address.address1),
        address2: owned(&address.address2),
        city: owned(&address.city),
        postal_code: owned(&address.postal_code),
        state: owned(&address.state),
        country: owned(&address.country),
        phone: owned(&address.phone),
    }
}

fn delivery_group(shipment: &model::Shipment<'_>) -> DeliveryGroup {
    DeliveryGroup {
        shipment_id: owned(&shipment.id),
        method: owned(&shipment.method),
        address: shipment.address.0.as_ref().map(address),
    }
}

fn stated(order: &Order<'_>) -> Stated {
    let Some(totals) = &order.totals.0 else { return Stated::default() };
    Stated {
        grand_total: value(totals.grand),
        tax_total: value(totals.tax),
        shipping_total: value(totals.shipping),
        discount_total: totals.discount.and_then(|discount| discount.0.0),
    }
}

/// Order-level adjustments met so far, by name.
type Groups<'a> = HashMap<&'a str, usize>;

fn line<'a>(
    line: &'a model::Line<'_>,
    kind: LineKind,
    draft: &mut Draft,
    groups: &mut Groups<'a>,
) -> Result<Line, Unmappable> {
    let quantity = value(line.quantity).unwrap_or(Decimal::ONE);
    let unit_price = value(line.unit_price);
    let amount = match (value(line.amount), unit_price) {
        (Some(amount), _) => amount,
        (None, Some(price)) => exact::times(price, quantity)?,
        (None, None) => Decimal::ZERO,
    };
    let taxes = taxes(line);
    let tax: Decimal = taxes.iter().map(|tax| tax.amount).sum();
    let line_amount = match draft.tax_locale {
        TaxLocale::Net => amount,
        TaxLocale::Gross => amount - tax,
    };
    let adjustments = line.discounts.iter().map(|discount| {
        let (amount, tax) = less(discount, draft.tax_locale);
        let name = given(&discount.name).unwrap_or_default();
        let order_level = discount.order_level.is_some_and(|flag| flag.0);
        let group = order_level.then(|| {
            *groups.entry(name).or_insert_with(|| {
                draft.adjustment_groups.push(AdjustmentGroup { name: name.to_owned() });
                draft.adjustment_groups.len() - 1
            })
        });
        Adjustment { amount, tax, name: name.to_owned(), group }
    });
    let adjustments = adjustments.collect();
    Ok(Line {
        number: 0,
        kind,
        delivery_group: shipment(given(&line.shipment), draft),
        product_code: owned(&line.sku).unwrap_or_default(),
        name: owned(&line.name).unwrap_or_default(),
        quantity,
        unit_price: unit_price.or_else(|| amount.checked_div(quantity)).unwrap_or(amount),
        line_amount,
        adjustments,
        taxes,
    })
}

fn taxes(line: &model::Line<'_>) -> Vec<Tax> {
    let parts = line.taxes.iter().map(|tax| Tax {
        name: owned(&tax.name).unwrap_or_default(),
        rate: tax.rate.and_then(|rate| rate.0.0),
        amount: tax.amount.0.unwrap_or_default(),
    });
    let parts: Vec<Tax> = parts.collect();
    let sum: Decimal = parts.iter().map(|tax| tax.amount).sum();
    match value(line.tax) {
        Some(tax) if tax != sum => vec![Tax { name: String::new(), rate: None, amount: tax }],
        _ => parts,
    }
}

/// Amount without tax, and tax, of a discount; both zero or less.
fn less(discount: &model::Discount<'_>, locale: TaxLocale) -> (Decimal, Decimal) {
    let amount = discount.amount.0.0.unwrap_or_default();
    let tax = discount.tax.and_then(|tax| tax.0.0).unwrap_or_default();
    match locale {
        TaxLocale::Net => (negative(amount), negative(tax)),
        TaxLocale::Gross => (negative(amount - tax), negative(tax)),
    }
}

/// Zero stays plain zero, not minus zero.
fn negative(amount: Decimal) -> Decimal {
    if amount.is_zero() { amount } else { -amount }
}

/// The delivery group a line names; the only one, if it names none.
fn shipment(id: Option<&str>, draft: &mut Draft) -> Option<usize> {
    let Some(id) = id else { return (draft.delivery_groups.len() == 1).then_some(0) };
    let found = draft.delivery_groups.iter().position(|g| g.shipment_id.as_deref() == Some(id));
    if found.is_none() {
        draft.oddities.push(Oddity::UnknownShipment);
    }
    found
}

fn payment(payment: &model::Payment<'_>) -> Payment {
    Payment {
        method: owned(&payment.method).unwrap_or_default(),
        amount: value(payment.amount),
        state: payment.state.map_or(PaymentState::Unknown, |state| state.0),
        reference: owned(&payment.reference),
    }
}
