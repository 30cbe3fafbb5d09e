//! From a connection to the bytes of one body, with the permit that pays for them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{Admission, Permit};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::DoorConfig;

/// The share taken before a byte has come. A body announced longer pays as it arrives, so that a sender
/// who announces much and sends nothing holds next to nothing.
const FIRST_SHARE: usize = 64 << 10;

/// How long, and how much of, what is left of a refused body is read and thrown away, so that a sender
/// who writes everything before it reads gets to read why.
const DISCARD_TIME: Duration = Duration::from_secs(2);
const DISCARD_BYTES: usize = 128 << 20;

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// More bytes than a body may have.
    TooLarge,
    /// It came slower than it may.
    TooSlow,
    /// The in-flight budget is used up.
    Overloaded,
    /// It ended early or is framed wrongly.
    Broken,
}

/// Bytes with the permit that pays for them. Never longer than `max`.
pub(crate) struct Paid {
    permit: Permit,
    paid: usize,
    bytes: Vec<u8>,
    max: usize,
}

impl Paid {
    /// An empty body that may grow to `max` bytes; `permit` holds `paid` of them already.
    pub(crate) fn new(permit: Permit, paid: usize, max: usize) -> Self {
        Self { permit, paid, bytes: Vec::new(), max }
    }

    /// Appends, paying first, in steps that double.
    ///
    /// # Errors
    /// [`BodyFault::TooLarge`] or [`BodyFault::Overloaded`]; then nothing was appended.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<(), BodyFault> {
        let needed = self.bytes.len().saturating_add(chunk.len());
        if needed > self.max {
            return Err(BodyFault::TooLarge);
        }
        if needed > self.paid {
            let target = needed.max(self.paid.saturating_mul(2)).min(self.max);
            self.permit.grow(target - self.paid).map_err(|_| BodyFault::Overloaded)?;
            self.paid = target;
        }
        if needed > self.bytes.capacity() {
            self.bytes.reserve_exact(self.paid - self.bytes.len());
        }
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn into_parts(self) -> (Permit, Bytes) {
        (self.permit, Bytes::from(self.bytes))
    }
}

/// Reads one body whole.
///
/// # Errors
/// [`BodyFault`], after what is left was thrown away as far as that is quickly done; the flag says
/// whether the body's end was reached, so that the connection can go on.
pub(crate) async fn read(
    admission: &Admission,
    incoming: Incoming,
    config: &DoorConfig,
    expects_continue: bool,
) -> Result<(Permit, Bytes), (BodyFault, bool)> {
    let mut reader = Reader::new(incoming, config);
    match gather(admission, &mut reader, config.body_bytes).await {
        Ok(whole) => Ok(whole),
        Err(fault @ (BodyFault::TooLarge | BodyFault::Overloaded)) => {
            // A sender that waits for 100 Continue has sent nothing yet and must not be asked to.
            let untouched = expects_continue && reader.received == 0;
            Err((fault, !untouched && reader.discard().await))
        }
        Err(fault) => Err((fault, false)),
    }
}

/// Throws away the body of a request that was refused before it; true if its end was reached.
pub(crate) async fn discard(
    incoming: Incoming,
    config: &DoorConfig,
    expects_continue: bool,
) -> bool {
    incoming.is_end_stream() || (!expects_continue && Reader::new(incoming, config).discard().await)
}

async fn gather(
    admission: &Admission,
    reader: &mut Reader,
    max: usize,
) -> Result<(Permit, Bytes), BodyFault> {
    let announced = reader.incoming.size_hint().exact().map(usize::try_from);
    let announced = announced.transpose().map_err(|_| BodyFault::TooLarge)?;
    if announced.is_some_and(|len| len > max) {
        return Err(BodyFault::TooLarge);
    }
    let share = announced.unwrap_or_default().min(FIRST_SHARE);
    let permit = admission.admit(share).map_err(|_| BodyFault::Overloaded)?;
    let mut paid = Paid::new(permit, share, max);
    while let Some(chunk) = reader.next().await? {
        if paid.len() == 0 && announced == Some(chunk.len()) && chunk.len() <= share {
            return Ok((paid.permit, chunk));
        }
        paid.push(&chunk)?;
    }
    Ok(paid.into_parts())
}

/// The frames of a body, each by its deadline: [`DoorConfig::body_timeout`] from the start, and a second
/// more for every [`DoorConfig::body_rate_min`] bytes received.
struct Reader {
    incoming: Incoming,
    received: u64,
    rate_min: u64,
    base: Instant,
    /// Made when the body does not come at once.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Reader {
    fn new(incoming: Incoming, config: &DoorConfig) -> Self {
        let base = Instant::now() + config.body_timeout;
        let rate_min = config.body_rate_min.max(1);
        Self { incoming, received: 0, rate_min, base, timer: None }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Result<Option<Bytes>, BodyFault> {
        loop {
            match std::future::poll_fn(|cx| self.poll_frame(cx)).await? {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Frame<Bytes>>, BodyFault>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) {
            return Poll::Ready(frame.transpose().map_err(|_| BodyFault::Broken));
        }
        let earned = Duration::from_millis(self.received.saturating_mul(1000) / self.rate_min);
        let due = self.base + earned;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(Err(BodyFault::TooSlow));
            }
            timer.as_mut().reset(due);
        }
    }

    /// Throws away what comes for a short while; true if that reached the end.
    async fn discard(&mut self) -> bool {
        let ended = async {
            let mut left = DISCARD_BYTES;
            while let Some(Ok(frame)) = self.incoming.frame().await {
                let len = frame.data_ref().map_or(0, Bytes::len);
                let Some(rest) = left.checked_sub(len) else { return false };
                left = rest;
            }
            self.incoming.is_end_stream()
        };
        tokio::time::timeout(DISCARD_TIME, ended).await.unwrap_or(false)
    }
}
