//! The OMS is put back to an earlier day: what it lost since is sent again, once, and nothing else.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::bodies::{JSON, own};
use crate::harness::Forebay;

fn post(forebay: &Forebay, ids: std::ops::Range<u32>) {
    for id in ids {
        let answer = forebay.post("forebay", JSON, own(&id.to_string(), "10.00").as_bytes());
        assert_eq!(answer.status, 202, "{}", forebay.log());
    }
}

/// Waits until so many are summarised and nothing is on its way.
fn summarised(forebay: &Forebay, count: u64) {
    forebay.until("orders summarised", |forebay| {
        let status = forebay.view("/v1/status");
        let number = |path: &str| status.pointer(path).and_then(Value::as_u64);
        let waiting = ["pending", "leased", "submitted"];
        let left: Option<u64> =
            waiting.iter().map(|state| number(&format!("/buffer/live/{state}"))).sum();
        (left == Some(0) && number("/buffer/ended/summarised") == Some(count)).then_some(())
    });
}

fn replay(forebay: &Forebay, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["replay", "--json", "--ops", &forebay.ops.to_string()])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", forebay.log());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How often each identity is in the OMS.
fn in_oms(forebay: &Forebay) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for summary in forebay.summaries() {
        *times.entry(summary["identity"].to_string()).or_default() += 1;
    }
    times
}

#[test]
fn what_a_restored_oms_lost_is_sent_again_and_nothing_else() {
    let config = "[buffer]\nslot_bytes = \"4MiB\"\nburst_reserve = 1\nreplay_window = \"1h\"\n\
                  [drain]\nceiling_per_s = 2000.0\nretry_base = \"20ms\"\nretry_max = \"200ms\"\n";
    let mut forebay = Forebay::start(config);
    post(&forebay, 0..40);
    summarised(&forebay, 40);
    // The backup of that day.
    assert!(forebay.stop().success());
    let oms = forebay.data_dir().join("oms.sqlite");
    let backup = forebay.beside().join("backup.sqlite");
    std::fs::copy(&oms, &backup).unwrap();
    forebay.start_again();
    post(&forebay, 40..1_040);
    summarised(&forebay, 1_040);
    assert_eq!(in_oms(&forebay).len(), 1_040);

    // It is back at that day, and the buffer has died too.
    forebay.kill();
    for side in ["oms.sqlite-wal", "oms.sqlite-shm"] {
        std::fs::remove_file(forebay.data_dir().join(side)).ok();
    }
    std::fs::copy(&backup, &oms).unwrap();
    forebay.start_again();
    assert_eq!(in_oms(&forebay).len(), 40);

    let counted = replay(&forebay, &["--since", "30m", "--dry-run"]);
    assert_eq!(
        (counted["looked_up"].as_u64(), counted["absent"].as_u64()),
        (Some(1_040), Some(1_000))
    );
    assert_eq!(counted["again"], 0);
    let replayed = replay(&forebay, &["--since", "30m"]);
    assert_eq!(
        (replayed["absent"].as_u64(), replayed["again"].as_u64()),
        (Some(1_000), Some(1_000))
    );
    // What waits again survives.
    forebay.kill();
    forebay.start_again();
    summarised(&forebay, 1_040);
    let times = in_oms(&forebay);
    assert_eq!((times.len(), times.values().max()), (1_040, Some(&1)));
    let nothing = replay(&forebay, &["--since", "30m"]);
    assert_eq!((nothing["looked_up"].as_u64(), nothing["absent"].as_u64()), (Some(1_040), Some(0)));
    assert!(forebay.stop().success());
}
