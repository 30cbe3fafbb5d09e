//! How far a receiver has been told, in a file of its own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_buffer::FeedCursor;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::metrics;

/// What was taken in so long may be sent again after a crash.
const PAUSE: Duration = Duration::from_secs(1);

/// The file of one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    store: String,
}

/// What a file says.
#[derive(Debug, PartialEq)]
pub(super) enum Kept {
    /// So far it was told.
    At(FeedCursor),
    /// There is no file, or it is of another store: a new endpoint.
    Nothing,
    /// There is one, and nobody knows what it said.
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
struct Line {
    store: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Place {
    Cursor {
        cursor: FeedCursor,
    },
    /// As earlier releases kept it; with a `part`, the record was told up to that one.
    Sequence {
        sequence: u64,
        part: Option<u32>,
    },
}

impl Place {
    fn cursor(self) -> FeedCursor {
        match self {
            Self::Cursor { cursor } => cursor,
            // What was told of the record comes again.
            Self::Sequence { sequence, part } => {
                FeedCursor::after(sequence - u64::from(part.is_some() && sequence > 0))
            }
        }
    }
}

impl Cursor {
    /// Of the endpoint of this name, reading this store.
    pub(super) fn new(directory: &Path, name: &str, store: &str) -> Self {
        Self { path: directory.join(format!("{name}.cursor")), store: store.to_owned() }
    }

    pub(super) fn read(&self) -> Kept {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Kept::Nothing,
            Err(error) => return self.unreadable(&error),
        };
        match serde_json::from_slice::<Line>(&text) {
            Ok(line) if line.store == self.store => Kept::At(line.place.cursor()),
            Ok(_) => Kept::Nothing,
            Err(error) => self.unreadable(&error),
        }
    }

    /// Durable when it returns: either this or what was there before is found after a crash.
    pub(super) fn write(&self, cursor: FeedCursor) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        let line = Line { store: self.store.clone(), place: Place::Cursor { cursor } };
        writeln!(file, "{}", serde_json::to_string(&line)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        File::open(directory)?.sync_all()
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Kept {
        Kept::Unreadable(format!("{}: {error}", self.path.display()))
    }
}

/// Keeps a cursor as it moves, at most once in [`PAUSE`], and what it was at the end; what cannot be kept is tried again after that.
/// `kept` says whether it is.
pub(super) async fn keep(
    cursor: Cursor,
    endpoint: String,
    mut moves: watch::Receiver<FeedCursor>,
    kept: watch::Sender<bool>,
) {
    loop {
        let is_kept = *kept.borrow();
        // What was not kept is to be, also where it does not move.
        let over = match is_kept {
            true => moves.changed().await.is_err(),
            false => moves.has_changed().is_err(),
        };
        if over && is_kept {
            return;
        }
        let position = moves.borrow_and_update().clone();
        let cursor = cursor.clone();
        let written = tokio::task::spawn_blocking(move || cursor.write(position)).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        kept.send_replace(written.is_ok());
        if let Err(error) = written {
            metrics::cursor_failed(&endpoint);
            tracing::warn!(endpoint, %error, "how far this webhook got cannot be kept; after a restart some is sent again");
        }
        if over {
            return;
        }
        let mut ends = moves.clone();
        let end = async { while ends.changed().await.is_ok() {} };
        tokio::time::timeout(PAUSE, end).await.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_for_its_store_and_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("webhooks");
        let cursor = Cursor::new(&below, "mail", "a");
        assert_eq!(cursor.read(), Kept::Nothing);
        let whole = FeedCursor::after(7);
        cursor.write(whole.clone()).unwrap();
        // What a crash left of the next one is not read.
        fs::write(below.join("mail.new"), "{\"sto").unwrap();
        assert_eq!(cursor.read(), Kept::At(whole));
        let torn: FeedCursor = "v1.8.4.5.7.11".parse().unwrap();
        cursor.write(torn.clone()).unwrap();
        assert_eq!(cursor.read(), Kept::At(torn));
        assert_eq!(
            Cursor::new(&below, "mail", "b").read(),
            Kept::Nothing,
            "sequences of another store"
        );
        for (earlier, after) in [("\"sequence\":9", 9), ("\"sequence\":9,\"part\":3", 8)] {
            let line = format!("{{\"store\":\"a\",{earlier}}}\n");
            fs::write(below.join("mail.cursor"), line).unwrap();
            assert_eq!(cursor.read(), Kept::At(FeedCursor::after(after)));
        }
        fs::write(below.join("mail.cursor"), "nonsense").unwrap();
        let Kept::Unreadable(why) = cursor.read() else { panic!("nonsense was read") };
        assert!(why.contains("mail.cursor"), "{why}");
    }
}
