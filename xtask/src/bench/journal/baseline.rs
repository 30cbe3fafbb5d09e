//! The baseline: sled as a log of orders with the journal's promise. One batch for all that wait, its own flush, and the
//! sync of its file that the flush leaves out.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use super::ORDER_BYTES;
use crate::failure::{Result, While as _};
use crate::time::Stopwatch;

/// A sled database and the next order's number.
pub(super) struct SledLog {
    db: sled::Db,
    file: File,
    next: u64,
}

impl SledLog {
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let config = sled::Config::new().path(dir).flush_every_ms(None);
        let db = config.mode(sled::Mode::HighThroughput).open().when("opening sled")?;
        let file = File::open(dir.join("db")).when("sled's file")?;
        Ok(Self { db, file, next: 0 })
    }

    /// Appends groups of so many orders until the time has passed; how many.
    pub(super) fn append_for(&mut self, lasting: Duration, group: usize) -> Result<u64> {
        let (watch, first) = (Stopwatch::start(), self.next);
        // As an order's bytes are, of no two the same: sled keeps them in its log as they come.
        let mut body = vec![b'x'; ORDER_BYTES];
        while watch.elapsed() < lasting {
            let mut batch = sled::Batch::default();
            for _ in 0..group {
                let key = self.next.to_be_bytes();
                if let Some(head) = body.get_mut(..8) {
                    head.copy_from_slice(&key);
                }
                batch.insert(&key, body.as_slice());
                self.next += 1;
            }
            self.db.apply_batch(batch).when("sled")?;
            self.db.flush().when("sled")?;
            self.file.sync_data().when("sled's file")?;
        }
        Ok(self.next - first)
    }
}
