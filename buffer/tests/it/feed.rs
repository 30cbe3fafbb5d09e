//! What the feed tells, one suite for every backend.

use forebay_buffer::{
    Act, Buffer, ExceptionCategory, FeedCursor, FeedError, FeedEvent, FeedKind, FeedPage, Verdict,
};
use forebay_order::{HoldReason, OrderKey, Readiness, RecordedAs};

use crate::support::*;
use crate::tickets;

/// Hands the names of all tests to a macro, which runs them on its backends.
macro_rules! feed_suite {
    ($on:ident) => {
        $on! {
            it_tells_what_becomes_of_an_order,
            what_changes_nothing_is_not_told,
            what_the_oms_tells_by_itself_is_told_on,
            a_change_that_waited_is_told_when_it_takes_effect,
            exceptions_are_told_as_they_are_raised,
            bodies_without_a_key_are_told_too,
            what_the_oms_lost_is_told_anew,
            it_is_read_in_pages_and_told_again_the_same,
            a_reader_waits_for_the_next_event,
            what_lies_ahead_of_all_orders_is_no_place_in_it,
        }
    };
}
pub(crate) use feed_suite;

/// Somebody who reads the feed as it grows.
#[derive(Default)]
struct Reader {
    after: FeedCursor,
}

impl Reader {
    /// The next events, so many.
    async fn next<B: Buffer>(&mut self, buffer: &B, count: usize) -> Vec<FeedEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            let page = buffer.feed(&self.after, 100, SOON).await.unwrap();
            assert!(!page.events.is_empty(), "{events:?} and no more");
            self.after = page.next;
            events.extend(page.events);
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// There is nothing new.
    async fn hears_nothing<B: Buffer>(&mut self, buffer: &B) {
        let page = buffer.feed(&self.after, 100, NOW).await.unwrap();
        assert_eq!(page.events, []);
        self.after = page.next;
    }

    /// The one next event, in two words.
    async fn tells<B: Buffer>(&mut self, buffer: &B, kind: FeedKind, id: &str) -> FeedEvent {
        let event = self.next(buffer, 1).await.remove(0);
        assert_eq!((event.kind, event.key.id.as_str()), (kind, id), "{event:?}");
        event
    }
}

fn rejected() -> Verdict {
    Verdict::Exception { category: ExceptionCategory::Rejected, reason: "no such product".into() }
}

pub(crate) async fn it_tells_what_becomes_of_an_order<B: Buffer>(buffer: B, clock: &HandClock) {
    let mut reader = Reader::default();
    let mut held = with(UNPAID, delivery("1", 1, Some(1)));
    held.synthetic = true;
    let first = post(&buffer, held).await.sequence();
    let event = reader.tells(&buffer, FeedKind::Held, "1").await;
    assert_eq!(event.key, OrderKey::new("shopify", "demo", "1"));
    assert_eq!((event.sequence, event.part, event.order), (first, 0, Some(first)));
    assert_eq!((event.number.as_str(), event.at_ms, event.synthetic), ("#1", START_MS, true));
    assert_eq!(event.hold, Some(HoldReason::Unpaid));

    clock.advance(1_000);
    let released = post(&buffer, delivery("1", 2, Some(2))).await;
    let event = reader.tells(&buffer, FeedKind::Accepted, "1").await;
    assert_eq!((event.sequence, event.order), (released.sequence(), Some(first)));
    assert_eq!((event.at_ms, event.hold), (START_MS + 1_000, None));

    lend(&buffer).await.settle(rejected());
    let event = reader.tells(&buffer, FeedKind::Exception, "1").await;
    let raised = event.exception.unwrap();
    assert_eq!(
        (raised.category, raised.reason.as_str()),
        (ExceptionCategory::Rejected, "no such product")
    );
    assert_eq!(buffer.exceptions(0, 10).await.unwrap()[0].id, raised.id);

    buffer.act(raised.id, Act::Retry).await.unwrap();
    reader.tells(&buffer, FeedKind::Accepted, "1").await;
    clock.advance(1_000);
    lend(&buffer).await.settle(summarised("S1"));
    let event = reader.tells(&buffer, FeedKind::Summarised, "1").await;
    assert_eq!((event.order, event.at_ms), (Some(first), START_MS + 2_000));
    assert_eq!((event.summary_id.as_deref(), event.existing), (Some("S1"), Some(false)));
    assert_eq!((event.number.as_str(), event.synthetic), ("#1", false));

    post(&buffer, delivery("2", 2, Some(1))).await;
    reader.tells(&buffer, FeedKind::Accepted, "2").await;
    post(&buffer, with(Readiness::Cancelled, delivery("2", 3, Some(2)))).await;
    reader.tells(&buffer, FeedKind::Cancelled, "2").await;
    post(&buffer, with(Readiness::Cancelled, delivery("3", 3, None))).await;
    reader.tells(&buffer, FeedKind::Cancelled, "3").await;
    post(&buffer, delivery("3", 4, Some(9))).await;
    let event = reader.tells(&buffer, FeedKind::Held, "3").await;
    assert_eq!(event.hold, Some(HoldReason::CancelledBefore));
}

