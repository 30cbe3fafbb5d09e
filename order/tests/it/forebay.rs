//! Forebay's canonical JSON and its schema.

use bytes::Bytes;
use forebay_order::readiness::{HoldReason, RecordedAs};
use forebay_order::summary::{LineKind, Oddity, PaymentState, TaxLocale};
use forebay_order::{
    Format, Item, ItemResult, OrderKey, OrderSummary, ReadOptions, Readiness, Unmappable,
    Unreadable, UnreadableKind, read, summarise,
};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::Value;

const FORMAT: Format = Format::Forebay;
const SCHEMA: &str = include_str!("../../schema/forebay-order.schema.json");

fn dec(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn items(body: &str) -> Result<Vec<ItemResult>, Unreadable> {
    read(FORMAT, &Bytes::copy_from_slice(body.as_bytes()), &ReadOptions::default())
}

fn one(body: &str) -> Item {
    let mut items = items(body).unwrap();
    assert_eq!(items.len(), 1);
    items.remove(0).unwrap()
}

fn refused(body: &str) -> Unreadable {
    match items(body) {
        Err(error) => error,
        Ok(items) => items.into_iter().find_map(Result::err).expect("something to be refused"),
    }
}

fn summary(item: &Item) -> Result<OrderSummary, Unmappable> {
    let key = OrderKey::new("forebay", "demo", item.id.clone().unwrap());
    summarise(FORMAT, key, item.fingerprint, &item.bytes)
}

fn order(members: &str) -> String {
    format!(
        r#"{{"id":"A-1","placed_at":"2026-11-25T15:04:05.123Z","currency":"EUR",
        "shopper":{{"email":"ada@example.com"}},{members}}}"#
    )
}

fn summarised(members: &str) -> OrderSummary {
    summary(&one(&order(members))).unwrap()
}

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

#[test]
fn net_order_by_hand() {
    let summary = summarised(
        r#""prices":"net","totals":{"grand":"124.95","tax":"19.95","shipping":"5.00","discount":"10.00"},
        "lines":[{"sku":"TEA","quantity":2,"unit_price":"55.00","tax":"20.90",
                  "discounts":[{"amount":"10.00","tax":"1.90","name":"WELCOME"}]}],
        "charges":[{"kind":"delivery","amount":"5.00","tax":"0.95"}]"#,
    );
    // 110 - 10 + 5 = 105; tax 20.90 - 1.90 + 0.95 = 19.95.
    assert_eq!(
        shown(&summary),
        ["Product TEA 110.00 [20.90] [L-10.00/-1.90]", "DeliveryCharge  5.00 [0.95] []"]
    );
    assert_eq!(summary.totals.total_amount, dec("105.00"));
    assert_eq!(summary.totals.total_tax_amount, dec("19.95"));
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("124.95"), dec("0")));
    assert_eq!(summary.stated.discount_total, Some(dec("10.00")));
    assert!(summary.oddities.is_empty(), "{:?}", summary.oddities);
}

#[test]
fn gross_order_by_hand() {
    let summary = summarised(
        r#""prices":"gross","totals":{"grand":119.00},
        "lines":[{"sku":"A","amount":"119.00","tax":"19.00","discounts":[{"amount":"11.90","tax":"1.90","name":"TEN"}]}],
        "charges":[{"kind":"delivery","amount":"5.95","tax":"0.95"},{"kind":"fee","name":"Wrapping","amount":"5.95","tax":"0.95"}]"#,
    );
    // 119 - 11.90 + 5.95 + 5.95 = 119.00 with tax 19 - 1.90 + 0.95 + 0.95 = 19.00 in it.
    assert_eq!(summary.tax_locale, TaxLocale::Gross);
    assert_eq!(
        shown(&summary),
        [
            "Product A 100.00 [19.00] [L-10.00/-1.90]",
            "DeliveryCharge  5.00 [0.95] []",
            "Fee  5.00 [0.95] []",
        ]
    );
    assert_eq!(summary.totals.total_tax_amount, dec("19.00"));
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("119.00"), dec("0")));
}

