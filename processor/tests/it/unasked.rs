//! An OMS that refuses a second create and cannot be asked: what was sent and not answered is sent again as it was, and a change of it waits for
//! what that comes to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_buffer::{Answer, Buffer, Envelope, ExceptionCategory, Memory, OrderState};
use forebay_order::{Fingerprint, OrderSummary, Readiness};
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Found, Guarantee, Identity, Limits, Listed, OrderManagement,
    Outcome,
};
use tokio::time::{Instant, sleep};

use crate::scripted::s;
use crate::support::{Delivery, TokioClock, buffer, key};

/// Its answers are lost until some time.
struct Deaf {
    lost_until: Instant,
    created: Mutex<HashMap<Identity, Fingerprint>>,
}

impl OrderManagement for Deaf {
    fn guarantee(&self) -> Guarantee {
        Guarantee::UniqueId
    }

    fn can_find(&self) -> bool {
        false
    }

    fn is_test(&self) -> bool {
        true
    }

    fn identity_max(&self) -> usize {
        255
    }

    fn batch_max(&self) -> usize {
        256
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        sleep(Duration::from_millis(50)).await;
        let mut created = self.created.lock().unwrap();
        let outcomes = batch.iter().map(|order| {
            let id = order.key.identity();
            match created.insert(id.clone(), order.fingerprint) {
                None => Outcome::Created { id },
                Some(first) => {
                    created.insert(id.clone(), first);
                    Outcome::Existing { id, same: None }
                }
            }
        });
        let outcomes = outcomes.collect();
        match Instant::now() < self.lost_until {
            true => Err(CallFailure::Unknown("cut".to_owned())),
            false => Ok(outcomes),
        }
    }

    async fn find(&self, _: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        Err(CallFailure::NotSent("it cannot be asked".to_owned()))
    }

    async fn list(&self, _: u64, _: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        Ok(None)
    }
}

async fn state(buffer: &Memory, id: &str) -> OrderState {
    buffer.order(&key(id)).await.unwrap().unwrap().state
}

/// The first version of an order, and what it is changed to: a newer one, or a cancel.
async fn post(buffer: &Memory, id: &str, version: u8, readiness: Readiness) -> Answer {
    let delivery = Delivery::new(id);
    let body = delivery.body();
    let permit = buffer.admission().admit(body.len()).unwrap();
    let envelope = Envelope {
        readiness,
        format: delivery.format,
        version: Some(version.into()),
        amend: true,
        ..Envelope::new(key(id), Fingerprint([version; 16]), body)
    };
    buffer.append(envelope, permit).await.unwrap().answer()
}

#[tokio::test(start_paused = true)]
async fn a_change_of_what_may_be_there_waits_and_is_told_to_people() {
    for readiness in [Readiness::Cancelled, Readiness::Pending] {
        let clock = TokioClock::shared();
        let buffer = buffer(Arc::clone(&clock));
        for id in ["lent", "waiting", "unchanged"] {
            post(&buffer, id, 1, Readiness::Pending).await;
        }
        let oms = Arc::new(Deaf { lost_until: Instant::now() + s(5), created: Mutex::default() });
        let limits = Limits { ceiling_per_s: Some(200.0), batch: Some(3), ..Limits::default() };
        let config = DrainConfig { limits, ..DrainConfig::default() };
        let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock).unwrap();
        let until = Instant::now() + s(4);
        while state(&buffer, "lent").await != OrderState::Submitted {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(post(&buffer, "lent", 2, readiness).await, Answer::Parked);
        // Between two attempts, as most of the time by now.
        sleep(s(3)).await;
        assert_eq!(post(&buffer, "waiting", 2, readiness).await, Answer::Parked, "{readiness:?}");
        sleep(s(60)).await;
        for id in ["lent", "waiting", "unchanged"] {
            assert_eq!(state(&buffer, id).await, OrderState::Summarised, "{id}: {readiness:?}");
        }
        let told = buffer.exceptions(0, 10).await.unwrap();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told.iter().all(|row| row.category == ExceptionCategory::ChangeAfterSummary));
        let created = oms.created.lock().unwrap().clone();
        assert!(created.len() == 3 && created.values().all(|first| *first == Fingerprint([1; 16])));
        drain.stop(s(1)).await;
    }
}
