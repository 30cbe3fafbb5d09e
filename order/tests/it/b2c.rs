//! B2C Commerce order XML.

use bytes::Bytes;
use forebay_order::readiness::{HoldReason, RecordedAs};
use forebay_order::summary::{LifeCycle, LineKind, Oddity, PaymentState, TaxLocale};
use forebay_order::{
    Format, Item, ItemResult, Limits, OrderKey, OrderSummary, ReadOptions, Readiness, Unmappable,
    Unreadable, UnreadableKind, read, summarise,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::real;

const FORMAT: Format = Format::B2cCommerceXml;

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn read_with(body: &str, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    read(FORMAT, &Bytes::copy_from_slice(body.as_bytes()), options)
}

fn items(body: &str) -> Vec<ItemResult> {
    read_with(body, &ReadOptions::default()).unwrap()
}

fn one(body: &str) -> Item {
    let mut items = items(body);
    assert_eq!(items.len(), 1);
    items.remove(0).unwrap()
}

fn refused(body: &str) -> Unreadable {
    match read_with(body, &ReadOptions::default()) {
        Err(error) => error,
        Ok(items) => items.into_iter().find_map(Result::err).expect("something to be refused"),
    }
}

fn summary(item: &Item) -> Result<OrderSummary, Unmappable> {
    let key = OrderKey::new("b2c-commerce-xml", "demo", item.id.clone().unwrap());
    summarise(FORMAT, key, item.fingerprint, &item.bytes)
}

fn order(inside: &str) -> String {
    format!(
        "<orders xmlns=\"http://www.demandware.com/xml/impex/order/2006-10-31\">\n  \
         <order order-no=\"A-1\"><order-date>2026-11-25T15:04:05.123Z</order-date>\
         <currency>EUR</currency>{inside}</order>\n</orders>"
    )
}

/// What a summary says of its lines: kind, code, amount, taxes, adjustments as amount/tax, group.
fn shown(summary: &OrderSummary) -> Vec<String> {
    let one = |line: &forebay_order::summary::Line| {
        let taxes: Vec<_> = line.taxes.iter().map(|tax| tax.amount.to_string()).collect();
        let adjustments: Vec<_> = line
            .adjustments
            .iter()
            .map(|a| format!("{}{}/{}", if a.group.is_some() { "H" } else { "L" }, a.amount, a.tax))
            .collect();
        format!(
            "{:?} {} {} [{}] [{}]",
            line.kind,
            line.product_code,
            line.line_amount,
            taxes.join(" "),
            adjustments.join(" ")
        )
    };
    summary.lines.iter().map(one).collect()
}

fn rows() -> Option<Vec<real::Row>> {
    Some(real::rows(&real::orders()?, "sfcc_xml"))
}

fn body(file: &str) -> Bytes {
    std::fs::read(real::orders().unwrap().join(file)).unwrap().into()
}

#[test]
fn real_orders_mean_what_the_table_says() {
    let Some(rows) = rows() else { return };
    for file in ["sfcc_xml/generator__orders_60.xml", "sfcc_xml/order.xsd"] {
        let body = body(file);
        let items = read(FORMAT, &body, &ReadOptions::default()).unwrap();
        let rows: Vec<_> = rows.iter().filter(|row| row["file"] == file).collect();
        assert_eq!(items.len(), rows.len(), "{file}");
        for (item, row) in items.into_iter().zip(rows) {
            let item = item.unwrap();
            let at = format!("{file} item {}", row["item"]);
            assert_eq!(item.id.as_deref().unwrap_or_default(), row["id"], "{at}");
            assert_eq!(item.number, row["number"], "{at}");
            assert_eq!(item.readiness.word(), row["readiness"], "{at}");
            assert!(item.masked.is_empty(), "{at}");
            assert_eq!(item.bytes, body.slice(item.span.clone()), "{at}");
            if row["readiness"] == "recorded" {
                continue;
            }
            let unmanaged = row["reason"].contains("UNMANAGED");
            assert_eq!(item.currency.unwrap().code(), row["currency"], "{at}");
            assert_eq!(item.lines.to_string(), row["lines"], "{at}");
            assert_eq!(item.amount, Some(dec(&row["grand_total"])), "{at}");
            let summary = summary(&item).unwrap();
            assert_eq!(summary.stated.grand_total, Some(dec(&row["grand_total"])), "{at}");
            assert_eq!(summary.stated.tax_total, Some(dec(&row["tax_total"])), "{at}");
            assert_eq!(summary.stated.shipping_total, Some(dec(&row["shipping_total"])), "{at}");
            assert_eq!(summary.life_cycle == LifeCycle::Unmanaged, unmanaged, "{at}");
            assert_eq!(summary.totals.grand_total, dec(&row["grand_total"]), "{at}");
        }
    }
}

#[test]
fn the_real_order_worked_out_by_hand() {
    if rows().is_none() {
        return;
    }
    let items = read(FORMAT, &body("sfcc_xml/generator__orders_60.xml"), &ReadOptions::default());
    let item = items.unwrap().remove(0).unwrap();
    let summary = summary(&item).unwrap();
    // 234.33 + 34.33 + 234.35 + 234.23 = 737.24; charged were 23.33; 23.33 - 737.24 = -713.91.
    assert_eq!(
        shown(&summary),
        [
            "Product 883360352015 234.33 [34.33] []",
            "DeliveryCharge STANDARD_SHIPPING 234.35 [234.23] []",
            "Difference  -713.91 [] []",
        ]
    );
    assert_eq!(summary.difference, dec("-713.91"));
    assert_eq!(summary.totals.total_tax_amount, dec("268.56"));
    assert_eq!(summary.totals.total_amount, dec("-245.23"));
    assert_eq!(summary.totals.grand_total, dec("23.33"));
    assert_eq!(summary.oddities, [Oddity::TotalsDiffer]);
    assert_eq!(summary.ordered_date_ms, Some(1_475_071_235_000));
    assert_eq!(summary.payments[0].amount, Some(dec("2356.33")));
    assert_eq!(summary.payments[0].state, PaymentState::Unknown);
    assert_eq!(summary.shopper.email_normalised.as_deref(), Some("demo@demo.net"));
}

#[test]
fn an_order_number_repeated_with_another_invoice_number_is_the_same_order() {
    let Some(rows) = rows() else { return };
    let items = read(FORMAT, &body("sfcc_xml/generator__orders_60.xml"), &ReadOptions::default());
    let items: Vec<Item> = items.unwrap().into_iter().map(Result::unwrap).collect();
    let mut repeats = 0;
    for (at, item) in items.iter().enumerate() {
        if let Some(first) = items[..at].iter().find(|first| first.id == item.id) {
            assert_eq!(first.fingerprint, item.fingerprint, "item {at}");
            repeats += 1;
        }
    }
    assert_eq!((items.len(), repeats), (rows.len() - 1, 9), "one row is the schema's");
}

fn product(id: &str, net: &str, tax: &str, more: &str) -> String {
    format!(
        "<product-lineitem><net-price>{net}</net-price><tax>{tax}</tax><product-id>{id}</product-id>\
         <quantity unit=\"\">1.0</quantity>{more}</product-lineitem>"
    )
}

fn adjustment(net: &str, tax: &str) -> String {
    format!(
        "<price-adjustments><price-adjustment><net-price>{net}</net-price><tax>{tax}</tax>\
         <promotion-id>P</promotion-id></price-adjustment></price-adjustments>"
    )
}

fn shipping(net: &str, tax: &str, more: &str) -> String {
    format!(
        "<shipping-lineitem><net-price>{net}</net-price><tax>{tax}</tax><item-id>SHIP</item-id>{more}</shipping-lineitem>"
    )
}

fn total(gross: &str, more: &str) -> String {
    format!("<totals>{more}<order-total><gross-price>{gross}</gross-price></order-total></totals>")
}

fn summarised(inside: &str) -> OrderSummary {
    summary(&one(&order(inside))).unwrap()
}

#[test]
fn net_order_with_line_and_order_discount_by_hand() {
    let summary = summarised(&format!(
        "<taxation>net</taxation><product-lineitems>{}{}</product-lineitems>\
         <shipping-lineitems>{}</shipping-lineitems>{}",
        product(
            "A",
            "100.00",
            "19.00",
            &format!("<tax-rate>0.19</tax-rate>{}", adjustment("-10.00", "-1.90"))
        ),
        product("B", "50.00", "9.50", ""),
        shipping("5.00", "0.95", ""),
        total(
            "155.89",
            &format!("<merchandize-total>{}</merchandize-total>", adjustment("-14.00", "-2.66"))
        ),
    ));
    // A stands at 90, B at 50: of -14.00 A takes 9.00 and B 5.00; of -2.66 A takes 1.71 and B 0.95.
    assert_eq!(
        shown(&summary),
        [
            "Product A 100.00 [19.00] [L-10.00/-1.90 H-9.00/-1.71]",
            "Product B 50.00 [9.50] [H-5.00/-0.95]",
            "DeliveryCharge SHIP 5.00 [0.95] []",
        ]
    );
    assert_eq!(summary.lines[0].taxes[0].rate, Some(dec("0.19")));
    assert_eq!(summary.totals.line_adjustment, dec("-10.00"));
    assert_eq!(summary.totals.header_adjustment, dec("-14.00"));
    assert_eq!(summary.totals.total_amount, dec("131.00"));
    assert_eq!(summary.totals.total_tax_amount, dec("24.89"));
    assert_eq!(summary.totals.grand_total, dec("155.89"));
    assert_eq!(summary.difference, dec("0"));
    assert_eq!(summary.adjustment_groups.len(), 1);
}

#[test]
fn gross_order_by_hand() {
    let summary = summarised(&format!(
        "<taxation>gross</taxation><product-lineitems>{}\
         <product-lineitem><tax>1.90</tax><gross-price>11.90</gross-price><product-id>B</product-id>\
         <quantity unit=\"\">2</quantity></product-lineitem></product-lineitems>\
         <shipping-lineitems>{}</shipping-lineitems>{}",
        product(
            "A",
            "100.00",
            "19.00",
            "<gross-price>119.00</gross-price><base-price>119.00</base-price>"
        ),
        shipping("5.00", "0.95", "<gross-price>5.95</gross-price>"),
        total("136.85", ""),
    ));
    assert_eq!(summary.tax_locale, TaxLocale::Gross);
    assert_eq!(
        shown(&summary),
        [
            "Product A 100.00 [19.00] []",
            "Product B 10.00 [1.90] []",
            "DeliveryCharge SHIP 5.00 [0.95] []",
        ]
    );
    assert_eq!(summary.lines[0].unit_price, dec("119.00"), "as the source states it");
    assert_eq!(summary.lines[1].unit_price, dec("5.00"));
    assert_eq!(summary.totals.total_amount, dec("115.00"));
    assert_eq!(summary.totals.total_tax_amount, dec("21.85"));
    assert_eq!(summary.totals.grand_total, dec("136.85"));
    assert_eq!(summary.difference, dec("0"));
}

#[test]
fn options_bundles_and_product_shipping_are_lines_by_hand() {
    let inside = "<option-lineitems><option-lineitem><net-price>5.00</net-price><tax>0.50</tax>\
                  <lineitem-text>Engraving</lineitem-text><option-id>O</option-id><value-id>V</value-id>\
                  <product-id>OPT</product-id></option-lineitem></option-lineitems>\
                  <bundled-product-lineitems><bundled-product-lineitem><product-id>IN</product-id>\
                  <quantity unit=\"\">3</quantity><bundled-product-lineitems><bundled-product-lineitem>\
                  <product-id>DEEP</product-id><quantity unit=\"\">1</quantity></bundled-product-lineitem>\
                  </bundled-product-lineitems></bundled-product-lineitem></bundled-product-lineitems>\
                  <shipping-lineitem><net-price>3.00</net-price><tax>0.30</tax><quantity unit=\"\">1</quantity>\
                  <type>surcharge</type></shipping-lineitem>";
    let summary = summarised(&format!(
        "<product-lineitems>{}</product-lineitems>{}",
        product("A", "20.00", "2.00", inside),
        total("30.80", "")
    ));
    assert_eq!(
        shown(&summary),
        [
            "Product A 20.00 [2.00] []",
            "Product OPT 5.00 [0.50] []",
            "Product IN 0 [] []",
            "Product DEEP 0 [] []",
            "DeliveryCharge  3.00 [0.30] []",
        ]
    );
    assert_eq!(summary.lines[2].quantity, dec("3"));
    assert_eq!(summary.totals.total_amount, dec("28.00"));
    assert_eq!(summary.totals.total_tax_amount, dec("2.80"));
    assert_eq!(summary.totals.grand_total, dec("30.80"));
    assert_eq!(summary.difference, dec("0"));
}

#[test]
fn gift_certificate_without_address_by_hand() {
    let summary = summarised(&format!(
        "<giftcertificate-lineitems><giftcertificate-lineitem><net-price>50.00</net-price>\
         <tax>0.00</tax><lineitem-text>Gift</lineitem-text><giftcertificate-id>SECRET</giftcertificate-id>\
         <shipment-id>S</shipment-id></giftcertificate-lineitem></giftcertificate-lineitems>\
         <shipments><shipment shipment-id=\"S\"/></shipments>{}\
         <payments><payment><gift-certificate/><amount>50.00</amount></payment></payments>",
        total("50.00", "")
    ));
    assert_eq!(shown(&summary), ["Product  50.00 [0.00] []"]);
    assert_eq!(summary.lines[0].delivery_group, Some(0));
    assert_eq!(summary.delivery_groups[0].address, None);
    assert_eq!(summary.payments[0].method, "gift-certificate");
    assert_eq!(summary.totals.grand_total, dec("50.00"));
    assert!(!format!("{summary:?}").contains("SECRET"));
}

#[test]
fn shipments_and_order_level_shipping_discount_by_hand() {
    let summary = summarised(&format!(
        "<product-lineitems>{}{}</product-lineitems><shipping-lineitems>{}{}</shipping-lineitems>\
         <shipments><shipment shipment-id=\"S1\"><shipping-method>001</shipping-method><shipping-address>\
         <first-name>Ada</first-name><last-name>L</last-name><city>Bonn</city></shipping-address></shipment>\
         <shipment shipment-id=\"S2\"/></shipments>{}",
        product("A", "10.00", "1.00", "<shipment-id>S1</shipment-id>"),
        product("B", "10.00", "1.00", "<shipment-id>S9</shipment-id>"),
        shipping("10.00", "1.00", "<shipment-id>S1</shipment-id>"),
        shipping("20.00", "2.00", "<shipment-id>S2</shipment-id>"),
        total(
            "48.40",
            &format!("<shipping-total>{}</shipping-total>", adjustment("-6.00", "-0.60"))
        ),
    ));
    assert_eq!(
        shown(&summary),
        [
            "Product A 10.00 [1.00] []",
            "Product B 10.00 [1.00] []",
            "DeliveryCharge SHIP 10.00 [1.00] [H-2.00/-0.20]",
            "DeliveryCharge SHIP 20.00 [2.00] [H-4.00/-0.40]",
        ]
    );
    let groups: Vec<_> = summary.lines.iter().map(|line| line.delivery_group).collect();
    assert_eq!(groups, [Some(0), None, Some(0), Some(1)]);
    assert!(summary.oddities.contains(&Oddity::UnknownShipment));
    let address = summary.delivery_groups[0].address.as_ref().unwrap();
    assert_eq!(address.name.as_deref(), Some("Ada L"));
    assert_eq!(summary.totals.total_amount, dec("44.00"));
    assert_eq!(summary.totals.total_tax_amount, dec("4.40"));
    assert_eq!(summary.totals.grand_total, dec("48.40"));
    assert_eq!(summary.difference, dec("0"));
}

#[test]
fn several_taxes_of_one_line_by_hand() {
    let items = "<tax-items><tax-item><tax-id>STATE</tax-id><tax-rate>0.06</tax-rate>\
                 <tax-amount>6.00</tax-amount></tax-item><tax-item><tax-id>CITY</tax-id>\
                 <tax-rate>0.02</tax-rate><tax-amount>2.00</tax-amount></tax-item></tax-items>";
    let lines = |tax| {
        format!("<product-lineitems>{}</product-lineitems>", product("A", "100.00", tax, items))
    };
    let summary = summarised(&lines("8.00"));
    assert_eq!(shown(&summary), ["Product A 100.00 [6.00 2.00] []"]);
    assert_eq!(summary.lines[0].taxes[1].name, "CITY");
    assert_eq!(summary.totals.grand_total, dec("108.00"));
    // Where they do not add up, the line's own tax stands.
    assert_eq!(shown(&summarised(&lines("9.00"))), ["Product A 100.00 [9.00] []"]);
}

#[test]
fn pitfall_32_and_33_yen_has_no_decimals_and_a_fraction_is_kept_and_flagged() {
    let body = order(&format!(
        "<product-lineitems>{}</product-lineitems>{}",
        product("A", "1624", "162", ""),
        total("1786.24", "")
    ));
    let item = one(&body.replace("EUR", "JPY"));
    let summary = summary(&item).unwrap();
    assert_eq!(item.amount, Some(dec("1786.24")));
    assert_eq!(summary.totals.grand_total, dec("1786.24"));
    assert_eq!(summary.difference, dec("0.24"));
    assert!(summary.oddities.contains(&Oddity::FractionBeyondCurrency));
}

#[test]
fn pitfall_35_a_discount_of_100_percent_is_a_price_of_zero() {
    let summary = summarised(&format!(
        "<product-lineitems>{}</product-lineitems>{}",
        product(
            "A",
            "30.00",
            "3.00",
            &format!("<base-price>30.00</base-price>{}", adjustment("-30.00", "-3.00"))
        ),
        total("0.00", "")
    ));
    assert_eq!(shown(&summary), ["Product A 30.00 [3.00] [L-30.00/-3.00]"]);
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("0.00"), dec("0")));
    let zero = summarised(&format!(
        "<product-lineitems>{}</product-lineitems>",
        product("A", "0", "0", "<base-price>30</base-price>")
    ));
    assert_eq!(zero.lines[0].line_amount, dec("0"), "zero is a value, not a missing one");
}

