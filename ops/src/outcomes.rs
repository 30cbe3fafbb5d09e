//! `GET /v1/outcomes`: what became of orders, page by page, or as it happens (server-sent events).
//!
//! Nothing is kept of who reads: a reader says where it goes on. So it can be away for as long as the feed is kept,
//! and one that reads slowly, or not at all, holds nothing up.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Response};
use forebay_buffer::{Buffer, CursorError, FeedCursor, FeedError, FeedPage};
use forebay_processor::OrderManagement;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::View;
use crate::answer::{Answer, Problem, ok};

/// Readers at once; the door has connections left for whoever operates.
const READERS_MAX: usize = 64;
/// The longest a page is waited for.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A stream without events says so often that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events of a stream read at once.
const STREAM_PAGE: usize = 100;
/// A reader whose stream broke comes back after so many milliseconds.
const COME_BACK_MS: u32 = 1_000;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Places for readers.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS_MAX)))
    }
}

impl Readers {
    fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            let detail = format!("{READERS_MAX} others read the feed now; try again in a moment");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-readers", detail)
        })
    }
}

/// Query of [`get`].
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Asked {
    /// Where it goes on; none: from the beginning.
    after: Option<String>,
    limit: Option<usize>,
    /// As `10s` or `500ms`.
    wait: Option<String>,
}

impl Asked {
    /// The page's size: as asked, at most 1,000.
    fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, 1_000)
    }

    /// Of a stream that broke, where that was.
    fn cursor(&self, headers: &HeaderMap) -> Result<FeedCursor, Problem> {
        let (name, text) = match headers.get(LAST_EVENT_ID) {
            Some(last) => ("Last-Event-ID", last.to_str().unwrap_or_default()),
            None => ("after", self.after.as_deref().unwrap_or("0")),
        };
        text.parse().map_err(|wrong: CursorError| bad_request(&format!("{name}: is {wrong}")))
    }

    fn wait(&self) -> Result<Duration, Problem> {
        let Some(text) = self.wait.as_deref() else { return Ok(Duration::ZERO) };
        let wait = match text.strip_suffix("ms") {
            Some(number) => number.parse().map(Duration::from_millis),
            None => text.strip_suffix('s').unwrap_or(text).parse().map(Duration::from_secs),
        };
        let wrong = |_| bad_request("wait: is a time as 10s or 500ms, at most 30s");
        wait.map_err(wrong).map(|wait| wait.min(WAIT_MAX))
    }
}

