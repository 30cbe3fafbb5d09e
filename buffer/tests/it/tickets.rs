//! Orders under a ticket, and what the OMS says of orders by itself: part of the suite that is run on every backend.

use std::time::Duration;

use forebay_buffer::{
    Act, Answer, Buffer, Effect, ExceptionCategory, Lease, OrderState, Telling, Verdict, Word,
};
use forebay_order::OrderKey;

use crate::support::*;

fn key(id: &str) -> OrderKey {
    OrderKey::new("shopify", "demo", id)
}

/// Under a ticket, to be looked up in ten seconds.
pub(crate) fn taken(ticket: &str) -> Verdict {
    Verdict::Submitted { ticket: ticket.to_owned(), after: Duration::from_secs(10) }
}

fn unknown() -> Verdict {
    let reason = "nobody said".to_owned();
    Verdict::Exception { category: ExceptionCategory::OutcomeUnknown, reason }
}

pub(crate) fn created(id: &str) -> Word {
    Word::Created { summary_id: id.to_owned() }
}

pub(crate) fn invalid() -> Word {
    Word::Invalid { reason: "the OMS refused it, NO_STOCK: none left".to_owned() }
}

/// Refused, but perhaps by no fault of the order's: not before a minute.
pub(crate) fn refused(counts: bool) -> Word {
    let reason = "the OMS refused it, NO_STOCK: none left".to_owned();
    Word::Refused { reason, after: Duration::from_secs(60), counts }
}

pub(crate) async fn tell_of<B: Buffer>(buffer: &B, id: &str, word: Word) -> Effect {
    buffer.tell(Telling { key: Some(key(id)), ticket: None, word }).await.unwrap()
}

async fn tell_by<B: Buffer>(buffer: &B, ticket: &str, word: Word) -> Effect {
    buffer.tell(Telling { key: None, ticket: Some(ticket.to_owned()), word }).await.unwrap()
}

async fn tell_both<B: Buffer>(buffer: &B, id: &str, ticket: &str, word: Word) -> Effect {
    let ticket = Some(ticket.to_owned());
    buffer.tell(Telling { key: Some(key(id)), ticket, word }).await.unwrap()
}

async fn state<B: Buffer>(buffer: &B, id: &str) -> OrderState {
    buffer.order(&key(id)).await.unwrap().unwrap().state
}

async fn summary<B: Buffer>(buffer: &B, id: &str) -> Option<String> {
    buffer.order(&key(id)).await.unwrap().unwrap().summary_id
}

/// Sent, and taken under a ticket.
pub(crate) async fn submit<B: Buffer>(buffer: &B, id: &str, ticket: &str) {
    post(buffer, delivery(id, 1, Some(1))).await;
    let lease = lend(buffer).await;
    assert_eq!(lease.key, key(id));
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease.settle(taken(ticket));
    assert_eq!(state(buffer, id).await, OrderState::Submitted);
}

/// The one order that is to be looked up.
pub(crate) async fn lend_ticketed<B: Buffer>(buffer: &B) -> Lease {
    let mut leases = buffer.lease_ticketed(10, SOON).await.unwrap();
    assert_eq!(leases.len(), 1, "{leases:?}");
    leases.remove(0)
}

async fn row<B: Buffer>(buffer: &B) -> (u64, ExceptionCategory) {
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    (rows[0].id, rows[0].category)
}

