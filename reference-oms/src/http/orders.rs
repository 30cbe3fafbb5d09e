//! Orders: created, looked up, listed.

use std::sync::Arc;

use http::{HeaderName, StatusCode};

use super::answer::Answer;
use super::call::{Call, malformed, refusal, too_large};
use crate::clock::millis_us;
use crate::hash::fnv;
use crate::ledger::{Create, Created, Failed, Note};
use crate::oms::Oms;
use crate::order::{Cut, Refusal, Why};

/// Identities in one look-up at most.
const FIND_MAX: usize = 1_000;

/// Orders in a page at most, and where nothing is asked for.
const LIST_MAX: usize = 10_000;
const LIST_DEFAULT: usize = 1_000;

pub(super) async fn create(oms: &Oms, call: &Call) -> Result<Answer, Refusal> {
    let words = oms.dialect.words();
    let orders = words.orders(&call.parts.uri, &call.body).map_err(|what| malformed(&what))?;
    let most = words.batch_max().unwrap_or(usize::MAX).min(oms.batch_max);
    if orders.len() > most {
        return Err(too_large(&format!("over {most} orders in a call")));
    }
    oms.keep(call.body.clone());
    let names: Vec<_> = orders.iter().map(|order| order.name.clone()).collect();
    let (faults, counts) = (&call.faults, &oms.counts);
    // Each fault counts each call, whichever of them hits it.
    let before = counts.drop_before_commit.hits(faults.drop_before_commit_every);
    let after = counts.drop_after_commit.hits(faults.drop_after_commit_every);
    let middle = counts.drop_mid_answer.hits(faults.drop_mid_answer_every);
    if before {
        let (at_us, orders) = (oms.clock.now_us(), orders.len());
        oms.ledger.note(Note::Dropped { call: call.number, at_us, orders }).await;
        return Ok(Answer::ok(Vec::new()).cut(Some(Cut::BeforeCommit)));
    }
    let cut = match (after, middle) {
        (true, _) => Some(Cut::AfterCommit),
        (false, true) => Some(Cut::MidAnswer),
        (false, false) => None,
    };
    let key = call.parts.headers.get("idempotency-key").filter(|_| faults.idempotency_keys);
    let key =
        key.map(|key| (String::from_utf8_lossy(key.as_bytes()).into_owned(), fnv(&call.body)));
    let later = orders.iter().map(|_| counts.try_later.hits(faults.try_later_every)).collect();
    let create = Create { call: call.number, orders, later, key, faults: Arc::clone(faults) };
    let (outcomes, replayed) = match oms.ledger.create(create).await.map_err(broken)? {
        Created::Now(outcomes) => (outcomes, false),
        Created::Before(outcomes) => (outcomes, true),
        Created::KeyReused => {
            let message = "this Idempotency-Key was used for another body";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(refusal(status, "IDEMPOTENCY_KEY_REUSED", message, Why::KeyReused));
        }
    };
    let outcomes: Vec<_> = names.into_iter().zip(outcomes).collect();
    let answer = Answer::said(words.results(&outcomes, faults.error_in_200)).cut(cut);
    Ok(if replayed {
        answer.header(HeaderName::from_static("idempotency-replayed"), "true".to_owned())
    } else {
        answer
    })
}

pub(super) async fn find(oms: &Oms, call: &Call) -> Result<Answer, Refusal> {
    let (words, uri) = (oms.dialect.words(), &call.parts.uri);
    let identities = words.wanted(uri).map_err(|what| malformed(&what))?;
    if identities.is_empty() || identities.len() > FIND_MAX {
        return Err(malformed(&format!("1 to {FIND_MAX} identities, please")));
    }
    let visible_us = oms.clock.now_us().saturating_sub(millis_us(call.faults.visible_after_ms));
    let found = oms.ledger.find(identities.clone(), visible_us).await.map_err(broken)?;
    Ok(Answer::said(words.found(uri, &identities, &found)))
}

pub(super) async fn list(oms: &Oms, call: &Call) -> Result<Answer, Refusal> {
    let (mut after, mut limit) = (0, LIST_DEFAULT);
    for (name, value) in query(call)? {
        let wrong = |_| malformed(&format!("{name} is not a whole number"));
        match name.as_str() {
            "after" => after = value.parse().map_err(wrong)?,
            "limit" => limit = value.parse().map_err(wrong)?,
            _ => {}
        }
    }
    let limit = limit.clamp(1, LIST_MAX);
    let listed = oms.ledger.list(after, limit, oms.clock.now_us()).await.map_err(broken)?;
    Ok(Answer::ok(oms.dialect.words().listed(&listed)))
}

fn query(call: &Call) -> Result<Vec<(String, String)>, Refusal> {
    let query = call.parts.uri.query().unwrap_or_default();
    serde_urlencoded::from_str(query).map_err(|error| malformed(&error.to_string()))
}

/// The one refusal that is no fault on purpose.
#[expect(clippy::needless_pass_by_value, reason = "stands where an error is mapped")]
pub(super) fn broken(failed: Failed) -> Refusal {
    tracing::error!(%failed, "the ledger failed a call");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", &failed, Why::Broken)
}
