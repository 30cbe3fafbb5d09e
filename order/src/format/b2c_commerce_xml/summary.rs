//! One order element becomes an order summary.
//!
//! # Amounts
//! `net-price` is the line amount and `tax` stands beside it, whether the site's prices are net or
//! gross (in a gross order `net-price` is gross less tax). Where `net-price` is missing it is
//! `gross-price` less `tax`, else, in a net order, `base-price` times quantity.
//!
//! | element | becomes |
//! |---|---|
//! | `product-lineitem` | product line; its `price-adjustments` are line adjustments |
//! | its `option-lineitem` | product line of its own, with the product's quantity |
//! | its `bundled-product-lineitem` | product line of amount 0 (the bundle carries the price) |
//! | its `shipping-lineitem` | delivery charge |
//! | `giftcertificate-lineitem` | product line without a code: the certificate's code is worth money and is not copied |
//! | `shipping-lineitems/shipping-lineitem` | delivery charge; its `price-adjustments` are line adjustments |
//! | `totals/merchandize-total/price-adjustments` | order-level adjustments, shared among the product lines |
//! | `totals/shipping-total/price-adjustments` | order-level adjustments, shared among the delivery charges |
//! | `tax-items` (where they add up to `tax`) | one tax each; else one tax of `tax-rate` |
//! | `shipment` | delivery group; its totals repeat the lines and are not read |
//! | `payment` | AUTH authorised; CAPTURE and sale captured; AUTH_REVERSAL, CREDIT and none unknown, the type kept before the transaction id |
//! | `totals/order-total` | stated grand total (`gross-price`) and tax; `adjusted-shipping-total` (else `shipping-total`) stated shipping, net |

use rust_decimal::Decimal;

use crate::money::parse_amount;
use crate::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, Draft, HeaderAdjustment, LifeCycle, Line,
    LineKind, Oddity, Payment, PaymentState, Shopper, Tax, TaxLocale, shares,
};
use crate::text::{instant_ms, normalise_email};
use crate::xml::tree::Element;
use crate::{Fingerprint, OrderKey, OrderSummary, Unmappable, exact};

type Mapped<T> = Result<T, Unmappable>;

