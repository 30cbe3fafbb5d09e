//! Directories that are not as they should be: each a clear error that says what to do, or an orderly run,
//! and nothing in them deleted or guessed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::bodies::{JSON, own};
use crate::harness::{Forebay, Request, WAIT};

/// Slots of 1 MiB, and a drain so slow that orders stay.
const CONFIG: &str = "[door]\nitem_bytes = \"256KiB\"\n\
    [buffer]\nslot_bytes = \"1MiB\"\nburst_reserve = 1\ndisk_max = \"16MiB\"\n\
    [drain]\nceiling_per_s = 0.001\n";

/// A server that took three orders and was stopped.
fn stopped() -> Forebay {
    let mut server = Forebay::start(CONFIG);
    for id in ["1", "2", "3"] {
        let answer = post(&server, id);
        assert_eq!(answer, 202);
    }
    assert!(server.stop().success(), "{}", server.log());
    server
}

fn post(server: &Forebay, id: &str) -> u16 {
    server.post("forebay", JSON, own(id, "10.00").as_bytes()).status
}

/// The three orders are there, and a new one is taken.
fn serves(server: &mut Forebay) {
    for id in ["1", "2", "3"] {
        assert_eq!(post(server, id), 200, "order {id} is known\n{}", server.log());
    }
    assert_eq!(post(server, "new"), 202, "{}", server.log());
}

fn journal(server: &Forebay) -> PathBuf {
    server.data_dir().join("buffer/journal")
}

fn slots(server: &Forebay) -> Vec<PathBuf> {
    let mut slots: Vec<_> =
        std::fs::read_dir(journal(server)).unwrap().map(|entry| entry.unwrap().path()).collect();
    slots.sort();
    slots
}

/// Every file below a directory, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

/// A command that must end by itself: its exit code and what it said on stderr.
#[expect(clippy::disallowed_methods, reason = "a child's end is asked for, with a deadline")]
fn ended(command: &mut Command) -> (Option<i32>, String) {
    let said = tempfile::NamedTempFile::new().unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.reopen().unwrap())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if start.elapsed() > WAIT {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("still running: {}", std::fs::read_to_string(said.path()).unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (status.code(), std::fs::read_to_string(said.path()).unwrap())
}

/// `serve` on the directory of a server, as its own command line has it.
fn serve(server: &Forebay, through: &[&str]) -> Command {
    let binary = env!("CARGO_BIN_EXE_forebay");
    let mut words = through.iter().copied().chain([binary]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .args(["serve", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data_dir())
        .arg("--config")
        .arg(server.beside().join("forebay.toml"));
    command
}

/// Changes bytes of both headers of a slot, and makes their checksums right again.
fn rewrite_headers(slot: &Path, change: impl Fn(&mut [u8])) {
    let file = File::options().read(true).write(true).open(slot).unwrap();
    for at in [0, 4096] {
        let mut header = vec![0; 4096];
        file.read_exact_at(&mut header, at).unwrap();
        change(&mut header);
        let crc = crc32c::crc32c(&header[..4092]);
        header[4092..].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&header, at).unwrap();
    }
}

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    let mut server = stopped();
    for change in [
        // Another format altogether.
        (|header: &mut [u8]| header[6] = b'2') as fn(&mut [u8]),
        // A reader of format 2 is needed.
        |header| header[10] = 2,
        // A flag that must be understood.
        |header| header[14] = 1,
    ] {
        let slot = slots(&server).remove(0);
        let good = std::fs::read(&slot).unwrap();
        rewrite_headers(&slot, change);
        let before = contents(&server.data_dir());
        let (code, said) = ended(&mut serve(&server, &[]));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("00000.seg") && said.contains("open it with"), "{said}");
        assert!(contents(&server.data_dir()) == before, "nothing was touched");
        std::fs::write(&slot, good).unwrap();
    }
    server.start_again();
    serves(&mut server);
}

#[test]
fn foreign_files_are_left_alone_and_reported_where_they_look_like_slots() {
    let mut server = stopped();
    let other = stopped();
    let journal = journal(&server);
    std::fs::write(journal.join("notes.txt"), "not a slot").unwrap();
    std::fs::write(journal.join("7.seg"), "not a slot's name").unwrap();
    std::fs::create_dir(journal.join("lost+found")).unwrap();
    // A slot of another store, and bytes that are no slot, under names of slots.
    std::fs::copy(&slots(&other)[0], journal.join("00070.seg")).unwrap();
    std::fs::write(journal.join("00071.seg"), vec![b'x'; 1 << 20]).unwrap();
    let foreign = ["notes.txt", "7.seg", "00070.seg", "00071.seg"];
    let read = || foreign.map(|name| std::fs::read(journal.join(name)).unwrap());
    let before = read();
    server.start_again();
    serves(&mut server);
    let notes = server.view("/v1/status")["buffer"]["recovery"].to_string();
    for name in ["00070.seg", "00071.seg"] {
        assert!(notes.contains(name), "{notes}");
    }
    assert!(server.stop().success(), "{}", server.log());
    assert!(read() == before, "nothing of others was touched");
    assert!(journal.join("lost+found").is_dir());
}

