//! The drain on a real buffer and real OMSs: nothing lost, nothing doubled, nobody stopped by a neighbour.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use forebay_buffer::{
    Act, Answer, Buffer, Embedded, EmbeddedConfig, Envelope, ExceptionCategory, ExceptionRow,
    Memory, OrderState, Verdict,
};
use forebay_order::Readiness;
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Guarantee, Limiter, Limits, Oms, OrderManagement, Outcome,
    RetryPolicy, Scope,
};
use tempfile::tempdir;

use crate::support::{
    Delivery, JumpClock, both, buffer, clock, creates, each, fingerprint, in_time, key, ledger,
    sqlite, until,
};
use crate::unruly::Unruly;

/// However long ago an order was placed, its end is remembered.
const FOR_EVER: Duration = Duration::from_secs(1_000 * 365 * 86_400);

/// Quick retries, so that a test sees many.
fn config() -> DrainConfig {
    let retry = RetryPolicy { base: Duration::from_millis(1), max: Duration::from_millis(5) };
    let limits = Limits { batch: Some(50), probe: retry, ..Limits::default() };
    let lease_wait = Duration::from_millis(200);
    DrainConfig { limits, retry, lease_wait, remembered: FOR_EVER, ..DrainConfig::default() }
}

fn start<O: OrderManagement>(buffer: &impl Buffer, oms: &Arc<O>) -> Drain {
    Drain::start(config(), buffer.clone(), Arc::clone(oms), clock()).unwrap()
}

async fn live(buffer: &impl Buffer) -> u64 {
    let status = buffer.status().await.unwrap();
    ["held", "pending", "leased", "submitted"]
        .iter()
        .map(|state| status.live.get(state).copied().unwrap_or_default())
        .sum()
}

/// Drains until nothing waits and nothing is lent, then stops.
async fn drained(drain: Drain, buffer: &impl Buffer) {
    in_time("drained", until(async || live(buffer).await == 0)).await;
    in_time("stopped", drain.stop(Duration::from_secs(30))).await;
}

async fn state(buffer: &Memory, id: &str) -> OrderState {
    buffer.order(&key(id)).await.unwrap().unwrap().state
}

async fn exceptions(buffer: &impl Buffer) -> Vec<ExceptionRow> {
    buffer.exceptions(0, 10_000).await.unwrap()
}

