//! Forebay's own canonical JSON: amounts as strings, an explicit version, discounts as positive amounts.

use std::fmt::{self, Write};

use rust_decimal::Decimal;

use super::cart::{Address, Cart, CartLine};
use super::content::{Content, Status};
use super::text::{Json, Utc};

/// Ids with characters that mean something in a path, so that whoever forgets to escape is found out.
pub(super) fn id(n: u32) -> String {
    match n % 4 {
        0 => format!("ORD/2026#{n:07}"),
        1 => format!("büro:{n:07}"),
        _ => format!("018f9c2e-{:04x}-7b3a-9d11-{n:012x}", n % 0xffff),
    }
}

pub(super) fn number(n: u32) -> String {
    format!("F-{:06}", n + 1)
}

pub(super) fn write(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    let status = match order.status {
        Status::Placed => "placed",
        Status::Held => "held",
        Status::Cancelled => "cancelled",
        Status::NotAnOrder => "draft",
    };
    write!(
        out,
        r#"{{"id":{},"number":{},"version":{},"placed_at":"{}Z","currency":"{}","status":"{status}","prices":"net","#,
        Json(&order.id),
        Json(&order.number),
        order.version + 1,
        Utc(cart.placed_ms),
        order.currency(),
    )?;
    write!(
        out,
        r#""totals":{{"grand":"{}","tax":"{}","shipping":"{}","discount":"{}"}},"#,
        cart.grand_total(),
        cart.tax(),
        cart.delivery,
        cart.discount(),
    )?;
    write!(
        out,
        r#""shopper":{{"email":{},"first_name":{},"last_name":{},"phone":{},"customer_id":"{}"}},"billing":"#,
        Json(&cart.email),
        Json(cart.first_name),
        Json(cart.last_name),
        Json(&cart.phone),
        cart.customer,
    )?;
    address(out, cart, &cart.billing)?;
    write!(out, r#","shipments":[{{"id":"s1","method":"{}","address":"#, cart.delivery_name)?;
    address(out, cart, &cart.shipping)?;
    out.push_str(r#"}],"lines":["#);
    // Every other shop states the coupon once for the order, the others its share of each line.
    let once = order.n.is_multiple_of(2);
    lines(out, cart, once)?;
    write!(
        out,
        r#"],"charges":[{{"kind":"delivery","name":"{}","shipment":"s1","amount":"{}","tax":"{}"}}],"#,
        cart.delivery_name, cart.delivery, cart.delivery_tax,
    )?;
    match cart.coupon.filter(|_| once) {
        Some((code, _)) => write!(
            out,
            r#""discounts":[{{"name":"{code}","amount":"{}","tax":"{}"}}],"#,
            cart.coupon_discount(),
            cart.lines.iter().map(|line| coupon_tax(cart, line)).sum::<Decimal>(),
        )?,
        None => out.push_str(r#""discounts":[],"#),
    }
    write!(
        out,
        r#""payments":[{{"method":"card","amount":"{}","state":"authorised","reference":"pay_{:08x}"}}],"note":{}}}"#,
        cart.grand_total(),
        order.n.wrapping_mul(2_654_435_761),
        Json(cart.note),
    )
}

/// The tax that the line's share of the coupon takes off.
fn coupon_tax(cart: &Cart, line: &CartLine) -> Decimal {
    cart.taxed(line.amount - line.own_discount) - line.tax
}

fn lines(out: &mut String, cart: &Cart, coupon_once: bool) -> fmt::Result {
    for (at, line) in cart.lines.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        let before = cart.taxed(line.amount);
        write!(
            out,
            r#"{{"sku":{},"name":{},"shipment":"s1","quantity":{},"unit_price":"{}","amount":"{}","taxes":[{{"name":{},"rate":"{}","amount":"{before}"}}],"discounts":["#,
            Json(line.sku),
            Json(line.name),
            line.quantity,
            line.unit,
            line.amount,
            Json(cart.market.tax_name),
            cart.rate(),
        )?;
        if !line.own_discount.is_zero() {
            write!(
                out,
                r#"{{"name":"Promotion","amount":"{}","tax":"{}"}}"#,
                line.own_discount,
                before - cart.taxed(line.amount - line.own_discount),
            )?;
        }
        if let Some((code, _)) = cart.coupon.filter(|_| !coupon_once) {
            let comma = if line.own_discount.is_zero() { "" } else { "," };
            write!(
                out,
                r#"{comma}{{"name":"{code}","order_level":true,"amount":"{}","tax":"{}"}}"#,
                line.coupon_share,
                coupon_tax(cart, line),
            )?;
        }
        out.push_str("]}");
    }
    Ok(())
}

fn address(out: &mut String, cart: &Cart, address: &Address) -> fmt::Result {
    write!(
        out,
        r#"{{"name":{},"address1":{},"address2":{},"city":{},"postal_code":{},"state":{},"country":"{}"}}"#,
        Json(&cart.full_name()),
        Json(&address.street),
        Json(address.extra),
        Json(address.place.city),
        Json(address.place.postal_code),
        Json(address.place.state),
        cart.market.country,
    )
}
