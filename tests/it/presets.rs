//! A whole sale through each preset, into the reference OMS that speaks its vendor's dialect, with what goes wrong there. The OMS's own
//! ledger is the judge: none lost, none doubled, none set aside wrongly.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bodies::own;
use crate::harness::{Forebay, Request};
use crate::oms::{Oms, directory};

const ORDERS: usize = 300;

/// An OMS's dialect, and how its preset is reached here.
pub(crate) struct Vendor {
    preset: &'static str,
    dialect: &'static str,
    token: &'static str,
    /// What its address has beside the host.
    project: &'static str,
    /// Configuration beside the usual, with `{url}` for where the OMS is.
    more: &'static str,
}

pub(crate) const SALESFORCE: Vendor = Vendor {
    preset: "salesforce-hso",
    dialect: "salesforce",
    token: "/services/oauth2/token",
    project: "",
    more: "[oms.create.values]\npricebook_id = \"01s000000000001AAA\"\n",
};

const DYNAMICS: Vendor = Vendor {
    preset: "dynamics",
    dialect: "dynamics",
    token: "/tenant/oauth2/v2.0/token",
    project: "",
    // As the others: what the preset keeps to is tried by itself.
    more: "[oms.limits]\ncalls_per_s = 1000.0\n",
};

const NETSUITE: Vendor = Vendor {
    preset: "netsuite",
    dialect: "netsuite",
    token: "/services/rest/auth/oauth2/v1/token",
    project: "",
    more: "",
};

const COMMERCETOOLS: Vendor = Vendor {
    preset: "commercetools-import",
    dialect: "commercetools",
    token: "/oauth/token",
    project: "/shop",
    more: "url = \"{url}/shop\"\n",
};

/// Orders on their way into it.
pub(crate) struct Sale {
    pub(crate) forebay: Forebay,
    oms: Oms,
    _files: TempDir,
}

impl Sale {
    pub(crate) fn through(vendor: &Vendor, faults: &Value, first: &str) -> Self {
        let files = directory(&faults.to_string());
        let oms = Oms::start_as(vendor.dialect, files.path());
        let url = format!("http://{}", oms.address);
        let more = vendor.more.replace("{url}", &url);
        let at = files.path().display();
        let config = format!(
            "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
             [drain]\ngovernor = false\nin_flight = 4\nretry_base = \"10ms\"\nretry_max = \"200ms\"\n\
             [oms]\npreset = \"{}\"\nurl = \"{url}{}\"\ntest = true\n{first}\n\
             [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}{}\"\n\
             client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
             [oms.find]\nvisible_after = \"500ms\"\n{more}",
            vendor.preset, vendor.project, vendor.token
        );
        Self { forebay: Forebay::start(&config), oms, _files: files }
    }

    fn sell(&self, orders: &[String]) {
        let body = format!("[{}]", orders.join(","));
        let answer = self.forebay.post("forebay", "application/json", body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
    }

    pub(crate) fn ask(&self, path: &str) -> Value {
        Request::get(path).send(self.oms.address).unwrap().json()
    }

    fn ended(&self, state: &str) -> u64 {
        self.forebay.view("/v1/status")["buffer"]["ended"][state].as_u64().unwrap_or_default()
    }

    fn exceptions(&self) -> Vec<Value> {
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

fn orders() -> Vec<String> {
    (0..ORDERS).map(|n| own(&format!("it's {n}"), "12.50")).collect()
}

/// Lines that are cut, tokens that end, latency, orders told to come again, and whatever more.
fn faults(more: Value) -> Value {
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
    let judged = sale.all_is_well(ORDERS);
    for cut in ["before_commit", "after_commit", "mid_answer"] {
        assert!(judged["cut"][cut].as_u64().unwrap() > 0, "{cut}: {judged}");
    }
    judged
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
    let judged = sold(&NETSUITE, json!({ "calls_at_once_max": 3 }));
    assert!(judged["refused"]["calls_at_once"].as_u64().unwrap() > 0, "{judged}");
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
