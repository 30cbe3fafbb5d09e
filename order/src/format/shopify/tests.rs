//! Hand-written orders, with every amount worked out by hand.

use bytes::Bytes;
use rust_decimal::Decimal;

use super::*;
use crate::summary::{LineKind, Oddity, PaymentState, TaxLocale};
use crate::{Item, summary};

fn items(body: &str) -> Vec<ItemResult> {
    read(&Bytes::copy_from_slice(body.as_bytes()), &ReadOptions::default()).unwrap()
}

fn item(body: &str) -> Item {
    let mut items = items(body);
    assert_eq!(items.len(), 1);
    items.remove(0).unwrap()
}

fn fault(body: &str) -> Unreadable {
    match read(&Bytes::copy_from_slice(body.as_bytes()), &ReadOptions::default()) {
        Ok(mut items) => items.remove(0).unwrap_err(),
        Err(fault) => fault,
    }
}

fn summary(body: &str) -> OrderSummary {
    let item = item(body);
    let key = OrderKey::new("shopify", "test", item.id.clone().unwrap());
    summarise(key, item.fingerprint, &item.bytes).unwrap()
}

fn unmappable(body: &str) -> &'static str {
    let item = item(body);
    let key = OrderKey::new("shopify", "test", item.id.clone().unwrap_or_default());
    summarise(key, item.fingerprint, &item.bytes).unwrap_err().code
}

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

/// A line in one text: kind, quantity, amount, adjustments (amount/tax, `*` for an order-level share),
/// taxes.
fn told(line: &summary::Line) -> String {
    let kind = match line.kind {
        LineKind::Product => "product",
        LineKind::DeliveryCharge => "delivery",
        LineKind::Fee => "fee",
        LineKind::Difference => "difference",
    };
    let adjustments: Vec<String> = line
        .adjustments
        .iter()
        .map(|a| format!("{}/{}{}", a.amount, a.tax, if a.group.is_some() { "*" } else { "" }))
        .collect();
    let taxes: Vec<String> =
        line.taxes.iter().map(|t| format!("{} {}", t.name, t.amount).trim().to_owned()).collect();
    format!(
        "{kind} {} x {} [{}] [{}]",
        line.quantity,
        line.line_amount,
        adjustments.join(", "),
        taxes.join(", ")
    )
}

fn lines(summary: &OrderSummary) -> Vec<String> {
    summary.lines.iter().map(told).collect()
}

/// `total_amount + total_tax_amount = grand_total`, as texts.
fn totals(summary: &OrderSummary) -> (String, String, String) {
    let totals = &summary.totals;
    let text = |amount: Decimal| format!("{amount:.2}");
    (text(totals.total_amount), text(totals.total_tax_amount), text(totals.grand_total))
}

fn three(a: &str, b: &str, c: &str) -> (String, String, String) {
    (a.to_owned(), b.to_owned(), c.to_owned())
}

// === readiness ===

