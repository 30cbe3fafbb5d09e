//! Power cuts and failing syncs at every step of retirement, merging and recovery: the journal and the index on one disk
//! that tears what was not synced.
//!
//! Each seed is one store's life of several starts. The model is what was acknowledged: whatever happens, each order is in the
//! journal or in the index, and what the index says of it is what it was last told.

use std::collections::BTreeMap;

use super::*;
use crate::embedded::journal::tests::support::{accept, found, try_open_disk};
use crate::embedded::journal::{Journal, OpenError, Recovered, WriteError, WriteMode};
use crate::record::Record;

/// Lives that are lived; ten thousand with `FOREBAY_CRASH_SEEDS=10000 cargo test --release -p forebay-buffer whenever_the_power`.
fn seeds() -> u64 {
    let asked = option_env!("FOREBAY_CRASH_SEEDS").map(|seeds| seeds.parse().unwrap());
    asked.unwrap_or(if cfg!(debug_assertions) { 60 } else { 2_000 })
}

/// An order that was acknowledged.
#[derive(Debug, Default)]
struct Known {
    settled_at_ms: i64,
    /// The segment its record is in; `None` once its outcome was stored and that segment retired.
    epoch: Option<u64>,
    /// How often its outcome was stored before it was last; what is stored says so as its newest version.
    stored: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    orders: BTreeMap<u64, Known>,
    ids: u64,
    now_ms: i64,
    /// Merges that were done.
    merged: u64,
    /// Outcomes that were found after a start and were not in the journal.
    by_index: u64,
}

fn outcome_of(id: u64, settled_at_ms: i64, newest: Option<u64>) -> Outcome {
    Outcome { newest, ..outcome(id, settled_at_ms) }
}

struct Store {
    journal: Journal,
    outcomes: Outcomes,
}

impl Model {
    /// Every order is somewhere, and what is said of it is true.
    fn check(&mut self, store: &Store, recovered: &mut Recovered) {
        self.orders.values_mut().for_each(|known| known.epoch = None);
        for (id, epoch) in in_journal(&store.journal, recovered) {
            let known = self.orders.entry(id);
            let known =
                known.or_insert(Known { settled_at_ms: settled_at(id), ..Known::default() });
            known.epoch = Some(epoch);
        }
        for (id, known) in &self.orders {
            let found = find(&store.outcomes, *id);
            let expired = known.settled_at_ms <= self.now_ms - DAY_MS;
            if let Some(found) = &found {
                let right = outcome_of(*id, known.settled_at_ms, found.newest);
                assert_eq!(*found, right, "of order {id}");
                assert!(found.newest >= known.stored || expired, "an old outcome of {id}");
            }
            assert!(found.is_some() || known.epoch.is_some() || expired, "lost order {id}");
            self.by_index += u64::from(known.epoch.is_none() && found.is_some());
        }
    }

    /// One thing a writer, or the thread beside it, does.
    fn act(&mut self, store: &mut Store, random: &mut fastrand::Rng) -> Result<(), WriteError> {
        match random.u32(..12) {
            0 => store.journal.pump(),
            1 | 2 => {
                // Trouble of the index is no trouble of the buffer.
                if let Ok(true) = store.outcomes.keeper.shared.step() {
                    self.merged += 1;
                }
            }
            3..6 => self.retire(store, random)?,
            6 => self.now_ms += random.i64(0..DAY_MS / 8),
            _ => self.accept(&mut store.journal, random)?,
        }
        Ok(())
    }

    fn accept(
        &mut self,
        journal: &mut Journal,
        random: &mut fastrand::Rng,
    ) -> Result<(), WriteError> {
        let first = self.ids + 1;
        self.ids += random.u64(1..8);
        let records: Vec<_> =
            (first..=self.ids).map(|id| accept(id, random.usize(..3_000))).collect();
        let placed = match journal.append(&records) {
            Err(WriteError::Full | WriteError::TooLarge { .. }) => return Ok(()),
            placed => placed?,
        };
        for (id, placed) in (first..).zip(placed) {
            let epoch = Some(placed.location.epoch());
            let settled_at_ms = settled_at(id);
            self.orders.insert(id, Known { settled_at_ms, epoch, stored: None });
        }
        Ok(())
    }

