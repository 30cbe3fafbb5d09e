//! What applying a record made of orders: what the feed tells, derived by the fold itself, so that a replay tells the same.

use forebay_order::HoldReason;

use super::order::Kept;
use super::row::Row;
use super::{Order, State};
use crate::feed::{FeedEvent, FeedException, FeedKind};
use crate::{Envelope, OrderState};

/// Something that became of one order.
#[derive(Clone, Debug)]
pub(crate) struct News {
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

impl News {
    /// The event, with what the record it is named in says of the order.
    pub(crate) fn event(self, sequence: u64, part: u32, named: &Envelope) -> FeedEvent {
        let mut event = FeedEvent {
            sequence,
            part,
            kind: FeedKind::Accepted,
            key: named.key.clone(),
            number: named.number.clone(),
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
        self.news.get_or_insert_default();
    }

    /// What the records applied since the last time made of orders, in order.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        self.news.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Where an order is now, if anybody listens.
    pub(super) fn standing(&self, order: u64) -> Option<Standing> {
        self.news.as_ref()?;
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
        if let Some(news) = &mut self.news {
            news.push(News { what, order: is_order.then_some(order), named_in, at_ms });
        }
    }

    /// Adds an exception row that was not there before.
    pub(super) fn raise(&mut self, id: u64, row: Row) {
        let named_in = row.body.map(|body| body.kept).or_else(|| self.kept(row.order));
        if let (Some(news), Some(named_in)) = (&mut self.news, named_in) {
            let (category, reason) = (row.category, row.reason.clone());
            let what = What::Exception(FeedException { id, category, reason });
            let order = (!row.is_stray()).then_some(row.order);
            news.push(News { what, order, named_in, at_ms: row.raised_at_ms });
        }
        self.add_row(id, row);
    }
}
