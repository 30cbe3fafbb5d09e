//! What applying a record made of orders: what the feed tells, derived by the fold itself, so that a replay tells the same.

use forebay_order::HoldReason;

use super::order::Kept;
use super::row::Row;
use super::{Order, State};
use crate::OrderState;
use crate::feed::{FeedEvent, FeedException, FeedKind, Named};

/// Something that became of one order.
#[derive(Clone, Debug)]
pub(crate) struct News {
    /// Of the record that made it so.
    pub(crate) sequence: u64,
    /// Which of that record's news it is.
    part: u32,
    what: What,
    /// `None` for a body that occupies no key.
    pub(crate) order: Option<u64>,
    /// The record that says the key and the number.
    pub(crate) named_in: Kept,
    at_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Accepted,
    Held(Option<HoldReason>),
    Summarised { summary_id: String, existing: bool },
    Exception(FeedException),
    Cancelled,
    Discarded,
}

/// Where an order is, as far as the feed tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    state: OrderState,
    hold: Option<HoldReason>,
}

impl Standing {
    fn of(order: &Order) -> Self {
        let state = match order.state {
            // All of them wait for the drain, or for what becomes of it there.
            OrderState::Leased | OrderState::Submitted => OrderState::Pending,
            state => state,
        };
        Self { state, hold: order.hold }
    }
}

/// What records made of orders and nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The record that is being applied.
    sequence: u64,
    /// Its next news.
    part: u32,
    news: Vec<News>,
}

impl Heard {
    /// From now on a record of that sequence is applied.
    pub(super) fn begin(&mut self, sequence: u64) {
        (self.sequence, self.part) = (sequence, 0);
    }

    fn push(&mut self, what: What, order: Option<u64>, named_in: Kept, at_ms: i64) {
        let (sequence, part) = (self.sequence, self.part);
        self.news.push(News { sequence, part, what, order, named_in, at_ms });
        self.part += 1;
    }
}

impl News {
    /// The event, of the order that is known by this.
    pub(crate) fn event(self, named: Named) -> FeedEvent {
        let mut event = FeedEvent {
            sequence: self.sequence,
            part: self.part,
            kind: FeedKind::Accepted,
            key: named.key,
            number: named.number,
            at_ms: self.at_ms,
            order: self.order,
            summary_id: None,
            existing: None,
            exception: None,
            hold: None,
            synthetic: named.synthetic,
        };
        event.kind = match self.what {
            What::Accepted => FeedKind::Accepted,
            What::Held(hold) => {
                event.hold = hold;
                FeedKind::Held
            }
            What::Summarised { summary_id, existing } => {
                event.summary_id = Some(summary_id).filter(|id| !id.is_empty());
                event.existing = Some(existing);
                FeedKind::Summarised
            }
            What::Exception(exception) => {
                event.exception = Some(exception);
                FeedKind::Exception
            }
            What::Cancelled => FeedKind::Cancelled,
            What::Discarded => FeedKind::Discarded,
        };
        event
    }
}

impl State {
    /// From now on what records make of orders is noted for [`State::take_news`].
    pub(crate) fn listen(&mut self) {
        self.heard.get_or_insert_default();
    }

    /// Takes what the records applied since the last time made of orders, in order.
    pub(crate) fn take_news(&mut self) -> impl Iterator<Item = News> {
        self.heard.iter_mut().flat_map(|heard| heard.news.drain(..))
    }

    /// A record of that sequence is about to be applied.
    pub(super) fn hear(&mut self, sequence: u64) {
        if let Some(heard) = &mut self.heard {
            heard.begin(sequence);
        }
    }

    /// Where an order is now, if anybody listens.
    pub(super) fn standing(&self, order: u64) -> Option<Standing> {
        self.heard.as_ref()?;
        self.get(order).as_ref().map(Standing::of)
    }

    /// Notes where an order is now, unless it was there before.
    pub(super) fn tell_standing(&mut self, order: u64, before: Option<Standing>, at_ms: i64) {
        let Some(now) = self.standing(order).filter(|now| Some(*now) != before) else { return };
        let what = match now.state {
            OrderState::Pending => What::Accepted,
            OrderState::Held => What::Held(now.hold),
            OrderState::Cancelled => What::Cancelled,
            OrderState::Discarded => What::Discarded,
            // These have something to say for themselves, or nothing.
            _ => return,
        };
        self.tell(what, order, true, at_ms);
    }

    pub(super) fn tell(&mut self, what: What, order: u64, is_order: bool, at_ms: i64) {
        let Some(named_in) = self.kept(order) else { return };
        if let Some(heard) = &mut self.heard {
            heard.push(what, is_order.then_some(order), named_in, at_ms);
        }
    }

    /// Adds an exception row that was not there before.
    pub(super) fn raise(&mut self, id: u64, row: Row) {
        let named_in = row.body.map(|body| body.kept).or_else(|| self.kept(row.order));
        if let (Some(heard), Some(named_in)) = (&mut self.heard, named_in) {
            let (category, reason) = (row.category, row.reason.clone());
            let what = What::Exception(FeedException { id, category, reason });
            let order = (!row.is_stray()).then_some(row.order);
            heard.push(what, order, named_in, row.raised_at_ms);
        }
        self.add_row(id, row);
    }
}
