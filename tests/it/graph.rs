//! Salesforce's own example of an order-summary graph: read by the channel, drained through the preset, and held against what arrives,
//! record by record, in all that an order summary keeps.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::money::RICH;
use crate::presets::{SALESFORCE, Sale};
use crate::real_orders;
use crate::smoke::CASES;

/// What is kept of each record; a field that names another record is compared by what that one keeps.
const KEPT: [(&str, &[&str]); 13] = [
    ("Account", &["Name", "FirstName", "LastName", "isPersonAccount"]),
    ("Product2", &["ProductCode", "StockKeepingUnit", "IsActive"]),
    ("PricebookEntry", &["UnitPrice", "CurrencyIsoCode", "Product2Id"]),
    ("OrderDeliveryMethod", &["Name"]),
    (
        "OrderSummary",
        &[
            "OrderNumber",
            "OrderLifeCycleType",
            "BillingEmailAddress",
            "BillingPhoneNumber",
            "OrderedDate",
            "CurrencyIsoCode",
            "AccountId",
        ],
    ),
    ("CardPaymentMethod", &["CardType", "CardCategory", "Status", "ProcessingMode"]),
    ("OrderPaymentSummary", &[]),
    (
        "PaymentAuthorization",
        &[
            "Amount",
            "GatewayRefNumber",
            "ProcessingMode",
            "Status",
            "PaymentMethodId",
            "OrderPaymentSummaryId",
        ],
    ),
    (
        "OrderDeliveryGroupSummary",
        &[
            "DeliverToName",
            "DeliverToStreet",
            "DeliverToCity",
            "DeliverToPostalCode",
            "DeliverToState",
            "DeliverToCountry",
            "PhoneNumber",
            "OrderDeliveryMethodId",
        ],
    ),
    (
        "OrderItemSummary",
        &[
            "Type",
            "Description",
            "Quantity",
            "TotalLineAmount",
            "UnitPrice",
            "ListPrice",
            "Product2Id",
            "PricebookEntryId",
            "OrderDeliveryGroupSummaryId",
        ],
    ),
    (
        "OrderItemTaxLineItemSummary",
        &["Type", "Amount", "OrderItemSummaryId", "OrderItemAdjustmentLineSummaryId"],
    ),
    ("OrderAdjustmentGroupSummary", &["Name", "Description", "Type"]),
    (
        "OrderItemAdjustmentLineSummary",
        &["Name", "Amount", "OrderItemSummaryId", "OrderAdjustmentGroupSummaryId"],
    ),
];

/// Of a tax on a line, not of one on an adjustment.
const KEPT_OF_LINE_TAX: [&str; 2] = ["Name", "Rate"];

/// The records of a graph, each as type and kept fields, in an order of their own.
struct Graph<'a>(BTreeMap<&'a str, &'a Value>);

impl<'a> Graph<'a> {
    fn of(graph: &'a Value) -> Self {
        let nodes = ["purchaseSupportDetails", "purchaseDetails"];
        let nodes = nodes.iter().flat_map(|part| graph[part].as_array().unwrap());
        let reference = |node: &'a Value| node["referenceId"].as_str().unwrap();
        Self(nodes.map(|node| (reference(node), &node["attributes"])).collect())
    }

    fn kept(&self) -> Vec<String> {
        let mut kept: Vec<_> = self.0.values().filter_map(|node| self.record(node)).collect();
        kept.sort();
        kept
    }

    fn record(&self, node: &Value) -> Option<String> {
        let kind = node["attributes"]["type"].as_str().unwrap();
        let fields = KEPT.iter().find(|(name, _)| *name == kind)?.1;
        let of_line = kind == "OrderItemTaxLineItemSummary"
            && node["OrderItemAdjustmentLineSummaryId"].is_null();
        let more = KEPT_OF_LINE_TAX.iter().filter(|_| of_line);
        let fields =
            fields.iter().chain(more).map(|name| format!("{name}: {}", self.value(&node[name])));
        Some(format!("{kind} {{ {} }}", fields.collect::<Vec<_>>().join(", ")))
    }

