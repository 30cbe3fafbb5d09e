//! What a page tells of its order, for the feed.
//!
//! A page is the order as it was before its last write, and the one record that write added. What that record made of the order is told
//! to everybody. What came before it only to a reader who never saw the page that this one replaced: where the order is, not how it
//! came there.

use super::page::{Page, PageError};
use super::table::Stored;
use crate::digest::KeyHasher;
use crate::feed::{FeedEvent, FeedException, FeedKind, Named};
use crate::record::Record;
use crate::state::{Head, Kept, News, Numbered, State, content_among};
use crate::{ExceptionCategory, FeedCursor, OrderState};

/// What a page tells.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Where the order was before the last write, each with the sequence from which on it was so, if that is known.
    before: Vec<(FeedEvent, Option<u64>)>,
    now: Vec<FeedEvent>,
    /// The page's own sequence.
    sequence: u64,
    /// The sequence of the page that this one replaced, 0 for none; `None`: nobody knows.
    replaced: Option<u64>,
}

impl Told {
    /// Of what stands there.
    ///
    /// # Errors
    /// [`PageError`]
    pub(super) fn of(hasher: KeyHasher, stored: &Stored) -> Result<Self, PageError> {
        let page = Page::decode(&stored.bytes, stored.sequence)?;
        let Some(order) = page.order() else { return Ok(Self::default()) };
        let (own, before) = match page.records.split_last() {
            Some((own, before)) if own.0 == stored.sequence => (Some(own), before),
            _ => (None, page.records.as_slice()),
        };
        let mut telling = Telling { state: State::hashing(hasher), records: &page.records, order };
        telling.state.apply_whole(before);
        let Stored { sequence, replaced, .. } = *stored;
        let mut told = Self { sequence, replaced, ..Self::default() };
        // What was taken in from another store was told there.
        if stored.replaced != Some(0) && !before.is_empty() {
            told.before = telling.before();
        }
        match own {
            Some(own) => {
                told.now = telling.own(own);
                told.leave_out_what_is_over();
            }
            // A page without a record of its own: what waited has had its effect, or a summarised order is sent again, and
            // nobody was told of it.
            None => {
                let again = telling.state.is_sent_before(order);
                let effect = |event: &FeedEvent| match event.kind {
                    FeedKind::Held | FeedKind::Cancelled => true,
                    kind => kind == FeedKind::Accepted && again,
                };
                let now = told.before.extract_if(.., |(event, _)| effect(event));
                told.now = now.map(|(event, _)| event).collect();
            }
        }
        told.number();
        Ok(told)
    }

    /// Where the order was is not told where the last write has brought it elsewhere; but that it was accepted is, and exceptions are.
    fn leave_out_what_is_over(&mut self) {
        let stays = |event: &FeedEvent| {
            let beside = event.exception.as_ref().map(|exception| !exception.category.is_own());
            beside.unwrap_or_default()
        };
        if self.now.iter().all(stays) {
            return;
        }
        self.before.retain_mut(|(event, since)| match event.kind {
            FeedKind::Accepted => {
                *since = event.order;
                true
            }
            kind => kind == FeedKind::Exception,
        });
    }

    /// Gives the events their names: the same whoever reads them.
    fn number(&mut self) {
        let before = self.before.iter_mut().map(|(event, _)| event);
        for (event, part) in before.chain(&mut self.now).zip(0..) {
            (event.sequence, event.part) = (self.sequence, part);
        }
    }

    /// The events for a reader who is there.
    pub(super) fn after(self, cursor: &FeedCursor) -> impl Iterator<Item = FeedEvent> {
        let Self { before, now, sequence, replaced } = self;
        let missed = replaced.is_none_or(|replaced| !cursor.saw(replaced, sequence));
        let had = cursor.had();
        let is_news = move |since: Option<u64>| missed && since.is_none_or(|since| since > had);
        let before = before.into_iter().filter(move |(_, since)| is_news(*since));
        let events = before.map(|(event, _)| event).chain(now);
        events.filter(|event| !cursor.is_behind(event.sequence, event.part))
    }
}

struct Telling<'a> {
    state: State,
    records: &'a [Numbered],
    order: u64,
}

