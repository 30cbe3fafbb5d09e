//! Shopify's order webhook: the order object itself, amounts as strings, ids as big numbers.

use std::fmt::{self, Write};

use super::cart::{Address, Cart};
use super::content::{Content, Status};
use super::text::{Json, Utc};

/// Ids lie beyond 2^53 and differ by one, so that a reader that goes through a float merges orders.
pub(super) fn id(n: u32) -> String {
    (820_982_911_946_000_000 + u64::from(n)).to_string()
}

pub(super) fn number(n: u32) -> String {
    format!("#{}", 1001 + n)
}

pub(super) fn write(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    let zero = order.zero();
    let (id, number) = (&order.id, &order.number);
    let created = Utc(cart.placed_ms);
    let updated = Utc(order.changed_ms());
    let cancelled = order.status == Status::Cancelled;
    let test = order.status == Status::NotAnOrder;
    let paid = if order.status == Status::Held { "pending" } else { "paid" };
    write!(
        out,
        r#"{{"id":{id},"admin_graphql_api_id":"gid://shopify/Order/{id}","name":{},"order_number":{},"number":{},"confirmed":true,"test":{test},"#,
        Json(number),
        number.trim_start_matches('#'),
        order.n + 1,
    )?;
    write!(
        out,
        r#""created_at":"{created}+00:00","processed_at":"{created}+00:00","updated_at":"{updated}+00:00","#
    )?;
    if cancelled {
        write!(out, r#""cancelled_at":"{updated}+00:00","cancel_reason":"customer","#)?;
    } else {
        out.push_str(r#""cancelled_at":null,"cancel_reason":null,"#);
    }
    write!(
        out,
        r#""currency":"{0}","presentment_currency":"{0}","financial_status":"{paid}","fulfillment_status":null,"taxes_included":false,"email":{1},"contact_email":{1},"phone":null,"customer_locale":"{2}","source_name":"web","note":{3},"tags":"flash-sale","#,
        order.currency(),
        Json(&cart.email),
        cart.market.locale,
        Json(cart.note),
    )?;
    write!(
        out,
        r#""total_line_items_price":"{}","total_discounts":"{}","subtotal_price":"{}","total_tax":"{}","total_price":"{grand}","current_total_price":"{grand}","total_outstanding":"{zero}","#,
        cart.subtotal(),
        cart.discount(),
        cart.merchandise(),
        cart.tax(),
        grand = cart.grand_total(),
    )?;
    write!(
        out,
        r#""total_shipping_price_set":{{"shop_money":{{"amount":"{0}","currency_code":"{1}"}}}},"tax_lines":[{{"price":"{2}","rate":{3},"title":{4}}}],"#,
        cart.delivery,
        order.currency(),
        cart.tax(),
        cart.rate(),
        Json(cart.market.tax_name),
    )?;
    match cart.coupon {
        Some((code, _)) => write!(
            out,
            r#""discount_codes":[{{"code":"{code}","amount":"{}","type":"percentage"}}],"#,
            cart.coupon_discount(),
        )?,
        None => out.push_str(r#""discount_codes":[],"#),
    }
    write!(
        out,
        r#""customer":{{"id":{},"email":{},"first_name":{},"last_name":{},"verified_email":true}},"#,
        7_000_000_000_000u64 + u64::from(cart.customer),
        Json(&cart.email),
        Json(cart.first_name),
        Json(cart.last_name),
    )?;
    out.push_str(r#""billing_address":"#);
    address(out, cart, &cart.billing)?;
    out.push_str(r#","shipping_address":"#);
    address(out, cart, &cart.shipping)?;
    lines(out, order)?;
    write!(
        out,
        r#"],"shipping_lines":[{{"id":{},"code":{name},"title":{name},"price":"{price}","discounted_price":"{price}","tax_lines":[{{"price":"{}","rate":{},"title":{}}}]}}],"payment_gateway_names":["shopify_payments"]}}"#,
        3_000_000_000u64 + u64::from(order.n),
        cart.delivery_tax,
        cart.rate(),
        Json(cart.market.tax_name),
        name = Json(cart.delivery_name),
        price = cart.delivery,
    )
}

fn lines(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    out.push_str(r#","line_items":["#);
    for (at, line) in (0u64..).zip(&cart.lines) {
        if at > 0 {
            out.push(',');
        }
        write!(
            out,
            r#"{{"id":{},"sku":{},"title":{},"variant_title":{},"quantity":{},"price":"{}","total_discount":"0.00","grams":250,"requires_shipping":true,"taxable":true,"#,
            9_000_000_000_000_000_000u64 + u64::from(order.n) * 16 + at,
            Json(line.sku),
            Json(line.name),
            Json(line.variant),
            line.quantity,
            line.unit,
        )?;
        out.push_str(r#""discount_allocations":["#);
        let mut parts = [line.own_discount, line.coupon_share].into_iter().filter(|d| !d.is_zero());
        if let Some(amount) = parts.next() {
            write!(out, r#"{{"amount":"{amount}","discount_application_index":0}}"#)?;
        }
        if let Some(amount) = parts.next() {
            write!(out, r#",{{"amount":"{amount}","discount_application_index":1}}"#)?;
        }
        write!(
            out,
            r#"],"tax_lines":[{{"price":"{}","rate":{},"title":{}}}]}}"#,
            line.tax,
            cart.rate(),
            Json(cart.market.tax_name),
        )?;
    }
    Ok(())
}

fn address(out: &mut String, cart: &Cart, address: &Address) -> fmt::Result {
    write!(
        out,
        r#"{{"first_name":{},"last_name":{},"name":{},"company":null,"address1":{},"address2":{},"city":{},"zip":{},"province_code":{},"country":{},"country_code":"{}","phone":{}}}"#,
        Json(cart.first_name),
        Json(cart.last_name),
        Json(&cart.full_name()),
        Json(&address.street),
        Json(address.extra),
        Json(address.place.city),
        Json(address.place.postal_code),
        Json(address.place.state),
        Json(cart.market.country_name),
        cart.market.country,
        Json(&cart.phone),
    )
}
