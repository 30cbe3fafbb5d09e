//! What the OMS does wrong, on purpose. All of it can be changed while it runs.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The faults and limits in force; the default is an OMS without any.
///
/// "Every n-th" is counted for each fault by itself, from when it was last changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// A second create of an identity is refused; if not, it makes a double.
    pub unique: bool,
    /// A repeated `Idempotency-Key` gets the first answer again.
    pub idempotency_keys: bool,
    /// Every n-th create call commits, and then the connection is reset without a byte of answer.
    pub drop_after_commit_every: Option<NonZeroU64>,
    /// Every n-th create call does nothing, and the connection is reset without a byte of answer.
    pub drop_before_commit_every: Option<NonZeroU64>,
    /// Every n-th create call commits, and half of the answer's body comes before the connection ends.
    pub drop_mid_answer_every: Option<NonZeroU64>,
    /// About every n-th order is refused as invalid, by its identity, so that repeats are refused alike.
    pub invalid_every: Option<NonZeroU64>,
    /// Every n-th order is told to come again later.
    pub try_later_every: Option<NonZeroU64>,
    /// When: seconds.
    pub try_later_s: u64,
    /// Each order is refused as invalid with this code.
    pub reject_all_with: Option<String>,
    /// The errors of orders are told inside a success, as some OMSs do.
    pub error_in_200: bool,
    /// Calls are refused as too many.
    pub overloaded: Option<Overloaded>,
    /// Calls a day (UTC); beyond, each is refused.
    pub quota_per_day: Option<u64>,
    /// Calls at once; beyond, each is refused.
    pub calls_at_once_max: Option<NonZeroU64>,
    /// 503 to everything.
    pub unavailable: bool,
    /// How long a call takes before it has an effect.
    pub latency_ms: Option<Latency>,
    /// How long after it exists an order is still missing from a look-up.
    pub visible_after_ms: u64,
    /// Orders are only taken, and exist after this long.
    pub async_after_ms: Option<u64>,
    /// Of these about every n-th is refused later and never exists, by its identity.
    pub async_refuse_every: Option<NonZeroU64>,
    /// All that are taken now are refused later, and never exist.
    pub async_refuse_all: bool,
    /// What became of them is posted to this address (`http://` only), until it is heard.
    pub tell: Option<String>,
    /// How long a token lives that is issued from now on.
    pub token_ttl_s: u64,
    /// No token for anybody.
    pub refuse_credentials: bool,
}

/// How calls are refused as too many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overloaded {
    /// The HTTP status.
    pub status: u16,
    /// The code in the body.
    pub code: String,
    /// `Retry-After`; none if null.
    #[serde(default)]
    pub retry_after_s: Option<u64>,
    /// It doubles with every call that comes before it has passed, up to an hour.
    #[serde(default)]
    pub growing: bool,
    /// Only every n-th call.
    #[serde(default)]
    pub every: Option<NonZeroU64>,
}

/// A log-normal latency by two of its quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Half of the calls take longer.
    pub p50: u64,
    /// One in a hundred takes longer.
    pub p99: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            unique: true,
            idempotency_keys: false,
            drop_after_commit_every: None,
            drop_before_commit_every: None,
            drop_mid_answer_every: None,
            invalid_every: None,
            try_later_every: None,
            try_later_s: 1,
            reject_all_with: None,
            error_in_200: false,
            overloaded: None,
            quota_per_day: None,
            calls_at_once_max: None,
            unavailable: false,
            latency_ms: None,
            visible_after_ms: 0,
            async_after_ms: None,
            async_refuse_every: None,
            async_refuse_all: false,
            tell: None,
            token_ttl_s: 3_600,
            refuse_credentials: false,
        }
    }
}

/// What a change asks for.
#[derive(Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) faults: Faults,
    /// Once: no token issued so far is good any more.
    pub(crate) revoke_tokens: bool,
    /// Once: all sessions are over.
    pub(crate) end_sessions: bool,
    /// Once: what was told is told again.
    pub(crate) tell_again: bool,
}

impl Faults {
    /// Reads faults; members that are not named have their defaults.
    ///
    /// # Errors
    /// Which member is wrong.
    pub fn read(text: &str) -> Result<Self, String> {
        let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        Ok(Self::default().changed(value)?.faults)
    }

    /// These faults with the named members replaced, each whole; null puts its default back.
    pub(crate) fn changed(&self, change: Value) -> Result<Change, String> {
        let Value::Object(mut change) = change else { return Err("not a JSON object".to_owned()) };
        let mut action = |name: &str| match change.remove(name) {
            None => Ok(false),
            Some(Value::Bool(wanted)) => Ok(wanted),
            Some(other) => Err(format!("{name}: {other} is not a boolean")),
        };
        let (revoke_tokens, tell_again) = (action("revoke_tokens")?, action("tell_again")?);
        let end_sessions = action("end_sessions")?;
        let to_object = |faults: &Self| match serde_json::to_value(faults) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err("faults are not an object".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let (mut members, defaults) = (to_object(self)?, to_object(&Self::default())?);
        for (name, value) in change {
            let value = if value.is_null() { defaults.get(&name).cloned() } else { Some(value) };
            members.insert(name, value.unwrap_or(Value::Null));
        }
        let faults: Self =
            serde_json::from_value(Value::Object(members)).map_err(|error| error.to_string())?;
        faults.check()?;
        Ok(Change { faults, revoke_tokens, end_sessions, tell_again })
    }

    fn check(&self) -> Result<(), String> {
        match &self.overloaded {
            Some(overloaded) if !(400..600).contains(&overloaded.status) => {
                return Err(format!("overloaded.status: {} refuses nothing", overloaded.status));
            }
            _ => {}
        }
        if self.tell.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            return Err("tell: must begin with http://".to_owned());
        }
        match self.latency_ms {
            Some(latency) if latency.p50 > latency.p99 => {
                Err("latency_ms: p50 is over p99".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let first = Faults::default().changed(json!({ "unique": false })).unwrap().faults;
        let second = first.changed(json!({ "drop_after_commit_every": 3 })).unwrap().faults;
        assert!(!second.unique);
        assert_eq!(second.drop_after_commit_every, NonZeroU64::new(3));
        let third = second.changed(json!({ "unique": null, "drop_after_commit_every": null }));
        assert_eq!(third.unwrap().faults, Faults::default());
    }

    #[test]
    fn what_cannot_be_is_refused_and_says_where() {
        for (change, named) in [
            (json!({ "uniqe": true }), "uniqe"),
            (json!({ "drop_after_commit_every": 0 }), "nonzero"),
            (json!({ "overloaded": { "status": 200, "code": "X" } }), "overloaded.status"),
            (json!({ "latency_ms": { "p50": 9, "p99": 1 } }), "latency_ms"),
            (json!({ "revoke_tokens": 1 }), "revoke_tokens"),
            (json!({ "token_ttl_s": -1 }), "-1"),
            (json!({ "tell": "127.0.0.1:1" }), "http://"),
            (json!([]), "object"),
        ] {
            let said = Faults::default().changed(change.clone()).unwrap_err();
            assert!(said.contains(named), "{change}: {said}");
        }
    }

    #[test]
    fn a_revocation_is_an_action_and_no_fault() {
        let change = Faults::default().changed(json!({ "revoke_tokens": true })).unwrap();
        let faults = Faults::default();
        assert_eq!(
            change,
            Change { faults, revoke_tokens: true, end_sessions: false, tell_again: false }
        );
    }
}
