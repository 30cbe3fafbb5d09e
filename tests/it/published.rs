//! Bodies held against what a vendor publishes of its interface: the types of commercetools' Import API, by the TypeScript compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::Request;
use crate::oms::control;
use crate::presets::{COMMERCETOOLS, Sale};

/// Where `cargo xtask ci` puts types and compiler; `None`, which is said, where they are not.
fn tools() -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(own, PathBuf::from);
    let modules = target.join("tools/commercetools/node_modules");
    let node = Command::new("node").arg("--version").output();
    if node.is_ok_and(|node| node.status.success()) && modules.join("typescript").exists() {
        return Some(modules);
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have Node.js and the types");
    println!("skipped: no Node.js, or no types of commercetools in the build's tools");
    None
}

/// What the compiler says of a value as one of these types; empty where it is one.
fn said(modules: &Path, of_type: &str, value: &Value) -> String {
    // Beside the types, which are looked for from where a program is.
    let directory = tempfile::Builder::new().prefix("held-").tempdir_in(modules.parent().unwrap());
    let program = directory.as_ref().unwrap().path().join("held.ts");
    let text = format!(
        "import type {{ {of_type} }} from '@commercetools/importapi-sdk';\nexport const held: {of_type} = {value};\n"
    );
    std::fs::write(&program, text).unwrap();
    let mut compiler = Command::new("node");
    compiler.arg(modules.join("typescript/bin/tsc")).arg(&program);
    compiler.args(["--noEmit", "--strict", "--skipLibCheck"]);
    compiler.args(["--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022"]);
    let output = compiler.output().unwrap();
    assert_eq!(output.status.success(), output.stdout.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bodies_and_the_dialect_s_answers_are_as_commercetools_publishes_them() {
    let Some(modules) = tools() else { return };
    let sale = Sale::through(&COMMERCETOOLS, &json!({}), "");
    let orders = sale.sell_one_of_each();
    sale.all_is_well(orders);
    let bodies = sale.ask("/bodies");
    let resources =
        bodies.as_array().unwrap().iter().flat_map(|body| body["resources"].as_array().unwrap());
    let all = json!({ "type": "order", "resources": resources.collect::<Vec<_>>() });
    assert_eq!(all["resources"].as_array().unwrap().len(), orders);
    assert_eq!(said(&modules, "OrderImportRequest", &all), "");

    let mut wrong = all.clone();
    wrong["resources"][0]["totalPrice"]["centAmount"] = json!("12.50");
    let told = said(&modules, "OrderImportRequest", &wrong);
    assert!(told.contains("not assignable"), "a judge that finds nothing is none: {told}");

    let form = b"grant_type=client_credentials&client_id=me&client_secret=hush";
    let token = sale.send(&Request::post("/oauth/token", form))["access_token"].clone();
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    let mut import = all;
    import["resources"][0]["orderNumber"] = json!("another");
    let import = import.to_string();
    let path = "/shop/orders/import-containers/forebay";
    let create = Request::post(path, import.as_bytes()).header("Authorization", &bearer);
    // A second of a number is taken as the first was; what cannot be one is refused at once.
    for (faults, state) in [
        (json!({}), "processing"),
        (json!({ "reject_all_with": "InvalidInput" }), "validationFailed"),
    ] {
        control(&sale.oms, &faults);
        let answer = sale.send(&create);
        let states = [0, 1].map(|n| answer["operationStatus"][n]["state"].clone());
        assert_eq!(states, [state; 2]);
        assert_eq!(said(&modules, "ImportResponse", &answer), "");
    }
}
