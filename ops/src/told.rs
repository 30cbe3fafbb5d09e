//! `POST /v1/oms/outcomes`: the OMS, or whoever stands in for it, tells what became of orders.
//!
//! A JSON array, or one object a line. Each is answered by itself, in order; what is durable is said to be `done`, and the same again is
//! `already_known`. So whoever got no answer tells the same again.

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use forebay_buffer::{Buffer, Effect, Telling, Word};
use forebay_order::OrderKey;
use forebay_processor::OrderManagement;
use forebay_processor::oms::plain;
use futures_util::future::try_join_all;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::View;
use crate::answer::{Answer, Problem, ok};

const BYTES_MAX: usize = 1 << 20;
const ITEMS_MAX: usize = 1_000;
/// Tellings that are under way together.
const TOGETHER: usize = 256;
/// Characters of the OMS's own words that are kept.
const CODE_MAX: usize = 64;
const REASON_MAX: usize = 300;

/// One outcome as it is told.
#[derive(Deserialize)]
struct Item {
    identity: Option<String>,
    ticket: Option<String>,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Outcome {
    Created {
        id: Value,
    },
    Invalid {
        code: String,
        #[serde(default)]
        reason: String,
    },
}

/// What one of them came to.
#[derive(Serialize)]
struct Told {
    answer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A telling, and the code of a refusal.
type Read = (Telling, Option<String>);

/// `POST /v1/oms/outcomes`
pub(crate) async fn tell<B: Buffer, O: OrderManagement>(
    State(view): State<Arc<View<B, O>>>,
    body: Body,
) -> Answer {
    let body = to_bytes(body, BYTES_MAX).await.map_err(|_| too_large())?;
    let items = split(&body)?;
    if items.len() > ITEMS_MAX {
        return Err(too_large());
    }
    let mut results = Vec::with_capacity(items.len());
    for some in items.chunks(TOGETHER) {
        let told = some.iter().map(|item| one(&view, item));
        results.extend(try_join_all(told).await?);
    }
    ok(serde_json::json!({ "results": results }))
}

async fn one<B: Buffer, O: OrderManagement>(
    view: &View<B, O>,
    item: &Result<Value, String>,
) -> Result<Told, Problem> {
    let (telling, code) = match item.clone().and_then(read) {
        Ok(read) => read,
        Err(detail) => return Ok(Told { answer: "malformed", detail: Some(detail) }),
    };
    let effect = view.buffer.tell(telling).await?;
    if let Some(code) = code.filter(|_| effect == Effect::Done) {
        (view.refused)(&code);
    }
    Ok(Told { answer: effect.word(), detail: detail(effect).map(str::to_owned) })
}

/// The items of a body, each by itself where they stand on lines.
fn split(body: &Bytes) -> Result<Vec<Result<Value, String>>, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed", detail);
    if body.trim_ascii_start().first() == Some(&b'[') {
        let items: Result<Vec<Value>, _> = serde_json::from_slice(body);
        let items = items.map_err(|error| malformed(format!("no JSON array: {error}")))?;
        return Ok(items.into_iter().map(Ok).collect());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let items: Vec<_> = lines
        .map(|line| serde_json::from_slice(line).map_err(|error| format!("no JSON: {error}")))
        .collect();
    match items.is_empty() {
        true => {
            Err(malformed("nothing is told; send a JSON array, or one object a line".to_owned()))
        }
        false => Ok(items),
    }
}

fn read(item: Value) -> Result<Read, String> {
    let item: Item = serde_json::from_value(item).map_err(|error| error.to_string())?;
    let parse = |identity: &String| {
        OrderKey::parse(identity)
            .ok_or("identity: three percent-encoded parts joined by \":\", as the OMS was sent it")
    };
    let key = item.identity.as_ref().map(parse).transpose()?;
    let ticket = item.ticket.filter(|ticket| !ticket.is_empty());
    if key.is_none() && ticket.is_none() {
        return Err("say which order: by its identity or its ticket".to_owned());
    }
    let (word, code) = match item.outcome {
        Outcome::Created { id } => {
            let summary_id = match id {
                Value::String(id) => id,
                Value::Number(id) => id.to_string(),
                _ => String::new(),
            };
            if summary_id.is_empty() || summary_id == "0" {
                return Err("id: the OMS's id of the order, as text".to_owned());
            }
            (Word::Created { summary_id }, None)
        }
        Outcome::Invalid { code, reason } => {
            let (code, reason) = (plain(&code, CODE_MAX), plain(&reason, REASON_MAX));
            let reason = format!("the OMS refused it, {code}: {reason}");
            (Word::Invalid { reason }, Some(code))
        }
    };
    Ok((Telling { key, ticket, word }, code))
}

/// What to do about it.
fn detail(effect: Effect) -> Option<&'static str> {
    Some(match effect {
        Effect::Done | Effect::Known => return None,
        Effect::UnknownOrder => {
            "no order of that identity, or under that ticket, is known; an order that has ended is known by its identity alone"
        }
        Effect::Ambiguous => "several orders are under that ticket; tell each by its identity",
        Effect::NotSubmitted => {
            "the order is not under a ticket, so nothing is open that this could close; nothing was changed"
        }
        Effect::OtherTicket => {
            "the order was sent again and is under another ticket by now; nothing was changed"
        }
        Effect::OtherSummary => {
            "the order is summarised under another id; nothing was changed: look for two orders in the OMS"
        }
    })
}

fn too_large() -> Problem {
    let detail = format!(
        "at most {ITEMS_MAX} outcomes and {BYTES_MAX} bytes in one request; nothing was taken"
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(body: &str) -> Vec<Result<Read, String>> {
        let items = split(&Bytes::copy_from_slice(body.as_bytes())).unwrap();
        items.into_iter().map(|item| item.and_then(read)).collect()
    }

    #[test]
    fn arrays_and_lines_are_read_alike() {
        let created = r#"{"identity":"c:s:1%3A2","outcome":"created","id":"SO-1","more":true}"#;
        let invalid = r#"{"ticket":"T-1","outcome":"invalid","code":"NO_STOCK","reason":"of a@b.example, 12345678"}"#;
        let of_array = items(&format!(" [{created},\n{invalid}]"));
        let of_lines = items(&format!("{created}\r\n\n{invalid}\n"));
        assert_eq!(of_array, of_lines);
        let [Ok((first, None)), Ok((second, Some(code)))] = &of_array[..] else {
            panic!("{of_array:?}")
        };
        assert_eq!(first.key, Some(OrderKey::new("c", "s", "1:2")));
        assert_eq!(first.word, Word::Created { summary_id: "SO-1".to_owned() });
        assert_eq!((second.ticket.as_deref(), &**code), (Some("T-1"), "NO_STOCK"));
        let Word::Invalid { reason } = &second.word else { panic!("{second:?}") };
        assert_eq!(reason, "the OMS refused it, NO_STOCK: of ... ...", "nothing personal");
    }

    #[test]
    fn one_that_cannot_be_read_spoils_no_other() {
        let good = r#"{"ticket":"T-1","outcome":"created","id":7}"#;
        for bad in [
            "{",
            "7",
            r#"{"outcome":"created","id":"SO-1"}"#,
            r#"{"ticket":"","outcome":"created","id":"SO-1"}"#,
            r#"{"ticket":"T-1","outcome":"created"}"#,
            r#"{"ticket":"T-1","outcome":"created","id":""}"#,
            r#"{"ticket":"T-1","outcome":"created","id":0}"#,
            r#"{"ticket":"T-1","outcome":"invalid"}"#,
            r#"{"ticket":"T-1","outcome":"perhaps"}"#,
            r#"{"identity":"c:s","outcome":"created","id":"SO-1"}"#,
        ] {
            let read = items(&format!("{bad}\n{good}"));
            assert!(read[0].is_err() && read[1].is_ok(), "{bad}: {read:?}");
        }
        for none in ["", " \n ", "[{]"] {
            assert!(split(&Bytes::copy_from_slice(none.as_bytes())).is_err(), "{none}");
        }
    }
}
