//! What tells of the OMS's commits, to whoever is to strike right after one.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::failure::{Failure, Result, While as _};
use crate::time::Stopwatch;
use crate::torture::interrupt::Interrupt;
use crate::torture::scene::Scene;
use crate::torture::{Oms, reference};

/// How long a commit may be waited for.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// What tells of commits.
pub(super) enum Commits {
    /// How long a file was, and when it was last written to.
    File { path: PathBuf, written: Option<(u64, SystemTime)> },
    /// How often the database told of new rows, and how often that was noticed.
    Told { told: Arc<AtomicU64>, noticed: u64, _client: Client },
}

impl Commits {
    pub(super) fn watch(scene: &Scene<'_>) -> Result<Self> {
        let path = match scene.share.oms {
            Oms::Sqlite => scene.beside("oms.sqlite-wal"),
            Oms::Ledger => scene.beside("oms.ledger"),
            Oms::Http => scene.beside(reference::LOG),
            Oms::Postgres => return Self::told(scene),
        };
        Ok(Self::File { path, written: None })
    }

    fn told(scene: &Scene<'_>) -> Result<Self> {
        let url = scene.database()?.url("postgres");
        let told = Arc::new(AtomicU64::new(0));
        let client = scene.interrupt().handle().block_on(listen(&url, Arc::clone(&told)));
        Ok(Self::Told { told, noticed: 0, _client: client? })
    }

    /// Waits for the next commit.
    pub(super) fn next(&mut self, interrupt: &Interrupt) -> Result<()> {
        let watch = Stopwatch::start();
        self.is_new();
        while !self.is_new() {
            if watch.left_of(COMMIT_LIMIT).is_zero() {
                return Err(Failure::Missed(format!("no commit within {COMMIT_LIMIT:?}")));
            }
            // No event tells it in time, and a pause would be longer than what is aimed at.
            interrupt.wait(Duration::ZERO)?;
        }
        Ok(())
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
    client.batch_execute(TELL).await.when("asking PostgreSQL to tell")?;
    Ok(client)
}
