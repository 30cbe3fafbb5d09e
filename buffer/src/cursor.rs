//! How far a reader of the feed is.
//!
//! Where the feed is a journal, one sequence says it. On NATS it is read from pages that are replaced while it is read: a page that a
//! reader passed may have been replaced before he came by, and then what it said is on the page that replaced it. So a cursor also
//! says how far the stream was when he read what he read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Readings a cursor remembers. Of more, neighbours become one, and a reader who lags may be told again what he was told.
const READINGS_MAX: usize = 16;
/// What a cursor that is more than a sequence begins with.
const VERSION: &str = "v1";

/// A place in the feed. To its readers it is text: the `next` of an answer, to be given back as it is. A plain sequence is a cursor,
/// too: behind all that happened up to there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeedCursor {
    /// All records up to this one have been read, as they stood.
    after: u64,
    /// And of the record right behind it so many events.
    parts: u32,
    /// Everything that happened up to here was told.
    had: u64,
    /// What was read since, ascending.
    readings: Vec<Reading>,
}

/// Some of the feed was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Reading {
    /// Up to this record.
    to: u64,
    /// No record above this one had come.
    newest: u64,
}

/// Text that is no cursor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// Of a later release.
    #[error("a cursor of a later release; upgrade this one, or begin again after 0")]
    Newer,
    /// Something else.
    #[error("no cursor: give the `next` of an answer as it is, a sequence, or 0 for the beginning")]
    Not,
}

impl FeedCursor {
    /// Behind all that happened up to this sequence; 0: the beginning.
    pub fn after(sequence: u64) -> Self {
        Self { after: sequence, had: sequence, ..Self::default() }
    }

    /// Everything up to this sequence was read.
    pub fn sequence(&self) -> u64 {
        self.after
    }

    /// Everything that happened up to here was told.
    pub(crate) fn had(&self) -> u64 {
        self.had
    }

    /// Whether that event of the next record was told.
    pub(crate) fn is_behind(&self, sequence: u64, part: u32) -> bool {
        sequence <= self.after || (sequence == self.after + 1 && part < self.parts)
    }

    /// Whether the reader has read the record `replaced`, in the place of which `by` was written.
    pub(crate) fn saw(&self, replaced: u64, by: u64) -> bool {
        let seen = |reading: &Reading| replaced <= reading.to && by > reading.newest;
        replaced <= self.had || self.readings.iter().any(seen)
    }

    /// The cursor of who has read on up to `after`, and `parts` events of the record behind it, while no record above `newest` had come.
    pub(crate) fn read_to(&self, after: u64, parts: u32, newest: u64) -> Self {
        let mut next = Self { parts, ..self.clone() };
        if after <= self.after {
            return next;
        }
        next.after = after;
        let before = next.readings.last().map_or(0, |reading| reading.newest);
        // Another copy may have been further.
        let newest = newest.max(before).max(after);
        if newest == after {
            return Self { parts, ..Self::after(after) };
        }
        next.readings.push(Reading { to: after, newest });
        next.forget();
        next
    }

    fn forget(&mut self) {
        // What is still to be read is newer than all of these.
        let over = self.readings.partition_point(|reading| reading.newest <= self.after);
        self.readings.drain(..over.saturating_sub(1));
        let room = |readings: &[Reading], nearest| readings.len() <= READINGS_MAX && nearest > 0;
        loop {
            let gaps = self.readings.windows(2).enumerate().filter_map(|(at, pair)| match pair {
                [one, next] => Some((next.newest - one.newest, at)),
                _ => None,
            });
            match gaps.min() {
                Some((gap, at)) if !room(&self.readings, gap) => drop(self.readings.remove(at)),
                _ => return,
            }
        }
    }
}

impl fmt::Display for FeedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { after, parts, had, readings } = self;
        if *self == Self::after(*after) {
            return write!(f, "{after}");
        }
        write!(f, "{VERSION}.{after}.{parts}.{had}")?;
        readings.iter().try_for_each(|Reading { to, newest }| write!(f, ".{to}.{newest}"))
    }
}

impl FromStr for FeedCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        if let Ok(sequence) = text.parse() {
            return Ok(Self::after(sequence));
        }
        let (version, rest) = text.split_once('.').ok_or(CursorError::Not)?;
        let number = version.strip_prefix('v').and_then(|number| number.parse::<u32>().ok());
        match number {
            Some(_) if version == VERSION => Self::parse(rest).ok_or(CursorError::Not),
            Some(_) => Err(CursorError::Newer),
            None => Err(CursorError::Not),
        }
    }
}

