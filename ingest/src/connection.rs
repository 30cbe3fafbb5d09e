//! One connection and its deadlines.
//!
//! hyper's own header timeout counts idle time and header time as one, and knows nothing of a sender that
//! does not read its answer. Here each phase of a connection has a deadline of its own: the bytes that pass
//! and the calls of the handler say which phase it is in.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use forebay_buffer::Buffer;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::config::DoorConfig;
use crate::door::Shared;
use crate::{metrics, route};

/// The most bytes of one request's headers, and of what is read ahead.
const READ_BUFFER: usize = 64 << 10;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing, between requests.
    Idle,
    /// Sending headers; also from the connection's start.
    Head,
    /// The handler has the request; the body has deadlines of its own.
    Working,
    /// The answer is being read.
    Answering,
}

/// The phase and since when.
#[derive(Clone)]
struct Progress(Rc<Cell<(Phase, Instant)>>);

impl Progress {
    fn enter(&self, phase: Phase) {
        self.0.set((phase, Instant::now()));
    }

    fn phase(&self) -> Phase {
        self.0.get().0
    }

    fn due(&self, config: &DoorConfig) -> Option<Instant> {
        let (phase, since) = self.0.get();
        match phase {
            Phase::Idle => Some(since + config.idle_timeout),
            Phase::Head => Some(since + config.header_timeout),
            Phase::Working => None,
            Phase::Answering => Some(since + config.answer_timeout),
        }
    }
}

/// How a connection ended.
enum End {
    Closed,
    Expired(Phase),
}

/// Serves one connection until its end, a deadline, or `stop`: then what is in flight is answered first.
pub(crate) async fn drive<B: Buffer>(
    stream: TcpStream,
    shared: Arc<Shared<B>>,
    mut stop: watch::Receiver<bool>,
) {
    let progress = Progress(Rc::new(Cell::new((Phase::Head, Instant::now()))));
    let io = TokioIo::new(Watched { stream, progress: progress.clone() });
    let service = service_fn(|request| {
        progress.enter(Phase::Working);
        let answer = route::serve(shared.as_ref(), request);
        let progress = progress.clone();
        async move {
            let answer = answer.await;
            progress.enter(Phase::Answering);
            answer
        }
    });
    let mut builder = http1::Builder::new();
    // A handler runs to its end even if the sender stops sending: the order is kept, only the answer may be lost.
    builder.half_close(true).max_buf_size(READ_BUFFER).header_read_timeout(None);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut stopped = pin!(async move {
        // An error means that whoever could say stop is gone, which is a stop too.
        stop.wait_for(|stop| *stop).await.is_ok()
    });
    let (mut timer, mut stopping) = (pin!(sleep_until(Instant::now())), false);
    let end = poll_fn(|cx| {
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Closed);
        }
        let Some(due) = progress.due(&shared.config) else { return Poll::Pending };
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(End::Expired(progress.phase()));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
    match end {
        End::Closed | End::Expired(Phase::Idle | Phase::Working) => {}
        End::Expired(Phase::Head) => metrics::refused("header_timeout"),
        End::Expired(Phase::Answering) => metrics::refused("answer_timeout"),
    }
}

/// A stream that notes the phase as bytes pass.
struct Watched {
    stream: TcpStream,
    progress: Progress,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.progress.phase() == Phase::Idle {
            self.progress.enter(Phase::Head);
        }
        poll
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called only when everything before has been written: the answer is out.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        if poll.is_ready() && self.progress.phase() == Phase::Answering {
            self.progress.enter(Phase::Idle);
        }
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
