//! The one stream: made where it is missing, and refused where it would lose orders.

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType, Stream,
};

use super::{NatsConfig, OpenError};

/// How many servers hold each message, and how many of them are reached now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Copies the stream is to have.
    pub replicas: usize,
    /// Copies that are up to date now.
    pub current: usize,
    /// The server that decides; without one nothing is accepted.
    pub leader: Option<String>,
}

impl Replication {
    /// Copies that must have a message before it is acknowledged.
    pub fn quorum(&self) -> usize {
        self.replicas / 2 + 1
    }

    pub(super) fn of(info: &Info) -> Self {
        let replicas = info.config.num_replicas.max(1);
        let Some(cluster) = &info.cluster else {
            return Self { replicas, current: 1, leader: None };
        };
        let up = cluster.replicas.iter().filter(|peer| peer.current && !peer.offline).count();
        let leader = cluster.leader.clone().filter(|leader| !leader.is_empty());
        Self { replicas, current: up + usize::from(leader.is_some()), leader }
    }
}

/// Bytes a stream takes, and bytes it may take; 0 for no limit of its own.
pub(super) fn size(info: &Info) -> (u64, u64) {
    (info.state.bytes, u64::try_from(info.config.max_bytes).unwrap_or_default())
}

/// What the stream must be.
fn wanted(config: &NatsConfig) -> Config {
    Config {
        name: config.stream.clone(),
        description: Some(
            "Forebay's orders: one subject a key, the newest message counts".to_owned(),
        ),
        subjects: vec![format!("{}.>", config.stream)],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: config.replicas,
        max_messages_per_subject: 1,
        max_messages: -1,
        // The servers set as much aside for it, so what is kept free is there when it is needed.
        max_bytes: i64::try_from(config.bytes_max).unwrap_or(i64::MAX),
        // A full stream refuses; it never makes room by throwing an order away.
        discard: DiscardPolicy::New,
        allow_message_ttl: true,
        // Pages of a lease are read together, from copies that say how far they are; whatever else is read asks the leader.
        allow_direct: true,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    }
}

/// The stream, declared if it is not there.
///
/// # Errors
/// [`OpenError::Stream`] says what is wrong with one that is there; [`OpenError::Unavailable`].
pub(super) async fn open(
    context: &Context,
    config: &NatsConfig,
    first_sequence: Option<u64>,
) -> Result<Stream, OpenError> {
    let name = config.stream.as_str();
    if let Some(stream) = find(context, config).await? {
        let (found, wanted) = (stream.cached_info().config.max_bytes, wanted(config).max_bytes);
        if found <= 0 {
            tracing::warn!(
                stream = name,
                "the stream has no limit of bytes, so nothing is kept free: once the servers' disks are full, no order can be settled \
                 either; give it one (`nats stream edit {name} --max-bytes=16GiB`)"
            );
        } else if wanted > 0 && found != wanted {
            tracing::warn!(
                stream = name,
                found,
                wanted,
                "the stream's limit is not the configured one, and stands"
            );
        }
        return Ok(stream);
    }
    must_have_limit(config)?;
    // Two that start at once both declare the same, which is no fault.
    let wanted = Config { first_sequence, ..wanted(config) };
    context.create_stream(wanted).await.map_err(|error| not_made(config, &error))
}

/// Why it was not made.
fn not_made(config: &NatsConfig, error: &CreateStreamError) -> OpenError {
    let stream = config.stream.clone();
    let unavailable =
        |reason: String| OpenError::Unavailable { stream: config.stream.clone(), reason };
    let CreateStreamErrorKind::JetStream(refusal) = error.kind() else {
        return unavailable(error.to_string());
    };
    let reason = refusal.to_string();
    match refusal.error_code() {
        ErrorCode::STREAM_SUBJECT_OVERLAP => unavailable(format!(
            "{reason}; another stream has subjects that begin with {stream}.: give this one another name"
        )),
        ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::STREAM_MAX_STREAM_BYTES_EXCEEDED => {
            OpenError::NoRoom { stream, bytes_max: config.bytes_max, reason }
        }
        // Said of whatever a server lacks.
        ErrorCode::CLUSTER_NO_PEERS if reason.contains("storage") => {
            OpenError::NoRoom { stream, bytes_max: config.bytes_max, reason }
        }
        _ => unavailable(reason),
    }
}

