//! Whether the servers sync before they acknowledge: only their system account tells.
//!
//! They are asked at the start and as long as the process runs, for a server that is started anew may be set up otherwise.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::stream::Info;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::{connect_as, is_new_enough};
use super::{NatsConfig, OpenError};

/// Every server answers for itself, at once.
const ASK: &str = "$SYS.REQ.SERVER.PING.JSZ";
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many questions, about a minute of them, that not all answered, it is not known any more that they sync.
const UNHEARD_MAX: u32 = 20;

#[derive(Deserialize)]
struct Answer {
    server: Server,
    data: Data,
}

#[derive(Deserialize)]
struct Server {
    name: String,
    #[serde(default)]
    ver: Option<String>,
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

/// The servers that are to have each order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Holders {
    /// Which is not known now.
    #[default]
    Unknown,
    /// So many, whichever: of a stream that is not there yet, or of one server alone.
    Any(usize),
    /// These, by name.
    These(Vec<String>),
}

impl Holders {
    /// Those of a stream.
    pub(super) fn of(info: &Info) -> Self {
        let Some(cluster) = &info.cluster else { return Self::Any(1) };
        let leader = cluster.leader.clone().filter(|leader| !leader.is_empty());
        let names = cluster.replicas.iter().map(|peer| peer.name.clone());
        let names: Vec<_> = leader.into_iter().chain(names).collect();
        match names.len() >= info.config.num_replicas {
            true => Self::These(names),
            false => Self::Unknown,
        }
    }
}

/// What the servers answered to one question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Names of those that sync.
    syncing: BTreeSet<String>,
    /// One that does not.
    lax: Option<String>,
    /// One that is older than what a process connects to, and its version.
    old: Option<(String, String)>,
}

impl Heard {
    fn take(&mut self, answer: Answer) {
        let Answer { server: Server { name, ver }, data } = answer;
        // It keeps nothing.
        if data.disabled {
            return;
        }
        if let Some(version) = ver.filter(|version| !is_new_enough(version)) {
            self.old = Some((name.clone(), version));
        }
        match data.config.sync_always {
            true => drop(self.syncing.insert(name)),
            false => self.lax = Some(name),
        }
    }

    /// What it comes to. One that does not sync may be made a holder at any time.
    fn says(&self, holders: &Holders) -> Said {
        if let Some(name) = &self.lax {
            return Said::NotSynced { name: name.clone() };
        }
        let all = match holders {
            Holders::Unknown => false,
            Holders::Any(count) => self.syncing.len() >= *count,
            Holders::These(names) => names.iter().all(|name| self.syncing.contains(name)),
        };
        if all { Said::Synced } else { Said::Nothing }
    }
}

/// What is known from now on, where `said` was; `unheard` questions in a row came to nothing.
fn known_now(said: &Said, says: Said, unheard: u32) -> Said {
    match (said, says) {
        // Whoever did not sync does not by being silent.
        (Said::NotSynced { .. }, Said::Nothing) => said.clone(),
        // A server that is started anew answers well before.
        (Said::Synced, Said::Nothing) if unheard < UNHEARD_MAX => Said::Synced,
        (_, says) => says,
    }
}

/// Asks, and knows what was said last.
#[derive(Debug)]
pub(super) struct Syncing {
    /// A user of the system account, if there is one.
    system: Option<Client>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    said: Said,
    /// To the last question.
    heard: Heard,
    holders: Holders,
    /// See [`Heard::old`]; of the last question that anybody answered.
    old: Option<(String, String)>,
    /// Questions since then without an answer of all.
    unheard: u32,
}

impl Known {
    fn follow(&mut self, says: Said) {
        let said = known_now(&self.said, says, self.unheard);
        if said != self.said {
            tell(&said);
            self.said = said;
        }
    }

    fn heard(&mut self, heard: Heard) {
        let says = heard.says(&self.holders);
        if heard != Heard::default() && heard.old != self.old {
            match &heard.old {
                Some((server, version)) => tracing::error!(
                    server,
                    version,
                    "a NATS server is older than Forebay needs: upgrade it"
                ),
                None => tracing::info!("no NATS server is older than Forebay needs any more"),
            }
            self.old.clone_from(&heard.old);
        }
        self.unheard = if says == Said::Nothing { self.unheard + 1 } else { 0 };
        self.heard = heard;
        self.follow(says);
    }

