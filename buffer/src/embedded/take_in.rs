//! A directory that takes the orders of another store in.
//!
//! A file beside the journal says so until nothing is left, so that no service begins on less than everything. An order goes into the
//! journal as what carries one forward does: first the exception rows that stand by themselves, then itself, then the row it
//! waits for a person by. What a crash in between leaves out is written the next time, and what is written again replaces
//! itself. A change that waits for a loan to end stands behind its order; where the order was there already, and may have
//! gone on, it is handed in as the delivery it was, for the rules know what it comes to however often it comes. How orders
//! ended goes into the outcome index.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use forebay_order::OrderKey;
use tokio::sync::oneshot;

use super::hand_over::went_to;
use super::journal::GoesOn;
use super::shared::Call;
use super::writer::{Fatal, Writer};
use super::{Embedded, EmbeddedConfig, OpenError};
use crate::migrate::{TakesIn, Whole, look_first_if_old};
use crate::record::Record;
use crate::state::State;
use crate::{AppendError, Buffer, BufferError, Clock, Envelope};

/// The file that says from where orders are being taken in, and what it is called once all of them are.
const TAKING: &str = "taking-in";
const TAKEN: &str = "taken-in";

const HAS_ONE: &str = "it holds a buffer already, or has held one, and what comes from another store needs a directory of its own: \
     remove or rename it, or set another data_dir";

/// From which store a directory takes orders in.
#[derive(Clone, Debug)]
pub(crate) struct TakingIn {
    /// In words, the same each time.
    pub(crate) from: String,
    pub(super) goes_on: GoesOn,
    /// Until when whatever was accepted is to be looked up before it is first sent, ms since 1970.
    pub(super) look_first_until_ms: i64,
}

impl TakingIn {
    /// From a store of that secret whose sequences are all below `next_sequence`.
    pub(crate) fn new(
        from: String,
        secret: [u8; 16],
        next_sequence: u64,
        look_first_until_ms: i64,
    ) -> Self {
        Self { from, goes_on: GoesOn { secret, next_sequence }, look_first_until_ms }
    }
}

/// Whether a directory may be begun on like this; with `taking_in`, notes that it is. Where it is missing it is made.
///
/// # Errors
/// In words.
pub(super) fn check(dir: &Path, taking_in: Option<&TakingIn>) -> Result<(), String> {
    let explain = |error: io::Error| error.to_string();
    if let Some(place) = went_to(dir).map_err(explain)? {
        return Err(format!(
            "its orders were handed over to {}: serve from there; once nobody needs it any more, remove the directory",
            place.trim_end()
        ));
    }
    let taking = note(dir, TAKING).map_err(explain)?;
    let taken = note(dir, TAKEN).map_err(explain)?;
    match (taking, taking_in) {
        (None, None) => Ok(()),
        (None, Some(taking_in)) if taken.as_ref() == Some(&taking_in.from) => Ok(()),
        (Some(from), None) => Err(format!(
            "it has not taken in all orders of {from} yet: go on with `forebay migrate` until that is done"
        )),
        (Some(from), Some(taking_in)) if from == taking_in.from => Ok(()),
        (Some(from), Some(_)) => Err(format!("it is taking in the orders of {from}")),
        (None, Some(_)) if dir.join("journal").exists() => Err(HAS_ONE.to_owned()),
        (None, Some(taking_in)) => begin(dir, &taking_in.from).map_err(explain),
    }
}

