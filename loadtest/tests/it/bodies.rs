//! Bodies read independently of what wrote them, and tests that they are what they claim to be.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use forebay_loadtest::mix::{Channel, Kind, Mix, Request};
use forebay_loadtest::{Sale, Shape};
use rust_decimal::Decimal;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Placed,
    Held,
    Cancelled,
    NotAnOrder,
}

/// One order, read by its format's rules.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) version: Option<u64>,
    pub(crate) status: Status,
    /// The stated grand total; Salesforce states none, so the sum of its parts.
    pub(crate) total: Decimal,
    /// The sum of the parts.
    pub(crate) sum: Decimal,
    pub(crate) poison: bool,
}

/// A body's items and whether it is a batch; `None` where it cannot be taken apart.
pub(crate) fn split(channel: &str, content_type: &str, text: &str) -> Option<(Vec<String>, bool)> {
    if channel == "b2c-commerce-xml" {
        let inner =
            text.split_once("<orders ")?.1.split_once('>')?.1.strip_suffix("</orders>\n")?;
        let items: Vec<String> = inner
            .split_inclusive("</order>")
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect();
        let batch = items.len() > 1;
        return Some((items, batch));
    }
    if content_type == "application/x-ndjson" {
        return Some((text.lines().map(str::to_owned).collect(), true));
    }
    let whole: Value = serde_json::from_str(text).ok()?;
    let list = if channel == "salesforce" { whole.get("orderSummaryGraphs")? } else { &whole };
    let Some(list) = list.as_array() else { return Some((vec![text.to_owned()], false)) };
    let batch = list.len() > 1 || channel != "salesforce";
    Some((list.iter().map(Value::to_string).collect(), batch))
}

