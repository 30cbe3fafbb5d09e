//! Each dialect's own words for an order that is created, created again, refused and looked up.

use forebay_reference_oms::Dialect;
use serde_json::{Value, json};

use crate::support::{Answer, Oms, Request};

/// Where a dialect gives its tokens.
fn token(oms: &Oms, path: &str) -> String {
    let form = "grant_type=client_credentials&client_id=forebay&client_secret=a+secret+%26+more";
    let answer = oms.ask(&Request::post(path, form)).answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["access_token"].as_str().unwrap().to_owned()
}

fn post(oms: &Oms, token: &str, path: &str, body: &Value) -> Answer {
    oms.ask(&Request::post(path, &body.to_string()).bearer(token)).answer()
}

fn get(oms: &Oms, token: &str, path: &str) -> Answer {
    oms.ask(&Request::get(path).bearer(token)).answer()
}

fn graph(identity: &str, account: &str) -> Value {
    json!({
        "orderSummaryGraphId": format!("graph of {identity}"),
        "purchaseSupportDetails": [
            { "referenceId": "refAccount", "attributes": { "attributes": { "type": "Account" } } },
        ],
        "purchaseDetails": [
            { "referenceId": "refOrder", "attributes": {
                "attributes": { "type": "OrderSummary" }, "ExternalReferenceIdentifier": identity,
                "AccountId": account } },
        ],
    })
}

#[test]
fn salesforce_takes_graphs_and_is_asked_in_soql() {
    let oms = Oms::start_as(Dialect::Salesforce);
    let token = token(&oms, "/services/oauth2/token");
    let create = |graphs: &[Value]| {
        let body = json!({ "orderSummaryGraphs": graphs });
        post(&oms, &token, "/services/data/v67.0/commerce/order-summaries", &body)
    };
    let account = "@{refAccount.id}";
    let answer = create(&[graph("a", account), graph("it's", account)]);
    assert_eq!((answer.status, &answer.body["success"]), (201, &json!(true)), "{answer:?}");
    let result = &answer.body["orderSummaryGraphsResults"][1];
    assert_eq!(result["orderSummaryGraphId"], "graph of it's");
    assert_eq!(result["httpHeaders"][0]["name"], "Location");
    let again = create(&[graph("a", account)]);
    let error = &again.body["orderSummaryGraphsResults"][0]["error"];
    assert_eq!((again.status, &error["errorCode"]), (201, &json!("DUPLICATE_VALUE")));

    let long = "x".repeat(81);
    for wrong in [
        json!({ "orderSummaryGraphId": "g", "purchaseDetails": [] }),
        graph("b", "@{refNobody.id}"),
        graph(&long, account),
        json!({ "orderSummaryGraphId": "g", "purchaseSupportDetails": [], "purchaseDetails": [] }),
    ] {
        let answer = create(std::slice::from_ref(&wrong));
        assert_eq!(
            (answer.status, &answer.body[0]["errorCode"]),
            (400, &json!("JSON_PARSER_ERROR")),
            "{wrong}"
        );
    }

    let query = |asks: &str| {
        let asks = format!(
            "SELECT Id,ExternalReferenceIdentifier FROM OrderSummary WHERE ExternalReferenceIdentifier {asks}"
        );
        let asks = asks.replace(' ', "%20").replace('\'', "%27").replace('\\', "%5C");
        get(&oms, &token, &format!("/services/data/v67.0/query?q={asks}"))
    };
    let answer = query("IN ('x', 'it\\'s', 'a')");
    assert_eq!((answer.status, &answer.body["totalSize"]), (200, &json!(2)), "{answer:?}");
    assert_eq!(answer.body["records"][0]["ExternalReferenceIdentifier"], "it's");
    assert_eq!(query("= 'a'").body["totalSize"], 1);
    assert_eq!(query("> 'a'").status, 400);
    assert_eq!(
        get(&oms, "none", "/services/data/v67.0/query?q=x").body[0]["errorCode"],
        "INVALID_SESSION_ID"
    );
    oms.control(&json!({ "quota_per_day": 1 }));
    let used = query("= 'a'");
    assert_eq!((used.status, &used.body[0]["errorCode"]), (403, &json!("REQUEST_LIMIT_EXCEEDED")));
    assert!(used.header("sforce-limit-info").unwrap().starts_with("api-usage="));
}

#[test]
fn dynamics_creates_a_row_and_its_key_refuses_a_second() {
    let oms = Oms::start_as(Dialect::Dynamics);
    let token = token(&oms, "/tenant/oauth2/v2.0/token");
    let create = |identity: &str| {
        let row = json!({ "forebay_identity": identity, "forebay_fingerprint": "f" });
        post(&oms, &token, "/api/data/v9.2/salesorders", &row)
    };
    let answer = create("it's");
    assert_eq!((answer.status, &answer.body), (204, &Value::Null));
    assert!(answer.header("odata-entityid").unwrap().ends_with("/salesorders(SO-0000000001)"));
    let again = create("it's");
    assert_eq!((again.status, &again.body["error"]["code"]), (412, &json!("0x80060892")));
    assert_eq!(create("").status, 400);
    let filter = "forebay_identity%20eq%20%27x%27%20or%20forebay_identity%20eq%20%27it%27%27s%27";
    let found = get(&oms, &token, &format!("/api/data/v9.2/salesorders?$filter={filter}"));
    let row = json!({ "salesorderid": "SO-0000000001", "forebay_identity": "it's", "forebay_fingerprint": "f" });
    assert_eq!(found.body["value"], json!([row]));
    oms.control(&json!({ "try_later_every": 1, "try_later_s": 7 }));
    let later = create("b");
    assert_eq!((later.status, later.header("retry-after")), (429, Some("7")));
}

