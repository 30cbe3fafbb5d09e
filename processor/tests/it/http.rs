//! What a client must tell apart on the wire: nothing left, something may have, and what was answered.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_processor::oms::http::{
    Answers, Auth, CallLimits, Create, Find, Http, HttpOptions, Meaning, Method, Rule,
};
use forebay_processor::{CallFailure, Found, Guarantee, OrderManagement, Outcome, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{in_time, key, order};

pub(crate) fn options(url: String) -> HttpOptions {
    HttpOptions {
        url,
        roots: None,
        test: true,
        connections: 2,
        identity_max: 255,
        connect_timeout: Duration::from_millis(200),
        answer_timeout: Duration::from_millis(700),
        auth: Auth::Nobody,
        header_files: BTreeMap::new(),
        csrf_path: None,
        create: Create {
            method: Method::Post,
            headers: BTreeMap::new(),
            values: BTreeMap::new(),
            path: "/orders".to_owned(),
            body: None,
            batch: 10,
            bytes: 1 << 20,
            idempotency_header: None,
            refuses_second: false,
            answers: Answers { items: Some("/results".to_owned()), ..Answers::default() },
        },
        find: Some(Find {
            url: None,
            path: "/orders?{% for i in identities %}identity={{ i }}&{% endfor %}".to_owned(),
            batch: 10,
            items: Some("/items".to_owned()),
            identity: "/identity".to_owned(),
            id: "/id".to_owned(),
            fingerprint: Some("/fingerprint".to_owned()),
            visible_after: Duration::ZERO,
        }),
        list: None,
        claim: None,
        rules: Vec::new(),
        limits: CallLimits::default(),
        calls_kept: None,
    }
}

/// Reads one request; its head and body.
async fn request(stream: &mut TcpStream) -> (String, String) {
    let mut read = Vec::new();
    loop {
        let mut more = [0; 4096];
        let n = stream.read(&mut more).await.unwrap();
        assert!(n > 0, "the client goes away in the middle of a request");
        read.extend_from_slice(&more[..n]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head_lower = head.to_lowercase();
        let length = head_lower.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
        if body.len() >= length {
            return (head.to_owned(), body.to_owned());
        }
    }
}

/// A server that answers each of its requests with the next of these texts, and then closes.
pub(crate) async fn server(
    answers: Vec<String>,
) -> (String, tokio::task::JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            requests.push(request(&mut stream).await);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        requests
    });
    (url, served)
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

async fn submit_two(options: HttpOptions) -> Result<Vec<Outcome>, CallFailure> {
    let oms = Http::open(options).unwrap();
    in_time("a submit", oms.submit(&[order("1"), order("2")])).await
}

#[tokio::test]
async fn nothing_left_where_nobody_listens_or_no_handshake_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = submit_two(options(format!("https://{address}"))).await;
    assert!(matches!(silent, Err(CallFailure::NotSent(_))), "{silent:?}");
    drop(listener);
    let refused = submit_two(options(format!("http://{address}"))).await;
    assert!(matches!(refused, Err(CallFailure::NotSent(_))), "{refused:?}");
}

