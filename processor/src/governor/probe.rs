//! Past a brake: whose turn it is to make the one call that may find out that the OMS works again.
//!
//! # What it promises
//! - One probe at a time, of whoever has waited longest, so that one that had no order to ask with keeps nobody from it.
//! - None in a pause or in the OMS's trouble, or while the OMS is not known to be this fleet's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{FULL_LOOK, Governor, Grant, Limiter, Shared};

impl Governor {
    /// Returns once a look-up makes sense that sends nothing: neither a pause nor the OMS's trouble keeps calls back, and the OMS is
    /// this fleet's. While the credentials are refused that look-up is a probe: where no more orders may be sent, only look-ups can
    /// find out that they are good again.
    pub(crate) async fn may_look_up(&self) -> Option<Probe> {
        loop {
            self.not_kept_back().await;
            if self.shared.brakes.limiter() != Some(Limiter::Auth) {
                return None;
            }
            if let Some(probe) = self.probe().await {
                return probe;
            }
        }
    }

    /// Returns once neither a pause nor the OMS's trouble keeps calls back, and the OMS is this fleet's.
    async fn not_kept_back(&self) {
        loop {
            let mut paused = self.shared.paused.subscribe();
            drop(paused.wait_for(|paused| !*paused).await);
            let now = self.shared.clock.elapsed();
            let left = self.shared.lock().not_before.saturating_sub(now);
            match (left, self.is_claimed()) {
                (Duration::ZERO, true) => return,
                (Duration::ZERO, false) => super::sleep(FULL_LOOK).await,
                (left, _) => super::sleep(left).await,
            }
        }
    }

    /// Whether a pause or the OMS's trouble keeps calls back, or the OMS is not known to be this fleet's.
    pub(super) fn must_wait(&self) -> bool {
        let in_trouble = || self.shared.clock.elapsed() < self.shared.lock().not_before;
        *self.shared.paused.borrow() || !self.is_claimed() || in_trouble()
    }

    /// No brake, or the caller's turn to make its next probe; `None` where something has changed meanwhile.
    async fn probe(&self) -> Option<Option<Probe>> {
        let brakes = &self.shared.brakes;
        let Some(wait) = brakes.until_probe(self.shared.clock.elapsed()) else {
            return Some(None);
        };
        let turn = async {
            super::sleep(wait).await;
            Arc::clone(&brakes.turn).acquire_owned().await.ok()
        };
        let turn = tokio::select! {
            biased;
            () = brakes.off() => None,
            () = brakes.out_over() => None,
            turn = turn => turn,
        }?;
        // Another one may have made it by now, or something else keep calls back.
        let due = brakes.until_probe(self.shared.clock.elapsed()) == Some(Duration::ZERO);
        (due && !self.must_wait()).then(|| Some(Probe { governor: self.clone(), _turn: turn }))
    }

    /// Returns once leasing makes sense: neither a pause nor the OMS's trouble keeps calls back, more orders may be outstanding, and
    /// no brake is on, or the time has come for its next probe. Then the caller is the one to make it, with one order.
    pub async fn open(&self) -> Option<Probe> {
        loop {
            self.not_kept_back().await;
            if self.shared.is_full() {
                super::sleep(FULL_LOOK).await;
                continue;
            }
            if let Some(probe) = self.probe().await {
                return probe;
            }
        }
    }
}

/// The right to make the one probe under way. Dropped, the next one's wait begins; a longer one, if a call was granted.
pub struct Probe {
    governor: Governor,
    _turn: OwnedSemaphorePermit,
}

impl Probe {
    /// Waits for permission for the look-up that it is.
    pub(crate) async fn acquire_look_up(&self) -> Option<Grant> {
        let grant = self.governor.acquire_look_up().await?;
        self.governor.shared.brakes.probe_called();
        Some(grant)
    }

    /// Waits for permission to send one order, as [`Governor::acquire_unless_full`] but past the brake.
    pub async fn acquire(&self) -> Option<Grant> {
        let grant = self.governor.acquire_past(1, true).await?;
        self.governor.shared.brakes.probe_called();
        Some(grant)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let shared: &Arc<Shared> = &self.governor.shared;
        shared.brakes.probe_over(shared.clock.elapsed());
    }
}
