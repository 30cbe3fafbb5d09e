//! What this process has seen of the store, on a disk of its own: so that a start tells a stream that was restored or made
//! anew from the one it was.
//!
//! ```text
//! store HEX
//! sequence N
//! ```

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::OpenError;
use super::store::Store;

/// The store this process knows, and the highest sequence it has seen there.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    id: String,
    sequence: u64,
}

impl Seen {
    /// Compares what was seen before with what is there now.
    ///
    /// # Errors
    /// [`OpenError::OtherStore`], [`OpenError::WentBack`], [`OpenError::Seen`].
    pub(super) fn check(
        path: &Path,
        stream: &str,
        store: &Store,
        now: u64,
    ) -> Result<Self, OpenError> {
        let (path, stream) = (path.to_owned(), stream.to_owned());
        let seen = Self { path, id: store.id(), sequence: now };
        let text = match fs::read_to_string(&seen.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                seen.write().map_err(|error| seen.unusable(&error))?;
                return Ok(seen);
            }
            Err(error) => return Err(seen.unusable(&error)),
        };
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let highest = field("sequence ").and_then(|number| number.parse::<u64>().ok());
        let (Some(id), Some(highest)) = (field("store "), highest) else {
            return Err(seen.unusable(&"it holds neither a store nor a sequence"));
        };
        let path = seen.path.clone();
        if id != seen.id {
            return Err(OpenError::OtherStore { stream, path });
        }
        if now < highest {
            return Err(OpenError::WentBack { stream, path, now, highest });
        }
        seen.write().map_err(|error| seen.unusable(&error))?;
        Ok(seen)
    }

    /// Notes how far the stream is; an older sequence is no news.
    pub(super) fn reached(&mut self, sequence: u64) {
        if sequence <= self.sequence {
            return;
        }
        self.sequence = sequence;
        if let Err(error) = self.write() {
            tracing::warn!(path = %self.path.display(), %error, "what was seen of the stream cannot be kept");
        }
    }

    fn write(&self) -> std::io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        file.write_all(format!("store {}\nsequence {}\n", self.id, self.sequence).as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> OpenError {
        OpenError::Seen { path: self.path.clone(), reason: reason.to_string() }
    }
}
