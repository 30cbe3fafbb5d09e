//! SAP S/4HANA: its OData service of sales orders (version 2) creates one a call, in a session with its token against forged requests;
//! a second of an identity makes another, unless a check of the customer's own refuses it.
//!
//! `help.sap.com`: "Sales Order (A2X, OData V2)", and SAP Gateway's "Cross-Site Request Forgery Protection". The fields that begin with
//! YY1 are the customer's own.

use std::collections::BTreeMap;

use http::{HeaderName, Method, Uri};
use serde_json::json;
use serde_json::value::RawValue;

use super::generic::text;
use super::quoted::filtered;
use super::{Said, Words};
use crate::order::{Found, Kind, Order, Outcome, Refusal, Why};

const SERVICE: &str = "/sap/opu/odata/sap/API_SALES_ORDER_SRV/";
const ORDERS: &str = "/sap/opu/odata/sap/API_SALES_ORDER_SRV/A_SalesOrder";
const IDENTITY: &str = "YY1_ForebayIdentity_SDH";
const FINGERPRINT: &str = "YY1_ForebayFingerprint_SDH";

pub(super) struct Sap;

impl Words for Sap {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        match (method.as_str(), path) {
            ("POST", path) if path.ends_with("/oauth2/token") => Kind::Token,
            ("GET" | "HEAD", SERVICE) => Kind::Session,
            ("POST", ORDERS) => Kind::Create,
            ("GET", ORDERS) => Kind::Find,
            _ => Kind::Other,
        }
    }

    fn wants_session(&self) -> bool {
        true
    }

    fn orders(&self, _uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        let fields: BTreeMap<String, &RawValue> =
            serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let field = |name: &str| fields.get(name).map(|raw| text(raw)).unwrap_or_default();
        let identity = field(IDENTITY);
        if identity.is_empty() {
            return Err(format!("no {IDENTITY}"));
        }
        Ok(vec![Order {
            name: identity.clone(),
            identity,
            fingerprint: field(FINGERPRINT),
            // Its own prices are what it computes.
            grand_total: String::new(),
            currency: field("TransactionCurrency"),
        }])
    }

    fn results(&self, outcomes: &[(String, Outcome)], _error_in_200: bool) -> Said {
        match outcomes.first() {
            Some((identity, Outcome::Created { id } | Outcome::Accepted { ticket: id })) => {
                Said::new(201, &json!({ "d": { "SalesOrder": id, IDENTITY: identity } }))
            }
            Some((_, Outcome::Existing { .. })) => {
                error(400, "YY1/001", "a sales order of this identity exists")
            }
            Some((_, Outcome::Invalid { code, message })) => error(400, code, message),
            Some((_, Outcome::TryLater { .. })) => {
                error(503, "SY/530", "locked by another user; try again")
            }
            None => error(400, "005056A509B11EE1B9A8FEC11C21578E", "no order"),
        }
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        filtered(uri, IDENTITY)
    }

    fn found(&self, _uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        let rows = found.iter().map(|order| {
            json!({ "SalesOrder": order.id, IDENTITY: order.identity, FINGERPRINT: order.fingerprint })
        });
        Said::new(200, &json!({ "d": { "results": rows.collect::<Vec<_>>() } }))
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let said = error(refusal.status, &refusal.code, &refusal.message);
        match refusal.why {
            Why::Session => {
                let required = (HeaderName::from_static("x-csrf-token"), "Required".to_owned());
                Said { header: Some(required), ..said }
            }
            _ => said,
        }
    }
}

fn error(status: u16, code: &str, message: &str) -> Said {
    let message = json!({ "lang": "en", "value": message });
    Said::new(status, &json!({ "error": { "code": code, "message": message } }))
}