/// One order; `None` where it cannot be read.
pub(crate) fn read(channel: &str, text: &str) -> Option<Order> {
    if channel == "b2c-commerce-xml" {
        return Some(xml(text));
    }
    let order: Value = serde_json::from_str(text).ok()?;
    Some(match channel {
        "salesforce" => salesforce(&order),
        "shopify" => shopify(&order),
        "woocommerce" => woocommerce(&order),
        _ => canonical(&order),
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A string or a number as a decimal; a JSON number by its shortest text.
fn dec(value: &Value) -> Decimal {
    text(value).parse().unwrap_or_else(|_| panic!("no decimal: {value}"))
}

fn sum<'a>(list: &'a Value, of: impl Fn(&'a Value) -> Decimal) -> Decimal {
    list.as_array().unwrap().iter().map(of).sum()
}

/// Digits of a time, so that a later one is the larger.
fn version(time: &Value) -> Option<u64> {
    let digits: String = text(time).chars().filter(char::is_ascii_digit).take(14).collect();
    digits.parse().ok()
}

fn shopify(order: &Value) -> Order {
    let lines = sum(&order["line_items"], |l| dec(&l["price"]) * dec(&l["quantity"]));
    let off = sum(&order["line_items"], |l| sum(&l["discount_allocations"], |a| dec(&a["amount"])));
    let taxes = |of| sum(of, |l: &Value| sum(&l["tax_lines"], |t| dec(&t["price"])));
    let shipping = sum(&order["shipping_lines"], |l| dec(&l["price"]));
    let tax = taxes(&order["line_items"]) + taxes(&order["shipping_lines"]);
    assert_eq!(lines, dec(&order["total_line_items_price"]));
    assert_eq!(off, dec(&order["total_discounts"]));
    assert_eq!(lines - off, dec(&order["subtotal_price"]));
    assert_eq!(tax, dec(&order["total_tax"]));
    Order {
        id: text(&order["id"]),
        version: version(&order["updated_at"]),
        status: match (order["test"].as_bool(), order["cancelled_at"].is_null()) {
            (Some(true), _) => Status::NotAnOrder,
            (_, false) => Status::Cancelled,
            _ if order["financial_status"] == "pending" => Status::Held,
            _ => Status::Placed,
        },
        total: dec(&order["total_price"]),
        sum: lines - off + shipping + tax,
        poison: order["currency"] == "ZZZ",
    }
}

fn woocommerce(order: &Value) -> Order {
    let lines = sum(&order["line_items"], |l| dec(&l["total"]));
    let before = sum(&order["line_items"], |l| dec(&l["subtotal"]));
    let tax = |of| sum(of, |l: &Value| dec(&l["total_tax"]));
    let shipping = sum(&order["shipping_lines"], |l| dec(&l["total"]));
    let taxes = tax(&order["line_items"]) + tax(&order["shipping_lines"]);
    assert_eq!(before - lines, dec(&order["discount_total"]));
    assert_eq!(taxes, dec(&order["total_tax"]));
    assert_eq!(shipping, dec(&order["shipping_total"]));
    Order {
        id: text(&order["id"]),
        version: version(&order["date_modified_gmt"]),
        status: match order["status"].as_str().unwrap() {
            "processing" => Status::Placed,
            "on-hold" => Status::Held,
            "cancelled" => Status::Cancelled,
            "auto-draft" => Status::NotAnOrder,
            other => panic!("{other}"),
        },
        total: dec(&order["total"]),
        sum: lines + shipping + taxes,
        poison: order["currency"] == "ZZZ",
    }
}

fn canonical(order: &Value) -> Order {
    let off = |of: &Value| {
        sum(&of["discounts"], |d| {
            assert!(!dec(&d["amount"]).is_sign_negative() && !dec(&d["tax"]).is_sign_negative());
            dec(&d["amount"]) + dec(&d["tax"])
        })
    };
    let lines = sum(&order["lines"], |l| {
        assert_eq!(dec(&l["unit_price"]) * dec(&l["quantity"]), dec(&l["amount"]));
        dec(&l["amount"]) + sum(&l["taxes"], |t| dec(&t["amount"])) - off(l)
    });
    let charges = sum(&order["charges"], |c| dec(&c["amount"]) + dec(&c["tax"]));
    Order {
        id: text(&order["id"]),
        version: order["version"].as_u64(),
        status: match order["status"].as_str().unwrap() {
            "placed" => Status::Placed,
            "held" => Status::Held,
            "cancelled" => Status::Cancelled,
            "draft" => Status::NotAnOrder,
            other => panic!("{other}"),
        },
        total: dec(&order["totals"]["grand"]),
        sum: lines + charges - off(order),
        poison: order["currency"] == "ZZZ",
    }
}

/// Every reference leads to a record; amounts of items, adjustments and taxes are the order.
fn salesforce(graph: &Value) -> Order {
    let nodes = |list: &str| graph[list].as_array().unwrap().clone();
    let (support, details) = (nodes("purchaseSupportDetails"), nodes("purchaseDetails"));
    let known: HashSet<String> =
        support.iter().chain(&details).map(|node| text(&node["referenceId"])).collect();
    let mut summary = None;
    let mut total = Decimal::ZERO;
    for node in &details {
        let attributes = node["attributes"].as_object().unwrap();
        for value in attributes.values().filter_map(Value::as_str) {
            if let Some(reference) = value.strip_prefix("@{") {
                assert!(known.contains(reference.strip_suffix(".id}").unwrap()), "{value}");
            }
        }
        let amount = |name: &str| dec(&attributes[name]);
        match attributes["attributes"]["type"].as_str().unwrap() {
            "OrderSummary" => summary = Some(attributes.clone()),
            "OrderItemSummary" => total += amount("TotalLineAmount"),
            "OrderItemAdjustmentLineSummary" | "OrderItemTaxLineItemSummary" => {
                total += amount("Amount");
            }
            _ => {}
        }
    }
    let summary = summary.unwrap();
    Order {
        id: text(&summary["ExternalReferenceIdentifier"]),
        version: None,
        status: Status::Placed,
        total,
        sum: total,
        poison: summary["CurrencyIsoCode"] == "ZZZ",
    }
}

/// The text of every element of that name below the first element `within`.
fn elements<'a>(xml: &'a str, within: &str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{within}>"), format!("</{within}>"));
    let inner = xml.split_once(&open).unwrap().1.split_once(&close).unwrap().0;
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    inner.split(&open).skip(1).map(|rest| rest.split_once(&close).unwrap().0).collect()
}

fn xml(order: &str) -> Order {
    let gross = |within: &str| -> Decimal {
        elements(order, within, "gross-price").iter().map(|t| t.parse::<Decimal>().unwrap()).sum()
    };
    // Lines with their adjustments, shipping, and the order's own adjustment (the totals' second gross price).
    let merchandise = elements(order, "merchandize-total", "gross-price");
    let header: Decimal = merchandise.iter().skip(1).map(|t| t.parse::<Decimal>().unwrap()).sum();
    let lines = gross("product-lineitems");
    assert_eq!(lines, merchandise[0].parse().unwrap());
    assert_eq!(lines + header, gross("adjusted-merchandize-total"));
    Order {
        id: order.split_once("order-no=\"").unwrap().1.split_once('"').unwrap().0.to_owned(),
        version: None,
        status: match elements(order, "status", "order-status")[0] {
            "NEW" => Status::Placed,
            "CREATED" => Status::Held,
            "CANCELLED" => Status::Cancelled,
            "FAILED" => Status::NotAnOrder,
            other => panic!("{other}"),
        },
        total: gross("order-total"),
        sum: lines + header + gross("shipping-lineitems"),
        poison: order.contains("<currency>ZZZ</currency>"),
    }
}

fn inflated(request: &Request) -> String {
    let mut text = String::new();
    if request.gzip {
        flate2::read::GzDecoder::new(&request.body[..]).read_to_string(&mut text).unwrap();
        return text;
    }
    String::from_utf8(request.body.to_vec()).unwrap()
}

fn sale(orders: u32, seed: u64) -> Sale {
    Sale { orders, seed, rate: 5_000.0, batch_share: 0.3, ..Sale::default() }
}

fn hash(mix: &Mix) -> u64 {
    let mut hasher = DefaultHasher::new();
    for request in &mix.requests {
        request.body.hash(&mut hasher);
        request.at.hash(&mut hasher);
        (request.channel, &request.source, request.gzip, request.content_type).hash(&mut hasher);
        request.deliveries.hash(&mut hasher);
    }
    hasher.finish()
}

#[test]
fn the_same_seed_makes_the_same_bytes_at_the_same_moments() {
    let one = Mix::new(&sale(2_000, 42));
    let again = Mix::new(&sale(2_000, 42));
    assert_eq!(hash(&one), hash(&again));
    assert_eq!(one.deliveries, again.deliveries);
    assert_ne!(hash(&one), hash(&Mix::new(&sale(2_000, 43))));
}

#[test]
fn every_order_adds_up_by_the_rules_of_its_format() {
    let mix = Mix::new(&sale(6_000, 7));
    let mut seen: HashMap<(Channel, Kind), u32> = HashMap::new();
    for request in &mix.requests {
        let name = request.channel.name();
        let text = inflated(request);
        let deliveries = &mix.deliveries[request.deliveries.clone()];
        let Some((items, _)) = split(name, request.content_type, &text) else {
            assert_eq!(deliveries.len(), 1);
            assert_eq!(deliveries[0].kind, Kind::Malformed);
            *seen.entry((request.channel, Kind::Malformed)).or_default() += 1;
            continue;
        };
        assert_eq!(items.len(), deliveries.len());
        for (item, delivery) in items.iter().zip(deliveries) {
            *seen.entry((request.channel, delivery.kind)).or_default() += 1;
            let Some(order) = read(name, item) else {
                assert_eq!(delivery.kind, Kind::Malformed, "{item}");
                continue;
            };
            assert_ne!(delivery.kind, Kind::Malformed);
            assert_eq!(order.sum, order.total, "{name} {item}");
            assert_eq!(order.total, delivery.total, "{name} {item}");
            assert_eq!(order.poison, delivery.kind == Kind::Poison);
            let key = &mix.keys[usize::try_from(delivery.key.unwrap()).unwrap()];
            assert_eq!((order.id.as_str(), &request.source), (key.id.as_str(), &key.source));
            let wanted = match delivery.kind {
                Kind::Held => Status::Held,
                Kind::Cancel => Status::Cancelled,
                Kind::NotAnOrder => Status::NotAnOrder,
                _ => Status::Placed,
            };
            assert_eq!(order.status, wanted, "{name} {item}");
        }
    }
    for (channel, _) in Channel::SHARES {
        let of = |kind| seen.get(&(channel, kind)).copied().unwrap_or(0);
        assert!(of(Kind::Plain) > 500, "{channel:?} {seen:?}");
        for kind in [Kind::Poison, Kind::Resent, Kind::Conflicting] {
            assert!(of(kind) > 0, "{channel:?} has no {kind:?}");
        }
    }
    for kind in [Kind::Held, Kind::Release, Kind::Amended, Kind::Cancel, Kind::NotAnOrder] {
        assert!(seen.keys().any(|(_, other)| *other == kind), "no {kind:?}");
    }
}

#[test]
fn a_sale_has_as_many_orders_as_asked_and_bodies_of_a_real_size() {
    let mix = Mix::new(&sale(5_000, 11));
    let orders = mix
        .deliveries
        .iter()
        .filter(|delivery| matches!(delivery.kind, Kind::Plain | Kind::Held | Kind::Poison));
    let keys: HashSet<_> = orders.map(|delivery| delivery.key.unwrap()).collect();
    assert_eq!(keys.len(), 5_000);
    let distinct: HashSet<_> = mix.keys.iter().collect();
    assert_eq!(distinct.len(), mix.keys.len(), "no key is made twice");
    let mut sizes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for request in mix.requests.iter().filter(|r| r.deliveries.len() == 1) {
        if mix.deliveries[request.deliveries.start].kind == Kind::Plain {
            sizes.entry(request.channel.name()).or_default().push(inflated(request).len());
        }
    }
    for (channel, sizes) in sizes {
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        let most = *sizes.iter().max().unwrap();
        println!("{channel}: {mean} bytes on average, {most} at most");
        assert!((1_000..4_600).contains(&mean), "{channel}: {mean} on average");
        assert!(most < 8_000, "{channel}: {most} at most");
    }
}

#[test]
fn follow_ups_come_after_their_order_and_within_the_sale() {
    for shape in [Shape::Flash, Shape::Constant] {
        let mix = Mix::new(&Sale { shape, ..sale(5_000, 13) });
        let end = mix.requests.last().unwrap().at.as_secs_f64();
        let whole = mix.deliveries.len() as f64 / 5_000.0;
        assert!((end / whole - 1.0).abs() < 0.1, "{end} s for {whole}");
        assert!(mix.requests.is_sorted_by_key(|request| request.at));
        let mut first = HashMap::new();
        let mut follow_ups = 0;
        for request in &mix.requests {
            for delivery in &mix.deliveries[request.deliveries.clone()] {
                let Some(key) = delivery.key else { continue };
                match first.get(&key) {
                    None => {
                        assert!(!matches!(delivery.kind, Kind::Resent | Kind::Amended));
                        first.insert(key, request.at);
                    }
                    Some(at) => {
                        follow_ups += 1;
                        assert!(request.at >= *at + std::time::Duration::from_millis(20));
                    }
                }
            }
        }
        assert!(follow_ups > 50, "{follow_ups}");
    }
}

#[test]
fn a_rate_that_is_none_makes_a_sale_all_the_same() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE] {
        let mix = Mix::new(&Sale { rate, orders: 20, ..Sale::default() });
        assert!(mix.deliveries.len() >= 20, "{rate}");
    }
    assert!(Mix::new(&sale(0, 1)).requests.is_empty());
}