pub(crate) async fn what_changes_nothing_is_not_told<B: Buffer>(buffer: B, _: &HandClock) {
    let mut reader = Reader::default();
    post(&buffer, delivery("1", 1, Some(2))).await;
    reader.tells(&buffer, FeedKind::Accepted, "1").await;
    for (content, version) in [(1, 2), (2, 1), (3, 3)] {
        // A duplicate, a stale one, an amendment.
        post(&buffer, delivery("1", content, Some(version))).await;
        reader.hears_nothing(&buffer).await;
    }
    drop(lend(&buffer).await);
    let lease = lend(&buffer).await;
    reader.hears_nothing(&buffer).await;
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    reader.hears_nothing(&buffer).await;
    let again = Verdict::Retry { after: NOW, counts: true, sent: true, reason: "busy".into() };
    lease.settle(again);
    let lease = lend(&buffer).await;
    reader.hears_nothing(&buffer).await;
    lease.settle(Verdict::Submitted { ticket: "T".into(), after: NOW });
    // Whoever asks sees what was settled before.
    assert_eq!(buffer.status().await.unwrap().live["submitted"], 1);
    reader.hears_nothing(&buffer).await;
    let draft = with(Readiness::Recorded(RecordedAs::Draft), delivery("4", 4, None));
    post(&buffer, draft).await;
    reader.hears_nothing(&buffer).await;
    post(&buffer, delivery("2", 1, Some(1))).await;
    reader.tells(&buffer, FeedKind::Accepted, "2").await;
}

pub(crate) async fn what_the_oms_tells_by_itself_is_told_on<B: Buffer>(buffer: B, _: &HandClock) {
    let mut reader = Reader::default();
    for id in ["1", "2"] {
        tickets::submit(&buffer, id, &format!("T-{id}")).await;
        reader.tells(&buffer, FeedKind::Accepted, id).await;
    }
    for _ in 0..2 {
        tickets::tell_of(&buffer, "1", tickets::created("S1")).await;
    }
    let event = reader.tells(&buffer, FeedKind::Summarised, "1").await;
    assert_eq!((event.summary_id.as_deref(), event.number.as_str()), (Some("S1"), "#1"));
    tickets::tell_of(&buffer, "2", tickets::invalid()).await;
    let event = reader.tells(&buffer, FeedKind::Exception, "2").await;
    assert_eq!(event.exception.unwrap().category, ExceptionCategory::Rejected);
}

pub(crate) async fn a_change_that_waited_is_told_when_it_takes_effect<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    let mut reader = Reader::default();
    let busy = || Verdict::Retry { after: NOW, counts: false, sent: false, reason: "busy".into() };
    for id in ["held", "off", "failed", "late"] {
        post(&buffer, delivery(id, 1, Some(1))).await;
        reader.tells(&buffer, FeedKind::Accepted, id).await;
        let lease = lend(&buffer).await;
        let mut change = delivery(id, 2, Some(2));
        match id {
            "held" => change.readiness = UNPAID,
            "off" => change.readiness = Readiness::Cancelled,
            _ => {}
        }
        post(&buffer, change).await;
        match id {
            "held" => {
                lease.settle(busy());
                reader.tells(&buffer, FeedKind::Held, id).await;
            }
            "off" => {
                lease.settle(busy());
                reader.tells(&buffer, FeedKind::Cancelled, id).await;
            }
            "failed" => {
                lease.settle(rejected());
                let events = reader.next(&buffer, 2).await;
                let kinds = [events[0].kind, events[1].kind];
                assert_eq!(kinds, [FeedKind::Exception, FeedKind::Accepted]);
                assert_eq!(events[0].sequence, events[1].sequence);
                assert!(events[0].part < events[1].part, "{events:?}");
                drop(lend(&buffer).await);
                post(&buffer, with(Readiness::Cancelled, delivery(id, 3, Some(3)))).await;
                reader.tells(&buffer, FeedKind::Cancelled, id).await;
            }
            _ => {
                lease.settle(summarised("S"));
                let events = reader.next(&buffer, 2).await;
                assert_eq!(events[0].kind, FeedKind::Summarised);
                let raised = events[1].exception.as_ref().unwrap();
                assert_eq!(raised.category, ExceptionCategory::ChangeAfterSummary);
                assert_eq!(buffer.exceptions(0, 10).await.unwrap()[0].id, raised.id);
            }
        }
    }
}

