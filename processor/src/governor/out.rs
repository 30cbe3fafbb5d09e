//! A probe whose order an asynchronous OMS took under a ticket: that it was taken says nothing, so the probe is out until the order's
//! outcome is told or looked up.

use std::time::Duration;

use super::Governor;
use super::brake::{Brake, Brakes};

/// The order of a probe that was sent.
pub(super) struct Out {
    identity: String,
    /// Once it was taken: its ticket, and when its outcome is not waited for any longer.
    taken: Option<(String, Duration)>,
}

impl Out {
    pub(super) fn until(&self) -> Option<Duration> {
        self.taken.as_ref().map(|(_, until)| *until)
    }

    fn is(&self, identity: Option<&str>, ticket: Option<&str>) -> bool {
        match identity {
            Some(identity) => identity == self.identity,
            None => ticket.is_some_and(|told| self.taken.as_ref().is_some_and(|(t, _)| t == told)),
        }
    }
}

impl Brakes {
    /// Returns once the probe that is out now is over; never where none is.
    pub(super) async fn out_over(&self) {
        let is_out = |slot: &super::brake::Slot| slot.out().and_then(Out::until).is_some();
        if !is_out(&self.slot.borrow()) {
            return std::future::pending().await;
        }
        drop(self.slot.subscribe().wait_for(|slot| !is_out(slot)).await);
    }
}

impl Governor {
    /// A probe sends this order. Its outcome may be told before the answer comes.
    pub(crate) fn probe_sent(&self, identity: String) {
        self.shared.brakes.slot.send_if_modified(|slot| {
            let rejected = |on: &&mut super::brake::On| matches!(on.brake, Brake::Rejected { .. });
            if let Some(on) = slot.on.as_mut().filter(rejected) {
                on.out = Some(Out { identity, taken: None });
            }
            false
        });
    }

    /// The OMS took the probe's order under a ticket. Its outcome is waited for so long.
    pub(crate) fn probe_taken(&self, ticket: &str, wait: Duration) {
        let until = self.shared.clock.elapsed().saturating_add(wait);
        self.shared.brakes.slot.send_modify(|slot| {
            if let Some(out) = slot.on.as_mut().and_then(|on| on.out.as_mut()) {
                out.taken = Some((ticket.to_owned(), until));
            }
        });
    }

    /// An order that was taken exists by now: if it is the probe's, the brake is released.
    pub(crate) fn created(&self, identity: Option<&str>, ticket: Option<&str>) {
        let brakes = &self.shared.brakes;
        let probe = brakes.slot.borrow().out().is_some_and(|out| out.is(identity, ticket));
        if probe {
            self.probe_passed();
        }
    }

    /// An order that was taken came to nothing: if it is the probe's, the probe is over. The order's identity, then.
    pub(crate) fn came_to_nothing(
        &self,
        identity: Option<&str>,
        ticket: Option<&str>,
    ) -> Option<String> {
        let mut over = None;
        self.shared.brakes.slot.send_if_modified(|slot| {
            if let Some(on) = &mut slot.on {
                over = on.out.take_if(|out| out.is(identity, ticket));
            }
            over.is_some()
        });
        over.map(|out| out.identity)
    }
}
