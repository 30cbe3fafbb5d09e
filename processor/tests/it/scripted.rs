//! An OMS in memory that does as a script says, and a drain to it, on a clock that stands still unless everybody waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use forebay_buffer::{Buffer, ExceptionCategory, Memory};
use forebay_order::OrderSummary;
use forebay_processor::{
    CallFailure, Drain, DrainConfig, Found, Guarantee, Identity, Limiter, Limits, Listed,
    OrderManagement, Outcome,
};
use tokio::time::{Instant, sleep};

use crate::support::{Delivery, TokioClock, buffer, key};

pub(crate) fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What the OMS says to an order (its id) at a time since the start.
pub(crate) enum Says {
    Yes,
    Invalid(&'static str),
    RefusesTheCall,
    Unauthenticated,
    Overloaded,
    /// No connection is made.
    NotThere,
    /// The line is cut before the orders are created.
    CutBefore,
    /// The line is cut once they are.
    CutAfter,
}

type Script = dyn Fn(&str, Duration) -> Says + Send + Sync;

/// An OMS in memory that does as a script says; each call takes 5 ms, one with a `slow` order 3 s.
pub(crate) struct Scripted {
    pub(crate) began: Instant,
    pub(crate) script: Box<Script>,
    pub(crate) created: Mutex<HashMap<Identity, u64>>,
    /// When each call came, and with how many orders; look-ups apart.
    pub(crate) submits: Mutex<Vec<(Duration, usize)>>,
    pub(crate) finds: Mutex<Vec<Duration>>,
}

impl Scripted {
    pub(crate) fn new(
        script: impl Fn(&str, Duration) -> Says + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            script: Box::new(script),
            created: Mutex::default(),
            submits: Mutex::default(),
            finds: Mutex::default(),
        })
    }

    pub(crate) fn submits_in(&self, from: u64, to: u64) -> usize {
        let submits = self.submits.lock().unwrap();
        submits.iter().filter(|(at, _)| (s(from)..s(to)).contains(at)).count()
    }

    pub(crate) fn orders_in(&self, from: Duration, to: Duration) -> usize {
        let submits = self.submits.lock().unwrap();
        submits.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, orders)| orders).sum()
    }

    fn create(&self, id: Identity) {
        *self.created.lock().unwrap().entry(id).or_default() += 1;
    }

    /// How many it has; each was created once.
    pub(crate) fn created(&self) -> usize {
        let created = self.created.lock().unwrap();
        assert!(created.values().all(|creates| *creates == 1), "none doubled");
        created.len()
    }
}

impl OrderManagement for Scripted {
    fn guarantee(&self) -> Guarantee {
        Guarantee::LookedUp
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
        let now = self.began.elapsed();
        self.submits.lock().unwrap().push((now, batch.len()));
        let slow = batch.iter().any(|order| order.key.id.starts_with("slow"));
        sleep(if slow { s(3) } else { Duration::from_millis(5) }).await;
        let mut outcomes = Vec::new();
        let says: Vec<_> = batch.iter().map(|order| (self.script)(&order.key.id, now)).collect();
        for says in &says {
            match says {
                Says::Unauthenticated => return Err(CallFailure::Unauthenticated),
                Says::RefusesTheCall => return Err(CallFailure::Refused("no".into())),
                Says::Overloaded => {
                    let scope = forebay_processor::Scope::Second;
                    return Err(CallFailure::Overloaded { after: None, scope });
                }
                Says::NotThere => return Err(CallFailure::NotSent("no connection".into())),
                Says::CutBefore => return Err(CallFailure::Unknown("cut".into())),
                Says::CutAfter => {
                    batch.iter().for_each(|order| self.create(order.key.identity()));
                    return Err(CallFailure::Unknown("cut".into()));
                }
                Says::Yes | Says::Invalid(_) => {}
            }
        }
        for (order, says) in batch.iter().zip(says) {
            outcomes.push(match says {
                Says::Invalid(code) => {
                    Outcome::Invalid { code: code.to_owned(), reason: "not valid".to_owned() }
                }
                _ => {
                    let id = order.key.identity();
                    self.create(id.clone());
                    Outcome::Created { id }
                }
            });
        }
        Ok(outcomes)
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        let now = self.began.elapsed();
        self.finds.lock().unwrap().push(now);
        sleep(Duration::from_millis(5)).await;
        match (self.script)("find", now) {
            Says::Unauthenticated => return Err(CallFailure::Unauthenticated),
            Says::NotThere => return Err(CallFailure::NotSent("no connection".into())),
            _ => {}
        }
        let created = self.created.lock().unwrap();
        let found = |id: &Identity| {
            created.contains_key(id).then(|| Found { id: id.clone(), fingerprint: None })
        };
        Ok(identities.iter().map(found).collect())
    }

