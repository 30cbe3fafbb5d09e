//! Salesforce order-summary graphs.

use bytes::Bytes;
use forebay_order::summary::{LifeCycle, LineKind, Oddity, PaymentState};
use forebay_order::{
    Format, Item, ItemResult, OrderKey, OrderSummary, ReadOptions, Readiness, Unmappable,
    Unreadable, UnreadableKind, read, summarise,
};
use proptest::prelude::*;
use rust_decimal::Decimal;

use crate::real;

const FORMAT: Format = Format::Salesforce;

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

fn refused(body: &str) -> UnreadableKind {
    items(body).map_or_else(|error| error.kind, |items| items[0].clone().unwrap_err().kind)
}

fn summary(item: &Item) -> Result<OrderSummary, Unmappable> {
    let key = OrderKey::new("salesforce", "demo", item.id.clone().unwrap());
    summarise(FORMAT, key, item.fingerprint, &item.bytes)
}

fn node(reference: &str, kind: &str, fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    format!(
        r#"{{"referenceId":"{reference}","attributes":{{"attributes":{{"type":"{kind}"}}{comma}{fields}}}}}"#
    )
}

fn order(fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    let own = format!(
        r#""ExternalReferenceIdentifier":"realm@site@1","OrderNumber":"1","CurrencyIsoCode":"USD",
        "OrderedDate":"2026-11-25T15:04:05.123Z","BillingEmailAddress":" Ada@Example.com "{comma}{fields}"#
    );
    node("o", "OrderSummary", &own)
}