#[test]
fn pitfall_31_a_cent_of_difference_is_recorded_not_refused() {
    let summary = summarised(&format!(
        "<product-lineitems>{}</product-lineitems>{}",
        product("A", "92.00", "0", ""),
        total("92.01", "")
    ));
    assert_eq!((summary.difference, summary.totals.grand_total), (dec("0.01"), dec("92.01")));
    assert_eq!(summary.lines[1].kind, LineKind::Difference);
}

#[test]
fn pitfall_36_and_37_no_lines_and_quantity_zero_divide_by_nothing() {
    let none = summarised(&total("5.00", ""));
    assert!(none.oddities.contains(&Oddity::NoLines));
    assert_eq!(none.totals.grand_total, dec("5.00"));
    let zero = "<product-lineitem><net-price>1</net-price><product-id>A</product-id><quantity unit=\"\">0</quantity></product-lineitem>";
    let zero = summarised(&format!("<product-lineitems>{zero}</product-lineitems>"));
    assert_eq!((zero.lines[0].quantity, zero.lines[0].unit_price), (dec("0"), dec("1")));
}

#[test]
fn pitfall_38_and_39_no_customer_and_no_email_are_still_sales() {
    for inside in [
        "<customer-locale>x</customer-locale>",
        "<customer/>",
        "<customer><customer-email> </customer-email></customer>",
    ] {
        let item = one(&order(inside));
        assert_eq!((item.readiness, item.email.clone()), (Readiness::Pending, None));
        let summary = summary(&item).unwrap();
        assert!(summary.oddities.contains(&Oddity::NoEmail), "{inside}");
    }
}

