//! What the server, asked after the sale, can show: the OMS's rows, orders by key, process exceptions.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use rust_decimal::Decimal;
use serde::Deserialize;

use crate::client::{CallError, Connection};
use crate::mix::{Key, Mix};

/// How long one question may take.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// What must be escaped in a part of a path.
const PART: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b':')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// All of it, by index of the key.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// What the OMS has.
    pub(crate) rows: HashMap<u32, Row>,
    /// Commit times of those rows, microseconds since 1970.
    pub(crate) commits: Vec<i64>,
    /// State of the orders the buffer has, as far as it was asked.
    pub(crate) states: HashMap<u32, State>,
    /// Ids of the open process exceptions.
    pub(crate) exceptions: HashSet<u64>,
    /// Where the OMS's list was read to.
    cursor: u64,
}

/// One identity in the OMS.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Grand total of the first listing; `None` where it is no decimal.
    pub(crate) total: Option<Decimal>,
    /// How often the OMS was made to create it, or lists it.
    pub(crate) creates: u64,
}

/// Where an order is, in the buffer's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Held,
    Pending,
    Leased,
    Submitted,
    Summarised,
    Exception,
    Cancelled,
    Discarded,
    Recorded,
}

#[derive(Deserialize)]
struct Listing {
    orders: Vec<Listed>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Listed {
    cursor: u64,
    identity: String,
    committed_at_us: i64,
    grand_total: String,
    creates: u64,
}

#[derive(Deserialize)]
struct View {
    state: State,
}

#[derive(Deserialize)]
struct Exceptions {
    exceptions: Vec<Exception>,
    next: Option<u64>,
}

#[derive(Deserialize)]
struct Exception {
    id: u64,
}

/// A key in plain text, its parts apart.
type Plain = (String, String, String);

/// The keys of a mix, by their plain text.
pub(crate) struct Keys(HashMap<Plain, u32>);

impl Keys {
    pub(crate) fn of(mix: &Mix) -> Self {
        let plain = |key: &Key| (key.channel.name().into(), key.source.to_string(), key.id.clone());
        Self((0..).zip(&mix.keys).map(|(at, key)| (plain(key), at)).collect())
    }

    /// The key of a joined identity; `None` if it is none of this sale's.
    fn get(&self, identity: &str) -> Option<u32> {
        let decode = |part: &str| percent_decode_str(part).decode_utf8().ok().map(String::from);
        let mut parts = identity.split(':').map(decode);
        let (channel, source, id) = (parts.next()??, parts.next()??, parts.next()??);
        if parts.next().is_some() {
            return None;
        }
        self.0.get(&(channel, source, id)).copied()
    }
}

impl Evidence {
    /// Reads the OMS's list on from where it was read to.
    pub(crate) async fn read_oms(
        &mut self,
        ops: &mut Connection,
        keys: &Keys,
    ) -> Result<(), CallError> {
        loop {
            let path = format!("/v1/oms/orders?after={}&limit=1000", self.cursor);
            let Some(page): Option<Listing> = ops.get(&path, ASK_WITHIN).await? else {
                return Ok(());
            };
            for listed in &page.orders {
                self.cursor = self.cursor.max(listed.cursor);
                let Some(key) = keys.get(&listed.identity) else { continue };
                self.commits.push(listed.committed_at_us);
                let total = listed.grand_total.parse().ok();
                let row = self.rows.entry(key).or_insert(Row { total, creates: 0 });
                row.creates += listed.creates.max(1);
            }
            match page.next {
                // A cursor that does not move would go round for ever.
                Some(next) if !page.orders.is_empty() => self.cursor = self.cursor.max(next),
                _ => return Ok(()),
            }
        }
    }

    /// Asks the buffer where one order is.
    pub(crate) async fn ask(
        &mut self,
        ops: &mut Connection,
        mix: &Mix,
        key: u32,
    ) -> Result<Option<State>, CallError> {
        let Some(of) = usize::try_from(key).ok().and_then(|at| mix.keys.get(at)) else {
            return Ok(None);
        };
        let encode = |part| utf8_percent_encode(part, PART);
        let (channel, source, id) = (of.channel.name(), encode(&of.source), encode(&of.id));
        let path = format!("/v1/orders/{channel}/{source}/{id}");
        let view: Option<View> = ops.get(&path, ASK_WITHIN).await?;
        if let Some(View { state }) = view {
            self.states.insert(key, state);
        }
        Ok(view.map(|view| view.state))
    }

    /// Reads the open process exceptions.
    pub(crate) async fn read_exceptions(&mut self, ops: &mut Connection) -> Result<(), CallError> {
        let mut after = 0;
        loop {
            let path = format!("/v1/exceptions?after={after}&limit=100");
            let Some(page): Option<Exceptions> = ops.get(&path, ASK_WITHIN).await? else {
                return Ok(());
            };
            self.exceptions.extend(page.exceptions.iter().map(|exception| exception.id));
            match page.next {
                Some(next) if next > after => after = next,
                _ => return Ok(()),
            }
        }
    }
}
