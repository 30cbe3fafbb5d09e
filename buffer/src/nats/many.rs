//! Reading what stands under many subjects, or what comes next, with one request.
//!
//! Any of the servers answers, also one whose copy lags behind. It says how far its copy was, and an answer that is not as
//! far as the caller needs is thrown away: a copy that has everything up to a sequence has the newest message of each
//! subject up to there. (NATS ADR-31, multi-subject requests.)

use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt;
use futures_util::future::join_all;
use hashbrown::HashMap;
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};

use super::connect::TRY_TIMEOUT;
use super::table::{Stored, Table, TableError};

/// Subjects of one request; the servers take 1,024.
const AT_ONCE: usize = 128;
/// A copy that lags behind is asked again after so long, and so often.
const LAGS_PAUSE: Duration = Duration::from_millis(2);
const LAGS_TRIES: usize = 8;
/// The status of the message that ends an answer.
const END: u16 = 204;

const SUBJECT: &str = "Nats-Subject";
const SEQUENCE: &str = "Nats-Sequence";
const UP_TO: &str = "Nats-UpTo-Sequence";

#[derive(Serialize)]
struct Request<'a> {
    multi_last: &'a [String],
}

impl Table {
    /// What stands under these subjects as of sequence `since`, or later. A subject that is not in the answer is to be read
    /// alone.
    pub async fn read_many(&self, subjects: &[String], since: u64) -> HashMap<String, Stored> {
        let parts = subjects.chunks(AT_ONCE).map(|part| self.read_part(part, since));
        join_all(parts).await.into_iter().flatten().collect()
    }

    async fn read_part(&self, subjects: &[String], since: u64) -> HashMap<String, Stored> {
        for _ in 0..LAGS_TRIES {
            match timeout(TRY_TIMEOUT, self.ask_many(subjects)).await {
                Ok(Some((up_to, found))) if up_to >= since => return found,
                Ok(Some(_)) => sleep(LAGS_PAUSE).await,
                Ok(None) | Err(_) => break,
            }
        }
        HashMap::new()
    }

    /// One request: how far the copy was, and what stood under the subjects. `None` if there was no whole answer.
    async fn ask_many(&self, subjects: &[String]) -> Option<(u64, HashMap<String, Stored>)> {
        let request = serde_json::to_vec(&Request { multi_last: subjects }).ok()?;
        let client = self.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.ok()?;
        let asked = format!("$JS.API.DIRECT.GET.{}", self.name());
        client.publish_with_reply(asked, inbox, request.into()).await.ok()?;
        let mut found = HashMap::with_capacity(subjects.len());
        loop {
            let answer = answers.next().await?;
            let headers = answer.headers.as_ref()?;
            if let Some(status) = answer.status {
                let up_to = number(headers, UP_TO).filter(|_| status.as_u16() == END);
                return Some((up_to?, found));
            }
            let subject = headers.get(SUBJECT)?.as_str().to_owned();
            let stored = Stored::read(number(headers, SEQUENCE)?, answer.payload, headers);
            found.insert(subject, stored);
        }
    }
}

/// What comes next.
#[derive(Serialize)]
struct Next<'a> {
    seq: u64,
    batch: usize,
    max_bytes: usize,
    next_by_subj: &'a str,
}

/// The status of an answer where nothing comes next.
const NOTHING: u16 = 404;
/// How many messages come after those of an answer.
const LEFT: &str = "Nats-Num-Pending";

/// What came next.
#[derive(Debug)]
pub(super) struct Came {
    /// In order, each with its subject.
    pub(super) messages: Vec<(String, Stored)>,
    /// Nothing came after them, in the copy they were read from.
    pub(super) all: bool,
}

impl Table {
    /// What stands under subjects that fit the filter from that sequence on, in order: so many messages at most, and about so many
    /// bytes. A copy that lags behind leaves the newest out.
    ///
    /// # Errors
    /// [`TableError::Unknown`] if nobody answers until the deadline.
    pub(super) async fn read_next(
        &self,
        filter: &str,
        from: u64,
        batch: usize,
        max_bytes: usize,
    ) -> Result<Came, TableError> {
        self.sound()?;
        let until = Instant::now() + self.deadline();
        let next = Next { seq: from, batch, max_bytes, next_by_subj: filter };
        loop {
            if let Ok(Some(found)) = timeout(TRY_TIMEOUT, self.ask_next(&next)).await {
                return Ok(found);
            }
            if Instant::now() >= until {
                let why = "no server read on from there";
                return Err(TableError::Unknown(why.to_owned()));
            }
            sleep(LAGS_PAUSE).await;
        }
    }

    /// One request; `None` if there was no whole answer.
    async fn ask_next(&self, next: &Next<'_>) -> Option<Came> {
        let request = serde_json::to_vec(next).ok()?;
        let client = self.client();
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.ok()?;
        let asked = format!("$JS.API.DIRECT.GET.{}", self.name());
        client.publish_with_reply(asked, inbox, request.into()).await.ok()?;
        let mut messages = Vec::new();
        loop {
            let answer = answers.next().await?;
            let headers = answer.headers.as_ref()?;
            if let Some(status) = answer.status {
                let all = match status.as_u16() {
                    NOTHING => true,
                    END => number(headers, LEFT) == Some(0),
                    _ => return None,
                };
                return Some(Came { messages, all });
            }
            let subject = headers.get(SUBJECT)?.as_str().to_owned();
            let stored = Stored::read(number(headers, SEQUENCE)?, answer.payload, headers);
            messages.push((subject, stored));
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
