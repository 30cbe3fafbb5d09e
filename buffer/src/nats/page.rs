//! What stands under a key: all of one order, as a short list of records.
//!
//! A page is the order as it was before its last write, and then the one record that write added. So a record may have its
//! effect under the sequence that the servers give the message, which nobody knows before: it is written as 0.
//!
//! ```text
//! version 1, how it had ended before, last loan that is over; then each record: sequence or 0, kind, extensions with their length, body with its length; CRC-32C
//! ```
//! Kinds and extensions are those of the journal (`codec`); sequences and lengths are variable-length numbers.

use bytes::Bytes;

use crate::OrderState;
use crate::codec::{self, Take, len32, put_varint, put_varint64};
use crate::record::Record;
use crate::state::Numbered;

const VERSION: u8 = 1;
/// The order had not ended before this write.
const NOT_ENDED: u8 = 0;
/// The message's own sequence.
const OWN: u64 = 0;
const CRC: usize = size_of::<u32>();

/// The records of one order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    /// Each with the sequence it has its effect under.
    pub(super) records: Vec<Numbered>,
    /// How the order had ended before the last record, and so was counted already.
    pub(super) ended_before: Option<OrderState>,
    /// The order's loans up to this one are over; 0 for none.
    pub(super) loans_over: u64,
}

/// Why bytes are no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    #[error("what stands under the key is damaged: its checksum does not fit")]
    Damaged,
    #[error("what stands under the key was written by a later release ({0}): upgrade this one")]
    Newer(String),
}

impl Page {
    /// A page of one record, the first of its key, to be written.
    pub(super) fn first(record: Record) -> Self {
        Self { records: vec![(OWN, record)], ended_before: None, loans_over: 0 }
    }

    /// Adds the record that this write is about.
    pub(super) fn with(mut self, record: Record) -> Self {
        self.records.push((OWN, record));
        self
    }

    /// The page as it reads once it is stored there.
    pub(super) fn stored_at(mut self, sequence: u64) -> Self {
        if let Some((own, _)) = self.records.last_mut().filter(|(own, _)| *own == OWN) {
            *own = sequence;
        }
        self
    }

    /// The message.
    pub(super) fn encode(&self) -> Bytes {
        let bodies: usize = self.records.iter().map(|(_, record)| codec::body(record).len()).sum();
        let mut out = Vec::with_capacity(bodies + self.records.len() * 256 + CRC);
        out.extend([VERSION, self.ended_before.map_or(NOT_ENDED, |state| state as u8)]);
        put_varint64(&mut out, self.loans_over);
        let mut extensions = Vec::new();
        for (sequence, record) in &self.records {
            extensions.clear();
            codec::extensions(record, &mut extensions);
            put_varint64(&mut out, *sequence);
            out.push(codec::kind(record));
            put_varint(&mut out, len32(extensions.len()));
            out.extend_from_slice(&extensions);
            let body = codec::body(record);
            put_varint(&mut out, len32(body.len()));
            out.extend_from_slice(body);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.into()
    }

    /// Reads the message of that sequence.
    ///
    /// # Errors
    /// [`PageError`].
    pub(super) fn decode(message: &Bytes, own: u64) -> Result<Self, PageError> {
        let (bytes, crc) = message.split_last_chunk::<CRC>().ok_or(PageError::Damaged)?;
        if crc32c::crc32c(bytes) != u32::from_le_bytes(*crc) {
            return Err(PageError::Damaged);
        }
        let mut take = Take(bytes);
        let version = take.u8();
        if version != Some(VERSION) {
            return Err(PageError::Newer(format!("page version {}", version.unwrap_or_default())));
        }
        let ended = take.u8().ok_or(PageError::Damaged)?;
        let ended_before = OrderState::ALL.into_iter().find(|state| *state as u8 == ended);
        if ended_before.is_none() && ended != NOT_ENDED {
            return Err(PageError::Newer(format!("an order that ended as {ended}")));
        }
        let loans_over = take.varint64().ok_or(PageError::Damaged)?;
        let mut records = Vec::with_capacity(2);
        while !take.is_empty() {
            let (sequence, kind, extensions, body) = frame(&mut take).ok_or(PageError::Damaged)?;
            let sequence = if sequence == OWN { own } else { sequence };
            let record = codec::record(kind, 0, extensions, message.slice_ref(body));
            match record {
                Ok(Some(record)) => records.push((sequence, record)),
                Ok(None) => return Err(PageError::Newer(format!("record kind {kind}"))),
                Err(codec::Undecodable(what)) => return Err(PageError::Newer(what)),
            }
        }
        Ok(Self { records, ended_before, loans_over })
    }

    /// The order it is of.
    pub(super) fn order(&self) -> Option<u64> {
        match self.records.first()? {
            (_, Record::Moved { order, .. }) => Some(*order),
            (sequence, Record::Accept(_) | Record::Recorded(_) | Record::Stray(_)) => {
                Some(*sequence)
            }
            _ => None,
        }
    }
}

/// One record's sequence, kind, extensions and body.
type Frame<'a> = (u64, u8, &'a [u8], &'a [u8]);

fn frame<'a>(take: &mut Take<'a>) -> Option<Frame<'a>> {
    let (sequence, kind) = (take.varint64()?, take.u8()?);
    let mut part = || {
        let len = take.varint()?;
        take.bytes(usize::try_from(len).ok()?)
    };
    let extensions = part()?;
    Some((sequence, kind, extensions, part()?))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::tests::any_record;

    proptest! {
        #[test]
        fn a_page_reads_back(records in vec((1..u64::MAX, any_record()), 0..4), last in any_record(), ended: bool, loans_over: u64) {
            let ended_before = ended.then_some(OrderState::Cancelled);
            let page = Page { records, ended_before, loans_over }.with(last);
            let mut expected = page.clone();
            expected.records.last_mut().unwrap().0 = 77;
            prop_assert_eq!(Page::decode(&page.encode(), 77), Ok(expected));
        }

        #[test]
        fn no_bytes_are_a_page_by_chance(bytes in vec(any::<u8>(), 0..200), flip in any::<u16>()) {
            prop_assert!(Page::decode(&bytes.into(), 1).is_err());
            let mut bytes = Page::first(Record::Submitting { orders: vec![1, 2] }).encode().to_vec();
            let at = usize::from(flip) % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert_eq!(Page::decode(&bytes.into(), 1), Err(PageError::Damaged));
        }
    }

    #[test]
    fn what_a_later_release_wrote_is_said_to_be_that() {
        let later = |change: fn(&mut Vec<u8>)| {
            let mut bytes = Page::first(Record::Submitting { orders: vec![1] }).encode().to_vec();
            bytes.truncate(bytes.len() - CRC);
            change(&mut bytes);
            let crc = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&crc.to_le_bytes());
            Page::decode(&bytes.into(), 1).unwrap_err().to_string()
        };
        assert!(later(|bytes| bytes[0] = 2).contains("page version 2"));
        assert!(later(|bytes| bytes[1] = 99).contains("ended as 99"));
        assert!(later(|bytes| bytes[4] = 99).contains("record kind 99"));
    }
}
