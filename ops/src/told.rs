//! `POST /v1/oms/outcomes`: the OMS, or whoever stands in for it, tells what became of orders.
//!
//! Signed as a Standard Webhook, where a secret is configured. A JSON array, or one object a line. Each is answered by itself, in order; what is durable is said to be `done`, and the same again is
//! `already_known`. So whoever got no answer tells the same again.

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use forebay_buffer::{Buffer, Effect, Telling, Word};
use forebay_order::OrderKey;
use forebay_processor::oms::plain;
use forebay_processor::{OrderManagement, Patience};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::View;
use crate::answer::{Answer, Problem, ok};
use crate::webhooks::Secrets;

const BYTES_MAX: usize = 1 << 20;
const ITEMS_MAX: usize = 1_000;
/// Tellings that are under way together.
const TOGETHER: usize = 256;
/// Seconds that the clock of whoever signs may be off.
const TOLERANCE_S: u64 = 300;
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
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let body = to_bytes(body, BYTES_MAX).await.map_err(|_| too_large())?;
    if let Some(file) = view.outcomes_secret_file.clone() {
        check_signature(&secrets(file).await?, &headers, &body, view.clock.wall_ms())?;
    }
    let items = split(&body)?;
    if items.len() > ITEMS_MAX {
        return Err(too_large());
    }
    let patience = view.hearing.patience();
    let mut results = Vec::with_capacity(items.len());
    for some in items.chunks(TOGETHER) {
        // All of them, for what is durable must have all its effects, also where another one failed.
        let told = join_all(some.iter().map(|item| one(&view, item, patience))).await;
        results.extend(told.into_iter().collect::<Result<Vec<_>, _>>()?);
    }
    ok(serde_json::json!({ "results": results }))
}

async fn one<B: Buffer, O: OrderManagement>(
    view: &View<B, O>,
    item: &Result<Value, String>,
    patience: Patience,
) -> Result<Told, Problem> {
    let (telling, code) = match item.clone().and_then(read) {
        Ok(read) => read,
        Err(detail) => return Ok(Told { answer: "malformed", detail: Some(detail) }),
    };
    let effect = view.hearing.tell(&view.buffer, telling, code.as_deref(), patience).await?;
    Ok(Told { answer: effect.word(), detail: detail(effect).map(str::to_owned) })
}

/// The secrets as they stand in the file now, so that they can be changed without a restart.
async fn secrets(file: PathBuf) -> Result<Secrets, Problem> {
    let read = tokio::task::spawn_blocking(move || Secrets::read(&file)).await;
    read.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| {
        tracing::error!(%why, "oms.outcomes_secret_file cannot be read; outcomes are not taken");
        let detail = "the secret cannot be read (oms.outcomes_secret_file), see the log; send the same again later";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    })
}

/// Whether whoever tells has the secret, and said so just now.
fn check_signature(
    secrets: &Secrets,
    headers: &HeaderMap,
    body: &[u8],
    now_ms: i64,
) -> Result<(), Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let not_signed =
        |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, "not-signed", detail.to_owned());
    let (Some(id), Some(timestamp), Some(signatures)) =
        (text("webhook-id"), text("webhook-timestamp"), text("webhook-signature"))
    else {
        return Err(not_signed(
            "outcomes are taken signed only (oms.outcomes_secret_file): send webhook-id, webhook-timestamp and webhook-signature",
        ));
    };
    if !secrets.signed(id, timestamp, body, signatures) {
        return Err(not_signed("no signature is of a secret in oms.outcomes_secret_file"));
    }
    let at_s = timestamp.parse::<i64>().unwrap_or_default();
    if at_s.abs_diff(now_ms / 1_000) > TOLERANCE_S {
        return Err(not_signed(
            "webhook-timestamp is more than five minutes off: sign anew, and look at the clocks",
        ));
    }
    Ok(())
}

/// The items of a body, each by itself; no more than there may be, and one.
fn split(body: &Bytes) -> Result<Vec<Result<Value, String>>, Problem> {
    let malformed = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed", detail);
    let parse =
        |item: &[u8]| serde_json::from_slice(item).map_err(|error| format!("no JSON: {error}"));
    if body.trim_ascii_start().first() == Some(&b'[') {
        let items: Result<Vec<&RawValue>, _> = serde_json::from_slice(body);
        let items = items.map_err(|error| malformed(format!("no JSON array: {error}")))?;
        let items = items.into_iter().take(ITEMS_MAX + 1);
        return Ok(items.map(|item| parse(item.get().as_bytes())).collect());
    }
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let items: Vec<_> = lines.take(ITEMS_MAX + 1).map(parse).collect();
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

    #[test]
    fn only_what_was_signed_just_now_is_taken() {
        // Of the specification's own libraries.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let secrets = Secrets::read(file.path()).unwrap();
        let (id, at, signature) = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        );
        let check = |id: &str, at: &str, signature: &str, body: &str, now_s: i64| {
            let mut headers = HeaderMap::new();
            for (name, value) in
                [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signature)]
            {
                if !value.is_empty() {
                    headers.insert(name, value.parse().unwrap());
                }
            }
            check_signature(&secrets, &headers, body.as_bytes(), now_s * 1_000).is_ok()
        };
        let body = r#"{"test": 2432232314}"#;
        assert!(check(id, at, signature, body, 1_614_265_330));
        assert!(check(id, at, &format!("v1a,x {signature}"), body, 1_614_265_630));
        assert!(!check(id, at, signature, body, 1_614_265_631), "too old");
        assert!(!check(id, at, signature, body, 1_614_265_029), "of the future");
        assert!(!check(id, at, signature, "{}", 1_614_265_330));
        assert!(!check("other", at, signature, body, 1_614_265_330));
        assert!(!check(id, "1614265331", signature, body, 1_614_265_330));
        assert!(!check(id, at, "v1,AAAA", body, 1_614_265_330));
        assert!(!check(id, at, "", body, 1_614_265_330));
    }

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
