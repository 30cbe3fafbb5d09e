//! From the data directory to a state that is ready to serve.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::feed::{self, Keeper, Replay};
use super::journal::{
    DamagedRecord, Journal, Options, ReadError, Reader, Replayed, WriteError, hint,
};
use super::outcomes::Outcomes;
use super::take_in::{self, TakingIn};
use super::{EmbeddedConfig, look_first, lookup};
use crate::Clock;
use crate::record::Record;
use crate::state::{Before, Kept, State};

/// Deliveries at the very end that are named at most.
const UNPROVEN_NAMED: usize = 100;

/// Everything the writer starts with.
pub(super) struct Recovered {
    pub(super) journal: Journal,
    pub(super) state: State,
    pub(super) outcomes: Outcomes,
    /// `None` where no feed is kept.
    pub(super) feed: Option<Keeper>,
    /// What was not as it should be, for people.
    pub(super) report: Vec<String>,
}

/// Opens everything and applies every record.
///
/// # Errors
/// In words.
pub(super) fn recover(
    config: &EmbeddedConfig,
    clock: &Arc<dyn Clock>,
    taking_in: Option<&TakingIn>,
) -> Result<Recovered, String> {
    take_in::check(&config.dir, taking_in)?;
    make_dir(&config.dir)
        .map_err(|e| format!("the directory cannot be made or synced: {e}{}", hint(&e)))?;
    let options = Options {
        slot_bytes: config.slot_bytes,
        burst_reserve: config.burst_reserve,
        disk_max: config.disk_max,
        write_mode: config.write_mode,
        goes_on: taking_in.map(|taking_in| taking_in.goes_on),
        ..Options::new(Arc::clone(clock))
    };
    let opened = Journal::open(&config.dir.join("journal"), options);
    let (mut journal, mut recovered) = opened.map_err(|error| error.to_string())?;
    let mut state = State::new(&journal.store_secret());
    let mut report = recovered.report().to_vec();
    let reader = journal.reader();
    let dir = config.dir.join("feed");
    // What a burst needs is left to the journal.
    let leaves = config.slot_bytes.saturating_mul(u64::from(config.burst_reserve) + 4);
    let sizes = (config.feed_bytes, leaves);
    let (mut keeper, told, notes) = feed::open(&dir, journal.store_secret(), sizes, clock)?;
    report.extend(notes);
    let mut news = Replay::new(keeper.as_mut(), &reader, told);

    // A record whose bytes are damaged still says what happened; only at the very end, where it may never have
    // been acknowledged, it counts for nothing.
    let mut damaged: Vec<DamagedRecord> = recovered.damaged().to_vec();
    report.extend(unproven(&damaged));
    damaged.retain(|record| record.proven);
    damaged.sort_unstable_by_key(|record| record.sequence);
    replay(&mut recovered, &damaged, &reader, &mut state, &mut news)?;

    let now_ms = clock.wall_ms();
    let (dir, secret) = (config.dir.join("outcomes"), journal.store_secret());
    // Less than a slot, so that the journal does not take what is given up of it.
    let reserve = config.slot_bytes / 2;
    let opened = Outcomes::open(&dir, secret, reserve, config.dedup_horizon);
    // The same damage, found again by every start until it is gone, counts once. It is noted before anything else is
    // written or can fail, for the next start may not find it any more.
    let of_the_index = opened.iter().flat_map(|(_, notes)| notes);
    let damage = look_first::digest(recovered.report().iter().chain(of_the_index));
    if damage != 0 && damage != state.look_first().damage {
        look_first::note(&mut journal, &mut state, config.dedup_horizon, now_ms, damage)?;
    }
    let (mut outcomes, notes) = opened?;
    report.extend(notes);
    // What is made durable from here on is to be told, too.
    news.is_news(&mut state, u64::MAX);
    let mut records = state.replayed(now_ms, Duration::ZERO);
    records
        .extend(damaged.iter().filter_map(|d| state.damaged(&d.record, kept_damaged(d), now_ms)));
    append(&mut journal, &mut state, &records)?;

    let retired_below = journal.retired_below();
    if outcomes.stored_below() < retired_below {
        report.push("the outcome index is not the one that was there, or not all of it".to_owned());
        let damage = state.look_first().damage;
        look_first::note(&mut journal, &mut state, config.dedup_horizon, now_ms, damage)?;
        // Only the next start would find the same once more.
        if let Err(reason) = outcomes.store_nothing(retired_below) {
            tracing::warn!(%reason, "the outcome index cannot be written");
        }
    }
    if let Some(taking_in) = taking_in {
        let record = state.look_first_until(taking_in.look_first_until_ms, now_ms);
        append(&mut journal, &mut state, record.as_slice())?;
    }
    if let Some(longer) = outcomes.remembers_longer() {
        let damage = state.look_first().damage;
        look_first::note(&mut journal, &mut state, longer, now_ms, damage)?;
    }
    if let Err(error) = outcomes.note_horizon() {
        tracing::warn!(%error, "the outcome index cannot be written");
    }
    report.extend(news.end(&mut state, journal.durable_sequence(), retired_below)?);
    report.iter().for_each(|note| tracing::warn!("{note}"));
    look_first::say(&state, now_ms);
    Ok(Recovered { journal, state, outcomes, feed: keeper, report })
}

