//! From a Shopify order to an order summary.

use rust_decimal::Decimal;

use super::wire::{Address, Allocation, Customer, Line, Order, PriceSet, Shipping, Tax};
use super::{given, readiness};
use crate::exact::{check, check_parts, proportion, times};
use crate::json::{Amount, Label, Obj};
use crate::readiness::Readiness;
use crate::summary::{
    self, Adjustment, AdjustmentGroup, DeliveryGroup, Draft, HeaderAdjustment, LineKind, Oddity,
    Payment, PaymentState, Shopper, Stated, TaxLocale, shares,
};
use crate::text::{instant_ms, normalise_email, short_name};
use crate::{Currency, Fingerprint, OrderKey, OrderSummary, Unmappable};

/// More taxes of an order than this are distributed as one.
const TAX_NAMES_MAX: usize = 10;

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
            return Err(not_an_order());
        }
        Ok((_, unplaced)) => unplaced,
    };
    check_parts(parts(order))?;
    let currency = currency(order)?;
    let mut draft = Draft::new(key, fingerprint, currency);
    draft.order_number = order.number().to_owned();
    let ordered = given(&order.processed_at).or(given(&order.created_at)).unwrap_or_default();
    draft.ordered_date_text = ordered.to_owned();
    draft.ordered_date_ms = instant_ms(ordered);
    let gross = order.taxes_included.is_some_and(|flag| flag.0);
    draft.tax_locale = if gross { TaxLocale::Gross } else { TaxLocale::Net };
    draft.stated = stated(order, currency);
    people(order, &mut draft);
    let mut pricing =
        Pricing { order, currency, gross, groups: Vec::new(), allocated: Decimal::ZERO };
    for line in order.line_items.iter().flat_map(|lines| lines.iter()) {
        draft.lines.push(pricing.product(line, !draft.delivery_groups.is_empty())?);
    }
    for line in order.shipping_lines.iter() {
        draft.lines.push(pricing.shipping(line)?);
    }
    charges(order, currency, &mut draft);
    let Pricing { groups, allocated, .. } = pricing;
    draft.adjustment_groups = groups.into_iter().map(|(_, group)| group).collect();
    unallocated_discount(order, allocated, &mut draft);
    unallocated_tax(order, &mut draft);
    draft.payments = payments(order);
    if unplaced {
        draft.oddities.push(Oddity::Unplaced);
    }
    check(&draft)?;
    Ok(draft.finish())
}

/// Everything in the order that becomes a line, a discount or a tax.
fn parts(order: &Order<'_>) -> usize {
    let lines = order.line_items.iter().flat_map(|lines| lines.iter());
    let lines: usize = lines.map(|l| 1 + l.discount_allocations.len() + l.tax_lines.len()).sum();
    let charges = order.shipping_lines.iter();
    let charges: usize =
        charges.map(|l| 1 + l.discount_allocations.len() + l.tax_lines.len()).sum();
    lines + charges + order.tax_lines.len()
}

fn not_an_order() -> Unmappable {
    let reason = "not an order; discard it, or have the order itself sent".to_owned();
    Unmappable { code: "not_an_order", reason }
}

fn currency(order: &Order<'_>) -> Result<Currency, Unmappable> {
    given(&order.currency).and_then(|code| code.parse().ok()).ok_or_else(|| Unmappable {
        code: "no_currency",
        reason: "the order names no ISO 4217 currency; send `currency`".to_owned(),
    })
}

fn amount(amount: Option<Amount>) -> Option<Decimal> {
    amount.and_then(|amount| amount.0)
}

/// The shop's amount of a price set, where it is in the order's currency.
fn shop_money(set: &Obj<PriceSet<'_>>, currency: Currency) -> Option<Decimal> {
    let money = set.0.as_ref()?.shop_money.0.as_ref()?;
    let same = given(&money.currency_code).is_none_or(|code| code == currency.code());
    amount(money.amount).filter(|_| same)
}

fn stated(order: &Order<'_>, currency: Currency) -> Stated {
    let of_lines = || {
        let prices = order.shipping_lines.iter().filter_map(|line| amount(line.price));
        (!order.shipping_lines.is_empty()).then(|| prices.sum())
    };
    Stated {
        grand_total: amount(order.total_price),
        tax_total: amount(order.total_tax),
        shipping_total: shop_money(&order.total_shipping_price_set, currency).or_else(of_lines),
        discount_total: amount(order.total_discounts),
    }
}

