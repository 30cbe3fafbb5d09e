//! What all nodes of a store must agree on, and where everything of it stands.
//!
//! ```text
//! STREAM.store        what is agreed on, written once by whoever comes first
//! STREAM.origin       where the orders came from, if it was another store
//! STREAM.node.NODE    a node that takes part in the drain, and its limits, expiring
//! STREAM.3.owner      who owns partition 3
//! STREAM.3.HASH       a key of partition 3
//! ```

use bytes::Bytes;

use super::OpenError;
use super::table::{Put, Stored, Table, TableError};
use crate::codec::Take;
use crate::digest::KeyHasher;

const VERSION: u8 = 1;

/// What all nodes agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Store {
    stream: String,
    /// Keys the hashes, so that nobody outside can make two keys collide.
    pub(super) secret: [u8; 16],
    /// What it keys.
    pub(super) hasher: KeyHasher,
    /// Into how many parts the keys are divided, each owned by one node at a time.
    pub(super) partitions: u16,
}

impl Store {
    pub(super) fn new(stream: &str, secret: [u8; 16], partitions: u16) -> Self {
        let hasher = KeyHasher::new(&secret);
        Self { stream: stream.to_owned(), secret, hasher, partitions }
    }

    /// Reads what was agreed on; `None` if nobody has settled it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn read(table: &Table, stream: &str) -> Result<Option<Self>, OpenError> {
        let stored = table.read(&Self::own_subject(stream)).await;
        let stored = stored.map_err(|error| OpenError::Unavailable {
            stream: stream.to_owned(),
            reason: error.to_string(),
        })?;
        stored.map(|stored| Self::known(stream, &stored)).transpose()
    }

    /// Reads what was agreed on, or settles it if nobody has; with this secret, or one of its own.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn open(
        table: &Table,
        stream: &str,
        partitions: u16,
        given: Option<[u8; 16]>,
    ) -> Result<Self, OpenError> {
        if let Some(store) = Self::read(table, stream).await? {
            return Ok(store);
        }
        let unavailable =
            |reason: String| OpenError::Unavailable { stream: stream.to_owned(), reason };
        let secret = given.map_or_else(secret, Ok);
        let secret = secret.map_err(|error| unavailable(format!("no randomness: {error}")))?;
        let wanted = Self::new(stream, secret, partitions);
        let failed = |error: TableError| unavailable(error.to_string());
        let subject = Self::own_subject(stream);
        let stored = match table.create(&subject, wanted.encode()).await.map_err(failed)? {
            Put::Done(_) => return Ok(wanted),
            Put::Overtaken(Some(stored)) => stored,
            Put::Overtaken(None) => {
                let reason = "its servers do not agree on what stands there; start again";
                return Err(unavailable(reason.to_owned()));
            }
        };
        Self::known(stream, &stored)
    }

    fn own_subject(stream: &str) -> String {
        format!("{stream}.store")
    }

    fn known(stream: &str, stored: &Stored) -> Result<Self, OpenError> {
        Self::decode(stream, stored).ok_or_else(|| OpenError::Stream {
            stream: stream.to_owned(),
            fault: "was begun by another release, or by something else".to_owned(),
            mend: "use that release, or name another stream".to_owned(),
        })
    }

    fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.secret);
        out.extend_from_slice(&self.partitions.to_le_bytes());
        out.into()
    }

    fn decode(stream: &str, stored: &Stored) -> Option<Self> {
        let mut take = Take(&stored.bytes);
        (take.u8()? == VERSION).then_some(())?;
        let (secret, partitions) = (take.array()?, take.u16()?);
        (take.is_empty() && partitions > 0).then(|| Self::new(stream, secret, partitions))
    }

    /// What tells it from another; nothing can be derived from it.
    pub(super) fn id(&self) -> String {
        let id = blake3::derive_key("forebay-buffer 1 id of a store on NATS", &self.secret);
        id.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key of the e-mail lookup hash of a store that made its own.
    pub(super) fn lookup_key(&self) -> [u8; 32] {
        blake3::derive_key("forebay-buffer 1 e-mail lookup of a fleet", &self.secret)
    }

    /// The partition of a key.
    pub(super) fn partition(&self, hash: u128) -> u16 {
        let partition = hash % u128::from(self.partitions);
        u16::try_from(partition).unwrap_or_default()
    }

    /// Where a key's page stands.
    pub(super) fn subject(&self, hash: u128) -> String {
        format!("{}.{}.{hash:024x}", self.stream, self.partition(hash))
    }

    /// The hash in the subject of a page; `None` for the subject of something else.
    pub(super) fn hash(&self, subject: &str) -> Option<u128> {
        let (_, hash) = subject.rsplit_once('.')?;
        (hash.len() == 24).then(|| u128::from_str_radix(hash, 16).ok()).flatten()
    }

    /// Where a partition's owner stands.
    pub(super) fn owner(&self, partition: u16) -> String {
        format!("{}.{partition}.owner", self.stream)
    }

    /// Everything of a partition.
    pub(super) fn all(&self, partition: u16) -> String {
        format!("{}.{partition}.>", self.stream)
    }

    /// Everything of all partitions.
    pub(super) fn all_pages(&self) -> String {
        format!("{}.*.*", self.stream)
    }

    /// Whether there is a page of any key.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`].
    pub(super) async fn has_pages(&self, table: &Table) -> Result<bool, OpenError> {
        let subjects = table.subjects_since(&self.all_pages(), table.highest()).await;
        let subjects = subjects.map_err(|error| OpenError::Unavailable {
            stream: self.stream.clone(),
            reason: error.to_string(),
        })?;
        Ok(subjects.iter().any(|subject| self.hash(subject).is_some()))
    }

    /// Where a node stands.
    pub(super) fn node(&self, node: u64) -> String {
        format!("{}.node.{node:016x}", self.stream)
    }

    /// Where the nodes of a stream stand.
    pub(super) fn nodes(stream: &str) -> String {
        format!("{stream}.node.*")
    }
}

/// What nobody outside can guess.
fn secret() -> std::io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_subject() {
        let store = Store::new("FOREBAY", [7; 16], 16);
        for hash in [0, 1, 15, 16, (1 << 96) - 1] {
            let subject = store.subject(hash);
            assert_eq!(store.hash(&subject), Some(hash));
            assert!(subject.starts_with(&format!("FOREBAY.{}.", hash % 16)));
        }
        assert_eq!(store.hash(&store.owner(3)), None);
        let stored = Stored::new(1, store.encode());
        assert_eq!(Store::decode("FOREBAY", &stored), Some(store));
        assert_eq!(Store::decode("FOREBAY", &Stored::new(1, Bytes::from_static(b"\x02"))), None);
    }
}
