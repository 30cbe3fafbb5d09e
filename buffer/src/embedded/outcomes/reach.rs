//! How far back the index has everything: an empty file whose name says below which epoch the outcomes of all segments were
//! stored. It goes with the directory, so an index that was lost, or is an older one, says so itself.

use std::io;

use super::run::Home;

const PREFIX: &str = "stored-below-";

fn name(epoch: u64) -> String {
    format!("{PREFIX}{epoch}")
}

/// The epoch in a file's name.
pub(super) fn parse(file: &str) -> Option<u64> {
    let epoch = file.strip_prefix(PREFIX)?.parse().ok()?;
    (name(epoch) == file).then_some(epoch)
}

/// Extends the reach durably. False if what said `from` is not there any more: this is another index, and only what is stored
/// from now on is in it.
///
/// # Errors
/// Of the file system; then nobody knows, and the next batch extends it.
pub(super) fn extend(home: &Home, from: u64, to: u64) -> io::Result<bool> {
    let directory = &home.directory;
    let names = directory.names();
    let there: Vec<u64> = match names {
        // Deleted in use; what is made below begins it anew.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names?.iter().filter_map(|name| parse(name)).collect(),
    };
    directory.create(&name(to))?.sync()?;
    directory.sync()?;
    there.iter().filter(|epoch| **epoch < to).for_each(|epoch| home.remove(&name(*epoch)));
    Ok(from == 0 || there.iter().any(|epoch| *epoch >= from))
}
