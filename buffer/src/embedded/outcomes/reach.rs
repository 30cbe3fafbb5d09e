//! How far back the index has everything: an empty file whose name says below which epoch the outcomes of all segments were
//! stored, and one whose name says for how long they are remembered. They go with the directory, so an index that was lost, or is
//! an older one, says so itself.

use std::io;
use std::time::Duration;

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

const REMEMBERS: &str = "remembers-";

fn horizon_name(horizon: Duration) -> String {
    format!("{REMEMBERS}{}", horizon.as_secs())
}

/// The horizon in a file's name.
pub(super) fn parse_horizon(file: &str) -> Option<Duration> {
    let seconds = file.strip_prefix(REMEMBERS)?.parse().ok()?;
    let horizon = Duration::from_secs(seconds);
    (horizon_name(horizon) == file).then_some(horizon)
}

/// Notes durably for how long outcomes are remembered from now on.
///
/// # Errors
/// Of the file system.
pub(super) fn remember(home: &Home, horizon: Duration) -> io::Result<()> {
    let (directory, own) = (&home.directory, horizon_name(horizon));
    let names = directory.names()?;
    if !names.contains(&own) {
        directory.create(&own)?.sync()?;
        directory.sync()?;
    }
    let others = names.iter().filter(|name| parse_horizon(name).is_some() && **name != own);
    others.for_each(|name| home.remove(name));
    Ok(())
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
