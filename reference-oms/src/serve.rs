//! The listener: connections, with or without TLS, that can be cut in the midst of a call.

use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::http::{Peer, Reset, router};
use crate::ledger::LedgerError;
use crate::oms::{Oms, Options};
use crate::teller;
use crate::tls::{self, TlsError};

const CONNECTIONS_MAX: usize = 1_024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long calls under way may take at the end.
const GRACE: Duration = Duration::from_secs(5);
/// A request line holds the identities of a look-up.
const HEADERS_MAX: usize = 256 << 10;

/// Why there is no OMS.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No listener.
    #[error("the listener: {0}")]
    Listen(#[from] std::io::Error),
}

/// A reference OMS that listens; [`Server::run`] lets it answer.
pub struct Server {
    listener: tokio::net::TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    oms: Arc<Oms>,
}

impl Server {
    /// Opens the ledger and takes the listener, within a tokio runtime. Blocks for the disk.
    ///
    /// # Errors
    /// [`StartError`], with nothing changed.
    pub fn open(options: &Options, listener: TcpListener) -> Result<Self, StartError> {
        let tls = options.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let oms = Arc::new(Oms::open(options)?);
        Ok(Self { listener, address, tls, oms })
    }

    /// Where it listens; the port is the real one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop` is over; then calls under way are finished, for up to 5 s, and the ledger is closed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, tls, oms, .. } = self;
        let (stopping, stopped) = watch::channel(false);
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let teller = tokio::spawn(teller::run(Arc::clone(&oms)));
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &room) => accepted,
                () = &mut stop => break,
            };
            // What has ended is let go of.
            while connections.try_join_next().is_some() {}
            let Some((stream, peer, permit)) = accepted else { continue };
            let (router, stopped, tls) = (router(Arc::clone(&oms)), stopped.clone(), tls.clone());
            connections.spawn(async move {
                connection(stream, peer, tls, router, stopped).await;
                drop(permit);
            });
        }
        drop(listener);
        stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!("calls were cut off at the end of the grace time");
        }
        connections.shutdown().await;
        teller.abort();
        drop(teller.await);
        // The last one: closing the ledger waits for the disk.
        drop(tokio::task::spawn_blocking(move || drop(oms)).await);
    }
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

async fn accept(listener: &tokio::net::TcpListener, room: &Arc<Semaphore>) -> Option<Accepted> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    stopped: watch::Receiver<bool>,
) {
    // Answers are small; one must not wait for the acknowledgement of another.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    match tls {
        None => serve(stream, peer, router, stopped).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, peer, router, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS with a caller"),
            Err(_) => tracing::debug!("a caller took too long for TLS"),
        },
    }
}

async fn serve<S: Line>(
    stream: S,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        let answer = router.call(request);
        async move {
            let answer = answer.await?;
            match answer.extensions().get::<Reset>() {
                Some(reset) => Err(*reset),
                None => Ok(answer),
            }
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADERS_MAX);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut stopping = false;
    let ended = loop {
        tokio::select! {
            ended = &mut connection => break ended,
            // An error means that whoever could say stop is gone, which is a stop too.
            _ = stopped.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    let Err(error) = ended else { return };
    let is_reset = std::error::Error::source(&error).is_some_and(|cause| cause.is::<Reset>());
    tracing::debug!(%error, is_reset, "a connection ended early");
    if is_reset {
        // Closed so, what is on its way is thrown away, and the other end is told that there is no more connection.
        let stream = connection.into_parts().io.into_inner();
        if let Err(error) = stream.socket().set_zero_linger() {
            tracing::warn!(%error, "a connection is closed instead of reset");
        }
    }
}

/// A stream whose connection can be reset.
trait Line: AsyncRead + AsyncWrite + Unpin + Send {
    fn socket(&self) -> &TcpStream;
}

impl Line for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Line for TlsStream<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}
