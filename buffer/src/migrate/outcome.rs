//! An outcome as the records that build its order anew, and the other way round.

use bytes::Bytes;
use forebay_order::{Fingerprint, OrderKey, Readiness, RecordedAs};

use crate::record::{Delivery, Record, Settled, Snapshot};
use crate::state::{Numbered, Outcome};
use crate::{Envelope, OrderState};

impl Outcome {
    /// Of a summarised order of which nothing but exceptions is left: a repeat of it differs from whatever it was, and so waits for
    /// a person.
    pub(crate) fn forgotten(sequence: u64) -> Self {
        Self {
            sequence,
            state: OrderState::Summarised,
            version: None,
            newest: None,
            fingerprint: Fingerprint([0; 16]),
            fingerprint_version: Fingerprint::VERSION,
            earlier: Vec::new(),
            accepted_at_ms: 0,
            settled_at_ms: 0,
            attempts: 0,
            synthetic: false,
            summary_id: String::new(),
        }
    }

    /// The records that build the order anew, without its bytes.
    pub(crate) fn records(&self, key: OrderKey) -> Vec<Numbered> {
        let recorded = self.state == OrderState::Recorded;
        let envelope = Envelope {
            number: String::new(),
            readiness: match recorded {
                true => Readiness::Recorded(RecordedAs::Other),
                false => Readiness::Pending,
            },
            version: self.version,
            fingerprint_version: self.fingerprint_version,
            synthetic: self.synthetic,
            ..Envelope::new(key, self.fingerprint, Bytes::new())
        };
        let snapshot = Snapshot {
            // How it was settled stands in a record of its own.
            state: if recorded { OrderState::Recorded } else { OrderState::Submitted },
            first_accepted_at_ms: self.accepted_at_ms,
            attempts: self.attempts,
            sent_before: !recorded,
            not_before_ms: None,
            ticket: None,
            ticket_at_ms: None,
            earlier: self.earlier.iter().map(|fingerprint| fingerprint.0).collect(),
            newest: self.newest,
        };
        let accepted_at_ms = if recorded { self.settled_at_ms } else { self.accepted_at_ms };
        let order = self.sequence;
        let delivery = Delivery { envelope, accepted_at_ms };
        let mut records = vec![(order, Record::Moved { order, snapshot, delivery })];
        if !recorded {
            let entry = Settled {
                order,
                summary_id: self.summary_id.clone(),
                existing: false,
                attempts: self.attempts,
                at_ms: self.settled_at_ms,
            };
            records.push((order, Record::Settle { entries: vec![entry] }));
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::unknown_key;
    use super::*;
    use crate::digest::KeyHasher;
    use crate::state::{Head, State, content_among};

    prop_compose! {
        fn any_outcome()(
            sequence in 1..1_u64 << 47,
            recorded: bool,
            version: Option<u64>,
            newest in option::of(1..u64::MAX),
            fingerprint: [u8; 16],
            earlier in vec(any::<[u8; 16]>(), 0..4),
            (accepted, took) in (0..1_i64 << 41, 0..1_i64 << 30),
            (attempts, synthetic) in (0..9_u8, any::<bool>()),
            id in "[A-Za-z0-9]{1,20}",
        ) -> Outcome {
            Outcome {
                sequence,
                state: if recorded { OrderState::Recorded } else { OrderState::Summarised },
                version,
                newest,
                fingerprint: Fingerprint(fingerprint),
                fingerprint_version: 3,
                earlier: earlier.into_iter().map(Fingerprint).collect(),
                accepted_at_ms: accepted,
                settled_at_ms: accepted + took,
                attempts,
                synthetic,
                summary_id: if recorded { String::new() } else { id },
            }
        }
    }

    proptest! {
        #[test]
        fn an_outcome_comes_back_as_it_was(outcome in any_outcome(), known: bool) {
            let key = if known { OrderKey::new("c", "s", "1") } else { unknown_key() };
            let records = outcome.records(key);
            let mut state = State::hashing(KeyHasher::new(b"secret"));
            state.apply_whole(&records);
            let kept = state.kept(outcome.sequence).unwrap();
            let head = Head::of(content_among(&records, kept).unwrap(), kept).unwrap();
            prop_assert_eq!(state.outcome_of(outcome.sequence, &head), Some(outcome));
        }
    }
}