pub(crate) async fn an_order_under_a_ticket_is_lent_to_be_looked_up_alone<B: Buffer>(
    buffer: B,
    clock: &HandClock,
) {
    assert_eq!(buffer.outstanding(), 0);
    submit(&buffer, "1", "T-1").await;
    assert_eq!((buffer.outstanding(), buffer.pace().pending), (1, 0));
    assert!(buffer.lease_ticketed(10, NOW).await.unwrap().is_empty(), "not yet");
    for round in 1..=3 {
        clock.advance(10_000);
        none_to_lend(&buffer).await;
        let lease = lend_ticketed(&buffer).await;
        let ticket = (lease.ticket.as_deref(), lease.ticket_at_ms);
        assert_eq!(ticket, (Some("T-1"), Some(START_MS)), "looked up {round} times");
        assert!(lease.sent_before);
        assert!(buffer.lease_ticketed(10, NOW).await.unwrap().is_empty(), "it is lent");
        lease.settle(taken("T-1"));
        assert!(buffer.outstanding() >= 1, "also while that is being noted");
        assert_eq!(state(&buffer, "1").await, OrderState::Submitted);
    }
    clock.advance(10_000);
    drop(lend_ticketed(&buffer).await);
    // A dropped one comes back at once.
    let summary_id = "S1".to_owned();
    lend_ticketed(&buffer).await.settle(Verdict::Summarised { summary_id, existing: true });
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
    assert_eq!(buffer.outstanding(), 0);
}

pub(crate) async fn the_oms_tells_that_it_has_an_order<B: Buffer>(buffer: B, _: &HandClock) {
    submit(&buffer, "1", "T-1").await;
    assert_eq!(tell_by(&buffer, "T-1", created("S1")).await, Effect::Done);
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
    assert_eq!(summary(&buffer, "1").await.as_deref(), Some("S1"));
    assert_eq!(buffer.outstanding(), 0);
    assert_eq!(tell_of(&buffer, "1", created("S1")).await, Effect::Known);
    assert_eq!(tell_of(&buffer, "1", created("S2")).await, Effect::OtherSummary);
    assert_eq!(tell_of(&buffer, "1", invalid()).await, Effect::NotSubmitted);
    assert_eq!(summary(&buffer, "1").await.as_deref(), Some("S1"), "nothing changed");
    assert_eq!(tell_by(&buffer, "T-1", created("S1")).await, Effect::UnknownOrder, "it is closed");
    assert_eq!(tell_of(&buffer, "never", created("S9")).await, Effect::UnknownOrder);

    // An OMS may give one ticket to a whole call.
    submit(&buffer, "2", "T-2").await;
    submit(&buffer, "3", "T-2").await;
    assert_eq!(tell_by(&buffer, "T-2", created("S2")).await, Effect::Ambiguous);
    assert_eq!(tell_both(&buffer, "2", "T-2", created("S2")).await, Effect::Done);
    assert_eq!(tell_by(&buffer, "T-2", created("S3")).await, Effect::Done);
    assert_eq!(summary(&buffer, "3").await.as_deref(), Some("S3"));

    // What was never sent cannot be there; and it must not be lost by a slip of the OMS's.
    post(&buffer, delivery("4", 1, None)).await;
    assert_eq!(tell_of(&buffer, "4", created("S4")).await, Effect::NotSubmitted);
    assert_eq!(tell_of(&buffer, "4", invalid()).await, Effect::NotSubmitted);
    let lease = lend(&buffer).await;
    assert_eq!(lease.key, key("4"));
    // Its answer may come later than the OMS's own word.
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    assert_eq!(tell_of(&buffer, "4", invalid()).await, Effect::NotSubmitted, "it is on its way");
    assert_eq!(tell_of(&buffer, "4", created("S4")).await, Effect::Done);
    lease.settle(taken("T-4"));
    assert_eq!(state(&buffer, "4").await, OrderState::Summarised);
    assert_eq!(buffer.outstanding(), 0);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

pub(crate) async fn a_telling_ends_the_loan_and_its_verdict_changes_nothing<B: Buffer>(
    buffer: B,
    clock: &HandClock,
) {
    let found = |id: &str| Verdict::Summarised { summary_id: id.to_owned(), existing: true };
    for (id, verdict) in [("a", taken("T-a")), ("b", unknown()), ("c", found("other"))] {
        submit(&buffer, id, &format!("T-{id}")).await;
        clock.advance(10_000);
        let lease = lend_ticketed(&buffer).await;
        assert_eq!(tell_of(&buffer, id, created("S")).await, Effect::Done);
        assert_eq!(state(&buffer, id).await, OrderState::Summarised);
        lease.settle(verdict);
        assert_eq!(state(&buffer, id).await, OrderState::Summarised);
        assert_eq!(summary(&buffer, id).await.as_deref(), Some("S"));
    }
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);

    // Refused, while it was being looked up: what the look-up finds absent does not open it again, what it finds counts.
    for (id, verdict, expected) in
        [("d", taken("T-d"), OrderState::Exception), ("e", found("S-e"), OrderState::Summarised)]
    {
        submit(&buffer, id, &format!("T-{id}")).await;
        clock.advance(10_000);
        let lease = lend_ticketed(&buffer).await;
        assert_eq!(tell_by(&buffer, &format!("T-{id}"), invalid()).await, Effect::Done);
        assert_eq!(state(&buffer, id).await, OrderState::Exception);
        lease.settle(verdict);
        assert_eq!(state(&buffer, id).await, expected);
    }
    assert_eq!(row(&buffer).await.1, ExceptionCategory::Rejected);
    assert_eq!(buffer.outstanding(), 0);
    none_to_lend(&buffer).await;
}

