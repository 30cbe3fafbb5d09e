//! What `buffer check` lists of a damaged store, and what is handed out of its orders.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::super::orders::text;
use super::super::scene::Scene;
use super::store::{Fate, Known};
use crate::failure::{Failure, Result, While as _};

/// What `buffer check` lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) keys: HashSet<String>,
    /// First and last sequence, where known.
    pub(super) ranges: Vec<Option<(u64, u64)>>,
    /// Missing segments and slots that cannot be read.
    pub(super) notes: Vec<String>,
    /// Damaged runs of the outcome index.
    pub(super) runs: u64,
}

impl Listed {
    /// Whether the order is listed by a range or note rather than by its key.
    pub(super) fn by_range(&self, known: &Known) -> bool {
        let within = |range: &Option<(u64, u64)>| {
            range.is_none_or(|(first, last)| {
                known.sequences.iter().any(|sequence| (first..=last).contains(sequence))
            })
        };
        !self.notes.is_empty() || self.ranges.iter().any(within)
    }
}

pub(super) fn check(scene: &mut Scene<'_>, store: &Path) -> Result<Listed> {
    let output = Command::new(&scene.setup().binary)
        .args(["buffer", "check", "--json", "--data-dir"])
        .arg(store)
        .output()
        .when("running buffer check")?;
    if !matches!(output.status.code(), Some(0 | 1)) {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure::Missed(format!("buffer check ended with {}: {said}", output.status)));
    }
    let mut listed = Listed::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let line: Value = serde_json::from_str(line).when("a line of buffer check")?;
        let key = text(&line, "key");
        match text(&line, "kind") {
            "summary" => {
                let notes = line.get("notes").and_then(Value::as_array).into_iter().flatten();
                listed.notes.extend(notes.filter_map(Value::as_str).map(str::to_owned));
            }
            "body" if !key.is_empty() => drop(listed.keys.insert(key.to_owned())),
            "range" | "body" => listed.ranges.push(range(&line)),
            "run" => listed.runs += 1,
            _ => {}
        }
    }
    Ok(listed)
}

pub(super) fn range(line: &Value) -> Option<(u64, u64)> {
    let at = |index: usize| line.get("sequences")?.get(index)?.as_u64();
    at(0).zip(at(1))
}

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

    #[test]
    fn a_range_lists_the_orders_whose_sequence_is_in_it() {
        let known = known(Fate::Waits, "pending");
        let listed = |ranges| Listed { ranges, ..Listed::default() };
        assert!(listed(vec![Some((5, 9))]).by_range(&known));
        assert!(!listed(vec![Some((8, 9))]).by_range(&known));
        assert!(listed(vec![None]).by_range(&known));
        assert!(!Listed::default().by_range(&known));
    }
}