#[test]
fn order_level_discount_with_and_without_shares_by_hand() {
    let shares = summarised(
        r#""lines":[{"sku":"A","amount":"60","discounts":[{"amount":"6","name":"TEN","order_level":true}]},
                    {"sku":"B","amount":"40","discounts":[{"amount":"4","name":"TEN","order_level":true},
                                                          {"amount":"1","name":"OWN"}]}]"#,
    );
    assert_eq!(shown(&shares), ["Product A 60 [] [H-6/0]", "Product B 40 [] [H-4/0 L-1/0]"]);
    assert_eq!((shares.adjustment_groups.len(), shares.totals.grand_total), (1, dec("89")));
    let stated = summarised(
        r#""totals":{"grand":"90"},"lines":[{"sku":"A","amount":"60"},{"sku":"B","amount":"40"}],
        "discounts":[{"amount":"10","name":"TEN"}]"#,
    );
    assert_eq!(shown(&stated), ["Product A 60 [] [H-6.00/0]", "Product B 40 [] [H-4.00/0]"]);
    assert_eq!((stated.totals.grand_total, stated.difference), (dec("90"), dec("0")));
    assert!(stated.oddities.contains(&Oddity::DiscountDistributed));
}

#[test]
fn taxes_in_parts_by_hand() {
    let taxed = |tax: &str| {
        summarised(&format!(
            r#""lines":[{{"sku":"A","amount":"100",{tax}"taxes":[{{"name":"STATE","rate":0.06,"amount":"6"}},{{"amount":"2"}}]}}]"#
        ))
    };
    for agreed in ["", r#""tax":"8","#] {
        let summary = taxed(agreed);
        assert_eq!(shown(&summary), ["Product A 100 [6 2] []"]);
        assert_eq!(summary.lines[0].taxes[0].rate, Some(dec("0.06")));
        assert_eq!(summary.totals.grand_total, dec("108"));
    }
    assert_eq!(shown(&taxed(r#""tax":"9","#)), ["Product A 100 [9] []"]);
}

#[test]
fn shipments_by_hand() {
    let shipments = r#""shipments":[{"id":"S1","method":"express","address":{"name":"Ada","city":"London"}},{"id":2}]"#;
    let summary = summarised(&format!(
        r#"{shipments},"lines":[{{"sku":"A","amount":"1","shipment":"S1"}},{{"sku":"B","amount":"1","shipment":2}},
        {{"sku":"C","amount":"1","shipment":"S9"}},{{"sku":"D","amount":"1"}}]"#
    ));
    let groups: Vec<_> = summary.lines.iter().map(|line| line.delivery_group).collect();
    assert_eq!(groups, [Some(0), Some(1), None, None]);
    assert_eq!(summary.oddities, [Oddity::UnknownShipment]);
    assert_eq!(summary.delivery_groups[0].method.as_deref(), Some("express"));
    assert_eq!(summary.totals.grand_total, dec("4"));
    let one = summarised(r#""shipments":[{"method":"x"}],"lines":[{"sku":"A","amount":"1"}]"#);
    assert_eq!(one.lines[0].delivery_group, Some(0), "the only one");
}

#[test]
fn the_schemas_own_example_by_hand() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let example = schema["examples"][2].to_string();
    let item = one(&example);
    assert_eq!(
        (item.id.as_deref(), &*item.number, item.version),
        (Some("A-1002"), "1002", Some(1))
    );
    let summary = summary(&item).unwrap();
    assert_eq!(
        shown(&summary),
        ["Product TEA-01 110.00 [20.90] [H-10.00/-1.90]", "DeliveryCharge  5.00 [0.95] []"]
    );
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("124.95"), dec("0")));
    assert_eq!(summary.payments[0].state, PaymentState::Authorised);
    assert_eq!(summary.shopper.name.as_deref(), Some("Ada Lovelace"));
    assert!(summary.oddities.is_empty());
}

