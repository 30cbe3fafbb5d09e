//! B2C Commerce's order export: one `<order>` element, net taxation, discounts as price adjustments.

use std::fmt::{self, Write};

use rust_decimal::Decimal;

use super::cart::{Address, Cart};
use super::content::{Content, Status};
use super::text::{Utc, Xml};

pub(super) const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<orders xmlns=\"http://www.demandware.com/xml/impex/order/2006-10-31\">\n";
pub(super) const TAIL: &str = "</orders>\n";

pub(super) fn id(n: u32) -> String {
    format!("{:08}", n + 1)
}

pub(super) fn number(n: u32) -> String {
    id(n)
}

pub(super) fn write(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    let status = match order.status {
        Status::Placed => "NEW",
        Status::Held => "CREATED",
        Status::Cancelled => "CANCELLED",
        Status::NotAnOrder => "FAILED",
    };
    write!(
        out,
        "<order order-no=\"{no}\"><order-date>{}.000Z</order-date><created-by>storefront</created-by><original-order-no>{no}</original-order-no><currency>{}</currency><customer-locale>{}</customer-locale><taxation>net</taxation><invoice-no>{no}-1</invoice-no>",
        Utc(cart.placed_ms),
        order.currency(),
        cart.market.locale,
        no = Xml(&order.id),
    )?;
    write!(
        out,
        "<customer><guest>false</guest><customer-no>{:08}</customer-no><customer-name>{}</customer-name><customer-email>{}</customer-email><billing-address>",
        cart.customer,
        Xml(&cart.full_name()),
        Xml(&cart.email),
    )?;
    address(out, cart, &cart.billing)?;
    write!(
        out,
        "</billing-address></customer><status><order-status>{status}</order-status><shipping-status>NOT_SHIPPED</shipping-status><confirmation-status>CONFIRMED</confirmation-status><payment-status>NOT_PAID</payment-status></status><current-order-no>{}</current-order-no>",
        Xml(&order.id),
    )?;
    lines(out, cart)?;
    out.push_str("<shipping-lineitems><shipping-lineitem>");
    amounts(out, cart.delivery, cart.delivery_tax)?;
    write!(
        out,
        "<base-price>{0}</base-price><lineitem-text>{1}</lineitem-text><tax-basis>{0}</tax-basis><item-id>STANDARD_SHIPPING</item-id><shipment-id>00000001</shipment-id><tax-rate>{2}</tax-rate></shipping-lineitem></shipping-lineitems>",
        cart.delivery,
        cart.delivery_name,
        cart.rate(),
    )?;
    write!(
        out,
        "<shipments><shipment shipment-id=\"00000001\"><status><shipping-status>NOT_SHIPPED</shipping-status></status><shipping-method>{}</shipping-method><shipping-address>",
        cart.delivery_name,
    )?;
    address(out, cart, &cart.shipping)?;
    out.push_str("</shipping-address><gift>false</gift></shipment></shipments>");
    totals(out, cart)?;
    writeln!(
        out,
        "<payments><payment><credit-card><card-type>Visa</card-type><card-number>************1111</card-number><card-holder>{}</card-holder><expiration-month>4</expiration-month><expiration-year>2029</expiration-year></credit-card><amount>{}</amount><processor-id>BASIC_CREDIT</processor-id><transaction-id>T{}</transaction-id></payment></payments></order>",
        Xml(&cart.full_name()),
        cart.grand_total(),
        Xml(&order.id),
    )
}

fn lines(out: &mut String, cart: &Cart) -> fmt::Result {
    out.push_str("<product-lineitems>");
    for (position, line) in (1..).zip(&cart.lines) {
        out.push_str("<product-lineitem>");
        let full_tax = cart.taxed(line.amount);
        amounts(out, line.amount, full_tax)?;
        write!(
            out,
            "<base-price>{}</base-price><lineitem-text>{name}</lineitem-text><tax-basis>{}</tax-basis><position>{position}</position><product-id>{}</product-id><product-name>{name}</product-name><quantity unit=\"\">{}</quantity><tax-rate>{}</tax-rate><shipment-id>00000001</shipment-id><gift>false</gift>",
            line.unit,
            line.amount - line.own_discount,
            Xml(line.sku),
            line.quantity,
            cart.rate(),
            name = Xml(line.name),
        )?;
        if !line.own_discount.is_zero() {
            let tax = cart.taxed(line.amount - line.own_discount) - full_tax;
            adjustment(out, -line.own_discount, tax, "promo-line", None)?;
        }
        out.push_str("</product-lineitem>");
    }
    out.push_str("</product-lineitems>");
    Ok(())
}

fn totals(out: &mut String, cart: &Cart) -> fmt::Result {
    let before: Decimal = cart.merchandise() + cart.coupon_discount();
    let before_tax: Decimal =
        cart.lines.iter().map(|line| cart.taxed(line.amount - line.own_discount)).sum();
    out.push_str("<totals><merchandize-total>");
    amounts(out, before, before_tax)?;
    if let Some((code, _)) = cart.coupon {
        let tax = cart.line_tax() - before_tax;
        adjustment(out, -cart.coupon_discount(), tax, "promo-order", Some(code))?;
    }
    out.push_str("</merchandize-total><adjusted-merchandize-total>");
    amounts(out, cart.merchandise(), cart.line_tax())?;
    out.push_str("</adjusted-merchandize-total><shipping-total>");
    amounts(out, cart.delivery, cart.delivery_tax)?;
    out.push_str("</shipping-total><adjusted-shipping-total>");
    amounts(out, cart.delivery, cart.delivery_tax)?;
    out.push_str("</adjusted-shipping-total><order-total>");
    amounts(out, cart.merchandise() + cart.delivery, cart.tax())?;
    out.push_str("</order-total></totals>");
    Ok(())
}

fn amounts(out: &mut String, net: Decimal, tax: Decimal) -> fmt::Result {
    write!(
        out,
        "<net-price>{net}</net-price><tax>{tax}</tax><gross-price>{}</gross-price>",
        net + tax
    )
}

fn adjustment(
    out: &mut String,
    net: Decimal,
    tax: Decimal,
    promotion: &str,
    coupon: Option<&str>,
) -> fmt::Result {
    out.push_str("<price-adjustments><price-adjustment>");
    amounts(out, net, tax)?;
    write!(
        out,
        "<base-price>{net}</base-price><lineitem-text>{promotion}</lineitem-text><tax-basis>{net}</tax-basis><promotion-id>{promotion}</promotion-id>",
    )?;
    if let Some(code) = coupon {
        write!(out, "<coupon-id>{code}</coupon-id>")?;
    }
    out.push_str("</price-adjustment></price-adjustments>");
    Ok(())
}

fn address(out: &mut String, cart: &Cart, address: &Address) -> fmt::Result {
    write!(
        out,
        "<first-name>{}</first-name><last-name>{}</last-name><address1>{}</address1><address2>{}</address2><city>{}</city><postal-code>{}</postal-code><state-code>{}</state-code><country-code>{}</country-code><phone>{}</phone>",
        Xml(cart.first_name),
        Xml(cart.last_name),
        Xml(&address.street),
        Xml(address.extra),
        Xml(address.place.city),
        Xml(address.place.postal_code),
        Xml(address.place.state),
        cart.market.country,
        Xml(&cart.phone),
    )
}
