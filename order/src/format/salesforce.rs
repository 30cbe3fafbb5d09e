//! Salesforce order-summary graphs: the body of `POST /commerce/order-summaries`.
//!
//! A body is `{"orderSummaryGraphs": [graph, ..]}`, one graph, or an array of graphs; an item is one
//! graph. A graph's nodes stand in `purchaseSupportDetails` and `purchaseDetails`; a node is
//! `{"referenceId": .., "attributes": {"attributes": {"type": ..}, ..}}` and names others of its graph by
//! `@{referenceId.field}`.
//!
//! # Identity, number, version
//! Identity is `ExternalReferenceIdentifier` of the OrderSummary node, else `orderSummaryGraphId`. Number
//! is `OrderNumber`. There is no version. Template placeholders (`${..}`) are text like any other.
//!
//! # Readiness
//! | graph | readiness |
//! |---|---|
//! | one OrderSummary node | pending; `OrderLifeCycleType` UNMANAGED makes an unmanaged summary |
//! | nodes, but no OrderSummary among them | pending, flagged as unplaced; an exception when it is summarised |
//! | a graph id and no nodes | fetch needed |
//! | two OrderSummary nodes | unreadable (duplicate member): which of two identities counts would be a guess |
//! | neither identifier nor graph id | unreadable (missing id) |
//!
//! `Status` of the node is a label that Order Management itself does not read, nor does this.
//!
//! # Fingerprint
//! Volatile: `orderSummaryGraphId`, the caller's name for the graph in this request.
//!
//! # References and missing parts
//! | odd | what happens |
//! |---|---|
//! | no e-mail, no lines, no date, totals that differ | summarised, flagged |
//! | a line names a delivery group that is not there | summarised without one, flagged |
//! | an adjustment names a group that is not there, or one of type SplitLine | it stands as a line adjustment |
//! | a payment, account, contact or delivery method names a node that is not there | summarised without what it would say |
//! | a line names a product that is not there | exception `dangling_reference` |
//! | a tax or adjustment names a line, or a tax an adjustment, that is not there | exception `dangling_reference`: money would be lost |
//! | two nodes with one `referenceId` | exception `ambiguous_reference` |
//! | no OrderSummary node | exception `no_order_summary` |
//! | currency missing or unknown | exception `no_currency` |
//! | an amount that is none, a line without any | exception `amount` |

mod graph;
mod summary;

use bytes::Bytes;

use graph::{Field, Graph, Kind};
pub(crate) use summary::summarise;

use crate::json::{self, Facts, Fault, JsonFormat, Shape, Text};
use crate::money::parse_amount;
use crate::read::ItemResult;
use crate::{ReadOptions, Readiness, Unreadable, UnreadableKind};

pub(crate) fn read(body: &Bytes, options: &ReadOptions<'_>) -> Result<Vec<ItemResult>, Unreadable> {
    json::read::<Salesforce>(body, options)
}

/// The format, for the JSON module.
struct Salesforce;

impl JsonFormat for Salesforce {
    type Order<'a> = Graph<'a>;

    const SHAPE: Shape = Shape {
        wrappers: &["orderSummaryGraphs"],
        id: "orderSummaryGraphId",
        volatile: &["orderSummaryGraphId"],
        masked: &[
            "/purchaseDetails/*/attributes/InputCardNumber",
            "/purchaseDetails/*/attributes/CardHolderName",
            "/purchaseDetails/*/attributes/CardVerificationValue",
            "/purchaseDetails/*/attributes/CVV",
            "/purchaseDetails/*/attributes/SecurityCode",
            "/purchaseDetails/*/attributes/Comments",
            "/purchaseDetails/*/attributes/Description",
            "/purchaseDetails/*/attributes/GiftMessage",
            "/purchaseDetails/*/attributes/SfResultCodeDescription",
            "/purchaseDetails/*/attributes/GatewayMessage",
        ],
    };

    fn facts(graph: &Graph<'_>, _wrapper: Option<&str>) -> Result<Facts, Fault> {
        let mut summaries = graph.nodes().filter(|node| node.kind() == Kind::OrderSummary);
        let summary = summaries.next();
        if summaries.next().is_some() {
            let message = "two OrderSummary nodes in one graph; send one graph for each order";
            return Err(Fault::of(UnreadableKind::DuplicateMember, "/purchaseDetails", message));
        }
        let told = |name| summary.and_then(|node| node.get(name));
        let graph_id = graph.id.as_ref().and_then(Text::given);
        let Some(id) = told(Field::ExternalReferenceIdentifier).or(graph_id) else {
            let message = "no ExternalReferenceIdentifier on the OrderSummary and no \
                           orderSummaryGraphId; send one of them";
            return Err(Fault::of(UnreadableKind::MissingId, "/orderSummaryGraphId", message));
        };
        let readiness = match graph.nodes().next() {
            Some(_) => Readiness::Pending,
            None => Readiness::FetchNeeded,
        };
        Ok(Facts {
            id: Some(id.to_owned()),
            number: told(Field::OrderNumber).unwrap_or_default().to_owned(),
            readiness,
            unplaced: readiness == Readiness::Pending && summary.is_none(),
            version: None,
            amount: told(Field::GrandTotalAmount).and_then(|text| parse_amount(text).ok()),
            currency: told(Field::CurrencyIsoCode).and_then(|code| code.parse().ok()),
            email: told(Field::BillingEmailAddress).map(str::to_owned),
            products: graph.nodes().filter(|node| node.is_product_line()).count(),
            lines: graph.nodes().filter(|node| node.kind() == Kind::OrderItemSummary).count(),
        })
    }
}
