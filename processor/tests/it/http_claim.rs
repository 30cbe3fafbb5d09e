//! What an OMS over HTTP says of whose orders are drained to it, read and written.

use forebay_processor::oms::http::{ClaimNote, Http, HttpOptions, Method};
use forebay_processor::{CallFailure, Claim, OrderManagement};
use serde_json::Value;

use crate::http::{answer, options, server};
use crate::support::in_time;

fn note() -> ClaimNote {
    ClaimNote {
        url: None,
        path: "/claims/forebay".to_owned(),
        method: Method::Put,
        write_path: None,
        body: None,
        fleet: "/fleet".to_owned(),
        since_ms: "/since_ms".to_owned(),
    }
}

/// What comes of a claim where the OMS answers so, and what it was sent.
async fn claim(
    note: ClaimNote,
    take: bool,
    answers: &[(&str, &str)],
) -> (Result<Claim, CallFailure>, Vec<(String, String)>) {
    let answers = answers.iter().map(|(status, body)| answer(status, "", body)).collect();
    let (url, served) = server(answers).await;
    let oms = Http::open(HttpOptions { claim: Some(note), ..options(url) }).unwrap();
    let claim = in_time("a claim", oms.claim("ours", take)).await;
    (claim, in_time("the calls", served).await.unwrap())
}

#[tokio::test]
async fn nobodys_is_written_with_the_fleet_and_the_time() {
    for absent in
        [("404 Not Found", "[]"), ("200 OK", r#"{"fleet": null}"#), ("200 OK", r#"{"fleet": ""}"#)]
    {
        let (claim, calls) = claim(note(), false, &[absent, ("204 No Content", "")]).await;
        let Ok(Claim::Ours { taken_ms: Some(since_ms) }) = claim else { panic!("{claim:?}") };
        let [(read, _), (write, body)] = &calls[..] else { panic!("{calls:?}") };
        assert!(read.starts_with("GET /api/claims/forebay "), "{read}");
        assert!(write.starts_with("PUT /api/claims/forebay "), "{write}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body, serde_json::json!({ "fleet": "ours", "since_ms": since_ms }));
    }
}

#[tokio::test]
async fn ours_and_theirs_are_told_apart_and_only_theirs_is_taken() {
    let ours = r#"{"fleet": "ours", "since_ms": "1764500000000"}"#;
    for take in [false, true] {
        let (claim, calls) = claim(note(), take, &[("200 OK", ours)]).await;
        assert_eq!(claim, Ok(Claim::Ours { taken_ms: Some(1_764_500_000_000) }));
        assert_eq!(calls.len(), 1);
    }
    let theirs = r#"{"fleet": "theirs", "since_ms": 1764500000000.0}"#;
    let (other, _) = claim(note(), false, &[("200 OK", theirs)]).await;
    let since_ms = 1_764_500_000_000;
    assert_eq!(other, Ok(Claim::Theirs { fleet: "theirs".to_owned(), since_ms }));
    let (taken, calls) = claim(note(), true, &[("200 OK", theirs), ("200 OK", "{}")]).await;
    assert!(
        matches!(taken, Ok(Claim::Ours { taken_ms: Some(now) }) if now > since_ms),
        "{taken:?}"
    );
    assert!(calls[1].1.contains(r#""ours""#));
}

#[tokio::test]
async fn what_cannot_be_read_or_was_not_written_is_nobodys_word() {
    for (answers, what) in [
        (&[("404 Not Found", "<html>")][..], "404"),
        (&[("200 OK", "<html>")], "no JSON"),
        (&[("200 OK", r#"{"fleet": "ours"}"#)], "no time where oms.claim.since_ms says"),
        (&[("500 Internal Server Error", "{}")], "500"),
        (&[("404 Not Found", "{}"), ("400 Bad Request", "{}")], "400"),
        (&[("401 Unauthorized", "{}")], "credentials"),
    ] {
        let (claim, _) = claim(note(), false, answers).await;
        let failure = claim.unwrap_err().to_string();
        assert!(failure.contains(what), "{answers:?}: {failure}");
    }
}

#[tokio::test]
async fn it_is_written_elsewhere_and_otherwise_where_the_oms_wants_that() {
    let (url, served) =
        server(vec![answer("404 Not Found", "", "{}"), answer("201 Created", "", "{}")]).await;
    let body =
        r#"{"container": "forebay", "value": {"fleet": {{ fleet }}, "since": {{ since_ms }}}}"#;
    let note = ClaimNote {
        url: Some(url),
        path: "/custom-objects/forebay/claim".to_owned(),
        method: Method::Post,
        write_path: Some("/custom-objects".to_owned()),
        body: Some(body.to_owned()),
        fleet: "/value/fleet".to_owned(),
        since_ms: "/value/since".to_owned(),
    };
    let elsewhere = options("http://127.0.0.1:1".to_owned());
    let oms = Http::open(HttpOptions { claim: Some(note), ..elsewhere }).unwrap();
    assert!(matches!(oms.claim("ours", false).await, Ok(Claim::Ours { .. })));
    let calls = in_time("the calls", served).await.unwrap();
    assert!(calls[1].0.starts_with("POST /api/custom-objects "), "{}", calls[1].0);
    let body: Value = serde_json::from_str(&calls[1].1).unwrap();
    assert_eq!((&body["container"], &body["value"]["fleet"]), (&"forebay".into(), &"ours".into()));
    assert!(body["value"]["since"].is_i64());
}
