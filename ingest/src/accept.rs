//! The accept loop of one thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_buffer::Buffer;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::connection::drive;
use crate::door::Shared;
use crate::metrics;
use crate::problem::Problem;

/// Pause after an accept that failed for want of descriptors or memory, so that others can give some back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a refused connection may take to read why, and how many a thread lets do so at once.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
const REFUSALS_MAX: usize = 128;

/// A connection's seat under the cap; given back when dropped.
struct Seat<B>(Arc<Shared<B>>);

impl<B> Seat<B> {
    fn take(shared: &Arc<Shared<B>>) -> Option<Self> {
        let max = shared.config.connections_max;
        let add = |open: usize| (open < max).then_some(open + 1);
        let before = shared.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        metrics::connections(before + 1);
        Some(Self(Arc::clone(shared)))
    }
}

impl<B> Drop for Seat<B> {
    fn drop(&mut self) {
        let before = self.0.open.fetch_sub(1, Ordering::Relaxed);
        metrics::connections(before.saturating_sub(1));
    }
}

/// Accepts until `stop`, then waits up to `grace` for what is in flight. Connections still open then are cut:
/// their orders, if any are with the buffer, are safe; their answers are lost.
pub(crate) async fn accept<B: Buffer>(
    listener: TcpListener,
    shared: Arc<Shared<B>>,
    mut stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let mut connections = JoinSet::new();
    let mut refusals = JoinSet::new();
    let stopped = stop.clone();
    let mut stopping = std::pin::pin!(stop.wait_for(|stop| *stop));
    loop {
        tokio::select! {
            _ = &mut stopping => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a fault in the door ended a connection");
                }
            }
            Some(_) = refusals.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match Seat::take(&shared) {
                    Some(seat) => {
                        let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                        connections.spawn_local(async move {
                            // Answers are small and written whole; waiting to fill a packet only adds latency.
                            if stream.set_nodelay(true).is_ok() {
                                drive(stream, shared, stopped).await;
                            }
                            drop(seat);
                        });
                    }
                    None => {
                        metrics::refused("connections");
                        if refusals.len() < REFUSALS_MAX {
                            refusals.spawn_local(refuse(stream));
                        }
                    }
                },
                Err(error) if of_the_peer(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; trying again shortly");
                    metrics::refused("accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let in_flight = async { while connections.join_next().await.is_some() {} };
    if timeout(grace, in_flight).await.is_err() {
        tracing::warn!(open = connections.len(), "connections cut at the end of the grace time");
    }
}

/// Whether only the connection that was about to be accepted is at fault.
fn of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Says why, then reads on for a moment: closing with unread bytes would reset the connection and take
/// the answer with it.
async fn refuse(mut stream: TcpStream) {
    let answer = refusal().await;
    let told = timeout(REFUSAL_TIME, async {
        stream.write_all(&answer).await?;
        stream.shutdown().await?;
        let mut sink = [0u8; 1024];
        for _ in 0..64 {
            if stream.read(&mut sink).await? == 0 {
                break;
            }
        }
        Ok::<(), io::Error>(())
    });
    if !matches!(told.await, Ok(Ok(()))) {
        tracing::debug!("a refused connection did not read why");
    }
}

/// The refusal as bytes, since no HTTP server runs on this connection.
async fn refusal() -> Vec<u8> {
    let (head, body) = Problem::too_many_connections().respond("/").into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status, body.len());
    for (name, value) in &head.headers {
        bytes.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