impl FeedCursor {
    fn parse(numbers: &str) -> Option<Self> {
        let numbers: Vec<u64> =
            numbers.split('.').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let ([after, parts, had], rest) = numbers.split_first_chunk::<3>()?;
        let (pairs, rest) = rest.as_chunks::<2>();
        let readings: Vec<_> =
            pairs.iter().map(|[to, newest]| Reading { to: *to, newest: *newest }).collect();
        let ascends = |one: &Reading, next: &Reading| one.to < next.to && one.newest < next.newest;
        let holds = rest.is_empty()
            && had <= after
            && readings.len() <= READINGS_MAX
            && readings.is_sorted_by(ascends)
            && readings.iter().all(|reading| reading.to <= *after && reading.to <= reading.newest);
        let parts = u32::try_from(*parts).ok()?;
        holds.then_some(Self { after: *after, parts, had: *had, readings })
    }
}

impl Serialize for FeedCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FeedCursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(text: &str) -> FeedCursor {
        text.parse().unwrap()
    }

    #[test]
    fn it_is_a_sequence_where_that_says_all_and_reads_back() {
        assert_eq!(FeedCursor::after(57).to_string(), "57");
        assert_eq!(cursor("57"), FeedCursor::after(57));
        for text in ["0", "v1.9.2.9", "v1.57.0.41.50.60", "v1.57.1.41.50.60.57.70"] {
            assert_eq!(cursor(text).to_string(), text);
        }
        for text in
            ["", "x", "-1", "v1", "v1.", "v1.5.0", "v1.5.0.6", "v1.5.0.4.3", "v1.5.0.4.6.9", "1.5"]
        {
            assert_eq!(text.parse::<FeedCursor>(), Err(CursorError::Not), "{text}");
        }
        assert_eq!("v2.whatever".parse::<FeedCursor>(), Err(CursorError::Newer));
    }

    #[test]
    fn who_reads_to_the_end_needs_a_sequence_only() {
        let end = cursor("10").read_to(20, 0, 30).read_to(40, 0, 40);
        assert_eq!(end.to_string(), "40");
        assert_eq!(end.read_to(45, 2, 45).to_string(), "v1.45.2.45");
        // One copy was as far as 60, so this one lags behind it.
        let lagged = cursor("10").read_to(20, 0, 60).read_to(40, 0, 40);
        assert_eq!(lagged.to_string(), "v1.40.0.10.40.60");
    }

    #[test]
    fn what_was_replaced_before_it_was_read_was_not_seen() {
        let lags = cursor("10").read_to(20, 0, 50).read_to(30, 0, 80);
        assert_eq!(lags.to_string(), "v1.30.0.10.20.50.30.80");
        assert!(lags.saw(9, 31), "he had everything up to there");
        assert!(!lags.saw(15, 45), "written before he came by");
        assert!(lags.saw(15, 60), "written after");
        assert!(!lags.saw(25, 60), "there he came by later");
        assert!(lags.saw(25, 81));
        assert!(!lags.saw(35, 90), "he was not there yet");
    }

    #[test]
    fn an_event_is_behind_it_or_not() {
        let torn = cursor("5").read_to(8, 2, 9);
        assert!(torn.is_behind(8, 7) && torn.is_behind(9, 1));
        assert!(!torn.is_behind(9, 2) && !torn.is_behind(10, 0));
    }

    /// Of readings that are forgotten nothing is taken for seen that was not.
    #[test]
    fn it_stays_short_and_forgets_on_the_safe_side() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut short, mut all) = (FeedCursor::after(0), Vec::new());
            let (mut to, mut newest) = (0, 1_000);
            for _ in 0..60 {
                (to, newest) = (to + random.u64(1..30), newest + random.u64(0..40));
                short = short.read_to(to, 0, newest);
                all.push(Reading { to, newest });
            }
            assert!(short.readings.len() <= READINGS_MAX && short.to_string().len() < 200);
            assert_eq!(cursor(&short.to_string()), short);
            for _ in 0..200 {
                let (replaced, by) = (random.u64(1..to), random.u64(to + 1..newest + 100));
                let seen = |reading: &Reading| replaced <= reading.to && by > reading.newest;
                assert!(
                    !short.saw(replaced, by) || all.iter().any(seen),
                    "{short} {replaced} {by}"
                );
            }
        }
    }
}
