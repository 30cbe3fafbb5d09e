//! Bare JetStream: what a publish with an expected sequence costs, with nothing around it.

use async_nats::ConnectOptions;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use forebay_buffer::nats::{Login, NatsConfig};

use crate::failure::{Failure, Result, While as _};

/// A connection to the same servers, as the same user.
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

    /// Publishes where `expected` stands, 0 for nothing; gives the sequence.
    pub(super) async fn publish(&self, subject: String, body: Bytes, expected: u64) -> Result<u64> {
        let message =
            PublishMessage::build().payload(body).expected_last_subject_sequence(expected);
        let ack = self.0.send_publish(subject, message).await.when("a publish")?;
        match ack.await {
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(Failure::broken("an acknowledgement", error)),
        }
    }
}