// === people and places ===

fn people(order: &Order<'_>, draft: &mut Draft) {
    let none = Customer::default();
    let customer = order.customer.0.as_ref().unwrap_or(&none);
    let billing = order.billing_address.0.as_ref();
    let first = customer.first_name.owned().or(billing.and_then(|b| b.first_name.owned()));
    let last = customer.last_name.owned().or(billing.and_then(|b| b.last_name.owned()));
    let company = billing.and_then(|b| b.company.owned());
    let whole = [first.as_deref(), last.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    let name = Some(whole.join(" ")).filter(|name| !name.is_empty());
    draft.shopper = Shopper {
        email_normalised: order.email().and_then(normalise_email),
        email: order.email().map(str::to_owned),
        name: name.or(billing.and_then(|b| b.name.owned())).or(company.clone()),
        first_name: first,
        last_name: last,
        company,
        phone: order.phone.owned().or(customer.phone.owned()),
        customer_id: customer.id.owned(),
    };
    draft.billing = billing.map(address);
    let ship_to = order.shipping_address.0.as_ref().map(address);
    let method = order.shipping_lines.iter().find_map(|line| line.title.owned());
    if ship_to.is_some() || !order.shipping_lines.is_empty() {
        draft.delivery_groups.push(DeliveryGroup { shipment_id: None, method, address: ship_to });
    }
}

fn address(from: &Address<'_>) -> summary::Address {
    let parts = [from.first_name.given(), from.last_name.given()];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    summary::Address {
        name: from.name.owned().or(Some(joined).filter(|name| !name.is_empty())),
        company: from.company.owned(),
        address1: from.address1.owned(),
        address2: from.address2.owned(),
        city: from.city.owned(),
        postal_code: from.zip.owned(),
        state: from.province_code.owned().or(from.province.owned()),
        country: from.country_code.owned().or(from.country.owned()),
        phone: from.phone.owned(),
    }
}

// === lines ===

struct Pricing<'o, 'a> {
    order: &'o Order<'a>,
    currency: Currency,
    gross: bool,
    /// Order-level discounts met so far, by the index of their application.
    groups: Vec<(usize, AdjustmentGroup)>,
    /// Discount found on lines, as stated.
    allocated: Decimal,
}

/// A discount as stated: positive, and with tax where prices hold tax.
struct Discount {
    amount: Decimal,
    name: String,
    group: Option<usize>,
}

impl Pricing<'_, '_> {
    fn product(&mut self, line: &Line<'_>, deliverable: bool) -> Result<summary::Line, Unmappable> {
        let quantity = amount(line.quantity).unwrap_or(Decimal::ONE);
        let unit_price = amount(line.price).unwrap_or_default();
        let mut discounts = self.discounts(&line.discount_allocations);
        let own = amount(line.total_discount).unwrap_or_default();
        if discounts.is_empty() && !own.is_zero() {
            discounts.push(Discount { amount: own, name: String::new(), group: None });
        }
        let shipped = deliverable && line.requires_shipping.is_none_or(|flag| flag.0);
        let code = [&line.sku, &line.variant_id, &line.product_id];
        let stated = summary::Line {
            number: 0,
            kind: LineKind::Product,
            delivery_group: shipped.then_some(0),
            product_code: code.into_iter().find_map(Label::owned).unwrap_or_default(),
            name: line.name.owned().or(line.title.owned()).unwrap_or_default(),
            quantity,
            unit_price,
            line_amount: times(unit_price, quantity)?,
            adjustments: Vec::new(),
            taxes: taxes(&line.tax_lines),
        };
        self.priced(stated, discounts)
    }

    fn shipping(&mut self, line: &Shipping<'_>) -> Result<summary::Line, Unmappable> {
        let price = amount(line.price).unwrap_or_default();
        let mut discounts = self.discounts(&line.discount_allocations);
        let saved = price - amount(line.discounted_price).unwrap_or(price);
        if discounts.is_empty() && saved > Decimal::ZERO {
            discounts.push(Discount { amount: saved, name: String::new(), group: None });
        }
        let stated = summary::Line {
            number: 0,
            kind: LineKind::DeliveryCharge,
            delivery_group: Some(0),
            product_code: line.code.owned().unwrap_or_default(),
            name: line.title.owned().unwrap_or_default(),
            quantity: Decimal::ONE,
            unit_price: price,
            line_amount: price,
            adjustments: Vec::new(),
            taxes: taxes(&line.tax_lines),
        };
        self.priced(stated, discounts)
    }

    fn discounts(&mut self, allocations: &[Allocation<'_>]) -> Vec<Discount> {
        let given = allocations.iter().filter_map(|allocation| {
            let amount = amount(allocation.amount).filter(|amount| !amount.is_zero())?;
            Some((amount, given(&allocation.discount_application_index)?.parse::<usize>().ok()))
        });
        let given: Vec<_> = given.collect();
        given
            .into_iter()
            .map(|(amount, index)| {
                let application =
                    index.and_then(|index| self.order.discount_applications.get(index));
                let name = application.and_then(|a| {
                    [&a.code, &a.title, &a.description]
                        .into_iter()
                        .find_map(|l| l.given().map(short_name))
                });
                let name = name.unwrap_or_default();
                let spread = application.is_some_and(|a| {
                    a.allocation_method.given() == Some("across")
                        && a.target_type.given() != Some("shipping_line")
                });
                let group = index.filter(|_| spread).map(|index| self.group(index, &name));
                Discount { amount, name, group }
            })
            .collect()
    }

    fn group(&mut self, application: usize, name: &str) -> usize {
        let known = self.groups.iter().position(|(index, _)| *index == application);
        known.unwrap_or_else(|| {
            self.groups.push((application, AdjustmentGroup { name: name.to_owned() }));
            self.groups.len() - 1
        })
    }

    /// The line with its discounts, and without tax where its price held tax.
    fn priced(
        &mut self,
        mut line: summary::Line,
        discounts: Vec<Discount>,
    ) -> Result<summary::Line, Unmappable> {
        let taxed: Decimal = line.taxes.iter().map(|tax| tax.amount).sum();
        let saved: Decimal = discounts.iter().map(|discount| discount.amount).sum();
        let charged = line.line_amount - saved;
        let scale = self.currency.exponent().max(taxed.normalize().scale());
        let mut tax_saved = Decimal::ZERO;
        for Discount { amount, name, group } in discounts {
            self.allocated += amount;
            let tax = match self.gross {
                true => proportion(amount, taxed, charged, scale)?,
                false => Decimal::ZERO,
            };
            tax_saved += tax;
            let net = tax - amount;
            let tax = Decimal::ZERO - tax;
            line.adjustments.push(Adjustment { amount: net, tax, name, group });
        }
        if self.gross {
            let weights: Vec<Decimal> = line.taxes.iter().map(|tax| tax.amount).collect();
            let more = shares(tax_saved, &weights, self.currency);
            for (tax, more) in line.taxes.iter_mut().zip(more) {
                tax.amount += more;
            }
            line.line_amount -= taxed + tax_saved;
        }
        Ok(line)
    }
}

fn taxes(lines: &[Tax<'_>]) -> Vec<summary::Tax> {
    lines
        .iter()
        .filter_map(|tax| {
            let name = tax.title.given().map(short_name).unwrap_or_default();
            Some(summary::Tax { name, rate: amount(tax.rate), amount: amount(tax.price)? })
        })
        .collect()
}

/// Charges that have no line of their own in the order: duties, a tip, a delivery price alone.
fn charges(order: &Order<'_>, currency: Currency, draft: &mut Draft) {
    let tip_is_a_line = order.line_items.iter().flat_map(|l| l.iter()).any(|line| line.tip.0);
    let tip = amount(order.total_tip_received).filter(|_| !tip_is_a_line);
    let delivery = shop_money(&order.total_shipping_price_set, currency)
        .filter(|_| order.shipping_lines.is_empty());
    let duties = shop_money(&order.original_total_duties_set, currency);
    let charges = [
        (LineKind::DeliveryCharge, "Shipping", delivery),
        (LineKind::Fee, "Duties", duties),
        (LineKind::Fee, "Tip", tip),
    ];
    for (kind, name, amount) in charges {
        if let Some(amount) = amount.filter(|amount| !amount.is_zero()) {
            let delivered = kind == LineKind::DeliveryCharge && !draft.delivery_groups.is_empty();
            draft.lines.push(summary::Line {
                number: 0,
                kind,
                delivery_group: delivered.then_some(0),
                product_code: String::new(),
                name: name.to_owned(),
                quantity: Decimal::ONE,
                unit_price: amount,
                line_amount: amount,
                adjustments: Vec::new(),
                taxes: Vec::new(),
            });
        }
    }
}

// === what is stated for the order alone ===

/// A discount in the stated total that no line carries.
fn unallocated_discount(order: &Order<'_>, allocated: Decimal, draft: &mut Draft) {
    let rest = amount(order.total_discounts).unwrap_or_default() - allocated;
    if rest > Decimal::ZERO {
        let codes: Vec<&str> = order.discount_codes.iter().filter_map(|c| c.code.given()).collect();
        let name =
            if codes.is_empty() { "Discount".to_owned() } else { short_name(&codes.join(", ")) };
        draft.header.push(HeaderAdjustment { name, amount: -rest, tax: Decimal::ZERO });
    }
}

/// Tax stated for the order where no line states any: shared by the price after discounts.
fn unallocated_tax(order: &Order<'_>, draft: &mut Draft) {
    let total = amount(order.total_tax).unwrap_or_default();
    let on_lines: Decimal =
        draft.lines.iter().flat_map(|line| &line.taxes).map(|tax| tax.amount).sum();
    if !on_lines.is_zero() || total <= Decimal::ZERO {
        return;
    }
    let mut named = taxes(&order.tax_lines);
    if named.iter().map(|tax| tax.amount).sum::<Decimal>() != total {
        named = vec![summary::Tax { name: String::new(), rate: None, amount: total }];
    }
    let items = order.line_items.iter().flat_map(|lines| lines.iter());
    let taxable = items.map(|line| line.taxable.is_none_or(|flag| flag.0));
    let price = |line: &summary::Line| {
        line.line_amount + line.adjustments.iter().map(|a| a.amount).sum::<Decimal>()
    };
    let mut sharing: Vec<&mut summary::Line> = draft
        .lines
        .iter_mut()
        .filter(|line| line.kind == LineKind::Product)
        .zip(taxable)
        .filter(|(line, taxable)| *taxable && price(line) > Decimal::ZERO)
        .map(|(line, _)| line)
        .collect();
    if named.len() > TAX_NAMES_MAX {
        named = vec![summary::Tax { name: String::new(), rate: None, amount: total }];
    }
    if sharing.is_empty() {
        return;
    }
    let weights: Vec<Decimal> = sharing.iter().map(|line| price(line)).collect();
    for tax in named {
        let parts = shares(tax.amount, &weights, draft.currency);
        for (line, amount) in sharing.iter_mut().zip(parts) {
            if draft.tax_locale == TaxLocale::Gross {
                line.line_amount -= amount;
            }
            line.taxes.push(summary::Tax { amount, ..tax.clone() });
        }
    }
    draft.oddities.push(Oddity::TaxDistributed);
}

// === payments ===

fn payments(order: &Order<'_>) -> Vec<Payment> {
    let mut methods: Vec<String> =
        order.payment_gateway_names.0.iter().filter_map(Label::owned).collect();
    if methods.is_empty() {
        methods.extend(order.gateway.owned());
    }
    let total = amount(order.total_price);
    let status = given(&order.financial_status).unwrap_or_default().to_ascii_lowercase();
    let (state, paid) = match status.as_str() {
        "paid" | "partially_refunded" | "refunded" => (PaymentState::Captured, total),
        "authorized" => (PaymentState::Authorised, total),
        "partially_paid" => {
            let paid = total.zip(amount(order.total_outstanding)).map(|(all, open)| all - open);
            (PaymentState::Captured, paid)
        }
        _ => (PaymentState::Unknown, total),
    };
    // What each of several methods stands for is not in an order.
    let paid = if methods.len() == 1 { paid } else { None };
    let payment = |method| Payment { method, amount: paid, state, reference: None };
    methods.into_iter().map(payment).collect()
}
