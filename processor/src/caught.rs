//! A future whose panic is an answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

use crate::metrics;

/// The code panicked. What the panic said is not kept: it may hold a value of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub(crate) struct Panicked;

/// Runs a future to its end or its panic. It is not polled again after a panic, and dropped with this one.
pub(crate) async fn caught<T>(future: impl Future<Output = T>) -> Result<T, Panicked> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        // A panic leaves the future as broken as it likes: it is only dropped after that.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => {
                metrics::panic();
                Poll::Ready(Err(Panicked))
            }
        }
    })
    .await
}

/// Runs a function to its end or its panic.
pub(crate) fn caught_fn<T>(function: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|_| {
        metrics::panic();
        Panicked
    })
}