#[test]
fn pitfall_40_a_date_without_zone_names_no_instant() {
    let with = |date: &str| {
        let body = order("<status><order-status>NEW</order-status></status>");
        summary(&one(&body.replace("2026-11-25T15:04:05.123Z", date))).unwrap()
    };
    assert_eq!(with("2026-11-25T15:04:05.123Z").ordered_date_ms, Some(1_795_619_045_123));
    assert_eq!(with("2026-11-25T16:04:05.123+01:00").ordered_date_ms, Some(1_795_619_045_123));
    let local = with("2026-11-25T15:04:05.123");
    assert_eq!(
        (local.ordered_date_ms, &*local.ordered_date_text),
        (None, "2026-11-25T15:04:05.123")
    );
    assert!(local.oddities.contains(&Oddity::NoOrderedInstant));
}

#[test]
fn pitfall_41_and_42_emoji_and_escapes_survive_and_are_decoded_once() {
    let line =
        product("A&amp;amp;B", "1", "0", "<product-name>Tea 🍵 &amp; &lt;Milk&gt;</product-name>");
    let body = order(&format!("<product-lineitems>{line}</product-lineitems>"));
    let item = one(&body);
    assert_eq!(&*item.bytes, &body.as_bytes()[item.span.clone()], "bytes as received");
    let summary = summary(&item).unwrap();
    assert_eq!(summary.lines[0].product_code, "A&amp;B");
    assert_eq!(summary.lines[0].name, "Tea 🍵 & <Milk>");
}