/// That one which is declared has a limit, without which nothing can be kept free.
///
/// # Errors
/// [`OpenError::NoLimit`].
pub(super) fn must_have_limit(config: &NatsConfig) -> Result<(), OpenError> {
    match config.bytes_max {
        0 => Err(OpenError::NoLimit { stream: config.stream.clone() }),
        _ => Ok(()),
    }
}

/// The stream, if it is there.
///
/// # Errors
/// As [`open`].
pub(super) async fn find(
    context: &Context,
    config: &NatsConfig,
) -> Result<Option<Stream>, OpenError> {
    let name = config.stream.as_str();
    match context.get_stream(name).await {
        Ok(stream) => {
            check(&stream.cached_info().config, &wanted(config))?;
            Ok(Some(stream))
        }
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => {
            Err(OpenError::Unavailable { stream: name.to_owned(), reason: error.to_string() })
        }
    }
}

/// The stream, which must be there, and may be sealed.
///
/// # Errors
/// As [`open`].
pub(super) async fn find_sealed(
    context: &Context,
    config: &NatsConfig,
) -> Result<Stream, OpenError> {
    let name = config.stream.as_str();
    let stream =
        context.get_stream(name).await.map_err(|error| match is_missing(&error.kind()) {
            true => OpenError::Stream {
                stream: name.to_owned(),
                fault: "is not there".to_owned(),
                mend: "check nats.stream and nats.servers".to_owned(),
            },
            false => OpenError::Unavailable { stream: name.to_owned(), reason: error.to_string() },
        })?;
    check(&Config { sealed: false, ..stream.cached_info().config.clone() }, &wanted(config))?;
    Ok(stream)
}