pub(crate) async fn the_oms_tells_that_it_refused_an_order<B: Buffer>(buffer: B, _: &HandClock) {
    submit(&buffer, "1", "T-1").await;
    assert_eq!(tell_both(&buffer, "1", "T-0", invalid()).await, Effect::OtherTicket);
    assert_eq!(tell_by(&buffer, "T-1", invalid()).await, Effect::Done);
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Rejected));
    assert!(rows[0].reason.contains("NO_STOCK"), "{}", rows[0].reason);
    assert_eq!(tell_of(&buffer, "1", invalid()).await, Effect::Known);
    assert_eq!((buffer.outstanding(), buffer.exceptions(0, 10).await.unwrap().len()), (0, 1));

    // It may be sent again without a look, and what is told late of the ticket it had does not concern that.
    buffer.act(rows[0].id, Act::Retry).await.unwrap();
    let lease = lend(&buffer).await;
    assert_eq!((lease.sent_before, lease.ticket.as_deref()), (false, None));
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease.settle(taken("T-2"));
    assert_eq!(state(&buffer, "1").await, OrderState::Submitted);
    assert_eq!(tell_by(&buffer, "T-1", invalid()).await, Effect::UnknownOrder);
    assert_eq!(tell_both(&buffer, "1", "T-1", invalid()).await, Effect::OtherTicket);
    assert_eq!(state(&buffer, "1").await, OrderState::Submitted);
    // That it exists counts, whatever the ticket.
    assert_eq!(tell_both(&buffer, "1", "T-1", created("S1")).await, Effect::Done);
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);

    // Refused first, and there after all.
    submit(&buffer, "2", "T-3").await;
    assert_eq!(tell_of(&buffer, "2", invalid()).await, Effect::Done);
    assert_eq!(tell_of(&buffer, "2", created("S2")).await, Effect::Done);
    assert_eq!(state(&buffer, "2").await, OrderState::Summarised);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

/// An order that went back waits for its time, and is sent without a look then.
async fn lend_refused<B: Buffer>(buffer: &B, clock: &HandClock, attempts: u8) -> Lease {
    assert_eq!((buffer.outstanding(), buffer.pace().pending), (0, 1));
    clock.advance(59_000);
    none_to_lend(buffer).await;
    clock.advance(1_000);
    let lease = lend(buffer).await;
    assert_eq!((lease.attempts, lease.sent_before, &lease.ticket), (attempts, false, &None));
    buffer.submitting(std::slice::from_ref(&lease), true).await.unwrap();
    lease
}

