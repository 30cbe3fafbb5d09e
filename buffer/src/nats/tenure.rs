//! Who owns a partition, and which of its orders it has lent: one message, replaced by its owner only.
//!
//! ```text
//! version 1, flags; epoch u64, node u64, lease ms u32; then each lent order: sequence, loan, hash 12, deaths u8, bits u8;
//! CRC-32C
//! ```
//! It is the fence. An order may be sent only once it stands in here, durable, so an owner that was paused or cut off can
//! lend nothing once another has replaced its message, and that other one finds what may have been sent.

use bytes::Bytes;

use crate::codec::{Take, put_varint64};

/// A loan's number is its owner's epoch, and so many bits of its own.
pub(super) const EPOCH_AT: u32 = 32;

const VERSION: u8 = 1;
const RELEASED: u8 = 1;
const SENDING: u8 = 1;
const HASH: usize = 12;
const CRC: usize = size_of::<u32>();

/// An owner's message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenure {
    /// +1 with each owner.
    pub(super) epoch: u64,
    /// The process.
    pub(super) node: u64,
    /// How long it is good for without being replaced, by the clock of whoever waits for its end.
    pub(super) lease_ms: u32,
    /// Given up: whoever comes may have it.
    pub(super) released: bool,
    /// Orders that may have been sent, by their sequence.
    pub(super) lent: Vec<Lent>,
}

/// An order that is with a worker, or was when its owner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lent {
    pub(super) order: u64,
    /// Which loan of it; over once the order's page says so.
    pub(super) loan: u64,
    /// Of its key.
    pub(super) hash: u128,
    /// How many owners ended while it was lent.
    pub(super) deaths: u8,
    /// Its worker said that it is being sent.
    pub(super) sending: bool,
}

impl Lent {
    /// Whether it was lent by that owner, not taken over by it and still waiting.
    pub(super) fn is_of(&self, epoch: u64) -> bool {
        self.loan >> EPOCH_AT == epoch
    }

    /// Whether bytes of it may have left: its worker said so, or an owner ended while it was lent.
    pub(super) fn may_be_sent(&self) -> bool {
        self.sending || self.deaths > 0
    }
}

impl Tenure {
    /// The message.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(32 + self.lent.len() * (HASH + 12));
        out.extend([VERSION, if self.released { RELEASED } else { 0 }]);
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.node.to_le_bytes());
        out.extend_from_slice(&self.lease_ms.to_le_bytes());
        for lent in &self.lent {
            put_varint64(&mut out, lent.order);
            put_varint64(&mut out, lent.loan);
            out.extend(lent.hash.to_le_bytes().into_iter().take(HASH));
            out.extend([lent.deaths, if lent.sending { SENDING } else { 0 }]);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.into()
    }

    /// Reads it; `None` if these bytes are none that this release understands.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (bytes, crc) = message.split_last_chunk::<CRC>()?;
        let sound = crc32c::crc32c(bytes) == u32::from_le_bytes(*crc);
        let mut take = Take(sound.then_some(bytes)?);
        let (version, flags) = (take.u8()?, take.u8()?);
        if version != VERSION || flags & !RELEASED != 0 {
            return None;
        }
        let (epoch, node, lease_ms) = (take.u64()?, take.u64()?, take.u32()?);
        let mut lent = Vec::new();
        while !take.is_empty() {
            let (order, loan) = (take.varint64()?, take.varint64()?);
            let mut hash = [0; 16];
            hash.first_chunk_mut::<HASH>()?.copy_from_slice(take.bytes(HASH)?);
            let (deaths, bits) = (take.u8()?, take.u8()?);
            let hash = u128::from_le_bytes(hash);
            lent.push(Lent { order, loan, hash, deaths, sending: bits & SENDING != 0 });
        }
        Some(Self { epoch, node, lease_ms, released: flags & RELEASED != 0, lent })
    }

    /// What the next owner finds lent: with one death more what this one had lent, unless it gave up in order. What it had
    /// taken over itself, and not lent again, did not end it.
    pub(super) fn inherited(&self) -> Vec<Lent> {
        let inherit = |lent: &Lent| {
            let died = u8::from(!self.released && lent.is_of(self.epoch));
            Lent { deaths: lent.deaths.saturating_add(died), ..*lent }
        };
        self.lent.iter().map(inherit).collect()
    }

    /// The order of that hash, if it is lent.
    pub(super) fn lent(&self, order: u64) -> Option<&Lent> {
        self.lent.iter().find(|lent| lent.order == order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_that_gives_up_in_order_dies_of_no_order() {
        let lent = Lent { order: 1, loan: 7 << EPOCH_AT | 9, hash: 5, deaths: 1, sending: true };
        let taken_over = Lent { order: 2, loan: 6 << EPOCH_AT | 9, ..lent };
        let mut tenure = Tenure { epoch: 7, lent: vec![lent, taken_over], ..Tenure::default() };
        assert_eq!(tenure.inherited(), [Lent { deaths: 2, ..lent }, taken_over]);
        tenure.released = true;
        assert_eq!(tenure.inherited(), [lent, taken_over]);
    }

    #[test]
    fn a_tenure_reads_back_and_damage_is_noticed() {
        let lent = |order, deaths, sending| Lent {
            order,
            loan: 9,
            hash: (1 << 95) + u128::from(order),
            deaths,
            sending,
        };
        let tenure = Tenure {
            epoch: 7,
            node: u64::MAX,
            lease_ms: 10_000,
            released: true,
            lent: vec![lent(1, 0, false), lent(u64::MAX, 3, true)],
        };
        let bytes = tenure.encode();
        assert_eq!(Tenure::decode(&bytes), Some(tenure));
        assert_eq!(Tenure::decode(&Tenure::default().encode()), Some(Tenure::default()));
        for at in 0..bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 4;
            assert_eq!(Tenure::decode(&bytes), None, "byte {at}");
        }
    }
}
