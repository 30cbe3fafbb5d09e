//! Talks to a running service's operator's door.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::{EXIT_MISSED, EXIT_USAGE, Service};
use crate::config::{self, Flags};

/// Longest an operator's question may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a command has no answer: the exit code and the sentence.
pub(crate) type Failure = (u8, String);

/// Asks the service; the answer's JSON.
pub(crate) fn ask(service: &Service, method: Method, path: &str) -> Result<Value, Failure> {
    let address = address(service)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| (EXIT_MISSED, error.to_string()))?;
    let asked = runtime
        .block_on(async { tokio::time::timeout(TIMEOUT, request(address, method, path)).await });
    match asked {
        Ok(answer) => answer,
        Err(_) => Err((EXIT_MISSED, format!("{address} gave no answer within {TIMEOUT:?}"))),
    }
}

fn address(service: &Service) -> Result<SocketAddr, Failure> {
    if let Some(address) = service.ops {
        return Ok(address);
    }
    let flags = Flags { config: service.config.clone(), ..Flags::default() };
    config::load(&flags).map(|config| config.ops.listen).map_err(|e| (EXIT_USAGE, e.to_string()))
}

/// The same, of a service at that address.
pub(crate) async fn request(
    address: SocketAddr,
    method: Method,
    path: &str,
) -> Result<Value, Failure> {
    let broken = |error: &dyn std::fmt::Display| {
        (
            EXIT_MISSED,
            format!(
                "the service at {address} cannot be reached: {error}; is it running? (--ops ADDR)"
            ),
        )
    };
    let stream = TcpStream::connect(address).await.map_err(|e| broken(&e))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| broken(&e))?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(&e))?;
    let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|e| broken(&e))?.to_bytes();
    driver.abort();
    let value: Value = serde_json::from_slice(&body).map_err(|_| {
        (EXIT_MISSED, format!("{address} answered {status} without JSON; is it a forebay?"))
    })?;
    if status.is_success() {
        return Ok(value);
    }
    let detail = value.get("detail").and_then(Value::as_str).unwrap_or("no detail");
    Err((EXIT_MISSED, format!("{detail} ({status})")))
}