#[test]
fn netsuite_changes_what_is_put_again() {
    let oms = Oms::start_as(Dialect::NetSuite);
    let token = token(&oms, "/services/rest/auth/oauth2/v1/token");
    let path = "/services/rest/record/v1/salesOrder/eid:a_3ab";
    let put = |path: &str| oms.ask(&Request::put(path, "{}").bearer(&token)).answer();
    assert_eq!(get(&oms, &token, path).body["o:errorDetails"][0]["o:errorCode"], "NONEXISTENT_ID");
    let first = put(&format!("{path}?replace=item"));
    let again = put(&format!("{path}?replace=item"));
    assert_eq!((first.status, again.status), (204, 204));
    assert_eq!(first.header("location"), again.header("location"));
    assert!(first.header("location").unwrap().ends_with("/salesOrder/SO-0000000001"));
    assert_eq!(
        get(&oms, &token, path).body,
        json!({ "id": "SO-0000000001", "externalId": "a_3ab" })
    );
    assert_eq!(put(path).status, 400, "its lines would be there twice");
    let other_case = put(&format!("{}?replace=item", path.replace("eid:a", "eid:A")));
    assert_eq!(other_case.header("location"), first.header("location"));
    let not_taken = put(&format!("{}?replace=item", path.replace('_', "%3A")));
    assert_eq!(not_taken.status, 400);
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.orders_by_outcome["existing"]), (1, 2));
}

#[test]
fn sap_creates_in_a_session_only_and_a_second_is_another() {
    let oms = Oms::start_as(Dialect::Sap);
    oms.control(&json!({ "unique": false }));
    let token = token(&oms, "/sap/bc/sec/oauth2/token");
    let service = "/sap/opu/odata/sap/API_SALES_ORDER_SRV/";
    let orders = format!("{service}A_SalesOrder");
    let begin = || {
        let asked = Request::get(service).bearer(&token).header("X-CSRF-Token", "Fetch");
        let answer = oms.ask(&asked).answer();
        let cookies = answer.headers("set-cookie");
        let cookies: Vec<_> =
            cookies.iter().map(|cookie| cookie.split(';').next().unwrap().to_owned()).collect();
        (answer.header("x-csrf-token").unwrap().to_owned(), cookies.join("; "))
    };
    let create = |csrf: &str, cookies: &str| {
        let body = json!({ "YY1_ForebayIdentity_SDH": "it's", "YY1_ForebayFingerprint_SDH": "f" });
        let body = body.to_string();
        let request = Request::post(&orders, &body).bearer(&token);
        oms.ask(&request.header("X-CSRF-Token", csrf).header("Cookie", cookies)).answer()
    };
    let ((one, its), (other, others)) = (begin(), begin());
    for (csrf, cookies) in [("", ""), (&one, ""), (&one, &others), (&other, &its), ("Fetch", &its)]
    {
        let refused = create(csrf, cookies);
        assert_eq!((refused.status, refused.header("x-csrf-token")), (403, Some("Required")));
    }
    let (first, second) = (create(&one, &its), create(&other, &others));
    assert_eq!((first.status, second.status), (201, 201));
    assert_ne!(first.body["d"]["SalesOrder"], second.body["d"]["SalesOrder"]);
    let filter = "YY1_ForebayIdentity_SDH%20eq%20%27it%27%27s%27";
    let found = get(&oms, &token, &format!("{orders}?$filter={filter}"));
    assert_eq!(found.body["d"]["results"][0]["SalesOrder"], first.body["d"]["SalesOrder"]);
    oms.control(&json!({ "end_sessions": true }));
    assert_eq!(create(&one, &its).status, 403);
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.doubles, judged.refused["session"]), (2, 1, 6));
}

#[test]
fn commercetools_takes_twenty_and_answers_a_page() {
    let oms = Oms::start_as(Dialect::Commercetools);
    let token = token(&oms, "/oauth/token");
    let import = |from: usize, to: usize| {
        let orders = (from..to).map(|n| {
            let total =
                json!({ "type": "centPrecision", "currencyCode": "EUR", "centAmount": 1250 });
            json!({ "orderNumber": format!("n-{n}"), "totalPrice": total })
        });
        let body = json!({ "type": "order", "resources": orders.collect::<Vec<_>>() });
        post(&oms, &token, "/shop/orders/import-containers/forebay", &body)
    };
    assert_eq!(import(0, 21).status, 413);
    let taken = import(0, 20);
    assert_eq!(
        (taken.status, &taken.body["operationStatus"][19]["state"]),
        (201, &json!("processing"))
    );
    let again = import(19, 21);
    for of_both in 0..2 {
        assert_eq!(again.body["operationStatus"][of_both]["state"], "processing");
    }
    let judged = oms.judge();
    assert_eq!((judged.creates, judged.orders_by_outcome["existing"]), (21, 1));
    let numbers: Vec<_> = (0..25).map(|n| format!("%22n-{n}%22")).collect();
    let asked = format!("/shop/orders?where=orderNumber%20in%20({})", numbers.join("%2C"));
    assert_eq!(get(&oms, &token, &asked).body["count"], 20, "a page");
    assert_eq!(get(&oms, &token, &format!("{asked}&limit=50")).body["count"], 21);
}

#[test]
fn the_bodies_of_the_last_creates_can_be_looked_at() {
    let oms = Oms::start(&json!({}));
    let token = oms.token();
    for n in 0..20 {
        oms.create_one(&token, &n.to_string());
    }
    let kept = oms.ask(&Request::get("/bodies")).answer().body;
    assert_eq!(kept.as_array().unwrap().len(), 16);
    assert_eq!(kept[15]["orders"][0]["identity"], "19");
}
