//! An OMS that wants its changes in a session: what it is sent, and when a new session is had.

use forebay_processor::oms::http::{Http, HttpOptions};
use forebay_processor::{CallFailure, OrderManagement, Outcome};

use crate::http::{answer, options, server};
use crate::support::{in_time, order};

fn token(token: &str) -> String {
    let headers = format!(
        "x-csrf-token: {token}\r\nset-cookie: usercontext=client=100; path=/\r\nset-cookie: SESSION={token}-1; path=/; HttpOnly\r\n"
    );
    answer("200 OK", &headers, "{}")
}

fn created() -> String {
    answer("200 OK", "", r#"{"results": [{"status": 201, "id": "SO-1"}]}"#)
}

fn over() -> String {
    answer("403 Forbidden", "X-CSRF-Token: Required\r\n", r#"{"error": {"code": "403"}}"#)
}

/// What comes of so many creates where the OMS answers so, and the heads of what it was sent.
async fn sold(
    orders: usize,
    answers: Vec<String>,
) -> (Vec<Result<Vec<Outcome>, CallFailure>>, Vec<String>) {
    let (url, served) = server(answers).await;
    let csrf_path = Some("/service/".to_owned());
    let oms = Http::open(HttpOptions { csrf_path, ..options(url) }).unwrap();
    let mut outcomes = Vec::new();
    for n in 0..orders {
        outcomes.push(in_time("a submit", oms.submit(&[order(&n.to_string())])).await);
    }
    let calls = in_time("the calls", served).await.unwrap();
    (outcomes, calls.into_iter().map(|(head, _)| head.to_lowercase()).collect())
}

fn is_created(outcome: &Result<Vec<Outcome>, CallFailure>) -> bool {
    matches!(outcome.as_deref(), Ok([Outcome::Created { .. }]))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_goes_with_its_cookies() {
    let (outcomes, calls) = sold(2, vec![token("abc"), created(), created()]).await;
    assert!(outcomes.iter().all(is_created), "{outcomes:?}");
    assert!(calls[0].starts_with("get /api/service/ ") && calls[0].contains("x-csrf-token: fetch"));
    for call in &calls[1..] {
        assert!(call.starts_with("post /api/orders ") && call.contains("x-csrf-token: abc"));
        assert!(call.contains("cookie: usercontext=client=100; session=abc-1"), "{call}");
    }
}

#[tokio::test]
async fn a_session_that_is_over_is_followed_by_a_new_one_and_the_call_made_again() {
    let answers = vec![token("one"), created(), over(), token("two"), created()];
    let (outcomes, calls) = sold(2, answers).await;
    assert!(outcomes.iter().all(is_created), "{outcomes:?}");
    assert!(calls[2].contains("x-csrf-token: one") && calls[4].contains("x-csrf-token: two"));
    assert!(calls[4].contains("session=two-1") && !calls[4].contains("one"), "{}", calls[4]);
}

#[tokio::test]
async fn where_no_token_is_good_nothing_was_sent_that_could_have_an_effect() {
    for (answers, what) in [
        (vec![token("one"), over(), token("two"), over()], "refuses the token"),
        (vec![answer("200 OK", "", "{}")], "no token was told at oms.csrf_path"),
        (vec![answer("404 Not Found", "x-csrf-token: abc\r\n", "{}")], "it answered 404"),
    ] {
        let (outcomes, _) = sold(1, answers).await;
        let Err(CallFailure::NotSent(why)) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert!(why.contains(what), "{why}");
    }
    let (outcomes, _) = sold(1, vec![answer("401 Unauthorized", "", "{}")]).await;
    assert_eq!(outcomes, [Err(CallFailure::Unauthenticated)]);
}
