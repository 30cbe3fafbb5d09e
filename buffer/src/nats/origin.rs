//! Where the orders of a store came from, if it is not the first to have them.
//!
//! ```text
//! version 1, whole u8; look first until, ms i64; key of the e-mail lookup 32
//! ```

use bytes::Bytes;

use super::OpenError;
use super::table::{Put, Table};
use crate::codec::Take;

const VERSION: u8 = 1;

/// A disk that they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Nothing is left to be taken in.
    pub(crate) whole: bool,
    /// Until when whatever was accepted is to be looked up before it is first sent, ms since 1970.
    pub(crate) look_first_until_ms: i64,
    /// The key of the e-mail lookup hash there.
    pub(crate) lookup_key: [u8; 32],
}

impl Origin {
    fn subject(stream: &str) -> String {
        format!("{stream}.origin")
    }

    fn encode(&self) -> Bytes {
        let mut out = vec![VERSION, u8::from(self.whole)];
        out.extend_from_slice(&self.look_first_until_ms.to_le_bytes());
        out.extend_from_slice(&self.lookup_key);
        out.into()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        (take.u8()? == VERSION).then_some(())?;
        let whole = take.u8()? != 0;
        let look_first_until_ms = i64::from_le_bytes(take.array()?);
        let lookup_key = take.array()?;
        take.is_empty().then_some(Self { whole, look_first_until_ms, lookup_key })
    }

    /// Where the orders of a stream came from, and the sequence of the message that says so; `None` if this is the first to have them.
    ///
    /// # Errors
    /// [`OpenError`]
    pub(super) async fn read(
        table: &Table,
        stream: &str,
    ) -> Result<Option<(Self, u64)>, OpenError> {
        let unavailable = |error: super::TableError| OpenError::Unavailable {
            stream: stream.to_owned(),
            reason: error.to_string(),
        };
        let stored = table.read(&Self::subject(stream)).await.map_err(unavailable)?;
        let Some(stored) = stored else { return Ok(None) };
        let origin = Self::decode(&stored.bytes).ok_or_else(|| OpenError::Stream {
            stream: stream.to_owned(),
            fault: "says of where its orders came from what only a later release knows".to_owned(),
            mend: "upgrade this one".to_owned(),
        })?;
        Ok(Some((origin, stored.sequence)))
    }

    /// Says so in the place of the message at `row`; 0: of none. The sequence of the new one.
    ///
    /// # Errors
    /// In words.
    pub(super) async fn write(&self, table: &Table, stream: &str, row: u64) -> Result<u64, String> {
        let put = table.replace(&Self::subject(stream), row, self.encode(), None).await;
        match put.map_err(|error| error.to_string())? {
            Put::Done(row) => Ok(row),
            Put::Overtaken(_) => Err("another process takes orders in".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back() {
        let origin = Origin { whole: true, look_first_until_ms: i64::MIN, lookup_key: [7; 32] };
        assert_eq!(Origin::decode(&origin.encode()), Some(origin.clone()));
        assert_eq!(Origin::decode(&origin.encode()[1..]), None);
    }
}
