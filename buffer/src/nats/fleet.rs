//! What only the owners know, told to whoever asks: counts, open exceptions, where a sequence is.
//!
//! ```text
//! ask: STREAM-ASK, to all -> each owner tells what its partitions hold -> complete once all partitions have spoken
//! ```
//! Nothing is decided here: an act is written to the order's page by whoever was asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::shared::Shared;
use super::table::TableError;
use crate::view::Fleet;
use crate::{ExceptionCategory, OrderState, Status};

/// Owners that have not answered by then are taken for silent.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// Counts and ages.
    Status,
    /// Open exceptions with `id > after`.
    Rows { after: u64, limit: usize },
    /// Which key an order or an exception of that sequence is of.
    At { sequence: u64 },
    /// Orders under a ticket.
    Ticket { ticket: String },
}

/// What one process tells of its partitions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Told {
    partitions: BTreeSet<u16>,
    status: Option<Figures>,
    /// Ids of exceptions or orders, and the hashes of their keys.
    rows: Vec<(u64, String)>,
    hash: Option<String>,
    /// How the limits of all processes differ, as it heard it.
    differs: Option<String>,
}

/// [`Status`] as it travels.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Figures {
    live: BTreeMap<String, u64>,
    ended: BTreeMap<String, u64>,
    exceptions: BTreeMap<String, u64>,
    oldest_pending_ms: Option<i64>,
    delayed: u64,
    money_waiting: BTreeMap<String, String>,
}

/// What all owners told together.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) status: Status,
    pub(super) rows: Vec<(u64, u128)>,
    pub(super) hash: Option<u128>,
    /// Partitions of which nobody said anything.
    pub(super) silent: BTreeSet<u16>,
    /// Processes that said something.
    pub(super) nodes: u64,
    /// How the limits of all processes differ, as the first of them heard it that says so.
    pub(super) differs: Option<String>,
}

impl Heard {
    /// An error where anything is missing.
    pub(super) fn whole(self) -> Result<Self, TableError> {
        match self.silent.len() {
            0 => Ok(self),
            silent => Err(TableError::Unknown(format!(
                "{silent} partitions have no owner that answers just now; ask again in a while"
            ))),
        }
    }
}

impl Shared {
    fn subject(&self) -> String {
        format!("{}-ASK", self.config.stream)
    }

    /// Answers the others, for as long as this process takes part in the drain.
    pub(super) async fn answer(self: Arc<Self>) {
        while self.open().is_ok() {
            let Ok(mut asks) = self.table.client().subscribe(self.subject()).await else { return };
            while let Some(message) = asks.next().await {
                let (Some(reply), Ok(ask)) =
                    (message.reply, serde_json::from_slice(&message.payload))
                else {
                    continue;
                };
                let told = self.known_here(&ask);
                if !told.partitions.is_empty()
                    && let Ok(told) = serde_json::to_vec(&told)
                {
                    // Who asked does not wait for ever, and asks again.
                    drop(self.table.client().publish(reply, told.into()).await);
                }
            }
        }
    }

    /// What this process knows of its own partitions.
    fn known_here(&self, ask: &Ask) -> Told {
        let mut told = Told::default();
        let mut status = Status::default();
        let elapsed = self.clock.elapsed();
        for partition in &self.partitions {
            partition.with(|mine| {
                if !mine.is_loaded() || !mine.is_certain(elapsed) {
                    return;
                }
                told.partitions.insert(partition.number);
                match ask {
                    Ask::Status => status.add(mine.state.status(self.clock.wall_ms())),
                    Ask::Rows { after, limit } => {
                        let rows = mine.state.row_ids(*after).take(*limit);
                        told.rows.extend(rows.map(|(id, hash)| (id, format!("{hash:x}"))));
                    }
                    Ask::At { sequence } => {
                        let hash = mine.state.hash_at(*sequence).map(|hash| format!("{hash:x}"));
                        told.hash = told.hash.take().or(hash);
                    }
                    Ask::Ticket { ticket } => {
                        let orders = mine.state.under_ticket(ticket);
                        let named = orders.filter_map(|order| {
                            Some((order, format!("{:x}", mine.state.hash_at(order)?)))
                        });
                        told.rows.extend(named);
                    }
                }
            });
        }
        if matches!(ask, Ask::Status) {
            told.status = Some(Figures::of(status));
            told.differs.clone_from(&self.common().differs);
        }
        told
    }

