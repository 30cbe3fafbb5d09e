//! A whole sale through each preset, into the reference OMS that speaks its vendor's dialect, with what goes wrong there. The OMS's own
//! ledger is the judge: none lost, none doubled, none set aside wrongly.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bodies::own;
use crate::harness::{Forebay, Request};
use crate::oms::{Oms, control, directory};
use crate::real_orders;
use crate::smoke::CASES;

pub(crate) const ORDERS: usize = 300;

/// An OMS's dialect, and how its preset is reached here.
pub(crate) struct Vendor {
    pub(crate) preset: &'static str,
    pub(crate) dialect: &'static str,
    pub(crate) token: &'static str,
    /// What its address has beside the host.
    pub(crate) project: &'static str,
    /// Configuration beside the usual, with `{url}` for where the OMS is.
    pub(crate) more: &'static str,
}

pub(crate) const SALESFORCE: Vendor = Vendor {
    preset: "salesforce-hso",
    dialect: "salesforce",
    token: "/services/oauth2/token",
    project: "",
    more: "[oms.create.values]\npricebook_id = \"01s000000000001AAA\"\n",
};

pub(crate) const DYNAMICS: Vendor = Vendor {
    preset: "dynamics",
    dialect: "dynamics",
    token: "/tenant/oauth2/v2.0/token",
    project: "",
    // As the others: what the preset keeps to is tried by itself.
    more: "[oms.limits]\ncalls_per_s = 1000.0\n",
};

pub(crate) const NETSUITE: Vendor = Vendor {
    preset: "netsuite",
    dialect: "netsuite",
    token: "/services/rest/auth/oauth2/v1/token",
    project: "",
    more: "",
};

pub(crate) const COMMERCETOOLS: Vendor = Vendor {
    preset: "commercetools-import",
    dialect: "commercetools",
    token: "/oauth/token",
    project: "/shop",
    more: "url = \"{url}/shop\"\n",
};

/// Orders on their way into it.
pub(crate) struct Sale {
    pub(crate) forebay: Forebay,
    pub(crate) oms: Oms,
    _files: TempDir,
}

impl Sale {
    pub(crate) fn through(vendor: &Vendor, faults: &Value, first: &str) -> Self {
        Self::described(vendor.dialect, faults, |oms, at| config(vendor, oms, at, first))
    }

    /// By a configuration for an OMS of that dialect, with files of its own.
    pub(crate) fn described(
        dialect: &str,
        faults: &Value,
        config: impl FnOnce(&Oms, &Path) -> String,
    ) -> Self {
        let files = directory(&faults.to_string());
        let oms = Oms::start_as(dialect, files.path());
        let forebay = Forebay::start(&config(&oms, files.path()));
        Self { forebay, oms, _files: files }
    }

    /// An order of each channel.
    pub(crate) fn sell_one_of_each(&self) -> usize {
        for case in &CASES {
            let answer = self.forebay.post(case.channel, case.content_type, case.body);
            assert!(matches!(answer.status, 200 | 202), "{}", answer.text());
        }
        CASES.len()
    }

