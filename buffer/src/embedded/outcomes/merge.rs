//! Merging: which runs, and how several become one.
//!
//! Only runs of one stretch are merged, and only neighbours by age, so that a run always holds all outcomes from its first
//! batch to its last and of two runs one is the newer throughout. They are merged when there are many of about one
//! size; so an outcome is written anew a few times in all, and a new key passes few filters.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::io;
use std::sync::Arc;

use super::run::{Home, Run, RunId};
use super::scan::Cursor;
use super::write::{self, Writer};

/// So many runs of one size become one.
const FAN_IN: usize = 8;
/// And from so many on all of them, in a stretch that is over, where what still comes is little.
const FAN_IN_OVER: usize = 2;

/// A merge that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct UnderWay {
    /// The newest of its runs.
    newest: RunId,
    entries: u64,
}

impl UnderWay {
    pub(super) fn of(runs: &[Arc<Run>]) -> Option<Self> {
        let newest = runs.last()?.id;
        Some(Self { newest, entries: runs.iter().map(|run| run.entries).sum() })
    }
}

/// The runs to be merged next, oldest first; those given are sorted likewise. Beside merges that are under way only much
/// smaller ones, of newer runs: where outcomes come fast, their runs must not heap up behind a large merge.
pub(super) fn choose(runs: &[Arc<Run>], under_way: &[UnderWay]) -> Option<Vec<Arc<Run>>> {
    let newest = runs.last()?.id.span;
    runs.chunk_by(|one, other| one.id.span == other.id.span).find_map(|stretch| {
        let older = |run: &Arc<Run>| {
            let before = |other: &UnderWay| {
                other.newest.span == run.id.span && run.id.first <= other.newest.last
            };
            under_way.iter().any(before)
        };
        let stretch = stretch.get(stretch.partition_point(older)..)?;
        let over = stretch.first().is_some_and(|run| run.id.span < newest);
        let chosen = if over {
            neighbours(stretch, FAN_IN_OVER, usize::MAX)?
        } else {
            neighbours(stretch, FAN_IN, FAN_IN)?
        };
        let entries: u64 = chosen.iter().map(|run| run.entries).sum();
        let small = under_way.iter().all(|other| entries <= other.entries / FAN_IN as u64);
        small.then(|| chosen.to_vec())
    })
}

/// Neighbours among which at least so many are of one size and none is larger, the smallest first; no more than so many.
fn neighbours(stretch: &[Arc<Run>], least: usize, most: usize) -> Option<&[Arc<Run>]> {
    let size = |run: &Arc<Run>| magnitude(run.entries);
    let sizes: BTreeSet<_> = stretch.iter().map(size).collect();
    sizes.into_iter().find_map(|wanted| {
        stretch.split(|run| size(run) > wanted).find_map(|group| {
            let of_size = (0..).zip(group).filter(|(_, run)| size(run) == wanted);
            let of_size: Vec<usize> = of_size.map(|(at, _)| at).collect();
            let end = of_size.get(most).copied().unwrap_or(group.len());
            (of_size.len() >= least).then(|| group.get(..end))?
        })
    })
}

/// Runs of one magnitude differ by less than eight times.
fn magnitude(entries: u64) -> u32 {
    entries.checked_ilog2().unwrap_or_default() / 3
}

/// Merges runs, oldest first; of several outcomes of one hash the newest stays. `go_on` is asked whenever so many
/// bytes were written; where it says no, there is no merged run.
///
/// # Errors
/// A run cannot be read or written now; all is as it was.
pub(super) fn merge(
    home: &Home,
    runs: &[Arc<Run>],
    mut go_on: impl FnMut(u64) -> io::Result<bool>,
) -> io::Result<Option<Run>> {
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else { return Ok(None) };
    let id = RunId { last: last.id.last, ..first.id };
    let entries = runs.iter().map(|run| run.entries).sum();
    write::run(home, id, entries, |writer| add_all(runs, writer, &mut go_on))
}

fn add_all(
    runs: &[Arc<Run>],
    writer: &mut Writer,
    go_on: &mut impl FnMut(u64) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut cursors: Vec<_> = runs.iter().cloned().map(Cursor::new).collect();
    // The least hash first, and of several the newest run's.
    let mut heads = BinaryHeap::with_capacity(cursors.len());
    for (age, cursor) in cursors.iter_mut().enumerate() {
        heads.extend(cursor.next()?.map(|hash| (Reverse(hash), age)));
    }
    let (mut last, mut written) = (None, 0);
    while let Some((Reverse(hash), age)) = heads.pop() {
        let Some(cursor) = cursors.get_mut(age) else { continue };
        if let Some(outcome) = cursor.outcome().filter(|_| last != Some(hash)) {
            writer.add(hash, outcome)?;
            last = Some(hash);
        }
        heads.extend(cursor.next()?.map(|hash| (Reverse(hash), age)));
        let more = writer.written() - written;
        written += more;
        if more > 0 && !go_on(more)? {
            return Ok(false);
        }
    }
    Ok(true)
}
