//! The listener: own accept loop, since axum's has no header timeout.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use forebay_buffer::Buffer;
use forebay_processor::OrderManagement;
use http::{StatusCode, header};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::{View, answer, claim, exceptions, health, orders, outcomes, replay, status, told};

/// Operators and their tools, at once.
const CONNECTIONS_MAX: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest an answer takes; a healthy buffer needs milliseconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the operator's door cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// Operators have no credentials yet.
    #[error("operators have no credentials yet, so {0} is refused; listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen on {0} for operators: {1}")]
    Bind(SocketAddr, std::io::Error),
}

/// The operator's door, open.
#[derive(Debug)]
pub struct Ops {
    listener: TcpListener,
    router: Router,
}

impl Ops {
    /// Opens the port, within a tokio runtime.
    ///
    /// # Errors
    /// [`OpsError`] when the address is not loopback or cannot be had.
    pub fn bind<B: Buffer, O: OrderManagement>(
        listen: SocketAddr,
        view: View<B, O>,
    ) -> Result<Self, OpsError> {
        if !listen.ip().is_loopback() {
            return Err(OpsError::NotLoopback(listen));
        }
        let refused = |error| OpsError::Bind(listen, error);
        Self::on(std::net::TcpListener::bind(listen).map_err(refused)?, view)
    }

    /// As [`Ops::bind`], on a socket that listens already.
    ///
    /// # Errors
    /// As [`Ops::bind`].
    pub fn on<B: Buffer, O: OrderManagement>(
        listener: std::net::TcpListener,
        view: View<B, O>,
    ) -> Result<Self, OpsError> {
        let nowhere = SocketAddr::from(([0; 4], 0));
        let listen = listener.local_addr().map_err(|error| OpsError::Bind(nowhere, error))?;
        if !listen.ip().is_loopback() {
            return Err(OpsError::NotLoopback(listen));
        }
        let refused = |error| OpsError::Bind(listen, error);
        listener.set_nonblocking(true).map_err(refused)?;
        let listener = TcpListener::from_std(listener).map_err(refused)?;
        Ok(Self { listener, router: router(Arc::new(view)) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop` turns true (or its sender is gone).
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted.map(|(stream, _)| stream),
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match stream {
                Ok(stream) => {
                    let router = self.router.clone();
                    tokio::spawn(async move {
                        connection(stream, router).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the operator's door could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an operator's connection ended early");
    }
}

fn router<B: Buffer, O: OrderManagement>(view: Arc<View<B, O>>) -> Router {
    Router::new()
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz::<B, O>))
        .route("/metrics", get(health::metrics::<B, O>))
        .route("/v1/status", get(status::get::<B, O>))
        .route("/v1/orders/{channel}/{source}/{id}", get(orders::get::<B, O>))
        .route("/v1/oms/orders", get(orders::in_oms::<B, O>))
        .route("/v1/oms/claim", post(claim::claim::<B, O>))
        .route("/v1/oms/replay", post(replay::replay::<B, O>))
        .route("/v1/oms/outcomes", post(told::tell::<B, O>))
        .route("/v1/exceptions", get(exceptions::list::<B, O>))
        .route("/v1/exceptions/{id}", get(exceptions::show::<B, O>))
        .route("/v1/exceptions/{id}/retry", post(exceptions::retry::<B, O>))
        .route("/v1/exceptions/{id}/discard", post(exceptions::discard::<B, O>))
        .fallback(|| async { answer::Problem::not_found("there is nothing at this path") })
        .layer(middleware::from_fn(|request, next| answered_within(ANSWER_TIMEOUT, request, next)))
        .with_state(Arc::clone(&view))
        .merge(feed(view))
        .layer(middleware::from_fn(refuse_pages))
}

/// What is waited for is no answer that is late.
fn feed<B: Buffer, O: OrderManagement>(view: Arc<View<B, O>>) -> Router {
    Router::new()
        .route("/v1/outcomes", get(outcomes::get::<B, O>))
        .with_state((view, outcomes::Readers::default()))
}

/// Answers in time also where the buffer cannot: an operator needs one most when the disk hangs.
async fn answered_within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!(
                "no answer from the buffer or the OMS within {} s, so a disk or the OMS may hang; /readyz?verbose and \
                 /metrics need neither. If this was a retry, a discard or an outcome, look whether it took effect",
                limit.as_secs()
            );
            answer::Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-answer", detail)
                .into_response()
        }
    }
}

/// Until operators have credentials, loopback alone keeps others out, and it does not keep a browser out:
/// any page may post to it, without asking first, and discard an order.
async fn refuse_pages(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        let detail = "the request has an Origin header, so a page in a browser sent it; operators \
                      have no credentials yet, so use the command line, or send none";
        return answer::Problem::new(StatusCode::FORBIDDEN, "cross-origin", detail).into_response();
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if !host.is_none_or(is_this_machine) {
        let detail = "the Host header names another machine; ask for 127.0.0.1, [::1] or localhost";
        return answer::Problem::new(StatusCode::FORBIDDEN, "cross-origin", detail).into_response();
    }
    next.run(request).await
}

/// Whether a `Host` is this machine's own. A page whose name was pointed at the loopback address would
/// otherwise read what only operators may.
fn is_this_machine(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || host.eq_ignore_ascii_case("localhost")
        || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use hyper::service::Service;

    use super::*;

    #[test]
    fn only_this_machines_names_are_answered() {
        for host in
            ["127.0.0.1:9090", "localhost", "LOCALHOST:1", "[::1]:9090", "127.0.0.1", "[::1]"]
        {
            assert!(is_this_machine(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:9090", "10.0.0.1:9090", "", "localhost.evil.example"]
        {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[tokio::test]
    async fn what_hangs_is_answered_all_the_same() {
        let router = Router::new().route("/v1/status", get(std::future::pending::<&str>));
        let service =
            TowerToHyperService::new(router.layer(middleware::from_fn(|request, next| {
                answered_within(Duration::from_millis(20), request, next)
            })));
        let request = Request::get("/v1/status").body(Body::empty()).unwrap();
        let answer = service.call(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_page_in_a_browser_acts_on_nothing() {
        let router = Router::new().route("/v1/exceptions/5/discard", post(|| async { "done" }));
        let service = TowerToHyperService::new(router.layer(middleware::from_fn(refuse_pages)));
        let post = |origin: Option<&'static str>| {
            let mut request =
                Request::post("/v1/exceptions/5/discard").body(Body::empty()).unwrap();
            if let Some(origin) = origin {
                request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
            }
            service.call(request)
        };
        assert_eq!(post(None).await.unwrap().status(), StatusCode::OK);
        for origin in ["https://example.com", "null", "http://127.0.0.1:9090"] {
            let refused = post(Some(origin)).await.unwrap();
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
            assert_eq!(refused.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }
}
