//! A real OMS behind a line that fails as a test says.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay_order::OrderSummary;
use forebay_processor::{
    CallFailure, Found, Guarantee, Identity, Listed, OrderManagement, Outcome,
};

/// What an order's id makes of the call it is in, or of its own outcome.
///
/// | id begins with | effect |
/// |---|---|
/// | `panic` | the whole call panics, nothing is done |
/// | `timeout` | the whole call has an unknown outcome, nothing is done |
/// | `refuse` | the whole call is refused |
/// | `invalid` | the order alone is invalid |
/// | `busy` | the order alone is told to come back |
/// | `vague` | the order is created, and its outcome unknown |
/// | `ticket` | the order is created, and only a ticket given |
pub(crate) struct Unruly<O> {
    pub(crate) oms: O,
    pub(crate) test: bool,
    /// The next submits fail so, before anything is done.
    pub(crate) failures: Mutex<VecDeque<CallFailure>>,
    /// So many look-ups fail.
    pub(crate) find_failures: AtomicUsize,
    /// Every submit's ids.
    pub(crate) submits: Mutex<Vec<Vec<String>>>,
    pub(crate) finds: AtomicUsize,
    /// Whether tickets are already to be found.
    pub(crate) tickets_done: std::sync::atomic::AtomicBool,
}

impl<O> Unruly<O> {
    pub(crate) fn new(oms: O) -> Self {
        Self {
            oms,
            test: true,
            failures: Mutex::default(),
            find_failures: AtomicUsize::new(0),
            submits: Mutex::default(),
            finds: AtomicUsize::new(0),
            tickets_done: std::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(crate) fn fails(self, failures: impl IntoIterator<Item = CallFailure>) -> Self {
        self.failures.lock().unwrap().extend(failures);
        self
    }

    pub(crate) fn submits(&self) -> usize {
        self.submits.lock().unwrap().len()
    }

    pub(crate) fn times_sent(&self, id: &str) -> usize {
        let submits = self.submits.lock().unwrap();
        submits.iter().flatten().filter(|sent| *sent == id).count()
    }
}

impl<O: OrderManagement> OrderManagement for Unruly<O> {
    fn guarantee(&self) -> Guarantee {
        self.oms.guarantee()
    }

    fn is_test(&self) -> bool {
        self.test
    }

    fn identity_max(&self) -> usize {
        self.oms.identity_max()
    }

    fn batch_max(&self) -> usize {
        self.oms.batch_max()
    }

    async fn submit(&self, batch: &[Arc<OrderSummary>]) -> Result<Vec<Outcome>, CallFailure> {
        let ids: Vec<String> = batch.iter().map(|order| order.key.id.clone()).collect();
        self.submits.lock().unwrap().push(ids.clone());
        let scripted = self.failures.lock().unwrap().pop_front();
        if let Some(failure) = scripted {
            return Err(failure);
        }
        let any = |word: &str| ids.iter().any(|id| id.starts_with(word));
        // The call is under way before it fails, as a real one is.
        tokio::task::yield_now().await;
        if any("panic") {
            // As a panic, without the noise of its hook.
            std::panic::resume_unwind(Box::new("the client of the OMS panics"));
        }
        if any("timeout") {
            return Err(CallFailure::Unknown("timed out".into()));
        }
        if any("refuse") {
            return Err(CallFailure::Refused("validation failed".into()));
        }
        let own = |id: &str| id.starts_with("invalid") || id.starts_with("busy");
        let (good, bad): (Vec<_>, Vec<_>) =
            batch.iter().cloned().partition(|order| !own(&order.key.id));
        let created = self.oms.submit(&good).await?;
        let mut outcomes: Vec<(String, Outcome)> = good
            .into_iter()
            .zip(created)
            .map(|(order, outcome)| match order.key.id.clone() {
                id if id.starts_with("vague") => (id, Outcome::Unknown),
                id if id.starts_with("ticket") => (id, Outcome::Accepted { ticket: "T-1".into() }),
                id => (id, outcome),
            })
            .collect();
        outcomes.extend(bad.into_iter().map(|order| match order.key.id.clone() {
            id if id.starts_with("invalid") => {
                let reason = "no such product".to_owned();
                (id, Outcome::Invalid { code: "NO_PRODUCT".into(), reason })
            }
            id => (id, Outcome::Retry { after: Duration::from_millis(1) }),
        }));
        let place = |id: &String| ids.iter().position(|sent| sent == id);
        outcomes.sort_by_key(|(id, _)| place(id));
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    async fn find(&self, identities: &[Identity]) -> Result<Vec<Option<Found>>, CallFailure> {
        self.finds.fetch_add(1, Ordering::Relaxed);
        let left = |left: usize| left.checked_sub(1);
        if self.find_failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            return Err(CallFailure::NotSent("no route".into()));
        }
        let mut found = self.oms.find(identities).await?;
        if !self.tickets_done.load(Ordering::Relaxed) {
            for (found, identity) in found.iter_mut().zip(identities) {
                if identity.contains(":ticket") {
                    *found = None;
                }
            }
        }
        Ok(found)
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Option<Vec<Listed>>, CallFailure> {
        self.oms.list(after, limit).await
    }
}
