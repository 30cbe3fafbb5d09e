//! The key table: create, read, replace, each as certain as the cluster can make it.
//!
//! Every message bears a *mark* of its own. A call whose answer is lost is made again with the same mark until the
//! deadline; one that is then rejected reads what stands there, and by the mark knows its own message. So
//! nothing is written twice and nothing durable is called a failure.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Info, InfoError, LastRawMessageErrorKind};
use async_nats::jetstream::{self, Context, ErrorCode};
use bytes::Bytes;
use futures_util::TryStreamExt;
use tokio::time::{Instant, sleep};

use super::connect::{TRY_TIMEOUT, connect};
use super::departures::Departures;
use super::silence::Silence;
use super::stream::{self, Replication};
use super::{NatsConfig, OpenError};
use crate::control::Control;

/// The header with a message's mark.
const MARK: &str = "Forebay-Mark";
/// The header with the sequence that a message was to replace, which the servers keep with it.
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// A subject that is being written by another is looked at again after so long.
const BUSY_PAUSE: Duration = Duration::from_millis(5);
/// Servers that did not answer, or have no leader, are asked again after so long.
const LOST_PAUSE: Duration = Duration::from_millis(50);
/// Publishes under way at most; the buffer's own budget is smaller.
const IN_FLIGHT: usize = 65_536;

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the stream; greater than everything stored before it.
    pub sequence: u64,
    /// The message.
    pub bytes: Bytes,
    /// Whose write it was.
    mark: Option<String>,
    /// The sequence of what it replaced, 0 for nothing; `None` where that is not known.
    pub(super) replaced: Option<u64>,
}

impl Stored {
    /// A message as it was read.
    pub(super) fn read(sequence: u64, bytes: Bytes, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| value.as_str().to_owned());
        let replaced = text(EXPECTED).and_then(|expected| expected.parse().ok());
        Self { sequence, bytes, mark: text(MARK), replaced }
    }

    /// A message whose mark is of no interest.
    pub(super) fn new(sequence: u64, bytes: Bytes) -> Self {
        Self { sequence, bytes, mark: None, replaced: None }
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is stored, on a quorum, at this sequence.
    Done(u64),
    /// Something else stands there; `None` if it is gone again.
    Overtaken(Option<Stored>),
}

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Whether it is stored is unknown: no answer until the deadline.
    #[error("whether it is stored is unknown: {0}")]
    Unknown(String),
    /// The stream, or a disk under it, is full. Nothing was stored.
    #[error("the stream is full: {0}")]
    Full(String),
    /// More bytes than the servers take in one message. Nothing was stored.
    #[error("{bytes} bytes are more than the servers take in one message ({max})")]
    TooLarge {
        /// The message's.
        bytes: usize,
        /// The servers' `max_payload`.
        max: usize,
    },
    /// The stream takes nothing any more. Nothing was stored.
    #[error(
        "the stream is sealed, and takes nothing any more: its orders were moved to a disk (`forebay migrate`), and are served from there"
    )]
    Sealed,
    /// The servers refuse such a call. Nothing was stored.
    #[error("the servers refuse it: {0}")]
    Refused(String),
    /// The stream acknowledged a sequence that it had given before: it was restored or made anew, and what was
    /// acknowledged in between is gone.
    #[error(
        "the stream gave sequence {given} after {highest}: it is not the stream it was, and orders that were acknowledged may be \
         gone; stop, and find out what was restored"
    )]
    WentBack {
        /// What it gave now.
        given: u64,
        /// The highest it had given.
        highest: u64,
    },
}

/// What one try came to, if it is not stored.
enum Missed {
    /// Something else stands there.
    Overtaken,
    /// Another write of the subject is under way.
    Busy(String),
    /// It may be stored.
    Lost(String),
    Never(TableError),
}

/// The key table. Any number of processes may hold it open.
#[derive(Debug)]
pub struct Table {
    context: Context,
    stream: jetstream::stream::Stream,
    deadline: Duration,
    departures: Departures,
    silence: Silence,
    /// The highest sequence that is known to have been acknowledged.
    highest: AtomicU64,
    /// That the stream went back; nothing is asked of it any more.
    fault: OnceLock<TableError>,
}