#[test]
fn pitfall_10_and_24_order_numbers_are_text() {
    for number in ["000123", "820982911946154508", "#1001/é", "1,000"] {
        let item = one(&order("<currency-x/>").replace("A-1", number));
        assert_eq!((item.id.as_deref(), &*item.number), (Some(number), number));
    }
}

#[test]
fn readiness_follows_the_table() {
    let with = |status: &str| {
        let item = one(&order(&format!("<status><order-status>{status}</order-status></status>")));
        (item.readiness, item.unplaced)
    };
    assert_eq!(with("NEW"), (Readiness::Pending, false));
    assert_eq!(with("OPEN"), (Readiness::Pending, false));
    assert_eq!(with(" completed "), (Readiness::Pending, false));
    assert_eq!(with("CREATED"), (Readiness::Held(HoldReason::Unconfirmed), false));
    assert_eq!(with("CANCELLED"), (Readiness::Cancelled, false));
    assert_eq!(with("FAILED"), (Readiness::Recorded(RecordedAs::Failed), false));
    assert_eq!(with("REPLACED"), (Readiness::Recorded(RecordedAs::Failed), false));
    assert_eq!(with("SHIPPED?"), (Readiness::Pending, true));
    assert_eq!(with(""), (Readiness::Pending, true));
    let deleted = one("<orders><order order-no='1' mode='delete'/></orders>");
    assert_eq!((deleted.readiness, deleted.id.as_deref()), (Readiness::Cancelled, Some("1")));
    let new = summarised("<status><order-status>NEW</order-status></status>");
    assert_eq!(new.life_cycle, LifeCycle::Managed);
}

