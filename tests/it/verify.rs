//! `forebay oms verify --target NAME`: a sandbox is tried by the templates and rules of the real OMS, and only the sandbox.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::harness::Request;
use crate::oms::{Oms, directory};

/// Nobody is there, and nobody must be asked.
const REAL: &str = "http://127.0.0.1:1";

/// The real OMS, `more` of it, and targets.
fn write(at: &Path, more: &str, targets: &str) {
    let config = format!(
        "[oms]\nkind = \"http\"\nurl = \"{REAL}\"\nclaim = \"none\"\n\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{REAL}/oauth/token\"\n\
         client_id_file = \"id\"\nclient_secret_file = \"secret\"\n\
         [oms.create]\npath = \"/v1/orders\"\nbody = \"order.jinja\"\nrefuses_second = true\nanswers = {{ items = \"/results\" }}\n\
         {more}\n{targets}"
    );
    std::fs::write(at.join("forebay.toml"), config).unwrap();
    let body = r#"{"orders": [{% for one in orders %}{"identity": {{ one.identity }},
        "fingerprint": {{ one.fingerprint }}, "order": {"by": "the template"} }{% endfor %}]}"#;
    std::fs::write(at.join("order.jinja"), body).unwrap();
}

const FIND: &str = "[oms.find]\npath = \"/v1/orders?identity={{ identity }}\"\nitems = \"/items\"\nidentity = \"/identity\"\n\
     id = \"/id\"\nfingerprint = \"/fingerprint\"\nvisible_after = \"1s\"\n[oms.limits]\ncalls_per_s = 2.0\n";

fn sandbox(oms: &Oms) -> String {
    let url = format!("http://{}", oms.address);
    format!(
        "[targets.sandbox]\nurl = \"{url}\"\ntest = true\nauth = {{ token_url = \"{url}/oauth/token\" }}\n"
    )
}

fn run(at: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.current_dir(at).args(arguments).args(["--config", "forebay.toml"]).output().unwrap()
}

fn verify(at: &Path, target: &str) -> (Value, Option<i32>) {
    let output = run(at, &["oms", "verify", "--json", "--target", target]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (said, output.status.code())
}

/// What was found under a name, and its level.
fn found(report: &Value, name: &str) -> (String, String) {
    let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    let check = check.unwrap_or_else(|| panic!("{name}: {report:#}"));
    let text = |member: &str| check[member].as_str().unwrap().to_owned();
    (text("level"), text("finding"))
}

#[test]
fn a_sandbox_is_verified_by_what_the_real_oms_is_told() {
    let files = directory(r#"{"quota_per_day": 5000}"#);
    let oms = Oms::start_with(&[], files.path());
    write(files.path(), FIND, &sandbox(&oms));
    let (report, status) = verify(files.path(), "sandbox");
    assert_eq!((status, &report["target"]), (Some(0), &json!("sandbox")), "{report:#}");
    assert_eq!(report["oms"], format!("http://{}", oms.address));
    for name in ["look-up", "create", "visible", "repeat", "cut", "limit"] {
        assert_eq!(found(&report, name).0, "ok", "{report:#}");
    }
    let (level, told) = found(&report, "told");
    assert!(level == "ok" && told.contains("sforce-limit-info: api-usage="), "{told}");
    let bodies = Request::get("/bodies").send(oms.address).unwrap().json();
    assert_eq!(bodies[0]["orders"][0]["order"]["by"], "the template", "{bodies}");
}

#[test]
fn what_is_not_measured_is_said() {
    let limit =
        r#"{"overloaded": {"status": 429, "code": "SLOW", "retry_after_s": 1, "every": 2}}"#;
    let files = directory(limit);
    let oms = Oms::start_with(&[], files.path());
    write(files.path(), "", &sandbox(&oms));
    let (report, status) = verify(files.path(), "sandbox");
    assert_eq!(status, Some(0), "{report:#}");
    let (level, said) = found(&report, "limit");
    assert!(level == "warn" && said.starts_with("not measured"), "{said}");
    let told = found(&report, "told").1;
    assert!(told.contains("retry-after: 1"), "{told}");
}

#[test]
fn a_target_that_is_not_there_or_would_be_the_real_oms_is_refused() {
    let files = directory("{}");
    let oms = Oms::start_with(&[], files.path());
    write(files.path(), FIND, &sandbox(&oms));
    let refused = |arguments: &[&str]| {
        let output = run(files.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(&["oms", "verify", "--target", "sandbocks"]);
    assert!(said.contains("\"sandbocks\"") && said.contains("known are sandbox"), "{said}");
    // The real one is no sandbox.
    let said = refused(&["oms", "verify"]);
    assert!(said.contains("oms.test"), "{said}");

    let checked = run(files.path(), &["config", "check"]);
    let said = String::from_utf8(checked.stdout).unwrap();
    let line = format!("target   sandbox (http://{}, test)", oms.address);
    assert!(checked.status.success() && said.contains(&line), "{said}");
    for (target, fault) in [
        ("test = true", "targets.s: oms.url: is that of [oms]".to_owned()),
        ("urll = \"x\"", "targets.s.urll".to_owned()),
        ("create = { body = \"none.jinja\" }", "targets.s: oms.create.body: none.jinja".to_owned()),
        ("list = { path = \"/{{ after\", items = \"/i\" }", "targets.s: oms.list.path".to_owned()),
    ] {
        write(files.path(), FIND, &format!("[targets.s]\n{target}\n"));
        let said = refused(&["config", "check"]);
        assert!(said.contains(&fault), "{target}: {said}");
    }
    assert_eq!(Request::get("/judge").send(oms.address).unwrap().json()["calls"], 0);
}