#[tokio::test]
async fn once_bytes_may_have_left_only_a_complete_answer_says_anything() {
    for (what, said) in [
        ("cut before an answer", String::new()),
        ("cut in the head", "HTTP/1.1 200 OK\r\ncontent-".to_owned()),
        (
            "cut in the body",
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"results\"".to_owned(),
        ),
        ("a refusal cut in the body", "HTTP/1.1 422 No\r\ncontent-length: 100\r\n\r\n{".to_owned()),
        ("no JSON", answer("200 OK", "", "done")),
        ("an answer too few", answer("200 OK", "", r#"{"results":[{"status":201,"id":"a"}]}"#)),
        ("a broken gateway", answer("502 Bad Gateway", "", "")),
    ] {
        let (url, _served) = server(vec![said]).await;
        let outcome = submit_two(options(url)).await;
        assert!(matches!(outcome, Err(CallFailure::Unknown(_))), "{what}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_is_unknown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let holds = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0, "the client hangs up");
    });
    let outcome = submit_two(options(url)).await;
    assert!(matches!(outcome, Err(CallFailure::Unknown(_))), "{outcome:?}");
    holds.await.unwrap();
}

#[tokio::test]
async fn a_whole_call_that_failed_is_told_by_its_status_and_the_rules_before_it() {
    let limit = r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"no more"}]"#;
    let day = Rule {
        status: Some(403),
        code: Some("REQUEST_LIMIT_EXCEEDED".to_owned()),
        is: Meaning::Overloaded,
        scope: Scope::Day,
    };
    let concurrency = Rule {
        status: None,
        code: Some("SSS_REQUEST_LIMIT_EXCEEDED".to_owned()),
        is: Meaning::Overloaded,
        scope: Scope::Concurrency,
    };
    let rules = vec![day, concurrency];
    let overloaded = |after, scope| CallFailure::Overloaded { after, scope };
    for (said, expected) in [
        (answer("401 No", "", ""), CallFailure::Unauthenticated),
        (answer("403 No", "", ""), CallFailure::Unauthenticated),
        (answer("403 No", "", limit), overloaded(Some(Duration::from_secs(900)), Scope::Day)),
        (
            answer("429 Slow", "retry-after: 17\r\n", ""),
            overloaded(Some(Duration::from_secs(17)), Scope::Second),
        ),
        (
            answer("400 No", "", r#"{"error":{"code":"SSS_REQUEST_LIMIT_EXCEEDED"}}"#),
            overloaded(None, Scope::Concurrency),
        ),
        (
            answer(
                "400 No",
                "",
                r#"{"code":"BAD","message":"ask ada@example.com or 0049301234567"}"#,
            ),
            CallFailure::Refused("BAD: ask ... or ...".to_owned()),
        ),
        (answer("404 Gone", "", ""), CallFailure::NotSent("it answered 404".to_owned())),
        (
            answer("307 Away", "location: http://127.0.0.1:1/\r\n", ""),
            CallFailure::NotSent("it answered 307".to_owned()),
        ),
    ] {
        let (url, _served) = server(vec![said.clone()]).await;
        let outcome = submit_two(HttpOptions { rules: rules.clone(), ..options(url) }).await;
        assert_eq!(outcome, Err(expected), "{said}");
    }
}

#[tokio::test]
async fn each_order_has_its_own_outcome_and_what_was_sent_is_what_was_asked_for() {
    let sent: Vec<_> = (1..=8).map(|n| order(&n.to_string())).collect();
    let (same, other) = (sent[2].fingerprint, sent[0].fingerprint);
    let body = format!(
        r#"{{"results":[
            {{"status":201,"id":"a"}}, {{"status":200,"id":7}},
            {{"status":409,"id":"c","fingerprint":"{same}"}}, {{"status":409,"id":"d","fingerprint":"{other}"}},
            {{"success":false,"errors":[{{"code":"NO_SUCH_PRODUCT","message":"no"}}]}},
            {{"status":503,"code":"TRY_LATER","retry_after_s":3}},
            {{"status":202,"ticket":"t-1"}}, {{"status":500}} ]}}"#
    );
    let (url, served) = server(vec![answer("200 OK", "", &body)]).await;
    let create = Create {
        body: Some(r#"{"all":[{% for one in orders %}{{ one.identity }}{% if not loop.last %},{% endif %}{% endfor %}]}"#.to_owned()),
        ..options(String::new()).create
    };
    let oms = Http::open(HttpOptions { create, ..options(url) }).unwrap();
    let outcomes = in_time("a submit", oms.submit(&sent)).await.unwrap();
    let created = |id: &str| Outcome::Created { id: id.to_owned() };
    let existing = |id: &str, same| Outcome::Existing { id: id.to_owned(), same: Some(same) };
    let expected = [
        created("a"),
        created("7"),
        existing("c", true),
        existing("d", false),
        Outcome::Invalid { code: "NO_SUCH_PRODUCT".to_owned(), reason: "no".to_owned() },
        Outcome::NotDone { after: Duration::from_secs(3) },
        Outcome::Accepted { ticket: "t-1".to_owned() },
        Outcome::Unknown,
    ];
    assert_eq!(outcomes, expected);
    let (head, body) = served.await.unwrap().remove(0);
    assert!(head.starts_with("POST /api/orders HTTP/1.1\r\n"), "{head}");
    let identities: Vec<_> = sent.iter().map(|order| order.key.identity()).collect();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["all"], serde_json::json!(identities));
}