#[test]
fn pitfall_19_only_a_number_must_be_fetched() {
    assert_eq!(one("<order order-no='7'/>").readiness, Readiness::FetchNeeded);
    assert_eq!(one("<order order-no='7'> <!-- --> </order>").readiness, Readiness::FetchNeeded);
}

#[test]
fn what_is_no_order_is_recorded() {
    for body in [
        "<schema><order order-no='1'/></schema>",
        "<orders/>",
        "<orders>\n</orders>",
        "<orders><header>x</header></orders>",
    ] {
        let item = one(body);
        assert_eq!(item.readiness, Readiness::Recorded(RecordedAs::Other), "{body}");
        assert_eq!(item.id, None);
    }
}

#[test]
fn payments_say_how_far_they_are() {
    let payment = |kind: &str| {
        format!(
            "<payment><credit-card><card-type>VISA</card-type></credit-card><amount>1.00</amount>\
                 <transaction-id>T</transaction-id><transaction-type>{kind}</transaction-type></payment>"
        )
    };
    let kinds = ["AUTH", "CAPTURE", "sale", "AUTH_REVERSAL", "CREDIT", "OTHER"];
    let all: String = kinds.into_iter().map(payment).collect();
    let custom =
        "<payment><custom-method><method-name>PayPal</method-name></custom-method></payment>";
    let summary = summarised(&format!("<payments>{all}{custom}</payments>"));
    let states: Vec<_> =
        summary.payments.iter().map(|p| (p.state, p.reference.as_deref())).collect();
    assert_eq!(
        states,
        [
            (PaymentState::Authorised, Some("T")),
            (PaymentState::Captured, Some("T")),
            (PaymentState::Captured, Some("T")),
            (PaymentState::Unknown, Some("AUTH_REVERSAL T")),
            (PaymentState::Unknown, Some("CREDIT T")),
            (PaymentState::Unknown, Some("T")),
            (PaymentState::Unknown, None),
        ]
    );
    assert_eq!(
        (&*summary.payments[0].method, &*summary.payments[6].method),
        ("credit-card", "PayPal")
    );
}

const TWO: &str = "<orders>\n<order order-no='1'><currency>EUR</currency><x>{}</x></order>\n\
                   <order order-no='2'><currency>EUR</currency></order>\n</orders>";

#[test]
fn pitfall_17_and_18_one_bad_reference_rejects_its_order_only() {
    for (bad, kind) in [
        ("&#zz;", UnreadableKind::Syntax),
        ("&#0;", UnreadableKind::Syntax),
        ("&#xD83D;", UnreadableKind::Syntax),
        ("A & B", UnreadableKind::Syntax),
        ("&nbsp;", UnreadableKind::Dtd),
        ("a\u{0}b", UnreadableKind::Syntax),
        ("<y a='1' a='2'/>", UnreadableKind::Syntax),
    ] {
        let items = items(&TWO.replace("{}", bad));
        let error = items[0].as_ref().unwrap_err();
        assert_eq!((error.kind, error.line), (kind, 2), "{bad:?}");
        assert_eq!(items[1].as_ref().unwrap().id.as_deref(), Some("2"), "{bad:?}");
    }
    let error = refused(&TWO.replace("{}", "é&#zz;"));
    assert_eq!((error.line, error.column), (2, 49), "counted in characters");
    assert!(error.to_string().contains("line 2, column 49"), "{error}");
}

#[test]
fn a_byte_that_is_no_utf8_rejects_its_order_only() {
    let mut body = TWO.replace("{}", "caf~").into_bytes();
    let at = body.iter().position(|b| *b == b'~').unwrap();
    body[at] = 0xe9;
    let items = read(FORMAT, &Bytes::from(body), &ReadOptions::default()).unwrap();
    let error = items[0].as_ref().unwrap_err();
    assert_eq!((error.kind, error.line, error.column), (UnreadableKind::Encoding, 2, 51));
    assert!(items[1].is_ok());
}

