//! What several processes on one store do together.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay_buffer::nats::NatsConfig;
use forebay_buffer::{
    Act, ActError, Answer, Buffer, BufferError, Effect, Envelope, ExceptionCategory, Lease,
    OrderState, Telling, Verdict,
};
use forebay_order::Readiness;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::nodes::{
    PARTITIONS, config, have_their_share, key, lend_all, open, state, summarised, two, until,
};
use crate::proxy::Proxy;
use crate::servers::Servers;
use crate::support::{SOON, UNPAID, answer, delivery, post, with};
use crate::tickets::{created, invalid, taken};

fn cancel(id: &str) -> Envelope {
    with(Readiness::Cancelled, delivery(id, 9, Some(9)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_share_the_orders_and_one_that_ends_leaves_its_share_to_the_other() {
    let Some(servers) = Servers::start(1).await else { return };
    let nodes = two(&servers).await;
    let door = open(config(&servers, false)).await;
    assert_eq!(door.owned(), (0, usize::from(PARTITIONS)));
    for id in 0..60 {
        assert_eq!(answer(&door, delivery(&id.to_string(), 1, None)).await, Answer::Accepted);
    }
    for leases in lend_all(&nodes, 60).await {
        assert!(leases.len() > 5, "each has its share: {}", leases.len());
        for (id, lease) in leases {
            lease.settle(summarised(&id));
        }
    }
    for id in 0..60 {
        let id = id.to_string();
        // Whoever is asked, as soon as it is durable.
        until("it is settled", async || state(&door, &id).await == OrderState::Summarised).await;
        let again = post(&door, delivery(&id, 1, None)).await;
        assert_eq!(again.answer(), Answer::Duplicate);
        assert_eq!(again.first().summary_id.as_ref(), Some(&id));
    }
    let [one, other] = nodes;
    assert!((one.share() - 0.5).abs() < 1e-9 && door.share() == 0.0);
    one.close().await;
    until("the other has all", async || other.owned().0 == usize::from(PARTITIONS)).await;
    until("it may use the whole ceiling", async || other.share() == 1.0).await;
    other.close().await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_that_stops_gives_up_is_taken_before_it_would_be_missed() {
    let Some(servers) = Servers::start(1).await else { return };
    let lease = Duration::from_secs(9);
    let config = || NatsConfig { lease, ..config(&servers, true) };
    let nodes = [open(config()).await, open(config()).await];
    have_their_share(&nodes).await;
    let [one, other] = nodes;
    one.close().await;
    let began = Instant::now();
    until("the other has all", async || other.share() == 1.0).await;
    assert!(began.elapsed() < lease, "{:?}", began.elapsed());
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doors_that_race_for_a_key_agree() {
    let Some(servers) = Servers::start(1).await else { return };
    let doors = [open(config(&servers, false)).await, open(config(&servers, false)).await];
    for id in 0..40 {
        let id = id.to_string();
        let race = doors.iter().zip(1..).map(|(door, content)| {
            let envelope = delivery(&id, content, None);
            let permit = door.admission().admit(100).unwrap();
            door.append(envelope, permit)
        });
        let receipts: Vec<_> =
            join_all(race).await.into_iter().map(|receipt| receipt.unwrap()).collect();
        let mut answers: Vec<_> = receipts.iter().map(|receipt| receipt.answer()).collect();
        answers.sort_by_key(|answer| answer.word());
        assert_eq!(answers, [Answer::Accepted, Answer::Conflict], "another body");
        assert_eq!(receipts[0].first().sequence, receipts[1].first().sequence);
        assert_eq!(receipts[0].first().fingerprint, receipts[1].first().fingerprint);
    }
    let race = |id: &'static str| {
        doors.iter().map(move |door| answer(door, delivery(id, 1, None))).collect::<Vec<_>>()
    };
    let mut answers = join_all(race("same")).await;
    answers.sort_by_key(|answer| answer.word());
    assert_eq!(answers, [Answer::Accepted, Answer::Duplicate], "the same body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_at_another_door_waits_for_the_loan_and_is_not_passed_over() {
    let Some(servers) = Servers::start(1).await else { return };
    let owner = open(config(&servers, true)).await;
    let door = open(config(&servers, false)).await;
    post(&door, delivery("lent", 1, Some(1))).await;
    let lease = owner.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!(state(&door, "lent").await, OrderState::Leased);
    assert_eq!(answer(&door, delivery("lent", 2, Some(2))).await, Answer::Parked);
    assert_eq!(answer(&door, delivery("lent", 2, Some(2))).await, Answer::Duplicate);
    lease.settle(summarised("S1"));
    until("the change is an exception", async || owner.exceptions(0, 10).await.unwrap().len() == 1)
        .await;
    let rows = owner.exceptions(0, 10).await.unwrap();
    assert_eq!(rows[0].category, ExceptionCategory::ChangeAfterSummary);
    assert_eq!(state(&door, "lent").await, OrderState::Summarised);

    // What was called off, or changed, before it was lent: the owner may not know yet, and sees it all the same.
    let mut held_back = Vec::new();
    for n in 0..30 {
        let (off, changed) = (format!("off {n}"), format!("changed {n}"));
        let held = format!("held {n}");
        for id in [&off, &changed, &held] {
            post(&door, delivery(id, 1, Some(1))).await;
        }
        let lend = async {
            let mut lent = Vec::new();
            while lent.is_empty() {
                lent = owner.lease(10, Duration::from_millis(50)).await.unwrap();
            }
            lent
        };
        let change = async {
            let held = answer(&door, with(UNPAID, delivery(&held, 2, Some(2)))).await;
            let called_off = answer(&door, cancel(&off)).await;
            (held, called_off, answer(&door, delivery(&changed, 2, Some(2))).await)
        };
        let (mut lent, (held_answer, off_answer, changed_answer)) = tokio::join!(lend, change);
        lent.extend(owner.lease(10, Duration::ZERO).await.unwrap());
        held_back.extend((held_answer == Answer::Amended).then_some(held));
        assert!(lent.iter().all(|lease| !held_back.contains(&lease.key.id)), "{n}: it is held");
        let find = |id: &str| lent.iter().find(|lease| lease.key.id == id);
        match off_answer {
            Answer::Cancelled => assert!(find(&off).is_none(), "{n}: it was called off"),
            answer => assert_eq!(answer, Answer::Parked),
        }
        match (changed_answer, find(&changed)) {
            (Answer::Amended, Some(lease)) => assert_eq!(lease.body, format!("body {changed} 2")),
            (Answer::Amended | Answer::Parked, _) => {}
            (answer, _) => panic!("{answer:?}"),
        }
        for lease in lent {
            lease.settle(summarised("S"));
        }
        until("all is settled", async || {
            // What the owner heard of only after it was asked.
            for lease in owner.lease(10, Duration::ZERO).await.unwrap() {
                let id = &lease.key.id;
                assert!(!held_back.contains(id), "{n}: it is held");
                assert!(off_answer != Answer::Cancelled || *id != off, "{n}: it was called off");
                lease.settle(summarised("S"));
            }
            let status = owner.status().await.unwrap();
            status.live["leased"] + status.live["submitted"] + status.live["pending"] == 0
        })
        .await;
    }
    door.close().await;
    owner.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_owner_that_is_cut_off_may_be_sending_is_left_alone_until_that_is_over() {
    const WAIT: Duration = Duration::from_secs(5);
    let Some(servers) = Servers::start(1).await else { return };
    let proxy = Proxy::start(servers.port(0)).await;
    let waiting = |servers: &Servers| NatsConfig { lent_wait: WAIT, ..config(servers, true) };
    let owner = open(NatsConfig { servers: vec![proxy.address()], ..waiting(&servers) }).await;
    post(&owner, delivery("sent", 1, Some(1))).await;
    let mut lent = Vec::new();
    until("it is lent", async || {
        lent.extend(owner.lease(10, Duration::ZERO).await.unwrap());
        !lent.is_empty()
    })
    .await;
    assert_eq!(owner.submitting(&lent, true).await, Ok(vec![true]));
    proxy.hold(true);
    let other = open(waiting(&servers)).await;
    until("the other took all over", async || other.owned().0 == usize::from(PARTITIONS)).await;
    let taken_over = Instant::now();
    // What nobody had lent comes at once.
    post(&other, delivery("new", 1, Some(1))).await;
    let mut seen = Vec::new();
    until("both are lent", async || {
        for lease in other.lease(10, Duration::from_millis(50)).await.unwrap() {
            seen.push((lease.key.id.clone(), lease.sent_before, taken_over.elapsed()));
            let id = lease.key.id.clone();
            lease.settle(summarised(&id));
        }
        seen.len() == 2
    })
    .await;
    assert!(matches!(&seen[0], (id, false, at) if id == "new" && *at < WAIT / 2), "{seen:?}");
    // The partition is its own a moment before this test sees that.
    assert!(matches!(&seen[1], (id, true, at) if id == "sent" && *at >= WAIT * 3 / 4), "{seen:?}");
    assert!(seen[1].2 < 2 * WAIT, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_cut_off_can_lend_and_settle_nothing_and_is_followed() {
    let Some(servers) = Servers::start(1).await else { return };
    let proxy = Proxy::start(servers.port(0)).await;
    let through = NatsConfig { servers: vec![proxy.address()], ..config(&servers, true) };
    let owner = open(through).await;
    assert_eq!(owner.owned().0, usize::from(PARTITIONS));
    for id in ["refused", "sent", "unsent", "called off"] {
        post(&owner, delivery(id, 1, Some(1))).await;
    }
    let mut leases = BTreeMap::new();
    until("all four are lent", async || {
        let lent = owner.lease(10, Duration::ZERO).await.unwrap();
        leases.extend(lent.into_iter().map(|lease| (lease.key.id.clone(), lease)));
        leases.len() == 4
    })
    .await;
    let sent = leases.remove("sent").unwrap();
    assert_eq!(owner.submitting(std::slice::from_ref(&sent), true).await, Ok(vec![true]));
    post(&owner, delivery("later", 1, Some(1))).await;

    assert_eq!(answer(&owner, cancel("called off")).await, Answer::Parked);
    proxy.hold(true);
    let other = open(config(&servers, true)).await;
    until("the other took all over", async || other.owned().0 == usize::from(PARTITIONS)).await;
    assert_eq!(owner.share(), 0.0, "what was its share is another's");
    assert!(owner.lease(10, Duration::ZERO).await.unwrap().is_empty());
    let held: Vec<Lease> = leases.into_values().collect();
    assert_eq!(owner.submitting(&held, false).await, Ok(vec![false; 3]), "it may not send");

    // Those that were lent may have been sent, so each comes alone, and is to be looked for.
    let mut seen = BTreeMap::new();
    until("the other lends them all", async || {
        for mut lease in other.lease(10, Duration::from_millis(100)).await.unwrap() {
            seen.insert(lease.key.id.clone(), lease.sent_before);
            let id = lease.key.id.clone();
            if id == "called off" {
                // It was looked for, and was not there.
                lease.sent_before = false;
                let may_go = other.submitting(std::slice::from_ref(&lease), true).await;
                assert_eq!(may_go, Ok(vec![false]));
                let (after, reason) = (Duration::ZERO, "called off".to_owned());
                lease.settle(Verdict::Retry { after, counts: false, sent: false, reason });
            } else {
                lease.settle(summarised(&id));
            }
        }
        seen.len() == 5
    })
    .await;
    let expected = [
        ("called off", true),
        ("later", false),
        ("refused", true),
        ("sent", true),
        ("unsent", true),
    ];
    assert_eq!(seen, expected.map(|(id, sent)| (id.to_owned(), sent)).into());

    proxy.hold(false);
    for lease in held.into_iter().chain([sent]) {
        match lease.key.id.as_str() {
            "refused" => lease.settle(Verdict::Exception {
                category: ExceptionCategory::Rejected,
                reason: "no such product".to_owned(),
            }),
            // It did not send this one.
            "called off" => drop(lease),
            _ => lease.settle(summarised("late")),
        }
    }
    until("it notices", async || owner.owned().0 <= usize::from(PARTITIONS / 2)).await;
    for id in ["refused", "sent", "unsent", "later"] {
        let view = other.order(&key(id)).await.unwrap().unwrap();
        assert_eq!((view.state, view.summary_id.as_deref()), (OrderState::Summarised, Some(id)));
        assert!(view.exceptions.is_empty());
    }
    until("it is called off", async || state(&other, "called off").await == OrderState::Cancelled)
        .await;
    owner.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_its_peers_is_left_for_another() {
    let Some(servers) = Servers::start_wired(3).await else { return };
    let first = Proxy::start(servers.port(0)).await;
    let second = Proxy::start(servers.port(1)).await;
    let deadline = Duration::from_secs(1);
    let through = vec![first.address(), second.address()];
    let through = NatsConfig { servers: through, deadline, ..config(&servers, false) };
    // So it is the first that it finds.
    second.hold(true);
    let door = open(through).await;
    second.hold(false);
    post(&door, delivery("before", 1, None)).await;
    servers.cut_off(0);
    let accepts = async |id: &str| {
        let permit = door.admission().admit(100).unwrap();
        door.append(delivery(id, 1, None), permit).await.is_ok()
    };
    assert!(!accepts("during").await, "what is cut off can store nothing");
    until("it accepts by the second", async || accepts("after").await).await;
    assert_eq!(state(&door, "before").await, OrderState::Pending);
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_process_knows_the_exceptions_and_counts_of_all_and_may_act() {
    let Some(servers) = Servers::start(1).await else { return };
    let nodes = two(&servers).await;
    let door = open(config(&servers, false)).await;
    for id in 0..12 {
        post(&door, delivery(&id.to_string(), 1, None)).await;
    }
    for leases in lend_all(&nodes, 12).await {
        for (id, lease) in leases {
            lease.settle(match id.as_str() {
                "0" | "1" | "2" | "3" => Verdict::Exception {
                    category: ExceptionCategory::Rejected,
                    reason: "no such product".to_owned(),
                },
                _ => summarised(&id),
            });
        }
    }
    let others = [&door, &nodes[0], &nodes[1]];
    for node in others {
        until("all exceptions are known", async || {
            node.exceptions(0, 10).await.unwrap().len() == 4
        })
        .await;
        let status = node.status().await.unwrap();
        assert_eq!((status.live["exception"], status.ended["summarised"]), (4, 8));
        assert_eq!(status.exceptions["rejected"], 4);
        let fleet = status.fleet.unwrap();
        assert_eq!((fleet.partitions, fleet.silent, fleet.nodes), (u64::from(PARTITIONS), 0, 2));
    }
    let mut rows = door.exceptions(0, 10).await.unwrap();
    rows.sort_by_key(|row| row.id);
    assert_eq!(door.exceptions(rows[1].id, 1).await.unwrap(), [rows[2].clone()]);
    assert_eq!(door.body(rows[0].order.unwrap()).await.unwrap().unwrap().len(), "body 0 1".len());
    for (row, node) in rows.iter().zip([&door, &nodes[0], &nodes[1]]) {
        let done = node.act(row.id, Act::Retry).await.unwrap();
        assert_eq!(done.state, OrderState::Pending);
    }
    let discarded = door.act(rows[3].id, Act::Discard).await.unwrap();
    assert_eq!(discarded.state, OrderState::Discarded);
    assert_eq!(door.act(77_777, Act::Retry).await, Err(ActError::NotFound));
    let again = lend_all(&nodes, 3).await;
    assert_eq!(again.iter().map(BTreeMap::len).sum::<usize>(), 3);
    drop(again);
    for node in nodes {
        node.close().await;
    }
    let nobody = door.exceptions(0, 10).await;
    assert!(matches!(nobody, Err(BufferError::Failed(_))), "nobody speaks for them: {nobody:?}");
    let silent = door.status().await.unwrap().fleet.unwrap().silent;
    assert_eq!(silent, u64::from(PARTITIONS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_told_closes_a_ticket_and_whoever_follows_an_owner_knows_what_is_outstanding() {
    let Some(servers) = Servers::start(1).await else { return };
    let [one, other] = two(&servers).await;
    let door = open(config(&servers, false)).await;
    for id in 0..20 {
        post(&door, delivery(&id.to_string(), 1, None)).await;
    }
    let nodes = [one, other];
    for leases in lend_all(&nodes, 20).await {
        for (id, lease) in leases {
            lease.settle(taken(&format!("T-{id}")));
        }
    }
    let outstanding = |nodes: &[forebay_buffer::nats::Nats]| {
        nodes.iter().map(Buffer::outstanding).collect::<Vec<_>>()
    };
    assert_eq!(outstanding(&nodes).iter().sum::<u64>(), 20, "also while they are being noted");
    until("all are noted", async || nodes[0].status().await.unwrap().live["submitted"] == 20).await;
    let parts = outstanding(&nodes);
    assert!(parts.iter().all(|part| *part > 3), "each counts its own: {parts:?}");
    // By a process that owns nothing, and by both owners: of orders that may be the other's.
    for (n, node) in [&door, &nodes[0], &nodes[1]].into_iter().cycle().take(18).enumerate() {
        let word = if n % 6 == 5 { invalid() } else { created(&format!("S{n}")) };
        let telling = Telling { key: None, ticket: Some(format!("T-{n}")), word };
        assert_eq!(node.tell(telling).await.unwrap(), Effect::Done, "{n}");
    }
    until("two are left", async || outstanding(&nodes).iter().sum::<u64>() == 2).await;
    assert_eq!(state(&door, "0").await, OrderState::Summarised);
    assert_eq!(state(&door, "5").await, OrderState::Exception);
    assert_eq!(door.exceptions(0, 10).await.unwrap().len(), 3);
    // The one that stays counts what the one that ended had.
    let [one, other] = nodes;
    one.close().await;
    until("the other counts all", async || other.outstanding() == 2).await;
    other.close().await;
    door.close().await;
}