/// Seals a stream, if it is not.
///
/// # Errors
/// As [`open`]; above all that the user may not.
pub(super) async fn seal(context: &Context, name: &str) -> Result<Info, OpenError> {
    let unavailable = |reason: String| OpenError::Unavailable { stream: name.to_owned(), reason };
    let stream = context.get_stream(name).await.map_err(|error| unavailable(error.to_string()))?;
    let config = stream.cached_info().config.clone();
    if !config.sealed {
        let sealed = Config { sealed: true, ..config };
        context.update_stream(sealed).await.map_err(|error| {
            unavailable(format!("it cannot be sealed ({error}); let the user publish on $JS.API.STREAM.UPDATE.{name} for it"))
        })?;
    }
    let info = stream.get_info().await.map_err(|error| unavailable(error.to_string()))?;
    if !info.config.sealed {
        return Err(unavailable("it does not stay sealed".to_owned()));
    }
    Ok(info)
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a stream is still as it must be: anybody with the right to may change it.
///
/// # Errors
/// [`OpenError::Stream`].
pub(super) fn is_still_fit(info: &Info, config: &NatsConfig) -> Result<(), OpenError> {
    check(&info.config, &wanted(config))
}

/// Whether a stream that is there keeps what it acknowledges, and is ours.
fn check(found: &Config, wanted: &Config) -> Result<(), OpenError> {
    let fault = |fault: String, mend: &str| {
        Err(OpenError::Stream { stream: wanted.name.clone(), fault, mend: mend.to_owned() })
    };
    const OTHER: &str = "it is somebody else's, or was made by hand: name another stream";
    if found.subjects != wanted.subjects {
        return fault(
            format!("has the subjects {:?}, not {:?}", found.subjects, wanted.subjects),
            OTHER,
        );
    }
    if found.retention != RetentionPolicy::Limits {
        return fault("drops messages once they are consumed (retention)".to_owned(), OTHER);
    }
    if found.max_messages_per_subject != 1 {
        let count = found.max_messages_per_subject;
        return fault(
            format!("keeps {count} messages a subject, not 1"),
            "set max_msgs_per_subject to 1",
        );
    }
    if found.storage != StorageType::File {
        return fault("is kept in memory".to_owned(), "make it anew with file storage");
    }
    if found.discard != DiscardPolicy::New {
        return fault(
            "throws the oldest order away when it is full".to_owned(),
            "set its discard policy to new",
        );
    }
    if found.discard_new_per_subject {
        return fault(
            "refuses a message of a key that has one already, so no order can be settled"
                .to_owned(),
            "take discard_new_per_subject out",
        );
    }
    // Whatever the servers' sync_interval is.
    if found.persist_mode == Some(PersistenceMode::Async) {
        return fault(
            "acknowledges before it has stored (persist_mode: async)".to_owned(),
            "a stream keeps its mode: name another, or make it anew without it",
        );
    }
    if found.max_messages > 0 || !found.max_age.is_zero() {
        return fault(
            "forgets orders by their number or age".to_owned(),
            "take max_msgs and max_age out; outcomes expire one by one",
        );
    }
    if found.num_replicas < wanted.num_replicas {
        let (found, wanted) = (found.num_replicas, wanted.num_replicas);
        return fault(
            format!("has {found} replicas, and the configuration promises {wanted}"),
            "raise its replicas, or promise less",
        );
    }
    if !found.allow_message_ttl {
        return fault("cannot expire single messages".to_owned(), "set allow_msg_ttl");
    }
    if !found.allow_direct {
        return fault("cannot be read by many keys at once".to_owned(), "set allow_direct");
    }
    if found.sealed {
        let mend = "serve with buffer.backend = \"embedded\"; to move them back, name another stream, or remove this one";
        return fault("is sealed: its orders were moved to a disk".to_owned(), mend);
    }
    if found.no_ack {
        return fault("acknowledges nothing".to_owned(), OTHER);
    }
    let fed = found.mirror.is_some() || found.sources.as_ref().is_some_and(|from| !from.is_empty());
    if fed || found.subject_transform.is_some() {
        return fault("holds messages of other streams, or renames its own".to_owned(), OTHER);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::stream::Source;

    use super::*;

    #[test]
    fn what_would_lose_orders_is_refused_with_what_to_do() {
        let config = NatsConfig::new([]);
        let good = wanted(&config);
        assert!(check(&good, &good).is_ok());
        let more = Config { num_replicas: 5, max_bytes: 1 << 30, ..good.clone() };
        let plain = Config { persist_mode: Some(PersistenceMode::Default), ..good.clone() };
        assert!(check(&plain, &good).is_ok(), "said in words");
        assert!(check(&more, &good).is_ok(), "more copies and a limit of bytes do no harm");
        let faults = [
            (Config { retention: RetentionPolicy::WorkQueue, ..good.clone() }, "retention"),
            (Config { discard: DiscardPolicy::Old, ..good.clone() }, "oldest order"),
            (Config { discard_new_per_subject: true, ..good.clone() }, "has one already"),
            (
                Config { persist_mode: Some(PersistenceMode::Async), ..good.clone() },
                "before it has stored",
            ),
            (Config { num_replicas: 1, ..good.clone() }, "1 replicas"),
            (Config { storage: StorageType::Memory, ..good.clone() }, "in memory"),
            (Config { max_messages: 5, ..good.clone() }, "number or age"),
            (Config { max_messages_per_subject: 2, ..good.clone() }, "2 messages a subject"),
            (Config { allow_message_ttl: false, ..good.clone() }, "expire"),
            (Config { allow_direct: false, ..good.clone() }, "many keys"),
            (Config { subjects: vec!["a.>".into()], ..good.clone() }, "subjects"),
            (Config { sealed: true, ..good.clone() }, "sealed"),
            (Config { mirror: Some(Source::default()), ..good.clone() }, "other streams"),
        ];
        for (found, said) in faults {
            let error = check(&found, &good).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("FOREBAY"), "{said}: {error}");
        }
    }
}
