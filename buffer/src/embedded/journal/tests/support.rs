//! Orders, journals and directories for the tests.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_order::{Fingerprint, OrderKey};

use super::super::recovery::Ground;
use super::super::{Journal, Location, OpenError, Options, Recovered, Replayed, WriteMode};
use super::disk::Disk;
use crate::record::{Delivery, Record};
use crate::{Envelope, SystemClock};

pub(super) const SLOT: u64 = 64 << 10;

pub(super) fn options() -> Options {
    Options {
        slot_bytes: SLOT,
        burst_reserve: 2,
        disk_max: 64 * SLOT,
        write_mode: WriteMode::Auto,
        clock: Arc::new(SystemClock),
        goes_on: None,
    }
}

/// An accepted order of that id, with a body made from it.
pub(in crate::embedded) fn accept(id: u64, body_bytes: usize) -> Record {
    Record::Accept(Delivery { envelope: envelope(id, body_bytes), accepted_at_ms: 1_000 })
}

pub(super) fn envelope(id: u64, body_bytes: usize) -> Envelope {
    let key = OrderKey::new("shopify", "demo", id.to_string());
    let fingerprint = Fingerprint([u8::try_from(id % 251).unwrap(); 16]);
    Envelope {
        version: Some(id),
        format: 3,
        ..Envelope::new(key, fingerprint, body(id, body_bytes))
    }
}

pub(super) fn body(id: u64, bytes: usize) -> Bytes {
    let mut body = vec![0; bytes];
    fastrand::Rng::with_seed(id).fill(&mut body);
    Bytes::from(body)
}

pub(super) fn open(dir: &Path) -> (Journal, Recovered) {
    Journal::open(dir, options()).unwrap()
}

/// Options for a disk in memory.
pub(super) fn small() -> Options {
    Options { disk_max: 12 * SLOT, ..options() }
}

/// A disk to open on, the filler's work done by [`Journal::pump`] alone, every new store the same.
pub(super) fn ground(disk: &Disk) -> Ground {
    let directory = Arc::new(disk.clone());
    let random = || Ok(*b"a store's uuid..a store's secret");
    Ground { directory, random, filler: false, retry_pause: Duration::from_millis(5) }
}

pub(in crate::embedded) fn try_open_disk(disk: &Disk) -> Result<(Journal, Recovered), OpenError> {
    Journal::open_on(ground(disk), &small())
}

pub(super) fn open_disk(disk: &Disk) -> (Journal, Recovered) {
    try_open_disk(disk).unwrap()
}

/// Every record found, its body read back.
pub(super) fn whole(journal: &Journal, recovered: &mut Recovered) -> Vec<(u64, Record)> {
    let reader = journal.reader();
    found(recovered)
        .into_iter()
        .map(|restored| {
            let (sequence, record) = reader.read(restored.location).unwrap();
            assert_eq!(sequence, restored.sequence);
            (sequence, record)
        })
        .collect()
}

/// A record that was replayed, whole or from an index.
#[derive(Debug)]
pub(in crate::embedded) struct Found {
    pub(super) sequence: u64,
    pub(in crate::embedded) location: Location,
    pub(super) by_index: bool,
}

pub(in crate::embedded) fn found(recovered: &mut Recovered) -> Vec<Found> {
    let mut all = Vec::new();
    let found = recovered.replay(|replayed| {
        let (sequence, location, _) = replayed.place();
        let by_index = matches!(replayed, Replayed::Plain(_));
        all.push(Found { sequence, location, by_index });
    });
    found.unwrap();
    all
}
