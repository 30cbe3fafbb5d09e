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

fn outcome(body: &str) -> Result<OrderSummary, Unmappable> {
    let item = item(body);
    let key = OrderKey::new("woocommerce", "test", item.id.clone().unwrap_or_default());
    summarise(key, item.fingerprint, &item.bytes)
}

fn summary(body: &str) -> OrderSummary {
    outcome(body).unwrap()
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
    let share = |group: Option<usize>| if group.is_some() { "*" } else { "" };
    let adjustments = line.adjustments.iter();
    let adjustments: Vec<String> =
        adjustments.map(|a| format!("{}/{}{}", a.amount, a.tax, share(a.group))).collect();
    let taxes = line.taxes.iter();
    let taxes: Vec<String> =
        taxes.map(|t| format!("{} {}", t.name, t.amount).trim().to_owned()).collect();
    let (adjustments, taxes) = (adjustments.join(", "), taxes.join(", "));
    format!("{kind} {} x {} [{adjustments}] [{taxes}]", line.quantity, line.line_amount)
}

fn lines(summary: &OrderSummary) -> Vec<String> {
    summary.lines.iter().map(told).collect()
}

fn totals(summary: &OrderSummary) -> [String; 3] {
    let totals = &summary.totals;
    [totals.total_amount, totals.total_tax_amount, totals.grand_total].map(|t| format!("{t:.2}"))
}

// === readiness ===

