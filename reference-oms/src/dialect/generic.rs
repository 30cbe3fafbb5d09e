//! The generic dialect.

use std::collections::BTreeMap;

use http::{Method, Uri};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Said, Words};
use crate::order::{Found, Kind, Listed, Order, Outcome, Refusal};

pub(super) struct Generic;

/// Records of a caller's own, each at its name.
const RECORDS: &str = "/v1/records/";

impl Words for Generic {
    fn kind(&self, method: &Method, path: &str) -> Kind {
        match (method.as_str(), path) {
            ("POST", "/oauth/token") => Kind::Token,
            ("POST", "/v1/orders") => Kind::Create,
            ("GET", "/v1/orders") => Kind::Find,
            ("GET", "/v1/orders/list") => Kind::List,
            ("GET", path) if path.starts_with(RECORDS) => Kind::Read,
            ("PUT", path) if path.starts_with(RECORDS) => Kind::Write,
            _ => Kind::Other,
        }
    }

    fn orders(&self, _uri: &Uri, body: &[u8]) -> Result<Vec<Order>, String> {
        read_orders(body)
    }

    fn results(&self, outcomes: &[(String, Outcome)], error_in_200: bool) -> Said {
        let word = if error_in_200 { in_200 } else { by_status };
        let results: Vec<Value> = outcomes.iter().map(|(_, outcome)| word(outcome)).collect();
        Said::new(200, &json!({ "results": results }))
    }

    fn wanted(&self, uri: &Uri) -> Result<Vec<String>, String> {
        let query: Vec<(String, String)> =
            serde_urlencoded::from_str(uri.query().unwrap_or_default())
                .map_err(|error| error.to_string())?;
        let identities =
            query.into_iter().filter_map(|(name, value)| (name == "identity").then_some(value));
        Ok(identities.collect())
    }

    fn found(&self, _uri: &Uri, _wanted: &[String], found: &[Found]) -> Said {
        let items = found.iter().map(|order| {
            json!({ "identity": order.identity, "id": order.id, "fingerprint": order.fingerprint })
        });
        Said::new(200, &json!({ "items": items.collect::<Vec<_>>() }))
    }

    fn refusal(&self, refusal: &Refusal) -> Said {
        let body = json!({ "code": refusal.code, "message": refusal.message });
        Said::new(refusal.status, &body)
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    orders: Vec<Sent<'a>>,
}

#[derive(Deserialize)]
struct Sent<'a> {
    identity: String,
    fingerprint: String,
    #[serde(borrow)]
    order: &'a RawValue,
}

/// The members of an object; none of what is no object.
pub(super) fn members(raw: &RawValue) -> BTreeMap<String, &RawValue> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn read_orders(body: &[u8]) -> Result<Vec<Order>, String> {
    let batch: Batch<'_> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let orders = batch.orders.into_iter().enumerate();
    orders
        .map(|(index, sent)| {
            if sent.identity.is_empty() {
                return Err(format!("orders[{index}]: the identity is empty"));
            }
            // Of an order its money is read, if it is there; the rest is the sender's.
            let order = members(sent.order);
            let totals = order.get("totals").map(|totals| members(totals)).unwrap_or_default();
            let text_of = |raw: Option<&&RawValue>| raw.map(|raw| text(raw)).unwrap_or_default();
            Ok(Order {
                name: sent.identity.clone(),
                identity: sent.identity,
                fingerprint: sent.fingerprint,
                grand_total: text_of(totals.get("grand_total")),
                currency: text_of(order.get("currency")),
            })
        })
        .collect()
}

/// A string or a number as text, the number as it was written.
pub(super) fn text(raw: &RawValue) -> String {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).unwrap_or_default(),
        Some(b'-' | b'0'..=b'9') => raw.to_owned(),
        _ => String::new(),
    }
}

const DUPLICATE: &str = "DUPLICATE_IDENTITY";
const TRY_LATER: &str = "TRY_LATER";

fn by_status(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Created { id } => json!({ "status": 201, "id": id }),
        Outcome::Existing { id, fingerprint } => {
            json!({ "status": 409, "id": id, "code": DUPLICATE, "fingerprint": fingerprint })
        }
        Outcome::Invalid { code, message } => {
            json!({ "status": 422, "code": code, "message": message })
        }
        Outcome::TryLater { after_s } => {
            json!({ "status": 503, "code": TRY_LATER, "retry_after_s": after_s })
        }
        Outcome::Accepted { ticket } => json!({ "status": 202, "ticket": ticket }),
    }
}

fn in_200(outcome: &Outcome) -> Value {
    let error = |code: &str, message: &str| json!([{ "code": code, "message": message }]);
    match outcome {
        Outcome::Created { id } => json!({ "success": true, "id": id }),
        Outcome::Existing { id, fingerprint } => json!({
            "success": false,
            "errors": error(DUPLICATE, "an order of this identity exists"),
            "id": id,
            "fingerprint": fingerprint,
        }),
        Outcome::Invalid { code, message } => {
            json!({ "success": false, "errors": error(code, message) })
        }
        Outcome::TryLater { after_s } => json!({
            "success": false,
            "errors": error(TRY_LATER, "not now"),
            "retry_after_s": after_s,
        }),
        Outcome::Accepted { ticket } => json!({ "success": true, "ticket": ticket }),
    }
}

pub(super) fn listed(listed: &[Listed]) -> Vec<u8> {
    let items = listed.iter().map(|order| {
        json!({
            "cursor": order.cursor,
            "identity": order.found.identity,
            "id": order.found.id,
            "fingerprint": order.found.fingerprint,
            "committed_at_us": order.committed_at_us,
            "grand_total": order.grand_total,
            "currency": order.currency,
            "creates": order.creates,
        })
    });
    json!({ "items": items.collect::<Vec<_>>() }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(order: &str) -> Order {
        let body =
            format!(r#"{{"orders":[{{"identity":"a","fingerprint":"f","order":{order}}}]}}"#);
        read_orders(body.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn money_is_read_as_it_was_written() {
        for (order, total, currency) in [
            (r#"{"totals":{"grand_total":"28.40"},"currency":"EUR"}"#, "28.40", "EUR"),
            (r#"{"totals":{"grand_total":28.40},"currency":"EUR"}"#, "28.40", "EUR"),
            (
                r#"{"totals":{"grand_total":12345678901234567890.12}}"#,
                "12345678901234567890.12",
                "",
            ),
            (r#"{"totals":{"grand_total":null},"currency":{}}"#, "", ""),
            (r#"{"totals":7,"currency":"JPY"}"#, "", "JPY"),
            (r#"[1,2]"#, "", ""),
            ("null", "", ""),
        ] {
            let read = read(order);
            assert_eq!((&*read.grand_total, &*read.currency), (total, currency), "{order}");
        }
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"orders":7}"#,
            r#"{"orders":[{"identity":"a","fingerprint":"f"}]}"#,
            r#"{"orders":[{"identity":"","fingerprint":"f","order":{}}]}"#,
            r#"{"orders":[{"identity":1,"fingerprint":"f","order":{}}]}"#,
        ] {
            assert!(read_orders(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(read_orders(br#"{"orders":[]}"#), Ok(Vec::new()));
    }
}
