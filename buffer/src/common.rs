//! Limits that all processes of a fleet must have in common, for together they keep to one of each.
//!
//! Each process announces its own. While they differ the smallest of each holds for all of them, and everyone says so. What
//! a limit means is not known here: it is a knob's name and a number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Processes that are named for one value of a limit; the others are counted.
const NAMED: usize = 3;

/// What one process announces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// The process, as people know it.
    pub process: String,
    /// Its limits, by their knobs; `None` where it has none of that kind.
    pub limits: BTreeMap<String, Option<f64>>,
}

impl Announcement {
    /// Reads a message; `None` if it announces nothing, as a process of an older release does.
    pub(crate) fn decode(message: &[u8]) -> Option<Self> {
        serde_json::from_slice(message).ok()
    }

    /// The message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// What holds of the limits of all processes together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Common {
    smallest: BTreeMap<String, f64>,
    /// Where they differ, or nobody knows whether they do: what is different where, what holds meanwhile, and what to do.
    pub differs: Option<String>,
}

impl Common {
    /// Of what all processes announce; `None` for one that announces nothing.
    pub fn of<'a>(all: impl IntoIterator<Item = Option<&'a Announcement>>) -> Self {
        let (mut announced, mut older) = (Vec::new(), 0_usize);
        for one in all {
            match one {
                Some(one) => announced.push(one),
                None => older += 1,
            }
        }
        let knobs: BTreeMap<&String, ()> =
            announced.iter().flat_map(|one| one.limits.keys()).map(|knob| (knob, ())).collect();
        let mut smallest = BTreeMap::new();
        let mut differences = Vec::new();
        for knob in knobs.into_keys() {
            let mut values: BTreeMap<Option<u64>, (Option<f64>, Vec<&str>)> = BTreeMap::new();
            for (one, value) in
                announced.iter().filter_map(|one| Some((one, *one.limits.get(knob)?)))
            {
                let bits = value.map(f64::to_bits);
                values.entry(bits).or_insert((value, Vec::new())).1.push(&one.process);
            }
            if let Some(least) = values.values().filter_map(|(value, _)| *value).reduce(f64::min) {
                smallest.insert(knob.clone(), least);
            }
            if values.len() > 1 {
                let said = values.values().map(|(value, processes)| said(*value, processes));
                let said: Vec<_> = said.collect();
                differences.push(format!("{knob} is {}", said.join(" and ")));
            }
        }
        let differ = (!differences.is_empty()).then(|| {
            format!(
                "{}: the smallest holds for all of them until it is the same everywhere; set one value, and restart those that have another, one at a \
                 time",
                differences.join("; ")
            )
        });
        let unknown = (older > 0).then(|| {
            format!(
                "{older} of the processes say nothing of their limits (drain.ceiling_per_s and others), as those of an older release: each keeps to its own, \
                 and nobody knows whether that is the same; upgrade them"
            )
        });
        let differs: Vec<_> = differ.into_iter().chain(unknown).collect();
        Self { smallest, differs: (!differs.is_empty()).then(|| differs.join("; ")) }
    }

    /// The smallest of a limit; `None` where nobody has one.
    pub fn smallest(&self, knob: &str) -> Option<f64> {
        self.smallest.get(knob).copied()
    }

    /// One's own value of a limit, or the smallest, whichever is less; `None` where nobody has one.
    pub fn at_most(&self, own: Option<f64>, knob: &str) -> Option<f64> {
        match (own, self.smallest(knob)) {
            (Some(own), Some(least)) => Some(own.min(least)),
            (own, least) => own.or(least),
        }
    }
}

/// One value, and who has it.
fn said(value: Option<f64>, processes: &[&str]) -> String {
    let value = value.map_or_else(|| "not set".to_owned(), |value| value.to_string());
    let named = processes.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match processes.len().saturating_sub(NAMED) {
        0 => format!("{value} in {named}"),
        more => format!("{value} in {named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(process: &str, limits: &[(&str, Option<f64>)]) -> Announcement {
        let limits = limits.iter().map(|(knob, value)| ((*knob).to_owned(), *value));
        Announcement { process: process.to_owned(), limits: limits.collect() }
    }

    #[test]
    fn the_smallest_holds_and_who_has_what_is_said() {
        let all = [
            announced("web-1", &[("ceiling", Some(200.0)), ("burst", None), ("new", Some(1.0))]),
            announced("web-2", &[("ceiling", Some(400.5)), ("burst", None)]),
            announced("web-3", &[("ceiling", Some(200.0)), ("burst", Some(7.0))]),
        ];
        let common = Common::of(all.iter().map(Some));
        assert_eq!(
            ["ceiling", "burst", "new"].map(|knob| common.smallest(knob)),
            [Some(200.0), Some(7.0), Some(1.0)]
        );
        assert_eq!(common.at_most(Some(300.0), "ceiling"), Some(200.0));
        assert_eq!(common.at_most(Some(3.0), "burst"), Some(3.0));
        assert_eq!(common.at_most(None, "burst"), Some(7.0));
        assert_eq!(common.at_most(Some(3.0), "nobody's"), Some(3.0));
        let said = common.differs.unwrap();
        for words in [
            "ceiling is 200 in web-1, web-3 and 400.5 in web-2",
            "burst is not set in web-1, web-2 and 7 in web-3",
            "smallest holds",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("new"), "an older one says nothing of it: {said}");
        let same = Common::of([Some(&all[0]), Some(&all[0])]);
        assert_eq!((same.differs, same.smallest.len()), (None, 2));
        assert_eq!(Common::of([]), Common::default());
    }

    #[test]
    fn of_many_processes_some_are_named() {
        let all: Vec<_> =
            (0..9).map(|n| announced(&format!("p{n}"), &[("x", Some(f64::from(n / 8)))])).collect();
        let said = Common::of(all.iter().map(Some)).differs.unwrap();
        assert!(said.contains("x is 0 in p0, p1, p2 and 5 more and 1 in p8:"), "{said}");
    }

    #[test]
    fn one_that_announces_nothing_is_said_and_changes_nothing() {
        let one = announced("web-1", &[("ceiling", Some(200.0))]);
        let common = Common::of([Some(&one), None]);
        assert_eq!(common.smallest("ceiling"), Some(200.0));
        let said = common.differs.unwrap();
        assert!(said.contains("1 of the processes") && said.contains("upgrade"), "{said}");
        assert_eq!(Announcement::decode(b""), None);
        assert_eq!(Announcement::decode(&one.encode()), Some(one));
    }
}