    /// Asks all owners, this process included; waits until all partitions have spoken, or for as long as is reasonable.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Heard, TableError> {
        let mut heard = Heard {
            status: Status::default(),
            rows: Vec::new(),
            hash: None,
            silent: (0..self.store.partitions).collect(),
            nodes: 0,
            differs: None,
        };
        heard.add(self.known_here(&ask));
        if heard.silent.is_empty() {
            return Ok(heard);
        }
        let client = self.table.client();
        let unknown = |error: &dyn std::error::Error| TableError::Unknown(error.to_string());
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| unknown(&error))?;
        let question = serde_json::to_vec(&ask).map_err(|error| unknown(&error))?;
        let asked = client.publish_with_reply(self.subject(), inbox, question.into()).await;
        asked.map_err(|error| unknown(&error))?;
        let until = Instant::now() + PATIENCE;
        while !heard.silent.is_empty()
            && let Ok(Some(answer)) = timeout_at(until, answers.next()).await
        {
            // Nobody is there to answer, which the servers say.
            if answer.status.is_some() {
                break;
            }
            if let Ok(told) = serde_json::from_slice::<Told>(&answer.payload) {
                heard.add(told);
            }
        }
        Ok(heard)
    }
}

impl Heard {
    /// Adds what one process told. Of a partition that two claim, in the moment of a takeover, the first counts for all of it.
    fn add(&mut self, told: Told) {
        if told.partitions.is_empty() || !told.partitions.is_subset(&self.silent) {
            return;
        }
        self.nodes += 1;
        self.differs = self.differs.take().or(told.differs);
        self.silent.retain(|partition| !told.partitions.contains(partition));
        if let Some(figures) = told.status {
            self.status.add(figures.into_status());
        }
        let hash = |text: &String| u128::from_str_radix(text, 16).ok();
        self.rows.extend(told.rows.iter().filter_map(|(id, text)| Some((*id, hash(text)?))));
        self.hash = self.hash.or(told.hash.as_ref().and_then(hash));
    }
}

impl Figures {
    fn of(status: Status) -> Self {
        let owned = |words: BTreeMap<&'static str, u64>| {
            words.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
        };
        Self {
            live: owned(status.live),
            ended: owned(status.ended),
            exceptions: owned(status.exceptions),
            oldest_pending_ms: status.oldest_pending_ms,
            delayed: status.delayed,
            money_waiting: status.money_waiting,
        }
    }

    /// Words of a later release are left out.
    fn into_status(self) -> Status {
        fn known<const N: usize>(
            counts: BTreeMap<String, u64>,
            words: [&'static str; N],
        ) -> BTreeMap<&'static str, u64> {
            let word = |word: &str| words.into_iter().find(|known| *known == word);
            counts.into_iter().filter_map(|(text, count)| Some((word(&text)?, count))).collect()
        }
        let states = OrderState::ALL.map(OrderState::word);
        Status {
            live: known(self.live, states),
            ended: known(self.ended, states),
            exceptions: known(self.exceptions, ExceptionCategory::ALL.map(ExceptionCategory::word)),
            oldest_pending_ms: self.oldest_pending_ms,
            delayed: self.delayed,
            money_waiting: self.money_waiting,
            ..Status::default()
        }
    }
}

impl Fleet {
    /// The fleet, as those that answered are it.
    pub(super) fn of(shared: &Shared, heard: &Heard) -> Self {
        let owned = shared.partitions.iter().filter(|partition| partition.with(|_| ()).is_some());
        Self {
            partitions: shared.store.partitions.into(),
            owned: owned.count() as u64,
            silent: heard.silent.len() as u64,
            nodes: heard.nodes,
            differs: heard.differs.clone(),
            outcome_ttl_s: shared.config.dedup_horizon.as_secs(),
        }
    }
}
