//! Records of a caller's own: small JSON objects, each at its name, as OMSs have them for their customers' needs. The last write counts.

use http::StatusCode;
use serde_json::Value;

use super::answer::Answer;
use super::call::{Call, malformed, refusal, too_large};
use super::orders::broken;
use crate::ledger::Note;
use crate::oms::Oms;
use crate::order::{Refusal, Why};

/// Bytes of a record at most.
const RECORD_MAX: usize = 4 << 10;

pub(super) async fn read(oms: &Oms, call: &Call) -> Result<Answer, Refusal> {
    let absent = || refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "no such record", Why::Absent);
    let record = oms.ledger.record(name(call)).await.map_err(broken)?;
    Ok(Answer::ok(record.ok_or_else(absent)?.into_bytes()))
}

pub(super) async fn write(oms: &Oms, call: &Call) -> Result<Answer, Refusal> {
    if call.body.len() > RECORD_MAX {
        return Err(too_large("the record is over 4 KiB"));
    }
    let body: Value =
        serde_json::from_slice(&call.body).map_err(|error| malformed(&error.to_string()))?;
    if !body.is_object() {
        return Err(malformed("a record is an object"));
    }
    let body = body.to_string();
    oms.ledger.note(Note::Record { call: call.number, name: name(call), body: body.clone() }).await;
    oms.ledger.flush().await.map_err(broken)?;
    Ok(Answer::ok(body.into_bytes()))
}

/// The whole path, which no other record has.
fn name(call: &Call) -> String {
    call.parts.uri.path().to_owned()
}
