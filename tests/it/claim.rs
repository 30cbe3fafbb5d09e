//! Two services with a store each, and one OMS: only one drains.

use std::process::{Command, Output};

use crate::bodies::{JSON, own};
use crate::harness::{Forebay, Request};

fn claim(forebay: &Forebay, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let ops = forebay.ops.to_string();
    command.args(["oms", "claim", "--ops", &ops]).args(arguments).output().unwrap()
}

fn post(forebay: &Forebay, id: &str) {
    assert_eq!(forebay.post("forebay", JSON, own(id, "10.00").as_bytes()).status, 202);
}

#[test]
fn a_second_fleet_takes_orders_in_and_drains_none_until_it_takes_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("oms.sqlite");
    let config = format!("[oms]\npath = {path:?}\n");
    let mut first = Forebay::start(&config);
    post(&first, "1");
    first.until_state("/v1/orders/forebay/demo/1", "summarised");
    assert!(claim(&first, &[]).status.success());

    let mut second = Forebay::start(&config);
    post(&second, "2");
    let why = second.until("the other fleet", |second| {
        let drain = second.view("/v1/status")["drain"].clone();
        let why = drain["why"].as_str().unwrap_or_default().to_owned();
        (drain["limiter"] == "claim" && why.contains("drains to this OMS since")).then_some(why)
    });
    assert!(why.contains("forebay oms claim --take"), "{why}");
    let ready = second.operate(&Request::get("/readyz?verbose"));
    assert_eq!(ready.status, 200, "orders are taken in");
    assert!(ready.text().contains("[!] drain: on (limited by: claim): fleet "), "{}", ready.text());
    let asked = claim(&second, &["--json"]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&asked.stdout).contains("\"theirs\""));
    // It is still the first's, also over its restart.
    first.kill();
    first.start_again();
    post(&first, "3");
    first.until_state("/v1/orders/forebay/demo/3", "summarised");
    assert!(first.stop().success());

    assert!(claim(&second, &["--take"]).status.success());
    second.until("the wait", |second| {
        let drain = second.view("/v1/status")["drain"].clone();
        let why = drain["why"].as_str().unwrap_or_default().to_owned();
        why.contains("claim on the OMS is new").then_some(())
    });
    // The first one, should it come back, drains nothing.
    first.start_again();
    post(&first, "4");
    first.until("the other fleet", |first| {
        let why = first.view("/v1/status")["drain"]["why"].to_string();
        why.contains("drains to this OMS since").then_some(())
    });
    let identities: Vec<_> =
        first.summaries().iter().map(|summary| summary["identity"].to_string()).collect();
    assert_eq!(identities.len(), 2, "{identities:?}");
    assert!(first.stop().success());
    assert!(second.stop().success());
}
