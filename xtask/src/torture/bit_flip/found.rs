//! What is handed out of a damaged store's orders.

use serde_json::Value;

use super::super::orders::text;
use super::store::{Fate, Known};

/// What is handed out of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    AsItWas,
    /// Nothing, an earlier content, or an exception that says so.
    Gone,
    /// Bytes that nobody sent.
    Wrong,
}

pub(super) fn judge(known: &Known, view: Option<&Value>) -> Found {
    let Some(view) = view else { return Found::Gone };
    let (state, body) = (text(view, "state"), view.get("body").and_then(Value::as_str));
    let on_its_way = |state: &str| matches!(state, "pending" | "leased" | "submitted");
    let same_state = state == known.state || (on_its_way(state) && on_its_way(&known.state));
    match body {
        Some(body) if body == known.order.body && same_state => Found::AsItWas,
        // A parked content is not the current one yet.
        Some(body) if known.fate == Fate::Waits && known.earlier.iter().any(|b| b == body) => {
            if same_state {
                Found::AsItWas
            } else {
                Found::Gone
            }
        }
        Some(body) if body == known.order.body || known.earlier.iter().any(|b| b == body) => {
            Found::Gone
        }
        Some(_) => Found::Wrong,
        // Of what ended the bytes go with its segment.
        None if same_state
            && known.fate != Fate::Waits
            && state != "held"
            && state != "exception" =>
        {
            Found::AsItWas
        }
        None => Found::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::orders::Order;
    use super::*;

    fn known(fate: Fate, state: &str) -> Known {
        let order = Order::new("1".to_owned(), 10, &mut fastrand::Rng::with_seed(1));
        Known {
            order,
            earlier: vec!["old".to_owned()],
            sequences: vec![7],
            fate,
            state: state.to_owned(),
            records: Vec::new(),
        }
    }

    #[test]
    fn bytes_that_nobody_sent_are_wrong_and_others_are_gone_or_as_they_were() {
        let held = known(Fate::Apart, "held");
        let body = held.order.body.clone();
        let view = |state: &str, body: Value| serde_json::json!({ "state": state, "body": body });
        assert_eq!(judge(&held, Some(&view("held", body.clone().into()))), Found::AsItWas);
        assert_eq!(judge(&held, Some(&view("exception", body.into()))), Found::Gone);
        assert_eq!(judge(&held, Some(&view("held", "other".into()))), Found::Wrong);
        assert_eq!(judge(&held, Some(&view("held", "old".into()))), Found::Gone);
        assert_eq!(judge(&held, Some(&view("held", Value::Null))), Found::Gone);
        assert_eq!(judge(&held, None), Found::Gone);
        let summarised = known(Fate::Summarised, "summarised");
        assert_eq!(judge(&summarised, Some(&view("summarised", Value::Null))), Found::AsItWas);
        let waits = known(Fate::Waits, "leased");
        assert_eq!(judge(&waits, Some(&view("submitted", "old".into()))), Found::AsItWas);
    }
}