#[test]
fn the_readiness_table() {
    let pending = (Readiness::Pending, false);
    let recorded = |object| (Readiness::Recorded(object), false);
    for (status, expected) in [
        (r#""processing""#, pending),
        (r#""completed""#, pending),
        (r#""refunded""#, pending),
        (r#""wc-processing""#, pending),
        (r#""pending""#, (Readiness::Held(HoldReason::Unpaid), false)),
        (r#""on-hold""#, (Readiness::Held(HoldReason::OnHold), false)),
        (r#""cancelled""#, (Readiness::Cancelled, false)),
        (r#""trash""#, (Readiness::Cancelled, false)),
        (r#""failed""#, recorded(RecordedAs::Failed)),
        (r#""draft""#, recorded(RecordedAs::Draft)),
        (r#""auto-draft""#, recorded(RecordedAs::Draft)),
        (r#""checkout-draft""#, recorded(RecordedAs::Checkout)),
        (r#""awaiting-pickup""#, (Readiness::Pending, true)),
        (r#""""#, (Readiness::Pending, true)),
        ("null", (Readiness::Pending, true)),
    ] {
        let body = format!(
            r#"{{"id":5,"status":{status},"needs_payment":true,"currency":"EUR","total":"1.00","line_items":[]}}"#
        );
        let item = item(&body);
        assert_eq!((item.readiness, item.unplaced), expected, "{status}");
        let summarised = outcome(&body).map_err(|fault| fault.code);
        match item.readiness {
            Readiness::Recorded(_) => assert_eq!(summarised.unwrap_err(), "not_an_order"),
            _ => {
                assert_eq!(summarised.unwrap().oddities.contains(&Oddity::Unplaced), item.unplaced)
            }
        }
    }
}

#[test]
fn refund_objects_are_recorded() {
    for body in [
        r#"{"id":9,"amount":"5.00","reason":"","refunded_by":1,"line_items":[{"quantity":-1,"total":"-5.00"}]}"#,
        r#"{"id":9,"amount":"5.00","reason":"x","line_items":[]}"#,
        r#"{"refunds":[{"id":9,"total":"-5.00"}]}"#,
    ] {
        assert_eq!(item(body).readiness, Readiness::Recorded(RecordedAs::Refund), "{body}");
    }
    let order =
        item(r#"{"refunds":[{"id":9,"total":"-5.00"}],"id":1,"status":"refunded","total":"5"}"#);
    assert_eq!((order.id.as_deref(), order.readiness), (Some("1"), Readiness::Pending));
    assert_eq!(item(r#"{"namespace":"wc/v3"}"#).readiness, Readiness::Recorded(RecordedAs::Other));
}

#[test]
fn pitfall_19_only_ids_must_be_fetched() {
    assert_eq!(item(r#"{"id":7}"#).readiness, Readiness::FetchNeeded);
    let list = items(
        r#"[{"id":1,"date_created_gmt":"2020-01-01T00:00:00","date_modified_gmt":"2020-01-01T00:00:01"},{"id":"2"}]"#,
    );
    let read: Vec<_> = list.iter().map(|item| item.as_ref().unwrap()).collect();
    assert!(read.iter().all(|item| item.readiness == Readiness::FetchNeeded));
    assert_eq!(read[0].version, Some(1_577_836_801_000));
    assert_eq!(fault(r#"{"status":"processing","total":"1.00"}"#).kind, UnreadableKind::MissingId);
}

// === values ===

#[test]
fn pitfall_29_an_order_number_is_an_integer_here_and_a_text_there() {
    let number = |text: &str| item(&format!(r#"{{"id":5,"number":{text},"total":"1"}}"#)).number;
    assert_eq!((number("963"), number("\"56AQ\"")), ("963".to_owned(), "56AQ".to_owned()));
    let ids = (item(r#"{"id":5,"total":"1"}"#).id, item(r#"{"id":"5","total":"1"}"#).id);
    assert_eq!(ids.0, ids.1);
}

#[test]
fn pitfall_12_13_40_the_version_is_a_utc_time_without_a_zone() {
    let at = |time: &str| {
        item(&format!(
            r#"{{"id":5,"status":"completed","date_modified_gmt":{time},"date_modified":"x"}}"#
        ))
    };
    assert_eq!(at("\"2018-04-03T23:05:14\"").version, Some(1_522_796_714_000));
    assert!(at("\"2018-04-03T23:05:15\"").version > at("\"2018-04-03T23:05:14\"").version);
    assert_eq!(at("null").version, None);
    assert_eq!(at("null").fingerprint, at("\"2018-04-03T23:05:14\"").fingerprint);
}

#[test]
fn pitfall_30_a_thousands_separator_is_a_clear_fault() {
    let fault = fault(r#"{"id":1,"status":"processing","total":"1,000.00"}"#);
    assert_eq!((fault.kind, fault.pointer.as_deref()), (UnreadableKind::Value, Some("/total")));
}

#[test]
fn pitfall_46_money_given_twice_is_refused_and_metadata_twice_is_not() {
    let fault = fault(r#"{"id":1,"status":"processing","total":"1.00","total":"2.00"}"#);
    assert_eq!(fault.kind, UnreadableKind::DuplicateMember);
    let harmless = r#"{"id":1,"status":"processing","total":"1.00","meta_data":[{"key":"a","value":{"x":1,"x":2}}]}"#;
    assert_eq!(item(harmless).readiness, Readiness::Pending);
}

#[test]
fn php_writes_an_empty_list_for_no_object_and_false_for_no_text() {
    let body = r#"{"id":1,"status":"processing","currency":"EUR","total":"1.00","billing":[],"shipping":"","coupon_lines":{},
        "line_items":[{"name":false,"quantity":1,"subtotal":"1.00","total":"1.00","taxes":{"total":{"1":"2"}}}]}"#;
    let summary = summary(body);
    assert_eq!((summary.billing.clone(), summary.lines[0].name.as_str()), (None, ""));
    assert_eq!(summary.totals.grand_total, dec("1.00"));
}

#[test]
fn pitfall_42_entities_stay_as_received() {
    let summary = summary(
        r#"{"id":1,"status":"processing","currency":"EUR","total":"1.00","line_items":[{"name":"Salt &amp; Pepper &times; 2","quantity":1,"total":"1.00"}]}"#,
    );
    assert_eq!(summary.lines[0].name, "Salt &amp; Pepper &times; 2");
}

// === summaries ===

#[test]
fn one_a_coupon_takes_its_share_of_price_and_tax() {
    // 50.00 + 2.00 tax, less 20.00 + 0.80; 10.00 + 0.40, less all of it; delivery 5.00 + 0.20.
    // 30.00 + 0.00 + 5.00 = 35.00; tax 1.20 + 0.00 + 0.20 = 1.40: 36.40.
    let summary = summary(
        r#"{"id":1,"number":"R-1","status":"processing","currency":"USD","total":"36.40","total_tax":"1.40","discount_total":"30.00",
        "shipping_total":"5.00","date_created_gmt":"2018-04-03T23:05:12","date_paid_gmt":"2018-04-03T23:05:14","payment_method":"stripe",
        "transaction_id":"pi_1","customer_id":11,"billing":{"first_name":"Jo","last_name":"Doe","email":"Jo@Example.com","country":"US"},
        "shipping":{"first_name":"Jo","city":"Niagara Falls","postcode":"14304","country":"US"},
        "tax_lines":[{"rate_id":1,"label":"State","rate_percent":4}],"coupon_lines":[{"code":"30off"}],
        "line_items":[{"sku":"","product_id":52,"variation_id":0,"quantity":2,"price":15,"subtotal":"50.00","subtotal_tax":"2.00","total":"30.00","total_tax":"1.20","taxes":[{"id":1,"total":"1.2","subtotal":"2"}]},
          {"sku":"5555-A","product_id":234,"quantity":1.5,"price":0.0,"subtotal":"10.00","subtotal_tax":"0.40","total":"0.00","total_tax":"0.00","taxes":[{"id":1,"total":"0","subtotal":"0.4"}]}],
        "shipping_lines":[{"method_title":"Mail","method_id":"usps","total":"5.00","total_tax":"0.20","taxes":[{"id":1,"total":"0.2"}]}]}"#,
    );
    assert_eq!(
        lines(&summary),
        [
            "product 2 x 50.00 [-20.00/-0.80*] [State 2.00]",
            "product 1.5 x 10.00 [-10.00/-0.40*] [State 0.40]",
            "delivery 1 x 5.00 [] [State 0.20]"
        ]
    );
    assert_eq!(summary.adjustment_groups[0].name, "30off");
    assert_eq!(summary.lines[0].taxes[0].rate, Some(dec("0.04")));
    assert_eq!(
        (summary.lines[0].product_code.as_str(), summary.lines[1].product_code.as_str()),
        ("52", "5555-A")
    );
    assert_eq!(totals(&summary), ["35.00", "1.40", "36.40"]);
    assert_eq!(summary.totals.header_adjustment, dec("-30.00"));
    assert_eq!(summary.ordered_date_ms, Some(1_522_796_712_000));
    assert_eq!(summary.shopper.email_normalised.as_deref(), Some("jo@example.com"));
    let payment = &summary.payments[0];
    assert_eq!((payment.state, payment.amount), (PaymentState::Captured, Some(dec("36.40"))));
    assert_eq!(payment.reference.as_deref(), Some("pi_1"));
    assert_eq!((summary.difference, summary.oddities.as_slice()), (dec("0"), [].as_slice()));
}

#[test]
fn two_pitfall_28_prices_with_tax_still_state_lines_without_and_rates_share_rounded_tax() {
    // 17.65 + 0.35 tax; delivery 15.00 + 0.30: 32.65 + 0.65 = 33.30. The line's rates say 0.205882 and
    // 0.147059, together 0.352941; of 0.35 they take 0.20 and 0.15.
    let summary = summary(
        r#"{"id":2,"status":"completed","currency":"USD","prices_include_tax":true,"total":"33.30","total_tax":"0.65","customer_id":0,
        "billing":{"email":"a@b.c"},"date_created_gmt":"2022-01-28T13:59:07","tax_lines":[{"rate_id":2,"label":"City"},{"rate_id":3,"rate_code":"US-2"}],
        "line_items":[{"quantity":1,"price":17.647059,"subtotal":"17.65","subtotal_tax":"0.35","total":"17.65","total_tax":"0.35",
          "taxes":[{"id":2,"total":"0.205882","subtotal":"0.205882"},{"id":3,"total":"0.147059","subtotal":"0.147059"}]}],
        "shipping_lines":[{"method_title":"Flat rate","total":"15.00","total_tax":"0.30","taxes":[{"id":2,"total":"0.3","subtotal":""}]}]}"#,
    );
    assert_eq!(summary.tax_locale, TaxLocale::Gross);
    assert_eq!(
        lines(&summary),
        ["product 1 x 17.65 [] [City 0.20, US-2 0.15]", "delivery 1 x 15.00 [] [City 0.30]"]
    );
    assert_eq!(summary.lines[0].unit_price, dec("17.647059"), "long unit prices stay");
    assert_eq!(totals(&summary), ["32.65", "0.65", "33.30"]);
    assert_eq!(summary.shopper.customer_id, None, "0 is a guest");
    assert!(summary.oddities.is_empty());
}

#[test]
fn three_gift_cards_pay_and_the_total_stays_the_channels() {
    // 18.00 + 10.00 delivery, 20.00 and 4.00 by gift card: 4.00 is left.
    let summary = summary(
        r#"{"id":3,"status":"processing","currency":"USD","total":"4.00","total_tax":"0.00","payment_method":"card","billing":{"email":"a@b.c"},
        "date_created_gmt":"2023-03-29T03:21:20","line_items":[{"quantity":1,"subtotal":"18.00","total":"18.00"}],
        "shipping_lines":[{"method_title":"Flat rate","total":"10.00"}],"gift_cards":[{"code":"AAAA","amount":20},{"code":"BBBB","amount":"4"}]}"#,
    );
    assert_eq!(
        lines(&summary),
        ["product 1 x 18.00 [] []", "delivery 1 x 10.00 [] []", "fee 1 x -24 [] []"]
    );
    assert_eq!(totals(&summary), ["4.00", "0.00", "4.00"]);
    let paid: Vec<_> =
        summary.payments.iter().map(|p| (p.method.as_str(), p.amount.unwrap())).collect();
    assert_eq!(paid, [("card", dec("4.00")), ("gift_card", dec("20")), ("gift_card", dec("4"))]);
    assert!(summary.payments.iter().all(|p| p.reference.is_none()), "a code is money");
    assert!(summary.oddities.is_empty());
}

#[test]
fn four_pitfall_31_fees_outside_the_total_are_a_recorded_difference() {
    // 40.00 + fees 10.00 + 2.00 tax + delivery 4.00 = 56.00; the shop says 44.00: -12.00.
    let summary = summary(
        r#"{"id":4,"status":"processing","currency":"USD","total":"44.00","total_tax":"0.00","shipping_total":"4.00","billing":{"email":"a@b.c"},
        "date_created":"2018-04-02T14:57:39","line_items":[{"quantity":1,"subtotal":"40.00","subtotal_tax":"0.00","total":"40.00","total_tax":"0.00","taxes":[]}],
        "fee_lines":[{"name":"Rush","amount":"10","total":"10.00","total_tax":"2.00","taxes":[{"id":1,"total":"2","subtotal":""}]}]}"#,
    );
    assert_eq!(
        lines(&summary),
        [
            "product 1 x 40.00 [] []",
            "delivery 1 x 4.00 [] []",
            "fee 1 x 10.00 [] [2.00]",
            "difference 1 x -12.00 [] []"
        ]
    );
    assert_eq!(totals(&summary), ["42.00", "2.00", "44.00"]);
    assert_eq!(summary.difference, dec("-12.00"));
    assert_eq!(summary.ordered_date_text, "2018-04-02T14:57:39");
    assert_eq!(summary.oddities, [Oddity::TotalsDiffer, Oddity::NoOrderedInstant]);
}

#[test]
fn five_a_price_changed_without_coupon_is_the_lines_own_and_a_negative_fee_a_fee() {
    // 30.00 raised to 33.00, tax 3.00 to 3.30; a rebate of -5.00 with -0.50: 28.00 + 2.80 = 30.80.
    let summary = summary(
        r#"{"id":5,"status":"on-hold","currency":"EUR","total":"30.80","total_tax":"2.80","billing":{"email":"a@b.c","company":"Acme"},
        "date_created_gmt":"2026-01-01T00:00:00","line_items":[{"quantity":3,"subtotal":"30.00","subtotal_tax":"3.00","total":"33.00","total_tax":"3.30"}],
        "fee_lines":[{"name":"Rebate","total":"-5.00","total_tax":"-0.50"}]}"#,
    );
    assert_eq!(
        lines(&summary),
        ["product 3 x 30.00 [3.00/0.30] [3.00]", "fee 1 x -5.00 [] [-0.50]"]
    );
    assert_eq!(totals(&summary), ["28.00", "2.80", "30.80"]);
    assert_eq!(summary.totals.line_adjustment, dec("3.00"));
    assert_eq!(summary.shopper.name.as_deref(), Some("Acme"));
    assert!(summary.oddities.is_empty() && summary.adjustment_groups.is_empty());
}

#[test]
fn six_components_are_lines_and_delivery_tax_without_delivery_is_not_lost() {
    // 340.40 + 30.21, a component at 0.00, delivery tax 0.62 alone; the shop says 371.23: nothing left.
    let summary = summary(
        r#"{"id":6,"status":"processing","currency":"USD","total":"371.23","total_tax":"30.83","shipping_total":"0.00","shipping_tax":"0.62",
        "date_created_gmt":"2021-08-04T19:28:01","billing":{"email":""},"shipping_lines":[],
        "line_items":[{"quantity":2,"price":170.19999999999999,"subtotal":"340.40","subtotal_tax":"30.21","total":"340.40","total_tax":"30.21"},
          {"quantity":2,"price":0,"subtotal":"0.00","total":"0.00","composite_parent":1}]}"#,
    );
    assert_eq!(
        lines(&summary),
        ["product 2 x 340.40 [] [30.21]", "product 2 x 0.00 [] []", "delivery 1 x 0.00 [] [0.62]"]
    );
    assert_eq!(totals(&summary), ["340.40", "30.83", "371.23"]);
    assert_eq!(summary.oddities, [Oddity::NoEmail]);
}

#[test]
fn pitfall_32_33_37_39_odd_sales_are_sales() {
    let yen = summary(
        r#"{"id":1,"status":"processing","currency":"JPY","total":"16.24","line_items":[],"billing":{"email":null}}"#,
    );
    assert_eq!(yen.totals.grand_total, dec("16.24"));
    let odd = [Oddity::NoEmail, Oddity::NoLines, Oddity::FractionBeyondCurrency];
    assert!(odd.iter().all(|oddity| yen.oddities.contains(oddity)), "{:?}", yen.oddities);
    let no_currency = outcome(r#"{"id":1,"status":"processing","total":"1.00"}"#);
    assert_eq!(no_currency.unwrap_err().code, "no_currency");
}

#[test]
fn amounts_that_no_shop_has_are_an_exception_and_never_a_panic() {
    let huge = "999999999999999999999999";
    let line =
        format!(r#"{{"quantity":1,"subtotal":"{huge}","total":"-{huge}","total_tax":"{huge}"}}"#);
    let body = |lines: usize| {
        format!(
            r#"{{"id":1,"status":"processing","currency":"EUR","total":"-{huge}","line_items":[{}]}}"#,
            vec![line.as_str(); lines].join(",")
        )
    };
    assert_eq!(outcome(&body(1)).unwrap_err().code, "amount_too_large");
    let small = body(2_000).replace(huge, "99999999999999999999999");
    assert!(outcome(&small).is_ok());
    let taxes = vec![r#"{"id":1,"total":"1"}"#; 30_000].join(",");
    let many = format!(
        r#"{{"id":1,"status":"processing","currency":"EUR","line_items":[{{"taxes":[{taxes}]}}]}}"#
    );
    assert_eq!(outcome(&many).unwrap_err().code, "too_many_parts");
}

#[test]
fn card_data_in_notes_and_metadata_is_masked() {
    let body = r#"{"id":1,"status":"processing","total":"1.00","transaction_id":"4111111111111111","customer_note":"card 4111 1111 1111 1111",
        "meta_data":[{"key":"_card_cvc","value":"123"},{"key":"n","value":4111111111111111},{"key":"o","value":{"pan":"378282246310005"}}]}"#;
    let item = item(body);
    let masked = body
        .replacen("4111 1111 1111 1111", "**** **** **** ****", 1)
        .replacen("\"123\"", "\"***\"", 1)
        .replacen(":4111111111111111", ":\"**************\"", 1)
        .replacen("378282246310005", "***************", 1);
    assert_eq!(std::str::from_utf8(&item.bytes).unwrap(), masked);
}
