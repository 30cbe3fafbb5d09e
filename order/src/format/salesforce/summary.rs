//! A graph becomes an order summary.
//!
//! The graph is already expressed in summary records, so lines, taxes and adjustments are taken over
//! as they stand; amounts are without tax whatever the tax locale. An adjustment in a group of type
//! Header is the line's share of an order-level adjustment; every other is the line's own.
//!
//! One payment for each OrderPaymentSummary: the sum of its Payments (captured), else of its
//! PaymentAuthorizations (authorised). An authorisation or payment of no OrderPaymentSummary is a payment
//! of its own.

use std::collections::HashMap;

use rust_decimal::Decimal;

use super::Salesforce;
use super::graph::{Field, Graph, Kind, Node};
use crate::json;
use crate::money::parse_amount;
use crate::summary::{
    Address, Adjustment, AdjustmentGroup, DeliveryGroup, Draft, LifeCycle, Line, LineKind, Oddity,
    Payment, PaymentState, Shopper, Tax, TaxLocale,
};
use crate::text::{instant_ms, normalise_email};
use crate::{Fingerprint, OrderKey, OrderSummary, Unmappable, exact};

type Mapped<T> = Result<T, Unmappable>;

/// The summary of one graph's bytes.
pub(crate) fn summarise(
    key: OrderKey,
    fingerprint: Fingerprint,
    bytes: &[u8],
) -> Mapped<OrderSummary> {
    let summary = json::decode::<Salesforce, _>(bytes, |graph| of_graph(key, fingerprint, graph));
    summary.unwrap_or_else(|fault| Err(refuse("unreadable", format!("{fault}; send it again"))))
}

fn refuse(code: &'static str, reason: impl Into<String>) -> Unmappable {
    Unmappable { code, reason: reason.into() }
}

/// The nodes of a graph and what they are called.
struct Nodes<'g, 'a> {
    all: Vec<&'g Node<'a>>,
    by_reference: HashMap<&'g str, usize>,
}

/// What a field names: a node of the graph, a record elsewhere by its id, or a node that is not there.
enum Named<'t> {
    Node(usize),
    Elsewhere(&'t str),
    Dangling,
    Nothing,
}

