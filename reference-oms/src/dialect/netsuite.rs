//! NetSuite's REST record service: one sales order a call, put at its external id. A second put changes the order that is there.
//!
//! `docs.oracle.com`, NetSuite: "Using the Upsert Operation", "Using External IDs", "Replacing a Sublist", "Errors Related to Concurrency Violations".

use std::collections::BTreeMap;

use http::{Method, Uri, header};
use percent_encoding::percent_decode_str;
use serde_json::json;
use serde_json::value::RawValue;

use super::generic::text;
use super::{Said, Words};
use crate::order::{Found, Kind, Order, Outcome, Refusal, Why};

const ORDERS: &str = "/services/rest/record/v1/salesOrder";
const NO_ID: &str = "an external id has letters, digits, - and _ only";

pub(super) struct NetSuite;

impl Words for NetSuite {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        let by_id = path.strip_prefix(ORDERS).is_some_and(|rest| rest.starts_with("/eid:"));
        match (method.as_str(), path) {
            ("POST", "/services/rest/auth/oauth2/v1/token") => Kind::Token,
            ("PUT", _) if by_id => Kind::Create,
            ("GET", _) if by_id => Kind::Find,
            _ => Kind::Other,
        }
    }

    fn orders(&self, uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        // Else a put at an order that is there would add its lines to it.
        if uri.query() != Some("replace=item") {
            return Err("lines must be replaced: ?replace=item".to_owned());
        }
        let identity = external_id(uri.path()).ok_or(NO_ID)?;
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let field = |name: &str| fields.get(name).map(|raw| text(raw)).unwrap_or_default();
        Ok(vec![Order {
            name: identity.clone(),
            identity,
            fingerprint: String::new(),
            grand_total: field("total"),
            currency: String::new(),
        }])
    }

    fn results(&self, outcomes: &[(String, Outcome)], _error_in_200: bool) -> Said {
        match outcomes.first().map(|(_, outcome)| outcome) {
            Some(
                Outcome::Created { id }
                | Outcome::Existing { id, .. }
                | Outcome::Accepted { ticket: id },
            ) => {
                let header = (header::LOCATION, format!("https://oms.invalid{ORDERS}/{id}"));
                Said { status: 204, header: Some(header), body: Vec::new() }
            }
            Some(Outcome::Invalid { code, message }) => error(400, code, message),
            Some(Outcome::TryLater { .. }) => error(429, "CONCURRENCY_LIMIT_EXCEEDED", "not now"),
            None => error(400, "INVALID_CONTENT", "no order"),
        }
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        external_id(uri.path()).map(|identity| vec![identity]).ok_or(NO_ID.to_owned())
    }

    fn found(&self, _uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        match found.first() {
            Some(order) => Said::new(200, &json!({ "id": order.id, "externalId": order.identity })),
            None => error(404, "NONEXISTENT_ID", "the record instance does not exist"),
        }
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let code = match refusal.why {
            Why::Token => "INVALID_LOGIN",
            _ => &refusal.code,
        };
        error(refusal.status, code, &refusal.message)
    }
}

/// Of `.../eid:ID`; the same in either case.
fn external_id(path: &str) -> Option<String> {
    let id = path.strip_prefix(ORDERS)?.strip_prefix("/eid:")?;
    let id = percent_decode_str(id).decode_utf8().ok()?.to_ascii_lowercase();
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!id.is_empty() && id.bytes().all(taken)).then_some(id)
}

fn error(status: u16, code: &str, message: &str) -> Said {
    let details = json!([{ "detail": message, "o:errorCode": code }]);
    let body = json!({ "type": "about:blank", "title": message, "status": status, "o:errorDetails": details });
    Said::new(status, &body)
}