fn readiness_of(members: &str) -> (Readiness, bool) {
    let item = item(&format!(r#"{{"id":1,"currency":"EUR","total_price":"1.00"{members}}}"#));
    (item.readiness, item.unplaced)
}

#[test]
fn the_readiness_table() {
    let unpaid = Readiness::Held(HoldReason::Unpaid);
    for (status, readiness) in [
        ("paid", Readiness::Pending),
        ("PARTIALLY_PAID", Readiness::Pending),
        ("authorized", Readiness::Pending),
        ("partially_refunded", Readiness::Pending),
        ("refunded", Readiness::Pending),
        ("pending", unpaid),
        ("voided", unpaid),
        ("expired", unpaid),
    ] {
        let members = format!(r#","financial_status":"{status}","cancelled_at":null,"test":false"#);
        assert_eq!(readiness_of(&members), (readiness, false), "{status}");
        let cancelled = format!(r#"{members},"confirmed":false"#).replace("null", "\"2026-01-01\"");
        assert_eq!(readiness_of(&cancelled), (Readiness::Cancelled, false), "{status}");
        let test = cancelled.replace("\"test\":false", "\"test\":true");
        assert_eq!(readiness_of(&test), (Readiness::Recorded(RecordedAs::Test), false));
    }
    assert_eq!(readiness_of(""), (Readiness::Pending, true), "no status: a sale, unplaced");
    assert_eq!(readiness_of(r#","financial_status":"odd""#), (Readiness::Pending, true));
    let unconfirmed = r#","financial_status":"paid","confirmed":false"#;
    assert_eq!(readiness_of(unconfirmed), (Readiness::Pending, false));
}

#[test]
fn other_objects_are_recorded_and_never_orders() {
    for (body, object) in [
        (r#"{"draft_order":{"id":1,"total_price":"1.00"}}"#, RecordedAs::Draft),
        (r#"{"id":1,"invoice_sent_at":null,"total_price":"1.00"}"#, RecordedAs::Draft),
        (r#"{"checkouts":[{"id":1,"total_price":"1.00"}]}"#, RecordedAs::Checkout),
        (
            r#"{"id":1,"abandoned_checkout_url":"https://x","total_price":"1"}"#,
            RecordedAs::Checkout,
        ),
        (
            r#"{"id":"t","token":"t","line_items":[{"quantity":1}],"note":null}"#,
            RecordedAs::Checkout,
        ),
        (r#"{"refund":{"id":1,"order_id":2}}"#, RecordedAs::Refund),
        (r#"{"id":1,"order_id":2,"refund_line_items":[]}"#, RecordedAs::Refund),
        (r#"{"id":1,"order_id":2,"status":"success","line_items":[]}"#, RecordedAs::Other),
        (r#"{"order_edit":{"id":1,"order_id":2}}"#, RecordedAs::Other),
        (r#"{"id":1,"test":"true"}"#, RecordedAs::Test),
        ("{}", RecordedAs::Other),
    ] {
        assert_eq!(item(body).readiness, Readiness::Recorded(object), "{body}");
        // A wrapper is not kept with the item, so only what the object itself says can be asked again.
        if !body.contains(":{") && !body.contains(":[{\"id") {
            assert_eq!(unmappable(body), "not_an_order", "{body}");
        }
    }
}

#[test]
fn pitfall_19_a_body_with_only_an_id_must_be_fetched() {
    for body in [r#"{"id":820982911946154508}"#, r#"{"order":{"id":"820982911946154508"}}"#] {
        let item = item(body);
        assert_eq!(item.readiness, Readiness::FetchNeeded);
        assert_eq!(item.id.as_deref(), Some("820982911946154508"));
    }
    let missing = fault(r#"{"total_price":"1.00","currency":"EUR"}"#);
    assert_eq!(
        (missing.kind, missing.pointer.as_deref()),
        (UnreadableKind::MissingId, Some("/id"))
    );
    assert_eq!(fault(r#"{"id":"","total_price":"1.00"}"#).kind, UnreadableKind::MissingId);
}

// === identity, version ===

#[test]
fn pitfall_24_29_ids_and_numbers_stay_exact_whatever_their_type() {
    let body = r##"{"id":820982911946154508,"name":"#9999","order_number":1234,"number":234,"total_price":"1"}"##;
    let first = item(body);
    assert_eq!((first.id.as_deref(), first.number.as_str()), (Some("820982911946154508"), "#9999"));
    let number = item(r#"{"id":1,"name":null,"order_number":"DE-7","total_price":"1"}"#).number;
    assert_eq!(number, "DE-7");
    assert_eq!(item(r#"{"id":1,"order_number":1001,"total_price":"1"}"#).number, "1001");
}

#[test]
fn pitfall_13_the_version_is_updated_at_and_no_part_of_the_fingerprint() {
    let at = |time: &str| item(&format!(r#"{{"id":1,"total_price":"1","updated_at":{time}}}"#));
    let older = at(r#""2016-05-17T04:14:36-04:00""#);
    let newer = at(r#""2016-05-17T08:14:37Z""#);
    assert_eq!(older.version, Some(1_463_472_876_000));
    assert_eq!(newer.version, Some(1_463_472_877_000));
    assert_eq!(older.fingerprint, newer.fingerprint);
    for none in ["null", "\"soon\"", "\"2016-05-17T04:14:36\""] {
        assert_eq!(at(none).version, None, "{none}");
    }
}

#[test]
fn pitfall_30_a_thousands_separator_is_a_clear_fault() {
    let fault = fault(r#"{"order":{"id":1,"total_price":"1,000.00"}}"#);
    assert_eq!(fault.kind, UnreadableKind::Value);
    assert_eq!(fault.pointer.as_deref(), Some("/total_price"));
    assert!(fault.message.contains("thousands"), "{fault}");
}

#[test]
fn pitfall_46_money_given_twice_is_refused() {
    let body = r#"{"id":1,"line_items":[{"quantity":1,"quantity":-1}]}"#;
    let fault = fault(body);
    assert_eq!(fault.kind, UnreadableKind::DuplicateMember);
    assert_eq!(fault.pointer.as_deref(), Some("/line_items/0/quantity"));
    assert_eq!(item(r#"{"id":1,"tags":"a","tags":"b","total_price":"1"}"#).lines, 0);
}

#[test]
fn pitfall_50_a_thousand_lines_are_an_order() {
    let line = r#"{"quantity":1,"price":"1.00","sku":"A"}"#;
    let body = |lines: usize| {
        format!(
            r#"{{"id":1,"currency":"EUR","total_price":"{lines}.00","line_items":[{}]}}"#,
            vec![line; lines].join(",")
        )
    };
    let summary = summary(&body(1_114));
    assert_eq!(summary.lines.len(), 1_114);
    assert_eq!(summary.totals.grand_total, dec("1114.00"));
    assert_eq!(fault(&body(2_001)).kind, UnreadableKind::TooLarge);
}

// === summaries ===

#[test]
fn one_a_net_order_with_tax_on_the_line_and_on_delivery() {
    // 2 x 10.00 = 20.00, tax 3.80; delivery 5.00, tax 0.95: 25.00 + 4.75 = 29.75.
    let summary = summary(
        r##"{"id":1,"name":"#1","currency":"EUR","financial_status":"authorized","total_price":"29.75",
        "total_tax":"4.75","total_discounts":"0.00","created_at":"2026-11-25T10:00:00+01:00","gateway":"card",
        "email":" Ann@Example.com ","customer":{"id":9,"first_name":"Ann","last_name":"Lee"},
        "shipping_address":{"first_name":"Ann","last_name":"Lee","address1":"Street 1","zip":"1010","city":"Wien","country_code":"AT"},
        "line_items":[{"sku":"S","name":"Soap","quantity":2,"price":"10.00","tax_lines":[{"title":"VAT","rate":0.19,"price":"3.80"}]}],
        "shipping_lines":[{"code":"std","title":"Standard","price":"5.00","tax_lines":[{"title":"VAT","price":"0.95"}]}]}"##,
    );
    assert_eq!(
        lines(&summary),
        ["product 2 x 20.00 [] [VAT 3.80]", "delivery 1 x 5.00 [] [VAT 0.95]"]
    );
    assert_eq!(totals(&summary), three("25.00", "4.75", "29.75"));
    assert_eq!(summary.lines[0].taxes[0].rate, Some(dec("0.19")));
    assert_eq!(summary.stated.shipping_total, Some(dec("5.00")), "from the line, no price set");
    assert_eq!(summary.shopper.email_normalised.as_deref(), Some("ann@example.com"));
    assert_eq!(summary.shopper.name.as_deref(), Some("Ann Lee"));
    assert_eq!(summary.shopper.customer_id.as_deref(), Some("9"));
    assert_eq!(summary.delivery_groups.len(), 1);
    assert_eq!(summary.delivery_groups[0].method.as_deref(), Some("Standard"));
    assert_eq!(summary.delivery_groups[0].address.as_ref().unwrap().country.as_deref(), Some("AT"));
    assert_eq!(summary.ordered_date_ms, Some(1_795_597_200_000));
    let payment = &summary.payments[0];
    assert_eq!((payment.method.as_str(), payment.amount), ("card", Some(dec("29.75"))));
    assert_eq!(payment.state, PaymentState::Authorised);
    assert_eq!((summary.difference, summary.oddities.as_slice()), (dec("0"), [].as_slice()));
}

#[test]
fn two_a_spread_discount_is_one_group_and_its_shares_do_not_vanish() {
    // 30.00 + 10.00, TEN takes 7.50 and 2.50 across; a script takes 1.00 of the second line alone.
    // 22.50 + 6.50 = 29.00, tax 2.25 + 0.65 = 2.90: 31.90.
    let summary = summary(
        r#"{"id":2,"currency":"USD","financial_status":"paid","total_price":"31.90","total_tax":"2.90","total_discounts":"11.00",
        "email":"a@b.c","processed_at":"2026-01-01T00:00:00Z","payment_gateway_names":["a","gift_card"],
        "discount_applications":[{"type":"discount_code","code":"TEN","allocation_method":"across","target_type":"line_item"},
          {"type":"script","title":"One off","allocation_method":"each","target_type":"line_item"}],
        "line_items":[
          {"product_id":5,"quantity":3,"price":"10.00","total_discount":"0.00","tax_lines":[{"title":"State","price":"2.25"}],
           "discount_allocations":[{"amount":"7.50","discount_application_index":0}]},
          {"variant_id":6,"quantity":1,"price":"10.00","total_discount":"1.00","tax_lines":[{"title":"State","price":"0.65"}],
           "discount_allocations":[{"amount":"2.50","discount_application_index":0},{"amount":"1.00","discount_application_index":1}]}]}"#,
    );
    assert_eq!(
        lines(&summary),
        [
            "product 3 x 30.00 [-7.50/0*] [State 2.25]",
            "product 1 x 10.00 [-2.50/0*, -1.00/0] [State 0.65]"
        ]
    );
    assert_eq!(summary.adjustment_groups.len(), 1);
    assert_eq!(summary.adjustment_groups[0].name, "TEN");
    assert_eq!(summary.lines[1].adjustments[1].name, "One off");
    assert_eq!(summary.totals.header_adjustment, dec("-10.00"));
    assert_eq!(summary.totals.line_adjustment, dec("-1.00"));
    assert_eq!(totals(&summary), three("29.00", "2.90", "31.90"));
    assert_eq!(
        (summary.lines[0].product_code.as_str(), summary.lines[1].product_code.as_str()),
        ("5", "6")
    );
    assert!(summary.payments.iter().all(|p| p.amount.is_none()), "who paid what is not in it");
    assert!(summary.delivery_groups.is_empty() && summary.lines[0].delivery_group.is_none());
    assert_eq!((summary.difference, summary.oddities.as_slice()), (dec("0"), [].as_slice()));
}

#[test]
fn three_prices_with_tax_become_prices_without() {
    // 119.00 with 19 %: discount 11.90 leaves 107.10, of which tax 17.10. So before the discount
    // 100.00 + 19.00, the discount 10.00 + 1.90. Delivery 5.95 = 5.00 + 0.95. 90 + 5 + 17.10 + 0.95 = 113.05.
    let summary = summary(
        r#"{"id":3,"currency":"EUR","financial_status":"paid","taxes_included":true,"total_price":"113.05","total_tax":"18.05",
        "total_discounts":"11.90","email":"a@b.c","created_at":"2026-01-01T00:00:00Z",
        "discount_applications":[{"title":"10 %","allocation_method":"across","target_type":"line_item"}],
        "line_items":[{"quantity":1,"price":"119.00","tax_lines":[{"title":"MwSt","price":"17.10"}],
          "discount_allocations":[{"amount":"11.90","discount_application_index":0}]}],
        "shipping_lines":[{"title":"DHL","price":"5.95","tax_lines":[{"title":"MwSt","price":"0.95"}]}]}"#,
    );
    assert_eq!(summary.tax_locale, TaxLocale::Gross);
    assert_eq!(
        lines(&summary),
        ["product 1 x 100.00 [-10.00/-1.90*] [MwSt 19.00]", "delivery 1 x 5.00 [] [MwSt 0.95]"]
    );
    assert_eq!(summary.lines[0].unit_price, dec("119.00"), "as the source states it");
    assert_eq!(totals(&summary), three("95.00", "18.05", "113.05"));
    assert_eq!((summary.difference, summary.oddities.as_slice()), (dec("0"), [].as_slice()));
}

#[test]
fn four_tax_and_discount_stated_for_the_order_alone_are_distributed() {
    // 3 x 10.00; 3.00 off by code: 1.00 each. Tax 2.70 on 27.00: 0.90 each. 27.00 + 2.70 = 29.70.
    let summary = summary(
        r#"{"id":4,"currency":"USD","financial_status":"paid","total_price":"29.70","total_tax":"2.70","total_discounts":"3.00",
        "email":"a@b.c","created_at":"2026-01-01T00:00:00Z","discount_codes":[{"code":"THREE","amount":"3.00"}],
        "tax_lines":[{"title":"State Tax","price":"2.70","rate":0.1}],
        "line_items":[{"quantity":1,"price":"10.00","tax_lines":[]},{"quantity":1,"price":"10.00"},{"quantity":1,"price":"10.00"}]}"#,
    );
    assert_eq!(lines(&summary), ["product 1 x 10.00 [-1.00/0*] [State Tax 0.90]"; 3]);
    assert_eq!(summary.adjustment_groups[0].name, "THREE");
    assert_eq!(totals(&summary), three("27.00", "2.70", "29.70"));
    assert_eq!(summary.oddities, [Oddity::DiscountDistributed, Oddity::TaxDistributed]);
}

#[test]
fn five_duties_a_tip_and_a_delivery_price_alone_are_charges() {
    // 50.00 + delivery 4.00 + duties 6.50 + tip 2.00 = 62.50, no tax.
    let summary = summary(
        r#"{"id":5,"currency":"USD","presentment_currency":"CAD","financial_status":"partially_paid","total_price":"62.50","total_outstanding":"12.50",
        "total_tax":"0.00","total_tip_received":"2.00","contact_email":"a@b.c","created_at":"2026-01-01T00:00:00Z","gateway":"cod",
        "original_total_duties_set":{"shop_money":{"amount":"6.50","currency_code":"USD"},"presentment_money":{"amount":"9.00","currency_code":"CAD"}},
        "total_shipping_price_set":{"shop_money":{"amount":"4.00","currency_code":"USD"},"presentment_money":{"amount":"5.50","currency_code":"CAD"}},
        "line_items":[{"quantity":2,"price":"25.00","requires_shipping":true}]}"#,
    );
    assert_eq!(
        lines(&summary),
        [
            "product 2 x 50.00 [] []",
            "delivery 1 x 4.00 [] []",
            "fee 1 x 6.50 [] []",
            "fee 1 x 2.00 [] []"
        ]
    );
    assert_eq!(totals(&summary), three("62.50", "0.00", "62.50"));
    assert_eq!(summary.currency.code(), "USD");
    assert_eq!(summary.payments[0].amount, Some(dec("50.00")), "what was paid of it");
}

#[test]
fn six_pitfall_31_a_cent_of_difference_is_recorded_and_the_total_trusted() {
    let summary = summary(
        r#"{"id":6,"currency":"EUR","financial_status":"paid","total_price":"92.01","total_tax":"0.00",
        "line_items":[{"quantity":1,"price":"92.00"}],"customer":null}"#,
    );
    assert_eq!(lines(&summary), ["product 1 x 92.00 [] []", "difference 1 x 0.01 [] []"]);
    assert_eq!(totals(&summary), three("92.01", "0.00", "92.01"));
    assert_eq!(summary.difference, dec("0.01"));
    assert_eq!(summary.oddities, [Oddity::NoEmail, Oddity::TotalsDiffer, Oddity::NoOrderedInstant]);
}

#[test]
fn seven_the_legacy_line_discount_and_a_discounted_delivery() {
    // 2 x 40.00 less 10.00 = 70.00; delivery 8.00 reduced to 6.00: 76.00.
    let summary = summary(
        r#"{"id":7,"currency":"CAD","financial_status":"paid","total_price":"76.00","total_discounts":"12.00","email":"a@b.c",
        "created_at":"2026-01-01T00:00:00Z","line_items":[{"quantity":2,"price":"40.00","total_discount":"10.00","requires_shipping":false}],
        "shipping_lines":[{"title":"Air","price":"8.00","discounted_price":"6.00"}]}"#,
    );
    assert_eq!(
        lines(&summary),
        ["product 2 x 80.00 [-10.00/0] []", "delivery 1 x 8.00 [-2.00/0] []"]
    );
    assert_eq!(totals(&summary), three("76.00", "0.00", "76.00"));
    assert_eq!(summary.lines[0].delivery_group, None, "needs no delivery");
    assert!(summary.oddities.is_empty());
}

#[test]
fn pitfall_35_a_line_of_no_price_stays_at_zero() {
    let summary = summary(
        r#"{"id":8,"currency":"EUR","financial_status":"paid","total_price":"0.00","email":"a@b.c","created_at":"2026-01-01T00:00:00Z",
        "total_discounts":"10.00","discount_applications":[{"code":"FREE","allocation_method":"across","target_type":"line_item"}],
        "line_items":[{"quantity":1,"price":"10.00","discount_allocations":[{"amount":"10.00","discount_application_index":"0"}]},
          {"quantity":1,"price":"0.00"},{"quantity":0,"price":"5.00"}]}"#,
    );
    let told = lines(&summary);
    assert_eq!(told[0], "product 1 x 10.00 [-10.00/0*] []");
    assert!(summary.lines[1].line_amount.is_zero() && summary.lines[2].line_amount.is_zero());
    assert_eq!(totals(&summary), three("0.00", "0.00", "0.00"));
    assert!(summary.oddities.is_empty());
}

#[test]
fn pitfall_36_37_38_39_no_lines_no_customer_no_email_is_a_sale() {
    for customer in ["", r#","customer":null"#, r#","customer":[],"email":"""#, r#","email":null"#]
    {
        let body = format!(
            r#"{{"id":9,"currency":"EUR","financial_status":"paid","total_price":"0.00","total_tax":"1.00","total_discounts":"1.00","line_items":[]{customer}}}"#
        );
        assert_eq!(item(&body).readiness, Readiness::Pending);
        let summary = summary(&body);
        assert!(summary.oddities.contains(&Oddity::NoLines), "{customer}");
        assert!(summary.oddities.contains(&Oddity::NoEmail));
        assert_eq!(summary.totals.grand_total, dec("0.00"));
    }
}

#[test]
fn pitfall_32_33_yen_are_not_multiplied_and_a_fraction_of_one_is_kept() {
    let yen = |total: &str| {
        summary(&format!(
            r#"{{"id":10,"currency":"JPY","financial_status":"paid","total_price":"{total}","email":"a@b.c","line_items":[{{"quantity":1,"price":"{total}"}}]}}"#
        ))
    };
    assert_eq!(yen("1624").totals.grand_total, dec("1624"));
    let odd = yen("16.24");
    assert_eq!(odd.totals.grand_total, dec("16.24"));
    assert!(odd.oddities.contains(&Oddity::FractionBeyondCurrency));
    assert!(!yen("1624.00").oddities.contains(&Oddity::FractionBeyondCurrency));
}

#[test]
fn pitfall_34_the_buyers_currency_is_never_booked() {
    let summary = summary(
        r#"{"id":11,"currency":"USD","presentment_currency":"CAD","financial_status":"paid","total_price":"10.00","total_price_usd":"7.50",
        "total_price_set":{"shop_money":{"amount":"10.00","currency_code":"USD"},"presentment_money":{"amount":"13.50","currency_code":"CAD"}},
        "total_shipping_price_set":{"shop_money":{"amount":"3.00","currency_code":"CAD"}},
        "line_items":[{"quantity":1,"price":"10.00","price_set":{"presentment_money":{"amount":"13.50"}}}]}"#,
    );
    assert_eq!((summary.currency.code(), summary.totals.grand_total), ("USD", dec("10.00")));
    assert_eq!(summary.stated.shipping_total, None, "a price set in another currency");
    assert_eq!(unmappable(r#"{"id":1,"total_price":"1.00"}"#), "no_currency");
    assert_eq!(unmappable(r#"{"id":1,"total_price":"1.00","currency":"usd"}"#), "no_currency");
}

#[test]
fn amounts_that_no_shop_has_are_an_exception_and_never_a_panic() {
    let huge = "999999999999999999999999";
    let line = format!(r#"{{"quantity":"{huge}","price":"{huge}"}}"#);
    let body = |lines: &str| {
        format!(
            r#"{{"id":1,"currency":"EUR","financial_status":"paid","total_price":"{huge}","taxes_included":true,"line_items":[{lines}]}}"#
        )
    };
    assert_eq!(unmappable(&body(&line)), "amount_too_large");
    let tax = format!(r#"{{"price":"{huge}"}}"#);
    let taxed = |count: usize| {
        body(&format!(
            r#"{{"quantity":1,"price":"0.0000000000000000000000000001","tax_lines":[{}],"discount_allocations":[{{"amount":"{huge}"}}]}}"#,
            vec![tax.as_str(); count].join(",")
        ))
    };
    assert_eq!(unmappable(&taxed(3)), "amount_too_large");
    assert_eq!(unmappable(&taxed(30_000)), "too_many_parts");
    let codes = vec![r#"{"quantity":1,"price":"1"}"#; 1_500].join(",");
    let summary = summary(
        &body(&codes).replace(&format!("\"total_price\":\"{huge}\""), "\"total_price\":\"1500\""),
    );
    assert_eq!(summary.totals.grand_total, dec("1500"));
}

#[test]
fn a_long_name_on_many_lines_does_not_fill_the_memory() {
    let long = "x".repeat(1 << 20);
    let allocation = [r#"{"amount":"0.01","discount_application_index":0}"#; 9].join(",");
    let line = format!(r#"{{"quantity":1,"price":"1.00","discount_allocations":[{allocation}]}}"#);
    let taxes = vec![r#"{"title":"t","price":"0.01"}"#; 10_000].join(",");
    let body = format!(
        r#"{{"id":1,"currency":"EUR","financial_status":"paid","total_price":"0","total_tax":"100.00","tax_lines":[{taxes}],
        "discount_applications":[{{"title":"{long}","allocation_method":"across"}}],"line_items":[{}]}}"#,
        vec![line; 900].join(",")
    );
    let summary = summary(&body);
    assert_eq!(summary.lines[0].adjustments[0].name.len(), 255);
    assert_eq!(summary.lines[0].taxes.len(), 1, "too many names to tell apart");
    assert_eq!(summary.totals.header_adjustment, dec("-81.00"));
}

#[test]
fn card_data_in_notes_is_masked_and_ids_are_not() {
    let body = r#"{"id":4111111111111111,"currency":"EUR","total_price":"1.00","phone":"4111 1111 1111 1111","note":"pay with 4111-1111-1111-1111",
        "note_attributes":[{"name":"cvv","value":"123"}],"line_items":[{"sku":"4111111111111111","quantity":1,"price":"1.00",
        "properties":[{"name":"card","value":"5555555555554444"}]}],"payment_details":{"credit_card_number":"•••• 4242","cvv_result_code":"M"}}"#;
    let item = item(body);
    let kept = std::str::from_utf8(&item.bytes).unwrap();
    let masked = body
        .replacen("4111-1111-1111-1111", "****-****-****-****", 1)
        .replacen("\"123\"", "\"***\"", 1)
        .replacen("5555555555554444", "****************", 1);
    assert_eq!(kept, masked);
    assert_eq!(item.id.as_deref(), Some("4111111111111111"));
}
