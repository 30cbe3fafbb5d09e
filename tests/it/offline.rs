//! `forebay buffer check|stats|export` on what a real server left.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bodies::{JSON, own};
use crate::harness::Forebay;

/// Exit code, stdout, stderr.
fn buffer(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("buffer")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Three pending orders and a conflict with a body of its own; stopped.
fn stopped() -> Forebay {
    let mut server = Forebay::start(
        "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n[drain]\nceiling_per_s = 0.001\n",
    );
    for (id, total, status) in [("1", "10.00", 202), ("2 a", "20.00", 202), ("1", "11.00", 409)] {
        let answer = server.post("forebay", JSON, own(id, total).as_bytes());
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let (code, _, said) = buffer(&server.data_dir(), &["check"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("in use by another process; stop that one first"), "{said}");
    assert!(server.stop().success(), "{}", server.log());
    server
}

#[test]
fn a_whole_buffer_is_clean_and_its_orders_come_out_with_their_bytes() {
    let mut server = stopped();
    let (code, out, said) = buffer(&server.data_dir(), &["check", "--json"]);
    assert_eq!(code, Some(0), "{out}{said}");
    let summary = lines(&out).pop().unwrap();
    assert_eq!((&summary["clean"], &summary["readable_orders"]), (&true.into(), &3.into()));

    let (code, out, _) = buffer(&server.data_dir(), &["stats", "--json"]);
    assert_eq!(code, Some(0));
    let stats = &lines(&out)[0];
    let under_way = |state: &str| stats["live"][state].as_u64().unwrap();
    assert_eq!(under_way("pending") + under_way("leased") + under_way("submitted"), 2, "{stats}");
    let bytes = own("1", "10.00").len() + own("2 a", "20.00").len() + own("1", "11.00").len();
    assert_eq!(stats["live_body_bytes"], bytes, "{stats}");
    let (code, text, _) = buffer(&server.data_dir(), &["stats"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("exceptions  conflict 1"), "{text}");

    let file = server.beside().join("orders.ndjson");
    let out = ["export", "--out", file.to_str().unwrap()];
    let (code, _, said) = buffer(&server.data_dir(), &out);
    assert_eq!(code, Some(0), "{said}");
    let written = std::fs::read_to_string(&file).unwrap();
    let bodies: Vec<_> = lines(&written)
        .iter()
        .map(|line| (line["key"].clone(), line["body"].clone(), line["format"].clone()))
        .collect();
    let expected = [
        ("forebay:demo:1", own("1", "10.00")),
        ("forebay:demo:2%20a", own("2 a", "20.00")),
        ("forebay:demo:1", own("1", "11.00")),
    ];
    let expected = expected.map(|(key, body)| (key.into(), body.into(), "forebay".into()));
    assert_eq!(bodies, expected);
    let (code, to_stdout, _) = buffer(&server.data_dir(), &["export"]);
    assert_eq!((code, to_stdout), (Some(0), written), "the same on stdout");
    let (code, _, said) = buffer(&server.data_dir(), &out);
    assert_eq!(code, Some(70), "a file that is there is not written over: {said}");
    server.start_again();
    assert_eq!(server.post("forebay", JSON, own("1", "10.00").as_bytes()).status, 200);
}

#[test]
fn a_damaged_order_is_listed_by_its_key_and_the_same_order_repairs_it() {
    let mut server = stopped();
    let body = own("2 a", "20.00").into_bytes();
    let journal = server.data_dir().join("buffer/journal");
    let mut hits = 0;
    for entry in std::fs::read_dir(journal).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(body.len()).position(|window| window == body) {
            hits += 1;
            bytes[at + 20] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    assert_eq!(hits, 1);
    let (code, out, _) = buffer(&server.data_dir(), &["check", "--json"]);
    assert_eq!(code, Some(1), "{out}");
    let found = lines(&out);
    let damaged: Vec<_> = found.iter().filter(|line| line["kind"] == "body").collect();
    assert_eq!(damaged.len(), 1, "{out}");
    assert_eq!(damaged[0]["key"], "forebay:demo:2%20a");
    assert_eq!((&damaged[0]["needed"], &damaged[0]["acknowledged"]), (&true.into(), &true.into()));
    let (code, text, _) = buffer(&server.data_dir(), &["check"]);
    assert_eq!(code, Some(1));
    let line = text.lines().find(|line| line.starts_with("damaged")).unwrap();
    assert!(line.contains("forebay:demo:2%20a") && line.contains("send the same order again"));
    let (code, out, _) = buffer(&server.data_dir(), &["export"]);
    assert_eq!(code, Some(1));
    let lost: Vec<_> =
        lines(&out).into_iter().filter(|line| line["unreadable"].is_string()).collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["key"], "forebay:demo:2%20a");
    server.start_again();
    // Refused for a moment if a worker is just looking at it.
    let repaired = server.until("an answer", |server| {
        Some(server.post("forebay", JSON, &body)).filter(|answer| answer.status != 503)
    });
    assert_eq!(repaired.json()["outcome"], "amended", "{}", repaired.text());
    assert!(server.stop().success());
    let (_, out, _) = buffer(&server.data_dir(), &["export"]);
    assert!(lines(&out).iter().all(|line| line["body"].is_string()), "{out}");
}

#[test]
fn where_no_buffer_is_none_is_made() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["check", "stats", "export"] {
        let (code, _, said) = buffer(dir.path(), &[command]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("there is no buffer in"), "{said}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