    pub(crate) fn sell(&self, orders: &[String]) {
        let body = format!("[{}]", orders.join(","));
        let answer = self.forebay.post("forebay", "application/json", body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    /// What the OMS says to a request of the test's own.
    pub(crate) fn send(&self, request: &Request<'_>) -> Value {
        request.send(self.oms.address).unwrap().json()
    }

    pub(crate) fn ask(&self, path: &str) -> Value {
        self.send(&Request::get(path))
    }

    pub(crate) fn ended(&self, state: &str) -> u64 {
        self.forebay.view("/v1/status")["buffer"]["ended"][state].as_u64().unwrap_or_default()
    }

    pub(crate) fn exceptions(&self) -> Vec<Value> {
        self.forebay.view("/v1/exceptions")["exceptions"].as_array().unwrap().clone()
    }

    /// Waits until each of so many is in the OMS; then nobody has to look, and the OMS's ledger says the same.
    pub(crate) fn all_is_well(&self, orders: usize) -> Value {
        self.forebay.until("all orders", |_| {
            let exceptions = self.exceptions();
            assert!(exceptions.is_empty(), "{exceptions:?}");
            (self.ended("summarised") == orders as u64).then_some(())
        });
        let judged = self.ask("/judge");
        assert_eq!(judged["distinct_identities"], orders, "{judged}");
        assert_eq!((&judged["creates"], &judged["doubles"]), (&json!(orders), &json!(0)));
        for why in ["malformed", "too_large", "absent"] {
            assert!(judged["refused"][why].as_u64().unwrap_or_default() == 0, "{why}: {judged}");
        }
        judged
    }
}

fn config(vendor: &Vendor, oms: &Oms, at: &Path, first: &str) -> String {
    let Vendor { preset, token, project, more, .. } = vendor;
    let (url, at) = (format!("http://{}", oms.address), at.display());
    let more = more.replace("{url}", &url);
    format!(
        "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
         [drain]\ngovernor = false\nin_flight = 4\nretry_base = \"10ms\"\nretry_max = \"200ms\"\n\
         [oms]\npreset = \"{preset}\"\nurl = \"{url}{project}\"\ntest = true\nclaim = \"none\"\n{first}\n\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}{token}\"\n\
         client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
         [oms.find]\nvisible_after = \"500ms\"\n{more}"
    )
}

pub(crate) fn orders() -> Vec<String> {
    (0..ORDERS).map(|n| own(&format!("it's {n}"), "12.50")).collect()
}

/// Lines that are cut, tokens that end, latency, orders told to come again, and whatever more.
pub(crate) fn faults(more: Value) -> Value {
    let mut faults = json!({
        "drop_before_commit_every": 7, "drop_after_commit_every": 5, "drop_mid_answer_every": 9,
        "try_later_every": 40, "try_later_s": 0, "token_ttl_s": 2, "latency_ms": { "p50": 2, "p99": 20 },
    });
    faults.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    faults
}

/// A sale with these faults ends well, and was cut in each way.
fn sold(vendor: &Vendor, more: Value) -> Value {
    let sale = Sale::through(vendor, &faults(more), "");
    sale.sell(&orders());
    sale.was_cut_and_is_well()
}

impl Sale {
    /// All is well, and lines were cut in each way.
    pub(crate) fn was_cut_and_is_well(&self) -> Value {
        let judged = self.all_is_well(ORDERS);
        for cut in ["before_commit", "after_commit", "mid_answer"] {
            assert!(judged["cut"][cut].as_u64().unwrap() > 0, "{cut}: {judged}");
        }
        judged
    }
}

#[test]
fn a_sale_into_salesforce_that_takes_orders_now_and_makes_summaries_later() {
    let hour =
        json!({ "status": 503, "code": "SERVER_UNAVAILABLE", "retry_after_s": 1, "every": 30 });
    let judged = sold(&SALESFORCE, json!({ "async_after_ms": 300, "overloaded": hour }));
    assert!(judged["orders_by_outcome"]["accepted"].as_u64().unwrap() >= ORDERS as u64, "{judged}");
    assert!(judged["refused"]["overloaded"].as_u64().unwrap() > 0, "{judged}");
}

#[test]
fn salesforce_s_quota_of_the_day_stops_the_calls_and_burns_no_order() {
    let sale = Sale::through(&SALESFORCE, &json!({ "quota_per_day": 20 }), "");
    sale.sell(&orders());
    // A fifth is kept for others.
    sale.forebay
        .until("the limit", |_| (sale.ask("/judge")["calls"].as_u64() >= Some(16)).then_some(()));
    sale.forebay.until("the drain to leave it alone", |forebay| {
        (forebay.view("/v1/status")["drain"]["limiter"] == "oms").then_some(())
    });
    assert_eq!(sale.exceptions(), Vec::<Value>::new());
    let judged = sale.ask("/judge");
    let kept = judged["calls"].as_u64().unwrap() - judged["tokens_issued"].as_u64().unwrap();
    assert!((16..20).contains(&kept), "{judged}");
    assert!(judged["refused"]["quota"].is_null(), "{judged}");
}

#[test]
fn a_sale_into_dynamics_whose_waits_grow() {
    let slow = json!({ "status": 429, "code": "0x80072322", "retry_after_s": 1, "growing": true, "every": 200 });
    let judged = sold(&DYNAMICS, json!({ "overloaded": slow }));
    assert!(judged["answers_by_status"]["429"].as_u64().unwrap() > 0, "{judged}");
    assert_eq!(judged["came_too_early_knowingly"], 0, "{judged}");
}

#[test]
fn a_sale_into_netsuite_that_takes_three_calls_at_once() {
    let faults =
        faults(json!({ "calls_at_once_max": 3, "latency_ms": { "p50": 200, "p99": 400 } }));
    let sale = Sale::through(&NETSUITE, &faults, "");
    sale.sell(&orders());
    // So slow it is asked four at once soon, whatever else this machine does; then it goes on as the others.
    let refused = || sale.ask("/judge")["refused"]["calls_at_once"].as_u64() > Some(0);
    sale.forebay.until("four calls at once", |_| refused().then_some(()));
    control(&sale.oms, &json!({ "latency_ms": { "p50": 2, "p99": 20 } }));
    let judged = sale.was_cut_and_is_well();
    assert!(
        judged["orders_by_outcome"]["existing"].as_u64().unwrap_or_default() == 0,
        "none was put twice: {judged}"
    );
}

#[test]
fn a_client_that_takes_netsuite_s_limit_for_a_bad_order_floods_the_exceptions() {
    let first = "[[oms.outcome]]\nstatus = 400\nis = \"invalid\"\n";
    let limit = json!({ "status": 400, "code": "SSS_REQUEST_LIMIT_EXCEEDED", "every": 8 });
    let sale = Sale::through(&NETSUITE, &json!({ "overloaded": limit }), first);
    sale.sell(&orders());
    sale.forebay.until("a flood", |_| (sale.exceptions().len() > 10).then_some(()));
}

#[test]
fn a_sale_into_commercetools_twenty_orders_a_call() {
    let judged = sold(&COMMERCETOOLS, json!({ "async_after_ms": 300 }));
    assert!(judged["orders_by_outcome"]["accepted"].as_u64().unwrap() >= ORDERS as u64, "{judged}");
}

#[test]
fn an_order_of_each_channel_fits_each_preset() {
    for vendor in [&SALESFORCE, &DYNAMICS, &NETSUITE, &COMMERCETOOLS] {
        let sale = Sale::through(vendor, &json!({}), "");
        let orders = sale.sell_one_of_each();
        sale.all_is_well(orders);
    }
}

#[test]
fn real_orders_fit_each_preset() {
    let Some(folder) = real_orders::folder() else { return };
    for vendor in [&SALESFORCE, &DYNAMICS, &NETSUITE, &COMMERCETOOLS] {
        let sale = Sale::through(vendor, &json!({}), "");
        real_orders::post_all(&sale.forebay, &folder);
        sale.forebay.until("an empty backlog", |server| {
            let live = &server.view("/v1/status")["buffer"]["live"];
            let waiting = |state: &str| live[state].as_u64().unwrap_or(0);
            (waiting("pending") + waiting("leased") + waiting("submitted") == 0).then_some(())
        });
        // A file's name is its source here, and makes one identity longer than Salesforce's 80.
        let rejected = |row: &&Value| {
            let too_long = row["reason"].as_str().unwrap().starts_with("its identity has 83 bytes");
            row["category"] == "rejected" && !too_long
        };
        let exceptions = sale.exceptions();
        let rejected: Vec<_> = exceptions.iter().filter(rejected).collect();
        assert!(rejected.is_empty(), "{}: {rejected:#?}", vendor.preset);
        let judged = sale.ask("/judge");
        println!("{}: {} orders", vendor.preset, judged["creates"]);
        assert!(judged["creates"].as_u64().unwrap() > 50, "{judged}");
        assert!(judged["refused"]["malformed"].is_null(), "{judged}");
    }
}

#[test]
fn oms_verify_finds_each_as_its_preset_says() {
    let verified = |vendor: &Vendor, repeat: &str| {
        let files = directory("{}");
        let oms = Oms::start_as(vendor.dialect, files.path());
        let file = files.path().join("forebay.toml");
        std::fs::write(&file, config(vendor, &oms, files.path(), "")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = command.args(["oms", "verify", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains(repeat), "{}:\n{said}", vendor.preset);
    };
    std::thread::scope(|scope| {
        for (vendor, repeat) in [
            (&SALESFORCE, "a second create is taken under a ticket"),
            (&DYNAMICS, "the look-up finds the first"),
            (&NETSUITE, "a second create is answered as the first"),
            (&COMMERCETOOLS, "a second create is taken under a ticket"),
        ] {
            scope.spawn(move || verified(vendor, repeat));
        }
    });
}