    fn held_by(&mut self, holders: Holders) {
        if holders != self.holders {
            let says = self.heard.says(&holders);
            self.holders = holders;
            self.follow(says);
        }
    }
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
        let syncing = Self { system, known: Mutex::default() };
        syncing.look().await;
        Ok(syncing)
    }

    /// Whether there is anybody to ask.
    pub(super) fn can_ask(&self) -> bool {
        self.system.is_some()
    }

    /// What is known.
    pub(super) fn said(&self) -> Said {
        self.known().said.clone()
    }

    /// Fails where a server is older than what a process connects to: it may come to have orders, or to lead.
    ///
    /// # Errors
    /// [`OpenError::TooOld`].
    pub(super) fn new_enough(&self) -> Result<(), OpenError> {
        let old = self.known().old.clone();
        old.map_or(Ok(()), |(name, version)| Err(OpenError::TooOld { name, version }))
    }

    /// Says which servers must be heard to sync; until then none are known to.
    pub(super) fn held_by(&self, holders: Holders) {
        self.known().held_by(holders);
    }

    /// Asks once more.
    pub(super) async fn look(&self) {
        let heard = self.ask().await;
        self.known().heard(heard);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all servers and listens for [`PATIENCE`].
    async fn ask(&self) -> Heard {
        let Some(system) = &self.system else { return Heard::default() };
        // Where there has been no connection for long, not even the question can be handed in.
        timeout(2 * PATIENCE, Self::ask_by(system)).await.unwrap_or_default()
    }

    async fn ask_by(system: &Client) -> Heard {
        let until = Instant::now() + PATIENCE;
        let inbox = system.new_inbox();
        let mut heard = Heard::default();
        let Ok(mut answers) = system.subscribe(inbox.clone()).await else { return heard };
        if system.publish_with_reply(ASK, inbox, "".into()).await.is_err() {
            return heard;
        }
        // To the end, for there may be more servers than copies.
        while let Ok(Some(message)) = timeout_at(until, answers.next()).await {
            if let Ok(answer) = serde_json::from_slice(&message.payload) {
                heard.take(answer);
            }
        }
        heard
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

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(all: &[(&str, &str)]) -> Heard {
        let mut heard = Heard::default();
        for (name, data) in all {
            let text = format!("{{\"server\": {{\"name\": \"{name}\"}}, \"data\": {data}}}");
            heard.take(serde_json::from_str(&text).unwrap());
        }
        heard
    }

    const SYNCS: &str = r#"{"config": {"sync_always": true}}"#;
    const LAX: &str = r#"{"config": {}}"#;
    const OFF: &str = r#"{"disabled": true}"#;

    fn not_synced(name: &str) -> Said {
        Said::NotSynced { name: name.to_owned() }
    }

    fn these(names: &[&str]) -> Holders {
        Holders::These(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn they_sync_once_each_that_has_the_orders_was_heard_to() {
        let heard = answers(&[("a", SYNCS), ("b", SYNCS), ("d", SYNCS), ("e", OFF)]);
        assert_eq!(heard.says(&these(&["a", "b", "d"])), Said::Synced);
        assert_eq!(heard.says(&these(&["a", "b", "c"])), Said::Nothing, "c was not heard");
        assert_eq!(heard.says(&these(&["a", "b", "e"])), Said::Nothing, "e keeps nothing");
        assert_eq!(heard.says(&Holders::Any(3)), Said::Synced);
        assert_eq!(heard.says(&Holders::Any(4)), Said::Nothing);
        assert_eq!(heard.says(&Holders::Unknown), Said::Nothing);
        let heard = answers(&[("a", SYNCS), ("d", LAX), ("b", SYNCS), ("c", SYNCS)]);
        assert_eq!(heard.says(&these(&["a", "b", "c"])), not_synced("d"), "it may get the orders");
        assert_eq!(answers(&[]).says(&Holders::Any(1)), Said::Nothing);
    }

    #[test]
    fn who_did_not_sync_is_not_forgotten_by_silence() {
        let mut known = Known { holders: these(&["a", "b", "c"]), ..Known::default() };
        let all = || answers(&[("a", SYNCS), ("b", SYNCS), ("c", SYNCS)]);
        known.heard(all());
        assert_eq!(known.said, Said::Synced);
        known.heard(answers(&[("a", SYNCS), ("c", LAX)]));
        assert_eq!(known.said, not_synced("c"));
        for _ in 0..3 * UNHEARD_MAX {
            known.heard(answers(&[("a", SYNCS), ("b", SYNCS)]));
            known.heard(answers(&[]));
            assert_eq!(known.said, not_synced("c"), "c was not heard to sync");
        }
        known.heard(all());
        assert_eq!(known.said, Said::Synced);
        for n in 1..=UNHEARD_MAX {
            known.heard(answers(&[("a", SYNCS), ("b", SYNCS)]));
            assert_eq!(known.said == Said::Synced, n < UNHEARD_MAX, "{n}");
        }
        assert_eq!(known.said, Said::Nothing, "c may be anything by now");
    }

    #[test]
    fn an_older_server_of_the_cluster_is_noticed_until_it_is_upgraded() {
        let syncing = Syncing { system: None, known: Mutex::default() };
        let hear = |versions: &[&str]| {
            let mut heard = Heard::default();
            for (n, version) in versions.iter().enumerate() {
                let text = format!(
                    r#"{{"server": {{"name": "s{n}", "ver": "{version}"}}, "data": {SYNCS}}}"#
                );
                heard.take(serde_json::from_str(&text).unwrap());
            }
            syncing.known().heard(heard);
        };
        hear(&["2.12.0", "2.15.1"]);
        syncing.new_enough().unwrap();
        hear(&["2.12.0", "2.11.9", "2.15.1"]);
        let old = syncing.new_enough().unwrap_err().to_string();
        assert!(old.contains("the NATS server s1 is version 2.11.9"), "{old}");
        hear(&[]);
        syncing.new_enough().unwrap_err();
        hear(&["2.12.0", "2.12.0", "2.15.1"]);
        syncing.new_enough().unwrap();
    }

    #[test]
    fn another_server_that_is_to_have_the_orders_must_be_heard_as_well() {
        let mut known = Known::default();
        known.heard(answers(&[("a", SYNCS), ("b", SYNCS), ("c", SYNCS)]));
        assert_eq!(known.said, Said::Nothing, "nobody knows yet who has the orders");
        known.held_by(these(&["a", "b", "c"]));
        assert_eq!(known.said, Said::Synced);
        known.held_by(these(&["a", "b", "d"]));
        for _ in 0..UNHEARD_MAX {
            known.heard(answers(&[("a", SYNCS), ("b", SYNCS), ("c", SYNCS)]));
        }
        assert_eq!(known.said, Said::Nothing);
        known.heard(answers(&[("a", SYNCS), ("b", SYNCS), ("d", SYNCS)]));
        assert_eq!(known.said, Said::Synced);
    }
}