pub(crate) async fn an_order_refused_by_perhaps_no_fault_of_its_own_goes_back<B: Buffer>(
    buffer: B,
    clock: &HandClock,
) {
    submit(&buffer, "1", "T-1").await;
    assert_eq!(tell_both(&buffer, "1", "T-0", refused(false)).await, Effect::OtherTicket);
    assert_eq!(tell_both(&buffer, "1", "T-0", refused(true)).await, Effect::OtherTicket);
    assert_eq!((state(&buffer, "1").await, buffer.outstanding()), (OrderState::Submitted, 1));
    // As often as it does not count, and once where it does.
    for (n, counts, attempts) in [(1, false, 0), (2, false, 0), (3, true, 1), (4, false, 1)] {
        let (ticket, next) = (format!("T-{n}"), format!("T-{}", n + 1));
        assert_eq!(tell_both(&buffer, "1", &ticket, refused(counts)).await, Effect::Done);
        assert_eq!(state(&buffer, "1").await, OrderState::Pending, "{ticket}");
        // It is under no ticket by now: told again, that is no other refusal.
        let again = tell_both(&buffer, "1", &ticket, refused(counts)).await;
        assert_eq!(again, Effect::NotSubmitted);
        assert_eq!(tell_by(&buffer, &ticket, refused(counts)).await, Effect::UnknownOrder);
        let lease = lend_refused(&buffer, clock, attempts).await;
        let under_way = tell_both(&buffer, "1", &ticket, refused(counts)).await;
        assert_eq!(under_way, Effect::NotSubmitted, "whoever sends it learns its outcome");
        lease.settle(taken(&next));
        assert_eq!(state(&buffer, "1").await, OrderState::Submitted);
        assert_eq!(tell_both(&buffer, "1", &ticket, refused(counts)).await, Effect::OtherTicket);
    }
    // One had counted: the next that does is the last.
    assert_eq!(tell_by(&buffer, "T-5", refused(true)).await, Effect::Done);
    let rows = buffer.exceptions(0, 10).await.unwrap();
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Rejected));
    assert!(rows[0].reason.contains("NO_STOCK") && rows[0].attempts == 2, "{rows:?}");
    for counts in [false, true] {
        assert_eq!(tell_of(&buffer, "1", refused(counts)).await, Effect::Known);
    }
    // That it exists counts, whatever was said before.
    assert_eq!(tell_of(&buffer, "1", created("S1")).await, Effect::Done);
    assert_eq!(tell_of(&buffer, "1", refused(false)).await, Effect::NotSubmitted);
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);

    // While it is being looked up: the look-up's verdict comes too late, also where it finds nothing.
    submit(&buffer, "2", "T-6").await;
    clock.advance(10_000);
    let lease = lend_ticketed(&buffer).await;
    assert_eq!(tell_by(&buffer, "T-6", refused(true)).await, Effect::Done);
    lease.settle(taken("T-6"));
    assert_eq!(state(&buffer, "2").await, OrderState::Pending);
    lend_refused(&buffer, clock, 1).await.settle(taken("T-7"));
    assert_eq!(state(&buffer, "2").await, OrderState::Submitted);

    // Nobody waits for the outcome of one that is over its time; refused, it does not go out again by itself.
    clock.advance(10_000);
    lend_ticketed(&buffer).await.settle(unknown());
    assert_eq!(tell_both(&buffer, "2", "T-7", refused(false)).await, Effect::Done);
    assert_eq!(row(&buffer).await.1, ExceptionCategory::Rejected);
}

/// Refused in each way, before a store is opened again.
pub(crate) async fn refuse_before_a_start<B: Buffer>(buffer: &B) {
    for (id, counts) in [("1", false), ("2", true), ("3", false)] {
        submit(buffer, id, &format!("T-{id}")).await;
        let told = tell_both(buffer, id, &format!("T-{id}"), refused(counts)).await;
        assert_eq!((told, state(buffer, id).await), (Effect::Done, OrderState::Pending));
    }
}

