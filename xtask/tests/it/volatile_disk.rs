//! The disk itself: what was synced survives a cut, what was not does not, in both write modes.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use xtask::volatile_disk::{Cut, Fault, Mark, SECTOR, VolatileDisk, missing_means};

const BLOCK: usize = 64 << 10;
const BLOCKS: usize = 200;
const DISK_BYTES: u64 = 128 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Buffered,
    Direct,
}

/// What is found of the blocks after the cut.
#[derive(Debug, Default, PartialEq)]
struct Found {
    whole: usize,
    torn: usize,
    gone: usize,
}

/// What the disk said of the cut: at it, and of what came too late.
#[derive(Debug)]
struct Said {
    cut: Cut,
    late: u64,
}

fn disk_or_say_why() -> Option<VolatileDisk> {
    if let Some(why) = missing_means() {
        assert!(std::env::var_os("CI").is_none(), "missing in CI: {why}");
        writeln!(std::io::stderr().lock(), "skipped: {why}").ok();
        return None;
    }
    let xtask = Path::new(env!("CARGO_BIN_EXE_xtask"));
    Some(VolatileDisk::start(xtask, DISK_BYTES, 11).unwrap())
}

/// A block's bytes: its number in every sector, at an address direct I/O accepts.
fn aligned(buffer: &mut Vec<u8>, block: usize) -> &[u8] {
    buffer.clear();
    buffer.resize(BLOCK + 4096, u8::try_from(block % 255 + 1).unwrap());
    let start = buffer.as_ptr().align_offset(4096);
    &buffer[start..start + BLOCK]
}

fn open(path: &Path, mode: Mode) -> File {
    let direct = if mode == Mode::Direct { rustix::fs::OFlags::DIRECT.bits() } else { 0 };
    OpenOptions::new().read(true).write(true).custom_flags(direct.cast_signed()).open(path).unwrap()
}

/// Lays the file out durably with zeros, so that only the blocks' own bytes are at stake, then
/// writes the blocks, cuts, and says what is there afterwards.
fn write_cut_and_look(mode: Mode, synced: bool, survival: f64) -> Option<(Said, Found)> {
    let mut disk = disk_or_say_why()?;
    let path = disk.data().join("blocks");
    std::fs::write(&path, vec![0; BLOCK * BLOCKS]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    File::open(disk.data()).unwrap().sync_all().unwrap();

    let mut file = open(&path, mode);
    let mut buffer = Vec::new();
    for block in 0..BLOCKS {
        file.write_all(aligned(&mut buffer, block)).unwrap();
    }
    if synced {
        file.sync_data().unwrap();
    }
    drop(file);
    let cut = disk.cut(survival).unwrap();
    let late = disk.power_on().unwrap();

    let mut bytes = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), BLOCK * BLOCKS);
    let mut found = Found::default();
    for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
        let expected = u8::try_from(block % 255 + 1).unwrap();
        let kept = bytes.iter().filter(|byte| **byte == expected).count();
        match kept {
            BLOCK => found.whole += 1,
            0 => found.gone += 1,
            _ => found.torn += 1,
        }
        assert!(bytes.iter().all(|byte| *byte == expected || *byte == 0));
        assert_eq!(kept % SECTOR, 0, "a sector is whole or not there");
    }
    disk.stop().unwrap();
    Some((Said { cut, late }, found))
}

#[test]
fn unsynced_buffered_writes_are_gone() {
    let Some((said, found)) = write_cut_and_look(Mode::Buffered, false, 0.0) else { return };
    assert_eq!(found, Found { gone: BLOCKS, ..Found::default() });
    let dropped = said.cut.dropped + said.late;
    assert!(dropped >= (BLOCK * BLOCKS / SECTOR) as u64, "the cut fired: {said:?}");
}

#[test]
fn unsynced_direct_writes_are_gone() {
    let Some((Said { cut, .. }, found)) = write_cut_and_look(Mode::Direct, false, 0.0) else {
        return;
    };
    assert_eq!(found, Found { gone: BLOCKS, ..Found::default() });
    let sectors = (BLOCK * BLOCKS / SECTOR) as u64;
    assert!(cut.unsynced >= sectors && cut.dropped == cut.unsynced, "the cut fired: {cut:?}");
}

#[test]
fn unsynced_direct_writes_are_torn_where_half_the_sectors_survive() {
    let Some((Said { cut, .. }, found)) = write_cut_and_look(Mode::Direct, false, 0.5) else {
        return;
    };
    assert_eq!(found, Found { torn: BLOCKS, ..Found::default() });
    assert!(cut.dropped > 0 && cut.dropped < cut.unsynced, "{cut:?}");
}

