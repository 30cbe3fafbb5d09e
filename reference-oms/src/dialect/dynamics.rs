//! Dynamics 365 on Dataverse: its Web API creates one sales order a call, and an alternate key over the column of the identity refuses
//! a second.
//!
//! `learn.microsoft.com`: "Create a table row using the Web API", "Define alternate keys" (an identity has characters with which no
//! address by a key works), "Service protection API limits", "Dataverse web service error codes".

use std::collections::BTreeMap;

use http::{HeaderName, Method, Uri, header};
use serde_json::json;
use serde_json::value::RawValue;

use super::generic::text;
use super::quoted::filtered;
use super::{Said, Words};
use crate::order::{Found, Kind, Order, Outcome, Refusal, Why};

const ORDERS: &str = "/api/data/v9.2/salesorders";
const IDENTITY: &str = "forebay_identity";
const FINGERPRINT: &str = "forebay_fingerprint";

pub(super) struct Dynamics;

impl Words for Dynamics {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        match (method.as_str(), path) {
            ("POST", path) if path.ends_with("/oauth2/v2.0/token") => Kind::Token,
            ("POST", ORDERS) => Kind::Create,
            ("GET", ORDERS) => Kind::Find,
            _ => Kind::Other,
        }
    }

    fn orders(&self, _uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        let columns: BTreeMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let column = |name: &str| columns.get(name).map(|raw| text(raw)).unwrap_or_default();
        let identity = column(IDENTITY);
        if identity.is_empty() {
            return Err(format!("no {IDENTITY}"));
        }
        Ok(vec![Order {
            name: identity.clone(),
            identity,
            fingerprint: column(FINGERPRINT),
            grand_total: column("totalamount"),
            currency: String::new(),
        }])
    }

    fn results(&self, outcomes: &[(String, Outcome)], _error_in_200: bool) -> Said {
        match outcomes.first().map(|(_, outcome)| outcome) {
            Some(Outcome::Created { id } | Outcome::Accepted { ticket: id }) => {
                let address = format!("https://oms.invalid{ORDERS}({id})");
                let header = (HeaderName::from_static("odata-entityid"), address);
                Said { status: 204, header: Some(header), body: Vec::new() }
            }
            Some(Outcome::Existing { .. }) => {
                error(412, "0x80060892", "a record with the same value of the key exists")
            }
            Some(Outcome::Invalid { code, message }) => error(400, code, message),
            Some(Outcome::TryLater { after_s }) => {
                let said = error(429, "0x80072322", "too many requests within 300 seconds");
                Said { header: Some((header::RETRY_AFTER, after_s.to_string())), ..said }
            }
            None => error(400, "0x80048d19", "no order"),
        }
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        filtered(uri, IDENTITY)
    }

    fn found(&self, _uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        let rows = found.iter().map(|order| {
            json!({ "salesorderid": order.id, IDENTITY: order.identity, FINGERPRINT: order.fingerprint })
        });
        Said::new(200, &json!({ "value": rows.collect::<Vec<_>>() }))
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let message = &refusal.message;
        match refusal.why {
            // Each of the service protection limits comes with a wait.
            Why::AtOnce => {
                let said = error(429, "0x80072326", message);
                Said { header: Some((header::RETRY_AFTER, "1".to_owned())), ..said }
            }
            _ => error(refusal.status, &refusal.code, message),
        }
    }
}

fn error(status: u16, code: &str, message: &str) -> Said {
    Said::new(status, &json!({ "error": { "code": code, "message": message } }))
}
