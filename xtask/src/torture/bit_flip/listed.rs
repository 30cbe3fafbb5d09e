//! What `buffer check` lists of a damaged store, and whether an order is listed as it must be.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::super::orders::text;
use super::super::scene::Scene;
use super::journal::{Journal, Left, Record};
use super::store::Known;
use crate::failure::{Failure, Result, While as _};

/// What `buffer check` lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) keys: HashSet<String>,
    pub(super) ranges: Vec<Lost>,
    /// Segments and slots of which nothing can be read, by its notes.
    gone: Vec<Gone>,
    /// Damaged runs of the outcome index.
    pub(super) runs: u64,
}

/// Records that cannot be named any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    slot: String,
    epoch: u64,
    /// First and last sequence, where known.
    sequences: Option<(u64, u64)>,
}

/// A segment, or a slot, of which nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gone {
    Segment(u64),
    Slot(String),
}

/// How an order is listed that is not as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum How {
    ByKey,
    /// By the sequences of a record of its, or, where those are not known either, by the damaged place that record was in.
    ByRange,
    /// By the segment or slot that a record of its was in, and of which nothing can be read.
    BySegment,
    /// Not by its key, although a descriptor is left that tells it.
    NotByKey,
    NotAtAll,
}

impl Listed {
    /// How the order is listed; `left` is what is left of each record of the journal.
    pub(super) fn how(&self, known: &Known, journal: &Journal, left: &[Left]) -> How {
        if self.keys.contains(&known.order.identity()) {
            return How::ByKey;
        }
        let records = known
            .records
            .iter()
            .filter_map(|at| Some((journal.records.get(*at)?, *left.get(*at)?)));
        self.without_key(records)
    }

    fn without_key<'a>(&self, records: impl Iterator<Item = (&'a Record, Left)>) -> How {
        // One record may stand in several places: it is gone where none of them is whole.
        let mut places: BTreeMap<u64, Vec<(&Record, Left)>> = BTreeMap::new();
        for (record, left) in records {
            places.entry(record.sequence).or_default().push((record, left));
        }
        places.retain(|_, places| places.iter().all(|(_, left)| *left != Left::Whole));
        let gone: Vec<_> = places.into_values().flatten().collect();
        if gone.iter().any(|(_, left)| *left == Left::Descriptor) {
            return How::NotByKey;
        }
        let how = gone.iter().map(|(record, _)| {
            if self.ranges.iter().any(|lost| lost.holds(record)) {
                How::ByRange
            } else if self.gone.iter().any(|gone| gone.held(record)) {
                How::BySegment
            } else {
                How::NotAtAll
            }
        });
        how.min().unwrap_or(How::NotAtAll)
    }
}

impl Lost {
    fn holds(&self, record: &Record) -> bool {
        match self.sequences {
            Some((first, last)) => (first..=last).contains(&record.sequence),
            None => (self.slot.as_str(), self.epoch) == (record.slot.as_str(), record.epoch),
        }
    }
}

impl Gone {
    /// What a note says is gone.
    fn of(note: &str) -> Option<Self> {
        if note.contains("is left alone") || note.contains("is set aside") {
            return Some(Self::Slot(note.split(' ').next()?.to_owned()));
        }
        if !note.contains("segment") || !note.contains(" is missing") {
            return None;
        }
        let (_, epoch) = note.split_once("of epoch ")?;
        epoch.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().map(Self::Segment)
    }

    fn held(&self, record: &Record) -> bool {
        match self {
            Self::Segment(epoch) => *epoch == record.epoch,
            Self::Slot(slot) => *slot == record.slot,
        }
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
                listed.gone.extend(notes.filter_map(Value::as_str).filter_map(Gone::of));
            }
            "body" if !key.is_empty() => drop(listed.keys.insert(key.to_owned())),
            "range" | "body" => listed.ranges.push(lost(&line)),
            "run" => listed.runs += 1,
            _ => {}
        }
    }
    Ok(listed)
}

fn lost(line: &Value) -> Lost {
    let at = |index: usize| line.get("sequences")?.get(index)?.as_u64();
    Lost {
        slot: text(line, "slot").to_owned(),
        epoch: line.get("epoch").and_then(Value::as_u64).unwrap_or_default(),
        sequences: at(0).zip(at(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(sequences: Option<(u64, u64)>) -> Listed {
        let lost = Lost { slot: "00003.seg".to_owned(), epoch: 5, sequences };
        Listed { ranges: vec![lost], ..Listed::default() }
    }

    fn note(note: &str) -> Listed {
        Listed { gone: Gone::of(note).into_iter().collect(), ..Listed::default() }
    }

    #[test]
    fn a_range_or_a_note_lists_the_orders_of_its_own_place_and_no_others() {
        let how = |listed: &Listed, record: &Record, left| {
            listed.without_key([(record, left)].into_iter())
        };
        let (here, there) = (Record::empty(7, 5, "00003.seg"), Record::empty(7, 6, "00004.seg"));
        for (listed, is) in [
            (range(Some((5, 9))), [How::ByRange, How::ByRange]),
            (range(Some((8, 9))), [How::NotAtAll, How::NotAtAll]),
            (range(None), [How::ByRange, How::NotAtAll]),
            (
                note("the segment of epoch 5, before epoch 6, is missing"),
                [How::BySegment, How::NotAtAll],
            ),
            (
                note("the youngest segment, of epoch 6, is missing; have the senders"),
                [How::NotAtAll, How::BySegment],
            ),
            (
                note("00003.seg cannot be read and is set aside; it is never used again"),
                [How::BySegment, How::NotAtAll],
            ),
            (
                note("00004.seg holds slot 00003.seg and is left alone; stop the service"),
                [How::NotAtAll, How::BySegment],
            ),
            (note("00003.seg is shorter than a slot: its end is missing"), [How::NotAtAll; 2]),
            (Listed::default(), [How::NotAtAll; 2]),
        ] {
            let found = [&here, &there].map(|record| how(&listed, record, Left::Nothing));
            assert_eq!(found, is, "{listed:?}");
        }
        assert_eq!(how(&range(Some((5, 9))), &here, Left::Descriptor), How::NotByKey);
        assert_eq!(how(&range(Some((5, 9))), &here, Left::Whole), How::NotAtAll);
    }

    #[test]
    fn a_record_that_is_whole_in_one_place_is_not_gone() {
        let (one, copy) = (Record::empty(7, 5, "00003.seg"), Record::empty(7, 6, "00004.seg"));
        let how = |left| {
            range(Some((5, 9))).without_key([(&one, left), (&copy, Left::Whole)].into_iter())
        };
        assert_eq!(how(Left::Nothing), How::NotAtAll);
        assert_eq!(how(Left::Descriptor), How::NotAtAll);
    }
}