#[test]
fn a_kind_disk_keeps_unsynced_direct_writes() {
    let Some((Said { cut, .. }, found)) = write_cut_and_look(Mode::Direct, false, 1.0) else {
        return;
    };
    assert_eq!(found, Found { whole: BLOCKS, ..Found::default() });
    assert!(cut.unsynced > 0 && cut.dropped == 0, "{cut:?}");
}

#[test]
fn synced_writes_survive_in_both_modes() {
    for mode in [Mode::Buffered, Mode::Direct] {
        for survival in [0.0, 0.5] {
            let Some((_, found)) = write_cut_and_look(mode, true, survival) else { return };
            assert_eq!(found, Found { whole: BLOCKS, ..Found::default() });
        }
    }
}

#[test]
fn a_disk_whose_user_lets_go_leaves_no_mount() {
    let Some(disk) = disk_or_say_why() else { return };
    let data = disk.data().to_owned();
    let mounted = || {
        std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(data.to_str().unwrap())
    };
    assert!(mounted());
    drop(disk);
    assert!(!mounted());
    assert!(!data.exists());
}

#[test]
fn a_sync_that_fails_drops_its_pages_and_the_next_one_succeeds() {
    let Some(mut disk) = disk_or_say_why() else { return };
    let path = disk.data().join("blocks");
    std::fs::write(&path, vec![1; BLOCK]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();

    let mut file = open(&path, Mode::Buffered);
    file.write_all(&vec![2; BLOCK]).unwrap();
    disk.arm(Fault::Sync, 0).unwrap();
    assert!(file.sync_data().is_err());
    assert_eq!(disk.failed().unwrap(), 1, "the disk says that it failed");
    file.sync_data().expect("the trap: the next sync succeeds");
    drop(file);
    disk.cut(1.0).unwrap();
    disk.power_on().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vec![1; BLOCK], "and nothing had been written");
    disk.stop().unwrap();
}

#[test]
fn a_disk_hangs_at_the_write_that_bears_a_mark_and_a_cut_meets_it() {
    let Some(mut disk) = disk_or_say_why() else { return };
    let path = disk.data().join("blocks");
    std::fs::write(&path, vec![0; 3 * BLOCK]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    let one = aligned(&mut Vec::new(), 0)[0];
    let mark = Mark { magic: [one + 1; 4], at: 60, mask: 0xf0, bits: (one + 1) & 0xf0 };
    disk.hold_at(mark, 0).unwrap();
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let (mut file, mut buffer) = (open(&path, Mode::Direct), Vec::new());
            file.write_all(aligned(&mut buffer, 0)).unwrap();
            file.sync_data().unwrap();
            file.write_all(aligned(&mut buffer, 1)).unwrap();
            file.sync_data().is_ok()
        }
    });
    // Each question goes to the disk's process and back, so these take many seconds.
    assert!((0..1_000_000).any(|_| disk.is_hit(false).unwrap()), "the mark never came");
    disk.cut(0.0).unwrap();
    assert!(!writer.join().unwrap(), "its sync waited, and found no power");
    disk.power_on().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[..BLOCK].iter().all(|byte| *byte == one), "what came before was synced");
    assert!(bytes[BLOCK..].iter().all(|byte| *byte == 0), "what bore the mark was not");
    disk.stop().unwrap();
}

#[test]
fn a_disk_that_hangs_lets_a_sync_wait_until_it_goes_on() {
    let Some(mut disk) = disk_or_say_why() else { return };
    let path = disk.data().join("block");
    std::fs::write(&path, vec![1; BLOCK]).unwrap();
    File::open(&path).unwrap().sync_all().unwrap();
    disk.hold().unwrap();
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    let writer = std::thread::spawn({
        let path = path.clone();
        move || {
            let mut file = open(&path, Mode::Buffered);
            file.write_all(&vec![2; BLOCK]).unwrap();
            done.send(file.sync_data().is_ok()).unwrap();
        }
    });
    let wait = std::time::Duration::from_millis(500);
    assert!(is_done.recv_timeout(wait).is_err(), "it hangs");
    assert!(disk.let_go().unwrap() > 0);
    assert!(is_done.recv().unwrap());
    writer.join().unwrap();
    disk.cut(0.0).unwrap();
    disk.power_on().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vec![2; BLOCK]);
    disk.stop().unwrap();
}