    /// All lines, adjustments and taxes on either.
    fn money(&self) -> Decimal {
        let amount = |node: &Value| match &node["TotalLineAmount"] {
            Value::Null if node["attributes"]["type"] == "PaymentAuthorization" => Decimal::ZERO,
            Value::Null if node["attributes"]["type"] == "Payment" => Decimal::ZERO,
            Value::Null => node["Amount"].to_string().parse().unwrap_or_default(),
            amount => amount.to_string().parse().unwrap(),
        };
        self.0.values().map(|node| amount(node)).sum()
    }

    fn value(&self, value: &Value) -> String {
        let named = |text: &str| Some(text.strip_prefix("@{")?.strip_suffix(".id}")?.to_owned());
        match (value, value.as_str().and_then(named)) {
            (_, Some(reference)) => self.record(self.0[reference.as_str()]).unwrap(),
            (Value::Number(number), _) => number.as_f64().unwrap().to_string(),
            _ => value.to_string(),
        }
    }
}

#[test]
fn salesforce_s_own_graph_arrives_record_by_record() {
    let Some(folder) = real_orders::folder() else { return };
    let file = folder.join("salesforce_hso/pending_order_summaries__graphs_input.json");
    let text = std::fs::read_to_string(file).unwrap();
    let sale = Sale::through(&SALESFORCE, &json!({}), "");
    let answer = sale.forebay.post("salesforce", "application/json", text.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
    sale.all_is_well(1);

    let sent: Value = serde_json::from_str(&text).unwrap();
    let arrived = sale.ask("/bodies");
    let (sent, arrived) = (&sent["orderSummaryGraphs"][0], &arrived[0]["orderSummaryGraphs"][0]);
    let identity = "salesforce:demo:$%7BExternalReferenceIdentifier%7D";
    assert_eq!(arrived["orderSummaryGraphId"], identity);
    assert_eq!(
        arrived["purchaseDetails"][0]["attributes"]["ExternalReferenceIdentifier"],
        identity
    );
    let (sent, arrived) = (Graph::of(sent).kept(), Graph::of(arrived).kept());
    assert_eq!((arrived.len(), sent.len()), (27, 27), "{arrived:#?}");
    for (arrived, sent) in arrived.iter().zip(&sent) {
        assert_eq!(arrived, sent);
    }
}

#[test]
fn the_money_of_each_graph_is_what_the_shopper_was_charged() {
    let sale = Sale::through(&SALESFORCE, &json!({}), "");
    let orders = sale.sell_one_of_each();
    sale.sell(&[RICH.to_owned()]);
    sale.all_is_well(orders + 1);
    let bodies = sale.ask("/bodies");
    let graphs = bodies.as_array().unwrap().iter();
    let graphs: Vec<_> =
        graphs.flat_map(|body| body["orderSummaryGraphs"].as_array().unwrap()).collect();
    let graph = |channel: &str, id: &str| {
        let wanted = format!("{channel}:demo:{id}");
        let mut found = graphs.iter().filter(|graph| graph["orderSummaryGraphId"] == wanted);
        Graph::of(found.next().unwrap())
    };
    for case in &CASES {
        let charged: Decimal = case.grand_total.parse().unwrap();
        assert_eq!(graph(case.channel, case.id).money(), charged, "{}", case.channel);
    }
    let rich = graph("forebay", "rich");
    assert_eq!(rich.money(), "67.66".parse().unwrap());
    let named = |node: &Value, name: &str| node[name].as_str().unwrap()[2..].replace(".id}", "");
    for (line, code, method) in
        [(1, "mug", "Standard"), (2, "MUG", "standard"), (3, "mug", "standard")]
    {
        let item = rich.0[format!("refOrderItem_{line}").as_str()];
        let product = rich.0[named(item, "Product2Id").as_str()];
        assert_eq!(product["ProductCode"], code, "line {line}");
        let group = rich.0[named(item, "OrderDeliveryGroupSummaryId").as_str()];
        let delivery = rich.0[named(group, "OrderDeliveryMethodId").as_str()];
        assert_eq!(delivery["Name"], method, "line {line}");
    }
}
