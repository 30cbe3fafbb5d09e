//! Directories that are not as they should be: a clear error that says what to do, or a start that says what it left alone.
//! Nothing is deleted, nothing guessed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_buffer::{Buffer, Embedded};

use crate::support::{HandClock, config, delivery, embedded, post};

const SLOT: u64 = 64 << 10;

async fn fill(dir: &Path, ids: std::ops::Range<u32>) {
    let buffer = embedded(dir, SLOT, &Arc::default());
    for id in ids {
        post(&buffer, delivery(&id.to_string(), 1, None)).await;
    }
    buffer.close().await;
}

fn refused(dir: &Path) -> String {
    let clock: Arc<HandClock> = Arc::default();
    Embedded::open(config(dir, SLOT), clock, Box::new(|_| {})).unwrap_err().to_string()
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    all.sort();
    all
}

/// Sets the field that says which readers understand a slot, in both copies of its header.
fn written_by_a_later_release(slot: &Path) {
    let mut bytes = fs::read(slot).unwrap();
    for block in [0, 4096] {
        bytes[block + 10] = 2;
        let crc = crc32c::crc32c(&bytes[block..block + 4092]).to_le_bytes();
        bytes[block + 4092..block + 4096].copy_from_slice(&crc);
    }
    fs::write(slot, bytes).unwrap();
}

#[tokio::test]
async fn a_directory_of_a_later_release_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 0..3).await;
    let journal = dir.path().join("journal");
    written_by_a_later_release(&journal.join("00000.seg"));
    let before = files(&journal);
    let error = refused(dir.path());
    assert!(error.contains("00000.seg") && error.contains("release that wrote it"), "{error}");
    assert_eq!(files(&journal), before);
}

#[tokio::test]
async fn foreign_files_are_left_alone_and_those_that_look_like_slots_are_named() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(dir.path(), 0..3).await;
    fill(other.path(), 0..3).await;
    let journal = dir.path().join("journal");
    let foreign = [
        ("notes.txt", b"not ours".to_vec()),
        ("00090.seg", b"not a slot".repeat(10_000)),
        ("00091.seg", fs::read(other.path().join("journal/00000.seg")).unwrap()),
    ];
    for (name, bytes) in &foreign {
        fs::write(journal.join(name), bytes).unwrap();
    }
    let buffer = embedded(dir.path(), SLOT, &Arc::default());
    let status = buffer.status().await.unwrap();
    assert_eq!(status.live["pending"], 3);
    let said = status.recovery.join("\n");
    assert!(said.contains("00090.seg cannot be read"), "{said}");
    assert!(said.contains("00091.seg belongs to another store"), "{said}");
    post(&buffer, delivery("new", 1, None)).await;
    buffer.close().await;
    for (name, bytes) in &foreign {
        assert!(fs::read(journal.join(name)).unwrap() == *bytes, "{name} was touched");
    }
}

#[tokio::test]
async fn a_copied_directory_opens_with_everything_and_so_does_the_original() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(dir.path(), 0..5).await;
    fs::create_dir(copy.path().join("journal")).unwrap();
    for (path, bytes) in files(&dir.path().join("journal")) {
        fs::write(copy.path().join("journal").join(path.file_name().unwrap()), bytes).unwrap();
    }
    for home in [copy.path(), dir.path()] {
        let buffer = embedded(home, SLOT, &Arc::default());
        let status = buffer.status().await.unwrap();
        assert_eq!((status.live["pending"], status.recovery.len()), (5, 0));
        buffer.close().await;
    }
}

#[tokio::test]
async fn what_cannot_be_written_or_is_no_directory_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    // A file where the directory should be.
    let file = dir.path().join("file");
    fs::write(&file, b"a file").unwrap();
    let error = refused(&file);
    assert!(error.contains(&file.display().to_string()), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"a file");
    // Nobody can make a directory there, not even the superuser.
    let error = refused(Path::new("/proc/forebay"));
    assert!(error.contains("/proc/forebay") && error.contains("data_dir"), "{error}");
    // A slot that cannot be opened for writing.
    fill(&dir.path().join("store"), 0..3).await;
    let journal = dir.path().join("store/journal");
    fs::remove_file(journal.join("00000.seg")).unwrap();
    fs::create_dir(journal.join("00000.seg")).unwrap();
    let error = refused(&dir.path().join("store"));
    assert!(error.contains("00000.seg"), "{error}");
}

#[tokio::test]
async fn a_directory_that_vanishes_under_a_running_buffer_ends_it_loudly() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("store");
    let (failed, why) = tokio::sync::oneshot::channel();
    let clock: Arc<HandClock> = Arc::default();
    let on_failure = Box::new(move |reason| failed.send(reason).unwrap());
    let buffer = Embedded::open(config(&home, SLOT), clock, on_failure).unwrap();
    post(&buffer, delivery("1", 1, None)).await;
    remove_while_written(&home);
    let permit = buffer.admission().admit(10).unwrap();
    buffer.append(delivery("2", 1, None), permit).await.unwrap_err();
    let why = why.await.unwrap();
    assert!(why.contains("was removed while in use"), "{why}");
    assert!(buffer.health().is_err());
}

/// Removes a directory in which slots are still being made, which may be in the way of it once or twice.
fn remove_while_written(dir: impl AsRef<std::path::Path>) {
    let removed = (0..1_000).any(|_| std::fs::remove_dir_all(dir.as_ref()).is_ok());
    assert!(removed, "a thousand times in the way");
}
