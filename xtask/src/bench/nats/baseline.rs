//! Bare JetStream: what a publish with an expected sequence costs, with nothing around it.

use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use forebay_buffer::nats::{Login, NatsConfig};

use tokio::time::sleep;

use crate::failure::{Failure, Result, While as _};

/// What the server says then.
const TOO_SOON: &str = "error code 10164";
const AGAIN: Duration = Duration::from_millis(5);

/// A connection to the same servers, as the same user.
#[derive(Clone, Debug)]
pub(super) struct Bare(Context);

impl Bare {
    pub(super) async fn connect(config: &NatsConfig) -> Result<Self> {
        let mut options = ConnectOptions::new();
        if let Login::User { name, password } = &config.login {
            options = options.user_and_password(name.clone(), password.clone());
        }
        if let Some(roots) = &config.roots {
            options = options.add_root_certificates(roots.clone());
        }
        let client = options.connect(config.servers.as_slice()).await.when("connecting")?;
        Ok(Self(jetstream::new(client)))
    }

    /// Publishes where `expected` stands, 0 for nothing; gives the sequence. A publish right after the one before is refused now
    /// and then though it is right, and is made again.
    pub(super) async fn publish(&self, subject: String, body: Bytes, expected: u64) -> Result<u64> {
        loop {
            let message = PublishMessage::build()
                .payload(body.clone())
                .expected_last_subject_sequence(expected);
            let ack = self.0.send_publish(subject.clone(), message).await.when("a publish")?;
            match ack.await {
                Ok(ack) => return Ok(ack.sequence),
                Err(error) if error.to_string().contains(TOO_SOON) => sleep(AGAIN).await,
                Err(error) => return Err(Failure::broken("an acknowledgement", error)),
            }
        }
    }

    /// Whatever is stored below a subject, from now on.
    pub(super) async fn feed(&self, filter: &str) -> Result<pull::Ordered> {
        let stream = self.0.get_stream("FOREBAY").await.when("the stream")?;
        let config = pull::OrderedConfig {
            name: Some(format!("bare-{:016x}", fastrand::u64(..))),
            filter_subject: filter.to_owned(),
            deliver_policy: DeliverPolicy::New,
            ..pull::OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.when("a consumer")?;
        consumer.messages().await.when("its messages")
    }
}