pub(crate) async fn exceptions_are_told_as_they_are_raised<B: Buffer>(buffer: B, _: &HandClock) {
    let mut reader = Reader::default();
    let first = post(&buffer, delivery("1", 1, None)).await.sequence();
    reader.tells(&buffer, FeedKind::Accepted, "1").await;
    let conflict = post(&buffer, delivery("1", 2, None)).await.sequence();
    let event = reader.tells(&buffer, FeedKind::Exception, "1").await;
    let raised = event.exception.unwrap();
    assert_eq!((raised.id, raised.category), (conflict, ExceptionCategory::Conflict));
    assert_eq!(event.order, Some(first));
    // To close what is attached to an order is no news of the order.
    buffer.act(conflict, Act::Discard).await.unwrap();

    lend(&buffer).await.settle(rejected());
    let event = reader.tells(&buffer, FeedKind::Exception, "1").await;
    buffer.act(event.exception.unwrap().id, Act::Discard).await.unwrap();
    let event = reader.tells(&buffer, FeedKind::Discarded, "1").await;
    assert_eq!(event.order, Some(first));
    post(&buffer, delivery("1", 3, Some(3))).await;
    let event = reader.tells(&buffer, FeedKind::Exception, "1").await;
    assert_eq!(event.exception.unwrap().category, ExceptionCategory::Conflict);
}

pub(crate) async fn bodies_without_a_key_are_told_too<B: Buffer>(buffer: B, _: &HandClock) {
    let mut reader = Reader::default();
    for (readiness, content, category) in [
        (Readiness::Unreadable, 1, ExceptionCategory::Unreadable),
        (Readiness::FetchNeeded, 2, ExceptionCategory::FetchNeeded),
    ] {
        let mut envelope = with(readiness, delivery("1", content, None));
        envelope.reason = "line 1: what is this".to_owned();
        post(&buffer, envelope).await;
        let event = reader.tells(&buffer, FeedKind::Exception, "1").await;
        let raised = event.exception.unwrap();
        assert_eq!((raised.category, raised.reason.as_str()), (category, "line 1: what is this"));
        assert_eq!(event.order, None);
        buffer.act(raised.id, Act::Discard).await.unwrap();
        let event = reader.tells(&buffer, FeedKind::Discarded, "1").await;
        assert_eq!(event.order, None);
    }
}

pub(crate) async fn what_the_oms_lost_is_told_anew<B: Buffer>(buffer: B, _: &HandClock) {
    let mut reader = Reader::default();
    let first = post(&buffer, delivery("1", 1, Some(1))).await.sequence();
    reader.tells(&buffer, FeedKind::Accepted, "1").await;
    lend(&buffer).await.settle(summarised("S1"));
    reader.tells(&buffer, FeedKind::Summarised, "1").await;
    assert!(buffer.send_again(&OrderKey::new("shopify", "demo", "1")).await.unwrap());
    let event = reader.tells(&buffer, FeedKind::Accepted, "1").await;
    assert_eq!((event.order, event.number.as_str()), (Some(first), "#1"));
    lend(&buffer).await.settle(summarised("S2"));
    let event = reader.tells(&buffer, FeedKind::Summarised, "1").await;
    assert_eq!(event.summary_id.as_deref(), Some("S2"));
}

pub(crate) async fn it_is_read_in_pages_and_told_again_the_same<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    for n in 0..50 {
        post(&buffer, delivery(&n.to_string(), 1, None)).await;
    }
    let all = Reader::default().next(&buffer, 50).await;
    let names = all.iter().map(|event| (event.sequence, event.part));
    assert!(names.is_sorted_by(|one, other| one < other), "{all:?}");
    let mut by_pages = Vec::new();
    let mut after = FeedCursor::default();
    loop {
        let FeedPage { events, next, .. } = buffer.feed(&after, 7, NOW).await.unwrap();
        if events.is_empty() {
            assert!(next.sequence() >= after.sequence());
            break;
        }
        assert!(events.len() <= 7);
        assert_eq!(next.sequence(), events.last().unwrap().sequence);
        by_pages.extend(events);
        after = next;
    }
    assert_eq!(by_pages, all);
}

pub(crate) async fn a_reader_waits_for_the_next_event<B: Buffer>(buffer: B, _: &HandClock) {
    let waits = async { buffer.feed(&FeedCursor::default(), 10, SOON).await.unwrap() };
    let posts = async { post(&buffer, delivery("1", 1, None)).await };
    let (page, _) = tokio::join!(waits, posts);
    assert_eq!(page.events.len(), 1, "{page:?}");
    let nothing = buffer.feed(&page.next, 10, std::time::Duration::from_millis(10)).await.unwrap();
    assert!(nothing.events.is_empty(), "{nothing:?}");
    assert!(nothing.next.sequence() >= page.next.sequence(), "{nothing:?}");
}

pub(crate) async fn what_lies_ahead_of_all_orders_is_no_place_in_it<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    let newest = post(&buffer, delivery("1", 1, None)).await.sequence();
    Reader::default().next(&buffer, 1).await;
    let far = FeedCursor::after(newest + 1_000_000);
    let ahead = buffer.feed(&far, 10, SOON).await.unwrap_err();
    assert!(matches!(ahead, FeedError::Ahead { newest: now } if now >= newest), "{ahead:?}");
}