    async fn list(&self, _: u64, _: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        Ok(None)
    }
}

/// A buffer, an OMS and a drain between them.
pub(crate) struct Scene {
    pub(crate) buffer: Memory,
    pub(crate) oms: Arc<Scripted>,
    pub(crate) drain: Drain,
}

impl Scene {
    pub(crate) async fn new(
        ids: impl IntoIterator<Item = String>,
        ceiling: f64,
        script: impl Fn(&str, Duration) -> Says + Send + Sync + 'static,
    ) -> Self {
        Self::with(ids, ceiling, DrainConfig::default(), script).await
    }

    pub(crate) async fn with(
        ids: impl IntoIterator<Item = String>,
        ceiling: f64,
        config: DrainConfig,
        script: impl Fn(&str, Duration) -> Says + Send + Sync + 'static,
    ) -> Self {
        let clock = TokioClock::shared();
        let buffer = buffer(Arc::clone(&clock));
        for id in ids {
            Delivery::new(&id).append(&buffer).await;
        }
        let oms = Scripted::new(script);
        let limits = Limits { ceiling_per_s: Some(ceiling), ..config.limits };
        let remembered = s(1_000 * 365 * 86_400);
        let config = DrainConfig { limits, remembered, ..config };
        let drain = Drain::start(config, buffer.clone(), Arc::clone(&oms), clock).unwrap();
        Self { buffer, oms, drain }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.oms.began.elapsed()
    }

    pub(crate) async fn sleep_until(&self, at: Duration) {
        sleep(at.saturating_sub(self.elapsed())).await;
    }

    pub(crate) fn limiter(&self) -> Limiter {
        self.drain.governor().state().limiter
    }

    pub(crate) fn why(&self) -> String {
        self.drain.governor().state().why.unwrap_or_default()
    }

    pub(crate) async fn in_state(&self, word: &str) -> u64 {
        let status = self.buffer.status().await.unwrap();
        status.live.get(word).copied().unwrap_or_default()
    }

    pub(crate) async fn live(&self) -> u64 {
        let status = self.buffer.status().await.unwrap();
        let of = |state| status.live.get(state).copied().unwrap_or_default();
        ["pending", "leased", "submitted"].into_iter().map(of).sum()
    }

    pub(crate) async fn exceptions(&self) -> usize {
        let rows = self.buffer.exceptions(0, 10_000).await.unwrap();
        assert!(rows.iter().all(|row| row.category == ExceptionCategory::Rejected));
        rows.len()
    }

    /// Waits until nothing is live; whether a brake was ever on meanwhile.
    pub(crate) async fn drained(&self, within: Duration) -> bool {
        let mut braked = false;
        let until = Instant::now() + within;
        while self.live().await > 0 {
            assert!(Instant::now() < until, "{} are left: {}", self.live().await, self.why());
            braked |= !self.why().is_empty();
            sleep(Duration::from_millis(20)).await;
        }
        braked
    }

    pub(crate) async fn attempts(&self, id: &str) -> u8 {
        self.buffer.order(&key(id)).await.unwrap().unwrap().attempts
    }
}

pub(crate) fn ids(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| n.to_string())
}
