//! The outcome feed of a real server: read page by page, streamed, after a kill, and by the command line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use crate::bodies::{JSON, own};
use crate::harness::{Forebay, Request, WAIT};

fn post(server: &Forebay, id: &str) {
    let answer = server.post("forebay", JSON, own(id, "10.00").as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// All events after one, once there are so many.
fn events(server: &Forebay, after: u64, count: usize) -> Vec<Value> {
    let mut after = after.to_string();
    let mut events = Vec::new();
    while events.len() < count {
        let page = server.view(&format!("/v1/outcomes?after={after}&limit=1000&wait=20s"));
        let more = page["events"].as_array().unwrap();
        assert!(!more.is_empty(), "{events:?} and no more\n{}", server.log());
        events.extend(more.iter().cloned());
        page["next"].as_str().unwrap().clone_into(&mut after);
    }
    assert_eq!(events.len(), count, "{events:?}");
    events
}

fn kinds<'a>(events: &'a [Value], key: &str) -> Vec<&'a str> {
    let of = events.iter().filter(|event| event["key"] == key);
    of.map(|event| event["kind"].as_str().unwrap()).collect()
}

#[test]
fn an_order_is_told_of_until_the_oms_has_it() {
    let server = Forebay::start("");
    post(&server, "1");
    post(&server, "2");
    let told = events(&server, 0, 4);
    for id in ["1", "2"] {
        assert_eq!(kinds(&told, &format!("forebay:demo:{id}")), ["accepted", "summarised"]);
    }
    let summary = told.iter().find(|event| event["kind"] == "summarised").unwrap();
    let view =
        server.get(&format!("/v1/orders/{}", summary["key"].as_str().unwrap().replace(':', "/")));
    assert_eq!(view.json()["summary_id"], summary["summary_id"]);
    assert_eq!(view.json()["sequence"], summary["order"]);

    let ahead = server.operate(&Request::get("/v1/outcomes?after=1000000"));
    assert_eq!(
        (ahead.status, &ahead.json()["type"]),
        (409, &"https://forebay.dev/problems/ahead".into())
    );

    let ops = server.ops.to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["outcomes", "--json", "--limit", "3", "--ops", &ops])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, told[..3]);
}

#[test]
fn a_stream_tells_as_it_happens() {
    let server = Forebay::start("[drain]\nceiling_per_s = 0.001\n");
    let mut stream = TcpStream::connect(server.ops).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    write!(
        stream,
        "GET /v1/outcomes HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n\r\n",
        server.ops
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut next = |prefix: &str| lines.find(|line| line.starts_with(prefix)).unwrap();
    assert_eq!(next("HTTP/1.1"), "HTTP/1.1 200 OK");
    assert_eq!(next("content-type"), "content-type: text/event-stream");
    next("retry: ");
    for id in ["1", "2"] {
        post(&server, id);
        assert_eq!(next("event: "), "event: accepted");
        let data = next("data: ");
        let event: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(event["key"], format!("forebay:demo:{id}"));
        assert_eq!(next("id: "), format!("id: {}", event["sequence"]));
    }
}

/// Killed, and as if nothing of the feed had reached the disk since it was begun.
#[test]
fn what_a_kill_took_from_the_feed_is_told_again_the_same() {
    let mut server = Forebay::start("[drain]\nceiling_per_s = 1000.0\n");
    for n in 0..50 {
        post(&server, &n.to_string());
    }
    let told = events(&server, 0, 100);
    let killed = server.kill();
    assert!(!killed.success());
    let slot = server.data_dir().join("buffer/feed/1.feed");
    let mut bytes = std::fs::read(&slot).unwrap();
    assert!(bytes[512..].iter().any(|byte| *byte != 0));
    bytes[512..].fill(0);
    std::fs::write(&slot, bytes).unwrap();
    server.start_again();
    assert_eq!(events(&server, 0, 100), told);
    post(&server, "another");
    let last = told.last().unwrap()["sequence"].as_u64().unwrap();
    assert_eq!(
        kinds(&events(&server, last, 2), "forebay:demo:another"),
        ["accepted", "summarised"]
    );
    assert!(server.stop().success(), "{}", server.log());
}
