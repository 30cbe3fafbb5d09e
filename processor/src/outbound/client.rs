//! One HTTP call, and the one thing a client must know of a call that failed: whether anything may have left.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::Notify;

/// Bytes of an answer at most, where it is read.
const ANSWER_MAX: usize = 16 << 20;
/// Where it is not: bytes, and time, spent on it all the same, so that the connection can be used again.
const UNREAD_MAX: usize = 16 << 10;
const UNREAD_WAIT: Duration = Duration::from_secs(1);
/// A connection is kept so long while nothing is sent: shorter than servers usually do, so that hardly any is used that its
/// server is about to close.
const IDLE: Duration = Duration::from_secs(4);

/// Calls one server. Follows no redirect: where things go is configured, not told.
pub struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Watched>,
    deadlines: Deadlines,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("deadlines", &self.deadlines).finish_non_exhaustive()
    }
}

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a connection; a handshake may take as long again.
    pub connect: Duration,
    /// For the answer, from when the request left.
    pub answer: Duration,
}

/// A complete answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// All of its body.
    pub body: Bytes,
}

/// What an answer begins with, where its body is of no interest.
#[derive(Debug)]
pub struct Told {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Not a byte of the body left.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// Some may have, and what became of it nobody said.
    #[error("no complete answer: {0}")]
    Unknown(String),
}

impl Client {
    /// One that keeps so many connections; nothing is connected yet.
    pub fn new(tls: ClientConfig, deadlines: Deadlines, connections: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(deadlines.connect));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            .build(connector);
        Self { inner, deadlines }
    }

    /// One call, once, with its whole answer.
    ///
    /// # Errors
    /// [`Failed`]: there is no complete one.
    pub async fn call(&self, request: Request<Bytes>) -> Result<Answer, Failed> {
        let whole = |answer: Response<Incoming>| async {
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
        self.exchange(request, whole).await
    }

    /// One call, once, to a server that says all with its status.
    ///
    /// # Errors
    /// [`Failed`]: there is none.
    pub async fn tell(&self, request: Request<Bytes>) -> Result<Told, Failed> {
        let answer = self.exchange(request, |answer| async { Ok(answer) }).await?;
        let (head, body) = answer.into_parts();
        // Whatever comes of it, the status was told.
        let unread = Limited::new(body, UNREAD_MAX).collect();
        tokio::time::timeout(UNREAD_WAIT, unread).await.ok();
        Ok(Told { status: head.status, headers: head.headers })
    }

    async fn exchange<T, F: Future<Output = Result<T, String>> + Send>(
        &self,
        request: Request<Bytes>,
        read: impl FnOnce(Response<Incoming>) -> F + Send,
    ) -> Result<T, Failed> {
        let leaving = Arc::new(Leaving::new(request.body().is_empty()));
        let held = |bytes| Watched { bytes: Some(bytes), leaving: Arc::clone(&leaving) };
        let request = request.map(held);
        let call = async {
            let answer = self.inner.request(request).await.map_err(|error| {
                error.source().map_or_else(|| error.to_string(), ToString::to_string)
            })?;
            read(answer).await
        };
        // A handshake may hang, too.
        let connecting = self.deadlines.connect * 2;
        let hangs = async {
            tokio::time::sleep(connecting).await;
            if leaving.has_left() {
                std::future::pending::<()>().await;
            }
        };
        let late = async {
            leaving.left().await;
            // A sleep of nothing is one to the timer's next tick.
            if !self.deadlines.answer.is_zero() {
                tokio::time::sleep(self.deadlines.answer).await;
            }
        };
        let why: String = tokio::select! {
            biased;
            done = call => match done {
                Ok(answer) => return Ok(answer),
                Err(why) => why,
            },
            () = late => format!("no answer within {:?}", self.deadlines.answer),
            () = hangs => format!("no connection within {connecting:?}"),
        };
        Err(match leaving.revoke() {
            true => Failed::NotSent(why),
            false => Failed::Unknown(why),
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