impl Telling<'_> {
    /// Where the order is before the last record.
    fn before(&mut self) -> Vec<(FeedEvent, Option<u64>)> {
        let Some(state) = self.state.known_state(self.order) else { return Vec::new() };
        let mut events = Vec::new();
        let (order, first) = (Some(self.order), Some(self.order));
        let accepted_at_ms = self.accepted_at_ms();
        let mut tell = |kind, at_ms, since, event: &dyn Fn(&mut FeedEvent)| {
            let mut told = self.event(kind, order, at_ms);
            event(&mut told);
            events.push((told, since));
        };
        let head = self.state.kept(self.order).and_then(|kept| self.head(kept));
        let since_ms = head.map_or(accepted_at_ms, |head| head.accepted_at_ms);
        let mut rows = self.state.row_heads(0, usize::MAX);
        let is_stray = rows.iter().any(|head| head.row.order.is_none());
        match state {
            OrderState::Pending | OrderState::Leased | OrderState::Submitted => {
                tell(FeedKind::Accepted, accepted_at_ms, None, &|_| {});
            }
            OrderState::Summarised => {
                tell(FeedKind::Accepted, accepted_at_ms, first, &|_| {});
                let settled = self.settled();
                let at_ms = settled.as_ref().map_or(accepted_at_ms, |(at_ms, _)| *at_ms);
                tell(FeedKind::Summarised, at_ms, None, &|event| {
                    event.summary_id =
                        settled.clone().map(|(_, id)| id).filter(|id| !id.is_empty());
                    event.existing = Some(false);
                });
            }
            OrderState::Exception if !is_stray => {
                tell(FeedKind::Accepted, accepted_at_ms, first, &|_| {});
            }
            OrderState::Held => {
                let hold = self.state.hold_of(self.order);
                tell(FeedKind::Held, since_ms, None, &|event| event.hold = hold);
            }
            OrderState::Cancelled => tell(FeedKind::Cancelled, since_ms, None, &|_| {}),
            OrderState::Discarded => tell(FeedKind::Discarded, since_ms, None, &|_| {}),
            OrderState::Exception | OrderState::Recorded => {}
        }
        for head in rows.drain(..) {
            let (id, row) = (head.row.id, head.row);
            let mut told = self.event(FeedKind::Exception, row.order, row.raised_at_ms);
            let (category, reason): (ExceptionCategory, String) = (row.category, row.reason);
            told.exception = Some(FeedException { id, category, reason });
            events.push((told, Some(id)));
        }
        events
    }

    /// What the last record made of it.
    fn own(&mut self, (sequence, record): &Numbered) -> Vec<FeedEvent> {
        self.state.listen();
        self.state.apply_among(*sequence, record, self.records);
        let news: Vec<News> = self.state.take_news().collect();
        news.into_iter()
            .map(|news| {
                let named = self.named(news.named_in);
                news.event(named)
            })
            .collect()
    }

    fn event(&self, kind: FeedKind, order: Option<u64>, at_ms: i64) -> FeedEvent {
        let kept = self.state.kept(self.order);
        let Named { key, number, synthetic } =
            kept.map(|kept| self.named(kept)).unwrap_or_default();
        FeedEvent {
            sequence: 0,
            part: 0,
            kind,
            key,
            number,
            at_ms,
            order,
            summary_id: None,
            existing: None,
            exception: None,
            hold: None,
            synthetic,
        }
    }

    fn named(&self, kept: Kept) -> Named {
        let delivery = content_among(self.records, kept).and_then(Record::delivery);
        delivery.map(|delivery| Named::of(&delivery.envelope)).unwrap_or_default()
    }

    fn head(&self, kept: Kept) -> Option<Head> {
        Head::of(content_among(self.records, kept)?, kept)
    }

    fn accepted_at_ms(&self) -> i64 {
        let head = self.state.kept(self.order).and_then(|kept| self.head(kept));
        head.map_or(0, |head| head.first_accepted_at_ms)
    }

    /// When it was settled, and the OMS's id.
    fn settled(&self) -> Option<(i64, String)> {
        self.records.iter().find_map(|(_, record)| match record {
            Record::Settle { entries } => {
                let entry = entries.iter().find(|entry| entry.order == self.order)?;
                Some((entry.at_ms, entry.summary_id.clone()))
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forebay_order::{Fingerprint, HoldReason, OrderKey, Readiness};

    use super::*;
    use crate::Envelope;
    use crate::nats::known::Known;
    use crate::record::{Delivery, Settled};

    fn delivery(readiness: Readiness) -> Delivery {
        let key = OrderKey::new("shopify", "demo", "1");
        let envelope = Envelope::new(key, Fingerprint([1; 16]), Bytes::from_static(b"body"));
        Delivery { envelope: Envelope { readiness, ..envelope }, accepted_at_ms: 1_000 }
    }

    fn hasher() -> KeyHasher {
        KeyHasher::new(b"secret")
    }

    /// Messages that follow each other under one key, each at ten times its place.
    fn messages(records: Vec<Option<Record>>) -> Vec<Stored> {
        let mut messages: Vec<Stored> = Vec::new();
        for (record, sequence) in records.into_iter().zip((10..).step_by(10)) {
            let mut known = match messages.last() {
                Some(before) => Known::of(hasher(), before).unwrap(),
                None => Known::nothing(hasher()),
            };
            let page = match record {
                Some(record) => known.page_with(record).unwrap(),
                None => {
                    known.free();
                    known.page().unwrap()
                }
            };
            let mut stored = Stored::new(sequence, page.encode());
            stored.replaced = Some(messages.last().map_or(0, |before| before.sequence));
            messages.push(stored);
        }
        messages
    }

    fn kinds(stored: &Stored, after: u64) -> Vec<FeedKind> {
        kinds_after(stored, &FeedCursor::after(after))
    }

    fn kinds_after(stored: &Stored, cursor: &FeedCursor) -> Vec<FeedKind> {
        let told = Told::of(hasher(), stored).unwrap();
        told.after(cursor).map(|event| event.kind).collect()
    }

    fn settle() -> Record {
        let (summary_id, existing) = ("S1".to_owned(), true);
        let entry = Settled { order: 10, summary_id, existing, attempts: 1, at_ms: 2_000 };
        Record::Settle { entries: vec![entry] }
    }

    fn retry() -> Record {
        let reason = "busy".to_owned();
        Record::Retry { order: 10, not_before_ms: 0, attempts: 1, sent: true, reason }
    }

    use FeedKind::{Accepted, Cancelled, Exception, Held, Summarised};

    #[test]
    fn who_has_seen_the_page_before_is_told_what_is_new_and_others_where_it_was() {
        let accept = Record::Accept(delivery(Readiness::Pending));
        let change = Record::Change { order: 10, delivery: delivery(Readiness::Cancelled) };
        let pages = messages(vec![Some(accept), Some(retry()), Some(settle()), Some(change)]);
        assert_eq!(kinds(&pages[0], 0), [Accepted]);
        assert_eq!(kinds(&pages[1], 10), []);
        assert_eq!(kinds(&pages[1], 0), [Accepted]);
        assert_eq!(kinds(&pages[2], 20), [Summarised]);
        assert_eq!(kinds(&pages[2], 15), [Summarised], "it was accepted before");
        assert_eq!(kinds(&pages[2], 5), [Accepted, Summarised]);
        assert_eq!(kinds(&pages[3], 30), [Exception]);
        assert_eq!(kinds(&pages[3], 15), [Summarised, Exception]);
        assert_eq!(kinds(&pages[3], 5), [Accepted, Summarised, Exception]);
        let unknown = Stored::new(pages[3].sequence, pages[3].bytes.clone());
        assert_eq!(kinds(&unknown, 30), [Summarised, Exception], "at least once");
    }

    #[test]
    fn an_event_has_one_name_whoever_is_told_of_it() {
        let accept = Record::Accept(delivery(Readiness::Pending));
        let pages = messages(vec![Some(accept), Some(settle())]);
        let told = |after| Told::of(hasher(), &pages[1]).unwrap().after(&after).collect::<Vec<_>>();
        let (all, new) = (told(FeedCursor::after(0)), told(FeedCursor::after(10)));
        assert_eq!(all[1..], new);
        assert_eq!(all.iter().map(|event| event.part).collect::<Vec<_>>(), [0, 1]);
        assert_eq!((new[0].summary_id.as_deref(), new[0].existing), (Some("S1"), Some(true)));
        assert!(all.iter().all(|event| event.sequence == 20 && event.number == "#1"));
    }

    #[test]
    fn what_waited_is_told_once_its_page_says_so() {
        for (readiness, kind) in
            [(Readiness::Cancelled, Cancelled), (Readiness::Held(HoldReason::Unpaid), Held)]
        {
            let (order, parked, delivery) = (10, true, delivery(readiness));
            let change = match kind {
                Cancelled => Record::Cancel { order, parked, delivery },
                _ => Record::Replace { order, parked, delivery },
            };
            let accept = Record::Accept(super::tests::delivery(Readiness::Pending));
            let pages = messages(vec![Some(accept), Some(change), None]);
            assert_eq!(kinds(&pages[1], 10), []);
            for after in [20, 15, 0] {
                assert_eq!(kinds(&pages[2], after), [kind], "after {after}");
            }
        }
    }

    /// He is behind where the order was accepted, but came by when that page had been replaced.
    #[test]
    fn who_came_by_too_late_is_told_what_stood_there() {
        let accept = Record::Accept(delivery(Readiness::Pending));
        let pages = messages(vec![Some(accept), Some(settle())]);
        let late = FeedCursor::after(5).read_to(15, 0, 100);
        assert_eq!(kinds_after(&pages[1], &late), [Accepted, Summarised]);
        let in_time = FeedCursor::after(5).read_to(15, 0, 18);
        assert_eq!(kinds_after(&pages[1], &in_time), [Summarised]);
        let torn = late.read_to(19, 1, 100);
        assert_eq!(kinds_after(&pages[1], &torn), [Summarised]);
    }

    #[test]
    fn what_was_taken_in_is_not_told_again() {
        let accept = Record::Accept(delivery(Readiness::Pending));
        let mut page = messages(vec![Some(accept), None]).remove(1);
        assert_eq!(kinds(&page, 0), [Accepted]);
        page.replaced = Some(0);
        assert_eq!(kinds(&page, 0), []);
    }
}
