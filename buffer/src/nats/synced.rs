//! Whether the servers sync before they acknowledge: only their system account tells.
//!
//! They are asked at the start and as long as the process runs, for a server that is started anew may be set up otherwise.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::connect_as;
use super::{NatsConfig, OpenError};

/// Every server answers for itself, at once.
const ASK: &str = "$SYS.REQ.SERVER.PING.JSZ";
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many questions, about a minute of them, that not all answered, it is as if nobody had been asked.
const UNHEARD_MAX: u32 = 20;

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Data,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Data {
    disabled: bool,
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    sync_always: bool,
}

/// What the servers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Said {
    /// They cannot be asked, or not all that are to have each order answer.
    #[default]
    Nothing,
    /// All sync.
    Synced,
    /// One does not.
    NotSynced {
        /// What it calls itself.
        name: String,
    },
}

impl Said {
    /// Whether they sync, as far as it is known.
    pub(super) fn synced(&self) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::Synced => Some(true),
            Self::NotSynced { .. } => Some(false),
        }
    }

    /// Fails where one does not and must.
    ///
    /// # Errors
    /// [`OpenError::NotSynced`].
    pub(super) fn allowed(&self, config: &NatsConfig) -> Result<(), OpenError> {
        match self {
            Self::NotSynced { name } if config.require_fsync => {
                Err(OpenError::NotSynced { name: name.clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Asks, and knows what was said last.
#[derive(Debug)]
pub(super) struct Syncing {
    /// A user of the system account, if there is one.
    system: Option<Client>,
    /// As many servers are to have each order.
    replicas: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    said: Said,
    /// Questions since then without an answer of all.
    unheard: u32,
}

impl Syncing {
    /// Connects and asks for the first time.
    ///
    /// # Errors
    /// [`OpenError::Connect`], [`OpenError::TooOld`].
    pub(super) async fn begin(config: &NatsConfig) -> Result<Self, OpenError> {
        let system = match &config.system {
            Some(system) => Some(connect_as(config, system).await?),
            None => None,
        };
        let syncing = Self { system, replicas: config.replicas, known: Mutex::default() };
        syncing.look().await;
        Ok(syncing)
    }

    /// Whether there is anybody to ask.
    pub(super) fn can_ask(&self) -> bool {
        self.system.is_some()
    }

    /// What is known.
    pub(super) fn said(&self) -> Said {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).said.clone()
    }

    /// Asks once more. That not all answer changes nothing for a minute: a server that is started anew answers well before.
    pub(super) async fn look(&self) {
        let heard = self.ask().await;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.unheard = if heard == Said::Nothing { known.unheard + 1 } else { 0 };
        if heard != known.said && (known.unheard == 0 || known.unheard >= UNHEARD_MAX) {
            tell(&heard);
            known.said = heard;
        }
    }

    /// Asks all servers and listens for [`PATIENCE`].
    async fn ask(&self) -> Said {
        let Some(system) = &self.system else { return Said::Nothing };
        // Where there has been no connection for long, not even the question can be handed in.
        timeout(2 * PATIENCE, self.ask_by(system)).await.unwrap_or_default()
    }

    async fn ask_by(&self, system: &Client) -> Said {
        let until = Instant::now() + PATIENCE;
        let inbox = system.new_inbox();
        let Ok(mut answers) = system.subscribe(inbox.clone()).await else { return Said::Nothing };
        if system.publish_with_reply(ASK, inbox, "".into()).await.is_err() {
            return Said::Nothing;
        }
        let mut heard = 0;
        // To the end, for there may be more servers than copies.
        while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
            let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
            if answer.data.disabled {
                continue;
            }
            if !answer.data.config.sync_always {
                return Said::NotSynced { name: answer.server.name };
            }
            heard += 1;
        }
        if heard >= self.replicas { Said::Synced } else { Said::Nothing }
    }
}

fn tell(said: &Said) {
    match said {
        Said::Synced => tracing::info!("every NATS server syncs before it acknowledges"),
        Said::NotSynced { name } => tracing::error!(
            server = name,
            "a NATS server acknowledges before it has synced (sync_interval: always is not set): a power cut of all of them loses what \
             was acknowledged in the last minutes"
        ),
        Said::Nothing => tracing::warn!(
            "it is not known any more that the NATS servers sync before they acknowledge: not all of them answer"
        ),
    }
}