impl<'g, 'a> Nodes<'g, 'a> {
    fn new(graph: &'g Graph<'a>) -> Mapped<Self> {
        let all: Vec<_> = graph.nodes().collect();
        let mut by_reference = HashMap::new();
        for (at, node) in all.iter().enumerate() {
            if let Some(reference) = node.reference()
                && by_reference.insert(reference, at).is_some()
            {
                let reason = "two nodes of the graph have one referenceId; send each its own";
                return Err(refuse("ambiguous_reference", reason));
            }
        }
        Ok(Self { all, by_reference })
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = (usize, &'g Node<'a>)> {
        self.all.iter().copied().enumerate().filter(move |(_, node)| node.kind() == kind)
    }

    fn named<'t>(&self, node: &'t Node<'_>, name: Field) -> Named<'t> {
        let Some(text) = node.get(name) else { return Named::Nothing };
        let Some(inner) = text.strip_prefix("@{").and_then(|text| text.strip_suffix('}')) else {
            return Named::Elsewhere(text);
        };
        let reference = inner.rsplit_once('.').map_or(inner, |(reference, _)| reference);
        self.by_reference.get(reference).map_or(Named::Dangling, |at| Named::Node(*at))
    }

    /// The node a field names, if it is in the graph.
    fn follow(&self, node: &Node<'_>, name: Field) -> Option<&'g Node<'a>> {
        match self.named(node, name) {
            Named::Node(at) => self.all.get(at).copied(),
            _ => None,
        }
    }
}

fn of_graph(key: OrderKey, fingerprint: Fingerprint, graph: &Graph<'_>) -> Mapped<OrderSummary> {
    let nodes = Nodes::new(graph)?;
    let Some((_, order)) = nodes.of(Kind::OrderSummary).next() else {
        let reason = "the graph has no OrderSummary node; send the order as a whole";
        return Err(refuse("no_order_summary", reason));
    };
    let currency = order.get(Field::CurrencyIsoCode).and_then(|code| code.parse().ok());
    let currency = currency.ok_or_else(|| {
        let reason = "CurrencyIsoCode of the OrderSummary is missing or no ISO 4217 code; send it";
        refuse("no_currency", reason)
    })?;
    let money = |node: &&Node<'_>| !matches!(node.kind(), Kind::Other | Kind::Product2);
    exact::check_parts(nodes.all.iter().copied().filter(money).count())?;
    let mut draft = Draft::new(key, fingerprint, currency);
    draft.order_number = order.get(Field::OrderNumber).unwrap_or_default().to_owned();
    if let Some(date) = order.get(Field::OrderedDate) {
        draft.ordered_date_ms = instant_ms(date);
        draft.ordered_date_text = date.to_owned();
    }
    let unmanaged = order.get(Field::OrderLifeCycleType).is_some_and(|life| life == "UNMANAGED");
    draft.life_cycle = if unmanaged { LifeCycle::Unmanaged } else { LifeCycle::Managed };
    let gross = order.get(Field::TaxLocaleType).is_some_and(|locale| locale == "Gross");
    draft.tax_locale = if gross { TaxLocale::Gross } else { TaxLocale::Net };
    draft.shopper = shopper(order, &nodes);
    draft.billing = billing(order);
    draft.stated.grand_total = amount(order, Field::GrandTotalAmount)?;
    draft.stated.tax_total = amount(order, Field::TotalTaxAmount)?;
    draft.stated.shipping_total = amount(order, Field::TotalDeliveryAmount)?;
    let groups = delivery_groups(&nodes, &mut draft);
    let lines = self::lines(&nodes, &groups, &mut draft)?;
    let adjustments = self::adjustments(&nodes, &lines, &mut draft)?;
    taxes(&nodes, &lines, &adjustments, &mut draft)?;
    draft.payments = payments(&nodes)?;
    exact::check(&draft)?;
    Ok(draft.finish())
}

fn shopper(order: &Node<'_>, nodes: &Nodes<'_, '_>) -> Shopper {
    let account = nodes.follow(order, Field::AccountId);
    let contact = nodes.follow(order, Field::BillToContactId);
    let of =
        |node: Option<&Node<'_>>, name| node.and_then(|node| node.get(name)).map(str::to_owned);
    let either = |name| of(contact, name).or_else(|| of(account, name));
    let email = of(Some(order), Field::BillingEmailAddress)
        .or_else(|| of(contact, Field::Email))
        .or_else(|| of(account, Field::PersonEmail));
    let (first_name, last_name) = (either(Field::FirstName), either(Field::LastName));
    let parts = [first_name.as_deref(), last_name.as_deref()];
    let joined = parts.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let joined = Some(joined).filter(|name| !name.is_empty());
    let account_name = of(account, Field::Name);
    // An account that bears a person's name is that person; any other is a company.
    let person = of(account, Field::LastName).is_some() || joined == account_name;
    Shopper {
        email_normalised: email.as_deref().and_then(normalise_email),
        email,
        company: account_name.clone().filter(|_| !person),
        name: joined.or(account_name),
        first_name,
        last_name,
        phone: of(Some(order), Field::BillingPhoneNumber).or_else(|| either(Field::Phone)),
        customer_id: None,
    }
}

fn owned(node: &Node<'_>, name: Field) -> Option<String> {
    node.get(name).map(str::to_owned)
}

fn billing(order: &Node<'_>) -> Option<Address> {
    let address = Address {
        address1: owned(order, Field::BillingStreet),
        city: owned(order, Field::BillingCity),
        postal_code: owned(order, Field::BillingPostalCode),
        state: owned(order, Field::BillingState),
        country: owned(order, Field::BillingCountry),
        ..Address::default()
    };
    Some(address).filter(|address| *address != Address::default())
}

/// Node to delivery group.
fn delivery_groups(nodes: &Nodes<'_, '_>, draft: &mut Draft) -> HashMap<usize, usize> {
    let mut groups = HashMap::new();
    for (at, node) in nodes.of(Kind::OrderDeliveryGroupSummary) {
        let address = Address {
            name: owned(node, Field::DeliverToName),
            address1: owned(node, Field::DeliverToStreet),
            city: owned(node, Field::DeliverToCity),
            postal_code: owned(node, Field::DeliverToPostalCode),
            state: owned(node, Field::DeliverToState),
            country: owned(node, Field::DeliverToCountry),
            phone: owned(node, Field::PhoneNumber),
            ..Address::default()
        };
        let method = match nodes.named(node, Field::OrderDeliveryMethodId) {
            Named::Node(method) => {
                nodes.all.get(method).and_then(|method| owned(method, Field::Name))
            }
            Named::Elsewhere(id) => Some(id.to_owned()),
            Named::Dangling | Named::Nothing => None,
        };
        groups.insert(at, draft.delivery_groups.len());
        draft.delivery_groups.push(DeliveryGroup {
            shipment_id: node.reference().map(str::to_owned),
            method,
            address: Some(address).filter(|address| *address != Address::default()),
        });
    }
    groups
}

/// Fills the lines; gives node to line.
fn lines(
    nodes: &Nodes<'_, '_>,
    groups: &HashMap<usize, usize>,
    draft: &mut Draft,
) -> Mapped<HashMap<usize, usize>> {
    let mut lines = HashMap::new();
    for (at, node) in nodes.of(Kind::OrderItemSummary) {
        let delivery_group = match nodes.named(node, Field::OrderDeliveryGroupSummaryId) {
            Named::Nothing => None,
            Named::Node(group) if groups.contains_key(&group) => groups.get(&group).copied(),
            Named::Node(_) | Named::Elsewhere(_) | Named::Dangling => {
                draft.oddities.push(Oddity::UnknownShipment);
                None
            }
        };
        lines.insert(at, draft.lines.len());
        draft.lines.push(line(node, nodes, delivery_group)?);
    }
    Ok(lines)
}

fn line(node: &Node<'_>, nodes: &Nodes<'_, '_>, delivery_group: Option<usize>) -> Mapped<Line> {
    let (code, product_name) = match nodes.named(node, Field::Product2Id) {
        Named::Node(product) => match nodes.all.get(product) {
            Some(product) => {
                let code = owned(product, Field::ProductCode);
                (
                    code.or_else(|| owned(product, Field::StockKeepingUnit)),
                    owned(product, Field::Name),
                )
            }
            None => (None, None),
        },
        Named::Elsewhere(id) => (Some(id.to_owned()), None),
        Named::Nothing => (owned(node, Field::ProductCode), None),
        Named::Dangling => return Err(dangling("an OrderItemSummary", "a product")),
    };
    let quantity = amount(node, Field::Quantity)?.unwrap_or(Decimal::ONE);
    let unit_price = amount(node, Field::UnitPrice)?;
    let line_amount = match (amount(node, Field::TotalLineAmount)?, unit_price) {
        (Some(amount), _) => amount,
        (None, Some(price)) => exact::times(price, quantity)?,
        (None, None) => {
            return Err(refuse("amount", "an OrderItemSummary without TotalLineAmount; send it"));
        }
    };
    Ok(Line {
        number: 0,
        kind: match node.get(Field::Type) {
            Some("Delivery Charge") => LineKind::DeliveryCharge,
            Some("Fee") => LineKind::Fee,
            _ => LineKind::Product,
        },
        delivery_group,
        product_code: code.unwrap_or_default(),
        name: owned(node, Field::Description).or(product_name).unwrap_or_default(),
        quantity,
        unit_price: unit_price.or_else(|| line_amount.checked_div(quantity)).unwrap_or(line_amount),
        line_amount,
        adjustments: Vec::new(),
        taxes: Vec::new(),
    })
}

fn dangling(who: &str, what: &str) -> Unmappable {
    let reason = format!("{who} names {what} that is not in the graph; send the graph as a whole");
    refuse("dangling_reference", reason)
}

/// Fills the adjustments; gives node to line and place among its adjustments.
fn adjustments(
    nodes: &Nodes<'_, '_>,
    lines: &HashMap<usize, usize>,
    draft: &mut Draft,
) -> Mapped<HashMap<usize, (usize, usize)>> {
    let mut groups = HashMap::new();
    for (at, node) in nodes.of(Kind::OrderAdjustmentGroupSummary) {
        if node.get(Field::Type).is_none_or(|kind| kind == "Header") {
            groups.insert(at, draft.adjustment_groups.len());
            let name = owned(node, Field::Name).unwrap_or_default();
            draft.adjustment_groups.push(AdjustmentGroup { name });
        }
    }
    let mut adjustments = HashMap::new();
    for (at, node) in nodes.of(Kind::OrderItemAdjustmentLineSummary) {
        let found = match nodes.named(node, Field::OrderItemSummaryId) {
            Named::Node(line) => lines.get(&line).copied(),
            _ => None,
        };
        let line = found.and_then(|index| Some((index, draft.lines.get_mut(index)?)));
        let Some((index, line)) = line else {
            return Err(dangling("an OrderItemAdjustmentLineSummary", "a line"));
        };
        let group = match nodes.named(node, Field::OrderAdjustmentGroupSummaryId) {
            Named::Node(group) => groups.get(&group).copied(),
            _ => None,
        };
        adjustments.insert(at, (index, line.adjustments.len()));
        line.adjustments.push(Adjustment {
            amount: amount(node, Field::Amount)?.unwrap_or_default(),
            tax: Decimal::ZERO,
            name: owned(node, Field::Name).unwrap_or_default(),
            group,
        });
    }
    Ok(adjustments)
}

fn taxes(
    nodes: &Nodes<'_, '_>,
    lines: &HashMap<usize, usize>,
    adjustments: &HashMap<usize, (usize, usize)>,
    draft: &mut Draft,
) -> Mapped<()> {
    for (_, node) in nodes.of(Kind::OrderItemTaxLineItemSummary) {
        let tax = amount(node, Field::Amount)?.unwrap_or_default();
        let of_adjustment = match nodes.named(node, Field::OrderItemAdjustmentLineSummaryId) {
            Named::Nothing => None,
            Named::Node(at) => Some(adjustments.get(&at).copied()),
            Named::Elsewhere(_) | Named::Dangling => Some(None),
        };
        let who = "an OrderItemTaxLineItemSummary";
        if let Some(place) = of_adjustment {
            let adjustment =
                place.and_then(|(line, at)| draft.lines.get_mut(line)?.adjustments.get_mut(at));
            adjustment.ok_or_else(|| dangling(who, "an adjustment"))?.tax += tax;
            continue;
        }
        let found = match nodes.named(node, Field::OrderItemSummaryId) {
            Named::Node(line) => lines.get(&line).copied(),
            _ => None,
        };
        let line = found.and_then(|index| draft.lines.get_mut(index));
        line.ok_or_else(|| dangling(who, "a line"))?.taxes.push(Tax {
            name: owned(node, Field::Name).unwrap_or_default(),
            rate: amount(node, Field::Rate)?,
            amount: tax,
        });
    }
    Ok(())
}

fn payments(nodes: &Nodes<'_, '_>) -> Mapped<Vec<Payment>> {
    let mut payments = Vec::new();
    let mut by_summary = HashMap::new();
    for (at, node) in nodes.of(Kind::OrderPaymentSummary) {
        by_summary.insert(at, payments.len());
        payments.push(Payment { method: method(node, nodes), ..Payment::default() });
    }
    let captured = nodes.of(Kind::Payment).map(|(_, node)| (PaymentState::Captured, node));
    let authorised = nodes.of(Kind::PaymentAuthorization);
    let authorised = authorised.map(|(_, node)| (PaymentState::Authorised, node));
    for (state, node) in captured.chain(authorised) {
        let taken = amount(node, Field::Amount)?;
        let summary = match nodes.named(node, Field::OrderPaymentSummaryId) {
            Named::Node(summary) => by_summary.get(&summary).copied(),
            _ => None,
        };
        let Some(payment) = summary.and_then(|index| payments.get_mut(index)) else {
            let reference = owned(node, Field::GatewayRefNumber);
            payments.push(Payment { method: method(node, nodes), amount: taken, state, reference });
            continue;
        };
        // Captures come first: what was authorised for them is no second amount.
        if payment.state == PaymentState::Captured && state == PaymentState::Authorised {
            continue;
        }
        payment.state = state;
        payment.amount = match (payment.amount, taken) {
            (Some(sum), Some(taken)) => Some(sum + taken),
            (sum, taken) => sum.or(taken),
        };
        payment.reference =
            payment.reference.take().or_else(|| owned(node, Field::GatewayRefNumber));
        if payment.method.is_empty() {
            payment.method = method(node, nodes);
        }
    }
    Ok(payments)
}

/// The payment method a node names: a card by its type, another by its record type.
fn method(node: &Node<'_>, nodes: &Nodes<'_, '_>) -> String {
    let Some(method) = nodes.follow(node, Field::PaymentMethodId) else { return String::new() };
    let by_kind = match method.kind() {
        Kind::CardPaymentMethod => "CardPaymentMethod",
        Kind::DigitalWallet => "DigitalWallet",
        Kind::AlternativePaymentMethod => "AlternativePaymentMethod",
        _ => "",
    };
    method.get(Field::CardType).unwrap_or(by_kind).to_owned()
}

fn amount(node: &Node<'_>, name: Field) -> Mapped<Option<Decimal>> {
    let Some(text) = node.get(name) else { return Ok(None) };
    parse_amount(text).map(Some).map_err(|error| {
        refuse(
            "amount",
            format!("{name:?} of a {:?}: {error}; correct it at the source", node.kind()),
        )
    })
}
