//! What an answer means for each order of a call. Where it can be read two ways, it is the one that is looked up.
//!
//! The configured rules come first. Where none fits:
//!
//! | of an order | | of a whole call | |
//! |---|---|---|---|
//! | 2xx with an id | created | 2xx without one answer an order | unknown |
//! | 2xx or 202 with a ticket | accepted | 401, 403 | unauthenticated |
//! | 2xx with a code of what is wrong | invalid | 429, 503 | overloaded, until `Retry-After` |
//! | 409 | existing | 400, 409, 413, 422 | invalid: one of its orders may be why |
//! | 408, 425, 429, 503 | retry | other 3xx and 4xx, 501 | unavailable |
//! | 400 to 499 else | invalid | the rest | unknown |
//! | the rest | unknown | | |
//!
//! Created or existing without an id is unknown, where a look-up tells it.

use std::time::Duration;

use forebay_order::{Fingerprint, OrderSummary};
use serde_json::Value;

use super::client::Answer;
use super::limits::retry_after;
use super::options::{Answers, Find, HttpOptions, List, Meaning, Rule};
use crate::oms::{CallFailure, Found, Identity, Listed, Outcome, Scope};

/// Characters of the OMS's own words that are kept.
const WORDS_MAX: usize = 200;
/// Of a code.
const CODE_MAX: usize = 64;

/// What the answers of one OMS mean.
pub(super) struct Reading {
    answers: Answers,
    rules: Vec<Rule>,
    /// An order can be looked up.
    finds: bool,
}

/// What of an answer decides.
struct Said<'a> {
    status: u16,
    code: Option<String>,
    body: Option<&'a Value>,
}

impl Reading {
    pub(super) fn new(options: &HttpOptions) -> Self {
        let (answers, rules) = (options.create.answers.clone(), options.rules.clone());
        Self { answers, rules, finds: options.find.is_some() }
    }

    /// What became of the orders of a call.
    ///
    /// # Errors
    /// [`CallFailure`], where it is one for all.
    pub(super) fn outcomes(
        &self,
        sent: &[OrderSummary],
        answer: &Answer,
    ) -> Result<Vec<Outcome>, CallFailure> {
        let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
        let body = body.as_ref();
        let status = answer.status.as_u16();
        let items = match (&self.answers.items, body) {
            (Some(pointer), Some(body)) => body.pointer(pointer).and_then(Value::as_array),
            _ => None,
        };
        if let Some(items) = items.filter(|items| items.len() == sent.len()) {
            let each = items.iter().zip(sent);
            let each = each.map(|(item, order)| self.outcome(status, item, order));
            return Ok(each.collect());
        }
        let said = Said { status, code: self.code(body), body };
        let alone = match sent {
            [one] if self.answers.items.is_none() => Some(one),
            _ => None,
        };
        if let (Some(order), Some(body)) = (alone, body)
            && answer.status.is_success()
        {
            return Ok(vec![self.outcome(status, body, order)]);
        }
        let after = retry_after(&answer.headers);
        let meaning = self.rule(&said);
        let scope = meaning.map_or(Scope::Second, |(_, scope)| scope);
        let meaning = meaning.map_or_else(|| of_call(&said), |(is, _)| is);
        match (meaning, alone) {
            (Meaning::Unauthenticated, _) => Err(CallFailure::Unauthenticated),
            (Meaning::Overloaded | Meaning::Retry, _) => {
                Err(CallFailure::Overloaded { after, scope })
            }
            (Meaning::Unavailable, _) => {
                Err(CallFailure::NotSent(format!("it answered {status}{}", said.words_of(self))))
            }
            (Meaning::Invalid, None) => Err(CallFailure::Refused(self.words(&said))),
            (Meaning::Invalid | Meaning::Existing, Some(order)) => {
                let nothing = Value::Null;
                let item = body.unwrap_or(&nothing);
                Ok(vec![self.as_meant(meaning, &said, item, order)])
            }
            _ => Err(CallFailure::Unknown(format!(
                "the answer, {status}, does not say what became of the orders{}",
                said.words_of(self)
            ))),
        }
    }

