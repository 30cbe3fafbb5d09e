//! Which path is which, and the net under every handler.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use forebay_buffer::Buffer;
use forebay_order::key::decode;
use http::header::ORIGIN;
use http::{Method, Request};
use hyper::body::Incoming;

use crate::answer::{Response, batch, paid};
use crate::channel::Feed;
use crate::door::Shared;
use crate::look::look;
use crate::problem::Problem;
use crate::receive::{receive, turn_away};
use crate::{graphs, marks, metrics};

/// What a path and method ask for.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    /// `POST /v1/channels/{channel}/orders`
    Orders(&'a str),
    /// `POST /services/data/{version}/commerce/order-summaries`
    Graphs,
    /// `GET /v1/orders/{channel}/{source}/{id}`
    Look([&'a str; 3]),
    /// The path is there, the method is not.
    WrongMethod(&'static str),
    Nowhere,
    /// Whatever the path: the page a browser shows may be anybody's, and nothing here asks who it is.
    FromABrowser,
}

impl<'a> Route<'a> {
    fn of(method: &Method, path: &'a str) -> Self {
        let mut parts = path.split('/');
        let route = match (parts.next(), parts.next(), parts.next()) {
            (Some(""), Some("v1"), Some("channels")) => match (parts.next(), parts.next()) {
                (Some(channel), Some("orders")) if !channel.is_empty() => Self::Orders(channel),
                _ => Self::Nowhere,
            },
            (Some(""), Some("v1"), Some("orders")) => {
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(channel), Some(source), Some(id)) if !id.is_empty() => {
                        Self::Look([channel, source, id])
                    }
                    _ => Self::Nowhere,
                }
            }
            (Some(""), Some("services"), Some("data")) => {
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(_), Some("commerce"), Some("order-summaries")) => Self::Graphs,
                    _ => Self::Nowhere,
                }
            }
            _ => Self::Nowhere,
        };
        if parts.next().is_some() {
            return Self::Nowhere;
        }
        match route {
            Self::Orders(_) | Self::Graphs if method != Method::POST => Self::WrongMethod("POST"),
            Self::Look(_) if method != Method::GET => Self::WrongMethod("GET"),
            route => route,
        }
    }
}

/// Answers one request. A handler that panics is answered too, and ends nothing but its request.
pub(crate) async fn serve<B: Buffer>(
    shared: &Shared<B>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let echo = marks::idempotency_key(request.headers());
    let uri = request.uri().clone();
    let route = if request.headers().contains_key(ORIGIN) {
        Route::FromABrowser
    } else {
        Route::of(request.method(), uri.path())
    };
    let mut response = match route {
        Route::FromABrowser => refuse(shared, request, uri.path(), Problem::from_a_browser()).await,
        Route::Orders(channel) => match decode(channel).and_then(|name| shared.feed(&name)) {
            Some(feed) => post(shared, feed, request, uri.path(), false).await,
            None => refuse(shared, request, uri.path(), Problem::unknown_channel()).await,
        },
        Route::Graphs => match shared.graphs_feed() {
            Some(feed) => post(shared, feed, request, uri.path(), true).await,
            None => refuse(shared, request, uri.path(), Problem::no_graphs_channel()).await,
        },
        Route::Look(parts) => match caught(look(shared, parts)).await {
            Some(Ok(response)) => response,
            Some(Err(problem)) => problem.respond(uri.path()),
            None => Problem::internal().respond(uri.path()),
        },
        Route::WrongMethod(allow) => {
            refuse(shared, request, uri.path(), Problem::wrong_method(allow)).await
        }
        Route::Nowhere => refuse(shared, request, uri.path(), Problem::no_such_path()).await,
    };
    if let Some(key) = echo {
        response.headers_mut().insert(marks::IDEMPOTENCY_KEY, key);
    }
    Ok(response)
}

async fn post<B: Buffer>(
    shared: &Shared<B>,
    feed: &Feed,
    request: Request<Incoming>,
    instance: &str,
    as_graphs: bool,
) -> Response {
    let started = shared.clock.elapsed();
    let (word, response) = match caught(receive(shared, feed, request, as_graphs)).await {
        Some(Ok(received)) => {
            let (word, response) = match received.items.as_slice() {
                items if as_graphs => ("batch", graphs::respond(items, &received.graph_ids)),
                [item] if !received.batch => (item.word(), item.respond(instance)),
                items => ("batch", batch(feed.channel.caller, items, instance)),
            };
            (word, paid(response, received.permit))
        }
        Some(Err(problem)) => {
            metrics::refused(problem.kind().word());
            (problem.kind().word(), problem.respond(instance))
        }
        None => {
            tracing::error!(channel = %feed.name, "a fault in the door ended a request");
            ("panic", Problem::internal().respond(instance))
        }
    };
    let took = shared.clock.elapsed().saturating_sub(started);
    feed.metrics.request(word, response.status(), took);
    feed.answered(response.status());
    response
}

async fn refuse<B: Buffer>(
    shared: &Shared<B>,
    request: Request<Incoming>,
    instance: &str,
    problem: Problem,
) -> Response {
    metrics::refused(problem.kind().word());
    let (head, incoming) = request.into_parts();
    turn_away(shared, &head.headers, incoming, problem).await.respond(instance)
}

/// The future's output, or `None` if it panicked.
async fn caught<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        let post = |path| Route::of(&Method::POST, path);
        assert_eq!(post("/v1/channels/shopify/orders"), Route::Orders("shopify"));
        assert_eq!(post("/services/data/v67.0/commerce/order-summaries"), Route::Graphs);
        let get = |path| Route::of(&Method::GET, path);
        assert_eq!(get("/v1/orders/a/b/%23c"), Route::Look(["a", "b", "%23c"]));
        assert_eq!(get("/v1/channels/shopify/orders"), Route::WrongMethod("POST"));
        assert_eq!(post("/v1/orders/a/b/c"), Route::WrongMethod("GET"));
        for path in ["/", "", "/v1", "/v1/orders/a/b", "/v1/orders/a/b/", "/v1/orders/a/b/c/d"] {
            assert_eq!(get(path), Route::Nowhere, "{path}");
        }
        for path in ["/v1/channels//orders", "/v1/channels/a/orders/", "/v2/channels/a/orders"] {
            assert_eq!(post(path), Route::Nowhere, "{path}");
        }
    }
}
