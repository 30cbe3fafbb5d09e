//! The index of a store that nobody writes to: asked and gone through, and never changed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::files::RealDirectory;
use super::filter::Probe;
use super::keeper::find;
use super::run::{Home, Run, Unread};
use super::scan::Cursor;
use super::{is_nowhere, partly_damaged};
use crate::state::Outcome;

/// Every run of an index.
#[derive(Debug, Default)]
pub(in crate::embedded) struct Archive {
    /// Those of later batches come later.
    runs: Vec<Arc<Run>>,
    /// Outcomes in it; one that was changed since may count twice.
    pub(in crate::embedded) outcomes: u64,
    /// See [`super::Outcomes::stored_below`].
    pub(in crate::embedded) stored_below: u64,
    /// What is not as it should be, for people.
    pub(in crate::embedded) notes: Vec<String>,
}

impl Archive {
    /// Opens the index in `dir`, and reads all of it, so that what is damaged is known; where there is none it is empty.
    ///
    /// # Errors
    /// Of the file system.
    pub(in crate::embedded) fn open(dir: &Path, secret: [u8; 16]) -> io::Result<Self> {
        let home = Home { directory: Box::new(RealDirectory::look(dir)), secret, reserve: 0 };
        let found = match find(&home) {
            Err(error) if is_nowhere(&error) => return Ok(Self::default()),
            found => found?,
        };
        let gone = found.lost.into_iter().chain(found.unread.into_iter().map(|(name, _)| name));
        let gone = gone.map(|name| format!("{name} of the outcome index cannot be read"));
        found.runs.iter().try_for_each(Run::verify)?;
        let damaged = found.runs.iter().filter_map(|run| partly_damaged(run));
        Ok(Self {
            outcomes: found.runs.iter().map(|run| run.entries).sum(),
            stored_below: found.stored_below,
            notes: gone.chain(damaged).collect(),
            runs: found.runs,
        })
    }

    /// Whether the outcome of that hash may be there; of keys never seen only a few in a hundred may. Never blocks.
    pub(in crate::embedded) fn may_hold(&self, hash: u128) -> bool {
        let key = Probe::of(hash);
        self.runs.iter().any(|run| run.filter.may_hold(&key))
    }

    /// The outcome of a hash, the latest there is. Blocks on the disk.
    ///
    /// # Errors
    /// Of the file system.
    pub(in crate::embedded) fn find(&self, hash: u128) -> io::Result<Option<Outcome>> {
        for run in self.runs.iter().rev() {
            match run.find(hash) {
                Ok(None) | Err(Unread::Damaged(..)) => {}
                Ok(found) => return Ok(found),
                Err(Unread::Io(_, error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Goes through the latest outcome of every hash. Stops once `each` says false.
    ///
    /// # Errors
    /// Of the file system.
    pub(in crate::embedded) fn each(
        &self,
        mut each: impl FnMut(u128, &Outcome) -> bool,
    ) -> io::Result<()> {
        for (n, run) in self.runs.iter().enumerate() {
            let later = self.runs.get(n + 1..).unwrap_or_default();
            let mut cursor = Cursor::new(Arc::clone(run));
            while let Some(hash) = cursor.next()? {
                let key = Probe::of(hash);
                let mut may_hold = later.iter().filter(|run| run.filter.may_hold(&key));
                if may_hold.any(|run| matches!(run.find(hash), Ok(Some(_)))) {
                    continue;
                }
                if cursor.outcome().is_some_and(|outcome| !each(hash, outcome)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
