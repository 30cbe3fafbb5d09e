//! Salesforce Order Management with High-Scale Orders: order-summary graphs are taken as pending ones, which become order summaries
//! by and by; these are looked up by a query.
//!
//! `developer.salesforce.com`: Connect REST API, "Pending Order Summaries"; REST API, "Status Codes and Error Responses"; SOQL, "Quoted
//! String Escape Sequences". How a repeat is answered is not documented: here as a unique field refuses one.

use std::collections::{BTreeMap, HashSet};

use http::{Method, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::generic::text;
use super::quoted::{Escape, parameter, texts};
use super::{Said, Words};
use crate::order::{Found, Kind, Order, Outcome, Refusal, Why};

/// An order summary stores no longer identity.
const IDENTITY_MAX: usize = 80;

pub(super) struct Salesforce;

impl Words for Salesforce {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        let of_version = || path.strip_prefix("/services/data/v")?.split_once('/');
        match (method.as_str(), path, of_version().map(|(_, rest)| rest)) {
            ("POST", "/services/oauth2/token", _) => Kind::Token,
            ("POST", _, Some("commerce/order-summaries")) => Kind::Create,
            ("GET", _, Some("query")) => Kind::Find,
            _ => Kind::Other,
        }
    }

    fn orders(&self, _uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        let sent: Sent<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        sent.graphs.iter().map(Graph::order).collect()
    }

    fn results(&self, outcomes: &[(String, Outcome)], _error_in_200: bool) -> Said {
        let results: Vec<Value> =
            outcomes.iter().map(|(name, outcome)| result(name, outcome)).collect();
        let success = results.iter().all(|result| result["success"] == true);
        let body =
            json!({ "success": success, "error": null, "orderSummaryGraphsResults": results });
        Said::new(201, &body)
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        let query = parameter(uri, "q")?.ok_or("no query")?;
        let (around, identities) = texts(&query, '\'', &Escape::Backslash)?;
        let asks = around.strip_prefix(
            "SELECT Id,ExternalReferenceIdentifier FROM OrderSummary WHERE ExternalReferenceIdentifier ",
        );
        let of = |text: &str| text.split(',').all(|text| text.trim() == "?");
        let listed = |asks: &str| asks.strip_prefix("IN (")?.strip_suffix(')').map(of);
        match asks {
            Some("= ?") => Ok(identities),
            Some(asks) if listed(asks) == Some(true) => Ok(identities),
            _ => Err(format!("this query is not answered here: {around}")),
        }
    }

    fn found(&self, _uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        let records = found.iter().map(|order| {
            let url = format!("/services/data/v67.0/sobjects/OrderSummary/{}", order.id);
            json!({
                "attributes": { "type": "OrderSummary", "url": url },
                "Id": order.id,
                "ExternalReferenceIdentifier": order.identity,
            })
        });
        let records: Vec<_> = records.collect();
        let body = json!({ "totalSize": records.len(), "done": true, "records": records });
        Said::new(200, &body)
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let (status, code) = match refusal.why {
            Why::Token => (401, "INVALID_SESSION_ID"),
            Why::Quota | Why::AtOnce => (403, "REQUEST_LIMIT_EXCEEDED"),
            Why::Unavailable => (503, "SERVER_UNAVAILABLE"),
            Why::Malformed => (400, "JSON_PARSER_ERROR"),
            _ => (refusal.status, refusal.code.as_str()),
        };
        Said::new(status, &json!([{ "message": refusal.message, "errorCode": code }]))
    }
}

fn result(name: &str, outcome: &Outcome) -> Value {
    let taken = |id: &str| {
        let location = format!("/services/data/v67.0/sobjects/PendingOrderSummary/{id}");
        json!({
            "orderSummaryGraphId": name, "success": true, "error": null,
            "httpHeaders": [{ "name": "Location", "value": location }],
        })
    };
    let failed = |code: &str, message: &str| {
        json!({
            "orderSummaryGraphId": name, "success": false, "httpHeaders": [],
            "error": { "errorCode": code, "message": message },
        })
    };
    match outcome {
        Outcome::Created { id } => taken(id),
        Outcome::Accepted { ticket } => taken(ticket),
        Outcome::Existing { .. } => {
            failed("DUPLICATE_VALUE", "duplicate value found: ExternalReferenceIdentifier")
        }
        Outcome::Invalid { code, message } => failed(code, message),
        Outcome::TryLater { .. } => {
            failed("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access")
        }
    }
}

#[derive(Deserialize)]
struct Sent<'a> {
    #[serde(borrow, rename = "orderSummaryGraphs")]
    graphs: Vec<Graph<'a>>,
}

/// All three are required.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Graph<'a> {
    order_summary_graph_id: String,
    #[serde(borrow)]
    purchase_support_details: Vec<Node<'a>>,
    #[serde(borrow)]
    purchase_details: Vec<Node<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node<'a> {
    reference_id: String,
    #[serde(borrow)]
    attributes: BTreeMap<String, &'a RawValue>,
}

#[derive(Deserialize)]
struct Inner {
    r#type: String,
}

impl Node<'_> {
    fn kind(&self) -> Option<String> {
        let inner = self.attributes.get("attributes")?;
        serde_json::from_str::<Inner>(inner.get()).ok().map(|inner| inner.r#type)
    }

    fn field(&self, name: &str) -> String {
        self.attributes.get(name).map(|raw| text(raw)).unwrap_or_default()
    }
}

impl Graph<'_> {
    /// The order of a graph whose nodes say what they are and name only nodes that are there.
    fn order(&self) -> Result<Order, String> {
        let name = &self.order_summary_graph_id;
        let wrong = |what: &str| format!("graph {name:?}: {what}");
        let nodes = || self.purchase_support_details.iter().chain(&self.purchase_details);
        let mut references = HashSet::new();
        for node in nodes() {
            if node.kind().is_none() {
                return Err(wrong(&format!("{:?} has no type", node.reference_id)));
            }
            if !references.insert(node.reference_id.as_str()) {
                return Err(wrong(&format!("{:?} is there twice", node.reference_id)));
            }
        }
        let named = nodes().flat_map(|node| node.attributes.values()).map(|raw| text(raw));
        for named in named.filter(|text| text.starts_with("@{")) {
            let reference = named.strip_prefix("@{").and_then(|named| named.strip_suffix(".id}"));
            if !reference.is_some_and(|reference| references.contains(reference)) {
                return Err(wrong(&format!("{named:?} is not in it")));
            }
        }
        let mut summaries = self
            .purchase_details
            .iter()
            .filter(|node| node.kind().as_deref() == Some("OrderSummary"));
        let (Some(summary), None) = (summaries.next(), summaries.next()) else {
            return Err(wrong("it has not one OrderSummary"));
        };
        let identity = summary.field("ExternalReferenceIdentifier");
        if identity.is_empty() || identity.len() > IDENTITY_MAX {
            return Err(wrong("ExternalReferenceIdentifier must have 1 to 80 characters"));
        }
        Ok(Order {
            identity,
            name: name.clone(),
            fingerprint: String::new(),
            grand_total: summary.field("GrandTotalAmount"),
            currency: summary.field("CurrencyIsoCode"),
        })
    }
}
