//! Orders written for these tests, the smallest that say what a test needs.

/// A paid Shopify order. `minute` is its version.
pub(crate) fn shopify(id: u64, minute: u8, total: &str) -> String {
    shopify_with(id, minute, total, r#""financial_status":"paid""#)
}

pub(crate) fn shopify_with(id: u64, minute: u8, total: &str, more: &str) -> String {
    format!(
        r##"{{"id":{id},"name":"#{id}","created_at":"2026-11-25T10:00:00Z","updated_at":"2026-11-25T10:{minute:02}:00Z","currency":"EUR","total_price":"{total}","email":"Shopper@Example.com ",{more},"line_items":[{{"id":1,"title":"Jar","sku":"jar","quantity":1,"price":"{total}"}}]}}"##
    )
}

/// A paid WooCommerce order.
pub(crate) fn woocommerce(id: u64, total: &str) -> String {
    format!(
        r#"{{"id":{id},"number":"{id}","status":"processing","currency":"EUR","date_created_gmt":"2026-11-25T10:00:00","date_modified_gmt":"2026-11-25T10:00:00","total":"{total}","billing":{{"email":"shopper@example.com"}},"line_items":[{{"id":1,"name":"Jar","product_id":3,"quantity":1,"subtotal":"{total}","total":"{total}","total_tax":"0.00"}}]}}"#
    )
}

/// One B2C Commerce order element.
pub(crate) fn xml_order(number: &str, status: &str, gross: &str) -> String {
    format!(
        r#"<order order-no="{number}"><order-date>2026-11-25T10:00:00.000Z</order-date><currency>EUR</currency><status><order-status>{status}</order-status></status><product-lineitems><product-lineitem><net-price>{gross}</net-price><tax>0.00</tax><gross-price>{gross}</gross-price><base-price>{gross}</base-price><lineitem-text>Jar</lineitem-text><tax-basis>{gross}</tax-basis><position>1</position><product-id>jar</product-id><quantity unit="">1.0</quantity><tax-rate>0.0</tax-rate></product-lineitem></product-lineitems><totals><order-total><net-price>{gross}</net-price><tax>0.00</tax><gross-price>{gross}</gross-price></order-total></totals></order>"#
    )
}

/// A B2C Commerce document of these orders.
pub(crate) fn xml(orders: &[String]) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><orders xmlns="http://www.demandware.com/xml/impex/order/2006-10-31">{}</orders>"#,
        orders.concat()
    )
}

/// One order-summary graph.
pub(crate) fn graph(id: &str, reference: &str, description: &str) -> String {
    format!(
        r#"{{"orderSummaryGraphId":"{id}","purchaseSupportDetails":[],"purchaseDetails":[{{"referenceId":"refOrder","attributes":{{"attributes":{{"type":"OrderSummary"}},"OrderNumber":"N-{id}","OrderLifeCycleType":"MANAGED","BillingEmailAddress":"shopper@example.com","OrderedDate":"2026-11-25T10:00:00.000Z","Description":"{description}","ExternalReferenceIdentifier":"{reference}","CurrencyIsoCode":"EUR"}}}},{{"referenceId":"refItem","attributes":{{"attributes":{{"type":"OrderItemSummary"}},"Description":"Jar","Type":"Order Product","Quantity":1,"TotalLineAmount":10,"LineNumber":1,"UnitPrice":10,"ListPrice":10,"OrderSummaryId":"@{{refOrder.id}}"}}}}]}}"#
    )
}

pub(crate) fn graphs(graphs: &[String]) -> String {
    format!(r#"{{"orderSummaryGraphs":[{}]}}"#, graphs.join(","))
}
