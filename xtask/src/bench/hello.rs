//! The ceiling that accepting is measured against: the door's HTTP stack that reads a body and answers 202, and does
//! nothing else. It runs in a process of its own, as `xtask hello`, and ends with its stdin.

use std::io::Read as _;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::LocalSet;

use crate::failure::{Result, While as _};
use crate::say::{complain, say};

/// The door's own limit of a request's headers, and of what is read ahead.
const READ_BUFFER: usize = 64 << 10;

/// Serves on a free port of the loopback, on so many threads, until stdin ends.
///
/// # Errors
/// [`crate::failure::Failure::Broken`] if it cannot listen.
pub fn run(threads: usize) -> Result<()> {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.when("listening")?;
    listener.set_nonblocking(true).when("listening")?;
    for _ in 0..threads {
        let listener = listener.try_clone().when("listening")?;
        // It ends with the process.
        std::thread::spawn(move || serve(listener).map_err(complain));
    }
    let orders = listener.local_addr().when("listening")?;
    say(serde_json::json!({ "event": "ready", "orders": orders, "pid": std::process::id() }));
    let mut sink = Vec::new();
    std::io::stdin().read_to_end(&mut sink).when("waiting for the end of stdin")?;
    Ok(())
}

/// Serves as the door does: one thread, one runtime, its connection settings.
fn serve(listener: std::net::TcpListener) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.when("starting a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener).when("listening")?;
        loop {
            let (stream, _) = listener.accept().await.when("accepting")?;
            stream.set_nodelay(true).when("accepting")?;
            tokio::task::spawn_local(async move {
                let mut builder = http1::Builder::new();
                builder.half_close(true).max_buf_size(READ_BUFFER).header_read_timeout(None);
                // A broken connection is the load's to complain about.
                builder.serve_connection(TokioIo::new(stream), service_fn(hello)).await.ok();
            });
        }
    })
}

async fn hello(request: Request<Incoming>) -> hyper::Result<Response<Empty<Bytes>>> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        drop(frame?);
    }
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}
