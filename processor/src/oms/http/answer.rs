//! What an answer means for each order of a call. Where it can be read two ways, it is the one that is looked up.
//!
//! The configured rules come first. Where none fits:
//!
//! | of an order | | of a whole call | |
//! |---|---|---|---|
//! | 202 | accepted | 2xx without one answer an order | unknown |
//! | other 2xx with an id | created | 401, 403 | unauthenticated |
//! | other 2xx with a ticket | accepted | 429, 503 with `Retry-After` | overloaded |
//! | 2xx with a code of what is wrong, and no id | invalid | 503 without | overloaded; unknown, if only a look-up keeps from doubles |
//! | 409 | existing; retry, if only an idempotency key keeps from doubles, nobody can be asked, and it has no id: the first call with that key may be under way | 400, 409, 413, 422 | invalid: one of its orders may be why |
//! | 401, 403, 425 | retry | 408, 406, and 3xx but 301, 307, 308 | unknown |
//! | 429, 503 | overloaded | other 3xx and 4xx, 501 | unavailable |
//! | 408 | unknown | the rest | unknown |
//! | 400 to 499 else | invalid | | |
//! | the rest | unknown | | |
//!
//! Where answers name their orders, one that none names is unknown. A call of one order whose body is that order's answer is read as
//! an order's where its status is 409, or another 4xx that tells a code of what is wrong. Created or existing without an id is unknown, where a look-up tells it; so is an id with a code of what is wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use forebay_order::{Fingerprint, OrderSummary};
use http::HeaderMap;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use serde_json::Value;

use super::claim::Noted;
use super::options::{Answers, ClaimNote, Find, HttpOptions, List, Meaning, Rule};
use super::template::word_of;
use crate::oms::{CallFailure, Found, Guarantee, Identity, Listed, Outcome, Scope, plain};
use crate::outbound::{Answer, retry_after};

/// Characters of the OMS's own words that are kept.
const WORDS_MAX: usize = 200;
/// Of a code.
const CODE_MAX: usize = 64;
/// The status of what is taken and not done (RFC 9110, section 15.3.3).
const TAKEN: u16 = 202;

/// What the answers of one OMS mean.
pub(super) struct Reading {
    answers: Answers,
    rules: Vec<Rule>,
    /// An order can be looked up.
    finds: bool,
    /// Only a look-up keeps from doubles.
    looks_up: bool,
    /// Only a key keeps from doubles, and nobody can be asked: how long the first call with it may be under way.
    under_way: Option<Duration>,
}

/// What of an answer decides.
struct Said<'a> {
    status: u16,
    /// As the OMS wrote it.
    code: Option<String>,
    body: Option<&'a Value>,
}

impl Reading {
    pub(super) fn new(options: &HttpOptions) -> Self {
        let (answers, rules) = (options.create.answers.clone(), options.rules.clone());
        let (guarantee, finds) = (options.guarantee(), options.find.is_some());
        let looks_up = guarantee == Guarantee::LookedUp;
        let by_key = guarantee == Guarantee::IdempotencyKey && !finds;
        let under_way = by_key.then_some(options.answer_timeout);
        Self { answers, rules, finds, looks_up, under_way }
    }