#[test]
fn a_fault_in_the_tags_or_around_the_orders_rejects_the_document() {
    for (body, kind) in [
        (TWO.replace("{}", "<a></b>"), UnreadableKind::Syntax),
        (TWO.replace("{}", "<a>"), UnreadableKind::Syntax),
        (TWO.replace("{}", "<![CDATA["), UnreadableKind::Syntax),
        (TWO.replace("</orders>", ""), UnreadableKind::Syntax),
        (TWO.replace("</orders>", "</orders>x"), UnreadableKind::Syntax),
        (TWO.replace("</orders>", "</orders><orders/>"), UnreadableKind::Syntax),
        (TWO.replace("</orders>", "\u{1}</orders>"), UnreadableKind::Syntax),
        (TWO.replace("</orders>", "&amp;</orders>"), UnreadableKind::Syntax),
        (TWO.replace("<orders>", "<orders>text"), UnreadableKind::Syntax),
        (format!("<!DOCTYPE orders>{TWO}"), UnreadableKind::Dtd),
        (format!("<?xml version='1.0' encoding='UTF-16'?>{TWO}"), UnreadableKind::Encoding),
        (format!(" <?xml version='1.0'?>{TWO}"), UnreadableKind::Syntax),
        ("\u{feff}\u{feff}<orders/>".to_owned(), UnreadableKind::Syntax),
        ("{\"id\":1}".to_owned(), UnreadableKind::Syntax),
        (" ".to_owned(), UnreadableKind::Syntax),
        (String::new(), UnreadableKind::Syntax),
    ] {
        let error = read_with(&body, &ReadOptions::default()).unwrap_err();
        assert_eq!(error.kind, kind, "{body}");
    }
    let utf16: Vec<u8> = "<orders/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let error = read(FORMAT, &Bytes::from(utf16), &ReadOptions::default()).unwrap_err();
    assert_eq!(error.kind, UnreadableKind::Encoding);
}

#[test]
fn entities_are_never_expanded() {
    let bomb = "<!DOCTYPE o [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><orders><order order-no='&b;'/></orders>";
    assert_eq!(refused(bomb).kind, UnreadableKind::Dtd);
    let outside =
        "<!DOCTYPE o [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><order order-no='1'>&x;</order>";
    assert_eq!(refused(outside).kind, UnreadableKind::Dtd);
}

#[test]
fn an_order_without_number_cannot_be_read() {
    for body in
        ["<orders><order/></orders>", "<order order-no=' '><currency>EUR</currency></order>"]
    {
        assert_eq!(refused(body).kind, UnreadableKind::MissingId, "{body}");
    }
}

#[test]
fn pitfall_30_a_thousands_separator_is_refused_never_read_as_one() {
    let error = refused(&order(&total("1,000.00", "")));
    assert_eq!(error.kind, UnreadableKind::Value);
    assert!(!error.message.contains("1,000"), "no value of the body in the message");
    let line = product("A", "1,000.00", "0", "");
    let item = one(&order(&format!("<product-lineitems>{line}</product-lineitems>")));
    assert_eq!(summary(&item).unwrap_err().code, "amount");
}

#[test]
fn an_unknown_currency_is_an_exception_not_a_guess() {
    let item = one("<order order-no='1'><currency>XXX</currency></order>");
    assert_eq!((item.currency, summary(&item).unwrap_err().code), (None, "no_currency"));
}

#[test]
fn pitfall_46_elements_that_decide_may_stand_once() {
    let doubles = [
        "<currency>USD</currency>".to_owned(),
        "<status><order-status>NEW</order-status><order-status>FAILED</order-status></status>"
            .to_owned(),
        "<totals/><totals/>".to_owned(),
        total("1.00", "<order-total/>"),
    ];
    for inside in doubles {
        assert_eq!(refused(&order(&inside)).kind, UnreadableKind::DuplicateMember, "{inside}");
    }
    let line = product("A", "1", "0", "<net-price>2</net-price>");
    let item = one(&order(&format!("<product-lineitems>{line}</product-lineitems>")));
    assert_eq!(summary(&item).unwrap_err().code, "amount");
}

#[test]
fn pitfall_49_depth_is_bounded_also_where_nothing_is_read() {
    let nested = |depth| {
        let (open, close) = ("<a>".repeat(depth), "</a>".repeat(depth));
        order(&format!("<custom-attributes>{open}{close}</custom-attributes>"))
    };
    assert!(read_with(&nested(60), &ReadOptions::default()).unwrap()[0].is_ok());
    let error = refused(&nested(62));
    assert_eq!(error.kind, UnreadableKind::Depth);
    assert_eq!(refused(&nested(20_000)).kind, UnreadableKind::Depth);
    let unclosed = format!("<orders><order order-no='1'>{}", "<a>".repeat(20_000));
    assert_eq!(refused(&unclosed).kind, UnreadableKind::Depth, "the first fault is told");
}

#[test]
fn pitfall_50_lines_items_and_bytes_are_bounded() {
    let lines = |n: usize| {
        let lines = product("A", "1.00", "0", "").repeat(n);
        order(&format!("<product-lineitems>{lines}</product-lineitems>"))
    };
    let item = one(&lines(2_000));
    assert_eq!((item.lines, summary(&item).unwrap().lines.len()), (2_000, 2_000));
    assert_eq!(refused(&lines(2_001)).kind, UnreadableKind::TooLarge);
    let few = Limits { items: 1, ..Limits::default() };
    let options = ReadOptions { limits: few, ..ReadOptions::default() };
    assert_eq!(read_with(TWO, &options).unwrap_err().kind, UnreadableKind::TooLarge);
    let small = Limits { item_bytes: 60, ..Limits::default() };
    let options = ReadOptions { limits: small, ..ReadOptions::default() };
    let items = read_with(&TWO.replace("{}", "a long text"), &options).unwrap();
    assert_eq!(items[0].as_ref().unwrap_err().kind, UnreadableKind::TooLarge);
    assert!(items[1].is_ok());
}

#[test]
fn pitfall_45_a_byte_order_mark_is_skipped() {
    let plain = order("<x>1</x>");
    let marked = format!("\u{feff}{plain}");
    let (plain, marked) = (one(&plain), one(&marked));
    assert_eq!(plain.fingerprint, marked.fingerprint);
    assert_eq!(plain.span.start + 3, marked.span.start);
    assert_eq!(plain.bytes, marked.bytes);
}

