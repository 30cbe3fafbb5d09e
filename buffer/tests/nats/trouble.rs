//! Servers that let nobody in, or are too few: said at the start, red while it lasts, and nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use forebay_buffer::nats::{Login, Nats, NatsConfig, OpenError};
use forebay_buffer::{Answer, AppendError, Buffer, OrderState, SystemClock};

use crate::nodes::{config, open, state, summarised, until};
use crate::servers::Servers;
use crate::support::{SOON, answer, delivery};

async fn refused(config: NatsConfig) -> OpenError {
    Nats::open(config, Arc::new(SystemClock)).await.unwrap_err()
}

fn login(name: &str, password: &str) -> Login {
    Login::User { name: name.to_owned(), password: password.to_owned() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_let_in_is_told_what_to_check() {
    let Some(servers) = Servers::start(1).await else { return };
    for (name, password) in [("app", "wrong"), ("stranger", "app")] {
        let login = login(name, password);
        let error = refused(NatsConfig { login, ..config(&servers, true) }).await;
        assert!(matches!(error, OpenError::Connect { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains("check the user and its password") && !said.contains("wrong"),
            "{said}"
        );
    }
    // Who is let in, and may nothing.
    let error =
        refused(NatsConfig { login: login("guest", "guest"), ..config(&servers, true) }).await;
    assert!(matches!(error, OpenError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("allowed"), "{error}");
    // None of it has made anything.
    let node = open(config(&servers, true)).await;
    assert_eq!(answer(&node, delivery("x", 1, None)).await, Answer::Accepted);
    node.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_a_fleet_is_red_and_takes_nothing_and_then_goes_on() {
    let Some(mut servers) = Servers::start(3).await else { return };
    let quick =
        |drains| NatsConfig { deadline: Duration::from_secs(2), ..config(&servers, drains) };
    let (door_config, config) = (quick(false), quick(true));
    let (door, owner) = (open(door_config.clone()).await, open(config).await);
    assert_eq!(answer(&door, delivery("before", 1, None)).await, Answer::Accepted);
    until("all is well", async || door.health().is_ok() && owner.health().is_ok()).await;
    servers.kill(0);
    servers.kill(1);
    let append_at = async |door: &Nats| {
        let permit = door.admission().admit(64).unwrap();
        door.append(delivery("during", 1, None), permit).await
    };
    let append = async || append_at(&door).await;
    let refused_now = append().await;
    assert!(matches!(refused_now, Err(AppendError::Failed(_))), "{refused_now:?}");
    // A leader that has lost the others goes on answering what is asked of it, so red is seen with what fails.
    until("the door is red", async || append().await.is_err() && door.health().is_err()).await;
    until("the owner is red", async || owner.health().is_err()).await;
    until("nothing may be sent", async || owner.share() == 0.0).await;
    match Nats::open(door_config, Arc::new(SystemClock)).await {
        Ok(opened) => {
            assert!(append_at(&opened).await.is_err());
            opened.close().await;
        }
        Err(error) => {
            let said = matches!(error, OpenError::Unavailable { .. } | OpenError::Connect { .. });
            assert!(said, "{error}");
        }
    }
    // With nothing tried it stays red, also where a server is left that answers.
    until("both are red", async || door.health().is_err() && owner.health().is_err()).await;
    servers.run(0);
    servers.run(1);
    until("both are green", async || door.health().is_ok() && owner.health().is_ok()).await;
    // Whatever became of it, the same again ends well.
    let again = async || matches!(append().await, Ok(receipt) if [Answer::Accepted, Answer::Duplicate].contains(&receipt.answer()));
    until("it is taken", again).await;
    let mut lent = Vec::new();
    until("both are lent", async || {
        for lease in owner.lease(10, Duration::ZERO).await.unwrap() {
            let id = lease.key.id.clone();
            lease.settle(summarised(&id));
            lent.push(id);
        }
        lent.len() >= 2
    })
    .await;
    lent.sort();
    assert_eq!(lent, ["before", "during"], "each once");
    for id in ["before", "during"] {
        until("it is settled", async || state(&door, id).await == OrderState::Summarised).await;
    }
    assert!(owner.lease(10, Duration::ZERO).await.unwrap().is_empty());
    owner.close().await;
    door.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_is_changed_turns_readiness_red_until_it_is_the_right_one_again() {
    let Some(mut servers) = Servers::start(1).await else { return };
    let login = login("app", "app");
    let deadline = Duration::from_secs(2);
    let node = open(NatsConfig { login, deadline, ..config(&servers, true) }).await;
    assert_eq!(answer(&node, delivery("x", 1, None)).await, Answer::Accepted);
    servers.kill(0);
    servers.set_password("another");
    servers.run(0);
    until("it is red", async || node.health().is_err()).await;
    assert_eq!(node.share(), 0.0);
    servers.kill(0);
    servers.set_password("app");
    servers.run(0);
    until("it is green", async || node.health().is_ok() && node.share() == 1.0).await;
    let lease = node.lease(1, SOON).await.unwrap().remove(0);
    assert_eq!(lease.key.id, "x");
    lease.settle(summarised("x"));
    until("it is settled", async || state(&node, "x").await == OrderState::Summarised).await;
    node.close().await;
}
