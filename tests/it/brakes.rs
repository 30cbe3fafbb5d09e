//! The drain that has stopped by itself, as operators see it.

use std::process::Command;

use crate::bodies::{own, post, server};
use crate::harness::{Forebay, Request};

/// What `forebay status` prints.
fn status(server: &Forebay) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    let ops = server.ops.to_string();
    let output = command.args(["status", "--ops", &ops]).env_clear().output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_mass_rejection_is_said_everywhere_burns_nothing_and_good_orders_pass() {
    let mut server = server("");
    assert!(server.view("/v1/status")["drain"]["why"].is_null());
    for n in 0..20 {
        // The OMS takes no negative quantity.
        let bad = own(&format!("bad-{n}"), "10.00").replace("\"quantity\":1", "\"quantity\":-1");
        assert_eq!(post(&server, "own-api", bad).status, 202);
    }
    server.until("a brake", |server| {
        (server.view("/v1/status")["drain"]["limiter"] == "rejected").then_some(())
    });
    let why = "20 of the last 20 orders were refused with negative_quantity; mend the rule";
    let shown = status(&server);
    assert!(shown.contains("limited by: rejected"), "{shown}");
    assert!(shown.contains(&format!("braked      {why}")), "{shown}");
    let ready = server.operate(&Request::get("/readyz?verbose"));
    assert_eq!(ready.status, 200, "orders are taken in");
    let ready = ready.text();
    assert!(ready.contains(&format!("[!] drain: on (limited by: rejected): {why}")), "{ready}");
    let metrics = server.operate(&Request::get("/metrics")).text();
    for line in
        ["forebay_drain_braked{limiter=\"rejected\"} 1", "forebay_drain_braked{limiter=\"auth\"} 0"]
    {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let told = |server: &Forebay, words: &str| server.log().matches(words).count();
    assert_eq!(told(&server, "the drain has stopped: 20 of the last 20"), 1, "{}", server.log());

    assert_eq!(post(&server, "own-api", own("good", "10.00")).status, 202);
    server.until_state("/v1/orders/own-api/demo/good", "summarised");
    server.until("the end in the log", |server| {
        (told(server, "the drain goes on: a probe came through") > 0).then_some(())
    });
    assert_eq!(server.view("/v1/exceptions")["exceptions"].as_array().map(Vec::len), Some(0));
    assert!(server.stop().success(), "{}", server.log());
    server.start_again();
    let live = server.view("/v1/status")["buffer"]["live"].clone();
    let left = ["pending", "leased", "submitted"].map(|state| live[state].as_u64().unwrap_or(0));
    assert_eq!(left.iter().sum::<u64>(), 20, "{live}");
}