#[test]
fn the_fingerprint_is_of_the_content_not_of_its_dress() {
    let fingerprint = |body: &str| one(body).fingerprint;
    let first = fingerprint("<order order-no='1'><a k='1' l='2'>x &amp; y</a><b/></order>");
    for same in [
        "<orders>\n  <order order-no=\"1\">\n  <a l='2' k='1'> x &#38; y\n</a>\r\n<b></b> </order></orders>",
        "<?xml version='1.0'?><!-- c --><order order-no='1'><a k='1' l='2'>x <!-- c --><![CDATA[& y]]></a><?p q?><b/></order>",
        "<o:orders xmlns:o='urn:x'><o:order order-no='1'><o:a k='1' l='2'>x &amp; y</o:a><o:b/></o:order></o:orders>",
        "<order xmlns='urn:x' order-no='1'><a k='1' l='2'>x &amp; y</a><b/><invoice-no>9</invoice-no></order>",
        "<order order-no='1'><a k='1' l='2'>x &amp; y</a><b/><external-order-text>t<i/></external-order-text></order>",
    ] {
        assert_eq!(fingerprint(same), first, "{same}");
    }
    for other in [
        "<order order-no='1'><a k='1' l='2'>x &amp; z</a><b/></order>",
        "<order order-no='1'><a k='1' l='2'>x &amp; y<b/></a></order>",
        "<order order-no='1'><a k='1' l='3'>x &amp; y</a><b/></order>",
        "<order order-no='1'><b/><a k='1' l='2'>x &amp; y</a></order>",
        "<order order-no='1'><a k='1' l='2'>x &amp; y</a><b/><c/></order>",
        "<order order-no='1'><a k='1' l='2'>x &amp; y</a><b/><x><invoice-no>9</invoice-no></x></order>",
        "<order order-no='1'><a><k>1</k><l>2</l>x &amp; y</a><b/></order>",
    ] {
        assert_ne!(fingerprint(other), first, "{other}");
    }
}

#[test]
fn an_item_stands_alone_though_its_prefix_was_bound_outside() {
    let plain = "<order order-no='1'><currency>EUR</currency><product-lineitems><product-lineitem>\
                 <net-price>2.50</net-price><product-id>A</product-id></product-lineitem></product-lineitems></order>";
    let prefixed = plain.replace("</", "<#").replace('<', "<o:").replace("<o:#", "</o:");
    let body = format!("<o:orders xmlns:o='urn:x'>{prefixed}</o:orders>");
    let item = one(&body);
    assert_eq!(item.fingerprint, one(plain).fingerprint);
    assert_eq!(&*item.bytes, prefixed.as_bytes());
    assert_eq!(shown(&summary(&item).unwrap()), ["Product A 2.50 [] []"]);
}

#[test]
fn volatile_elements_do_not_count() {
    let with = |inside: &str| one(&order(inside)).fingerprint;
    let status =
        |export: &str| with(&format!("<status><order-status>NEW</order-status>{export}</status>"));
    assert_eq!(
        status("<export-status>READY</export-status>"),
        status("<export-status>EXPORTED</export-status>")
    );
    assert_ne!(
        with("<status><order-status>NEW</order-status></status>"),
        with("<status><order-status>OPEN</order-status></status>")
    );
    let ignore = ["remoteHost".to_owned()];
    let options = ReadOptions { fingerprint_ignore: &ignore, ..ReadOptions::default() };
    let ignoring = |host: &str| {
        let body = order(&format!("<remoteHost>{host}</remoteHost>"));
        read_with(&body, &options).unwrap().remove(0).unwrap().fingerprint
    };
    assert_eq!(ignoring("10.0.0.1"), ignoring("10.0.0.2"));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        through(Bytes::from(bytes));
    }

    #[test]
    fn random_markup_never_panics(parts in proptest::collection::vec(0usize..PARTS.len(), 0..60)) {
        let body: String = parts.into_iter().map(|part| PARTS[part]).collect();
        through(Bytes::from(body));
    }

    #[test]
    fn mutated_documents_never_panic(at in 0usize..3000, byte in any::<u8>(), cut in 0usize..3000) {
        let line = product("A", "99999999999999999999", "1e19", &adjustment("-1", "0.1"));
        let more = format!("<product-lineitems>{line}</product-lineitems><shipping-lineitems>{}</shipping-lineitems>{}",
            shipping("1", "2", ""), total("3", &format!("<shipping-total>{0}</shipping-total><merchandize-total>{0}</merchandize-total>", adjustment("-9", "-1"))));
        let mut body = order(&more).into_bytes();
        let length = body.len();
        body[at % length] = byte;
        if cut % 4 == 0 {
            body.truncate(cut % length);
        }
        through(Bytes::from(body));
    }
}

const PARTS: [&str; 24] = [
    "<orders>",
    "</orders>",
    "<order order-no='1'>",
    "</order>",
    "<order order-no='2'/>",
    "<a>",
    "</a>",
    "<a b='c' d=\"e\"/>",
    "text",
    "&amp;",
    "&",
    ";",
    "&#65;",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "<?",
    "?>",
    "<!DOCTYPE",
    ">",
    "<",
    "\u{feff}",
    "<status><order-status>NEW</order-status></status>",
];

