//! The server is killed right after the OMS committed, before that is settled: `kill -9` within some milliseconds after the OMS's file
//! was written to, or its database told of new rows. Every third time the database crashes with it. Each order is in the OMS once;
//! what was committed is found there and not sent again. In the control what was lent is forgotten at the start, and an OMS that refuses
//! no second create must have doubles.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::acceptance::SET_ASIDE;
use super::interrupt::Interrupt;
use super::probe;
use super::reference;
use super::report::{Tally, doubles};
use super::scene::Scene;
use super::server::ANSWER_LIMIT;
use super::{Oms, Torture, WriteMode};
use crate::failure::{Failure, Result, While as _};
use crate::say::complain;
use crate::time::Stopwatch;

pub(super) const TORTURE: Torture = Torture {
    name: "oms-kill",
    runs: 1_000,
    control: "forgotten-loans",
    ledger_control: None,
    disk: None,
    cluster: None,
    modes: &[WriteMode::Direct],
    oms_inside: false,
    knobs: KNOBS,
    play,
    missed,
};

/// Outcomes are kept longer than the sale's orders are old, or an OMS that refuses no second create is asked before anything is sent, and
/// none could be doubled by forgetting what was lent.
const KNOBS: &str = "dedup_horizon = \"3650d\"\nslot_bytes = \"1MiB\"\nburst_reserve = 2\ndisk_max = \"1GiB\"\n\
                     [door]\nitem_bytes = \"512KiB\"\n";

/// About how long one run takes.
const RUN: Duration = Duration::from_millis(700);
/// How long a server serves before it is killed at its next commit.
const SERVED_MS: std::ops::Range<u64> = 50..250;
/// From a commit to the kill: what is settled takes a few milliseconds.
const AFTER_COMMIT_US: std::ops::Range<u64> = 0..1_500;
/// How long a commit may be waited for.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// Orders that a start found in the OMS, whose process was killed before it had settled them.
const FOUND: &str = "found_committed";
const DATABASE_CRASHED: &str = "database_crashed";

fn play(scene: &mut Scene<'_>) -> Result<()> {
    let runs = scene.share.runs;
    let mut random = scene.random();
    scene.sell(RUN * runs)?;
    if !scene.start(&[])? {
        return Ok(());
    }
    scene.play_load()?;
    let mut commits = Commits::watch(scene)?;
    for run in 0..runs {
        // What was lent as the one before was killed is looked for first.
        scene.wait(Duration::from_millis(random.u64(SERVED_MS)))?;
        count_found(scene)?;
        if !commits.next(scene.interrupt())? {
            return Err(Failure::Missed(format!("no commit within {COMMIT_LIMIT:?}")));
        }
        scene.wait(Duration::from_micros(random.u64(AFTER_COMMIT_US)))?;
        let crashes = run % 3 == 2;
        if let Some(database) = scene.database().filter(|_| crashes) {
            database.crash().when("crashing PostgreSQL")?;
            scene.tally.count(DATABASE_CRASHED, 1);
        }
        scene.strike(1.0)?;
        if let Some(database) = scene.database().filter(|_| crashes) {
            database.run(&[]).when("starting PostgreSQL again")?;
            commits = Commits::watch(scene)?;
        }
        if !scene.start(&[])? {
            return Ok(());
        }
        if run + 1 < runs {
            scene.play_load()?;
        } else {
            let target = scene.target()?;
            scene.count_set_aside(target)?;
        }
        if run % 50 == 49 {
            complain(format_args!("run {} of {runs}", run + 1));
        }
    }
    Ok(())
}

/// Counts what this life of the server found in the OMS when it looked.
fn count_found(scene: &mut Scene<'_>) -> Result<()> {
    let metrics = probe::get(scene.target()?.ops, "/metrics", ANSWER_LIMIT).when("metrics")?;
    let found = metrics.body.lines().filter_map(|line| {
        line.strip_prefix("forebay_drain_orders_total{outcome=\"existing\"} ")?.parse::<u64>().ok()
    });
    scene.tally.count(FOUND, found.sum());
    Ok(())
}