#[test]
fn a_second_process_is_refused_and_the_first_goes_on() {
    let mut server = Forebay::start(CONFIG);
    for id in ["1", "2", "3"] {
        assert_eq!(post(&server, id), 202);
    }
    let (code, said) = ended(&mut serve(&server, &[]));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process; stop that one first"), "{said}");
    serves(&mut server);
    server.kill();
    server.start_again();
    assert_eq!(post(&server, "new"), 200, "{}", server.log());
}

#[test]
fn a_copied_directory_runs_beside_its_original() {
    let mut server = stopped();
    let mut copy = stopped();
    std::fs::remove_dir_all(copy.data_dir()).unwrap();
    let status =
        Command::new("cp").arg("-r").arg(server.data_dir()).arg(copy.data_dir()).status().unwrap();
    assert!(status.success());
    server.start_again();
    copy.start_again();
    serves(&mut server);
    serves(&mut copy);
    for server in [&mut server, &mut copy] {
        assert_eq!(server.view("/v1/status")["buffer"]["recovery"].to_string(), "[]");
        assert!(server.stop().success(), "{}", server.log());
    }
}

/// An order whose body has that many bytes.
fn padded(id: &str, bytes: usize) -> Vec<u8> {
    let order = own(id, "10.00");
    let (head, rest) = order.split_at(1);
    format!("{head}{}{rest}", " ".repeat(bytes.saturating_sub(order.len()))).into_bytes()
}

#[test]
fn a_slot_that_vanished_is_told_and_the_rest_is_served() {
    let mut server = Forebay::start(CONFIG);
    // Enough for two segments, so full that nothing is carried out of the first.
    for id in 0..100 {
        let body = padded(&id.to_string(), 16 << 10);
        assert_eq!(server.post("forebay", JSON, &body).status, 202, "{}", server.log());
    }
    assert!(server.stop().success(), "{}", server.log());
    let first = padded("0", 16 << 10);
    let holds = |slot: &PathBuf| {
        std::fs::read(slot).unwrap().windows(first.len()).any(|window| window == first)
    };
    let gone: Vec<_> = slots(&server).into_iter().filter(holds).collect();
    assert_eq!(gone.len(), 1);
    std::fs::remove_file(&gone[0]).unwrap();
    server.start_again();
    let notes = server.view("/v1/status")["buffer"]["recovery"].to_string();
    assert!(notes.contains("is missing"), "{notes}");
    assert_eq!(server.post("forebay", JSON, &padded("99", 16 << 10)).status, 200);
    assert_eq!(server.post("forebay", JSON, &first).status, 202, "sent again it is taken again");
}

/// Whether a means of a test is there; CI must have it.
fn there_is(means: &str, works: bool) -> bool {
    assert!(works || std::env::var_os("CI").is_none(), "CI must have {means}");
    if !works {
        println!("skipped: no {means}");
    }
    works
}