/// The summary of one `order` element.
pub(crate) fn summarise(
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Mapped<OrderSummary> {
    let order = Element::parse(bytes).map_err(|fault| Unmappable {
        code: "unreadable",
        reason: format!("byte {} of the order: {}; send it again", fault.at, fault.message),
    })?;
    let currency = order.text_of("currency").and_then(|code| code.parse().ok());
    let currency = currency.ok_or_else(|| Unmappable {
        code: "no_currency",
        reason: "`currency` is missing or no ISO 4217 code; correct it at the source".to_owned(),
    })?;
    exact::check_parts(parts(&order))?;
    let mut draft = Draft::new(key, fingerprint, currency);
    draft.order_number = order.attribute("order-no").unwrap_or_default().to_owned();
    if let Some(date) = order.text_of("order-date") {
        draft.ordered_date_ms = instant_ms(date);
        draft.ordered_date_text = date.to_owned();
    }
    if let Some(status) = order.child("status").and_then(|status| status.text_of("order-status")) {
        draft.life_cycle = match status.eq_ignore_ascii_case("COMPLETED") {
            true => LifeCycle::Unmanaged,
            false => LifeCycle::Managed,
        };
    }
    draft.tax_locale = match order.text_of("taxation") {
        Some("gross") => TaxLocale::Gross,
        _ => TaxLocale::Net,
    };
    shopper(&order, &mut draft);
    for shipment in order.each("shipments", "shipment") {
        draft.delivery_groups.push(DeliveryGroup {
            shipment_id: shipment.attribute("shipment-id").map(str::to_owned),
            method: owned(shipment, "shipping-method"),
            address: shipment.child("shipping-address").map(address),
        });
    }
    lines(&order, &mut draft)?;
    totals(&order, &mut draft)?;
    for payment in order.each("payments", "payment") {
        draft.payments.push(self::payment(payment)?);
    }
    exact::check(&draft)?;
    Ok(draft.finish())
}

/// Everything that is summed up, and the shipments that lines are matched with; counted before either.
/// The tree bounds the recursion.
fn parts(element: &Element<'_>) -> usize {
    let own = matches!(element.name, "price-adjustment" | "tax-item" | "payment" | "shipment")
        || element.name.ends_with("-lineitem");
    usize::from(own) + element.children.iter().map(parts).sum::<usize>()
}

fn owned(element: &Element<'_>, name: &str) -> Option<String> {
    element.text_of(name).map(str::to_owned)
}

fn shopper(order: &Element<'_>, draft: &mut Draft) {
    let Some(customer) = order.child("customer") else { return };
    let billing = customer.child("billing-address");
    let of_billing = |name: &str| billing.and_then(|billing| owned(billing, name));
    let email = owned(customer, "customer-email");
    draft.billing = billing.map(address);
    draft.shopper = Shopper {
        email_normalised: email.as_deref().and_then(normalise_email),
        email,
        name: owned(customer, "customer-name")
            .or_else(|| draft.billing.as_ref().and_then(|billing| billing.name.clone())),
        first_name: of_billing("first-name"),
        last_name: of_billing("last-name"),
        company: of_billing("company-name"),
        phone: of_billing("phone"),
        customer_id: owned(customer, "customer-no"),
    };
}

fn address(element: &Element<'_>) -> Address {
    let names = [element.text_of("first-name"), element.text_of("last-name")];
    let name = names.into_iter().flatten().collect::<Vec<_>>().join(" ");
    Address {
        name: Some(name).filter(|name| !name.is_empty()),
        company: owned(element, "company-name"),
        address1: owned(element, "address1"),
        address2: owned(element, "address2"),
        city: owned(element, "city"),
        postal_code: owned(element, "postal-code"),
        state: owned(element, "state-code"),
        country: owned(element, "country-code"),
        phone: owned(element, "phone"),
    }
}

fn lines(order: &Element<'_>, draft: &mut Draft) -> Mapped<()> {
    for item in order.each("product-lineitems", "product-lineitem") {
        product(item, draft)?;
    }
    for item in order.each("giftcertificate-lineitems", "giftcertificate-lineitem") {
        let group = delivery_group(item, draft);
        draft.lines.push(line(item, LineKind::Product, Decimal::ONE, group, draft.tax_locale)?);
    }
    for item in order.each("shipping-lineitems", "shipping-lineitem") {
        let group = delivery_group(item, draft);
        let kind = LineKind::DeliveryCharge;
        let mut line = line(item, kind, Decimal::ONE, group, draft.tax_locale)?;
        line.product_code = owned(item, "item-id").unwrap_or_default();
        draft.lines.push(line);
    }
    Ok(())
}

fn product(item: &Element<'_>, draft: &mut Draft) -> Mapped<()> {
    let locale = draft.tax_locale;
    let group = delivery_group(item, draft);
    let quantity = number(item, "quantity")?.unwrap_or(Decimal::ONE);
    let mut main = line(item, LineKind::Product, quantity, group, locale)?;
    main.product_code = owned(item, "product-id").unwrap_or_default();
    main.name = owned(item, "product-name").unwrap_or(main.name);
    draft.lines.push(main);
    for option in item.each("option-lineitems", "option-lineitem") {
        let mut line = line(option, LineKind::Product, quantity, group, locale)?;
        line.product_code = owned(option, "product-id").unwrap_or_default();
        draft.lines.push(line);
    }
    bundled(item, group, draft)?;
    if let Some(shipping) = item.child("shipping-lineitem") {
        let quantity = number(shipping, "quantity")?.unwrap_or(Decimal::ONE);
        draft.lines.push(line(shipping, LineKind::DeliveryCharge, quantity, group, locale)?);
    }
    Ok(())
}

/// What is in a bundle, down to the bundles in it; the tree bounds the nesting.
fn bundled(item: &Element<'_>, group: Option<usize>, draft: &mut Draft) -> Mapped<()> {
    for part in item.each("bundled-product-lineitems", "bundled-product-lineitem") {
        let quantity = number(part, "quantity")?.unwrap_or(Decimal::ONE);
        let mut line = line(part, LineKind::Product, quantity, group, draft.tax_locale)?;
        line.product_code = owned(part, "product-id").unwrap_or_default();
        line.name = owned(part, "product-name").unwrap_or_default();
        draft.lines.push(line);
        bundled(part, group, draft)?;
    }
    Ok(())
}

/// The delivery group of the item's shipment; a name that no shipment bears is odd.
fn delivery_group(item: &Element<'_>, draft: &mut Draft) -> Option<usize> {
    let id = item.text_of("shipment-id")?;
    let found = draft.delivery_groups.iter().position(|g| g.shipment_id.as_deref() == Some(id));
    if found.is_none() {
        draft.oddities.push(Oddity::UnknownShipment);
    }
    found
}

fn line(
    item: &Element<'_>,
    kind: LineKind,
    quantity: Decimal,
    delivery_group: Option<usize>,
    locale: TaxLocale,
) -> Mapped<Line> {
    let base = number(item, "base-price")?;
    let line_amount = match (net(item)?, base, locale) {
        (Some(net), ..) => net,
        (None, Some(base), TaxLocale::Net) => exact::times(base, quantity)?,
        (None, ..) => Decimal::ZERO,
    };
    let of_one = || line_amount.checked_div(quantity).unwrap_or(line_amount);
    let adjustments = item.each("price-adjustments", "price-adjustment").map(|adjustment| {
        let (name, amount, tax) = adjusted(adjustment)?;
        Ok(Adjustment { amount, tax, name, group: None })
    });
    Ok(Line {
        number: 0,
        kind,
        delivery_group,
        product_code: String::new(),
        name: owned(item, "lineitem-text").unwrap_or_default(),
        quantity,
        unit_price: base.unwrap_or_else(of_one),
        line_amount,
        adjustments: adjustments.collect::<Mapped<_>>()?,
        taxes: taxes(item)?,
    })
}

fn taxes(item: &Element<'_>) -> Mapped<Vec<Tax>> {
    let stated = number(item, "tax")?;
    let items = item.each("tax-items", "tax-item").map(|tax| {
        Ok(Tax {
            name: owned(tax, "tax-id").unwrap_or_default(),
            rate: number(tax, "tax-rate")?,
            amount: number(tax, "tax-amount")?.unwrap_or_default(),
        })
    });
    let items: Vec<Tax> = items.collect::<Mapped<_>>()?;
    let sum: Decimal = items.iter().map(|tax| tax.amount).sum();
    if !items.is_empty() && stated.is_none_or(|stated| stated == sum) {
        return Ok(items);
    }
    let rate = number(item, "tax-rate")?;
    Ok(stated.map(|amount| Tax { name: String::new(), rate, amount }).into_iter().collect())
}

/// `net-price`, else what is left of `gross-price` without tax.
fn net(amounts: &Element<'_>) -> Mapped<Option<Decimal>> {
    if let Some(net) = number(amounts, "net-price")? {
        return Ok(Some(net));
    }
    let tax = number(amounts, "tax")?.unwrap_or_default();
    Ok(number(amounts, "gross-price")?.map(|gross| gross - tax))
}

/// Name, amount without tax, and tax of a price adjustment; a discount's are negative.
fn adjusted(adjustment: &Element<'_>) -> Mapped<(String, Decimal, Decimal)> {
    let names = ["promotion-id", "coupon-id", "reason-code", "lineitem-text"];
    let name = names.into_iter().find_map(|name| owned(adjustment, name)).unwrap_or_default();
    let amount = match net(adjustment)? {
        Some(net) => net,
        None => number(adjustment, "base-price")?.unwrap_or_default(),
    };
    Ok((name, amount, number(adjustment, "tax")?.unwrap_or_default()))
}

fn totals(order: &Element<'_>, draft: &mut Draft) -> Mapped<()> {
    let Some(totals) = order.child("totals") else { return Ok(()) };
    if let Some(merchandise) = totals.child("merchandize-total") {
        for adjustment in merchandise.each("price-adjustments", "price-adjustment") {
            let (name, amount, tax) = adjusted(adjustment)?;
            draft.header.push(HeaderAdjustment { name, amount, tax });
        }
    }
    let shipping = totals.child("shipping-total");
    let mut shipping_adjustments = Vec::new();
    for adjustment in shipping.iter().flat_map(|s| s.each("price-adjustments", "price-adjustment"))
    {
        let (name, amount, tax) = adjusted(adjustment)?;
        shipping_adjustments.push(HeaderAdjustment { name, amount, tax });
    }
    exact::check_parts(shipping_adjustments.len() * draft.lines.len())?;
    for adjustment in shipping_adjustments {
        adjust_delivery(draft, adjustment);
    }
    if let Some(total) = totals.child("order-total") {
        draft.stated.tax_total = number(total, "tax")?;
        draft.stated.grand_total = match number(total, "gross-price")? {
            Some(gross) => Some(gross),
            None => number(total, "net-price")?.zip(draft.stated.tax_total).map(|(n, t)| n + t),
        };
    }
    if let Some(shipping) = totals.child("adjusted-shipping-total").or(shipping) {
        draft.stated.shipping_total = net(shipping)?;
    }
    Ok(())
}

/// Shares an order-level shipping adjustment among the delivery charges; without any it is shared
/// among the products like every other.
fn adjust_delivery(draft: &mut Draft, header: HeaderAdjustment) {
    let paid = |line: &&mut Line| {
        line.kind == LineKind::DeliveryCharge && line.line_amount > Decimal::ZERO
    };
    let mut charges: Vec<&mut Line> = draft.lines.iter_mut().filter(paid).collect();
    if charges.is_empty() {
        draft.header.push(header);
        return;
    }
    let weights: Vec<Decimal> = charges.iter().map(|line| line.line_amount).collect();
    let group = Some(draft.adjustment_groups.len());
    let amounts = shares(header.amount, &weights, draft.currency);
    let taxes = shares(header.tax, &weights, draft.currency);
    for ((line, amount), tax) in charges.iter_mut().zip(amounts).zip(taxes) {
        line.adjustments.push(Adjustment { amount, tax, name: header.name.clone(), group });
    }
    draft.adjustment_groups.push(AdjustmentGroup { name: header.name });
    draft.oddities.push(Oddity::DiscountDistributed);
}

/// Elements of a payment that are not its instrument.
const TRANSACTION: [&str; 8] = [
    "amount",
    "processor-id",
    "transaction-id",
    "transaction-type",
    "account-id",
    "account-type",
    "custom-attributes",
    "ek-id",
];

fn payment(payment: &Element<'_>) -> Mapped<Payment> {
    let instrument = payment.children.iter().find(|child| !TRANSACTION.contains(&child.name));
    let method = match instrument {
        Some(method) if method.name == "custom-method" => method.text_of("method-name"),
        Some(instrument) => Some(instrument.name),
        None => payment.text_of("processor-id"),
    };
    let kind = payment.text_of("transaction-type").map(str::to_ascii_uppercase);
    let transaction = payment.text_of("transaction-id");
    let (state, reference) = match kind.as_deref() {
        Some("AUTH") => (PaymentState::Authorised, transaction.map(str::to_owned)),
        Some("CAPTURE" | "SALE") => (PaymentState::Captured, transaction.map(str::to_owned)),
        Some(kind @ ("AUTH_REVERSAL" | "CREDIT")) => {
            let words: Vec<_> = [kind].into_iter().chain(transaction).collect();
            (PaymentState::Unknown, Some(words.join(" ")))
        }
        _ => (PaymentState::Unknown, transaction.map(str::to_owned)),
    };
    Ok(Payment {
        method: method.unwrap_or_default().to_owned(),
        amount: number(payment, "amount")?,
        state,
        reference,
    })
}

/// The decimal in the child of that name; `None` if it is missing or blank.
fn number(element: &Element<'_>, name: &str) -> Mapped<Option<Decimal>> {
    let mut found = element.all(name);
    let Some(first) = found.next() else { return Ok(None) };
    if found.next().is_some() {
        return Err(Unmappable {
            code: "amount",
            reason: format!("`{}` has `{name}` twice; correct it at the source", element.name),
        });
    }
    let Some(text) = first.text() else { return Ok(None) };
    parse_amount(text).map(Some).map_err(|error| Unmappable {
        code: "amount",
        reason: format!("`{name}` of `{}`: {error}; correct it at the source", element.name),
    })
}