/// What tells of commits.
enum Commits {
    /// How long a file was, and when it was last written to.
    File { path: PathBuf, written: Option<(u64, SystemTime)> },
    /// How often the database told of new rows, and how often that was noticed.
    Told { told: Arc<AtomicU64>, noticed: u64, _client: Client },
}

impl Commits {
    fn watch(scene: &Scene<'_>) -> Result<Self> {
        let path = match scene.share.oms {
            Oms::Sqlite => scene.beside("oms.sqlite-wal"),
            Oms::Ledger => scene.beside("oms.ledger"),
            Oms::Http => scene.beside(reference::LOG),
            Oms::Postgres => return Self::told(scene),
        };
        Ok(Self::File { path, written: None })
    }

    fn told(scene: &Scene<'_>) -> Result<Self> {
        let database = scene.database();
        let url = database.map(|database| database.url("postgres")).unwrap_or_default();
        let told = Arc::new(AtomicU64::new(0));
        let client = scene.interrupt().handle().block_on(listen(&url, Arc::clone(&told)));
        Ok(Self::Told { told, noticed: 0, _client: client? })
    }

    /// Waits for the next commit; whether it came.
    fn next(&mut self, interrupt: &Interrupt) -> Result<bool> {
        let watch = Stopwatch::start();
        self.is_new();
        while !self.is_new() {
            if watch.left_of(COMMIT_LIMIT).is_zero() {
                return Ok(false);
            }
            // No event tells it in time, and a pause would be longer than what is aimed at.
            interrupt.wait(Duration::ZERO)?;
        }
        Ok(true)
    }

    /// Whether there was one since it was last asked.
    fn is_new(&mut self) -> bool {
        match self {
            Self::File { path, written } => {
                let now =
                    std::fs::metadata(path).and_then(|file| Ok((file.len(), file.modified()?)));
                let now = now.ok();
                std::mem::replace(written, now) != now
            }
            Self::Told { told, noticed, .. } => {
                let now = told.load(Ordering::Acquire);
                std::mem::replace(noticed, now) != now
            }
        }
    }
}

/// The database tells whoever listens of each statement that brought orders, once that is committed.
const TELL: &str = "CREATE OR REPLACE FUNCTION tell_created() RETURNS trigger LANGUAGE plpgsql AS \
     $$BEGIN PERFORM pg_notify('created', ''); RETURN NULL; END$$; \
     CREATE OR REPLACE TRIGGER tell_created AFTER INSERT ON order_summary \
     FOR EACH STATEMENT EXECUTE FUNCTION tell_created(); \
     LISTEN created";

/// Counts what is told; ends with the client.
async fn listen(url: &str, told: Arc<AtomicU64>) -> Result<Client> {
    let (client, mut connection) =
        tokio_postgres::connect(url, NoTls).await.when("connecting to PostgreSQL")?;
    drop(tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if matches!(message, AsyncMessage::Notification(_)) {
                told.fetch_add(1, Ordering::AcqRel);
            }
        }
    }));
    // The first call makes the tables.
    let there = "SELECT to_regclass('order_summary') IS NOT NULL";
    while !client.query_one(there, &[]).await.when("asking PostgreSQL")?.get::<_, bool>(0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.batch_execute(TELL).await.when("asking PostgreSQL to tell")?;
    Ok(client)
}

fn missed(tally: &Tally, control: bool) -> Vec<String> {
    let mut missed = doubles(tally, control);
    if control {
        return missed;
    }
    if tally.count_of(FOUND) == 0 {
        missed.push("no kill came between a commit and what is settled of it".to_owned());
    }
    if tally.count_of(SET_ASIDE) > 0 {
        missed.push(format!("{} orders were set aside", tally.count_of(SET_ASIDE)));
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_double_or_a_kill_that_proves_nothing_is_missed_and_the_control_must_double() {
        let mut tally = Tally { acknowledged: 9, injected: 2, ..Tally::default() };
        assert!(!missed(&tally, false).is_empty(), "nothing was found committed");
        tally.count(FOUND, 3);
        assert_eq!(missed(&tally, false), Vec::<String>::new());
        assert!(!missed(&tally, true).is_empty());
        let doubled = Tally { doubled: 1, ..tally };
        assert!(!missed(&doubled, false).is_empty());
        assert_eq!(missed(&doubled, true), Vec::<String>::new());
    }
}
