//! Order bodies written for these tests, each the smallest that says what a test needs, and the channels
//! they are posted to: every JSON and XML format once for a program (`..-api`) and once for a webhook
//! (`..-hook`).

use serde_json::Value;

use crate::harness::{Answer, Forebay, Request};

/// `Content-Type` of JSON.
pub(crate) const JSON: &str = "application/json";
/// `Content-Type` of XML.
pub(crate) const XML: &str = "application/xml";

/// The channels of [`server`]; a source comes from the `Forebay-Source` header, else it is `demo`.
const CHANNELS: [(&str, &str, &str); 8] = [
    ("shop-api", "shopify", "api"),
    ("shop-hook", "shopify", "webhook"),
    ("woo-api", "woocommerce", "api"),
    ("woo-hook", "woocommerce", "webhook"),
    ("xml-api", "b2c-commerce-xml", "api"),
    ("xml-hook", "b2c-commerce-xml", "webhook"),
    ("graphs-api", "salesforce", "api"),
    ("own-api", "forebay", "api"),
];

/// Small slots, so that a test's server costs little disk.
const SMALL: &str = "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n";

/// A server with the channels of both callers; `more` are further sections, or keys of `[buffer]` first.
pub(crate) fn server(more: &str) -> Forebay {
    Forebay::start(&configuration(more, ""))
}

/// A server that keeps every order pending, in reach of any change.
pub(crate) fn undrained() -> Forebay {
    holding("1h")
}

/// A server whose drain takes an order no sooner than `wait` after it came.
pub(crate) fn holding(wait: &str) -> Forebay {
    Forebay::start(&configuration("", &format!("hold_for = \"{wait}\"\n")))
}

fn configuration(more: &str, of_each_channel: &str) -> String {
    let mut text = format!("{SMALL}{more}\n");
    for (name, format, caller) in CHANNELS {
        text.push_str(&format!(
            "[channels.{name}]\nformat = \"{format}\"\ncaller = \"{caller}\"\nsource = \"demo\"\n\
             source_header = \"Forebay-Source\"\n{of_each_channel}"
        ));
    }
    text
}

/// The content type a channel of [`CHANNELS`] reads.
pub(crate) fn kind(channel: &str) -> &'static str {
    if channel.starts_with("xml") { XML } else { JSON }
}

/// Posts to a channel with the content type it reads.
pub(crate) fn post(server: &Forebay, channel: &str, body: impl AsRef<[u8]>) -> Answer {
    server.post(channel, kind(channel), body.as_ref())
}

