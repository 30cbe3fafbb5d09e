//! What a start derives again: what records made of orders that the feed had not told durably.

use super::super::journal::Reader;
use super::{Keeper, event};
use crate::record::Record;
use crate::state::State;

/// Name of the standing order ([`Record::Policy`]) that says up to where the feed was told durably when a segment retired.
const NAME: &str = "fed";

/// Says so: everything up to `told` was, when all below that epoch retired. It stands in front of the checkpoint.
pub(in crate::embedded) fn fed_record(told: u64, retired_below: u64, now_ms: i64) -> Record {
    let value = [told.to_le_bytes(), retired_below.to_le_bytes()].concat();
    Record::Policy { name: NAME.to_owned(), value, at_ms: now_ms }
}

/// A start that goes through the journal.
pub(in crate::embedded) struct Replay<'a> {
    /// `None` where no feed is kept.
    keeper: Option<&'a mut Keeper>,
    reader: &'a Reader,
    /// How far the feed is; `None` where there was none.
    told: Option<u64>,
    /// It could not be written, in words.
    failed: Result<(), String>,
}

impl<'a> Replay<'a> {
    pub(in crate::embedded) fn new(
        keeper: Option<&'a mut Keeper>,
        reader: &'a Reader,
        told: Option<u64>,
    ) -> Self {
        Self { keeper, reader, told, failed: Ok(()) }
    }

    /// Whether what the record of that sequence makes of orders is to be told. Then the state says it from now on.
    pub(in crate::embedded) fn is_news(&self, state: &mut State, sequence: u64) -> bool {
        let is_news = self.told.is_some_and(|told| sequence > told);
        if is_news {
            state.listen();
        }
        is_news
    }

    /// Tells what records up to that sequence, just applied, made of orders.
    pub(in crate::embedded) fn tell(&mut self, state: &mut State, sequence: u64) {
        let events: Vec<_> = state.take_news().map(|news| event(news, None, self.reader)).collect();
        if let Some(keeper) = self.keeper.as_mut().filter(|_| !events.is_empty())
            && self.failed.is_ok()
        {
            self.failed = keeper.tell(events, sequence).map_err(explain);
        }
    }

    /// All of the journal is applied, and durable up to `durable`; what is retired of it is everything below that epoch. Gives back what
    /// is not as it should be, in words.
    ///
    /// # Errors
    /// In words.
    pub(in crate::embedded) fn end(
        mut self,
        state: &mut State,
        durable: u64,
        retired_below: u64,
    ) -> Result<Option<String>, String> {
        if self.keeper.is_none() {
            return Ok(None);
        }
        let is_whole = self.told.is_some_and(|told| is_whole(state, told, retired_below));
        let is_ahead = self.told.is_some_and(|told| told > durable);
        state.listen();
        self.tell(state, durable);
        self.failed?;
        let Some(keeper) = self.keeper else { return Ok(None) };
        keeper.shared.reached(durable);
        if is_whole && !is_ahead {
            keeper.tell([], durable).map_err(explain)?;
        } else {
            keeper.begin_after(durable).map_err(explain)?;
        }
        keeper.sync().map_err(explain)?;
        let lost = match self.told {
            Some(_) if is_ahead => "it told of more than the journal holds",
            Some(_) if !is_whole => "what it was to tell next is retired",
            _ => return Ok(None),
        };
        Ok(Some(format!("the outcome feed begins anew, for {lost}; whoever reads it is told so")))
    }
}

/// Whether everything after `told` can be derived from what is not retired.
fn is_whole(state: &State, told: u64, retired_below: u64) -> bool {
    let value = state.policy(NAME).and_then(|value| value.split_first_chunk::<8>());
    let fed = value.and_then(|(fed, below)| {
        let below = u64::from_le_bytes(*below.first_chunk()?);
        (below == retired_below).then(|| u64::from_le_bytes(*fed))
    });
    retired_below == 0 || fed.is_some_and(|fed| told >= fed)
}

fn explain(error: std::io::Error) -> String {
    format!("the outcome feed cannot be written: {error}")
}
