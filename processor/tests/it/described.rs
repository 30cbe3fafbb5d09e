//! What an OMS can be described by beside a plain collection of orders: methods, headers, an order's own path, ids in a header, answers
//! that name their orders.

use std::collections::BTreeMap;

use forebay_processor::oms::http::{Find, Http, HttpOptions, Meaning, Method, OpenError, Rule};
use forebay_processor::{CallFailure, OrderManagement, Outcome, Scope};
use serde_json::Value;

use crate::http::{answer, options, server};
use crate::support::{in_time, key, order};

/// One order a call, answered by the call alone.
fn alone(url: String) -> HttpOptions {
    let mut options = options(url);
    (options.create.batch, options.create.answers.items) = (1, None);
    options
}

fn created(id: &str) -> Outcome {
    Outcome::Created { id: id.to_owned() }
}

#[tokio::test]
async fn an_order_is_put_at_its_own_path_with_headers_and_its_id_told_by_a_header() {
    for (header, id) in [
        ("location: https://oms.example/v1/salesOrder/647\r\n", Some("647")),
        ("location: /v1/orders(0a-1)\r\n", Some("0a-1")),
        ("location: 7\r\n", Some("7")),
        ("location: /\r\n", None),
        ("", None),
    ] {
        let (url, served) = server(vec![answer("204 No Content", header, "")]).await;
        let mut options = alone(url);
        options.create.method = Method::Put;
        options.create.path = "/orders/eid:{{ identity }}".to_owned();
        let constant = ("If-None-Match".to_owned(), "*".to_owned());
        options.create.headers = BTreeMap::from([constant]);
        options.create.answers.id_header = Some("Location".to_owned());
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("a b")])).await;
        match id {
            Some(id) => assert_eq!(outcome, Ok(vec![created(id)]), "{header}"),
            None => assert!(matches!(outcome, Err(CallFailure::Unknown(_))), "{outcome:?}"),
        }
        let (head, _) = served.await.unwrap().remove(0);
        assert!(
            head.starts_with("PUT /api/orders/eid:forebay%3Ademo%3Aa%2520b HTTP/1.1"),
            "{head}"
        );
        assert!(head.to_lowercase().contains("if-none-match: *"), "{head}");
    }
}