fn line(reference: &str, amount: &str, fields: &str) -> String {
    let comma = if fields.is_empty() { "" } else { "," };
    let own =
        format!(r#""Type":"Order Product","Quantity":1,"TotalLineAmount":{amount}{comma}{fields}"#);
    node(reference, "OrderItemSummary", &own)
}

fn tax(of: &str, amount: &str) -> String {
    let fields =
        format!(r#""Name":"T","Amount":{amount},"Rate":0.1,"OrderItemSummaryId":"@{{{of}.id}}""#);
    node(&format!("t-{of}-{amount}"), "OrderItemTaxLineItemSummary", &fields)
}

fn adjustment(reference: &str, of: &str, amount: &str, group: &str) -> String {
    let group = match group {
        "" => String::new(),
        group => format!(r#","OrderAdjustmentGroupSummaryId":"@{{{group}.id}}""#),
    };
    let fields =
        format!(r#""Name":"P","Amount":{amount},"OrderItemSummaryId":"@{{{of}.id}}"{group}"#);
    node(reference, "OrderItemAdjustmentLineSummary", &fields)
}

fn adjustment_tax(line: &str, adjustment: &str, amount: &str) -> String {
    let fields = format!(
        r#""Amount":{amount},"OrderItemSummaryId":"@{{{line}.id}}","OrderItemAdjustmentLineSummaryId":"@{{{adjustment}.id}}""#
    );
    node(&format!("at-{adjustment}"), "OrderItemTaxLineItemSummary", &fields)
}

fn graph(nodes: &[String]) -> String {
    format!(
        r#"{{"orderSummaryGraphId":"g1","purchaseSupportDetails":[],"purchaseDetails":[{}]}}"#,
        nodes.join(",")
    )
}

fn summarised(nodes: &[String]) -> OrderSummary {
    summary(&one(&graph(nodes))).unwrap()
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

fn rows() -> Option<Vec<real::Row>> {
    Some(real::rows(&real::orders()?, "salesforce_hso"))
}

fn body(file: &str) -> Bytes {
    std::fs::read(real::orders().unwrap().join(file)).unwrap().into()
}

#[test]
fn real_graphs_mean_what_the_table_says() {
    let Some(rows) = rows() else { return };
    for row in rows {
        let body = body(&row["file"]);
        let items = read(FORMAT, &body, &ReadOptions::default()).unwrap();
        let item = items[row["item"].parse::<usize>().unwrap()].clone().unwrap();
        assert_eq!(item.id.as_deref(), Some(&*row["id"]), "{}", row["file"]);
        assert_eq!(item.number, row["number"]);
        assert_eq!(item.currency.unwrap().code(), row["currency"]);
        assert_eq!(item.readiness.word(), row["readiness"]);
        assert_eq!(item.lines.to_string(), row["lines"]);
        assert_eq!(item.amount, None, "no grand total stated");
        assert!(item.masked.is_empty());
        assert_eq!(item.bytes, body.slice(item.span.clone()));
    }
}

#[test]
fn the_real_graph_worked_out_by_hand() {
    let Some(rows) = rows() else { return };
    let items = read(FORMAT, &body(&rows[0]["file"]), &ReadOptions::default()).unwrap();
    let summary = summary(items[0].as_ref().unwrap()).unwrap();
    // Lines 200 + 800, delivery 200; tax 10 + 40 + 10 - 4 * 0.79 = 56.84; adjustments 4 * -15.84 = -63.36.
    assert_eq!(
        shown(&summary),
        [
            "Product ${ProductCode1} 200 [10] [H-15.84/-0.79 H-15.84/-0.79]",
            "Product ${ProductCode2} 800 [40] [H-15.84/-0.79 H-15.84/-0.79]",
            "DeliveryCharge ${ProductCode1} 200 [10] []",
        ]
    );
    assert_eq!(summary.totals.product, dec("1000"));
    assert_eq!(summary.totals.delivery, dec("200"));
    assert_eq!(summary.totals.header_adjustment, dec("-63.36"));
    assert_eq!(summary.totals.total_tax_amount, dec("56.84"));
    assert_eq!(summary.totals.grand_total, dec("1193.48"));
    assert_eq!(summary.difference, dec("0"));
    let groups: Vec<_> = summary.adjustment_groups.iter().map(|group| &*group.name).collect();
    assert_eq!(groups, ["20%offOrderAmountOver100", "50offOrderAmountOver100"]);
    assert_eq!(summary.life_cycle, LifeCycle::Managed);
    assert_eq!(summary.delivery_groups[0].method.as_deref(), Some("Overnight"));
    assert_eq!(summary.payments.len(), 1);
    assert_eq!(summary.payments[0].amount, Some(dec("326.79")));
    assert_eq!(summary.payments[0].state, PaymentState::Authorised);
    assert_eq!(
        (&*summary.payments[0].method, summary.payments[0].reference.as_deref()),
        ("Visa", Some("0000010112"))
    );
    assert_eq!(summary.shopper.name.as_deref(), Some("FTest Suite"));
    assert_eq!(summary.shopper.company, None);
    assert_eq!((summary.ordered_date_ms, &*summary.ordered_date_text), (None, "${DATE}"));
    assert_eq!(summary.oddities, [Oddity::NoOrderedInstant]);
}

#[test]
fn the_documentations_example_by_hand() {
    // Price 100, tax 10; 10 % off is -10 with tax -1; the line stands at 90, 9, 99.
    let summary = summarised(&[
        order(""),
        line("l", "100", ""),
        tax("l", "10"),
        adjustment("a", "l", "-10", ""),
        adjustment_tax("l", "a", "-1"),
    ]);
    assert_eq!(shown(&summary), ["Product  100 [10] [L-10/-1]"]);
    assert_eq!(summary.totals.total_amount, dec("90"));
    assert_eq!(summary.totals.total_tax_amount, dec("9"));
    assert_eq!(summary.totals.grand_total, dec("99"));
    assert_eq!(summary.shopper.email_normalised.as_deref(), Some("ada@example.com"));
    assert_eq!(summary.ordered_date_ms, Some(1_795_619_045_123));
}

#[test]
fn header_and_split_groups_by_hand() {
    let group = |reference: &str, kind: &str| {
        node(reference, "OrderAdjustmentGroupSummary", &format!(r#""Name":"G","Type":"{kind}""#))
    };
    let summary = summarised(&[
        order(r#""GrandTotalAmount":"117.00""#),
        group("h", "Header"),
        group("s", "SplitLine"),
        line("l1", "100.00", ""),
        line("l2", "50.00", ""),
        adjustment("a1", "l1", "-20.00", "h"),
        adjustment("a2", "l2", "-10.00", "h"),
        adjustment("a3", "l1", "-2.00", "s"),
        adjustment("a4", "l2", "-1.00", "gone"),
    ]);
    // 150 - 30 shared from the header - 2 - 1 of the lines' own = 117.
    assert_eq!(
        shown(&summary),
        ["Product  100.00 [] [H-20.00/0 L-2.00/0]", "Product  50.00 [] [H-10.00/0 L-1.00/0]"]
    );
    assert_eq!(summary.totals.header_adjustment, dec("-30.00"));
    assert_eq!(summary.totals.line_adjustment, dec("-3.00"));
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("117.00"), dec("0")));
    assert_eq!(summary.adjustment_groups.len(), 1);
}

#[test]
fn delivery_charges_and_fees_by_hand() {
    let summary = summarised(&[
        order(r#""OrderLifeCycleType":"UNMANAGED""#),
        line("d", "5.00", "").replace("Order Product", "Delivery Charge"),
        line("f", "1.50", "").replace("Order Product", "Fee"),
        line("p", "20.00", r#""UnitPrice":10,"Product2Id":"01t000000000001""#)
            .replace("\"Quantity\":1", "\"Quantity\":2"),
        tax("d", "0.50"),
        tax("f", "0.15"),
        tax("p", "1.20"),
        tax("p", "0.80"),
    ]);
    assert_eq!(
        shown(&summary),
        [
            "Product 01t000000000001 20.00 [1.20 0.80] []",
            "DeliveryCharge  5.00 [0.50] []",
            "Fee  1.50 [0.15] []",
        ]
    );
    assert_eq!((summary.lines[0].quantity, summary.lines[0].unit_price), (dec("2"), dec("10")));
    assert_eq!(
        (summary.totals.product, summary.totals.delivery, summary.totals.fee),
        (dec("20.00"), dec("5.00"), dec("1.50"))
    );
    assert_eq!(summary.totals.total_tax_amount, dec("2.65"));
    assert_eq!(summary.totals.grand_total, dec("29.15"));
    assert_eq!(summary.life_cycle, LifeCycle::Unmanaged);
}

#[test]
fn a_discount_on_a_delivery_charge_by_hand() {
    let group = |reference: &str, city: &str| {
        let fields =
            format!(r#""DeliverToCity":"{city}","OrderDeliveryMethodId":"2Dm000000000001""#);
        node(reference, "OrderDeliveryGroupSummary", &fields)
    };
    let to = |group: &str| format!(r#""OrderDeliveryGroupSummaryId":"@{{{group}.id}}""#);
    let delivery = |reference: &str, amount: &str, group: &str| {
        line(reference, amount, &to(group)).replace("Order Product", "Delivery Charge")
    };
    let summary = summarised(&[
        order(r#""GrandTotalAmount":74.25"#),
        group("g1", "Bonn"),
        group("g2", "Trier"),
        line("l1", "30.00", &to("g1")),
        line("l2", "40.00", &to("g2")),
        delivery("d1", "5.00", "g1"),
        delivery("d2", "2.50", "g2"),
        adjustment("a", "d1", "-5.00", ""),
        adjustment_tax("d1", "a", "-0.50"),
        tax("d1", "0.50"),
        tax("d2", "0.25"),
        tax("l1", "1.50"),
    ]);
    // 70 + 5 - 5 + 2.50 = 72.50; tax 1.50 + 0.50 - 0.50 + 0.25 = 1.75.
    assert_eq!(
        shown(&summary),
        [
            "Product  30.00 [1.50] []",
            "Product  40.00 [] []",
            "DeliveryCharge  5.00 [0.50] [L-5.00/-0.50]",
            "DeliveryCharge  2.50 [0.25] []",
        ]
    );
    let groups: Vec<_> = summary.lines.iter().map(|line| line.delivery_group).collect();
    assert_eq!(groups, [Some(0), Some(1), Some(0), Some(1)]);
    assert_eq!(summary.delivery_groups[1].method.as_deref(), Some("2Dm000000000001"));
    assert_eq!(summary.totals.total_amount, dec("72.50"));
    assert_eq!(summary.totals.total_tax_amount, dec("1.75"));
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("74.25"), dec("0")));
}

#[test]
fn a_stated_total_with_a_cent_more_by_hand() {
    let summary = summarised(&[
        order(r#""GrandTotalAmount":92.01,"TotalTaxAmount":0"#),
        line("l", "92.00", ""),
    ]);
    assert_eq!(shown(&summary), ["Product  92.00 [] []", "Difference  0.01 [] []"]);
    assert_eq!((summary.totals.grand_total, summary.difference), (dec("92.01"), dec("0.01")));
    assert_eq!(summary.stated.tax_total, Some(dec("0")));
    assert_eq!(summary.oddities, [Oddity::TotalsDiffer]);
}

#[test]
fn payments_are_merged_per_payment_summary_by_hand() {
    let payment = |reference: &str, kind: &str, amount: &str, of: &str| {
        let fields = format!(
            r#""Amount":{amount},"GatewayRefNumber":"{reference}","OrderPaymentSummaryId":"@{{{of}.id}}","PaymentMethodId":"@{{card.id}}""#
        );
        node(reference, kind, &fields)
    };
    let summary = summarised(&[
        order(""),
        node("card", "CardPaymentMethod", r#""CardType":"Visa""#),
        node("s1", "OrderPaymentSummary", ""),
        node("s2", "OrderPaymentSummary", ""),
        node("s3", "OrderPaymentSummary", r#""PaymentMethodId":"@{card.id}""#),
        payment("a1", "PaymentAuthorization", "10.00", "s1"),
        payment("a2", "PaymentAuthorization", "5.00", "s1"),
        payment("p1", "Payment", "7.00", "s2"),
        payment("a3", "PaymentAuthorization", "7.00", "s2"),
        payment("a4", "PaymentAuthorization", "3.00", "gone"),
    ]);
    let found: Vec<_> = summary
        .payments
        .iter()
        .map(|p| (p.state, p.amount, p.reference.as_deref(), &*p.method))
        .collect();
    assert_eq!(
        found,
        [
            (PaymentState::Authorised, Some(dec("15.00")), Some("a1"), "Visa"),
            (PaymentState::Captured, Some(dec("7.00")), Some("p1"), "Visa"),
            (PaymentState::Unknown, None, None, "Visa"),
            (PaymentState::Authorised, Some(dec("3.00")), Some("a4"), "Visa"),
        ]
    );
}

#[test]
fn the_shopper_is_a_person_or_a_company() {
    let with = |account: &str, contact: &str| {
        summarised(&[
            order(r#""AccountId":"@{a.id}","BillToContactId":"@{c.id}""#).replace(
                "\"BillingEmailAddress\":\" Ada@Example.com \"",
                "\"BillingEmailAddress\":\"\"",
            ),
            node("a", "Account", account),
            node("c", "Contact", contact),
        ])
        .shopper
    };
    let company = with(
        r#""Name":"Engines Ltd""#,
        r#""FirstName":"Ada","LastName":"L","Email":"a@b.c","Phone":"1""#,
    );
    assert_eq!(
        (company.company.as_deref(), company.name.as_deref()),
        (Some("Engines Ltd"), Some("Ada L"))
    );
    assert_eq!((company.email.as_deref(), company.phone.as_deref()), (Some("a@b.c"), Some("1")));
    let person = with(r#""Name":"Ada L""#, r#""FirstName":"Ada","LastName":"L""#);
    assert_eq!((person.company, person.email_normalised), (None, None));
    let account = with(r#""FirstName":"Ada","LastName":"L","PersonEmail":"P@x.y""#, "");
    assert_eq!(
        (account.name.as_deref(), account.email_normalised.as_deref()),
        (Some("Ada L"), Some("p@x.y"))
    );
}

#[test]
fn a_request_a_graph_and_a_list_give_the_same_items() {
    let one_graph = graph(&[order(""), line("l", "1", "")]);
    let alone = one(&one_graph);
    let request =
        items(&format!("{{\"orderSummaryGraphs\":[\n {one_graph} , {one_graph}]}}")).unwrap();
    let list = items(&format!("[{one_graph}]")).unwrap();
    assert_eq!((request.len(), list.len()), (2, 1));
    for item in request.iter().chain(&list) {
        let item = item.as_ref().unwrap();
        assert_eq!(item.id.as_deref(), Some("realm@site@1"));
        assert_eq!((item.fingerprint, &item.bytes), (alone.fingerprint, &alone.bytes));
    }
    let renamed = one(&one_graph.replace("\"g1\"", "\"g2\""));
    assert_eq!(renamed.fingerprint, alone.fingerprint, "the graph's name is the request's affair");
    assert_ne!(one(&one_graph.replace("USD", "EUR")).fingerprint, alone.fingerprint);
}

#[test]
fn identity_follows_the_table() {
    let without =
        graph(&[order("").replace("\"ExternalReferenceIdentifier\":\"realm@site@1\",", "")]);
    assert_eq!(one(&without).id.as_deref(), Some("g1"));
    let blank = graph(&[order("").replace("realm@site@1", " ")]);
    assert_eq!(one(&blank).id.as_deref(), Some("g1"));
    assert_eq!(
        refused(&without.replace("\"orderSummaryGraphId\":\"g1\",", "")),
        UnreadableKind::MissingId
    );
    assert_eq!(refused("{}"), UnreadableKind::MissingId);
    let two = graph(&[order(""), order("").replace("\"o\"", "\"o2\"")]);
    assert_eq!(refused(&two), UnreadableKind::DuplicateMember);
    let long = graph(&[order("").replace("\"realm@site@1\"", "820982911946154508")]);
    assert_eq!(one(&long).id.as_deref(), Some("820982911946154508"), "pitfall 24");
}

#[test]
fn readiness_follows_the_table() {
    let item = one(&graph(&[order("")]));
    assert_eq!((item.readiness, item.unplaced, item.version), (Readiness::Pending, false, None));
    let lost = one(&graph(&[line("l", "1", "")]));
    assert_eq!((lost.readiness, lost.unplaced), (Readiness::Pending, true));
    assert_eq!(summary(&lost).unwrap_err().code, "no_order_summary");
    for only in [
        r#"{"orderSummaryGraphId":"g1"}"#,
        r#"{"orderSummaryGraphId":"g1","purchaseDetails":[],"purchaseSupportDetails":null}"#,
    ] {
        assert_eq!(one(only).readiness, Readiness::FetchNeeded, "pitfall 19");
    }
}

#[test]
fn references_that_lead_nowhere_follow_the_table() {
    let code = |nodes: &[String]| summary(&one(&graph(nodes))).map_err(|error| error.code).err();
    let with_line = |fields: &str| [order(""), line("l", "1", fields)];
    assert_eq!(code(&with_line(r#""Product2Id":"@{gone.id}""#)), Some("dangling_reference"));
    assert_eq!(code(&[order(""), tax("gone", "1")]), Some("dangling_reference"));
    assert_eq!(code(&[order(""), adjustment("a", "gone", "-1", "")]), Some("dangling_reference"));
    assert_eq!(
        code(&[order(""), line("l", "1", ""), adjustment_tax("l", "gone", "-1")]),
        Some("dangling_reference")
    );
    assert_eq!(
        code(&[order(""), line("l", "1", ""), line("l", "2", "")]),
        Some("ambiguous_reference")
    );
    assert_eq!(code(&[order("").replace("USD", "usd")]), Some("no_currency"));
    assert_eq!(code(&[order(""), line("l", "\"1,000.00\"", "")]), Some("amount"), "pitfall 30");
    assert_eq!(code(&[order(""), line("l", "null", "")]), Some("amount"));
    let summary = summarised(&with_line(r#""OrderDeliveryGroupSummaryId":"@{gone.id}""#));
    assert_eq!(summary.lines[0].delivery_group, None);
    assert!(summary.oddities.contains(&Oddity::UnknownShipment));
    let lost = summarised(&[order(r#""AccountId":"@{gone.id}""#), line("l", "1", "")]);
    assert_eq!(lost.shopper.name, None);
}

#[test]
fn a_reference_takes_any_field_after_the_dot() {
    let lines = |reference: &str| {
        let line = line("l", "1", "")
            .replace("\"Quantity\"", &format!("\"Product2Id\":\"{reference}\",\"Quantity\""));
        summarised(&[order(""), node("p.1", "Product2", r#""ProductCode":"SKU""#), line]).lines
    };
    assert_eq!(lines("@{p.1.id}")[0].product_code, "SKU");
    assert_eq!(lines("@{p.1.Id}")[0].product_code, "SKU");
}

#[test]
fn pitfall_23_25_and_35_amounts_are_exact_and_zero_is_one() {
    let summary = summarised(&[
        order(""),
        line("l", "1234567890123456789.01", ""),
        line("z", "0", r#""UnitPrice":5"#),
    ]);
    assert_eq!(summary.lines[0].line_amount.to_string(), "1234567890123456789.01");
    assert_eq!(summary.lines[1].line_amount, dec("0"));
    let by_unit = summarised(&[order(""), line("l", "null", r#""UnitPrice":"2.50""#)]);
    assert_eq!(by_unit.lines[0].line_amount, dec("2.50"));
}

#[test]
fn pitfall_36_37_39_no_lines_no_email_quantity_zero() {
    let none = summarised(&[order("").replace("Ada@Example.com", "")]);
    assert_eq!(none.oddities, [Oddity::NoEmail, Oddity::NoLines]);
    let zero =
        summarised(&[order(""), line("l", "3", "").replace("\"Quantity\":1", "\"Quantity\":0")]);
    assert_eq!((zero.lines[0].quantity, zero.lines[0].unit_price), (dec("0"), dec("3")));
}

#[test]
fn pitfall_46_a_field_given_twice_is_refused() {
    for twice in
        [r#""OrderNumber":"2""#, r#""CurrencyIsoCode":"EUR""#, r#""attributes":{"type":"Account"}"#]
    {
        let kind = refused(&graph(&[order(twice)]));
        assert!(
            matches!(kind, UnreadableKind::Value | UnreadableKind::DuplicateMember),
            "{twice}: {kind:?}"
        );
    }
    assert!(
        items(&graph(&[order(r#""Own__c":1,"Own__c":2"#)])).unwrap()[0].is_ok(),
        "nobody reads it"
    );
}

#[test]
fn card_numbers_are_masked_in_payment_texts_only() {
    let card = "4111111111111111";
    let body = graph(&[
        order(&format!(r#""OrderNumber2":"{card}","Description":"card {card}""#))
            .replace("realm@site@1", card),
        node(
            "c",
            "CardPaymentMethod",
            &format!(r#""InputCardNumber":"{card}","GatewayToken":"{card}","CVV":"123""#),
        ),
        node("p", "Product2", &format!(r#""ProductCode":"{card}""#)),
    ]);
    let item = one(&body);
    let kept = String::from_utf8(item.bytes.to_vec()).unwrap();
    assert_eq!(item.masked.len(), 3, "{kept}");
    assert!(kept.contains("card ****************\"") && kept.contains("\"CVV\":\"***\""));
    assert!(kept.contains(r#""InputCardNumber":"****************""#));
    assert_eq!(kept.matches(card).count(), 4, "identity, number, token and product code stay");
    assert_eq!(kept.len(), body.len());
}

#[test]
fn pitfall_18_one_bad_graph_does_not_fail_the_others() {
    let good = graph(&[order("")]);
    let found =
        items(&format!(r#"{{"orderSummaryGraphs":[{{"purchaseDetails":7}},{good},{{}}]}}"#))
            .unwrap();
    let kinds: Vec<_> =
        found.iter().map(|item| item.as_ref().map(|_| ()).map_err(|e| e.kind)).collect();
    assert_eq!(kinds, [Err(UnreadableKind::Value), Ok(()), Err(UnreadableKind::MissingId)]);
}

proptest! {
    #[test]
    fn mutated_graphs_never_panic(at in 0usize..4000, byte in any::<u8>(), cut in 0usize..4000) {
        let nodes = [
            order(r#""GrandTotalAmount":"99999999999999999999""#), line("l", "99999999999999999999", r#""UnitPrice":"1e19""#),
            tax("l", "1"), adjustment("a", "l", "-1", "h"), adjustment_tax("l", "a", "-0.1"),
            node("h", "OrderAdjustmentGroupSummary", ""), node("s", "OrderPaymentSummary", ""),
        ];
        let mut body = format!("{{\"orderSummaryGraphs\":[{}]}}", graph(&nodes)).into_bytes();
        let length = body.len();
        body[at % length] = byte;
        if cut % 4 == 0 {
            body.truncate(cut % length);
        }
        if let Ok(items) = read(FORMAT, &Bytes::from(body), &ReadOptions::default()) {
            for item in items.into_iter().flatten().filter(|item| item.id.is_some()) {
                if let Ok(summary) = summary(&item) {
                    let lines: Decimal = summary.lines.iter().filter(|l| l.kind == LineKind::Product).map(|l| l.line_amount).sum();
                    assert_eq!(summary.totals.product, lines);
                }
            }
        }
    }
}