/// What that came to, once it is open again.
pub(crate) async fn refused_before_the_start<B: Buffer>(buffer: &B, clock: &HandClock) {
    clock.advance(59_000);
    none_to_lend(buffer).await;
    clock.advance(1_000);
    let mut leases = Vec::new();
    while leases.len() < 3 {
        let more = buffer.lease(10, SOON).await.unwrap();
        assert!(!more.is_empty(), "{leases:?}");
        leases.extend(more);
    }
    leases.sort_by_key(|lease| lease.sequence);
    let found = leases.iter().map(|lease| {
        assert_eq!((lease.sent_before, &lease.ticket), (false, &None), "{lease:?}");
        (lease.key.id.as_str(), lease.attempts)
    });
    assert_eq!(found.collect::<Vec<_>>(), [("1", 0), ("2", 1), ("3", 0)]);
    buffer.submitting(&leases, true).await.unwrap();
    for lease in leases {
        let (id, ticket) = (lease.key.id.clone(), format!("T-{}-again", lease.key.id));
        lease.settle(taken(&ticket));
        assert_eq!(state(buffer, &id).await, OrderState::Submitted);
        assert_eq!(tell_both(buffer, &id, &ticket, refused(true)).await, Effect::Done);
    }
    // Where one had counted before the start, this one was the last.
    assert_eq!(state(buffer, "1").await, OrderState::Pending);
    assert_eq!(state(buffer, "2").await, OrderState::Exception);
    assert_eq!(state(buffer, "3").await, OrderState::Pending);
}

pub(crate) async fn an_order_whose_outcome_is_unknown_is_closed_by_a_telling<B: Buffer>(
    buffer: B,
    clock: &HandClock,
) {
    let expire = async |id: &str, ticket: &str| {
        submit(&buffer, id, ticket).await;
        clock.advance(10_000);
        lend_ticketed(&buffer).await.settle(unknown());
        assert_eq!(state(&buffer, id).await, OrderState::Exception);
        assert_eq!(buffer.outstanding(), 0, "nobody waits for it any more");
    };
    expire("1", "T-1").await;
    assert_eq!(tell_by(&buffer, "T-1", created("S1")).await, Effect::Done, "found by its ticket");
    assert_eq!(summary(&buffer, "1").await.as_deref(), Some("S1"));
    expire("2", "T-2").await;
    assert_eq!(tell_of(&buffer, "2", invalid()).await, Effect::Done);
    let (id, category) = row(&buffer).await;
    assert_eq!(category, ExceptionCategory::Rejected);
    buffer.act(id, Act::Discard).await.unwrap();

    // A person's retry: looked up first, and then as any other; also a discarded one may be there.
    expire("3", "T-3").await;
    buffer.act(row(&buffer).await.0, Act::Retry).await.unwrap();
    let lease = lend(&buffer).await;
    assert_eq!((lease.sent_before, lease.ticket.as_deref()), (true, None));
    lease.settle(unknown());
    buffer.act(row(&buffer).await.0, Act::Discard).await.unwrap();
    assert_eq!(state(&buffer, "3").await, OrderState::Discarded);
    assert_eq!(tell_of(&buffer, "3", invalid()).await, Effect::NotSubmitted);
    assert_eq!(tell_of(&buffer, "3", created("S3")).await, Effect::Done);
    assert_eq!(state(&buffer, "3").await, OrderState::Summarised);
    assert_eq!(buffer.exceptions(0, 10).await.unwrap(), []);
}

pub(crate) async fn a_change_of_an_order_under_a_ticket_waits_for_what_is_told<B: Buffer>(
    buffer: B,
    _: &HandClock,
) {
    for (id, word) in [("1", created("S1")), ("2", invalid())] {
        submit(&buffer, id, &format!("T-{id}")).await;
        assert_eq!(answer(&buffer, delivery(id, 2, Some(2))).await, Answer::Parked);
        assert_eq!(tell_of(&buffer, id, word).await, Effect::Done);
    }
    assert_eq!(row(&buffer).await.1, ExceptionCategory::ChangeAfterSummary);
    let lease = lend(&buffer).await;
    assert_eq!((lease.key.id.as_str(), &lease.body[..]), ("2", &b"body 2 2"[..]));
    assert!(!lease.sent_before && lease.ticket.is_none());
}