    /// As the writer retires its oldest segment.
    fn retire(&mut self, store: &mut Store, random: &mut fastrand::Rng) -> Result<(), WriteError> {
        let oldest = store.journal.segments()[0].epoch;
        if oldest == store.journal.epoch() {
            return Ok(());
        }
        store.outcomes.expire(self.now_ms);
        let mut batch = store.outcomes.batch(oldest + 1);
        let mut told = Vec::new();
        for (id, known) in &self.orders {
            let late = known.epoch.is_none() && known.stored.is_some() && random.u8(..20) == 0;
            if late || known.epoch.is_some_and(|epoch| epoch <= oldest) {
                let stored = Some(known.stored.map_or(0, |stored| stored + 1));
                batch.add(hash(*id), &outcome_of(*id, known.settled_at_ms, stored));
                told.push((*id, stored));
            }
        }
        // What could not be stored keeps its segment.
        let Ok(stored) = batch.store() else { return Ok(()) };
        store.outcomes.stored(stored);
        for (id, stored) in told {
            self.orders.entry(id).and_modify(|known| known.stored = stored);
        }
        let below = oldest + 1;
        let checkpoint = Record::Checkpoint { retired_below: below, ended: vec![] };
        match store.journal.append(&[checkpoint]) {
            Err(WriteError::Full) => return Ok(()),
            appended => appended?,
        };
        store.journal.retire(below)?;
        let retired = |known: &&mut Known| known.epoch.is_some_and(|epoch| epoch < below);
        self.orders.values_mut().filter(retired).for_each(|known| known.epoch = None);
        Ok(())
    }
}

/// Some orders end long after, or before, others of their segment.
fn settled_at(id: u64) -> i64 {
    let stretch = DAY_MS / 8;
    10 * DAY_MS + i64::try_from(id % 3).unwrap() * stretch + id.cast_signed() * 40_000
}

/// The orders in the journal, by id, each with its segment.
fn in_journal(journal: &Journal, recovered: &mut Recovered) -> Vec<(u64, u64)> {
    let reader = journal.reader();
    let orders = found(recovered).into_iter().filter_map(|found| {
        let (_, record) = reader.read(found.location).unwrap();
        let id = record.delivery()?.envelope.key.id.parse().unwrap();
        Some((id, found.location.epoch()))
    });
    orders.collect()
}

/// Opens both, with the power going at random moments, until it stays on.
fn start(disk: &Disk, random: &mut fastrand::Rng, survives: f64) -> (Store, Recovered) {
    loop {
        if random.bool() {
            disk.cut_after(random.u64(..16));
        }
        let home = Home { directory: Box::new(disk.clone()), secret: SECRET, reserve: 0 };
        let opened = match try_open_disk(disk) {
            Ok((journal, recovered)) => {
                Outcomes::open_on(home, DAY).ok().map(|outcomes| (journal, recovered, outcomes))
            }
            Err(OpenError::Io { .. } | OpenError::NoRoom { .. }) => None,
            Err(error) => panic!("{error}"),
        };
        match opened {
            Some((journal, recovered, (outcomes, notes))) => {
                assert_eq!(notes, Vec::<String>::new(), "a crash is no damage");
                assert!(outcomes.stored_below() >= journal.retired_below(), "nor a loss");
                return (Store { journal, outcomes }, recovered);
            }
            None if disk.is_down() => disk.restart(random, survives),
            None => panic!("it does not open though nothing fails"),
        }
    }
}

fn life(seed: u64) -> (u64, u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let survives = [0.0, 0.5, 0.5, 0.9, 1.0][random.usize(..5)];
    let disk = Disk::of([WriteMode::Direct, WriteMode::Buffered][random.usize(..2)]);
    let mut model = Model { now_ms: 10 * DAY_MS, ..Model::default() };
    for _ in 0..6 {
        let (mut store, mut recovered) = start(&disk, &mut random, survives);
        model.check(&store, &mut recovered);
        match random.u32(..4) {
            0 => disk.fail_sync(random.u64(..60)),
            1 => {}
            _ => disk.cut_after(random.u64(..400)),
        }
        for _ in 0..150 {
            if model.act(&mut store, &mut random).is_err() {
                break;
            }
        }
        drop(store);
        disk.restart(&mut random, survives);
    }
    let (store, mut recovered) = start(&disk, &mut random, survives);
    model.check(&store, &mut recovered);
    (model.merged, model.by_index)
}

#[test]
fn every_order_is_in_the_journal_or_in_the_index_whenever_the_power_goes() {
    let lanes: Vec<_> = (0..2)
        .map(|lane| {
            std::thread::spawn(move || {
                let (mut merged, mut by_index) = (0, 0);
                for seed in (lane..seeds()).step_by(2) {
                    let lived = std::panic::catch_unwind(|| life(seed));
                    assert!(lived.is_ok(), "seed {seed}");
                    let (merges, found) = lived.unwrap_or_default();
                    merged += merges;
                    by_index += found;
                }
                (merged, by_index)
            })
        })
        .collect();
    for lane in lanes {
        let (merged, by_index) = lane.join().unwrap();
        assert!(merged > seeds() && by_index > 100 * seeds(), "{merged} merges, {by_index} found");
    }
}
