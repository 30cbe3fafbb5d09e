//! The drain into a PostgreSQL database that comes and goes: orders wait for it, none is lost, doubled or taken for bad.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::bodies::{JSON, own};
use crate::harness::Forebay;

#[path = "../../xtask/src/postgres.rs"]
#[expect(unreachable_pub, dead_code, reason = "of another crate, which needs more of it")]
mod server;

use server::PostgresServer;

/// A server; `None`, which is said, where there is none to run.
fn postgres() -> Option<PostgresServer> {
    let server = PostgresServer::start(&[]).unwrap();
    if server.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have PostgreSQL");
        println!("skipped: no PostgreSQL on the path or in /usr/lib/postgresql");
    }
    server
}

fn post(forebay: &Forebay, ids: std::ops::Range<u32>) {
    for id in ids {
        let answer = forebay.post("forebay", JSON, own(&id.to_string(), "10.00").as_bytes());
        assert_eq!(answer.status, 202, "{}", forebay.log());
    }
}

fn live(forebay: &Forebay, state: &str) -> u64 {
    let status = forebay.view("/v1/status");
    status.pointer(&format!("/buffer/live/{state}")).and_then(Value::as_u64).unwrap()
}

/// Waits until nothing is on its way.
fn drained(forebay: &Forebay) {
    forebay.until("drained buffer", |forebay| {
        let left: u64 =
            ["pending", "leased", "submitted"].map(|state| live(forebay, state)).iter().sum();
        (left == 0).then_some(())
    });
}

#[test]
fn orders_wait_for_a_database_that_comes_and_goes_and_reach_it_once() {
    let Some(postgres) = postgres() else { return };
    let url = postgres.url("postgres");
    postgres.stop().unwrap();
    let config = format!(
        "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
         [drain]\nceiling_per_s = 200.0\nretry_base = \"20ms\"\nretry_max = \"500ms\"\n\
         [oms]\nkind = \"postgres\"\nurl = {url:?}\n"
    );
    // Not there yet: orders are taken in.
    let mut forebay = Forebay::start(&config);
    post(&forebay, 0..50);
    assert!(live(&forebay, "pending") > 0);
    postgres.run(&[]).unwrap();
    drained(&forebay);
    // Gone in the midst, and the one that drains killed with it, or after it.
    for round in 1..5_u32 {
        post(&forebay, round * 50..round * 50 + 50);
        if round % 2 == 0 {
            forebay.kill();
            postgres.crash().unwrap();
        } else {
            postgres.stop().unwrap();
            forebay.kill();
        }
        forebay.start_again();
        postgres.run(&[]).unwrap();
    }
    drained(&forebay);
    assert_eq!(live(&forebay, "exception"), 0, "{}", forebay.log());
    let summaries = forebay.summaries();
    let identities: BTreeSet<_> = summaries.iter().map(|s| s["identity"].to_string()).collect();
    assert_eq!((summaries.len(), identities.len()), (250, 250));
    assert!(forebay.stop().success());

    let file = forebay.beside().join("forebay.toml");
    let doctor = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["doctor", "--config"])
        .arg(file)
        .arg("--data-dir")
        .arg(forebay.data_dir())
        .output()
        .unwrap();
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(
        said.contains("tables of version 1") && said.contains("synchronous_commit is on"),
        "{said}"
    );
}
