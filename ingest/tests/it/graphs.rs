//! Salesforce's own request.

use crate::orders::{graph, graphs};
use crate::support::TestDoor;

const PATH: &str = "/services/data/v67.0/commerce/order-summaries";

#[tokio::test]
async fn each_graph_has_its_result_in_salesforces_shape() {
    let door = TestDoor::open();
    let body = graphs(&[graph("g1", "site@1", "x"), graph("g2", "site@2", "x")]);
    let reply =
        door.send("POST", PATH, &[("content-type", "application/json")], body.as_bytes()).await;
    assert_eq!(reply.status, 202);
    let output = reply.json();
    assert_eq!((&output["success"], &output["error"]), (&true.into(), &serde_json::Value::Null));
    let results = output["orderSummaryGraphsResults"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["orderSummaryGraphId"], format!("g{}", n + 1));
        assert_eq!(result["success"], true);
        assert_eq!(result["httpHeaders"][0]["name"], "Location");
        let location = result["httpHeaders"][0]["value"].as_str().unwrap();
        assert_eq!(door.get(location).await.word("state"), "pending");
    }
    door.shut().await;
}

#[tokio::test]
async fn a_conflicting_graph_fails_alone() {
    let door = TestDoor::open();
    let first = graphs(&[graph("g1", "site@1", "x")]);
    assert_eq!(door.send("POST", PATH, &[], first.as_bytes()).await.status, 202);
    let again = graphs(&[graph("g1", "site@1", "y"), graph("g3", "site@3", "x")]);
    let reply = door.send("POST", PATH, &[], again.as_bytes()).await;
    let output = reply.json();
    assert_eq!((reply.status, &output["success"]), (202, &false.into()));
    let results = &output["orderSummaryGraphsResults"];
    assert_eq!(results[0]["success"], false);
    assert_eq!(results[0]["error"]["errorCode"], "CONFLICT");
    assert_eq!(results[0]["orderSummaryGraphId"], "g1");
    assert_eq!(results[1]["success"], true);
    door.shut().await;
}

#[tokio::test]
async fn other_paths_below_services_are_not_found_and_bodies_that_are_no_graphs_fail() {
    let door = TestDoor::open();
    door.send("POST", "/services/data/v67.0/commerce", &[], b"{}").await.problem(404, "not-found");
    let wrong = door.send("GET", PATH, &[], b"").await;
    wrong.problem(405, "bad-request");
    assert_eq!(wrong.header("allow"), "POST");
    let bad = door.send("POST", PATH, &[], b"{").await;
    assert_eq!(bad.status, 400);
    let output = bad.json();
    assert_eq!(output["success"], false);
    assert_eq!(output["orderSummaryGraphsResults"][0]["error"]["errorCode"], "UNREADABLE");
    let door_without = TestDoor::with(|config| {
        config.channels.retain(|channel| channel.format != forebay_order::Format::Salesforce);
    });
    door_without.send("POST", PATH, &[], b"{}").await.problem(404, "unknown-channel");
    door_without.shut().await;
    door.shut().await;
}
