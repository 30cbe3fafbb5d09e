//! Orders of which every byte is known, posted one by one, for the tortures that look at each by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_loadtest::Target;
use serde_json::Value;

use super::probe::{self, Reply};
use super::server::{ANSWER_LIMIT, get};
use crate::failure::{Failure, Result, While as _};
use crate::time::poll_until;

/// Where they are posted to.
const CHANNEL: &str = "/v1/channels/forebay/orders";
/// Ahead of every run, for an order that was placed long ago is looked up whatever became of the buffer.
const PLACED_AT: &str = "2999-01-01T00:00:00Z";
/// How long a state that must come may take.
const SOON: Duration = Duration::from_secs(30);

/// A drain that holds a few orders and sends none.
pub(super) const STILL: [&str; 2] = ["--drain-rate", "0.001"];

/// One order as it was last posted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) version: u64,
    /// `placed`, `held` or `cancelled`.
    pub(super) status: &'static str,
    /// One without a currency cannot be mapped.
    pub(super) currency: bool,
    pub(super) total: String,
    pub(super) body: String,
}

impl Order {
    /// A placed order of about so many bytes that no other order has.
    pub(super) fn new(id: String, bytes: usize, random: &mut fastrand::Rng) -> Self {
        let status = "placed";
        let order = Self {
            id,
            version: 1,
            status,
            currency: true,
            total: String::new(),
            body: String::new(),
        };
        order.filled(bytes, random)
    }

    /// The same order with another content; `version` and `status` as they are set.
    pub(super) fn filled(mut self, bytes: usize, random: &mut fastrand::Rng) -> Self {
        let name: String = std::iter::repeat_with(|| random.alphanumeric()).take(bytes).collect();
        let Self { id, version, status, .. } = &self;
        let total = format!("{}.{:02}", random.u32(1..100_000), random.u32(0..100));
        let currency = if self.currency { r#""currency":"EUR","# } else { "" };
        self.body = format!(
            r#"{{"id":"{id}","version":{version},"status":"{status}",{currency}"placed_at":"{PLACED_AT}","shopper":{{"email":"shopper@example.com"}},"lines":[{{"sku":"BOWL","name":"{name}","quantity":1,"unit_price":"{total}","amount":"{total}"}}],"totals":{{"grand":"{total}"}}}}"#
        );
        self.total = total;
        self
    }

    /// The joined key.
    pub(super) fn identity(&self) -> String {
        format!("forebay:demo:{}", self.id)
    }

    /// Posts it; a hang-up is an error.
    pub(super) fn post(&self, target: Target) -> std::io::Result<Reply> {
        probe::post_body(target.orders, CHANNEL, &self.body, ANSWER_LIMIT)
    }

    /// Posts it, and it must be answered as durable. Gives the answer.
    pub(super) fn accepted(&self, target: Target) -> Result<Value> {
        let reply = self.post(target).when(&self.id)?;
        if !reply.is_durable() {
            return Err(Failure::Missed(format!("{}: {} {}", self.id, reply.status, reply.body)));
        }
        serde_json::from_str(&reply.body).when(&self.id)
    }

    /// What operators see of it, with its bytes; `None` if it is not there.
    pub(super) fn view(&self, target: Target) -> Result<Option<Value>> {
        let path = format!("/v1/orders/forebay/demo/{}?body=1", self.id);
        let reply = probe::get(target.ops, &path, ANSWER_LIMIT).when(&path)?;
        match reply.status {
            200 => serde_json::from_str(&reply.body).map(Some).when(&path),
            404 => Ok(None),
            // Its bytes cannot be read.
            status => Ok(Some(serde_json::json!({ "state": "unreadable", "status": status }))),
        }
    }
}

/// The text at a member of a JSON object; empty if there is none.
pub(super) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// All open exceptions.
pub(super) fn exceptions(target: Target) -> Result<Vec<Value>> {
    pages(target, "/v1/exceptions", "exceptions")
}

/// Discards an open exception.
pub(super) fn discard(target: Target, exception: u64) -> Result<()> {
    let path = format!("/v1/exceptions/{exception}/discard");
    let reply = probe::post_body(target.ops, &path, "", ANSWER_LIMIT).when(&path)?;
    if reply.status == 200 {
        return Ok(());
    }
    Err(Failure::Missed(format!("{path}: {} {}", reply.status, reply.body)))
}

/// Everything in the OMS, by identity.
pub(super) fn summaries(target: Target) -> Result<BTreeMap<String, Value>> {
    let all = pages(target, "/v1/oms/orders", "orders")?;
    Ok(all.into_iter().map(|summary| (text(&summary, "identity").to_owned(), summary)).collect())
}

/// How often the OMS was made to create a summary.
pub(super) fn creates(summary: &Value) -> u64 {
    summary.get("creates").and_then(Value::as_u64).unwrap_or_default()
}

fn pages(target: Target, path: &str, member: &str) -> Result<Vec<Value>> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = get(target.ops, &format!("{path}?after={after}&limit=1000"))?;
        let rows = page.get(member).and_then(Value::as_array);
        all.extend(rows.into_iter().flatten().cloned());
        match page.get("next").and_then(Value::as_u64) {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}

/// Waits until something is so.
pub(super) fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut failed = None;
    let came = poll_until(SOON, || match so() {
        Ok(so) => so,
        Err(failure) => {
            failed = Some(failure);
            true
        }
    });
    match failed {
        Some(failure) => Err(failure),
        None if came => Ok(()),
        None => Err(Failure::Missed(format!("{what} did not come within {SOON:?}"))),
    }
}