#[tokio::test]
async fn a_header_s_id_makes_no_order_of_what_was_refused() {
    let header = "location: /orders/7\r\n";
    for (said, refused) in [
        (answer("400 No", header, r#"{"code":"BAD"}"#), true),
        (answer("201 Created", header, r#"{"code":"BAD"}"#), false),
    ] {
        let (url, _served) = server(vec![said]).await;
        let mut options = alone(url);
        options.create.answers.id_header = Some("Location".to_owned());
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await.unwrap();
        match refused {
            true => assert!(matches!(outcome[0], Outcome::Invalid { .. }), "{outcome:?}"),
            false => assert_eq!(outcome, [Outcome::Unknown], "an id and a fault"),
        }
    }
}

#[tokio::test]
async fn what_is_only_taken_is_under_a_ticket_whatever_id_the_answer_has() {
    let header = "location: https://oms.example/v1/async/job/42\r\n";
    let accepted = |ticket: &str| Outcome::Accepted { ticket: ticket.to_owned() };
    let identity = order("1").key.identity();
    let as_done =
        Rule { status: Some(202), code: None, is: Meaning::Created, scope: Scope::Second };
    for (said, rule, expected) in [
        (answer("202 Accepted", header, ""), None, accepted("42")),
        (answer("202 Accepted", header, "queued"), None, accepted("42")),
        (answer("202 Accepted", header, r#"{"ticket":"t-1"}"#), None, accepted("t-1")),
        (answer("202 Accepted", "", r#"{"id":"job-7"}"#), None, accepted("job-7")),
        (answer("202 Accepted", "", ""), None, accepted(&identity)),
        (answer("200 OK", header, r#"{"status":202}"#), None, accepted("42")),
        (answer("202 Accepted", header, r#"{"status":201,"id":"7"}"#), None, created("7")),
        (answer("202 Accepted", header, ""), Some(as_done), created("42")),
    ] {
        let (url, _served) = server(vec![said.clone()]).await;
        let mut options = alone(url);
        options.create.answers.id_header = Some("Location".to_owned());
        options.rules.extend(rule);
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await;
        assert_eq!(outcome, Ok(vec![expected]), "{said}");
    }
    let body = r#"{"results":[{"id":"a"},{"status":201,"id":"b"}]}"#;
    let (url, _served) = server(vec![answer("202 Accepted", "", body)]).await;
    let oms = Http::open(options(url)).unwrap();
    let outcomes = in_time("a submit", oms.submit(&[order("1"), order("2")])).await.unwrap();
    assert_eq!(outcomes, [accepted("a"), created("b")]);
}

#[tokio::test]
async fn answers_that_name_their_orders_may_come_in_any_order_and_one_that_lacks_is_unknown() {
    let identity = |id: &str| order(id).key.identity();
    let body = serde_json::json!({ "results": [
        { "ref": identity("3"), "id": "three" }, { "ref": "somebody else's", "id": "x" },
        { "ref": identity("1"), "id": "one" },
    ] });
    let (url, _served) = server(vec![answer("200 OK", "", &body.to_string())]).await;
    let mut options = options(url);
    options.create.answers.identity = Some("/ref".to_owned());
    let oms = Http::open(options).unwrap();
    let sent = [order("1"), order("2"), order("3")];
    let outcomes = in_time("a submit", oms.submit(&sent)).await.unwrap();
    assert_eq!(outcomes, [created("one"), Outcome::Unknown, created("three")]);
}

#[tokio::test]
async fn what_a_rule_calls_accepted_needs_no_ticket() {
    let body = r#"{"code":"DUPLICATE_VALUE"}"#;
    for (rule, accepted) in [(Some(Meaning::Accepted), true), (None, false)] {
        let (url, _served) = server(vec![answer("200 OK", "", body)]).await;
        let mut options = alone(url);
        let code = Some("DUPLICATE_VALUE".to_owned());
        let rule = rule.map(|is| Rule { status: None, code, is, scope: Scope::Second });
        options.rules.extend(rule);
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await.unwrap();
        let ticket = order("1").key.identity();
        assert_eq!(outcome == [Outcome::Accepted { ticket }], accepted, "{outcome:?}");
    }
}

#[tokio::test]
async fn an_order_is_known_by_its_word_where_an_identity_cannot_be_written() {
    let mut words = std::collections::BTreeSet::new();
    for id in ["a b", "A b", "a_b", "a-b", "a%20b", "ä", "_61"] {
        let (url, served) = server(vec![answer("201 Created", "", r#"{"id":"7"}"#)]).await;
        let mut options = alone(url);
        options.create.method = Method::Put;
        options.create.path = "/orders/eid:{{ identity|word }}".to_owned();
        options.create.body = Some(r#"{"externalId": {{ orders[0].identity|word }} }"#.to_owned());
        let oms = Http::open(options).unwrap();
        assert_eq!(in_time("a submit", oms.submit(&[order(id)])).await, Ok(vec![created("7")]));
        let (head, body) = served.await.unwrap().remove(0);
        let body: Value = serde_json::from_str(&body).unwrap();
        let word = body["externalId"].as_str().unwrap();
        assert!(head.starts_with(&format!("PUT /api/orders/eid:{word} ")), "{head}");
        let taken = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        assert!(word.bytes().all(taken), "{word}");
        assert!(words.insert(word.to_owned()), "{word} is another's");

        let said = serde_json::json!({ "identity": word, "id": "7" }).to_string();
        let (url, _served) = server(vec![answer("200 OK", "", &said)]).await;
        let mut options = alone(url);
        let find = options.find.as_mut().unwrap();
        (find.items, find.batch) = (None, 1);
        find.path = "/orders/eid:{{ identity|word }}".to_owned();
        let (oms, asked) = (Http::open(options).unwrap(), [key(id).identity()]);
        let found = in_time("a find", oms.find(&asked)).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().id, "7");
    }
    assert!(words.contains("forebay_3ademo_3aa_2520b"), "{words:?}");
}

#[tokio::test]
async fn orders_can_be_looked_up_elsewhere() {
    let items = r#"{"items":[{"identity":"forebay:demo:1","id":"one"}]}"#;
    let (url, served) = server(vec![answer("200 OK", "", items)]).await;
    let mut options = options("http://127.0.0.1:1".to_owned());
    let find = options.find.take().unwrap();
    options.find = Some(Find { url: Some(url), ..find });
    let oms = Http::open(options).unwrap();
    let found = in_time("a find", oms.find(&[key("1").identity()])).await.unwrap();
    assert_eq!(found[0].as_ref().unwrap().id, "one");
    assert!(served.await.unwrap()[0].0.starts_with("GET /api/orders?identity="));
}

#[tokio::test]
async fn amounts_are_written_as_the_oms_counts_them() {
    for (template, expected) in [
        (
            r#"{"cents": {{ orders[0].order.lines[0].line_amount|minor_units("EUR")|safe }} }"#,
            1_250,
        ),
        (
            r#"{"cents": {{ orders[0].order.lines[0].line_amount|minor_units("KWD")|safe }} }"#,
            12_500,
        ),
    ] {
        let (url, served) = server(vec![answer("201 Created", "", r#"{"id":"7"}"#)]).await;
        let mut options = alone(url);
        options.create.body = Some(template.to_owned());
        let oms = Http::open(options).unwrap();
        assert_eq!(in_time("a submit", oms.submit(&[order("1")])).await, Ok(vec![created("7")]));
        let sent: Value = serde_json::from_str(&served.await.unwrap()[0].1).unwrap();
        assert_eq!(sent["cents"], expected);
    }
    let mut options = alone("http://127.0.0.1:1".to_owned());
    let yen = "{{ orders[0].order.lines[0].line_amount|minor_units(\"JPY\") }}";
    options.create.body = Some(yen.to_owned());
    let outcomes = Http::open(options).unwrap().submit(&[order("1")]).await.unwrap();
    assert!(
        matches!(&outcomes[0], Outcome::Invalid { code, .. } if code == "template"),
        "{outcomes:?}"
    );
}

#[tokio::test]
async fn a_header_s_secret_is_read_from_its_file_with_each_call_and_shown_nowhere() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("key");
    let one = answer("201 Created", "", r#"{"id":"7"}"#);
    let none = answer("200 OK", "", r#"{"items":[]}"#);
    let (url, served) = server(vec![one, none]).await;
    let mut options = alone(url);
    options.header_files = BTreeMap::from([("X-Api-Key".to_owned(), file.clone())]);
    assert!(!format!("{options:?}").contains("s3cret"));
    let oms = Http::open(options).unwrap();
    let unread = in_time("a submit", oms.submit(&[order("1")])).await;
    assert_eq!(unread, Err(CallFailure::Unauthenticated), "and nothing is sent");
    std::fs::write(&file, "s3cret-1\n").unwrap();
    assert_eq!(in_time("a submit", oms.submit(&[order("1")])).await, Ok(vec![created("7")]));
    std::fs::write(&file, "s3cret-2\n").unwrap();
    assert_eq!(in_time("a find", oms.find(&[key("1").identity()])).await, Ok(vec![None]));
    let heads: Vec<_> = served.await.unwrap().into_iter().map(|(head, _)| head).collect();
    for (head, value) in heads.iter().zip(["s3cret-1", "s3cret-2"]) {
        assert!(head.to_lowercase().contains(&format!("x-api-key: {value}\r\n")), "{head}");
    }
}

#[test]
fn headers_that_cannot_be_sent_are_told_at_the_start() {
    for (name, value) in [("no header", "a"), ("prefer", "a\nb")] {
        let mut options = alone("http://127.0.0.1:1".to_owned());
        options.create.headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        let error = Http::open(options).err();
        assert!(matches!(error, Some(OpenError::Header { .. })), "{error:?}");
    }
}
