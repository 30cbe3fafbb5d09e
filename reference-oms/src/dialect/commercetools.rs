//! commercetools: its Import API takes up to 20 orders a call, which exist a little later; its HTTP API is asked for them.
//!
//! `docs.commercetools.com`: "Import Requests", "Import Operations", "Processing States", "Errors", "Query Predicates". An order number is unique in a project.

use std::collections::BTreeMap;

use http::{Method, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::generic::{members, text};
use super::quoted::{Escape, parameter, texts};
use super::{Said, Words};
use crate::order::{Found, Kind, Order, Outcome, Refusal, Why};

const RESOURCES_MAX: usize = 20;
/// Orders in an answer, where no limit is asked for.
const LIMIT: usize = 20;

pub(super) struct Commercetools;

#[derive(Deserialize)]
struct Import<'a> {
    r#type: String,
    #[serde(borrow)]
    resources: Vec<BTreeMap<String, &'a RawValue>>,
}

impl Words for Commercetools {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        let mut parts = path.split('/').skip(1);
        let parts = (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        match (method.as_str(), parts) {
            ("POST", (Some("oauth"), Some("token"), ..)) => Kind::Token,
            ("POST", (_, Some("orders"), Some("import-containers"), Some(_), None)) => Kind::Create,
            ("GET", (_, Some("orders"), None, ..)) => Kind::Find,
            _ => Kind::Other,
        }
    }

    fn orders(&self, _uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        let import: Import<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if import.r#type != "order" {
            return Err(format!("type {:?} is not order", import.r#type));
        }
        import.resources.iter().map(order).collect()
    }

    fn batch_max(&self) -> Option<usize> {
        Some(RESOURCES_MAX)
    }

    fn results(&self, outcomes: &[(String, Outcome)], _error_in_200: bool) -> Said {
        let status = |(_, outcome): &(String, Outcome)| {
            let failed = |code: &str, message: &str| {
                let errors = json!([{ "code": code, "message": message }]);
                json!({ "state": "validationFailed", "errors": errors })
            };
            match outcome {
                // A second of a number is taken too: that it is there is seen, and the import rejected, later.
                Outcome::Created { id }
                | Outcome::Existing { id, .. }
                | Outcome::Accepted { ticket: id } => {
                    json!({ "operationId": id, "state": "processing" })
                }
                Outcome::Invalid { code, message } => failed(code, message),
                Outcome::TryLater { .. } => failed("Contention", "not now"),
            }
        };
        let statuses: Vec<Value> = outcomes.iter().map(status).collect();
        Said::new(201, &json!({ "operationStatus": statuses }))
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        let predicate = parameter(uri, "where")?.ok_or("no predicate")?;
        let (around, identities) = texts(&predicate, '"', &Escape::Backslash)?;
        let listed =
            around.strip_prefix("orderNumber in (").and_then(|rest| rest.strip_suffix(')'));
        match listed.is_some_and(|listed| listed.split(',').all(|text| text.trim() == "?")) {
            true => Ok(identities),
            false => Err(format!("this predicate is not answered here: {around}")),
        }
    }

    fn found(&self, uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        let limit = parameter(uri, "limit").ok().flatten().and_then(|limit| limit.parse().ok());
        let limit = limit.unwrap_or(LIMIT);
        let orders = found.iter().take(limit);
        let orders: Vec<_> =
            orders.map(|order| json!({ "id": order.id, "orderNumber": order.identity })).collect();
        let body = json!({ "limit": limit, "offset": 0, "count": orders.len(), "results": orders });
        Said::new(200, &body)
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let code = match refusal.why {
            Why::Token => "invalid_token",
            Why::Malformed => "InvalidJsonInput",
            Why::Unavailable => "ServiceUnavailable",
            _ => &refusal.code,
        };
        let (status, message) = (refusal.status, &refusal.message);
        let errors = json!([{ "code": code, "message": message }]);
        Said::new(status, &json!({ "statusCode": status, "message": message, "errors": errors }))
    }
}

fn order(resource: &BTreeMap<String, &RawValue>) -> Result<Order, String> {
    let field = |name: &str| resource.get(name).map(|raw| text(raw)).unwrap_or_default();
    let total = resource.get("totalPrice").map(|total| members(total)).unwrap_or_default();
    let of_total = |name: &str| total.get(name).map(|raw| text(raw)).unwrap_or_default();
    let (identity, cents) = (field("orderNumber"), of_total("centAmount"));
    if identity.is_empty() || cents.parse::<i64>().is_err() {
        return Err("a resource has no orderNumber, or no whole totalPrice.centAmount".to_owned());
    }
    Ok(Order {
        name: identity.clone(),
        identity,
        fingerprint: String::new(),
        grand_total: cents,
        currency: of_total("currencyCode"),
    })
}
