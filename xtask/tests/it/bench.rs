//! Every bench in its short form, with the real server: it runs to its end and says something.

use std::process::Command;

use serde_json::Value;
use xtask::environment::{in_ci, tested_server};
use xtask::say::complain;

/// One after another, for they share the machine and one directory.
#[test]
fn every_bench_still_measures() {
    for (name, ratio) in [
        ("accept", true),
        ("batch", true),
        ("journal", true),
        ("mixed", true),
        ("memory", false),
        ("recovery", true),
        ("nats", true),
        ("outcomes", false),
        ("oms", true),
        ("protect", true),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["bench", name, "--short", "--json"]);
        if let Some(server) = tested_server() {
            command.arg("--server").arg(server);
        }
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(77) {
            assert!(!in_ci(), "{name} may not be skipped here: {errors}");
            complain(format_args!("skipped: {name}: {errors}"));
            continue;
        }
        assert!(output.status.success(), "{name}: {errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().count() >= 1, "{name} measured nothing: {errors}");
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["name"].as_str().unwrap().starts_with(name), "{line}");
            assert!(line["value"].as_f64().is_some_and(|value| value > 0.0), "{line}");
            assert!(line["unit"].is_string() && line["runs"].as_u64().unwrap() > 0, "{line}");
            let has = line["ratio"].as_f64().is_some_and(|ratio| ratio > 0.0);
            assert!(has || !ratio, "{line}");
        }
    }
}
