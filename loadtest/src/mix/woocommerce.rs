//! WooCommerce's order webhook: the REST order, line totals after discounts, times without a zone.

use std::fmt::{self, Write};

use super::cart::{Address, Cart};
use super::content::{Content, Status};
use super::text::{Json, Utc};

/// Small numbers from 1 up, as every fresh shop counts: the source alone tells two shops apart.
pub(super) fn id(n: u32) -> String {
    (n + 1).to_string()
}

pub(super) fn number(n: u32) -> String {
    format!("W{:06}", n + 1)
}

pub(super) fn write(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    let (created, modified) = (Utc(cart.placed_ms), Utc(order.changed_ms()));
    let status = match order.status {
        Status::Placed => "processing",
        Status::Held => "on-hold",
        Status::Cancelled => "cancelled",
        Status::NotAnOrder => "auto-draft",
    };
    write!(
        out,
        r#"{{"id":{},"parent_id":0,"number":{},"order_key":"wc_order_{:08x}","created_via":"checkout","version":"10.3.4","status":"{status}","currency":"{}","prices_include_tax":false,"#,
        order.id,
        Json(&order.number),
        order.n.wrapping_mul(2_654_435_761),
        order.currency(),
    )?;
    write!(
        out,
        r#""date_created":"{created}","date_created_gmt":"{created}","date_modified":"{modified}","date_modified_gmt":"{modified}","#,
    )?;
    if order.status == Status::Placed {
        write!(out, r#""date_paid":"{created}","date_paid_gmt":"{created}","#)?;
    } else {
        out.push_str(r#""date_paid":null,"date_paid_gmt":null,"#);
    }
    write!(
        out,
        r#""discount_total":"{}","discount_tax":"{}","shipping_total":"{}","shipping_tax":"{}","cart_tax":"{}","total":"{}","total_tax":"{}","#,
        cart.discount(),
        order.zero(),
        cart.delivery,
        cart.delivery_tax,
        cart.line_tax(),
        cart.grand_total(),
        cart.tax(),
    )?;
    write!(
        out,
        r#""customer_id":{},"customer_note":{},"payment_method":"stripe","payment_method_title":"Card (Stripe)","transaction_id":"pi_{:016x}","#,
        cart.customer,
        Json(cart.note),
        u64::from(order.n).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )?;
    out.push_str(r#""billing":{"#);
    address(out, cart, &cart.billing)?;
    write!(out, r#","email":{},"phone":{}}},"shipping":{{"#, Json(&cart.email), Json(&cart.phone))?;
    address(out, cart, &cart.shipping)?;
    out.push_str("},");
    lines(out, order)?;
    write!(
        out,
        r#""shipping_lines":[{{"id":{},"method_title":{},"method_id":"flat_rate","total":"{}","total_tax":"{}","taxes":[]}}],"fee_lines":[],"#,
        order.n + 500_000,
        Json(cart.delivery_name),
        cart.delivery,
        cart.delivery_tax,
    )?;
    match cart.coupon {
        Some((code, _)) => write!(
            out,
            r#""coupon_lines":[{{"id":{},"code":"{code}","discount":"{}","discount_tax":"{}"}}],"#,
            order.n + 700_000,
            cart.coupon_discount(),
            order.zero(),
        )?,
        None => out.push_str(r#""coupon_lines":[],"#),
    }
    write!(
        out,
        r#""tax_lines":[{{"id":{},"rate_code":"{}-1","label":{},"compound":false,"tax_total":"{}","shipping_tax_total":"{}"}}],"refunds":[],"meta_data":[{{"id":1,"key":"_utm_campaign","value":"flash"}}]}}"#,
        order.n + 900_000,
        cart.market.country,
        Json(cart.market.tax_name),
        cart.line_tax(),
        cart.delivery_tax,
    )
}

fn lines(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    out.push_str(r#""line_items":["#);
    for (at, line) in (0u64..).zip(&cart.lines) {
        if at > 0 {
            out.push(',');
        }
        write!(
            out,
            r#"{{"id":{},"name":{},"product_id":{},"variation_id":0,"quantity":{},"tax_class":"","subtotal":"{}","subtotal_tax":"{}","total":"{}","total_tax":"{}","taxes":[{{"id":1,"total":"{}","subtotal":"{}"}}],"meta_data":[],"sku":{},"price":{}}}"#,
            u64::from(order.n) * 16 + at,
            Json(line.name),
            line.sku.len() * 37,
            line.quantity,
            line.amount,
            cart.taxed(line.amount),
            line.price(),
            line.tax,
            line.tax,
            cart.taxed(line.amount),
            Json(line.sku),
            line.unit,
        )?;
    }
    out.push_str("],");
    Ok(())
}

fn address(out: &mut String, cart: &Cart, address: &Address) -> fmt::Result {
    write!(
        out,
        r#""first_name":{},"last_name":{},"company":"","address_1":{},"address_2":{},"city":{},"state":{},"postcode":{},"country":"{}""#,
        Json(cart.first_name),
        Json(cart.last_name),
        Json(&address.street),
        Json(address.extra),
        Json(address.place.city),
        Json(address.place.state),
        Json(address.place.postal_code),
        cart.market.country,
    )
}
