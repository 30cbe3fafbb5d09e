//! A directory looked at offline: all is read, nothing is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_buffer::{
    Buffer, DamageKind, Envelope, ExceptionCategory, InspectError, KeptOrder, LostOrder,
    OrderState, Verdict, inspect,
};
use forebay_order::{OrderKey, Readiness, RecordedAs};

use crate::support::{HandClock, SOON, START_MS, UNPAID, delivery, embedded, lend, post, with};

/// Room enough that nothing is carried forward.
const SLOT: u64 = 1 << 20;

fn key(id: &str) -> OrderKey {
    OrderKey::new("shopify", "demo", id)
}

/// Every file under `dir` with what it holds.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            all.push((path, bytes));
        }
    }
    all.sort();
    all
}

async fn summarise_one(buffer: &impl Buffer) {
    let lease = lend(buffer).await;
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease.settle(Verdict::Summarised { summary_id: "os-1".to_owned(), existing: false });
}

/// Five orders: summarised, rejected, pending twice, held; and a conflict with a body of its own.
async fn fill(dir: &Path) {
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir, SLOT, &clock);
    post(&buffer, delivery("1", 1, None)).await;
    summarise_one(&buffer).await;
    post(&buffer, delivery("2", 1, None)).await;
    let category = ExceptionCategory::Rejected;
    lend(&buffer).await.settle(Verdict::Exception { category, reason: "no such product".into() });
    post(&buffer, delivery("3", 1, None)).await;
    post(&buffer, delivery("4", 1, None)).await;
    post(&buffer, with(UNPAID, delivery("5", 1, None))).await;
    post(&buffer, delivery("4", 2, None)).await;
    buffer.close().await;
}

#[tokio::test]
async fn every_live_order_comes_with_its_bytes_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let before = files(dir.path());
    let seen = inspect(dir.path()).unwrap();
    assert!(seen.damages().is_empty(), "{:?}", seen.damages());
    assert_eq!(seen.notes(), &[] as &[String]);
    assert_eq!((seen.store().is_some(), seen.slot_bytes()), (true, SLOT));
    let orders: Vec<KeptOrder> = seen.orders().map(Result::unwrap).collect();
    let told: Vec<_> =
        orders.iter().map(|o| (o.key.id.as_str(), o.state, o.exception, o.body.as_ref())).collect();
    let conflict = Some(ExceptionCategory::Conflict);
    assert_eq!(
        told,
        [
            ("2", OrderState::Exception, None, b"body 2 1".as_slice()),
            ("3", OrderState::Pending, None, b"body 3 1"),
            ("4", OrderState::Pending, None, b"body 4 1"),
            ("5", OrderState::Held, None, b"body 5 1"),
            ("4", OrderState::Pending, conflict, b"body 4 2"),
        ]
    );
    let status = seen.status(START_MS);
    assert_eq!((status.live["pending"], status.ended["summarised"]), (2, 1));
    // Nobody can begin to write while somebody looks; a second look may be had.
    let clock: Arc<HandClock> = Arc::default();
    let config = crate::support::config(dir.path(), SLOT);
    let refused = forebay_buffer::Embedded::open(config, clock, Box::new(|_| {})).unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    drop(inspect(dir.path()).unwrap());
    drop(seen);
    assert_eq!(files(dir.path()), before);
}

#[tokio::test]
async fn a_directory_in_use_or_without_a_buffer_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = inspect(&dir.path().join("none")).unwrap_err();
    assert!(matches!(&missing, InspectError::Missing(_)), "{missing}");
    assert!(missing.to_string().contains("no buffer"), "{missing}");
    let buffer = embedded(dir.path(), SLOT, &Arc::default());
    let in_use = inspect(dir.path()).unwrap_err();
    assert!(in_use.to_string().contains("stop that one first"), "{in_use}");
    buffer.close().await;
}

/// Changes bytes of the only slot that holds `needle`, `by` bytes from it on.
fn damage(dir: &Path, needle: &[u8], by: isize, bytes: usize) {
    let mut hits = 0;
    for (path, mut content) in files(&dir.join("journal")) {
        let Some(at) = content.windows(needle.len()).position(|window| window == needle) else {
            continue;
        };
        hits += 1;
        let from = at.checked_add_signed(by).unwrap();
        content[from..from + bytes].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(path, content).unwrap();
    }
    assert_eq!(hits, 1);
}

#[tokio::test]
async fn damage_is_named_by_key_where_the_key_is_left_and_by_sequence_where_not() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    damage(dir.path(), b"body 3 1", 0, 1);
    // The whole group of another order, its descriptor with it.
    damage(dir.path(), b"body 5 1", -250, 258);
    let seen = inspect(dir.path()).unwrap();
    let [body, range] = seen.damages() else { panic!("{:?}", seen.damages()) };
    assert_eq!((body.kind, &body.key, body.proven), (DamageKind::Body, &Some(key("3")), true));
    assert_eq!((range.kind, &range.key, range.proven), (DamageKind::Range, &None, true));
    let (first, last) = range.sequences.unwrap();
    assert_eq!(first, last, "one record is gone");
    let lost: Vec<LostOrder> = seen.orders().filter_map(Result::err).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].key, Some(key("3")));
    assert!(lost[0].to_string().contains("damaged"), "{}", lost[0]);
    assert_eq!(seen.orders().filter(Result::is_ok).count(), 3);
}

#[tokio::test]
async fn a_lost_header_copy_is_listed_and_nothing_is_lost_with_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path()).await;
    let path = dir.path().join("journal/00000.seg");
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..8192].fill(0);
    fs::write(&path, bytes).unwrap();
    let seen = inspect(dir.path()).unwrap();
    let [header] = seen.damages() else { panic!("{:?}", seen.damages()) };
    assert_eq!((header.kind, header.offset, header.bytes), (DamageKind::Header, 4096, 4096));
    assert_eq!(seen.orders().filter(Result::is_ok).count(), 5);
}

#[tokio::test]
async fn a_damaged_run_of_the_outcome_index_is_named_with_its_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(HandClock::default());
    let buffer = embedded(dir.path(), 64 << 10, &clock);
    for n in 0..200 {
        let recorded = with(
            Readiness::Recorded(RecordedAs::Draft),
            Envelope { body: vec![b'x'; 2 << 10].into(), ..delivery(&n.to_string(), 1, None) },
        );
        post(&buffer, recorded).await;
    }
    let deadline = tokio::time::Instant::now() + SOON;
    while buffer.status().await.unwrap().outcomes.runs == 0 {
        assert!(tokio::time::Instant::now() < deadline, "no segment ever retired");
        tokio::task::yield_now().await;
    }
    buffer.close().await;
    drop(buffer);
    let found = inspect(dir.path()).unwrap();
    assert_eq!(found.damaged_runs().next(), None);
    assert!(found.status(START_MS).outcomes.outcomes > 0);
    drop(found);
    // A run that a merged one covers, and that is about to be removed, is not looked at any more.
    let runs = files(&dir.path().join("outcomes")).into_iter();
    let runs = runs.filter(|(path, _)| path.extension().is_some_and(|end| end == "run"));
    let mut names = Vec::new();
    for (path, mut bytes) in runs {
        bytes[100] ^= 1;
        fs::write(&path, bytes).unwrap();
        names.push(path.file_name().unwrap().to_owned());
    }
    let found = inspect(dir.path()).unwrap();
    let damaged: Vec<_> = found.damaged_runs().collect();
    assert!(!damaged.is_empty());
    for run in damaged {
        assert_eq!(run.blocks, Some(1));
        assert!(names.contains(&run.name.clone().into()), "{run:?}");
    }
}