    /// What became of one order, by its own answer.
    fn outcome(&self, of_call: u16, item: &Value, order: &OrderSummary) -> Outcome {
        let own = first(&self.answers.status, item).and_then(|status| match status {
            Value::Number(number) => number.as_u64().and_then(|status| u16::try_from(status).ok()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        });
        let status = own.unwrap_or(of_call);
        let said = Said { status, code: self.code(Some(item)), body: Some(item) };
        let has = |pointers| first(pointers, item).is_some();
        let usual = || match (status, &said.code) {
            (200..=299, _) if has(&self.answers.id) => Meaning::Created,
            (200..=299, _) if has(&self.answers.ticket) => Meaning::Accepted,
            (200..=299, Some(_)) => Meaning::Invalid,
            (409, _) => Meaning::Existing,
            (408 | 425 | 429 | 503, _) => Meaning::Retry,
            (400..=499, _) => Meaning::Invalid,
            _ => Meaning::Unknown,
        };
        let meaning = self.rule(&said).map_or_else(usual, |(is, _)| is);
        self.as_meant(meaning, &said, item, order)
    }

    fn as_meant(
        &self,
        meaning: Meaning,
        said: &Said<'_>,
        item: &Value,
        order: &OrderSummary,
    ) -> Outcome {
        let id = || first(&self.answers.id, item).and_then(text);
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
                let ticket = first(&self.answers.ticket, item).and_then(text);
                ticket.map_or(Outcome::Unknown, |ticket| Outcome::Accepted { ticket })
            }
            Meaning::Invalid => {
                let code = said.code.clone().unwrap_or_else(|| said.status.to_string());
                Outcome::Invalid { code, reason: self.reason(said) }
            }
            Meaning::Retry
            | Meaning::Overloaded
            | Meaning::Unauthenticated
            | Meaning::Unavailable => {
                let seconds = item.get("retry_after_s").and_then(Value::as_u64).unwrap_or(0);
                Outcome::Retry { after: Duration::from_secs(seconds) }
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
        if status == 404 && find.items.is_none() && rule.is_none() {
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
        let of = |wanted: &Identity| {
            let mut named = found.iter().filter(|(identity, _)| identity == wanted);
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

    /// Why a call failed that changes nothing.
    fn failure(&self, said: &Said<'_>, answer: &Answer) -> CallFailure {
        let rule = self.rule(said);
        let scope = rule.map_or(Scope::Second, |(_, scope)| scope);
        match rule.map_or_else(|| of_call(said), |(is, _)| is) {
            Meaning::Unauthenticated => CallFailure::Unauthenticated,
            Meaning::Overloaded | Meaning::Retry => {
                CallFailure::Overloaded { after: retry_after(&answer.headers), scope }
            }
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
        let code = first(&self.answers.code, body?).and_then(text)?;
        (!code.is_empty()).then(|| plain(&code, CODE_MAX))
    }

    fn reason(&self, said: &Said<'_>) -> String {
        let words = said.body.and_then(|body| first(&self.answers.reason, body)).and_then(text);
        plain(&words.unwrap_or_else(|| "it says no more".to_owned()), WORDS_MAX)
    }

    fn words(&self, said: &Said<'_>) -> String {
        let code = said.code.clone().unwrap_or_else(|| said.status.to_string());
        format!("{code}: {}", self.reason(said))
    }
}

impl Said<'_> {
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
        408 => Meaning::Unknown,
        300..=499 | 501 => Meaning::Unavailable,
        _ => Meaning::Unknown,
    }
}

/// What the first pointer that leads to something leads to.
fn first<'a>(pointers: &[String], value: &'a Value) -> Option<&'a Value> {
    let mut there = pointers.iter().filter_map(|pointer| value.pointer(pointer));
    there.find(|value| !value.is_null())
}

/// A text or a number, as text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// An OMS's words, cut, without what may be a person's: words with an `@`, and long numbers.
fn plain(words: &str, most: usize) -> String {
    let personal =
        |word: &str| word.contains('@') || word.chars().filter(char::is_ascii_digit).count() > 6;
    let kept: Vec<_> =
        words.split_whitespace().map(|word| if personal(word) { "..." } else { word }).collect();
    let text: String = kept.join(" ").chars().filter(|c| !c.is_control()).take(most).collect();
    text
}