/// Posts with further headers.
pub(crate) fn post_with(
    server: &Forebay,
    channel: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> Answer {
    let path = format!("/v1/channels/{channel}/orders");
    let request = Request::post(&path, body.as_ref());
    server
        .order(&headers.iter().fold(request, |request, (name, value)| request.header(name, value)))
}

/// The status and the outcome word, for comparing.
pub(crate) fn came_to(answer: &Answer) -> (u16, String) {
    let outcome = answer.json()["outcome"].as_str().unwrap_or_default().to_owned();
    (answer.status, outcome)
}

/// Checks that an answer is a whole problem of this kind, and gives it.
pub(crate) fn problem(answer: &Answer, status: u16, word: &str) -> Value {
    let document = answer.json();
    assert_eq!(answer.status, status, "{document}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{document}");
    assert_eq!(document["type"], format!("https://forebay.dev/problems/{word}"), "{document}");
    assert_eq!(document["status"], status, "{document}");
    for member in ["title", "detail", "instance"] {
        assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{document}");
    }
    match document["retry_after"].as_u64() {
        None => assert_eq!(answer.header("retry-after"), None),
        Some(seconds) => {
            assert!((1..=300).contains(&seconds), "{document}");
            assert_eq!(answer.header("retry-after"), Some(seconds.to_string().as_str()));
        }
    }
    document
}

/// The one open exception of a body that has no key, by the sequence its answer gave; with its bytes.
pub(crate) fn exception(server: &Forebay, answer: &Answer) -> Value {
    let id = answer.json()["sequence"].as_u64().unwrap();
    server.view(&format!("/v1/exceptions/{id}"))
}

/// The summary of an identity, if the OMS has one.
pub(crate) fn summary(server: &Forebay, identity: &str) -> Option<Value> {
    server.summaries().into_iter().find(|summary| summary["identity"] == identity)
}

/// Waits for the summary of an identity.
pub(crate) fn until_summary(server: &Forebay, identity: &str) -> Value {
    server.until(&format!("summary of {identity}"), |server| summary(server, identity))
}

/// A decimal text without what follows from its scale.
pub(crate) fn amount(text: &Value) -> rust_decimal::Decimal {
    text.as_str().unwrap().parse::<rust_decimal::Decimal>().unwrap().normalize()
}

/// A paid Shopify order; `minute` is its version.
pub(crate) fn shopify(id: u64, minute: u8, total: &str) -> String {
    shopify_with(id, minute, total, r#""financial_status":"paid""#)
}

/// A Shopify order with these members besides.
pub(crate) fn shopify_with(id: u64, minute: u8, total: &str, more: &str) -> String {
    format!(
        r##"{{"id":{id},"name":"#{id}","created_at":"2026-11-27T09:00:00Z","updated_at":"2026-11-27T09:{minute:02}:00Z","currency":"EUR","total_price":"{total}","email":"shopper@example.com",{more},"line_items":[{{"id":1,"title":"Bowl","sku":"BOWL","quantity":1,"price":"{total}"}}]}}"##
    )
}

/// A Shopify order that was cancelled.
pub(crate) fn shopify_cancelled(id: u64, minute: u8, total: &str) -> String {
    let more = r#""financial_status":"voided","cancelled_at":"2026-11-27T09:30:00Z""#;
    shopify_with(id, minute, total, more)
}

/// A WooCommerce order of this status; `minute` is its version.
pub(crate) fn woocommerce(id: u64, minute: u8, status: &str, total: &str) -> String {
    format!(
        r#"{{"id":{id},"number":"{id}","status":"{status}","currency":"EUR","date_created_gmt":"2026-11-27T09:00:00","date_modified_gmt":"2026-11-27T09:{minute:02}:00","total":"{total}","billing":{{"email":"shopper@example.com"}},"line_items":[{{"id":1,"name":"Bowl","product_id":3,"quantity":1,"subtotal":"{total}","total":"{total}","total_tax":"0.00"}}]}}"#
    )
}

/// One B2C Commerce order element.
pub(crate) fn xml_order(number: &str, status: &str, gross: &str) -> String {
    format!(
        r#"<order order-no="{number}"><order-date>2026-11-27T09:00:00.000Z</order-date><currency>EUR</currency><customer><customer-email>shopper@example.com</customer-email></customer><status><order-status>{status}</order-status></status><product-lineitems><product-lineitem><net-price>{gross}</net-price><tax>0.00</tax><gross-price>{gross}</gross-price><base-price>{gross}</base-price><lineitem-text>Bowl</lineitem-text><tax-basis>{gross}</tax-basis><position>1</position><product-id>BOWL</product-id><quantity unit="">1.0</quantity><tax-rate>0.0</tax-rate></product-lineitem></product-lineitems><totals><order-total><net-price>{gross}</net-price><tax>0.00</tax><gross-price>{gross}</gross-price></order-total></totals></order>"#
    )
}

/// A B2C Commerce document of these orders.
pub(crate) fn xml(orders: &[String]) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><orders xmlns="http://www.demandware.com/xml/impex/order/2006-10-31">{}</orders>"#,
        orders.concat()
    )
}

/// A placed order in the canonical JSON.
pub(crate) fn own(id: &str, total: &str) -> String {
    format!(
        r#"{{"id":"{id}","currency":"EUR","placed_at":"2026-11-27T09:00:00Z","shopper":{{"email":"shopper@example.com"}},"lines":[{{"sku":"BOWL","name":"Bowl","quantity":1,"unit_price":"{total}","amount":"{total}"}}],"totals":{{"grand":"{total}"}}}}"#
    )
}

/// One order-summary graph.
pub(crate) fn graph(id: &str, reference: &str, total: &str) -> String {
    format!(
        r#"{{"orderSummaryGraphId":"{id}","purchaseSupportDetails":[],"purchaseDetails":[{{"referenceId":"refOrder","attributes":{{"attributes":{{"type":"OrderSummary"}},"OrderNumber":"N-{reference}","OrderLifeCycleType":"MANAGED","BillingEmailAddress":"shopper@example.com","OrderedDate":"2026-11-27T09:00:00.000Z","ExternalReferenceIdentifier":"{reference}","CurrencyIsoCode":"EUR"}}}},{{"referenceId":"refItem","attributes":{{"attributes":{{"type":"OrderItemSummary"}},"Description":"Bowl","Type":"Order Product","Quantity":1,"TotalLineAmount":{total},"LineNumber":1,"UnitPrice":{total},"ListPrice":{total},"OrderSummaryId":"@{{refOrder.id}}"}}}}]}}"#
    )
}

/// Salesforce's request of these graphs.
pub(crate) fn graphs(graphs: &[String]) -> String {
    format!(r#"{{"orderSummaryGraphs":[{}]}}"#, graphs.join(","))
}