async fn append_all(buffer: &impl Buffer, ids: impl IntoIterator<Item = String>) {
    for id in ids {
        Delivery::new(&id).append(buffer).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_becomes_one_summary() {
    let directory = tempdir().unwrap();
    for oms in both(directory.path()) {
        let (buffer, oms) = (buffer(clock()), Arc::new(oms));
        append_all(&buffer, (0..500).map(|n| n.to_string())).await;
        drained(start(&buffer, &oms), &buffer).await;
        let all = creates(&*oms).await;
        assert_eq!(all.len(), 500);
        assert!(all.iter().all(|(_, creates)| *creates == 1));
        let first = buffer.order(&key("0")).await.unwrap().unwrap();
        assert_eq!((first.state, first.attempts), (OrderState::Summarised, 1));
        assert!(first.summary_id.is_some());
        let listed = oms.list(0, 1_000).await.unwrap().unwrap();
        let listed = listed.iter().find(|row| row.identity == key("0").identity()).unwrap();
        assert_eq!((listed.grand_total.as_str(), listed.currency.as_str()), ("12.50", "EUR"));
        assert_eq!(listed.fingerprint, Some(first.fingerprint));
        assert_eq!(Some(&listed.summary_id), first.summary_id.as_ref());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_orders_with_every_second_answer_cut_are_neither_lost_nor_doubled() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(ledger(&directory.path().join("oms.ledger"), Some(2))));
    let buffer = buffer(clock());
    append_all(&buffer, (0..1_000).map(|n| n.to_string())).await;
    drained(start(&buffer, &oms), &buffer).await;
    assert!(oms.finds.load(Ordering::Relaxed) >= 10, "answers were cut");
    let all = creates(&*oms).await;
    assert_eq!(all.len(), 1_000, "none lost");
    assert!(all.iter().all(|(_, creates)| *creates == 1), "none doubled");
    assert_eq!(buffer.status().await.unwrap().ended["summarised"], 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_orders_stop_nobody_and_are_exactly_the_exceptions() {
    let directory = tempdir().unwrap();
    for oms in both(directory.path()) {
        let (buffer, oms) = (buffer(clock()), Arc::new(Unruly::new(oms)));
        let kinds = ["panic", "timeout", "refuse", "invalid", "busy", "unmappable", "vague"];
        for n in 0..1_000 {
            let id = match n % 100 {
                at @ (3 | 17 | 31 | 47 | 61 | 79 | 97) => {
                    let at = [3, 17, 31, 47, 61, 79, 97].iter().position(|n| *n == at).unwrap();
                    format!("{}{n}", kinds[at])
                }
                _ => n.to_string(),
            };
            Delivery::new(&id).append(&buffer).await;
        }
        let drain = start(&buffer, &oms);
        let trickle = async {
            // Attempts count while other orders pass, and others do come.
            let mut more = 0;
            while exceptions(&buffer).await.len() < 60 {
                append_all(&buffer, [format!("more{more}")]).await;
                more += 1;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            more
        };
        let more = in_time("sixty exceptions", trickle).await;
        drained(drain, &buffer).await;
        let mut by_kind: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for row in exceptions(&buffer).await {
            let kind = row.key.id.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
            *by_kind.entry((kind, row.category.word())).or_default() += 1;
        }
        let expected = [
            ("busy", "poison"),
            ("invalid", "rejected"),
            ("panic", "poison"),
            ("refuse", "rejected"),
            ("timeout", "poison"),
            ("unmappable", "unmappable"),
        ];
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|(kind, why)| ((kind.to_owned(), why), 10)).collect();
        assert_eq!(by_kind, expected);
        let all = creates(&*oms).await;
        assert_eq!(all.len(), 940 + more, "the good ones, and those with a vague answer");
        assert!(all.iter().all(|(_, creates)| *creates == 1));
        let sent = ["timeout17", "panic3", "busy61", "refuse31"].map(|id| oms.times_sent(id));
        assert!(sent.iter().all(|sent| *sent <= 80), "attempts are bounded: {sent:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_of_a_format_not_known_is_an_exception_of_its_own() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(sqlite(&directory.path().join("oms.sqlite")));
    let buffer = buffer(clock());
    Delivery { format: 99, ..Delivery::new("later") }.append(&buffer).await;
    append_all(&buffer, ["1".to_owned()]).await;
    drained(start(&buffer, &oms), &buffer).await;
    let rows = exceptions(&buffer).await;
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Unmappable));
    assert!(rows[0].reason.contains("later release"), "{}", rows[0].reason);
    assert_eq!(state(&buffer, "1").await, OrderState::Summarised);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_had_its_attempts_is_looked_up_but_not_touched_again() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(ledger(&directory.path().join("oms.ledger"), None)));
    let buffer = buffer(clock());
    oms.oms.submit(&[crate::support::order("there")]).await.unwrap();
    for (id, sent) in [("never sent", false), ("there", true), ("not there", true)] {
        append_all(&buffer, [id.to_owned()]).await;
        for _ in 0..5 {
            let lease = buffer.lease(1, Duration::ZERO).await.unwrap().remove(0);
            assert_eq!(lease.key, key(id));
            let (after, reason) = (Duration::ZERO, String::new());
            lease.settle(Verdict::Retry { after, counts: true, sent, reason });
        }
        // Out of the way of the next one.
        let lease = buffer.lease(1, Duration::ZERO).await.unwrap().remove(0);
        let (after, reason) = (Duration::from_millis(300), String::new());
        lease.settle(Verdict::Retry { after, counts: false, sent, reason });
    }
    drained(start(&buffer, &oms), &buffer).await;
    assert_eq!(oms.submits(), 0);
    assert_eq!(state(&buffer, "there").await, OrderState::Summarised);
    let mut poison: Vec<_> = exceptions(&buffer).await;
    poison.sort_by_key(|row| row.order);
    let poison: Vec<_> = poison.iter().map(|row| (row.key.id.as_str(), row.category)).collect();
    let expected = ["never sent", "not there"].map(|id| (id, ExceptionCategory::Poison));
    assert_eq!(poison, expected);
}

/// Sends as a worker does and dies between the OMS's commit and the settle: the leases are dropped.
async fn send_and_die(buffer: &Memory, oms: &Oms, noted: bool) -> usize {
    let leases = buffer.lease(100, Duration::ZERO).await.unwrap();
    let format = forebay_order::Format::B2cCommerceXml;
    let summarise = |lease: &forebay_buffer::Lease| {
        forebay_order::summarise(format, lease.key.clone(), lease.fingerprint, &lease.body).unwrap()
    };
    let summaries: Vec<_> = leases.iter().map(summarise).map(Arc::new).collect();
    if noted {
        buffer.submitting(&leases, true).await.unwrap();
    }
    let outcomes = oms.submit(&summaries).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Created { .. })));
    leases.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_between_commit_and_settle_doubles_nothing() {
    let directory = tempdir().unwrap();
    let kinds: Vec<_> = each(directory.path()).await.iter().map(Oms::kind).collect();
    for kind in kinds {
        let open = async || {
            let mut all = each(directory.path()).await.into_iter();
            all.find(|oms| oms.kind() == kind).unwrap()
        };
        let buffer = buffer(clock());
        append_all(&buffer, (0..100).map(|n| n.to_string())).await;
        let oms = open().await;
        assert_eq!(send_and_die(&buffer, &oms, true).await, 100, "{kind}");
        drop(oms);
        // Re-opened, as after a restart.
        let oms = Arc::new(Unruly::new(open().await));
        drained(start(&buffer, &oms), &buffer).await;
        assert_eq!(oms.submits(), 0, "{kind}: all were looked up, none was sent again");
        let all = creates(&*oms).await;
        assert_eq!(all.len(), 100, "{kind}");
        assert!(all.iter().all(|(_, creates)| *creates == 1), "{kind}");
        assert_eq!(buffer.status().await.unwrap().ended["summarised"], 100, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unique_identity_holds_even_where_the_note_of_the_send_was_lost() {
    let directory = tempdir().unwrap();
    let oms = Oms::Sqlite(sqlite(&directory.path().join("oms.sqlite")));
    let buffer = buffer(clock());
    append_all(&buffer, (0..100).map(|n| n.to_string())).await;
    send_and_die(&buffer, &oms, false).await;
    let oms = Arc::new(Unruly::new(oms));
    drained(start(&buffer, &oms), &buffer).await;
    assert!(oms.submits() > 0, "they were sent again");
    assert_eq!(creates(&*oms).await.len(), 100);
    assert_eq!(exceptions(&buffer).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_order_that_was_sent_before_is_looked_up_and_then_sent_once() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(ledger(&directory.path().join("oms.ledger"), None)));
    let buffer = buffer(clock());
    append_all(&buffer, ["1".to_owned()]).await;
    let leases = buffer.lease(1, Duration::ZERO).await.unwrap();
    buffer.submitting(&leases, true).await.unwrap();
    drop(leases);
    drained(start(&buffer, &oms), &buffer).await;
    assert_eq!((oms.finds.load(Ordering::Relaxed), oms.submits()), (1, 1));
    assert_eq!(creates(&*oms).await, [(key("1").identity(), 1)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_forgotten_and_comes_again_has_no_second_effect() {
    let directory = tempdir().unwrap();
    for oms in both(directory.path()) {
        let refuses = oms.guarantee() == Guarantee::UniqueId;
        let oms = Arc::new(Unruly::new(oms));
        let buffer = forgetful(directory.path(), &oms).await;
        assert_eq!(oms.finds.load(Ordering::Relaxed), 0);
        append_all(&buffer, (0..50).map(|n| n.to_string())).await;
        drained(start(&buffer, &oms), &buffer).await;
        let all = creates(&*oms).await;
        assert_eq!(all.len(), 400);
        assert!(all.iter().all(|(_, creates)| *creates == 1), "none doubled");
        assert_eq!(
            oms.finds.load(Ordering::Relaxed) == 0,
            refuses,
            "one that refuses is not asked"
        );
        assert_eq!(exceptions(&buffer).await, []);
        buffer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_that_comes_when_its_order_is_forgotten_has_no_second_effect() {
    let directory = tempdir().unwrap();
    let month = Duration::from_secs(30 * 86_400);
    let clock = Arc::new(JumpClock::default());
    clock.jump(2 * month);
    // Undated orders, and dated ones of more than a month ago; asked for unless the buffer remembers for ever and
    // the order says when it was placed.
    for (name, id, remembered, finds, created) in [
        ("old", "1", month, 1, 1),
        ("undated", "undated 1", FOR_EVER, 1, 1),
        ("remembered", "1", FOR_EVER, 0, 2),
    ] {
        let oms = Arc::new(Unruly::new(ledger(&directory.path().join(name), None)));
        let config = DrainConfig { remembered, ..config() };
        let drain = |buffer: &Memory| {
            Drain::start(config.clone(), buffer.clone(), Arc::clone(&oms), clock.clone()).unwrap()
        };
        let first = buffer(clock.clone());
        append_all(&first, [id.to_owned()]).await;
        drained(drain(&first), &first).await;
        let before = oms.finds.load(Ordering::Relaxed);
        // Another buffer, which knows nothing of it.
        let second = buffer(clock.clone());
        append_all(&second, [id.to_owned()]).await;
        drained(drain(&second), &second).await;
        assert_eq!(oms.finds.load(Ordering::Relaxed) - before, finds, "{name}");
        assert_eq!(creates(&*oms).await, [(key(id).identity(), created)], "{name}");
        assert_eq!(state(&second, id).await, OrderState::Summarised, "{name}");
    }
}

/// A buffer that drained orders 0 to 399 into the OMS and lost its outcome index.
async fn forgetful<O: OrderManagement>(directory: &Path, oms: &Arc<O>) -> Embedded {
    let dir = directory.join(oms.guarantee().words());
    let open = || {
        let config = EmbeddedConfig { slot_bytes: 64 << 10, ..EmbeddedConfig::new(&dir) };
        Embedded::open(config, clock(), Box::new(|_| {})).unwrap()
    };
    let buffer = open();
    append_all(&buffer, (0..400).map(|n| n.to_string())).await;
    drained(start(&buffer, oms), &buffer).await;
    let retired = until(async || buffer.status().await.unwrap().segments <= 3);
    in_time("retired", retired).await;
    buffer.close().await;
    drop(buffer);
    std::fs::remove_dir_all(dir.join("outcomes")).unwrap();
    open()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_of_an_order_that_was_forgotten_is_heard_where_the_oms_has_it() {
    let directory = tempdir().unwrap();
    for oms in both(directory.path()) {
        let oms = Arc::new(oms);
        let buffer = forgetful(directory.path(), &oms).await;
        append_all(&buffer, ["0".to_owned(), "new".to_owned()]).await;
        for id in ["0", "new"] {
            let permit = buffer.admission().admit(1).unwrap();
            let cancel = Envelope {
                readiness: Readiness::Cancelled,
                ..Envelope::new(key(id), fingerprint("called off"), Bytes::from_static(b"x"))
            };
            assert_eq!(buffer.append(cancel, permit).await.unwrap().answer(), Answer::Parked);
        }
        drained(start(&buffer, &oms), &buffer).await;
        let told = exceptions(&buffer).await;
        let told: Vec<_> = told.iter().map(|row| (&*row.key.id, row.category)).collect();
        assert_eq!(told, [("0", ExceptionCategory::ChangeAfterSummary)], "{:?}", oms.guarantee());
        let state = async |id| buffer.order(&key(id)).await.unwrap().unwrap().state;
        assert_eq!(state("0").await, OrderState::Summarised);
        assert_eq!(state("new").await, OrderState::Cancelled);
        assert_eq!(creates(&*oms).await.len(), 400);
        buffer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_with_another_content_is_an_exception_and_never_a_summary() {
    let directory = tempdir().unwrap();
    // Sent and answered `existing`; or sent before, and found.
    for sent_before in [false, true] {
        let path = directory.path().join(format!("{sent_before}.sqlite"));
        let oms = Arc::new(sqlite(&path));
        let mut other = crate::support::order("1");
        Arc::make_mut(&mut other).fingerprint.0[3] ^= 1;
        oms.submit(&[other]).await.unwrap();
        let buffer = buffer(clock());
        append_all(&buffer, ["1".to_owned()]).await;
        if sent_before {
            let leases = buffer.lease(1, Duration::ZERO).await.unwrap();
            buffer.submitting(&leases, true).await.unwrap();
        }
        drained(start(&buffer, &oms), &buffer).await;
        let rows = exceptions(&buffer).await;
        assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::IdentityTaken));
        assert_eq!(state(&buffer, "1").await, OrderState::Exception);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trouble_of_the_whole_oms_is_nobodys_attempt() {
    let directory = tempdir().unwrap();
    let after = Some(Duration::from_millis(3));
    let failures = (0..60).map(|n| match n % 4 {
        0 => CallFailure::NotSent("connection refused".into()),
        1 => CallFailure::Overloaded { after, scope: Scope::Second },
        2 => CallFailure::Unauthenticated,
        // Look-ups are answered, and nothing is ever there.
        _ => CallFailure::Unknown("timed out".into()),
    });
    let oms = ledger(&directory.path().join("oms.ledger"), None);
    let oms = Arc::new(Unruly::new(oms).fails(failures));
    let buffer = buffer(clock());
    append_all(&buffer, (0..300).map(|n| n.to_string())).await;
    drained(start(&buffer, &oms), &buffer).await;
    assert_eq!(exceptions(&buffer).await, []);
    let all = creates(&*oms).await;
    assert_eq!(all.len(), 300);
    assert!(all.iter().all(|(_, creates)| *creates == 1));
    for n in 0..300 {
        let view = buffer.order(&key(&n.to_string())).await.unwrap().unwrap();
        assert!(view.attempts <= 2, "{n} has {} attempts", view.attempts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oms_that_takes_nothing_burns_no_order_sent_alone() {
    // Every call times out, every look-up says absent, and each order goes in a call of its own.
    let directory = tempdir().unwrap();
    let dead = std::iter::repeat_n(CallFailure::Unknown("timed out".into()), 200);
    let oms = ledger(&directory.path().join("oms.ledger"), None);
    let oms = Arc::new(Unruly::new(oms).fails(dead));
    let buffer = buffer(clock());
    append_all(&buffer, (0..5).map(|n| n.to_string())).await;
    let limits = Limits { batch: Some(1), ..Limits::default() };
    let config = DrainConfig { limits, ..config() };
    let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock()).unwrap();
    drained(drain, &buffer).await;
    assert!(oms.times_sent("0") > 5, "more attempts than an order has");
    assert_eq!(exceptions(&buffer).await, []);
    assert_eq!(creates(&*oms).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_oms_is_left_alone_with_growing_waits() {
    let directory = tempdir().unwrap();
    let dead = std::iter::repeat_n(CallFailure::NotSent("connection refused".into()), 100_000);
    let oms = ledger(&directory.path().join("oms.ledger"), None);
    let oms = Arc::new(Unruly::new(oms).fails(dead));
    let buffer = buffer(clock());
    append_all(&buffer, (0..300).map(|n| n.to_string())).await;
    let retry = RetryPolicy { base: Duration::from_millis(50), max: Duration::from_secs(60) };
    let config = DrainConfig { retry, ..config() };
    let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock()).unwrap();
    let limited = async || drain.governor().state().limiter == Limiter::Oms;
    in_time("left alone", until(limited)).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let calls = oms.submits();
    assert!((1..=40).contains(&calls), "{calls} calls to a dead OMS in 1.5 s");
    in_time("stopped", drain.stop(Duration::from_secs(5))).await;
    assert_eq!(live(&buffer).await, 300, "all of them still wait");
    assert_eq!(exceptions(&buffer).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_outcome_waits_until_a_look_up_is_answered() {
    let directory = tempdir().unwrap();
    let oms = Unruly::new(ledger(&directory.path().join("oms.ledger"), Some(1)));
    oms.find_failures.store(7, Ordering::Relaxed);
    let (buffer, oms) = (buffer(clock()), Arc::new(oms));
    append_all(&buffer, (0..20).map(|n| n.to_string())).await;
    drained(start(&buffer, &oms), &buffer).await;
    assert_eq!(oms.find_failures.load(Ordering::Relaxed), 0);
    assert!(oms.finds.load(Ordering::Relaxed) >= 8);
    let all = creates(&*oms).await;
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|(_, creates)| *creates == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_asked_after_and_never_sent_again() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(ledger(&directory.path().join("oms.ledger"), None)));
    let clock = Arc::new(JumpClock::default());
    let buffer = buffer(clock.clone());
    append_all(&buffer, ["ticket1".to_owned()]).await;
    let drain = start(&buffer, &oms);
    let finds = || oms.finds.load(Ordering::Relaxed);
    let until = async |what: &str, so: &dyn Fn() -> bool| {
        let mut n = 0;
        while !so() {
            // A new order makes the buffer look at its clock.
            clock.jump(Duration::from_secs(6));
            append_all(&buffer, [format!("other {what} {n}")]).await;
            n += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time("asked after three times", until("asked", &|| finds() >= 3)).await;
    assert_eq!(oms.times_sent("ticket1"), 1, "absent from the OMS, but it has a ticket");
    oms.tickets_done.store(true, Ordering::Relaxed);
    in_time("none outstanding", until("done", &|| buffer.outstanding() == 0)).await;
    drained(drain, &buffer).await;
    assert_eq!(state(&buffer, "ticket1").await, OrderState::Summarised);
    assert_eq!(oms.times_sent("ticket1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synthetic_order_never_reaches_an_oms_that_is_no_test_one() {
    let directory = tempdir().unwrap();
    let oms = Unruly::new(sqlite(&directory.path().join("oms.sqlite")));
    let (buffer, oms) = (buffer(clock()), Arc::new(Unruly { test: false, ..oms }));
    Delivery { synthetic: true, ..Delivery::new("synthetic") }.append(&buffer).await;
    append_all(&buffer, ["true".to_owned()]).await;
    drained(start(&buffer, &oms), &buffer).await;
    let rows = exceptions(&buffer).await;
    assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Rejected));
    assert!(rows[0].reason.contains("synthetic"));
    assert_eq!(creates(&*oms).await, [(key("true").identity(), 1)]);
    assert_eq!(oms.times_sent("synthetic"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_longer_than_the_oms_stores_is_its_own_exception() {
    let directory = tempdir().unwrap();
    for oms in both(directory.path()) {
        let (buffer, oms) = (buffer(clock()), Arc::new(oms));
        append_all(&buffer, ["x".repeat(300), "1".to_owned()]).await;
        drained(start(&buffer, &oms), &buffer).await;
        let rows = exceptions(&buffer).await;
        assert_eq!((rows.len(), rows[0].category), (1, ExceptionCategory::Rejected));
        assert_eq!(creates(&*oms).await, [(key("1").identity(), 1)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_sends_nothing_and_a_resume_goes_on() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(sqlite(&directory.path().join("oms.sqlite"))));
    let buffer = buffer(clock());
    let drain = start(&buffer, &oms);
    drain.governor().pause();
    append_all(&buffer, (0..100).map(|n| n.to_string())).await;
    // Nothing may come; this is as long as an unpaused drain would need many times over.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((oms.submits(), live(&buffer).await), (0, 100));
    assert_eq!(drain.governor().state().limiter, Limiter::Paused);
    drain.governor().resume();
    drained(drain, &buffer).await;
    assert_eq!(creates(&*oms).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_middle_loses_nothing_and_a_new_drain_goes_on() {
    let directory = tempdir().unwrap();
    let oms = Arc::new(Unruly::new(ledger(&directory.path().join("oms.ledger"), Some(3))));
    let buffer = buffer(clock());
    append_all(&buffer, (0..600).map(|n| n.to_string())).await;
    let limits = Limits { ceiling_per_s: Some(1_000.0), batch: Some(20), ..Limits::default() };
    let slow = DrainConfig { limits, ..config() };
    for grace in [Duration::ZERO, Duration::from_secs(10), Duration::ZERO] {
        let drain = Drain::start(slow.clone(), buffer.clone(), Arc::clone(&oms), clock()).unwrap();
        let before = oms.submits();
        in_time("some calls", until(async || oms.submits() >= before + 3)).await;
        in_time("stopped", drain.stop(grace)).await;
        let status = buffer.status().await.unwrap();
        assert_eq!(status.live.get("leased").copied().unwrap_or_default(), 0, "none is lent");
    }
    assert!(live(&buffer).await > 0, "there is something left to do");
    drained(start(&buffer, &oms), &buffer).await;
    let all = creates(&*oms).await;
    assert_eq!(all.len(), 600);
    assert!(all.iter().all(|(_, creates)| *creates == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_of_the_whole_process_lose_and_double_nothing_on_disk() {
    let directory = tempdir().unwrap();
    let open = || {
        let mut config = EmbeddedConfig::new(directory.path().join("buffer"));
        (config.slot_bytes, config.burst_reserve) = (1 << 20, 1);
        Embedded::open(config, clock(), Box::new(|reason| panic!("{reason}"))).unwrap()
    };
    for kind in 0..2 {
        let oms = || {
            let [sqlite, ledger] = both(directory.path());
            Arc::new(Unruly::new(if kind == 0 { sqlite } else { ledger }))
        };
        let id = |n: usize| format!("{kind}.{n}");
        append_all(&open(), (0..400).map(id)).await;
        let limits = Limits { ceiling_per_s: Some(500.0), batch: Some(10), ..Limits::default() };
        for round in 0..5 {
            let (buffer, oms) = (open(), oms());
            let slow = DrainConfig { limits, ..config() };
            let drain =
                Drain::start(slow.clone(), buffer.clone(), Arc::clone(&oms), clock()).unwrap();
            in_time("some calls", until(async || oms.submits() >= 3 + round)).await;
            // Calls are cut off where they are, and nobody closes the buffer.
            drain.stop(Duration::ZERO).await;
            drop(buffer);
        }
        let (buffer, oms) = (open(), oms());
        drained(start(&buffer, &oms), &buffer).await;
        // An order that happened to be lent at three of the deaths is suspected of them, and waits for a person.
        for row in exceptions(&buffer).await {
            assert_eq!(row.category, ExceptionCategory::Poison, "{}", row.reason);
            buffer.act(row.id, Act::Retry).await.unwrap();
        }
        drained(start(&buffer, &oms), &buffer).await;
        let all = creates(&*oms).await;
        assert_eq!(all.len(), 400);
        assert!(all.iter().all(|(_, creates)| *creates == 1));
        for n in 0..400 {
            let view = buffer.order(&key(&id(n))).await.unwrap().unwrap();
            assert_eq!(view.state, OrderState::Summarised, "{n}");
        }
        assert_eq!(exceptions(&buffer).await, []);
        in_time("closed", buffer.close()).await;
    }
}

/// The most orders committed within any second, by the OMS's own clock.
async fn peak(oms: &impl OrderManagement) -> usize {
    let mut times = Vec::new();
    let mut after = 0;
    while let Some(page) = oms.list(after, 1_000).await.unwrap()
        && let Some(last) = page.last()
    {
        after = last.cursor;
        times.extend(page.iter().map(|listed| listed.committed_at_us));
    }
    let within =
        |from: &i64| times.iter().filter(|at| (*from..*from + 1_000_000).contains(at)).count();
    times.iter().map(within).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peak_meets_the_ceiling_and_without_a_governor_exceeds_it() {
    const CEILING: f64 = 200.0;
    let directory = tempdir().unwrap();
    let mut peaks = Vec::new();
    for ceiling_per_s in [Some(CEILING), None] {
        let path = directory.path().join(format!("{}.sqlite", ceiling_per_s.is_some()));
        let (buffer, oms) = (buffer(clock()), Arc::new(sqlite(&path)));
        append_all(&buffer, (0..700).map(|n| n.to_string())).await;
        let limits = Limits { ceiling_per_s, ..Limits::default() };
        let config = DrainConfig { limits, ..config() };
        let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock()).unwrap();
        drained(drain, &buffer).await;
        peaks.push(peak(&*oms).await as f64);
    }
    assert!((CEILING * 0.9..=CEILING * 1.1).contains(&peaks[0]), "{peaks:?} at {CEILING}");
    assert!(peaks[1] > CEILING * 1.1, "{peaks:?}: without a governor nothing holds it back");
}

#[test]
fn the_fingerprints_of_the_tests_differ() {
    assert_ne!(fingerprint("1"), fingerprint("2"));
}
