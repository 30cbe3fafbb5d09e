//! Nothing is answered before it is durable, and nothing at all when the sync fails.
//!
//! The sync is held, or failed, from outside the process: strace delays or fails the system call. That is the write
//! itself where slots are written directly, and `fdatasync` where they go through the page cache.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use crate::harness::{Answer, Forebay, Request, WAIT};

const HELD: Duration = Duration::from_secs(2);
const SENDERS: usize = 64;
const PATH: &str = "/v1/channels/forebay/orders";

/// As the machine's file system allows, and through the page cache.
const WRITE_MODES: [&str; 2] = ["auto", "buffered"];

fn start(write_mode: &str) -> Forebay {
    Forebay::start(&format!(
        "[drain]\nceiling_per_s = 0.001\n[buffer]\nwrite_mode = \"{write_mode}\"\n"
    ))
}

/// Tampers with every write of the journal that makes durable until dropped.
struct Tampered(Child);

impl Tampered {
    /// Attaches strace with an injection such as `delay_enter=2000000`, and waits until it has.
    fn attach(server: &Forebay, injection: &str) -> Self {
        let status = server.view("/v1/status");
        let call = match status["buffer"]["write_mode"].as_str() {
            Some("direct") => "pwrite64",
            Some("buffered") => "fdatasync",
            _ => panic!("no write mode: {status}"),
        };
        // Only the journal's files: the other stores of the process write for themselves.
        let journal = server.data_dir().join("buffer/journal");
        let slots = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
        let mut strace = Command::new("strace")
            .args(["-f", "-e", &format!("trace={call}")])
            .args(["-e", &format!("inject={call}:{injection}")])
            .args(["-p", &server.pid().to_string()])
            .args(slots.flat_map(|slot| ["-P".into(), slot.into_os_string()]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace is needed: apt-get install strace");
        let lines = BufReader::new(strace.stderr.take().unwrap());
        let (attached, attaches) = sync_channel(1);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                attached.try_send(line).ok();
            }
        });
        let line = attaches.recv_timeout(WAIT).expect("strace says that it has attached");
        assert!(line.contains("attached"), "{line}");
        Self(strace)
    }
}

impl Drop for Tampered {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Posts one new key from 64 connections at once, half of them with another body, and asks for it
/// meanwhile; each answer with the time it took.
#[expect(clippy::disallowed_methods, reason = "measures when answers come")]
fn post_from_all(server: &Forebay) -> Vec<(Result<Answer, std::io::Error>, Duration)> {
    let orders = server.orders;
    let start = Instant::now();
    let threads: Vec<_> = (0..=SENDERS)
        .map(|sender| {
            std::thread::spawn(move || {
                let answer = if sender == SENDERS {
                    Request::get("/v1/orders/forebay/demo/held-1").send(orders)
                } else {
                    let total = if sender % 2 == 0 { "10.00" } else { "11.00" };
                    let body = format!(
                        r#"{{"id":"held-1","currency":"EUR","totals":{{"grand":"{total}"}},"lines":[]}}"#
                    );
                    Request::post(PATH, body.as_bytes())
                        .header("Content-Type", "application/json")
                        .send(orders)
                };
                (answer, start.elapsed())
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

fn strace_is_there() -> bool {
    let there = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "CI must have strace");
    if !there {
        println!("skipped: no strace");
    }
    there
}

#[test]
fn no_answer_of_any_class_comes_before_the_sync() {
    if !strace_is_there() {
        return;
    }
    WRITE_MODES.into_iter().for_each(no_answer_comes_before_the_sync_of);
}

fn no_answer_comes_before_the_sync_of(write_mode: &str) {
    let server = start(write_mode);
    let tampered = Tampered::attach(&server, &format!("delay_enter={}", HELD.as_micros()));
    let mut answers = post_from_all(&server);
    drop(tampered);
    let (get, get_took) = answers.pop().unwrap();
    for (_, took) in &answers {
        assert!(*took >= HELD, "an answer came after {took:?}");
    }
    let get = get.unwrap();
    assert!(get_took >= HELD || get.status == 404, "a GET saw the order: {}", get.text());
    let status = |code: u16| {
        answers.iter().filter(|(answer, _)| answer.as_ref().unwrap().status == code).count()
    };
    assert_eq!(status(202), 1, "exactly one is the first");
    assert_eq!(status(200), SENDERS / 2 - 1, "its own body again");
    assert_eq!(status(409), SENDERS / 2, "the other body");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "measures when answers come")]
fn who_asks_for_an_order_while_the_disk_hangs_is_told_to_come_back() {
    if !strace_is_there() {
        return;
    }
    const HANGS: Duration = Duration::from_secs(12);
    let server = start("auto");
    let tampered = Tampered::attach(&server, &format!("delay_enter={}", HANGS.as_micros()));
    let (orders, start) = (server.orders, Instant::now());
    let body = br#"{"id":"hangs","currency":"EUR","lines":[]}"#;
    let post = std::thread::spawn(move || {
        Request::post(PATH, body).header("Content-Type", "application/json").send(orders)
    });
    // Until the write hangs, an order that is not there yet is not there.
    let answer = loop {
        let answer = Request::get("/v1/orders/forebay/demo/hangs").send(orders).unwrap();
        if answer.status != 404 {
            break answer;
        }
    };
    assert!(start.elapsed() < HANGS, "{:?}", start.elapsed());
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some(), "{}", answer.text());
    assert_eq!(post.join().unwrap().unwrap().status, 202);
    drop(tampered);
    let found = Request::get("/v1/orders/forebay/demo/hangs").send(orders).unwrap();
    assert_eq!(found.status, 200, "{}", found.text());
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_process() {
    if !strace_is_there() {
        return;
    }
    WRITE_MODES.into_iter().for_each(a_failed_sync_ends_the_process_in);
}

fn a_failed_sync_ends_the_process_in(write_mode: &str) {
    let mut server = start(write_mode);
    let tampered = Tampered::attach(&server, "error=EIO");
    let answers = post_from_all(&server);
    for (answer, _) in &answers {
        // A connection that ends without an answer is as good as a 503: the sender sends again.
        let Ok(answer) = answer else { continue };
        assert!(matches!(answer.status, 404 | 503), "{}: {}", answer.status, answer.text());
    }
    let unknown = answers.iter().filter(|(a, _)| a.as_ref().is_ok_and(|a| a.status == 503));
    assert!(unknown.count() > 0, "the senders are told to send again");
    let ended = server.wait();
    assert_eq!(ended.code(), Some(70), "{}", server.log());
    drop(tampered);
    server.start_again();
    let again = server.post(
        "forebay",
        "application/json",
        br#"{"id":"after","currency":"EUR","lines":[]}"#,
    );
    assert_eq!(again.status, 202, "{}", again.text());
}
