//! Whether the servers sync before they acknowledge: only their system account tells.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::connect::connect_as;
use super::{NatsConfig, OpenError};

/// Every server answers for itself, at once.
const ASK: &str = "$SYS.REQ.SERVER.PING.JSZ";
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Asks as many servers as are to have each order. `None` if they cannot be asked, or not all answer.
///
/// # Errors
/// [`OpenError::NotSynced`] names one that does not, where that is required; [`OpenError::Connect`].
pub(super) async fn ask(config: &NatsConfig) -> Result<Option<bool>, OpenError> {
    let Some(system) = &config.system else { return Ok(None) };
    let client = connect_as(config, system).await?;
    let inbox = client.new_inbox();
    let Ok(mut answers) = client.subscribe(inbox.clone()).await else { return Ok(None) };
    if client.publish_with_reply(ASK, inbox, "".into()).await.is_err() {
        return Ok(None);
    }
    let until = Instant::now() + PATIENCE;
    let (mut heard, mut all) = (0, true);
    while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
        let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
        if answer.data.disabled {
            continue;
        }
        heard += 1;
        if !answer.data.config.sync_always {
            all = false;
            if config.require_fsync {
                return Err(OpenError::NotSynced { name: answer.server.name });
            }
        }
        if heard >= config.replicas && !all {
            break;
        }
    }
    Ok((heard >= config.replicas || !all).then_some(all))
}