/// Reads and summarises whatever there is; what is said of it holds together.
fn through(body: Bytes) {
    let Ok(items) = read(FORMAT, &body, &ReadOptions::default()) else { return };
    assert!(!items.is_empty());
    for item in items.into_iter().flatten() {
        assert_eq!(item.bytes, body.slice(item.span.clone()));
        if let Some(id) = item.id.clone() {
            let again = read(FORMAT, &item.bytes, &ReadOptions::default()).unwrap();
            assert_eq!(again[0].as_ref().unwrap().fingerprint, item.fingerprint);
            let key = OrderKey::new("c", "s", id);
            if let Ok(summary) = summarise(FORMAT, key, item.fingerprint, &item.bytes)
                && let Some(stated) = summary.stated.grand_total
            {
                assert_eq!(summary.totals.grand_total, stated);
            }
        }
    }
}

fn kept(body: &str) -> (Item, String) {
    let item = one(body);
    let text = String::from_utf8(item.bytes.to_vec()).unwrap();
    (item, text)
}

#[test]
fn card_data_is_masked_in_free_text_and_payments_only() {
    let card = "4111 1111 1111 1111";
    let inside = format!(
        "<customer><customer-no>{card}</customer-no><billing-address><phone>{card}</phone></billing-address></customer>\
         <product-lineitems><product-lineitem><product-id>{card}</product-id><gift-message>{card}</gift-message>\
         <custom-attributes><custom-attribute attribute-id=\"a\">{card}</custom-attribute>\
         <custom-attribute attribute-id=\"b\"><value>{card}</value></custom-attribute>\
         <custom-attribute attribute-id=\"cvv\"><value> 123 </value></custom-attribute></custom-attributes></product-lineitem></product-lineitems>\
         <payments><payment><credit-card><card-number>{card}</card-number><card-token>{card}</card-token><cvc>9876</cvc></credit-card>\
         <transaction-id>{card}</transaction-id></payment><payment><bank-transfer><account-number>{card}</account-number></bank-transfer></payment></payments>\
         <notes><note><subject>{card}</subject><text>call {card} now</text></note></notes><!-- {card} -->"
    );
    let body = order(&inside).replace("A-1", card);
    let (item, kept) = kept(&body);
    // Order number, customer number, phone, product, token, transaction, bank account.
    assert_eq!(kept.matches(card).count(), 7, "{kept}");
    assert_eq!(kept.matches("**** **** **** ****").count(), 7, "{kept}");
    assert!(kept.contains("<value> *** </value>") && kept.contains("<cvc>****</cvc>"), "{kept}");
    assert_eq!(kept.len(), item.span.len());
    for span in &item.masked {
        let (start, end) = (span.start as usize, (span.start + span.len) as usize);
        assert!(kept.as_bytes()[start..end].iter().all(|byte| *byte == b'*'));
    }
    let other = one(&body.replace("call 4111", "call 4222"));
    assert_ne!(other.fingerprint, item.fingerprint, "taken before masking");
    summary(&item).unwrap();
}

#[test]
fn hidden_card_numbers_are_found_where_they_read_as_one() {
    for hidden in [
        "&#52;111&#x31;11111111111",
        "<![CDATA[4111111111111111]]>",
        "41111111<!-- x -->11111111",
        "41111111<![CDATA[11111111]]>",
    ] {
        let (item, kept) =
            kept(&order(&format!("<notes><note><text>{hidden}</text></note></notes>")));
        assert!(!item.masked.is_empty(), "{hidden}");
        let text = kept.split("<text>").nth(1).unwrap().split("</text>").next().unwrap();
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        assert_eq!((digits, text.len()), (0, hidden.len()), "{text}");
    }
}

#[test]
fn orders_without_card_data_share_the_bodys_memory() {
    let body = Bytes::from(order("<x>&#65;</x><!-- c --><cvv/>"));
    let item = read(FORMAT, &body, &ReadOptions::default()).unwrap().remove(0).unwrap();
    assert!(item.masked.is_empty());
    assert_eq!(item.bytes.as_ptr(), body[item.span.clone()].as_ptr());
}

#[test]
fn amounts_of_any_size_and_number_never_overflow() {
    let huge = "99999999999999999999";
    let lines = product("A", huge, huge, &adjustment(huge, huge)).repeat(2_000);
    let summary = summarised(&format!("<product-lineitems>{lines}</product-lineitems>"));
    assert_eq!(summary.totals.product, dec("199999999999999999998000"));
    let code = |inside: &str| self::summary(&one(&order(inside))).unwrap_err().code;
    let single = adjustment(huge, huge)
        .replace("<price-adjustments>", "")
        .replace("</price-adjustments>", "");
    let many = format!("<price-adjustments>{}</price-adjustments>", single.repeat(20_000));
    let line = product("A", huge, "0", &many);
    assert_eq!(code(&format!("<product-lineitems>{line}</product-lineitems>")), "too_many_parts");
    let many = format!("<price-adjustments>{}</price-adjustments>", single.repeat(1_000));
    let charges = shipping("1", "0", "").repeat(1_000);
    let totals = total("1", &format!("<shipping-total>{many}</shipping-total>"));
    assert_eq!(
        code(&format!("<shipping-lineitems>{charges}</shipping-lineitems>{totals}")),
        "too_many_parts"
    );
    let shipments = format!("<shipments>{}</shipments>", "<shipment/>".repeat(20_001));
    assert_eq!(code(&shipments), "too_many_parts");
    let product = "<product-lineitem><base-price>999999999999</base-price><quantity unit=\"\">999999999999999</quantity></product-lineitem>";
    assert_eq!(
        code(&format!("<product-lineitems>{product}</product-lineitems>")),
        "amount_too_large"
    );
}