fn works(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

#[test]
fn a_read_only_directory_is_refused_and_left_as_it_is() {
    let mounts = ["unshare", "--mount", "--map-root-user"];
    if !there_is("unshare --mount", works(Command::new(mounts[0]).args(&mounts[1..]).arg("true"))) {
        return;
    }
    let mut server = stopped();
    let before = contents(&server.data_dir());
    let data_dir = server.data_dir();
    let read_only = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let through = [&mounts[..], &["sh", "-c", read_only, data_dir.to_str().unwrap()]].concat();
    let (code, said) = ended(&mut serve(&server, &through));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    assert!(said.contains(data_dir.to_str().unwrap()), "{said}");
    assert!(contents(&data_dir) == before);
    server.start_again();
    serves(&mut server);
}

/// A directory in which nothing can be made or removed until this is dropped.
struct Immutable(PathBuf);

impl Immutable {
    fn set(dir: PathBuf) -> Option<Self> {
        works(Command::new("chattr").arg("+i").arg(&dir)).then_some(Self(dir))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        works(Command::new("chattr").arg("-i").arg(&self.0));
    }
}

#[test]
fn a_directory_that_becomes_read_only_ends_the_process_and_loses_nothing() {
    let mut server = Forebay::start(CONFIG);
    let post = |server: &Forebay, id: usize| {
        let body = padded(&id.to_string(), 64 << 10);
        let request = Request::post("/v1/channels/forebay/orders", &body);
        request.header("Content-Type", JSON).send(server.orders).map(|answer| answer.status)
    };
    assert!(matches!(post(&server, 0), Ok(202)));
    let immutable = Immutable::set(journal(&server));
    if !there_is("chattr +i", immutable.is_some()) {
        return;
    }
    // Until no further slot can be made: at once, where one was just being made.
    let taken = (0..1_000).take_while(|id| matches!(post(&server, *id), Ok(200 | 202))).count();
    assert!(taken < 1_000, "{taken}");
    let taken = taken.max(1);
    assert_eq!(server.wait().code(), Some(70), "{}", server.log());
    let log = server.log();
    let said = log.lines().last().unwrap();
    assert!(said.contains("making a slot") && said.contains("not permitted"), "{said}");
    drop(immutable);
    server.start_again();
    for id in 0..taken {
        assert!(matches!(post(&server, id), Ok(200)), "{id}");
    }
    assert!(matches!(post(&server, 1_000), Ok(202)));
}

#[test]
fn a_directory_that_is_moved_while_it_is_in_use_keeps_what_is_acknowledged() {
    let mut server = Forebay::start(CONFIG);
    for id in ["1", "2"] {
        assert_eq!(post(&server, id), 202);
    }
    let aside = server.beside().join("aside");
    std::fs::rename(server.data_dir(), &aside).unwrap();
    let answer = post(&server, "3");
    assert!(answer == 202 || answer == 503, "{answer}");
    server.kill();
    std::fs::rename(&aside, server.data_dir()).unwrap();
    server.start_again();
    let again = post(&server, "3");
    assert_eq!(again, if answer == 202 { 200 } else { 202 }, "{}", server.log());
    for id in ["1", "2"] {
        assert_eq!(post(&server, id), 200, "{}", server.log());
    }
}

/// A clock that is ahead by `CLOCK_AHEAD_S`, to be loaded before the C library.
const CLOCK_C: &str = "
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *time) {
    const char *ahead = getenv(\"CLOCK_AHEAD_S\");
    long failed = syscall(SYS_clock_gettime, id, time);
    if (!failed && id == CLOCK_REALTIME && ahead) time->tv_sec += atol(ahead);
    return (int)failed;
}
";

#[test]
fn a_clock_that_goes_back_between_runs_is_not_followed_by_what_is_accepted() {
    let mut server = Forebay::start(CONFIG);
    assert!(server.stop().success());
    let (source, library) = (server.beside().join("clock.c"), server.beside().join("clock.so"));
    std::fs::write(&source, CLOCK_C).unwrap();
    let built =
        works(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source));
    if !there_is("C compiler", built) {
        return;
    }
    let library = library.to_str().unwrap();
    server.start_again_in(&[("LD_PRELOAD", library), ("CLOCK_AHEAD_S", "1800")]);
    for id in ["1", "2", "3"] {
        assert_eq!(post(&server, id), 202);
    }
    let accepted = |server: &Forebay, id: &str| {
        let view = server.view(&format!("/v1/orders/forebay/demo/{id}"));
        view["accepted_at_ms"].as_i64().unwrap_or_else(|| panic!("{view}"))
    };
    let ahead = accepted(&server, "3");
    assert!(server.stop().success(), "{}", server.log());
    server.start_again();
    serves(&mut server);
    assert!(accepted(&server, "new") >= ahead, "never before its predecessor");
    assert_eq!(accepted(&server, "3"), ahead);
    let status = server.view("/v1/status");
    assert_eq!(status["buffer"]["recovery"].to_string(), "[]", "a clock is no damage");
    assert!(server.stop().success(), "{}", server.log());
    let (code, said) = ended(
        Command::new(env!("CARGO_BIN_EXE_forebay"))
            .args(["doctor", "--data-dir"])
            .arg(server.data_dir()),
    );
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_youngest_segment_that_vanished_is_told() {
    let mut server = stopped();
    std::fs::remove_file(&slots(&server)[0]).unwrap();
    server.start_again();
    let notes = server.view("/v1/status")["buffer"]["recovery"].to_string();
    assert!(notes.contains("the youngest segment"), "{notes}");
    assert_eq!(post(&server, "1"), 202, "sent again it is taken again");
}

#[test]
fn a_slot_that_lost_its_end_is_told() {
    let mut server = stopped();
    let slot = slots(&server).remove(0);
    File::options().write(true).open(&slot).unwrap().set_len(16 << 10).unwrap();
    server.start_again();
    let notes = server.view("/v1/status")["buffer"]["recovery"].to_string();
    assert!(notes.contains("00000.seg is shorter than a slot"), "{notes}");
}

#[test]
fn nothing_is_acknowledged_into_a_directory_that_was_deleted() {
    let mut server = Forebay::start(CONFIG);
    assert_eq!(post(&server, "1"), 202);
    // A slot may be made in it meanwhile, now and then.
    let gone = (0..1_000).any(|_| std::fs::remove_dir_all(server.data_dir()).is_ok());
    assert!(gone && !server.data_dir().exists());
    let body = own("2", "10.00");
    let request = Request::post("/v1/channels/forebay/orders", body.as_bytes());
    let answer = request.header("Content-Type", JSON).send(server.orders);
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 503));
    assert_eq!(server.wait().code(), Some(70), "{}", server.log());
    assert!(server.log().contains("was removed while in use"), "{}", server.log());
}