/// What a note says, if it is there.
fn note(dir: &Path, name: &str) -> io::Result<Option<String>> {
    match fs::read_to_string(dir.join(name)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a directory may take orders in, as far as that can be said before it is known whose.
///
/// # Errors
/// In words.
pub(crate) fn is_free(dir: &Path) -> Result<(), String> {
    let begun = [TAKING, TAKEN].iter().any(|name| dir.join(name).exists());
    let gone = went_to(dir).map_err(|error| error.to_string())?.is_some();
    let taken = !begun && dir.join("journal").exists();
    if gone || taken {
        return Err(format!("the buffer in {} cannot be opened: {HAS_ONE}", dir.display()));
    }
    Ok(())
}

fn begin(dir: &Path, from: &str) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut file = File::create(dir.join(TAKING))?;
    writeln!(file, "{from}")?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

/// Where the door is full, a change that is delivered again waits so long.
const ADMITTED_AGAIN: Duration = Duration::from_millis(20);

/// What the writer made of what it was to take in: changes that are to be delivered.
type TakenIn = Result<Vec<Envelope>, BufferError>;

/// What the writer is asked to take in.
pub(super) struct Taking {
    wholes: Vec<Whole>,
    key: Option<OrderKey>,
    reply: oneshot::Sender<TakenIn>,
}

impl Embedded {
    /// Opens a directory to take orders in, or goes on with that. Blocks on the disk.
    ///
    /// # Errors
    /// [`OpenError`]
    pub(crate) fn open_taking_in(
        config: EmbeddedConfig,
        taking_in: &TakingIn,
        clock: Arc<dyn Clock>,
        on_failure: Box<dyn FnOnce(String) + Send>,
    ) -> Result<Self, OpenError> {
        let started = Self::start(&config, clock, Some(taking_in), on_failure, |_| {});
        started.map_err(|reason| OpenError { dir: config.dir, reason })
    }

    /// Whether nothing is left to be taken in.
    pub(crate) fn is_whole_already(&self) -> bool {
        !self.handle.dir.join(TAKING).exists()
    }

    /// Delivers a change that waited for a loan to end.
    async fn deliver_again(&self, envelope: Envelope) -> Result<(), BufferError> {
        let admission = self.admission();
        let permit = loop {
            match admission.admit(envelope.body.len()) {
                Ok(permit) => break permit,
                Err(_) => tokio::time::sleep(ADMITTED_AGAIN).await,
            }
        };
        match self.append(envelope, permit).await {
            // So many others wait for a person already that no further one is kept, and the sender was told the same.
            Ok(_) | Err(AppendError::Disputed) => Ok(()),
            Err(AppendError::Closing) => Err(BufferError::Closing),
            Err(error) => Err(BufferError::Failed(error.to_string())),
        }
    }
}

impl TakesIn for Embedded {
    async fn take_in(&self, wholes: Vec<Whole>, key: Option<OrderKey>) -> Result<u64, BufferError> {
        let taking = |reply| Call::TakeIn(Box::new(Taking { wholes, key, reply }));
        for change in self.ask(taking).await?? {
            self.deliver_again(change).await?;
        }
        Ok(0)
    }

    async fn is_whole(&self) -> Result<(), BufferError> {
        let dir = self.handle.dir.clone();
        let renamed = tokio::task::spawn_blocking(move || {
            fs::rename(dir.join(TAKING), dir.join(TAKEN))?;
            File::open(dir)?.sync_all()
        });
        let renamed = renamed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        renamed.map_err(|error| BufferError::Failed(format!("{TAKING}: {error}")))
    }
}

impl Writer {
    /// Takes orders in, those that are not known.
    pub(super) fn take_in(&mut self, taking: Taking) -> Result<(), Fatal> {
        let Taking { wholes, key, reply } = taking;
        let taken = match self.journal.room_for_orders() {
            true => self.take_all_in(wholes, key.as_ref())?,
            false => Err(BufferError::Failed(AppendError::Full.to_string())),
        };
        // Whoever does not wait any more asks again.
        reply.send(taken).ok();
        Ok(())
    }

    fn take_all_in(
        &mut self,
        wholes: Vec<Whole>,
        key: Option<&OrderKey>,
    ) -> Result<TakenIn, Fatal> {
        let (mut rows, mut orders) = (Vec::new(), Vec::new());
        let (mut changes, mut outcomes) = (Vec::new(), Vec::new());
        let now_ms = self.shared.clock.wall_ms();
        for whole in wholes {
            let known = self.is_known(whole.hash());
            match (whole, key) {
                (Whole::Order { mut records, .. }, _) => {
                    look_first_if_old(&mut records, now_ms, self.outcomes.horizon());
                    for (_, record) in records {
                        match record {
                            Record::Replace { parked: true, delivery, .. }
                            | Record::Cancel { parked: true, delivery, .. }
                                if known =>
                            {
                                changes.push(delivery.envelope);
                            }
                            // An earlier try was cut short between the two.
                            row if self.state.lacks_row(&row) => orders.push(row),
                            _ if known => {}
                            row if State::stands_by_itself(&row) => rows.push(row),
                            record => orders.push(record),
                        }
                    }
                }
                (Whole::Outcome { .. }, _) if known => {}
                (Whole::Outcome { outcome, .. }, Some(key)) => {
                    orders
                        .extend(outcome.records(key.clone()).into_iter().map(|(_, record)| record));
                }
                (Whole::Outcome { hash, outcome }, None) => outcomes.push((hash, outcome)),
            }
        }
        let written = self.write_carried(&rows)? && self.write_carried(&orders)?;
        if !written {
            return Ok(Err(BufferError::Failed(AppendError::Full.to_string())));
        }
        if !outcomes.is_empty() {
            let mut batch = self.outcomes.batch(self.outcomes.stored_below());
            outcomes.iter().for_each(|(hash, outcome)| batch.add(*hash, outcome));
            match batch.store() {
                Ok(stored) => self.outcomes.stored(stored),
                Err(reason) => return Ok(Err(BufferError::Failed(reason))),
            }
        }
        Ok(Ok(changes))
    }

    /// Whether something is known of a hash. It may read the disk, which else the writer never does: for one hash in a
    /// hundred that was never seen, and for what was taken in before.
    fn is_known(&self, hash: u128) -> bool {
        self.state.find(hash).is_some()
            || self.outcomes.seek(hash).is_some_and(|seek| seek.find().is_some())
    }
}
