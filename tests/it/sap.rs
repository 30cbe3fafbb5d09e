//! A sale into an OMS that wants what changes something in a session, with a token against forged requests, as SAP's OData services do. It is
//! described here, for it has no preset.

use std::path::Path;

use serde_json::{Value, json};

use crate::oms::{Oms, control};
use crate::presets::{ORDERS, Sale, faults, orders};

const SERVICE: &str = "/sap/opu/odata/sap/API_SALES_ORDER_SRV/";
const SESSION: &str = "csrf_path = \"/sap/opu/odata/sap/API_SALES_ORDER_SRV/\"";
const BODY: &str = r#"{% set order = orders[0].order %}
{"SalesOrderType": "OR", "SalesOrganization": "1010", "DistributionChannel": "10", "OrganizationDivision": "00",
"YY1_ForebayIdentity_SDH": {{ orders[0].identity }}, "YY1_ForebayFingerprint_SDH": {{ orders[0].fingerprint }},
"TransactionCurrency": {{ order.currency }}, "to_Item": {"results": [{% for line in order.lines %}
{"Material": {{ line.product_code }}, "RequestedQuantity": {{ line.quantity }} }{% if not loop.last %},{% endif %}{% endfor %}]}}"#;

fn config(oms: &Oms, at: &Path, session: &str) -> String {
    let (url, at) = (format!("http://{}", oms.address), at.display());
    std::fs::write(format!("{at}/order.json.jinja"), BODY).unwrap();
    let identity = "YY1_ForebayIdentity_SDH";
    format!(
        "[buffer]\nslot_bytes = \"8MiB\"\nburst_reserve = 1\n\
         [drain]\ngovernor = false\nin_flight = 4\nretry_base = \"10ms\"\nretry_max = \"200ms\"\n\
         [oms]\nkind = \"http\"\nurl = \"{url}\"\ntest = true\nclaim = \"none\"\n{session}\n\
         [oms.auth]\nkind = \"oauth2-client-credentials\"\ntoken_url = \"{url}/sap/bc/sec/oauth2/token\"\n\
         client_id_file = \"{at}/id\"\nclient_secret_file = \"{at}/secret\"\n\
         [oms.create]\npath = \"{SERVICE}A_SalesOrder\"\nbody = \"{at}/order.json.jinja\"\n\
         answers = {{ id = [\"/d/SalesOrder\"], ticket = [], status = [], code = [\"/error/code\"], reason = [\"/error/message/value\"], fingerprint = [] }}\n\
         [oms.find]\nbatch = 20\nvisible_after = \"500ms\"\nitems = \"/d/results\"\n\
         path = \"{SERVICE}A_SalesOrder?$filter={{% for i in identities %}}{{% if not loop.first %}}%20or%20{{% endif %}}{identity}%20eq%20%27{{{{ i|replace('%27', '%27%27') }}}}%27{{% endfor %}}\"\n\
         identity = \"/{identity}\"\nid = \"/SalesOrder\"\nfingerprint = \"/YY1_ForebayFingerprint_SDH\"\n"
    )
}

/// A second of an identity makes another there.
fn sap(more: Value) -> Value {
    let mut faults = faults(more);
    faults["unique"] = false.into();
    faults
}

#[test]
fn a_sale_into_sap_whose_sessions_end() {
    let sale = Sale::described("sap", &sap(json!({})), |oms, at| config(oms, at, SESSION));
    let half = ORDERS as u64 / 2;
    sale.sell(&orders());
    for ends in 1..=3 {
        sale.forebay
            .until("some orders", |_| (sale.ended("summarised") >= half * ends / 3).then_some(()));
        control(&sale.oms, &json!({ "end_sessions": true }));
    }
    let judged = sale.was_cut_and_is_well();
    let over = judged["refused"]["session"].as_u64().unwrap_or_default();
    // Four calls at once may find each one over.
    assert!((3..=12).contains(&over), "{judged}");
}

#[test]
fn without_a_session_nothing_is_created_and_no_order_is_burnt() {
    let sale = Sale::described("sap", &json!({ "unique": false }), |oms, at| config(oms, at, ""));
    sale.sell(&orders());
    sale.forebay.until("the brake", |forebay| {
        (forebay.view("/v1/status")["drain"]["limiter"] == "auth").then_some(())
    });
    assert_eq!(sale.exceptions(), Vec::<Value>::new());
    assert_eq!(sale.ask("/judge")["creates"], 0);
}