impl Table {
    /// Connects, and declares the stream or checks the one that is there.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: &NatsConfig) -> Result<Self, OpenError> {
        Self::open_from(config, None).await
    }

    /// The same; a stream that is declared gives sequences from this one on.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn open_from(
        config: &NatsConfig,
        first_sequence: Option<u64>,
    ) -> Result<Self, OpenError> {
        let context = context(config).await?;
        let stream = stream::open(&context, config, first_sequence).await?;
        Ok(Self::of(context, stream, config))
    }

    /// Connects to a stream that is there, and may be sealed.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn open_there(config: &NatsConfig) -> Result<Self, OpenError> {
        let context = context(config).await?;
        let stream = stream::find_sealed(&context, config).await?;
        Ok(Self::of(context, stream, config))
    }

    pub(super) fn of(
        context: Context,
        stream: jetstream::stream::Stream,
        config: &NatsConfig,
    ) -> Self {
        let highest = stream.cached_info().state.last_sequence;
        Self {
            context,
            stream,
            deadline: config.deadline,
            departures: Departures::default(),
            silence: Silence::default(),
            highest: highest.into(),
            fault: OnceLock::new(),
        }
    }

    /// Has the servers take no message any more, for good, if they do not already; how many messages there are.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(super) async fn seal(&self) -> Result<u64, OpenError> {
        let info = stream::seal(&self.context, self.name()).await?;
        self.saw(info.state.last_sequence);
        Ok(info.state.messages)
    }

    /// How many copies there are to be, and how many there are now.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody answers.
    pub async fn replication(&self) -> Result<Replication, TableError> {
        self.info().await.map(|info| Replication::of(&info))
    }

    /// Stores the first message of a subject.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn create(&self, subject: &str, bytes: Bytes) -> Result<Put, TableError> {
        self.put(subject, 0, bytes, None).await
    }

    /// The highest sequence known.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// The stream.
    pub(super) fn stream(&self) -> &jetstream::stream::Stream {
        &self.stream
    }

    /// The connection.
    pub(super) fn client(&self) -> async_nats::Client {
        self.context.client()
    }

    /// How long a call is made again.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The stream's name.
    pub(super) fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }

    /// For how long no write has been answered, though some were made.
    pub(super) fn silent_for(&self) -> Duration {
        self.silence.lasts()
    }

    /// Leaves the server it is connected to for another, or the same where there is no other.
    pub(super) async fn reconnect(&self) {
        // Where even that cannot be said there is no connection to be left.
        drop(self.client().force_reconnect().await);
        self.silence.ends();
    }

    /// Bytes of the largest message the servers take.
    pub(super) fn message_max(&self) -> usize {
        self.context.client().server_info().max_payload
    }

    /// What the stream is now, by whoever answers.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody does.
    pub(super) async fn info(&self) -> Result<Info, TableError> {
        self.stream.get_info().await.map_err(|error| TableError::Unknown(error.to_string()))
    }

    /// The same of a stream that has a leader.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody answers, or it has none.
    pub(super) async fn info_of_led(&self) -> Result<Info, TableError> {
        let info = self.info().await?;
        // Any server that is left answers, also once too few are there to store anything.
        if info.cluster.is_some() && Replication::of(&info).leader.is_none() {
            let why = "the stream has no leader: too few of its servers are there";
            return Err(TableError::Unknown(why.to_owned()));
        }
        Ok(info)
    }

    /// The subjects under which something stands, of those that fit the filter, as of sequence `since` or later.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody answers who is that far.
    pub(super) async fn subjects_since(
        &self,
        filter: &str,
        since: u64,
    ) -> Result<Vec<String>, TableError> {
        let unknown = |error: String| TableError::Unknown(error);
        let found = self.stream.info_with_subjects(filter).await;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let last = found.info.state.last_sequence;
        if last < since {
            return Err(unknown(format!("who answers is at sequence {last}, behind {since}")));
        }
        let found = found.map_ok(|(subject, _)| subject).try_collect().await;
        found.map_err(|error: InfoError| unknown(error.to_string()))
    }

    /// Stores a message in the place of the one at `sequence` (0: of none); it expires after `ttl` (whole seconds), if there is one.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn replace(
        &self,
        subject: &str,
        sequence: u64,
        bytes: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Put, TableError> {
        self.put(subject, sequence, bytes, ttl).await
    }

    /// What stands under a subject, from the leader: never what a copy that lags behind believes.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody answers until the deadline, [`TableError::Refused`].
    pub async fn read(&self, subject: &str) -> Result<Option<Stored>, TableError> {
        self.sound()?;
        let until = Instant::now() + self.deadline;
        loop {
            let error = match self.stream.get_last_raw_message_by_subject(subject).await {
                Ok(read) => {
                    return Ok(Some(Stored::read(read.sequence, read.payload, &read.headers)));
                }
                Err(error) => error,
            };
            match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                LastRawMessageErrorKind::InvalidSubject => {
                    return Err(TableError::Refused(error.to_string()));
                }
                LastRawMessageErrorKind::JetStream(_) | LastRawMessageErrorKind::Other => {}
            }
            if Instant::now() >= until {
                return Err(TableError::Unknown(error.to_string()));
            }
            sleep(LOST_PAUSE).await;
        }
    }

    async fn put(
        &self,
        subject: &str,
        expected: u64,
        bytes: Bytes,
        ttl: Option<Duration>,
    ) -> Result<Put, TableError> {
        self.sound()?;
        let mark = format!("{:032x}", fastrand::u128(..));
        let until = Instant::now() + self.deadline;
        let highest = self.highest.load(Ordering::Acquire);
        let mut may_be_stored = false;
        loop {
            let begun = Instant::now();
            let attempt = self.attempt(subject, expected, &mark, bytes.clone(), ttl).await;
            match &attempt {
                // A server without its peers says of every subject that it is busy.
                Err(Missed::Busy(_) | Missed::Lost(_)) => self.silence.begins(begun),
                Ok(_) | Err(Missed::Overtaken | Missed::Never(_)) => self.silence.ends(),
            }
            let missed = match attempt {
                Ok(given) => return self.stored(given, highest),
                Err(missed) => missed,
            };
            let (reason, pause) = match missed {
                Missed::Never(error @ TableError::Sealed) => {
                    self.fault.get_or_init(|| error.clone());
                    return match may_be_stored {
                        true => Err(TableError::Unknown(error.to_string())),
                        false => Err(error),
                    };
                }
                // What became of an earlier try is not known by this one's refusal.
                Missed::Never(error) if may_be_stored => {
                    return Err(TableError::Unknown(error.to_string()));
                }
                Missed::Never(error) => return Err(error),
                Missed::Overtaken => {
                    return match self.read(subject).await? {
                        Some(stored) if stored.mark.as_ref() == Some(&mark) => {
                            self.stored(stored.sequence, highest)
                        }
                        other => Ok(Put::Overtaken(other)),
                    };
                }
                Missed::Busy(reason) => (reason, BUSY_PAUSE),
                Missed::Lost(_) if Control::LostIsDone.is_on() => {
                    return Ok(Put::Done(highest + 1));
                }
                Missed::Lost(reason) => {
                    may_be_stored = true;
                    (reason, LOST_PAUSE)
                }
            };
            if Instant::now() >= until {
                return Err(TableError::Unknown(reason));
            }
            sleep(pause).await;
        }
    }

    async fn attempt(
        &self,
        subject: &str,
        expected: u64,
        mark: &str,
        bytes: Bytes,
        ttl: Option<Duration>,
    ) -> Result<u64, Missed> {
        let size = bytes.len();
        self.departures.next().await;
        let mut message = PublishMessage::build()
            .payload(bytes)
            .header(MARK, mark)
            .expected_last_subject_sequence(expected);
        if let Some(ttl) = ttl {
            message = message.ttl(ttl);
        }
        let ack = self.context.send_publish(subject.to_owned(), message).await;
        let ack = ack.map_err(|error| self.missed(&error, size))?;
        ack.await.map(|ack| ack.sequence).map_err(|error| self.missed(&error, size))
    }

    /// Somebody was acknowledged that sequence: none is given again.
    pub(super) fn saw(&self, sequence: u64) {
        self.highest.fetch_max(sequence, Ordering::AcqRel);
    }

    /// An error if the stream went back.
    pub(super) fn sound(&self) -> Result<(), TableError> {
        self.fault.get().map_or(Ok(()), |fault| Err(fault.clone()))
    }

    /// `highest` is what had been acknowledged when the write began.
    fn stored(&self, given: u64, highest: u64) -> Result<Put, TableError> {
        if given <= highest {
            let fault = TableError::WentBack { given, highest };
            return Err(self.fault.get_or_init(|| fault).clone());
        }
        self.highest.fetch_max(given, Ordering::AcqRel);
        Ok(Put::Done(given))
    }

    /// `bytes` are the message's.
    fn missed(&self, error: &PublishError, bytes: usize) -> Missed {
        match error.kind() {
            PublishErrorKind::WrongLastSequence => return Missed::Overtaken,
            PublishErrorKind::MaxPayloadExceeded => {
                let max = self.context.client().server_info().max_payload;
                return Missed::Never(TableError::TooLarge { bytes, max });
            }
            // No answer, no connection, or nobody who has the stream just now: a leader is being chosen.
            PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            | PublishErrorKind::StreamNotFound
            | PublishErrorKind::MaxAckPending => return Missed::Lost(error.to_string()),
            PublishErrorKind::WrongLastMessageId | PublishErrorKind::Other => {}
        }
        let source = std::error::Error::source(error);
        let Some(refusal) = source.and_then(|source| source.downcast_ref::<jetstream::Error>())
        else {
            return Missed::Lost(error.to_string());
        };
        of_refusal(refusal)
    }
}

/// Connects.
async fn context(config: &NatsConfig) -> Result<Context, OpenError> {
    let context = jetstream::context::ContextBuilder::new()
        .timeout(TRY_TIMEOUT)
        .ack_timeout(TRY_TIMEOUT)
        .max_ack_inflight(IN_FLIGHT);
    Ok(context.build(connect(config).await?))
}

/// What a server's refusal means for the write.
fn of_refusal(refusal: &jetstream::Error) -> Missed {
    let said = refusal.to_string();
    match refusal.error_code() {
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE => Missed::Overtaken,
        // Said also of a write that is right, while the one before it is on its way: only another try decides.
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
        | ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY => Missed::Busy(said),
        ErrorCode::STREAM_STORE_FAILED if said.contains("maximum") => {
            Missed::Never(TableError::Full(said))
        }
        ErrorCode::STREAM_SEALED => Missed::Never(TableError::Sealed),
        ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED => Missed::Never(TableError::Full(said)),
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => {
            Missed::Never(TableError::Refused(said))
        }
        _ => Missed::Lost(said),
    }
}
