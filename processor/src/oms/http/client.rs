//! One HTTP call, and the one thing a client must know of a call that failed: whether anything may have left.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
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
use tokio::sync::Notify;

use super::HttpOptions;
use crate::oms::CallFailure;

/// Bytes of an answer at most.
const ANSWER_MAX: usize = 16 << 20;
/// A connection is kept so long while nothing is sent: shorter than servers usually do, so that hardly any is used that its
/// server is about to close.
const IDLE: Duration = Duration::from_secs(4);

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
        let leaving = Arc::new(Leaving::new(request.body().is_empty()));
        let held = |bytes| Watched { bytes: Some(bytes), leaving: Arc::clone(&leaving) };
        let request = request.map(held);
        let call = async {
            let answer = self.inner.request(request).await.map_err(|error| {
                error.source().map_or_else(|| error.to_string(), ToString::to_string)
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| {
                match error.is::<LengthLimitError>() {
                    true => format!("the answer has more than {ANSWER_MAX} bytes"),
                    false => format!("the answer ended early: {error}"),
                }
            })?;
            let (status, headers) = (head.status, head.headers);
            Ok(Answer { status, headers, body: body.to_bytes() })
        };
        // A handshake may hang, too.
        let connecting = self.connect_timeout * 2;
        let hangs = async {
            tokio::time::sleep(connecting).await;
            if leaving.has_left() {
                std::future::pending::<()>().await;
            }
        };
        let late = async {
            leaving.left().await;
            // A sleep of nothing is one to the timer's next tick.
            if !self.answer_timeout.is_zero() {
                tokio::time::sleep(self.answer_timeout).await;
            }
        };
        let why: String = tokio::select! {
            biased;
            done = call => match done {
                Ok(answer) => return Ok(answer),
                Err(why) => why,
            },
            () = late => format!("no answer within {:?}", self.answer_timeout),
            () = hangs => format!("no connection within {connecting:?}"),
        };
        Err(match leaving.revoke() {
            true => CallFailure::NotSent(why),
            false => CallFailure::Unknown(why),
        })
    }
}

const HELD: u8 = 0;
const LEFT: u8 = 1;
const REVOKED: u8 = 2;

/// Whether a body has left, which is settled once: it leaves, or it is revoked and never does. The connection has a task of its own,
/// which may fetch the body at any moment.
struct Leaving {
    state: AtomicU8,
    told: Notify,
}

impl Leaving {
    /// An empty body has left from the start: its call is that of its head.
    fn new(empty: bool) -> Self {
        Self { state: AtomicU8::new(if empty { LEFT } else { HELD }), told: Notify::new() }
    }

    /// It is fetched; false if it was revoked.
    fn leave(&self) -> bool {
        let before = self.state.compare_exchange(HELD, LEFT, Ordering::AcqRel, Ordering::Acquire);
        self.told.notify_waiters();
        before != Err(REVOKED)
    }

    /// Keeps it from leaving; false if it has left.
    fn revoke(&self) -> bool {
        let before =
            self.state.compare_exchange(HELD, REVOKED, Ordering::AcqRel, Ordering::Acquire);
        before != Err(LEFT)
    }

    fn has_left(&self) -> bool {
        self.state.load(Ordering::Acquire) == LEFT
    }

    /// Returns once it has left.
    async fn left(&self) {
        loop {
            let told = self.told.notified();
            if self.has_left() {
                return;
            }
            told.await;
        }
    }
}

/// A body that notes when it is fetched. The head goes out with the first bytes of it, or alone where it is revoked, which is no
/// request.
struct Watched {
    bytes: Option<Bytes>,
    leaving: Arc<Leaving>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if !self.leaving.leave() {
            return Poll::Ready(Some(Err(io::Error::other("the call was given up"))));
        }
        let bytes = self.bytes.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_leaves_or_is_revoked_and_never_both() {
        let leaving = Leaving::new(false);
        assert!(leaving.leave() && leaving.leave() && leaving.has_left());
        assert!(!leaving.revoke());
        let leaving = Leaving::new(false);
        assert!(leaving.revoke() && leaving.revoke());
        assert!(!leaving.leave() && !leaving.has_left());
        assert!(!Leaving::new(true).revoke());
    }
}
