//! One HTTP call, and the one thing a client must know of a call that failed: whether anything may have left.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Frame, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use super::HttpOptions;
use crate::oms::CallFailure;

/// Bytes of an answer at most.
const ANSWER_MAX: usize = 16 << 20;
/// A connection is kept so long while nothing is sent: shorter than servers usually do, so that hardly any is used that its
/// server is about to close.
const IDLE: Duration = Duration::from_secs(10);

/// Calls one OMS. Follows no redirect: where orders go is configured, not told.
pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Watched>,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Client {
    pub(super) fn new(options: &HttpOptions, tls: ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(options.connect_timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(options.connections)
            .build(connector);
        let (connect_timeout, answer_timeout) = (options.connect_timeout, options.answer_timeout);
        Self { inner, connect_timeout, answer_timeout }
    }

    /// One call, once.
    ///
    /// # Errors
    /// [`CallFailure::NotSent`] where not a byte of the body left, [`CallFailure::Unknown`] where some may have and no complete
    /// answer came.
    pub(super) async fn call(&self, request: Request<Bytes>) -> Result<Answer, CallFailure> {
        let left = Arc::new(AtomicBool::new(request.body().is_empty()));
        let request = request.map(|bytes| Watched { bytes: Some(bytes), left: Arc::clone(&left) });
        let call = async {
            let answer = self.inner.request(request).await.map_err(|error| {
                let connects = error.is_connect();
                (error.source().map_or_else(|| error.to_string(), ToString::to_string), connects)
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| {
                let why = match error.is::<LengthLimitError>() {
                    true => format!("the answer has more than {ANSWER_MAX} bytes"),
                    false => format!("the answer ended early: {error}"),
                };
                (why, false)
            })?;
            let (status, headers) = (head.status, head.headers);
            Ok(Answer { status, headers, body: body.to_bytes() })
        };
        // A handshake that hangs is over before the answer is, and nothing has left by then.
        let connects = tokio::time::timeout(self.connect_timeout * 2, std::future::pending::<()>());
        let hangs = async {
            drop(connects.await);
            if left.load(Ordering::Acquire) {
                std::future::pending().await
            }
        };
        let (why, connects) = tokio::select! {
            biased;
            done = tokio::time::timeout(self.answer_timeout, call) => match done {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => failed,
                Err(_) => (format!("no answer within {:?}", self.answer_timeout), false),
            },
            () = hangs => (format!("no connection within {:?}", self.connect_timeout * 2), true),
        };
        Err(match connects || !left.load(Ordering::Acquire) {
            true => CallFailure::NotSent(why),
            false => CallFailure::Unknown(why),
        })
    }
}

/// A body that notes when it is fetched. The head goes out with the first bytes of it, never before.
struct Watched {
    bytes: Option<Bytes>,
    left: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.left.store(true, Ordering::Release);
        Poll::Ready(
            self.bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
