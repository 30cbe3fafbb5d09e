//! What is kept, given up, damaged, and what a reader is told of it.

use std::time::Duration;

use super::*;
use crate::embedded::feed::Keeper;
use crate::embedded::journal::WriteMode;
use crate::embedded::journal::tests::disk::Disk;
use crate::{BufferError, Clock, FeedCursor, FeedError, FeedPage};

/// Bytes of a slot.
const SLOT: u64 = 8 << 10;

type Opened = (Keeper, Option<u64>, Vec<String>);

/// A clock that is moved on, in seconds.
#[derive(Default)]
struct Ticking(std::sync::atomic::AtomicU64);

impl Clock for Ticking {
    fn wall_ms(&self) -> i64 {
        0
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}

pub(super) fn try_open(disk: &Disk, slots: u64) -> std::io::Result<Opened> {
    open_by(disk, slots, &Arc::new(SystemClock))
}

fn open_by<C: Clock>(disk: &Disk, slots: u64, clock: &Arc<C>) -> std::io::Result<Opened> {
    let home = Home {
        directory: Box::new(disk.clone()),
        secret: [7; 16],
        slot_bytes: SLOT,
        bytes_max: slots * SLOT,
        leaves: SLOT,
    };
    Keeper::open(home, Arc::clone(clock) as Arc<dyn Clock>)
}

/// The feed on that disk, begun after 0 if there is none.
fn open(disk: &Disk, slots: u64) -> (Keeper, u64, Vec<String>) {
    let (mut keeper, told, notes) = try_open(disk, slots).unwrap();
    if told.is_none() {
        keeper.begin_after(0).unwrap();
    }
    (keeper, told.unwrap_or_default(), notes)
}

/// Tells events of these sequences, a few in each call.
fn tell(keeper: &mut Keeper, sequences: std::ops::RangeInclusive<u64>) {
    let sequences: Vec<_> = sequences.collect();
    for some in sequences.chunks(5) {
        let told = *some.last().unwrap();
        keeper.tell(some.iter().map(|sequence| event(*sequence, 0)), told).unwrap();
    }
}

async fn page(keeper: &Keeper, after: u64, limit: usize) -> Result<FeedPage, FeedError> {
    let shared = keeper.shared();
    shared.reached(u64::MAX);
    shared.page(&FeedCursor::after(after), limit, Duration::ZERO, || BufferError::Closing).await
}

/// Sequences of all events after one.
pub(super) async fn all(keeper: &Keeper, mut after: u64) -> Vec<u64> {
    let mut sequences = Vec::new();
    loop {
        let page = page(keeper, after, 7).await.unwrap();
        if page.next.sequence() == after {
            return sequences;
        }
        for event in page.events {
            assert_eq!(event, super::event(event.sequence, 0));
            sequences.push(event.sequence);
        }
        after = page.next.sequence();
    }
}

async fn oldest(keeper: &Keeper) -> u64 {
    match page(keeper, 0, 1).await {
        Err(FeedError::Gone { oldest }) => oldest,
        Ok(_) => 0,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn the_oldest_slot_is_given_up_and_its_readers_are_told() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 4);
    tell(&mut keeper, 1..=100);
    assert_eq!(all(&keeper, 0).await, (1..=100).collect::<Vec<_>>());
    tell(&mut keeper, 101..=2_000);
    let oldest = oldest(&keeper).await;
    assert!((1_500..2_000).contains(&oldest), "{oldest}");
    assert_eq!(all(&keeper, oldest).await, (oldest + 1..=2_000).collect::<Vec<_>>());
    assert!(matches!(page(&keeper, oldest - 1, 1).await, Err(FeedError::Gone { .. })));
    let names = crate::embedded::files::Directory::names(&disk).unwrap();
    assert_eq!(names.len(), 4, "{names:?}");
    // The same after a start, and with less to be kept there is less.
    keeper.sync().unwrap();
    drop(keeper);
    let (mut keeper, told, notes) = open(&disk, 2);
    assert_eq!((told, notes), (2_000, vec![]));
    assert_eq!(all(&keeper, oldest).await.len() as u64, 2_000 - oldest);
    tell(&mut keeper, 2_001..=2_200);
    let names = crate::embedded::files::Directory::names(&disk).unwrap();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(all(&keeper, 2_100).await, (2_101..=2_200).collect::<Vec<_>>());
}

#[tokio::test]
async fn it_goes_on_at_0_bytes_free() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 16);
    tell(&mut keeper, 1..=200);
    disk.set_full(true);
    tell(&mut keeper, 201..=2_000);
    let oldest = oldest(&keeper).await;
    assert!(oldest > 1_500, "{oldest}");
    assert_eq!(all(&keeper, oldest).await, (oldest + 1..=2_000).collect::<Vec<_>>());
    disk.set_full(false);
    tell(&mut keeper, 2_001..=4_000);
    assert_eq!(all(&keeper, 2_000).await.len(), 2_000, "it grows again");
}