    /// What became of the orders of a call.
    ///
    /// # Errors
    /// [`CallFailure`], where it is one for all.
    pub(super) fn outcomes(
        &self,
        sent: &[Arc<OrderSummary>],
        answer: &Answer,
    ) -> Result<Vec<Outcome>, CallFailure> {
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let body = body.as_ref();
        let status = answer.status.as_u16();
        let items = match (&self.answers.items, body) {
            (Some(pointer), Some(body)) => body.pointer(pointer).and_then(Value::as_array),
            _ => None,
        };
        if let Some(outcomes) = items.and_then(|items| self.each(status, items, sent)) {
            return Ok(outcomes);
        }
        let said = Said { status, code: self.code(body), body };
        let alone = match sent {
            [one] if self.answers.items.is_none() => Some(one),
            _ => None,
        };
        let rule = self.rule(&said);
        let of_order = match status {
            200..=299 | 409 => true,
            401 | 403 | 408 | 429 => false,
            400..=499 => said.code.is_some(),
            _ => false,
        };
        // Some say it all in the head, and have no body.
        let by_header = answer.status.is_success().then(|| self.id_of(&answer.headers)).flatten();
        let nothing = Value::Null;
        let whole = body.or((by_header.is_some() || status == TAKEN).then_some(&nothing));
        if let (Some(order), Some(whole), None) = (alone.filter(|_| of_order), whole, rule) {
            return Ok(vec![self.outcome(status, whole, by_header, order)]);
        }
        let meaning = rule.map_or_else(|| self.of_create(&said, answer), |(is, _)| is);
        match (meaning, alone) {
            (Meaning::Unauthenticated, _) => Err(CallFailure::Unauthenticated),
            (Meaning::Overloaded | Meaning::Retry, _) => Err(overloaded(answer, rule)),
            (Meaning::Unavailable, _) => {
                Err(CallFailure::NotSent(format!("it answered {status}{}", said.words_of(self))))
            }
            (Meaning::Invalid, None) => Err(CallFailure::Refused(self.words(&said))),
            (Meaning::Unknown, _) | (_, None) => Err(CallFailure::Unknown(format!(
                "the answer, {status}, does not say what became of the orders{}",
                said.words_of(self)
            ))),
            (_, Some(order)) => {
                Ok(vec![self.as_meant(meaning, &said, whole.unwrap_or(&nothing), by_header, order)])
            }
        }
    }

    /// What became of each order by its own answer; `None` where there is not one an order.
    fn each(
        &self,
        status: u16,
        items: &[Value],
        sent: &[Arc<OrderSummary>],
    ) -> Option<Vec<Outcome>> {
        let outcome = |item: &Value, order: &OrderSummary| self.outcome(status, item, None, order);
        let Some(pointer) = &self.answers.identity else {
            let each = items.iter().zip(sent).map(|(item, order)| outcome(item, order));
            return (items.len() == sent.len()).then(|| each.collect());
        };
        let named = |item: &Value| item.pointer(pointer).and_then(text);
        let by_name: HashMap<_, _> =
            items.iter().filter_map(|item| Some((named(item)?, item))).collect();
        let of = |order: &Arc<OrderSummary>| {
            let identity = order.key.identity();
            let item = by_name.get(&identity).or_else(|| by_name.get(&word_of(&identity)));
            item.map_or(Outcome::Unknown, |item| outcome(item, order))
        };
        Some(sent.iter().map(of).collect())
    }

    /// The OMS's id at the end of the address in the configured header: `.../orders/7`, `.../orders(7)`.
    fn id_of(&self, headers: &HeaderMap) -> Option<String> {
        let address = headers.get(self.answers.id_header.as_deref()?)?.to_str().ok()?;
        let last = address.trim_end_matches([')', '/']).rsplit(['/', '(']).next()?;
        Some(last.to_owned()).filter(|id| !id.is_empty())
    }

    /// What the status of a call that creates usually means.
    fn of_create(&self, said: &Said<'_>, answer: &Answer) -> Meaning {
        match said.status {
            // A gateway says so of a call that it has passed on, too.
            503 if self.looks_up && retry_after(&answer.headers).is_none() => Meaning::Unknown,
            _ => of_call(said),
        }
    }

    /// Whether a call was refused for the credentials it came with.
    pub(super) fn refuses_us(&self, answer: &Answer) -> bool {
        let body: Option<Value> = match answer.status.is_success() {
            true => return false,
            false => serde_json::from_slice(&answer.body).ok(),
        };
        let status = answer.status.as_u16();
        let said = Said { status, code: self.code(body.as_ref()), body: body.as_ref() };
        let meaning = self.rule(&said).map_or_else(|| of_call(&said), |(is, _)| is);
        meaning == Meaning::Unauthenticated
    }