/// `GET /v1/outcomes?after=&limit=&wait=`; with `Accept: text/event-stream` a stream.
pub(crate) async fn get<B: Buffer, O: OrderManagement>(
    State((view, readers)): State<(Arc<View<B, O>>, Readers)>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Answer {
    answer(view.buffer.clone(), &readers, asked, &headers).await
}

async fn answer<B: Buffer>(
    buffer: B,
    readers: &Readers,
    asked: Asked,
    headers: &HeaderMap,
) -> Answer {
    let place = readers.place()?;
    let (after, limit, wait) = (asked.cursor(headers)?, asked.limit(), asked.wait()?);
    if !accepts_stream(headers) {
        let FeedPage { events, next, .. } = buffer.feed(&after, limit, wait).await?;
        return ok(json!({ "events": events, "next": next }));
    }
    // What cannot be streamed is refused before the stream begins.
    let first = buffer.feed(&after, STREAM_PAGE, Duration::ZERO).await?;
    Ok(streamed(buffer, first, place))
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepts.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/event-stream"))
}

/// The stream that begins with that page. Where it cannot go on it ends, and whoever comes back is told why.
fn streamed<B: Buffer>(buffer: B, first: FeedPage, place: OwnedSemaphorePermit) -> Response {
    let begin = format!("retry: {COME_BACK_MS}\n\n{}", told(&first));
    // The place is held for as long as the stream is.
    let rest = stream::unfold((first.next, place), move |(after, place)| {
        let buffer = buffer.clone();
        async move {
            let page = buffer.feed(&after, STREAM_PAGE, HEARTBEAT).await.ok()?;
            Some((Ok::<_, Infallible>(told(&page)), (page.next, place)))
        }
    });
    let begin = stream::once(std::future::ready(Ok(begin)));
    let mut response = Body::from_stream(begin.chain(rest)).into_response();
    for (name, value) in
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")]
    {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A page's events as a stream tells them; without any, that the stream lives. The last event of a record bears as id the cursor of who
/// has had all of them.
fn told(page: &FeedPage) -> String {
    let mut text = String::new();
    let mut events = page.events.iter().enumerate().peekable();
    while let Some((at, event)) = events.next() {
        // It is a plain value, and a string takes any text.
        let data = serde_json::to_string(event).unwrap_or_default();
        write!(text, "event: {}\ndata: {data}\n", event.kind.word()).ok();
        if events.peek().is_none_or(|(_, next)| next.sequence != event.sequence) {
            writeln!(text, "id: {}", page.behind(at)).ok();
        }
        text.push('\n');
    }
    if text.is_empty() { ":\n\n".to_owned() } else { text }
}

fn bad_request(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        let detail = error.to_string();
        match error {
            FeedError::Gone { oldest } => {
                Self::new(StatusCode::GONE, "gone", detail).with("oldest", oldest)
            }
            FeedError::Ahead { newest } => {
                Self::new(StatusCode::CONFLICT, "ahead", detail).with("newest", newest)
            }
            FeedError::NotKept => Self::new(StatusCode::NOT_IMPLEMENTED, "no-feed", detail),
            FeedError::Buffer(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::BodyDataStream;
    use forebay_buffer::{Envelope, ExceptionCategory, FeedKind, Memory, SystemClock, Verdict};
    use forebay_order::{Fingerprint, OrderKey};
    use http_body_util::BodyExt as _;
    use serde_json::Value;

    use super::*;

    fn buffer() -> Memory {
        Memory::new(100, 1 << 20, Arc::new(SystemClock))
    }

    async fn post(buffer: &Memory, id: &str, content: u8) -> u64 {
        let key = OrderKey::new("shopify", "demo", id.to_owned());
        let envelope = Envelope {
            version: Some(content.into()),
            ..Envelope::new(key, Fingerprint([content; 16]), "body".into())
        };
        let permit = buffer.admission().admit(4).unwrap();
        buffer.append(envelope, permit).await.unwrap().sequence()
    }

    /// A record with two events: the order is refused, and the change that waited makes it pending again.
    async fn twofold(buffer: &Memory, id: &str) {
        post(buffer, id, 1).await;
        let lease = buffer.lease(1, Duration::ZERO).await.unwrap().remove(0);
        post(buffer, id, 2).await;
        let (category, reason) = (ExceptionCategory::Rejected, "no\nsuch product".to_owned());
        lease.settle(Verdict::Exception { category, reason });
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().cloned();
        pairs.map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    async fn ask(buffer: &Memory, query: &str, sent: &[(HeaderName, &'static str)]) -> Response {
        let uri = format!("/v1/outcomes?{query}").parse().unwrap();
        let Query(asked) = Query::<Asked>::try_from_uri(&uri).unwrap();
        let answer = answer(buffer.clone(), &Readers::default(), asked, &headers(sent)).await;
        answer.unwrap_or_else(axum::response::IntoResponse::into_response)
    }

    async fn json_of(response: Response) -> Value {
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    const STREAM: (HeaderName, &str) = (header::ACCEPT, "text/event-stream");

    /// Reads a stream until there are so many ids, and gives back its fields.
    async fn read(body: &mut BodyDataStream, ids: usize) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        while fields.iter().filter(|(name, _)| name == "id").count() < ids {
            let chunk = body.next().await.unwrap().unwrap();
            for line in std::str::from_utf8(&chunk).unwrap().lines() {
                if let Some((name, value)) = line.split_once(": ") {
                    fields.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        fields
    }

    fn of<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
        fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }

    #[tokio::test]
    async fn it_is_read_page_by_page() {
        let buffer = buffer();
        for id in ["1", "2", "3"] {
            post(&buffer, id, 1).await;
        }
        let page = json_of(ask(&buffer, "limit=2", &[]).await).await;
        let ids: Vec<_> = page["events"].as_array().unwrap().iter().map(|e| &e["key"]).collect();
        assert_eq!(ids, ["shopify:demo:1", "shopify:demo:2"]);
        assert_eq!(page["events"][0]["kind"], "accepted");
        let next = page["next"].as_str().unwrap();
        let page = json_of(ask(&buffer, &format!("after={next}"), &[]).await).await;
        assert_eq!(page["events"][0]["key"], "shopify:demo:3");
        let end = format!("after={}&wait=20ms", page["next"].as_str().unwrap());
        let page = json_of(ask(&buffer, &end, &[]).await).await;
        assert_eq!(page["events"].as_array().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_stream_goes_on_where_its_reader_was() {
        let buffer = buffer();
        twofold(&buffer, "1").await;
        let mut body = ask(&buffer, "after=0", &[STREAM]).await.into_body().into_data_stream();
        let fields = read(&mut body, 2).await;
        assert_eq!(of(&fields, "event"), ["accepted", "exception", "accepted"]);
        let data: Vec<Value> =
            of(&fields, "data").iter().map(|data| serde_json::from_str(data).unwrap()).collect();
        assert_eq!(data[1]["exception"]["reason"], "no\nsuch product");
        assert_eq!(data[1]["sequence"], data[2]["sequence"]);
        // Only all of a record is a place to go on after.
        assert_eq!(
            of(&fields, "id"),
            [data[0]["sequence"].to_string(), data[2]["sequence"].to_string()]
        );

        let (posted, fields) = tokio::join!(post(&buffer, "2", 1), read(&mut body, 1));
        assert_eq!(of(&fields, "id"), [posted.to_string()], "as it happens");
        drop(body);
        let again = [STREAM, (LAST_EVENT_ID, "1")];
        let mut body = ask(&buffer, "after=0", &again).await.into_body().into_data_stream();
        assert_eq!(of(&read(&mut body, 2).await, "event"), ["exception", "accepted", "accepted"]);
    }

    #[tokio::test]
    async fn a_stream_whose_buffer_closes_ends() {
        let buffer = buffer();
        post(&buffer, "1", 1).await;
        let mut body = ask(&buffer, "", &[STREAM]).await.into_body().into_data_stream();
        read(&mut body, 1).await;
        buffer.close().await;
        assert!(body.next().await.is_none());
    }

    #[test]
    fn a_stream_without_events_says_that_it_lives() {
        assert_eq!(told(&FeedPage::default()), ":\n\n");
    }

    #[tokio::test]
    async fn what_cannot_be_told_is_a_problem() {
        let buffer = buffer();
        post(&buffer, "1", 1).await;
        for (query, sent, status, word) in [
            ("after=99", &[STREAM][..], 409, "ahead"),
            ("after=99", &[], 409, "ahead"),
            ("wait=soon", &[], 400, "bad-request"),
            ("after=x", &[], 400, "bad-request"),
            ("after=v9.1.2", &[], 400, "bad-request"),
            ("after=0", &[STREAM, (LAST_EVENT_ID, "x")], 400, "bad-request"),
        ] {
            let response = ask(&buffer, query, sent).await;
            assert_eq!(response.status(), status, "{query}");
            let problem = json_of(response).await;
            assert!(problem["type"].as_str().unwrap().ends_with(word), "{problem}");
        }
        let gone = Problem::from(FeedError::Gone { oldest: 7 }).into_response();
        assert_eq!(gone.status(), StatusCode::GONE);
        assert_eq!(json_of(gone).await["oldest"], 7);
    }

    #[tokio::test]
    async fn readers_are_bounded_and_leave_their_place() {
        let (buffer, readers) = (buffer(), Readers::default());
        let open =
            async || answer(buffer.clone(), &readers, Asked::default(), &headers(&[STREAM])).await;
        let mut streams = Vec::new();
        for _ in 0..READERS_MAX {
            streams.push(open().await.unwrap());
        }
        let full = open().await.unwrap_err().into_response();
        assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
        streams.pop();
        open().await.unwrap();
    }

    #[test]
    fn words_are_those_of_the_buffer() {
        for kind in FeedKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }
}