#[test]
fn pitfall_31_32_33_differences_and_fractions_are_kept_and_flagged() {
    let cent = summarised(r#""totals":{"grand":"92.01"},"lines":[{"sku":"A","amount":"92.00"}]"#);
    assert_eq!((cent.difference, cent.totals.grand_total), (dec("0.01"), dec("92.01")));
    assert_eq!(cent.lines[1].kind, LineKind::Difference);
    let yen = order(r#""totals":{"grand":"16.24"},"lines":[{"sku":"A","amount":"16.24"}]"#);
    let yen = summary(&one(&yen.replace("EUR", "JPY"))).unwrap();
    assert_eq!(yen.totals.grand_total, dec("16.24"));
    assert_eq!(yen.oddities, [Oddity::FractionBeyondCurrency]);
}

#[test]
fn pitfall_35_36_37_zero_is_a_value_and_divides_nothing() {
    let zero = summarised(
        r#""lines":[{"sku":"A","amount":0,"unit_price":"30","quantity":1},{"sku":"B","amount":"5","quantity":0}]"#,
    );
    assert_eq!(zero.lines[0].line_amount, dec("0"));
    assert_eq!(zero.lines[1].unit_price, dec("5"));
    let free = summarised(
        r#""totals":{"grand":0},"lines":[{"sku":"A","amount":"30","discounts":[{"amount":"30"}]}]"#,
    );
    assert_eq!((free.totals.grand_total, free.difference), (dec("0"), dec("0")));
    let none = summarised(r#""lines":[]"#);
    assert_eq!(none.oddities, [Oddity::NoLines]);
}

#[test]
fn pitfall_38_39_40_null_is_absent_and_no_zone_is_guessed() {
    let body = r#"{"id":1,"currency":"EUR","shopper":null,"placed_at":"2026-11-25T15:04:05","lines":null,"totals":{"grand":null}}"#;
    let item = one(body);
    assert_eq!((item.email.clone(), item.amount), (None, None));
    let summary = summary(&item).unwrap();
    assert_eq!(
        (summary.ordered_date_ms, &*summary.ordered_date_text),
        (None, "2026-11-25T15:04:05")
    );
    assert_eq!(summary.oddities, [Oddity::NoEmail, Oddity::NoLines, Oddity::NoOrderedInstant]);
    let blank = one(r#"{"id":1,"currency":"EUR","shopper":{"email":" "}}"#);
    assert_eq!(blank.email, None);
}

#[test]
fn pitfall_41_42_text_stays_as_it_is() {
    let summary = summarised(r#""lines":[{"sku":"A&amp;B","name":"Tea 🍵 \u00e9","amount":1}]"#);
    assert_eq!((&*summary.lines[0].product_code, &*summary.lines[0].name), ("A&amp;B", "Tea 🍵 é"));
}

#[test]
fn pitfall_51_missing_lines_are_flagged() {
    let lines = r#""lines":[{"sku":"A","amount":1}]"#;
    let with = |count: u32| summarised(&format!(r#""line_count":{count},{lines}"#)).oddities;
    assert_eq!(with(50), [Oddity::LinesIncomplete]);
    assert!(with(1).is_empty());
}

#[test]
fn pitfall_24_25_29_ids_and_amounts_keep_every_digit() {
    let item = one(
        r#"{"id":820982911946154508,"number":42,"currency":"EUR","totals":{"grand":1234567890123456789.01}}"#,
    );
    assert_eq!((item.id.as_deref(), &*item.number), (Some("820982911946154508"), "42"));
    assert_eq!(item.amount.unwrap().to_string(), "1234567890123456789.01");
    let text = one(r#"{"id":"820982911946154508","currency":"EUR"}"#);
    assert_eq!((text.id, &*text.number), (item.id, "820982911946154508"));
    assert_eq!(
        one(r#"{"id":1,"version":18446744073709551615,"currency":"EUR"}"#).version,
        Some(u64::MAX)
    );
}

#[test]
fn readiness_follows_the_table() {
    let with =
        |status: &str| one(&format!(r#"{{"id":1,"currency":"EUR","status":{status}}}"#)).readiness;
    assert_eq!(with("\"placed\""), Readiness::Pending);
    assert_eq!(with("null"), Readiness::Pending);
    assert_eq!(with("\"held\""), Readiness::Held(HoldReason::OnHold));
    assert_eq!(with("\"cancelled\""), Readiness::Cancelled);
    assert_eq!(with("\"draft\""), Readiness::Recorded(RecordedAs::Draft));
    assert_eq!(with("\"test\""), Readiness::Recorded(RecordedAs::Test));
    let only =
        |status: &str| one(&format!(r#"{{"id":1,"version":2,"status":"{status}"}}"#)).readiness;
    assert_eq!(only("placed"), Readiness::FetchNeeded, "pitfall 19");
    assert_eq!(only("cancelled"), Readiness::Cancelled);
    let error = refused(r#"{"id":1,"currency":"EUR","status":"canceled"}"#);
    assert_eq!((error.kind, error.pointer.as_deref()), (UnreadableKind::Value, Some("/status")));
    assert!(error.message.contains("cancelled") && !error.message.contains("canceled"), "{error}");
}

#[test]
fn an_order_without_currency_is_an_exception() {
    let item = one(r#"{"id":1,"lines":[{"amount":1}]}"#);
    assert_eq!(
        (item.readiness, summary(&item).unwrap_err().code),
        (Readiness::Pending, "no_currency")
    );
    assert_eq!(summary(&one(r#"{"id":1,"currency":"XXX"}"#)).unwrap_err().code, "no_currency");
}

#[test]
fn wrappers_arrays_and_lines_give_the_same_item() {
    let plain = one(r#"{"id":"1","currency":"EUR"}"#);
    for body in [
        r#"{"order":{"id":"1","currency":"EUR"}}"#,
        r#"{ "orders" : [ { "id" : "1" , "currency" : "EUR" } ] }"#,
        r#"{"data":{"id":"1","currency":"EUR"}}"#,
        r#"[{"id":"1","currency":"EUR"}]"#,
        "\u{feff}{\"id\":\"1\",\"currency\":\"EUR\",\"version\":7}\n",
    ] {
        assert_eq!(one(body).fingerprint, plain.fingerprint, "{body}");
    }
    let lines =
        items("{\"id\":1,\"currency\":\"EUR\"}\n{\"id\":2,\"currency\":\"EUR\"}\n").unwrap();
    assert_eq!(lines.len(), 2);
    assert_ne!(one(r#"{"id":"1","currency":"USD"}"#).fingerprint, plain.fingerprint);
}

#[test]
fn faults_name_their_place() {
    for (members, pointer) in [
        (r#""lines":[{"amount":"1,000.00"}]"#, "/lines/0/amount"),
        (r#""totals":{"grand":"abc"}"#, "/totals/grand"),
        (r#""charges":[{},{"kind":"tip"}]"#, "/charges/1/kind"),
        (r#""discounts":[{"amount":"-1"}]"#, "/discounts/0/amount"),
        (r#""version":1.5"#, "/version"),
        (r#""prices":"mixed""#, "/prices"),
        (r#""payments":[{"state":"paid"}]"#, "/payments/0/state"),
    ] {
        let error = refused(&order(members));
        assert_eq!(
            (error.kind, error.pointer.as_deref()),
            (UnreadableKind::Value, Some(pointer)),
            "{members}"
        );
    }
    let error = refused("{\n  \"id\": \"1\",\n  \"totals\": {\"grand\": \"1,000\"}}");
    assert_eq!((error.line, error.column), (3, 23));
    assert_eq!(refused(r#"{"id":" ","currency":"EUR"}"#).kind, UnreadableKind::MissingId);
    assert_eq!(refused(r#"{"currency":"EUR"}"#).kind, UnreadableKind::MissingId);
    assert_eq!(refused(&order(r#""id":"2""#)).kind, UnreadableKind::DuplicateMember, "pitfall 46");
    assert_eq!(refused(&order(r#""currency":"eur""#)).kind, UnreadableKind::DuplicateMember);
    assert_eq!(refused(r#"{"id":1,"currency":"eur"}"#).pointer.as_deref(), Some("/currency"));
}

#[test]
fn card_data_is_masked_in_free_text_and_payments_only() {
    let card = "4111 1111 1111 1111";
    let body = order(&format!(
        r#""note":"my card is {card}","attributes":{{"a":{{"b":"{card}"}},"cvv":"123"}},
        "lines":[{{"sku":"{card}","name":"{card}","amount":1}}],"number":"{card}",
        "payments":[{{"method":"card {card}","reference":"{card}"}}]"#
    ));
    let item = one(&body);
    let kept = String::from_utf8(item.bytes.to_vec()).unwrap();
    assert_eq!(kept.matches(card).count(), 4, "sku, name, number and reference stay: {kept}");
    assert_eq!(kept.matches("**** **** **** ****").count(), 3);
    assert!(kept.contains(r#""cvv":"***""#));
    assert_eq!(kept.len(), body.len());
    let again = one(&body.replace("my card is 4111", "my card is 4222"));
    assert_ne!(again.fingerprint, item.fingerprint, "taken before masking");
}

/// Bodies that the schema takes, and some that it refuses.
fn cases() -> Vec<(String, bool)> {
    let good = [
        r#"{"id":"1"}"#,
        r#"{"id":1,"unknown":{"a":[1,2]},"note":"x"}"#,
        r#"{"id":"1","number":null,"version":0,"currency":"EUR","status":"held","prices":"gross"}"#,
        r#"{"id":"1","currency":"KWD","totals":{"grand":"1.234","tax":-0.5,"discount":"0"}}"#,
        r#"{"id":"1","currency":"EUR","lines":[{},{"sku":7,"quantity":"1.5","amount":"1e2","attributes":{"x":1}}]}"#,
        r#"{"id":"1","currency":"EUR","lines":[{"taxes":[{"amount":"1","rate":0}],"discounts":[{"amount":1,"order_level":true}]}]}"#,
        r#"{"id":"1","currency":"EUR","charges":[{"kind":"fee"},{"kind":null},{}],"discounts":[{"amount":"3"}]}"#,
        r#"{"id":"1","currency":"EUR","payments":[{"method":"card","amount":"1","state":"captured","reference":12}]}"#,
        r#"{"id":"1","currency":"EUR","shopper":{},"billing":null,"shipments":[{"id":1,"address":{"city":"X"}}],"line_count":3}"#,
        r#"{"id":"1","status":"cancelled"}"#,
    ];
    let bad = [
        r#"{}"#,
        r#"{"id":null}"#,
        r#"{"id":""}"#,
        r#"{"id":" "}"#,
        r#"{"id":{}}"#,
        r#"{"id":true}"#,
        r#"[1]"#,
        r#"{"id":"1","version":-1}"#,
        r#"{"id":"1","version":1.5}"#,
        r#"{"id":"1","currency":"eur"}"#,
        r#"{"id":"1","currency":"EURO"}"#,
        r#"{"id":"1","status":"canceled"}"#,
        r#"{"id":"1","prices":"mixed"}"#,
        r#"{"id":"1","totals":{"grand":"1,000.00"}}"#,
        r#"{"id":"1","totals":{"grand":true}}"#,
        r#"{"id":"1","totals":{"discount":-1}}"#,
        r#"{"id":"1","totals":7}"#,
        r#"{"id":"1","shopper":"Ada"}"#,
        r#"{"id":"1","lines":[7]}"#,
        r#"{"id":"1","lines":{"a":1}}"#,
        r#"{"id":"1","lines":[{"amount":"12 EUR"}]}"#,
        r#"{"id":"1","lines":[{"quantity":"NaN"}]}"#,
        r#"{"id":"1","lines":[{"amount":1000000000000000000000000}]}"#,
        r#"{"id":"1","lines":[{"taxes":[{"name":"VAT"}]}]}"#,
        r#"{"id":"1","lines":[{"discounts":[{"name":"x"}]}]}"#,
        r#"{"id":"1","discounts":[{"amount":"-0.01"}]}"#,
        r#"{"id":"1","charges":[{"kind":"tip"}]}"#,
        r#"{"id":"1","payments":[{"state":"paid"}]}"#,
        r#"{"id":"1","line_count":-3}"#,
    ];
    let good = good.iter().map(|body| (body.to_string(), true));
    good.chain(bad.iter().map(|body| (body.to_string(), false))).collect()
}

#[test]
fn schema_and_decoder_agree() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    for (body, good) in cases() {
        let value: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(validator.is_valid(&value), good, "schema on {body}");
        let taken = items(&body).is_ok_and(|items| items.iter().all(Result::is_ok));
        assert_eq!(taken, good, "decoder on {body}");
        if good && value.get("currency").is_some() {
            summary(&one(&body)).unwrap();
        }
    }
}

#[test]
fn the_schema_is_valid_and_so_are_its_examples() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let examples = schema["examples"].as_array().unwrap();
    assert!(examples.len() >= 3);
    for example in examples {
        assert!(validator.is_valid(example), "{example}");
        assert!(items(&example.to_string()).unwrap()[0].is_ok(), "{example}");
    }
}

#[test]
fn every_part_of_the_schema_is_described() {
    fn walk(value: &Value, path: &str) {
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            for (name, property) in properties {
                assert!(property.get("description").is_some(), "{path}/{name} lacks a description");
                walk(property, &format!("{path}/{name}"));
            }
        }
    }
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    walk(&schema, "");
    for (name, part) in schema["$defs"].as_object().unwrap() {
        assert!(part.get("description").is_some(), "{name}");
        walk(part, name);
    }
}

proptest! {
    #[test]
    fn mutated_orders_never_panic(at in 0usize..2000, byte in any::<u8>(), cut in 0usize..2000) {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let mut body = schema["examples"][2].to_string().replace("110.00", "99999999999999999999").into_bytes();
        let length = body.len();
        body[at % length] = byte;
        if cut % 4 == 0 {
            body.truncate(cut % length);
        }
        if let Ok(items) = read(FORMAT, &Bytes::from(body), &ReadOptions::default()) {
            for item in items.into_iter().flatten().filter(|item| item.id.is_some()) {
                if let Ok(summary) = summary(&item)
                    && let Some(stated) = summary.stated.grand_total
                {
                    assert_eq!(summary.totals.grand_total, stated);
                }
            }
        }
    }
}

#[test]
fn charges_count_as_lines_and_shipments_as_parts() {
    let of = |lines: usize, charges: usize| {
        let many = |n: usize| vec![r#"{"amount":1}"#; n].join(",");
        order(&format!(r#""lines":[{}],"charges":[{}]"#, many(lines), many(charges)))
    };
    let item = one(&of(1_500, 500));
    assert_eq!((item.lines, summary(&item).unwrap().lines.len()), (1_500, 2_000));
    assert_eq!(refused(&of(1_500, 501)).kind, UnreadableKind::TooLarge);
    let shipments = vec![r#"{"id":"a"}"#; 20_001].join(",");
    let many = one(&order(&format!(r#""shipments":[{shipments}]"#)));
    assert_eq!(summary(&many).unwrap_err().code, "too_many_parts");
}