/// Applies every record, and tells what those make of orders that the feed does not have.
fn replay(
    recovered: &mut super::journal::Recovered,
    damaged: &[DamagedRecord],
    reader: &Reader,
    state: &mut State,
    news: &mut Replay<'_>,
) -> Result<(), String> {
    let before = |kept: Kept| lookup::head(reader, kept).ok().map(|head| head.before());
    let mut next_damaged = damaged.iter().peekable();
    let mut apply_damaged = |state: &mut State, news: &mut Replay<'_>, below: u64| {
        while let Some(damaged) = next_damaged.next_if(|damaged| damaged.sequence < below) {
            news.is_news(state, damaged.sequence);
            apply_damaged(state, damaged, before);
            news.tell(state, damaged.sequence);
        }
    };
    let replayed = recovered.replay(|replayed| {
        let (sequence, location, bytes) = replayed.place();
        apply_damaged(state, news, sequence);
        let kept = Kept { record: sequence, location: Some(location), bytes };
        let is_news = news.is_news(state, sequence);
        match replayed {
            // Its exact time stands in its record only.
            Replayed::Plain(found) => match is_news.then(|| reader.head(location)) {
                Some(Ok((_, record))) => state.apply(&record, kept, before),
                _ => state.apply_indexed(sequence, kept, &found.plain),
            },
            Replayed::Whole(restored) => {
                let copy_is_damaged =
                    || matches!(reader.read(location), Err(ReadError::Damaged { .. }));
                if original_is_there(state, &restored.record) && copy_is_damaged() {
                    return;
                }
                match state.plain(&restored.record).filter(|_| !is_news) {
                    Some(plain) => state.apply_indexed(sequence, kept, &plain),
                    None => state.apply(&restored.record, kept, before),
                }
            }
        }
        news.tell(state, sequence);
    });
    replayed.map_err(|error| error.to_string())?;
    apply_damaged(state, news, u64::MAX);
    Ok(())
}

/// Names the deliveries at the very end that are not whole. They count for nothing, but one of them may have been
/// acknowledged and have gone bad since, so somebody must be able to ask for it.
fn unproven(damaged: &[DamagedRecord]) -> Option<String> {
    let delivered = |record: &DamagedRecord| match &record.record {
        // The original is still there.
        Record::Moved { .. } | Record::MovedRow { .. } => None,
        other => other.delivery().map(|delivery| delivery.envelope.key.to_string()),
    };
    let keys: Vec<_> = damaged.iter().filter(|d| !d.proven).filter_map(delivered).collect();
    let named = keys.get(..keys.len().min(UNPROVEN_NAMED)).unwrap_or_default().join(", ");
    (!keys.is_empty()).then(|| {
        format!(
            "{} deliveries at the very end are not whole and count for nothing; nobody can tell whether they were \
             answered before the process ended, so have their senders send them again: {named}{}",
            keys.len(),
            if keys.len() > UNPROVEN_NAMED { ", ..." } else { "" }
        )
    })
}

/// Makes what recovery found durable; false without room for it, and the next start finds the same again.
pub(super) fn append(
    journal: &mut Journal,
    state: &mut State,
    records: &[Record],
) -> Result<bool, String> {
    if records.is_empty() {
        return Ok(true);
    }
    match journal.append(records) {
        Ok(placed) => {
            for (placed, record) in placed.into_iter().zip(records) {
                let location = Some(placed.location);
                state.apply(record, Kept { record: placed.sequence, location, bytes: 0 }, |_| None);
            }
            Ok(true)
        }
        Err(WriteError::Full) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes in a record whose bytes are damaged. A copy counts for nothing while its original is still there.
pub(super) fn apply_damaged(
    state: &mut State,
    damaged: &DamagedRecord,
    before: impl FnOnce(Kept) -> Option<Before>,
) {
    if !original_is_there(state, &damaged.record) {
        state.apply(&damaged.record, kept_damaged(damaged), before);
    }
}

/// Whether a record carries something forward that is still where it was: its segment was on its way out when the
/// process ended. There are few, so their copies are read whole before the originals are let go.
pub(super) fn original_is_there(state: &State, record: &Record) -> bool {
    match record {
        Record::Moved { order, .. } => state.kept(*order).is_some(),
        Record::MovedRow { exception, delivery, .. } => {
            delivery.is_some() && state.has_row(*exception)
        }
        _ => false,
    }
}

fn kept_damaged(damaged: &DamagedRecord) -> Kept {
    Kept { record: damaged.sequence, location: Some(damaged.location), bytes: 0 }
}

/// Makes the directory, and makes its name durable.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    fs::create_dir_all(dir.join("journal"))?;
    File::open(dir)?.sync_all()?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