#[tokio::test]
async fn without_room_for_a_single_slot_what_is_told_is_gone_and_said_to_be() {
    let disk = Disk::of(WriteMode::Buffered);
    disk.set_full(true);
    let (mut keeper, ..) = open(&disk, 4);
    tell(&mut keeper, 1..=100);
    assert!(matches!(page(&keeper, 0, 1).await, Err(FeedError::Gone { oldest: 100 })));
    assert!(all(&keeper, 100).await.is_empty());
    keeper.sync().unwrap();
    assert!(keeper.shared().is_synced(100), "a segment need not wait for it");
}

/// Under a quota, on a file system that writes nothing in place.
#[tokio::test]
async fn where_not_even_what_is_there_can_be_written_to_it_goes_on_and_recovers_by_itself() {
    let disk = Disk::of(WriteMode::Buffered);
    let clock = Arc::new(Ticking::default());
    let (mut keeper, ..) = open_by(&disk, 4, &clock).unwrap();
    keeper.begin_after(0).unwrap();
    tell(&mut keeper, 1..=100);
    disk.set_copies();
    disk.set_full(true);
    // Where the last sector is filled up, and where a frame is written.
    keeper.sync().unwrap();
    assert!(keeper.shared().is_synced(100), "a segment need not wait for it");
    tell(&mut keeper, 101..=300);
    keeper.sync().unwrap();
    assert!(keeper.shared().is_synced(300));
    assert_eq!(oldest(&keeper).await, 300);
    drop(keeper);
    // A start.
    let (mut keeper, told, notes) = open_by(&disk, 4, &clock).unwrap();
    assert!(told.is_none() || notes.is_empty(), "{told:?} {notes:?}");
    keeper.begin_after(300).unwrap();
    keeper.sync().unwrap();
    disk.set_full(false);
    clock.0.fetch_add(10, std::sync::atomic::Ordering::SeqCst);
    tell(&mut keeper, 301..=400);
    let after = oldest(&keeper).await;
    assert!((300..310).contains(&after), "{after}");
    assert_eq!(all(&keeper, after).await, (after + 1..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_slot_that_is_removed_for_its_damage_is_said() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 8);
    tell(&mut keeper, 1..=500);
    keeper.sync().unwrap();
    let oldest = keeper.shared().slots()[0].number;
    drop(keeper);
    // One that was only being made is nothing to speak of.
    crate::embedded::files::Directory::create(&disk, "77.feed").unwrap();
    disk.damage_file(&format!("{oldest}.feed"), |bytes| bytes[100] ^= 1);
    let (_, told, notes) = open(&disk, 8);
    assert_eq!((told, notes.len()), (500, 1), "{notes:?}");
    assert!(notes[0].starts_with(&format!("{oldest}.feed")), "{notes:?}");
}

#[tokio::test]
async fn damage_is_passed_over_and_said() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 4);
    tell(&mut keeper, 1..=60);
    keeper.sync().unwrap();
    tell(&mut keeper, 61..=70);
    keeper.sync().unwrap();
    drop(keeper);
    disk.damage_file("1.feed", |bytes| bytes[1_700] ^= 1);
    let (keeper, told, notes) = open(&disk, 4);
    assert_eq!(told, 70);
    assert!(notes.len() == 1 && notes[0].contains("damaged at 1 places"), "{notes:?}");
    let left = all(&keeper, 0).await;
    assert_eq!(left.len(), 65, "the five of one call are gone: {left:?}");
    assert!(left.contains(&1) && left.contains(&70));
}

#[tokio::test]
async fn a_reader_is_not_held_up_where_the_newest_is_damaged() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 4);
    tell(&mut keeper, 1..=5);
    disk.damage_file("1.feed", |bytes| bytes[600] ^= 1);
    let page = page(&keeper, 0, 10).await.unwrap();
    assert_eq!((page.events.len(), page.next), (0, FeedCursor::after(5)));
}

#[tokio::test]
async fn a_part_that_is_missing_is_not_told_across() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 8);
    tell(&mut keeper, 1..=500);
    keeper.sync().unwrap();
    let slots = keeper.shared().slots();
    assert!(slots.len() >= 4, "{}", slots.len());
    let (second, third) = (slots[1].number, slots[2].base);
    drop((keeper, slots));
    crate::embedded::files::Directory::remove(&disk, &format!("{second}.feed")).unwrap();
    let (keeper, told, notes) = open(&disk, 8);
    assert_eq!((told, notes.len()), (500, 1));
    assert_eq!(oldest(&keeper).await, third);
    assert_eq!(all(&keeper, third).await, (third + 1..=500).collect::<Vec<_>>());
}

#[test]
fn a_record_that_no_slot_can_hold_does_not_end_the_feed() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 4);
    keeper.tell((0..1_000).map(|part| event(3, part)), 3).unwrap();
    tell(&mut keeper, 4..=8);
    assert_eq!(keeper.shared().slots().first().unwrap().base, 3);
}

#[test]
fn a_sync_that_fails_is_not_passed_over() {
    let disk = Disk::of(WriteMode::Buffered);
    let (mut keeper, ..) = open(&disk, 4);
    tell(&mut keeper, 1..=5);
    disk.fail_sync(0);
    keeper.sync().unwrap_err();
    assert!(!keeper.shared().is_synced(5));
}