    /// What became of one order, by its own answer.
    fn outcome(
        &self,
        of_call: u16,
        item: &Value,
        by_header: Option<String>,
        order: &OrderSummary,
    ) -> Outcome {
        let own = first(&self.answers.status, item).and_then(|status| match status {
            Value::Number(number) => number.as_u64().and_then(|status| u16::try_from(status).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        let status = own.unwrap_or(of_call);
        let said = Said { status, code: self.code(Some(item)), body: Some(item) };
        let has = |pointers| first(pointers, item).and_then(name).is_some();
        let has_id = by_header.is_some() || has(&self.answers.id);
        let usual = || match (status, &said.code) {
            // Whatever it names may be a task.
            (TAKEN, None) => Meaning::Accepted,
            (200..=299, None) if has_id => Meaning::Created,
            (200..=299, None) if has(&self.answers.ticket) => Meaning::Accepted,
            (200..=299, Some(_)) if !has_id => Meaning::Invalid,
            (409, _) if self.under_way.is_some() && !has_id => Meaning::Retry,
            (409, _) => Meaning::Existing,
            (429 | 503, _) => Meaning::Overloaded,
            (401 | 403 | 425, _) => Meaning::Retry,
            (408, _) => Meaning::Unknown,
            (400..=499, _) => Meaning::Invalid,
            _ => Meaning::Unknown,
        };
        let meaning = self.rule(&said).map_or_else(usual, |(is, _)| is);
        self.as_meant(meaning, &said, item, by_header, order)
    }

    fn as_meant(
        &self,
        meaning: Meaning,
        said: &Said<'_>,
        item: &Value,
        by_header: Option<String>,
        order: &OrderSummary,
    ) -> Outcome {
        let id = || first(&self.answers.id, item).and_then(name).or(by_header);
        match meaning {
            Meaning::Created => id().map_or(Outcome::Unknown, |id| Outcome::Created { id }),
            Meaning::Existing => {
                let stored = first(&self.answers.fingerprint, item).and_then(text);
                let stored = stored.and_then(|stored| Fingerprint::parse(&stored));
                let same = stored.map(|stored| stored == order.fingerprint);
                // Where nobody can be asked for its id, it is known by its identity.
                let id = id().or_else(|| (!self.finds).then(|| order.key.identity()));
                id.map_or(Outcome::Unknown, |id| Outcome::Existing { id, same })
            }
            Meaning::Accepted => {
                // Without any the order is known by its identity.
                let ticket = first(&self.answers.ticket, item).and_then(name).or_else(id);
                Outcome::Accepted { ticket: ticket.unwrap_or_else(|| order.key.identity()) }
            }
            Meaning::Invalid => Outcome::Invalid { code: said.shown(), reason: self.reason(said) },
            Meaning::Retry => {
                let under_way = self.under_way.filter(|_| said.status == 409).unwrap_or_default();
                Outcome::Retry { after: told_in(item).max(under_way) }
            }
            Meaning::Overloaded | Meaning::Unauthenticated | Meaning::Unavailable => {
                Outcome::NotDone { after: told_in(item) }
            }
            Meaning::Unknown => Outcome::Unknown,
        }
    }

    /// What a look-up found, in the order asked; `None` for absent.
    ///
    /// # Errors
    /// [`CallFailure`]: nobody can say.
    pub(super) fn found(
        &self,
        find: &Find,
        asked: &[Identity],
        answer: &Answer,
    ) -> Result<Vec<Option<Found>>, CallFailure> {
        let status = answer.status.as_u16();
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let said = Said { status, code: self.code(body.as_ref()), body: body.as_ref() };
        let rule = self.rule(&said);
        // One that is no JSON is a gateway's, which knows no order.
        if status == 404 && find.items.is_none() && rule.is_none() && body.is_some() {
            return Ok(asked.iter().map(|_| None).collect());
        }
        if !answer.status.is_success() || rule.is_some() {
            return Err(self.failure(&said, answer));
        }
        let unclear = |what: &str| CallFailure::Unknown(format!("the look-up's answer {what}"));
        let body = body.as_ref().ok_or_else(|| unclear("is no JSON"))?;
        let items = match &find.items {
            Some(pointer) => {
                let items = body.pointer(pointer).and_then(Value::as_array);
                items.ok_or_else(|| unclear("has no list where oms.find.items says"))?.as_slice()
            }
            None => std::slice::from_ref(body),
        };
        let mut found = Vec::with_capacity(items.len());
        for item in items {
            let at = |pointer: &str| item.pointer(pointer).and_then(text);
            let identity = at(&find.identity).ok_or_else(|| {
                unclear("has an order without an identity where oms.find.identity says")
            })?;
            let id = at(&find.id)
                .ok_or_else(|| unclear("has an order without an id where oms.find.id says"))?;
            let fingerprint = find.fingerprint.as_deref().and_then(at);
            let fingerprint = fingerprint.and_then(|stored| Fingerprint::parse(&stored));
            found.push((identity, Found { id, fingerprint }));
        }
        if let (None, [wanted], [(name, _)]) = (&find.items, asked, found.as_slice())
            && name != wanted
            && *name != word_of(wanted)
        {
            // It has something there, perhaps the order by another spelling of its identity.
            return Err(unclear("has another identity than the one asked for"));
        }
        let of = |wanted: &Identity| {
            let word = word_of(wanted);
            let mut named = found.iter().filter(|(name, _)| name == wanted || *name == word);
            named.next().map(|(_, found)| found.clone())
        };
        Ok(asked.iter().map(of).collect())
    }

    /// One page of a list.
    ///
    /// # Errors
    /// [`CallFailure`]
    pub(super) fn listed(&self, list: &List, answer: &Answer) -> Result<Vec<Listed>, CallFailure> {
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let status = answer.status.as_u16();
        let said = Said { status, code: self.code(body.as_ref()), body: body.as_ref() };
        if !answer.status.is_success() {
            return Err(self.failure(&said, answer));
        }
        let items = body.as_ref().and_then(|body| body.pointer(&list.items)).cloned();
        let items = items.map(serde_json::from_value).and_then(Result::ok);
        items
            .ok_or_else(|| CallFailure::Unknown("its list is not written as it must be".to_owned()))
    }

    /// Whose orders are drained to it; `None` for nobody's.
    ///
    /// # Errors
    /// [`CallFailure`]: nobody can say.
    pub(super) fn noted(
        &self,
        claim: &ClaimNote,
        answer: &Answer,
    ) -> Result<Option<Noted>, CallFailure> {
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let status = answer.status.as_u16();
        // One that is no JSON is a gateway's, which knows no record.
        if status == 404 && body.is_some() {
            return Ok(None);
        }
        self.written(answer)?;
        let unclear = |what: &str| CallFailure::Unknown(format!("the claim's answer {what}"));
        let body = body.ok_or_else(|| unclear("is no JSON"))?;
        let Some(fleet) = body.pointer(&claim.fleet).and_then(text) else { return Ok(None) };
        if fleet.is_empty() {
            return Ok(None);
        }
        let since_ms = body.pointer(&claim.since_ms).and_then(text);
        let since_ms = since_ms.and_then(|since| since.parse::<Decimal>().ok()?.trunc().to_i64());
        let since_ms =
            since_ms.ok_or_else(|| unclear("has no time where oms.claim.since_ms says"))?;
        Ok(Some(Noted { fleet, since_ms }))
    }

    /// Whether a call of no order was done.
    ///
    /// # Errors
    /// [`CallFailure`]: it was not, or nobody can say.
    pub(super) fn written(&self, answer: &Answer) -> Result<(), CallFailure> {
        if answer.status.is_success() {
            return Ok(());
        }
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let status = answer.status.as_u16();
        let said = Said { status, code: self.code(body.as_ref()), body: body.as_ref() };
        Err(self.failure(&said, answer))
    }

    /// Why a call failed that changes nothing.
    fn failure(&self, said: &Said<'_>, answer: &Answer) -> CallFailure {
        let rule = self.rule(said);
        match rule.map_or_else(|| of_call(said), |(is, _)| is) {
            Meaning::Unauthenticated => CallFailure::Unauthenticated,
            Meaning::Overloaded | Meaning::Retry => overloaded(answer, rule),
            _ => {
                CallFailure::NotSent(format!("it answered {}{}", said.status, said.words_of(self)))
            }
        }
    }

    fn rule(&self, said: &Said<'_>) -> Option<(Meaning, Scope)> {
        let fits = |rule: &&Rule| {
            rule.status.is_none_or(|status| status == said.status)
                && (rule.code.is_none() || rule.code == said.code)
        };
        self.rules.iter().find(fits).map(|rule| (rule.is, rule.scope))
    }

    /// The code of what is wrong, if a body tells one.
    fn code(&self, body: Option<&Value>) -> Option<String> {
        let code = first(&self.answers.code, body?).and_then(name)?;
        // Some tell a code of what is right.
        let right = ["ok", "success"].iter().any(|word| code.eq_ignore_ascii_case(word));
        (!right).then_some(code)
    }

    fn reason(&self, said: &Said<'_>) -> String {
        let words = said.body.and_then(|body| first(&self.answers.reason, body)).and_then(text);
        plain(&words.unwrap_or_else(|| "it says no more".to_owned()), WORDS_MAX)
    }

    fn words(&self, said: &Said<'_>) -> String {
        format!("{}: {}", said.shown(), self.reason(said))
    }
}

impl Said<'_> {
    /// The code as it may be shown, or the status.
    fn shown(&self) -> String {
        self.code.as_deref().map_or_else(|| self.status.to_string(), |code| plain(code, CODE_MAX))
    }

    fn words_of(&self, reading: &Reading) -> String {
        match &self.code {
            Some(_) => format!(", {}", reading.words(self)),
            None => String::new(),
        }
    }
}

/// What a call's status usually means.
fn of_call(said: &Said<'_>) -> Meaning {
    match said.status {
        401 | 403 => Meaning::Unauthenticated,
        429 | 503 => Meaning::Overloaded,
        400 | 409 | 413 | 422 => Meaning::Invalid,
        // Done, and the result is elsewhere, or not to our taste.
        408 | 406 => Meaning::Unknown,
        301 | 307 | 308 => Meaning::Unavailable,
        300..=399 => Meaning::Unknown,
        400..=499 | 501 => Meaning::Unavailable,
        _ => Meaning::Unknown,
    }
}

/// What the first pointer that leads to something leads to.
fn first<'a>(pointers: &[String], value: &'a Value) -> Option<&'a Value> {
    let mut there = pointers.iter().filter_map(|pointer| value.pointer(pointer));
    there.find(|value| !value.is_null())
}

/// A limit of a whole call. One of an hour or a day is not asked after every few seconds.
fn overloaded(answer: &Answer, rule: Option<(Meaning, Scope)>) -> CallFailure {
    let scope = rule.map_or(Scope::Second, |(_, scope)| scope);
    let at_least = match scope {
        Scope::Day => Some(Duration::from_secs(900)),
        Scope::Hour => Some(Duration::from_secs(60)),
        Scope::Second | Scope::Concurrency => None,
    };
    CallFailure::Overloaded { after: retry_after(&answer.headers).or(at_least), scope }
}

/// When an order may be tried again, where its answer says so.
fn told_in(item: &Value) -> Duration {
    let seconds = item.get("retry_after_s").and_then(Value::as_u64);
    Duration::from_secs(seconds.unwrap_or_default())
}

/// A text or a number that names something: an empty one and a 0 are what is written where there is nothing.
fn name(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty() && text != "0")
}

/// A text or a number, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
