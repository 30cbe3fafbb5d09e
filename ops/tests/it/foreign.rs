//! What is sent, judged by libraries that we did not write: the specifications' own, in Python.

#![expect(clippy::print_stdout, reason = "says what is skipped")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use forebay_ops::webhooks::EndpointOptions;
use serde_json::{Value, json};

use crate::receiver::{Receiver, Told};
use crate::support::{OLD_SECRET, SECRET, Shop, stop};

/// Reads requests, one JSON object a line, and says of each what the libraries say.
const JUDGE: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
for line in sys.stdin:
    told = json.loads(line)
    said = {}
    try:
        Webhook(told["secret"]).verify(told["body"], told["headers"])
        said["verified"] = True
    except WebhookVerificationError as error:
        said["verified"] = False
    bodies = [told["body"]]
    if told["headers"]["content-type"] == "application/cloudevents-batch+json":
        bodies = [json.dumps(event) for event in json.loads(told["body"])]
    said["types"] = []
    for body in bodies:
        headers = {"content-type": "application/cloudevents+json"}
        event = from_http_event(HTTPMessage(headers, body.encode()))
        said["types"].append(event.get_type())
    print(json.dumps(said), flush=True)
"#;

/// Where xtask puts the libraries.
fn libraries() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
    let libraries = target.join("tools/webhook-judges");
    let found = Command::new("python3")
        .args(["-c", "import standardwebhooks, cloudevents.core.bindings.http"])
        .env("PYTHONPATH", &libraries)
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "CI must have the libraries that judge webhooks");
        println!(
            "skipped: no standardwebhooks and cloudevents for python3; `cargo xtask ci` installs them"
        );
    }
    found.then_some(libraries)
}

fn judge(libraries: &Path, told: &[(&str, &Told)]) -> Vec<Value> {
    let mut python = Command::new("python3")
        .args(["-c", JUDGE])
        .env("PYTHONPATH", libraries)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    for (secret, told) in told {
        let names = ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), told.header(name).into())).collect();
        let line = json!({ "secret": secret, "headers": headers, "body": told.body });
        writeln!(stdin, "{line}").unwrap();
    }
    drop(stdin);
    let output = python.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_specifications_own_libraries_take_what_is_sent_and_nothing_else() {
    let Some(libraries) = libraries() else { return };
    let shop = Shop::open();
    let mut receiver = Receiver::start([]).await;
    let webhooks = shop.start(shop.endpoint(&receiver.url)).await;
    shop.accept("größe/1 \"x\"").await;
    let single = receiver.next().await;
    shop.keep_secrets(&format!("{OLD_SECRET}\n{SECRET}\n"));
    shop.summarise("S1").await;
    let rotated = receiver.next().await;
    stop(webhooks).await;
    shop.accept("2").await;
    shop.accept("3").await;
    let webhooks = shop.start(EndpointOptions { batch: 10, ..shop.endpoint(&receiver.url) }).await;
    let batch = receiver.next().await;
    stop(webhooks).await;

    let forged = Told { body: single.body.replace("accepted", "cancelled"), ..single.clone() };
    let old = Told {
        head: single.head.replace("webhook-timestamp: 1", "webhook-timestamp: 0"),
        ..single.clone()
    };
    let said = judge(
        &libraries,
        &[
            (SECRET, &single),
            (SECRET, &rotated),
            (OLD_SECRET, &rotated),
            (SECRET, &batch),
            (OLD_SECRET, &single),
            (SECRET, &forged),
            (SECRET, &old),
        ],
    );
    let verified: Vec<_> = said.iter().map(|said| said["verified"].as_bool().unwrap()).collect();
    assert_eq!(verified, [true, true, true, true, false, false, false], "{said:?}");
    assert_eq!(said[0]["types"], json!(["forebay.order.accepted"]));
    assert_eq!(said[1]["types"], json!(["forebay.order.summarised"]));
    assert_eq!(said[3]["types"], json!(["forebay.order.accepted", "forebay.order.accepted"]));
}
