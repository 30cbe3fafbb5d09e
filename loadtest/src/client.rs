//! One keep-alive HTTP/1.1 connection that comes back after a failure.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// An answer longer than this is cut off and counts as none: a thousand listed orders take 400 KB.
const ANSWER_BYTES: usize = 16 << 20;

/// A connection to one address; connects when first used.
pub(crate) struct Connection {
    address: SocketAddr,
    host: HeaderValue,
    live: Option<Live>,
    /// Whether the last call went out on a connection kept from an earlier one.
    kept: bool,
}

struct Live {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// Whole seconds, where the server said so.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Bytes,
}

/// Why there is no complete answer. The request may have had its effect all the same.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("the connection to {address} failed: {reason}")]
    Connection {
        /// Where to.
        address: SocketAddr,
        /// What the operating system or the protocol said.
        reason: String,
    },
    /// Nothing within the time.
    #[error("no answer from {address} within {within:?}")]
    Timeout {
        /// Where to.
        address: SocketAddr,
        /// How long was waited.
        within: Duration,
    },
    /// Another status than wanted.
    #[error("{address}{path} answered {status}")]
    Status {
        /// Where to.
        address: SocketAddr,
        /// What was asked.
        path: String,
        /// What it answered.
        status: u16,
    },
    /// Not the JSON the contract says.
    #[error("{address}{path} answered what this release cannot read: {reason}")]
    Shape {
        /// Where to.
        address: SocketAddr,
        /// What was asked.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Connection {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let host = HeaderValue::from_str(&address.to_string());
        let host = host.unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { address, host, live: None, kept: false }
    }

    /// Sends one request once and waits for the whole answer. After an error the connection is a new one.
    pub(crate) async fn call(
        &mut self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Reply, CallError> {
        self.kept = self.live.as_ref().is_some_and(|live| !live.sender.is_closed());
        // Taken out, so that a failure or a dropped future leaves no half-read answer behind.
        let mut live = self.live.take();
        let reply = tokio::time::timeout(within, self.exchange(&mut live, request)).await;
        let reply = reply.map_err(|_| CallError::Timeout { address: self.address, within })?;
        let reply =
            reply.map_err(|reason| CallError::Connection { address: self.address, reason })?;
        self.live = live.filter(|live| !live.sender.is_closed());
        Ok(reply)
    }

    async fn exchange(
        &self,
        live: &mut Option<Live>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Reply, String> {
        let live = match live {
            Some(live) if !live.sender.is_closed() => live,
            gone => gone.insert(self.connect().await?),
        };
        request.headers_mut().insert(HOST, self.host.clone());
        live.sender.ready().await.map_err(words)?;
        let response = live.sender.send_request(request).await.map_err(words)?;
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|e| e.to_string())?;
        Ok(Reply { status: head.status, retry_after, body: body.to_bytes() })
    }

    async fn connect(&self) -> Result<Live, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(words)?;
        // What the connection ends with, the request in flight is told as well.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Live { sender, driver })
    }

    /// Whether a failed call may owe its failure to the server having closed the kept connection meanwhile.
    pub(crate) fn was_kept(&self) -> bool {
        self.kept
    }

    /// GETs a JSON document; `None` for 404.
    pub(crate) async fn get<T: DeserializeOwned>(
        &mut self,
        path: &str,
        within: Duration,
    ) -> Result<Option<T>, CallError> {
        let address = self.address;
        let shape = |reason: String| CallError::Shape { address, path: path.to_owned(), reason };
        let uri: Uri = path.parse().map_err(|e: http::uri::InvalidUri| shape(e.to_string()))?;
        let mut request = Request::new(Full::default());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = uri;
        let mut reply = self.call(request.clone(), within).await;
        if matches!(reply, Err(CallError::Connection { .. })) && self.kept {
            reply = self.call(request, within).await;
        }
        let reply = reply?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if reply.status != StatusCode::OK {
            let status = reply.status.as_u16();
            return Err(CallError::Status { address, path: path.to_owned(), status });
        }
        serde_json::from_slice(&reply.body).map(Some).map_err(|e| shape(e.to_string()))
    }
}

fn words(error: hyper::Error) -> String {
    error.to_string()
}
