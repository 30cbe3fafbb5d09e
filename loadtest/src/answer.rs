//! What the server said about each delivery of a request.

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

/// The final answer to one delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// None came.
    #[default]
    None,
    /// It is durable.
    Acknowledged {
        /// What it came to.
        outcome: Outcome,
        /// Sequence the server gave; 0 where it gave none.
        sequence: u64,
    },
    /// It was refused.
    Refused {
        /// HTTP status, of the item or the whole.
        status: u16,
    },
}

/// The outcome words of the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A key's first delivery; it waits for the drain.
    Accepted,
    /// A key's first delivery, held.
    Held,
    /// The same content again.
    Duplicate,
    /// A newer version replaced the content.
    Amended,
    /// A newer version or cancel, kept until the attempt under way is known.
    Parked,
    /// An older version; no effect.
    Stale,
    /// The order is cancelled.
    Cancelled,
    /// A cancel of an order not seen yet.
    Tombstone,
    /// A newer version or cancel came after the summary.
    ChangeAfterSummary,
    /// Another content under the key, answered to an `api` caller.
    Conflict,
    /// The same, answered to a webhook.
    ConflictRecorded,
    /// Not an order.
    Recorded,
    /// A process exception of its own.
    Exception,
}

impl Outcome {
    /// Every outcome, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::Accepted,
        Self::Held,
        Self::Duplicate,
        Self::Amended,
        Self::Parked,
        Self::Stale,
        Self::Cancelled,
        Self::Tombstone,
        Self::ChangeAfterSummary,
        Self::Conflict,
        Self::ConflictRecorded,
        Self::Recorded,
        Self::Exception,
    ];

    /// Whether it is an order's first accepted delivery (or a body's that has no key).
    pub fn is_first(self) -> bool {
        matches!(self, Self::Accepted | Self::Held | Self::Exception)
    }

    /// Whether the server says by it that it has the order of the key.
    pub fn has_order(self) -> bool {
        !matches!(self, Self::Tombstone | Self::Recorded)
    }
}

/// One item's answer, alone or in a batch.
#[derive(Deserialize)]
struct Item {
    outcome: Option<Outcome>,
    sequence: Option<u64>,
    index: Option<usize>,
    code: Option<u16>,
}

/// The whole answer: one item's members, or a batch's.
#[derive(Default, Deserialize)]
struct Whole {
    outcome: Option<Outcome>,
    sequence: Option<u64>,
    items: Option<Vec<Item>>,
}

/// Reads a complete answer to a request of `count` deliveries; the answers stand in the order of the body.
///
/// `None` where a 2xx cannot be understood: the deliveries' fate is then unknown, never guessed.
pub(crate) fn read(status: StatusCode, body: &[u8], count: usize) -> Option<Vec<Answer>> {
    let whole: Option<Whole> = serde_json::from_slice(body).ok();
    let Whole { outcome, sequence, items } = match whole {
        Some(whole) => whole,
        None if status.is_success() => return None,
        None => Whole::default(),
    };
    let sequence = sequence.unwrap_or(0);
    // A batch none of whose items is durable still says why of each.
    if let Some(items) = items {
        return batch_answers(&items, count);
    }
    let answer = if status == StatusCode::CONFLICT {
        Answer::Acknowledged { outcome: Outcome::Conflict, sequence }
    } else if !status.is_success() {
        Answer::Refused { status: status.as_u16() }
    } else {
        let outcome = outcome?;
        // A webhook's body that cannot be taken apart is kept as one exception, whatever is in it; any
        // other single answer to several deliveries says nothing of the others.
        if count != 1 && outcome != Outcome::Exception {
            return None;
        }
        Answer::Acknowledged { outcome, sequence }
    };
    Some(vec![answer; count])
}

fn batch_answers(items: &[Item], count: usize) -> Option<Vec<Answer>> {
    let mut answers = vec![Answer::None; count];
    for (at, item) in items.iter().enumerate() {
        *answers.get_mut(item.index.unwrap_or(at))? = item_answer(item)?;
    }
    Some(answers)
}

fn item_answer(item: &Item) -> Option<Answer> {
    let sequence = item.sequence.unwrap_or(0);
    match (item.code, item.outcome) {
        (Some(409), outcome) => {
            let outcome = outcome.unwrap_or(Outcome::Conflict);
            Some(Answer::Acknowledged { outcome, sequence })
        }
        (Some(status), _) if status >= 400 => Some(Answer::Refused { status }),
        (_, Some(outcome)) => Some(Answer::Acknowledged { outcome, sequence }),
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(status: u16, body: &str) -> Option<Vec<Answer>> {
        read(StatusCode::from_u16(status).unwrap(), body.as_bytes(), 1)
    }

    #[test]
    fn single_answers_of_every_class() {
        let accepted = Answer::Acknowledged { outcome: Outcome::Accepted, sequence: 17 };
        assert_eq!(one(202, r#"{"outcome":"accepted","sequence":17}"#), Some(vec![accepted]));
        let conflict = Answer::Acknowledged { outcome: Outcome::Conflict, sequence: 0 };
        assert_eq!(one(409, r#"{"type":"x","status":409}"#), Some(vec![conflict]));
        assert_eq!(one(422, r#"{"status":422}"#), Some(vec![Answer::Refused { status: 422 }]));
        assert_eq!(one(503, "not json"), Some(vec![Answer::Refused { status: 503 }]));
    }

    #[test]
    fn a_2xx_that_cannot_be_understood_is_no_acknowledgement() {
        assert_eq!(one(202, "<html>"), None);
        assert_eq!(one(202, r#"{"outcome":"maybe","sequence":1}"#), None);
        assert_eq!(one(200, r#"{}"#), None);
        assert_eq!(read(StatusCode::ACCEPTED, br#"{"outcome":"accepted"}"#, 2), None);
        let kept = Answer::Acknowledged { outcome: Outcome::Exception, sequence: 3 };
        let body = br#"{"outcome":"exception","sequence":3}"#;
        assert_eq!(read(StatusCode::OK, body, 2), Some(vec![kept, kept]));
    }

    #[test]
    fn a_batch_answers_each_item_by_its_index() {
        let body = br#"{"items":[{"index":1,"code":400,"problem":{}},{"index":0,"code":202,"outcome":"held","sequence":4},
            {"index":2,"code":409,"problem":{}}],"durable":2,"refused":1}"#;
        let answers = read(StatusCode::ACCEPTED, body, 4).unwrap();
        assert_eq!(
            answers,
            [
                Answer::Acknowledged { outcome: Outcome::Held, sequence: 4 },
                Answer::Refused { status: 400 },
                Answer::Acknowledged { outcome: Outcome::Conflict, sequence: 0 },
                Answer::None,
            ]
        );
        let beyond = br#"{"items":[{"index":9,"code":202,"outcome":"held"}]}"#;
        assert_eq!(read(StatusCode::ACCEPTED, beyond, 1), None);
    }
}