#[tokio::test]
async fn a_call_of_one_order_is_read_as_that_order_s_answer_and_in_doubt_as_unknown() {
    let unknown = |outcome: &Result<Vec<Outcome>, CallFailure>| {
        matches!(outcome.as_deref(), Ok([Outcome::Unknown]) | Err(CallFailure::Unknown(_)))
    };
    let existing = |same| Ok(vec![Outcome::Existing { id: "a".to_owned(), same }]);
    let invalid = |code: &str| {
        let (code, reason) = (code.to_owned(), "it says no more".to_owned());
        Ok(vec![Outcome::Invalid { code, reason }])
    };
    let created = || Ok(vec![Outcome::Created { id: "7".to_owned() }]);
    let wait = Some(Duration::from_secs(9));
    for (said, expected) in [
        (answer("201 Created", "", r#"{"id":7,"code":"OK"}"#), Some(created())),
        (answer("409 Taken", "", r#"{"id":"a","code":"DUP"}"#), Some(existing(None))),
        (answer("409 Taken", "", r#"{"code":"DUP"}"#), None),
        (answer("422 No", "", r#"{"code":"BAD"}"#), Some(invalid("BAD"))),
        (answer("422 No", "", ""), Some(invalid("422"))),
        (answer("404 No", "", r#"{"code":"NO_SKU"}"#), Some(invalid("NO_SKU"))),
        (
            answer("404 No", "", "no such path"),
            Some(Err(CallFailure::NotSent("it answered 404".to_owned()))),
        ),
        (answer("303 See", "location: /orders/7\r\n", ""), None),
        (answer("503 Away", "", ""), None),
        (
            answer("503 Away", "retry-after: 9\r\n", ""),
            Some(Err(CallFailure::Overloaded { after: wait, scope: Scope::Second })),
        ),
        (answer("200 OK", "", r#"{"id":"","error":{"code":"BAD"}}"#), Some(invalid("BAD"))),
        (answer("200 OK", "", r#"{"id":""}"#), None),
        (answer("200 OK", "", r#"{"id":"a","error":{"code":"BAD"}}"#), None),
    ] {
        let (url, _served) = server(vec![said.clone()]).await;
        let mut options = options(url);
        options.create.answers.items = None;
        options.create.batch = 1;
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await;
        match expected {
            Some(expected) => assert_eq!(outcome, expected, "{said}"),
            None => assert!(unknown(&outcome), "{said}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn that_a_key_is_in_use_is_no_order_where_nobody_can_be_asked() {
    for (said, expected) in
        [(r#"{"code":"idempotency_key_in_use"}"#, None), (r#"{"id":"a"}"#, Some("a"))]
    {
        let (url, _served) = server(vec![answer("409 Taken", "", said)]).await;
        let mut options = options(url);
        (options.find, options.create.batch, options.create.answers.items) = (None, 1, None);
        options.create.idempotency_header = Some("Idempotency-Key".to_owned());
        let after = options.answer_timeout;
        let oms = Http::open(options).unwrap();
        let outcome = in_time("a submit", oms.submit(&[order("1")])).await.unwrap();
        let existing = |id: &str| Outcome::Existing { id: id.to_owned(), same: None };
        let expected = expected.map_or(Outcome::Retry { after }, existing);
        assert_eq!(outcome, [expected], "{said}");
    }
}

#[tokio::test]
async fn an_order_by_its_own_path_is_absent_only_if_the_oms_says_so() {
    for (said, absent) in [
        (answer("404 No", "", r#"{"message":"no such order"}"#), true),
        (answer("404 No", "", "default backend - 404"), false),
        (answer("200 OK", "", r#"{"identity":"another spelling","id":"7"}"#), false),
    ] {
        let (url, _served) = server(vec![said]).await;
        let mut options = options(url);
        let find = options.find.as_mut().unwrap();
        (find.items, find.batch, find.path) = (None, 1, "/orders/{{ identity }}".to_owned());
        let oms = Http::open(options).unwrap();
        let found = in_time("a find", oms.find(&[key("a/b c").identity()])).await;
        assert_eq!(found == Ok(vec![None]), absent, "{found:?}");
    }
}

#[tokio::test]
async fn a_look_up_finds_by_identity_in_any_order() {
    let asked = [key("a b").identity(), key("2").identity(), key("3").identity()];
    let items = serde_json::json!({ "items": [
        { "identity": asked[2], "id": "three", "fingerprint": order("3").fingerprint },
        { "identity": asked[0], "id": "one" },
        { "identity": "somebody else's", "id": "four" },
    ] });
    let (url, served) = server(vec![answer("200 OK", "", &items.to_string())]).await;
    let oms = Http::open(options(url)).unwrap();
    let found = in_time("a find", oms.find(&asked)).await.unwrap();
    let one = Found { id: "one".to_owned(), fingerprint: None };
    let three = Found { id: "three".to_owned(), fingerprint: Some(order("3").fingerprint) };
    assert_eq!(found, [Some(one), None, Some(three)]);
    let (head, _) = served.await.unwrap().remove(0);
    let path = head.split(' ').nth(1).unwrap();
    assert_eq!(path.matches("identity=").count(), 3, "{path}");
    assert!(!path.contains(' '), "{path}");
    for unclear in ["", "{}", r#"{"items":[{"id":"one"}]}"#, r#"{"items":[{"identity":"a"}]}"#] {
        let (url, _served) = server(vec![answer("200 OK", "", unclear)]).await;
        let found = in_time("a find", Http::open(options(url)).unwrap().find(&asked)).await;
        assert!(matches!(found, Err(CallFailure::Unknown(_))), "{unclear}: {found:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_goes_in_parts_and_an_order_over_it_is_told() {
    let one = r#"{"results":[{"status":201,"id":"a"}]}"#;
    let (url, served) = server(vec![answer("200 OK", "", one), answer("200 OK", "", one)]).await;
    let length = serde_json::to_string(&order("1")).unwrap().len() + 200;
    let create = Create { bytes: length, ..options(String::new()).create };
    let outcomes = submit_two(HttpOptions { create, ..options(url) }).await.unwrap();
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Outcome::Created { .. })),
        "{outcomes:?}"
    );
    assert_eq!(served.await.unwrap().len(), 2);
    let create = Create { bytes: 10, ..options(String::new()).create };
    let outcomes =
        submit_two(HttpOptions { create, ..options("http://127.0.0.1:1".to_owned()) }).await;
    let too_large =
        |outcome: &Outcome| matches!(outcome, Outcome::Invalid { code, .. } if code == "too_large");
    assert!(outcomes.as_ref().unwrap().iter().all(too_large), "{outcomes:?}");
}

#[tokio::test]
async fn a_submit_of_several_calls_begins_none_once_a_call_s_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        for id in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            request(&mut stream).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let created = answer("201 Created", "", &format!(r#"{{"id":"{id}"}}"#));
            stream.write_all(created.as_bytes()).await.unwrap();
        }
    });
    let mut options = options(url);
    (options.create.answers.items, options.create.batch) = (None, 1);
    options.answer_timeout = Duration::from_secs(3);
    let oms = Http::open(options).unwrap();
    let orders = ["1", "2", "3", "4"].map(order);
    let outcomes = in_time("a submit", oms.submit(&orders)).await.unwrap();
    let created = |id: &str| Outcome::Created { id: id.to_owned() };
    let later = || Outcome::NotDone { after: Duration::ZERO };
    assert_eq!(outcomes, [created("1"), created("2"), later(), later()]);
    served.abort();
}

#[tokio::test]
async fn a_template_that_does_not_fit_is_told_without_what_the_order_holds() {
    let create =
        |body: &str| Create { body: Some(body.to_owned()), ..options(String::new()).create };
    let url = || "http://127.0.0.1:1".to_owned();
    let opened = Http::open(HttpOptions { create: create("{% for %}"), ..options(url()) });
    assert!(opened.err().unwrap().to_string().contains("line 1"));
    for template in [
        "{{ nobody.knows }}",
        "{\"all\": [{% for one in orders %}{{ one.identity }},{% endfor %}]}",
    ] {
        let oms = Http::open(HttpOptions { create: create(template), ..options(url()) }).unwrap();
        let outcomes = oms.submit(&[order("1")]).await.unwrap();
        let [Outcome::Invalid { code, reason }] = outcomes.as_slice() else {
            panic!("{outcomes:?}")
        };
        assert_eq!(code, "template");
        assert!(reason.contains("line 1"), "{reason}");
        assert!(!reason.contains(&order("1").key.identity()), "{reason}");
    }
}

#[test]
fn the_guarantee_is_what_is_configured() {
    let base = options("http://127.0.0.1:1".to_owned());
    assert_eq!(base.guarantee(), Guarantee::LookedUp);
    let asked = HttpOptions { find: None, ..base.clone() };
    assert_eq!(asked.guarantee(), Guarantee::AtLeastOnce);
    let mut keyed = asked.clone();
    keyed.create.idempotency_header = Some("Idempotency-Key".to_owned());
    assert_eq!(keyed.guarantee(), Guarantee::AtLeastOnce, "in a batch the key changes");
    keyed.create.batch = 1;
    assert_eq!(keyed.guarantee(), Guarantee::IdempotencyKey);
    keyed.create.refuses_second = true;
    assert_eq!(keyed.guarantee(), Guarantee::UniqueId);
}
