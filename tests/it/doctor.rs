//! `forebay doctor`, before a first start and beside a running server.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::Forebay;

fn doctor(data_dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("doctor")
        .arg("--data-dir")
        .arg(data_dir)
        .args(more)
        .output()
        .unwrap()
}

fn examined(data_dir: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let output = doctor(data_dir, &[more, &["--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let document = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), document)
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let checks = document["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no line {name:?} in {document}"))
}

#[test]
fn it_works_beside_a_running_server_and_leaves_nothing() {
    let server = Forebay::start("[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n");
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(server.data_dir().join("buffer"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    let before = names();
    let config = server.beside().join("forebay.toml");
    let (code, document) = examined(&server.data_dir(), &["--config", config.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{document}");
    assert_eq!(document["ok"], true);
    for name in ["fdatasync, 4 KiB", "fdatasync, 1 MiB", "file system", "space", "open files"] {
        let finding = check(&document, name)["finding"].as_str().unwrap();
        assert!(!finding.is_empty());
    }
    let sync = check(&document, "fdatasync, 4 KiB")["finding"].as_str().unwrap();
    assert!(sync.contains("of 200"), "{sync}");
    let clock = check(&document, "clock");
    assert!(clock["finding"].as_str().unwrap().contains("last write"), "{clock}");
    assert_eq!(names(), before);
}

#[test]
fn a_directory_that_is_not_there_yet_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("not/yet");
    let (code, document) = examined(&data_dir, &[]);
    assert_eq!(code, Some(0), "{document}");
    let line = check(&document, "directory");
    assert!(line["finding"].as_str().unwrap().contains("does not exist yet"), "{line}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_directorys_place_fails_and_says_what_to_do() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = doctor(file.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("fail")).unwrap();
    assert!(line.contains("is no directory -> name another"), "{line}");
}
