//! Salesforce's order-summary graph: support records, then the summary's records, tied by references.
//! Amounts are JSON numbers; there is no stated grand total, the parts are the order.

use std::fmt::{self, Write};

use rust_decimal::Decimal;

use super::cart::{Cart, CartLine};
use super::content::Content;
use super::text::{Json, Utc};

pub(super) const HEAD: &str = r#"{"orderSummaryGraphs":["#;
pub(super) const TAIL: &str = "]}";

/// The identity B2C Commerce gives: realm_instance@catalog@order-number.
pub(super) fn id(n: u32) -> String {
    format!("zzaa_prd@storefront-catalog@{}", number(n))
}

pub(super) fn number(n: u32) -> String {
    format!("SO{:07}", n + 1)
}

pub(super) fn write(out: &mut String, order: &Content<'_>) -> fmt::Result {
    write!(out, r#"{{"orderSummaryGraphId":"graph-{}","purchaseSupportDetails":["#, order.n)?;
    support(out, order)?;
    out.push_str(r#"],"purchaseDetails":["#);
    summary(out, order)?;
    payment(out, order)?;
    let cart = order.cart;
    if let Some((code, _)) = cart.coupon {
        write!(
            out,
            r#",{{"referenceId":"refHeader","attributes":{{"attributes":{{"type":"OrderAdjustmentGroupSummary"}},"Name":"{code}","Type":"Header","OrderSummaryId":"@{{refOrderSummary.id}}"}}}}"#
        )?;
    }
    for (at, line) in (1..).zip(&cart.lines) {
        product(out, order, at, line)?;
    }
    let item = "refShipping";
    write!(
        out,
        r#",{{"referenceId":"{item}","attributes":{{"attributes":{{"type":"OrderItemSummary"}},"Description":"{}","Type":"Delivery Charge","Quantity":1,"TotalLineAmount":{1},"LineNumber":{2},"UnitPrice":{1},"OrderSummaryId":"@{{refOrderSummary.id}}","OrderDeliveryGroupSummaryId":"@{{refOrderDeliveryGroup.id}}"}}}}"#,
        cart.delivery_name,
        cart.delivery,
        cart.lines.len() + 1,
    )?;
    tax(out, cart, item, None, cart.delivery_tax)?;
    out.push_str("]}");
    Ok(())
}

fn support(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    write!(
        out,
        r#"{{"referenceId":"refAccount","attributes":{{"attributes":{{"type":"Account"}},"Name":{},"FirstName":{},"LastName":{},"PersonEmail":{},"isPersonAccount":true}}}},"#,
        Json(&cart.full_name()),
        Json(cart.first_name),
        Json(cart.last_name),
        Json(&cart.email),
    )?;
    for (at, line) in (1..).zip(&cart.lines) {
        write!(
            out,
            r#"{{"referenceId":"refProduct2_{at}","attributes":{{"attributes":{{"type":"Product2"}},"Name":{},"StockKeepingUnit":{sku},"ProductCode":{sku},"IsActive":true}}}},"#,
            Json(line.name),
            sku = Json(line.sku),
        )?;
    }
    write!(
        out,
        r#"{{"referenceId":"refSalesChannel","attributes":{{"attributes":{{"type":"SalesChannel"}},"SalesChannelName":"Storefront {}"}}}},{{"referenceId":"refOrderDeliveryMethod","attributes":{{"attributes":{{"type":"OrderDeliveryMethod"}},"Name":"{1}","ReferenceNumber":"{1}","IsActive":true}}}}"#,
        cart.market.country, cart.delivery_name,
    )
}

fn summary(out: &mut String, order: &Content<'_>) -> fmt::Result {
    let cart = order.cart;
    write!(
        out,
        r#"{{"referenceId":"refOrderSummary","attributes":{{"attributes":{{"type":"OrderSummary"}},"OrderNumber":{},"OrderLifeCycleType":"MANAGED","BillingEmailAddress":{},"BillingPhoneNumber":{},"OrderedDate":"{}.000Z","SalesChannelId":"@{{refSalesChannel.id}}","AccountId":"@{{refAccount.id}}","ExternalReferenceIdentifier":{},"CurrencyIsoCode":"{}","#,
        Json(&order.number),
        Json(&cart.email),
        Json(&cart.phone),
        Utc(cart.placed_ms),
        Json(&order.id),
        order.currency(),
    )?;
    let (billing, shipping) = (&cart.billing, &cart.shipping);
    write!(
        out,
        r#""BillingStreet":{},"BillingCity":{},"BillingPostalCode":{},"BillingState":{},"BillingCountry":"{}","Description":{}}}}},"#,
        Json(&billing.street),
        Json(billing.place.city),
        Json(billing.place.postal_code),
        Json(billing.place.state),
        cart.market.country,
        Json(cart.note),
    )?;
    write!(
        out,
        r#"{{"referenceId":"refOrderDeliveryGroup","attributes":{{"attributes":{{"type":"OrderDeliveryGroupSummary"}},"EmailAddress":{},"DeliverToName":{},"DeliverToStreet":{},"DeliverToCity":{},"DeliverToPostalCode":{},"DeliverToState":{},"DeliverToCountry":"{}","OrderDeliveryMethodId":"@{{refOrderDeliveryMethod.id}}","OrderSummaryId":"@{{refOrderSummary.id}}"}}}},"#,
        Json(&cart.email),
        Json(&cart.full_name()),
        Json(&shipping.street),
        Json(shipping.place.city),
        Json(shipping.place.postal_code),
        Json(shipping.place.state),
        cart.market.country,
    )
}

fn payment(out: &mut String, order: &Content<'_>) -> fmt::Result {
    write!(
        out,
        r#"{{"referenceId":"refCardPaymentMethod","attributes":{{"attributes":{{"type":"CardPaymentMethod"}},"Status":"Active","InputCardNumber":"************1234","CardType":"Visa","AccountId":"@{{refAccount.id}}","ProcessingMode":"External"}}}},{{"referenceId":"refOrderPaymentSummary","attributes":{{"attributes":{{"type":"OrderPaymentSummary"}},"OrderSummaryId":"@{{refOrderSummary.id}}"}}}},{{"referenceId":"refPayment","attributes":{{"attributes":{{"type":"PaymentAuthorization"}},"Amount":{},"ProcessingMode":"External","Status":"Processed","GatewayRefNumber":"{:010}","PaymentMethodId":"@{{refCardPaymentMethod.id}}","OrderPaymentSummaryId":"@{{refOrderPaymentSummary.id}}"}}}}"#,
        order.cart.grand_total(),
        order.n,
    )
}

/// A product's line, its tax on the full amount, and its adjustments with the tax each takes off.
fn product(out: &mut String, order: &Content<'_>, at: usize, line: &CartLine) -> fmt::Result {
    let cart = order.cart;
    let item = format!("refOrderItem_{at}");
    write!(
        out,
        r#",{{"referenceId":"{item}","attributes":{{"attributes":{{"type":"OrderItemSummary"}},"Description":{},"Type":"Order Product","Quantity":{},"TotalLineAmount":{},"LineNumber":{at},"UnitPrice":{},"OrderSummaryId":"@{{refOrderSummary.id}}","OrderDeliveryGroupSummaryId":"@{{refOrderDeliveryGroup.id}}","Product2Id":"@{{refProduct2_{at}.id}}"}}}}"#,
        Json(line.name),
        line.quantity,
        line.amount,
        line.unit,
    )?;
    let full = cart.taxed(line.amount);
    let after_own = cart.taxed(line.amount - line.own_discount);
    tax(out, cart, &item, None, full)?;
    if !line.own_discount.is_zero() {
        adjustment(out, cart, &item, "own", -line.own_discount, after_own - full)?;
    }
    if !line.coupon_share.is_zero() {
        adjustment(out, cart, &item, "header", -line.coupon_share, line.tax - after_own)?;
    }
    Ok(())
}

fn adjustment(
    out: &mut String,
    cart: &Cart,
    item: &str,
    kind: &str,
    amount: Decimal,
    tax_off: Decimal,
) -> fmt::Result {
    write!(
        out,
        r#",{{"referenceId":"{item}_{kind}","attributes":{{"attributes":{{"type":"OrderItemAdjustmentLineSummary"}},"Name":"{kind} discount","Amount":{amount},"OrderItemSummaryId":"@{{{item}.id}}","#
    )?;
    if kind == "header" {
        out.push_str(r#""OrderAdjustmentGroupSummaryId":"@{refHeader.id}","#);
    }
    out.push_str(r#""OrderSummaryId":"@{refOrderSummary.id}"}}"#);
    tax(out, cart, item, Some(kind), tax_off)
}

/// Tax on a line, or on one of its adjustments.
fn tax(
    out: &mut String,
    cart: &Cart,
    item: &str,
    adjustment: Option<&str>,
    amount: Decimal,
) -> fmt::Result {
    let of = adjustment.unwrap_or("line");
    write!(
        out,
        r#",{{"referenceId":"{item}_{of}_tax","attributes":{{"attributes":{{"type":"OrderItemTaxLineItemSummary"}},"Name":{},"Type":"Estimated","Amount":{amount},"Rate":{},"OrderItemSummaryId":"@{{{item}.id}}","#,
        Json(cart.market.tax_name),
        cart.rate(),
    )?;
    if let Some(kind) = adjustment {
        write!(out, r#""OrderItemAdjustmentLineSummaryId":"@{{{item}_{kind}.id}}","#)?;
    }
    out.push_str(r#""OrderSummaryId":"@{refOrderSummary.id}"}}"#);
    Ok(())
}
